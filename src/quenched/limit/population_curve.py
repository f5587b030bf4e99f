"""Learning curves of ridge regression for a known population, or for one known from very many rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..numerics.bisection import root
from .leave_one_out import Freedom
from .score_errors import ScoreNoise, draws_for, wrong


class Reach(NamedTuple):
    """What n samples at penalty a reach, arrays (J,).

    - ``error``: mean square on fresh data; ``base``: its part B(kappa), which is not the luck of the sample;
    - ``freedom``: kappa and degrees of freedom;
    - ``scatter``: standard error of log(error) because so many rows were seen; ``doubt`` (2, J): the others, downwards
      and upwards;
    - ``extrapolated``: whether kappa lies below what the rows show at any penalty.
    """

    error: np.ndarray
    base: np.ndarray
    freedom: Freedom
    scatter: np.ndarray
    doubt: np.ndarray
    extrapolated: np.ndarray


class Population:
    """A known population: covariance eigenvalues ``omega`` (p,) and target projections ``cross`` (p, K).

    ``cross[i, k] = e_i . Cov(x, y_k)`` for the eigenvectors e_i; ``variance`` (K,) those of the K targets, noise
    included. Errors are averaged over targets. ``intercept``: whether one is fitted, from one of the samples.

    Source: B. Loureiro et al. (2021), arXiv:2102.08127.

    >>> curve = Population(np.ones(200), np.full((200, 1), 200**-0.5), np.array([1.1]), intercept=False)
    >>> curve.reach([400], 0.1 * 200).error.round(6).tolist()  # alpha 2, weight_decay 0.1, noise 0.1
    [0.184429]
    """

    def __init__(self, omega, cross, variance, *, intercept: bool):
        kept = omega > 1e-13 * np.max(omega)
        self.omega, self.cross = omega[kept], cross[kept]
        self.variance, self.offset = float(np.mean(variance)), int(intercept)

    def freedom(self, kappa) -> Freedom:
        """Degrees of freedom at ``kappa`` (J,)."""
        ratio = self.omega / (self.omega + kappa[:, None])
        return Freedom(kappa, ratio.sum(axis=1), np.sum(ratio**2, axis=1))

    def base(self, freedom: Freedom) -> np.ndarray:
        """B: the variance less what is learnt, ``Var y - A + kappa A'`` with ``A = sum cross^2/(omega + kappa)``."""
        kappa = freedom.kappa[:, None]
        learnt = (self.omega + 2.0 * kappa) / (self.omega + kappa) ** 2
        return self.variance - learnt @ np.mean(self.cross**2, axis=1)

    def solve(self, samples, penalty) -> Freedom:
        """kappa and degrees of freedom of ``samples`` (J,) at ``penalty`` (J,)."""
        size, penalty = np.broadcast_arrays(np.asarray(samples, float) - self.offset, np.asarray(penalty, float))
        low = np.full(size.shape, 1e-12 * self.omega.max())
        high = 2.0 * (penalty + self.omega.sum()) / size + low
        return self.freedom(root(lambda kappa: kappa * (size - self.freedom(kappa).df1) - penalty, low, high))

    def scatter(self, freedom: Freedom) -> np.ndarray:
        """Nothing is left to chance where the population is known."""
        return np.zeros(freedom.kappa.shape)

    def reach(self, samples, penalty) -> Reach:
        """The error of ``samples`` (J,) at ``penalty`` (J,)."""
        freedom, samples = self.solve(samples, penalty), np.asarray(samples, dtype=float)
        base = self.base(freedom)
        left = np.maximum(1.0 - freedom.df2 / (samples - self.offset), 0.0)
        with np.errstate(divide="ignore"):  # infinite where p samples are interpolated without a penalty
            error = base / left * (1.0 + self.offset / samples)
        nothing = np.zeros(error.shape)
        return Reach(error, base, freedom, self.scatter(freedom), np.stack([nothing, nothing]), nothing > 0.0)


class PlugIn(Population):
    """The population whose covariances are those of N >= 100 p rows ``x`` (N, p), ``y`` (N, K).

    Of fewer rows the result is biased: their noise counts as signal. What is left of that, a share of about p/N, is
    taken out by the degrees of freedom. ``kept`` rows serve for standard errors and classification errors.
    """

    def __init__(self, x, y, *, intercept: bool, kept: int = 20_000):
        self.samples = len(x)
        centre_x, centre_y = (x.mean(axis=0), y.mean(axis=0)) if intercept else (0.0, np.zeros(y.shape[1]))
        x, y = x - centre_x, y - centre_y
        size = self.samples - int(intercept)
        values, vectors = np.linalg.eigh(x.T @ x / size)
        super().__init__(np.maximum(values, 0.0), vectors.T @ (x.T @ y) / size, np.sum(y**2, axis=0) / size, intercept=intercept)
        self.rows = x[:kept] @ vectors[:, len(values) - len(self.omega) :]
        self.targets, self.centre = y[:kept], centre_y

    def base(self, freedom: Freedom) -> np.ndarray:
        """B, with what these rows' own fit took of the noise put back."""
        fitted = freedom.df1 / self.samples
        return super().base(freedom) * (1.0 - freedom.df2 / self.samples) / (1.0 - fitted) ** 2

    def scores(self, kappa: float) -> np.ndarray:
        """The mean predictions of the kept rows over training sets of this ``kappa``, (kept, K), about their centre."""
        return self.rows @ (self.cross / (self.omega + kappa)[:, None])

    def scatter(self, freedom: Freedom) -> np.ndarray:
        """Standard error of the mean square over the rows."""
        squares = np.stack([np.mean((self.targets - self.scores(k)) ** 2, axis=1) for k in freedom.kappa])
        return squares.std(axis=1) / squares.mean(axis=1) / np.sqrt(self.samples)

    def rates(self, samples, penalty, coded) -> tuple[np.ndarray, np.ndarray]:
        """Classification error rates of ``samples`` (J,) at ``penalty`` (J,), approximate (see :mod:`.score_errors`).

        Returned with them: those of the mean scores, without sampling noise.
        """
        reach, coded = self.reach(samples, penalty), coded[: len(self.rows)]
        found, plain = np.empty((2, len(reach.error)))
        for j, kappa in enumerate(reach.freedom.kappa):
            scores = self.scores(kappa)
            lucky = np.random.default_rng(0).normal(size=(len(scores), draws_for(*coded.shape)))[:, :, None]
            noisy = lucky * (self.targets - scores)[:, None]
            flat = self.rows / (self.omega + kappa) @ (self.rows.T @ noisy.reshape(len(scores), -1))
            noise = ScoreNoise(np.swapaxes(flat.reshape(noisy.shape), 0, 1))
            changed = noise.changed(scores + self.centre, coded, 0.0, reach.error[j] - reach.base[j])
            found[j], plain[j] = np.mean(wrong(changed, coded)), np.mean(wrong(scores + self.centre, coded))
        return found, plain
