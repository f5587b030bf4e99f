"""What a learning curve hands back: predictions, back-tests, the best penalty, samples required."""

from __future__ import annotations

import dataclasses
import html

import numpy as np


class _Table:
    """Printed and shown as a title and rows of :meth:`columns`."""

    def __repr__(self) -> str:
        columns = {name: [_text(v) for v in values] for name, values in self.columns().items()}
        widths = {name: max([len(name), *map(len, values)]) for name, values in columns.items()}
        lines = [self.title, "  ".join(f"{name:>{width}}" for name, width in widths.items())]
        for row in zip(*columns.values(), strict=True):
            lines.append("  ".join(f"{v:>{w}}" for v, w in zip(row, widths.values(), strict=True)).rstrip())
        return "\n".join([*lines, *self.notes])

    def _repr_html_(self) -> str:
        columns = self.columns()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_text(v))}</td>" for v in row) + "</tr>"
            for row in zip(*columns.values(), strict=True)
        )
        notes = "".join(f"<br>{html.escape(note)}" for note in self.notes)
        return f"<div>{html.escape(self.title)}<table><tr>{head}</tr>{body}</table>{notes}</div>"


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Prediction(_Table):
    """The test error that an estimator reaches with so many samples.

    - ``n_samples``: as asked, a number or an array; ``mean``, ``lower``, ``upper``: of its shape;
    - ``level``: the probability that one training set of that size, tested without end, falls between the last two;
    - ``extrapolated``: where kappa lies below every kappa that the sample shows at any penalty;
    - ``observable`` ("test_mse" or "test_error"), ``penalty`` (scikit-learn's ``alpha``), ``approximate`` (error rates
      are: see :mod:`quenched.limit.score_errors`), ``source`` (what was fitted, in words).

    ``float(prediction)`` and ``np.asarray(prediction)`` are the mean.

    >>> from sklearn.linear_model import LinearRegression
    >>> from quenched.problems.learning_curve import LearningCurve
    >>> curve = LearningCurve(LinearRegression(fit_intercept=False)).fit_population(np.eye(2), [1.0, 0.0], variance=1.1)
    >>> prediction = curve.predict([4, 20])
    >>> prediction.mean.round(6).tolist(), prediction.level, prediction.approximate
    ([0.2, 0.111111], 0.9, False)
    """

    n_samples: np.ndarray
    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    extrapolated: np.ndarray
    observable: str
    penalty: float
    level: float
    approximate: bool
    source: str

    def __array__(self, dtype=None, copy=None):
        return np.array(self.mean, dtype=dtype)

    def __float__(self) -> float:
        return float(self.mean)

    @property
    def title(self) -> str:
        return f"{self.source}: {self.observable} at penalty alpha = {self.penalty:.4g}"

    @property
    def notes(self) -> list[str]:
        notes = ["error rates are approximate: Gaussian sampling noise of the scores is assumed"] * self.approximate
        if np.any(self.extrapolated):
            notes.append("extrapolated: beyond what this sample shows at any penalty")
        return notes

    def columns(self) -> dict[str, list]:
        """Name -> column, for a CSV or a data frame.

        >>> from sklearn.linear_model import LinearRegression
        >>> from quenched.problems.learning_curve import LearningCurve
        >>> curve = LearningCurve(LinearRegression(fit_intercept=False)).fit_population(np.eye(2), [1.0, 0.0], variance=1.1)
        >>> list(curve.predict(20).columns()), curve.predict(20).columns()["n_samples"]
        (['n_samples', 'mean', 'lower', 'upper', 'extrapolated'], [20])
        """
        names = ("n_samples", "mean", "lower", "upper", "extrapolated")
        columns = {name: np.atleast_1d(getattr(self, name)).tolist() for name in names}
        return {**columns, "extrapolated": ["yes" if value else "" for value in columns["extrapolated"]]}


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class BackTest(_Table):
    """The estimator trained on parts of the sample and tested on the rest, against the formula fitted on all of it.

    Columns (S,): ``n_samples``; ``measured`` mean over trainings and its ``standard_error``; ``predicted`` before any
    shift. ``excess`` is what the trainings say of c, the factor on sampling noise (see :mod:`quenched.limit.ridge_curve`),
    at the kappa of the whole sample, with its standard error: it shifts what is predicted beyond the sample. Within it,
    predictions are shifted by measured over predicted, interpolated.

    >>> from sklearn.linear_model import Ridge
    >>> from quenched.problems.learning_curve import LearningCurve
    >>> X = np.random.default_rng(0).standard_normal((60, 5))
    >>> test = LearningCurve(Ridge(alpha=1.0), trainings=2, verbose=False).fit(X, X[:, 0] + 0.1 * X[:, 1] ** 2).backtest
    >>> test.n_samples.tolist(), test.measured.shape, test.observable
    ([8, 11, 15, 21, 30, 40], (6,), 'test_mse')
    """

    n_samples: np.ndarray
    measured: np.ndarray
    standard_error: np.ndarray
    predicted: np.ndarray
    observable: str
    penalty: float
    excess: tuple[float, float]
    source: str

    @property
    def title(self) -> str:
        return f"{self.source}: back-test of {self.observable} at penalty alpha = {self.penalty:.4g}"

    @property
    def notes(self) -> list[str]:
        c, error = self.excess
        return [f"shift: sampling noise is {c:.2f} +- {error:.2f} times that of equal leverages"]

    def columns(self) -> dict[str, list]:
        """Name -> column, for a CSV or a data frame.

        >>> test = BackTest(*np.array([[20, 40], [0.4, 0.2], [0.01, 0.01], [0.2, 0.2]]), "test_mse", 1.0, (1.0, 0.1), source="")
        >>> test.columns()["measured/predicted"]
        [2.0, 1.0]
        """
        ratio = self.measured / self.predicted
        named = {"n_samples": self.n_samples, "predicted": self.predicted, "measured": self.measured}
        named |= {"standard_error": self.standard_error, "measured/predicted": ratio}
        return {name: column.tolist() for name, column in named.items()}


