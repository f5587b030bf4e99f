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
    covariance: tuple  # per token: (covariance of omega along the axes given the target, projector on its null space)


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


def fields(
    model: Model, plan: Layout, overlaps: Overlaps, label, quadrature, kinks=None, frozen_nodes=False, aligned=False
) -> Fields:
    """Nodes for one label ``(mean, cov, value)`` from a rule for standard normal variables.

    The target's field comes first and omega given the target second: the overlaps then move omega only, and differentiating
    through the nodes is right for losses that jump in the target (``sign(h_*)``), at jumps of omega it never is.
    ``kinks(V, label)`` gives the points of a scalar omega at which the integrand is not smooth; ``quadrature`` then holds the
    ends of the panels. With ``frozen_nodes`` the nodes do not move when the overlaps are differentiated;
    the weights do instead (score form), as is right for integrands with jumps. ``aligned``: the first variable of a token is the
    target's field alone.
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
        found = _outcome_fields(model, plan, seen, value, quadrature, kinks, frozen_nodes, aligned)
    else:
        found = _joint_fields(model, plan, seen, value, quadrature, kinks, frozen_nodes, aligned)
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


def _outcome_fields(model, plan, moments, value, quadrature, kinks, frozen_nodes, aligned):
    """Nodes for omega (and the target, where the integrand reads it), times the outcomes with their probabilities."""
    outcomes = jnp.asarray(model.response.outcomes)
    base = _joint_fields(model, plan._replace(outcomes=False), moments, value, quadrature, kinks, frozen_nodes, aligned, outcomes)
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
    base = _joint_fields(model, plan._replace(outcomes=False), moments, value, (nodes, weights), None, False, False, ())
    labels, table = outcome_nodes(model.response, *_target_given_omega(moments, base.omega), model.reads, *rule)
    node = _tiled({name: a for name, a in base.node.items() if name != "label"}, len(table))
    return Fields(
        _tiled(base.omega, len(table)), base.V, {**node, "label": labels.reshape(-1)}, (table * base.weight).reshape(-1),
        base.covariance,
    )  # fmt: skip


def _tiled(tree, count: int):
    """Arrays (N, ...) repeated as (count * N, ...)."""
    return jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *a.shape)).reshape(-1, *a.shape[1:]), tree)


class _Token(NamedTuple):
    """The Gaussian law of one token: its target's field ``m_star + root z``, omega = ``mean + slope (h_* - m_star) + ...``."""

    mean: Any
    m_star: Any
    target: tuple  # root, pseudo-inverse, projector of the target's covariance (t = 0 where none is integrated)
    slope: Any  # (r, t)
    given: Any  # covariance of omega given the target
    omega: tuple  # its factors

    @property
    def size(self) -> int:
        return self.mean.size + self.slope.shape[1]

    def at(self, z, aligned: bool):
        """omega and h_* at standard normal numbers (N, t + r), those of the target first if ``aligned``: else all are turned by
        45 degrees, where a tensor rule resolves each field by the nodes of all axes."""
        t = self.slope.shape[1]
        z = z if aligned or not t else z @ scipy.linalg.helmert(self.size, full=True).T
        target = z[:, :t] @ self.target[0].T
        return self.mean + target @ self.slope.T + z[:, t:] @ self.omega[0].T, self.m_star + target


def _token(mean, m_star, q, theta, rho) -> _Token:
    factors = psd_factors(rho)
    slope = theta @ factors[1]
    given = q - slope @ theta.T
    return _Token(mean, m_star, factors, slope, given, psd_factors(given))


def _joint_fields(model, plan, moments, value, quadrature, kinks, frozen_nodes, aligned, outcomes=None):
    L, r = moments.mean.shape
    t = moments.m_star.shape[1]
    additive = model.response.additive_variance if (plan.merged or plan.extra) else 0.0
    tokens = []
    for k in range(L):
        seen = slice(None) if plan.joint and model.reads[k] else slice(0)
        rho = moments.rho[k] + (additive * jnp.eye(t, dtype=moments.rho.dtype) if plan.merged else 0.0)
        tokens.append(_token(moments.mean[k], moments.m_star[k, seen], moments.q[k], moments.theta[k, :, seen], rho[seen, seen]))
    points = None
    if kinks is not None and L == 1 and tokens[0].size == 1:
        at = jnp.asarray(value if outcomes is None else 0.0)
        values = at[None] if outcomes is None else outcomes
        all_kinks = jnp.concatenate([jnp.ravel(kinks(moments.V[0, 0, 0], y)) for y in values])
        points = (all_kinks - tokens[0].mean[0]) / jnp.maximum(tokens[0].omega[0][0, 0], 1e-150)
    if len(quadrature) == 4:
        x, weight = _split_at_target_jumps(model, tokens, *quadrature)
        aligned = True
    else:
        x, weight = split_rule(*quadrature, points)
    omega, target, used = [], [], 0
    for k, token in enumerate(tokens):
        here, its_target = token.at(x[:, used : used + token.size], aligned)
        used += token.size
        if frozen_nodes:
            here, its_target = jax.lax.stop_gradient((here, its_target))
            weight = weight * _density_ratio(here, its_target, token)
        omega.append(here)
        target.append(its_target if token.m_star.size == t else jnp.broadcast_to(moments.m_star[k], (len(x), t)))
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
    null = tuple((token.given, jnp.eye(r, dtype=token.given.dtype) - token.omega[2]) for token in tokens)
    return Fields(omega, moments.V, node, weight, null)


def _split_at_target_jumps(model, tokens, breaks, jumps, nodes, weights):
    """A rule whose panels for the target's field end at its ``jumps``, times ``nodes`` and ``weights`` for all that is left."""
    before = sum(token.size for token in tokens[: model.reads.index(True)])
    token = tokens[model.reads.index(True)]
    points = (jumps - token.m_star[0]) / jnp.maximum(token.target[0][0, 0], 1e-150)
    first, its_weights = panel_rule(jnp.sort(jnp.concatenate([breaks, jnp.clip(points, breaks[0], breaks[-1])])))
    M, N = len(first), len(nodes)
    rest = jnp.broadcast_to(nodes, (M, N, nodes.shape[1])).reshape(M * N, -1)
    x = jnp.concatenate([rest[:, :before], jnp.repeat(first, N)[:, None], rest[:, before:]], axis=1)
    return x, (its_weights[:, None] * weights).reshape(-1)


def _density_ratio(omega, target, token):
    """The Gaussian density of fixed (omega, h_*), divided by its own value: 1, with the score as derivative.

    The density of the target does not depend on the overlaps."""
    _, pinv, projector = token.omega
    centred = omega - token.mean - (target - token.m_star) @ token.slope.T
    filled = token.given + (jnp.eye(len(projector), dtype=projector.dtype) - projector)  # small numbers are not lost
    log_density = -0.5 * jnp.einsum("ni,ij,nj->n", centred, pinv, centred) - 0.5 * jnp.linalg.slogdet(filled)[1]
    return jnp.exp(log_density - jax.lax.stop_gradient(log_density))
