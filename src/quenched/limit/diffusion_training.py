"""One-pass SGD on a denoiser of few units and noisy points of a mixture, d -> infinity: closed equations of its statistics.

Denoiser ``f(x) = b x + sum_j w_j sigma(h_j) / sqrt(d)``, ``h = w x / sqrt(d)``, at ``x = alpha x_0 + beta x_1``: x_0 normal, x_1 of
cluster k (probability rho_k), of mean mu_k = O(1) and of variance lambda_ks on the block s, which holds a share pi_s of the d
coordinates. A step goes down the gradient of ``|x_1 - f|^2 / 2`` and of the weight decay; d steps are a unit of time. With
orthonormal directions e in every block, ``mu_k^s = sum_a Y^s_ka e_a``, the state is ``G^s_aj = e_a.w_j / sqrt(d)``,
``q^s_jl = w_j^s.w_l^s / d`` and b, and ``m^s = Y^s G^s`` are the overlaps with the means. A direction on which all Y vanish only
watches.

Let a = w x_1 / sqrt(d), Q = sum_s q^s, p = a - b h - Q sigma, and

    G1 = (1 - b beta) sigma + beta p sigma',       G0 = -b alpha sigma + alpha p sigma',

the coefficients of x_1 and x_0 in the gradient. Averages are over h alone, normal in each cluster: a given h is normal too.

Source: H. Cui, C. Pehlevan, Y. Lu (2025), arXiv:2501.03937.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np

from ..numerics import gaussian
from ..numerics.precision import in_float64
from ..numerics.programs import make_room
from ..numerics.results import RESULTS
from ..numerics.roots import psd_factors

#: Gauss-Hermite nodes an axis for one, two and three units; Sobol points (log2) for more, and for two or more noisy points at once.
HERMITE, KINKED, SOBOL = {1: 80, 2: 40, 3: 20}, {1: 400, 2: 80, 3: 24}, 13
_MAX_STEPS, _BATCH, _PADDED = 20_000, 16, 128


class Target(NamedTuple):
    """``prob`` (K,); ``eigenvalues`` (S, K); ``mass`` (S,), the shares of the blocks; ``means`` (S, K, p), Y of the text above."""

    prob: np.ndarray
    eigenvalues: np.ndarray
    mass: np.ndarray
    means: np.ndarray


class Rates(NamedTuple):
    """``alpha``, ``beta``, ``weights`` (A,): the times; learning rates of w and b, weight decay."""

    alpha: np.ndarray
    beta: np.ndarray
    weights: np.ndarray
    learning_rate: float
    skip_learning_rate: float
    weight_decay: float


class State(NamedTuple):
    """``G`` (S, p, r), ``q`` (S, r, r), ``b``; with a leading axis where there are several."""

    G: np.ndarray
    q: np.ndarray
    b: np.ndarray


class Averages(NamedTuple):
    """Of one cluster at one time: E G1; E d G1/d a, E d G0/d n, E sigma sigma^T; E G1 G1^T, E G0 G0^T; the part of L; E h.sigma."""

    C: jax.Array
    D1: jax.Array
    D0: jax.Array
    SS: jax.Array
    N1: jax.Array
    N0: jax.Array
    risk: jax.Array
    output: jax.Array


def averages(sigma, kinked: bool, rule, alpha, beta, b, M, Q, Qk) -> Averages:
    """The Gaussian averages of a cluster in which a is N(M, Qk), M (r,), Qk (r, r), n is N(0, Q), h = alpha n + beta a.

    ``rule``: nodes (N, r) and weights (N,). ``kinked``: without second derivatives of sigma, by integration by parts.
    """
    z, weight = rule
    omega = alpha**2 * Q + beta**2 * Qk
    root, inverse, _ = psd_factors(omega)
    centred = z @ root.T
    h = beta * M + centred
    s, s1, s2 = _derivatives(sigma, h)
    gain = beta * Qk @ inverse
    spread = Qk - beta * gain @ Qk  # of a given h
    p = M + centred @ gain.T - b * h - s @ Q
    G1, G0 = (1.0 - b * beta) * s + beta * p * s1, -b * alpha * s + alpha * p * s1

    def second(x, y):
        return (weight[:, None] * x).T @ y

    SS, SS1 = second(s, s), second(s1, s1)
    mean1 = weight @ s1
    bent = weight @ (p * s2)
    if kinked:
        size = jnp.diagonal(omega)
        safe = jnp.where(size > 0.0, size, 1.0)
        parts = weight @ (p * s1 * centred) - (beta * jnp.diagonal(Qk) - b * size) * mean1 + jnp.sum(Q * omega * SS1, axis=1)
        bent = jnp.where(size > 0.0, parts / safe, bent)
    D1 = jnp.diag(2.0 * beta * (1.0 - b * beta) * mean1 + beta**2 * bent) - beta**2 * Q * SS1
    D0 = jnp.diag(-2.0 * b * alpha**2 * mean1 + alpha**2 * bent) - alpha**2 * Q * SS1
    linear = (1.0 - b * beta) * M * (weight @ s) + jnp.diagonal(beta * (1.0 - b * beta) * Qk - b * alpha**2 * Q) * mean1
    return Averages(
        weight @ G1, D1, D0, SS, second(G1, G1) + beta**2 * spread * SS1, second(G0, G0) + alpha**2 * spread * SS1,
        0.5 * jnp.sum(Q * SS) - jnp.sum(linear), jnp.sum(weight @ (h * s)),
    )  # fmt: skip


def _summed_noise(sigma, rule, rates, b, M, Q, Qk):
    """E G1 G1^T and E G0 G0^T of gradients that are summed over the times, at the same a and n: ``rule`` has nodes (N, 2 r)."""
    z, weight = rule
    r = Q.shape[0]
    a, n = M + z[:, :r] @ psd_factors(Qk)[0].T, z[:, r:] @ psd_factors(Q)[0].T

    def gradients(alpha, beta, share):
        h = alpha * n + beta * a
        s, s1, _ = _derivatives(sigma, h)
        p = a - b * h - s @ Q
        return share * ((1.0 - b * beta) * s + beta * p * s1), share * alpha * (p * s1 - b * s)

    G1, G0 = (jnp.sum(g, axis=0) for g in jax.vmap(gradients)(rates.alpha, rates.beta, rates.weights))
    return (weight[:, None] * G1).T @ G1, (weight[:, None] * G0).T @ G0


def _derivatives(sigma, h):
    """sigma, sigma', sigma'' at h, elementwise."""
    one = jnp.ones_like(h)

    def slope(x):
        return jax.jvp(sigma, (x,), (one,))

    (s, s1), (_, s2) = jax.jvp(slope, (h,), (one,))
    return s, s1, s2


