"""Attention that counts: one architecture, two solutions."""

from __future__ import annotations

import json

import numpy as np

from .. import plotting
from ..names import attributes
from .check import Check

TITLE = "One attention layer counts in two ways"
CAPTION = (
    "A one-layer transformer learns how often each symbol occurs in its sequence. The same architecture has two solutions, each "
    "first trained with the other part of its queries and keys held at zero, then with everything released. Maps: the attention "
    "of both to one sequence (darker: more); in the semantic one equal symbols attend to each other. Points: how much of the "
    "attention varies from sequence to sequence (0 where positions alone decide, 0.63 where equal symbols share all of it), and "
    "accuracy on fresh sequences."
)
REFERENCES = ("H. Cui, F. Behrens, F. Krzakala, L. Zdeborova (2024), arXiv:2402.03902",)
KINDS = ("positional", "semantic")


def study(quick: bool = False, progress=None):
    """Both kinds trained for a few seeds (quick: one, and shorter); a Dataset over kind and seed, with the attention of the first
    seed to one sequence."""
    import xarray as xr

    from .. import __version__
    from ..finite.counting import train_counting

    report = progress or (lambda done, total, what: None)
    seeds, options = (1, {"batch": 64, "steps": 1500, "release_steps": 1000}) if quick else (3, {})
    runs = []
    for row, kind in enumerate(KINDS):
        runs.append([])
        for seed in range(seeds):
            report(row * seeds + seed, len(KINDS) * seeds, f"training, {kind}")
            runs[-1].append(train_counting(kind, seed=seed, **options))
    report(len(KINDS) * seeds, len(KINDS) * seeds, "done")
    names = ("accuracy", "semanticity")
    numbers = {name: np.array([[float(getattr(run, name)) for run in row] for row in runs]) for name in names}
    maps = np.array([row[0].attention[0] for row in runs])
    columns = {name: (("kind", "seed"), column) for name, column in numbers.items()}
    columns["trusted"] = (("kind", "seed"), np.ones((len(KINDS), seeds), bool))
    columns["attention"] = (("kind", "position", "attended"), maps)
    return xr.Dataset(
        columns,
        {"kind": ("kind", list(KINDS)), "seed": ("seed", np.arange(seeds), attributes("seed"))},
        {"quenched": __version__, "problem": "counting", "parameters": json.dumps(options),
         "simulate": json.dumps({"seeds": seeds}), "failed": "",
         "tokens": json.dumps([np.asarray(row[0].tokens[0]).tolist() for row in runs])},
    )  # fmt: skip


def check(data):
    """Both solutions must count better than three in four, and differ in what their attention depends on."""
    accuracy, share = (data[name].mean("seed") for name in ("accuracy", "semanticity"))
    each = {kind: (float(accuracy.sel(kind=kind)), float(share.sel(kind=kind))) for kind in KINDS}
    text = "; ".join(f"{kind}: accuracy {a:.3f}, relative variance of attention {s:.2f}" for kind, (a, s) in each.items())
    apart = float(share.sel(kind="semantic")) > 0.5 > 2.0 * float(share.sel(kind="positional"))
    rows = tuple(data[["accuracy", "semanticity"]].to_dataframe().reset_index().to_dict("records"))
    return Check(bool(apart and float(accuracy.min()) > 0.75), text, rows, "")


def plot(data, ax=None):
    """Two attention matrices and what they depend on; the last alone on a given Axes."""
    if ax is None:
        import matplotlib.pyplot as plt

        figure, panels = plt.subplots(1, 3, figsize=(11.0, 3.6))
        for panel, kind, tokens in zip(panels, KINDS, json.loads(data.attrs["tokens"]), strict=False):
            names = [chr(ord("a") + int(token)) for token in tokens]
            panel.imshow(data["attention"].sel(kind=kind), cmap="Blues", vmin=0.0)
            panel.set_xticks(range(len(names)), names)
            panel.set_yticks(range(len(names)), names)
            panel.set_title(kind)
            panel.set_xlabel("attended symbol")
            panel.set_ylabel("attending symbol")
        ax = panels[2]
    for kind, colour in zip(KINDS, plotting.COLOURS, strict=False):
        part = data.sel(kind=kind)
        ax.plot(part["semanticity"], part["accuracy"], "o", color=colour, label=kind)
    ax.set_xlabel("relative variance of attention")
    ax.set_ylabel("accuracy")
    ax.set_xlim(-0.05, 0.7)
    ax.set_ylim(min(0.9, float(data["accuracy"].min()) - 0.01), 1.0)
    ax.legend()
    return ax
