"""Denoising autoencoders on images: theory, Gaussian surrogate, and the images themselves."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from ..names import attributes
from ..problems import DenoisingAutoencoder
from .check import Check

TITLE = "An autoencoder denoises handwritten digits"
CAPTION = (
    "Mean square error in excess of the rescaling for handwritten ones and sevens (8 x 8 pixels, two samples per pixel), over the "
    "level of noise. The line is theory for two Gaussian clusters with the means and covariances of the two classes (hollow where "
    "replica symmetry is unstable and the theory approximate); circles are networks trained on samples of these Gaussians, "
    "squares on the images themselves and tested on other images. At d = 64 shifts of several per cent are to be expected."
)
OBSERVABLE = "test_mse_excess"
REFERENCES = ("H. Cui, L. Zdeborova (2023), arXiv:2305.11041",)
LEVELS, BETWEEN, CLASSES = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9), (0.15, 0.27, 0.42, 0.58, 0.72), (1, 7)
#: What the mean deviations may be, relative to the largest gain: of the surrogate, and of the images, which are not Gaussian.
SURROGATE, IMAGES = 0.05, 0.1


def study(quick: bool = False, progress=None):
    """All three at seven levels of noise (quick: experiments at three), and theory between them; a Dataset like a sweep's."""
    import xarray as xr
    from sklearn.datasets import load_digits

    from .. import __version__

    report, seeds = progress or (lambda done, total, what: None), 6 if quick else 40
    levels, trained, anchors = sorted(LEVELS + BETWEEN), LEVELS, LEVELS
    if quick:
        trained, anchors = LEVELS[::3], LEVELS[:1]
    X, y = load_digits(return_X_y=True)
    keep = np.isin(y, CLASSES)
    X, y = X[keep] / 16.0, y[keep]
    problem = DenoisingAutoencoder.from_data(X, y, alpha=2.0, noise=LEVELS[0], weight_decay=0.1)
    rows, solution = [], None
    for k, noise in enumerate(levels):
        report(k, len(levels), "solving and training")
        here, measured = problem.replace(noise=noise), (np.nan,) * 4
        solution = here.solve(init="global" if noise in anchors else solution, quadrature_tol=1e-3 if quick else None)
        if noise in trained:
            drawn, images = (t[OBSERVABLE] for t in (here.simulate(X.shape[1], seeds=seeds), here.train_on(X, y, seeds=seeds)))
            measured = (drawn.mean, drawn.standard_error, images.mean, images.standard_error)
        rows.append([solution[OBSERVABLE], solution.converged and solution.stable, *measured])
    report(len(levels), len(levels), "done")
    theory, trusted, mean, error, image, image_error = (np.array(column, float) for column in zip(*rows, strict=True))
    columns = {
        OBSERVABLE: theory, f"{OBSERVABLE}_mean": mean, f"{OBSERVABLE}_se": error, "images_mean": image, "images_se": image_error,
        f"{OBSERVABLE}_deviation": (mean - theory) / error, "trusted": trusted.astype(bool),
        "trials": np.where(np.isin(levels, trained), seeds, 0),
    }  # fmt: skip
    return xr.Dataset(
        {name: (("noise",), column) for name, column in columns.items()},
        {"noise": ("noise", np.array(levels), attributes("noise"))},
        {"quenched": __version__, "problem": "DenoisingAutoencoder",
         "parameters": json.dumps({"alpha": 2.0, "weight_decay": 0.1, "classes": CLASSES}),
         "simulate": json.dumps({"dim": X.shape[1], "seeds": seeds}), "failed": ""},
    )  # fmt: skip


def check(data):
    """The mean deviations of both, relative to the largest gain over the rescaling."""
    theory = data[OBSERVABLE]
    gain = float(np.abs(theory).max())
    surrogate, images = (float(np.abs(data[f"{name}_mean"] - theory).mean()) / gain for name in (OBSERVABLE, "images"))
    text = (
        f"the Gaussian surrogate lies {100 * surrogate:.1f}% from theory on average, the images {100 * images:.1f}%, "
        "relative to the largest gain"
    )
    rows = tuple(data[[OBSERVABLE, f"{OBSERVABLE}_mean", "images_mean"]].to_dataframe().dropna().reset_index().to_dict("records"))
    return Check(surrogate < SURROGATE and images < IMAGES, text, rows, "")


def plot(data, ax=None):
    """Theory, surrogate and images."""
    ax = plotting.axes(ax)
    blue, orange = plotting.COLOURS[:2]
    plotting.line(data["noise"], data[OBSERVABLE], data["trusted"], ax=ax, color=blue, label="theory")
    plotting.points(
        data["noise"], data[f"{OBSERVABLE}_mean"], data[f"{OBSERVABLE}_se"], ax=ax, color=blue, label="Gaussian surrogate"
    )
    plotting.points(data["noise"], data["images_mean"], data["images_se"], ax=ax, color=orange, fmt="s", label="images")
    ax.axhline(0.0, color="0.6", lw=0.8)
    ax.set_xlabel(plotting.label("noise"))
    ax.set_ylabel(plotting.label(OBSERVABLE))
    ax.legend()
    return ax