def fields(state: State, target: Target):
    """M (K, r), Q (r, r) and the covariances (K, r, r) of a in the clusters."""
    M = jnp.einsum("ska,saj->kj", target.means, state.G)
    return M, jnp.sum(state.q, axis=0), jnp.einsum("sk,sjl->kjl", target.eigenvalues, state.q)


def _over_clusters(fn, clusters):
    if len(clusters[0]) <= _BATCH:
        return jax.vmap(fn)(*clusters)
    return jax.lax.map(lambda x: fn(*x), clusters, batch_size=_BATCH)  # what does not fit into a processor's cache is slow


def all_averages(state, target, rates, rule, sigma, kinked) -> Averages:
    """Averages of every time and cluster, leading axes (A, K)."""
    M, Q, Qk = fields(state, target)

    def one(M, Qk):
        return jax.vmap(lambda alpha, beta: averages(sigma, kinked, rule, alpha, beta, state.b, M, Q, Qk))(rates.alpha, rates.beta)

    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), _over_clusters(one, (M, Qk)))


def risk(state, target, rates, rule, sigma, kinked=False):
    """L, the part of order one of the population risk: E |x_1 - f|^2 = d epsilon_0(b) + 2 L, summed over the times."""
    return jnp.einsum("a,k,ak->", rates.weights, target.prob, all_averages(state, target, rates, rule, sigma, kinked).risk)


