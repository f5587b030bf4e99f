"""What a denoiser of few units generates, d -> infinity: the exact law of the samples' projections on few directions.

With ``Z = w X / sqrt(d)`` the sampler's own Euler steps close,

    Z <- Z + dt [Delta Z + Gamma Q sigma(Z)] + sqrt(2 epsilon dt) N(0, Q),      Z_0 of law N(0, Q),     Delta = Lin + Gamma b,
    V <- (1 + dt Delta)^2 V + 2 epsilon dt,                                     V_0 = 1,

V the variance along a generic direction. On orthonormal directions E, with ``H = E w^T / sqrt(d)``,
``E X = H Q^+ Z + sqrt(V) N(0, I - H Q^+ H^T)``. Given Q, H and b this holds at any d.

Source: H. Cui, C. Pehlevan, Y. Lu (2025), arXiv:2501.03937.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from ..numerics.gaussian import sobol
from ..numerics.linalg import small_inverse
from ..numerics.precision import in_float64

_NEWTON = 30


class Grid(NamedTuple):
    """The Euler steps: ``linear``, ``gain`` and ``epsilon`` (n,) where they start, and ``dt``."""

    linear: np.ndarray
    gain: np.ndarray
    epsilon: np.ndarray
    dt: float


def grid(schedule, steps: int, taken: int, diffusion=None) -> Grid:
    """The first ``taken`` Euler steps of 1 / ``steps``; ``diffusion``: epsilon(t) of an SDE, a function of one time."""
    t = np.arange(taken) / steps
    point = schedule(t)
    epsilon = np.zeros(taken) if diffusion is None else np.array([float(diffusion(s)) for s in t])
    if not (np.isfinite(epsilon).all() and (epsilon >= 0.0).all()):
        raise ValueError(f"diffusion must be a function of t with values that are finite and not negative, got {epsilon.min():g}")
    squared = point.alpha**2
    return Grid(point.linear - epsilon / squared, point.gain + epsilon * point.beta / squared, epsilon, 1.0 / steps)


@functools.lru_cache(maxsize=8)
def normal_nodes(units: int, directions: int, log2: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Equal-weight points for Z_0 and for what is beside it: (N, r) and (N, p) standard normal, N = 2^log2.

    Scrambled Sobol points, in pairs of opposite sign (i and i + N/2), with unit second moments; for one unit Z_0 is at the
    midpoints of quantiles. Gauss-Hermite rules would miss the nearly discontinuous flow at the separatrices between modes.
    """
    z, _ = sobol(units + directions, log2, seed)
    z = z.copy()
    if units == 1:
        half = len(z) // 2
        rank = np.argsort(np.argsort(np.abs(z[:half, 0])))  # of the sizes, which come once with either sign
        first = np.sign(z[:half, 0]) * special.ndtri((half + 0.5 + rank) / len(z))
        z[:, 0] = np.concatenate([first, -first])
    z.flags.writeable = False  # all who ask for these nodes share them
    return z[:, :units], z[:, units:]


@in_float64
def generate(activation, Q, b, start, grid: Grid, seed: int = 0) -> tuple[np.ndarray, float]:
    """Z (N, r) at the end of the grid from Z_0 (N, r), and V. The noise of an SDE has opposite signs in the two halves."""
    noisy = bool(np.any(grid.epsilon))
    arrays = (jnp.asarray(x, float) for x in (Q, b, start, grid.linear, grid.gain, grid.epsilon, grid.dt))
    Z, V = _generate(*arrays, seed, activation.fn, noisy)
    return np.asarray(Z), float(V)


def _step(sigma, Q, b, Z, linear, gain, dt):
    return Z + dt * ((linear + gain * b) * Z + gain * sigma(Z) @ Q)


@functools.partial(jax.jit, static_argnums=(8, 9))
def _generate(Q, b, start, linear, gain, epsilon, dt, seed, sigma, noisy):
    values, vectors = jnp.linalg.eigh(Q)
    root = (vectors * jnp.sqrt(jnp.maximum(values, 0.0))) @ vectors.T
    key, half = jax.random.key(seed), start.shape[0] // 2

    def step(carry, at):
        Z, V = carry
        number, lin, g, e = at
        Z = _step(sigma, Q, b, Z, lin, g, dt)
        if noisy:
            normal = jax.random.normal(jax.random.fold_in(key, number), (half, start.shape[1]), start.dtype)
            Z = Z + jnp.sqrt(2.0 * e * dt) * jnp.concatenate([normal, -normal]) @ root
        return (Z, (1.0 + dt * (lin + g * b)) ** 2 * V + 2.0 * e * dt), None

    steps = (jnp.arange(linear.shape[0]), linear, gain, epsilon)
    (Z, V), _ = jax.lax.scan(step, (start, jnp.ones(())), steps)
    return Z, V


@in_float64
def log_density(activation, Q, b, grid: Grid, Z) -> np.ndarray:
    """The logarithm of the density of Z at the end of an ODE grid, at points (n, r); -inf where no Z_0 was found that leads there.

    Every Euler step is undone by Newton's method, whose Jacobians give the change of volume.
    """
    arrays = (jnp.asarray(x, float) for x in (Q, b, Z, grid.linear, grid.gain, grid.dt))
    return np.asarray(_log_density(*arrays, activation.fn))


@functools.partial(jax.jit, static_argnums=6)
def _log_density(Q, b, Z, linear, gain, dt, sigma):
    def back(carry, at):
        Z, log = carry
        lin, g = at

        def forward(x):
            return _step(sigma, Q, b, x, lin, g, dt)

        def jacobian(x):  # of row vectors: the derivative of forward(x)_j by x_i
            slope = jax.jvp(sigma, (x,), (jnp.ones_like(x),))[1]
            return (1.0 + dt * (lin + g * b)) * jnp.eye(x.shape[1]) + dt * g * slope[:, :, None] * Q

        def newton(carry):
            count, x, _ = carry
            new = x - jnp.einsum("nj,nji->ni", forward(x) - Z, small_inverse(jacobian(x)))
            return count + 1, new, jnp.max(jnp.abs(new - x) / (1.0 + jnp.abs(x)))

        start = (0, Z / (1.0 + dt * (lin + g * b)), jnp.inf)
        x = jax.lax.while_loop(lambda c: (c[0] < _NEWTON) & (c[2] > 1e-11), newton, start)[1]
        x = jnp.where(jnp.abs(forward(x) - Z) < 1e-8 * (1.0 + jnp.abs(Z)), x, jnp.nan)
        return (x, log - jnp.linalg.slogdet(jacobian(x))[1]), None

    (start, log), _ = jax.lax.scan(back, (Z, jnp.zeros(Z.shape[0])), (linear[::-1], gain[::-1]))
    inverse = jnp.linalg.inv(Q)
    size = jnp.linalg.slogdet(2.0 * jnp.pi * Q)[1]
    log = log - 0.5 * (jnp.einsum("nj,jl,nl->n", start, inverse, start) + size)
    return jnp.where(jnp.isnan(log), -jnp.inf, log)
