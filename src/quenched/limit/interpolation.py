"""The average over a real outcome y = link(h_*) + sqrt(noise) z given omega, through few values of y.

For every omega, y varies over one interval. A proximal operator is evaluated at Chebyshev nodes of it only; the weights of
the nodes carry the law of y given omega, and cost one evaluation of the link at each node of the target's field. So a
committee of r units that learns from t targets needs an average over r + 1 variables, not r + t + 1.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ..numerics.chebyshev import interpolated_weights
from ..numerics.roots import psd_factors

#: How far the target's field and the noise are followed, in standard deviations, and the rule for the noise.
REACH = 6.0
_NOISE = np.linspace(-REACH, REACH, 49)
_NOISE_WEIGHTS = np.exp(-0.5 * _NOISE**2) / np.sum(np.exp(-0.5 * _NOISE**2))


def outcome_nodes(response, mean, cov, reads, inner, weights, unit):
    """Outcomes (K, N) and their weights (K, N) for target fields of mean (N, L, t) and covariance (L, t, t).

    ``reads``: which tokens have a target field that varies; ``inner`` (M, D), ``weights`` (M,): a rule for their D standard normal
    variables; ``unit`` (K,): the Chebyshev nodes of [-1, 1]. For every n, ``sum_k weights[k, n] f(outcomes[k, n])`` is E f(y).
    """
    L, t = mean.shape[1:]
    active = [token for token in range(L) if reads[token]]
    roots = jax.vmap(lambda s: psd_factors(s)[0])(cov)
    near = jnp.max(jnp.abs(inner), axis=1, initial=0.0) <= REACH
    unit = jnp.asarray(unit)

    def one(centre):
        target = jnp.broadcast_to(centre, (len(inner), L, t))
        for k, token in enumerate(active):
            target = target.at[:, token].add(inner[:, k * t : (k + 1) * t] @ roots[token].T)
        clean = jax.vmap(response.clean)(target)
        # where the nodes lie does not matter to what is interpolated: no derivative flows through them
        seen = jax.lax.stop_gradient(clean)
        low, high = jnp.min(seen, where=near, initial=jnp.inf), jnp.max(seen, where=near, initial=-jnp.inf)
        middle = 0.5 * (low + high)
        inside = 0.5 * (high - low) + 1e-12 * (1.0 + jnp.abs(middle))  # the noiseless outcome is middle + inside [-1, 1]
        std = jnp.sqrt(response.noise + (1e-6 * inside) ** 2)  # differentiable at no noise
        half = inside + REACH * jax.lax.stop_gradient(std)

        def blurred(x):
            return interpolated_weights(jnp.clip((inside * x + std * _NOISE) / half, -1.0, 1.0), _NOISE_WEIGHTS, unit)

        sharp = interpolated_weights(jnp.clip((clean - middle) / inside, -1.0, 1.0), weights, unit)
        return middle + half * unit, sharp @ jax.vmap(blurred)(unit)

    labels, table = jax.vmap(one)(mean)
    return labels.T, table.T
