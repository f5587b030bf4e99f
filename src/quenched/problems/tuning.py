"""Optimal hyper-parameters: the stationary point of an observable, by its derivative through the saddle point."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np

from ..numerics import check
from .continuation import positive_range, real_parameter


@dataclasses.dataclass(frozen=True, repr=False)
class Tuned:
    """The best value of a parameter: ``value``, ``minimum`` (the observable there), ``problem`` and its ``solution``.

    ``at_edge`` says that the observable still falls at an end of the range searched, and no better value was found inside it.

    >>> import quenched as qn
    >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=1.0, noise=0.1)
    >>> best = ridge.tune("weight_decay", minimize="test_mse")
    >>> round(float(best), 6), round(best.minimum, 6), best.at_edge
    (0.1, 0.084429, False)
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
    is zero) finds the lowest basin, since the observable need not have only one; then the root of its derivative in it is found by
    Brent's method to a relative 1e-9. Points that cannot be solved are passed over; ``options`` go to :meth:`Problem.solve`.

    ``ValueError`` for a parameter that is not real, an observable that is not a single number of the solution, a range that is
    none, or one in which nothing can be solved.
    """
    now = real_parameter(problem, parameter, "parameter")
    low, high = positive_range("between", between, (1e-4 * (abs(now) or 1.0), 1e4 * (abs(now) or 1.0)))
    grid = np.geomspace(low, high, check.integer("points", points, 3))

    def at(x):
        return problem.replace(**{parameter: float(x)})

    solutions = _solutions([at(x) for x in grid], options)
    if minimize not in solutions[0].keys() or np.size(solutions[0][minimize]) != 1:
        numbers = [name for name, value in solutions[0].observables.items() if np.size(value) == 1]
        raise ValueError(f"minimize must name a single number among the observables ({', '.join(numbers)}), got {minimize!r}")
    values = np.array([np.asarray(s[minimize]).item() if s.residual < 1e-6 else np.nan for s in solutions])
    if not np.isfinite(values).any():
        raise ValueError(f"no value of {parameter} between {low:g} and {high:g} could be solved: {solutions[0].status}")
    best = int(np.nanargmin(values))

    def slope(log_x):
        return np.asarray(at(np.exp(log_x)).gradient(minimize, parameter, **options)).item()

    def value(log_x):
        return np.asarray(at(np.exp(log_x)).solve(**options)[minimize]).item()

    downhill = slope(np.log(grid[best]))
    beyond = best - 1 if downhill > 0.0 else best + 1
    at_edge = not 0 <= beyond < points
    x = grid[best]
    if downhill != 0.0 and not at_edge:
        x = np.exp(_basin(value, slope, *np.log(sorted((grid[best], grid[beyond])))))
    solution = at(x).solve(**options)
    return Tuned(parameter, minimize, float(x), np.asarray(solution[minimize]).item(), at_edge, at(x), solution)


def _solutions(problems, options):
    """In one program where the start is a name, one by one where it is overlaps."""
    from .base import SolveWarning
    from .many import solve_many

    if isinstance(options.get("init", ""), str):
        return solve_many(problems, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolveWarning)
        return [problem.solve(**options) for problem in problems]


def _basin(value, slope, low, high):
    """The minimum between two points, the lower of which goes down towards the other: the root of the slope where it is alone."""
    from scipy.optimize import brentq, minimize_scalar

    if slope(low) < 0.0 < slope(high):
        return brentq(slope, low, high, xtol=1e-10, rtol=1e-9)
    return minimize_scalar(value, bounds=(low, high), method="bounded", options={"xatol": 1e-7}).x
