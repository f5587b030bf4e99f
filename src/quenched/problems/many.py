"""Many problems solved together: those that differ in numbers only share one program."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable

import numpy as np

from ..numerics import check
from .base import Problem, SolveWarning, engine_options
from .solution import Solution


def solve_many(
    problems,
    init: str | None = None,
    *,
    tol: float = 1e-8,
    quadrature_tol: float | None = None,
    damping: float = 0.2,
    max_steps: int = 300,
    progress=None,
    **unknown,
) -> list[Solution]:
    """The solutions of many problems, in their order: faster than one by one where they differ in numbers only.

    Arguments as for :meth:`Problem.solve`; ``progress(done)`` is called as points end. Points that end badly are marked, without
    a warning: look at ``solution.result``.

    >>> import quenched as qn
    >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
    >>> [round(float(s["test_mse"]), 4) for s in qn.problems.solve_many([ridge, ridge.replace(alpha=4.0)])]
    [0.0844, 0.0319]
    """
    from ..limit import derivative, grid

    check.names("solve_many", unknown, ("init", *check.keywords(solve_many)))
    problems = list(problems) if isinstance(problems, Iterable) else [problems]
    for problem in problems:
        if not isinstance(problem, Problem):
            raise ValueError(f"problems must be a list of problems, got one of type {type(problem).__name__}")
    solver, quadrature_tol = engine_options(tol, quadrature_tol, damping, max_steps)
    groups: dict = {}
    solutions: list = [None] * len(problems)
    for index, problem in enumerate(problems):
        name = problem._default_start if init is None else init
        if not problem._by_the_engine or (isinstance(name, str) and name == "global"):
            own = dict(tol=tol, quadrature_tol=quadrature_tol)
            if problem._by_the_engine:
                own |= dict(damping=damping, max_steps=max_steps)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SolveWarning)
                solutions[index] = problem.solve(init, **own)
            continue
        start, frozen = problem._start(name)
        tolerance = problem._quadrature_tol[0] if quadrature_tol is None else quadrature_tol
        branch = name if isinstance(name, str) else "given overlaps"
        _, members = groups.setdefault((_key(start), frozen, tolerance, branch, problem._warmup), (start, []))
        members.append(index)
    for (_, frozen, tolerance, branch, warmup), (start, group) in groups.items():
        models = [problems[i].model for i in group]
        if frozen:
            models = [dataclasses.replace(m, frozen=tuple(sorted({*m.frozen, *frozen}))) for m in models]
        ends = grid.solve_many(models, start, solver._replace(warmup=warmup), tolerance, progress)
        for i, solved in zip(group, ends, strict=True):
            solutions[i] = problems[i]._solution(derivative.outputs(solved), solved, branch)
    return solutions


def _key(start):
    """A start as something that can be compared and hashed."""
    return tuple((k, np.shape(v), np.asarray(v).tobytes()) for k, v in sorted(start.items())) if isinstance(start, dict) else start
