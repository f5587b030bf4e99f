"""How often a proximal problem has more than one local minimum: there replica symmetry is an approximation."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from ..laws.base import Overlaps
from ..losses import envelope
from ..numerics import gaussian
from . import fields
from .channel import loss_layout, over_nodes
from .model import Model
from .parts import in_parts, total

#: log2 of the number of fields that are looked at, and how far apart two minima must lie, relative to the largest field.
_LOG2, _APART = 12, 1e-3


def bistable_mass(model: Model, overlaps: Overlaps, scalars=None):
    """The probability that the proximal problem of a training sample has several local minima: an estimate from 4,096 fields.

    The proximal operator jumps where two of them are equally deep; then its Jacobian has no second moment, and the replicon, which
    sees the smooth part only, says nothing. A lower bound: minima count where the searches for the global one end in them.
    Source: H. Cui, F. Behrens, F. Krzakala, L. Zdeborova (2024), arXiv:2402.03902.
    """
    plan, names, labels = loss_layout(model), model.loss.names, model.law.labels()
    nodes, weights = gaussian.sobol(plan.dimension(model), _LOG2, seed=11)
    half, held = len(weights) // 2, "m" in model.frozen or model.zeroed.get("m", False)
    mirrored = (tuple(range(model.shape[2])), -1) in model.symmetries
    ladder = in_parts([(nodes[:half], 2.0 * weights[:half]), (nodes, weights)])
    rule = ladder._replace(level=jnp.where(mirrored & held, 0, 1))  # where they are mirror images, half of the nodes say it all
    shared = {"gram": overlaps.Q, "scalars": scalars, "params": model.params}

    def one_label(mean, cov, value, part):
        f = fields.fields(model, plan, overlaps, (mean, cov, value), part)
        ends = over_nodes(lambda omega, extra: envelope.minima(model.loss, omega, f.V, extra), names, f.node, shared)(f.omega)
        spread = jnp.max(jnp.abs(ends - ends[:, :1]), axis=(1, 2, 3))
        size = jnp.max(jnp.abs(ends), axis=(1, 2, 3))
        return jnp.sum(f.weight * (spread > _APART * size))

    def each(part):
        by_label = jax.vmap(functools.partial(one_label, part=part))
        return by_label(jnp.asarray(labels.mean), jnp.asarray(labels.cov), labels.value)

    return jnp.sum(jnp.asarray(labels.prob) * total(each, rule))
