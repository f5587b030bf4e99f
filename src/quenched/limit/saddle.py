"""The saddle point: the fixed point between the two potentials, its residual and its energy."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..laws.base import Conjugates, Overlaps
from .channel import ChannelOut, conjugates
from .fields import axes
from .model import Model

#: Below this relative eigenvalue a covariance of the fields counts as singular.
SINGULAR = 1e-10


class Unknowns(NamedTuple):
    """What the saddle point is solved for: the overlaps (with the free means) and the trained scalars."""

    overlaps: Overlaps
    scalars: Any


class Update(NamedTuple):
    """One undamped update."""

    unknowns: Unknowns
    out: ChannelOut


def exchangeable(overlaps: Overlaps) -> Overlaps:
    """The average of overlaps over all permutations of the hidden units."""
    r = overlaps.Q.shape[-1]
    eye = jnp.eye(r, dtype=overlaps.Q.dtype)

    def matrix(a):
        same = jnp.einsum("...ii->...", a) / r
        other = (jnp.sum(a, axis=(-2, -1)) - r * same) / max(r * (r - 1), 1)
        return same[..., None, None] * eye + other[..., None, None] * (1.0 - eye)

    def rows(a, axis):
        return jnp.broadcast_to(jnp.mean(a, axis=axis, keepdims=True), a.shape)

    o = overlaps
    return Overlaps(matrix(o.V), matrix(o.q), rows(o.m, -1), rows(o.theta, -2), matrix(o.Q))


def update(model: Model, unknowns: Unknowns, quadrature, singular: bool = False, near=None) -> Update:
    """Overlaps -> conjugates -> overlaps; free means and trained scalars take one gradient step. ``near``: where proximal operators
    are expected, see :func:`~quenched.limit.channel.conjugates`."""
    old = unknowns.overlaps
    out = conjugates(model, old, unknowns.scalars, quadrature, singular, near)
    new = model.law.overlaps(out.conjugates, model.weight_decay)
    if any(model.law.free):
        free = jnp.asarray(model.law.free, dtype=bool)[:, None]
        new = new._replace(m=jnp.where(free, old.m - out.d_means, new.m))
    if "units" in model.frozen:
        new = exchangeable(new)
    for name in set(model.frozen) & set(new._fields):
        new = new._replace(**{name: jnp.zeros_like(getattr(new, name))})
    scalars = jax.tree.map(lambda b, g: b - g, unknowns.scalars, out.d_scalars)
    return Update(Unknowns(new, scalars), out)


def scales(model: Model, unknowns: Unknowns) -> Unknowns:
    """The natural size of every unknown, block by block: what residuals are relative to."""
    o = unknowns.overlaps
    rho, _ = model.law.targets()
    # q = 0 is legal: overlaps far below the susceptibility (and the variance of the data, V <= variance / weight_decay) count as 0
    floor = 1e-8 * jnp.max(jnp.abs(o.V), initial=0.0) * jnp.minimum(1.0, model.weight_decay)
    q = jnp.maximum(jnp.max(jnp.abs(o.q), initial=0.0), floor)
    tiny = 1e-300

    def block(a, natural=0.0):
        return jnp.full_like(a, jnp.maximum(jnp.max(jnp.abs(a), initial=0.0), natural) + tiny)

    root = jnp.sqrt(q)
    return Unknowns(
        Overlaps(
            V=block(o.V),
            q=block(o.q, floor),
            m=block(o.m, root),
            theta=block(o.theta, root * jnp.sqrt(jnp.max(jnp.abs(jnp.asarray(rho)), initial=0.0))),
            Q=block(o.Q, 1e-3 * q),
        ),
        jax.tree.map(lambda b: jnp.maximum(jnp.abs(b), 1.0), unknowns.scalars),
    )


def residual(model: Model, old: Unknowns, new: Unknowns):
    """The largest relative change in one undamped update."""
    size = scales(model, old)
    change = jax.tree.map(lambda a, b, s: jnp.max(jnp.abs(a - b) / s, initial=0.0), new, old, size)
    return jax.tree.reduce(jnp.maximum, change)


def valid(model: Model, unknowns: Unknowns):
    """All finite, every susceptibility positive, every joint covariance of (omega, h_*) non-negative."""
    o = unknowns.overlaps
    finite = jax.tree.reduce(jnp.logical_and, jax.tree.map(lambda a: jnp.all(jnp.isfinite(a)), unknowns))
    labels = model.law.labels()
    rho, _ = model.law.targets()
    cov = jnp.asarray(labels.cov)

    def combine(a):
        return jnp.einsum("clb,bij->clij", cov, jnp.where(jnp.isfinite(a), a, 0.0))

    def lowest(a):
        size = jnp.max(jnp.abs(a), axis=(-2, -1))
        low = a[..., 0, 0] if a.shape[-1] == 1 else jnp.linalg.eigvalsh(a)[..., 0]
        return jnp.min(low + 1e-9 * size)

    q, theta, rho = combine(o.q), combine(o.theta), combine(jnp.asarray(rho))
    if rho.shape[-1]:
        if q.shape[-1] == rho.shape[-1] == 1:
            joint = jnp.min(q * rho - theta**2 * (1.0 - 1e-9))
            joint = jnp.minimum(joint, jnp.min(q))
        else:
            top = jnp.concatenate([q, theta], -1)
            joint = lowest(jnp.concatenate([top, jnp.concatenate([jnp.swapaxes(theta, -1, -2), rho], -1)], -2))
    else:
        joint = lowest(q)
    return finite & (lowest(combine(o.V)) > 0.0) & (joint >= 0.0)


def smallest_eigenvalue(model: Model, overlaps: Overlaps):
    """The smallest relative eigenvalue of the assembled q of all labels and tokens, along the axes that the loss sees."""
    cov, E = jnp.asarray(model.law.labels().cov), axes(model)
    q = E @ jnp.einsum("clb,bij->clij", cov, overlaps.q) @ E.T
    if q.shape[-1] == 1:
        return jnp.where(jnp.min(q) > 0.0, 1.0, 0.0)
    values = jnp.linalg.eigvalsh(q)
    return jnp.min(values[..., 0] / jnp.maximum(values[..., -1], 1e-300))


def energy(model: Model, unknowns: Unknowns, hats: Conjugates, value):
    """The free energy at any overlaps and conjugates, per input dimension; ``value`` is the channel's C."""
    o, rate = unknowns.overlaps, model.alpha / model.law.size
    e = (
        0.5 * jnp.sum(hats.q_hat * o.V)
        - 0.5 * jnp.sum(hats.V_hat * o.q)
        - 0.5 * jnp.sum(hats.Q_hat * o.Q)
        + jnp.sum(hats.m_hat * o.m)
        + jnp.sum(hats.theta_hat * o.theta)
        - model.law.potential(hats, model.weight_decay)
        + rate * value
    )
    return model.law.size * e
