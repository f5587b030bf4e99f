"""The denoising autoencoder as it is: its weights and its skip connection trained on noisy samples.

Source: H. Cui, L. Zdeborova (2023), arXiv:2305.11041.
"""

from __future__ import annotations

import math
import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from quenched.finite.data import sample_size, stream
from quenched.finite.descent import descend
from quenched.finite.observe import order_parameters
from quenched.finite.result import Minimiser, Restart, Status
from quenched.finite.simulate import repeated, seed_list
from quenched.finite.trials import Trials
from quenched.laws.base import Population
from quenched.numerics import check
from quenched.numerics.precision import float64
from quenched.numerics.programs import make_room

_NODES = 801


class Pairs(NamedTuple):
    """Clean inputs (n, d) and what became of them (n, d)."""

    clean: np.ndarray
    noisy: np.ndarray


class Freedom(NamedTuple):
    """What is not data: ``activation``, ``units``, and whether b is trained (it then moves in steps of ``1/unit``)."""

    activation: object
    units: int
    trained: bool
    unit: float


def answer(activation, w, b, noisy):
    """The network: ``b y + w activation(w^T y/sqrt(d))/sqrt(d)`` for the rows y of ``noisy`` (n, d)."""
    root = math.sqrt(noisy.shape[1])
    return b * noisy + activation(noisy @ w / root) @ w.T / root


@partial(jax.jit, static_argnames=("freedom",))
def _value_and_grad(freedom, z, base, pairs, weight_decay):
    return jax.value_and_grad(_risk, argnums=1)(freedom, z, base, pairs, weight_decay)


@partial(jax.jit, static_argnames=("freedom",))
def _hessian_product(freedom, z, v, base, pairs, weight_decay):
    return jax.jvp(lambda u: jax.grad(_risk, argnums=1)(freedom, u, base, pairs, weight_decay), (z,), (v,))[1]


def _risk(freedom, z, base, pairs, weight_decay):
    size = pairs.clean.shape[1] * freedom.units
    w = z[:size].reshape(-1, freedom.units)
    b = base + z[size] / freedom.unit if freedom.trained else base
    away = pairs.clean - answer(freedom.activation, w, b, pairs.noisy)
    return 0.5 * jnp.sum(away**2) + 0.5 * weight_decay * jnp.sum(w**2)


class Reconstruction:
    """The risk ``sum 1/2 |x - f(y)|^2 + weight_decay/2 |w|^2`` of one sample, as :func:`quenched.finite.descent.descend` takes it.

    The flat variable is w and, where ``skip`` is None, ``(b - b_0) sqrt(n d)`` with b_0 the best b of the rescaling alone.
    """

    def __init__(self, pairs: Pairs, weight_decay: float, units: int, activation, skip):
        n, d = pairs.clean.shape
        self.rescaling = float(np.sum(pairs.clean * pairs.noisy) / np.sum(pairs.noisy**2)) if skip is None else float(skip)
        self.freedom = Freedom(activation, units, skip is None, math.sqrt(n * d))
        self.weight_decay, self.loss = float(weight_decay), _NotConvex
        self.shape = (d, units)
        self.zero = np.zeros(d * units + (skip is None))
        with float64(True):
            self.pairs, self.base = jax.device_put((pairs, np.float64(self.rescaling)))

    def value_and_grad(self, z):
        """The risk and its gradient."""
        with float64(True):
            value, gradient = _value_and_grad(self.freedom, z, self.base, self.pairs, self.weight_decay)
            return float(value), np.array(gradient)

    def hessian_product(self, z, v):
        """The Hessian times v."""
        with float64(True):
            return np.array(_hessian_product(self.freedom, z, v, self.base, self.pairs, self.weight_decay))

    def relative_gradient(self, z, gradient, start):
        """|grad R| over the larger of its data part and its penalty part, which cancel."""
        size = math.prod(self.shape)
        penalty = np.zeros_like(z)
        penalty[:size] = self.weight_decay * z[:size]
        unit = self.weight_decay * math.sqrt(size)
        scale = max(float(np.linalg.norm(gradient - penalty)), float(np.linalg.norm(penalty)), unit)
        return float(np.linalg.norm(gradient)) / scale

    def parts(self, z):
        """w (d, r) and b."""
        w = z[: math.prod(self.shape)].reshape(self.shape)
        return w, self.rescaling + (float(z[-1]) / self.freedom.unit if self.freedom.trained else 0.0)


