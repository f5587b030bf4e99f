"""Kernels beyond n ~ d: the degrees of a target are learnt one after the other; and a network that is trained."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from ..names import attributes
from ..problems import BayesOptimalDeep
from .check import NEAR, Check
from .lines import all_in_standard_errors

TITLE = "Kernel staircase: one degree of the target after the other"
CAPTION = (
    "A random relu network of 1.2 units per input, on inputs of one length, is learnt with its own kernel (solid: theory at this "
    "dimension; filled: kernel regression on data of actual networks), by ridge regression on the inputs at its best weight decay "
    "(line and hollow points), and by a relu network of 2.4 units per input whose two layers are trained by Adam, stopped early on "
    "a tenth of its samples (diamonds; an experiment without a theory). Targets are rescaled to their average variance. Ridge "
    "stops at what is linear. The kernel goes down in steps, at n ~ d and at n ~ d^2 / 2 (dotted: the number of harmonics of each "
    "degree); between them it rests on plateaus (dashed), the sum of all degrees that are not yet learnt. The trained network is "
    "no better than the kernel up to n ~ d^2, and far below it, and below its last plateau here, from n = 2 d^2 on."
)
REFERENCES = ("H. Cui, F. Krzakala, L. Zdeborova (2023), arXiv:2302.00375", "B. Ghorbani et al. (2019), arXiv:1904.12191")
DECAY, WIDTH = 1e-3, 1.2
#: The trained network: units per input; what it is trained on, in units of d^2; its steps (quick, and full).
WIDE, SIZES, STEPS = 2.4, (0.25, 0.9, 2.0, 3.0), (12_000, 32_000)


def problem():
    """A relu network of one layer and 1.2 units per input; weights of variance 2 keep the size of what they see."""
    return BayesOptimalDeep((WIDTH,), "relu", "regression", alpha=1.0, weight_variances=2.0)


def study(quick: bool = False, progress=None):
    """Theory over n, and learners on actual networks at some n; a Dataset over line and n_samples. The line "network" has no
    theory."""
    import xarray as xr

    from .. import __version__
    from ..finite.bayes_deep import simulate
    from ..finite.learners import KernelRegression, Ridge
    from ..finite.network_learner import TrainedNetwork

    report = progress or (lambda done, total, what: None)
    dim, seeds, trained, steps = (30, 6, 3, STEPS[0]) if quick else (50, 12, 12, STEPS[1])
    target = problem()
    few, many = np.array([0.5 * dim, 3.0 * dim, 0.25 * dim**2, 0.9 * dim**2]).round(), (np.array(SIZES) * dim**2).round()
    n = np.unique(np.concatenate([np.geomspace(0.2 * dim, SIZES[-1] * dim**2, 101).round(), few, many])).astype(int)
    decay = float(target.ridge().weight_decay)
    theory = {"kernel": target.staircase(n, dim, weight_decay=DECAY).test_mse, "ridge": target.ridge(alpha=n / dim).test_mse}
    learners = {"kernel": KernelRegression(target.target, DECAY), "ridge": Ridge(decay)}
    network = {"network": TrainedNetwork(WIDE, "relu", steps=steps)}
    names = [*theory, *network]
    shape = (len(names), len(n))
    columns = {name: np.full(shape, np.nan) for name in ("test_mse", "test_mse_mean", "test_mse_se", "test_mse_deviation")}
    columns |= {"trusted": np.ones(shape, bool), "trials": np.zeros(shape, int)}
    for row, line in enumerate(theory):
        columns["test_mse"][row] = theory[line]
    runs = [(size, learners, seeds) for size in few] + [(size, network, trained) for size in (many[1::2] if quick else many)]
    for k, (samples, some, number) in enumerate(runs):
        report(k, len(runs), f"{' and '.join(some)} on {samples:g} samples")
        trials = simulate(
            target.target, some, task="regression", widths=target._sizes(dim), spectrum=target.inputs, alpha=1.0, noise=0.0,
            seeds=number, samples=int(samples), sphere=True, test_samples=2000,
        )  # fmt: skip
        # at such dimensions a network's own size differs from the average one by more than learners do
        size = (trials["target_slope"].values + trials["target_rest"].values) / float(target.total)
        for line in some:
            errors, place = trials[f"{line}_test_mse"].values / size, (names.index(line), int(np.flatnonzero(n == samples)[0]))
            columns["trials"][place] = len(errors)
            columns["test_mse_mean"][place] = np.mean(errors)
            columns["test_mse_se"][place] = np.std(errors, ddof=1) / np.sqrt(len(errors))
    report(len(runs), len(runs), "done")
    columns["test_mse_deviation"] = (columns["test_mse_mean"] - columns["test_mse"]) / columns["test_mse_se"]
    about = {"weight_decay": DECAY, "width_ratio": WIDE, "steps": steps}
    return xr.Dataset(
        {name: (("line", "n_samples"), column) for name, column in columns.items()},
        {"line": ("line", names), "n_samples": ("n_samples", n, attributes("n_samples"))},
        {"quenched": __version__, "problem": "BayesOptimalDeep", "parameters": json.dumps(about),
         "simulate": json.dumps({"dim": dim, "seeds": seeds}), "failed": ""},
    )  # fmt: skip


def check(data):
    """Deviations of kernel and ridge in standard errors; and the trained network, which has no theory, must lie below the
    kernel and below its plateau beyond degree 2 at the largest n, by three standard errors."""
    from ..limit.staircase import plateaus

    verdict = all_in_standard_errors(data, ("test_mse",))
    last, dim = data.isel(n_samples=-1), json.loads(data.attrs["simulate"])["dim"]
    kernel = float(last["test_mse"].sel(line="kernel"))
    mean, error = (float(last[name].sel(line="network")) for name in ("test_mse_mean", "test_mse_se"))
    below = mean + NEAR * error < min(kernel, plateaus(problem().target.series(8))[2])
    text = (
        f"{verdict.text}; of the kernel's error {100 * mean / kernel:.2g}% (+- {100 * error / kernel:.1g}%) remains for the "
        f"trained network at n = {int(last['n_samples']) / dim**2:.3g} d^2"
    )
    return Check(verdict.passed and below, text, verdict.rows, verdict.failed)


def plot(data, ax=None):
    """Errors against the number of samples, on logarithmic axes."""
    from ..limit.staircase import multiplicities, plateaus

    ax = plotting.axes(ax)
    dim = json.loads(data.attrs["simulate"])["dim"]
    for place in multiplicities(dim, 2)[1:]:
        ax.axvline(place, color="0.6", ls=":", lw=1.0)
    for level in plateaus(problem().target.series(8))[:3]:
        ax.axhline(level, color="0.4", ls="--", lw=0.8)
    texts = {"kernel": "the target's own kernel", "ridge": "ridge on the inputs"}
    for (line, text), colour in zip(texts.items(), plotting.COLOURS, strict=False):
        part, marks = data.sel(line=line), {"mfc": "none"} if line == "ridge" else {}
        plotting.line(part["n_samples"], part["test_mse"], part["trusted"], ax=ax, color=colour, label=text)
        plotting.points(part["n_samples"], part["test_mse_mean"], part["test_mse_se"], ax=ax, color=colour, **marks)
    part = data.sel(line="network")
    plotting.points(
        part["n_samples"], part["test_mse_mean"], part["test_mse_se"], ax=ax, color=plotting.COLOURS[2], fmt="D",
        label="a trained network",
    )  # fmt: skip
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(plotting.label("n_samples"))
    ax.set_ylabel(plotting.label("test_mse"))
    ax.legend(loc="lower left", frameon=True, framealpha=1.0, edgecolor="none")
    return ax
