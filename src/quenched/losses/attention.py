"""The loss of tied low-rank dot-product attention against a target that mixes positions and meaning, without its O(d) parts.

The network answers ``S(h) (x + p)`` with ``S = softmax(h h^T)`` row by row and ``h = (x + p) w/sqrt(d)``; the target is
``T(h_*) x`` with ``T = (1 - omega) softmax(h_* h_*^T) + omega A``. Per sample ``|T x - S (x + p)|^2/d`` needs the L x L matrices
``x x^T/d``, ``x p^T/d`` and ``p p^T/d`` only. They concentrate: the first at ``R = diag(token variances)``, the others at zero. So

    1/(2 d) |y - f(x)|^2  ->  1/2 Tr (T - S) R (T - S)^T,

and positions act through the mean of h alone. Source: H. Cui, F. Behrens, F. Krzakala, L. Zdeborova (2024), arXiv:2402.03902.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from .base import Loss


def mixing(h):
    """softmax(h h^T) row by row, for h (L, r)."""
    return jax.nn.softmax(h @ h.T, axis=-1)


def target_mixing(target, params):
    """T(h_*): ``params`` holds ``omega``, ``positional`` (L, L)."""
    return (1.0 - params["omega"]) * mixing(target) + params["omega"] * params["positional"]


def mean_square(h, target, params):
    """Tr (T - S) R (T - S)^T: on fresh fields, the test error per token dimension; ``params["variances"]`` (L,) is R."""
    return jnp.sum((target_mixing(target, params) - mixing(h)) ** 2 * params["variances"])


def _loss(h, target, params):
    return 0.5 * mean_square(h, target, params)


def _starts(omega, **arguments):
    """S does not see the sign of h: minima lie near the fields and near their mirror image."""
    return jnp.stack([omega, -omega])


@functools.cache
def attention() -> Loss:
    """The loss; it reads ``params["omega"]``, ``params["positional"]`` (L, L), ``params["variances"]`` (L,)."""
    return Loss(_loss, "attention", starts=_starts, convex=False)
