"""Kernels beyond n ~ d: the degrees of a target are learnt one after the other."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from ..names import attributes
from ..problems import BayesOptimalDeep
from .lines import all_in_standard_errors

TITLE = "Kernel staircase: one degree of the target after the other"
CAPTION = (
    "A random relu network on inputs of one length is learnt with its own kernel (solid: theory at this dimension; filled: kernel "
    "regression on data of actual networks) and by ridge regression on the inputs at its best weight decay (line and hollow "
    "points). Networks are rescaled to their average variance. Ridge stops at what is linear. The kernel goes down in steps, at "
    "n ~ d and at n ~ d^2 / 2 (dotted: the number of harmonics of each degree); between them it rests on plateaus (dashed), the "
    "sum of all degrees that are not yet learnt."
)
REFERENCES = ("H. Cui, F. Krzakala, L. Zdeborova (2023), arXiv:2302.00375", "B. Ghorbani et al. (2019), arXiv:1904.12191")
DECAY, WIDTH = 1e-3, 1.2


def problem():
    """A relu network of one layer and 1.2 units per input; weights of variance 2 keep the size of what they see."""
    return BayesOptimalDeep((WIDTH,), "relu", "regression", alpha=1.0, weight_variances=2.0)


def study(quick: bool = False, progress=None):
    """Theory over n, and learners on actual networks at some n; a Dataset over line and n_samples."""
    import xarray as xr

    from .. import __version__
    from ..finite.learners import KernelRegression, Ridge

    report = progress or (lambda done, total, what: None)
    dim, seeds = (30, 6) if quick else (50, 12)
    target = problem()
    n = np.unique(np.geomspace(0.2 * dim, 1.2 * dim**2, 101).round())
    some = [int(n[np.argmin(np.abs(n - x))]) for x in np.array([0.5 * dim, 3.0 * dim, 0.25 * dim**2, 0.9 * dim**2])]
    decay = float(target.ridge().weight_decay)
    theory = {"kernel": target.staircase(n, dim, weight_decay=DECAY).test_mse, "ridge": target.ridge(alpha=n / dim).test_mse}
    learners = {"kernel": KernelRegression(target.target, DECAY), "ridge": Ridge(decay)}
    columns = {name: np.full((2, len(n)), np.nan) for name in ("test_mse", "test_mse_mean", "test_mse_se", "test_mse_deviation")}
    columns |= {"trusted": np.ones((2, len(n)), bool), "trials": np.zeros((2, len(n)), int)}
    for row, line in enumerate(theory):
        columns["test_mse"][row] = theory[line]
    for k, samples in enumerate(some):
        report(k, len(some), f"learning from {samples} samples")
        trials = target.simulate(dim, seeds, learners=learners, samples=samples, sphere=True, test_samples=2000)
        # at such dimensions a network's own size differs from the average one by more than learners do
        size = (trials["target_slope"].values + trials["target_rest"].values) / float(target.total)
        column = int(np.argmin(np.abs(n - samples)))
        for row, line in enumerate(theory):
            errors = trials[f"{line}_test_mse"].values / size
            columns["trials"][row, column] = len(errors)
            columns["test_mse_mean"][row, column] = np.mean(errors)
            columns["test_mse_se"][row, column] = np.std(errors, ddof=1) / np.sqrt(len(errors))
    report(len(some), len(some), "done")
    columns["test_mse_deviation"] = (columns["test_mse_mean"] - columns["test_mse"]) / columns["test_mse_se"]
    return xr.Dataset(
        {name: (("line", "n_samples"), column) for name, column in columns.items()},
        {"line": ("line", list(theory)), "n_samples": ("n_samples", n, attributes("n_samples"))},
        {"quenched": __version__, "problem": "BayesOptimalDeep", "parameters": json.dumps({"weight_decay": DECAY}),
         "simulate": json.dumps({"dim": dim, "seeds": seeds}), "failed": ""},
    )  # fmt: skip


def check(data):
    """Deviations of the measured errors in standard errors."""
    return all_in_standard_errors(data, ("test_mse",))


def plot(data, ax=None):
    """Errors against the number of samples, on logarithmic axes."""
    from ..limit.staircase import multiplicities, plateaus

    ax = plotting.axes(ax)
    dim = json.loads(data.attrs["simulate"])["dim"]
    for place in multiplicities(dim, 2)[1:]:
        ax.axvline(place, color="0.6", ls=":", lw=1.0)
    for level in plateaus(problem().target.series(8))[:3]:
        ax.axhline(level, color="0.4", ls="--", lw=0.8)
    texts = {"kernel": "the network's own kernel", "ridge": "ridge on the inputs"}
    for (line, text), colour in zip(texts.items(), plotting.COLOURS, strict=False):
        part, marks = data.sel(line=line), {"mfc": "none"} if line == "ridge" else {}
        plotting.line(part["n_samples"], part["test_mse"], part["trusted"], ax=ax, color=colour, label=text)
        plotting.points(part["n_samples"], part["test_mse_mean"], part["test_mse_se"], ax=ax, color=colour, **marks)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(plotting.label("n_samples"))
    ax.set_ylabel(plotting.label("test_mse"))
    ax.legend()
    return ax
