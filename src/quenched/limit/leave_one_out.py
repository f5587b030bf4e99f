"""Leave-one-out residuals of ridge regression at every penalty, from one singular value decomposition.

``a`` is the penalty of ``sum (y - x.w)^2 + a |w|^2``: scikit-learn's ``alpha``, our ``weight_decay`` times d.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from ..numerics.bisection import root
from .leverages import Stretch, scales
from .mixture import Mixture

_POINTS = 48
_MOST, _PRIOR = 0.4, 0.1  # of log c
_AT_ONCE = 20_000_000  # numbers in one block


class Freedom(NamedTuple):
    """Effective regularisation and degrees of freedom, arrays of one shape (see :mod:`.ridge_curve`)."""

    kappa: np.ndarray
    df1: np.ndarray
    df2: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class LeaveOneOut:
    """N rows of p inputs and K targets, decomposed once. Build it with :meth:`of`.

    - ``vectors`` (N, r), ``squares`` (N, r): left singular vectors of the (centred) inputs, and their squares.
    - ``eigenvalues`` (r,): the positive eigenvalues s of X^T X, in descending order.
    - ``targets``, ``projected`` (r, K), ``rest`` (N, K): (centred) targets, in the basis, and outside it.
    - ``slack`` (N,): one minus the leverage of each row at penalty zero.
    - ``samples``: N; ``size``: N, less one where an intercept was fitted; ``features``: inputs that vary.

    >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    >>> y = np.array([1.0, 0.0, 2.0, 2.0])
    >>> loo = LeaveOneOut.of(x, y[:, None], intercept=False)
    >>> w = np.linalg.solve(x[1:].T @ x[1:] + np.eye(2), x[1:].T @ y[1:])  # at penalty 1, without the first row
    >>> bool(np.isclose(loo.residuals(1.0)[0, 0], y[0] - x[0] @ w))
    True
    """

    vectors: np.ndarray
    squares: np.ndarray
    eigenvalues: np.ndarray
    targets: np.ndarray
    projected: np.ndarray
    rest: np.ndarray
    slack: np.ndarray
    samples: int
    size: int
    features: int

    @classmethod
    def of(cls, x, y, *, intercept: bool) -> LeaveOneOut:
        """Decompose inputs ``x`` (N, p) and targets ``y`` (N, K); with ``intercept`` both are centred.

        Raises ``ValueError`` where no input varies.
        """
        samples, size = len(x), len(x) - int(intercept)
        if intercept:
            x, y = x - x.mean(axis=0), y - y.mean(axis=0)
        vectors, singular, _ = np.linalg.svd(x, full_matrices=False)
        rank = min(int(np.sum(singular > 10.0 * max(x.shape) * np.finfo(float).eps * singular[0])), size)
        if rank == 0 or singular[0] == 0.0:
            raise ValueError("X must vary from row to row, got rows that are all the same")
        vectors = np.ascontiguousarray(vectors[:, :rank])
        squares, projected = vectors**2, vectors.T @ y
        # A row of leverage one (all of them where rank = size) has residual and slack 0 + O(a) at a small penalty a;
        # the zeros are put in by hand, so that rounding errors do not replace them in the ratio of the two.
        slack = 1.0 - (samples - size) / samples - squares.sum(axis=1)
        slack = np.zeros(samples) if rank == size else np.where(slack < 1e-9, 0.0, slack)
        rest = np.where(slack[:, None] > 0.0, y - vectors @ projected, 0.0)
        features = int(np.count_nonzero(np.ptp(x, axis=0)))
        return cls(vectors, squares, singular[:rank] ** 2, y, projected, rest, slack, samples, size, features)

    @property
    def interpolates(self) -> bool:
        """Whether a vanishing penalty fits every row; kappa then never falls below kappa(N, 0) > 0."""
        return len(self.eigenvalues) == self.size

    @property
    def least(self) -> float:
        """The penalty that stands for zero."""
        return 1e-10 * float(self.eigenvalues[0])

    @property
    def penalties(self) -> tuple[float, float]:
        """A range of penalties, from next to nothing to where little is learnt."""
        return 1e-8 * float(self.eigenvalues[0]), 30.0 * float(self.eigenvalues[0])

    @property
    def inputs(self) -> np.ndarray:
        """The (centred) inputs turned into as few coordinates as they have, (N, r): ridge does not see the turn."""
        return self.vectors * np.sqrt(self.eigenvalues)

    def residuals(self, penalty: float) -> np.ndarray:
        """What is left of each row's targets after their prediction from all other rows, (N, K).

        With an intercept a prediction from the centred fit without the row is meant: exactly scikit-learn's.
        """
        return self._residuals(np.array([float(penalty)]))[:, 0]

    def row_errors(self, penalties) -> np.ndarray:
        """Squared leave-one-out residuals, averaged over the K targets, at ``penalties`` (J,): (J, N)."""
        penalties = np.atleast_1d(np.asarray(penalties, dtype=float))
        block = max(1, _AT_ONCE // self.targets.size)
        blocks = [penalties[start : start + block] for start in range(0, len(penalties), block)]
        return np.concatenate([np.mean(self._residuals(part) ** 2, axis=2).T for part in blocks])

    def _residuals(self, penalties) -> np.ndarray:
        penalties = np.maximum(penalties, self.least)
        share = penalties / (self.eigenvalues[:, None] + penalties)
        within = self.vectors @ (share[:, :, None] * self.projected[:, None]).reshape(len(share), -1)
        left = self.rest[:, None] + within.reshape(self.samples, len(penalties), -1)
        return left / (self.slack[:, None] + self.squares @ share)[:, :, None]

    def resampled(self, penalty: float, draws: int, rng) -> np.ndarray:
        """Sampling noise of the leave-one-out predictions: what other targets would have changed, (draws, N, K).

        The residuals of all *other* rows are multiplied by normal numbers and predicted again (a wild bootstrap): row i
        gets the covariance ``sum_j h_ij^2 r_j r_j^T``, the jackknife's. Of the size of this noise only the ratios from
        row to row are reliable in high dimension.
        """
        penalty, residuals = max(float(penalty), self.least), self.residuals(penalty)
        share = self.eigenvalues / (self.eigenvalues + penalty)
        left = (self.slack + self.squares @ (1.0 - share))[:, None]  # one minus the leverage
        noisy = rng.normal(size=(self.samples, draws))[:, :, None] * residuals[:, None]
        flat = noisy.reshape(self.samples, -1)
        moved = self.vectors @ (share[:, None] * (self.vectors.T @ flat))
        moved += (self.samples - self.size) / self.samples * flat.sum(axis=0)
        return np.swapaxes(((moved - (1.0 - left) * flat) / left).reshape(noisy.shape), 0, 1)

    def freedom(self, penalty) -> Freedom:
        """``kappa = a g/df1``, ``df1 = sum s/(s + a)`` and ``df2 = df1 + dlog(df1)/dlog(kappa)`` at penalties (J,).

        The gain g is ``df1/(N - df1)`` for rows of even leverage, and more by :meth:`demand`'s stretch for uneven ones.
        """
        penalty = np.maximum(np.atleast_1d(np.asarray(penalty, dtype=float)), self.least)
        even = self._even(penalty)
        kappa = even.kappa * np.exp(self._stretch(even.df1, even.df1 / self.size))
        return Freedom(kappa, even.df1, self._degrees.squared(kappa))

    def demand(self, size, kappa, df1) -> np.ndarray:
        """The penalty at which ``size`` rows have this ``kappa`` and ``df1``: ``kappa df1/g`` (see :mod:`.leverages`)."""
        return kappa * (size - df1) * np.exp(-self._stretch(df1, df1 / size))

    def odds(self, penalties) -> np.ndarray:
        """``h_i/(1 - h_i)`` of the leverages at ``penalties`` (J,), without the intercept's: (J, N)."""
        left = self._left(penalties)
        return np.maximum(self.size / self.samples - left, 0.0) / left

    def scales(self, penalties) -> np.ndarray:
        """The rows' scales as seen at ``penalties`` (J,), of mean one: (J, N)."""
        even = self._even(penalties)
        return scales(self.odds(penalties), 2.0 * even.df2 / even.df1**2)

    @functools.cached_property
    def _grid(self) -> np.ndarray:
        return np.geomspace(self.penalties[1], self.least, _POINTS)

    @functools.cached_property
    def _stretch(self) -> Stretch:
        return Stretch.of(self.scales(self._grid), self._even(self._grid).df1)

    @functools.cached_property
    def _degrees(self) -> Mixture:
        """df1 as a positive mixture in kappa, which gives df2: a derivative would be one of the stretch too."""
        even = self._even(self._grid)
        kappa = even.kappa * np.exp(self._stretch(even.df1, even.df1 / self.size))
        return Mixture.fit(kappa, even.df1, np.full(_POINTS, 0.01), -1, total=float(self.features))

    @functools.cached_property
    def luck(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sampling noise v in the error, over what it is for even rows: penalties (J,), log c (J,), standard errors (J,).

        ``v = (1 - A) mean_i sum_{j != i} h_ij^2 r_j^2/(1 - h_i)^2`` with the leave-one-out residuals r: what a jackknife
        says, times ``1 - A = 1 - df2 sum h^2/df1^2``, the share of it that is not counted twice. c is ``v/(LOO - v)`` over
        ``df2/(N - df2)``. Where h does not have the squares of rows that differ in scale only, it is doubted.
        """
        penalties = self._grid[:: -_POINTS // 12]
        odds, rows, (_, df1, df2) = self.odds(penalties), self.row_errors(penalties), self.freedom(penalties)
        h, left = odds / (1.0 + odds), self._left(penalties)
        noise, plain = np.empty((2, len(penalties)))
        for j, share in enumerate(self.eigenvalues / (self.eigenvalues + penalties[:, None])):
            outer = share * (self.vectors.T @ (self.vectors / left[j][:, None] ** 2)) * share
            own = (h[j] / left[j]) ** 2
            for result, weights in ((noise, rows[j]), (plain, np.ones(self.samples))):
                inner = self.vectors.T @ (self.vectors * weights[:, None])
                result[j] = (np.sum(outer * inner) - np.sum(own * weights)) / self.samples
        twice = df2 * np.sum(h**2, axis=1) / df1**2
        noise = np.clip((1.0 - twice) * noise / rows.mean(axis=1), 1e-3, 0.95)
        scale = odds.mean(axis=1) * df2 / df1**2 * np.sum(h * (1.0 - h), axis=1)
        odd = np.abs(np.log(np.maximum((1.0 - twice) * plain / scale, 1e-3)))
        log_c = np.clip(np.log(noise / (1.0 - noise) * (self.size - df2) / df2), 0.0, _MOST)
        return penalties, log_c, np.minimum(_PRIOR + 2.0 * odd + np.maximum(0.0, twice - 0.6), 0.5)

    def _left(self, penalties) -> np.ndarray:
        """One minus the leverages, (J, N)."""
        return (self.slack[:, None] + self.squares @ (penalties / (self.eigenvalues[:, None] + penalties))).T

    def _even(self, penalty) -> Freedom:
        """Freedom (J,) where all rows have the same leverage."""
        inverse = 1.0 / (self.eigenvalues + penalty[:, None])
        first, second = inverse.sum(axis=1), (inverse**2).sum(axis=1)
        idle = self.size - len(self.eigenvalues)
        left = idle + penalty * first  # N - df1 without cancellation
        return Freedom(penalty / left, self.size - left, self.size - left**2 / (idle + penalty**2 * second))

    def equivalent(self, samples, penalty) -> np.ndarray:
        """The penalty on these N rows that has the kappa of ``samples`` (J,) rows at ``penalty`` (J,).

        The root a' of ``kappa(a') (n - df1(a')) = a``; :attr:`least` where all of kappa(a') lie above the one wanted.
        """
        size = np.asarray(samples, dtype=float) - (self.samples - self.size)
        size, penalty = np.broadcast_arrays(np.atleast_1d(size), np.asarray(penalty, dtype=float))

        def above(a):
            kappa, df1, _ = self.freedom(a)
            return self.demand(size, kappa, df1) - penalty

        # From df1 <= sum s / a: kappa(a) <= 2 a/N once a >= 2 sum(s)/N, and the root has kappa <= (a + sum s)/n.
        high = 4.0 * (1.0 + self.size / size) * (penalty + self.eigenvalues.sum())
        return root(above, np.full(size.shape, self.least), high)
