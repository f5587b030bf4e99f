"""One-pass stochastic gradient descent in the limit: closed equations of motion of its summary statistics.

Every step sees a fresh sample, so the averages are those of the channel at V = 0: its conjugates are drift and noise,
``dw = eta [-(sum_b gamma_b V_hat_b + Q_hat + lambda) w + m_hat^T tau + (sum_b gamma_b theta_hat_b) pi] dt`` for the coordinates of
one atom, with noise ``eta^2 sum_b gamma_b q_hat_b``, after t d steps.

Source: D. Saad, S. Solla (1995), Phys. Rev. E 52, 4225; S. Goldt et al. (2019), arXiv:1906.08632;
H. Cui, C. Pehlevan, Y. Lu (2025), arXiv:2501.03937, for autoencoders of mixtures.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..laws.base import Overlaps
from ..losses import envelope
from ..numerics import gaussian
from ..numerics.linalg import symmetrise
from ..numerics.precision import float64
from ..numerics.results import RESULTS
from . import fields
from .channel import over_nodes
from .model import Model
from .observables import test_average
from .parts import Parts, in_parts, total
from .quadratures import Scheme, jumping_rule, scheme

#: Gauss-Hermite nodes an axis, level by level, where an outcome has a normal number of its own: for two to four other fields,
#: and for that number.
_FIELDS = {1: (24, 40, 64, 100), 2: (12, 18, 26, 38), 3: (9, 12, 16, 22), 4: (7, 9, 11, 14)}
_OWN = (2, 3, 4, 5)
#: Derivatives of a path are compared with differences of this step, and must be within this part of the largest.
_STEP, _ALLOWED = 3e-4, 1e-2
#: Most adaptive steps of one trajectory.
MAX_STEPS = 100_000


class Statistics(NamedTuple):
    """Summary statistics of weights, atom by atom (S atoms, k = A + t directions, r units).

    ``gram[s] = sum_{i in s} w_i w_i^T / d`` and ``projections[s] = sum_{i in s} tau_i w_i^T / d``, in the coordinates of
    :class:`~quenched.laws.SpectralLaw`; ``free`` (F, r) the free means, ``scalars`` the trained numbers.
    """

    gram: Any
    projections: Any
    free: Any
    scalars: dict


class Descent(NamedTuple):
    """One descent: the problem (its alpha and weight decay play no part), the rates, and where it starts."""

    model: Model
    learning_rate: Any
    scalar_rate: Any
    weight_decay: Any
    start: Statistics


class Path(NamedTuple):
    """``values``: name -> (K, ...) at the times asked for; ``result``; ``quadrature_error`` of the whole path; ``level``."""

    values: dict
    result: RESULTS
    quadrature_error: float
    level: int
    steps: int


def overlaps_of(model: Model, statistics: Statistics) -> Overlaps:
    """The order parameters of the weights; V = 0, since every sample is fresh."""
    law = model.law.atoms()
    gamma, A = jnp.asarray(law.eigenvalues), len(model.law.free)
    q = jnp.tensordot(gamma.T, statistics.gram, axes=1)
    m = jnp.sum(statistics.projections[:, :A], axis=0)
    m = m.at[np.flatnonzero(model.law.free)].set(statistics.free)
    theta = jnp.einsum("sb,str->brt", gamma, statistics.projections[:, A:])
    return Overlaps(jnp.zeros_like(q), q, m, theta, jnp.sum(statistics.gram, axis=0))


def _layout(model: Model) -> fields.Layout:
    """The fields of the loss; no outcome is interpolated, since nothing is solved at a node."""
    return fields.layout(model, model.loss.names, residual=model.loss.residual)


def _rule(model: Model, averages: Scheme, level: int):
    plan = _layout(model)
    dimension = plan.dimension(model)
    if averages.panels or not plan.linked:
        return averages.solving_rules(level)[0]
    if averages.splits.places or averages.splits.moving:
        return jumping_rule(averages.splits, dimension, level)
    return _linked_rules(dimension, averages.levels)._replace(level=np.array(level))


@functools.lru_cache(maxsize=16)
def _linked_rules(dimension: int, levels: int) -> Parts:
    """Rules whose last variable is the outcome's own noise."""
    if dimension - 1 not in _FIELDS:
        return in_parts([gaussian.sobol(dimension, gaussian.SOBOL[level], seed=level) for level in range(levels)])
    rules = []
    for level in range(levels):
        z, weights = gaussian.tensor_hermite(dimension - 1, _FIELDS[dimension - 1][level])
        own, its_weights = gaussian.tensor_hermite(1, _OWN[level])
        nodes = np.hstack([np.repeat(z, len(own), 0), np.tile(own, (len(z), 1))])
        rules.append((nodes, np.outer(weights, its_weights).reshape(-1)))
    return in_parts(rules)


