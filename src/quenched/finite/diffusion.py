"""The experiment of a diffusion model learnt by one-pass SGD: actual steps in dimension d, actual samples, actual retraining.

Every step takes a fresh pair (x_1, x_0) of data and noise. Gradients are JAX's, of the loss as it is written.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..laws.sampling import round_atoms
from ..numerics import check
from ..numerics.precision import float64
from ..numerics.programs import make_room
from .simulate import repeated, seed_list
from .trials import CONVERGED, Trials

_CHUNK = 128  # steps of one compiled call
_ENTRIES = 1 << 21  # numbers of generated samples held at once


class Training(NamedTuple):
    """What defines the SGD: ``alpha``, ``beta``, ``weights`` (A,) of the times, whether a step sums over them, and the rates."""

    activation: Callable
    alpha: np.ndarray
    beta: np.ndarray
    weights: np.ndarray
    summed: bool
    learning_rate: float
    skip_learning_rate: float
    weight_decay: float


class Sampler(NamedTuple):
    """Euler steps of 1/``steps`` at the times 0, 1/``steps``, ..., ``taken`` of them; ``diffusion``: epsilon(t), or None."""

    schedule: Callable
    steps: int
    taken: int
    diffusion: Callable | None = None


class Mixture(NamedTuple):
    """A mixture in dimension d, in the coordinates of its eigenbasis: ``prob`` (K,), ``means``, ``std`` (K, d), ``block`` (d,)."""

    prob: np.ndarray
    means: np.ndarray
    std: np.ndarray
    block: np.ndarray

    def sample(self, rng, n: int) -> np.ndarray:
        """n fresh points (n, d)."""
        cluster = rng.choice(len(self.prob), n, p=self.prob)
        return self.means[cluster] + self.std[cluster] * rng.standard_normal((n, self.means.shape[1]))


class Network(NamedTuple):
    """``w`` (r, d) and ``b``: the denoiser b x + sum_j w_j sigma(w_j.x / sqrt(d)) / sqrt(d)."""

    w: np.ndarray
    b: float


def mixture(law, seed, dim: int) -> Mixture:
    """The clusters of a law in dimension ``dim``: means of the law's exact Gram matrix, blocks of its shares of the coordinates."""
    population = law.population(seed, dim)
    labels = population.labels
    order, counts = round_atoms(law.spectrum, dim)
    return Mixture(
        np.asarray(labels.prob), labels.mean[:, 0] @ population.means,
        np.sqrt(np.maximum(labels.cov[:, 0] @ population.covariances, 0.0)), np.repeat(order, counts),
    )  # fmt: skip


def initial_weights(rng, data: Mixture, m, q) -> np.ndarray:
    """Weights (r, d) whose overlaps with the means and Gram matrices are exactly m (S, K, r) and q (S, r, r), block by block.

    What m does not say is random, orthogonal to the means. ``ValueError`` where a block has too few coordinates for that.
    """
    r, d = q.shape[-1], data.means.shape[1]
    w = np.zeros((r, d))
    for s, (overlap, gram) in enumerate(zip(m, q, strict=True)):
        inside = data.block == s
        u, size, e = np.linalg.svd(data.means[:, inside], full_matrices=False)
        kept = size > 1e-7 * max(size.max(initial=0.0), 1e-300)
        e, u, size = e[kept], u[:, kept], size[kept]
        G = (u / size).T @ overlap
        missed = np.abs(data.means[:, inside] @ (e.T @ G) - overlap).max(initial=0.0)
        values, vectors = np.linalg.eigh(gram - G.T @ G)
        rank = int(np.sum(values > 1e-12 * max(values.max(initial=0.0), 1e-300)))
        if missed > 1e-6 * max(1.0, np.abs(overlap).max()) or len(e) + rank > inside.sum():
            raise ValueError(
                f"dim must give block {s} of the spectrum coordinates for its {data.means.shape[0]} means and {r} units, got {d}"
            )
        basis = np.linalg.qr(np.concatenate([e.T, rng.standard_normal((inside.sum(), rank))], axis=1))[0][:, len(e) :]
        rest = (vectors * np.sqrt(np.maximum(values, 0.0)))[:, len(values) - rank :] @ basis.T
        w[:, inside] = np.sqrt(d) * (G.T @ e + rest)
    return w


