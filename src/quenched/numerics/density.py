"""Spectral densities: the eigenvalues of sample covariances, and of covariances that layers of random weights make."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from . import check
from .precision import in_float64
from .resolvent import Chain

_STEPS = 8  # Newton steps at each height above the real axis
_FIRST, _LAST, _FACTOR = 30.0, 1e-7, 0.5  # heights, in units of the largest eigenvalue
_CHUNK = 1 << 21  # complex numbers of one batch


def _zeta(chain, kappa, guess, aspect):
    last, freedom, _, trace = chain.forward(kappa, guess)
    return last * (1.0 - aspect * freedom), (freedom, trace)


def _newton(chain, aspect, zeta, kappa, trace):
    """``_STEPS`` Newton steps for the kappa_0 that has this complex zeta; the trace of all kappa_l goes along."""

    def body(_, state):
        kappa, trace = state
        (value, (_, trace)), (slope, (_, moved)) = jax.jvp(
            lambda k: _zeta(chain, k, jax.lax.stop_gradient(trace), aspect), (kappa,), (jnp.ones_like(kappa),)
        )
        step = (zeta - value) / slope
        step = step * jnp.minimum(1.0, jnp.abs(kappa) / jnp.maximum(jnp.abs(step), 1e-300))
        return kappa + step, trace + step * moved

    return jax.lax.fori_loop(0, _STEPS, body, (kappa, trace))


def _descend(chain, aspect, z, scale):
    """s(z) with the effective ridges that belong to it, coming down from far above the real axis."""
    heights = scale * _FIRST * _FACTOR ** jnp.arange(int(np.ceil(np.log(_LAST / _FIRST) / np.log(_FACTOR))))

    def above(height):
        return -(jnp.real(z) + 1j * jnp.maximum(height, jnp.imag(z)))

    trace = [above(heights[0])]
    for layer in reversed(chain.layers):
        gain = layer.ratio * jnp.sum(layer.prob * layer.slope2) * jnp.sum(layer.weights * layer.rows)
        trace.append(trace[-1] / gain)
    trace = jnp.stack(trace[::-1])

    def down(state, height):
        return _newton(chain, aspect, above(height), *state), None

    state, _ = jax.lax.scan(down, (trace[0], trace), heights)
    kappa, trace = _newton(chain, aspect, -z, *state)
    value, (freedom, trace) = _zeta(chain, kappa, trace, aspect)
    error = jnp.abs(value + z) / (jnp.abs(z) + 1e-3 * scale)
    return (1.0 - freedom) / -z, trace, error


@jax.jit
def _transforms(chain, aspect, z, scale):
    batch = max(1, _CHUNK // (4 * chain.weights.shape[0]))
    return jax.lax.map(lambda one: _descend(chain, aspect, one, scale), z, batch_size=min(batch, z.shape[0]))


@in_float64
def stieltjes(chain: Chain, aspect, z) -> np.ndarray:
    """The Stieltjes transform ``s(z) = tr (Sigma - z)^-1 / p`` of the sample covariance of n rows of p features.

    - ``chain``: the features' :class:`~quenched.numerics.resolvent.Chain`; ``aspect`` = p / n >= 0, 0 for the covariance itself.
    - ``z``: complex, any shape, imaginary part >= 0: on the real axis the limit from above.

    NaN where the iteration did not arrive; zero is refused, since s is infinite there unless all eigenvalues are away from it.
    Source: J. Silverstein (1995).

    >>> isotropic = Chain([1.0], [1.0], [0.0])
    >>> complex(stieltjes(isotropic, 0.5, -1.0)).real.__round__(9)  # (sqrt(17) - 3) / 2
    0.561552813
    """
    z = np.asarray(z, dtype=np.complex128)
    if np.any(z.imag < 0.0) or not np.all(np.isfinite(z)):
        raise ValueError("z must be finite with an imaginary part of at least 0: s(conj z) = conj s(z)")
    if np.any(z == 0.0):
        raise ValueError("z must not be 0, where s may be infinite: take a small negative number")
    aspect = check.nonnegative("aspect", aspect)
    top = np.float64(_top(chain, aspect))
    s, _, error = (np.asarray(a) for a in _transforms(chain, np.float64(aspect), z.reshape(-1), top))
    return np.where(error < 1e-8, s, np.nan).reshape(z.shape)


def _top(chain: Chain, aspect) -> float:
    """A number above all eigenvalues."""
    top = float(np.max(chain.eigenvalues))
    for layer in chain.layers:
        rows = float(np.max(layer.rows))
        top = rows * (float(np.max(layer.slope2)) * top * (1.0 + np.sqrt(layer.ratio)) ** 2 + float(np.max(layer.noise)))
    return top * (1.0 + np.sqrt(aspect)) ** 2


def _rank(chain: Chain, aspect) -> float:
    """The fraction of eigenvalues that are not zero."""
    rank = float(np.sum(chain.weights[np.asarray(chain.eigenvalues) > 0.0]))
    for layer in chain.layers:
        rank = 1.0 if np.min(layer.noise) > 0.0 else min(1.0, rank / float(layer.ratio))
        rank = min(rank, float(np.sum(np.asarray(layer.weights)[np.asarray(layer.rows) > 0.0])))
    return min(rank, 1.0 / aspect) if aspect > 0.0 else rank


@dataclasses.dataclass(frozen=True)
class SpectralDensity:
    """The limit of an empirical spectrum: a mass at zero and a continuous part on intervals.

    - ``atom``: mass at zero; ``edges`` (I, 2): the intervals of the continuous part; ``x`` (I, N) points in them, ``density``
      (I, N) there, per eigenvalue (p eigenvalues have total mass one); ``weights`` (I, N): a rule for integrals,
      ``sum weights density f(x)``.
    - ``unresolved``: how many of the points were not found (they count as zero).
    """

    atom: float
    edges: np.ndarray
    x: np.ndarray
    density: np.ndarray
    weights: np.ndarray
    unresolved: int

    @property
    def mass(self) -> float:
        """The total mass, 1 up to the error of the rule."""
        return float(self.atom + np.sum(self.weights * self.density))

    def cdf(self, x) -> np.ndarray:
        """The fraction of eigenvalues up to ``x`` (any shape)."""
        x = np.asarray(x, dtype=np.float64)
        total = np.where(x >= 0.0, self.atom, 0.0)
        for (low, high), at, rho, w in zip(self.edges, self.x, self.density, self.weights, strict=True):
            # in the angle of the rule the points are equidistant, and each weight is the mass around its point
            step = np.pi / len(at)
            (a, b), at_x = _scaled(np.array([low, high]), low), _scaled(np.maximum(x, low), low)
            angle = np.arccos(np.clip(1.0 - 2.0 * (at_x - a) / (b - a), -1.0, 1.0))
            ends = np.concatenate([[0.0], np.cumsum(w * rho)])
            total = total + np.interp(angle, step * np.arange(len(at) + 1), ends)
        return total

    def distance(self, eigenvalues) -> float:
        """The Kolmogorov-Smirnov distance to a sample of eigenvalues (p,): the largest difference of the two cdfs.

        Eigenvalues below 1e-9 of the largest count as zeros.
        """
        values = np.sort(check.array("eigenvalues", eigenvalues, ndim=1))
        values = np.where(values < 1e-9 * values[-1], 0.0, values)
        limit, count = self.cdf(values), np.arange(len(values) + 1) / len(values)
        above = np.abs(count[1:] - limit)
        below = np.where(values > 0.0, np.abs(count[:-1] - limit), 0.0)
        return float(max(above[np.append(values[1:] > values[:-1], True)].max(), below.max()))


def _scaled(x, low):
    """The variable in which the points of an interval from ``low`` lie: the logarithm, or x itself where it begins at zero."""
    return np.log(x) if low > 0.0 else x


@in_float64
def spectral_density(chain: Chain, aspect=0.0, *, points: int = 256, scan: int = 600) -> SpectralDensity:
    """The density of eigenvalues of the sample covariance of n rows of p features, or of the covariance itself.

    - ``chain``: the features' :class:`~quenched.numerics.resolvent.Chain`; ``aspect`` = p / n >= 0: 0 for the covariance
      itself, which has a density where there are layers.
    - ``points`` N in every interval; ``scan``: how many points look for the intervals, equidistant in the square root of x, and as
      many in its logarithm down to 1e-9 of the largest (gaps that are narrower than that are not seen).

    Where neurons differ (biases), the few that are saturated make narrow peaks near zero, the last of which are not resolved: they
    hold some 1e-4 of the mass, and ``mass`` says so.

    Edges are points where the map from effective ridges to zeta turns. Source: Z. Bai and J. Silverstein (1998); the layers as
    in :mod:`quenched.numerics.resolvent`.

    >>> law = spectral_density(Chain([1.0], [1.0], [0.0]), 0.25)  # Marchenko and Pastur
    >>> law.edges.round(9).tolist(), round(law.mass, 9)
    ([[0.25, 2.25]], 1.0)
    """
    aspect = check.nonnegative("aspect", aspect)
    points, scan = check.integer("points", points, 8), check.integer("scan", scan, 32)
    if aspect == 0.0 and not chain.layers:
        raise ValueError("aspect must be positive where there are no layers, got 0: the spectrum is a list of numbers")
    top, a = np.float64(_top(chain, aspect)), np.float64(aspect)

    def look(x):
        s, trace, error = (np.asarray(v) for v in _transforms(chain, a, x.astype(np.complex128), top))
        good = error < 1e-7
        return np.where(good, np.maximum(s.imag, 0.0) / np.pi, 0.0), trace, good

    x = top * np.unique(np.concatenate([(np.arange(1, scan + 1) / scan) ** 2, np.geomspace(1e-9, 1.0, scan)]))
    rho, trace, _ = look(x)
    inside = rho * x > 1e-6
    edges = []
    for first, last in runs(inside):
        low = 0.0 if first == 0 else _edge(chain, a, trace[first - 1], x[first - 1], x[first])
        high = top if last == len(x) - 1 else _edge(chain, a, trace[last + 1], x[last], x[last + 1])
        edges.append((low, high))
    if edges and edges[0][0] == 0.0:
        edges[0] = (_first_edge(chain, a, x[0], top), edges[0][1])
    edges = np.array(edges).reshape(-1, 2)
    at, weights = arc_rule(edges, points)
    rho, _, good = look(at.reshape(-1))
    return SpectralDensity(1.0 - _rank(chain, aspect), edges, at, rho.reshape(at.shape), weights, int(np.sum(~good)))


def arc_rule(edges, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights (I, N) for integrals over the intervals ``edges`` (I, 2), of functions with square-root edges.

    >>> x, weights = arc_rule(np.array([[1.0, 3.0]]), 40)
    >>> round(float(np.sum(weights * np.sqrt((x - 1.0) * (3.0 - x)))), 3)  # half a circle
    1.571
    """
    angle = np.pi * (np.arange(points) + 0.5) / points
    # square-root edges are smooth in the angle, and orders of magnitude are resolved in the logarithm
    ends = [_scaled(row, row[0]) for row in edges]
    middle, half = (np.array([f * (b + s * a) for a, b in ends]).reshape(-1, 1) for f, s in ((0.5, 1.0), (0.5, -1.0)))
    at, slope = middle - half * np.cos(angle), half * np.sin(angle) * np.pi / points
    log = edges[:, :1] > 0.0
    at = np.where(log, np.exp(np.where(log, at, 0.0)), at)
    return at, np.where(log, at, 1.0) * slope


