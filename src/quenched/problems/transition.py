"""Where branches of fixed points cross in free energy, and where they end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..numerics import check
from .base import _same
from .continuation import Branch, moved, real_parameter


class Spinodal(NamedTuple):
    """An end of a branch: it was found at ``found`` and continuation lost it at ``lost``, a relative ``rtol`` further."""

    branch: str
    found: float
    lost: float


@dataclasses.dataclass(frozen=True, repr=False)
class Transition:
    """A first-order transition: two branches exchange the lowest free energy.

    - ``value`` +- ``uncertainty``: the parameter where the energies cross; None where they do not cross in the range
      (then ``lower`` names the branch that is lowest throughout; None too where the two branches never coexist).
    - ``below``, ``above``: the lowest branch on either side.
    - ``crossings``: every value where they cross; ``value`` is the one nearest to the problem's own.
    - ``spinodals``: a :class:`Spinodal` for each end of a branch in the range.
    - ``solutions``: name -> the two branches at the transition.
    """

    parameter: str
    value: float | None
    uncertainty: float | None
    below: str | None
    above: str | None
    lower: str | None
    crossings: tuple[float, ...]
    spinodals: tuple[Spinodal, ...]
    solutions: dict[str, Any]

    def __repr__(self) -> str:
        ends = "".join(f"; {s.branch} ends between {min(s[1:]):.6g} and {max(s[1:]):.6g}" for s in self.spinodals)
        if self.value is None:
            said = f"{self.lower} is lowest wherever both exist" if self.lower else "the branches were nowhere found together"
            return f"Transition(none in {self.parameter}: {said}{ends})"
        more = f" (and {len(self.crossings) - 1} more)" if len(self.crossings) > 1 else ""
        return f"Transition({self.parameter}={self.value:.6g} +- {self.uncertainty:.1g}, {self.below} -> {self.above}{more}{ends})"


def find_transition(
    problem, over: str = "alpha", between=None, bracket=None, points: int = 13, rtol: float = 1e-4, **options
) -> Transition:
    """Find where two branches of fixed points cross in free energy, and where either ends.

    - ``over``: a positive real parameter; ``between``: two named starts of the problem, or a dict of two names and starts of
      :meth:`Problem.solve` (None: the problem's first two).
    - ``bracket``: the range searched (default: a quarter to four times the present value), first on ``points`` logarithmic steps,
      each branch by continuation from its start at the present value (or where, on the way, it is first found).
    - ``rtol``: how finely crossing and ends are located. ``options`` go to :meth:`Problem.solve`.

    The uncertainty is the width of the last bracket and, over the slope of the difference of the energies, the errors of
    the two: how much each changes on the next finer quadrature. A branch is lost where its continuation does not converge, or
    leads to where the way back does not return from, or to the other branch.

    ``ValueError`` for a parameter that is not real and positive, names that are not two starts, or a range that is none.

    >>> import numpy as np, quenched as qn
    >>> law = qn.laws.sequence([1.0], mean=np.ones((1, 1, 1)), gram=[[4.0]])
    >>> problem = qn.SequenceProblem(law, lambda h: (h[0, 0] ** 2 - 1) ** 2 / 4 + h[0, 0] ** 2 / 10, alpha=2.0, weight_decay=1.0)
    >>> starts = {"clustered": {"m": 1.0}, "collapsed": {"m": 0.0, "q": 0.1, "Q": 0.1}}
    >>> find_transition(problem, between=starts, rtol=0.01).lower  # doctest: +SKIP
    """
    names, starts = _starts(problem, between)
    now = check.positive("over", real_parameter(problem, over))
    low, high = _bracket(bracket, now)
    points, rtol = check.integer("points", points, 3), check.positive("rtol", rtol)
    pair = _Pair(*(Branch(problem, over, start, options) for start in starts))

    grid = np.geomspace(low, high, points).tolist()
    middle = int(np.argmin(np.abs(np.log(np.divide(grid, now)))))
    for walk in (range(middle, points), range(middle, -1, -1)):
        for k in walk:
            pair.at(grid[k], fresh=k == middle or pair.known.get(grid[k - walk.step]) is False)
    spinodals = []
    for a, b in zip(grid[:-1], grid[1:], strict=True):
        if pair.known[a] != pair.known[b]:
            found, lost = pair.end(*((a, b) if pair.known[a] else (b, a)), rtol)
            spinodals.append(Spinodal(names[pair.who_ended(found, lost)], found, lost))

    crossings = pair.crossings(rtol)
    if not crossings:
        gaps = [pair.gap(x) for x in pair.together()]
        lower = None if not gaps else names[0] if gaps[0] < 0 else names[1]
        return Transition(over, None, None, None, None, lower, (), tuple(spinodals), {})
    nearest = min(crossings, key=lambda c: abs(np.log(c.value / now)))
    value, both = nearest.value, pair.nearest(nearest.value)
    error = sum(_energy_error(s) for s in both) / max(nearest.slope, 1e-300)
    below, above = names if nearest.rising else names[::-1]
    return Transition(
        over, value, float(value * (nearest.width + error)), below, above, None, tuple(c.value for c in crossings),
        tuple(spinodals), dict(zip(names, both, strict=True)),
    )  # fmt: skip


def _starts(problem, between):
    """The two names and their starts, as :meth:`Problem.solve` takes them."""
    known = tuple(dict.fromkeys((*problem._starts, "uninformed", "informed")))
    given = between if between is not None else problem._starts[:2]
    if isinstance(given, Mapping):
        names, starts = tuple(given), tuple(given.values())
    elif isinstance(given, (tuple, list)):
        names = starts = tuple(given)
    else:
        names = starts = (given,)
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"between must name two different branches (of {', '.join(known)}), got {given!r}")
    for name, start in zip(names, starts, strict=True):
        if not isinstance(name, str) or (isinstance(start, str) and start not in known):
            raise ValueError(f"between must name branches of {type(problem).__name__} ({', '.join(known)}), got {start!r}")
    return names, starts


def _bracket(bracket, now):
    if bracket is None:
        return now / 4.0, now * 4.0
    if np.ndim(bracket) != 1 or len(bracket) != 2:
        raise ValueError(f"bracket must hold two increasing numbers, got {bracket!r}")
    low, high = check.positive("bracket[0]", bracket[0]), check.positive("bracket[1]", bracket[1])
    if not low < high:
        raise ValueError(f"bracket must hold two increasing numbers, got {(low, high)}")
    return low, high


class Crossing(NamedTuple):
    """Where two free energies cross: relative half-width of the last bracket, |d gap / d log value|, whether the gap rises."""

    value: float
    width: float
    slope: float
    rising: bool


class _Lost(Exception):
    """One of the branches was not found where it was looked for."""


class _Pair:
    """Two branches: where both exist and differ, and the difference of their free energies."""

    def __init__(self, one: Branch, two: Branch):
        self.branches = one, two
        self.known: dict[float, bool] = {}

    def at(self, x: float, fresh: bool = False):
        """The two solutions at x, or None; ``fresh`` tries their starts too, where continuation finds nothing."""
        if self.known.get(x):
            return tuple(branch.found[x] for branch in self.branches)
        found = [branch.at(x) or (branch.at(x, fresh=True) if fresh else None) for branch in self.branches]
        if all(found) and _same(*found):
            # which of the two it is cannot be told here: neither is continued from it
            for branch in self.branches:
                branch.forget(x)
            found = [None]
        self.known[x] = all(found)
        return tuple(found) if self.known[x] else None

    def together(self) -> list[float]:
        """The values where both were found, in increasing order."""
        return sorted(x for x, both in self.known.items() if both)

    def nearest(self, x: float):
        """The two solutions at the value closest to x at which both were found."""
        return self.at(min(self.together(), key=lambda y: abs(np.log(y / x))))

    def end(self, found: float, lost: float, rtol: float) -> tuple[float, float]:
        """The end of one of the branches between a value where both are found and one where they are not, by bisection."""
        while abs(np.log(lost / found)) > rtol:
            x = float(np.sqrt(found * lost))
            found, lost = (x, lost) if self.at(x) else (found, x)
        return found, lost

    def who_ended(self, found: float, lost: float) -> int:
        """Which of the two was lost; where both were, the one that moves more."""
        there = [branch.at(lost) for branch in self.branches]
        if (there[0] is None) != (there[1] is None):
            return int(there[1] is None)
        ends = [branch._solve(lost, branch.found[found]) for branch in self.branches]
        moves = [np.inf if s is None else moved(b.found[found], s) for b, s in zip(self.branches, ends, strict=True)]
        return int(moves[1] > moves[0])

    def gap(self, x: float) -> float:
        """The free energy of the first branch minus that of the second."""
        pair = self.at(x)
        if pair is None:
            raise _Lost
        one, two = pair
        return float(one["free_energy"]) - float(two["free_energy"])

    def crossings(self, rtol: float) -> list[Crossing]:
        """Where the gap vanishes between neighbouring values at which both branches exist."""
        known = sorted(self.known)
        cells = [(a, b) for a, b in zip(known[:-1], known[1:], strict=True) if self.known[a] and self.known[b]]
        return [self._crossing(a, b, rtol) for a, b in cells if (self.gap(a) < 0) != (self.gap(b) < 0)]

    def _crossing(self, a: float, b: float, rtol: float) -> Crossing:
        from scipy.optimize import brentq

        rising = self.gap(a) < 0
        try:
            x = float(np.exp(brentq(lambda u: self.gap(float(np.exp(u))), np.log(a), np.log(b), xtol=0.1 * rtol)))
            low, high = max(a, x * np.exp(-10.0 * rtol)), min(b, x * np.exp(10.0 * rtol))
            return Crossing(x, rtol, abs(self.gap(high) - self.gap(low)) / np.log(high / low), rising)
        except _Lost:  # the closest pair of values around the crossing at which both were found
            inside = [x for x in self.together() if a <= x <= b]
            a, b = next((x, y) for x, y in zip(inside[:-1], inside[1:], strict=True) if (self.gap(x) < 0) != (self.gap(y) < 0))
            width = np.log(b / a)
            return Crossing(float(np.sqrt(a * b)), 0.5 * width, abs(self.gap(b) - self.gap(a)) / width, rising)


def _energy_error(solution) -> float:
    """How much the free energy of a solution changes when its quadrature is refined once."""
    from ..limit.averages import energy_error

    return energy_error(solution.problem.model, *solution._unknowns(), solution.level)
