"""Observables of a solved problem: averages over fresh data, over the training fields, and of the overlaps themselves."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ..laws.base import Overlaps
from ..losses import envelope
from ..losses.base import answer, argument_names
from ..numerics.gaussian import RANGE, panel_rule
from . import fields
from .model import Model

_SCAN, _BISECTIONS = 512, 52
#: The most dimensions in which panels end at the jumps of an observable.
SPLIT = 2
_PROBES = (-0.9, 0.2, 1.3)


def test_average(model: Model, fn, overlaps: Overlaps, scalars, quadrature, discontinuous: bool):
    """E fn(h, ...) on fresh data: the fields at V = 0, without a proximal operator.

    In one and two dimensions the panels of a discontinuous observable end at its jumps; in more, a quasi-random rule is used
    (right to about 5e-4). The density is differentiated there, and not the nodes.
    """
    names = argument_names(fn, "observable")
    plan = fields.layout(model, names)
    fresh = overlaps._replace(V=jnp.zeros_like(overlaps.V))
    shared = {"gram": overlaps.Q, "scalars": scalars, "params": model.params}
    split = discontinuous and 0 < plan.dimension(model) <= SPLIT

    def one_label(mean, cov, value):
        label = (mean, cov, value)
        rule = _split_at_jumps(model, fn, names, plan, fresh, label, shared) if split else quadrature
        f = fields.fields(model, plan, fresh, label, rule, frozen_nodes=discontinuous, aligned=split)
        values = jax.vmap(lambda o, n: _call(fn, names, o, n, shared))(f.omega, f.node)
        return jnp.tensordot(f.weight, jnp.asarray(values, f.weight.dtype), 1)

    labels = model.law.labels()
    per_label = jax.vmap(one_label)(jnp.asarray(labels.mean), jnp.asarray(labels.cov), labels.value)
    return jnp.tensordot(jnp.asarray(labels.prob), per_label, 1)


def _call(fn, names, omega, node, shared):
    given = {**shared, **node, "h": omega}
    return answer("observable", fn, **{name: given[name] for name in names})


def _split_at_jumps(model, fn, names, plan, overlaps, label, shared):
    """A rule for one or two standard normal variables whose panels end where ``fn`` jumps.

    For the last variable that is where it jumps given the first; for the first, where it jumps at a few values of the last."""
    overlaps = jax.lax.stop_gradient(overlaps)

    def values(nodes):  # (X, D) -> (X, outcomes)
        f = fields.fields(model, plan, overlaps, label, (nodes, jnp.ones(len(nodes))), aligned=True)
        out = jax.vmap(lambda o, n: _call(fn, names, o, n, shared))(f.omega, f.node)
        return out.reshape(-1, len(nodes)).T

    def beside(x, fixed):
        return jnp.broadcast_to(fixed, x.shape)

    if plan.dimension(model) == 1:
        x, weights = panel_rule(_breaks(_jumps(lambda x: values(x[:, None]))))
        return x[:, None], weights
    probes = jnp.array(_PROBES)
    first = jax.vmap(lambda last: _jumps(lambda x: values(jnp.stack([x, beside(x, last)], 1))))(probes)
    outer, outer_weights = panel_rule(_breaks(first.reshape(-1)))

    def line(before):
        x, weights = panel_rule(_breaks(_jumps(lambda x: values(jnp.stack([beside(x, before), x], 1)))))
        return jnp.stack([beside(x, before), x], 1), weights

    nodes, weights = jax.vmap(line)(outer)
    return nodes.reshape(-1, 2), (outer_weights[:, None] * weights).reshape(-1)


def _breaks(jumps):
    """The ends of panels: equal ones, and the jumps."""
    return jax.lax.stop_gradient(jnp.sort(jnp.concatenate([jnp.linspace(-RANGE, RANGE, 17), jumps])))


def _jumps(values):
    """Where ``values`` (X,) -> (X, K) jumps, by bisection: eight places, a boolean function of one variable rarely has more."""
    grid = jnp.linspace(-RANGE, RANGE, _SCAN + 1)
    at = values(grid)
    which = jnp.nonzero(jnp.any(at[1:] != at[:-1], axis=1), size=8, fill_value=_SCAN - 1)[0]
    low, high, value_low = grid[which], grid[which + 1], at[which]

    def halve(_, ends):
        low, high = ends
        middle = 0.5 * (low + high)
        same = jnp.all(values(middle) == value_low, axis=1)
        return jnp.where(same, middle, low), jnp.where(same, high, middle)

    low, high = jax.lax.fori_loop(0, _BISECTIONS, halve, (low, high))
    return 0.5 * (low + high)


def training_layout(model: Model, fn) -> fields.Layout:
    """The Gaussian fields of an average over the training set: what ``fn`` reads, and what the loss does."""
    return fields.layout(model, tuple(dict.fromkeys((*argument_names(fn, "observable"), *model.loss.names))))


def training_average(model: Model, fn, overlaps: Overlaps, scalars, quadrature):
    """E fn over the training set: the same fields with h at the proximal operator, whose law the trained
    pre-activations have."""
    plan, mine = training_layout(model, fn), argument_names(fn, "observable")
    shared = {"gram": overlaps.Q, "scalars": scalars, "params": model.params}
    kinks = model.loss.kinks_of(scalars, model.params) if plan.dimension(model) == 1 else None

    def one_label(mean, cov, value):
        f = fields.fields(model, plan, overlaps, (mean, cov, value), quadrature, kinks)

        def at_prox(omega, node):
            extra = {name: {**shared, **node}[name] for name in model.loss.names if name != "h"}
            return _call(fn, mine, envelope.prox(model.loss, omega, f.V, extra), node, shared)

        values = jax.vmap(at_prox)(f.omega, f.node)
        return jnp.tensordot(f.weight, jnp.asarray(values, f.weight.dtype), 1)

    labels = model.law.labels()
    per_label = jax.vmap(one_label)(jnp.asarray(labels.mean), jnp.asarray(labels.cov), labels.value)
    return jnp.tensordot(jnp.asarray(labels.prob), per_label, 1)


def cosine(model: Model, overlaps: Overlaps):
    """The cosine similarity of every unit with every target on inputs of the average covariance, (r, t)."""
    labels = model.law.labels()
    weights = jnp.einsum("c,clb->b", jnp.asarray(labels.prob), jnp.asarray(labels.cov))
    rho, _ = model.law.targets()
    q = jnp.einsum("b,bij->ij", weights, overlaps.q)
    theta = jnp.einsum("b,bij->ij", weights, overlaps.theta)
    rho = jnp.einsum("b,bij->ij", weights, jnp.asarray(rho))
    scale = jnp.sqrt(jnp.outer(jnp.diag(q), jnp.diag(rho)))
    return jnp.where(scale > 0, theta / jnp.where(scale > 0, scale, 1.0), 0.0)
