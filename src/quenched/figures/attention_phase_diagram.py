"""Attention: where it learns by position, where by meaning, and where that pays."""

from __future__ import annotations

import contextlib
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np

from .. import plotting
from ..names import attributes
from ..problems import SolveWarning
from ..problems.continuation import Branch
from .along import fixed
from .attention_transition import BRANCHES, problem
from .check import Check

TITLE = "Phase diagram of attention: position or meaning"
CAPTION = (
    "Energy of the semantic minus that of the positional branch, over samples per dimension and the positional share omega of the "
    "target: where attention learns by meaning (blue) the semantic branch is the lower one, where it learns by position (orange) "
    "the positional one. Solid line: the transition, where they are equal; dashed: from there on the semantic branch beats the "
    "best linear positional attention. Hatched: the proximal operator has several minima in more than 1% of the samples of a "
    "branch, and replica symmetry is an approximation. White: one of the branches was not found. Each cell is one point of "
    "theory; lines are interpolated between their centres."
)
REFERENCES = ("H. Cui, F. Behrens, F. Krzakala, L. Zdeborova (2024), arXiv:2402.03902",)
DOUBT = 1e-2
#: Where the semantic branch is the lower one, and where the positional one; white is left for what was not found.
SIDES = ((0.0, "#4292c6"), (0.5, "#c6dbef"), (0.5, "#fee0bf"), (1.0, "#f16913"))
OPTIONS = {"quadrature_tol": 0.05, "tol": 1e-6, "max_steps": 40}  # near a branch's end hundreds of steps would be taken in vain
GONE = 2  # points in a row of the scan that have no solution: below them the branch is not looked for


def _row(omega, alphas, options):
    """(energy, test_mse, bistable_mass, quadrature_error) of both branches along alpha, (2, n, 4), followed downwards."""
    here, table = problem().replace(omega=omega), np.full((len(BRANCHES), len(alphas), 4), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolveWarning)
        for row, name in enumerate(BRANCHES):
            branch, missed = Branch(here, "alpha", name, options), 0
            for column in reversed(range(len(alphas))):
                alpha = float(alphas[column])
                s = branch.at(alpha)
                if s is None:  # the branch ends, or this is too far from its neighbour to be continued from there
                    s = here.replace(alpha=alpha).solve(name, **options)
                    if s.residual > options["tol"] or s.branch != name:
                        missed += 1
                        if missed == GONE:
                            break
                        continue
                    branch.found[alpha] = s
                numbers = (s["free_energy"], s["test_mse"], s["bistable_mass"], s.quadrature_error)
                table[row, column] = [float(x) for x in numbers]
    return table


def study(quick: bool = False, progress=None, workers: int = 2):
    """Both branches on a grid: 3 x 5 points if ``quick``, else 30 x 30, rows in ``workers`` processes."""
    import xarray as xr

    from .. import __version__

    report = progress or (lambda done, total, what: None)
    omegas = np.round(np.linspace(0.1, 0.5, 3 if quick else 30), 4)
    alphas = np.round(np.linspace(0.6, 3.0, 5 if quick else 30), 4)
    rows = []
    options = OPTIONS | ({"quadrature_tol": 0.1} if quick else {})
    pool = None if quick else ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    with pool or contextlib.nullcontext():
        for k, row in enumerate((pool.map if pool else map)(_row, omegas, [alphas] * len(omegas), [options] * len(omegas))):
            rows.append(row)
            report(k + 1, len(omegas), "following both branches")
    table = np.array(rows)  # (omega, branch, alpha, what)
    linear = np.array([problem().replace(omega=omega).linear_attention_mse() for omega in omegas])
    gap = table[:, 1, :, 0] - table[:, 0, :, 0]
    columns = {
        "gap": gap, "advantage": linear[:, None] - table[:, 1, :, 1], "bistable_mass": np.nanmax(np.nan_to_num(table[..., 2]), 1),
        "quadrature_error": np.nanmax(np.nan_to_num(table[..., 3]), 1), "trusted": np.isfinite(gap),
    }  # fmt: skip
    return xr.Dataset(
        {name: (("omega", "alpha"), column) for name, column in columns.items()},
        {"omega": ("omega", omegas, attributes("omega")), "alpha": ("alpha", alphas, attributes("alpha"))},
        {"quenched": __version__, "problem": "Attention", "parameters": fixed(problem(), "omega", "alpha"), "failed": ""},
    )  # fmt: skip


def transitions(data) -> dict[float, float]:
    """omega -> the alpha at which the energies cross, by linear interpolation between points of the grid."""
    found = {}
    for omega in data["omega"].values:
        gap, alphas = data["gap"].sel(omega=omega).values, data["alpha"].values
        for k in range(len(alphas) - 1):
            if gap[k] > 0.0 >= gap[k + 1]:
                found[float(omega)] = float(alphas[k] + gap[k] / (gap[k] - gap[k + 1]) * (alphas[k + 1] - alphas[k]))
                break
    return found


def check(data):
    """Theory alone: the transition must be found, and move to larger samples with the positional share."""
    found = transitions(data)
    rows = tuple({"omega": omega, "alpha_c": alpha} for omega, alpha in found.items())
    rising = bool(np.all(np.diff(list(found.values())) > 0.0))
    error = float(data["quadrature_error"].max())
    ends = (min(found.values(), default=np.nan), max(found.values(), default=np.nan))
    text = (
        f"the transition lies between alpha = {ends[0]:.2f} and {ends[1]:.2f} at {len(found)} of {data.sizes['omega']} "
        f"positional shares (theory alone; quadrature error of the overlaps below {error:.0e})"
    )
    return Check(rising and len(found) >= data.sizes["omega"] // 2, text, rows, "")


def plot(data, ax=None):
    """The map of energy differences with both lines, and what is doubtful hatched."""
    from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
    from matplotlib.patches import Patch

    ax = plotting.axes(ax)
    x, y = data["omega"], data["alpha"]
    gap, mass, advantage = (data[name].transpose("alpha", "omega").values for name in ("gap", "bistable_mass", "advantage"))
    gap = 1e4 * gap
    low, high = min(np.nanmin(gap), -1e-3), max(np.nanmax(gap), 1e-3)
    colours = {"cmap": LinearSegmentedColormap.from_list("sides", SIDES), "norm": TwoSlopeNorm(0.0, low, high)}
    image = ax.pcolormesh(x, y, gap, shading="nearest", **colours)
    ticks = [low, low / 2.0, 0.0, high / 2.0, high]
    ax.figure.colorbar(image, ax=ax, label=r"$10^4\,(e_\mathrm{sem} - e_\mathrm{pos})$", ticks=ticks, format="%.2g")
    hatched = {"hatch": "///", "edgecolor": "0.3", "linewidth": 0.0}
    ax.pcolor(x, y, np.where(mass > DOUBT, 1.0, np.nan), shading="nearest", facecolor="none", **hatched)
    for values, style in ((gap, "-"), (advantage, "--")):
        ax.contour(x, y, values, levels=[0.0], colors="k", linestyles=style, linewidths=2.5)
    handles = [ax.plot([], [], "k", ls=style, label=text)[0] for style, text in (("-", "transition"), ("--", "beats linear"))]
    handles.append(Patch(facecolor="none", label="several minima", **hatched))
    ax.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, handlelength=1.7, handleheight=1.2)
    ax.set_xlabel(plotting.label("omega"))
    ax.set_ylabel(plotting.label("alpha"))
    return ax
