"""The iteration to a saddle point: a few damped steps, then Newton."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ..losses.envelope import EVERYWHERE, Near, searched
from .model import Model
from .saddle import SINGULAR, Unknowns, residual, smallest_eigenvalue, update, valid

#: The iteration has stalled after so many steps in which the smallest residual fell by less than two per cent.
PATIENCE = 40
#: Proximal operators are searched from all starts every so many steps and before a residual is believed; in between only from
#: where they were.
REFRESH = 8


class Solver(NamedTuple):
    """How to iterate: ``damping`` is the weight of the old value, ``warmup`` damped steps come before Newton."""

    damping: Any = 0.2
    warmup: Any = 6
    max_steps: Any = 300
    tol: Any = 1e-8
    newton: Any = True


SOLVER = Solver()


class Outcome(NamedTuple):
    """Where the iteration ended; ``residual`` is of one undamped update at ``unknowns``."""

    unknowns: Unknowns
    residual: Any
    steps: Any
    lost: Any  # the iteration left the valid region and damping could not bring it back
    stalled: Any  # the residual stopped falling
    near: Near | None = None  # where the proximal operators at the nodes are, if they were searched for


def _size(a):
    """The mean diagonal entry of matrices (..., r, r)."""
    return jnp.trace(a, axis1=-2, axis2=-1) / a.shape[-1]


def _relative(a):
    """Matrices relative to their size, the logarithm of which takes the place of the mean diagonal entry."""
    size = _size(a)[..., None, None]
    return a / size + (jnp.log(size) - 1.0) * jnp.eye(a.shape[-1], dtype=a.dtype)


def _absolute(a):
    """The inverse of :func:`_relative`."""
    log_size = _size(a)[..., None, None]
    return jnp.exp(log_size) * (a - (log_size - 1.0) * jnp.eye(a.shape[-1], dtype=a.dtype))


class State(NamedTuple):
    """A point ``x``, its update ``fx`` and the proximal operators ``prox`` behind it, ``fresh`` from a search from all starts."""

    x: Any
    fx: Any
    residual: Any
    prox: Any
    fresh: Any
    lowest: Any  # residual and point: about the lowest residual that was fresh
    damping: Any
    newton_in: Any  # so many steps until Newton is tried
    count: Any
    stale: Any  # steps since the lowest residual fell

    @property
    def lost(self):
        return self.damping > 0.9999


def iterate(model: Model, start: Unknowns, quadrature, solver: Solver, singular: bool = False) -> Outcome:
    """Run damped steps, then Newton steps that are kept only where they reduce the residual."""
    flat, unravel = ravel_pytree(start)
    # a Newton step costs as much as this many plain ones: with many unknowns it waits longer
    first_newton = jnp.maximum(jnp.asarray(solver.warmup) + max(0, flat.size // 2 - 6), 0)
    remembers = searched(model.loss)

    def near(prox, everywhere):
        return Near(prox, jnp.where(everywhere, EVERYWHERE, 1)) if remembers else None

    def step(x, near):
        new = update(model, unravel(x), quadrature, singular, near)
        return new.unknowns, new.out.prox if remembers else ()

    def chart(unknowns):
        """Newton's coordinates, in which saddle points are closer to linear: of V, q and Q the logarithm of the size and the
        matrix relative to it (for one unit log V, log q, log Q), m and theta relative to the square root of q."""
        o = unknowns.overlaps
        root = jnp.sqrt(jnp.mean(_size(o.q)))
        o = o._replace(V=_relative(o.V), q=_relative(o.q), Q=_relative(o.Q), m=o.m / root, theta=o.theta / root)
        return ravel_pytree(unknowns._replace(overlaps=o))[0]

    def unchart(y):
        o = unravel(y).overlaps
        q = _absolute(o.q)
        root = jnp.sqrt(jnp.mean(_size(q)))
        o = o._replace(V=_absolute(o.V), q=q, Q=_absolute(o.Q), m=o.m * root, theta=o.theta * root)
        return ravel_pytree(unravel(y)._replace(overlaps=o))[0]

    def newton_point(s: State):
        def charted(y):
            new = chart(step(unchart(y), near(s.prox, False))[0])
            return new, new

        y = chart(unravel(s.x))
        jacobian, fy = jax.jacfwd(charted, has_aux=True)(y)
        move = jnp.linalg.solve(jnp.eye(y.size, dtype=y.dtype) - jacobian, fy - y)
        return unchart(y + jnp.where(jnp.max(jnp.abs(move)) < 50.0, move, jnp.nan))

    def body(s: State):
        confirm = (s.residual <= solver.tol) & ~s.fresh  # the same point once more, searched from all starts
        fresh = confirm | (s.count % REFRESH == 0) if remembers else jnp.array(True)
        newton = jnp.asarray(solver.newton) & (s.newton_in <= 0) & (s.count > 0) & ~confirm
        damped = jnp.where((s.count == 0) | confirm, s.x, s.damping * s.x + (1.0 - s.damping) * s.fx)
        x = jax.lax.cond(newton, newton_point, lambda s: damped, s)
        new, prox = step(x, near(s.prox, fresh))
        fx, size = ravel_pytree(new)[0], residual(model, unravel(x), new)
        good = valid(model, unravel(x)) & valid(model, new) & jnp.isfinite(size)
        accept = good & jnp.where(newton, size < 0.7 * s.residual, True)
        # a rejected Newton step: a few more damped steps first; a rejected damped step: shorter steps
        newton_in = jnp.where(newton & ~accept, 8, s.newton_in - 1)
        damping = jnp.where(~newton & ~accept, 0.5 * (1.0 + s.damping), s.damping)
        # damped steps that drift without converging are slowed down too
        damping = jnp.where(accept & ~newton & (size > 2.0 * s.lowest[0]), 0.5 * (0.9 + damping), damping)
        x, fx, size, prox, fresh = (
            jax.tree.map(lambda a, b: jnp.where(accept, a, b), new, old)
            for new, old in ((x, s.x), (fx, s.fx), (size, s.residual), (prox, s.prox), (fresh, s.fresh))
        )
        # falling, or on the way from an unstable point to another one
        news = accept & fresh & ((size < 0.98 * s.lowest[0]) | (size > 10.0 * s.lowest[0]))
        lowest = jax.tree.map(lambda a, b: jnp.where(news, a, b), (size, x), s.lowest)
        return State(x, fx, size, prox, fresh, lowest, damping, newton_in, s.count + 1, jnp.where(news, 0, s.stale + 1))

    def found(s: State):
        return (s.residual <= solver.tol) & s.fresh

    def going(s: State):
        hidden = jnp.array(False)
        if model.units > 1 and not singular:
            # a covariance became singular: nodes do not see all of it, the caller starts again with singular=True
            hidden = (s.count > 1) & (smallest_eigenvalue(model, unravel(s.x).overlaps) < SINGULAR)
        return (s.count < solver.max_steps) & ~found(s) & ~s.lost & ~hidden & (s.stale < PATIENCE + first_newton)

    infinite = jnp.asarray(jnp.inf, flat.dtype)
    unsearched = jax.eval_shape(lambda x: update(model, unravel(x), quadrature, singular).out.prox, flat) if remembers else ()
    prox = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), unsearched)
    damping = jnp.asarray(solver.damping, flat.dtype)
    first = State(flat, flat, infinite, prox, jnp.array(False), (infinite, flat), damping, first_newton, 0, 0)
    last = jax.lax.while_loop(going, body, first)
    # a cycle is left where its residual is smallest; a residual that was not confirmed is not believed
    stalled = (last.stale >= PATIENCE + first_newton) & ~found(last)
    back = stalled | ~last.fresh
    x, size = (jnp.where(back, old, new) for old, new in ((last.lowest[1], last.x), (last.lowest[0], last.residual)))
    return Outcome(unravel(x), size, last.count, last.lost, stalled, near(last.prox, ~found(last)))