def runs(inside) -> list[tuple[int, int]]:
    """First and last index of each run of True."""
    change = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    return [(int(a), int(b) - 1) for a, b in change.reshape(-1, 2)]


@jax.jit
def _turn(chain, aspect, trace):
    """The real point near ``trace[0]`` where zeta(kappa_0) turns, by Newton's method; returns x = -zeta there."""

    def slope(kappa, trace):
        return jax.jvp(lambda k: _zeta(chain, k, trace, aspect)[0], (kappa,), (jnp.ones_like(kappa),))[1]

    def body(_, state):
        kappa, trace = state
        value, bend = jax.jvp(lambda k: slope(k, trace), (kappa,), (jnp.ones_like(kappa),))
        step = -value / bend
        step = step * jnp.minimum(1.0, 0.3 * jnp.abs(kappa) / jnp.maximum(jnp.abs(step), 1e-300))
        kappa = kappa + step
        return kappa, _zeta(chain, kappa, trace, aspect)[1][1]

    kappa, trace = jax.lax.fori_loop(0, 60, body, (jnp.real(trace[0]) + 0j, jnp.real(trace) + 0j))
    value, bend = jax.jvp(lambda k: slope(k, trace), (kappa,), (jnp.ones_like(kappa),))
    return -jnp.real(_zeta(chain, kappa, trace, aspect)[0]), jnp.abs(value / (bend * kappa))


