"""The square loss in closed form: normal equations, their dual where n < d, or the least-norm solution."""

from __future__ import annotations

import numpy as np
import scipy.linalg


def least_squares(x, free, y, weight_decay: float) -> tuple[np.ndarray, np.ndarray]:
    """argmin of 1/2 |x w/sqrt(d) + free m - y|^2 + weight_decay/2 |w|^2 over w (d,) and m (F,).

    Parameters: ``x`` (n, d), ``free`` (n, F), ``y`` (n,). With
    weight_decay = 0 it is the w of least norm among the minimisers.

    >>> w, m = least_squares(np.eye(2) * np.sqrt(2), np.zeros((2, 0)), np.array([1.0, 2.0]), 1.0)
    >>> w
    array([0.5, 1. ])
    """
    a = x / np.sqrt(x.shape[1])
    if weight_decay == 0.0:
        return _least_norm(a, free, y)
    n, d = a.shape
    if n < d:  # stationarity: w = a^T u / weight_decay with residual u = y - a w - free m, and free^T u = 0
        u, m = _bordered(a @ a.T / weight_decay + np.eye(n), free, y)
        return a.T @ u / weight_decay, m
    k = free.shape[1]
    design = np.hstack([a, free])
    matrix = design.T @ design + np.diag(np.r_[np.full(d, weight_decay), np.zeros(k)])
    z = _solve(matrix, design.T @ y)
    return z[:d], z[d:]


def _bordered(matrix, free, y):
    """u, m with matrix u + free m = y and free^T u = 0."""
    columns = _solve(matrix, np.column_stack([y, free]))
    u, images = columns[:, 0], columns[:, 1:]
    m = np.linalg.lstsq(free.T @ images, free.T @ u, rcond=None)[0] if free.shape[1] else np.zeros(0)
    return u - images @ m, m


def _solve(matrix, rhs):
    """A positive definite system with one step of refinement; semi-definite ones by least squares."""
    try:
        factor = scipy.linalg.cho_factor(matrix)
    except np.linalg.LinAlgError:
        return np.linalg.lstsq(matrix, rhs, rcond=None)[0]
    z = scipy.linalg.cho_solve(factor, rhs)
    return z + scipy.linalg.cho_solve(factor, rhs - matrix @ z)


def _least_norm(a, free, y):
    """The free directions are projected out first, so that only |w| is made small."""
    inverse = np.linalg.pinv(free) if free.shape[1] else np.zeros((0, len(y)))
    rounding = 10.0 * max(a.shape) * np.finfo(float).eps  # the projection leaves singular values of this size
    w = np.linalg.lstsq(a - free @ (inverse @ a), y - free @ (inverse @ y), rcond=rounding)[0]
    return w, inverse @ (y - a @ w)
