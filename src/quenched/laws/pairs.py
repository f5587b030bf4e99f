"""Gaussian averages of two activations at once: what two inputs, or two neurons, have in common."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quenched.laws.activation import (
    FLOOR,
    MEAN,
    activation,
    batched,
    entry,
    mean_value,
    panels,
    raised,
    with_slope,
)

_COARSE = dict(reach=8.5, order=16, counts=(12, 8))
_FLOOR_KINKED = 1e-24  # of the variance of one given the other, where the other has kinks
_PAIRS = 4  # how many are computed at once: as many as fit into a processor's cache


def covariance(first, second, cross, variances=(1.0, 1.0), means=None) -> Float[Array | np.ndarray, "*n"]:
    """``E[s(N) t(N')]``, not centred, of two activations s, t of jointly Gaussian numbers.

    - ``first``, ``second``: the activations s, t, as in :func:`activation`.
    - ``cross``: Cov(N, N'), at most the root of the product of the variances in size (no check inside a trace).
    - ``variances``: the pair Var N, Var N'; ``means``: the pair E N, E N', or None for zero. All entries are numbers or arrays that
      broadcast.

    Without means, pairs of ``sign``, of ``erf`` and of ``relu`` have closed forms. Otherwise errors are below 1e-9, up to full
    correlation. Derivatives lose digits within 1e-6 of full correlation where an activation has kinks (of ``sign``, they diverge).

    Source: C. Williams (1997), Computing with infinite networks (arcsine); Y. Cho and L. Saul (2009), Kernel methods for deep
    learning (arc-cosine).

    >>> round(float(covariance("sign", "sign", 0.5)), 12), round(float(covariance("relu", "tanh", 0.5, means=(0.1, 0.0))), 8)
    (0.333333333333, 0.16381253)
    """
    return _two(_covariance, first, second, cross, variances, means)


def slopes(first, second, cross, variances=(1.0, 1.0), means=None) -> Float[Array | np.ndarray, "*n"]:
    """``E[s'(N) t'(N')]``, jumps included: the derivative of :func:`covariance` by ``cross``, with the same arguments.

    Finite up to full correlation unless both activations jump: then it diverges there, or is without meaning. Errors are about
    1e-10 of the size of the slopes.

    >>> round(float(slopes("relu", "relu", 0.0)), 12), round(float(slopes("sign", "sign", 0.0) - 2 / np.pi), 12)
    (0.25, 0.0)
    """
    return _two(_slopes, first, second, cross, variances, means)


def _two(core, first, second, cross, variances, means):
    for name, pair in (("variances", variances), ("means", means)):
        if pair is not None and (not hasattr(pair, "__len__") or len(pair) != 2):
            raise ValueError(f"{name} must be a pair, of the first and of the second pre-activation, got {pair!r}")
    first, second = activation(first), activation(second)
    known = means is None and first.name == second.name and first.name in CLOSED
    means = (0.0, 0.0) if means is None else means
    given = dict(cross=cross, first_variance=variances[0], second_variance=variances[1], first_mean=means[0], second_mean=means[1])
    return entry(core, (first, second, known), **given)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _covariance(first, second, known, c: Float[Array, "*n"], r1, r2, m1, m2) -> Float[Array, "*n"]:
    if known:
        return CLOSED[first.name](c, r1, r2)
    return batched(functools.partial(_pair, first, second), _PAIRS, c, r1, r2, m1, m2)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _slopes(first, second, known, c: Float[Array, "*n"], r1, r2, m1, m2) -> Float[Array, "*n"]:
    if known:
        return with_slope(lambda c: CLOSED[first.name](c, r1, r2), c)[1]

    def one(c, r1, r2, m1, m2):  # by the means: differences of nearly equal numbers would come from the covariance
        return with_slope(lambda m1: with_slope(lambda m2: _pair(first, second, c, r1, r2, m1, m2), m2)[1], m1)[1]

    return batched(one, _PAIRS, c, r1, r2, m1, m2)


def _pair(first, second, c, r1, r2, m1, m2):
    """``E[s(N) t(N')]``: the average of t given N, then panels in N that are small where a kink of t is smoothed."""
    if first.name in MEAN and second.name not in MEAN:
        first, second, r1, r2, m1, m2 = second, first, r2, r1, m2, m1
    r1, r2 = raised(r1, FLOOR), raised(r2, FLOOR)
    s1, s2 = jnp.sqrt(r1), jnp.sqrt(r2)
    rho = _held(c / (s1 * s2))
    slope, given = s2 * rho, raised(r2 * (1.0 - rho) * (1.0 + rho), _FLOOR_KINKED if second.kinks else FLOOR)
    more = None
    if second.kinks:
        steep = jnp.where(jnp.abs(slope) > 1e-9, slope, 1e-9)[..., None, None]
        kinks = (np.asarray(second.kinks)[:, None] - m2[..., None, None]) / steep
        spread = jnp.sqrt(given)[..., None, None] / steep * np.array([-8.0, -3.0, 0.0, 3.0, 8.0])
        more = (kinks + spread).reshape(*c.shape, -1)
    z, weights = panels(first.kinks, m1, s1, more, **_COARSE)
    inner = mean_value(second, m2[..., None] + slope[..., None] * z, jnp.broadcast_to(given[..., None], z.shape), **_COARSE)
    return jnp.sum(weights * first(m1[..., None] + s1[..., None] * z) * inner, axis=-1)


@jax.custom_jvp
def _arc_cosine(rho):
    return jnp.sqrt((1.0 - rho) * (1.0 + rho)) + rho * (np.pi - jnp.arccos(rho))


@_arc_cosine.defjvp
def _(primals, tangents):  # the square root and the arc-cosine have infinite slopes at one that cancel
    return _arc_cosine(*primals), (np.pi - jnp.arccos(primals[0])) * tangents[0]


def _relu_pair(c, r1, r2):
    root = jnp.sqrt(raised(r1, FLOOR) * raised(r2, FLOOR))
    return root * _arc_cosine(_held(c / root)) / (2.0 * np.pi)


#: Centred pairs in closed form.
CLOSED = {
    "sign": lambda c, r1, r2: 2.0 / np.pi * jnp.arcsin(_held(c / jnp.sqrt(raised(r1, FLOOR) * raised(r2, FLOOR)))),
    "erf": lambda c, r1, r2: 2.0 / np.pi * jnp.arcsin(2.0 * c / jnp.sqrt((1.0 + 2.0 * r1) * (1.0 + 2.0 * r2))),
    "relu": _relu_pair,
}


def _held(rho):
    """A correlation within [-1, 1] in spite of rounding errors."""
    return rho + jax.lax.stop_gradient(jnp.clip(rho, -1.0, 1.0) - rho)
