"""Denoising autoencoders: below which penalty anything is learnt."""

from __future__ import annotations

import numpy as np

from .. import laws, plotting
from ..problems import DenoisingAutoencoder
from .along import along
from .check import in_standard_errors

TITLE = "An autoencoder begins to learn"
CAPTION = (
    "Squared norm q = |w|^2/d of the hidden unit against the strength of the penalty, for two Gaussian clusters at +-mu of "
    "variance 0.1, one sample per dimension and a noise of 0.1. Above the threshold (dashed, from the linear stability of w = 0) "
    "the best answer is the rescaling alone; below it the unit grows continuously, from q = 0 at it. The line solves the "
    "saddle-point equations, points are trained networks."
)
OBSERVABLE = "q"
REFERENCES = ("H. Cui, L. Zdeborova (2023), arXiv:2305.11041",)
RATIOS, MEASURED = np.round(np.linspace(0.3, 1.2, 19), 3), (0.4, 0.6, 0.8)


def problem():
    """Two clusters at +-mu, |mu| = 1, of variance 0.1."""
    law = laws.mixture([0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=0.1)
    return DenoisingAutoencoder(law, alpha=1.0, noise=0.1, weight_decay=1.0)


def study(quick: bool = False, progress=None):
    """Theory over 0.3 .. 1.2 times the threshold (quick: 0.45 .. 1.1), at which w = 0, and networks trained at three penalties;
    a Dataset like a sweep's."""
    ratios, chosen = (RATIOS[3:17], (0.45, 0.6, 0.75)) if quick else (RATIOS, MEASURED)
    threshold = float(problem().trivial_threshold().weight_decay)
    values, measured, anchors = (threshold * ratios[np.isin(ratios, some)] for some in (ratios, chosen, (*chosen, 0.95)))
    size = {"dim": 300, "seeds": 6, "quadrature_tol": 1e-3, "anchors": anchors} if quick else {"dim": 1000, "seeds": 24}
    data = along(problem(), "weight_decay", values, measured, OBSERVABLE, known={threshold: 0.0}, progress=progress, **size)
    return data.assign_attrs(threshold=threshold)


def check(data):
    """Deviations of the measured norms in standard errors."""
    return in_standard_errors(data, OBSERVABLE)


def plot(data, ax=None):
    """Theory, experiment, and the threshold."""
    ax = plotting.curve(data, OBSERVABLE, x="weight_decay", ax=ax)
    ax.axvline(data.attrs["threshold"], color="0.3", ls="--", lw=1.0, label="threshold")
    ax.legend()
    return ax
