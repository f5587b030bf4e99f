"""A flow learnt from a few samples of two clusters, in the limit of large dimension: all in closed form.

Data are ``x_1 = s mu + sigma z`` with ``|mu|^2 = separation d``; n samples with P noises each, N = n P pairs, are noised to
``x_t = alpha x_0 + beta x_1``, and at every time ``f(x) = c x + w phi(w.x)`` is trained anew. Everything then lies in the span of
mu, ``eta = sum s z / n`` and ``xi = sum s x_0 / N``, which are orthogonal, of squared lengths separation d, d / n and d / N.

Numbers may be floats, arrays that broadcast, or traced by JAX.

Source: H. Cui, F. Krzakala, E. Vanden-Eijnden, L. Zdeborova (2023), arXiv:2310.03575.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..numerics import check
from ..numerics.precision import float64

#: What is closest to t = 1, where the noise over its schedule would be 0/0.
_LAST = 1.0 - 1e-9


class Setting(NamedTuple):
    """What the theory depends on: n, P, |mu|^2/d, sigma, lambda; ``fresh``: other noises at each t; ``skip``: c is there."""

    n: Any
    noises: Any
    separation: Any
    cluster_std: Any
    weight_decay: Any
    fresh: bool = False
    skip: bool = True

    @property
    def pairs(self):
        """N, how many pairs of sample and noise are trained on."""
        return self.n * self.noises

    @property
    def shrinkage(self):
        """N / (N + lambda), the length of w over that of the mean it stands for."""
        return self.pairs / (self.pairs + self.weight_decay)

    @property
    def signal(self):
        """A, what of the data a skip connection has to explain."""
        N, decay = self.pairs, self.weight_decay
        return decay * self.separation + (N + decay - self.noises) * self.cluster_std**2

    @property
    def noise(self):
        """B, what of the noise a skip connection brings along."""
        return self.pairs + self.weight_decay - 1.0

    @property
    def variance(self):
        """S = A / B, the variance of the clusters that are generated, per direction."""
        return self.signal / self.noise if self.skip else 0.0 * self.signal


class Denoiser(NamedTuple):
    """The trained denoiser at given times: ``c``; ``w = w_mu mu + w_eta eta + w_xi xi`` up to its sign; its errors.

    ``test_mse``: E|x_1 - f(x_t)|^2 / d on fresh data; ``train_loss``: the risk R / d (half the squared errors, summed, and the
    penalty); ``floor``: the test_mse of someone who knows the law of the data, the least there is.
    """

    c: Any
    w_mu: Any
    w_eta: Any
    w_xi: Any
    test_mse: Any
    train_loss: Any
    floor: Any


def denoiser(setting: Setting, alpha, beta) -> Denoiser:
    """The minimiser of the training risk where ``x_t = alpha x_0 + beta x_1``.

    >>> found = denoiser(Setting(4, 1, 1.0, 0.7, 0.1), alpha=0.3, beta=0.7)
    >>> round(found.c, 6), round(found.w_xi, 6), round(found.test_mse, 6)
    (1.056877, -0.30933, 0.165555)
    """
    A, B, N, k = setting.signal, setting.noise, setting.pairs, setting.shrinkage
    variance, D = setting.cluster_std**2, beta**2 * A + alpha**2 * B
    c, missing = (beta * A / D, alpha**2 * B / D) if setting.skip else (0.0 * D, 1.0 + 0.0 * D)  # missing is 1 - c beta
    unlearnt = setting.weight_decay / (N + setting.weight_decay)
    of_data, of_noise = missing**2 * variance, c**2 * alpha**2
    test = setting.separation * (missing * unlearnt) ** 2 + of_data + of_noise + k**2 * (of_data / setting.n + of_noise / N)
    return Denoiser(
        c, k * missing, k * missing * setting.cluster_std, -k * c * alpha, test,
        0.5 * k * (missing**2 * A + of_noise * B), alpha**2 * variance / (alpha**2 + beta**2 * variance),
    )  # fmt: skip


class Flow(NamedTuple):
    """Generated samples ``X = g X_0 +- (mean_coefficient mu + eta_coefficient eta + xi_coefficient xi)`` at ``times`` (T,).

    ``cluster_variance`` = g^2, per direction (with diffusion it includes what was added); ``squared_norm`` = |X|^2 / d; ``cosine``
    of the cluster's mean and mu, and ``sample_cosine`` of X and mu; ``mean_mse`` = |mean - mu|^2 / d. All arrays (T,). Noises that
    are fresh at every step add up to a vector of squared length ``xi_coefficient^2 d / N``.
    """

    times: Any
    mean_coefficient: Any
    eta_coefficient: Any
    xi_coefficient: Any
    cluster_variance: Any
    squared_norm: Any
    cosine: Any
    sample_cosine: Any
    mean_mse: Any


def _flow(setting, times, state, direction) -> Flow:
    """What follows of the coefficients and the variance; ``direction`` of the mean, also where it still vanishes."""
    m, e, x, variance = state
    nu = setting.separation

    def length(v):
        return nu * v[0] ** 2 + v[1] ** 2 / setting.n + v[2] ** 2 / setting.pairs

    norm = variance + length((m, e, x))
    cosine = direction[0] * (nu / length(direction)) ** 0.5
    return Flow(times, m, e, x, variance, norm, cosine, m * (nu / norm) ** 0.5, length((m - 1.0, e, x)))


def exact(setting: Setting, times, alpha, beta) -> Flow:
    """The flow in continuous time, from X = x_0 at t = 0, for every schedule.

    >>> flow = exact(Setting(4, 1, 1.0, 0.7, 0.1), 1.0, alpha=0.0, beta=1.0)
    >>> round(flow.mean_coefficient, 6), round(flow.xi_coefficient, 6), round(flow.mean_mse, 6)
    (0.97561, -0.705048, 0.241465)
    """
    S, k = setting.variance, setting.shrinkage
    g = (alpha**2 + S * beta**2) ** 0.5
    turned = 0.0 * g if setting.fresh or not setting.skip else -S * beta / (g + alpha)  # (alpha - g) / beta
    direction = (k + 0.0 * g, k * setting.cluster_std + 0.0 * g, k * turned)
    return _flow(setting, times, (*(beta * part for part in direction), g**2), direction)


def euler(setting: Setting, schedule, steps: int, first: float, diffusion=None) -> Flow:
    """The flow of a sampler that makes ``steps`` equal Euler steps, at t = 0, 1 / steps, ..., 1: arrays (steps + 1,).

    The denoiser and the velocity of a step are those at its beginning, but never before t = ``first``.
    """
    grid = np.linspace(0.0, 1.0, steps + 1)
    times = np.maximum(grid[:-1], first)
    point, step = schedule(times), 1.0 / steps
    if diffusion is not None:
        _refuse_lasting(diffusion)
    noise = np.zeros(steps) if diffusion is None else levels(diffusion, times)
    linear = point.linear - noise / point.alpha**2
    gain = point.gain + noise * point.beta / point.alpha**2
    found = denoiser(setting, point.alpha, point.beta)
    factor = 1.0 + step * (linear + gain * found.c)
    push = [step * gain * part for part in (found.w_mu, found.w_eta, found.w_xi)]
    states = [(0.0, 0.0, 0.0, 1.0)]
    for i in range(steps):
        m, e, x, variance = states[-1]
        f, p = factor[i], [part[i] for part in push]
        x = -(((f * x) ** 2 + p[2] ** 2) ** 0.5) if setting.fresh and setting.skip else f * x + p[2]
        states.append((f * m + p[0], f * e + p[1], x, f**2 * variance + 2.0 * step * noise[i]))
    state = [_stacked(column) for column in zip(*states, strict=True)]
    start = (found.w_mu[0], found.w_eta[0], 0.0 if setting.fresh else found.w_xi[0])
    direction = [_stacked([first, *column[1:]]) for first, column in zip(start, zip(*states, strict=True), strict=False)]
    return _flow(setting, grid, state, direction)


def diffused(setting: Setting, schedule, times, diffusion) -> Flow:
    """The flow with diffusion in continuous time, by SciPy's ``solve_ivp`` (DOP853, relative 1e-10) at increasing ``times``.

    The right-hand side is written without the poles at t = 1 that velocity and score have by themselves. Raises ``ValueError``
    for a diffusion that does not vanish at t = 1, where the score has a pole, and where the integration fails.
    """
    from scipy.integrate import solve_ivp

    _refuse_lasting(diffusion)
    if not setting.skip:  # f is then the constant that the mean follows: noise and the score's pull cancel exactly
        point = schedule(times)
        return exact(setting, times, point.alpha, point.beta)
    A, B, k, at = setting.signal, setting.noise, setting.shrinkage, _pointwise(schedule)

    def drift(t, state):
        t = min(t, _LAST)
        a, b, da, db = at(t)
        level = float(levels(diffusion, np.array([t]))[0])
        D = b**2 * A + a**2 * B
        rate = (a * da * B + b * db * A - level * B) / D
        to_mean = k * B * (a**2 * db - a * da * b + level * b) / D
        to_xi = 0.0 if setting.fresh else -k * A * b * (a * db - da * b + level * b / a) / D
        m, e, x, variance = state
        return [rate * m + to_mean, rate * e + setting.cluster_std * to_mean, rate * x + to_xi, 2.0 * (rate * variance + level)]

    with float64(True):
        found = solve_ivp(drift, (0.0, max(times[-1], 1e-12)), [0.0, 0.0, 0.0, 1.0], "DOP853", times, rtol=1e-10, atol=1e-12)
    if found.status != 0 or not np.isfinite(found.y).all():
        raise ValueError(f"diffusion must be one that can be integrated up to t = {times[-1]:g}, got: {found.message}")
    start = (1.0, setting.cluster_std, 0.0)
    directions = [np.where(found.y[0] > 0.0, row, first) for row, first in zip(found.y, start, strict=False)]
    return _flow(setting, times, found.y, directions)


def _pointwise(schedule):
    """alpha, beta and their derivatives at one time, as floats; functions are compiled once, since they are called many times."""
    if isinstance(schedule.spec, str):
        return lambda t: tuple(float(part) for part in schedule(t))
    import jax

    alpha, beta = (jax.jit(jax.value_and_grad(lambda t, f=f: jax.numpy.asarray(f(t), float))) for f in schedule.spec)

    def at(t):
        (a, da), (b, db) = alpha(t), beta(t)
        return float(a), float(b), float(da), float(db)

    return at


def _refuse_lasting(diffusion) -> None:
    last = float(levels(diffusion, np.ones(1))[0])
    if last > 1e-12:
        raise ValueError(f"diffusion must vanish at t = 1, where the score has a pole, got {last:g}")


def levels(diffusion, times) -> np.ndarray:
    """The diffusion at the times (T,): finite, not negative."""
    values = np.array([float(diffusion(t)) for t in times])
    if not (np.isfinite(values).all() and (values >= 0.0).all()):
        raise ValueError(f"diffusion must be a function of t with values that are finite and not negative, got {values.min():g}")
    return values


def _stacked(values):
    if not check.traced(*values):
        return np.array(values)
    import jax.numpy as jnp

    return jnp.stack([jnp.asarray(value, float) for value in values])


class Bayes(NamedTuple):
    """The best estimate of mu from the same samples: its ``mse`` (per dimension) and ``cosine`` with mu."""

    mse: Any
    cosine: Any


def bayes(setting: Setting) -> Bayes:
    """The posterior mean under a normal prior of mu; which sample belongs to which cluster shows by itself in large dimension."""
    n, nu, variance = setting.n, setting.separation, setting.cluster_std**2
    return Bayes(nu * variance / (n * nu + variance), (1.0 + variance / (n * nu)) ** -0.5)


class Rate(NamedTuple):
    """``mean_mse ~ constant n^exponent`` for many samples, of the learnt flow and of the Bayes-optimal estimator of mu."""

    exponent: float
    constant: float
    bayes_exponent: float
    bayes_constant: float


def rate(setting: Setting, n) -> Rate:
    """Exponents fitted to the errors at ``n`` (M,) samples (slopes in logarithms), and the largest n times its error."""
    n = np.asarray(n, dtype=float)
    setting = setting._replace(n=n)
    errors = exact(setting, 1.0, 0.0, 1.0).mean_mse, bayes(setting).mse
    return Rate(*(number for e in errors for number in (float(np.polyfit(np.log(n), np.log(e), 1)[0]), float(n[-1] * e[-1]))))
