"""Learning curves of ridge regression: the error of n samples at penalty a, from a population or from N rows.

A direction of variance omega is learnt by a ridge of effective regularisation kappa, the root of

    kappa (n - df1(kappa)) = a,       df1 = sum omega/(omega + kappa),   df2 = sum (omega/(omega + kappa))^2,

and ``E(n, a) = B(kappa) / (1 - df2/n) = B(kappa) (1 + x)`` with ``x = df2/(n - df2)``: noise, misfit and bias are in
B, the luck of a finite sample in x. df1 and B are functions of the population, and N rows measure them: for each
penalty a, with s the eigenvalues of X^T X,

    df1 = sum s/(s + a),   kappa = a/(N - df1),   df2 = N - 1/(dkappa/da),   B(kappa) = LOO(a) (1 - df2/N)

with the leave-one-out mean square LOO. (Plugging the sample covariance and X^T y / N into the formulas of a population
counts the noise that X^T y contains as signal: biased low by about p/N.) An intercept takes one sample from n and N.

All of this is for rows of about the same leverage. Uneven ones show how uneven their scales are (:mod:`.leverages`), and
kappa follows from that. In place of ``1 + x`` stands ``1 + c x``: the ``excess`` c, a little above one and growing where
kappa is small, is what a jackknife of the rows says (:attr:`.LeaveOneOut.luck`), corrected on parts of the sample.

Sources: B. Loureiro et al. (2021), arXiv:2102.08127; leave-one-out errors as a measurement of the population: A. Wei,
W. Hu, J. Steinhardt (2022), arXiv:2203.06176. The excess and the positive mixtures below are ours.
"""

from __future__ import annotations

import numpy as np

from ..numerics.bisection import root
from .leave_one_out import Freedom, LeaveOneOut
from .mixture import Mixture, bounds
from .population_curve import Reach
from .score_errors import ScoreNoise, draws_for, wrong

# How far 1 + x is trusted, as a standard error of the logarithm of what is measured at x: see _doubt.
_SHAPE = 0.04
_DISTANCE = 0.15  # standard error of log(error) for each e-fold of kappa below what was seen
_PRIOR = 0.2  # of log c, before any part of the sample was trained on
_TREND = 0.4  # how much of that doubt is left in a comparison of two sizes
_CALM = (0.5, 0.25, 0.12)  # shares of the rows that are fitted where classification errors are read
_POINTS = 48


class MeasuredCurve:
    """The curve of a population that is known from N rows only, through their leave-one-out errors.

    Parameters: ``loo`` the rows; ``excess`` a triple (kappa (M,), log c (M,), standard errors of log c (M,)), ``None``
    for c = 1 within twenty per cent.
    """

    def __init__(self, loo: LeaveOneOut, excess=None):
        self.loo, self.samples, self.offset = loo, loo.samples, loo.samples - loo.size
        penalties = np.geomspace(*loo.penalties, _POINTS)
        rows = loo.row_errors(penalties)
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
        self._df1 = Mixture.fit(seen.kappa, seen.df1, np.full(_POINTS, 0.01), -1, total=float(loo.features))
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
        demand = self.loo.demand(size, freedom.kappa, freedom.df1)
        beyond = np.full(size.shape, self.loo.interpolates) & (demand > 1.000001 * penalty)
        if beyond.any():
            low, high = np.full(size.shape, 1e-8 * self.lowest), np.full(size.shape, self.lowest)
            kappa = root(lambda k: self.loo.demand(size, k, self._continued * self._df1(k)) - penalty, low, high)
            df1, df2 = self._continued * self._df1(kappa), self._continued * self._df1.squared(kappa)
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
        base = self._base(np.maximum(freedom.kappa, self._at[0])) * np.exp(shift)
        weight = self._weight(size, freedom.df2)
        error = direct ** (1.0 - weight) * (base * (1.0 + c * x)) ** weight
        error = error * (1.0 + self.offset / samples) / (1.0 + self.offset / self.samples)
        # Residuals share what was fitted to them: N rows count as N - df2.
        scatter = rows.std(axis=1) / rows.mean(axis=1) * np.sqrt((1.0 + np.minimum(x_here, 9.0)) / self.samples)
        by_excess = log_c_error * (c * x / (1.0 + c * x) - c * x_here / (1.0 + c * x_here))
        by_shape = (1.0 - weight) * (_doubt(x_here) - _doubt(x))
        by_distance = _DISTANCE * np.log(np.where(beyond, self.lowest / freedom.kappa, 1.0))
        doubt = np.sqrt(by_excess**2 + by_shape**2 + (weight * np.array(widths)) ** 2 + by_distance**2)
        return Reach(error, error / (1.0 + c * x), freedom, scatter, doubt, beyond)

    def rates(self, samples, penalty, coded) -> tuple[np.ndarray, np.ndarray]:
        """Classification error rates of ``samples`` (J,) at ``penalty`` (J,), approximate (see :mod:`.score_errors`).

        ``coded`` (N, K): the targets, +1 for a row's class and -1 otherwise. Beyond N samples so much of the error at
        the equivalent penalty may be noise that little is left to build on; there scores at larger penalties serve, whose
        mean is of more bias and which lose less. Both err upwards: the least is taken. Returned with the rates: those of
        the N rows at the equivalent penalty, which nothing has been done to.
        """
        reach, size = self.reach(samples, penalty), np.asarray(samples) - self.offset
        equivalent, c = self.solve(samples, penalty)[1], self.excess(reach.freedom.kappa)[0]
        wanted = c * _excess_ratio(reach.freedom.df2, size) + self.offset / size
        found, plain = self._rates(equivalent, coded, lambda base, j: base * wanted[j])
        weight, least = self._weight(size, reach.freedom.df2), found.copy()
        penalties = np.geomspace(*self.loo.penalties, 200)
        fitted = self.loo.freedom(penalties).df2 / self.loo.size
        for share in _CALM:
            calm = penalties[np.argmax(fitted <= share)]
            at = np.flatnonzero((weight > 0.01) & (equivalent < calm))
            noise = reach.base[at] * wanted[at]
            other, _ = self._rates(np.full(len(at), calm), coded, lambda base, j, noise=noise: noise[j])
            least[at] = np.minimum(least[at], other)
        safe = np.maximum(least, 0.1 / self.samples) / np.maximum(found, 0.1 / self.samples)
        return found * safe**weight, plain

    def _rates(self, penalties, coded, wanted) -> tuple[np.ndarray, np.ndarray]:
        """Rates where the sampling noise of the scores at ``penalties`` (J,) becomes ``wanted(base, j)``, and without."""
        found, plain = np.empty((2, len(penalties)))
        group = None
        for at in np.unique(penalties):
            if group != (group := np.rint(4.0 * np.log10(at))):  # neighbours share their draws of noise
                draws = self.loo.resampled(10.0 ** (0.25 * group), draws_for(*coded.shape), np.random.default_rng(0))
                noise = ScoreNoise(draws)
            residuals, here = self.loo.residuals(at), self.loo.freedom(at)
            luck = self.excess(here.kappa)[0] * _excess_ratio(here.df2, self.loo.size) + self.offset / self.loo.size
            scores, base = coded - residuals, np.mean(residuals**2) / (1.0 + luck[0])
            for j in np.flatnonzero(penalties == at):
                changed = noise.changed(scores, coded, base * luck[0], wanted(base, j))
                found[j], plain[j] = np.mean(wrong(changed, coded)), np.mean(wrong(scores, coded))
        return found, plain

    def _weight(self, size, df2) -> np.ndarray:
        removed = np.maximum(0.0, df2 * (1.0 / self.loo.size - 1.0 / size))
        return -np.expm1(-((removed / 0.15) ** 2))