def denoise(activation, w, b, x):
    """The denoiser at x (..., d)."""
    root = jnp.sqrt(x.shape[-1])
    return b * x + activation(x @ w.T / root) @ w / root


@functools.partial(jax.jit, static_argnums=(0, 1))
def _steps(activation, summed, w, b, x1, x0, which, active, rates):
    """One pass over the rows of x1, x0 (n, d); rows that are not ``active`` are left out."""
    alpha, beta, weights, eta, eta_b, decay = rates
    d = w.shape[1]

    def one(w, b, x1, x0, alpha, beta):
        return 0.5 * jnp.sum((x1 - denoise(activation, w, b, alpha * x0 + beta * x1)) ** 2)

    def loss(w, b, x1, x0, which):
        if summed:
            return jnp.sum(weights * jax.vmap(lambda s, c: one(w, b, x1, x0, s, c))(alpha, beta))
        return one(w, b, x1, x0, alpha[which], beta[which])

    def step(network, row):
        w, b = network
        *data, on = row
        dw, db = jax.grad(loss, (0, 1))(w, b, *data)
        new = w - eta * dw - eta * decay / d * w, b - eta_b / d**2 * db
        return jax.tree.map(lambda n, o: jnp.where(on, n, o), new, network), None

    return jax.lax.scan(step, (w, b), (x1, x0, which, active))[0]


def train(rng, training: Training, source, network: Network, at) -> list[Network]:
    """The network after each of the numbers ``at`` of steps (increasing), on fresh points of ``source(rng, n)``."""
    d = network.w.shape[1]
    rates = (training.alpha, training.beta, training.weights, training.learning_rate, training.skip_learning_rate,
             training.weight_decay)
    p = training.weights / training.weights.sum()
    found, done = [], 0
    with float64(True):
        rates, (w, b) = jax.tree.map(lambda x: jnp.asarray(x, float), (rates, tuple(network)))
        for stop in at:
            while done < stop:
                n = min(_CHUNK, stop - done)
                x1, x0 = np.zeros((2, _CHUNK, d))
                x1[:n], x0[:n] = source(rng, n), rng.standard_normal((n, d))
                which = rng.choice(len(p), _CHUNK, p=p)
                w, b = _steps(training.activation, training.summed, w, b, x1, x0, which, np.arange(_CHUNK) < n, rates)
                done += n
            found.append(Network(np.asarray(w), float(b)))
    return found


def sample(rng, activation, network: Network, sampler: Sampler, n: int) -> np.ndarray:
    """n samples (n, d) of the network, by Euler steps from noise."""
    d = network.w.shape[1]
    t = np.arange(sampler.taken) / sampler.steps
    point = sampler.schedule(t)
    drift, gain, epsilon = point.linear, point.gain, np.zeros_like(t)
    if sampler.diffusion is not None:  # the score is (beta f - x) / alpha^2
        epsilon = np.array([float(sampler.diffusion(s)) for s in t])
        drift, gain = drift - epsilon / point.alpha**2, gain + epsilon * point.beta / point.alpha**2
    x, dt = rng.standard_normal((n, d)), 1.0 / sampler.steps
    with float64(True):
        if not np.any(epsilon):
            return np.asarray(_ode(activation, jnp.asarray(network.w), network.b, jnp.asarray(x), drift, gain, dt))
        for lin, g, e in zip(drift, gain, epsilon, strict=True):
            noise = np.sqrt(2.0 * e * dt) * rng.standard_normal((n, d))
            x = np.asarray(_ode(activation, jnp.asarray(network.w), network.b, jnp.asarray(x), [lin], [g], dt)) + noise
    return x


@functools.partial(jax.jit, static_argnums=0)
def _ode(activation, w, b, x, drift, gain, dt):
    def step(x, at):
        return x + dt * (at[0] * x + at[1] * denoise(activation, w, b, x)), None

    return jax.lax.scan(step, x, (jnp.asarray(drift, float), jnp.asarray(gain, float)))[0]


