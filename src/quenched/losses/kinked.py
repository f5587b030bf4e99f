"""Convex losses of one number that have kinks: their proximal operator, and where their envelope is not smooth.

A kink at k holds the proximal operator at k for all omega in ``k + V [slope before, slope after]``: there Newton's method fails,
and a Hessian says nothing. Here a bracket closes on the proximal point, which the monotone slope of the loss allows.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..numerics.precision import float64
from .base import Loss
from .envelope import evaluate

#: Where kinks are looked for (no round number lies on it), how many are found, and by how many halvings.
_GRID = 0.5 * np.sinh(np.linspace(-9.9012, 9.9, 1401))
_KINKS, _HALVINGS, _STEPS = 4, 60, 200
#: How far beside a point its one-sided slopes are read, relative.
_BESIDE = 1e-9


@functools.lru_cache(maxsize=512)
def with_kinks(loss: Loss, residual: bool = False) -> Loss:
    """The same loss, known to be convex and to have kinks: with a proximal operator that finds them. Equal arguments, one object.

    - ``loss``: convex in its only pre-activation, of the arguments h, label, scalars and params.
    - ``residual``: it depends on ``h - label`` only.

    >>> made = with_kinks(Loss(lambda h, label: jnp.abs(h - label), scalar=True))
    >>> [abs(round(float(x), 6)) for x in made.moreau(1.5, 2.0, label=0.0)]  # the envelope 1.5^2/4, at the kink
    [0.5625, 0.0]
    """
    point = _point(loss)

    def moreau(omega, V, **extra):
        w, V = jnp.asarray(omega).reshape(()), jnp.asarray(V).reshape(())
        h, slope = point(w, V, extra)
        # stationary in both: right to second order
        value = _at(loss, extra)(h) + slope * (w - h) - 0.5 * V * slope**2
        return value, jnp.reshape(h, jnp.shape(omega))

    def kinks(V, label, scalars=None, params=None):
        at = _at(loss, {k: v for k, v in dict(label=label, scalars=scalars, params=params).items() if k in loss.names})
        jumps, bends = jax.lax.stop_gradient(_irregular(at))
        before, after = _slopes(at, jumps)
        return jnp.concatenate([jumps + V * before, jumps + V * after, bends + V * jax.vmap(jax.grad(at))(bends)])

    return dataclasses.replace(loss, moreau=moreau, kinks=kinks, convex=True, residual=residual)


def _at(loss: Loss, extra):
    """The loss as a function of its only pre-activation."""
    return lambda h: evaluate(loss, jnp.reshape(h, (1, 1)), extra)


def _slopes(at, x):
    """The derivatives of ``at`` just before and just after the points ``x``."""
    step = _BESIDE * (1.0 + jnp.abs(x))
    return tuple(jnp.vectorize(jax.grad(at))(y) for y in (x - step, x + step))


def _irregular(at):
    """Where the derivative of a function of one number jumps, and where only its second does: ``_KINKS`` places each, by bisection.

    Where there are fewer, others come with them."""
    first, second = jax.grad(at), jax.grad(jax.grad(at))

    def jumps(low, high):  # what the second derivative does not explain of the change of the first
        return jnp.abs(first(high) - first(low) - 0.5 * (high - low) * (second(low) + second(high)))

    def bends(low, high):
        return jnp.abs(second(high) - second(low))

    grid = jnp.asarray(_GRID)

    def places(change, smooth):
        step = jnp.nan_to_num(jax.vmap(change)(grid[:-1], grid[1:]), posinf=0.0)
        if smooth:  # what is smooth changes alike from one interval to the next
            step = step.at[1:-1].add(-jnp.maximum(step[:-2], step[2:]))
        which = jax.lax.top_k(step, _KINKS)[1]

        def halve(_, ends):
            low, high = ends
            middle = 0.5 * (low + high)
            left = jax.vmap(change)(low, middle) >= jax.vmap(change)(middle, high)
            return jnp.where(left, low, middle), jnp.where(left, middle, high)

        low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (grid[which], grid[which + 1]))
        return 0.5 * (low + high)

    return places(jumps, False), places(bends, True)


@functools.partial(jax.jit, static_argnames="loss")
def breaks(loss: Loss, labels, scalars, params):
    """Where the slope of the loss may jump, the slopes before and after, and the loss there: four arrays (labels, places)."""

    def one(label):
        at = _at(loss, {k: v for k, v in dict(label=label, scalars=scalars, params=params).items() if k in loss.names})
        places, _ = _irregular(at)
        return places, *_slopes(at, places), jax.vmap(at)(places)

    return jax.lax.map(one, labels, batch_size=32)


def _point(loss: Loss):
    """(h, slope) of one proximal problem: h + V slope = omega, the slope a subgradient at h, with derivatives in all arguments."""

    def search(omega, V, at):
        """Newton's method inside a bracket that shrinks, and its middle where Newton leaves it."""
        slope = jax.grad(at)
        curvature, step = jax.grad(slope), V * slope(omega)
        small = 4e-16 * (jnp.abs(omega) + jnp.abs(step))

        def going(state):
            _, low, high, change, count = state
            return (count < _STEPS) & (change > small) & (high - low > small)

        def body(state):
            h, low, high, _, count = state
            misfit = h - omega + V * slope(h)
            low, high = jnp.where(misfit <= 0.0, h, low), jnp.where(misfit >= 0.0, h, high)
            new = h - misfit / (1.0 + V * curvature(h))
            new = jnp.where((new > low) & (new < high), new, 0.5 * (low + high))
            return new, low, high, jnp.where(misfit == 0.0, 0.0, jnp.abs(new - h)), count + 1

        # a convex loss falls to the proximal point, and its slope is smaller there
        ends = jnp.minimum(omega, omega - step), jnp.maximum(omega, omega - step)
        return jax.lax.while_loop(going, body, (omega, *ends, jnp.full_like(omega, jnp.inf), 0))[0]

    def held(omega, V, h, extra):
        """Whether h lies at a kink, and the slope there."""
        before, after = _slopes(_at(loss, extra), h)
        bend = sum(jnp.abs(c) for c in _slopes(jax.grad(_at(loss, extra)), h))
        slope = (omega - h) / jnp.where(V > 0.0, V, 1.0)
        room = 1e-6 * (jnp.abs(before) + jnp.abs(after)) + 4.0 * _BESIDE * (1.0 + jnp.abs(h)) * bend + 1e-300
        kink = (V > 0.0) & (slope > before + room) & (slope < after - room)
        return kink, jnp.where(kink, slope, jax.grad(_at(loss, extra))(h))

    @jax.custom_jvp
    def point(omega, V, extra):
        h = search(omega, V, _at(loss, extra))
        return h, held(omega, V, h, extra)[1]

    @point.defjvp
    def rule(primals, tangents):
        (omega, V, extra), (d_omega, d_V, d_extra) = primals, tangents
        h, slope = point(omega, V, extra)
        kink = held(omega, V, h, extra)[0]
        at = _at(loss, extra)
        d_slope = jax.jvp(lambda e: jax.grad(_at(loss, e))(h), (extra,), (d_extra,))[1]
        curvature = jax.grad(jax.grad(at))(h)
        smooth = (d_omega - d_V * slope - V * d_slope) / (1.0 + V * curvature)
        # the kink moves so that the pieces on its two sides stay equal there
        step = _BESIDE * (1.0 + jnp.abs(h))
        pieces = [jax.jvp(lambda e, x=x: _at(loss, e)(x), (extra,), (d_extra,))[1] for x in (h - step, h + step)]
        before, after = _slopes(at, h)
        moved = (pieces[0] - pieces[1]) / jnp.where(kink, after - before, 1.0)
        dh = jnp.where(kink, moved, smooth)
        along = (d_omega - moved - d_V * slope) / jnp.where(V > 0.0, V, 1.0)
        return (h, slope), (dh, jnp.where(kink, along, curvature * smooth + d_slope))

    return point


