"""Derivatives through the solve: one rule at the entry point, by the implicit function theorem."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..numerics import check
from ..numerics.precision import float64
from .certificate import Plan, certify
from .model import Model, as_numbers
from .quadratures import scheme
from .saddle import Outcome, update
from .solve import Solved, order_parameters, solve

REFUSAL = (
    "a theory cannot be solved inside jax.jit, jax.vmap or a second derivative: call it outside, take first "
    "derivatives with jax.grad or problem.gradient, and use quenched.sweep for many parameters"
)


@functools.partial(jax.jit, static_argnames=("which", "plan"))
def _linearise(model, unknowns, rule, rules, which, plan):
    """The Jacobian of every output (name -> (..., P)) in the P numbers of the leaves ``which``."""
    leaves, treedef = jax.tree.flatten(model)
    x, unravel_x = ravel_pytree(unknowns)
    p, unravel_p = ravel_pytree([jnp.asarray(leaves[i]) for i in which])

    def evaluate(y):
        x, p = y[:unknowns_size], y[unknowns_size:]
        moved = list(leaves)
        for i, leaf in zip(which, unravel_p(p), strict=True):
            moved[i] = leaf
        there = jax.tree.unflatten(treedef, moved)
        at = unravel_x(x)
        zero = jnp.zeros(())
        new, out = update(there, at, rule, plan.singular)
        certificate = certify(there, Outcome(at, zero, zero, zero, zero, out), None, rule, rules, plan)
        outputs = {**at.overlaps._asdict(), **certificate.conjugates._asdict(), **at.scalars, **certificate.observables}
        return ravel_pytree(new)[0], outputs

    unknowns_size = x.size
    step, outputs = jax.jacfwd(evaluate)(jnp.concatenate([x, p]))
    dx = jnp.linalg.solve(jnp.eye(x.size) - step[:, : x.size], step[:, x.size :])
    return jax.tree.map(lambda a: a[..., : x.size] @ dx + a[..., x.size :], outputs)


def is_traced(model: Model) -> bool:
    """Whether any number of the model is a JAX tracer."""
    return check.traced(*jax.tree.leaves(model))


def outputs(solved: Solved) -> dict:
    """Order parameters and observables by name (NumPy)."""
    return {**order_parameters(solved), **solved.certificate.observables}


def differentiable(tree, value, jacobian):
    """``value(tree) -> (outputs, rest)`` of a pytree some of whose leaves are being differentiated.

    ``value`` and ``jacobian(tree, rest, which) -> name -> (..., P)`` (the P numbers of the leaves ``which``) see plain numbers.
    Returns the differentiable outputs (name -> array of the caller's precision) and the rest.
    Raises ``TypeError`` where the numbers have no value yet (inside ``jit`` or ``vmap``, or a second derivative).
    """
    leaves, treedef = jax.tree.flatten(tree)
    which = tuple(i for i, leaf in enumerate(leaves) if check.traced(leaf))
    box = []

    def concrete(values):
        if check.traced(*values):
            raise TypeError(REFUSAL)
        new = list(leaves)
        for i, number in zip(which, values, strict=True):
            new[i] = np.asarray(number, dtype=np.float64)
        numbers = as_numbers(jax.tree.unflatten(treedef, new))
        found, rest = value(numbers)
        box.append(rest)
        return numbers, found, rest

    @jax.custom_jvp
    def entry(*values):
        return jax.tree.map(jnp.asarray, concrete(values)[1])

    @entry.defjvp
    def rule(primals, tangents):
        numbers, found, rest = concrete(primals)
        slopes = jacobian(numbers, rest, which)
        primal = jax.tree.map(jnp.asarray, found)
        return primal, {name: _contract(slopes[name], tangents, primal[name].dtype) for name in primal}

    return entry(*[leaves[i] for i in which]), box[-1]


def solve_traced(model: Model, **options):
    """Solve a model some of whose numbers are being differentiated, see :func:`differentiable`: outputs and :class:`Solved`."""

    def value(model):
        solved = solve(model, **options)
        return outputs(solved), solved

    def jacobian(model, solved, which):
        averages = scheme(model)
        with float64(True):
            found = _linearise(
                model, solved.certificate.unknowns, averages.solving_rules(solved.level)[0], averages.rules,
                which, Plan(solved.singular, averages.jumps),
            )  # fmt: skip
            return jax.tree.map(np.asarray, found)

    return differentiable(model, value, jacobian)


def _contract(jacobian, tangents, dtype):
    """sum over leaves of d output / d leaf times its tangent, as multiply-and-sum in the caller's precision."""
    total, used = jnp.zeros(jacobian.shape[:-1], dtype), 0
    for tangent in tangents:
        part = jacobian[..., used : used + tangent.size]
        used += tangent.size
        total = total + jnp.sum(jnp.asarray(part, dtype) * jnp.reshape(tangent, -1), axis=-1)
    return total


__all__ = ["REFUSAL", "differentiable", "is_traced", "outputs", "solve_traced"]
