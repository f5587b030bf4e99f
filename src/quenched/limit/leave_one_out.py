"""Leave-one-out residuals of ridge regression at every penalty, from one singular value decomposition.

``a`` is the penalty of ``sum (y - x.w)^2 + a |w|^2``: scikit-learn's ``alpha``, our ``weight_decay`` times d.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from .mixture import Mixture

_POINTS = 48
_AT_ONCE = 20_000_000  # numbers in one block


class Freedom(NamedTuple):
    """Effective regularisation and degrees of freedom, arrays of one shape (see :mod:`.ridge_curve`)."""

    kappa: np.ndarray
    df1: np.ndarray
    df2: np.ndarray


def root(function, low, high, steps: int = 80) -> np.ndarray:
    """Where an increasing ``function`` of a positive array (J,) changes sign: bisection in the logarithm.

    ``low`` and ``high`` (J,) are positive; where the sign is the same at both, the end nearer to the root is returned.

    >>> root(lambda x: x**2 - [4.0, 9.0], np.full(2, 1e-3), np.full(2, 1e3)).round(6).tolist()
    [2.0, 3.0]
    """
    low, high = np.log(low), np.log(high)
    for _ in range(steps):
        middle = 0.5 * (low + high)
        above = function(np.exp(middle)) > 0.0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.exp(0.5 * (low + high))


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
        """``kappa = a/(N - df1)``, ``df1 = sum s/(s + a)`` and ``df2 = N - 1/(dkappa/da)`` at penalties (J,).

        Where all rows can be fitted (:attr:`interpolates`), kappa and df2 are corrected for uneven leverages.
        """
        penalty = np.maximum(np.atleast_1d(np.asarray(penalty, dtype=float)), self.least)
        freedom = self._even(penalty)
        if not self.interpolates:
            return freedom
        kappa = freedom.kappa * np.exp(self.stretch(freedom.df1 / self.size))
        return Freedom(kappa, freedom.df1, self._uneven[2].squared(kappa))

    def demand(self, size, kappa, df1) -> np.ndarray:
        """The penalty at which ``size`` rows have this ``kappa`` and ``df1``: ``kappa (size - df1)``, over its stretch."""
        return kappa * (size - df1) * np.exp(-self.stretch(df1 / size))

    def stretch(self, share) -> np.ndarray:
        """What uneven leverages add to log kappa where a ``share`` df1/n of the rows is fitted; zero for n > p.

        Rows of scale tau_i have ``h_i/(1 - h_i)`` in proportion to tau_i, and ``kappa = a mean(h/(1 - h))/df1``: larger
        than a/(N - df1). Close to interpolation that is right, and far from it part of the spread of the leverages is
        chance; between the two it has the weight (df1/n)^3, by experience.
        """
        return np.interp(share, *self._uneven[:2]) if self.interpolates else np.zeros(np.shape(share))

    def _even(self, penalty) -> Freedom:
        """Freedom (J,) where all rows have the same leverage."""
        inverse = 1.0 / (self.eigenvalues + penalty[:, None])
        first, second = inverse.sum(axis=1), (inverse**2).sum(axis=1)
        idle = self.size - len(self.eigenvalues)
        left = idle + penalty * first  # N - df1 without cancellation
        return Freedom(penalty / left, self.size - left, self.size - left**2 / (idle + penalty**2 * second))

    @functools.cached_property
    def _uneven(self) -> tuple[np.ndarray, np.ndarray, Mixture]:
        """Shares df1/N (M,) in ascending order, their :meth:`stretch` (M,), and df1 as a positive mixture in kappa.

        The mixture gives df2: a derivative of df1 in kappa would be that of the stretch too.
        """
        penalties = np.geomspace(self.least, self.penalties[1], _POINTS)
        even, share = self._even(penalties), penalties / (self.eigenvalues[:, None] + penalties)
        left = self.slack[:, None] + self.squares @ share
        odds = np.mean((self.size / self.samples - left) / left, axis=0)
        uneven = np.maximum(np.log(penalties * odds / even.df1) - np.log(even.kappa), 0.0)
        kappa = np.maximum.accumulate(np.log(even.kappa) + (even.df1 / self.size) ** 3 * uneven)
        degrees = Mixture.fit(np.exp(kappa), even.df1, np.full(_POINTS, 0.01), -1, total=float(self.features))
        return even.df1[::-1] / self.size, (kappa - np.log(even.kappa))[::-1], degrees

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
