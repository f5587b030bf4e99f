"""The saddle point: a few damped steps, then Newton, on the fixed point between the two potentials."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..laws.base import Conjugates, Overlaps
from .channel import ChannelOut, channel, conjugates, linearised_conjugates
from .fields import axes
from .model import Model
from .parts import Parts

#: The iteration has stalled after so many steps in which the smallest residual fell by less than two per cent.
PATIENCE = 40
#: So often may the residual rise again, tenfold, after it fell: from an unstable fixed point to the next, not for ever in a cycle.
RISES = 4
#: Below this relative eigenvalue a covariance of the fields counts as singular.
SINGULAR = 1e-10


class Unknowns(NamedTuple):
    """What the saddle point is solved for: the overlaps (with the free means) and the trained scalars."""

    overlaps: Overlaps
    scalars: Any


class Solver(NamedTuple):
    """How to iterate: ``damping`` is the weight of the old value, ``warmup`` damped steps come before Newton."""

    damping: Any = 0.2
    warmup: Any = 6
    max_steps: Any = 300
    tol: Any = 1e-8
    newton: Any = True


SOLVER = Solver()


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


def _with_multiplier(model: Model, hats: Conjugates, name: str, direction, value) -> Conjugates:
    """The conjugates with a field along ``direction`` that holds the overlap there: m and theta are linear in their conjugates."""
    conjugate = f"{name}_hat"

    def overlap(field):
        moved = hats._replace(**{conjugate: getattr(hats, conjugate) + field * direction})
        return jnp.sum(direction * getattr(model.law.overlaps(moved, model.weight_decay), name))

    none, one = overlap(0.0), overlap(1.0)
    return hats._replace(**{conjugate: getattr(hats, conjugate) + (value - none) / (one - none) * direction})


def unrotated(overlaps: Overlaps) -> Overlaps:
    """One of the overlaps that differ by a rotation of the units only, which a loss may not see: theta is kept symmetric (where
    there is a target for every unit), and a single mean direction on the first unit."""
    o = overlaps
    if o.theta.shape[-1] == o.theta.shape[-2]:
        o = o._replace(theta=0.5 * (o.theta + jnp.swapaxes(o.theta, -1, -2)))
    return o._replace(m=o.m.at[:, 1:].set(0.0)) if len(o.m) == 1 else o


def update(model: Model, unknowns: Unknowns, quadrature, singular: bool = False) -> Update:
    """Overlaps -> conjugates -> overlaps; free means and trained scalars take one gradient step."""
    return respond(model, unknowns, conjugates(model, unknowns.overlaps, unknowns.scalars, quadrature, singular))


def respond(model: Model, unknowns: Unknowns, out: ChannelOut) -> Update:
    """The law's half of :func:`update`: what follows from the channel's half."""
    old = unknowns.overlaps
    for name, (direction, value) in model.held.items():
        out = out._replace(conjugates=_with_multiplier(model, out.conjugates, name, direction, value))
    rate = model.alpha / model.law.size
    if any(model.law.free):
        settled, hats = model.law.settle(old.m, out.d_means, out.conjugates, model.weight_decay, rate)
        out = out._replace(conjugates=hats)
    new = model.law.overlaps(out.conjugates, model.weight_decay)
    if any(model.law.free):
        new = new._replace(m=jnp.where(jnp.asarray(model.law.free, dtype=bool)[:, None], settled, new.m))
    new = model.law.relax(old, new, out.conjugates, rate)
    if "units" in model.frozen:
        new = exchangeable(new)
    if "rotations" in model.frozen:
        new = unrotated(new)
    new = new._replace(m=model.unless_zeroed("m", new.m), theta=model.unless_zeroed("theta", new.theta))
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


class _Point(NamedTuple):
    """The flat unknowns somewhere, one undamped update of them, its Jacobian where that is ``known``, the flat channel's half."""

    x: Any
    fx: Any
    residual: Any
    jacobian: Any
    known: Any
    out: Any


class _State(NamedTuple):
    """Where an iteration is."""

    at: _Point
    best: _Point  # of the smallest residual
    damping: Any
    wait: Any  # steps until Newton's method begins, or begins again
    count: Any
    lost: Any
    stale: Any  # steps since the residual fell
    rises: Any  # how often it rose again
    rising: Any
    finer: Any  # one update at the end by the finer rule, once the end is checked
    checked: Any


class Outcome(NamedTuple):
    """Where the iteration ended; ``residual``, ``jacobian`` and ``out`` are of one undamped update at ``unknowns``."""

    unknowns: Unknowns
    residual: Any
    steps: Any
    lost: Any  # the iteration left the valid region and damping could not bring it back
    stalled: Any  # the residual stopped falling
    out: ChannelOut
    jacobian: Any = None  # of the flat unknowns; NaN where the iteration did not converge
    finer: Any = None  # the flat unknowns after one update by a finer rule in parts, if there is one; NaN likewise


