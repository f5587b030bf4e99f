"""The law of what a trained denoiser generates, along the directions of the clusters' means."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from scipy import special

from ..numerics import check
from .diffusion_start import Clusters

#: Below this share of the spread along a direction, what is beside the weights is narrow.
_NARROW = 0.05


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Generated:
    """Generated samples X along p orthonormal directions E: ``E X = H Q^+ Z + sqrt(V) N(0, I - H Q^+ H^T)``, an exact law.

    - ``Q`` (r, r), ``H`` (p, r) = E w^T / sqrt(d), ``b``: the network; ``V``: the variance of samples along any generic direction.
    - ``Z`` (N, r): equally weighted nodes of ``w X / sqrt(d)`` at the end of the sampler; ``noise`` (N, p) standard normal nodes.
    - ``clusters``: the target, with its ``centroids`` (K, p) and ``covariances`` (K, p, p) along the same directions, which are
      the clusters' means made orthonormal one after the other.
    - ``settings``: steps, where the sampler stopped, its noise.

    >>> import quenched as qn
    >>> problem = qn.problems.OnlineDiffusion(qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]]), units=1)
    >>> made = problem.generate({"M": [[2.0], [-2.0]], "Q": [[1.0]], "b": 1.0})
    >>> made
    Generated(steps=100, stop=0.99, sampler=ODE): V = 1, b = 1, fractions nearest to the clusters 0.5, 0.5
    >>> made.mean.round(4).tolist(), made.covariance.round(4).tolist()
    ([0.0], [[20.8224]])
    """

    Q: np.ndarray
    H: np.ndarray
    b: float
    V: float
    Z: np.ndarray
    noise: np.ndarray
    clusters: Clusters
    activation: Any
    grid: Any
    settings: dict

    @functools.cached_property
    def _map(self):
        """H Q^+ (p, r), and the covariance (p, p) of what is beside the weights."""
        inverse = np.linalg.pinv(self.Q, rcond=1e-12, hermitian=True)
        return self.H @ inverse, self.V * (np.eye(len(self.H)) - self.H @ inverse @ self.H.T)

    @functools.cached_property
    def _beside(self):
        """A root (p, p) of that covariance; what is zero but for rounding is zero."""
        values, vectors = np.linalg.eigh(self._map[1])
        return (vectors * np.sqrt(np.where(values > 1e-12 * self.V, values, 0.0))) @ vectors.T

    @property
    def points(self) -> np.ndarray:
        """Equally weighted points of the law of E X, (N, p): averages over them are quasi-Monte Carlo, not random."""
        return self.Z @ self._map[0].T + self.noise @ self._beside

    @property
    def mean(self) -> np.ndarray:
        """E of E X, (p,)."""
        return self._map[0] @ self.Z.mean(axis=0)

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of E X, (p, p)."""
        return self._map[0] @ np.cov(self.Z.T, bias=True).reshape(len(self.Q), -1) @ self._map[0].T + self._map[1]

    def fractions(self, extra=()) -> np.ndarray:
        """The share of samples nearest to each centroid (K,), then to each of the ``extra`` points (n, p) along the directions.

        ``extra="antipodes"``: the negatives of the centroids that are not centroids themselves, where odd activations put samples.

        >>> import quenched as qn
        >>> problem = qn.problems.OnlineDiffusion(qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]]), units=1)
        >>> problem.generate({"M": [[2.0], [-2.0]], "Q": [[1.0]], "b": 1.0}).fractions(extra=[[0.0]]).round(3).tolist()
        [0.491, 0.491, 0.018]
        """
        c = self.clusters.centroids
        if isinstance(extra, str):
            check.choice("extra", extra, ("antipodes",))
            extra = [-x for x in c if np.abs(c + x).max(axis=1).min() > 1e-9 * np.abs(c).max()]
        anchors = np.concatenate([c, check.array("extra", extra, shape=(None, c.shape[1]))]) if len(extra) else c
        away = -2.0 * self.points @ anchors.T + np.sum(anchors**2, axis=1)
        return np.bincount(away.argmin(axis=1), minlength=len(anchors)) / len(self.Z)

    def projected_samples(self, n: int, seed: int = 0) -> np.ndarray:
        """n independent random samples of E X, (n, p).

        >>> import quenched as qn
        >>> problem = qn.problems.OnlineDiffusion(qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]]), units=1)
        >>> problem.generate({"M": [[2.0], [-2.0]], "Q": [[1.0]], "b": 1.0}).projected_samples(1000).shape
        (1000, 1)
        """
        from ..limit.diffusion_sampling import generate

        n, seed = check.integer("n", n), check.integer("seed", seed, 0)
        rng = np.random.default_rng(seed)
        rows = 2 * n if np.any(self.grid.epsilon) else n  # the noise of the second half is minus that of the first
        Z, _ = generate(self.activation, self.Q, self.b, rng.standard_normal((rows, len(self.Q))) @ root(self.Q), self.grid, seed)
        return Z[:n] @ self._map[0].T + rng.standard_normal((n, len(self.H))) @ self._beside

    def projected_density(self, points) -> np.ndarray:
        """The density of E X at ``points`` (..., p).

        Where the part beside the weights is wide, a normal mixture with one term a node. Where it is narrow and the sampler has no
        noise, the change of volume along the sampler's steps, which needs as many units as directions; what is beside the weights
        is then averaged over 16 nodes. ``ValueError`` otherwise: there the density is (nearly) singular, and a histogram of
        ``points`` says more.

        >>> import quenched as qn
        >>> problem = qn.problems.OnlineDiffusion(qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]]), units=1)
        >>> made = problem.generate({"M": [[2.0], [-2.0]], "Q": [[1.0]], "b": 1.0})
        >>> x = np.linspace(-8.0, 8.0, 801)[:, None]
        >>> round(float(made.projected_density(x).sum() * 0.02), 4)
        0.9999
        """
        points = check.array("points", points)
        if points.shape[-1:] != (len(self.H),):
            raise ValueError(f"points must have {len(self.H)} coordinates in the last axis, got the shape {points.shape}")
        flat, (linear, covariance) = points.reshape(-1, len(self.H)), self._map
        spread = np.sqrt(np.diagonal(self.covariance))
        if np.sqrt(max(np.linalg.eigvalsh(covariance).min(), 0.0)) > _NARROW * spread.min():
            found = _mixture_density(flat, self.Z @ linear.T, covariance)
        elif len(self.Q) == len(self.H) and np.linalg.cond(linear) < 1e8 and not np.any(self.grid.epsilon):
            from ..limit.diffusion_sampling import log_density

            inverse = np.linalg.inv(linear)
            shifts = self.noise[:16] @ self._beside if np.any(self._beside) else np.zeros((1, len(self.H)))
            found = np.mean(
                [np.exp(log_density(self.activation, self.Q, self.b, self.grid, (flat - shift) @ inverse.T)) for shift in shifts],
                axis=0
            ) * abs(np.linalg.det(inverse))  # fmt: skip
        else:
            raise ValueError("points must be of a law with a density, got one that is nearly singular: use a histogram of samples")
        return found.reshape(points.shape[:-1])

    def target_density(self, points) -> np.ndarray:
        """The target's density along the directions at ``points`` (..., p).

        >>> import quenched as qn
        >>> problem = qn.problems.OnlineDiffusion(qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]]), units=1)
        >>> made = problem.generate({"M": [[2.0], [-2.0]], "Q": [[1.0]], "b": 1.0})
        >>> round(float(made.target_density([[2.0]])[0]), 6)  # half a normal density at its mean, and the tail of the other
        0.199538
        """
        c, points = self.clusters, check.array("points", points)
        flat = points.reshape(-1, len(self.H))
        parts = zip(c.prob, c.centroids, c.covariances, strict=True)
        found = sum(p * _mixture_density(flat, mean[None], S) for p, mean, S in parts)
        return found.reshape(points.shape[:-1])

    def wasserstein(self) -> np.ndarray:
        """W_1 between the marginals of samples and target along each of the directions, (p,), in units of the data.

        >>> import quenched as qn
        >>> problem = qn.problems.OnlineDiffusion(qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]]), units=1)
        >>> problem.generate({"M": [[2.0], [-2.0]], "Q": [[1.0]], "b": 1.0}).wasserstein().round(3).tolist()
        [2.375]
        """
        c, found = self.clusters, []
        for axis, column in enumerate(self.points.T):
            mean, std = c.centroids[:, axis], np.sqrt(c.covariances[:, axis, axis])
            x = np.sort(column)
            grid = np.linspace(min(x[0], (mean - 8 * std).min()), max(x[-1], (mean + 8 * std).max()), 8001)
            middle = 0.5 * (grid[1:] + grid[:-1])
            theirs = special.ndtr((middle[:, None] - mean) / np.maximum(std, 1e-300)) @ c.prob
            found.append(np.sum(np.abs(np.searchsorted(x, middle) / len(x) - theirs)) * (grid[1] - grid[0]))
        return np.array(found)

    def plot(self, ax=None, trials=None, bins: int = 80):
        """The law as a histogram: over two directions where there are two or more, else over the only one; returns the Axes.

        Crosses are the centroids; ``trials`` with ``samples`` are scattered on top.

        >>> import matplotlib.pyplot as plt, quenched as qn
        >>> problem = qn.problems.OnlineDiffusion(qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]]), units=1)
        >>> ax = problem.generate({"M": [[2.0], [-2.0]], "Q": [[1.0]], "b": 1.0}).plot()
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['generated', 'target']
        >>> plt.close(ax.figure)
        """
        from .. import plotting

        ax, points, c = plotting.axes(ax), self.points, self.clusters.centroids
        if points.shape[1] == 1:
            ax.hist(points[:, 0], bins, density=True, color=plotting.COLOURS[4], label="generated")
            x = np.linspace(*ax.get_xlim(), 300)
            ax.plot(x, self.target_density(x[:, None]), color="0.2", label="target")
            if trials is not None:
                x = trials["samples"].values[..., 0].ravel()
                ax.hist(x, bins, density=True, histtype="step", color=plotting.COLOURS[1], label="simulation")
            ax.legend()
        else:
            counts, *edges = np.histogram2d(points[:, 0], points[:, 1], bins)
            shown = np.log10(np.maximum(counts.T, 1e-9))
            ax.pcolormesh(*edges, shown, cmap="Blues", vmin=-1.0, vmax=shown.max(), rasterized=True)
            if trials is not None:
                x = trials["samples"].values.reshape(-1, points.shape[1])[:600]
                ax.plot(x[:, 0], x[:, 1], ".", ms=2, color=plotting.COLOURS[1])
            ax.plot(c[:, 0], c[:, 1], "+", ms=12, mew=2, color="0.1")
            ax.set_ylabel("$x_2$")
        ax.set_xlabel("$x_1$")
        return ax

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        fractions = ", ".join(f"{value:.4g}" for value in self.fractions())
        return f"Generated({settings}): V = {self.V:.6g}, b = {self.b:.6g}, fractions nearest to the clusters {fractions}"


def root(Q) -> np.ndarray:
    """The symmetric root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(Q)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def _mixture_density(points, centres, covariance) -> np.ndarray:
    """The mean over the centres (N, p) of normal densities at the points (n, p)."""
    root = np.linalg.cholesky(covariance)
    x, y = np.linalg.solve(root, points.T).T, np.linalg.solve(root, centres.T).T
    log = -np.log(np.diagonal(root)).sum() - 0.5 * x.shape[1] * np.log(2.0 * np.pi)
    rows = max(1, (1 << 22) // len(y))
    found = np.empty(len(x))
    for first in range(0, len(x), rows):
        part = x[first : first + rows]
        square = np.sum(part**2, axis=1)[:, None] - 2.0 * part @ y.T + np.sum(y**2, axis=1)
        found[first : first + rows] = np.exp(log - 0.5 * square).mean(axis=1)
    return found
