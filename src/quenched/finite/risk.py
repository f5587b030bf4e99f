"""The empirical risk of a problem, R(w) = sum_mu loss_mu + weight_decay/2 |w|^2, and its derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from quenched.finite.data import Data
from quenched.losses.base import Loss, answer, argument_names
from quenched.numerics import check
from quenched.numerics.precision import float64


class Trained(NamedTuple):
    """What is trained: ``w`` (d, r) penalised; ``free`` (F, r) and ``scalars`` (dict of arrays) unpenalised."""

    w: np.ndarray
    free: np.ndarray
    scalars: dict


class Layout(NamedTuple):
    """How :class:`Trained` lies in one flat vector: w, then free, then the scalars in order of their names."""

    w: tuple[int, int]
    free: tuple[int, int]
    scalars: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def size(self) -> int:
        return math.prod(self.w) + math.prod(self.free) + sum(math.prod(shape) for _, shape in self.scalars)

    def unpack(self, z) -> Trained:
        """The parts of a flat vector (NumPy or JAX)."""
        shapes = [self.w, self.free, *(shape for _, shape in self.scalars)]
        ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
        parts = [z[b - math.prod(s) : b].reshape(s) for s, b in zip(shapes, ends, strict=True)]
        return Trained(
            parts[0], parts[1], {name: part for (name, _), part in zip(self.scalars, parts[2:], strict=True)}
        )

    def pack(self, trained: Trained) -> np.ndarray:
        """One flat float64 vector."""
        parts = [trained.w, trained.free, *(trained.scalars[name] for name, _ in self.scalars)]
        return np.concatenate([np.asarray(part, dtype=np.float64).ravel() for part in parts])


def arrays(tree):
    """Every number of a pytree as a NumPy array: real ones float64, so that two values share one compilation."""

    def leaf(value):
        a = np.asarray(value)
        return a.astype(np.float64) if a.dtype.kind == "f" else a

    return jax.tree.map(leaf, tree)


def preactivations(trained: Trained, x, free):
    """h = x w/sqrt(d) + free @ m_free, (n, L, r); d counts the trained coordinates of a unit, ``x.shape[-1]``."""
    return jnp.einsum("nld,dr->nlr", x, trained.w) / math.sqrt(x.shape[-1]) + jnp.einsum(
        "nlf,fr->nlr", free, trained.free
    )


def per_sample(fn: Callable, trained: Trained, data: Data, params):
    """``fn`` on every sample, by argument names: h (L, r), gram = w^T w/d (r, r), target (L, t), label, noise, ..."""
    names = argument_names(fn)
    h, gram = preactivations(trained, data.x, data.free), trained.w.T @ trained.w / data.x.shape[-1]

    def one(h, target, label, noise):
        given = dict(h=h, gram=gram, target=target, label=label, noise=noise, scalars=trained.scalars, params=params)
        return jnp.asarray(answer("observable", fn, **{name: given[name] for name in names}))

    return jax.vmap(one)(h, data.target, data.label, data.noise)


def losses(loss: Loss, trained: Trained, data: Data, params):
    """The loss of every sample, (n,); ValueError if the loss is not one number."""
    values = per_sample(loss, trained, data, params)
    if jnp.shape(values) != (len(data.x),):
        raise ValueError(f"loss must return one number per sample, got an array of shape {jnp.shape(values)[1:]}")
    return values


def risk(loss: Loss, layout: Layout, z, data: Data, weight_decay, params):
    """R at the flat vector z: sum of the losses + weight_decay/2 |w|^2 (JAX, differentiable, not jitted)."""
    trained = layout.unpack(z)
    return jnp.sum(losses(loss, trained, data, params)) + 0.5 * weight_decay * jnp.sum(trained.w**2)


@partial(jax.jit, static_argnames=("loss", "layout"))
def value_and_grad(loss, layout, z, data, weight_decay, params):
    """R and its gradient; compiled once per (loss, shapes)."""
    return jax.value_and_grad(risk, argnums=2)(loss, layout, z, data, weight_decay, params)


@partial(jax.jit, static_argnames=("loss", "layout"))
def hessian_product(loss, layout, z, v, data, weight_decay, params):
    """The Hessian of R at z times v; compiled once per (loss, shapes)."""
    gradient = jax.grad(risk, argnums=2)
    return jax.jvp(lambda u: gradient(loss, layout, u, data, weight_decay, params), (z,), (v,))[1]


class Risk:
    """The empirical risk of one sample as a function of one flat NumPy vector, as optimisers want it.

    Parameters: ``data`` a :class:`Data`; ``loss`` a :class:`Loss`; ``weight_decay`` >= 0, the lambda in
    lambda/2 |w|^2; ``units`` r; ``scalars`` start values by name (trained, unpenalised); ``params`` fixed numbers.
    All arrays are moved to the device once, in float64, whatever the caller's JAX configuration.

    >>> rng = np.random.default_rng(0)
    >>> data = Data(rng.normal(size=(5, 1, 3)), np.zeros((5, 1, 0)), np.zeros((5, 1, 0)), np.ones(5))
    >>> R = Risk(data, Loss(lambda h, label: 0.5 * (h - label) ** 2, scalar=True), weight_decay=0.1)
    >>> R.value_and_grad(np.zeros(3))[0]
    2.5
    """

    def __init__(self, data: Data, loss: Loss, weight_decay, *, units: int = 1, scalars=None, params=None):
        x = check.array("x", data.x, ndim=3)
        free = check.array("free", data.free, shape=(x.shape[0], x.shape[1], None))
        units = check.integer("units", units)
        self.loss, self.weight_decay = loss, np.float64(check.nonnegative("weight_decay", weight_decay))
        start = {name: check.array(f"scalars[{name!r}]", value) for name, value in (scalars or {}).items()}
        self.layout = Layout(
            (x.shape[2], units), (free.shape[2], units), tuple((name, start[name].shape) for name in sorted(start))
        )
        self.zero = self.layout.pack(Trained(np.zeros(self.layout.w), np.zeros(self.layout.free), start))
        self.host = Data(x, free, np.asarray(data.target, dtype=np.float64), arrays(data.label), data.noise)
        with float64(True):
            self.data, self.params = jax.device_put((self.host, arrays({} if params is None else params)))

    def value_and_grad(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """R(z) and its gradient, (size,)."""
        with float64(True):
            value, gradient = value_and_grad(self.loss, self.layout, z, self.data, self.weight_decay, self.params)
            return float(value), np.array(gradient)

    def hessian_product(self, z: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The Hessian of R at z times v, (size,)."""
        with float64(True):
            return np.array(hessian_product(self.loss, self.layout, z, v, self.data, self.weight_decay, self.params))

    def penalty_gradient(self, z: np.ndarray) -> np.ndarray:
        """The gradient of weight_decay/2 |w|^2 alone, (size,)."""
        gradient = np.zeros_like(z)
        k = math.prod(self.layout.w)
        gradient[:k] = self.weight_decay * z[:k]
        return gradient

    def relative_gradient(self, z: np.ndarray, gradient: np.ndarray, start: float) -> float:
        """|grad R| over the larger of its data part and its penalty part, which cancel at a minimum.

        Weights that shrink to zero are measured against weights of unit size. With weight_decay = 0 nothing cancels,
        and ``start``, a norm of the gradient far from the minimum, is what it is compared with.
        """
        penalty = self.penalty_gradient(z)
        norm = float(np.linalg.norm(gradient))
        unit = float(self.weight_decay) * math.sqrt(math.prod(self.layout.w))
        scale = max(float(np.linalg.norm(gradient - penalty)), float(np.linalg.norm(penalty)), unit)
        return norm / (scale if self.weight_decay > 0 else max(start, np.finfo(float).tiny))