class Look(NamedTuple):
    """What a look at a loss of one number shows: whether it is convex, has kinks, and depends on ``h - label`` only."""

    convex: bool
    kinks: bool
    residual: bool


def look(loss: Loss, labels, scalars, params) -> Look:
    """Look at a loss for a few ``labels`` (K,), on a grid that is finest around zero, and beside every place that may be a kink."""
    with float64(True):
        first, slopes, curvatures, residual = jax.device_get(_seen(loss, labels, scalars, params))
    finite = np.isfinite(first)  # some overflow far away
    known = np.where(finite, first, 0.0)
    rise, size = np.where(finite[:, 1:] & finite[:, :-1], np.diff(known, axis=1), 0.0), np.abs(known)
    convex = bool(np.all(rise >= -1e-9 * np.maximum(size[:, 1:], size[:, :-1])))

    def jumps(pair, relative):
        before, after = (np.where(np.isfinite(pair[0]) & np.isfinite(pair[1]), a, 0.0) for a in pair)
        return bool(np.any(np.abs(after - before) > relative * (np.abs(before) + np.abs(after)) + 1e-12))

    return Look(convex, jumps(slopes, 1e-6) or jumps(curvatures, 1e-5), bool(residual))


@functools.partial(jax.jit, static_argnames="loss")
def _seen(loss, labels, scalars, params):
    def extra(label):
        return {k: v for k, v in dict(label=label, scalars=scalars, params=params).items() if k in loss.names}

    def one(label):
        at = _at(loss, extra(label))
        jumps, bends = _irregular(at)
        return jax.vmap(jax.grad(at))(jnp.asarray(_GRID)), _slopes(at, jumps), _slopes(jax.grad(at), bends)

    first, slopes, curvatures = jax.vmap(one)(labels)
    h = jnp.linspace(-3.0, 3.17, 64)
    if jnp.issubdtype(labels.dtype, jnp.floating):
        shifted = jax.vmap(lambda y: jax.vmap(_at(loss, extra(y)))(h + y))(labels)
        straight = jax.vmap(_at(loss, extra(jnp.zeros_like(labels[0]))))(h)
        residual = jnp.all(jnp.abs(shifted - straight) <= 1e-12 * (1.0 + jnp.abs(straight)))
    else:
        residual = jnp.asarray(False)
    return first, slopes, curvatures, residual
