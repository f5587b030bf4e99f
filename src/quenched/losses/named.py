"""The losses of generalised linear models, with their stable envelopes.

Scalar h; ``label`` is a real outcome (square, huber, absolute) or +-1 (logistic, hinge).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .base import Loss


def _square(h, label):
    return 0.5 * (h - label) ** 2


def _square_moreau(omega, V, label):
    f = (label - omega) / (1.0 + V)
    return 0.5 * (label - omega) * f, omega + V * f


def _logistic(h, label):
    return jax.nn.softplus(-label * h)


def _logistic_prox(omega, V, label):
    """``x = label h`` is the root of ``x = u + label^2 V sigmoid(-x)``, u = label omega: Newton kept inside a shrinking bracket."""
    u, V = label * omega, label**2 * V
    # sigmoid(-x) <= min(1, exp(-x)): x <= u + V, and x <= u + W(V exp(-u)) <= u + log(1 + V exp(-u)).
    high = jnp.minimum(u + V, u + jnp.logaddexp(0.0, jnp.log(jnp.maximum(V, 1e-300)) - u))
    low = u
    # sigmoid is at least its value at the upper end of the bracket
    start = jnp.clip(u + V * jax.nn.sigmoid(-0.5 * (low + high)), low, high)

    def newton(x):
        s = jax.nn.sigmoid(-x)
        value = x - u - V * s
        return value, x - value / (1.0 + V * s * (1.0 - s))

    def going(state):
        x, low, high, change, count = state
        return (count < 60) & (change > 1e-12 * (1.0 + jnp.abs(x)))

    def step(state):
        x, low, high, _, count = state
        value, new = newton(x)
        low, high = jnp.where(value < 0, x, low), jnp.where(value > 0, x, high)
        new = jnp.where((new >= low) & (new <= high), new, 0.5 * (low + high))
        return new, low, high, jnp.abs(new - x), count + 1

    x, *_ = jax.lax.while_loop(going, step, (start, low, high, jnp.full_like(u, jnp.inf), 0))
    x = newton(newton(x)[1])[1]
    return jnp.where(label == 0, omega, x / jnp.where(label == 0, 1, label))


def _hinge(h, label):
    return jnp.maximum(0.0, 1.0 - label * h)


def _hinge_moreau(omega, V, label):
    gap = 1.0 - label * omega  # the dual variable is clip(gap / V, 0, 1)
    inside = (gap > 0.0) & (gap < V)
    safe = jnp.where(inside, V, 1.0)
    value = jnp.where(gap <= 0.0, 0.0, jnp.where(inside, 0.5 * gap**2 / safe, gap - 0.5 * V))
    return value, omega + label * jnp.clip(gap, 0.0, V)


def _hinge_kinks(V, label):
    return jnp.stack([label * 1.0, label * (1.0 - V)])


def _huber(h, label):
    u = jnp.abs(h - label)
    return jnp.where(u < 1.0, 0.5 * u**2, u - 0.5)


def _huber_moreau(omega, V, label):
    gap = label - omega
    inside = jnp.abs(gap) < 1.0 + V
    value = jnp.where(inside, 0.5 * gap**2 / (1.0 + V), jnp.abs(gap) - 0.5 * (1.0 + V))
    return value, omega + V * jnp.clip(gap / (1.0 + V), -1.0, 1.0)


def _huber_kinks(V, label):
    return jnp.stack([label - 1.0 - V, label + 1.0 + V])


def _absolute(h, label):
    return jnp.abs(h - label)


def _absolute_moreau(omega, V, label):
    gap = label - omega
    inside = jnp.abs(gap) < V
    safe = jnp.where(inside, V, 1.0)
    value = jnp.where(inside, 0.5 * gap**2 / safe, jnp.abs(gap) - 0.5 * V)
    return value, omega + jnp.clip(gap, -V, V)


def _absolute_kinks(V, label):
    return jnp.stack([label - V, label + V])


def _softmax(h, label):
    return jax.nn.logsumexp(h[0]) - h[0, label]


square = Loss(_square, "square", moreau=_square_moreau, residual=True, quadratic=True, convex=True, scalar=True)
logistic = Loss(_logistic, "logistic", prox=_logistic_prox, convex=True, scalar=True)
hinge = Loss(_hinge, "hinge", moreau=_hinge_moreau, kinks=_hinge_kinks, convex=True, scalar=True)
huber = Loss(_huber, "huber", moreau=_huber_moreau, kinks=_huber_kinks, residual=True, convex=True, scalar=True)
absolute = Loss(_absolute, "absolute", moreau=_absolute_moreau, kinks=_absolute_kinks, residual=True, convex=True, scalar=True)
softmax = Loss(_softmax, "softmax", convex=True, shift=True)

NAMED = {loss.name: loss for loss in (square, logistic, hinge, huber, absolute)}
MARGIN = ("logistic", "hinge", "square")


def as_loss(loss, *, scalar: bool = False) -> Loss:
    """A named loss, a :class:`Loss`, or a JAX function, as a :class:`Loss`.

    >>> as_loss("hinge").convex
    True
    """
    if isinstance(loss, str):
        if loss not in NAMED:
            raise ValueError(f"loss must be one of {', '.join(map(repr, NAMED))} or a function, got {loss!r}")
        return NAMED[loss]
    if not callable(loss):
        raise ValueError(f"loss must be a name or a function, got {loss!r}")
    made = loss if isinstance(loss, Loss) else Loss(loss, scalar=scalar)
    if "h" not in made.names:
        raise ValueError(f"loss must use the argument 'h', got a function of {made.names}")
    return made
