"""Roots and pseudo-inverses of covariances that stay differentiable where the covariance is singular."""

from __future__ import annotations

import jax
import jax.numpy as jnp

_RTOL = 1e-12


@jax.custom_jvp
def psd_factors(S):
    """Root R (``R R^T = S``), pseudo-inverse and range projector of a symmetric positive semi-definite matrix.

    ``S`` is (k, k); all three results are (k, k). Eigenvalues below 1e-12 of the largest count as zero. The root is
    differentiated by ``dR = (I - P/2) dS S^+ R``, a root of ``S + dS`` to first order wherever ``dS`` keeps the
    rank; what leaves the range (the null-null block of ``dS``) is invisible to Gaussian nodes ``R z`` and has
    to be added by whoever averages (see :mod:`quenched.limit.channel`).

    >>> with jax.enable_x64(True):
    ...     R, pinv, P = psd_factors(jnp.array([[4.0, 0.0], [0.0, 0.0]]))
    ...     print(R.tolist(), pinv.tolist())
    [[2.0, 0.0], [0.0, 0.0]] [[0.25, 0.0], [0.0, 0.0]]
    """
    powers = _powers(S)
    return powers(0.5), powers(-1.0), powers(0.0)


def _powers(S):
    """The function p -> S^p of the range of S (S^0 is its projector)."""
    if S.shape[-1] == 0:
        return lambda p: S
    if S.shape[-1] == 1:
        positive = S > 0.0
        safe = jnp.where(positive, S, 1.0)
        return lambda p: jnp.where(positive, safe**p, 0.0)
    values, vectors = jnp.linalg.eigh(0.5 * (S + S.T))
    positive = values > _RTOL * jnp.max(jnp.abs(values))
    safe = jnp.where(positive, values, 1.0)
    return lambda p: (vectors * jnp.where(positive, safe**p, 0.0)) @ vectors.T


@psd_factors.defjvp
def _psd_factors_jvp(primals, tangents):
    (S,), (dS,) = primals, tangents
    R, pinv, P = psd_factors(S)
    identity = jnp.eye(S.shape[-1], dtype=S.dtype)
    N = identity - P
    dS = 0.5 * (dS + dS.T)
    dP = N @ dS @ pinv
    dP = dP + dP.T
    cross = pinv @ pinv @ dS @ N
    dpinv = -pinv @ dS @ pinv + cross + cross.T
    # S^+ R by its own power: the product of the two loses all digits that small eigenvalues need
    return (R, pinv, P), ((identity - 0.5 * P) @ dS @ _powers(S)(-0.5), dpinv, dP)
