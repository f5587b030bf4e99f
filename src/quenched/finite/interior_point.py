"""Losses of straight lines (hinge, absolute) by a primal-dual interior-point method on the box-constrained dual.

Gradient methods stop short at kinks, and solvers of support vector machines allow at most one intercept. Such losses
are sums of maxima, max over low <= a <= high of a (t - s h), so the dual is a quadratic programme
with box constraints and one equality per free direction. The duality gap certifies the answer.

S. Mehrotra, SIAM J. Optim. 2, 575 (1992); for support vector machines M. C. Ferris and T. S. Munson,
SIAM J. Optim. 13, 783 (2002).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg


def interior_point(x, free, t, s, low, high, weight_decay: float, *, tol=1e-11, max_iterations=100):
    """argmin of sum_mu max_{low <= a <= high} a (t_mu - s_mu h_mu) + weight_decay/2 |w|^2, h = x w/sqrt(d) + free m.

    Parameters: ``x`` (n, d), ``free`` (n, F), ``t`` and ``s`` (n,), ``low`` and ``high`` numbers or (n,),
    ``weight_decay`` > 0; ``tol`` on the relative gap.
    Returns ``(w (d,), m (F,), dual value, iterations)``: the best iterate, whether or not ``tol`` was met. The dual
    value is a lower bound on the risk (up to the violation of ``free^T (s a) = 0``, which is subtracted from it).

    >>> x, y = np.array([[1.0], [2.0]]), np.array([1.0, 1.0])  # 1/2 w^2 + max(0, 1-w) + max(0, 1-2w)
    >>> w, _, dual, _ = interior_point(x, np.zeros((2, 0)), np.ones(2), y, 0.0, 1.0, 1.0)
    >>> w.round(4), round(dual, 6)
    (array([1.]), 0.5)
    """
    scaled = (s / np.sqrt(x.shape[1] * weight_decay))[:, None] * x  # K = scaled scaled^T
    border = s[:, None] * free
    n, k = len(t), free.shape[1]
    a, m = 0.5 * (low + high) * np.ones(n), np.zeros(k)
    below, above = a - low, high - a  # kept as variables of their own: differences would be rounded to zero
    z_low, z_high = np.ones(n), np.ones(n)
    best, stalled, taken = None, 0, 0
    while True:
        point = _evaluate(a, m, scaled, border, t, low, high)
        best, stalled = (point, 0) if best is None or point.gap < best.gap else (best, stalled + 1)
        if point.relative <= tol or stalled == 5 or taken == max_iterations:
            break
        try:
            solve = _newton_system(scaled, border, z_low / below + z_high / above)
        except np.linalg.LinAlgError:
            break  # past the accuracy of the arithmetic
        residual, violation = -point.margin - z_low + z_high, border.T @ a
        at = (below, above, z_low, z_high)
        da, dm, dl, dh = _direction(solve, residual, violation, at, 0.0, 0.0)  # predictor
        mu = (below @ z_low + above @ z_high) / (2 * n)
        step = min(1.0, _longest(below, da), _longest(above, -da), _longest(z_low, dl), _longest(z_high, dh))
        ahead = ((below + step * da) @ (z_low + step * dl) + (above - step * da) @ (z_high + step * dh)) / (2 * n)
        centre = mu * (ahead / mu) ** 3
        da, dm, dl, dh = _direction(solve, residual, violation, at, centre - da * dl, centre + da * dh)  # corrector
        longest = min(_longest(below, da), _longest(above, -da), _longest(z_low, dl), _longest(z_high, dh))
        step = min(1.0, 0.995 * longest)  # one length for both: the quadratic term couples a and the multipliers
        if not np.isfinite(step) or step < 1e-13:
            break
        taken += 1
        a, m, below, above = a + step * da, m + step * dm, below + step * da, above - step * da
        z_low, z_high = z_low + step * dl, z_high + step * dh
    if best.relative > tol:
        a, m = _on_the_kink(scaled, border, t, low, high, below < z_low, above < z_high)
        point = _evaluate(a, m, scaled, border, t, low, high)
        best = point if point.gap < best.gap else best
    return best.v / np.sqrt(weight_decay), best.m, best.dual, taken


class _Point(NamedTuple):
    """An iterate: v = sqrt(weight_decay) w, free means, margins t - s h, dual value, gap, and the relative gap."""

    v: np.ndarray
    m: np.ndarray
    margin: np.ndarray
    dual: float
    gap: float
    relative: float


def _evaluate(a, m, scaled, border, t, low, high) -> _Point:
    v = scaled.T @ a
    margin = t - scaled @ v - border @ m
    primal = float(0.5 * v @ v + np.maximum(low * margin, high * margin).sum())
    dual = float(t @ a - 0.5 * v @ v - abs(m @ (border.T @ a)))
    relative = relative_gap(primal, dual, float(np.maximum(low * t, high * t).sum()))
    return _Point(v, m, margin, dual, primal - dual, relative)


def _on_the_kink(scaled, border, t, low, high, at_low, at_high):
    """The exact solution if this is where the forces are: the others sit on the kink, with margin zero."""
    a = np.where(at_low, low, high)
    on = ~(at_low | at_high)
    a[on] = 0.0
    inner, edge = scaled[on], border[on]
    k = border.shape[1]
    system = np.block([[inner @ inner.T, edge], [edge.T, np.zeros((k, k))]])
    rhs = np.r_[t[on] - inner @ (scaled.T @ a), -border.T @ a]
    found = np.linalg.lstsq(system, rhs, rcond=None)[0]
    low, high = np.broadcast_to(low, on.shape), np.broadcast_to(high, on.shape)
    a[on] = np.clip(found[: on.sum()], low[on], high[on])
    return a, found[on.sum() :]


def relative_gap(primal: float, dual: float, at_zero: float) -> float:
    """(primal - dual) / primal; a risk that can be brought to zero is measured against 1e-7 of its value at w = 0.

    >>> relative_gap(2.0, 1.0, 10.0), relative_gap(0.0, -1e-20, 1.0) < 1e-10
    (0.5, True)
    """
    return abs(primal - dual) / max(abs(primal), 1e-7 * at_zero, np.finfo(float).tiny)


def _direction(solve, residual, violation, at, centre_low, centre_high):
    """Newton steps of a, m and the two multipliers towards complementarity products equal to the centres."""
    below, above, z_low, z_high = at
    push_low, push_high = centre_low / below - z_low, centre_high / above - z_high
    da, dm = solve(-residual + push_low - push_high, -violation)
    return da, dm, push_low - z_low / below * da, push_high + z_high / above * da


def _longest(x, dx) -> float:
    """The longest step that keeps x + step dx non-negative."""
    falling = dx < 0
    return float(np.min(-x[falling] / dx[falling], initial=np.inf))


def _newton_system(scaled, border, diagonal):
    """A solver of (scaled scaled^T + diag) da + border dm = r, border^T da = c, through the smaller of n and d."""
    n, d = scaled.shape
    if n <= d:
        factor = scipy.linalg.cho_factor(scaled @ scaled.T + np.diag(diagonal), check_finite=False)

        def once(r):
            return scipy.linalg.cho_solve(factor, r, check_finite=False)
    else:  # Woodbury
        half = scaled / np.sqrt(diagonal)[:, None]
        factor = scipy.linalg.cho_factor(half.T @ half + np.eye(d), check_finite=False)

        def once(r):
            r = (r.T / diagonal).T
            image = scaled @ scipy.linalg.cho_solve(factor, scaled.T @ r, check_finite=False)
            return r - (image.T / diagonal).T

    def apply(u):
        return scaled @ (scaled.T @ u) + (diagonal * u.T).T

    def refined(r):
        u = once(r)
        return u + once(r - apply(u))

    images = refined(border)
    schur = border.T @ images

    def solve(r, c):
        u = refined(r)
        dm = np.linalg.lstsq(schur, border.T @ u - c, rcond=None)[0] if border.shape[1] else np.zeros(0)
        return u - images @ dm, dm

    return solve
