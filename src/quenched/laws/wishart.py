"""The spectrum of a Wishart matrix seen through a matrix of normal noise, and the best estimate of it.

``S = sum_k w_k w_k^T / m`` of m = ``width_ratio`` d standard normal vectors; seen is ``S + sqrt(t) GOE``, whose noise alone has the
semicircle of variance t. Its resolvent solves a cubic, ``y = k / (k - g) + t g + 1 / g`` with k = ``width_ratio``; the best
estimate of S has the same eigenvectors and the eigenvalues ``y - 2 t Re g(y)``.

Source: A. Maillard, E. Troiani, S. Martin, F. Krzakala, L. Zdeborova (2024), arXiv:2408.03733; J. Bun, R. Allez, J.-P. Bouchaud,
M. Potters (2016), arXiv:1502.06736, for the estimate.
"""

from __future__ import annotations

import numpy as np

from quenched.numerics import check

_NODES, _PANELS = 12, 24  # Gauss-Legendre in the angle of a band: order, and panels on each half
_LINEAR = 1e12  # beyond this k (k t)^2 the best estimate is linear, up to its inverse: there the cubic would only cancel


def bands(width_ratio: float, t: float) -> list[tuple[float, float]]:
    """The intervals that hold the spectrum of ``S + sqrt(t) GOE``.

    With the resolvent g, ``y = k / (k - g) + t g + 1 / g``: edges are where dy / dg = 0.

    >>> [[round(float(e), 4) for e in band] for band in bands(0.5, 1e-3)]
    [[-0.0452, 0.0442], [0.1733, 5.8287]]
    """
    k = width_ratio
    # (t g^2 - 1)(k - g)^2 + k g^2 = 0
    roots = np.roots(np.polyadd(np.polymul([t, 0.0, -1.0], [1.0, -2.0 * k, k * k]), [k, 0.0, 0.0]))
    real = np.sort(roots[np.abs(roots.imag) < 1e-9 * (1.0 + np.abs(roots))].real)
    edges = np.sort(k / (k - real) + t * real + 1.0 / real)
    return [(edges[i], edges[i + 1]) for i in range(0, len(edges) - 1, 2)]


def resolvent(y, width_ratio: float, t: float) -> np.ndarray:
    """g(y + i0) of ``S + sqrt(t) GOE``, (n,): its imaginary part is -pi times the density, its real part the Hilbert transform."""
    y, k = check.array("y", y, ndim=1), width_ratio
    companion = np.zeros((len(y), 3, 3))
    companion[:, 1, 0] = companion[:, 2, 1] = 1.0  # t g^3 - (t k + y) g^2 + (y k - k + 1) g - k = 0
    companion[:, :, 2] = np.stack([np.full_like(y, k), k - 1.0 - y * k, t * k + y], axis=-1) / t
    roots = np.linalg.eigvals(companion)
    inside = np.max(np.abs(roots.imag) / (1.0 + np.abs(roots)), axis=1) > 1e-9
    slope = (k / (k - roots) ** 2 + t - 1.0 / roots**2).real  # dy / dg, negative outside the spectrum for the one root that counts
    return roots[np.arange(len(y)), np.where(inside, np.argmin(roots.imag, axis=1), np.argmin(slope, axis=1))]


def denoised(width_ratio: float, t: float, order: int = _NODES) -> float:
    """The error F(t) per dimension of the best estimate of S from ``S + sqrt(t) GOE``; ``order`` of the quadrature.

    >>> round(denoised(0.5, 0.2), 6), round(denoised(1.0, 1.0), 6)
    (0.133083, 0.443869)
    """
    width_ratio, t = check.positive("width_ratio", width_ratio), check.positive("t", t)
    if 3.0 * np.log(width_ratio) + 2.0 * np.log(t) > np.log(_LINEAR):
        return float(t / (1.0 + width_ratio * t))
    x, w = np.polynomial.legendre.leggauss(order)
    ends = np.pi * (np.linspace(0.0, 1.0, _PANELS + 1) ** 2 * 0.5)  # panels get smaller towards the edges of a band
    ends = np.concatenate([ends - np.pi / 2.0, np.pi / 2.0 - ends[-2::-1]])
    half = 0.5 * np.diff(ends)
    angle = (0.5 * (ends[1:] + ends[:-1])[:, None] + half[:, None] * x).ravel()
    weights = (half[:, None] * w).ravel() * np.cos(angle)
    cubes = 0.0
    for low, high in bands(width_ratio, t):
        y = 0.5 * (high + low) + 0.5 * (high - low) * np.sin(angle)
        density = np.maximum(-resolvent(y, width_ratio, t).imag, 0.0) / np.pi
        cubes += 0.5 * (high - low) * (weights @ density**3)
    return float(t - 4.0 * np.pi**2 / 3.0 * t**2 * cubes)


def shrunk(values, width_ratio: float, t: float) -> np.ndarray:
    """The eigenvalues (d,) of the best estimate of S, from those of ``S + sqrt(t) GOE``.

    >>> shrunk([0.0, 1.0], 1e6, 0.5).round(3).tolist()  # so wide that S is the identity
    [1.0, 1.0]
    """
    values = check.array("values", values, ndim=1)
    return values - 2.0 * t * resolvent(values, width_ratio, t).real


def denoise(matrix, width_ratio: float, t: float) -> np.ndarray:
    """The best estimate of S (d, d) from ``S + sqrt(t) GOE``.

    >>> denoise(np.diag([0.0, 1.0]), 1e6, 0.5).round(3).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    values, vectors = np.linalg.eigh(check.array("matrix", matrix, ndim=2))
    return (vectors * shrunk(values, width_ratio, t)) @ vectors.T