def population(model: Model, overlaps: Overlaps, scalars, quadrature):
    """The mean loss of a fresh sample, and the second moments (B, r, r) of its gradient in h: what moves q by noise."""
    plan, names = _layout(model), model.loss.names
    shared = {"gram": overlaps.Q, "scalars": scalars, "params": model.params}
    labels, kinks = model.law.labels(), model.loss.kinks_of(scalars, model.params)

    def one_label(mean, cov, value):
        f = fields.fields(model, plan, overlaps, (mean, cov, value), quadrature, kinks)

        def sample(omega, extra):
            return jax.value_and_grad(envelope.evaluate, argnums=1)(model.loss, omega, extra)

        loss, slope = over_nodes(sample, names, f.node, shared)(f.omega)
        return f.weight @ loss, jnp.einsum("n,lb,nlu,nlv->buv", f.weight, cov, slope, slope)

    loss, second = jax.vmap(one_label)(jnp.asarray(labels.mean), jnp.asarray(labels.cov), labels.value)
    prob = jnp.asarray(labels.prob)
    return prob @ loss, jnp.tensordot(prob, second, axes=1)


def velocity(descent: Descent, statistics: Statistics, quadrature) -> Statistics:
    """The time derivative of the statistics; time is the number of steps over d."""
    model, law = descent.model, descent.model.law.atoms()
    overlaps = overlaps_of(model, statistics)

    def part(rule):
        return jax.grad(population, argnums=(1, 2), has_aux=True)(model, overlaps, statistics.scalars, rule)

    (g, d_scalars), second = total(part, quadrature)
    gamma, gram = jnp.asarray(law.eigenvalues), jnp.asarray(law.gram)
    eta, decay = descent.learning_rate, descent.weight_decay * jnp.eye(model.units)
    pull = decay + 2.0 * (symmetrise(g.Q) + jnp.tensordot(gamma, symmetrise(g.q), axes=1))  # (S, r, r)
    means = jnp.broadcast_to(g.m, (len(gamma), *g.m.shape))
    push = -jnp.concatenate([means, jnp.einsum("sb,brt->str", gamma, g.theta)], axis=1)  # (S, k, r)
    projections = jnp.einsum("skl,slr->skr", gram, push) - statistics.projections @ pull
    drift = jnp.swapaxes(push, 1, 2) @ statistics.projections - pull @ statistics.gram
    noise = jnp.asarray(law.weights)[:, None, None] * jnp.tensordot(gamma, second, axes=1)
    return Statistics(
        gram=2.0 * eta * symmetrise(drift) + eta**2 * noise,
        projections=eta * projections,
        free=-descent.scalar_rate * g.m[np.flatnonzero(model.law.free)],
        scalars={name: -descent.scalar_rate * slope for name, slope in d_scalars.items()},
    )


def _measured(model, statistics, quadrature, rules, jumps):
    """Order parameters and observables of one state."""
    overlaps, scalars = overlaps_of(model, statistics), statistics.scalars
    found = {name: value for name, value in overlaps._asdict().items() if name != "V"} | dict(scalars)
    found["test_loss"] = total(lambda rule: population(model, overlaps, scalars, rule)[0], quadrature)
    for (name, fn), rule, boolean in zip(model.observables, rules, jumps, strict=True):
        found[name] = test_average(model, fn, overlaps, scalars, rule, boolean)
    return found


def _integrate(descent, times, quadrature, rules, jumps, tol, forward):
    """Values at the times, how it ended (Diffrax's codes), steps taken."""
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, args: velocity(args[0], y, args[1])),
        diffrax.Tsit5(), 0.0, times[-1], None, jax.tree.map(jnp.asarray, descent.start), args=(descent, quadrature),
        saveat=diffrax.SaveAt(ts=times), stepsize_controller=diffrax.PIDController(rtol=tol, atol=1e-2 * tol),
        adjoint=diffrax.ForwardMode() if forward else diffrax.RecursiveCheckpointAdjoint(), max_steps=MAX_STEPS, throw=False,
    )  # fmt: skip
    values = jax.lax.map(lambda y: _measured(descent.model, y, quadrature, rules, jumps), solution.ys)
    return values, solution.result, solution.stats["num_steps"]