class _NotConvex:
    convex = False


def train(pairs: Pairs, weight_decay, *, units=1, activation=jnp.tanh, skip=None, directions=None, init=("centroids", "random"),
          restarts=2, seed=0, tol=1e-7, max_iterations=5000):  # fmt: skip
    """Minimise the risk of an autoencoder by L-BFGS and Newton steps from several starts; the lowest risk is kept.

    Parameters
    ----------
    pairs : the sample; weight_decay > 0; units, activation : the network.
    skip : None to train b, or its fixed value.
    directions : (k, d) means of the clusters, for the starts "centroids": the first unit along one of them or along a principal
        axis of all, others on noise; and, for more than one unit, all units along different ones.
    init : names among "centroids" and "random" (repeated ``restarts`` times), or an array (d, units), or a tuple of these.
    tol : on the relative gradient.

    Returns
    -------
    The weights (d, units), b, the :class:`Minimiser`'s status and optimality, and all :class:`Restart` results.

    >>> rng = np.random.default_rng(0)
    >>> clean = np.sign(rng.normal(size=(80, 1))) * np.eye(40)[0] * 3 + 0.3 * rng.normal(size=(80, 40))
    >>> pairs = Pairs(clean, 0.8 * clean + 0.6 * rng.normal(size=clean.shape))
    >>> w, b, best, tried = train(pairs, 0.1, directions=3.0 * np.eye(40)[:1])
    >>> best.status.value, bool(abs(w[0, 0]) > 0.9 * np.linalg.norm(w))
    ('converged', True)
    """
    risk = Reconstruction(pairs, check.positive("weight_decay", weight_decay), check.integer("units", units), activation, skip)
    rng = np.random.default_rng(stream(seed, "start"))
    found = []
    for name, w in _starts(init, risk.shape, directions, restarts, rng):
        z = risk.zero.copy()
        z[: w.size] = w.ravel()
        found.append((name, descend(risk, z, optimiser="lbfgs", tol=tol, max_iterations=max_iterations, learning_rate=0.0)))
    tried = tuple(Restart(name, f.risk, f.optimality, f.status) for name, f in found)
    best = min((f for _, f in found), key=lambda f: (f.status is not Status.CONVERGED, f.risk if np.isfinite(f.risk) else np.inf))
    return *risk.parts(best.z), best, tried


def _starts(init, shape, directions, restarts, rng):
    d, units = shape
    for one in init if isinstance(init, tuple) else (init,):
        if not isinstance(one, str):
            yield "array", check.array("init", one, shape=shape)
            continue
        check.choice("init", one, ("centroids", "random"))
        if one == "random":
            for _ in range(check.integer("restarts", restarts)):
                yield one, rng.standard_normal(shape)
            continue
        if directions is None or not np.any(directions):
            raise ValueError("init must not be 'centroids' where all clusters have the mean zero")
        axes = np.concatenate([directions, np.linalg.svd(directions, full_matrices=False)[2]])
        norms = np.linalg.norm(axes, axis=1, keepdims=True)
        axes = _distinct((axes / np.where(norms > 0.0, norms, 1.0))[norms[:, 0] > 1e-9 * norms.max()])
        for axis in axes:
            yield one, np.column_stack([math.sqrt(d) * axis, 0.7 * rng.standard_normal((d, units - 1))])
        if units > 1:
            chosen = math.sqrt(d) * axes[np.arange(units) % len(axes)].T
            yield one, chosen + 0.3 * rng.standard_normal(shape)


def _distinct(axes):
    """Unit vectors without those that are parallel to one before."""
    kept = []
    for axis in axes:
        if all(abs(axis @ other) < 1.0 - 1e-9 for other in kept):
            kept.append(axis)
    return np.array(kept)


