"""Ridge regression on the features of a spiked layer in closed form: one fixed point, then two linear systems."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..laws.spiked import SpikedFeatures
from ..numerics import check
from ..numerics.blocks import block_resolvent, block_response, symmetric
from ..numerics.mapped import each
from ..numerics.precision import in_float64

_STEPS, _TOL = 500, 1e-13


class SpikedRidge(NamedTuple):
    """What ridge regression reaches; arrays of the shape of the arguments, those by group with the group last.

    - ``test_mse`` against the clean target, ``test_mse_noisy`` against fresh noisy labels, ``train_mse``; ``bias`` and
      ``variance`` sum to ``test_mse_noisy``: the error of the readout's mean predictor (the noise is in it), and its fluctuation.
    - ``norm`` = |a|^2 / p; ``m`` (..., k): ``sum_{i in l} a_i / sqrt(p)``; ``components`` (..., k, T + 1): the same sums weighted
      by the rows' components along the spike, then the target's other directions; ``lengths`` (..., k).
    - ``residual``: the relative change of the last step of the fixed point; NaN in all where it did not come below 1e-9.
    """

    test_mse: np.ndarray
    test_mse_noisy: np.ndarray
    train_mse: np.ndarray
    bias: np.ndarray
    variance: np.ndarray
    norm: np.ndarray
    m: np.ndarray
    components: np.ndarray
    lengths: np.ndarray
    residual: np.ndarray


@in_float64
def spiked_ridge(law: SpikedFeatures, alpha, weight_decay, noise=0.0) -> SpikedRidge:
    """Ridge regression on the features of ``law`` (made with ``equivalent=True``): loss (y - h)^2 / 2.

    - ``alpha`` = n / d > 0, ``weight_decay`` > 0, ``noise`` >= 0, a variance that is added to the law's outcome: numbers or arrays
      that broadcast.

    Sources: H. Cui et al. (2024), arXiv:2402.04980; Y. Dandi et al. (2024), arXiv:2410.18938.
    """
    alpha, weight_decay = check.array("alpha", alpha), check.array("weight_decay", weight_decay)
    noise = check.array("noise", noise)
    for name, value, low in (("alpha", alpha, 0.0), ("weight_decay", weight_decay, 0.0), ("noise", noise, -1e-300)):
        if np.any(value <= low):
            raise ValueError(f"{name} must be {'non-negative' if low else 'positive'}, got {np.min(value):.6g}")
    alpha, weight_decay, noise = np.broadcast_arrays(alpha, weight_decay, noise)
    flat = each(_point, (law,), tuple(v.reshape(-1).astype(float) for v in (alpha, weight_decay, noise)))
    bad = ~(np.asarray(flat.residual) < 1e-9)
    found = []
    for name, value in flat._asdict().items():
        value = np.array(value)
        if name != "residual":
            value[bad] = np.nan
        found.append(value.reshape((*alpha.shape, *value.shape[1:]))[()])
    return SpikedRidge(*found)


class _Resolvent(NamedTuple):
    A: jax.Array
    B: jax.Array


def _fixed_point(law, rate, weight_decay):
    """Ridges and couplings of the block covariance, by Newton's method where it helps and plain steps (which never fail) else."""
    mu1, rest, k = law.profile.mu1, law.profile.rest, len(law.groups)
    beta, (a, b) = law.size * law.groups, np.triu_indices(k)

    def unpack(x):
        return _Resolvent(symmetric(x[: len(a)], k), x[len(a) :])

    def pack(w):
        return rate * jnp.concatenate([(law.prob * w) @ (mu1[:, a] * mu1[:, b]), (law.prob * w) @ rest])

    def step(x):
        A, B = unpack(x)
        return pack(1.0 / (1.0 + law.susceptibility(*block_resolvent(weight_decay + B, A, beta))))

    def distance(x, fx):
        return jnp.max(jnp.abs(fx - x)) / jnp.max(jnp.abs(fx))

    def body(state):
        x, fx, error, count = state
        newton = x + jnp.linalg.solve(jnp.eye(len(x)) - jax.jacfwd(step)(x), fx - x)
        fn = step(newton)
        there = distance(newton, fn)
        good = jnp.all(jnp.isfinite(fn)) & (there < 0.5 * error)
        x = jnp.where(good, newton, fx)
        fx = jnp.where(good, fn, step(fx))
        return x, fx, distance(x, fx), count + 1

    x = pack(jnp.ones(len(law.kappa)))
    fx = step(x)
    state = x, fx, distance(x, fx), 0
    x, fx, error, _ = jax.lax.while_loop(lambda s: (s[2] > _TOL) & (s[3] < _STEPS), body, state)
    return unpack(fx), error


def _point(law, alpha, weight_decay, noise):
    (A, B), error = _fixed_point(law, alpha / law.size, weight_decay)
    return errors(law, alpha, weight_decay, noise, A, B)._replace(residual=error)


