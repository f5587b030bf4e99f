"""The channel half: the Gaussian average C of the Moreau envelope. All conjugates are its gradient.

``q_hat = -2 a dC/dV``, ``V_hat = 2 a dC/dq``, ``m_hat = -a dC/dm``, ``theta_hat = -a dC/dtheta``, ``Q_hat = 2 a dC/dQ`` with
``a = alpha / law.size``. Differentiating the discretised average through its nodes gives the form of V_hat obtained
by integration by parts (Stein), with all terms from the target and from outcome probabilities.
Source: H. Cui (2024), arXiv:2409.13904.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..laws.base import Conjugates, Overlaps, symmetrise
from ..losses import envelope
from . import fields
from .model import Model
from .parts import total


def loss_layout(model: Model) -> fields.Layout:
    """The Gaussian fields that the loss sees."""
    smooth = model.loss.kinks is None
    return fields.layout(model, model.loss.names, residual=model.loss.residual, interpolate=smooth)


def _extra(names, node, shared):
    given = {**shared, **node}
    return {name: given[name] for name in names if name != "h"}


def _axes(names, node):
    return {name: 0 if name in node else None for name in names if name != "h"}


def over_nodes(fn, names, node, shared):
    """``fn(omega, extra)`` mapped over the nodes, arguments picked by name."""
    extra = _extra(names, node, shared)
    return lambda omega: jax.vmap(fn, in_axes=(0, _axes(names, node)))(omega, extra)


@functools.partial(jax.jit, static_argnames=("singular",))  # within other programs: what is traced is kept
def channel(model: Model, overlaps: Overlaps, scalars, quadrature, singular: bool = False):
    """C: the average over labels and fields of the Moreau envelope at the given overlaps.

    ``quadrature`` is a rule (nodes, weights) for standard normal variables, or the ends of panels where the loss has kinks.
    ``singular`` adds the term of value zero whose derivative is what a singular covariance hides from the nodes.
    """
    plan, names = loss_layout(model), model.loss.names
    shared = {"gram": overlaps.Q, "scalars": scalars, "params": model.params}
    labels, kinks = model.law.labels(), model.loss.kinks_of(scalars, model.params)

    def one_label(mean, cov, value):
        f = fields.fields(model, plan, overlaps, (mean, cov, value), quadrature, kinks)
        envelopes = over_nodes(lambda o, e: envelope.moreau(model.loss, o, f.V, e), names, f.node, shared)(f.omega)
        total = jnp.sum(f.weight * envelopes)
        return total + _null_term(model, f, names, shared) if singular else total

    per_label = jax.vmap(one_label)(jnp.asarray(labels.mean), jnp.asarray(labels.cov), labels.value)
    return jnp.sum(jnp.asarray(labels.prob) * per_label)


def _null_term(model, f, names, shared):
    """1/2 <N (S - stop(S)) N, E grad^2 M> per token: value zero, the derivative that singular nodes cannot see.

    S is the covariance of omega given the target, N the projector on its null space."""
    total, E = 0.0, fields.axes(model)
    for token, (covariance, null) in enumerate(f.covariance):

        def shifted(shift, omega, extra, token=token):
            return envelope.moreau(model.loss, omega.at[token].add(shift @ E), f.V, extra)

        zero = jnp.zeros(len(E), f.omega.dtype)
        second = over_nodes(lambda o, e, g=shifted, z=zero: jax.hessian(g)(z, o, e), names, f.node, shared)(f.omega)
        average = jnp.einsum("n,nij->ij", f.weight, second)
        null = jax.lax.stop_gradient(null)
        change = null @ (covariance - jax.lax.stop_gradient(covariance)) @ null
        total = total + 0.5 * jnp.sum(jax.lax.stop_gradient(average) * change)
    return total


class ChannelOut(NamedTuple):
    """C, its conjugates, and its gradients in the free means (A, r) and the trained scalars."""

    value: object
    conjugates: Conjugates
    d_means: object
    d_scalars: object
    d_V: object


@functools.partial(jax.jit, static_argnames=("singular",))
def _slopes(model, overlaps, scalars, piece, singular):
    return jax.value_and_grad(channel, argnums=(1, 2))(model, overlaps, scalars, piece, singular)


def conjugates(model: Model, overlaps: Overlaps, scalars, quadrature, singular: bool = False) -> ChannelOut:
    """The conjugates that the overlaps produce, all by one gradient of :func:`channel`; the rule may be in parts."""
    return _channel_out(model, *total(lambda piece: _slopes(model, overlaps, scalars, piece, singular), quadrature))


def _channel_out(model, value, slopes) -> ChannelOut:
    g, d_scalars = slopes
    rate = model.alpha / model.law.size
    hats = Conjugates(
        q_hat=-2.0 * rate * symmetrise(g.V),
        V_hat=2.0 * rate * symmetrise(g.q),
        m_hat=model.unless_zeroed("m", -rate * g.m),
        theta_hat=model.unless_zeroed("theta", -rate * g.theta),
        Q_hat=2.0 * rate * symmetrise(g.Q),
    )
    return ChannelOut(value, hats, g.m, d_scalars, symmetrise(g.V))


def linearised_conjugates(model: Model, overlaps: Overlaps, scalars, quadrature, singular: bool, needed):
    """:func:`conjugates`, and its derivative along each of the n numbers of (overlaps, scalars): a :class:`ChannelOut` whose
    leaves have an axis of n in front, zero unless ``needed`` (traced).

    Both in one pass over the nodes: compiling costs more than running, and the proximal operator is written down once.
    """
    x, unravel = ravel_pytree((overlaps, scalars))

    def piece(rule):
        slopes, linear = jax.linearize(lambda x: _slopes(model, *unravel(x), rule, singular), x)
        along = jax.vmap(linear)
        basis = jnp.eye(x.size, dtype=x.dtype)
        none = jax.tree.map(lambda leaf: jnp.zeros((x.size, *leaf.shape), leaf.dtype), slopes)
        return slopes, jax.lax.cond(needed, lambda: along(basis), lambda: none)

    slopes, derivatives = total(piece, quadrature)
    out = _channel_out(model, *slopes)
    return out, jax.vmap(lambda d: _channel_out(model, *d))(derivatives)


class Moments(NamedTuple):
    """Second moments of the prox's Jacobian: what the certificate needs."""

    price: object  # (B, r, r): V_hat from the Hessian
    pair: object  # (B, r, r, B, r, r): the map delta q -> delta q_hat of the replicon
    prox_error: object  # largest violation of the prox's stationarity, relative