def population_excess(activation, w, b, population: Population, noise: float) -> float:
    """The exact excess of the test error of weights w (d, r) over the rescaling with the same b, on the mixture itself.

    ``E[phi.Q.phi - 2 phi.g]`` over clusters, where the pairs (h_i, h_j) and (h_i, g_i) are Gaussian: two-dimensional
    trapezoidal sums for the first (1e-4 at a kink of the activation), and for the second the regression of g on h.
    """
    c, labels, d = math.sqrt(1.0 - noise), population.labels, w.shape[0]
    Q, x = w.T @ w / d, np.linspace(-8.0, 8.0, _NODES)
    weight = np.exp(-0.5 * x**2) / np.sum(np.exp(-0.5 * x**2))

    def f(h):
        with float64(True):
            return np.asarray(activation(jnp.asarray(h)))

    total = 0.0
    for prob, mean, cov in zip(labels.prob, labels.mean[:, 0], labels.cov[:, 0], strict=True):
        u = w.T @ (mean @ population.means) / math.sqrt(d)
        S = np.tensordot(cov, population.covariances, 1)
        image = S[:, None] * w if S.ndim == 1 else S @ w
        clean = w.T @ image / d
        H = c**2 * clean + noise * Q
        cross = np.diag(c * (1.0 - b * c) * clean - b * noise * Q)
        for i in range(w.shape[1]):
            h = c * u[i] + math.sqrt(max(H[i, i], 0.0)) * x
            g = (1.0 - b * c) * u[i] + (cross[i] / H[i, i] * (h - c * u[i]) if H[i, i] > 0.0 else 0.0)
            total += prob * np.sum(weight * (Q[i, i] * f(h) ** 2 - 2.0 * f(h) * g))
            for j in range(i):
                part = H[i, j] / H[i, i] if H[i, i] > 0.0 else 0.0
                rest = math.sqrt(max(H[j, j] - part * H[i, j], 0.0))
                other = c * u[j] + part * (h - c * u[i])[:, None] + rest * x
                total += prob * 2.0 * Q[i, j] * np.sum(weight * f(h) * (f(other) @ weight))
    return float(total)


def simulate(law, *, alpha, noise, weight_decay, dim, seeds=8, units=1, activation=jnp.tanh, skip=None, n_jobs: int = 1,
             settings=None, progress=None, **options) -> Trials:  # fmt: skip
    """Repeat the training of an autoencoder: n = round(alpha dim) pairs of the two-token ``law``, every seed on its own.

    ``n_jobs``: seeds at a time; ``options`` go to :func:`train`.
    Returns :class:`Trials` with, per seed, overlaps by covariance (noise last), ``m``, ``Q``,
    ``cosine`` (r, C), ``skip``, ``test_mse_excess`` (relative to the trained b), ``train_mse_excess`` (relative to the best
    rescaling of the sample), ``rescaling_mse_per_dim``, ``train_loss`` and ``free_energy``.
    """
    make_room()
    seeds, n = seed_list(seeds), sample_size(alpha, dim)
    c, s = math.sqrt(1.0 - noise), math.sqrt(noise)

    def one(seed):
        clock = time.perf_counter()
        instance = law.draw(seed, n, dim)
        population = instance.population
        pairs = Pairs(instance.x[:, 0], c * instance.x[:, 0] + s * instance.x[:, 1])
        centres = population.labels.mean[:, 0] @ population.means
        given = {"init": ("centroids", "random") if np.any(centres) else "random", **options}
        w, b, best, tried = train(
            pairs, weight_decay, units=units, activation=activation, skip=skip, directions=centres, seed=seed, **given
        )
        w = _aligned(w, centres, activation)
        row = _row(pairs, w, b, skip, activation, population, best, noise)
        return row, best.status.value, best.optimality, time.perf_counter() - clock

    return repeated(one, seeds, n_jobs, progress, dim, n, settings)