def errors(law, alpha, weight_decay, noise, A, B) -> SpikedRidge:
    """What ridge regression reaches, from the resolvent's couplings ``A`` (k, k) and ridges ``B`` (k,): linear algebra."""
    rate, k, beta = alpha / law.size, len(law.groups), law.size * law.groups
    blocks = block_resolvent(weight_decay + B, A, beta)
    w = 1.0 / (1.0 + law.susceptibility(*blocks))
    mean, _, slope, _, variance, _ = law.field
    mu1, rest, T = law.profile.mu1, law.profile.rest, slope.shape[1]

    # the mean predictor: functions of kappa (C, J), and by which each enters along the target's directions (C, J, T)
    _, sizes, turn = law.basis
    seen = sizes > 0.0
    constants = law.basis[0] * jnp.where(seen, sizes, 1.0)
    functions = jnp.concatenate([constants, law.channels], axis=1)
    tilts = jnp.concatenate([jnp.zeros((len(w), k, T)), law.tilts], axis=1)
    weight = law.prob * w
    gram = jnp.einsum("c,ci,cj->ij", weight, functions, functions) + jnp.einsum("c,cis,cjs->ij", weight, tilts, tilts)
    wanted = (weight * mean) @ functions + jnp.einsum("c,cis,cs->i", weight, tilts, slope)
    root = jnp.concatenate([jnp.ones(k), jnp.sqrt(law.mobility(blocks.g))])
    system = rate * root[:, None] * gram * root
    system = system + jnp.diag(jnp.ones(len(root)).at[:k].set(jnp.where(seen, 0.0, 1.0)))
    if law.width is not None:
        system = system.at[:k, :k].add((turn / (law.width * law.groups * blocks.g)) @ turn.T)
    a = root * jnp.linalg.solve(system, rate * root * wanted)
    fields = rate * (wanted - gram @ a)  # conjugates

    # fluctuations: second moments of the misfit, linear in q
    misfit = variance + noise + (mean - functions @ a) ** 2
    tilt = jnp.einsum("cjs,j->cs", tilts, a)
    misfit = misfit + jnp.sum(tilt**2 - 2.0 * tilt * slope, axis=1)
    small = jnp.sum(law.spikes.variance * fields[k:-k].reshape(k, T + 1) ** 2, axis=1) + law.spikes.length * fields[-k:] ** 2
    extra = law.size * small
    if law.width is not None:
        extra = extra + law.width * (fields[:k] @ turn) ** 2
    a_, b_ = np.triu_indices(k)

    def fluctuation(q):
        return jnp.einsum("cl,lm,cm->c", mu1, symmetric(q[: len(a_)], k), mu1) + rest @ q[len(a_) :]

    def respond(q):
        total = law.prob * w**2 * (misfit + fluctuation(q))
        dA, dB = rate * jnp.einsum("c,cl,cm->lm", total, mu1, mu1), rate * total @ rest + extra
        change = block_response(blocks, A, beta, dB, dA)
        return jnp.concatenate([-change.T[a_, b_] / law.size, -law.groups * change.g])

    zero = jnp.zeros(len(a_) + k)
    q = jnp.linalg.solve(jnp.eye(len(zero)) - jax.jacfwd(respond)(zero), respond(zero))
    Q = fluctuation(q)
    noisy, train = law.prob @ (misfit + Q), (law.prob * w**2) @ (misfit + Q)
    return SpikedRidge(
        test_mse=noisy - noise, test_mse_noisy=noisy, train_mse=train, bias=law.prob @ misfit, variance=law.prob @ Q,
        norm=jnp.sum(q[len(a_) :]), m=jnp.where(seen, a[:k], 0.0) @ turn,
        components=a[k:-k].reshape(k, T + 1), lengths=a[-k:], residual=jnp.zeros(()),
    )  # fmt: skip


def error_floor(law: SpikedFeatures) -> float:
    """The mean square of the part of the clean target that no readout of the law's features makes, with samples and neurons without
    end and no weight decay: the target's distance from the span of the groups' functions of kappa and of the target's directions.

    ``law`` must be made with ``equivalent=True``. Directions that features hold by less than 1e-10 of their largest do not count.
    """
    mean, _, slope, _, variance, _ = law.field
    kept = law.mobility(np.ones(len(law.groups))) > 0.0
    channels = np.concatenate([law.channels[:, kept, None], law.tilts[:, kept]], axis=2)
    constants = np.pad(law.profile.mu0[:, :, None], ((0, 0), (0, 0), (0, slope.shape[1])))  # which answer no further direction
    rows = np.concatenate([constants, channels], axis=1) * np.sqrt(law.prob)[:, None, None]
    wanted = np.concatenate([mean[:, None], slope], axis=1) * np.sqrt(law.prob)[:, None]
    u, s, _ = np.linalg.svd(np.moveaxis(rows, 1, 2).reshape(-1, rows.shape[1]), full_matrices=False)
    made = wanted.ravel() @ u[:, s > 1e-10 * max(s.max(initial=0.0), 1e-300)]
    return float(law.prob @ (mean**2 + variance) - made @ made)
