"""Pictures of sweeps and comparisons: theory as lines, experiments as points, what is not to be trusted hollow.

Every function takes ``ax=`` and returns the Axes; labels come from :mod:`quenched.names`.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import pathlib

import numpy as np

from ..names import label, symbol
from ..numerics import check

# Okabe and Ito's colours, which all readers can tell apart (yellow left out: too faint for a line on white).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")

_COMMON = {
    "axes.grid": False,
    "axes.axisbelow": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "mathtext.fontset": "cm",
    "savefig.bbox": None,  # the file is the whole figure
    "savefig.dpi": 200,
}
STYLES = {
    "paper": _COMMON | {"figure.figsize": (3.4, 2.6), "font.size": 8, "lines.linewidth": 1.2, "lines.markersize": 3.5},
    "screen": _COMMON | {"figure.figsize": (6.0, 4.2), "font.size": 11, "lines.linewidth": 1.8, "lines.markersize": 5},
}


@contextlib.contextmanager
def style(name: str = "paper"):
    """A scope in which figures are drawn for a column of a paper (``"paper"``) or for a page (``"screen"``).

    >>> with style("paper"):
    ...     figure = axes().figure
    >>> figure.get_size_inches().tolist()
    [3.4, 2.6]
    """
    import matplotlib
    from cycler import cycler

    settings = STYLES[check.choice("style", name, STYLES)]
    with matplotlib.rc_context({**settings, "axes.prop_cycle": cycler(color=COLOURS)}):
        yield


def axes(ax=None):
    """``ax``, or the Axes of a new figure.

    >>> import matplotlib.pyplot as plt
    >>> ax = axes()
    >>> axes(ax) is ax
    True
    >>> plt.close(ax.figure)
    """
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots()[1]


def line(x, y, trusted=None, *, ax=None, label=None, color=None, **settings):
    """A line of theory over ``x`` (n,); points where ``trusted`` (n,) is False are left out of it and drawn hollow.

    ``settings`` go to ``Axes.plot``. Returns the Axes.

    >>> import matplotlib.pyplot as plt
    >>> ax = line([1.0, 2.0, 3.0], [0.5, 0.4, 0.3], trusted=[True, True, False], label="theory")
    >>> [drawn.get_xdata().tolist() for drawn in ax.lines]  # the line, and the hollow points
    [[1.0, 2.0, 3.0], [3.0]]
    >>> plt.close(ax.figure)
    """
    ax = axes(ax)
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    trusted = np.isfinite(y) & (np.ones(x.shape, bool) if trusted is None else np.asarray(trusted, bool))
    marker = "o" if trusted.sum() == 1 else None
    (drawn,) = ax.plot(x, np.where(trusted, y, np.nan), label=label, color=color, marker=marker, **settings)
    doubtful = np.isfinite(y) & ~trusted
    if doubtful.any():
        ax.plot(x[doubtful], y[doubtful], "o", mfc="none", mec=drawn.get_color(), label="_doubtful")
    return ax


def points(x, mean, standard_error=None, trusted=None, *, ax=None, label=None, color=None, **settings):
    """Measured means over ``x`` (n,) with bars of one standard error; hollow where ``trusted`` (n,) is False.

    Means that are not finite were not measured, and are left out. Returns the Axes.

    >>> import matplotlib.pyplot as plt
    >>> ax = points([1.0, 2.0], mean=[0.5, 0.4], standard_error=[0.05, 0.04])
    >>> ax.containers[0].lines[0].get_ydata().tolist()
    [0.5, 0.4]
    >>> plt.close(ax.figure)
    """
    ax = axes(ax)
    x, mean = np.asarray(x, dtype=float), np.asarray(mean, dtype=float)
    bars = np.zeros_like(mean) if standard_error is None else np.nan_to_num(np.asarray(standard_error, dtype=float))
    trusted = np.ones(x.shape, bool) if trusted is None else np.asarray(trusted, bool)
    settings = {"fmt": "o", "capsize": 2, "elinewidth": 1, **settings}
    for which, filled in ((trusted, {}), (~trusted, {"mfc": "none"})):
        which = which & np.isfinite(mean)
        if which.any():
            drawn = ax.errorbar(x[which], mean[which], bars[which], color=color, label=label, **filled, **settings)
            color, label = drawn[0].get_color(), "_doubtful"
    return ax


def curve(data, observable: str, x: str | None = None, *, ax=None, log: str = ""):
    """An observable of a sweep: theory as lines, simulations as points, one colour for each value of other parameters.

    Parameters: ``data`` the Dataset of :func:`quenched.sweep`; ``observable`` the name of one of its variables (a
    scalar at each point); ``x`` the swept parameter along the axis (the longest one by default); ``log`` which axes
    are logarithmic, of "", "x", "y", "xy" (x is made so by itself where it spans more than a decade).
    Raises ValueError for a name that the sweep does not hold. Returns the Axes.

    >>> import matplotlib.pyplot as plt, quenched as qn
    >>> ridge = qn.GeneralizedLinear("square", target="linear", alpha=1.0, weight_decay=0.1, noise=0.1)
    >>> ax = curve(qn.sweep(ridge, over={"weight_decay": [0.01, 0.1], "alpha": [0.5, 1.0, 2.0]}), "test_mse")
    >>> [drawn.get_ydata().round(4).tolist() for drawn in ax.lines]
    [[0.593, 0.5018, 0.0964], [0.5742, 0.2702, 0.0844]]
    >>> plt.close(ax.figure)
    """
    over = list(data["trusted"].dims)
    check.choice("observable", observable, [name for name, v in data.data_vars.items() if set(v.dims) == set(over)])
    x = max(over, key=lambda name: data.sizes[name]) if x is None else check.choice("x", x, over)
    check.choice("log", log, ("", "x", "y", "xy", "yx"))
    ax = axes(ax)
    others = [name for name in over if name != x]
    simulated = f"{observable}_mean" in data
    for index, values in enumerate(itertools.product(*(data[name].values for name in others))):
        part = data.sel(dict(zip(others, values, strict=True)))
        named = zip(others, values, strict=True)
        text = ", ".join(value if isinstance(value, str) else f"{symbol(name)} = {value:.4g}" for name, value in named)
        color = COLOURS[index % len(COLOURS)]
        line(part[x], part[observable], part["trusted"], ax=ax, color=color, label=text or "theory")
        if simulated:
            dim = json.loads(data.attrs["simulate"]).get("dim")
            shown = "_simulation" if others else "simulation" + (f", $d = {dim}$" if dim else "")
            mean, error = part[f"{observable}_mean"], part[f"{observable}_se"]
            points(part[x], mean, error, part["trials"] > 1, ax=ax, color=color, label=shown)
    grid = np.asarray(data[x].values, dtype=float)
    if "x" in log or (grid.size > 2 and grid.min() > 0 and grid.max() / grid.min() > 10):
        ax.set_xscale("log")
    if "y" in log:
        ax.set_yscale("log")
    ax.set_xlabel(label(x))
    ax.set_ylabel(label(observable))
    if others or simulated:
        ax.legend()
    return ax


def landscape(problem, over: str | None = None, at=None, *, ax=None, starts=None, direction=None, **options):
    """The free energy with one overlap held at the values ``at``: one line a branch, which shows why a transition happens.

    Filled circles are the branches themselves, triangles the barriers, dotted lines the spinodals, where the curvature of the
    lowest curve changes sign. ``over`` is ``"m"`` or ``"theta"``; ``starts``, ``direction`` and ``options`` as for
    ``problem.landscape``, which gives the numbers; its result alone is taken too. Returns the Axes.

    >>> import matplotlib.pyplot as plt, quenched as qn
    >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
    >>> ax = landscape(ridge, "theta", np.linspace(0.8, 1.0, 5))
    >>> ax.get_ylabel()
    'penalised risk per dimension'
    >>> plt.close(ax.figure)
    """
    found = problem if hasattr(problem, "curves") else problem.landscape(over, at, starts, direction, **options)
    at = np.concatenate([curve.value for curve in found.curves.values()])
    ax = axes(ax)
    for (name, curve), colour in zip(found.curves.items(), COLOURS, strict=False):
        ax.plot(*_smooth(curve.value, curve.energy), color=colour, label=name, zorder=2)
        ax.plot(curve.value, curve.energy, ".", color=colour, ms=3, zorder=2)
        if at.min() <= curve.place <= at.max():
            ax.plot(curve.place, curve.level, "o", color=colour, zorder=3)
    for k, (x, energy) in enumerate(found.barriers):
        ax.plot(x, energy, "^", color="0.2", zorder=3, label="barrier" if k == 0 else "_barrier")
    for k, x in enumerate(found.spinodals):
        ax.axvline(x, color="0.6", ls=":", lw=0.8, zorder=1, label="spinodal" if k == 0 else "_spinodal")
    ax.set_xlabel(f"{label(found.over)}, held")
    ax.set_ylabel(label("free_energy"))
    ax.legend()
    return ax


def _smooth(x, y):
    """The cubic spline through points of a smooth curve, where there are enough of them."""
    from scipy.interpolate import CubicSpline

    if len(x) < 4:
        return x, y
    fine = np.linspace(x[0], x[-1], 200)
    return fine, CubicSpline(x, y)(fine)


def deviations(names, values, *, ax=None):
    """How far theory lies from experiment, in standard errors: one row for each name, within bands of one and two.

    Parameters: ``names`` (n,) strings; ``values`` (n,) (mean - theory) / standard error. Returns the Axes.

    >>> import matplotlib.pyplot as plt
    >>> ax = deviations(["test_error", "train_loss"], [0.5, -4.0])
    >>> [text.get_text() for text in ax.get_yticklabels()]
    ['test error', 'training loss']
    >>> plt.close(ax.figure)
    """
    ax = axes(ax)
    values = np.asarray(values, dtype=float)
    rows = np.arange(len(values))
    reach = 1.15 * max(3.0, np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
    for width in (2.0, 1.0):
        ax.axvspan(-width, width, color="0.5", alpha=0.12, lw=0)
    ax.axvline(0.0, color="0.3", lw=0.8)
    near = np.abs(values) <= 3.0
    for which, colour in ((near, COLOURS[0]), (~near & np.isfinite(values), COLOURS[1])):
        ax.plot(values[which], rows[which], "o", color=colour)
    ax.set_yticks(rows, [label(name) for name in names])
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.set_xlim(-reach, reach)
    ax.set_xlabel("(simulation $-$ theory) / standard error")
    return ax


def save(figure, path, data=None):
    """Write a figure (or an Axes) to ``path`` and its numbers to a CSV of the same name; returns both paths.

    ``data`` is an xarray Dataset (one row for each point of its coordinates, array variables as columns ``name[i,j]``)
    or a dict of equally long columns; without it only the picture is written, and the second path is None.
    ``ValueError`` for columns of unequal length.

    >>> import matplotlib.pyplot as plt
    >>> ax = line([1.0, 2.0], [0.3, 0.1])
    >>> picture, table = save(ax, "curve.png", {"alpha": [1.0, 2.0], "test_mse": [0.3, 0.1]})
    >>> picture.name, table.read_text().split()
    ('curve.png', ['alpha,test_mse', '1.0,0.3', '2.0,0.1'])
    >>> plt.close(ax.figure)
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    getattr(figure, "figure", figure).savefig(path)
    if data is None:
        return path, None
    table = path.with_suffix(".csv")
    data = _columns(data) if hasattr(data, "data_vars") else data
    columns = {name: np.atleast_1d(column) for name, column in data.items()}
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError(f"data must have columns of equal length, got { {n: len(c) for n, c in columns.items()} }")
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path, table


def _columns(data) -> dict[str, np.ndarray]:
    """The points of a Dataset as columns: its coordinates, then its variables, entry by entry where they are arrays."""
    import xarray as xr

    grid = [name for name in data.dims if name in data.coords]
    points = xr.Dataset(coords={name: data[name] for name in grid}).stack(point=grid)
    columns = {name: points[name].values for name in grid}
    for name, variable in data.data_vars.items():
        inner = [dim for dim in variable.dims if dim not in grid]
        values = variable.broadcast_like(data[grid]).transpose(*grid, *inner).values
        for index in np.ndindex(*(data.sizes[dim] for dim in inner)):
            text = f"{name}[{','.join(map(str, index))}]" if index else name
            columns[text] = values[(..., *index)].ravel()
    return columns
