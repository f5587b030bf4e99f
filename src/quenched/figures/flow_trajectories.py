"""What happens along a flow that was learnt from eight samples: the denoiser at every time, and the samples it moves."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from ..problems import FlowFromSamples
from .check import NEAR, Check, in_standard_errors

TITLE = "Along a flow learnt from few samples"
CAPTION = (
    "Eight samples of two clusters of size 1.5 at plus and minus mu, |mu|^2 = d; weight decay 0.1. First panel: the generated "
    "sample is R mu + c_eta eta + c_xi xi and noise, along mu, along the mean deviation eta of the training samples and along the "
    "mean noise xi of the training set; with its squared norm per dimension, and the cosine of its mean and mu. The linear "
    "(solid) and the variance preserving schedule (dashed, hollow) part on the way and meet at the end. Second: the trained "
    "denoiser c x + w sign(w.x) of the linear schedule, and third its error on fresh data, above the least possible one (dashed). "
    "Points of the first panel: samples that follow 50 steps of the flow of autoencoders trained at each of these times (compared "
    "with the theory of 50 steps, from which the lines, in continuous time, differ by some per cent); of the others: autoencoders "
    "trained at one time."
)
REFERENCES = ("H. Cui, F. Krzakala, E. Vanden-Eijnden, L. Zdeborova (2023), arXiv:2310.03575",)
SCHEDULES = ("linear", "variance-preserving")
STATISTICS = {"R": "mean_coefficient", "c_eta": "eta_coefficient", "c_xi": "xi_coefficient", "squared_norm": "squared_norm",
              "cosine": "cosine"}  # fmt: skip
DENOISER = ("c", "w_mu", "w_eta", "w_xi", "test_mse")
STEPS, KEPT = 50, (10, 20, 30, 40, 50)
#: Relative to the largest value along the flow, what fluctuations of order 1/sqrt(d) add to the standard error.
SHIFT = 0.01


def problem(schedule: str = "linear"):
    return FlowFromSamples(8, separation=1.0, cluster_std=1.5, weight_decay=0.1, schedule=schedule)


def study(quick: bool = False, progress=None):
    """Statistics and denoisers over line and time t; ``compared``: the theory that the measured are compared with."""
    import xarray as xr

    from .. import __version__

    report = progress or (lambda done, total, what: None)
    dim, seeds = (3000, 5) if quick else (6000, 12)
    times = np.linspace(0.0, 1.0, 101)
    kept = np.searchsorted(times, np.array(KEPT) / STEPS - 1e-9)
    texts = [f"{name}, {schedule}" for schedule in SCHEDULES for name in STATISTICS] + list(DENOISER) + ["floor"]
    columns = {name: np.full((len(texts), len(times)), np.nan) for name in ("value", "compared", "value_mean", "value_se")}
    for row, schedule in enumerate(SCHEDULES):
        report(row, 3, f"sampling, {schedule}")
        at = problem(schedule)
        exact, sampler = at.flow(times), at.flow(steps=STEPS)
        trials = at.simulate(dim, seeds=seeds, steps=STEPS, along=KEPT)
        for name, field in STATISTICS.items():
            line = texts.index(f"{name}, {schedule}")
            columns["value"][line] = getattr(exact, field)
            columns["compared"][line, kept] = getattr(sampler, field)[list(KEPT)]
            columns["value_mean"][line, kept], columns["value_se"][line, kept], _ = trials[f"{name}_along"]
    report(2, 3, "training at single times")
    found = problem().denoiser(times)
    for name in (*DENOISER, "floor"):
        columns["value"][texts.index(name)] = getattr(found, name)
    for place in (20, 40, 60, 80):
        trials = problem().simulate_denoiser(dim, times[place], seeds=seeds)
        for name in DENOISER:
            line = texts.index(name)
            columns["compared"][line, place] = columns["value"][line, place]
            columns["value_mean"][line, place], columns["value_se"][line, place], _ = trials[name]
    report(3, 3, "done")
    columns["value_deviation"] = (columns["value_mean"] - columns["compared"]) / columns["value_se"]
    columns |= {"trusted": np.ones((len(texts), len(times)), bool)}
    return xr.Dataset(
        {name: (("line", "t"), column) for name, column in columns.items()},
        {"line": ("line", texts), "t": ("t", times, {"long_name": "time along the flow", "units": "1"})},
        {"quenched": __version__, "problem": "FlowFromSamples", "failed": "",
         "parameters": json.dumps({"n_samples": 8, "separation": 1.0, "cluster_std": 1.5, "weight_decay": 0.1}),
         "simulate": json.dumps({"dim": dim, "seeds": seeds, "steps": STEPS})},
    )  # fmt: skip


def check(data):
    """Deviations in standard errors, to which 1% of each line's largest value is added; both schedules must end alike."""
    scale = np.abs(data["value"]).max("t")
    error = np.hypot(data["value_se"], SHIFT * scale)
    away = (data["value_mean"] - data["compared"]) / error
    verdict = in_standard_errors(data.assign(value=data["compared"], value_se=error, value_deviation=away), "value")
    ends = [data["value"].sel(line=[f"{name}, {schedule}" for name in STATISTICS]).values[:, -1] for schedule in SCHEDULES]
    gap = float(np.abs(ends[0] - ends[1]).max())
    text = verdict.text.replace(f"{NEAR:g} standard errors", f"{NEAR:g} standard errors (and {100 * SHIFT:g}%)")
    return Check(verdict.passed and gap < 1e-9, f"{text}; the schedules' ends differ by {gap:.0e}", verdict.rows, verdict.failed)


