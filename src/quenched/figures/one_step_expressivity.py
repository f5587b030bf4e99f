"""One large gradient step: the more values the initial readout has, the more functions of the target's direction are learnt."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np

from .. import plotting
from ..problems import OneGradientStep
from .check import Check, counted
from .lines import all_in_standard_errors, closed_form, lines

TITLE = "One large gradient step: what features can express"
CAPTION = (
    "After a step with the population's gradient, all neurons whose initial readouts are equal see one and the same function of "
    "the target's direction; k values make k of them. First panel: the least error that any number of samples and neurons "
    "reaches, for the readouts 1, 1/2, 1/4, 1/8 in equal shares, as many as said (0: no step), and for the pair 1 and -1 "
    "(hollow). The targets are sin(1.5 x), which is odd, and tanh(x) + (x^2 - 1)/2, which has an even part of mean square 1/2; "
    "the step is 3 for tanh and 1.5 for relu (learning rate of the loss over the number p of neurons). Tanh networks never learn "
    "what is even, whatever the readouts, and the opposite readout adds nothing to an odd target; relu networks make the even "
    "part, but of the sine hardly more than what is linear. The others: ridge regression with weight decay 0.1 on features of "
    "such networks, p = 2d. Solid: theory at the p of the experiment, points: trained networks, dotted: infinitely many neurons "
    "at the same p/d. Functions that differ little need very many neurons to be told apart, so most of what further values add in "
    "principle is not reached at this size, where more values may even cost."
)
OBSERVABLE = "test_mse"
REFERENCES = ("Y. Dandi et al. (2024), arXiv:2410.18938", "H. Cui et al. (2024), arXiv:2402.04980")
DECAY, WIDTH, ALPHAS, MOST = 0.1, 2.0, np.geomspace(0.5, 16.0, 41), 4
RATES = {"tanh": 3.0, "relu": 1.5}
#: Neurons that are as good as infinitely many.
MANY = 10**9


def odd(x):
    return jnp.sin(1.5 * x)


def mixed(x):
    return jnp.tanh(x) + 0.5 * (x**2 - 1.0)


TARGETS = {"odd": odd, "mixed": mixed}
FLOORS = (("tanh", "odd"), ("tanh", "mixed"), ("relu", "odd"), ("relu", "mixed"))
CURVES = (("tanh", "odd"), ("relu", "mixed"))
#: How many values the initial readouts of the learning curves have (quick: the first two).
COUNTS = (1, 2, 3)


def problem(activation: str, target: str, readouts=(1.0,), learning_rate=None, width=None, **settings):
    """A network after a step with the population's gradient; no ``readouts``: without a step."""
    rate = RATES[activation] if learning_rate is None else learning_rate
    return OneGradientStep(
        alpha=1.0, alpha0=np.inf, learning_rate=rate if readouts else 0.0, width_ratio=WIDTH, activation=activation,
        target=TARGETS[target], weight_decay=DECAY, readout_values=readouts or (1.0,), width=width, **settings,
    )  # fmt: skip


def values(count: int) -> tuple[float, ...]:
    """1, 1/2, 1/4, ..., so many."""
    return tuple(2.0**-k for k in range(count))


def study(quick: bool = False, progress=None):
    """Learning curves for one to three values, quick: one or two (line, alpha); floors (case, count), and of the pair 1 and -1
    (case)."""
    size = {"dim": 150, "seeds": 6, "test_samples": 1000} if quick else {"dim": 250, "seeds": 12, "test_samples": 4000}
    width = round(WIDTH * size["dim"])
    counts = COUNTS[: 2 if quick else 3]
    cases = {_text(*curve, count): (*curve, values(count)) for curve in CURVES for count in counts}
    problems = {text: problem(*case, width=width) for text, case in cases.items()}
    measured = ALPHAS[[8, 24]] if quick else ALPHAS[[0, 8, 16, 24, 32]]
    about = {"alpha0": "infinite", "width_ratio": WIDTH, "weight_decay": DECAY, "learning_rate": RATES}
    data = lines(
        problems, dict.fromkeys(problems, closed_form), ALPHAS, measured, (OBSERVABLE,), about=about, progress=progress, **size
    )  # fmt: skip
    limits = [problem(*case, width=MANY).ridge(alpha=ALPHAS).test_mse for case in cases.values()]
    floors = [[problem(*case, values(count)).error_floor() for count in range(MOST + 1)] for case in FLOORS]
    pairs = [problem(*case, (1.0, -1.0)).error_floor() for case in FLOORS]
    return data.assign(
        {"test_mse_limit": (("line", "alpha"), np.array(limits)), "floor": (("case", "count"), np.array(floors)),
         "floor_pair": ("case", np.array(pairs))}
    )  # fmt: skip


