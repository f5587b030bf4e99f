"""A diffusion model learnt by one-pass SGD: modes that are lost, and modes that are not in the data."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from ..problems import OnlineDiffusion
from .check import Check, counted
from .diffusion_training import in_standard_errors, problem

TITLE = "Diffusion learnt by SGD: mode collapse"
CAPTION = (
    "First panel: three clusters of equal weight, two tanh units; the share of generated samples nearest to the second cluster, "
    "which should be 1/3 (dotted), over the training time, for three learning rates and for a second unit that starts with a "
    "tenth of the overlap. Points: samples of actual networks, with bars of one standard error. Second: the distance of the "
    "generated marginals from the target's (Wasserstein, mean of the two directions of the means): there is a best time to stop. "
    "Third: two clusters of weights 0.8 and 0.2 at 2 and -2, and one unit: an odd activation generates both sides equally often "
    "whatever their weights, softplus does not, but is far from the target too."
)
REFERENCES = ("H. Cui, C. Pehlevan, Y. Lu (2025), arXiv:2501.03937",)
CASES = {
    r"$\eta = 0.1$": {"learning_rate": 0.1}, r"$\eta = 0.2$": {}, r"$\eta = 0.4$": {"learning_rate": 0.4},
    r"$\eta = 0.2$, late second unit": {"initialisation": {"informed": [[0.1, 0.0, 0.0], [0.0, 0.01, 0.0]]}},
}  # fmt: skip
MEASURED, AT = r"$\eta = 0.2$", (3.0, 6.0, 10.0, 16.0)
UNITS, REACH = ("tanh", "softplus"), 12.0


def unbalanced(activation: str):
    """Two clusters of unequal weight, and one unit."""
    from .. import laws

    return OnlineDiffusion(
        laws.mixture([0.8, 0.2], gram=[[4.0, -4.0], [-4.0, 4.0]], labels=[0, 1]), units=1, activation=activation, learning_rate=0.3,
        skip_learning_rate=0.5, weight_decay=0.05, times=[(0.4, 0.6)], training_time=5.0,
        initialisation={"informed": 0.2, "b": 0.2},
    )  # fmt: skip


def study(quick: bool = False, progress=None):
    """Shares and distances (case, tau), measured shares at some times (tau_measured), densities (activation, x); a Dataset."""
    import xarray as xr

    from .. import __version__

    size = {"dim": 300, "seeds": 4, "samples": 1500} if quick else {"dim": 600, "seeds": 8, "samples": 3000}
    tau = np.linspace(2.0 if quick else 1.0, 20.0, 10 if quick else 39)
    report = progress or (lambda done, total, what: None)
    share, distance = np.zeros((2, len(CASES), len(tau)))
    for row, (name, settings) in enumerate(CASES.items()):
        report(row, len(CASES) + 1, name)
        case = problem(**settings)
        path = case.online(saveat=tau)
        for column, at in enumerate(tau):
            made = case.generate(path, at=at, log2_nodes=14)
            share[row, column], distance[row, column] = made.fractions()[1], made.wasserstein().mean()
    report(len(CASES), len(CASES) + 1, "simulation")
    columns = {name: np.full((len(CASES), len(tau)), np.nan) for name in ("share_at_d", "mean", "se")}
    row, case = list(CASES).index(MEASURED), problem(**CASES[MEASURED])
    for at in AT:
        column = int(np.argmin(np.abs(tau - at)))
        one = case.replace(training_time=tau[column])
        found = one.simulate(**size)["fractions"]
        theory = one.generate(one.online(saveat=[0.0, tau[column]], dim=size["dim"])).fractions()[1]
        columns["share_at_d"][row, column] = theory
        columns["mean"][row, column], columns["se"][row, column] = found.mean[1], found.standard_error[1]
    x = np.linspace(-REACH, REACH, 241)
    density = []
    for name in UNITS:
        made = unbalanced(name).generate()
        counts = np.histogram(made.points[:, 0], np.append(x, 2 * x[-1] - x[-2]) - 0.5 * (x[1] - x[0]))[0]
        density.append(counts / (len(made.Z) * (x[1] - x[0])))
    return xr.Dataset(
        {"share": (("case", "tau"), share), "distance": (("case", "tau"), distance),
         **{name: (("case", "tau"), column) for name, column in columns.items()},
         "density": (("activation", "place"), np.array(density)), "x": ("place", x),
         "target": ("place", made.target_density(x[:, None]))},
        {"case": list(CASES), "tau": tau, "activation": list(UNITS)},
        {"quenched": __version__, "problem": "OnlineDiffusion", "failed": "", "simulate": json.dumps(size),
         "parameters": json.dumps({"weight_decay": 0.05, "steps": 100})},
    )  # fmt: skip


def check(data):
    """Measured shares in standard errors; tanh generates symmetrically, softplus does not."""
    part, rows = data.sel(case=MEASURED), []
    for column in np.flatnonzero(np.isfinite(part["mean"].values)):
        limit, theory, mean, error = (float(part[name][column]) for name in ("share", "share_at_d", "mean", "se"))
        rows.append({"tau": float(data["tau"][column]), "limit": limit, "theory": theory, "mean": mean, "standard error": error,
                     "deviation": (mean - theory) / error})  # fmt: skip
    verdict = in_standard_errors(rows, data.attrs["failed"])
    right = {name: float(np.sum(data["density"].sel(activation=name).values[data["x"].values > 0.05]) * 0.1) for name in UNITS}
    best = {str(name): float(data["tau"][int(np.argmin(data["distance"].sel(case=name).values))]) for name in data["case"].values}
    text = (
        f"{verdict.text}; of two clusters of weights 0.8 and 0.2 the first gets {right['tanh']:.3g} of the samples with tanh and "
        f"{right['softplus']:.3g} with softplus; distances are least at tau = {', '.join(f'{t:.3g}' for t in best.values())}"
    )
    passed = verdict.passed and abs(right["tanh"] - 0.5) < 0.02 and right["softplus"] > 0.6
    return Check(bool(passed), text, verdict.rows, verdict.failed)


def plot(data, ax=None):
    """Shares, distances and densities; or the shares alone on a given Axes."""
    others = ()
    if ax is None:
        import matplotlib.pyplot as plt

        _, (ax, *others) = plt.subplots(1, 3, figsize=(14.0, 4.2))
    size = json.loads(data.attrs["simulate"])
    for panel, name in zip((ax, *others), ("share", "distance"), strict=False):
        for case, colour in zip(data["case"].values, plotting.COLOURS, strict=False):
            part = data.sel(case=case)
            plotting.line(part["tau"], part[name], ax=panel, color=colour, label=str(case))
            if name == "share":
                plotting.points(part["tau"], part["mean"], part["se"], ax=panel, color=colour)
        panel.set_xlabel(r"steps per dimension $\tau$")
        panel.set_ylim(bottom=0.0)
    ax.axhline(1.0 / 3.0, color="0.4", ls=":")
    ax.set_ylabel("share of the second cluster")
    ax.set_title(f"points: $d = {size['dim']}$, {counted(size['seeds'], 'network')}", fontsize="medium")
    ax.set_ylim(top=0.36)
    ax.legend(loc="upper left", bbox_to_anchor=(0.1, 0.93), fontsize="small")
    if others:
        others[0].set_ylabel("$W_1$ to the target, mean of both directions")
        others[0].legend(loc="lower right", fontsize="small")
        others[1].fill_between(data["x"], data["target"], color="0.85", label="target")
        for name, colour in zip(UNITS, plotting.COLOURS[4:], strict=False):
            others[1].plot(data["x"], data["density"].sel(activation=name), color=colour, label=name)
        others[1].set_xlabel("along the first mean")
        others[1].set_ylabel("density")
        others[1].set_ylim(top=0.42)
        others[1].legend(loc="upper left", ncols=3, fontsize="small")
    return ax
