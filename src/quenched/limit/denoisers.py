"""Denoisers of a Gaussian mixture that an autoencoder is measured against, and where it starts to learn at all.

Inputs are ``y = c x + s xi``, c^2 = 1 - noise, s^2 = noise, for x of a mixture of weights rho_k, means mu_k and covariances S_k.
Source: H. Cui, L. Zdeborova (2023), arXiv:2305.11041; spikes: J. Baik, G. Ben Arous, S. Peche (2005), arXiv:math/0403022.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq

from ..numerics.gaussian import sobol, tensor_hermite

_HERMITE = {1: 200, 2: 60, 3: 24}  # nodes an axis for averages over the span of the means


class Mixture(NamedTuple):
    """``weights`` (C,); per atom of the spectrum its mass (S,), ``eigenvalues`` (S, C), and ``gram`` (S, C, C) of the means."""

    weights: np.ndarray
    mass: np.ndarray
    eigenvalues: np.ndarray
    gram: np.ndarray

    @classmethod
    def of(cls, law) -> Mixture:
        """From a one-token law with spectral atoms."""
        mean, cov, spectrum = np.asarray(law.mean)[:, 0], np.asarray(law.cov)[:, 0], law.atoms()
        gram = mean @ np.asarray(spectrum.gram) @ mean.T
        return cls(np.asarray(law.prob), np.asarray(spectrum.weights), np.asarray(spectrum.eigenvalues) @ cov.T, gram)

    @property
    def isotropic(self) -> float | None:
        """The variance of all clusters, where they have one isotropic covariance."""
        low, high = self.eigenvalues.min(), self.eigenvalues.max()
        return float(high) if high - low <= 1e-12 * high else None


class Principal(NamedTuple):
    """The leading principal component of n = alpha d clean samples, where it stands out of the noise.

    ``eigenvalue`` of X^T X/n; of its unit vector the overlaps ``m`` (C,) with the means and ``Q`` (C,) with the covariances;
    ``second_moment`` of fresh inputs along it; excess errors over E|x|^2 of the projection and of its best multiple.
    """

    eigenvalue: float
    m: np.ndarray
    Q: np.ndarray
    second_moment: float
    excess_plain: float
    excess: float


def principal_component(mixture: Mixture, alpha: float, noise: float) -> Principal | None:
    """The PCA denoiser ``g v v^T y``; None where no eigenvalue leaves the bulk.

    >>> law = Mixture(np.array([0.5, 0.5]), np.ones(1), np.full((1, 2), 0.3), np.array([[[1.0, -1.0], [-1.0, 1.0]]]))
    >>> round(principal_component(law, 1.0, 0.5).eigenvalue, 9)  # (0.3 + 1)(1 + 0.3)
    1.69
    """
    rho, mass, lam, gram = mixture
    c2 = 1.0 - noise

    def resolvent(x):
        """V and A at x = alpha times an eigenvalue; None inside the bulk, and so close to its edge that steps are slow."""
        V = np.zeros(len(rho))
        for _ in range(3000):
            A = x - lam @ (alpha * rho / (1.0 - V))
            if A.min() <= 0.0:
                return None
            new = mass / A @ lam
            if new.max() >= 1.0:
                return None
            if np.abs(new - V).max() < 1e-14 * (1.0 + new.max()):
                return new, A
            V = new
        return None

    def leading(x):
        found = resolvent(x)
        if found is None:
            return np.inf, None
        V, A = found
        rate = np.sqrt(alpha * rho / (1.0 - V))
        values, vectors = np.linalg.eigh(rate[:, None] * np.tensordot(1.0 / A, gram, 1) * rate)
        return values[-1], vectors[:, -1] / rate  # m, up to its length

    high = 4.0 * (1.0 + alpha) * (lam.max() + np.linalg.eigvalsh(gram.sum(axis=0))[-1])
    low = high
    while resolvent(low) is not None and leading(low)[0] < 1.0:
        low *= 0.97
        if low < 1e-9 * high:
            return None
    if resolvent(low) is None:  # the edge lies between: an outlier may hide above it
        inside, outside = low, low / 0.97
        for _ in range(60):
            middle = 0.5 * (inside + outside)
            inside, outside = (middle, outside) if resolvent(middle) is None else (inside, middle)
        low = outside
        if leading(low)[0] < 1.0:
            return None
    x = brentq(lambda x: leading(x)[0] - 1.0, low, high, xtol=1e-14 * high, rtol=1e-14)
    (V, A), m = resolvent(x), leading(x)[1]
    # the scale of m is free until q = 1 fixes it: Q is a linear function of its square
    m_hat = alpha * rho * m / (1.0 - V)
    rate = alpha * rho / (1.0 - V) ** 2
    spike = np.einsum("k,skl,l->s", m_hat, gram, m_hat)
    system = np.eye(len(rho)) - np.einsum("sk,s,sl->kl", lam, mass / A**2, lam * rate)
    source = np.einsum("sk,s->k", lam, (mass * (lam @ (rate * m**2)) + spike) / A**2)
    Q = np.linalg.solve(system, source)
    q = np.sum((mass * (lam @ (rate * (Q + m**2))) + spike) / A**2)
    m, Q = m / np.sqrt(q), Q / q
    m = m * np.sign(m[np.argmax(np.abs(m))])
    moment = float(rho @ (Q + m**2))
    plain = c2 * moment + noise - 2.0 * np.sqrt(c2) * moment
    return Principal(x / alpha, m, Q, moment, float(plain), -c2 * moment**2 / (c2 * moment + noise))


def oracle(mixture: Mixture, noise: float) -> tuple[float, float | None]:
    """The Bayes-optimal denoiser: its mean square error per dimension, and its excess over the best rescaling.

    The excess is of order one (and a number here) for clusters of one isotropic covariance, else None: the error per
    dimension itself is then below that of the rescaling.

    >>> law = Mixture(np.array([0.5, 0.5]), np.ones(1), np.full((1, 2), 0.1), np.array([[[1.0, -1.0], [-1.0, 1.0]]]))
    >>> round(oracle(law, 0.5)[1], 6)
    -0.430138
    """
    rho, mass, lam, gram = mixture
    c = np.sqrt(1.0 - noise)
    level = float(np.sum(rho * (mass @ (lam * noise / (c**2 * lam + noise)))))
    if mixture.isotropic is None:
        return level, None
    T = c**2 * mixture.isotropic + noise
    values, vectors = np.linalg.eigh(gram.sum(axis=0))
    keep = values > 1e-12 * max(values.max(), 1e-300)
    mu = vectors[:, keep] * np.sqrt(values[keep])  # means in a basis of their span, (C, k)
    span = mu.shape[1]
    nodes, weights = tensor_hermite(span, _HERMITE[span]) if span in _HERMITE else sobol(span, 16, seed=0)
    excess = 0.0
    for k in range(len(rho)):
        y = c * mu[k] + np.sqrt(T) * nodes
        logits = np.log(np.maximum(rho, 1e-300)) + (c * y @ mu.T - 0.5 * c**2 * np.sum(mu**2, axis=1)) / T
        pi = np.exp(logits - logits.max(axis=1, keepdims=True))
        guess = pi / pi.sum(axis=1, keepdims=True) @ mu
        excess += rho[k] * np.sum(weights * (np.sum(guess**2, axis=1) - 2.0 * guess @ mu[k]))
    return level, float((noise / T) ** 2 * excess)


class Threshold(NamedTuple):
    """The weight decay above which w = 0 is the minimiser, and what destabilises it: "spike" (the clusters) or "bulk" (noise)."""

    weight_decay: float
    kind: str


def trivial_threshold(mixture: Mixture, alpha: float, noise: float, slope: float) -> Threshold:
    """Where w = 0 loses its stability, for clusters of one isotropic covariance and an activation with sigma(0) = 0.

    ``slope`` is sigma'(0). ``ValueError`` for other covariances.

    >>> law = Mixture(np.array([0.5, 0.5]), np.ones(1), np.full((1, 2), 0.1), np.array([[[1.0, -1.0], [-1.0, 1.0]]]))
    >>> found = trivial_threshold(law, 1.0, 0.02, 1.0)
    >>> round(found.weight_decay, 6), found.kind
    (0.402082, 'spike')
    """
    variance = mixture.isotropic
    if variance is None:
        raise ValueError("law must have one isotropic covariance for all clusters, got others")
    root = np.sqrt(mixture.weights)
    signal = float(np.linalg.eigvalsh(root[:, None] * mixture.gram.sum(axis=0) * root)[-1])
    c, gamma = np.sqrt(1.0 - noise), slope * np.sqrt(variance * noise)
    T = c**2 * variance + noise

    def decay(z):
        return gamma * (1.0 / z + 2.0 * alpha * z / (1.0 - z**2))

    def growth(z):
        V = z / gamma
        return alpha * signal * noise * V * (2.0 * slope * c / T + slope**2 * V) / (1.0 - z**2) - 1.0

    edge = brentq(lambda z: (1.0 - z**2) ** 2 - 2.0 * alpha * z**2 * (1.0 + z**2), 1e-9, 1.0)
    if growth(edge) <= 0.0:
        return Threshold(float(decay(edge)), "bulk")
    return Threshold(float(decay(brentq(growth, 1e-12, edge))), "spike")
