"""Message passing: every iterate on single instances against state evolution."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from ..names import attributes
from ..problems import GeneralizedLinear
from .along import fixed
from .check import in_standard_errors

TITLE = "Message passing follows state evolution step by step"
CAPTION = (
    "Cosine of weights and teacher after every step of approximate message passing for logistic regression on sign "
    "labels. Lines are state evolution, the update of the saddle point itself; points are iterates on single data sets, "
    "averaged over seeds. Where the lines level off they have reached the minimiser of the risk."
)
OBSERVABLE = "cosine"
REFERENCES = ("S. Rangan (2011), arXiv:1010.5141", "M. Bayati, A. Montanari (2011), arXiv:1001.3448")
ALPHAS, STEPS = (0.5, 2.0, 6.0), 12


def study(quick: bool = False, progress=None):
    """State evolution and instances at three sample sizes; a Dataset like a sweep's."""
    import xarray as xr

    from .. import __version__

    report = progress or (lambda done, total, what: None)
    dim, seeds = (600, 8) if quick else (4000, 16)
    problem = GeneralizedLinear("logistic", target="sign", alpha=1.0, weight_decay=0.1)
    theory, runs = [], []
    for row, alpha in enumerate(ALPHAS):
        report(row, len(ALPHAS), "passing messages")
        here = problem.replace(alpha=alpha)
        theory.append(_cosines(here.state_evolution(STEPS)))
        passed = [here.amp(dim, seed, test_samples=1) for seed in range(seeds)]
        runs.append([_padded(_cosines(one.overlaps)) for one in passed])
    report(len(ALPHAS), len(ALPHAS), "done")
    theory, runs = np.array(theory), np.array(runs)
    mean, error = runs.mean(axis=1), runs.std(axis=1, ddof=1) / np.sqrt(seeds)
    columns = {
        OBSERVABLE: theory, f"{OBSERVABLE}_mean": mean, f"{OBSERVABLE}_se": error,
        f"{OBSERVABLE}_deviation": (mean - theory) / error,
        "trials": np.full(theory.shape, seeds), "trusted": np.ones(theory.shape, bool),
    }  # fmt: skip
    return xr.Dataset(
        {name: (("alpha", "step"), column) for name, column in columns.items()},
        {"alpha": ("alpha", list(ALPHAS), attributes("alpha")),
         "step": ("step", np.arange(STEPS + 1), attributes("step"))},
        {"quenched": __version__, "problem": "GeneralizedLinear",
         "parameters": fixed(problem, "alpha"),
         "simulate": json.dumps({"dim": dim, "seeds": seeds}), "failed": ""},
    )  # fmt: skip


def _cosines(overlaps) -> np.ndarray:
    """The cosine of weights and a teacher of unit variance at every step."""
    return overlaps["theta"] / np.sqrt(overlaps["q"])


def _padded(steps) -> np.ndarray:
    """The first iterates; a run that converged earlier stays where it is."""
    return np.append(steps, np.full(STEPS + 1, steps[-1]))[: STEPS + 1]


def check(data):
    """Deviations of the iterates in standard errors."""
    return in_standard_errors(data, OBSERVABLE)


def plot(data, ax=None):
    """One colour for each sample size."""
    return plotting.curve(data, OBSERVABLE, x="step", ax=ax)