def _excess_ratio(df2, size):
    share = np.clip(df2 / size, 0.0, 0.999)
    return share / (1.0 - share)


def _doubt(x):
    """Standard error of the logarithm of ``1 + c x`` as a description of real samples: 2% at x = 1, 20% at x = 6."""
    return _SHAPE * x**2 / (1.0 + x)


def measure_excess(loo: LeaveOneOut, sizes, penalties, mean_square, errors):
    """The excess c from trainings on parts of the N rows: what :class:`MeasuredCurve` takes.

    ``mean_square`` (S, G) test errors of ``sizes`` (S,) samples at ``penalties`` (G,), ``errors`` (S, G) standard
    errors of their logarithms. Each size gives log c as a function of kappa; they are averaged with the weights of
    their errors, and with what the rows' own leverages and residuals say. Returns kappa (M,), log c (M,) and its
    standard errors (M,).
    """
    kappa = np.geomspace(*loo.freedom(loo.penalties).kappa, _POINTS)
    at = np.log(loo.freedom(loo.luck[0]).kappa)
    prior, doubt = (np.interp(np.log(kappa), at, values) for values in loo.luck[1:])
    precision, total = doubt**-2, prior * doubt**-2
    offset = loo.samples - loo.size
    for size, measured, error in zip(sizes, mean_square, errors, strict=True):
        equivalent = loo.equivalent(size, penalties)
        here = loo.freedom(equivalent)
        x, x_here = _excess_ratio(here.df2, size - offset), _excess_ratio(here.df2, loo.size)
        expected = loo.row_errors(equivalent).mean(axis=1) * (1.0 + x) / (1.0 + x_here)
        expected = expected * (1.0 + offset / size) / (1.0 + offset / loo.samples)
        lever = x / (1.0 + x) - x_here / (1.0 + x_here)
        log_c = np.clip(np.log(measured / expected) / lever, -1.5, 1.5)
        spread = np.hypot(error, _TREND * _doubt(x)) / lever
        at, order = np.log(here.kappa), np.argsort(here.kappa)
        outside = np.maximum(0.0, np.maximum(at.min() - np.log(kappa), np.log(kappa) - at.max()))
        spread = np.hypot(np.interp(np.log(kappa), at[order], spread[order]), _DISTANCE * outside)
        precision += spread**-2
        total += np.interp(np.log(kappa), at[order], log_c[order]) * spread**-2
    return kappa, total / precision, precision**-0.5
