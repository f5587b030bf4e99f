"""Spectra of features after a gradient step: the bulk, and the eigenvalues that stand out of it."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..laws.spiked import SpikedFeatures
from ..numerics import check
from ..numerics.blocks import form, symmetric, times
from ..numerics.density import SpectralDensity, arc_rule, runs
from ..numerics.precision import in_float64
from . import spiked_ridge

#: Heights above the real axis in units of the largest eigenvalue: the first, the last, their factor (where traces are finite at
#: zero, and where they are not).
_FIRST, _LAST, _FACTORS = 30.0, 1e-8, (0.3, 0.7)
#: A misfit below which a state counts as found.
_GOOD = 1e-6
#: Newton steps at each height, and the misfit at which they end.
_STEPS, _TOL = 12, 1e-12
#: A point of the scan belongs to the bulk where its density times x is larger.
_SEEN = 1e-5
_BALANCED = 0.97, 1.2  # samples over features between which there is a hard edge, or one close to zero
_CHUNK = 64  # points that are computed at once
_SCAN = 100  # points that look for the support, and as many again


class _State(NamedTuple):
    """Couplings (k, k) and ridges (k,) of the block covariance over a scale, and the traces of its resolvent times it.

    The scale is the power of the ridge with which nothing is singular at zero, where eigenvalues may lie.
    """

    A: jax.Array
    B: jax.Array
    g: jax.Array


def _pack(state):
    a, b = np.triu_indices(len(state.g))
    return jnp.concatenate([state.A[a, b], state.B, state.g])


@functools.partial(jax.jit, static_argnums=1)
def _unpack(x, k):
    pairs = k * (k + 1) // 2
    return _State(symmetric(x[:pairs], k), x[pairs : pairs + k], x[pairs + k :])


def _plain_state(law, state, rate, x) -> _State:
    """The state outside of the bulk, as real NumPy arrays without the scale."""
    A, B, g = (np.asarray(v) for v in _unpack(state, len(law.groups)))
    scale = _real_scale(rate, x)
    return _State(np.real(A * scale), np.real(B * scale), np.real(g / scale))


def _scales(rate, z):
    """The scale, and the ridge over it."""
    ridge = -z * rate
    scale = ridge ** _power(rate)
    return scale, ridge / scale


def _power(rate):
    """The power of the ridge that traces have near zero, with a minus: 1 at fewer samples than features, 0 at more."""
    return jnp.where(rate < _BALANCED[0], 1.0, jnp.where(rate > _BALANCED[1], 0.0, 0.5))


def _couple(law, rate, weight):
    """A and B over the scale, of the samples' weights w (C,) over it."""
    mu1, weighted = law.profile.mu1, law.prob * weight
    return rate * jnp.einsum("c,cl,cm->lm", weighted, mu1, mu1), rate * weighted @ law.profile.rest


@jax.jit
def _weights(law, scale, A, g):
    """w (C,) = 1 / (1 + V), over the scale."""
    return 1.0 / (scale + law.susceptibility(g, form(g, A, law.size * law.groups)))


def _inverse(law, ridge, A, B, g):
    """1 / g of the block covariance."""
    return ridge + B + jnp.diagonal(times(A, g, law.size * law.groups))


def _misfit(x, law, rate, scale, ridge):
    state = _unpack(x, len(law.groups))
    A, B = _couple(law, rate, _weights(law, scale, state.A, state.g))
    back = _inverse(law, ridge, state.A, state.B, state.g)
    a, b = np.triu_indices(len(state.g))
    couplings, ridges = (state.A - A)[a, b] / jnp.max(jnp.abs(A)), (state.B - B) / jnp.max(jnp.abs(B) + jnp.abs(ridge) + 1e-300)
    return jnp.concatenate([couplings, ridges, state.g * back - 1.0])


def _plain(x, law, rate, scale, ridge):
    """One step of the fixed point, half of the way: it never leaves the upper half plane."""
    state = _unpack(x, len(law.groups))
    A, B = _couple(law, rate, _weights(law, scale, state.A, state.g))
    return 0.5 * (x + _pack(_State(A, B, 1.0 / _inverse(law, ridge, A, B, state.g))))


