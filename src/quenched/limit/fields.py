"""The Gaussian fields that a loss or an observable sees, given the overlaps: nodes and weights, label by label."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from ..laws.base import Overlaps
from ..numerics.gaussian import panel_rule
from ..numerics.roots import psd_factors
from .interpolation import outcome_nodes
from .model import Model


class Layout(NamedTuple):
    """Which Gaussian variables an integrand needs (static)."""

    residual: bool  # only h - label matters: one dimension instead of two
    target: bool  # the target's field is integrated
    merged: bool  # an additive outcome takes the target's place, its noise in the target's variance
    extra: bool  # additive noise beside the target
    noise: bool  # a standard normal z
    outcomes: bool  # outcomes are summed: discrete ones, or the nodes of an interpolation
    linked: bool  # the outcome is computed from the target and a normal number of its own

    @property
    def joint(self) -> bool:
        """Whether a token's target is integrated together with its omega."""
        return self.target or self.merged or self.linked

    def dimension(self, model: Model) -> int:
        """The number of Gaussian dimensions (without the outcomes)."""
        A, B, L, t, C = model.shape
        if self.residual:
            return 1
        tokens = sum(model.reads) if self.joint else 0
        return L * len(axes(model)) + tokens * t + (L * t if self.extra else 0) + int(self.linked) + int(self.noise)


#: The most dimensions of omega for which a real outcome is interpolated; in more it is one more quasi-random dimension.
INTERPOLATED = 3


def layout(model: Model, names, residual: bool = False, interpolate: bool = False) -> Layout:
    """The fields that an integrand with these argument names needs; ``interpolate``: it is smooth in a real outcome."""
    response = model.response
    additive = response is not None and response.additive_variance is not None
    label, target = "label" in names, "target" in names
    linked = response is not None and response.linked and label
    A, B, L, t, C = model.shape
    if residual and additive and L == t == model.units == 1 and not target:
        return Layout(True, False, False, False, False, False, False)
    interpolate = interpolate and linked and not target and L * len(axes(model)) <= INTERPOLATED
    return Layout(
        residual=False,
        target=target,
        merged=additive and label and not target,
        extra=additive and label and target,
        noise="noise" in names,
        outcomes=interpolate or (response is not None and not additive and not linked and label),
        linked=linked and not interpolate,
    )


def axes(model: Model) -> np.ndarray:
    """Orthonormal axes (K, r) in the space of the units along which omega varies, (1, ..., 1) first or left out.

    What all units do alike is an axis of its own since it is often small where its complement is not, or the reverse. Where
    the loss does not see it (softmax) no node is spent on it; its part of omega is left at the mean.
    """
    full = scipy.linalg.helmert(model.units, full=True)
    return full[1:] if model.loss.shift else full


class Fields(NamedTuple):
    """Nodes of one label: ``omega`` (N, L, r), ``V`` (L, r, r), per-node arguments, ``weight`` (N,), factors."""

    omega: Any
    V: Any
    node: dict  # arguments that differ node by node: target, label, noise
    weight: Any
    covariance: tuple  # per token: (joint covariance along the axes, projector on its null space), for singular overlaps


class Assembled(NamedTuple):
    """The moments of one label: sums over basis elements only, taken before any root."""

    mean: Any  # (L, r)
    q: Any  # (L, r, r)
    V: Any  # (L, r, r)
    theta: Any  # (L, r, t)
    rho: Any  # (L, t, t)
    m_star: Any  # (L, t)


def assemble(model: Model, overlaps: Overlaps, mean, cov) -> Assembled:
    """The moments of the tokens whose coefficients are ``mean`` (L, A) and ``cov`` (L, B)."""
    rho, m_star = model.law.targets()

    def combine(a):
        return jnp.einsum("lb,bij->lij", cov, a)

    return Assembled(
        mean @ overlaps.m, combine(overlaps.q), combine(overlaps.V), combine(overlaps.theta), combine(rho), mean @ m_star
    )