_LABELS = {"R": r"$R$", "c_eta": r"$c_\eta$", "c_xi": r"$|c_\xi|$", "squared_norm": r"$|X|^2/d$", "cosine": r"$\cos(\hat\mu, \mu)$",
           "c": r"$c$", "w_mu": r"$w_\mu$", "w_eta": r"$w_\eta$", "w_xi": r"$w_\xi$"}  # fmt: skip


def plot(data, ax=None):
    """Statistics along the flow, the denoiser and its error, against time; or the first alone on a given Axes."""
    others = ()
    if ax is None:
        import matplotlib.pyplot as plt

        _, (ax, *others) = plt.subplots(1, 3, figsize=(14.0, 4.4))
    for name, colour in zip(STATISTICS, plotting.COLOURS, strict=False):
        for schedule, style, marks in zip(SCHEDULES, ("-", "--"), ({}, {"mfc": "none"}), strict=True):
            part = np.abs(data.sel(line=f"{name}, {schedule}"))
            ax.plot(data["t"], part["value"], style, color=colour, label=_LABELS[name] if style == "-" else "_dashed")
            plotting.points(data["t"], part["value_mean"], part["value_se"], ax=ax, color=colour, **marks)
    ax.set_ylabel("sample along the flow")
    ax.legend(loc="upper left", ncols=2, fontsize="small")
    ax.set_ylim(top=1.12 * float(data["value"].sel(line=f"squared_norm, {SCHEDULES[0]}").max()))
    for panel, names in zip(others, (DENOISER[:-1], DENOISER[-1:]), strict=False):
        for name, colour in zip(names, plotting.COLOURS, strict=False):
            part = data.sel(line=name)
            plotting.line(data["t"], part["value"], ax=panel, color=colour, label=_LABELS.get(name, "trained denoiser"))
            plotting.points(data["t"], part["value_mean"], part["value_se"], ax=panel, color=colour)
    if others:
        others[1].plot(data["t"], data["value"].sel(line="floor"), "--", color="0.3", label="least possible")
        for panel, text in zip(others, ("trained denoiser", "test mean square per dimension"), strict=True):
            panel.set_ylabel(text)
            panel.legend(fontsize="small")
    for panel in (ax, *others):
        panel.set_xlabel("time $t$")
    return ax
