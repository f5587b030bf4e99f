"""Deterministic equivalent of a block covariance: groups of rows of one Gaussian matrix, coupled by a small matrix.

For ``S = diag(Lambda_l) + A o (W W^T)``, W (p, d) with independent entries of variance 1/d, its rows in k groups of
``beta_l d`` rows, the blocks (l, l') of W W^T multiplied by ``A_ll'``,

    g_l = Tr_l S^-1 / p_l,    1 / g_l = Lambda_l + [A (1 + G A)^-1]_ll,    G = diag(beta_l g_l),
    T   = w^T S^-1 w = (1 + G A)^-1 G        for one column w of W, seen group by group.

``k = 1`` is the law of Marchenko and Pastur. Source: H. Cui et al. (2024), arXiv:2402.04980; Y. Dandi et al. (2024),
arXiv:2410.18938; V. Marchenko, L. Pastur (1967).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

_STEPS = 200
_UNROLLED = 4  # so many groups are eliminated by hand: compiled and run several times faster than a call of a library


class Blocks(NamedTuple):
    """``g`` (k,), the normalised traces of the resolvent by group, and ``T`` (k, k), its form in one column."""

    g: Float[Array, " k"] | Complex[Array, " k"]
    T: Float[Array, "k k"] | Complex[Array, "k k"]


def symmetric(entries, k: int):
    """The matrix (k, k) with these entries in its upper triangle, row by row."""
    a, b = np.triu_indices(k)
    return jnp.zeros((k, k), entries.dtype).at[a, b].set(entries).at[b, a].set(entries)


def times(A, g, beta):
    """``A (1 + G A)^-1``, symmetric."""
    return _eliminated(jnp.eye(len(g), dtype=A.dtype) + A * (beta * g), A)


def _eliminated(M, b):
    """``M^-1 b`` for M = 1 + A G with positive A and G, or 1 minus a contraction of positive entries: the leading minors are
    positive, and no pivots are needed."""
    k = len(M)
    if k > _UNROLLED:
        return jnp.linalg.solve(M, b)
    rows, sides = list(M), list(b)
    for i in range(k):
        for j in range(i + 1, k):
            ratio = rows[j][i] / rows[i][i]
            rows[j], sides[j] = rows[j] - ratio * rows[i], sides[j] - ratio * sides[i]
    for i in reversed(range(k)):
        for j in range(i + 1, k):
            sides[i] = sides[i] - rows[i][j] * sides[j]
        sides[i] = sides[i] / rows[i][i]
    return jnp.stack(sides)


def _newton(g, ridges, A, beta):
    """One step of Newton's method for g = F(g)."""
    M = times(A, g, beta)
    F = 1.0 / (ridges + jnp.diagonal(M))
    slope = (F**2)[:, None] * M * M.T * beta
    return g + _eliminated(jnp.eye(len(g), dtype=M.dtype) - slope, (F - g)[:, None])[:, 0]


def block_resolvent(
    ridges: Float[Array | np.ndarray, " k"], A: Float[Array | np.ndarray, "k k"], beta: Float[Array | np.ndarray, " k"]
) -> Blocks:
    """The traces g and the form T for positive ``ridges`` Lambda_l and a positive semi-definite ``A``; ``beta`` > 0.

    F is increasing and concave, so Newton's method from above (g = 1 / Lambda) comes down to the one positive solution without
    passing it. First derivatives are those of the solution.

    >>> with jax.enable_x64(True):
    ...     float(block_resolvent(jnp.array([1.0]), jnp.array([[2.0]]), jnp.array([0.5])).g[0].round(12))
    0.414213562373
    """
    fixed = jax.tree.map(jax.lax.stop_gradient, (ridges, A, beta))

    def body(state):
        g, _, count = state
        new = _newton(g, *fixed)
        new = jnp.where((new > 0.0) & (new <= g), new, g)  # rounding, at the solution
        return new, jnp.any(g - new > 1e-14 * g), count + 1

    start = 1.0 / fixed[0]
    g, _, _ = jax.lax.while_loop(lambda s: s[1] & (s[2] < _STEPS), body, (start, jnp.array(True), 0))
    g = _newton(jax.lax.stop_gradient(g), ridges, A, beta)  # whose first derivatives are those of the solution
    return Blocks(g, form(g, A, beta))


def block_response(blocks: Blocks, A, beta, d_ridges, d_A) -> Blocks:
    """The change of g and T along ``d_ridges`` (k,) and a symmetric ``d_A`` (k, k), by the linear system at given traces."""
    g, T = blocks
    M = times(A, g, beta)
    N = jnp.eye(len(g), dtype=M.dtype) - (beta * g)[:, None] * M  # (1 + G A)^-1
    side = -(g**2) * (d_ridges + jnp.einsum("al,ab,bl->l", N, d_A, N))
    system = jnp.eye(len(g), dtype=M.dtype) - (g**2)[:, None] * M * M.T * beta
    dg = _eliminated(system, side[:, None])[:, 0]
    return Blocks(dg, N @ (jnp.diag(beta * dg)) @ N.T - T @ d_A @ T)


def form(g, A, beta):
    """``T = (1 + G A)^-1 G`` of given traces, symmetric."""
    heads = beta * g
    return jnp.diag(heads) - heads[:, None] * times(A, g, beta) * heads
