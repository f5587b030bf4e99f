"""The picture of a learning curve on real data."""

from __future__ import annotations

import numpy as np

from .. import plotting
from ..numerics import check


def plot(curve, ax=None, n_samples=None, observable="test_mse"):
    """Draw ``curve`` (a fitted LearningCurve) over ``n_samples`` (J,), or from the smallest part to 30 times the sample.

    Prediction: a line in its band, dashed where extrapolated. Points: the back-test, with bars of one standard error;
    the leave-one-out error is the square at N. Returns the Axes.
    """
    ax = plotting.axes(ax)
    known = curve.samples if np.isfinite(curve.samples) else 10 * curve.dim
    if n_samples is None:
        low = known / 16 if curve.backtest is None else min(curve.backtest.n_samples, default=known / 4)
        n_samples = np.unique(np.rint(np.append(np.geomspace(max(low, 2), 30 * known, 90), known)))
    sizes = check.array("n_samples", n_samples, ndim=1)
    found = curve.predict(sizes, observable=observable)
    colour = plotting.COLOURS[0]
    inside = ~found.extrapolated
    near = inside | np.append(inside[1:], False) | np.append(False, inside[:-1])  # so that the two lines touch
    ax.fill_between(sizes, found.lower, found.upper, color=colour, alpha=0.15, lw=0)
    ax.plot(sizes, np.where(near, found.mean, np.nan), color=colour, label="predicted")
    if found.extrapolated.any():
        ax.plot(sizes, np.where(inside, np.nan, found.mean), "--", color=colour, label="extrapolated")
    if curve.backtest is not None:
        measured, errors = curve.trained(observable)
        plotting.points(
            curve.backtest.n_samples, measured, errors, ax=ax, color=plotting.COLOURS[1], label="trained on parts"
        )
        here = curve.predict(int(curve.samples), observable=observable)
        ax.plot(curve.samples, float(here), "s", color=plotting.COLOURS[6], label="leave-one-out", zorder=5)
        ax.axvline(curve.samples, color="0.6", lw=0.8, ls=":", zorder=0)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("number of samples $n$")
    ax.set_ylabel(LABELS[observable])
    kind = curve.estimator.name.partition("(")[0]
    ax.set_title(f"{kind}, penalty {curve.estimator.penalty:g}, {curve.dim} features", fontsize="medium")
    top, bottom = np.max(found.upper), np.min(found.mean)
    ax.set_ylim(max(np.min(found.lower), bottom / 8) / 1.1, min(top, 8 * np.max(found.mean)) * 1.1)  # not the band's tail
    ax.legend()
    return ax


LABELS = {"test_mse": "test mean square error", "test_error": "test error (fraction of wrong classes)"}