def smallest_eigenvalue(model: Model, overlaps: Overlaps):
    """The smallest relative eigenvalue of the assembled q of all labels and tokens, along the axes that the loss sees."""
    cov, E = jnp.asarray(model.law.labels().cov), axes(model)
    q = E @ jnp.einsum("clb,bij->clij", cov, overlaps.q) @ E.T
    if q.shape[-1] == 1:
        return jnp.where(jnp.min(q) > 0.0, 1.0, 0.0)
    values = jnp.linalg.eigvalsh(q)
    return jnp.min(values[..., 0] / jnp.maximum(values[..., -1], 1e-300))


def _size(a):
    """The mean diagonal entry of matrices (..., r, r)."""
    return jnp.trace(a, axis1=-2, axis2=-1) / a.shape[-1]


def _has_size(a):
    """Which matrices (B, r, r) are positive, so that their size has a logarithm; elements of a basis need not be."""
    size = _size(a)
    return size > 1e-8 * jnp.max(jnp.abs(size), initial=0.0)


def _relative(a, positive, unit):
    """Matrices relative to their size, the logarithm of which takes the place of the mean diagonal entry; others over ``unit``."""
    positive = positive[..., None, None]
    size = jnp.where(positive, _size(a)[..., None, None], 1.0)
    return jnp.where(positive, a / size + (jnp.log(size) - 1.0) * jnp.eye(a.shape[-1], dtype=a.dtype), a / unit)


def _absolute(a, positive, unit):
    """The inverse of :func:`_relative`."""
    positive = positive[..., None, None]
    log_size = jnp.where(positive, _size(a)[..., None, None], 0.0)
    matrix = jnp.exp(log_size) * (a - (log_size - 1.0) * jnp.eye(a.shape[-1], dtype=a.dtype))
    return jnp.where(positive, matrix, a * unit)


def linearised_update(model: Model, unknowns: Unknowns, quadrature, singular: bool, needed):
    """:func:`update` and its Jacobian in the flat unknowns, which is zero unless ``needed`` (traced)."""
    x, unravel = ravel_pytree(unknowns)
    out, along = linearised_conjugates(model, unknowns.overlaps, unknowns.scalars, quadrature, singular, needed)

    def flat(x, out):
        new = respond(model, unravel(x), out)
        return ravel_pytree(new.unknowns)[0], new

    _, linear, new = jax.linearize(flat, x, out, has_aux=True)
    basis = jnp.eye(x.size, dtype=x.dtype)
    return new, jax.lax.cond(needed, lambda: jax.vmap(linear, out_axes=1)(basis, along), lambda: jnp.zeros_like(basis))


def _unknown_out(unknowns: Unknowns) -> ChannelOut:
    """What the channel gives at ``unknowns``, with NaN for all numbers."""
    o, scalars = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), unknowns)
    hats = Conjugates(q_hat=o.V, V_hat=o.q, m_hat=o.m, theta_hat=o.theta, Q_hat=o.Q)
    return ChannelOut(jnp.full((), jnp.nan, o.V.dtype), hats, o.m, scalars, o.V)


