"""One large gradient step: trained networks, the spiked model that is often put in their place, and the theories of both."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from .. import plotting
from ..problems import OneGradientStep
from .check import NEAR, Check
from .lines import all_in_standard_errors, closed_form, lines

TITLE = "One large gradient step: more than a spike"
CAPTION = (
    "After a step with the population's gradient, the rows of the first layer are often replaced by a spike along the target's "
    "direction plus isotropic noise. Cases: relu, target tanh(x) + (x^2 - 1)/2, step 1.5, and tanh, target sin, step 3 (the "
    "learning rate of the loss over the number of neurons; all initial readouts 1). First two panels: test error of ridge "
    "regression with weight decay 0.1 on as many features as dimensions. Filled points are networks after the actual step, hollow "
    "ones are layers drawn from the spiked model; the solid theory keeps those parts of the gradient that are small in each row "
    "but the same for all of them, the dashed one does not. Last two: the same over the solid theory. The spiked model is "
    "described by its own theory, but it is not the network: for tanh the difference is a few percent, for relu more than a third "
    "of the error. Theory is at the number of neurons of the experiment."
)
OBSERVABLE = "test_mse"
REFERENCES = (
    "H. Cui et al. (2024), arXiv:2402.04980", "Y. Dandi et al. (2024), arXiv:2410.18938", "J. Ba et al. (2022), arXiv:2205.01445"
)  # fmt: skip
DECAY, ALPHAS = 0.1, np.linspace(0.4, 4.0, 37)


def mixed(x):
    return jnp.tanh(x) + 0.5 * (x**2 - 1.0)


#: Activation: target, learning rate, the place at which the difference is told.
CASES = {"relu": (mixed, 1.5), "tanh": ("sin", 3.0)}
TOLD = 2.0
NETWORK, MODEL = "network", "spiked model"


class Drawn(NamedTuple):
    """A problem whose experiments draw the first layer from the spiked model."""

    problem: OneGradientStep

    def ridge(self, **arrays):
        return self.problem.ridge(**arrays)

    def replace(self, **changes):
        return Drawn(self.problem.replace(**changes))

    def simulate(self, dim, **options):
        return self.problem.simulate(dim, sampled=True, **options)


def problem(activation: str, refined: bool, width=None):
    """As many neurons as dimensions after a step with the population's gradient; ``refined``: the network, else the model."""
    target, rate = CASES[activation]
    return OneGradientStep(
        alpha=TOLD, alpha0=np.inf, learning_rate=rate, width_ratio=1.0, activation=activation, target=target, weight_decay=DECAY,
        refined=refined, width=width,
    )  # fmt: skip


def study(quick: bool = False, progress=None):
    """Theory of networks and of the spiked model over alpha = 0.4 .. 4, and experiments at some of them; a Dataset."""
    size = {"dim": 150, "seeds": 12, "test_samples": 1000} if quick else {"dim": 400, "seeds": 20, "test_samples": 4000}
    problems = {}
    for activation in CASES:
        problems[_text(activation, NETWORK)] = problem(activation, True, size["dim"])
        problems[_text(activation, MODEL)] = Drawn(problem(activation, False, size["dim"]))
    measured = ALPHAS[[6, 16]] if quick else ALPHAS[[1, 6, 16, 26, 36]]
    about = {"alpha0": "infinite", "width_ratio": 1.0, "weight_decay": DECAY}
    theory = dict.fromkeys(problems, closed_form)
    data = lines(problems, theory, ALPHAS, measured, (OBSERVABLE,), about=about, progress=progress, **size)
    return data.assign_attrs(problem="OneGradientStep")


def _text(activation, kind):
    return f"{activation}, {kind}"


def check(data):
    """Deviations of networks and of drawn layers, each from its own theory; relu networks must differ from the spiked model's
    theory by a third of it at alpha = 2."""
    verdict = all_in_standard_errors(data, (OBSERVABLE,))
    there, words, gaps = data.sel(alpha=TOLD, method="nearest"), [], []
    for activation in CASES:
        network, model = (there.sel(line=_text(activation, kind)) for kind in (NETWORK, MODEL))
        gap = float(network[OBSERVABLE] / model[OBSERVABLE] - 1.0)
        mean, error = (float(network[f"{OBSERVABLE}_{part}"] / model[OBSERVABLE]) for part in ("mean", "se"))
        words.append(f"{100 * gap:+.1f}% for {activation} (networks: {100 * (mean - 1.0):+.1f}% +- {100 * error:.1f}%)")
        gaps.append((mean - 1.0, error))
    text = f"{verdict.text}; at alpha = {TOLD:g} the theory of networks differs from that of spikes by {', '.join(words)}"
    passed = gaps[0][0] + NEAR * gaps[0][1] < -0.25
    return Check(bool(verdict.passed and passed), text, verdict.rows, verdict.failed)


def plot(data, ax=None):
    """Errors above and their ratios to the networks' theory below, for both activations; or relu's errors on a given Axes."""
    above, below = [ax], []
    if ax is None:
        import matplotlib.pyplot as plt

        _, (above, below) = plt.subplots(2, 2, figsize=(10.0, 6.0), sharex=True, height_ratios=(3, 2))
    for k, (activation, panel) in enumerate(zip(CASES, above, strict=False)):
        _draw(data, activation, panel, 1.0)
        panel.set_ylabel(plotting.label(OBSERVABLE))
        panel.set_xlabel(plotting.label("alpha"))
        panel.set_title(activation, fontsize="medium")
        panel.legend()
        if len(below):
            _draw(data, activation, below[k], data[OBSERVABLE].sel(line=_text(activation, NETWORK)))
            below[k].set_title(activation, fontsize="medium")
            below[k].set_ylabel("over the networks' theory")
            below[k].set_xlabel(plotting.label("alpha"))
    return above[0]


def _draw(data, activation, ax, unit):
    for kind, colour, style, marks in (
        (NETWORK, plotting.COLOURS[0], "-", {}), (MODEL, plotting.COLOURS[1], "--", {"mfc": "none"})
    ):  # fmt: skip
        part, text = data.sel(line=_text(activation, kind)), f"{kind}, theory"
        plotting.line(part["alpha"], part[OBSERVABLE] / unit, part["trusted"], ax=ax, color=colour, ls=style, label=text)
        mean, error = part[f"{OBSERVABLE}_mean"] / unit, part[f"{OBSERVABLE}_se"] / unit
        plotting.points(part["alpha"], mean, error, ax=ax, color=colour, label=kind, **marks)
