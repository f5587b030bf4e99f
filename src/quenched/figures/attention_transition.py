"""Attention: the transition from positional to semantic learning."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from ..names import attributes
from ..problems import Attention, follow
from .along import fixed
from .check import in_standard_errors

TITLE = "Attention learns by position, then by meaning"
CAPTION = (
    "A tied rank-one attention layer learns a target that mixes both (positional share 0.3, two tokens of standard deviation "
    "0.5). First panel: the energy of the semantic branch minus that of the positional one. Second: overlap with the encodings "
    "(m) and with the target (theta/sigma^2) on each branch. Third: test errors, with the best linear positional attention "
    "(dashed). Lines are replica-symmetric theory, hollow where its proximal operator has several minima in more than 1% of the "
    "samples; points are layers trained from the start of each branch, less what their encodings add at this size."
)
OBSERVABLE = "test_mse"
REFERENCES = ("H. Cui, F. Behrens, F. Krzakala, L. Zdeborova (2024), arXiv:2402.03902",)
BRANCHES, DOUBT = ("positional", "semantic"), 1e-2
NAMES = ("test_mse", "free_energy", "overlap")


def problem():
    """The page's own parameters."""
    return Attention(1.5, 0.01, 0.3, [[0.6, 0.4], [0.4, 0.6]], token_std=0.5)


def _numbers(solution, branch):
    overlap = solution["m"][0] if branch == "positional" else solution["theta"][0] / float(solution.problem.variances[0])
    return np.array([float(solution["test_mse"]), float(solution["free_energy"]), float(overlap)])


def study(quick: bool = False, progress=None):
    """Both branches over alpha = 0.9 .. 2.2, followed downwards, and layers trained at four sizes; a Dataset like a sweep's."""
    import xarray as xr

    from .. import __version__

    report = progress or (lambda done, total, what: None)
    dim, seeds = (300, 6) if quick else (1000, 24)
    alphas = np.round(np.linspace(2.2, 0.9, 14), 3)[:: 2 if quick else 1]
    here, measured = problem(), (2.0, 1.2) if quick else (2.0, 1.6, 1.2)
    shape = (len(BRANCHES), len(alphas), len(NAMES))
    theory, mean, error = (np.full(shape, np.nan) for _ in range(3))
    trusted, trials = np.zeros(shape[:2], bool), np.zeros(shape[:2], int)
    for row, branch in enumerate(BRANCHES):
        report(row, len(BRANCHES), f"the {branch} branch")
        found = follow(here, "alpha", alphas, branch, quadrature_tol=0.05)
        for column, alpha in enumerate(alphas):
            solution = found.get(float(alpha))
            if solution is None or solution.branch != branch:
                continue
            theory[row, column] = _numbers(solution, branch)
            trusted[row, column] = solution.residual < 1e-6 and float(solution["bistable_mass"]) < DOUBT
            if alpha not in measured:
                continue
            report(row, len(BRANCHES), f"training at alpha = {alpha:g}")
            runs = solution.problem.simulate(dim, seeds=seeds, init=branch)
            shift = solution.problem.encoding_shift(solution, dim)
            done = np.array([status == "converged" for status in runs.status])
            overlap = runs.values["m"][:, 0] if branch == "positional" else runs.values["theta"][:, 0] / 0.25
            errors = [runs.values[name] - shift[name] for name in ("test_mse", "free_energy")]
            values = np.stack([*errors, overlap])[:, done]
            mean[row, column], error[row, column] = values.mean(1), values.std(1, ddof=1) / np.sqrt(done.sum())
            trials[row, column] = done.sum()
    report(len(BRANCHES), len(BRANCHES), "done")
    columns = {"trusted": trusted, "trials": trials}
    for k, name in enumerate(NAMES):
        columns |= {
            name: theory[..., k], f"{name}_mean": mean[..., k], f"{name}_se": error[..., k],
            f"{name}_deviation": (mean - theory)[..., k] / error[..., k],
        }  # fmt: skip
    return xr.Dataset(
        {name: (("branch", "alpha"), column) for name, column in columns.items()},
        {"branch": ("branch", list(BRANCHES)), "alpha": ("alpha", alphas, attributes("alpha"))},
        {"quenched": __version__, "problem": "Attention", "parameters": fixed(here, "alpha"),
         "simulate": json.dumps({"dim": dim, "seeds": seeds}), "failed": "", "linear": here.linear_attention_mse()},
    )  # fmt: skip


def check(data):
    """Deviations of the measured test errors in standard errors."""
    return in_standard_errors(data, OBSERVABLE)


def plot(data, ax=None):
    """Three panels, or the test errors alone on a given Axes."""
    if ax is None:
        import matplotlib.pyplot as plt

        figure, panels = plt.subplots(1, 3, figsize=(11.0, 3.4))
        gap = data["free_energy"].sel(branch="semantic") - data["free_energy"].sel(branch="positional")
        parts = [data[f"free_energy_{part}"] for part in ("mean", "se")]
        measured = parts[0].sel(branch="semantic") - parts[0].sel(branch="positional")
        error = np.hypot(*(parts[1].sel(branch=b) for b in BRANCHES))
        both = data["trusted"].all("branch")
        plotting.line(data["alpha"], 1e4 * gap, both, ax=panels[0], color=plotting.COLOURS[2])
        plotting.points(data["alpha"], 1e4 * measured, 1e4 * error, ax=panels[0], color=plotting.COLOURS[2])
        panels[0].axhline(0.0, color="0.6", lw=0.8)
        panels[0].set_ylabel(r"$10^4\,(e_\mathrm{sem} - e_\mathrm{pos})$")
        _branches(data, "overlap", panels[1], (r"$m$, positional", r"$\theta/\sigma^2$, semantic"))
        panels[1].set_ylabel("overlap")
        for panel in panels[:2]:
            panel.set_xlabel(plotting.label("alpha"))
        ax = panels[2]
    _branches(data, "test_mse", ax, BRANCHES)
    ax.axhline(data.attrs["linear"], color="0.3", ls="--", lw=1.0, label="linear")
    ax.set_xlabel(plotting.label("alpha"))
    ax.set_ylabel(plotting.label("test_mse"))
    ax.legend()
    return ax


def _branches(data, name, ax, labels):
    for branch, text, colour in zip(BRANCHES, labels, plotting.COLOURS, strict=False):
        part = data.sel(branch=branch)
        plotting.line(part["alpha"], part[name], part["trusted"], ax=ax, color=colour, label=text)
        plotting.points(part["alpha"], part[f"{name}_mean"], part[f"{name}_se"], ax=ax, color=colour)
    ax.legend()
