"""The free energy with one overlap held at a value: why a transition happens."""

from __future__ import annotations

import dataclasses
import warnings
from typing import NamedTuple

import numpy as np

from ..numerics import check
from .base import SolveWarning, engine_options

#: Damped steps before Newton's method: a point starts where the one before it ended.
_WARMUP = 2
#: The largest residual of a branch that can be continued.
_FOUND = 1e-6


class Curve(NamedTuple):
    """The free energy along the held overlap, continued from one branch.

    ``value`` (K,) increasing, ``energy`` (K,), ``overlaps`` (K,) of dicts; ``place`` and ``level``: the branch itself.
    Of every point ``residual`` (K,) of the overlaps that are not held, and ``quadrature_error`` (K,), how far they move when
    averages are refined; all points share their nodes, so that differences of energies are far more accurate than that.

    >>> import quenched as qn
    >>> ridge = qn.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
    >>> curve = ridge.landscape("theta", [0.5, 0.8, 1.1]).curves["uninformed"]
    >>> curve.value.tolist(), round(float(curve.place), 4), bool(curve.level < curve.energy.min())
    ([0.5, 0.8, 1.1], 0.9156, True)
    """

    value: np.ndarray
    energy: np.ndarray
    overlaps: tuple
    place: float
    level: float
    residual: np.ndarray
    quadrature_error: np.ndarray


@dataclasses.dataclass(frozen=True)
class Landscape:
    """What :func:`landscape` found: one :class:`Curve` a branch, and the points of interest of the lowest of them.

    - ``minima``, ``barriers``: (value, energy) where the lowest curve is stationary inside the range.
    - ``spinodals``: where, beside each barrier, its curvature changes sign: a minimum that is tilted up to there disappears.
    - ``missing``: branch -> values that were asked for and not reached.

    >>> import numpy as np, quenched as qn
    >>> ridge = qn.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
    >>> found = ridge.landscape("theta", np.linspace(0.8, 1.0, 5))
    >>> round(float(found.minima[0][0]), 4), found.barriers, found.missing
    (0.9156, (), {})
    """

    over: str
    curves: dict
    minima: tuple
    barriers: tuple
    spinodals: tuple
    missing: dict

    def table(self):
        """One entry a point, as lists by name: the branch, the held value, free energy, residual and quadrature error.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
        >>> table = ridge.landscape("theta", [0.8, 0.9]).table()
        >>> [table[name][0] for name in ("branch", "theta", "quadrature_error")], round(table["free_energy"][0], 6)
        (['uninformed', 0.8, 0.0], 0.10791)
        """
        columns = {"branch": [name for name, curve in self.curves.items() for _ in curve.value]}
        parts = {self.over: "value", "free_energy": "energy", "residual": "residual", "quadrature_error": "quadrature_error"}
        return columns | {name: [float(x) for c in self.curves.values() for x in getattr(c, part)] for name, part in parts.items()}


def landscape(
    problem, over: str, at, starts=None, direction=None, *, tol: float = 1e-8, quadrature_tol: float = 0.1, max_steps: int = 100,
    **unknown,
) -> Landscape:  # fmt: skip
    """The free energy of a problem with one overlap held at each of the values ``at``, all others extremal.

    - ``over``: ``"m"`` or ``"theta"``; what is held is ``<direction, overlap>`` in the engine's shapes, by default the problem's
      own order parameter (for attention that of the first token; for a committee the specialisation, the mean overlap of the
      units with their own targets minus that with others).
    - ``at``: increasing values; ``starts``: names of branches, None for the problem's own. Each branch is continued from where
      it is, in both directions.
    - ``tol``, ``quadrature_tol``, ``max_steps``: of each point, as for :meth:`Problem.solve`. A point that does not converge ends
      its curve, and is listed as missing with those behind it.

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
    check.names("landscape", unknown, ("over", "at", "starts", "direction", "tol", "quadrature_tol", "max_steps"))
    solver, quadrature_tol = engine_options(tol, quadrature_tol, 0.2, max_steps)
    options = {"solver": solver._replace(warmup=_WARMUP), "quadrature_tol": quadrature_tol}
    starts = problem._starts if starts is None else check.listed("starts", starts)
    curves, missing = {}, {}
    for name in starts:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SolveWarning)
            branch = problem.solve(name)
        if not branch.residual <= _FOUND:
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
            found[float(x)], start = solved, solved.overlaps
    points = [found[x] for x in sorted(found)]
    energy, residual, error = (np.array([getattr(point, name) for point in points]) for name in ("energy", "residual", "error"))
    # on the nodes of the curve: the branch itself may have been solved on finer ones
    here = _held(problem, own, frozen, over, direction, place, options)
    level = here.energy if here is not None else float(branch["free_energy"])
    return Curve(np.array(sorted(found)), energy, tuple(point.overlaps for point in points), place, level, residual, error)


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


class _Point(NamedTuple):
    energy: float
    overlaps: dict
    residual: float
    error: float


def _held(problem, start, frozen, over, direction, x, options) -> _Point | None:
    """One point, or None where the iteration does not converge, or no weights have overlaps like those it would start from."""
    from ..limit.solve import refuse_impossible, solve, starting_point

    held = {over: (direction, np.float64(x))}
    model = dataclasses.replace(problem.model, frozen=tuple(sorted({*problem.model.frozen, *frozen})), held=held)
    start = starting_point(model, start)
    try:
        refuse_impossible(model, start)
    except ValueError:  # the held value is beyond what the other overlaps allow
        return None
    end = solve(model, start, rescue=False, **options).certificate
    if not end.residual <= options["solver"].tol:
        return None
    overlaps = {**end.unknowns.overlaps._asdict(), **end.unknowns.scalars}
    return _Point(float(end.observables["free_energy"]), overlaps, float(end.residual), float(end.quadrature_error))


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