def velocity(state, target, rates, rule, noise, sigma, kinked, inverse_dim=0.0) -> State:
    """d state / d tau. ``noise``: weights (A,) of the times in E G G^T, or the rule of :func:`_summed_noise`.

    ``inverse_dim``: 1/d, for the leading correction of b: the part of the network's output and the means' squares in its gradient.
    """
    rho, lam, eta = target.prob, target.eigenvalues, rates.learning_rate
    found = all_averages(state, target, rates, rule, sigma, kinked)
    C, D1, D0, SS = (jnp.tensordot(rates.weights, x, axes=1) for x in found[:4])
    if isinstance(noise, tuple):
        M, Q, Qk = fields(state, target)
        N1, N0 = _over_clusters(lambda M, Qk: _summed_noise(sigma, noise, rates, state.b, M, Q, Qk), (M, Qk))
    else:
        N1, N0 = (jnp.tensordot(noise, x, axes=1) for x in (found.N1, found.N0))
    decay = rates.weight_decay * jnp.eye(state.q.shape[-1])
    A = jnp.einsum("k,sk,kjl->sjl", rho, lam, D1) + jnp.einsum("k,kjl->jl", rho, D0 - SS) - decay
    diffusion = target.mass[:, None, None] * (jnp.einsum("k,sk,kjl->sjl", rho, lam, N1) + jnp.einsum("k,kjl->jl", rho, N0))
    C = rho[:, None] * C
    X = A @ state.q + jnp.einsum("kj,ska,sal->sjl", C, target.means, state.G)
    G = state.G @ jnp.swapaxes(A, 1, 2) + jnp.einsum("ska,kj->saj", target.means, C)
    q = eta * (X + jnp.swapaxes(X, 1, 2)) + eta**2 * diffusion
    spread = jnp.einsum("s,k,sk->", target.mass, rho, lam)
    alpha, beta = rates.alpha, rates.beta
    spread = spread + inverse_dim * jnp.einsum("k,ska,ska->", rho, target.means, target.means)
    b = jnp.sum(rates.weights * (beta * (1.0 - state.b * beta) * spread - state.b * alpha**2 - inverse_dim * found.output @ rho))
    return State(eta * G, q, rates.skip_learning_rate * b)


def rule_for(units: int, kinked: bool = False, nodes: int | None = None):
    """Nodes (N, r) and weights (N,) for h: Gauss-Hermite, ``nodes`` an axis, for up to three units, Sobol beyond."""
    if units > 3:
        return gaussian.sobol(units, SOBOL if nodes is None else int(np.ceil(np.log2(nodes))), 0)
    return gaussian.tensor_hermite(units, nodes or (KINKED if kinked else HERMITE)[units])


def noise_rule_for(units: int):
    """Nodes (N, 2 r) and weights for a and n together."""
    return gaussian.tensor_hermite(2, 60) if units == 1 else gaussian.sobol(2 * units, SOBOL + 1, 0)


class Path(NamedTuple):
    """States at the times (T,) and their L; how the integration ended. Where it ended early, the times that were reached.

    ``error``: how far G and q move with three quarters of the nodes (half of Sobol points), over their largest values and 1e-3.
    """

    times: np.ndarray
    states: State
    risk: np.ndarray
    result: RESULTS
    error: float