def simulate_on_rows(rows, law, *, alpha, noise, weight_decay, seeds=8, units=1, activation=jnp.tanh, skip=None, n_jobs: int = 1,
                     settings=None, progress=None, noises: int = 4, **options) -> Trials:  # fmt: skip
    """The same on the rows of a data set (N, d): round(alpha d) of them train the network, all others test it.

    ``law`` (dense, in dimension d) holds the data's own class means and covariances, for the overlaps. The test error is the mean
    over test rows with ``noises`` draws of noise each, relative to the rescaling with the trained b.
    """
    make_room()
    seeds, d = seed_list(seeds), rows.shape[1]
    n, c, s = sample_size(alpha, d), math.sqrt(1.0 - noise), math.sqrt(noise)
    if n >= len(rows):
        raise ValueError(f"alpha must leave rows to test on: {n} of {len(rows)} would be trained on, got alpha = {alpha}")
    population = law.draw(0, 1, d).population
    centres = population.labels.mean[:, 0] @ population.means

    def one(seed):
        clock = time.perf_counter()
        rng = np.random.default_rng(stream(seed, "noise"))
        order = rng.permutation(len(rows))
        clean, fresh = rows[order[:n]], rows[order[n:]]
        pairs = Pairs(clean, c * clean + s * rng.standard_normal(clean.shape))
        w, b, best, tried = train(
            pairs, weight_decay, units=units, activation=activation, skip=skip, directions=centres, seed=seed, **options
        )
        w, excess = _aligned(w, centres, activation), 0.0
        for _ in range(check.integer("noises", noises)):
            noisy = c * fresh + s * rng.standard_normal(fresh.shape)
            with float64(True):
                answered = np.asarray(answer(activation, w, b, noisy))
            excess += np.mean(np.sum((fresh - answered) ** 2 - (fresh - b * noisy) ** 2, axis=1)) / noises
        row = _row(pairs, w, b, skip, activation, population, best, noise) | {"test_mse_excess": np.float64(excess)}
        return row, best.status.value, best.optimality, time.perf_counter() - clock

    return repeated(one, seeds, n_jobs, progress, d, n, settings)


def _row(pairs, w, b, skip, activation, population, best, noise):
    n, d = pairs.clean.shape
    made = Minimiser(
        w, np.zeros((0, w.shape[1])), {}, best.risk, 0.0, best.optimality, "gradient", best.status, best.iterations, "lbfgs"
    )
    row = order_parameters(made, population)
    level = b if skip is not None else np.sum(pairs.clean * pairs.noisy) / np.sum(pairs.noisy**2)
    rescaled = float(np.sum((pairs.clean - level * pairs.noisy) ** 2))
    with float64(True):
        left = float(np.sum((pairs.clean - np.asarray(answer(activation, w, b, pairs.noisy))) ** 2))
    labels, c = population.labels, math.sqrt(1.0 - noise)
    S = np.tensordot(labels.prob @ labels.cov[:, 0], population.covariances, 1)
    variance = (S.sum() if S.ndim == 1 else np.trace(S)) / d
    centres = labels.mean[:, 0] @ population.means
    sizes = np.outer(np.linalg.norm(w, axis=0), np.linalg.norm(centres, axis=1))
    overlap = w.T @ centres.T
    excess = (left - rescaled) / n
    return row | {
        "cosine": np.divide(overlap, sizes, out=np.zeros_like(sizes), where=sizes > 0),
        "skip": np.float64(b),
        "test_mse_excess": np.float64(population_excess(activation, w, b, population, noise)),
        "train_mse_excess": np.float64(excess),
        "train_loss": np.float64(0.5 * excess),
        "rescaling_mse_per_dim": np.float64((1.0 - b * c) ** 2 * variance + b**2 * noise),
        "free_energy": np.float64((best.risk - 0.5 * rescaled) / d),
    }


def _aligned(w, centres, activation):
    """Units in a standard order, the one that overlaps most with a cluster first; signs turned where the activation is odd."""
    points = jnp.linspace(-2.0, 2.0, 9)
    odd = bool(jnp.all(jnp.abs(activation(points) + activation(-points)) < 1e-6))
    overlap = w.T @ centres.T
    best = np.argmax(np.abs(overlap) if odd else overlap, axis=1)
    value = overlap[np.arange(len(best)), best]
    order = np.argsort(-np.abs(value), kind="stable")
    sign = np.where(odd & (overlap[np.arange(len(best)), _heaviest(overlap)] < 0), -1.0, 1.0)
    return (w * sign)[:, order]


def _heaviest(overlap):
    """The first cluster among those of (nearly) the largest overlap: +mu, where -mu is one too."""
    return np.argmax(np.abs(overlap) >= (1.0 - 1e-9) * np.abs(overlap).max(axis=1, keepdims=True), axis=1)
