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
from ..numerics.gaussian import panel_rule
from ..numerics.roots import psd_factors

#: How far the target's field and the noise are followed, in standard deviations, and the rule for the noise.
REACH = 6.0
_NOISE = np.linspace(-REACH, REACH, 49)
_NOISE_WEIGHTS = np.exp(-0.5 * _NOISE**2) / np.sum(np.exp(-0.5 * _NOISE**2))


def outcome_nodes(response, mean, cov, reads, inner, weights, unit):
    """Outcomes (K, N) and their weights (K, N) for target fields of mean (N, L, t) and covariance (L, t, t).

    ``reads``: which tokens have a target field that varies; ``inner`` (M, D), ``weights`` (M,): a rule for their D standard normal
    variables; ``unit`` (K,): the Chebyshev nodes of [-1, 1]. For every n, ``sum_k weights[k, n] f(outcomes[k, n])`` is E f(y).
    For a link of one target that jumps, ``inner`` (P + 1,) holds the ends of panels and ``weights`` the targets at which it does.
    """
    L, t = mean.shape[1:]
    active = [token for token in range(L) if reads[token]]
    roots = jax.vmap(lambda s: psd_factors(s)[0])(cov)
    unit = jnp.asarray(unit)

    def moving(centre):
        """Targets at nodes that move with the overlaps, their weights, and which are near."""
        target = jnp.broadcast_to(centre, (len(inner), L, t))
        for k, token in enumerate(active):
            target = target.at[:, token].add(inner[:, k * t : (k + 1) * t] @ roots[token].T)
        return target, weights, jnp.max(jnp.abs(inner), axis=1, initial=0.0) <= REACH

    def fixed(centre):
        """The same on panels that end at jumps: the nodes stay, and the density moves."""
        token = active[0]
        at, variance = centre[token, 0], cov[token, 0, 0]
        where, scale = jax.lax.stop_gradient((at, jnp.sqrt(jnp.maximum(variance, 1e-300))))
        ends = jnp.clip((jnp.asarray(weights) - where) / scale, inner[0], inner[-1])
        z, density = panel_rule(jnp.sort(jnp.concatenate([inner, ends])))
        nodes = where + scale * z
        logarithm = -0.5 * (nodes - at) ** 2 / variance - 0.5 * jnp.log(variance)
        density = density * jnp.exp(logarithm - jax.lax.stop_gradient(logarithm))
        target = jnp.broadcast_to(jax.lax.stop_gradient(centre), (len(z), L, t)).at[:, token, 0].set(nodes)
        return target, density, jnp.abs(z) <= REACH

    def one(centre):
        target, weight, near = (fixed if inner.ndim == 1 else moving)(centre)
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

        sharp = interpolated_weights(jnp.clip((clean - middle) / inside, -1.0, 1.0), weight, unit)
        return middle + half * unit, sharp @ jax.vmap(blurred)(unit)

    labels, table = jax.vmap(one)(mean)
    return labels.T, table.T
