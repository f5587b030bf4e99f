"""Rainbow networks: frozen weights with a structure, and what it does to learning curves and spectra."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from ..laws import DeepNetwork
from ..names import attributes
from ..numerics.density import spectral_density
from ..problems import DeepFeatures
from .check import Check
from .lines import all_in_standard_errors

TITLE = "Rainbow networks: structured weights"
CAPTION = (
    "Ridge regression (weight decay 0.02, noise 0.1) on two frozen layers, tanh and erf, of widths 1.25d and 1.125d. The target "
    "is a random sign layer whose weights have variance 1.9 on half of the inputs and 0.1 on the others. First panel: test error "
    "against the number of samples, where the first layer's weights are aligned (the same variances), unstructured (variance 1), "
    "or misaligned (0.1 and 1.9). Solid: averaged over the weights, dashed: for the weights of one network, points: readouts of "
    "that network. The two theories are close, and a layer that looks where the target looks needs about half the samples of an "
    "unstructured one. Second: eigenvalues of the sample covariance of the network's features, n = 2p, as histograms in the "
    "logarithm, and the limiting densities; misaligned features have the spectrum of aligned ones."
)
OBSERVABLE = "test_mse"
REFERENCES = (
    "D. Schroeder, D. Dmitriev, H. Cui, B. Loureiro (2024), arXiv:2402.13999",
    "F. Guth, B. Menard, G. Rochette, S. Mallat (2023), arXiv:2305.18512",
)
RATIOS, TARGET = (1.25, 1.125), (1.9, 0.1)
STRUCTURES = {"aligned": TARGET, "unstructured": (1.0, 1.0), "misaligned": TARGET[::-1]}
RATIO = np.geomspace(0.25, 16.0, 61)  # samples per input dimension
#: The largest difference of cumulative spectra, in units of 1 / p: those of finite networks approach the limit at this rate.
DISTANCE = 10.0


def problem(dim: int, structure: str = "aligned"):
    """Two layers, against one; the rows of both first layers have one variance for each half of the inputs."""
    rows, target_rows = (np.tile(pair, dim // 2) for pair in (STRUCTURES[structure], TARGET))
    widths = (dim, *(round(ratio * dim) for ratio in RATIOS))
    learner = DeepNetwork(widths, ("tanh", "erf"), weight_covariances=[rows, None])
    target = DeepNetwork((dim, widths[-1]), "sign", weight_covariances=[target_rows])
    return DeepFeatures(learner, target, "square", alpha=1.0, weight_decay=0.02, noise=0.1)


def study(quick: bool = False, progress=None):
    """Averaged and given weights over n = d/4 .. 16 d, readouts trained at some sizes, and spectra; a Dataset of both."""
    import xarray as xr

    from .. import __version__

    report = progress or (lambda done, total, what: None)
    dim, seeds, tests = (200, 4, 1000) if quick else (300, 10, 4000)
    sizes = np.rint(RATIO * dim).astype(int)
    measured = sizes[[20, 40]] if quick else sizes[[0, 10, 20, 30, 40, 50]]
    shape, bins, points = (len(STRUCTURES), len(sizes)), 25, 128
    names = ("test_mse", "test_mse_averaged", "test_mse_mean", "test_mse_se")
    columns = {name: np.full(shape, np.nan) for name in names}
    columns |= {"trusted": np.ones(shape, bool), "trials": np.zeros(shape, int)}
    spectra = {"eigenvalue": (bins + 1,), "counted": (bins,), "density_x": (points,), "density": (points,), "distance": ()}
    spectra = {name: np.full((len(STRUCTURES), *inner), np.nan) for name, inner in spectra.items()}
    for row, structure in enumerate(STRUCTURES):
        report(row, len(STRUCTURES), f"{structure}, theory")
        averaged = problem(dim, structure)
        given = averaged.instance(seed=0)
        columns["test_mse_averaged"][row] = averaged.ridge(alpha=sizes / dim).test_mse
        columns["test_mse"][row] = given.ridge(alpha=sizes / dim).test_mse
        for n in measured:
            report(row, len(STRUCTURES), f"{structure}, training at n = {n}")
            trials = given.replace(alpha=n / dim).simulate(dim, seeds=seeds, test_samples=tests)
            estimate, column = trials[OBSERVABLE], int(np.flatnonzero(sizes == n)[0])
            columns["test_mse_mean"][row, column], columns["test_mse_se"][row, column] = estimate.mean, estimate.standard_error
            columns["trials"][row, column] = int(trials.converged.sum())
        report(row, len(STRUCTURES), f"{structure}, spectrum")
        for name, value in _spectrum(averaged, given.learner, bins, points).items():
            spectra[name][row] = value
    report(len(STRUCTURES), len(STRUCTURES), "done")
    columns["test_mse_deviation"] = (columns["test_mse_mean"] - columns["test_mse"]) / columns["test_mse_se"]
    table = {name: (("line", "n_samples"), column) for name, column in columns.items()}
    inner = {"eigenvalue": ("edge",), "counted": ("bin",), "density_x": ("point",), "density": ("point",), "distance": ()}
    table |= {name: (("line", *inner[name]), column) for name, column in spectra.items()}
    about = {"widths": list(problem(dim).learner.widths[1:]), "weight_decay": 0.02, "noise": 0.1}
    return xr.Dataset(
        table,
        {"line": ("line", list(STRUCTURES)), "n_samples": ("n_samples", sizes, attributes("n_samples"))},
        {"quenched": __version__, "problem": "DeepFeatures", "parameters": json.dumps(about),
         "simulate": json.dumps({"dim": dim, "seeds": seeds}), "failed": ""},
    )  # fmt: skip


def _spectrum(averaged, network, bins, points) -> dict:
    """Eigenvalues of the sample covariance of n = 2 p feature vectors, counted in bins of the logarithm, and the density."""
    p = network.widths[-1]
    x = np.random.default_rng(0).standard_normal((2 * p, network.dim))
    phi = network(x)
    eigenvalues = np.linalg.eigvalsh(phi.T @ phi / len(phi))
    law = spectral_density(averaged.law.chain, 0.5, points=points)
    log = np.linspace(*np.log(law.edges[[0, -1], [0, 1]]), bins + 1)
    x = np.exp(np.linspace(log[0], log[-1], points + 1))
    share = np.diff(law.cdf(x)) / np.diff(np.log(x))  # the density in the logarithm, across gaps too
    counted = np.histogram(np.log(eigenvalues), log)[0] / (p * np.diff(log))
    return {
        "eigenvalue": np.exp(log), "counted": counted, "density_x": np.sqrt(x[1:] * x[:-1]), "density": share,
        "distance": law.distance(eigenvalues),
    }  # fmt: skip


def check(data):
    """Readouts against the theory of their own network, and spectra against their limits."""
    verdict = all_in_standard_errors(data, (OBSERVABLE,))
    gap = float(np.abs(data["test_mse_averaged"] / data["test_mse"] - 1.0).max())
    distance = float(data["distance"].max()) * json.loads(data.attrs["parameters"])["widths"][-1]
    text = (
        f"{verdict.text}; averaged and given weights differ by up to {100 * gap:.1f}%; "
        f"cumulative spectra differ from their limits by at most {distance:.1f} of their p eigenvalues"
    )
    return Check(verdict.passed and distance < DISTANCE, text, verdict.rows, verdict.failed)


def plot(data, ax=None):
    """Learning curves and spectra, or the curves alone on a given Axes."""
    other = None
    if ax is None:
        import matplotlib.pyplot as plt

        _, (ax, other) = plt.subplots(1, 2, figsize=(11.0, 4.4))
    for structure, colour in zip(data["line"].values, plotting.COLOURS, strict=False):
        part = data.sel(line=structure)
        n = part["n_samples"]
        plotting.line(n, part["test_mse_averaged"], ax=ax, color=colour, label=structure)
        plotting.line(n, part["test_mse"], part["trusted"], ax=ax, color=colour, ls="--")
        plotting.points(n, part["test_mse_mean"], part["test_mse_se"], ax=ax, color=colour)
        if other is not None and structure != "misaligned":  # which has the spectrum of the aligned one
            other.stairs(part["counted"], part["eigenvalue"], color=colour, alpha=0.3, fill=True)
            plotting.line(part["density_x"], part["density"], ax=other, color=colour, label=structure)
    for style, text in (("-", "averaged"), ("--", "one network")):
        ax.plot([], [], color="0.3", ls=style, label=text)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ticks = [0.5, 0.7, 1.0, 1.4, 2.0]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_yticks([], minor=True)
    ax.set_xlabel(plotting.label("n_samples"))
    ax.set_ylabel(plotting.label(OBSERVABLE))
    ax.legend()
    if other is not None:
        other.set_xscale("log")
        other.set_ylim(0.0, 1.3 * float(data["counted"].max()))
        other.set_xlabel(r"eigenvalue $x$ of the sample covariance")
        other.set_ylabel(r"density of its logarithm, $x\,\rho(x)$")
        other.legend(loc="upper right")
    return ax
