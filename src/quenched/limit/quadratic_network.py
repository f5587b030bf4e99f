"""A network with quadratic units and n ~ d^2 samples: where a kernel is no longer Bayes-optimal.

``y = (x^T S x - tr S) / sqrt(d) + sqrt(noise) z`` with ``S = sum_k w_k w_k^T / m`` of m = ``width_ratio`` d normal vectors and
n = ``alpha`` d^2 samples. The posterior sees S through a matrix of normal noise of variance t, ``S + sqrt(t) GOE``, and has no
preferred directions: its error is that of a denoiser of eigenvalues,

    F(t) = t - 4 pi^2 / 3 t^2 int mu_t(y)^3 dy,      t = (noise + 2 E) / (4 alpha),   E = F(t) = E |S - S_hat|^2 / d,

mu_t the spectral density of ``S + sqrt(t) GOE``. A kernel knows of S its variance only: ``E = t / (1 + width_ratio t)``.

Source: A. Maillard, E. Troiani, S. Martin, F. Krzakala, L. Zdeborova (2024), arXiv:2408.03733.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from ..laws.wishart import denoised
from ..numerics import check
from ..numerics.results import RESULTS

_SMALLEST, _POINTS = 1e-9, 240  # of t relative to the start, and the points at which the first root from above is looked for


def checked(width_ratio, alpha, noise=0.0) -> tuple[float, float, float]:
    """The three numbers of the problem, within the range in which double precision tells their errors apart."""
    return (
        check.scalar("width_ratio", width_ratio, 1e-4, 1e9),
        check.scalar("alpha", alpha, 1e-9, 1e9),
        check.scalar("noise", noise, 0.0, 1e9, allowed="a number in [0, 1e+09]"),
    )


class QuadraticPoint(NamedTuple):
    """``mmse`` = E |S - S_hat|^2 / d, ``t``; ``residual`` of one undamped update of E and ``quadrature_error``, relative to where E
    starts; ``slope`` of the update, below one where the fixed point is stable; ``result``."""

    mmse: float
    t: float
    residual: float = 0.0
    quadrature_error: float = 0.0
    slope: float = 0.0
    result: RESULTS = RESULTS.successful


def bayes(width_ratio: float, alpha: float, noise: float = 0.0) -> QuadraticPoint:
    """The Bayes-optimal error that is reached without a hint: the largest fixed point, looked for from E = 1 / width_ratio down.

    Without noise and with enough samples nothing is left: ``mmse = t = 0``.

    >>> round(bayes(0.5, 0.3, 0.25).mmse, 6), round(bayes(1.0, 0.4, 0.1).mmse, 6)
    (0.532514, 0.212617)
    """
    k, alpha, noise = checked(width_ratio, alpha, noise)

    def height(log_t):
        t = np.exp(log_t)
        return (4.0 * alpha * t - noise - 2.0 * denoised(k, t)) / t

    first = (noise + 2.0 / k) / (4.0 * alpha)
    last = first * _SMALLEST if noise == 0.0 else min(first, noise / (4.0 * alpha)) * (1.0 - 1e-9)
    high = np.log(first)
    if height(high) < 0.0:  # by rounding only: the samples show nothing of S
        last, high = first, high + 1e-9
    for low in np.linspace(high, np.log(last), _POINTS)[1:]:
        if height(low) < 0.0:
            break
        high = low
    else:
        if noise == 0.0:
            return QuadraticPoint(0.0, 0.0)
        return QuadraticPoint(denoised(k, np.exp(high)), float(np.exp(high)), 1.0, result=RESULTS.max_steps)
    t = float(np.exp(brentq(height, low, high, xtol=1e-13, rtol=1e-13)))
    mmse = denoised(k, t)
    residual = abs(denoised(k, (noise + 2.0 * mmse) / (4.0 * alpha)) - mmse) * k
    slope = (denoised(k, t * (1.0 + 1e-4)) - denoised(k, t * (1.0 - 1e-4))) / (2e-4 * t) / (2.0 * alpha)
    error = abs(denoised(k, t, order=20) - mmse) * k / abs(1.0 - slope)
    return QuadraticPoint(mmse, t, residual, error, slope, RESULTS.successful if residual < 1e-8 else RESULTS.max_steps)


def kernel(width_ratio: float, alpha: float, noise: float = 0.0) -> QuadraticPoint:
    """The best estimate that is linear in ``x x^T``, a kernel's, in closed form.

    >>> round(kernel(0.5, 0.3, 0.25).mmse, 6), kernel(0.5, 0.6).mmse
    (0.940746, 0.0)
    """
    k, alpha, noise = checked(width_ratio, alpha, noise)
    v = 1.0 / k
    a, b, c = 4.0 * alpha, (4.0 * alpha - 2.0) * v - noise, -noise * v
    root = np.sqrt(b * b - 4.0 * a * c)
    t = (-b + root) / (2.0 * a) if b < 0.0 else -2.0 * c / (b + root) if c else 0.0
    mmse = v * t / (t + v)
    return QuadraticPoint(float(mmse), float(t), float(abs(a * t - noise - 2.0 * mmse) / v))