def _solve(law, rate, z, x):
    """The state at a complex z, from one near it; and the misfit."""
    (scale, ridge), last = _scales(rate, z), len(law.groups)

    def misfit(x):
        value = _misfit(x, law, rate, scale, ridge)
        return value, value

    def body(state):
        x, _, count = state
        slope, value = jax.jacfwd(misfit, holomorphic=True, has_aux=True)(x)
        newton = x - jnp.linalg.solve(slope, value)
        there = jnp.max(jnp.abs(misfit(newton)[0]))
        # outside of the bulk the imaginary part is rounding in the end
        g = newton[-last:] / scale
        good = (there < 0.7 * jnp.max(jnp.abs(value))) & jnp.all(jnp.imag(g) > -1e-9 * jnp.abs(g))
        good = good | (there < _TOL)
        return jnp.where(good, newton, _plain(x, law, rate, scale, ridge)), jnp.where(good, there, 1.0), count + 1

    x, error, _ = jax.lax.while_loop(lambda s: (s[1] > _TOL) & (s[2] < _STEPS), body, (x, jnp.ones(()), 0))
    return x, error


def _heights(rate, scale, last):
    """From far above the axis down to ``last`` (in units of ``scale``), which comes twice."""
    factor = _FACTORS[0] if rate > _BALANCED[1] else _FACTORS[1]
    steps = int(np.ceil(np.log(_LAST / _FIRST) / np.log(factor)))
    return scale * np.append(_FIRST * factor ** np.arange(steps), [last, last])


def _descend(law, rate, x, heights):
    """The state at the real x, coming down the heights above it."""
    unit, ridge = _scales(rate, x + 1j * heights[0])
    A, B = _couple(law, rate, jnp.ones(len(law.kappa)) / unit)
    start = _pack(_State(A + 0j, B + 0j, 1.0 / (ridge + B)))

    def down(state, height):
        state, error = _solve(law, rate, x + 1j * height, state)
        return state, error

    state, errors = jax.lax.scan(down, start, heights)
    return state, errors[-1]


@jax.jit
def _chunk(law, rate, x, heights):
    return jax.vmap(lambda one: _descend(law, rate, one, heights))(x)


def _states(law, rate, x, scale, last=_LAST):
    """States (N, J) and misfits (N,) at real points, by chunks of one size: one program."""
    x = np.asarray(x, float)
    padded = np.pad(x, (0, -len(x) % _CHUNK), mode="edge").reshape(-1, _CHUNK)
    heights = _heights(rate, scale, last)
    parts = [_chunk(law, rate, part, heights) for part in padded]
    return tuple(np.concatenate(column)[: len(x)] for column in zip(*parts, strict=True))


def _look(law, rate, x, scale):
    """The density of ``Phi^T Phi / n`` at real points, and which were found."""
    state, error = _states(law, rate, x, scale)
    # the scale at the axis itself: its own height would show the atom at zero as a density
    g, good = (_unscaled(np.asarray(state), rate, np.asarray(x)[:, None])[:, -len(law.groups) :]).imag @ law.groups, error < _GOOD
    return np.where(good, np.maximum(rate * g, 0.0) / np.pi, 0.0), good


def _unscaled(g, rate, x):
    """Traces at real points without their scale."""
    return g / _real_scale(rate, x)


def _real_scale(rate, x):
    """The scale at real x, from above: the ridge -x comes from below its negative axis."""
    power = float(_power(rate))
    return np.abs(x * rate) ** power * np.where(np.asarray(x) > 0.0, np.exp(-1j * np.pi * power), 1.0)


def _top(law, rate) -> float:
    """A number above the bulk, but for what samples of |kappa| > 5 make."""
    near = np.abs(law.kappa) < 5.0
    rows = (law.profile.rest + law.profile.mu1**2 * (1.0 + np.sqrt(law.size)) ** 2)[near]
    return float(np.max(rows @ (law.groups * len(law.groups)))) * (1.0 + 1.0 / np.sqrt(rate)) ** 2


