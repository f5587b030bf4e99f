"""The experiment with a quadratic network: message passing with a spectral denoiser, and the best kernel, on drawn samples.

Source: A. Maillard, E. Troiani, S. Martin, F. Krzakala, L. Zdeborova (2024), arXiv:2408.03733.
"""

from __future__ import annotations

import time

import numpy as np
from scipy import linalg

from quenched.finite.data import stream
from quenched.finite.simulate import repeated, seed_list
from quenched.finite.trials import CONVERGED, Trials
from quenched.laws.wishart import shrunk
from quenched.numerics import check
from quenched.numerics.programs import make_room

_STOPPED = "not converged: the largest number of iterations was reached, and the estimate still moves"


def rows(rng, n: int, d: int) -> np.ndarray:
    """n inputs (n, d) on the sphere of radius sqrt(d): the same limit as normal ones, with smaller corrections."""
    x = rng.standard_normal((n, d))
    return x * (np.sqrt(d) / np.linalg.norm(x, axis=1))[:, None]


def outputs(x, S) -> np.ndarray:
    """``(x^T S x - tr S) / sqrt(d)``, (n,)."""
    return (np.sum((x @ S) * x, axis=1) - np.trace(S)) / np.sqrt(x.shape[1])


def estimate(seen, width_ratio: float, t: float) -> tuple[np.ndarray, float]:
    """The best estimate of S (d, d) from ``seen = S + sqrt(t) GOE``, and its error |S - S_hat|^2 / d as the sample itself tells it.

    The covariance of the posterior is the noise's times the derivative of the estimate, in the basis of the eigenvectors the
    divided differences of eigenvalues; those of an eigenvalue with itself are left out, as 1/d of the others.
    """
    values, vectors = np.linalg.eigh(seen)
    best = shrunk(values, width_ratio, t)
    i, j = np.tril_indices(len(values), -1)
    slopes = np.divide(best[i] - best[j], values[i] - values[j], out=np.zeros(len(i)), where=values[i] != values[j])
    return (vectors * best) @ vectors.T, float(2.0 * t * np.sum(slopes)) / len(values) ** 2


def messages(x, y, width_ratio: float, noise: float, *, damping: float = 0.3, tol: float = 1e-2, iterations: int = 100):
    """The estimate of S (d, d) by damped message passing from S = I, a relative change, and whether it is below ``tol``.

    The denoiser is infinitely steep at the edges of the spectrum, so that single eigenvalues there may go back and forth for ever:
    the estimate is the average over the last 60% of the ``iterations``, and what must agree to ``tol`` are its two halves.
    """
    n, d = x.shape
    S, g, error = np.eye(d), np.zeros(n), 1.0 / width_ratio
    halves, counted = np.zeros((2, d, d)), check.integer("iterations", iterations, 10) * 3 // 10
    for left in range(iterations - 1, -1, -1):
        variance = 2.0 * error
        g = (y - outputs(x, S) + variance * g) / (noise + variance)
        precision = 2.0 * n / (d * (noise + variance))
        t = d / (2.0 * precision)
        seen = S + ((x * g[:, None]).T @ x - np.sum(g) * np.eye(d)) / (np.sqrt(d) * precision)
        best, left_over = estimate(0.5 * (seen + seen.T), width_ratio, t)
        S = (1.0 - damping) * best + damping * S
        error = (1.0 - damping) * left_over + damping * error
        if left < 2 * counted:
            halves[left // counted] += S / counted
    change = float(np.linalg.norm(halves[0] - halves[1]) / np.linalg.norm(halves[0]))
    return halves.mean(axis=0), change, change < tol


def kernel_estimate(x, y, width_ratio: float, noise: float) -> np.ndarray:
    """The best estimate of S that is linear in the labels: its entries have variance 1/m, on the diagonal 2/m."""
    n, d = x.shape
    m = width_ratio * d
    K = 2.0 / (m * d) * ((x @ x.T) ** 2 - d)
    c = linalg.lstsq(K, y, cond=1e-12)[0] if noise == 0.0 else linalg.solve(K + noise * np.eye(n), y, assume_a="pos")
    return np.eye(d) + 2.0 / (m * np.sqrt(d)) * ((x * c[:, None]).T @ x - np.sum(c) * np.eye(d))


def simulate(*, width_ratio: float, alpha: float, noise: float, dim: int, seeds=8, test_samples: int = 4000, n_jobs: int = 1,
             settings=None, progress=None, **options) -> Trials:  # fmt: skip
    """Every seed's own S and n = round(alpha d^2) samples; ``options`` go to :func:`messages`.

    Per seed: ``test_mse``, ``test_mse_clean`` on fresh samples and ``mmse`` = |S - S_hat|^2 / d of message passing, and the same of
    the kernel, ``kernel_test_mse`` and so on.
    """
    make_room()
    d, seeds = check.integer("dim", dim, 3), seed_list(seeds)
    n, m = max(1, round(alpha * d * d)), max(1, round(width_ratio * d))
    test_samples = check.integer("test_samples", test_samples)

    def one(seed):
        clock = time.perf_counter()
        rng = np.random.default_rng(stream(seed, "response"))
        w = rng.standard_normal((m, d))
        S = w.T @ w / m
        x = rows(rng, n, d)
        y = outputs(x, S) + np.sqrt(noise) * rng.standard_normal(n)
        fresh = rows(rng, test_samples, d)
        estimate, change, ended = messages(x, y, m / d, noise, **options)
        row = _measured("", S, estimate, fresh, noise, rng)
        row |= _measured("kernel_", S, kernel_estimate(x, y, m / d, noise), fresh, noise, rng)
        return row, CONVERGED if ended else _STOPPED, change, time.perf_counter() - clock

    return repeated(one, seeds, n_jobs, progress, d, n, settings)


def _measured(prefix, S, estimate, fresh, noise, rng) -> dict:
    missed = outputs(fresh, S) - outputs(fresh, estimate)
    noisy = missed + np.sqrt(noise) * rng.standard_normal(len(missed))
    values = {"test_mse": np.mean(noisy**2), "test_mse_clean": np.mean(missed**2), "mmse": np.sum((S - estimate) ** 2) / len(S)}
    return {prefix + name: value for name, value in values.items()}
