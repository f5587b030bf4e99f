"""What an online diffusion model starts from and learns: its clusters block by block, and the statistics of its initial weights."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..laws.tokens import SpectralTokens
from ..numerics import check

_RTOL = 1e-10


class Clusters(NamedTuple):
    """``prob`` (K,); ``eigenvalues`` (S, K) and ``mass`` (S,) of the blocks; ``gram`` (S, K, K) of the means; ``means`` (S, K, p)
    their coordinates in orthonormal directions of each block; ``directions`` (p', K): combinations of the means that are
    orthonormal in all (Gram and Schmidt, in the order of the clusters)."""

    prob: np.ndarray
    eigenvalues: np.ndarray
    mass: np.ndarray
    gram: np.ndarray
    means: np.ndarray
    directions: np.ndarray

    @property
    def centroids(self) -> np.ndarray:
        """The means along the directions, (K, p')."""
        return self.gram.sum(axis=0) @ self.directions.T

    @property
    def covariances(self) -> np.ndarray:
        """The clusters' covariances along the directions, (K, p', p')."""
        inside = np.einsum("pk,skl,ql->spq", self.directions, self.gram, self.directions)
        return np.einsum("sk,spq->kpq", self.eigenvalues, inside)


def clusters(law) -> Clusters:
    """The clusters of a law of one token, spectral atoms and no target; ``ValueError`` for others."""
    if not isinstance(law, SpectralTokens):
        raise ValueError(
            f"law must be a mixture whose covariances share their eigenvectors (quenched.laws.mixture), got {type(law).__name__}"
        )
    if check.traced(law.prob, law.mean, law.cov, law.spectrum.gram):
        raise ValueError("law must hold plain numbers, an online diffusion model is not differentiated")
    C, L, A = law.mean.shape
    if L != 1 or any(law.free) or law.spectrum.gram.shape[-1] != A or float(law.size) != 1.0:
        raise ValueError(f"law must have one token, no targets and no free means, got {L} tokens and "
                         f"{law.spectrum.gram.shape[-1] - A} targets")  # fmt: skip
    spectrum, mean = law.spectrum, np.asarray(law.mean[:, 0])
    gram = mean @ spectrum.gram @ mean.T
    return Clusters(
        np.asarray(law.prob), np.asarray(spectrum.eigenvalues @ law.cov[:, 0].T), np.asarray(spectrum.weights), gram,
        _coordinates(gram), _orthonormal(gram.sum(axis=0)),
    )  # fmt: skip


def _coordinates(gram) -> np.ndarray:
    """Y (S, K, p) with ``Y Y^T = gram`` in every block, p the largest rank (at least one)."""
    values, vectors = np.linalg.eigh(gram)
    values, vectors = values[:, ::-1], vectors[:, :, ::-1]
    kept = values > _RTOL * max(values.max(initial=0.0), 1e-300)
    Y = vectors * np.sqrt(np.where(kept, values, 0.0))[:, None, :]
    return Y[:, :, : max(1, int(kept.sum(axis=1).max()))]


def _orthonormal(gram) -> np.ndarray:
    """Rows D with ``D gram D^T = I``, one for each mean that is not a combination of those before it."""
    rows = []
    for unit in np.eye(len(gram)):
        for _ in range(2):
            unit = unit - sum((row @ gram @ unit * row for row in rows), np.zeros(len(gram)))
        size = unit @ gram @ unit
        if size > _RTOL * max(gram.max(), 1e-300):
            rows.append(unit / np.sqrt(size))
    return np.array(rows).reshape(-1, len(gram))


class Start(NamedTuple):
    """``m`` (S, K, r), ``q`` (S, r, r), ``b``; ``G`` (S, p, r), the overlaps with the directions of every block."""

    m: np.ndarray
    q: np.ndarray
    b: float
    G: np.ndarray


def start(initialisation, target: Clusters, units: int) -> Start:
    """The statistics at time 0, from either form of :class:`~quenched.problems.OnlineDiffusion`'s ``initialisation``."""
    if not isinstance(initialisation, dict):
        raise ValueError(f"initialisation must be a dict, got {initialisation!r}")
    given = "m" in initialisation or "q" in initialisation
    check.names("initialisation", initialisation, ("m", "q", "b") if given else ("informed", "noise", "b"))
    b = check.scalar("b", initialisation.get("b", 0.0))
    made = _measured(initialisation, target, units) if given else _informed(initialisation, target, units)
    return Start(*made[:2], b, made[2])


def _informed(initialisation, target, units):
    K = len(target.prob)
    c = np.asarray(initialisation.get("informed", 0.1))
    if c.ndim == 0:
        c = np.eye(units, K) * check.scalar("informed", c[()])
    c = check.array("informed", c, shape=(units, K))
    noise = check.nonnegative("noise", initialisation.get("noise", 0.0))
    if noise == 0.0 and not np.all(np.any(c, axis=1)):
        raise ValueError(f"initialisation must give all {units} units weights, with {K} clusters by noise > 0 or informed (r, K)")
    G = np.swapaxes(target.means, 1, 2) @ c.T
    q = np.swapaxes(G, 1, 2) @ G + noise * target.mass[:, None, None] * np.eye(units)
    return target.gram @ c.T, q, G


def _measured(initialisation, target, units):
    if "m" not in initialisation or "q" not in initialisation:
        raise ValueError(f"initialisation must have both m and q, got {', '.join(initialisation)}")
    S, K, _ = target.means.shape
    m, q = (np.asarray(initialisation[name], float) for name in ("m", "q"))
    m = check.array("m", m[None] if S == 1 and m.ndim == 2 else m, shape=(S, K, units))
    q = check.array("q", q[None] if S == 1 and q.ndim == 2 else q, shape=(S, units, units))
    G = np.linalg.pinv(target.means, rcond=1e-6) @ m
    if np.abs(target.means @ G - m).max() > 1e-6 * max(1.0, np.abs(m).max()):
        raise ValueError("m must be overlaps with the means of the law (linear where the means are), got others")
    low = np.linalg.eigvalsh(0.5 * (q + np.swapaxes(q, 1, 2)) - np.swapaxes(G, 1, 2) @ G).min()
    if low < -1e-8 * max(1.0, np.abs(q).max()) or np.abs(q - np.swapaxes(q, 1, 2)).max() > 1e-8 * max(1.0, np.abs(q).max()):
        raise ValueError(f"q must be symmetric and at least what m alone makes of it, got the eigenvalue {low:.3g} of the rest")
    return m, q, G
