"""The reconstruction loss of a denoising autoencoder with tied weights, without its part of order d.

Token 0 is the clean input x, token 1 the noise xi; ``h = (u, v) = (x w, xi w)/sqrt(d)``. The network sees
``c x + s xi`` with c^2 = 1 - noise and s^2 = noise, and answers ``b (c x + s xi) + w phi/sqrt(d)`` with
``phi = activation(c u + s v)``. Exactly, at any d,

    |x - answer|^2 = |x - b (c x + s xi)|^2 + phi.Q.phi - 2 phi.g,       g = (1 - b c) u - b s v,   Q = w^T w/d.

The first term is of order d and does not see w; the loss is half of the rest. Source: H. Cui, L. Zdeborova (2023),
arXiv:2305.11041.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .base import Loss

_TAILS, _CORE, _KEPT = 57, 25, 2  # points of a search: around the field, around zero; how many minima of each are followed
_STEPS = 60


def levels(params):
    """c, s and b."""
    return jnp.sqrt(1.0 - params["noise"]), jnp.sqrt(params["noise"]), params["skip"]


@functools.lru_cache(maxsize=256)
def denoising(activation, units: int) -> Loss:
    """The loss, reading ``params["noise"]`` and ``params["skip"]`` = b. For one unit its envelope is reduced to one variable.

    ``activation`` is applied to an array (units,) elementwise. Calls with equal arguments return the same object.
    """

    def fn(h, gram, params):
        c, s, b = levels(params)
        phi, g = activation(c * h[0] + s * h[1]), (1.0 - b * c) * h[0] - b * s * h[1]
        return 0.5 * phi @ gram @ phi - phi @ g

    return Loss(fn, "denoising", moreau=_reduced(activation) if units == 1 else None, convex=False)


class _Fields(NamedTuple):
    """One sample's problem in h alone: minimise ``A phi^2/2 - phi g + (h - mean - B phi)^2/(2 S)``, all of them numbers."""

    mean: object
    g: object
    A: object
    B: object
    S: object


def _reduced(activation):
    """The envelope of one unit, found in h = c u + s v: (omega (2, 1), V (2, 1, 1), gram, params) -> (value, (u, v)).

    With ``S = c^2 V_u + s^2 V_v``, ``B = c (1 - b c) V_u - b s^2 V_v``, ``G = (1 - b c)^2 V_u + b^2 s^2 V_v`` and A = Q - G
    the two fields enter through their mixtures only, and ``kappa = (h - mean - B phi)/S`` gives u and v back.
    """
    stationary = _stationary(activation)

    def moreau(omega, V, gram, params):
        c, s, b = levels(params)
        (wu, wv), (Vu, Vv) = omega[:, 0], V[:, 0, 0]
        low, slope = b * s, 1.0 - b * c
        at = _Fields(
            mean=c * wu + s * wv,
            g=slope * wu - low * wv,
            A=gram[0, 0] - slope**2 * Vu - low**2 * Vv,
            B=c * slope * Vu - s * low * Vv,
            S=c**2 * Vu + s**2 * Vv,
        )
        h, kappa = stationary(at)
        phi = activation(h)
        # stationary in h and in kappa: right to second order in both
        value = 0.5 * at.A * phi**2 - phi * at.g + kappa * (h - at.mean - at.B * phi) - 0.5 * at.S * kappa**2
        u = wu + Vu * (slope * phi + c * kappa)
        v = wv + Vv * (-low * phi + s * kappa)
        return value, jnp.stack([u, v])[:, None]

    return moreau


