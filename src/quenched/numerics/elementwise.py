"""Gaussian averages of an elementwise function of correlated numbers: what hidden units have in common."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .gaussian import RANGE, breakpoints, panel_rule


def moments(fn, mean, covariance):
    """``E fn(h_i) fn(h_j)`` (r, r), ``E fn(h_i)`` (r,) and ``E fn'(h_i)`` (r,) for h ~ N(mean (r,), covariance (r, r)).

    ``fn`` maps arrays elementwise and may have a kink at zero: panels end there. A variance of zero is legal.

    >>> with jax.enable_x64(True):
    ...     pairs, single, slope = moments(jax.nn.relu, jnp.zeros(1), jnp.ones((1, 1)))
    >>> round(float(pairs[0, 0]), 9), round(float(single[0]), 9), round(float(slope[0]), 9)
    (0.5, 0.39894228, 0.5)
    """
    slope = jax.vmap(jax.grad(lambda h: fn(h[None])[0]))
    r = mean.shape[0]
    variance = jnp.diagonal(covariance)
    scale = _root(variance)
    nodes, weights = jax.vmap(_split)(mean, scale)  # (r, N)
    h = mean[:, None] + scale[:, None] * nodes
    value = fn(h)
    single = jnp.sum(weights * value, axis=1)
    slopes = jnp.sum(weights * jax.vmap(slope)(h), axis=1)
    pairs = jnp.diag(jnp.sum(weights * value**2, axis=1))
    for i in range(r):
        for j in range(i):
            part = covariance[i, j] / jnp.where(variance[i] > 0.0, variance[i], 1.0)
            centre = mean[j] + part * (h[i] - mean[i])
            width = jnp.broadcast_to(_root(variance[j] - part * covariance[i, j]), centre.shape)
            inner, density = jax.vmap(_split)(centre, width)
            given = jnp.sum(density * fn(centre[:, None] + width[:, None] * inner), axis=1)
            both = jnp.sum(weights[i] * value[i] * given)
            pairs = pairs.at[i, j].set(both).at[j, i].set(both)
    return pairs, single, slopes


def _split(mean, scale):
    """Nodes and weights of a standard normal z, on panels that end where ``mean + scale z`` is zero."""
    kink = jnp.where(scale > 0.0, -mean / jnp.where(scale > 0.0, scale, 1.0), 0.0)
    return panel_rule(jnp.sort(jnp.append(breakpoints(1), jnp.clip(kink, -RANGE, RANGE))))


def _root(variance):
    """The square root, zero (with a derivative of zero) where the variance is not positive."""
    return jnp.where(variance > 0.0, jnp.sqrt(jnp.where(variance > 0.0, variance, 1.0)), 0.0)
