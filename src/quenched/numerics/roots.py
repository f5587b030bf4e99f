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
    if S.shape[-1] == 1:
        positive = S > 0.0
        safe = jnp.where(positive, S, 1.0)
        return (
            jnp.where(positive, jnp.sqrt(safe), 0.0),
            jnp.where(positive, 1.0 / safe, 0.0),
            positive.astype(S.dtype),
        )
    values, vectors = jnp.linalg.eigh(0.5 * (S + S.T))
    positive = values > _RTOL * jnp.max(jnp.abs(values))
    safe = jnp.where(positive, values, 1.0)

    def build(d):
        return (vectors * jnp.where(positive, d, 0.0)) @ vectors.T

    return build(jnp.sqrt(safe)), build(1.0 / safe), build(jnp.ones_like(safe))


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
    return (R, pinv, P), ((identity - 0.5 * P) @ dS @ pinv @ R, dpinv, dP)
