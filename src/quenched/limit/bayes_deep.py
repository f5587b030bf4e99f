"""Bayes-optimal learning of a deep random network: the law of its inputs, with the channel of the posterior.

The posterior of an isotropic linear teacher is a saddle point of the same law that every student has, at ridge one and with
``V_hat = q_hat = theta_hat``; then ``q = theta`` and ``V = tr S / d - q``. What the samples say enters through one number, q_hat:
for a channel P(y | h_*), ``q_hat = alpha E [d log Z / d omega]^2``. The fixed point is unique, and found as the root in log q_hat.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr

from ..laws.base import Conjugates
from ..laws.tokens import SpectralTokens
from ..numerics.gaussian import rule
from ..numerics.precision import in_float64
from ..numerics.resolvent import increasing_root

_LOW, _HIGH = -60.0, 60.0  # where the logarithm of q_hat is looked for
_LEVEL = 2  # of the quadrature; the next one measures its error


class Channel(NamedTuple):
    """Per sample: ``q_hat``; ``stability``, the mean square of the response (the replicon, before the law); ``information``, what
    is known beyond the overlap, I = 1/2 q q_hat - 1/2 <q_hat s - log(1 + q_hat s)> + alpha information."""

    q_hat: jax.Array
    stability: jax.Array
    information: jax.Array


class BayesPoint(NamedTuple):
    """The posterior's order parameters and what they were certified with (numbers).

    ``q``, ``q_hat``, ``V`` = tr S / d - q; ``update``: q after one undamped update; ``quadrature_error`` of q, relative;
    ``replicon``; ``information`` per dimension between labels and target (infinite without any noise).
    """

    q: jax.Array
    q_hat: jax.Array
    V: jax.Array
    update: jax.Array
    quadrature_error: jax.Array
    replicon: jax.Array
    information: jax.Array


def regression(q, V, slope, noise, level: int) -> Channel:
    """``y = sqrt(slope) h + sqrt(noise) z``: a Gaussian posterior, no quadrature."""
    left = noise + slope * V
    gain = slope / left
    return Channel(gain, gain**2, 0.5 * jnp.log(left / noise))


def classification(q, V, slope, noise, level: int) -> Channel:
    """``y = sign(sqrt(slope) h + sqrt(noise) z)``, the probit channel.

    With ``t`` the estimate over its uncertainty, averages are ``E Phi(t) g(t)`` with ``g ~ (phi / Phi)^2``; what is Gaussian in
    them is taken out, so that nodes are as good for sharp posteriors as for broad ones.
    """
    z, weights = (jnp.asarray(a) for a in rule(1, level))
    left = noise + slope * V
    total = left + slope * q

    def average(g, share):  # E Phi(t) g(t) phi(t) / Phi(t), share = Var estimate / Var label field
        t = jnp.sqrt(share) * z[:, 0]
        log_ratio = -0.5 * t**2 - 0.5 * np.log(2.0 * np.pi) - log_ndtr(t)
        return jnp.sqrt((1.0 - share) / (2.0 * np.pi)) * jnp.sum(weights * g(t, jnp.exp(log_ratio)))

    def entropy(share):  # of a label, given the estimate
        return -2.0 * average(lambda t, r: log_ndtr(t) / r, share)

    share = slope * q / total
    return Channel(
        2.0 * slope / left * average(lambda t, r: r, share),
        2.0 * (slope / left) ** 2 * average(lambda t, r: r * (t + r) ** 2, share),
        entropy(share) - entropy(slope * (q + V) / total),
    )


CHANNELS = {"regression": regression, "classification": classification}


def prior(law: SpectralTokens, q_hat):
    """``(q, V)`` of the posterior mean of an isotropic teacher seen with the precision ``q_hat``: the law's own overlaps."""
    one = q_hat * jnp.ones((1, 1, 1))
    hats = Conjugates(q_hat=one, V_hat=one, m_hat=jnp.zeros((0, 1)), theta_hat=one, Q_hat=jnp.zeros((1, 1)))
    overlaps = law.overlaps(hats, 1.0)
    return overlaps.q[0, 0, 0], overlaps.V[0, 0, 0]


@in_float64
def bayes_point(law: SpectralTokens, task: str, alpha, slope, noise) -> BayesPoint:
    """Solve for the posterior of n = alpha d samples.

    - ``law``: of one token and one target of unit variance (:func:`quenched.laws.single`); ``task``: a key of ``CHANNELS``.
    - ``slope``: the variance of the part of the labels' field that is linear in the inputs, over tr S / d; ``noise``: of the rest.

    Source: H. Cui, F. Krzakala, L. Zdeborova (2023), arXiv:2302.00375.

    >>> from quenched.laws import single
    >>> point = bayes_point(single(), "regression", 2.0, 1.0, 0.1)
    >>> round(0.1 + float(point.V), 9)  # ridge regression at its best weight decay, the noise
    0.184428877
    """
    return _solve(law, task, *(jnp.asarray(v, float) for v in (alpha, slope, noise)))


@functools.partial(jax.jit, static_argnums=1)
def _solve(law, task, alpha, slope, noise) -> BayesPoint:
    channel = CHANNELS[task]

    def height(log_q_hat, level):
        return log_q_hat - jnp.log(alpha * channel(*prior(law, jnp.exp(log_q_hat)), slope, noise, level).q_hat)

    # without noise, enough samples know the teacher exactly: there is no root, and the end of the range stands for infinity
    known = jax.lax.stop_gradient(height(jnp.asarray(_HIGH), _LEVEL) < 0.0)
    x = increasing_root(lambda x: jnp.where(known, x, height(x, _LEVEL)), _LOW, _HIGH)
    x = jnp.where(known, _HIGH, x)
    q_hat = jnp.exp(x)
    q, V = prior(law, q_hat)
    here, finer = (channel(q, V, slope, noise, level) for level in (_LEVEL, _LEVEL + 1))
    finest, slope_there = jax.value_and_grad(height)(x, _LEVEL + 1)
    moved = jnp.where(known, 0.0, finest / slope_there)  # Newton's step under the finer rule
    s, weights = law.spectrum.eigenvalues[:, 0], law.spectrum.weights
    spread = jnp.sum(weights * (s / (1.0 + q_hat * s)) ** 2)
    field = q_hat * s
    posterior = 0.5 * q * q_hat - 0.5 * jnp.sum(weights * (field - jnp.log1p(field)))
    return BayesPoint(
        q, q_hat, V,
        update=jnp.where(known, q, prior(law, alpha * here.q_hat)[0]),
        quadrature_error=jnp.abs(prior(law, q_hat * jnp.exp(-moved))[0] - q) / q,
        replicon=jnp.where(known, jnp.sum(weights * (s > 0.0)) / alpha, alpha * here.stability * spread),
        information=posterior + alpha * finer.information,
    )  # fmt: skip


def angle_error(overlap, first, second):
    """The probability that two centred normal numbers of these variances differ in sign; arrays that broadcast.

    >>> float(angle_error(0.5, 1.0, 1.0).round(12))
    0.333333333333
    """
    xp = jnp if isinstance(overlap, jax.Array) else np
    return xp.arccos(xp.clip(overlap / xp.sqrt(first * second), -1.0, 1.0)) / np.pi
