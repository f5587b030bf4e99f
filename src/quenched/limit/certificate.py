"""The certificate of a saddle point, and the one function that is compiled for each problem structure."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..laws.base import Conjugates
from . import observables as obs
from .channel import jacobian_moments
from .model import Model
from .saddle import Outcome, Unknowns, energy, iterate, residual, scales, smallest_eigenvalue, update


class Certificate(NamedTuple):
    """What a solve reports beside the overlaps (all numbers, traced)."""

    unknowns: Unknowns
    conjugates: Conjugates
    residual: Any
    steps: Any
    lost: Any
    stalled: Any
    quadrature_error: Any
    replicon_map: Any
    stein_gap: Any
    prox_error: Any
    observables: dict
    null: Any  # smallest relative eigenvalue of the assembled covariances q


class Plan(NamedTuple):
    """Static choices of one compilation."""

    singular: bool
    discontinuous: tuple  # for every observable of the model


def certify(model: Model, outcome: Outcome, fine, quadrature, observable_rules, plan: Plan) -> Certificate:
    """Everything that is reported about the end of an iteration; ``fine`` is the rule that measures the error of ``quadrature``,
    None where the outcome knows (or nobody asks)."""
    unknowns = outcome.unknowns
    overlaps, scalars = unknowns.overlaps, unknowns.scalars
    out, finer = outcome.out, outcome.finer
    if fine is not None:
        finer = ravel_pytree(update(model, unknowns, fine, plan.singular).unknowns)[0]
    quadrature_error = jnp.zeros(())
    if finer is not None:
        x, size = (ravel_pytree(tree)[0] for tree in (unknowns, scales(model, unknowns)))
        shift = jnp.linalg.solve(jnp.eye(x.size) - outcome.jacobian, finer - x)
        quadrature_error = jnp.max(jnp.abs(shift) / size, initial=0.0)
    moments = jacobian_moments(model, overlaps, scalars, quadrature)
    # V_hat acts beside the weight decay, so a gap far below both is of no consequence
    scale = jnp.max(jnp.abs(out.conjugates.V_hat), initial=0.0) + model.weight_decay
    gap = jnp.max(jnp.abs(out.conjugates.V_hat - moments.price), initial=0.0) / scale
    found = {}
    for (name, fn), rule, jumps in zip(model.observables, observable_rules, plan.discontinuous, strict=True):
        found[name] = obs.test_average(model, fn, overlaps, scalars, rule, jumps)
    for name, fn in model.derived:
        found[name] = fn(model, overlaps)
    found["train_loss"] = out.value + jnp.sum(overlaps.V * out.d_V)
    found["free_energy"] = energy(model, unknowns, out.conjugates, out.value)
    return Certificate(
        unknowns, out.conjugates, outcome.residual, outcome.steps, outcome.lost, outcome.stalled, quadrature_error,
        replicon_matrix(model, out.conjugates, moments.pair), gap, moments.prox_error, found,
        smallest_eigenvalue(model, overlaps),
    )  # fmt: skip


def replicon_matrix(model: Model, hats: Conjugates, pair):
    """The linear map delta q -> delta q of the replicon, (B r r, B r r); its spectral radius decides stability."""
    B, r = hats.q_hat.shape[0], hats.q_hat.shape[1]
    size = B * r * r
    basis = jnp.eye(size).reshape(size, B, r, r)
    still = hats._replace(m_hat=jnp.zeros_like(hats.m_hat), theta_hat=jnp.zeros_like(hats.theta_hat))

    def response(direction):
        return model.law.overlaps(still._replace(q_hat=direction), model.weight_decay).q.reshape(size)

    spectral = jax.vmap(response)(basis).T
    return spectral @ pair.reshape(size, size)


@functools.partial(jax.jit, static_argnames=("plan",))
def certify_at(model, unknowns, quadrature, observable_rules, plan):
    """The certificate of any overlaps, without iterating."""
    new, out = update(model, unknowns, quadrature, plan.singular)
    outcome = Outcome(unknowns, residual(model, unknowns, new), jnp.asarray(0), *[jnp.asarray(False)] * 2, out)
    return certify(model, outcome, None, quadrature, observable_rules, plan), new


@functools.partial(jax.jit, static_argnames=("plan",))
def solve_and_certify(model, start, quadrature, fine, observable_rules, solver, plan):
    outcome = iterate(model, start, quadrature, solver, plan.singular)
    return certify(model, outcome, fine, quadrature, observable_rules, plan)