def split_rule(nodes, weights, standardised_kinks):
    """The one-dimensional rule, its panels split at the kinks too (no derivative flows through the ends)."""
    if standardised_kinks is None:
        return nodes, weights
    breaks = nodes  # in one dimension the solver hands over the ends of the panels where kinks are known
    ends = jnp.clip(standardised_kinks, breaks[0], breaks[-1])
    x, w = panel_rule(jnp.sort(jnp.concatenate([breaks, ends])))
    return x[:, None], w


def fields(model: Model, plan: Layout, overlaps: Overlaps, label, quadrature, kinks=None, frozen_nodes=False) -> Fields:
    """Nodes for one label ``(mean, cov, value)`` from a rule for standard normal variables.

    ``kinks(V, label)`` gives the points of a scalar omega at which the integrand is not smooth; ``quadrature`` then holds the
    ends of the panels. With ``frozen_nodes`` the nodes do not move when the overlaps are differentiated;
    the weights do instead (score form), as is right for integrands with jumps.
    """
    mean, cov, value = label
    moments = assemble(model, overlaps, mean, cov)
    if plan.residual:
        return _residual_fields(model, moments, quadrature, kinks)
    E = axes(model)
    seen = moments._replace(mean=moments.mean @ E.T, q=E @ moments.q @ E.T, theta=E @ moments.theta)
    if plan.outcomes and model.response.linked:
        found = _interpolated_fields(model, plan, seen, value, quadrature)
    elif plan.outcomes:
        found = _outcome_fields(model, plan, seen, value, quadrature, kinks, frozen_nodes)
    else:
        found = _joint_fields(model, plan, seen, value, quadrature, kinks, frozen_nodes)
    return found._replace(omega=moments.mean + (found.omega - seen.mean) @ E)


def _residual_fields(model, moments, quadrature, kinks):
    variance = (moments.q - 2.0 * moments.theta + moments.rho)[0, 0, 0] + model.response.additive_variance
    centre = (moments.mean - moments.m_star)[0, 0]
    scale = psd_factors(variance[None, None])[0][0, 0]
    points = None
    if kinks is not None:
        points = (kinks(moments.V[0, 0, 0], jnp.zeros_like(scale)) - centre) / jnp.maximum(scale, 1e-150)
    x, weight = split_rule(*quadrature, points)
    omega = (centre + scale * x[:, 0])[:, None, None]
    return Fields(omega, moments.V, {"label": jnp.zeros_like(omega[:, 0, 0])}, weight, ())


def _outcome_fields(model, plan, moments, value, quadrature, kinks, frozen_nodes):
    """Nodes for omega (and the target, where the integrand reads it), times the outcomes with their probabilities."""
    outcomes = jnp.asarray(model.response.outcomes)
    base = _joint_fields(model, plan._replace(outcomes=False), moments, value, quadrature, kinks, frozen_nodes, outcomes)
    L, t = moments.m_star.shape
    if plan.target:
        cov = jnp.zeros((L, t, t), moments.rho.dtype)
        target = base.node["target"]
    else:
        target, cov = _target_given_omega(moments, base.omega)
    table = jax.vmap(lambda y: jax.vmap(lambda h: model.response.probability(y, h, cov))(target))(outcomes)
    K, N = table.shape
    node = _tiled({name: a for name, a in base.node.items() if name != "label"}, K)
    node["label"] = jnp.repeat(outcomes, N)
    return Fields(_tiled(base.omega, K), base.V, node, (table * base.weight).reshape(-1), base.covariance)


def _target_given_omega(moments, omega):
    """Mean (N, L, t) and covariance (L, t, t) of the target's field at nodes ``omega`` (N, L, r)."""
    pinv = jax.vmap(lambda s: psd_factors(s)[1])(moments.q)
    slope = jnp.einsum("lrt,lrs->lts", moments.theta, pinv)
    cov = moments.rho - jnp.einsum("lts,lsu->ltu", slope, moments.theta)
    return moments.m_star + jnp.einsum("lts,nls->nlt", slope, omega - moments.mean), cov


