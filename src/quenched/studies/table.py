"""One Dataset of what is finished: theory, means and standard errors of the experiments, certificates."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from ..names import attributes
from ..problems.compare import deviation
from .records import CERTIFICATE, Solved, Trial, padded

NOT_COMPUTED = "not computed"
_FLAGS = ("converged", "stable", "approximate")


def dataset(grid, solved: dict, trials: dict, seeds: dict, attrs: dict, troubles: dict, theory: bool = True):
    """The Dataset of a sweep as far as it is finished.

    ``solved``: index -> :class:`Solved`, or None; ``trials``: (key of a point, seed) -> :class:`Trial`; ``seeds``: index -> names
    of the seeds that are measured there (empty: no experiment at all); ``troubles``: index -> list of what went wrong there and
    is not stored; ``attrs``: attributes. ``theory``: whether there is any.
    """
    import xarray as xr

    columns: dict[str, np.ndarray] = {}
    if theory:
        columns |= _columns(grid, {index: record.values for index, record in solved.items() if record is not None})
        for name in CERTIFICATE:
            columns.setdefault(name, np.full(grid.shape, np.nan))
    measured = {}
    for index, names in seeds.items():
        done = _done(grid, trials, index, names)
        measured[index] = _measured(done, None if solved[index] is None else solved[index].values)
    columns |= _columns(grid, measured)

    data = {name: _variable(name, values, grid.names) for name, values in columns.items()}
    if theory:
        for flag in _FLAGS:
            data[flag] = (grid.names, np.nan_to_num(columns[flag]).astype(bool))
        data["trusted"] = (grid.names, data["converged"][1] & data["stable"][1] & ~data["approximate"][1])
        status = np.full(grid.shape, NOT_COMPUTED, dtype=object)
        for index, record in solved.items():
            status[index] = record.status if record is not None else "; ".join(troubles.get(index, [])[:1]) or NOT_COMPUTED
        data["status"] = (grid.names, status.astype(str))
    if seeds:
        counts = columns.get("trials", np.zeros(grid.shape))
        data["trials"] = (grid.names, np.nan_to_num(counts).astype(int), attributes("trials"))
    coordinates = {name: (name, values, attributes(name)) for name, values in grid.over.items()}
    return xr.Dataset(data, coordinates, attrs | {"failed": "\n".join(failures(grid, solved, trials, seeds, troubles))})


def failures(grid, solved: dict, trials: dict, seeds: dict, troubles: dict) -> list[str]:
    """One sentence for every point that is not as asked, in the order of the grid; arguments as of :func:`dataset`."""
    found = []
    for index in grid.indices:
        record = solved[index]
        reasons = [record.failed] if isinstance(record, Solved) and record.failed else []
        done = _done(grid, trials, index, seeds.get(index, ()))
        left_out = [trial for trial in done if not trial.converged]
        if left_out:
            reasons.append(f"simulation: {len(left_out)} of {len(done)} trials were left out: {left_out[0].status}")
        found += [f"{grid.words(index)}: {reason}" for reason in [*reasons, *troubles.get(index, [])]]
    return found


def _done(grid, trials: dict, index, names) -> list[Trial]:
    key = grid.key(index)
    return [trials[key, name] for name in names if (key, name) in trials]


def _measured(done: list[Trial], theory) -> dict[str, np.ndarray]:
    """Means over the trials that converged, their standard errors, and the distance to the theory in these."""
    kept = [trial for trial in done if trial.converged]
    out: dict[str, np.ndarray] = {}
    for name in kept[0].values if kept else ():
        rows = padded([trial.values.get(name) for trial in kept])
        mean = rows.mean(axis=0)
        error = rows.std(axis=0, ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else np.full(mean.shape, np.nan)
        if theory and name in theory and np.size(theory[name]) == mean.size:  # in the shape of the theory
            shape = np.shape(theory[name])
            mean, error = mean.reshape(shape), error.reshape(shape)
            known = np.where(np.isfinite(error), error, np.inf)
            out[f"{name}_deviation"] = np.asarray(deviation(theory[name], mean, known), dtype=float)
        out[f"{name}_mean"], out[f"{name}_se"] = mean, error
    return out | {"trials": np.asarray(float(len(kept)))}


def _columns(grid, rows: dict) -> dict[str, np.ndarray]:
    """index -> (name -> array) as name -> one array over the grid, NaN where there is nothing."""
    names = dict.fromkeys(name for row in rows.values() for name in row)
    stacked = {name: padded([rows.get(index, {}).get(name) for index in grid.indices]) for name in names}
    return {name: array.reshape(grid.shape + array.shape[1:]) for name, array in stacked.items()}


def _variable(name: str, values, dims):
    """Array observables get dimensions of their own, ``cosine_0``, ``cosine_1``."""
    base = name
    for suffix in ("_mean", "_se", "_deviation"):
        base = base.removesuffix(suffix)
    extra = tuple(f"{name}_{k}" for k in range(values.ndim - len(dims)))
    known = attributes(base)
    if name.endswith("_deviation"):
        known = {"long_name": f"{known['long_name']}: (simulation - theory) / se", "units": "standard errors"}
    return dims + extra, values, known


def plain(value):
    """A parameter as JSON can hold it; functions by their name, laws by their kind."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, np.ndarray, np.generic)) and np.asarray(value).dtype.kind in "biufU":
        return np.asarray(value).tolist()
    return getattr(value, "__name__", type(value).__name__)


def attributes_of(problem, grid, settings) -> dict:
    """The version, the problem, its parameters and those of the experiment."""
    from .. import __version__

    parameters = {name: plain(value) for name, value in problem.parameters.items() if name not in grid.over}
    return {
        "quenched": __version__,
        "problem": type(problem).__name__,
        "parameters": json.dumps(parameters),
        "simulate": json.dumps({name: plain(value) for name, value in settings.items()}),
    }
