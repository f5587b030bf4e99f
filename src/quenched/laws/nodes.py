"""Gauss rules of scalar laws, for a continuous label: each returns ``(nodes, weights)``, the weights sum to one.

The nodes of a label's own Gauss rule are far better than nodes of equal probability.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from quenched.numerics import check


def normal(count, mean=0.0, std=1.0) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Hermite rule of N(mean, std^2): exact for polynomials of degree below ``2 count``.

    >>> x, w = normal(5, mean=1.0)
    >>> round(float(w @ x**2), 12)
    2.0
    """
    x, w = special.roots_hermitenorm(check.integer("count", count))
    return check.scalar("mean", mean) + check.nonnegative("std", std) * x, w / w.sum()


def lognormal(count, mu=0.0, sigma=1.0) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of exp(N(mu, sigma^2)), Gauss-Hermite in the logarithm.

    >>> x, w = lognormal(20, sigma=0.5)
    >>> round(float(w @ x / np.exp(0.125)), 12)
    1.0
    """
    x, w = normal(count, check.scalar("mu", mu), check.nonnegative("sigma", sigma))
    return np.exp(x), w


def gamma(count, shape, scale=1.0) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Laguerre rule of the gamma law of the given shape and scale (mean ``shape * scale``).

    One over its nodes are nodes of the inverse gamma law (variances of Student-t inputs).

    >>> x, w = gamma(10, 2.0, scale=0.5)
    >>> round(float(w @ x), 12), round(float(w @ x**2), 12)
    (1.0, 1.5)
    """
    x, w = special.roots_genlaguerre(check.integer("count", count), check.positive("shape", shape) - 1.0)
    return check.positive("scale", scale) * x, w / w.sum()


def beta(count, a, b, low=0.0, high=1.0) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Jacobi rule of the beta law (a, b), stretched to (low, high); a = b = 1 is the uniform law.

    >>> x, w = beta(4, 1.0, 1.0)
    >>> round(float(w @ x**2), 12)
    0.333333333333
    """
    low, high = check.scalar("low", low), check.scalar("high", high)
    if low >= high:
        raise ValueError(f"low must be smaller than high, got {low} and {high}")
    a, b = check.positive("a", a), check.positive("b", b)
    x, w = special.roots_jacobi(check.integer("count", count), b - 1.0, a - 1.0)
    return low + (high - low) * (x + 1.0) / 2.0, w / w.sum()