def _stationary(activation):
    """(h, kappa) of the global minimum, with its derivatives in the fields."""

    def slopes(h):
        first = jax.grad(activation)
        return activation(h), first(h), jax.grad(first)(h)

    def misfit(h, at):
        """S times the derivative of the objective, regular at S = 0."""
        phi, slope = activation(h), jax.grad(activation)(h)
        return at.S * slope * (at.A * phi - at.g) + (1.0 - at.B * slope) * (h - at.mean - at.B * phi)

    def objective(h, at):
        phi = activation(h)
        away = h - at.mean - at.B * phi
        return 0.5 * at.A * phi**2 - phi * at.g + 0.5 * away**2 / jnp.maximum(at.S, 1e-300)

    def brackets(grid, at):
        """The lowest local minima on a grid, with the points beside them."""
        value = jax.vmap(objective, in_axes=(0, None))(grid, at)
        around = jnp.concatenate([jnp.array([jnp.inf]), value, jnp.array([jnp.inf])])
        well = (value <= around[:-2]) & (value <= around[2:])
        best = jax.lax.top_k(jnp.where(well, -value, -jnp.inf), _KEPT)[1]
        last = len(grid) - 1
        return grid[jnp.maximum(best - 1, 0)], grid[best], grid[jnp.minimum(best + 1, last)]

    def minimum(low, start, high, at):
        """The root of the misfit between two points: Newton's method, and bisection where it leaves them."""
        derivative = jax.grad(misfit)

        def going(state):
            *_, change, count = state
            return (count < _STEPS) & (change > 0.0)

        def step(state):
            low, h, high, _, count = state
            value = misfit(h, at)
            low, high = jnp.where(value < 0.0, h, low), jnp.where(value > 0.0, h, high)
            new = h - value / derivative(h, at)
            new = jnp.where((new >= low) & (new <= high), new, 0.5 * (low + high))
            change = jnp.abs(new - h)
            return low, new, high, jnp.where(change > 4e-16 * (1.0 + jnp.abs(h)), change, 0.0), count + 1

        return jax.lax.while_loop(going, step, (low, start, high, jnp.full_like(start, jnp.inf), 0))[1]

    def search(at):
        reach = jnp.abs(at.B) + at.S * (jnp.abs(at.A) + jnp.abs(at.g)) + jnp.sqrt(at.S)
        tails = at.mean + reach * jnp.sinh(jnp.linspace(-3.2, 3.2, _TAILS)) / 3.0
        core = jnp.linspace(-3.0, 3.0, _CORE)
        low, start, high = (
            jnp.concatenate(pair) for pair in zip(brackets(tails, at), brackets(core, at), strict=True)
        )
        ends = jax.vmap(minimum, in_axes=(0, 0, 0, None))(low, start, high, at)
        return ends[jnp.argmin(jax.vmap(objective, in_axes=(0, None))(ends, at))]

    def multiplier(h, at):
        """kappa from both equations that it satisfies, and whether h lies at a kink, where only one of them holds."""
        phi, slope = activation(h), jax.grad(activation)(h)
        away, push, rate = h - at.mean - at.B * phi, -slope * (at.A * phi - at.g), 1.0 - at.B * slope
        kink = jnp.abs(at.S * push - rate * away) > 1e-7 * (jnp.abs(at.S * push) + jnp.abs(rate * away) + 1e-300)
        kink &= at.S > 0.0
        both = (at.S * away + rate * push) / (at.S**2 + rate**2)
        return jnp.where(kink, away / jnp.where(at.S > 0.0, at.S, 1.0), both), kink

    @jax.custom_jvp
    def stationary(at):
        h = search(at)
        return h, multiplier(h, at)[0]

    @stationary.defjvp
    def rule(primals, tangents):
        (at,), (d_at,) = primals, tangents
        h, kappa = stationary(at)
        kink = multiplier(h, at)[1]
        phi, first, second = slopes(h)
        # h - mean - B phi - S kappa = 0 and phi' (A phi - g - B kappa) + kappa = 0; at a kink h stays
        first_row = d_at.mean + d_at.B * phi + d_at.S * kappa
        second_row = -first * (d_at.A * phi - d_at.g - d_at.B * kappa)
        bend = second * (at.A * phi - at.g - at.B * kappa) + first**2 * at.A
        rate = 1.0 - at.B * first
        dh = jnp.where(kink, 0.0, (rate * first_row + at.S * second_row) / (rate**2 + at.S * bend))
        smooth = (rate * second_row - bend * first_row) / (rate**2 + at.S * bend)
        held = -first_row / jnp.where(at.S > 0.0, at.S, 1.0)
        return (h, kappa), (dh, jnp.where(kink, held, smooth))

    return stationary