@functools.partial(jax.jit, static_argnames="jumps")
def _run(descent, times, quadrature, rules, jumps, tol):
    values, result, steps = _integrate(descent, times, quadrature, rules, jumps, tol, forward=False)
    codes = (diffrax.RESULTS.successful, diffrax.RESULTS.max_steps_reached)
    return values, jnp.stack([result == code for code in codes]), steps


@functools.partial(jax.jit, static_argnames=("which", "jumps"))
def _linearise(descent, times, quadrature, rules, which, jumps, tol):
    """The Jacobian of every value, name -> (K, ..., P), in the P numbers of the leaves ``which``."""
    leaves, treedef = jax.tree.flatten(descent)
    flat, unravel = ravel_pytree([jnp.asarray(leaves[i]) for i in which])

    def values(p):
        new = list(leaves)
        for i, leaf in zip(which, unravel(p), strict=True):
            new[i] = leaf
        return _integrate(jax.tree.unflatten(treedef, new), times, quadrature, rules, jumps, tol, forward=True)[0]

    return jax.jacfwd(values)(flat)


def descend(descent: Descent, times, tol: float, quadrature_tol: float | None) -> Path:
    """The path at increasing ``times`` (K,), the Gaussian averages refined until it moves by less than ``quadrature_tol``.

    The path ends early (fewer rows than times) where the descent diverges.
    """
    averages = scheme(descent.model)
    goal = averages.tolerance if quadrature_tol is None else quadrature_tol
    rough = None
    with float64(True):
        for level in range(averages.levels):
            run = _run(descent, times, _rule(descent.model, averages, level), averages.rules, averages.jumps, tol)
            values, codes, steps = jax.device_get(run)
            finite = [np.isfinite(v).reshape(len(times), -1).all(axis=1) for v in values.values()]
            kept = int(np.argmin(np.append(np.all(finite, axis=0), False)))
            values = {name: value[:kept] for name, value in values.items()}
            exact = averages.quadratic and averages.levels == 1  # the one rule there is has no error
            error = 0.0 if exact else np.inf if rough is None else _distance(rough, values)
            if error <= goal or kept == 0:
                break
            rough = values
    if kept < len(times):
        result = RESULTS.max_steps if codes[1] else RESULTS.nonfinite
    else:
        result = RESULTS.successful if error <= goal else RESULTS.quadrature
    return Path(values, result, error, level, int(steps))


def jacobian(descent: Descent, times, tol: float, level: int, which: tuple):
    """The Jacobian of the path (NumPy): name -> (K, ..., P), in the P numbers of the leaves ``which`` of ``descent``."""
    averages = scheme(descent.model)
    rule = _rule(descent.model, averages, level)
    with float64(True):
        found = _linearise(descent, times, rule, averages.rules, which, averages.jumps, tol)
        found = jax.tree.map(np.asarray, found)

        def shifted(steps):  # upwards only: variances and rates may be zero
            leaves, treedef = jax.tree.flatten(descent)
            for i in which:
                leaves[i] = np.asarray(leaves[i]) + steps * _STEP * (1.0 + np.abs(leaves[i]))
            return jax.device_get(_run(jax.tree.unflatten(treedef, leaves), times, rule, averages.rules, averages.jumps, tol)[0])

        direction = np.concatenate([1.0 + np.abs(np.ravel(jax.tree.leaves(descent)[i])) for i in which])
        here, one, two = (shifted(steps) for steps in (0.0, 1.0, 2.0))
    slopes = {name: (4.0 * one[name] - 3.0 * here[name] - two[name]) / (2.0 * _STEP) for name in here}
    away = max(np.abs(found[name] @ direction - slopes[name]).max(initial=0.0) for name in slopes)
    scale = max(np.abs(slope).max(initial=0.0) for slope in slopes.values())
    if not away <= _ALLOWED * (scale + 1e-3):
        raise ValueError(
            "the loss is not smooth enough for derivatives of the path: those by automatic differentiation are "
            f"{away / max(scale, 1e-300):.1g} (relatively) from differences of the path; use differences"
        )
    return found


def _distance(rough, fine) -> float:
    """The largest relative difference between two paths, each value on the scale of its own largest."""
    if any(len(rough[name]) != len(fine[name]) for name in fine):
        return np.inf
    gaps = [np.abs(fine[n] - rough[n]).max(initial=0.0) / (1e-3 + np.abs(fine[n]).max(initial=0.0)) for n in fine]
    return float(max(gaps))
