"""Where branches of fixed points cross in free energy, and where they end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..numerics import check
from .base import Problem
from .continuation import Branch, positive_range, real_parameter, separation
from .identity import same

MEETS = "it meets the other branch"


class Spinodal(NamedTuple):
    """An end of a branch: found at ``found``, lost at ``lost`` beside it, and what happened there.

    >>> end = Spinodal("informed", found=1.22, lost=1.21, how="its continuation does not converge")
    >>> end.branch, end.lost < end.found
    ('informed', True)
    """

    branch: str
    found: float
    lost: float
    how: str


@dataclasses.dataclass(frozen=True, repr=False)
class Transition:
    """A first-order transition: two branches exchange the lowest free energy.

    - ``value`` +- ``uncertainty``: the parameter where the energies cross; None where they do not cross in the range
      (then ``lower`` names the branch that is lowest throughout; None too where the two were nowhere found together).
    - ``below``, ``above``: the lowest branch on either side.
    - ``crossings``: every value where they cross; ``value`` is the one nearest to the problem's own.
    - ``spinodals``: a :class:`Spinodal` for each end of a branch in the range.
    - ``solutions``: name -> the two branches at the transition.

    >>> Transition("alpha", 1.5, 1e-4, "uninformed", "informed", None, crossings=(1.5,), spinodals=(), solutions={})
    Transition(alpha=1.5 +- 0.0001, uninformed -> informed)
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
        ends = "".join(f"; {s.branch} ends between {min(s[1:3]):.6g} and {max(s[1:3]):.6g}: {s.how}" for s in self.spinodals)
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
      :meth:`Problem.solve` (None: the problem's first two); two numbers are a ``bracket``.
    - ``bracket``: the range searched (default: a quarter to four times the present value), on ``points`` logarithmic steps, finer
      where a branch does not follow. Both are continued from the value next to the present one at which their starts lead to two.
    - ``rtol``: how finely crossing and ends are located, relative. ``options`` go to :meth:`Problem.solve`.

    The uncertainty is the width of the last bracket and, over the slope of the difference of the energies, the errors of
    the two: how much each changes on the next finer quadrature. A branch counts as lost where its continuation does not
    converge, leads to where the way back does not return from, or meets the other branch.

    ``ValueError`` for a parameter that is not real and positive, names that are not two starts, or a range that is none.

    Clustering in two classes (h is drawn to -1 or 1) where two directions of the data could be learned; by symmetry they are
    equally good where they separate it equally:

    >>> import jax.numpy as jnp, numpy as np, quenched as qn
    >>> wells = qn.Loss(
    ...     lambda h, label: (abs(h) - 1) ** 2 / 2, convex=False, scalar=True, kinks=lambda V, label: jnp.zeros(1),
    ...     moreau=lambda w, V, label: ((abs(w) - 1) ** 2 / 2 / (1 + V), (w + V * jnp.where(w < 0, -1, 1)) / (1 + V)))
    >>> pairs = np.array([[[1.0, 1.0]], [[1.0, -1.0]]])
    >>> problem = qn.SequenceProblem(qn.laws.sequence([0.5, 0.5], mean=pairs, gram=np.diag([16.0, 9.0])), wells, 1.0, 1.0)
    >>> starts = {"strong": {"m": [[0.9], [0.0]], "q": 0.1}, "weak": {"m": [[0.0], [0.9]], "q": 0.1}}
    >>> find_transition(problem, between=starts, points=5)
    Transition(none in alpha: strong is lowest wherever both exist)
    """
    if not isinstance(problem, Problem):
        raise ValueError(f"problem must be a problem such as quenched.problems.PhaseRetrieval(...), got {type(problem).__name__}")
    if "init" in options:
        raise ValueError(f"init must not be given, between names the starts, got {options['init']!r}")
    if bracket is None and isinstance(between, (tuple, list)) and [isinstance(end, (int, float)) for end in between] == [True] * 2:
        between, bracket = None, between  # a range, as in Problem.tune
    names, starts = _starts(problem, between)
    now = check.positive("over", real_parameter(problem, over))
    low, high = positive_range("bracket", bracket, (now / 4.0, now * 4.0))
    points, rtol = check.integer("points", points, 3), check.positive("rtol", rtol)
    pair = _Pair(*(Branch(problem, over, start, options) for start in starts))
    grid = sorted({*np.geomspace(low, high, points).tolist(), float(np.clip(now, low, high))})
    ends = _explore(pair, grid, now, rtol)
    spinodals = tuple(Spinodal(names[who], *end, how) for end in ends for who, how in [pair.what_ended(*end)])

    crossings = pair.crossings(rtol)
    if not crossings:
        gaps = [pair.gap(x) for x in pair.together()]
        lower = None if not gaps else names[0] if gaps[0] < 0 else names[1]
        return Transition(over, None, None, None, None, lower, (), spinodals, {})
    nearest = min(crossings, key=lambda c: separation(c.value, now))
    both = pair.at(min(pair.together(), key=lambda x: separation(x, nearest.value)))
    error = sum(_energy_error(s) for s in both) / nearest.slope if nearest.slope > 0.0 else np.inf
    below, above = names if nearest.rising else names[::-1]
    return Transition(
        over, nearest.value, float(nearest.value * (nearest.width + error)), below, above, None,
        tuple(c.value for c in crossings), spinodals, dict(zip(names, both, strict=True)),
    )  # fmt: skip


def _starts(problem, between):
    """The two names and their starts, as :meth:`Problem.solve` takes them."""
    known = tuple(dict.fromkeys((*problem._starts, "uninformed", "informed")))
    given = between if between is not None else problem._starts[:2]
    if isinstance(given, Mapping):
        names, starts = tuple(given), tuple(given.values())
    else:
        names = starts = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    if len(names) != 2 or names[0] == names[1]:
        raise ValueError(f"between must name two different branches (of {', '.join(known)}), got {given!r}")
    for name, start in zip(names, starts, strict=True):
        if not isinstance(name, str) or (isinstance(start, str) and start not in known):
            raise ValueError(f"between must name branches of {type(problem).__name__} ({', '.join(known)}), got {start!r}")
    return names, starts


def _explore(pair, grid, now, rtol) -> list[tuple[float, float]]:
    """Follow both branches up and down the grid from the point nearest to ``now`` where both are; (found, lost) at each end met."""
    anchor = next((x for x in sorted(grid, key=lambda x: separation(x, now)) if pair.at(x)), None)
    if anchor is None:
        return []
    ends = []
    for side in ([x for x in grid if x > anchor], [x for x in grid if x < anchor][::-1]):
        last = anchor
        for x in side:
            end = pair.reach(last, x, rtol)
            if end is not None:
                ends.append(end)
                break
            last = x
    return ends


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

    def at(self, x: float):
        """The two solutions at x, or None."""
        found = [branch.at(x) for branch in self.branches]
        if all(found) and same(*found):
            # which of the two it is cannot be told here: neither is continued from it
            for branch in self.branches:
                branch.forget(x, MEETS)
            found = [None]
        self.known[x] = all(found)
        return tuple(found) if self.known[x] else None

    def together(self) -> list[float]:
        """The values where both were found, in increasing order."""
        return sorted(x for x, both in self.known.items() if both)

    def reach(self, found: float, goal: float, rtol: float) -> tuple[float, float] | None:
        """Continue both from ``found`` to ``goal`` in steps as short as it takes; None, or where one of them ends."""
        if self.at(goal):
            return None
        lost = goal
        while True:
            if separation(found, lost) > rtol:
                x = float(np.sqrt(found * lost))
                found, lost = (x, lost) if self.at(x) else (found, x)
            elif self.at(lost) is None:
                return found, lost
            elif lost == goal:
                return None
            else:  # it had only been too far away
                found, lost = lost, goal

    def what_ended(self, found: float, lost: float) -> tuple[int, str]:
        """Which of the two was lost (where both were, the one that moves away), and how."""
        there = [lost in branch.found for branch in self.branches]
        who = int(there[0])
        if there[0] == there[1]:
            ends = [branch._solve(lost, branch.found[found]) for branch in self.branches]
            gone = [np.inf if s is None or not same(b.found[found], s) else 0.0 for b, s in zip(self.branches, ends, strict=True)]
            who = int(gone[1] > gone[0])
        return who, self.branches[who].lost[lost]

    def gap(self, x: float) -> float:
        """The free energy of the first branch minus that of the second."""
        both = self.at(x)
        if both is None:
            raise _Lost
        return float(both[0]["free_energy"]) - float(both[1]["free_energy"])

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
        except _Lost:  # then the closest values around the crossing at which both were found
            inside = [x for x in self.together() if a <= x <= b]
            a, b = next((x, y) for x, y in zip(inside[:-1], inside[1:], strict=True) if (self.gap(x) < 0) != (self.gap(y) < 0))
            width = np.log(b / a)
            return Crossing(float(np.sqrt(a * b)), 0.5 * width, abs(self.gap(b) - self.gap(a)) / width, rising)


def _energy_error(solution) -> float:
    """How much the free energy of a solution changes when its quadrature is refined once."""
    from ..limit.averages import energy_error

    return energy_error(solution.problem.model, *solution._unknowns(), solution.level)
