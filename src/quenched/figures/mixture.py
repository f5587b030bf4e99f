"""How much regularisation: classifying two Gaussian clusters, against the strength of the penalty."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from .. import laws, plotting
from ..problems import MixtureClassification
from ..studies import sweep
from .check import in_standard_errors

TITLE = "How much regularisation? Two Gaussian clusters"
CAPTION = (
    "Probability of a wrong label against the strength of the penalty, for two balanced clusters with opposite means "
    "of norm one and unit covariance, at one sample per dimension. A stronger penalty is always better here: all "
    "losses approach the plain average of the labelled samples, which is optimal (dashed)."
)
OBSERVABLE = "test_error"
REFERENCES = ("F. Mignacco et al. (2020), arXiv:2002.11544", "B. Loureiro et al. (2021), arXiv:2106.03791")
ALPHA, LOSSES = 1.0, ["square", "logistic", "hinge"]


def problem():
    """Least squares on two balanced clusters with means +-mu, |mu| = 1, and unit covariance."""
    law = laws.mixture(weights=[0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=[1.0, 1.0], labels=[-1, 1])
    return MixtureClassification("square", law, alpha=ALPHA, weight_decay=1.0)


def study(quick: bool = False, progress=None):
    """Theory over weight_decay = 0.01 .. 100 for three losses (quick: two), and experiments at every eighth strength (quick:
    thirteenth)."""
    over = {"loss": LOSSES[:2] if quick else LOSSES, "weight_decay": np.geomspace(0.01, 100.0, 41)}
    simulate = {"dim": 1000, "seeds": 16, "every": 8}
    if quick:
        simulate = {"dim": 200, "seeds": 6, "every": 13, "test_samples": 2000}
    return sweep(problem(), over, simulate, progress=progress)


def bayes_error(alpha: float, norm_of_mean: float = 1.0) -> float:
    """The smallest error that n = alpha d samples of two balanced clusters with means +-mu of unit covariance allow.

    The average of ``label * x`` is the optimal direction; its cosine with mu is sqrt(s / (1 + s)), s = alpha |mu|^2.
    Source: F. Mignacco et al. (2020), arXiv:2002.11544.

    >>> round(bayes_error(1.0), 4)
    0.2398
    """
    signal = alpha * norm_of_mean**2
    return float(norm.cdf(-norm_of_mean * np.sqrt(signal / (1.0 + signal))))


def check(data):
    """Deviations of the measured points in standard errors."""
    return in_standard_errors(data, OBSERVABLE)


def plot(data, ax=None):
    """One colour for each loss, and the smallest possible error dashed."""
    ax = plotting.curve(data, OBSERVABLE, x="weight_decay", ax=ax)
    ax.axhline(bayes_error(ALPHA), color="0.3", ls="--", lw=1.0, label="optimal")
    ax.legend()
    return ax