@dataclasses.dataclass(frozen=True)
class BestPenalty:
    """The best penalty at a number of samples: ``penalty`` (scikit-learn's ``alpha``) and the ``prediction`` with it.

    ``current`` is the prediction at the estimator's own penalty; ``edge`` says that the best penalty lies at an end of
    the range that was searched.

    >>> from sklearn.linear_model import Ridge
    >>> from quenched.problems.learning_curve import LearningCurve
    >>> curve = LearningCurve(Ridge(fit_intercept=False)).fit_population(np.eye(2), [1.0, 0.0], variance=1.1)
    >>> best = curve.tune(40)
    >>> best
    best penalty alpha = 0.2001 for 40 samples: test_mse 0.1052 (0.1052 to 0.1052); alpha = 1 gives 0.1057
    >>> best.edge
    False
    """

    penalty: float
    prediction: Prediction
    current: Prediction
    edge: bool = False

    def __repr__(self) -> str:
        best, now = self.prediction, self.current
        text = (
            f"best penalty alpha = {self.penalty:.4g} for {int(best.n_samples)} samples: {best.observable} "
            f"{float(best):.4g} ({float(best.lower):.4g} to {float(best.upper):.4g}); "
            f"alpha = {now.penalty:.4g} gives {float(now):.4g}"
        )
        return text + ("; at the end of the range searched" if self.edge else "")


@dataclasses.dataclass(frozen=True)
class Required:
    """The number of samples from which on a test error is met.

    - ``n_samples``: a whole number, or None where no number reaches ``target``; ``lower``, ``upper``: the same for the
      ends of the interval, None where they do not reach it;
    - ``floor``: the :class:`Prediction` for endless samples; ``extrapolated``: as there.

    >>> from sklearn.linear_model import LinearRegression
    >>> from quenched.problems.learning_curve import LearningCurve
    >>> curve = LearningCurve(LinearRegression(fit_intercept=False)).fit_population(np.eye(2), [1.0, 0.0], variance=1.1)
    >>> needed = curve.required(test_mse=0.125)
    >>> needed.n_samples, round(float(needed.floor), 6), needed.reachable
    (10, 0.1, True)
    """

    n_samples: int | None
    lower: int | None
    upper: int | None
    target: float
    floor: Prediction
    extrapolated: bool

    @property
    def reachable(self) -> bool:
        """Whether any number of samples is enough."""
        return self.n_samples is not None

    def __repr__(self) -> str:
        floor = f"{float(self.floor):.4g} ({float(self.floor.lower):.4g} to {float(self.floor.upper):.4g})"
        wanted = f"{self.floor.observable} {self.target:.4g} at penalty alpha = {self.floor.penalty:.4g}"
        if not self.reachable:
            perhaps = f"; at best from {self.lower} samples" if self.lower is not None else ""
            return f"{wanted}: not reachable, floor {floor}{perhaps}"
        low = self.lower if self.lower is not None else "?"
        high = self.upper if self.upper is not None else "never"
        marked = ", extrapolated" if self.extrapolated else ""
        return f"{wanted}: {self.n_samples} samples ({low} to {high}{marked}); floor {floor}"


def _text(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
