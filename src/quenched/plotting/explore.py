"""A Dataset on one page to play with: theory as lines, experiments as points, a slider for each further parameter."""

from __future__ import annotations

import html
import itertools
import os
import pathlib

import numpy as np

from ..names import NAMES, label, symbol
from ..numerics import check
from .markup import as_html, as_text, wrapped
from .page import embedded, page, settings
from .pictures import COLOURS

#: A page beyond this many bytes is refused: phones would stumble.
LARGEST = 2_000_000
_SUFFIXES = ("_mean", "_se", "_deviation")
_DIAGNOSTICS = ("residual", "quadrature_error", "replicon", "trials", "iterations")


def explorer(dataset, sliders=None, path="explorer.html", *, x: str | None = None, y=None, title: str | None = None):
    """Write a page that shows a Dataset: lines of theory, points of experiments, and a slider for each of some parameters.

    The page holds its data and all its code; it needs no server and no network. What is not to be trusted is hollow and dotted.

    Parameters
    ----------
    dataset : what :func:`quenched.sweep` returns, or any Dataset of its form: ``<name>`` for theory and ``<name>_mean``,
        ``<name>_se`` for experiments. Its parameters are the dimensions of ``trusted``, or, without it, all that have coordinates.
    sliders : names of the parameters that get a slider (default: all but ``x``). Those that are neither ``x`` nor here are drawn
        as one curve for each value, and so are the entries of observables that are arrays.
    path : where the page goes; directories are made.
    x : the parameter along the axis (default: ``time``, or else the longest one that is no slider and has numbers).
    y : the observables to choose from, a name or several (default: all that were measured, or all of theory if none was).
    title : the heading (default: the problem's name).

    Returns
    -------
    The page's ``pathlib.Path``.

    Raises
    ------
    ValueError
        For a name that the Dataset does not hold, if no parameter of numbers is left for the axis, or if the page would be larger
        than 2 MB.

    Examples
    --------
    >>> import quenched as qn
    >>> problem = qn.GeneralizedLinear("square", target="linear", alpha=1.0, weight_decay=0.1, noise=0.1)
    >>> table = qn.sweep(problem, over={"weight_decay": [0.01, 0.1], "alpha": [0.5, 1.0, 2.0]})
    >>> path = explorer(table, sliders=["weight_decay"], path="ridge.html")
    >>> path.name, path.stat().st_size < 2_000_000
    ('ridge.html', True)
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ValueError(f"path must be where the page goes, got {path!r}")
    contents = page_data(dataset, sliders, x=x, y=y, title=title)
    text = page(contents["title"], _body(contents), "explorer.js")
    size = len(text.encode())
    if size > LARGEST:
        raise ValueError(
            f"dataset must make a page of at most {LARGEST / 1e6:g} MB, got {size / 1e6:.1f} MB: name fewer observables in y, "
            f"or keep fewer values of {', '.join(dataset.sizes)}, such as dataset.isel(..., slice(None, None, 2))"
        )
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def page_data(dataset, sliders=None, *, x=None, y=None, title=None) -> dict:
    """What the page of :func:`explorer` holds, as plain values: the axis, the sliders, and each observable's numbers.

    Numbers are flat arrays over (sliders..., curve, x), in row-major order.
    """
    import xarray as xr

    if not isinstance(dataset, xr.Dataset):
        raise ValueError(f"dataset must be an xarray.Dataset as quenched.sweep returns it, got {type(dataset).__name__}")
    over = _parameters(dataset)
    if not over:
        raise ValueError("dataset must have at least one parameter, a dimension with coordinates, got none")
    numeric = [name for name in over if dataset[name].dtype.kind in "iuf"]
    if isinstance(sliders, str):
        sliders = [sliders]
    if sliders is not None:
        sliders = list(check.listed("sliders", sliders))
    if title is not None and not isinstance(title, str):
        raise ValueError(f"title must be a text, got {title!r}")
    for name in sliders or ():
        check.choice("sliders", name, over)
    if x is not None:
        check.choice("x", x, numeric)
        if x in (sliders or ()):
            raise ValueError(f"sliders must not name x, which is {x!r}, got {list(sliders)}")
    else:
        free = [name for name in numeric if name not in (sliders or ())]
        if not free:
            raise ValueError(
                f"sliders must leave one parameter of numbers for the axis, of {', '.join(over)}, got {list(sliders or ())}"
            )
        x = "time" if "time" in free else max(free, key=lambda name: dataset.sizes[name])
    sliders = [name for name in over if name != x] if sliders is None else list(dict.fromkeys(sliders))
    known = _observables(dataset, over)
    if y is None:
        seen = [name for name in known if any(np.isfinite(dataset[n]).any() for n in (name, f"{name}_mean") if n in dataset)]
        measured = [name for name in seen if f"{name}_mean" in dataset]
        y = sorted(measured or seen, key=lambda name: not name.startswith("test_"))
    y = [y] if isinstance(y, str) else list(check.listed("y", y))
    for name in y:
        check.choice("y", name, known)
    if not y:
        raise ValueError("y must name at least one observable of the dataset, got none")
    dataset = dataset.sortby(x)
    curves = [name for name in over if name not in (x, *sliders)]
    observables = [_observable(dataset, name, sliders, curves, x) for name in y]
    at = dataset[x].values.astype(float)
    return {
        "title": title or str(dataset.attrs.get("problem", "Theory and experiment")),
        "about": settings(dataset.attrs, dataset.coords),
        "colours": list(COLOURS),
        "x": {"name": x, "title": _title(dataset[x], x), "values": at, "log": _decades(at, 10.0), "positive": bool(at.min() > 0)},
        "sliders": [_slider(dataset, name, k, sliders, observables) for k, name in enumerate(sliders)],
        "observables": observables,
    }


def _parameters(dataset) -> list[str]:
    if "trusted" in dataset:
        return [str(name) for name in dataset["trusted"].dims]
    return [str(name) for name in dataset.dims if name in dataset.coords]


def _observables(dataset, over) -> list[str]:
    """Names with theory or experiment that have every parameter as a dimension."""
    found = []
    for name, variable in dataset.data_vars.items():
        base = next((name.removesuffix(end) for end in _SUFFIXES if name.endswith(end)), name)
        whole = set(over) <= set(variable.dims) and variable.dtype.kind == "f"
        if whole and base not in found and base not in _DIAGNOSTICS and (base in dataset or f"{base}_mean" in dataset):
            found.append(base)
    return found


def _observable(dataset, name, sliders, curves, x) -> dict:
    known = dataset[name if name in dataset else f"{name}_mean"]
    inner = [dim for dim in known.dims if dim not in (x, *sliders, *curves)]
    order = (*sliders, *curves, *inner, x)
    like = known.transpose(*order)

    def flat(key, default):
        if key not in dataset:
            return np.full(like.size, default)
        return dataset[key].broadcast_like(like).transpose(*order).values.ravel()

    theory, mean = flat(name, np.nan).astype(float), flat(f"{name}_mean", np.nan).astype(float)
    trusted, sound = flat("trusted", True).astype(bool), flat("trials", 2) > 1
    shown = np.concatenate([theory, mean])
    shown = shown[np.isfinite(shown)]
    if not shown.size:
        raise ValueError(f"y must name observables with at least one number, got {name!r}, which has none")
    return {
        "name": name, "text": _choice(known, name), "title": _title(known, name),
        "curves": _curves(dataset, name, curves, inner), "positive": bool(shown.min() > 0), "log": _decades(shown, 30.0),
        "theory": theory, "trusted": None if trusted.all() else trusted.astype(int),
        "mean": mean if np.isfinite(mean).any() else None, "error": flat(f"{name}_se", np.nan).astype(float),
        "sound": None if sound.all() else sound.astype(int),
    }  # fmt: skip


def _curves(dataset, name, curves, inner) -> list[str]:
    """What each curve is called, in HTML; "" where there is one only."""
    values = [dataset[dim].values if dim in dataset.coords else np.arange(dataset.sizes[dim]) for dim in (*curves, *inner)]
    names = []
    for point in itertools.product(*values):
        outer, entries = point[: len(curves)], point[len(curves) :]
        words = [str(v) if isinstance(v, str) else f"{symbol(n)} = {v:.4g}" for n, v in zip(curves, outer, strict=True)]
        if entries:
            words.append(f"{symbol(name)}[{', '.join(str(v) for v in entries)}]")
        names.append(as_html(", ".join(words)))
    return names


def _slider(dataset, name, axis, sliders, observables) -> dict:
    """A slider starts in the middle, or at the value nearest to it where something was measured."""
    values = dataset[name].values
    measured = np.zeros(len(values), bool)
    for one in observables:
        if one["mean"] is not None:
            grid = np.isfinite(one["mean"]).reshape(*(dataset.sizes[dim] for dim in sliders), -1)
            measured |= np.moveaxis(grid, axis, 0).reshape(len(values), -1).any(1)
    candidates = np.flatnonzero(measured) if measured.any() else np.arange(len(values))
    start = candidates[np.argmin(np.abs(candidates - (len(values) - 1) / 2))]
    return {
        "name": name, "title": as_html(_words(dataset[name], name)), "start": start,
        "values": [str(v) if isinstance(v, str) else f"{v:.4g}" for v in values],
    }  # fmt: skip


def _words(variable, name) -> str:
    """The Dataset's own name of a variable, or the short label where that is the registry's."""
    own = variable.attrs.get("long_name", "")
    known = NAMES[name].description if name in NAMES else ""
    return own if own and own not in (known, name.replace("_", " ")) else label(name)


def _choice(variable, name) -> str:
    """A name in the list of observables; what is but a symbol is explained."""
    words = _words(variable, name)
    return as_text(words) + (f": {NAMES[name].description}" if words == symbol(name) and name in NAMES and "$" in words else "")


def _title(variable, name) -> str:
    unit = variable.attrs.get("units", "")
    words = _words(variable, name)
    shown = f"{words} ({unit})" if unit and unit != "1" and "(" not in words and not _same(unit, words) else words
    return wrapped(shown)


def _same(unit, words) -> bool:
    """Whether a label says its unit already, as "samples per dimension" does."""
    return unit.split()[0] in words


def _decades(values, span) -> bool:
    return bool(values.min() > 0 and values.max() > span * values.min())


def _body(contents) -> str:
    title = html.escape(contents["title"])
    options = "".join(f'<option value="{k}">{html.escape(one["text"])}</option>' for k, one in enumerate(contents["observables"]))
    sliders = "".join(
        f'<label class="slider" for="slider-{k}"><span>{one["title"]}</span><output id="value-{k}"></output>'
        f'<input type="range" id="slider-{k}" min="0" max="{len(one["values"]) - 1}" step="1" value="{one["start"]}"></label>'
        for k, one in enumerate(contents["sliders"])
    )
    about = html.escape(contents["about"])
    return (
        f'<main class="wide"><h1>{title}</h1><div class="controls">'
        f'<select id="observable" aria-label="what is shown">{options}</select>'
        '<button id="log-x" type="button">log <i>x</i></button><button id="log-y" type="button">log <i>y</i></button>'
        '<button id="hold" type="button" title="keep the vertical axis while sliders move">hold axis</button></div>'
        f'<div id="chart" class="chart large"></div><div class="sliders">{sliders}</div>'
        '<p id="status" class="small" role="status"></p>'
        '<p class="small">Lines are theory in the limit of large dimension, points are experiments at finite size with one '
        "standard error; what is hollow or dotted is not to be trusted. A click on a name in the legend hides its curve, a double "
        f'click all others.</p><p class="small">{about}</p></main>{embedded(contents, id="data")}'
    )
