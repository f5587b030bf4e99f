"""Many solves of one structure: mapped inside one compiled program, failed points retried apart."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np

from ..numerics.mapped import loop
from ..numerics.precision import float64
from ..numerics.programs import make_room
from .certificate import Certificate, Plan, solve_and_certify
from .model import as_numbers
from .quadratures import scheme
from .saddle import SOLVER, Solver
from .solve import Solved, certified, solve, starting_point

#: Points mapped in one call, at most: one compilation serves grids of every size.
CHUNK = 8


@functools.partial(jax.jit, static_argnames=("plan",))
def _mapped(models, starts, count, quadrature, fine, observable_rules, solver, plan) -> Certificate:
    """The first ``count`` of the points, one after the other: what a point gives does not depend on its neighbours, to the bit."""

    def one(k):
        model, start = jax.tree.map(lambda leaf: leaf[k], (models, starts))
        return solve_and_certify(model, start, quadrature, fine, observable_rules, solver, plan)

    return loop(one, count, CHUNK)


def solve_many(models, init="uninformed", solver: Solver = SOLVER, quadrature_tol=None, progress=None) -> list[Solved]:
    """:func:`quenched.limit.solve.solve` of many models, in their order.

    Models of one structure are mapped (one after the other: on a CPU faster than ``vmap``, where one slow point makes all wait) on
    the coarsest quadrature, chunk by chunk on all cores; points that end unconverged or inaccurate are solved again one by one.
    The solution of a model does not depend on the others, to the bit.
    ``progress(done)`` is called as chunks end.
    """
    make_room()
    models = [as_numbers(model) for model in models]
    ends: list = [None] * len(models)
    groups: dict = {}
    for index, model in enumerate(models):
        leaves, treedef = jax.tree.flatten(model)
        groups.setdefault((treedef, tuple((leaf.shape, leaf.dtype) for leaf in leaves), id(scheme(model))), []).append(index)
    chunks = [group[start : start + CHUNK] for group in groups.values() for start in range(0, len(group), CHUNK)]
    done = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        runs = [(chunk, pool.submit(_run_chunk, [models[i] for i in chunk], init, solver)) for chunk in chunks]
        for chunk, run in runs:
            for index, certificate in zip(chunk, run.result(), strict=True):
                averages = scheme(models[index])
                tol = averages.tolerance if quadrature_tol is None else quadrature_tol
                ends[index] = certified(certificate, solver, tol, level=0, singular=False)
            done += len(chunk)
            if progress is not None:
                progress(done)
    for index, end in enumerate(ends):
        if not end.result or end.certificate.null <= 0.0:
            ends[index] = solve(models[index], init, solver, quadrature_tol, known=end.certificate, compiled=_alone)
    return ends


def _together(models, starts, *rest):
    """:func:`_mapped` of at most a chunk of points, and what it found for each of them."""
    missing = CHUNK - len(models)
    points = models + [models[-1]] * missing, starts + [starts[-1]] * missing
    stacked = (jax.tree.map(lambda *leaves: np.stack(leaves), *trees) for trees in points)
    found = jax.device_get(_mapped(*stacked, len(models), *rest))
    return [jax.tree.map(lambda leaf, k=k: leaf[k], found) for k in range(len(models))]


def _alone(model, start, *rest):
    """:func:`quenched.limit.certificate.solve_and_certify` by the program that is compiled already."""
    return _together([model], [start], *rest)[0]


def _run_chunk(models, init, solver):
    averages = scheme(models[0])
    starts = [starting_point(model, init) for model in models]
    with float64(True):
        models = [model.for_any_branch() for model in models]
        return _together(
            models, starts, *averages.solving_rules(0), averages.rules, as_numbers(solver), Plan(False, averages.jumps)
        )
