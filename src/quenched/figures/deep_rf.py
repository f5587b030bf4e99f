"""Deep random features: two descents of ridge regression, and classification at three depths."""

from __future__ import annotations

import numpy as np

from .. import plotting
from ..laws import DeepNetwork
from ..problems import DeepFeatures
from .check import counted
from .lines import all_in_standard_errors, closed_form, lines, solved

TITLE = "Deep random features: where more samples hurt"
CAPTION = (
    "A readout is trained on frozen random tanh layers, each of 4 features per input dimension, on a target that a random sign "
    "layer of width 2d makes. Ridge regression, on two layers: test error (solid, filled) and training error (dashed, hollow) for "
    "several weight decays. With little of it the test error has a bump at n = d, where the directions that are linear in the "
    "inputs are resolved, and a peak at n = p = 4d, where the training error ceases to be zero (dotted: both places). Logistic "
    "regression: test error at weight decay 0.01, on two layers; at full size on one and on three too. Lines are averaged over "
    "all weights; points are readouts of actual networks."
)
REFERENCES = ("D. Schroeder, H. Cui, D. Dmitriev, B. Loureiro (2023), arXiv:2302.00401",)
OBSERVABLES = ("test_mse", "train_mse", "test_error")
WIDTH, TARGET_WIDTH, DECAYS, DECAY = 4.0, 2.0, (1e-4, 1e-3, 1e-2, 1e-1), 0.01
ALPHAS = np.geomspace(0.25, 16.0, 121)


def problem(depth: int = 2, loss: str = "square", weight_decay: float = DECAY):
    """A readout on ``depth`` tanh layers against one sign layer."""
    learner = DeepNetwork(width_ratios=[WIDTH] * depth, activations="tanh")
    target = DeepNetwork(width_ratios=[TARGET_WIDTH], activations="sign")
    return DeepFeatures(learner, target, loss, alpha=1.0, weight_decay=weight_decay)


def study(quick: bool = False, progress=None):
    """Theory over alpha = 0.25 .. 16, and readouts trained at some of them; a Dataset over line and alpha."""
    size = {"dim": 100, "seeds": 4, "test_samples": 1000} if quick else {"dim": 150, "seeds": 8, "test_samples": 4000}
    ridge = {_ridge(decay): problem(weight_decay=decay) for decay in DECAYS}
    logistic = {_depth(depth): problem(depth, "logistic") for depth in ((2,) if quick else (1, 2, 3))}
    theory = {**dict.fromkeys(ridge, closed_form), **dict.fromkeys(logistic, solved)}
    trained = [_ridge(decay) for decay in (DECAYS[::2] if quick else DECAYS)]
    at = {**dict.fromkeys(trained, (0.5, 1.4, 5.6) if quick else (0.5, 1.0, 2.0, 4.0, 8.0))}
    at |= dict.fromkeys(logistic, (0.5, 2.0) if quick else (0.5, 1.0, 2.0, 4.0))
    measured = {line: [ALPHAS[np.argmin(np.abs(ALPHAS - alpha))] for alpha in alphas] for line, alphas in at.items()}
    about = {"activation": "tanh", "widths": f"{WIDTH:g} d", "target": f"a sign layer of width {TARGET_WIDTH:g} d"}
    return lines({**ridge, **logistic}, theory, ALPHAS, measured, OBSERVABLES, about=about, progress=progress, **size)


def _ridge(decay):
    return f"ridge, weight decay {decay:g}"


def _depth(depth):
    return f"logistic, {counted(depth, 'layer')}"


def check(data):
    """Deviations of all measured errors in standard errors."""
    return all_in_standard_errors(data, OBSERVABLES)


def plot(data, ax=None):
    """Ridge on the left and classification on the right, or ridge alone on a given Axes."""
    other = None
    if ax is None:
        import matplotlib.pyplot as plt

        _, (ax, other) = plt.subplots(1, 2, figsize=(11.0, 4.4))
    for place in (1.0, WIDTH):
        ax.axvline(place, color="0.4", ls=":", lw=1.2)
    for decay, colour in zip(DECAYS, plotting.COLOURS, strict=False):
        part = data.sel(line=_ridge(decay))
        exponent = round(np.log10(decay))
        for name, style, marks in (("test_mse", "-", {}), ("train_mse", "--", {"mfc": "none"})):
            text = rf"$\lambda = 10^{{{exponent}}}$" if style == "-" else None
            plotting.line(part["alpha"], part[name], part["trusted"], ax=ax, color=colour, label=text, ls=style)
            plotting.points(part["alpha"], part[f"{name}_mean"], part[f"{name}_se"], ax=ax, color=colour, **marks)
    ax.set_xscale("log", base=2)
    ax.set_ylim(0.0, 1.1 * float(data["test_mse"].max()))
    ax.set_xlabel(plotting.label("alpha"))
    ax.set_ylabel("mean square error: test (solid), training (dashed)")
    ax.legend(loc="upper left")
    if other is not None:
        logistic = [line for line in data["line"].values if line.startswith("logistic")]
        for line, colour in zip(logistic, plotting.COLOURS, strict=False):
            part = data.sel(line=line)
            text = line.removeprefix("logistic, ")
            plotting.line(part["alpha"], part["test_error"], part["trusted"], ax=other, color=colour, label=text)
            plotting.points(part["alpha"], part["test_error_mean"], part["test_error_se"], ax=other, color=colour)
        other.set_xscale("log", base=2)
        other.set_xlabel(plotting.label("alpha"))
        other.set_ylabel(plotting.label("test_error"))
        for panel, text in ((ax, "ridge regression"), (other, "logistic regression")):
            panel.set_title(text, fontsize="medium")
        other.legend()
    return ax
