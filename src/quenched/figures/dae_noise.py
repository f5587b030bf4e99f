"""Denoising autoencoders: what is gained over the rescaling, against the level of noise."""

from __future__ import annotations

import numpy as np

from .. import laws, plotting
from ..problems import DenoisingAutoencoder
from .along import along
from .check import in_standard_errors

TITLE = "A denoising autoencoder over the level of noise"
CAPTION = (
    "Mean square error of a two-layer denoising autoencoder with one hidden unit and a trained skip connection, in excess of the "
    "best rescaling of its input, on two Gaussian clusters at +-mu of variance 0.3. The line solves the saddle-point equations "
    "(the branch of lowest risk; hollow where replica symmetry is unstable and the theory approximate), points are networks "
    "trained on fresh samples; dashed is the Bayes-optimal denoiser, which knows the clusters."
)
OBSERVABLE = "test_mse_excess"
LEVELS = np.round(np.linspace(0.02, 0.98, 25), 3)
REFERENCES = ("H. Cui, L. Zdeborova (2023), arXiv:2305.11041",)


def problem():
    """Two clusters at +-mu, |mu| = 1, one sample per dimension."""
    law = laws.mixture([0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=0.3)
    return DenoisingAutoencoder(law, alpha=1.0, noise=0.5, weight_decay=0.1)


def study(quick: bool = False, progress=None):
    """Theory over noise = 0.02 .. 0.98 (quick: 0.1 .. 0.9), and networks trained at five levels (quick: three); a Dataset like a
    sweep's."""
    levels, measured = (LEVELS[2:24:2], (0.18, 0.5, 0.82)) if quick else (LEVELS, (0.1, 0.3, 0.5, 0.7, 0.9))
    size = {"dim": 200, "seeds": 6, "quadrature_tol": 1e-3, "anchors": measured} if quick else {"dim": 1000, "seeds": 24}

    def oracle(at):
        return {"oracle": float(at.baselines()["oracle_mse_excess"])}

    return along(problem(), "noise", levels, measured, OBSERVABLE, progress=progress, extra=oracle, **size)


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
