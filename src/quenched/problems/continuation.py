"""One branch of fixed points, followed along a parameter: every solution is the start of its neighbours."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..numerics import check
from .base import SolveError, SolveWarning, _same

#: A move of the overlaps below this fraction of their size cannot be a jump to another branch.
SMALL_MOVE = 0.02


class Branch:
    """The fixed points that are continued from one start, as a function of the positive or real parameter ``over``.

    A step along the parameter is undone before it is believed: a solution from which the neighbour cannot be reached back
    lies on another branch, because the first one has ended in between.
    """

    def __init__(self, problem, over: str, start, options: dict):
        self.problem, self.over, self.start, self.options = problem, over, start, options
        self.found: dict[float, Any] = {}
        self.lost: dict[float, float] = {}  # value -> how far the solution was from which it was tried

    def at(self, x: float, fresh: bool = False):
        """The branch at x, or None where it is not found; ``fresh`` begins at the start and not at the nearest solution."""
        if x in self.found:
            return self.found[x]
        nearest = None if fresh else min(self.found, key=lambda y: separation(x, y), default=None)
        distance = np.inf if nearest is None else separation(x, nearest)
        if not distance < self.lost.get(x, np.inf) and x in self.lost:
            return None
        solution = self._solve(x, self.start if nearest is None else self.found[nearest])
        if solution is not None and nearest is not None and not self._connected(nearest, solution):
            solution = None
        if solution is None:
            self.lost[x] = distance
        else:
            self.found[x] = solution
            self.lost.pop(x, None)
        return solution

    def forget(self, x: float) -> None:
        """Take the solution at x for one of another branch."""
        del self.found[x]
        self.lost[x] = 0.0

    def _solve(self, x, start):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SolveWarning)
            try:
                solution = self.problem.replace(**{self.over: x}).solve(init=start, **self.options)
            except SolveError:
                return None
        return solution if solution.residual <= self.options.get("tol", 1e-8) else None

    def _connected(self, x, new) -> bool:
        """Whether the solution at x is reached back from the solution ``new`` beside it."""
        old = self.found[x]
        if moved(old, new) < SMALL_MOVE:
            return True
        back = self._solve(x, new)
        return back is not None and _same(old, back)


def separation(x: float, y: float) -> float:
    """How far two values of a parameter lie apart: as a ratio where both are positive."""
    return abs(np.log(x / y)) if x > 0.0 and y > 0.0 else abs(x - y)


def moved(one, other) -> float:
    """The largest difference of the overlaps of two solutions, relative to the size of each."""
    largest = 0.0
    root = np.sqrt(np.abs(np.asarray(one["q"])).max())
    for name, natural in (("q", 0.0), ("m", root), ("theta", root), ("Q", 0.0)):
        if name in one.order_parameters:
            a, b = np.asarray(one[name]), np.asarray(other[name])
            largest = max(largest, float(np.abs(a - b).max() / max(np.abs(a).max(), natural, 1e-300)))
    return largest


def follow(problem, over: str, values, init, **options) -> dict[float, Any]:
    """One branch along increasing or decreasing ``values`` of a parameter, each solve started from the nearest before.

    - ``over``: a real parameter; ``init``: the start of the first, as for :meth:`Problem.solve`; ``options`` go to it.

    Returns value -> solution for the values where the branch was found. Where the branch ends, the iteration falls to another one;
    it is noticed because the way back does not lead to where it came from, and left out.

    >>> import quenched as qn
    >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
    >>> [round(float(s["test_mse"]), 4) for s in qn.problems.follow(ridge, "alpha", [2.0, 4.0], "uninformed").values()]
    [0.0844, 0.0319]
    """
    real_parameter(problem, over)
    branch = Branch(problem, over, init, options)
    values = [check.scalar("values", x) for x in values]
    return {x: solution for x in values if (solution := branch.at(x)) is not None}


def real_parameter(problem, over) -> float:
    """The present value of the parameter ``over``; ``ValueError`` where it is not a real number."""
    now = problem.number(over) if isinstance(over, str) else None
    if now is None or np.ndim(now):
        raise ValueError(f"over must be a real parameter of {type(problem).__name__}, got {over!r}")
    return float(now)
