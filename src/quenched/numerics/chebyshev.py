"""Averages of a smooth function through its values at Chebyshev nodes only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def chebyshev_nodes(count: int) -> np.ndarray:
    """The ``count`` zeros of the Chebyshev polynomial of that degree, in (-1, 1).

    >>> chebyshev_nodes(2).round(6).tolist()
    [0.707107, -0.707107]
    """
    return np.cos(np.pi * (np.arange(count) + 0.5) / count)


def interpolated_weights(points, weights, nodes):
    """Weights p (K,) of the Chebyshev ``nodes`` (K,) with ``sum_k p_k f(nodes_k) = sum_j weights_j f(points_j)``.

    ``points`` (M,) lie in [-1, 1], ``weights`` is (M,). Exact for polynomials f of degree below K, geometrically accurate for
    analytic ones; p may be negative. Cost K (M + K), whatever f costs. L. N. Trefethen, Approximation Theory and
    Approximation Practice (2013).

    >>> nodes = chebyshev_nodes(5)
    >>> p = interpolated_weights(jnp.array([0.3, -0.2]), jnp.array([0.5, 0.5]), nodes)
    >>> bool(abs(jnp.sum(p * nodes**4) - 0.5 * (0.3**4 + 0.2**4)) < 1e-6)
    True
    """
    nodes = jnp.asarray(nodes, points.dtype)

    def degree(state, _):
        (at_points, next_points), (at_nodes, next_nodes) = state
        out = (jnp.sum(weights * at_points), at_nodes)
        return ((next_points, 2.0 * points * next_points - at_points), (next_nodes, 2.0 * nodes * next_nodes - at_nodes)), out

    start = ((jnp.ones_like(points), points), (jnp.ones_like(nodes), nodes))
    _, (moments, table) = jax.lax.scan(degree, start, None, length=nodes.size)
    halved = moments.at[0].multiply(0.5)
    return 2.0 / nodes.size * (halved @ table)