@in_float64
def feature_density(law: SpikedFeatures, alpha, points: int = 300, scan: int = _SCAN) -> SpectralDensity:
    """The bulk of the eigenvalues of ``Phi^T Phi / n`` (p, p), for n = alpha d fresh samples.

    ``points`` N in each interval of the support; ``scan``: how many points look for the intervals, equidistant in the square root,
    and as many in the logarithm down to 1e-6 of the largest. Where features grow with kappa without bound (relu), so does the
    support; it is followed as far as its density times x is above 1e-5.

    Source: Y. Dandi et al. (2024), arXiv:2410.18938.
    """
    alpha, points, scan = check.positive("alpha", alpha), check.integer("points", points, 8), check.integer("scan", scan, 32)
    rate = alpha / float(law.size)
    top = _top(law, rate)
    x, inside = _scan(law, rate, top, scan)
    edges = []
    for first, last in inside:
        low = 0.0 if first == 0 else _edge(law, rate, top, x[first], x[first - 1])
        edges.append((low, _upper_edge(law, rate, top, x, last)))
    edges = np.array(edges).reshape(-1, 2)
    at, weights = arc_rule(edges, points)
    rho, good = _look(law, rate, at.reshape(-1), top)
    return SpectralDensity(max(0.0, 1.0 - rate), edges, at, rho.reshape(at.shape), weights, int(np.sum(~good)))


def _scan(law, rate, top, scan):
    """Points up to ``top``, and the first and the last of each of the runs of them that lie in the bulk."""
    x = top * np.unique(np.concatenate([(np.arange(1, scan + 1) / scan) ** 2, np.geomspace(1e-6, 1.0, scan)]))
    rho, _ = _look(law, rate, x, top)
    return x, runs(rho * x > _SEEN)


def _upper_edge(law, rate, top, x, last) -> float:
    """The edge above the point number ``last`` of a scan, which is the last of a run."""
    return top if last == len(x) - 1 else _edge(law, rate, top, x[last], x[last + 1])


def _edge(law, rate, top, inside, outside) -> float:
    """The edge between two points, by looking at ever finer grids."""
    for _ in range(3):
        x = np.linspace(inside, outside, _CHUNK)
        rho, _ = _look(law, rate, x, top)
        out = np.flatnonzero(rho * x <= _SEEN)
        if not len(out) or out[0] == 0:
            break
        inside, outside = x[out[0] - 1], x[out[0]]
    return 0.5 * (inside + outside)


class Outlier(NamedTuple):
    """An eigenvalue outside of the bulk: its ``position``, and the squared overlaps of its eigenvector with normalised directions.

    ``constants`` (k,): the indicators of the groups (NaN for a layer without end, where they hold no eigenvalue of order one);
    ``components`` (k, T + 1): the rows' components along the spike and the other directions; ``lengths`` (k,).
    """

    position: float
    constants: np.ndarray
    components: np.ndarray
    lengths: np.ndarray


