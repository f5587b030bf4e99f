"""One branch of fixed points, followed along a parameter: every solution is the start of its neighbours."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from ..numerics import check
from .base import SolveError, SolveWarning
from .identity import moved, same

#: A move of the overlaps below this fraction of their size is not taken for a jump to another branch.
SMALL_MOVE = 0.05

NOT_CONVERGED = "the iteration does not converge"
ELSEWHERE = "the iteration leads to another solution"


class Branch:
    """The fixed points that are continued from one start, as a function of the real parameter ``over``.

    A step along the parameter is undone before it is believed: a solution from which the neighbour is not reached back lies
    on another branch, because the first one has ended in between.
    """

    def __init__(self, problem, over: str, start, options: dict):
        self.problem, self.over, self.start, self.options = problem, over, start, options
        self.found: dict[float, Any] = {}
        self.tried: dict[float, float] = {}  # value -> from how far away
        self.lost: dict[float, str] = {}  # value -> what happened there

    def at(self, x: float):
        """The branch at x, continued from the nearest solution (the first from the start), or None where it is not found."""
        if x in self.found:
            return self.found[x]
        nearest = min(self.found, key=lambda y: separation(x, y), default=None)
        distance = np.inf if nearest is None else separation(x, nearest)
        if x in self.lost and not distance < self.tried[x]:
            return None
        self.tried[x] = distance
        solution = self._solve(x, self.start if nearest is None else self.found[nearest])
        if solution is None:
            self.lost[x] = NOT_CONVERGED
        elif nearest is not None and not self._connected(nearest, solution):
            self.lost[x] = ELSEWHERE
        else:
            self.found[x] = solution
        return self.found.get(x)

    def forget(self, x: float, why: str) -> None:
        """Take the solution at x for one of another branch, unless it is reached again from closer by."""
        self.found.pop(x, None)
        self.lost[x] = why

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
        if moved(self.found[x], new) < SMALL_MOVE:
            return True
        back = self._solve(x, new)
        return back is not None and same(self.found[x], back)


def separation(x: float, y: float) -> float:
    """How far two values of a parameter lie apart: the logarithm of their ratio where both are positive."""
    return float(abs(np.log(x / y))) if x > 0.0 and y > 0.0 else abs(x - y)


def follow(problem, over: str, values, init, **options) -> dict[float, Any]:
    """One branch along increasing or decreasing ``values`` of a parameter, each solve started from the nearest before.

    - ``over``: a real parameter; ``init``: the start of the first, as for :meth:`Problem.solve`; ``options`` go to it.

    Returns value -> solution for the values where the branch was found. Where the branch ends, the iteration falls to another one;
    that is noticed because the way back does not lead to where it came from, and left out.

    >>> import quenched as qn
    >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
    >>> [round(float(s["test_mse"]), 4) for s in qn.problems.follow(ridge, "alpha", [2.0, 4.0], "uninformed").values()]
    [0.0844, 0.0319]
    """
    real_parameter(problem, over)
    branch = Branch(problem, over, init, options)
    values = [check.scalar("values", x) for x in values]
    return {x: solution for x in values if (solution := branch.at(x)) is not None}


def real_parameter(problem, name, what: str = "over") -> float:
    """The present value of a real parameter; ``ValueError``, which calls it ``what``, where it is none."""
    now = problem.number(name) if isinstance(name, str) else None
    if now is None or np.ndim(now):
        real = [n for n in problem.parameters if (v := problem.number(n)) is not None and not np.ndim(v)]
        raise ValueError(f"{what} must be a real parameter of {type(problem).__name__} ({', '.join(real)}), got {name!r}")
    return float(now)


def positive_range(name: str, value, default: tuple[float, float]) -> tuple[float, float]:
    """Two increasing positive numbers; ``default`` for None."""
    if value is None:
        return default
    if np.ndim(value) != 1 or len(value) != 2:
        raise ValueError(f"{name} must hold two increasing numbers, got {value!r}")
    low, high = check.positive(f"{name}[0]", value[0]), check.positive(f"{name}[1]", value[1])
    if not low < high:
        raise ValueError(f"{name} must hold two increasing numbers, got {(low, high)}")
    return low, high