@in_float64
def integrate(start: State, target: Target, rates: Rates, times, activation, *, summed=False, nodes=None, tol=1e-7, dim=np.inf,
with_risk=True) -> Path:
    """The statistics at increasing ``times`` (T,) >= 0 from ``start`` at time 0; ``tol`` of the integrator, relative and absolute.

    ``dim``: d of an experiment, for the correction of order 1/d to b; infinite: none.
    Without ``with_risk`` L and the error are left zero.
    ``summed``: a step sums the loss over the times (weights are coefficients); else it draws one (weights are probabilities).
    """
    make_room()
    times = np.asarray(times, float)
    padded = np.concatenate([times, np.full(-len(times) % _PADDED, times[-1])]) if with_risk else times
    units, kinked = start.q.shape[-1], bool(activation.kinks)
    if summed:  # gradients at several times share their noise; of one alone the rule of h does
        noise = noise_rule_for(units) if len(rates.alpha) > 1 else np.square(rates.weights)
    else:
        noise = rates.weights
    rule = rule_for(units, kinked, nodes)
    arrays = jax.tree.map(lambda x: jnp.asarray(x, float), (start, target, rates, rule, noise, padded))
    options = 1.0 / dim, tol, activation.fn, kinked
    states, level, code, steps = _integrate(*arrays, *options, with_risk)
    states = jax.tree.map(lambda x: np.asarray(x)[: len(times)], states)
    level = np.asarray(level)[: len(times)]
    ok = np.isfinite(states.b) & np.isfinite(level) & np.isfinite(states.q).all(axis=(1, 2, 3))
    result = RESULTS.successful
    if not bool(code) or not ok.all():
        result = RESULTS.max_steps if int(steps) >= _MAX_STEPS else RESULTS.nonfinite
    kept = len(times) if ok.all() else int(np.argmin(ok))
    states = jax.tree.map(lambda x: x[:kept], states)
    error = 0.0
    if with_risk and kept:
        fewer = jax.tree.map(jnp.asarray, _coarser(units, kinked, nodes, len(rule[1])))
        coarse = _integrate(*arrays[:3], fewer, *arrays[4:], *options, with_risk)[0]
        error = max(_distance(x, np.asarray(y)[:kept]) for x, y in zip(states[:2], coarse[:2], strict=True))
    return Path(times[:kept], states, level[:kept], result, error)


def _coarser(units, kinked, nodes, size):
    """A rule of fewer nodes, with nodes of no weight so that it is of the same size: one program serves both."""
    given = nodes or ((KINKED if kinked else HERMITE).get(units) or 2**SOBOL)
    z, weight = rule_for(units, kinked, max(2, given * 3 // 4 if units <= 3 else given // 2))
    return np.concatenate([z, np.zeros((size - len(z), units))]), np.concatenate([weight, np.zeros(size - len(z))])


def _distance(x, y) -> float:
    away = float(np.abs(x - y).max(initial=0.0) / (1e-3 + np.abs(x).max(initial=0.0)))  # overlaps may vanish
    return away if np.isfinite(away) else 1.0


@functools.partial(jax.jit, static_argnums=(8, 9, 10))
def _integrate(start, target, rates, rule, noise, times, inverse_dim, tol, sigma, kinked, with_risk):
    def field(t, state, args):
        return velocity(state, target, rates, rule, noise, sigma, kinked, inverse_dim)

    found = diffrax.diffeqsolve(
        diffrax.ODETerm(field), diffrax.Tsit5(), 0.0, jnp.maximum(times[-1], 1e-12), None, start,
        saveat=diffrax.SaveAt(ts=times), stepsize_controller=diffrax.PIDController(rtol=tol, atol=tol),
        max_steps=_MAX_STEPS, throw=False, adjoint=diffrax.ForwardMode(),
    )  # fmt: skip
    level = jax.lax.map(lambda state: risk(state, target, rates, rule, sigma, kinked), found.ys) if with_risk else 0.0 * times
    return found.ys, level, found.result == diffrax.RESULTS.successful, found.stats["num_steps"]
