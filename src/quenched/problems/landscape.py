"""The free energy with one overlap held at a value: why a transition happens."""

from __future__ import annotations

import dataclasses
import warnings
from typing import NamedTuple

import numpy as np

from ..numerics import check
from .base import SolveWarning

#: Default tolerance of the quadrature: all points share their nodes, so that differences along a curve are far more accurate.
_TOLERANCE = 0.1


class Curve(NamedTuple):
    """The free energy along the held overlap, continued from one branch.

    ``value`` (K,) increasing, ``energy`` (K,), ``overlaps`` (K,) of dicts; ``place`` and ``level``: the branch itself.
    """

    value: np.ndarray
    energy: np.ndarray
    overlaps: tuple
    place: float
    level: float


@dataclasses.dataclass(frozen=True)
class Landscape:
    """What :func:`landscape` found: one :class:`Curve` a branch, and the points of interest of the lowest of them.

    - ``minima``, ``barriers``: (value, energy) where the lowest curve is stationary inside the range.
    - ``spinodals``: where, beside each barrier, its curvature changes sign: a minimum that is tilted up to there disappears.
    - ``missing``: branch -> values that were asked for and not reached.
    """

    over: str
    curves: dict
    minima: tuple
    barriers: tuple
    spinodals: tuple
    missing: dict

    def table(self):
        """Rows (branch, value, energy) as three lists by name."""
        rows = [(name, x, e) for name, curve in self.curves.items() for x, e in zip(curve.value, curve.energy, strict=True)]
        return {key: [row[k] for row in rows] for k, key in enumerate(("branch", self.over, "free_energy"))}


def landscape(problem, over: str, at, starts=None, direction=None, **options) -> Landscape:
    """The free energy of a problem with one overlap held at each of the values ``at``, all others extremal.

    - ``over``: ``"m"`` or ``"theta"``; what is held is ``<direction, overlap>`` in the engine's shapes, by default the problem's
      own order parameter (for attention that of the first token; for a committee the specialisation, the mean overlap of the
      units with their own targets minus that with others).
    - ``at``: increasing values; ``starts``: names of branches, None for the problem's own. Each branch is continued from where
      it is, in both directions. ``options`` go to the solves (``tol``, ``quadrature_tol``, ``max_steps``).

    The overlap's conjugate becomes a Lagrange multiplier; where that vanishes lie the fixed points. ``ValueError`` for an overlap
    that is not one number and has no direction.

    >>> import numpy as np, quenched as qn
    >>> logistic = qn.problems.GeneralizedLinear("logistic", "sign", alpha=2.0, weight_decay=0.1)
    >>> found = landscape(logistic, "theta", np.linspace(1.2, 2.2, 11))
    >>> [round(float(x), 4) for x in (found.minima[0][0], logistic.solve()["theta"])]
    [1.7203, 1.7203]
    """
    check.choice("over", over, ("m", "theta"))
    at = check.array("at", at, ndim=1)
    if at.size < 2 or np.any(np.diff(at) <= 0.0):
        raise ValueError(f"at must hold at least two increasing values, got {at.tolist()}")
    direction = problem._direction(over) if direction is None else check.array("direction", direction, shape=problem._shapes[over])
    if not np.any(direction):
        raise ValueError(f"direction must not be zero, got {direction.tolist()}")
    check.names("landscape", options, ("tol", "quadrature_tol", "max_steps", "warmup"))
    starts = problem._starts if starts is None else check.listed("starts", starts)
    curves, missing = {}, {}
    for name in starts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SolveWarning)
            branch = problem.solve(name)
        if branch.residual > 1e-6:
            missing[name] = tuple(at)
            continue
        curve = _curve(problem, name, branch, over, at, direction, options)
        curves[name] = curve
        left = tuple(float(x) for x in at if not np.any(np.isclose(curve.value, x)))
        if left:
            missing[name] = left
    if not curves:
        raise ValueError(f"starts must lead to at least one branch, got {list(starts)}")
    return Landscape(over, curves, *_points(curves), missing)


