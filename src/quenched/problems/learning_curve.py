"""How much is more data worth? The learning curve of a scikit-learn ridge estimator on the user's own data."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from ..finite.ridge_path import measure_path, part_sizes
from ..limit.leave_one_out import LeaveOneOut
from ..limit.population_curve import PlugIn, Population
from ..limit.ridge_curve import MeasuredCurve, measure_excess
from ..numerics import check
from .curve_results import BackTest, BestPenalty, Prediction, Required
from .curve_shift import Shift
from .ridge_estimators import RidgeEstimator

_ENDLESS = 1e9  # times the sample: as many rows as anyone asks for
_APPROXIMATE = 0.25  # the part of a change of the error rate that is doubted


class LearningCurve:
    """The test error of a scikit-learn estimator at any number of samples, also at more than there are.

    ``curve = LearningCurve(Ridge(alpha=10.0)).fit(X, y)`` reads everything from the leave-one-out errors of the N rows at
    all penalties, from one decomposition (:mod:`quenched.limit.ridge_curve`). Then it trains on parts of the rows, prints
    this back-test, and shifts what it predicts by it.

    Parameters
    ----------
    estimator : ``Ridge``, ``RidgeClassifier`` or ``LinearRegression``, with its ``alpha`` and ``fit_intercept``; or a
        ``Pipeline`` of scalers (or feature maps that do not look at the targets) that ends in one.
    level : probability that an interval is meant to hold, for one training set of the asked size tested without end.
    route : "leave-one-out", "plug-in" (covariances of the rows in the formulas for a population: needs N >> p), or "auto"
        for the first below N = 100 p and the second from there on.
    trainings : trainings of the back-test at half the sample (in proportion more at smaller sizes).
    seed, verbose : of the back-test's parts; whether to print it.

    Observables: ``test_mse``, the mean square error against the labels as they are (averaged over targets; of a
    classifier: over its scores, against its own -1/+1 coding), and for classifiers ``test_error``, the fraction of
    wrong classes, which is *approximate*. Logistic regression is refused: ridge is where the formula holds.

    **Two alphas.** scikit-learn's ``alpha`` is a penalty, ``sum (y - x.w)^2 + alpha |w|^2``. With our scores
    ``x.w/sqrt(d)`` it is ``weight_decay * d``. Elsewhere in this package ``alpha`` is n/d, samples per input dimension;
    here that number is never an argument: sizes are counted in samples.

    Raises ``ValueError`` for estimators and data that it does not serve.

    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import RidgeClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> rows = np.random.default_rng(5).permutation(len(X))[:400]  # the digits of one writer lie side by side
    >>> curve = LearningCurve(RidgeClassifier(alpha=100.0), verbose=False).fit(X[rows], y[rows])
    >>> 0.04 < float(curve.predict(1500)) < 0.10
    True
    """

    def __init__(self, estimator, *, level=0.9, route="auto", trainings=6, seed=0, verbose=True):
        self.estimator = RidgeEstimator.of(estimator)
        self.level = check.scalar("level", level, 0.0, 1.0, open_low=True, open_high=True)
        self.route = check.choice("route", route, ("auto", "leave-one-out", "plug-in"))
        self.trainings = check.integer("trainings", trainings, 2)
        self.seed, self.verbose = check.integer("seed", seed, 0), bool(verbose)
        self.samples, self.backtest, self._curve = 0, None, None

    # ---- fitting -----------------------------------------------------------------------------------------------------

    def fit(self, X, y) -> LearningCurve:
        """Read the curve from inputs ``X`` (N, p) and targets ``y`` (N,), or (N, K) for a regression of several.

        Rows must be independent, and N at least 20. Costs one decomposition of X and about ``4 * trainings`` smaller
        ones. Returns the curve itself. ``ValueError`` for other shapes, fewer rows, and targets that are all the same.

        >>> from sklearn.linear_model import Ridge
        >>> X = np.random.default_rng(0).standard_normal((60, 5))
        >>> LearningCurve(Ridge(alpha=1.0), trainings=2, verbose=False).fit(X, X[:, 0] + 0.1 * X[:, 1] ** 2)
        LearningCurve of Ridge() from 60 rows, 5 features, penalty alpha = 1
        """
        X = check.array("X", X, ndim=2)
        targets, self.classes = self.estimator.targets(y)
        if len(targets) != len(X):
            raise ValueError(f"y must have one entry for each of the {len(X)} rows of X, got {len(targets)}")
        if len(X) < 20 or not X.shape[1]:
            raise ValueError(f"X must have 20 rows or more and at least one column, got the shape {X.shape}")
        features, intercept = self.estimator.features(X), self.estimator.intercept
        if not np.any(np.ptp(targets, axis=0) if intercept else targets):
            raise ValueError("y must vary from row to row, got targets that are all the same")
        self.samples, self.dim = features.shape
        self._coded = targets if self.classes is not None else None
        plug_in = self.route == "plug-in" or (self.route == "auto" and self.samples >= 100 * self.dim)
        loo = None if plug_in else LeaveOneOut.of(features, targets, intercept=intercept)
        curve = PlugIn(features, targets, intercept=intercept) if plug_in else loo
        penalties = self._penalties(loo.eigenvalues[0] if loo else curve.omega.max() * self.samples)
        rows = loo.inputs if loo and self.estimator.transformer is None else X
        trials = measure_path(
            lambda train, test: self.estimator.features(rows, train, test), targets,
            part_sizes(self.samples, max(8, 2 * targets.shape[1])), penalties, intercept=intercept,
            classify=self.classes is not None, trainings=self.trainings, seed=self.seed,
            reference=np.ones((len(penalties), self.samples)) if plug_in else loo.row_errors(penalties),
        )  # fmt: skip
        errors = np.maximum(trials.spread / np.sqrt(trials.counts)[:, None], 0.004)
        if not plug_in:
            curve = MeasuredCurve(loo, measure_excess(loo, trials.sizes, penalties, trials.mean_square, errors))
        self._curve, self._shift = curve, Shift(curve, trials, self.samples, self._coded)
        self.backtest = self._back_test()
        if self.verbose:
            print(self.backtest)
        return self

    def fit_population(self, covariance, cross_covariance, variance) -> LearningCurve:
        """The curve of a known population: ``covariance`` (p, p), ``cross_covariance`` (p,) or (p, K) = Cov(x, y), and the
        ``variance`` of y, a number or (K,), noise included. Only ``test_mse`` follows from these. Returns the curve itself.
        ``ValueError`` for shapes that do not fit, and where the inputs explain more than the variance.

        >>> from sklearn.linear_model import LinearRegression
        >>> curve = LearningCurve(LinearRegression(fit_intercept=False)).fit_population(np.eye(2), [1.0, 0.0], variance=1.1)
        >>> round(float(curve.predict(20)), 6)  # noise / (1 - p / n)
        0.111111
        """
        covariance = check.covariance("covariance", covariance)
        cross = np.atleast_1d(check.array("cross_covariance", cross_covariance))
        cross, variance = cross.reshape(len(cross), -1), np.atleast_1d(check.array("variance", variance))
        if len(cross) != len(covariance) or len(variance) != cross.shape[1]:
            shapes = f"{covariance.shape}, {cross.shape} and {variance.shape}"
            raise ValueError(f"covariance, cross_covariance, variance must be (p, p), (p, K), (K,), got {shapes}")
        omega, vectors = np.linalg.eigh(covariance)
        curve = Population(omega, vectors.T @ cross, variance, intercept=self.estimator.intercept)
        explained = np.sum(curve.cross**2 / curve.omega[:, None], axis=0) if len(curve.omega) == len(omega) else 0.0
        if np.any(explained > variance * (1.0 + 1e-9)):
            raise ValueError(f"variance must be at least what the inputs explain, {np.max(explained):.6g}, got {variance}")
        self.samples, self.dim, self.classes, self._coded = np.inf, len(omega), None, None
        self._curve, self._shift, self.backtest = curve, None, None
        return self

    def _penalties(self, top: float) -> np.ndarray:
        """Penalties for back-tests and for a search of the best: from next to nothing to shrinking everything."""
        return np.unique(np.append(np.geomspace(1e-6 * top, 3.0 * top, 15), max(self.estimator.penalty, 1e-8 * top)))

    def _back_test(self) -> BackTest:
        observable, penalty = self._observable(None), self.estimator.penalty
        measured, errors = self.trained(observable)
        excess = (1.0, 0.0)
        if isinstance(self._curve, MeasuredCurve):
            c, log_error = self._curve.excess(self._curve.loo.freedom(penalty).kappa)
            excess = (float(c[0]), float(c[0] * log_error[0]))
        predicted = self._shift.predicted[observable][:, self._shift.column(penalty)]
        return BackTest(self._shift.trials.sizes, measured, errors, predicted, observable, penalty, excess, self._source)

    def trained(self, observable: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Errors of the trainings on parts of the sample at the estimator's penalty, and their standard errors, (S,).

        ``ValueError`` after :meth:`fit_population`, which trains on nothing.

        >>> from sklearn.linear_model import Ridge
        >>> X = np.random.default_rng(0).standard_normal((60, 5))
        >>> curve = LearningCurve(Ridge(alpha=1.0), trainings=2, verbose=False).fit(X, X[:, 0] + 0.1 * X[:, 1] ** 2)
        >>> error, standard_error = curve.trained()
        >>> curve.backtest.n_samples.tolist(), error.shape, bool(error[0] > error[-1])
        ([8, 11, 15, 21, 30, 40], (6,), True)
        """
        observable = self._observable(observable)
        if self._shift is None:
            raise ValueError("trained needs rows, fit(X, y): the curve of a known population has trained on none")
        trials, column = self._shift.trials, self._shift.column(self.estimator.penalty)
        if observable == "test_mse":
            mean, spread = trials.mean_square[:, column], trials.spread[:, column] * trials.mean_square[:, column]
        else:
            mean, spread = trials.wrong[:, column], trials.wrong_spread[:, column]
        return mean, spread / np.sqrt(trials.counts)

    # ---- asking ------------------------------------------------------------------------------------------------------

    def predict(self, n_samples, *, observable: str | None = None, penalty: float | None = None) -> Prediction:
        """The test error reached with ``n_samples``, a whole number or an array of them, with an interval.

        ``observable``: "test_mse", or "test_error" (the default of classifiers); ``penalty``: another one than the
        estimator's. At N samples this is the leave-one-out error. ``ValueError`` for fewer than 2 samples or broken numbers.

        >>> from sklearn.linear_model import LinearRegression
        >>> curve = LearningCurve(LinearRegression(fit_intercept=False)).fit_population(np.eye(2), [1.0, 0.0], variance=1.1)
        >>> curve.predict([4, 20]).mean.round(6).tolist()  # noise / (1 - p / n)
        [0.2, 0.111111]
        """
        observable = self._observable(observable)
        penalty = self.estimator.penalty if penalty is None else check.nonnegative("penalty", penalty)
        asked = np.asarray(n_samples)
        numbers = asked.dtype.kind in "iuf" and asked.size > 0
        if not numbers or not np.all((asked == np.rint(asked)) & (asked >= 2) & (asked < np.inf)):
            raise ValueError(f"n_samples must be whole numbers of at least 2, got {n_samples!r}")
        mean, lower, upper, extrapolated = self._interval(asked.ravel().astype(float), penalty, observable)
        shaped = (v.reshape(asked.shape) for v in (mean, lower, upper, extrapolated))
        return Prediction(asked, *shaped, observable, penalty, self.level, observable == "test_error", self._source)

    def tune(self, n_samples: int, *, observable: str | None = None) -> BestPenalty:
        """The best penalty (scikit-learn's ``alpha``) at a number of samples, by a search on a grid that is refined.

        >>> from sklearn.linear_model import Ridge
        >>> curve = LearningCurve(Ridge(fit_intercept=False)).fit_population(np.eye(2), [1.0, 0.0], variance=1.1)
        >>> round(curve.tune(40).penalty, 2)  # p noise / |w|^2
        0.2
        """
        n_samples, observable = check.integer("n_samples", n_samples, 2), self._observable(observable)
        grid = np.geomspace(*self._search, 25)
        for _ in range(2 if observable == "test_error" else 4):
            mean = self._interval(np.full(len(grid), float(n_samples)), grid, observable)[0]
            best = int(np.argmin(mean))
            found = float(grid[best])
            grid = np.geomspace(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], 13)
        edge = not 1.01 * self._search[0] < found < 0.99 * self._search[1]
        at = self.predict(n_samples, observable=observable, penalty=found)
        return BestPenalty(found, at, self.predict(n_samples, observable=observable), edge)

    def required(self, *, penalty: float | None = None, **target) -> Required:
        """The number of samples from which on an error is met: ``required(test_error=0.05)`` or ``required(test_mse=0.1)``.

        Where no number of samples is enough at this penalty, the result says so and gives the floor.

        >>> from sklearn.linear_model import LinearRegression
        >>> curve = LearningCurve(LinearRegression(fit_intercept=False)).fit_population(np.eye(2), [1.0, 0.0], variance=1.1)
        >>> curve.required(test_mse=0.125).n_samples, curve.required(test_mse=0.09).reachable
        (10, False)
        """
        if len(target) != 1:
            raise ValueError(f"required needs one target such as test_error=0.05, got {target or 'none'}")
        ((observable, wanted),) = target.items()
        observable, wanted = self._observable(observable), check.positive(observable, wanted)
        known = self.samples if np.isfinite(self.samples) else 10.0 * self.dim
        grid = np.unique(np.rint(np.geomspace(2.0, 1e5 * known, 81)))
        floor = self.predict(int(_ENDLESS * known), observable=observable, penalty=penalty)
        at = self.predict(grid, observable=observable, penalty=penalty)

        def first(column, sizes, values):
            """The place of the first size from which on the column lies below what is wanted; None without any."""
            above = np.flatnonzero(np.append(values, float(getattr(floor, column))) > wanted)
            start = int(above[-1]) + 1 if len(above) else 0
            return start if start < len(sizes) else None

        def met(column, rounds=3):
            sizes, values = grid, getattr(at, column)
            place = first(column, sizes, values)
            for _ in range(rounds):  # look closer between the size found and the one before it
                if not place:
                    break
                sizes = np.unique(np.rint(np.geomspace(sizes[place - 1], sizes[place], 9)))
                values = getattr(self.predict(sizes, observable=observable, penalty=penalty), column)
                place = first(column, sizes, np.append(values[:-1], min(values[-1], wanted)))
            return None if place is None else int(sizes[place])

        needed = met("mean")
        extrapolated = needed is None or bool(self.predict(needed, observable=observable, penalty=penalty).extrapolated)
        low, high = (met(column, 1 if observable == "test_error" else 3) for column in ("lower", "upper"))
        if needed is not None:  # the ends are looked for less closely
            low, high = min(low, needed), None if high is None else max(high, needed)
        return Required(needed, low, high, wanted, floor, extrapolated)

    def plot(self, ax=None, *, n_samples=None, observable: str | None = None):
        """Draw the curve with its band, the back-test's points, and the sample's own size; returns the Axes.

        >>> import matplotlib.pyplot as plt
        >>> from sklearn.linear_model import LinearRegression
        >>> curve = LearningCurve(LinearRegression(fit_intercept=False)).fit_population(np.eye(2), [1.0, 0.0], variance=1.1)
        >>> ax = curve.plot(n_samples=[4, 20])
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('number of samples $n$', 'test mean square error')
        >>> plt.close(ax.figure)
        """
        from .curve_plot import plot

        return plot(self, ax, n_samples, self._observable(observable))

    def __repr__(self) -> str:
        if self._curve is None:
            return f"LearningCurve({self.estimator.name}), not fitted"
        return f"LearningCurve of {self._source}, {self.dim} features, penalty alpha = {self.estimator.penalty:.4g}"

    # ---- inside ------------------------------------------------------------------------------------------------------

    @property
    def _source(self) -> str:
        known = f"{self.samples} rows" if np.isfinite(self.samples) else "a known population"
        return f"{self.estimator.name} from {known}"

    @property
    def _search(self) -> tuple[float, float]:
        if isinstance(self._curve, MeasuredCurve):
            top = self._curve.loo.eigenvalues[0]
        else:
            top = self._curve.omega.max() * (self.samples if np.isfinite(self.samples) else self.dim)
        return 1e-6 * float(top), 3.0 * float(top)

    def _observable(self, name: str | None) -> str:
        if self._curve is None:
            raise ValueError("the curve must be fitted first: call fit(X, y)")
        known = ("test_mse",) if self.classes is None else ("test_error", "test_mse")
        return known[0] if name is None else check.choice("observable", name, known)

    def _interval(self, samples, penalty, observable):
        """Mean, lower and upper end, and the flag of extrapolation, for ``samples`` (J,) at ``penalty``; all (J,)."""
        samples, penalty = np.broadcast_arrays(samples, np.asarray(penalty, dtype=float))
        reach = self._curve.reach(samples, penalty)
        quantile = ndtri(0.5 + 0.5 * self.level)
        if self._shift is None:
            return reach.error, reach.error, reach.error, reach.extrapolated
        shift, shift_error, luck = self._shift(samples, penalty, reach.freedom.df2, observable)
        beyond = samples > self.samples  # within the sample the back-test has measured what the formula leaves open
        doubt = np.where(beyond, reach.doubt, 0.0)
        if observable == "test_mse":
            mean, variance = reach.error * np.exp(shift), reach.scatter**2
            low = high = mean
        else:
            floor = 0.5 / self.samples
            rates, plain = self._curve.rates(samples, penalty, self._coded)
            mean = np.minimum(rates * np.exp(shift), 1.0)
            low, high = mean, np.maximum(mean, floor)
            changed = np.where(beyond, _APPROXIMATE * np.log((rates + floor) / (plain + floor)), 0.0)
            variance = (1.0 - mean) / (high * self.samples) + changed**2
        down, up = np.exp(quantile * np.sqrt(variance + doubt**2 + shift_error**2 + luck**2))
        top = np.inf if observable == "test_mse" else 1.0
        return mean, low / down, np.minimum(high * up, top), reach.extrapolated
