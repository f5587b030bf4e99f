"""From one large gradient step on the first layer to a model of its rows: spikes, bulk variances, alignment."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from quenched.laws.activation import Activation, hermite, panels
from quenched.laws.index import IndexTarget
from quenched.numerics import check
from quenched.numerics.precision import float64

#: A step may take away all of the rows but their spike; what is left is at least this, so that ratios are finite.
_TURNING = 1e-5


class Spikes(NamedTuple):
    """The rows of the first layer after the step: ``w_i = spike_l v + scale_l omega_i`` for a neuron of group l, up to what
    follows.

    k groups, T target directions. v is a unit vector, the omega_i are nearly of length one and orthogonal to each other.

    - ``spike`` (k,), ``scale`` (k,): ``scale^2`` is the bulk variance c; the scale may be negative (omega reversed by the step).
    - ``alignment``: of v with the direction of the target's mean gradient, in [0, 1].
    - ``response`` (k, T + 1, T + 1): row j: what a neuron with component ``e`` of omega along direction j (v, then the others of
      the target) answers, ``e mu_1 sum_t response[j, t] chi_t`` with chi_0 = kappa. The identity where rows are spike plus noise.
    - ``stretch`` (k,): by how much a component along v changes the length of the row, over its square root.
    - ``variance`` (k, T + 1): d times the variance of these components; ``length`` (k,): d times that of |omega|^2.

    >>> from quenched.laws import index_target
    >>> from quenched.laws.activation import activation
    >>> step = gradient_step(activation("linear"), index_target("sin"), 3.0, np.inf, [1.0], [1.0])
    >>> [round(float(x), 6) for x in (step.spike[0], step.scale[0], step.alignment)]
    [1.819592, 1.0, 1.0]
    """

    spike: Any
    scale: Any
    alignment: Any
    response: Any
    stretch: Any
    variance: Any
    length: Any


class _Constants(NamedTuple):
    """Averages of the activation: Hermite coefficients c_0..c_3, E sigma'^2, and of the part of sigma' that changes lengths."""

    c: tuple
    slope2: float
    bend: float


@functools.lru_cache(maxsize=128)
def constants(act: Activation) -> _Constants:
    """The Gaussian averages of an activation that the step needs; refuses activations that jump."""
    c = tuple(float(v) for v in hermite(act, 3))
    with float64(True):
        slope2, mean, bend, size = (float(x) for x in _averages(act, jnp.asarray(c)))
    if size == 0.0:
        raise ValueError(f"activation must not vanish everywhere, got {act!r}")
    if abs(mean - c[1]) > 1e-8 * (1.0 + abs(c[1])):
        raise ValueError(f"activation must be continuous, since its derivative is trained by gradients, got {act!r}")
    return _Constants(tuple(0.0 if abs(v) < 1e-13 else v for v in c), slope2, bend)


@functools.partial(jax.jit, static_argnums=0)
def _averages(act: Activation, c):
    """E sigma'^2, E sigma' without jumps, the part of sigma' that changes lengths, E sigma^2."""
    z, weights = panels(act.kinks, jnp.zeros(()), jnp.ones(()))
    slope = jax.jvp(act, (z,), (jnp.ones_like(z),))[1]
    return weights @ slope**2, weights @ slope, weights @ (z * (slope - c[1]) - c[3] * z - c[2]) ** 2, weights @ act(z) ** 2


def disorder(activation: Activation, target: IndexTarget, learning_rate, alpha0, readout_values, readout_probabilities, noise=0.0):
    """The largest ratio, over the groups, of the rows' variance that comes from the noise of the step to what is left of their own.

    First-order results in 1 / alpha0 need it to be small.
    """
    spikes = gradient_step(activation, target, learning_rate, alpha0, readout_values, readout_probabilities, noise)
    own = gradient_step(activation, target, learning_rate, np.inf, readout_values, readout_probabilities, noise).scale ** 2
    return float(np.max(spikes.scale**2 / own)) - 1.0


