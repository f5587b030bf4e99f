"""A diffusion model learnt by one-pass SGD: the statistics of its weights in the course of training."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from ..problems import OnlineDiffusion
from .check import FAR, NEAR, SHARE, Check, close_ones, counted

TITLE = "Diffusion learnt by SGD: the course of training"
CAPTION = (
    "Three clusters of unit variance and equal weight at (3, 0), (0, -3), (-3, 0) in high dimension; a denoiser of two tanh units "
    "and a skip connection b is learnt by SGD on fresh points, one a step, at alpha = 0.3, beta = 0.7 (learning rates 0.2, weight "
    "decay 0.05). The units start along the first two means. First panel: their overlaps with these means, second: their squared "
    "norms, both over the number of steps per dimension; third: b. Solid: the limit of high dimension; points: actual networks, "
    "with bars of one standard error; dashed: with the leading 1/d correction of b at the dimension of the experiment. b "
    "overshoots 1 at late times, since at this noise the best b is 1.207 (dotted)."
)
REFERENCES = ("H. Cui, C. Pehlevan, Y. Lu (2025), arXiv:2501.03937",)
STATISTICS = ("M11", "M22", "Q11", "Q22", "b")
_LABELS = {"M11": "$M_{11}$", "M22": "$M_{22}$", "Q11": "$Q_{11}$", "Q22": "$Q_{22}$", "b": "$b$"}
_PANELS = (
    (("M11", "M22"), "overlap with the means"), (("Q11", "Q22"), "squared norm of the weights"), (("b",), "skip connection $b$")
)  # fmt: skip
BEST = 0.7 / (0.3**2 + 0.7**2)


def problem(**settings):
    """The three clusters and two units of the page."""
    from .. import laws

    given = dict(units=2, activation="tanh", learning_rate=0.2, weight_decay=0.05, times=[(0.3, 0.7)], training_time=20.0)
    return OnlineDiffusion(
        laws.mixture([1 / 3] * 3, means=[[3.0, 0.0], [0.0, -3.0], [-3.0, 0.0]], labels=[0, 1, 2]), **{**given, **settings}
    )


def study(quick: bool = False, progress=None):
    """Statistics (statistic, tau): limit, with the correction of b, and measured where they were."""
    import xarray as xr

    from .. import __version__

    size = {"dim": 400, "seeds": 8} if quick else {"dim": 800, "seeds": 16}
    case, tau = problem(), np.linspace(0.0, 20.0, 81)
    measured = np.arange(4, 81, 4)
    if progress is not None:
        progress(0, 1, "training")
    paths = case.online(saveat=tau), case.online(saveat=tau, dim=size["dim"])
    trials = case.simulate(size["dim"], size["seeds"], saveat=tau[measured])
    columns = {name: _table(path) for name, path in zip(("value", "shifted"), paths, strict=True)}
    for name, table in (("mean", trials.mean), ("se", trials.standard_error)):
        columns[name] = np.full((len(STATISTICS), len(tau)), np.nan)
        columns[name][:, measured] = _table(table)
    failed = "".join(f"{path.status}\n" for path in paths if not path.converged)
    return xr.Dataset(
        {name: (("statistic", "tau"), column) for name, column in columns.items()},
        {"statistic": list(STATISTICS), "tau": tau},
        {"quenched": __version__, "problem": "OnlineDiffusion", "failed": failed, "simulate": json.dumps(size),
         "parameters": json.dumps({"learning_rate": 0.2, "weight_decay": 0.05, "units": 2})},
    )  # fmt: skip


def _table(values):
    M, Q = np.asarray(values["M"]), np.asarray(values["Q"])
    return np.stack([M[:, 0, 0], M[:, 1, 1], Q[:, 0, 0], Q[:, 1, 1], np.asarray(values["b"])])


def check(data):
    """Deviations of what was measured from the theory at this dimension, in standard errors."""
    rows = []
    for statistic in data["statistic"].values:
        part = data.sel(statistic=statistic)
        for tau, limit, theory, mean, error in zip(
            part["tau"].values, *(part[name].values for name in ("value", "shifted", "mean", "se")), strict=True
        ):
            if np.isfinite(mean):
                rows.append({"statistic": str(statistic), "tau": float(tau), "limit": float(limit), "theory": float(theory),
                             "mean": float(mean), "standard error": float(error), "deviation": float((mean - theory) / error)})
    return in_standard_errors(rows, data.attrs["failed"])


def in_standard_errors(rows, failed: str) -> Check:
    """The verdict on rows with a ``deviation``."""
    away = np.abs([row["deviation"] for row in rows])
    near = int(np.sum(away <= NEAR))
    text = f"{close_ones(away)} of theory, the farthest at {away.max():.1f}"
    return Check(bool(near >= SHARE * away.size and away.max() <= FAR and not failed), text, tuple(rows), failed)


def plot(data, ax=None):
    """Overlaps, norms and b; or the overlaps alone on a given Axes."""
    panels = [ax]
    if ax is None:
        import matplotlib.pyplot as plt

        _, panels = plt.subplots(1, 3, figsize=(12.5, 4.0))
    size = json.loads(data.attrs["simulate"])
    for panel, (statistics, text) in zip(panels, _PANELS, strict=False):
        for statistic, colour in zip(statistics, plotting.COLOURS, strict=False):
            part = data.sel(statistic=statistic)
            plotting.line(part["tau"], part["value"], ax=panel, color=colour, label=_LABELS[statistic])
            panel.plot(part["tau"], part["shifted"], "--", color=colour, lw=1.0)
            plotting.points(part["tau"], part["mean"], part["se"], ax=panel, color=colour)
        panel.set_xlabel(r"steps per dimension $\tau$")
        panel.set_ylabel(text)
        panel.set_ylim(bottom=0.0)
        panel.legend(loc="lower right")
    panels[0].set_title(f"$d = {size['dim']}$, {counted(size['seeds'], 'network')}", fontsize="medium")
    if len(panels) > 1:
        panels[2].set_ylim(top=1.3)
        panels[2].axhline(BEST, color="0.4", ls=":")
        panels[2].axhline(1.0, color="0.85", lw=1.0, zorder=0)
    return panels[0]
