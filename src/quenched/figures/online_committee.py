"""A committee machine learnt by one-pass SGD: all units are alike for long, then each takes a unit of the target."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from ..names import attributes
from ..problems import Committee
from .check import FAR, NEAR, SHARE, Check, close_ones

TITLE = "One-pass SGD of a committee machine: plateau and specialisation"
CAPTION = (
    "Two erf units learn two erf units by SGD, every step on a fresh sample; time is the number of steps over d. Lines: the "
    "closed equations of motion; points: actual SGD, means and standard errors, from weights with the same overlaps. First panel: "
    "the overlaps of the two units with those of the target (solid with their own, dashed with the other one) at learning rate 1. "
    "They soon are alike, stay so on a plateau, and then specialise. Second: the test error at several learning rates."
)
REFERENCES = ("D. Saad, S. Solla (1995), Phys. Rev. E 52, 4225", "S. Goldt et al. (2019), arXiv:1906.08632")
RATES, NOISE = (0.5, 1.0, 2.0), 0.01
START = {"Q": [[0.3, 0.05], [0.05, 0.2]], "theta": [[[0.05, 0.0], [0.0, 0.02]]]}
#: What a finite dimension adds to standard errors, over d.
SHIFT = 2.0


def problem():
    """Two erf units that learn two erf units from noisy labels."""
    return Committee(2, 2, "erf", alpha=1.0, weight_decay=0.1, noise=NOISE)


def study(quick: bool = False, progress=None):
    """Overlaps and test errors over time for every learning rate: a Dataset over learning_rate, time, unit and target."""
    import xarray as xr

    from .. import __version__

    report = progress or (lambda done, total, what: None)
    dim, seeds, rates = (200, 4, RATES[1:]) if quick else (1000, 8, RATES)
    accuracy = {"tol": 1e-5} if quick else {}  # far below a line's width
    times = np.concatenate([np.linspace(0.0, 7.5, 16), np.linspace(8.0, 80.0, 37)])
    shown = np.searchsorted(times, np.arange(0.0, 81.0, 8.0))
    parts = []
    for k, rate in enumerate(rates):
        report(k, len(rates), f"learning rate {rate:g}")
        path = problem().online(rate, times, 0.0, START, **accuracy)
        trials = path.simulate(dim, seeds, test_samples=1000 if quick else 4000)
        part = {"trusted": ("time", np.full(len(times), path.converged))}
        for name, axes in (("theta", ("unit", "target")), ("Q", ("unit", "other")), ("test_mse", ())):
            part[name] = (("time", *axes), path[name])
            for suffix, found in (("mean", trials[name].mean), ("se", trials[name].standard_error)):
                column = np.full(path[name].shape, np.nan)
                column[shown] = found[shown]
                part[f"{name}_{suffix}"] = (("time", *axes), column)
        parts.append(xr.Dataset(part, {"time": ("time", times, attributes("time"))}))
    report(len(rates), len(rates), "done")
    data = xr.concat(parts, xr.DataArray(np.array(rates), dims="learning_rate", name="learning_rate"))
    about = {"units": 2, "target_units": 2, "activation": "erf", "noise": NOISE, "weight_decay": 0.0}
    return data.assign_attrs(
        {"quenched": __version__, "problem": "Committee", "parameters": json.dumps(about),
         "simulate": json.dumps({"dim": dim, "seeds": seeds}), "failed": ""}
    )  # fmt: skip


def check(data):
    """Deviations of all overlaps in standard errors (and a shift of order 1/d); units must be alike first, and specialise."""
    shift = SHIFT / json.loads(data.attrs["simulate"])["dim"]
    rows = []
    for name in ("theta", "Q", "test_mse"):
        part = data[[name, f"{name}_mean", f"{name}_se"]].isel(time=slice(1, None)).to_dataframe().reset_index().dropna()
        part["deviation"] = (part[f"{name}_mean"] - part[name]) / (part[f"{name}_se"] + shift)
        part = part.rename(columns={name: "theory", f"{name}_mean": "mean", f"{name}_se": "standard error"})
        rows += [{"overlap": name, **row} for row in part.to_dict("records")]
    away = np.abs([row["deviation"] for row in rows])
    near = int(np.sum(away <= NEAR))
    own = data["theta"].sel(learning_rate=1.0)
    gap = np.abs(own.isel(unit=0, target=0) - own.isel(unit=0, target=1)).values
    alike = gap[data["time"].values.searchsorted(8.0)]
    text = (
        f"{close_ones(away, 'measured number', f' (and {SHIFT:g}/d)')} of the theory, the farthest at {away.max():.1f}; "
        f"overlaps with the two targets differ by {alike:.2g} on the plateau, by {gap[-1]:.2g} at the end"
    )
    passed = near >= SHARE * away.size and away.max() <= FAR and alike < 0.1 and gap[-1] > 0.5 and bool(data["trusted"].all())
    return Check(bool(passed), text, tuple(rows), data.attrs["failed"])


def plot(data, ax=None):
    """Overlaps over time, and test errors; or the overlaps alone on a given Axes."""
    other = None
    if ax is None:
        import matplotlib.pyplot as plt

        _, (ax, other) = plt.subplots(1, 2, figsize=(9.5, 4.0))
    part = data.sel(learning_rate=1.0)
    for unit in range(2):
        for target in range(2):
            one, colour = part.isel(unit=unit, target=target), plotting.COLOURS[unit]
            plotting.line(
                one["time"], one["theta"], one["trusted"], ax=ax, color=colour, ls="-" if unit == target else "--",
                label=f"unit {unit + 1}, {'own' if unit == target else 'other'} target",
            )  # fmt: skip
            plotting.points(one["time"], one["theta_mean"], one["theta_se"], ax=ax, color=colour)
    ax.set_xlabel(plotting.label("time"))
    ax.set_ylabel(r"overlap with the target $\theta$")
    ax.legend(loc="upper left", fontsize="small")
    if other is not None:
        for rate, colour in zip(data["learning_rate"].values, plotting.COLOURS, strict=False):
            one = data.sel(learning_rate=rate)
            plotting.line(one["time"], one["test_mse"], one["trusted"], ax=other, color=colour, label=rf"$\eta = {rate:g}$")
            plotting.points(one["time"], one["test_mse_mean"], one["test_mse_se"], ax=other, color=colour)
        other.set_yscale("log")
        other.set_xlabel(plotting.label("time"))
        other.set_ylabel(plotting.label("test_mse"))
        other.legend(loc="upper right")
    return ax