@in_float64
def outliers(law: SpikedFeatures, alpha, width=None, edge=None) -> tuple[Outlier, ...]:
    """The eigenvalues of ``Phi^T Phi / n`` above the bulk, largest first.

    - ``width``: p, on which those of the groups' means depend (they are of order p). None: the limit, where only those of order one
      are left. By default the law's own.
    - ``edge``: where the bulk ends, if known.

    Source: Y. Dandi et al. (2024), arXiv:2410.18938.
    """
    rate = check.positive("alpha", alpha) / float(law.size)
    width = law.width if width is None else check.integer("width", width)
    scale = _top(law, rate)
    if edge is None:
        x, inside = _scan(law, rate, scale, _SCAN)
        edge = _upper_edge(law, rate, scale, x, inside[-1][1])
    edge = check.positive("edge", edge)

    def parts(x):
        """D (J,) and E[w B B] (J, J) at points above the bulk."""
        x = np.atleast_1d(x)
        states, misfits = _states(law, rate, x, scale, last=1e-12)
        if not np.max(misfits) < _GOOD:
            raise ArithmeticError(f"the resolvent above the bulk is not found: relative misfit {np.max(misfits):.1g}")
        return [_channels(law, _plain_state(law, state, rate, at), width) for state, at in zip(states, x, strict=True)]

    def strengths(x):
        """Eigenvalues of the channels' couplings, descending: outliers are where one of them is 1."""
        return [np.sort(np.linalg.eigvalsh(rate * np.sqrt(np.outer(-D, -D)) * gram))[::-1] for D, gram in parts(x)]

    means = 0.0 if width is None else 4.0 * width * float(np.sum(law.prob @ (law.profile.mu0**2 * law.groups)))
    largest, start = edge + means + 9.0 * scale, edge * (1.0 + 1e-6)
    found = []
    for index in range(int(np.sum(strengths(start)[0] > 1.0))):
        low, high = start, largest
        for _ in range(5):
            x = np.geomspace(low, high, _CHUNK)
            above = np.array([s[index] > 1.0 for s in strengths(x)])
            last = int(np.max(np.flatnonzero(above), initial=0))
            low, high = x[last], x[min(last + 1, _CHUNK - 1)]
        found.append(_outlier(law, parts, rate, 0.5 * (low + high), edge, width))
    return tuple(found)


def _channels(law, state, width):
    """D and E[w B B] of the channels; in the limit of a wide layer without the constants, and orthogonal to them."""
    weighted = law.prob * np.asarray(_weights(law, 1.0, state.A, state.g))
    mu0, channels, tilts, D = law.profile.mu0, law.channels, law.tilts, law.mobility(state.g)
    gram = np.einsum("c,ci,cj->ij", weighted, channels, channels) + np.einsum("c,cis,cjs->ij", weighted, tilts, tilts)
    cross, own = (mu0.T * weighted) @ channels, (mu0.T * weighted) @ mu0
    if width is None:
        return D, gram - cross.T @ np.linalg.pinv(own, rcond=1e-12, hermitian=True) @ cross
    return np.concatenate([width * law.groups * state.g, D]), np.block([[own, cross], [cross.T, gram]])


def _outlier(law, parts, rate, x, edge, width) -> Outlier:
    """Overlaps by the residue of the channels' resolvent."""
    k, T = len(law.groups), law.spikes.response.shape[1] - 1
    step = min(1e-4 * x, 0.05 * (x - edge))

    def resolvent(D, gram):
        return np.diagonal(np.linalg.solve(np.eye(len(D)) + rate * D[:, None] * gram, np.diag(D)))

    above, below = (resolvent(*part) for part in parts([x + step, x - step]))
    norms = law.mobility(np.ones(k))
    constants = np.full(k, np.nan)
    residue = -rate * 0.5 * step * (above - below)
    if width is not None:
        constants, residue = residue[:k] / (width * law.groups), residue[k:]
    shares = np.divide(residue, norms, out=np.zeros_like(residue), where=norms > 0.0)
    return Outlier(float(x), constants, shares[: k * (T + 1)].reshape(k, T + 1), shares[k * (T + 1) :])


@in_float64
def ridge_from_spectrum(law: SpikedFeatures, alpha, weight_decay, noise=0.0):
    """Ridge regression by way of the spectrum: the resolvent of ``Phi^T Phi / n`` at z = -weight_decay p / n, then linear algebra.

    The same numbers as :func:`quenched.limit.spiked_ridge.spiked_ridge`, whose own fixed point is not used.
    """
    alpha, weight_decay = check.positive("alpha", alpha), check.positive("weight_decay", weight_decay)
    rate = alpha / float(law.size)
    state, misfit = _states(law, rate, np.array([-weight_decay / rate]), _top(law, rate), last=1e-14)
    if not np.max(misfit) < _GOOD:
        raise ArithmeticError(f"the resolvent at this weight decay is not found: relative misfit {np.max(misfit):.1g}")
    A, B, _ = _plain_state(law, state[0], rate, -weight_decay / rate)
    found = jax.jit(spiked_ridge.errors)(law, alpha, weight_decay, check.nonnegative("noise", noise), A, B)
    return jax.tree.map(np.asarray, found)
