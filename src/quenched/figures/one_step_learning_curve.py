"""One large gradient step: what it buys, over the samples of the readout and over the size of the step."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from ..problems import OneGradientStep
from .check import Check, counted
from .lines import all_in_standard_errors, closed_form, lines

TITLE = "One large gradient step: it pays where enough samples made it"
CAPTION = (
    "A tanh network of as many neurons as input dimensions takes one full-batch gradient step on its first layer, on alpha_0 d "
    "samples; then its readout is fitted by ridge regression to alpha d fresh samples, without noise. All neurons have one "
    "initial readout, and the step is the learning rate of the loss over the number of neurons. First panel: target sin, weight "
    "decay 0.1, learning rate 3. Without the step no more than the linear part of the target can be learnt (dotted); a step on "
    "many samples brings the error far below that, one on few samples lowers it less. Second: target tanh, alpha = 2, each point "
    "at its own best weight decay, against the learning rate (dashed: no step). A step on half a sample per dimension helps while "
    "it is small, and is worse than none when it is large; with more samples the best step is larger. Lines are theory at the "
    "number p of neurons of the experiment; points are trained networks. At such p theory exaggerates what a finite width costs: "
    "with the population's gradient networks err by about a tenth less in the second panel, and by a quarter less where hardly "
    "any error is left."
)
OBSERVABLE = "test_mse"
REFERENCES = (
    "H. Cui et al. (2024), arXiv:2402.04980", "Y. Dandi et al. (2024), arXiv:2410.18938", "J. Ba et al. (2022), arXiv:2205.01445"
)  # fmt: skip
DECAY, ALPHAS = 0.1, np.linspace(0.2, 3.0, 57)
#: Left: learning rate and samples per dimension of the step. Right: the latter, and the learning rates; the last alpha.
STEPS = ((0.0, 2.0), (3.0, 2.0), (3.0, 20.0), (3.0, np.inf))
SAMPLES, RATES, RIGHT_ALPHA = (0.5, 2.0, 8.0, np.inf), np.geomspace(0.125, 8.0, 13), 2.0
#: Weight decays among which the best is looked for, as many as there are alphas.
DECAYS = np.geomspace(1e-6, 10.0, len(ALPHAS))

#: What the finite size d adds to all errors, in units of the target's mean square over d.
SHIFT = 0.5


def problem(learning_rate: float, alpha0: float, width=None, target="sin"):
    """A tanh network whose neurons have one readout; p = d."""
    return OneGradientStep(
        alpha=RIGHT_ALPHA, alpha0=alpha0, learning_rate=learning_rate, width_ratio=1.0, activation="tanh", target=target,
        weight_decay=DECAY, width=width,
    )  # fmt: skip


def best(problem) -> tuple[float, float]:
    """The weight decay of the least test error and that error: the least of a grid, then of a finer one around it."""
    decays = DECAYS
    for _ in range(2):
        errors = problem.ridge(weight_decay=decays).test_mse
        at = int(np.nanargmin(errors))
        least = float(decays[at]), float(errors[at])
        decays = np.geomspace(decays[max(at - 1, 0)], decays[min(at + 1, len(decays) - 1)], len(decays))
    return least


def study(quick: bool = False, progress=None):
    """Learning curves (line, alpha), and errors at the best weight decay (curve, place) over the learning rates of all places;
    place 0 is no step."""
    report = progress or (lambda done, total, what: None)
    size = {"dim": 150, "seeds": 6, "test_samples": 1000} if quick else {"dim": 300, "seeds": 12, "test_samples": 4000}
    width = size["dim"]
    problems = {_text(*step): problem(*step, width) for step in STEPS}
    measured = ALPHAS[[4, 28]] if quick else ALPHAS[[4, 10, 16, 28, 40, 56]]
    about = {"activation": "tanh", "width_ratio": 1.0, "weight_decay": DECAY}
    data = lines(
        problems, dict.fromkeys(problems, closed_form), ALPHAS, measured, (OBSERVABLE,), about=about, progress=progress, **size
    )  # fmt: skip

    rates = np.concatenate([[0.0], RATES[:11] if quick else RATES])
    shown = [5, 9] if quick else [1, 3, 5, 7, 9, 11, 13]
    shape = (len(SAMPLES), len(rates))
    columns = {name: np.full(shape, np.nan) for name in ("best_test_mse", "best_weight_decay", "best_mean", "best_se")}
    for row, alpha0 in enumerate(SAMPLES):
        report(row, len(SAMPLES), f"{_samples(alpha0)}, over learning rates")
        for column, rate in enumerate(rates):
            case = problem(rate, alpha0, width, "tanh")
            decay, columns["best_test_mse"][row, column] = best(case)
            columns["best_weight_decay"][row, column] = decay
            if column in shown:
                trained = case.replace(weight_decay=decay).simulate(**size)[OBSERVABLE]
                columns["best_mean"][row, column], columns["best_se"][row, column] = trained.mean, trained.standard_error
    report(len(SAMPLES), len(SAMPLES), "done")
    table = {name: (("curve", "place"), column) for name, column in columns.items()}
    return data.assign(table | {"alpha0": ("curve", np.array(SAMPLES)), "learning_rate": ("place", rates)})


def _text(learning_rate, alpha0):
    return f"{_samples(alpha0)}" if learning_rate else "no step"


def _samples(alpha0):
    return r"$\alpha_0 = \infty$" if np.isinf(alpha0) else rf"$\alpha_0 = {alpha0:g}$"


def _at_best(data):
    """The right panel as a Dataset like that of the left one."""
    names = {"best_test_mse": OBSERVABLE, "best_mean": f"{OBSERVABLE}_mean", "best_se": f"{OBSERVABLE}_se"}
    part = data[[*names, "alpha0", "learning_rate"]].rename(names).set_coords(["alpha0", "learning_rate"])
    part = part.swap_dims(curve="alpha0", place="learning_rate")
    return part.assign(trusted=np.isfinite(part[OBSERVABLE])).assign_attrs(data.attrs)


def check(data):
    """Deviations of both panels; a large step on few samples must hurt, one on many must help, and no decay be at its bounds."""
    parts = ((data, "sin"), (_at_best(data), "tanh"))
    verdicts = [all_in_standard_errors(_with_shift(part, target), (OBSERVABLE,)) for part, target in parts]
    errors = data["best_test_mse"].values / data["best_test_mse"].values[:, :1]
    text = "; ".join(
        f"{_plain(alpha0)}: {row.min():.3g} of it at learning rate {data['learning_rate'].values[row.argmin()]:.2g}, "
        f"{row[-1]:.3g} at {data['learning_rate'].values[-1]:g}"
        for alpha0, row in zip(SAMPLES, errors, strict=True)
    )
    inside = (data["best_weight_decay"].values > DECAYS[0]) & (data["best_weight_decay"].values < DECAYS[-1])
    text = (
        f"over alpha: {verdicts[0].text}; over learning rates: {verdicts[1].text} (and both of {SHIFT:g}/d of the target's "
        "square); "
        f"in units of the error without a step, {text}"
        + ("" if inside.all() else f"; {counted(int(np.sum(~inside)), 'best weight decay')} at the bounds of those tried")
    )
    overshoots = errors[0].min() < 1.0 and errors[0].argmin() < len(errors[0]) - 2
    passed = all(v.passed for v in verdicts) and overshoots and bool(errors[2:, -1].max() < 1.0)
    right = tuple(
        {"observable": row["observable"], "line": f"{_plain(row['alpha0'])}, learning rate {row['learning_rate']:.3g}, best decay",
         "alpha": RIGHT_ALPHA, **{name: row[name] for name in ("theory", "mean", "standard error and shift", "deviation")}}
        for row in verdicts[1].rows
    )  # fmt: skip
    return Check(passed, text, verdicts[0].rows + right, data.attrs["failed"])


def _with_shift(data, target):
    """Standard errors with what a finite dimension adds to errors that are much smaller than the target itself."""
    shift = SHIFT * problem(0.0, 1.0, target=target).target.moments.second / json.loads(data.attrs["simulate"])["dim"]
    return data.assign({f"{OBSERVABLE}_se": data[f"{OBSERVABLE}_se"] + shift})


def _plain(alpha0):
    return "infinite alpha_0" if np.isinf(alpha0) else f"alpha_0 = {alpha0:g}"


def plot(data, ax=None):
    """Learning curves, and the best error over the learning rate; or the learning curves alone on a given Axes."""
    other = None
    if ax is None:
        import matplotlib.pyplot as plt

        _, (ax, other) = plt.subplots(1, 2, figsize=(11.0, 4.4))
    for line, colour in zip(data["line"].values, ("0.35", *plotting.COLOURS), strict=False):
        part = data.sel(line=line)
        plotting.line(part["alpha"], part[OBSERVABLE], part["trusted"], ax=ax, color=colour, label=line)
        plotting.points(part["alpha"], part[f"{OBSERVABLE}_mean"], part[f"{OBSERVABLE}_se"], ax=ax, color=colour)
    linear = problem(0.0, np.inf).error_floor()
    ax.axhline(linear, color="0.35", ls=":", lw=1.0)
    ax.text(ALPHAS[-1], 1.04 * linear, "what is not linear", ha="right", va="bottom", fontsize="small", color="0.35")
    ax.set_yscale("log")
    ax.set_xlabel(plotting.label("alpha"))
    ax.set_ylabel(plotting.label(OBSERVABLE))
    ticks = [0.02, 0.04, 0.1, 0.2, 0.4]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_yticks([], minor=True)
    ax.set_ylim(bottom=0.008)  # room for the legend
    ax.legend(loc="lower left", ncols=2)
    if other is not None:
        part = _at_best(data)
        other.axhline(float(part[OBSERVABLE][0, 0]), color="0.35", ls="--", lw=1.0)
        for alpha0, colour in zip(SAMPLES, (plotting.COLOURS[3], *plotting.COLOURS), strict=False):
            row = part.sel(alpha0=alpha0).isel(learning_rate=slice(1, None))
            rate = row["learning_rate"]
            plotting.line(rate, row[OBSERVABLE], row["trusted"], ax=other, color=colour, label=_samples(alpha0))
            plotting.points(rate, row[f"{OBSERVABLE}_mean"], row[f"{OBSERVABLE}_se"], ax=other, color=colour)
        other.set_xscale("log", base=2)
        ticks = 2.0 ** np.arange(-3, 4)
        other.set_xticks(ticks[: np.sum(ticks <= 1.01 * rate.values[-1])], minor=False)
        other.xaxis.set_major_formatter("{x:g}")
        other.set_yscale("log")
        other.set_xlabel("learning rate over the number of neurons")
        other.set_ylabel("test mean square, best weight decay")
        other.legend(loc="lower left")
    return ax
