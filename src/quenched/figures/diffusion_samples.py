"""A diffusion model learnt by one-pass SGD: the law of what it generates, at four times of training."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from .check import Check
from .diffusion_training import problem

TITLE = "Diffusion learnt by SGD: what is generated"
CAPTION = (
    "Generated samples in the plane of the three means (crosses), for the networks of the figure of their training, stopped after "
    "tau d steps; the sampler makes 99 Euler steps of 1/100. Blue: the theory's law on a logarithmic scale, as far as its 65,536 "
    "nodes show it; orange: samples of actual networks. Two saturating odd units have four attractors, the sums and differences "
    "of their directions, and an odd activation cannot tell x from -x: as many samples lie nearest to minus the second mean, "
    "where there is no data, as nearest to the second mean. The share of the second cluster (in each title), a third of the data, "
    "goes down and up again; late in training the samples spread too far, for b exceeds 1."
)
REFERENCES = ("H. Cui, C. Pehlevan, Y. Lu (2025), arXiv:2501.03937",)
TAUS, BINS, REACH = (2.0, 5.0, 10.0, 20.0), 80, (4.0, 4.5, 7.5, 12.0)
#: Samples of each network are compared with the law of its own Q, M and b; the smallest p-value of all comparisons, times their
#: number.
LEVEL = 0.01


def study(quick: bool = False, progress=None):
    """Histograms of the law (tau, row, column) at places x (tau, row), samples (tau, sample, axis), shares (tau), p-values."""
    import xarray as xr
    from scipy import stats

    from .. import __version__

    size = {"dim": 300, "seeds": 4, "samples": 500} if quick else {"dim": 500, "seeds": 6, "samples": 2000}
    case = problem()
    path, shifted = case.online(saveat=TAUS), case.online(saveat=TAUS, dim=size["dim"])
    names = ("x", "density", "samples", "V", "share", "share_at_d", "share_mean", "share_se", "pvalue")
    columns = {name: [] for name in names}
    for number, tau in enumerate(TAUS):
        if progress is not None:
            progress(number, len(TAUS), f"tau = {tau:g}")
        edges = np.linspace(-REACH[number], REACH[number], BINS + 1)
        made = case.generate(path, at=tau)
        trials = case.replace(training_time=tau).simulate(**size)
        counts = np.histogram2d(*made.points.T, [edges, edges])[0] / len(made.Z)
        p = []
        for seed in range(size["seeds"]):
            own = case.generate({name: trials[name].values[seed] for name in ("M", "Q", "b")}).points
            x = trials["samples"].values[seed]
            p.append([stats.ks_2samp(x[:, axis], own[:, axis]).pvalue for axis in (0, 1)])
        share = trials["fractions"]
        for name, value in zip(names, (
            0.5 * (edges[1:] + edges[:-1]), counts / np.diff(edges)[0] ** 2, trials["samples"].values.reshape(-1, 2), made.V,
            made.fractions()[1], case.generate(shifted, at=tau).fractions()[1], share.mean[1], share.standard_error[1], p,
        ), strict=True):  # fmt: skip
            columns[name].append(value)
    inner = {"x": ("row",), "density": ("row", "column"), "samples": ("sample", "axis"), "pvalue": ("seed", "axis")}
    return xr.Dataset(
        {name: (("tau", *inner.get(name, ())), np.array(value)) for name, value in columns.items()},
        {"tau": list(TAUS)},
        {"quenched": __version__, "problem": "OnlineDiffusion", "failed": "", "simulate": json.dumps(size),
         "parameters": json.dumps({"learning_rate": 0.2, "weight_decay": 0.05, "units": 2, "steps": 100})},
    )  # fmt: skip


def check(data):
    """Samples against the law of their own networks (Kolmogorov and Smirnov), and the shares of the second cluster."""
    rows = []
    for tau in data["tau"].values:
        part = data.sel(tau=tau)
        theory, mean, error = (float(part[name]) for name in ("share_at_d", "share_mean", "share_se"))
        rows.append({"tau": float(tau), "share, limit": float(part["share"]), "theory": theory, "mean": mean,
                     "standard error": error, "deviation": (mean - theory) / error, "least p-value": float(part["pvalue"].min())})
    count, least = data["pvalue"].size, float(data["pvalue"].min())
    away = max(abs(row["deviation"]) for row in rows)
    text = (
        f"of {count} comparisons of samples with the law of their own network the least p-value is {least:.2g} "
        f"(passed above {LEVEL / count:.1g}); the share of the second cluster is "
        + ", ".join(f"{row['mean']:.3g} (theory {row['theory']:.3g})" for row in rows)
        + f", at most {away:.1f} standard errors off"
    )
    return Check(bool(least > LEVEL / count and away < 5.0), text, tuple(rows), data.attrs["failed"])


def plot(data, ax=None):
    """Four times, or the third on a given Axes."""
    taus, panels = TAUS[2:3], [ax]
    if ax is None:
        import matplotlib.pyplot as plt

        taus, panels = TAUS, plt.subplots(2, 2, figsize=(8.6, 8.6))[1].ravel()
    size = json.loads(data.attrs["simulate"])
    centres = problem().clusters.centroids
    for panel, tau in zip(panels, taus, strict=True):
        part = data.sel(tau=tau)
        density = part["density"].values.T
        top = np.log10(density.max())
        shown = np.where(density > 0.0, np.log10(np.maximum(density, 1e-12)), -12.0)
        panel.pcolormesh(part["x"], part["x"], shown, cmap="Blues", vmin=top - 5.0, vmax=top + 0.5, rasterized=True)
        x = part["samples"].values
        x = x[:: max(1, len(x) // 400)]
        panel.plot(*x.T, ".", ms=2.5, alpha=0.6, color=plotting.COLOURS[1])
        panel.plot(*centres.T, "+", ms=11, mew=2.0, color="0.05")
        panel.set_aspect("equal")
        reach = REACH[TAUS.index(tau)]
        panel.set_xlim(-reach, reach)
        panel.set_ylim(-reach, reach)
        panel.set_xlabel("along the first mean")
        panel.set_ylabel(f"along the second mean\n(points: $d = {size['dim']}$)")
        share = f"second mode {100 * float(part['share']):.2g}%"
        panel.set_title(rf"$\tau = {tau:g}$: $V = {float(part['V']):.2g}$, {share}", fontsize="small")
    return panels[0]
