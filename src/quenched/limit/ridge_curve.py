"""Learning curves of ridge regression: the error of n samples at penalty a, from a population or from N rows.

A direction of variance omega is learnt by a ridge of effective regularisation kappa, the root of

    kappa (n - df1(kappa)) = a,       df1 = sum omega/(omega + kappa),   df2 = sum (omega/(omega + kappa))^2,

and ``E(n, a) = B(kappa) / (1 - df2/n) = B(kappa) (1 + x)`` with ``x = df2/(n - df2)``: noise, misfit and bias are in
B, the luck of a finite sample in x. df1 and B are functions of the population, and N rows measure them: for each
penalty a, with s the eigenvalues of X^T X,

    df1 = sum s/(s + a),   kappa = a/(N - df1),   df2 = N - 1/(dkappa/da),   B(kappa) = LOO(a) (1 - df2/N)

with the leave-one-out mean square LOO. (Plugging the sample covariance and X^T y / N into the formulas of a population
counts the noise that X^T y contains as signal: biased low by about p/N.) An intercept takes one sample from n and N.

``1 + x`` assumes that all rows have about the same leverage. Of real data it is ``1 + c x`` that is seen; the
``excess`` c, a little above one and growing where kappa is small, is measured on parts of the sample.

Sources: B. Loureiro et al. (2021), arXiv:2102.08127; leave-one-out errors as a measurement of the population: A. Wei,
W. Hu, J. Steinhardt (2022), arXiv:2203.06176. The excess and the positive mixtures below are ours.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from .leave_one_out import Freedom, LeaveOneOut, root
from .mixture import Mixture, bounds

# How far 1 + x is trusted, as a standard error of the logarithm of what is measured at x: see _doubt.
_SHAPE = 0.08
_PRIOR = 0.2  # of log c, before any part of the sample was trained on
_POINTS = 48


class Reach(NamedTuple):
    """What n samples at penalty a reach, arrays (J,): see :meth:`MeasuredCurve.reach`.

    ``error`` mean square on fresh data; ``base`` its part B(kappa) that no further sample would remove at this kappa;
    ``doubt`` (2, J) standard errors of log(error), downwards and upwards; ``extrapolated`` whether kappa lies below what
    the rows could show.
    """

    error: np.ndarray
    base: np.ndarray
    freedom: Freedom
    doubt: np.ndarray
    extrapolated: np.ndarray


def kappa_of(degrees, size, penalty, low, high) -> np.ndarray:
    """The root of ``kappa (size - degrees(kappa)) = penalty`` within ``low`` and ``high``; all (J,)."""
    return root(lambda kappa: kappa * (size - degrees(kappa)) - penalty, low, high)


class Population:
    """A known population: covariance eigenvalues ``omega`` (p,), squared target projections ``signal`` (p, K).

    ``signal`` holds ``(e_i . Cov(x, y_k))^2`` for the eigenvectors e_i; ``variance`` (K,) those of the K targets,
    noise included. Errors are averaged over targets. ``intercept``: whether one is fitted.

    >>> curve = Population(np.ones(200), np.full((200, 1), 1 / 200), np.array([1.5]), intercept=False)
    >>> reach = curve.reach(np.array([400]), np.array([100.0]))
    >>> x = reach.freedom.df2 / (400 - reach.freedom.df2)
    >>> bool(np.isclose(reach.error, reach.base * (1 + x))[0]), reach.extrapolated.tolist()
    (True, [False])
    """

    samples = np.inf

    def __init__(self, omega, signal, variance, *, intercept: bool):
        kept = omega > 1e-14 * np.max(omega)
        self.omega, self.signal = omega[kept], signal[kept].mean(axis=1)
        self.variance, self.offset = float(np.mean(variance)), int(intercept)

    def freedom(self, kappa) -> Freedom:
        """Degrees of freedom at ``kappa`` (J,)."""
        ratio = self.omega / (self.omega + kappa[:, None])
        return Freedom(kappa, ratio.sum(axis=1), np.sum(ratio**2, axis=1))

    def base(self, kappa) -> np.ndarray:
        """B at ``kappa`` (J,): noise, misfit and bias."""
        learnt = self.omega + 2.0 * kappa[:, None]
        return self.variance - np.sum(self.signal * learnt / (self.omega + kappa[:, None]) ** 2, axis=1)

    def solve(self, samples, penalty) -> Freedom:
        """kappa and degrees of freedom of ``samples`` (J,) at ``penalty`` (J,)."""
        size, penalty = np.broadcast_arrays(np.atleast_1d(samples) - float(self.offset), np.asarray(penalty, float))
        low = np.full(size.shape, 1e-12 * self.omega.max())
        high = 2.0 * (penalty + size * self.omega.max() + self.omega.sum()) / size
        return self.freedom(kappa_of(lambda kappa: self.freedom(kappa).df1, size, penalty, low, high))

    def reach(self, samples, penalty) -> Reach:
        """The error of ``samples`` (J,) at ``penalty`` (J,), without doubt."""
        freedom = self.solve(samples, penalty)
        base = self.base(freedom.kappa)
        size = np.atleast_1d(samples) - float(self.offset)
        error = base / (1.0 - freedom.df2 / size) * (1.0 + self.offset / np.atleast_1d(samples))
        return Reach(error, base, freedom, np.zeros((2, *error.shape)), np.zeros(error.shape, bool))


class MeasuredCurve:
    """The curve of a population that is known from N rows only, through their leave-one-out errors.

    Parameters: ``loo`` the rows; ``features`` p, an upper bound of df1; ``excess`` a pair (kappa (M,), log c (M,),
    standard errors of log c (M,)), ``None`` for c = 1 within twenty per cent.
    """

    def __init__(self, loo: LeaveOneOut, features: int, excess=None):
        self.loo, self.samples, self.offset = loo, loo.samples, loo.samples - loo.size
        top = float(loo.eigenvalues[0])
        penalties = np.geomspace(max(1e-8 * top, loo.least), 30.0 * top, _POINTS)
        rows = loo.row_errors(penalties)
        self.scatter = float(np.median(rows.std(axis=1) / rows.mean(axis=1))) / np.sqrt(loo.samples)
        seen = loo.freedom(penalties)
        self.seen, self.lowest = seen, float(seen.kappa[0]) if loo.interpolates else 0.0
        if excess is None:
            excess = (seen.kappa, np.zeros(_POINTS), np.full(_POINTS, _PRIOR))
        self._excess = (np.log(excess[0]), *excess[1:])
        x = seen.df2 / (loo.size - seen.df2)
        c, doubt = self.excess(seen.kappa)
        base = rows.mean(axis=1) / (1.0 + c * x)
        # Neighbours share their errors: about two independent values a decade of kappa.
        share = np.sqrt(_POINTS / (2.0 * np.log10(seen.kappa[-1] / seen.kappa[0])))
        errors = share * np.sqrt(0.01**2 + (doubt * c * x / (1.0 + c * x)) ** 2 + _doubt(x) ** 2)
        self._base = Mixture.fit(seen.kappa, base, errors, 2)
        self._df1 = Mixture.fit(seen.kappa, seen.df1, np.full(_POINTS, 0.01), -1, total=min(features, 1e12))
        self._continued = seen.df1[0] / self._df1(seen.kappa[:1])[0]
        self._at = seen.kappa[0] * np.geomspace(1e-4, 1e4, 13)
        # Between its bounds B(kappa) may be anything: the middle is reported.
        low, high = bounds(seen.kappa, base, errors, self._at).T
        self._shift = np.log(0.5 * (low + high) / self._base(self._at))
        self._width = np.log([0.5 * (low + high) / low, 2.0 * high / (low + high)])

    def excess(self, kappa) -> tuple[np.ndarray, np.ndarray]:
        """c at ``kappa`` (J,) and the standard error of its logarithm."""
        at, log_c, doubt = self._excess
        return np.exp(np.interp(np.log(kappa), at, log_c)), np.interp(np.log(kappa), at, doubt)

    def solve(self, samples, penalty):
        """Freedom of ``samples`` (J,) at ``penalty`` (J,), the equivalent penalty on the N rows, and whether beyond them."""
        size, penalty = np.broadcast_arrays(np.atleast_1d(samples) - float(self.offset), np.asarray(penalty, float))
        equivalent = self.loo.equivalent(size + self.offset, penalty)
        freedom = self.loo.freedom(equivalent)
        beyond = np.full(size.shape, self.loo.interpolates) & (freedom.kappa * (size - freedom.df1) > 1.000001 * penalty)
        if beyond.any():
            low = np.full(size.shape, 1e-8 * self.lowest)
            kappa = kappa_of(lambda k: self._continued * self._df1(k), size, penalty, low, np.full(size.shape, self.lowest))
            ratio = self._df1.omega / (self._df1.omega + kappa[:, None])
            df1 = self._continued * self._df1(kappa)
            df2 = self._continued * (ratio**2 @ self._df1.weights + self._df1.constant)
            freedom = Freedom(*(np.where(beyond, new, old) for new, old in zip((kappa, df1, df2), freedom, strict=True)))
        return freedom, equivalent, beyond

    def reach(self, samples, penalty) -> Reach:
        """The error of ``samples`` (J,) at ``penalty`` (J,).

        Up to N samples it is the formula above: the leave-one-out error at the equivalent penalty, times
        ``(1 + c x(n)) / (1 + c x(N))``, and for n = N the leave-one-out error itself. Beyond, what that ratio takes away
        may be most of the error; there B(kappa) comes from the positive mixture that fits all penalties.
        """
        freedom, equivalent, beyond = self.solve(samples, penalty)
        samples = np.broadcast_to(np.asarray(samples, dtype=float), freedom.kappa.shape)
        size, here = samples - self.offset, self.loo.freedom(equivalent)
        c, log_c_error = self.excess(freedom.kappa)
        x, x_here = (_excess_ratio(f.df2, m) for f, m in ((freedom, size), (here, self.loo.size)))
        rows = self.loo.row_errors(equivalent)
        direct = rows.mean(axis=1) * (1.0 + c * x) / (1.0 + c * x_here)
        shift, *widths = (np.interp(np.log(freedom.kappa), np.log(self._at), v) for v in (self._shift, *self._width))
        base = self._base(freedom.kappa) * np.exp(shift)
        removed = np.maximum(0.0, freedom.df2 * (1.0 / self.loo.size - 1.0 / size))
        weight = -np.expm1(-((removed / 0.15) ** 2))
        error = direct ** (1.0 - weight) * (base * (1.0 + c * x)) ** weight
        error = error * (1.0 + self.offset / samples) / (1.0 + self.offset / self.samples)
        scatter = rows.std(axis=1) / rows.mean(axis=1) / np.sqrt(self.samples)
        by_excess = log_c_error * (c * x / (1.0 + c * x) - c * x_here / (1.0 + c * x_here))
        by_shape = (1.0 - weight) * (_doubt(x_here) - _doubt(x))
        doubt = np.sqrt(scatter**2 + by_excess**2 + by_shape**2 + (weight * np.array(widths)) ** 2)
        return Reach(error, error / (1.0 + c * x), freedom, doubt, beyond)


def _excess_ratio(df2, size):
    share = np.clip(df2 / size, 0.0, 0.999)
    return share / (1.0 - share)


def _doubt(x):
    """Standard error of the logarithm of ``1 + c x`` as a description of real samples: 4% at x = 1, 40% at x = 6."""
    return _SHAPE * x**2 / (1.0 + x)


def measure_excess(loo: LeaveOneOut, sizes, penalties, mean_square, errors):
    """The excess c from trainings on parts of the N rows: what :class:`MeasuredCurve` takes.

    ``mean_square`` (S, G) test errors of ``sizes`` (S,) samples at ``penalties`` (G,), ``errors`` (S, G) standard
    errors of their logarithms. Each size gives log c as a function of kappa; they are averaged with the weights of
    their errors and of the prior, log c = 0 +- 0.2. Returns kappa (M,), log c (M,) and its standard errors (M,).
    """
    kappa = np.geomspace(*loo.freedom([max(loo.least, 1e-8 * loo.eigenvalues[0]), 30 * loo.eigenvalues[0]]).kappa, _POINTS)
    precision, total = np.full(_POINTS, _PRIOR**-2), np.zeros(_POINTS)
    offset = loo.samples - loo.size
    for size, measured, error in zip(sizes, mean_square, errors, strict=True):
        equivalent = loo.equivalent(size, penalties)
        here = loo.freedom(equivalent)
        x, x_here = _excess_ratio(here.df2, size - offset), _excess_ratio(here.df2, loo.size)
        expected = loo.row_errors(equivalent).mean(axis=1) * (1.0 + x) / (1.0 + x_here)
        expected = expected * (1.0 + offset / size) / (1.0 + offset / loo.samples)
        lever = x / (1.0 + x) - x_here / (1.0 + x_here)
        log_c = np.clip(np.log(measured / expected) / lever, -1.5, 1.5)
        spread = np.hypot(error, 0.4 * _doubt(x)) / lever
        at, order = np.log(here.kappa), np.argsort(here.kappa)
        outside = np.maximum(0.0, np.maximum(at.min() - np.log(kappa), np.log(kappa) - at.max()))
        spread = np.hypot(np.interp(np.log(kappa), at[order], spread[order]), 0.15 * outside)
        precision += spread**-2
        total += np.interp(np.log(kappa), at[order], log_c[order]) * spread**-2
    return kappa, total / precision, precision**-0.5