def _interpolated_fields(model, plan, moments, value, quadrature):
    """Nodes for omega, times nodes of a real outcome; the rule holds nodes and weights for omega, then those for the outcome."""
    nodes, weights, *rule = quadrature
    base = _joint_fields(model, plan._replace(outcomes=False), moments, value, (nodes, weights), None, False, ())
    labels, table = outcome_nodes(model.response, *_target_given_omega(moments, base.omega), model.reads, *rule)
    node = _tiled({name: a for name, a in base.node.items() if name != "label"}, len(table))
    return Fields(
        _tiled(base.omega, len(table)), base.V, {**node, "label": labels.reshape(-1)}, (table * base.weight).reshape(-1),
        base.covariance,
    )  # fmt: skip


def _tiled(tree, count: int):
    """Arrays (N, ...) repeated as (count * N, ...)."""
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *a.shape)).reshape(-1, *a.shape[1:]), tree)


def _joint_fields(model, plan, moments, value, quadrature, kinks, frozen_nodes, outcomes=None):
    L, r = moments.mean.shape
    t = moments.m_star.shape[1]
    additive = model.response.additive_variance if (plan.merged or plan.extra) else 0.0
    joint, centre, factors = [], [], []
    for token in range(L):
        with_target = plan.joint and model.reads[token]
        q, theta, rho = moments.q[token], moments.theta[token], moments.rho[token]
        if plan.merged:
            rho = rho + additive * jnp.eye(t, dtype=rho.dtype)
        joint.append(jnp.block([[q, theta], [theta.T, rho]]) if with_target else q)
        centre.append(jnp.concatenate([moments.mean[token], moments.m_star[token]]) if with_target else moments.mean[token])
        factors.append(psd_factors(joint[-1]))
    points = None
    if kinks is not None and len(joint) == 1 and joint[0].shape == (1, 1):
        at = jnp.asarray(value if outcomes is None else 0.0)
        values = at[None] if outcomes is None else outcomes
        all_kinks = jnp.concatenate([jnp.ravel(kinks(moments.V[0, 0, 0], y)) for y in values])
        points = (all_kinks - centre[0][0]) / jnp.maximum(factors[0][0][0, 0], 1e-150)
    x, weight = split_rule(*quadrature, points)
    omega, target, used = [], [], 0
    for token in range(L):
        size = centre[token].shape[0]
        root = factors[token][0]
        z = x[:, used : used + size]
        used += size
        here = centre[token] + z @ root.T
        if frozen_nodes:
            here = jax.lax.stop_gradient(here)
            weight = weight * _density_ratio(here, centre[token], joint[token], factors[token])
        omega.append(here[:, :r])
        target.append(here[:, r:] if size > r else jnp.broadcast_to(moments.m_star[token], (len(x), t)))
    omega, target = jnp.stack(omega, 1), jnp.stack(target, 1)
    node = {}
    if plan.merged:
        node["label"] = target[:, 0, 0] if L == t == 1 else target
    elif plan.extra:
        noisy = target + jnp.sqrt(additive) * x[:, used : used + L * t].reshape(-1, L, t)
        used += L * t
        node["label"] = noisy[:, 0, 0] if L == t == 1 else noisy
    elif plan.linked:
        node["label"] = jax.vmap(model.response.outcome)(target, x[:, used])
        used += 1
    elif outcomes is None:
        node["label"] = jax.tree.map(lambda v: jnp.broadcast_to(v, (len(x), *jnp.shape(v))), value)
    if plan.target:
        node["target"] = target
    if plan.noise:
        node["noise"] = x[:, used]
    null = tuple((c, jnp.eye(c.shape[0], dtype=c.dtype) - f[2]) for c, f in zip(joint, factors, strict=True))
    return Fields(omega, moments.V, node, weight, null)


def _density_ratio(x, mean, covariance, factors):
    """The Gaussian density at fixed x, divided by its own value: 1, with the score as derivative."""
    _, pinv, projector = factors
    centred = x - mean
    filled = covariance + jnp.eye(covariance.shape[0], dtype=covariance.dtype) - projector
    log_density = -0.5 * jnp.einsum("ni,ij,nj->n", centred, pinv, centred) - 0.5 * jnp.linalg.slogdet(filled)[1]
    return jnp.exp(log_density - jax.lax.stop_gradient(log_density))
