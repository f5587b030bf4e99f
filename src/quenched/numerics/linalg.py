"""Linear algebra of many small matrices, without LAPACK.

Two batched LAPACK calls in one program can wait for each other for ever on XLA's CPU thread pool; and unrolled elimination
is faster for the sizes of units and tokens.
"""

from __future__ import annotations

import jax.numpy as jnp


def symmetrise(a):
    """The symmetric part of the last two axes."""
    return 0.5 * (a + jnp.swapaxes(a, -1, -2))


def small_inverse(matrix):
    """The inverses of many small matrices (S, r, r) with positive definite real parts, by elimination without pivots."""
    r = matrix.shape[-1]
    work = jnp.moveaxis(matrix, 0, -1)
    for k in range(r):
        pivot = 1.0 / work[k, k]
        row = (work[k] * pivot).at[k].set(pivot)
        column = work[:, k].at[k].set(0.0)
        work = work.at[:, k].set(0.0) - column[:, None] * row
        work = work.at[k].set(row)
    return jnp.moveaxis(work, -1, 0)


def ldl_factor(matrix):
    """The unrolled factors ``lower`` (a list of rows, unit diagonal left out) and ``pivots`` of a symmetric (n, n)
    matrix; to be mapped over a batch. The matrix is positive definite where all pivots are positive."""
    n = matrix.shape[-1]
    lower, pivots = [[None] * n for _ in range(n)], []
    for j in range(n):
        d = matrix[j, j] - sum((lower[j][k] ** 2 * pivots[k] for k in range(j)), 0.0)
        pivots.append(d)
        for i in range(j + 1, n):
            dot = sum((lower[i][k] * lower[j][k] * pivots[k] for k in range(j)), 0.0)
            lower[i][j] = (matrix[i, j] - dot) / jnp.where(d != 0.0, d, 1.0)
    return lower, pivots


def ldl_solve(factors, rhs):
    """The solution (n,) of the system whose factors :func:`ldl_factor` gave."""
    lower, pivots = factors
    n = len(pivots)
    y = []
    for i in range(n):
        y.append(rhs[i] - sum((lower[i][k] * y[k] for k in range(i)), 0.0))
    x = [None] * n
    for i in reversed(range(n)):
        x[i] = y[i] / pivots[i] - sum((lower[k][i] * x[k] for k in range(i + 1, n)), 0.0)
    return jnp.stack(x)