def iterate(model: Model, start: Unknowns, quadrature, solver: Solver, singular: bool = False) -> Outcome:
    """Run damped steps, then Newton steps that are kept only where they reduce the residual.

    A last pass, by the finer rule if there is one in parts, sees to what the certificate needs: in the loop, since an update is
    most of what there is to compile.
    """
    flat, unravel = ravel_pytree(start)
    nothing, unravel_out = ravel_pytree(_unknown_out(start))
    # a Newton step costs as much as this many plain ones: with many unknowns it waits longer
    first_newton = jnp.maximum(jnp.asarray(solver.warmup) + max(0, flat.size // 2 - 6), 0)

    def newton_point(x, fx, jacobian):
        base = unravel(x).overlaps
        how = {name: (_has_size(a), jnp.max(jnp.abs(a)) + 1e-300) for name, a in base._asdict().items() if name in ("V", "q", "Q")}
        y = chart(x, how)
        _, there = jax.linearize(lambda y: unchart(y, how), y)
        fy, back = jax.linearize(lambda x: chart(x, how), fx)
        jacobian = jax.vmap(lambda e: back(jacobian @ there(e)), out_axes=1)(jnp.eye(x.size, dtype=x.dtype))
        step = jnp.linalg.solve(jnp.eye(x.size, dtype=x.dtype) - jacobian, fy - y)
        return unchart(y + jnp.where(jnp.max(jnp.abs(step)) < 50.0, step, jnp.nan), how)

    def size_of(q, how):
        return jnp.sqrt(jnp.mean(jnp.where(how["q"][0], _size(q), 0.0)))

    def chart(x, how):
        """Newton's coordinates, in which saddle points are closer to linear: of V, q and Q the logarithm of the size and the
        matrix relative to it (for one unit log V, log q, log Q), m and theta relative to the square root of q."""
        unknowns = unravel(x)
        o = unknowns.overlaps
        root = size_of(o.q, how)
        matrices = {name: _relative(getattr(o, name), *how[name]) for name in how}
        return ravel_pytree(unknowns._replace(overlaps=o._replace(m=o.m / root, theta=o.theta / root, **matrices)))[0]

    def unchart(y, how):
        o = unravel(y).overlaps
        matrices = {name: _absolute(getattr(o, name), *how[name]) for name in how}
        root = size_of(matrices["q"], how)
        return ravel_pytree(unravel(y)._replace(overlaps=o._replace(m=o.m * root, theta=o.theta * root, **matrices)))[0]

    newton = jnp.asarray(solver.newton)
    finer_rule = quadrature.finer if isinstance(quadrature, Parts) else None

    def converged(state):
        return state.at.residual <= solver.tol

    def newton_next(state):
        return newton & (state.wait <= 0) & state.at.known & ~converged(state)

    def body(state):
        at, checking, use_newton = state.at, converged(state), newton_next(state)
        damped = jnp.where((state.count == 0) | checking, at.x, state.damping * at.x + (1.0 - state.damping) * at.fx)
        x = jax.lax.cond(use_newton, newton_point, lambda *_: damped, at.x, at.fx, at.jacobian)
        # a Jacobian is worth its time where a Newton step is to start from it, and at the end
        known = jnp.where(checking, ~at.known, newton & (state.wait <= 1))
        rule = quadrature
        if finer_rule is not None:
            rule = quadrature._replace(level=jnp.where(checking, finer_rule.level, quadrature.level))
        new, jacobian = linearised_update(model, unravel(x), rule, singular, known)
        change = residual(model, unravel(x), new.unknowns)
        there = _Point(x, ravel_pytree(new.unknowns)[0], change, jacobian, known, ravel_pytree(new.out)[0])
        return jax.lax.cond(checking, check, move, state, there)

    def check(state, there):
        jacobian = jnp.where(state.at.known, state.at.jacobian, there.jacobian)
        at = state.at._replace(jacobian=jacobian, known=jnp.asarray(True))
        return state._replace(at=at, finer=there.fx, checked=jnp.asarray(True))

    def move(state, there):
        at, damping, use_newton = state.at, state.damping, newton_next(state)
        ok = valid(model, unravel(there.x)) & valid(model, unravel(there.fx)) & jnp.isfinite(there.residual)
        accept = ok & jnp.where(use_newton, there.residual < 0.7 * at.residual, True)
        # a rejected Newton step: a few more damped steps first; a rejected damped step: shorter steps
        wait = jnp.where(use_newton & ~accept, 8, state.wait - 1)
        damping = jnp.where(~use_newton & ~accept, 0.5 * (1.0 + damping), damping)
        # damped steps that drift without converging are slowed down too
        drifts = accept & ~use_newton & (there.residual > 2.0 * state.best.residual)
        damping = jnp.where(drifts, 0.5 * (0.9 + damping), damping)
        at = jax.tree.map(lambda new, old: jnp.where(accept, new, old), there, at)
        # falling, or on the way from an unstable point to another one
        falls, far = at.residual < 0.98 * state.best.residual, at.residual > 10.0 * state.best.residual
        rises = state.rises + (far & ~state.rising)
        news = falls | (far & (rises <= RISES))
        best = jax.tree.map(lambda new, old: jnp.where(news, new, old), at, state.best)
        stale = jnp.where(news, 0, state.stale + 1)
        return state._replace(
            at=at, best=best, damping=damping, wait=wait, count=state.count + 1, lost=damping > 0.9999, stale=stale,
            rises=rises, rising=jnp.where(news, far, state.rising),
        )  # fmt: skip

    def going(state):
        hidden = jnp.array(False)
        if model.units > 1 and not singular:
            # a covariance became singular: nodes do not see all of it, the caller starts again with singular=True
            hidden = (state.count > 1) & (smallest_eigenvalue(model, unravel(state.at.x).overlaps) < SINGULAR)
        on = (state.count < solver.max_steps) & ~state.lost & (state.stale < PATIENCE + first_newton)
        unchecked = ~state.checked & (finer_rule is not None or ~state.at.known)
        return ~hidden & jnp.where(converged(state), unchecked, on)

    infinite = jnp.asarray(jnp.inf, flat.dtype)
    at = _Point(flat, flat, infinite, jnp.zeros((flat.size, flat.size), flat.dtype), jnp.asarray(False), nothing)
    damping, zero, no = jnp.asarray(solver.damping, flat.dtype), jnp.asarray(0), jnp.asarray(False)
    state = _State(at, at, damping, first_newton, zero, no, zero, zero, no, jnp.full_like(flat, jnp.nan), no)
    state = jax.lax.while_loop(going, body, state)
    # a cycle is left where its residual is smallest
    stalled = (state.stale >= PATIENCE + first_newton) & ~converged(state)
    end = jax.tree.map(lambda low, last: jnp.where(stalled, low, last), state.best, state.at)
    jacobian = jnp.where(converged(state) & end.known, end.jacobian, jnp.nan)
    finer = None if finer_rule is None else state.finer
    return Outcome(unravel(end.x), end.residual, state.count, state.lost, stalled, unravel_out(end.out), jacobian, finer)


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


__all__ = ["Outcome", "Solver", "Unknowns", "Update", "channel", "energy", "iterate", "residual", "update", "valid"]
