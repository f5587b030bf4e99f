"""A learner whose features are learnt: a network of one hidden layer, all of it trained by Adam on the samples it is given."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from quenched.finite.data import stream
from quenched.finite.learners import Learnt
from quenched.laws.activation import activation
from quenched.laws.network import Network
from quenched.numerics import check
from quenched.numerics.precision import float64

_BLOCK = 100  # steps between two looks at the held-out samples
_SMALL = 1e-6  # a training error, relative to the variance of the labels, at which nothing is left to learn
_STREAM = 11  # random numbers of its own


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """``a . sigma(W x / sqrt(d)) / sqrt(k)`` of k = ``width_ratio`` d units, W and a trained by Adam on the mean squared error.

    - ``activation`` sigma; ``weight_variance`` of the entries of W at the start, those of a have the variance 1.
    - ``steps`` > 0, each on ``batch`` of the samples at random, in float32, for W / sqrt(d) and a / sqrt(k); from
      ``learning_rate`` > 0 down a cosine to zero. Fewer where the error of the training samples falls below 1e-6 of the labels'
      variance.
    - ``held_out``: the fraction of the samples that are not trained on. The network returned is that with the least error on
      them, of those after every 100 steps.

    ``FloatingPointError`` where the training diverges. Source: D. P. Kingma and J. Ba (2014), arXiv:1412.6980.

    >>> rng = np.random.default_rng(0)
    >>> x, fresh = rng.standard_normal((2, 600, 8))
    >>> learnt = TrainedNetwork(4.0, "relu", steps=1000)(x, np.abs(x[:, 0]), 0)
    >>> bool(np.mean((learnt.predict(fresh) - np.abs(fresh[:, 0])) ** 2) < 0.2 * np.var(np.abs(fresh[:, 0])))
    True
    """

    width_ratio: float
    activation: Any
    weight_variance: float = 2.0
    steps: int = 32_000
    batch: int = 64
    learning_rate: float = 0.02
    held_out: float = 0.1

    def __post_init__(self):
        for name in ("width_ratio", "weight_variance", "learning_rate"):
            check.positive(name, getattr(self, name))
        for name in ("steps", "batch"):
            check.integer(name, getattr(self, name))
        check.scalar("held_out", self.held_out, 0.0, 1.0, open_low=True, open_high=True)

    def __call__(self, x, y, seed) -> Learnt:
        import optax

        n, d = x.shape
        if n < 2:
            raise ValueError(f"samples must be two or more, as some are held out, got {n}")
        rng, sigma = np.random.default_rng((_STREAM, *stream(seed, "start"))), activation(self.activation)
        width, held = max(1, round(self.width_ratio * d)), min(max(1, round(self.held_out * n)), n - 1)
        weights = np.sqrt(self.weight_variance / d) * rng.standard_normal((d, width))
        start = {"weights": weights, "readout": rng.standard_normal(width) / np.sqrt(width)}
        blocks, order = -(-self.steps // _BLOCK), rng.permutation(n)
        rates = 0.5 * self.learning_rate * (1.0 + np.cos(np.pi * np.linspace(0.0, 1.0, blocks * _BLOCK, endpoint=False)))
        with float64(False):
            params, x32, y32 = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), (start, x[order], y[order]))
            parts = (x32[held:], y32[held:]), (x32[:held], y32[:held])
            state, best, least = optax.scale_by_adam().init(params), params, np.inf
            keys = np.asarray(jax.random.key_data(jax.random.split(jax.random.key(int(rng.integers(2**31))), blocks)))
            for key, now in zip(keys, rates.reshape(blocks, _BLOCK).astype(np.float32), strict=True):
                params, state, own, error = _block(params, state, key, now, *parts, sigma=sigma, batch=self.batch)
                if not np.isfinite(own):
                    raise FloatingPointError(f"the training diverged: learning_rate must be smaller, got {self.learning_rate:g}")
                if error < least:
                    best, least = params, float(error)
                if own < _SMALL * np.var(y):
                    break
        W, a = (np.asarray(best[name], np.float64) for name in ("weights", "readout"))
        hidden = Network([np.sqrt(d) * W.T], sigma)
        return Learnt(lambda other: hidden(other) @ a, hidden(x) @ a)


@partial(jax.jit, static_argnames=("sigma", "batch"))
def _block(params, state, key, rates, train, held, *, sigma, batch):
    """One step of Adam for each of the ``rates``, then the mean squared errors of the samples trained on and of those ``held``."""
    import optax

    def risk(params, x, y):
        return jnp.mean((sigma(x @ params["weights"]) @ params["readout"] - y) ** 2)

    def step(carry, now):
        params, state = carry
        rate, rows = now
        update, state = optax.scale_by_adam().update(jax.grad(risk)(params, train[0][rows], train[1][rows]), state)
        return (jax.tree.map(lambda z, u: z - rate * u, params, update), state), None

    rows = jax.random.randint(jax.random.wrap_key_data(key), (len(rates), batch), 0, len(train[1]))
    (params, state), _ = jax.lax.scan(step, (params, state), (rates, rows))
    return params, state, risk(params, *train), risk(params, *held)
