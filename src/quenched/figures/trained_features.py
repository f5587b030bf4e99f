"""Trained features: what can be read off the weights of a network, and from when on its features must be measured."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np

from .. import plotting
from ..laws import DeepNetwork
from ..names import attributes
from ..problems.frozen_features import diagnose_features
from .check import Check
from .lines import all_in_standard_errors

TITLE = "Trained features: predicted from samples, and from weights"
CAPTION = (
    "Two tanh layers (300 and 250 neurons, 150 Gaussian inputs) are trained by Adam on fresh samples of a function of three "
    "inputs, sum_j tanh(x_j)/sqrt(3) + 0.4 x_1 x_2, and frozen after so many steps. Then a readout is fitted to their features "
    "of n further samples, by ridge regression with weight decay 0.01. Points are such fits, solid lines are predicted from the "
    "measured covariance of features and target, dotted lines by a LearningCurve from no more than 600 samples (one draw of "
    "them; draws scatter by some 10%), dashed lines from the weights alone. These know only the part of the target that is linear "
    "in the inputs; they are right at the start and after a little training, and too high once single directions of the target "
    "stand out of the weights and are learnt non-linearly."
)
OBSERVABLE = "test_mse"
REFERENCES = (
    "D. Schroeder, H. Cui, D. Dmitriev, B. Loureiro (2023), arXiv:2302.00401",
    "B. Loureiro et al. (2021), arXiv:2102.08127",
)
DIM, WIDTHS, STEPS, DECAY = 150, (300, 250), (0, 150, 1200), 0.01
#: What "right" and "too high" mean for the prediction from the weights, as a relative difference.
SMALL, LARGE = 0.05, 0.1
#: The samples that a learning curve is given.
KNOWN = 600
_DRAW = 12  # a random stream of its own


def target(x):
    """``sum_{j <= 3} tanh(x_j) / sqrt(3) + 0.4 x_1 x_2`` of inputs (n, d), (n,)."""
    return jnp.tanh(x[:, :3]).sum(1) / jnp.sqrt(3.0) + 0.4 * x[:, 0] * x[:, 1]


def learning_curve(network, samples: int, seed=0, noise: float = 0.0):
    """The :class:`~quenched.LearningCurve` of the figure's readout, from ``samples`` features of a network and outcomes with
    Gaussian ``noise`` of this variance. scikit-learn's penalty is the weight decay times the number of features."""
    from sklearn.linear_model import Ridge

    from ..laws.measured import outcomes
    from ..problems.learning_curve import LearningCurve

    rng = np.random.default_rng((_DRAW, seed))
    x = rng.standard_normal((samples, network.dim))
    y = outcomes(target, x) + np.sqrt(noise) * rng.standard_normal(samples)
    readout = Ridge(alpha=DECAY * network.widths[-1], fit_intercept=False)
    return LearningCurve(readout, seed=seed, verbose=False).fit(network(x), y)


