"""Depth as a ridge: random layers regularise the readout, for better at the peaks, for worse at the best weight decay."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from .. import plotting
from ..laws import DeepNetwork
from ..problems import DeepFeatures
from .check import counted
from .lines import all_in_standard_errors, closed_form, lines

TITLE = "Depth regularises"
CAPTION = (
    "Ridge regression on the last of 1, 2, 3, 4 or 6 frozen random layers of width 4d (the more layers the lighter), on a target "
    "of one random sign layer. First two panels: test error at a weight decay of 0.001, for a clipped linear activation and for "
    "tanh. Every layer adds noise that is not linear in the inputs, and acts as a ridge: with depth the bump at n = d of the "
    "clipped layers shrinks, and the interpolation peak at n = p = 4d of tanh vanishes; but the peak of the clipped ones grows, "
    "and so does the bump of tanh (dotted: both places). Third panel: the best weight decay, which falls with the depth of tanh "
    "layers (dashed), since their own noise does part of its work, and rises with that of clipped ones (solid) where samples are "
    "few. Fourth panel: the error at the best weight decay, where depth only hurts. Lines are averaged over all weights, points "
    "are readouts of actual networks."
)
REFERENCES = ("D. Schroeder, H. Cui, D. Dmitriev, B. Loureiro (2023), arXiv:2302.00401",)
WIDTH, DECAY, DEPTHS = 4.0, 1e-3, (1, 2, 3, 4, 6)
ALPHAS = np.geomspace(0.25, 16.0, 97)


def clipped(x):
    """``1.1 sign(x) min(|x|, 2)``, linear but for its tails."""
    return 1.1 * jnp.sign(x) * jnp.minimum(jnp.abs(x), 2.0)


ACTIVATIONS = {"clipped": clipped, "tanh": "tanh"}


def problem(activation: str = "tanh", depth: int = 1):
    """Ridge regression on ``depth`` random layers of width 4d, against one sign layer of width 4d."""
    learner = DeepNetwork(width_ratios=[WIDTH] * depth, activations=ACTIVATIONS[activation])
    target = DeepNetwork(width_ratios=[WIDTH], activations="sign")
    return DeepFeatures(learner, target, "square", alpha=1.0, weight_decay=DECAY)


def _line(activation, depth):
    return f"{activation}, {counted(depth, 'layer')}"


def _best(problem, alphas):
    """The closed form, with the best weight decay and what is reached there."""
    best = problem.optimal_ridge(alpha=alphas)
    return closed_form(problem, alphas) | {"best_weight_decay": best.weight_decay, "best_test_mse": best.ridge.test_mse}


def study(quick: bool = False, progress=None):
    """Theory over alpha = 0.25 .. 16, and readouts trained for some depths; a Dataset over line and alpha."""
    size = {"dim": 80, "seeds": 6, "test_samples": 1000} if quick else {"dim": 120, "seeds": 8, "test_samples": 4000}
    problems = {_line(name, depth): problem(name, depth) for name in ACTIVATIONS for depth in DEPTHS}
    trained = [_line(name, depth) for name in ACTIVATIONS for depth in ((1, 6) if quick else (1, 3, 6))]
    alphas, at = (ALPHAS[::2], ALPHAS[[16, 72]]) if quick else (ALPHAS, ALPHAS[[16, 32, 48, 64, 80]])
    theory = dict.fromkeys(problems, _best)
    about = {"weight_decay": DECAY, "widths": f"{WIDTH:g} d", "target": f"a sign layer of width {WIDTH:g} d"}
    names = ("test_mse", "train_mse", "best_weight_decay", "best_test_mse")
    return lines(problems, theory, alphas, dict.fromkeys(trained, at), names, about=about, progress=progress, **size)


def check(data):
    """Deviations of the measured errors in standard errors."""
    return all_in_standard_errors(data, ("test_mse", "train_mse"))


def _draw(data, activation, name, ax, log, style="-", named=True):
    import matplotlib

    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(DEPTHS)))
    for depth, colour in zip(DEPTHS, shades, strict=True):
        part = data.sel(line=_line(activation, depth))
        values = part[name].where(part[name] > 0.0) if "y" in log else part[name]
        text = counted(depth, "layer") if named else None
        plotting.line(part["alpha"], values, part["trusted"], ax=ax, color=colour, label=text, ls=style)
        if f"{name}_mean" in data:
            plotting.points(part["alpha"], part[f"{name}_mean"], part[f"{name}_se"], ax=ax, color=colour)
    ax.set_xscale("log", base=2)
    if "y" in log:
        ax.set_yscale("log")
    ax.set_xlabel(plotting.label("alpha"))


def plot(data, ax=None):
    """Errors of both activations, the best weight decay, and the error there; on a given Axes the errors of tanh alone."""
    if ax is not None:
        _draw(data, "tanh", "test_mse", ax, "")
        ax.set_ylabel(plotting.label("test_mse"))
        ax.legend()
        return ax
    import matplotlib.pyplot as plt

    _, panels = plt.subplots(2, 2, figsize=(11.0, 8.2))
    for panel, activation, text in zip(panels[0], ACTIVATIONS, (r"$1.1\,\mathrm{sign}(x)\,\min(|x|, 2)$", "tanh"), strict=True):
        _draw(data, activation, "test_mse", panel, "")
        panel.set_ylabel(plotting.label("test_mse"))
        panel.set_title(rf"{text}, $\lambda = 10^{{-3}}$")
        for place in (1.0, WIDTH):
            panel.axvline(place, color="0.4", ls=":", lw=1.2, zorder=0)
        panel.legend(loc="upper right", fontsize="small")
    for panel, name, log in zip(panels[1], ("best_weight_decay", "best_test_mse"), ("y", ""), strict=True):
        for activation, style in zip(ACTIVATIONS, ("-", "--"), strict=True):
            _draw(data, activation, name, panel, log, style, named=False)
    panels[1, 0].set_ylabel(r"best weight decay $\lambda_\mathrm{opt}$")
    panels[1, 1].set_ylabel(r"test mean square at $\lambda_\mathrm{opt}$")
    for panel in panels[1]:
        for style, text in (("-", "clipped linear"), ("--", "tanh")):
            panel.plot([], [], color="0.3", ls=style, label=text)
        panel.legend()
    return panels[0, 0]