def jacobian_moments(model: Model, overlaps: Overlaps, scalars, quadrature) -> Moments:
    """V_hat in its Hessian form, the replicon's channel half, and how well the prox was solved."""
    plan, names = loss_layout(model), model.loss.names
    shared = {"gram": overlaps.Q, "scalars": scalars, "params": model.params}
    labels, kinks = model.law.labels(), model.loss.kinks_of(scalars, model.params)
    rate = model.alpha / model.law.size

    def one_label(mean, cov, value, piece):
        f = fields.fields(model, plan, overlaps, (mean, cov, value), piece, kinks)
        moments = fields.assemble(model, overlaps, mean, cov)
        spread = jnp.sqrt(jnp.max(jnp.abs(moments.q)))
        size = jnp.max(jnp.abs(moments.mean)) + 5.0 * spread + 1e-300  # of omega, whatever nodes this part has

        def slope(omega, extra):
            if model.loss.moreau is not None:
                return jax.grad(envelope.moreau, argnums=1)(model.loss, omega, f.V, extra), 0.0
            h = envelope.prox(model.loss, omega, f.V, extra)
            minus_f = jax.grad(envelope.evaluate, argnums=1)(model.loss, h, extra)
            miss = jnp.max(jnp.abs(h - omega + jnp.einsum("lab,lb->la", f.V, minus_f)))
            return minus_f, miss / (1e-3 * size + jnp.max(jnp.abs(h - omega)))

        hessian = jax.jacfwd(slope, has_aux=True)  # of the envelope, in omega
        H, miss = over_nodes(hessian, names, f.node, shared)(f.omega)  # H: (N, L, r, L, r)
        diagonal = jnp.einsum("n,nlalb->lab", f.weight, H)
        pair = jnp.einsum("n,nlamb,nlcmd,lp,mq->pacqbd", f.weight, H, H, cov, cov)
        bad = jnp.max(jnp.where(f.weight > 1e-14, miss, 0.0))
        return jnp.einsum("lb,lij->bij", cov, diagonal), pair, bad

    prob = jnp.asarray(labels.prob)

    def of(piece):
        price, pair, bad = jax.vmap(functools.partial(one_label, piece=piece))(
            jnp.asarray(labels.mean), jnp.asarray(labels.cov), labels.value
        )
        return Moments(rate * jnp.tensordot(prob, price, 1), rate * jnp.tensordot(prob, pair, 1), jnp.max(bad))

    def combine(a, b):
        return jnp.maximum(a, b) if a.ndim == 0 else a + b

    return total(of, quadrature, combine)
