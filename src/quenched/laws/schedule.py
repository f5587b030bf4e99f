"""Interpolants between noise and data, ``x_t = alpha(t) x_0 + beta(t) x_1``: what flows and diffusions are learnt along."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from ..numerics import check
from ..numerics.precision import in_float64

NAMED = ("linear", "variance-preserving")

#: How far a schedule may be from its end points.
_TOL = 1e-8


class Point(NamedTuple):
    """A schedule at given times: ``alpha`` multiplies the noise, ``beta`` the data; then their derivatives in time.

    >>> point = Schedule("linear")(0.25)
    >>> float(point.d_alpha), float(point.d_beta), float(point.linear.round(12))
    (-1.0, 1.0, -1.333333333333)
    """

    alpha: Any
    beta: Any
    d_alpha: Any
    d_beta: Any

    @property
    def linear(self):
        """The part of the velocity that is proportional to the point itself, ``alpha' / alpha``."""
        return self.d_alpha / self.alpha

    @property
    def gain(self):
        """Gamma = ``beta' - beta alpha' / alpha``, what multiplies the denoiser in the velocity."""
        return self.d_beta - self.linear * self.beta


@dataclasses.dataclass(frozen=True)
class Schedule:
    """An interpolant from noise (t = 0) to data (t = 1): ``x_t = alpha(t) x_0 + beta(t) x_1``.

    - ``spec``: ``"linear"`` (1 - t, t), ``"variance-preserving"`` (cos(pi t / 2), sin(pi t / 2)), or a pair of functions
      ``(alpha, beta)`` of a number t written in JAX, with alpha(0) = beta(1) = 1, alpha(1) = beta(0) = 0, alpha > 0 before t = 1.

    Calling it at times (any shape, in [0, 1]) gives a :class:`Point` of NumPy float64 arrays. The exact denoiser f = E[x_1 | x_t]
    generates data by ``dX/dt = point.linear X + point.gain f(X)``.

    Raises ``ValueError`` for another name, functions that miss their end points, an alpha that vanishes before t = 1.
    Source: M. Albergo, N. Boffi, E. Vanden-Eijnden (2023), arXiv:2303.08797.

    >>> point = Schedule("linear")(0.25)
    >>> float(point.alpha), float(point.beta), float(point.gain.round(12))
    (0.75, 0.25, 1.333333333333)
    """

    spec: Any = "linear"

    def __post_init__(self):
        if isinstance(self.spec, Schedule):
            object.__setattr__(self, "spec", self.spec.spec)
        if isinstance(self.spec, str):
            check.choice("schedule", self.spec, NAMED)
            return
        pair = self.spec
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not all(callable(f) for f in pair):
            raise ValueError(f"schedule must be one of {', '.join(NAMED)} or two functions (alpha, beta) of the time, got {pair!r}")
        object.__setattr__(self, "spec", tuple(pair))
        try:
            ends, inside = self(np.array([0.0, 1.0])), self(np.linspace(0.0, 0.999, 200))
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"schedule must hold functions of a number t, written in JAX, got ones that fail: {error}") from error
        off = max(np.abs(ends.alpha - [1.0, 0.0]).max(), np.abs(ends.beta - [0.0, 1.0]).max())
        if not off <= _TOL:
            raise ValueError(
                f"schedule must lead from (alpha, beta) = (1, 0) at t = 0 to (0, 1) at t = 1, "
                f"got {(ends.alpha[0], ends.beta[0])} and {(ends.alpha[1], ends.beta[1])}"
            )
        if not all(np.isfinite(row).all() for row in inside) or not inside.alpha.min() > 0:
            raise ValueError(f"schedule must be finite with alpha > 0 before t = 1, got alpha = {inside.alpha.min():.3g}")

    def __call__(self, t) -> Point:
        t = check.array("t", t)
        if np.any((t < 0) | (t > 1)):
            raise ValueError(f"t must be in [0, 1], got {t.min():g} to {t.max():g}")
        if self.spec == "linear":
            return Point(1.0 - t, 1.0 * t, np.full_like(t, -1.0), np.full_like(t, 1.0))
        if self.spec == "variance-preserving":
            angle = np.pi / 2 * t
            sine, cosine = np.sin(angle), np.cos(angle)
            return Point(np.where(t == 1, 0.0, cosine), sine, -np.pi / 2 * sine, np.pi / 2 * cosine)
        values = [_with_derivative(f, t.ravel()) for f in self.spec]
        (a, da), (b, db) = ((v.reshape(t.shape), dv.reshape(t.shape)) for v, dv in values)
        return Point(a, b, da, db)

    def __repr__(self) -> str:
        if isinstance(self.spec, str):
            return self.spec
        return f"({', '.join(getattr(f, '__name__', type(f).__name__) for f in self.spec)})"


@in_float64
def _with_derivative(function, t):
    import jax
    import jax.numpy as jnp

    value, slope = jax.vmap(jax.value_and_grad(lambda s: jnp.asarray(function(s), float)))(jnp.asarray(t))
    return np.asarray(value, np.float64), np.asarray(slope, np.float64)
