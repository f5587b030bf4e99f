"""How often a proximal problem has more than one local minimum: there replica symmetry is an approximation."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ..laws.base import Overlaps
from ..losses import envelope
from ..numerics import gaussian
from . import fields
from .channel import loss_layout, over_nodes
from .model import Model

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
    if "m" in model.frozen and (tuple(range(model.shape[2])), -1) in model.symmetries:
        nodes, weights = nodes[: len(nodes) // 2], 2.0 * weights[: len(nodes) // 2]  # the others are their mirror images
    shared = {"gram": overlaps.Q, "scalars": scalars, "params": model.params}

    def one_label(mean, cov, value):
        f = fields.fields(model, plan, overlaps, (mean, cov, value), (nodes, weights))
        ends = over_nodes(lambda omega, extra: envelope.minima(model.loss, omega, f.V, extra), names, f.node, shared)(f.omega)
        spread = jnp.max(jnp.abs(ends - ends[:, :1]), axis=(1, 2, 3))
        size = jnp.max(jnp.abs(ends), axis=(1, 2, 3))
        return jnp.sum(f.weight * (spread > _APART * size))

    each = jax.vmap(one_label)(jnp.asarray(labels.mean), jnp.asarray(labels.cov), labels.value)
    return jnp.sum(jnp.asarray(labels.prob) * each)