def gradient_step(
    activation: Activation, target: IndexTarget, learning_rate, alpha0, readout_values, readout_probabilities, noise=0.0,
    refined=True,
) -> Spikes:
    """The first layer after one full-batch step on ``n_0 = alpha0 d`` samples of the target with noise of variance ``noise``.

    - ``learning_rate``: the step of neuron i is ``s_i = learning_rate * readout_values[l]``; eta = learning_rate * p is the rate
      of the loss ``1 / (2 n_0) sum (y - f)^2`` with the readout ``a_i = readout_values[l] / sqrt(p)`` of ``f = a.sigma(W x) /
      sqrt(p)``.
    - ``alpha0`` > 0, infinity for the population gradient; ``readout_values`` (k,) with their ``readout_probabilities`` (k,).
    - ``refined``: with the components of the gradient that are small in each row, but the same for all of them; else rows are
      spike plus isotropic noise of unit length.

    Exact in high dimension for activations with c_2 = E sigma He_2 = 0, or at infinite alpha0; otherwise to first order in
    1 / alpha0 at best.

    Source: H. Cui et al. (2024), arXiv:2402.04980; Y. Dandi et al. (2024), arXiv:2410.18938; J. Ba et al. (2022), arXiv:2205.01445.

    >>> from quenched.laws import index_target
    >>> from quenched.laws.activation import activation
    >>> step = gradient_step(activation("linear"), index_target("sin"), 3.0, np.inf, [1.0], [1.0])
    >>> round(float(step.spike[0]), 6), float(step.alignment)  # learning_rate E cos(z) = 3 / sqrt(e)
    (1.819592, 1.0)
    """
    (c0, c1, c2, c3), slope2, bend = constants(activation)
    xp = jnp if check.traced(learning_rate, alpha0, readout_values, readout_probabilities, noise) else np
    T, k, moments, frame = target.directions, len(readout_values), target.moments, target.frame
    s = learning_rate * xp.asarray(readout_values)
    b = c0 * xp.sum(xp.asarray(readout_probabilities) * xp.asarray(readout_values))
    inverse = 1.0 / alpha0
    bias = moments.mean - b
    Y2 = moments.second + noise - 2.0 * b * moments.mean + b**2
    size = float(np.sqrt(np.sum(moments.gradient**2)))
    sign = -1.0 if T == 1 and moments.gradient[0] < 0.0 else 1.0  # v is reversed, so that the alignment is positive
    norm2 = size**2 + Y2 * inverse
    seen = norm2 > 0.0
    norm = xp.sqrt(xp.where(seen, norm2, 1.0))
    # without any gradient the target's own direction is followed, whose components the step may still stretch
    alignment = xp.where(seen, size / norm, 1.0)
    gamma = sign * xp.where(seen, norm, 0.0)
    scattered = Y2 * (slope2 - c1**2) * inverse
    if c2 == 0.0:
        scale = xp.sqrt(1.0 + s**2 * scattered)
    else:
        ordered = 1.0 + s * c2 * bias
        ordered = xp.where(xp.abs(ordered) < _TURNING, _TURNING, ordered)
        turn = xp.where(ordered < 0.0, -1.0, 1.0)
        scale = turn * xp.sqrt(ordered**2 + s**2 * scattered)
    response = xp.broadcast_to(xp.eye(T + 1), (k, T + 1, T + 1))
    variance = xp.ones((k, T + 1))
    if not refined:
        return Spikes(s * c1 * gamma, scale, alignment, response, xp.zeros(k), variance, xp.zeros(k))
    if c2 != 0.0:
        at = [0, *range(2, T + 1)]  # v stands for the mean gradient's direction
        embed = np.zeros((T + 1, T))
        embed[at, np.arange(T)] = 1.0
        bent = embed @ (frame @ moments.hessian @ frame.T) @ embed.T
        response = response + (s * c2 / ordered)[:, None, None] * bent
    else:
        along, across = _noise_along(target, sign, b, noise, inverse, size, norm, alignment)
        others = _noise_others(target, b, noise)
        ratio = s**2 * (slope2 - c1**2) * inverse  # s^2 tau^2 / Y_2
        E = xp.concatenate([xp.stack([along, across]), others])
        variance = (1.0 + ratio[:, None] * E) / (scale**2)[:, None]
    return Spikes(
        s * c1 * gamma, scale, alignment, response, s * c3 * gamma / scale, variance, 4.0 * s**2 * Y2 * inverse / scale**4 * bend
    )


def _noise_along(target, sign, b, noise, inverse, size, norm, alignment):
    """E y^2 <x, .>^2 on the samples of the step, along v and along the rest of the mean gradient's direction."""
    z, weights, values = target.nodes
    t, y = z @ target.frame[0], sign * (values - b)
    y2, y1t = weights @ y**2, weights @ (y * t)
    Y2 = y2 + noise
    y2t2 = weights @ (y**2 * t**2) + noise
    y3t = weights @ (y**3 * t) + 3.0 * noise * y1t
    y4 = weights @ y**4 + 6.0 * noise * y2 + 3.0 * noise**2
    along = (size**2 * y2t2 + 2.0 * size * inverse * y3t + inverse**2 * y4 + inverse * Y2**2) / norm**2
    across = y2t2 - 2.0 * alignment * (size * y2t2 + inverse * y3t) / norm + alignment**2 * along
    rest = 1.0 - alignment**2
    xp = jnp if check.traced(along, rest) else np
    there = rest > 1e-12
    return along, xp.where(there, across / xp.where(there, rest, 1.0), Y2)


def _noise_others(target, b, noise):
    z, weights, values = target.nodes
    others = target.frame[1:] @ z.T
    return others**2 @ (weights * (values - b) ** 2) + noise
