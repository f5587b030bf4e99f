"""A loss that is not convex: phase retrieval near the signal."""

from __future__ import annotations

import numpy as np

from .. import plotting
from ..problems import PhaseRetrieval
from ..studies import sweep
from .check import in_standard_errors

TITLE = "Phase retrieval: the minimum near the signal"
CAPTION = (
    "Test mean square of h^2 against the number of samples per dimension, for a signal seen through its square and noise. The "
    "loss is not convex: lines are the informed branch of the saddle point, points are models trained from the signal itself, "
    "in one of whose two signs they end."
)
OBSERVABLE = "test_mse"
REFERENCES = ("H. Cui (2024), arXiv:2409.13904",)


def study(quick: bool = False, progress=None):
    """The informed branch over alpha = 2.5 .. 8 at two noise levels (quick: one), and experiments at every fourth size."""
    problem = PhaseRetrieval(alpha=3.0, weight_decay=0.2, noise=0.04)
    over = {"noise": [0.04] if quick else [0.04, 0.16], "alpha": np.geomspace(2.5, 8.0, 9 if quick else 17)}
    simulate = {"dim": 250, "seeds": 6} if quick else {"dim": 1000, "seeds": 16}
    simulate |= {"init": "informed", "every": {"alpha": 4}}
    return sweep(problem, over, simulate, progress=progress, init="informed", quadrature_tol=1e-3 if quick else None)


def check(data):
    """Deviations of the measured points in standard errors."""
    return in_standard_errors(data, OBSERVABLE)


def plot(data, ax=None):
    """One colour for each noise level."""
    return plotting.curve(data, OBSERVABLE, x="alpha", ax=ax, log="y")