def _curve(problem, name, branch, over, at, direction, options) -> Curve:
    own = problem._from_solution(branch)
    place = float(np.sum(direction * np.reshape(own[over], direction.shape)))
    _, frozen = problem._start(name)
    frozen = tuple(x for x in frozen if x not in (over, "units"))
    found = {}
    for side in (at[at >= place], at[at < place][::-1]):
        start = own
        for x in side:
            solved = _held(problem, _moved(problem, start, over, direction, x), frozen, over, direction, x, options)
            if solved is None:
                break
            energy, start = solved
            found[float(x)] = energy, start
    values = np.array(sorted(found))
    energies, overlaps = (tuple(found[x][k] for x in values) for k in (0, 1))
    # on the nodes of the curve: the branch itself may have been solved on finer ones
    here = _held(problem, own, frozen, over, direction, place, options)
    return Curve(values, np.array(energies), overlaps, place, here[0] if here else float(branch["free_energy"]))


def _moved(problem, overlaps, over, direction, x):
    """Overlaps with the held one at its value: the start of the next point, inside what is possible."""
    made = {name: np.array(value, float) for name, value in overlaps.items()}
    current = np.reshape(made[over], direction.shape)
    moved = current + (x - np.sum(direction * current)) / np.sum(direction**2) * direction
    if over == "theta":  # what of omega the target does not explain stays as it was
        rho = np.asarray(problem.model.law.targets()[0])
        explained = [t @ np.linalg.pinv(rho) @ np.swapaxes(t, 1, 2) for t in (current, moved)]
        made["q"] = np.reshape(made["q"], explained[0].shape) + explained[1] - explained[0]
    made[over] = moved
    return made


def _held(problem, start, frozen, over, direction, x, options):
    """(free energy, overlaps) of one point, or None where the iteration does not converge."""
    from ..limit.saddle import Solver
    from ..limit.solve import solve

    tol = options.get("tol", 1e-8)
    model = problem.model
    held = {over: (direction, np.float64(x))}
    model = dataclasses.replace(model, frozen=tuple(sorted({*model.frozen, *frozen})), held=held)
    solver = Solver(tol=tol, warmup=options.get("warmup", 2), max_steps=options.get("max_steps", 100))
    tolerance = options.get("quadrature_tol", _TOLERANCE)
    try:
        solved = solve(model, start, solver=solver, quadrature_tol=tolerance, rescue=False)
    except ValueError:  # the held value is beyond what the other overlaps allow
        return None
    end = solved.certificate
    if not end.residual <= tol:
        return None
    return float(end.observables["free_energy"]), {**end.unknowns.overlaps._asdict(), **end.unknowns.scalars}


def _points(curves):
    """Minima, barriers and spinodals of the lower envelope of the curves."""
    from scipy.interpolate import CubicSpline

    minima, barriers, spinodals = [], [], []
    lowest = {}
    for curve in curves.values():
        for x, e in zip(curve.value, curve.energy, strict=True):
            lowest[x] = min(e, lowest.get(x, np.inf))
    x = np.array(sorted(lowest))
    if len(x) < 4:
        return (), (), ()
    spline = CubicSpline(x, [lowest[v] for v in x])
    slope = spline.derivative()
    for root in slope.roots(extrapolate=False):
        (minima if spline(root, 2) > 0 else barriers).append((float(root), float(spline(root))))
    # between a minimum (or an end of the range) and a barrier the curve is steepest where its curvature changes sign
    ends = sorted([x[0], *(m for m, _ in minima), *(b for b, _ in barriers), x[-1]])
    bends = spline.derivative(2).roots(extrapolate=False)
    for low, high in zip(ends[:-1], ends[1:], strict=True):
        inside = [r for r in bends if low < r < high]
        if inside and {low, high} & {b for b, _ in barriers}:
            spinodals.append(float(max(inside, key=lambda r: abs(slope(r)))))
    return tuple(minima), tuple(barriers), tuple(spinodals)
