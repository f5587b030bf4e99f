"""A deep random network as a target: the best that any learner can do, and what ridge, features and classifiers do."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from .. import plotting
from ..problems import BayesOptimalDeep
from .lines import all_in_standard_errors, lines, solved

TITLE = "Learning a deep random network: the Bayes-optimal error"
CAPTION = (
    "The target is a random network of two hidden layers, activation tanh(2x), of known architecture and unknown weights. "
    "Regression: its real outputs are learnt. The Bayes-optimal error (thick) is that of ridge regression at its best weight "
    "decay; ridge at others peaks at n = d, and random features of width 3d at their best weight decay stay above. "
    "Classification: only the sign is seen. Logistic regression (full size only) is nearly optimal; the square loss with little "
    "weight decay is not. Dashed: what n ~ d samples never teach. Points: Gaussian processes (regression) and expectation "
    "propagation (classification) with the network's own kernel, on data of actual networks."
)
REFERENCES = ("H. Cui, F. Krzakala, L. Zdeborova (2023), arXiv:2302.00375",)
OBSERVABLES = ("test_mse", "test_error")
ALPHAS = np.linspace(0.1, 7.0, 70)
BEST = "Bayes-optimal"


def problem(task: str = "regression"):
    """A target of two layers, each of 1.4 units per input."""
    return BayesOptimalDeep((1.4, 1.4), _tanh2, task, alpha=1.0)


def _tanh2(x):
    return jnp.tanh(2.0 * x)


def study(quick: bool = False, progress=None):
    """Theory over alpha = 0.1 .. 7 of all learners (quick: not of the logistic loss), and the best one on actual networks."""
    size = {"dim": 100, "seeds": 4, "test_samples": 1000} if quick else {"dim": 300, "seeds": 8, "test_samples": 2000}
    theory = {f"{BEST}, regression": solved, f"{BEST}, classification": solved}
    theory |= {_ridge(decay): _ridge_line(decay) for decay in (1e-3, 0.1, 3.0)}
    theory |= {"random features, width 3d": _features_line, "square loss, best decay": _square_line(None)}
    theory |= {"square loss, decay 0.1": _square_line(0.1)} | ({} if quick else {"logistic, decay 0.2": _logistic_line})
    problems = {line: problem("regression" if _real(line) else "classification") for line in theory}
    some = [ALPHAS[np.argmin(np.abs(ALPHAS - alpha))] for alpha in ((1.0, 4.0) if quick else (0.5, 1.0, 2.0, 4.0, 6.0))]
    measured = {line: some for line in theory if line.startswith(BEST)}
    about = {"target": "two layers, tanh(2x), widths 1.4 d", "random features": "tanh(2x), width 3 d, best weight decay"}
    return lines(problems, theory, ALPHAS, measured, OBSERVABLES, about=about, progress=progress, **size)


def _real(line):
    return line.endswith("regression") or line.startswith(("ridge", "random"))


def _ridge(decay):
    return f"ridge, decay {decay:g}"


def _trusted(name, values):
    return {name: values, "trusted": np.isfinite(values)}


def _ridge_line(decay):
    return lambda problem, alphas: _trusted("test_mse", problem.ridge(decay, alpha=alphas).test_mse)


def _features_line(problem, alphas):
    return _trusted("test_mse", problem.random_features(3.0, alpha=alphas).test_mse)


def _square_line(decay):
    return lambda problem, alphas: _trusted("test_error", problem.ridge(decay, alpha=alphas).test_error)


def _logistic_line(problem, alphas):
    return solved(problem.student("logistic", 0.2), alphas)


def check(data):
    """Deviations of the measured errors in standard errors."""
    return all_in_standard_errors(data, OBSERVABLES)


def plot(data, ax=None):
    """Regression on the left and classification on the right, or regression alone on a given Axes."""
    other = None
    if ax is None:
        import matplotlib.pyplot as plt

        _, (ax, other) = plt.subplots(1, 2, figsize=(11.0, 4.4))
    target = problem()
    never = np.arccos(np.sqrt(1.0 - float(target.numbers.rest / target.total))) / np.pi
    panels = ((ax, "test_mse", "regression", float(target.numbers.rest)), (other, "test_error", "classification", never))
    for axes, name, task, floor in panels:
        if axes is None:
            continue
        shown = [line for line in data["line"].values if np.any(np.isfinite(data[name].sel(line=line)))]
        for line, colour in zip(shown, plotting.COLOURS, strict=False):
            part, best = data.sel(line=line), line.startswith(BEST)
            text = BEST if best else line
            plotting.line(part["alpha"], part[name], part["trusted"], ax=axes, color=colour, label=text, lw=2.5 if best else 1.2)
            plotting.points(part["alpha"], part[f"{name}_mean"], part[f"{name}_se"], ax=axes, color=colour)
        axes.axhline(floor, color="0.4", ls="--", lw=1.0)
        axes.set_xlabel(plotting.label("alpha"))
        axes.set_ylabel(plotting.label(name))
        axes.set_title(task, fontsize="medium")
        axes.legend()
    ax.set_ylim(0.0, 1.6 * float(target.total))
    return ax