def _edge(chain, aspect, trace, low, high) -> float:
    """The edge between two points of the scan, from the effective ridges outside."""
    x, error = (float(v) for v in _turn(chain, aspect, trace))
    if error < 1e-9 and low - 1e-9 * high <= x <= high * (1.0 + 1e-9):
        return x
    return _bisected(chain, aspect, low, high)


def _bisected(chain, aspect, low, high, steps: int = 12) -> float:
    """The edge between a point inside and one outside (in either order), by looking at ever finer grids."""
    top = np.float64(_top(chain, aspect))
    for _ in range(steps):
        x = np.linspace(low, high, 9)
        s, _, error = (np.asarray(v) for v in _transforms(chain, aspect, x.astype(np.complex128), top))
        inside = (s.imag * x > 1e-6 * np.pi) & (error < 1e-7)
        change = np.flatnonzero(inside[1:] != inside[:-1])
        if not len(change):
            break
        low, high = x[change[0]], x[change[0] + 1]
    return 0.5 * (low + high)


def _first_edge(chain, aspect, below, top) -> float:
    """The lower edge of an interval that begins before the first point of the scan: 0, or a small number."""
    x = below * 0.5 ** np.arange(40.0)
    s, trace, error = (np.asarray(v) for v in _transforms(chain, aspect, x.astype(np.complex128), np.float64(top)))
    outside = np.flatnonzero(~((s.imag * x > 1e-9) & (error < 1e-7)))
    if not len(outside) or outside[0] == 0:
        return 0.0
    return _edge(chain, aspect, trace[outside[0]], x[outside[0]], x[outside[0] - 1])
