"""Optimal hyper-parameters: the stationary point of an observable, by its derivative through the saddle point."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..numerics import check


@dataclasses.dataclass(frozen=True, repr=False)
class Tuned:
    """The best value of a parameter: ``value``, ``minimum`` (the observable there), ``problem`` and its ``solution``.

    ``at_edge`` says that the minimum lies at an end of the range searched, so that no better value inside it exists.
    """

    parameter: str
    observable: str
    value: float
    minimum: float
    at_edge: bool
    problem: Any
    solution: Any

    def __float__(self) -> float:
        return self.value

    def __repr__(self) -> str:
        edge = ", at the edge of the range searched" if self.at_edge else ""
        return f"Tuned({self.parameter}={self.value:.10g}, {self.observable}={self.minimum:.10g}{edge})"


def tune(problem, parameter: str, minimize: str, between=None, points: int = 17, **options) -> Tuned:
    """The value of a positive real ``parameter`` that minimises the observable ``minimize``.

    A logarithmic grid of ``points`` over ``between`` (default: 1e-4 to 1e4 times the present value, or 1e-4 to 1e4 where that
    is zero) finds the lowest basin, since the observable need not have only one; then the root of the derivative in it is found by
    Brent's method to a relative 1e-9.
    """
    from scipy.optimize import brentq

    from .base import solve_many

    names = [n for n, v in problem.parameters.items() if isinstance(v, float)]
    if parameter not in names:
        raise ValueError(f"parameter must be a real parameter of {type(problem).__name__} ({', '.join(names)}), got {parameter!r}")
    now = getattr(problem, parameter)
    low, high = between if between is not None else (1e-4 * (now or 1.0), 1e4 * (now or 1.0))
    low, high = check.positive("between[0]", low), check.positive("between[1]", high)
    if not low < high:
        raise ValueError(f"between must hold two increasing numbers, got {(low, high)}")
    check.integer("points", points, 3)

    grid = np.geomspace(low, high, points)
    solutions = solve_many([problem.replace(**{parameter: x}) for x in grid], **options)
    if minimize not in solutions[0]:
        raise ValueError(f"minimize must name an observable ({', '.join(solutions[0].observables)}), got {minimize!r}")
    values = np.array([float(s[minimize]) if s.residual < 1e-6 else np.inf for s in solutions])
    if not np.isfinite(values).any():
        raise ValueError(f"no value of {parameter} between {low:g} and {high:g} could be solved: {solutions[0].status}")
    best = int(np.argmin(values))

    def slope(log_x):
        there = problem.replace(**{parameter: float(np.exp(log_x))})
        return float(there.gradient(minimize, parameter, **options))

    left, right = np.log(grid[max(best - 1, 0)]), np.log(grid[min(best + 1, points - 1)])
    at_edge = not (slope(left) < 0.0 < slope(right))
    x = float(grid[best]) if at_edge else float(np.exp(brentq(slope, left, right, xtol=1e-10, rtol=1e-9)))
    there = problem.replace(**{parameter: x})
    solution = there.solve(**options)
    return Tuned(parameter, minimize, x, float(solution[minimize]), at_edge, there, solution)
