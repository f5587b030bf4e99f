"""One large gradient step: what it does to the spectrum of the features."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np

from .. import plotting
from ..problems import OneGradientStep
from .check import Check, counted

TITLE = "One large gradient step: the spectrum of the features"
CAPTION = (
    "Eigenvalues of the second moments Phi' Phi / n of p = d features, before and after one full-batch gradient step on the first "
    "layer (steps are learning rates of the loss over p). First panel: tanh, target sin, all neurons have one initial readout; a "
    "step of 3 on 20 samples per dimension, n = 1.6 d samples of the features. Second: relu, target tanh(x) + (x^2 - 1)/2, two "
    "halves of the neurons have the initial readouts 1 and -1; a step of 1.5 with the population's gradient, n = 2 d. Histograms "
    "are of actual networks after the actual step; lines are the limiting density of the bulk, in the logarithm of the "
    "eigenvalue. Triangles mark eigenvalues outside of the bulk: filled as measured, hollow (under them, and in brackets) as "
    "predicted at this p, to which they are proportional. There are as many as neurons make different functions of the inputs "
    "along the spike: none before the step for tanh and one for relu, whose features have a mean; one and two after it."
)
REFERENCES = (
    "Y. Dandi et al. (2024), arXiv:2410.18938", "H. Cui et al. (2024), arXiv:2402.04980", "J. Ba et al. (2022), arXiv:2205.01445"
)  # fmt: skip
def mixed(x):
    return jnp.tanh(x) + 0.5 * (x**2 - 1.0)


#: Parameters that the two sides do not share; the spectrum before the step is that of learning rate 0.
SIDES = {
    "tanh, one readout": {"activation": "tanh", "target": "sin", "learning_rate": 3.0, "alpha0": 20.0, "alpha": 1.6},
    "relu, two readouts": {
        "activation": "relu", "target": mixed, "learning_rate": 1.5, "alpha0": np.inf, "alpha": 2.0, "readout_values": (1.0, -1.0)
    },
}  # fmt: skip
BINS, POINTS, MOST = 40, 160, 3
#: How far a bulk may be from its limit (Kolmogorov and Smirnov), and an outlier from its place: a share of it, or standard
#: errors.
DISTANCE, AWAY, ERRORS = 0.02, 0.03, 2.0


def problem(side: str, after: bool = True):
    """Features of p = d neurons, after the step or before it."""
    made = OneGradientStep(width_ratio=1.0, weight_decay=0.1, **SIDES[side])
    return made if after else made.replace(learning_rate=0.0)


def layer(problem, dim: int, seed: int):
    """A first layer of ``problem`` in this dimension, after its step."""
    from ..finite.one_step import Training, first_layer

    training = Training(
        problem.activation, problem.target, 1, np.asarray(problem.readout_values), problem.law.groups,
        float(problem.learning_rate), float(problem.alpha0), 1.0, 0.0,
    )  # fmt: skip
    return first_layer(training, dim, seed)


def study(quick: bool = False, progress=None):
    """Densities, histograms, distances and outliers of four spectra, (side, step); a Dataset."""
    import xarray as xr

    from .. import __version__
    from ..finite.one_step import feature_eigenvalues

    report = progress or (lambda done, total, what: None)
    dim, networks = (300, 4) if quick else (1000, 4)
    shape, steps = (len(SIDES), 2), ("before", "after")
    inner = {"eigenvalue": (BINS + 1,), "counted": (BINS,), "density_x": (POINTS,), "density": (POINTS,)}
    inner |= {"distance": (), "edge": ()}
    columns = {name: np.full((*shape, *size), np.nan) for name, size in inner.items()}
    columns |= {name: np.full((*shape, MOST), np.nan) for name in ("outlier", "outlier_mean", "outlier_se")}
    for row, side in enumerate(SIDES):
        for column, step in enumerate(steps):
            case = problem(side, step == "after")
            report(2 * row + column, 4, f"{side}, {step} the step: theory")
            limit = case.feature_density(60 if quick else 300)
            beyond = case.outliers(dim, limit.edges[-1, 1])
            found = []
            for seed in range(networks):
                report(2 * row + column, 4, f"{side}, {step} the step: network {seed + 1} of {networks}")
                found.append(feature_eigenvalues(layer(case, dim, seed), case.activation, round(case.alpha * dim), seed))
            found, count = np.array(found), len(beyond)
            bulk = found[:, count:].ravel()
            for name, value in _histogram(bulk, limit).items():
                columns[name][row, column] = value
            columns["distance"][row, column] = limit.distance(bulk)
            columns["edge"][row, column] = limit.edges[-1, 1]
            columns["outlier"][row, column, :count] = [one.position for one in beyond]
            columns["outlier_mean"][row, column, :count] = found[:, :count].mean(0)
            columns["outlier_se"][row, column, :count] = found[:, :count].std(0, ddof=1) / np.sqrt(networks)
    report(4, 4, "done")
    names = {"eigenvalue": "bound", "counted": "bin", "density_x": "point", "density": "point"}
    names |= dict.fromkeys(("outlier", "outlier_mean", "outlier_se"), "index")
    return xr.Dataset(
        {name: (("side", "step", *([names[name]] if name in names else [])), column) for name, column in columns.items()},
        {"side": ("side", list(SIDES)), "step": ("step", list(steps))},
        {"quenched": __version__, "problem": "OneGradientStep", "failed": "",
         "parameters": json.dumps({"width_ratio": 1.0}),
         "simulate": json.dumps({"dim": dim, "seeds": networks})},
    )  # fmt: skip


def _histogram(bulk, limit) -> dict:
    """Eigenvalues counted in bins of the logarithm, and the limiting density of it."""
    ends = np.log([min(bulk.min(), limit.edges[0, 0]), max(bulk.max(), limit.edges[-1, 1])])
    bins, x = np.linspace(*ends, BINS + 1), np.exp(np.linspace(*ends, POINTS + 1))
    return {
        "eigenvalue": np.exp(bins), "counted": np.histogram(np.log(bulk), bins)[0] / (len(bulk) * np.diff(bins)),
        "density_x": np.sqrt(x[1:] * x[:-1]), "density": np.diff(limit.cdf(x)) / np.diff(np.log(x)),
    }  # fmt: skip


def _outliers(data):
    """Predicted and measured outliers, one dict each."""
    for side in data["side"].values:
        for step in data["step"].values:
            part = data.sel(side=side, step=step)
            for theory, mean, error in zip(*(part[n].values for n in ("outlier", "outlier_mean", "outlier_se")), strict=True):
                if np.isfinite(theory):
                    yield {"side": str(side), "step": str(step), "theory": float(theory), "mean": float(mean),
                           "standard error": float(error), "deviation": float((mean - theory) / error)}  # fmt: skip


def check(data):
    """Bulks by their distance from the limit; outliers by their places."""
    rows = tuple(_outliers(data))
    placed = [abs(r["mean"] - r["theory"]) <= max(AWAY * r["theory"], ERRORS * r["standard error"]) for r in rows]
    distances = data["distance"].values.ravel()
    text = (
        f"cumulative spectra without {counted(len(rows), 'predicted outlier')} lie within {distances.max():.2g} of their limits "
        f"(Kolmogorov and Smirnov; {', '.join(f'{v:.2g}' for v in distances)}); outliers at "
        + ", ".join(f"{r['mean']:.4g} (+- {r['standard error']:.2g}, theory {r['theory']:.4g})" for r in rows)
    )
    return Check(bool(rows) and all(placed) and distances.max() < DISTANCE, text, rows, data.attrs["failed"])


def plot(data, ax=None):
    """Both sides, or the left one on a given Axes."""
    axes = [ax]
    if ax is None:
        import matplotlib.pyplot as plt

        _, axes = plt.subplots(1, 2, figsize=(11.0, 4.4), sharey=True)
    size = json.loads(data.attrs["simulate"])["dim"]
    for panel, side in zip(axes, SIDES, strict=False):
        part = data.sel(side=side)
        top = 1.25 * float(data["counted"].max())
        for step, colour, up in zip(data["step"].values, ("0.4", plotting.COLOURS[0]), (0.3, 0.0), strict=True):
            one = part.sel(step=step)
            text = rf"{step} the step, KS ${float(one['distance']):.3f}$"
            panel.stairs(one["counted"], one["eigenvalue"], color=colour, alpha=0.25, fill=True)
            plotting.line(one["density_x"], one["density"], ax=panel, color=colour, label=text)
            for theory, mean, error in zip(*(one[n].values for n in ("outlier", "outlier_mean", "outlier_se")), strict=True):
                if np.isfinite(theory):
                    panel.plot(theory, (0.05 + up) * top, "^", mfc="none", mec=colour)
                    panel.errorbar(mean, (0.11 + up) * top, xerr=error, fmt="v", color=colour, capsize=2)
                    panel.text(mean, (0.15 + up) * top, f"{mean:.0f}\n({theory:.0f})", ha="center", va="bottom", fontsize="small")
        panel.set_xscale("log")
        panel.set_xlim(right=3.0 * np.nanmax(data["outlier"]))
        panel.set_ylim(0.0, top)
        panel.set_xlabel(r"eigenvalue $x$ of $\Phi^\top\Phi/n$")
        panel.set_title(f"{side}, $p = d = {size}$", fontsize="medium")
        panel.legend(loc="upper left")
    axes[0].set_ylabel(r"density of its logarithm, $x\,\rho(x)$")
    axes[-1].set_ylabel(r"density of its logarithm, $x\,\rho(x)$")
    return axes[0]
