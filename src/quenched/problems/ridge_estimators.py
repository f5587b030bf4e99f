"""What a scikit-learn estimator asks for: its penalty, intercept, targets and features, or a refusal in one sentence."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..numerics import check

# Transformers that look at the inputs at most through a few numbers a column, never at the targets.
_TRANSFORMERS = (
    "FunctionTransformer", "MaxAbsScaler", "MinMaxScaler", "Normalizer", "PolynomialFeatures", "RBFSampler",
    "RobustScaler", "SplineTransformer", "StandardScaler",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RidgeEstimator:
    """``penalty`` (scikit-learn's ``alpha``), whether an ``intercept`` is fitted, whether it ``classifies``.

    ``transformer`` is the unfitted pipeline before the last step, or None; ``name`` the estimator as its user wrote it.
    """

    penalty: float
    intercept: bool
    classifies: bool
    transformer: Any
    name: str

    @classmethod
    def of(cls, estimator) -> RidgeEstimator:
        """Read ``Ridge``, ``RidgeClassifier`` or ``LinearRegression``, alone or at the end of a ``Pipeline``.

        Raises ``ValueError`` for estimators whose learning curve this route does not give.
        """
        from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
        from sklearn.pipeline import Pipeline

        last, transformer = estimator, None
        if isinstance(estimator, Pipeline):
            steps = [step for step in estimator.steps[:-1] if step[1] not in (None, "passthrough")]
            for _, step in steps:
                if type(step).__name__ not in _TRANSFORMERS:
                    raise ValueError(
                        f"estimator must be a pipeline of {', '.join(_TRANSFORMERS)}, got {type(step).__name__}: "
                        "apply it to X first, if it does not look at the rows that are to be predicted"
                    )
            last, transformer = estimator.steps[-1][1], Pipeline(steps) if steps else None
        if isinstance(last, LogisticRegression):
            raise ValueError(
                "estimator must be Ridge or RidgeClassifier, got LogisticRegression: leave-one-out errors of logistic "
                "regression do not carry over to other sample sizes by a formula that a back-test would confirm; "
                "RidgeClassifier on the same inputs has a curve"
            )
        if type(last) not in (Ridge, RidgeClassifier, LinearRegression):
            hint = ": give the one with the alpha that it chose" if type(last).__name__.endswith("CV") else ""
            raise ValueError(f"estimator must be scikit-learn's Ridge or RidgeClassifier, got {last!r}{hint}")
        if getattr(last, "positive", False):
            raise ValueError("estimator must have positive=False, got positive=True: its weights are constrained")
        if getattr(last, "class_weight", None) is not None:
            raise ValueError(f"estimator must have class_weight=None, got {last.class_weight!r}")
        penalty = 0.0 if type(last) is LinearRegression else check.nonnegative("estimator's alpha", last.alpha)
        return cls(penalty, bool(last.fit_intercept), type(last) is RidgeClassifier, transformer, repr(last))

    def targets(self, y) -> tuple[np.ndarray, np.ndarray | None]:
        """Targets (N, K) that ridge regression is given, and the classes (None for regression).

        Classes are coded as scikit-learn does: -1 and +1, one column for two classes and one a class for more.
        """
        if not self.classifies:
            y = check.array("y", y)
            if y.ndim not in (1, 2) or y.size == 0:
                raise ValueError(f"y must have the shape (N,) or (N, K), got {y.shape}")
            return y.reshape(len(y), -1), None
        y = np.asarray(y)
        if y.ndim != 1:
            raise ValueError(f"y must hold one class a row, got the shape {y.shape}")
        if y.dtype.kind == "f" and not np.all(y == np.rint(y)):
            raise ValueError("y must hold classes for RidgeClassifier, got numbers with a fractional part")
        classes, counts = np.unique(y, return_counts=True)
        if len(classes) < 2 or counts.min() < 2:
            rare = classes[counts.argmin()].item()
            raise ValueError(f"y must hold two or more classes of two rows or more, got {rare!r} {counts.min()} times")
        if len(classes) == 2:
            return np.where(y == classes[1], 1.0, -1.0)[:, None], classes
        return np.where(y[:, None] == classes, 1.0, -1.0), classes

    def features(self, x, train=None, test=None):
        """Features of the ``train`` and ``test`` rows, the transformer fitted on the first; of all rows without any."""
        if train is None:
            return x if self.transformer is None else self._fresh().fit_transform(x)
        if self.transformer is None:
            return x[train], x[test]
        fitted = self._fresh().fit(x[train])
        return fitted.transform(x[train]), fitted.transform(x[test])

    def _fresh(self):
        from sklearn.base import clone

        return clone(self.transformer)