def _text(activation, target, count):
    return f"{activation}, {target}, {count}"


def check(data):
    """Deviations of the learning curves; floors must fall with the values, but for tanh not below the even part, which is 1/2."""
    verdict = all_in_standard_errors(data, (OBSERVABLE,))
    floors = dict(zip(FLOORS, data["floor"].values, strict=True))
    falls = all(np.all(np.diff(floors["tanh", target]) < 0.0) for target in TARGETS)
    pairs = dict(zip(FLOORS, data["floor_pair"].values, strict=True))
    text = f"{verdict.text}; least errors for 0 to {MOST} values: " + "; ".join(
        f"{activation}, {target}: {', '.join(f'{v:.3g}' for v in row)} (1 and -1: {pairs[activation, target]:.3g})"
        for (activation, target), row in floors.items()
    )
    passed = falls and floors["tanh", "mixed"].min() > 0.5 - 1e-9 and np.isclose(pairs["tanh", "odd"], floors["tanh", "odd"][1])
    return Check(bool(verdict.passed and passed), text, verdict.rows, verdict.failed)


_NAMES = {"odd": r"$\sin 1.5x$", "mixed": r"$\tanh x + (x^2-1)/2$"}


def plot(data, ax=None):
    """Floors, and two panels of learning curves; or the floors alone on a given Axes."""
    others = ()
    if ax is None:
        import matplotlib.pyplot as plt

        _, (ax, *others) = plt.subplots(1, 3, figsize=(14.0, 4.4))
    looks = {"tanh": plotting.COLOURS[0], "relu": plotting.COLOURS[1]}
    for (activation, target), row, pair in zip(FLOORS, data["floor"].values, data["floor_pair"].values, strict=True):
        colour, style = looks[activation], "-" if target == "odd" else "--"
        ax.plot(row, style, marker="o", color=colour, label=f"{activation}, {_NAMES[target]}")
        ax.plot(2, pair, "D", mfc="none", mec=colour, ms=9)
    ax.set_yscale("log")
    ax.set_xticks(range(MOST + 1))
    ax.set_xlabel("values of the initial readout")
    ax.set_ylabel("least test mean square")
    ax.legend(loc="lower left", bbox_to_anchor=(-0.15, 1.0), ncols=2, fontsize="small", columnspacing=1.0)
    for panel, (activation, target) in zip(others, CURVES, strict=False):
        for count, colour in zip(COUNTS, plotting.COLOURS[2:], strict=False):
            if _text(activation, target, count) not in data["line"]:
                continue
            part = data.sel(line=_text(activation, target, count))
            plotting.line(part["alpha"], part[OBSERVABLE], part["trusted"], ax=panel, color=colour, label=counted(count, "value"))
            plotting.points(part["alpha"], part[f"{OBSERVABLE}_mean"], part[f"{OBSERVABLE}_se"], ax=panel, color=colour)
            panel.plot(part["alpha"], part["test_mse_limit"], color=colour, ls=":")
        panel.plot([], [], color="0.3", ls=":", label="infinitely many neurons")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_title(f"{activation}, {_NAMES[target]}, $p = {round(WIDTH * json.loads(data.attrs['simulate'])['dim'])}$")
        panel.set_xlabel(plotting.label("alpha"))
        panel.set_ylabel(plotting.label(OBSERVABLE))
        panel.legend()
    return ax
