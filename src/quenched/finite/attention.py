"""The attention layer as it is: its weights trained on sentences by the whole mean square error, positions and all.

Source: H. Cui, F. Behrens, F. Krzakala, L. Zdeborova (2024), arXiv:2402.03902.
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
from quenched.finite.observe import cosines, order_parameters
from quenched.finite.result import Minimiser, Restart, Status
from quenched.finite.simulate import repeated, rotated, seed_list
from quenched.finite.trials import Trials
from quenched.laws.base import Instance
from quenched.numerics import check
from quenched.numerics.precision import float64
from quenched.numerics.programs import make_room

OPTIMISERS = ("lbfgs", "gradient descent")
_STARTS = ("positional", "semantic", "small")


class Sentences(NamedTuple):
    """What the error needs of n sentences: x + p (n, L, d), and with it, without p, and with the target's mixing matrix T
    (n, L, L) the products per dimension ``inner`` = (x + p)(x + p)^T/d, ``cross`` = T x (x + p)^T/d, ``size`` = |T x|^2/d."""

    seen: np.ndarray
    inner: np.ndarray
    cross: np.ndarray
    size: np.ndarray


def mixing(h):
    """softmax(h h^T), row by row, for a batch of h (n, L, r)."""
    return jax.nn.softmax(jnp.einsum("nlr,nkr->nlk", h, h), axis=-1)


def sentences(instance: Instance, encodings, omega: float, positional) -> Sentences:
    """Sentences and their targets ``y = T x`` from tokens drawn with their encodings (L, d) as means."""
    seen, d = instance.x, instance.x.shape[-1]
    x = seen - encodings
    with float64(True):
        h = jnp.asarray(x @ instance.population.targets / math.sqrt(d))
        T = (1.0 - omega) * np.asarray(_mixing(h)) + omega * np.asarray(positional)
    y = T @ x
    return Sentences(
        seen, seen @ seen.transpose(0, 2, 1) / d, y @ seen.transpose(0, 2, 1) / d, np.sum(y**2, axis=(1, 2)) / d
    )


def errors(w, data: Sentences):
    """|y - S (x + p)|^2/d of every sentence for weights w (d, r)."""
    S = mixing(jnp.einsum("nld,dr->nlr", data.seen, w) / math.sqrt(w.shape[0]))
    quadratic = jnp.einsum("nab,nbc,nac->n", S, data.inner, S)
    return data.size - 2.0 * jnp.einsum("nab,nab->n", data.cross, S) + quadratic


_mixing, _errors = jax.jit(mixing), jax.jit(errors)


def _risk(z, shape, data, weight_decay):
    return 0.5 * jnp.sum(errors(z.reshape(shape), data)) + 0.5 * weight_decay * jnp.sum(z**2)


@partial(jax.jit, static_argnames="shape")
def _value_and_grad(z, shape, data, weight_decay):
    return jax.value_and_grad(_risk)(z, shape, data, weight_decay)


@partial(jax.jit, static_argnames="shape")
def _hessian_product(z, v, shape, data, weight_decay):
    return jax.jvp(lambda u: jax.grad(_risk)(u, shape, data, weight_decay), (z,), (v,))[1]


@partial(jax.jit, static_argnames=("shape", "steps"))
def _gradient_descent(z, shape, data, weight_decay, learning_rate, steps):
    gradient = jax.grad(_risk)
    return jax.lax.fori_loop(0, steps, lambda _, z: z - learning_rate * gradient(z, shape, data, weight_decay), z)


class AttentionRisk:
    """``sum |y - f(x)|^2/(2 d) + weight_decay/2 |w|^2`` of one sample, as :func:`quenched.finite.descent.descend` takes it."""

    def __init__(self, data: Sentences, weight_decay: float, rank: int):
        self.shape = (data.seen.shape[-1], rank)
        self.weight_decay, self.loss = float(weight_decay), _NotConvex
        self.zero = np.zeros(math.prod(self.shape))
        with float64(True):
            self.data = jax.device_put(data)

    def value_and_grad(self, z):
        """The risk and its gradient."""
        with float64(True):
            value, gradient = _value_and_grad(z, self.shape, self.data, self.weight_decay)
            return float(value), np.array(gradient)

    def hessian_product(self, z, v):
        """The Hessian times v."""
        with float64(True):
            return np.array(_hessian_product(z, v, self.shape, self.data, self.weight_decay))

    def relative_gradient(self, z, gradient, start):
        """|grad R| over the larger of its data part and its penalty part, which cancel."""
        penalty = self.weight_decay * z
        scale = max(float(np.linalg.norm(gradient - penalty)), float(np.linalg.norm(penalty)), 1e-3 * self.weight_decay)
        return float(np.linalg.norm(gradient)) / scale

    def walk(self, z, learning_rate: float, steps: int):
        """Steps of plain gradient descent on the whole sample."""
        with float64(True):
            return np.array(_gradient_descent(z, self.shape, self.data, self.weight_decay, learning_rate, steps))


class _NotConvex:
    convex = False


def _start(name, shape, encodings, targets, rng):
    """The weights that a branch is looked for from."""
    if not isinstance(name, str):
        return "array", check.array("init", name, shape=shape)
    check.choice("init", name, _STARTS)
    d, rank = shape
    w = 0.02 * rng.standard_normal(shape)
    if name == "positional":
        w[:, 0] += 0.25 * math.sqrt(d) * np.linalg.svd(encodings, full_matrices=False)[2][0]
    if name == "semantic":
        w[:, : min(rank, targets.shape[1])] += 0.6 * targets[:, :rank]
    return name, w


def train(data: Sentences, weight_decay: float, *, rank: int, encodings, targets, init=("positional", "semantic"), seed=0,
          optimiser: str = "lbfgs", learning_rate: float = 0.15, steps: int = 5000, tol: float = 1e-7,
          max_iterations: int = 5000):  # fmt: skip
    """Minimise the risk of an attention layer from the starts of its branches; the lowest end is kept.

    - ``init``: ``"positional"`` (a quarter of sqrt(d) along the encodings), ``"semantic"`` (0.6 of the target), ``"small"``
      (random, a fiftieth of standard size), an array (d, rank), or a tuple of these.
    - ``optimiser``: ``"lbfgs"``, or ``"gradient descent"``: ``steps`` full-batch steps of ``learning_rate`` on the
      risk, which stay in the basin of their start, then L-BFGS.
    - ``tol``: on the relative gradient; ``max_iterations`` of L-BFGS.

    Returns the weights (d, rank), where the best descent ended, and all :class:`Restart` results.
    """
    check.choice("optimiser", optimiser, OPTIMISERS)
    risk = AttentionRisk(data, check.positive("weight_decay", weight_decay), rank)
    rng = np.random.default_rng(stream(seed, "start"))
    found = []
    for one in init if isinstance(init, tuple) else (init,):
        name, w = _start(one, risk.shape, encodings, targets, rng)
        z = w.ravel()
        if optimiser == "gradient descent":
            z = risk.walk(z, check.positive("learning_rate", learning_rate), check.integer("steps", steps))
        found.append((name, descend(risk, z, optimiser="lbfgs", tol=tol, max_iterations=max_iterations, learning_rate=0.0)))
    tried = tuple(Restart(name, f.risk, f.optimality, f.status) for name, f in found)
    best = min((f for _, f in found), key=lambda f: (f.status is not Status.CONVERGED, f.risk if np.isfinite(f.risk) else np.inf))
    return best.z.reshape(risk.shape), best, tried


def simulate(law, *, alpha, weight_decay, omega, positional, rank, dim, seeds=8, settings=None, progress=None,
             test_samples: int = 2000, n_jobs: int = 1, **options) -> Trials:  # fmt: skip
    """Repeat the training of an attention layer on n = round(alpha dim) sentences of ``law``, every seed on its own.

    ``n_jobs``: seeds at a time; ``options`` go to :func:`train`.
    Returns :class:`Trials` with, per seed, the overlaps of the law's basis, ``cosine``,
    ``test_mse`` on ``test_samples`` fresh sentences, ``train_loss`` (with its 1/2) and ``free_energy``.
    """
    make_room()
    seeds, n = seed_list(seeds), sample_size(alpha, dim)
    test_samples = check.integer("test_samples", test_samples)

    def one(seed):
        clock = time.perf_counter()
        instance = law.draw(seed, n, dim)
        population = instance.population
        encodings = population.labels.mean[0] @ population.means
        data = sentences(instance, encodings, omega, positional)
        w, best, tried = train(data, weight_decay, rank=rank, encodings=encodings, targets=population.targets, seed=seed, **options)
        ended = best.risk, 0.0, best.optimality, "gradient", best.status, best.iterations, "lbfgs"
        fit = Minimiser(w, np.zeros((0, rank)), {}, *ended)
        fit = rotated(fit, _gauge(w, encodings, population.targets))
        fresh = sentences(law.sample(population, stream(seed, "test"), test_samples), encodings, omega, positional)
        with float64(True):
            train_loss = 0.5 * float(np.mean(_errors(fit.w, data)))
            test_mse = float(np.mean(_errors(fit.w, fresh)))
        row = order_parameters(fit, population) | {
            "cosine": cosines(fit, population), "test_mse": np.float64(test_mse), "train_loss": np.float64(train_loss),
            "free_energy": np.float64(best.risk / dim),
        }  # fmt: skip
        return row, best.status.value, best.optimality, time.perf_counter() - clock

    return repeated(one, seeds, n_jobs, progress, dim, n, settings)


def _gauge(w, encodings, targets):
    """The rotation of the units, which S does not see, that brings w closest to the target or to an axis of the encodings."""
    d, r = w.shape
    axis = math.sqrt(d) * np.linalg.svd(encodings, full_matrices=False)[2][:1].T
    axis = axis * np.where(encodings[0] @ axis < 0.0, -1.0, 1.0)
    near = max((targets, axis), key=lambda aims: np.linalg.norm(w.T @ aims))[:, :r]
    left, _, right = np.linalg.svd(w.T @ np.pad(near, ((0, 0), (0, r - near.shape[1]))))
    return left @ right
