"""Learning curves of generalised linear models: losses on the same sign labels."""

from __future__ import annotations

import numpy as np

from .. import plotting
from ..problems import GeneralizedLinear
from ..studies import sweep
from .check import in_standard_errors

TITLE = "Losses on the labels of a linear teacher"
CAPTION = (
    "Probability of a wrong label against the number of samples per dimension, for logistic regression, the hinge loss and, at "
    "full size, least squares, trained on y = sign(w_*.x) with a small penalty. Lines solve the saddle-point equations; "
    "points are models trained on fresh samples."
)
OBSERVABLE, LOSSES = "test_error", ["square", "logistic", "hinge"]
REFERENCES = ("B. Loureiro et al. (2021), arXiv:2102.08127", "H. Cui (2024), arXiv:2409.13904")


def study(quick: bool = False, progress=None):
    """Theory over alpha = 0.2 .. 10 for three losses (quick: two), and experiments at every eighth size (quick: thirteenth)."""
    problem = GeneralizedLinear("square", target="sign", alpha=1.0, weight_decay=0.05)
    over = {"loss": LOSSES[1:] if quick else LOSSES, "alpha": np.geomspace(0.2, 10.0, 41)}
    simulate = {"dim": 200, "seeds": 6, "every": 13, "test_samples": 2000} if quick else {"dim": 1000, "seeds": 16, "every": 8}
    return sweep(problem, over, simulate, progress=progress)


def check(data):
    """Deviations of the measured points in standard errors."""
    return in_standard_errors(data, OBSERVABLE)


def plot(data, ax=None):
    """One colour for each loss."""
    return plotting.curve(data, OBSERVABLE, x="alpha", ax=ax)
