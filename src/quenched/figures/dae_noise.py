"""Denoising autoencoders: what is gained over the rescaling, against the level of noise."""

from __future__ import annotations

import json

import numpy as np

from .. import laws, plotting
from ..names import attributes
from ..problems import DenoisingAutoencoder
from .check import in_standard_errors

TITLE = "A denoising autoencoder over the level of noise"
CAPTION = (
    "Mean square error of a two-layer denoising autoencoder with one hidden unit and a trained skip connection, in excess of the "
    "best rescaling of its input, on two Gaussian clusters at +-mu of variance 0.3. The line solves the saddle-point equations "
    "(the branch of lowest risk), points are networks trained on fresh samples; dashed is the Bayes-optimal denoiser, which "
    "knows the clusters."
)
OBSERVABLE = "test_mse_excess"
LEVELS, MEASURED = np.round(np.linspace(0.02, 0.98, 25), 3), (0.1, 0.3, 0.5, 0.7, 0.9)
REFERENCES = ("H. Cui, L. Zdeborova (2023), arXiv:2305.11041",)


def problem():
    """Two clusters at +-mu, |mu| = 1, one sample per dimension."""
    law = laws.mixture([0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=0.3)
    return DenoisingAutoencoder(law, alpha=1.0, noise=0.5, weight_decay=0.1)


def study(quick: bool = False, progress=None):
    """Theory over noise = 0.02 .. 0.98, and networks trained at five levels; a Dataset like a sweep's."""
    import xarray as xr

    from .. import __version__

    report = progress or (lambda done, total, what: None)
    dim, seeds = (400, 12) if quick else (1000, 24)
    here, levels = problem(), np.asarray(LEVELS)
    shape = len(levels)
    theory, oracle, mean, error = (np.full(shape, np.nan) for _ in range(4))
    trusted, trials = np.zeros(shape, bool), np.zeros(shape, int)
    for k, noise in enumerate(levels):
        report(k, shape, "solving and training")
        at = here.replace(noise=float(noise))
        solution = at.solve(init="global")
        theory[k], oracle[k] = float(solution[OBSERVABLE]), float(at.baselines()["oracle_mse_excess"])
        trusted[k] = solution.converged and solution.stable
        if noise not in MEASURED:
            continue
        estimate = at.simulate(dim, seeds=seeds)[OBSERVABLE]
        mean[k], error[k], trials[k] = float(estimate.mean), float(estimate.standard_error), seeds
    report(shape, shape, "done")
    columns = {
        OBSERVABLE: theory, f"{OBSERVABLE}_mean": mean, f"{OBSERVABLE}_se": error,
        f"{OBSERVABLE}_deviation": (mean - theory) / error, "oracle": oracle, "trusted": trusted, "trials": trials,
    }  # fmt: skip
    return xr.Dataset(
        {name: (("noise",), column) for name, column in columns.items()},
        {"noise": ("noise", levels, attributes("noise"))},
        {"quenched": __version__, "problem": "DenoisingAutoencoder", "parameters": json.dumps(repr(here)),
         "simulate": json.dumps({"dim": dim, "seeds": seeds}), "failed": ""},
    )  # fmt: skip


def check(data):
    """Deviations of the measured excess errors in standard errors."""
    return in_standard_errors(data, OBSERVABLE)


def plot(data, ax=None):
    """Theory, experiment, and the best that could be done."""
    ax = plotting.curve(data, OBSERVABLE, x="noise", ax=ax)
    ax.set_xscale("linear")
    ax.plot(data["noise"], data["oracle"], color="0.3", ls="--", lw=1.0, label="Bayes-optimal")
    ax.legend()
    return ax