def in_batches(rng, activation, network: Network, sampler: Sampler, n: int):
    """The same samples, some at a time."""
    size = max(1, _ENTRIES // network.w.shape[1])
    for first in range(0, n, size):
        yield sample(rng, activation, network, sampler, min(size, n - first))


def statistics(data: Mixture, network: Network) -> dict:
    """m (S, K, r) and q (S, r, r) block by block, their sums M and Q, and b."""
    w, d = network.w, network.w.shape[1]
    blocks = range(data.block.max() + 1)
    m = np.stack([data.means[:, data.block == s] @ w[:, data.block == s].T for s in blocks]) / np.sqrt(d)
    q = np.stack([w[:, data.block == s] @ w[:, data.block == s].T for s in blocks]) / d
    return {"m": m, "q": q, "b": np.float64(network.b), "M": m.sum(0), "Q": q.sum(0)}


def generated(rng, data: Mixture, directions, training: Training, network: Network, sampler: Sampler, n: int) -> dict:
    """n samples along ``directions`` (p, K), which combine the means to orthonormal ones: ``samples`` (n, p), their ``covariance``,
    the ``fractions`` (K,) nearest to each mean, and the variance ``V`` along all that is orthogonal to means and weights."""
    axes = directions @ data.means
    basis = np.linalg.qr(np.concatenate([data.means, network.w]).T)[0]  # orthonormal, of at least what they span
    rows, squares = [], 0.0
    for x in in_batches(rng, training.activation, network, sampler, n):
        rows.append(x @ axes.T)
        squares += np.sum(x**2) - np.sum((x @ basis) ** 2)
    samples = np.concatenate(rows)
    distance = np.sum((samples[:, None] - data.means @ axes.T) ** 2, axis=-1)
    fractions = np.bincount(distance.argmin(1), minlength=len(data.prob)) / n
    V = squares / (n * (basis.shape[0] - basis.shape[1]))
    return {"samples": samples, "covariance": np.cov(samples.T).reshape(len(axes), -1), "fractions": fractions, "V": V}


def simulate(
    law, training: Training, start, directions, *, dim: int, seeds=8, times=(1.0,), samples: int = 0,
    sampler: Sampler | None = None, generations: int = 0, n_jobs: int = 1, progress=None, settings=None,
) -> Trials:  # fmt: skip
    """Every seed's own clusters, initial weights of the statistics ``start`` (m, q, b), round(time dim) steps, and samples.

    Per seed: ``m``, ``q``, ``b``, ``M``, ``Q``, leading axis the ``times``; with ``samples`` what :func:`generated` says of so
    many, from the network at the last time. With ``generations`` = g > 0 the network is trained anew g times, from fresh initial
    weights, on fresh samples of its predecessor; then the leading axis is the generation, 0..g, always at the last time.
    """
    make_room()
    d, seeds, times = check.integer("dim", dim, 2), seed_list(seeds), np.asarray(times, float)
    at = [round(t * d) for t in times]

    def one(seed):
        clock = time.perf_counter()
        rng = np.random.default_rng((0xD1FF, *(seed if isinstance(seed, tuple) else (seed,))))
        data, rows = mixture(law, seed, d), []
        source = data.sample
        for _ in range(generations + 1):
            network = Network(initial_weights(rng, data, start[0], start[1]), float(start[2]))
            path = train(rng, training, source, network, at[-1:] if generations else at)
            source = functools.partial(_of_network, training.activation, path[-1], sampler)
            rows += [statistics(data, trained) for trained in path]
            if samples and generations:
                rows[-1] |= generated(rng, data, directions, training, path[-1], sampler, samples)
        found = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        if samples and not generations:
            found |= generated(rng, data, directions, training, path[-1], sampler, samples)
        finite = all(np.isfinite(value).all() for value in found.values())
        status = CONVERGED if finite else "not converged: the weights are not finite (the learning rate is too large)"
        return found, status, 0.0, time.perf_counter() - clock

    return repeated(one, seeds, n_jobs, progress, d, max(at), settings)


def _of_network(activation, network, sampler, rng, n):
    return sample(rng, activation, network, sampler, n)
