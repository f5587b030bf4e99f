"""Where branches cross and where they end."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np

from ..numerics import check
from .base import SolveWarning, _same


@dataclasses.dataclass(frozen=True, repr=False)
class Transition:
    """A first-order transition: two branches exchange the lowest free energy.

    - ``value`` +- ``uncertainty``: the parameter where the energies cross; None where they do not cross in the range
      (then ``lower`` names the branch that is lowest throughout).
    - ``below``, ``above``: the lowest branch on either side.
    - ``spinodals``: name -> (last value where the branch was found, first where it was not), for branches that end in the range.
    - ``solutions``: name -> the two branches at the transition.
    """

    parameter: str
    value: float | None
    uncertainty: float | None
    below: str | None
    above: str | None
    lower: str | None
    spinodals: dict[str, tuple[float, float]]
    solutions: dict[str, Any]

    def __repr__(self) -> str:
        ends = "".join(f"; {n} ends between {min(e):.6g} and {max(e):.6g}" for n, e in self.spinodals.items())
        if self.value is None:
            return f"Transition(none in {self.parameter}: {self.lower} is lowest wherever both exist{ends})"
        return f"Transition({self.parameter}={self.value:.6g} +- {self.uncertainty:.1g}, {self.below} -> {self.above}{ends})"


class _Branch:
    """One branch followed by continuation: every solution found is a warm start for its neighbours."""

    def __init__(self, problem, over, start, options):
        self.problem, self.over, self.start, self.options = problem, over, start, options
        self.found: dict[float, Any] = {}
        self.ended: set[float] = set()

    def at(self, x: float):
        """The branch at x, or None where continuation does not find it."""
        if x in self.found or x in self.ended:
            return self.found.get(x)
        there = self.problem.replace(**{self.over: x})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SolveWarning)
            if self.found:
                nearest = min(self.found, key=lambda y: abs(np.log(y / x)))
                solution = there.solve(init=self.found[nearest], **self.options)
            else:
                solution = there.solve(init=self.start, **self.options)
        if not solution.residual <= self.options.get("tol", 1e-8):
            self.ended.add(x)
            return None
        self.found[x] = solution
        return solution


def follow(problem, over: str, values, init, **options) -> dict[float, Any]:
    """One branch along increasing or decreasing ``values`` of a parameter, each solve started from the one before.

    Returns value -> solution for the values where the branch was found; the first is solved from ``init``.
    """
    branch = _Branch(problem, over, init, options)
    return {float(x): s for x in values if (s := branch.at(float(x))) is not None}


def find_transition(problem, over: str = "alpha", between=None, bracket=None, points: int = 13, rtol: float = 1e-4, **options):
    """Find where two branches of fixed points cross in free energy, and where either ends.

    - ``over``: a positive real parameter; ``between``: two named starts of the problem (None: its first two).
    - ``bracket``: the range searched (default: a quarter to four times the present value), first on ``points`` logarithmic steps.
    - ``rtol``: how finely crossing and ends are located. ``options`` go to :meth:`Problem.solve`.

    The uncertainty adds the width of the bisection to the error of the energies (quadrature error times the energy) over the
    slope of their difference.
    """
    from scipy.optimize import brentq

    names = tuple(between) if between is not None else problem._starts[:2]
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"between must name two different branches, got {names!r}")
    now = getattr(problem, over, None)
    if not isinstance(now, float) or now <= 0:
        raise ValueError(f"over must be a positive real parameter of {type(problem).__name__}, got {over!r}")
    low, high = bracket if bracket is not None else (now / 4.0, now * 4.0)
    low, high = check.positive("bracket[0]", low), check.positive("bracket[1]", high)
    if not low < high:
        raise ValueError(f"bracket must hold two increasing numbers, got {(low, high)}")
    check.integer("points", points, 3)
    rtol = check.positive("rtol", rtol)

    grid = np.geomspace(low, high, points)
    middle = int(np.argmin(np.abs(np.log(grid / np.clip(now, low, high)))))
    order = [*range(middle, points), *range(middle - 1, -1, -1)]
    branches = {name: _Branch(problem, over, name, options) for name in names}
    one, two = branches.values()

    def pair(x):
        a, b = one.at(float(x)), two.at(float(x))
        return None if a is None or b is None or _same(a, b) else (a, b)

    both = {}
    for k in order:
        both[k] = pair(grid[k])
    spinodals = {}
    exists = [both[k] is not None for k in range(points)]
    for k in range(points - 1):
        if exists[k] != exists[k + 1]:
            inside, outside = (grid[k], grid[k + 1]) if exists[k] else (grid[k + 1], grid[k])
            while abs(np.log(outside / inside)) > rtol:
                x = float(np.sqrt(inside * outside))
                inside, outside = (x, outside) if pair(x) is not None else (inside, x)
            spinodals[_who_ended(one, two, names, inside, outside)] = (float(inside), float(outside))

    def difference(log_x):
        found = pair(np.exp(log_x))
        return np.nan if found is None else float(found[0]["free_energy"]) - float(found[1]["free_energy"])

    gaps = np.array([np.nan if both[k] is None else difference(np.log(grid[k])) for k in range(points)])
    crossing = [k for k in range(points - 1) if gaps[k] * gaps[k + 1] < 0]
    if not crossing:
        known = gaps[np.isfinite(gaps)]
        lower = None if known.size == 0 else names[0] if known[0] < 0 else names[1]
        return Transition(over, None, None, None, None, lower, spinodals, {})
    k = crossing[0]
    x = float(np.exp(brentq(difference, np.log(grid[k]), np.log(grid[k + 1]), xtol=rtol, rtol=rtol)))
    first, second = pair(x)
    slope = abs(gaps[k + 1] - gaps[k]) / (grid[k + 1] - grid[k])
    error = sum(s.quadrature_error * abs(float(s["free_energy"])) for s in (first, second)) / slope
    below, above = names if gaps[k] < 0 else names[::-1]
    return Transition(over, x, x * rtol + error, below, above, None, spinodals, {names[0]: first, names[1]: second})


def _who_ended(one, two, names, inside, outside):
    """The branch that moved more when it was continued past its end."""

    def jump(branch):
        if outside not in branch.found:
            return np.inf
        a, b = branch.found[inside], branch.found[outside]
        return abs(float(a["free_energy"]) - float(b["free_energy"])) + max(
            float(np.abs(np.asarray(a[n]) - np.asarray(b[n])).max()) for n in ("m", "theta", "q") if n in a
        )

    return names[0] if jump(one) > jump(two) else names[1]