def study(quick: bool = False, progress=None):
    """The three predictions over n = 75 .. 2400, and fits at some of these sizes; a Dataset over steps and n_samples."""
    import xarray as xr

    from .. import __version__
    from ..finite.trained import simulate_frozen, train_network

    report = progress or (lambda done, total, what: None)
    seeds, samples = (6, 100 * WIDTHS[-1]) if quick else (24, 400 * WIDTHS[-1])
    sizes = np.unique(np.rint(75 * 2.0 ** np.linspace(0.0, 5.0, 41)).astype(int))
    measured = sizes[[8, 24]] if quick else sizes[[0, 8, 16, 24, 32, 40]]
    report(0, len(STEPS), "training the network")
    networks = train_network(DeepNetwork((DIM, *WIDTHS), "tanh"), target, STEPS).networks
    shape = (len(STEPS), len(sizes))
    names = ("test_mse", "test_mse_weights", "test_mse_curve", "test_mse_mean", "test_mse_se")
    columns = {name: np.full(shape, np.nan) for name in names}
    columns |= {"trusted": np.ones(shape, bool), "trials": np.zeros(shape, int)}
    norms, stand_out = [], []
    for row, (step, network) in enumerate(networks.items()):
        report(row, len(STEPS), f"{step} steps, predicting")
        found = diagnose_features(network, target, sizes / DIM, DECAY, samples=samples)
        columns["test_mse"][row], columns["test_mse_weights"][row] = found.measured, found.from_weights
        columns["test_mse_curve"][row] = learning_curve(network, KNOWN).predict(sizes).mean
        norms.append(found.outliers.norm)
        stand_out.append(found.outliers.number)
        for n in measured:
            report(row, len(STEPS), f"{step} steps, fitting {n} samples")
            trials = simulate_frozen(network, target, alpha=n / DIM, weight_decay=DECAY, dim=DIM, seeds=seeds, test_samples=4000)
            estimate, column = trials[OBSERVABLE], int(np.flatnonzero(sizes == n)[0])
            columns["test_mse_mean"][row, column], columns["test_mse_se"][row, column] = estimate.mean, estimate.standard_error
            columns["trials"][row, column] = int(trials.converged.sum())
    report(len(STEPS), len(STEPS), "done")
    columns["test_mse_deviation"] = (columns["test_mse_mean"] - columns["test_mse"]) / columns["test_mse_se"]
    table = {name: (("step", "n_samples"), column) for name, column in columns.items()}
    table |= {"norm": (("step", "layer"), np.array(norms)), "outliers": (("step", "layer"), np.array(stand_out))}
    about = {"widths": WIDTHS, "weight_decay": DECAY, "samples of the moments": samples, "of the curve": KNOWN}
    return xr.Dataset(
        table,
        {"step": ("step", list(STEPS), attributes("step")), "n_samples": ("n_samples", sizes, attributes("n_samples"))},
        {"quenched": __version__, "problem": "ridge regression on trained features", "parameters": json.dumps(about),
         "simulate": json.dumps({"dim": DIM, "seeds": seeds}), "failed": ""},
    )  # fmt: skip


def check(data):
    """Fits against the measured moments; and the weights' prediction must be right at the start, and wrong at the end."""
    verdict = all_in_standard_errors(data, (OBSERVABLE,))
    gaps = [float(g) for g in (data["test_mse_weights"] / data["test_mse"] - 1.0).median("n_samples")]
    words = ", ".join(f"{100 * gap:+.1f}% after {step} steps" for gap, step in zip(gaps, data["step"].values, strict=True))
    away = np.abs(data["test_mse_curve"] / data["test_mse"] - 1.0)
    text = (
        f"{verdict.text}; the prediction from the weights lies {words} (median over n); that of a learning curve from {KNOWN} "
        f"samples differs by {100 * float(away.mean()):.2g}% on average and by {100 * float(away.max()):.2g}% at most"
    )
    return Check(verdict.passed and abs(gaps[0]) < SMALL and gaps[-1] > LARGE, text, verdict.rows, verdict.failed)


def plot(data, ax=None):
    """One colour for each number of steps: measured moments solid, weights dashed, a learning curve dotted, fits as points."""
    ax = plotting.axes(ax)
    for step, colour in zip(data["step"].values, plotting.COLOURS, strict=False):
        part = data.sel(step=step)
        plotting.line(part["n_samples"], part["test_mse"], part["trusted"], ax=ax, color=colour, label=f"{step} steps")
        plotting.line(part["n_samples"], part["test_mse_weights"], part["trusted"], ax=ax, color=colour, ls="--")
        plotting.line(part["n_samples"], part["test_mse_curve"], part["trusted"], ax=ax, color=colour, ls=":")
        plotting.points(part["n_samples"], part["test_mse_mean"], part["test_mse_se"], ax=ax, color=colour)
    for style, text in (("-", "from measured moments"), (":", f"from {KNOWN} samples"), ("--", "from the weights")):
        ax.plot([], [], color="0.3", ls=style, label=text)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ticks = [0.2, 0.3, 0.4, 0.6, 0.8]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_yticks([], minor=True)
    ax.set_xticks([100, 200, 500, 1000, 2000], ["100", "200", "500", "1000", "2000"])
    ax.set_xticks([], minor=True)
    ax.set_xlabel(plotting.label("n_samples"))
    ax.set_ylabel(plotting.label(OBSERVABLE))
    ax.set_ylim(top=1.25)  # room for the legend
    ax.legend(loc="upper right", ncols=2, columnspacing=1.0)
    return ax
