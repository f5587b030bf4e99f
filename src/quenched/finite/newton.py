"""Newton steps by conjugate gradients, to bring a nearly optimal point to the accuracy of the arithmetic."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Polished(NamedTuple):
    """The last point, its gradient, the number of Newton steps taken, and the length of the last one."""

    z: np.ndarray
    gradient: np.ndarray
    steps: int
    length: float


def conjugate_gradients(product, b: np.ndarray, tol: float, max_iterations: int) -> tuple[np.ndarray, bool]:
    """(u, convex): product(u) = b up to ``tol`` in relative norm; stops at a direction of negative curvature.

    M. R. Hestenes and E. Stiefel (1952); the stopping rule is that of T. Steihaug, SIAM J. Numer. Anal. 20, 626 (1983).

    >>> conjugate_gradients(lambda v: np.array([1.0, 2.0]) * v, np.array([1.0, 1.0]), 1e-12, 10)
    (array([1. , 0.5]), True)
    """
    u, residual = np.zeros_like(b), b.copy()
    p, rho, target = residual, float(residual @ residual), tol * float(np.linalg.norm(b))
    for _ in range(max_iterations):
        if np.sqrt(rho) <= target:
            break
        image = product(p)
        curvature = float(p @ image)
        if not curvature > 0.0:
            return u, False
        step = rho / curvature
        u, residual = u + step * p, residual - step * image
        rho, previous = float(residual @ residual), rho
        p = residual + (rho / previous) * p
    return u, True


def lowest_curvature(product, size: int, iterations: int = 40) -> tuple[float, float]:
    """(lowest, largest in size) eigenvalue of a symmetric matrix as seen by a few Lanczos steps from a random vector.

    The lowest is an upper bound of the true one: below zero it proves a direction of negative curvature.

    >>> low, size = lowest_curvature(lambda v: np.array([-0.5, 1.0, 2.0]) * v, 3)
    >>> round(low, 10), round(size, 10)
    (-0.5, 2.0)
    """
    most = min(iterations, size)
    basis, images = np.empty((most, size)), np.empty((most, size))
    v = np.random.default_rng(0).standard_normal(size)
    basis[0] = v / np.linalg.norm(v)
    for count in range(1, most + 1):
        known, rest = basis[:count], np.array(product(basis[count - 1]))
        images[count - 1] = rest
        for _ in range(2):  # twice: once loses orthogonality
            rest -= known.T @ (known @ rest)
        norm = np.linalg.norm(rest)
        if count == most or norm < 1e-10 * max(np.linalg.norm(images[count - 1]), np.finfo(float).tiny):
            break
        basis[count] = rest / norm
    ritz = np.linalg.eigvalsh(basis[:count] @ images[:count].T)
    return float(ritz[0]), float(np.abs(ritz).max())


def polish(value_and_grad, hessian_product, z, *, small, max_steps: int = 20, max_products: int = 2000) -> Polished:
    """Newton steps from ``z`` until ``small(z, gradient)``; each must reduce the norm of the gradient.

    ``value_and_grad(z)`` and ``hessian_product(z, v)`` act on flat vectors. At least one step is tried.
    Steps are halved at most ten times; negative curvature ends the polish (the point is then not near a minimum).
    """
    gradient = value_and_grad(z)[1]
    norm, length = float(np.linalg.norm(gradient)), 0.0
    start = norm
    for taken in range(max_steps):
        if norm == 0.0 or (taken > 0 and small(z, gradient)):
            return Polished(z, gradient, taken, length)
        tol = min(0.1, np.sqrt(norm / start), 1e-2)
        step, convex = conjugate_gradients(lambda v, z=z: hessian_product(z, v), -gradient, tol, max_products)
        if not convex or not np.all(np.isfinite(step)):
            return Polished(z, gradient, taken, length)
        for _ in range(10):
            trial = z + step
            new = value_and_grad(trial)[1]
            new_norm = float(np.linalg.norm(new))
            if new_norm < norm:
                break
            step = 0.5 * step
        else:
            return Polished(z, gradient, taken, length)
        z, gradient, norm, length = trial, new, new_norm, float(np.linalg.norm(step))
    return Polished(z, gradient, max_steps, length)
