"""Real data: the learning curve of ridge regression on handwritten digits, predicted from a third of them."""

from __future__ import annotations

import json
import warnings

import numpy as np

from .. import plotting
from ..names import attributes
from ..problems.learning_curve import LearningCurve
from .check import Check, measured_points

TITLE = "Real data: handwritten digits"
CAPTION = (
    "Test mean square error of scikit-learn's Ridge on the 64 pixels of handwritten digits (one-hot targets), against "
    "the number of training samples, for three penalties. Lines and 90% bands are predicted by LearningCurve from 600 "
    "digits (dotted), on both sides of that size; points are models trained on that many of all 1797 digits and "
    "tested on the rest. Without enough penalty, more data first hurt: the peak lies where there are about as many "
    "samples as pixels that vary."
)
OBSERVABLE = "test_mse"
REFERENCES = (
    "T. Hastie, A. Montanari, S. Rosset, R. Tibshirani (2019), arXiv:1903.08560",
    "B. Loureiro et al. (2021), arXiv:2102.08127",
)
SAMPLE, PENALTIES = 600, (0.01, 1.0, 30.0)

# What the prediction must meet: this mean relative deviation, and this share of single trainings within 90% bands.
DEVIATION, COVERAGE = 0.08, 0.8


def study(quick: bool = False, progress=None):
    """Predictions over n = 30 .. 1500 from 600 digits, and trainings at nine sizes; a Dataset like a sweep's."""
    import xarray as xr
    from sklearn.datasets import load_digits
    from sklearn.linear_model import Ridge

    from .. import __version__

    report = progress or (lambda done, total, what: None)
    X, y = load_digits(return_X_y=True)
    X, Y = X / 16.0, np.eye(10)[y]
    measured = np.array([30, 50, 70, 100, 150, 250, 450, 800, 1400])
    sizes = np.union1d(np.rint(np.geomspace(30, 1500, 49)).astype(int), measured)
    seeds = 12 if quick else 50
    sample = np.random.default_rng(0).permutation(len(X))[:SAMPLE]
    shape = (len(PENALTIES), len(sizes))
    mean, error, inside, trials = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape)
    predictions = []
    for row, penalty in enumerate(PENALTIES):
        report(row, len(PENALTIES), "fitting and training")
        curve = LearningCurve(Ridge(alpha=penalty), verbose=False).fit(X[sample], Y[sample])
        predictions.append(curve.predict(sizes))
        for column in np.flatnonzero(np.isin(sizes, measured)):
            errors = np.array([_train(X, Y, penalty, sizes[column], seed) for seed in range(seeds)])
            low, high = predictions[-1].lower[column], predictions[-1].upper[column]
            mean[row, column], error[row, column] = errors.mean(), errors.std(ddof=1) / np.sqrt(seeds)
            inside[row, column], trials[row, column] = np.mean((low <= errors) & (errors <= high)), seeds
    report(len(PENALTIES), len(PENALTIES), "done")
    parts = {name: np.stack([getattr(p, name) for p in predictions]) for name in ("mean", "lower", "upper")}
    columns = {
        OBSERVABLE: parts["mean"], f"{OBSERVABLE}_lower": parts["lower"], f"{OBSERVABLE}_upper": parts["upper"],
        f"{OBSERVABLE}_mean": mean, f"{OBSERVABLE}_se": error, f"{OBSERVABLE}_deviation": (mean - parts["mean"]) / error,
        "inside": inside, "trials": trials.astype(int),
        "trusted": ~np.stack([p.extrapolated for p in predictions]),
    }  # fmt: skip
    about = {"estimator": "Ridge", "data": "scikit-learn's digits", "sample": SAMPLE}
    return xr.Dataset(
        {name: (("penalty", "n_samples"), column) for name, column in columns.items()},
        {"penalty": ("penalty", list(PENALTIES), attributes("penalty")), "n_samples": sizes},
        {"quenched": __version__, "problem": "LearningCurve", "parameters": json.dumps(about),
         "simulate": json.dumps({"seeds": seeds}), "failed": ""},
    )  # fmt: skip


def _train(X, Y, penalty, n, seed) -> float:
    """The test mean square of scikit-learn's Ridge on n rows, tested on all others."""
    from sklearn.linear_model import Ridge

    order = np.random.default_rng((1, seed)).permutation(len(X))
    train, test = order[:n], order[n:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant pixels make the problem singular but for the penalty
        fitted = Ridge(alpha=penalty).fit(X[train], Y[train])
    return float(np.mean((fitted.predict(X[test]) - Y[test]) ** 2))


def check(data) -> Check:
    """The mean relative deviation of the prediction, and how often a single training lies in its band."""
    columns = {"predicted": "", "lower": "_lower", "upper": "_upper", "measured": "_mean", "standard error": "_se"}
    names = {text: OBSERVABLE + suffix for text, suffix in columns.items()} | {"share inside": "inside"}
    rows = measured_points(data, names)
    away = float(np.mean([abs(row["measured"] / row["predicted"] - 1.0) for row in rows]))
    inside = float(np.mean([row["share inside"] for row in rows]))
    trainings = int(data["trials"].sum())
    text = (
        f"predictions for {len(rows)} sizes and penalties deviate by {100 * away:.1f}% on average, and "
        f"{100 * inside:.0f}% of {trainings} trainings lie in the 90% bands"
    )
    return Check(away <= DEVIATION and inside >= COVERAGE, text, rows, data.attrs["failed"])


def plot(data, ax=None):
    """Lines with bands, one colour for each penalty; the size of the sample is dotted."""
    ax = plotting.curve(data, OBSERVABLE, x="n_samples", ax=ax, log="xy")
    for index, penalty in enumerate(data["penalty"].values):
        part = data.sel(penalty=penalty)
        low, high = part[f"{OBSERVABLE}_lower"], part[f"{OBSERVABLE}_upper"]
        ax.fill_between(data["n_samples"], low, high, color=plotting.COLOURS[index], alpha=0.15, lw=0)
    ax.axvline(SAMPLE, color="0.3", ls=":", lw=1.0, label="size of the sample")
    ax.legend()
    return ax
