"""A problem over a grid of its parameters: theory at every point, experiments where asked for, in one Dataset."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..names import attributes
from ..numerics import check
from ..problems import solve_many
from ..problems.base import Problem
from ..problems.compare import deviation

_EXAMPLES = {"over": "{'alpha': [1.0, 2.0]}", "simulate": "{'dim': 500, 'seeds': 8}"}
CERTIFICATE = ("converged", "stable", "approximate", "residual", "quadrature_error", "replicon")


def sweep(problem, over: Mapping[str, Any], simulate: Mapping[str, Any] | None = None, *, progress=None, **options):
    """Solve (and simulate) a problem at every point of a grid of its parameters; returns an ``xarray.Dataset``.

    Parameters
    ----------
    problem : any problem; ``problem.replace(**point)`` states its neighbours.
    over : parameter name -> values, numbers or words. One dimension of the result each, in this order.
    simulate : arguments of ``problem.simulate`` (``dim``, ``seeds``, ...), or None for theory alone. One more key,
        ``every``, takes an experiment at every so-manieth value only: of the parameters that it names, ``{"alpha": 4}``,
        or, as a whole number, of all that are numbers (default 1).
    progress : ``progress(done, total, what)``, called as points end.
    options : given to :func:`quenched.problems.solve_many` (``tol``, ``init``, ...).

    Returns
    -------
    A Dataset with, for each observable and order parameter, the theory under its own name, and for what was simulated
    ``<name>_mean``, ``<name>_se`` (standard error over seeds), ``<name>_deviation`` ((mean - theory) / se); ``trials``
    is the number of trials that entered. ``converged``, ``stable``, ``approximate``, ``residual``, ``quadrature_error``,
    ``replicon`` and ``status`` certify each point; ``trusted`` is converged, stable and not approximate. A point that fails does
    not stop the sweep: it is NaN and not trusted, and ``attrs["failed"]`` lists each with its reason. Attributes hold the version
    and all parameters.

    Raises
    ------
    ValueError
        If a name is not a parameter of the problem, a value is refused by it, or no point could be computed.

    Examples
    --------
    >>> import quenched as qn
    >>> problem = qn.problems.GeneralizedLinear("square", target="linear", alpha=1.0, weight_decay=0.1, noise=0.1)
    >>> curve = qn.sweep(problem, over={"alpha": [0.5, 2.0]})
    >>> curve["test_mse_noisy"].values.round(4)
    array([0.6742, 0.1844])
    """
    import xarray as xr

    if not isinstance(problem, Problem):
        got = problem.__name__ if isinstance(problem, type) else type(problem).__name__
        raise ValueError(f"problem must be a problem such as quenched.problems.GeneralizedLinear(...), got {got}")
    for name, table in {"over": over, "simulate": {} if simulate is None else simulate}.items():
        if not isinstance(table, Mapping):
            raise ValueError(f"{name} must be a dict such as {_EXAMPLES[name]}, got {table!r}")
    for name in ("executor", "store"):
        if options.pop(name, None) is not None:
            raise ValueError(f"{name} must be None: this version computes in the calling process and keeps results in memory")
    grid = {name: _values(name, values) for name, values in over.items()}
    if not grid:
        raise ValueError("over must name at least one parameter, got none")
    shape = tuple(len(values) for values in grid.values())
    indices = list(np.ndindex(shape))
    problems = {i: problem.replace(**_point(grid, i)) for i in indices}  # refuses bad values before anything is run
    settings = dict(simulate or {})
    strides = _strides(grid, settings.pop("every", 1))
    chosen = [i for i in indices if all(k % stride == 0 for k, stride in zip(i, strides, strict=True))]
    measured = [] if simulate is None else chosen

    report = check.function("progress", progress) or (lambda done, total, what: None)
    total = len(indices) + len(measured)
    columns, failed = _Columns(shape), []
    solutions = _solve([problems[i] for i in indices], options, lambda done: report(done, total, "theory"))
    for index, solution in zip(indices, solutions, strict=True):
        status = _enter(solution, columns, index)
        if status:
            failed.append(f"{_words(_point(grid, index))}: {status}")
    for done, index in enumerate(measured, start=len(indices)):
        report(done, total, "simulation")
        status = _simulate(problems[index], settings, columns, index)
        if status:
            failed.append(f"{_words(_point(grid, index))}: simulation: {status}")
    report(total, total, "done")
    if all(status for status in columns.texts.flat) and not columns.values:
        raise ValueError(f"no point of the sweep could be computed; the first: {failed[0]}")
    if failed:
        more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
        warnings.warn(f"{len(failed)} points failed: {'; '.join(failed[:3])}{more}", stacklevel=2)

    names = tuple(grid)
    data = {name: _variable(name, values, names) for name, values in columns.values.items()}
    for flag in ("converged", "stable", "approximate"):
        data[flag] = (names, np.nan_to_num(columns.values[flag]).astype(bool))
    data["trusted"] = (names, data["converged"][1] & data["stable"][1] & ~data["approximate"][1])
    data["status"] = (names, columns.texts.astype(str))
    if simulate is not None:
        data["trials"] = (names, np.nan_to_num(columns.values["trials"]).astype(int))
    coordinates = {name: (name, values, attributes(name)) for name, values in grid.items()}
    return xr.Dataset(data, coordinates, _attributes(problem, grid, settings, failed))


class _Columns:
    """Arrays over the grid that appear as names are met; what is never filled stays NaN."""

    def __init__(self, shape):
        self.shape = shape
        self.values: dict[str, np.ndarray] = {}
        self.texts = np.full(shape, "not computed", dtype=object)

    def put(self, name, index, value):
        value = np.asarray(value, dtype=float)
        column = self.values.setdefault(name, np.full(self.shape + value.shape, np.nan))
        column[index] = value


def _solve(problems, options, progress) -> list:
    """A solution for each problem, or the exception with which it refused; in one program where that is possible."""
    try:
        return solve_many(problems, **options, progress=progress)
    except (ValueError, ArithmeticError):
        pass  # one of them refuses: which?
    found = []
    for done, problem in enumerate(problems):
        progress(done)
        try:
            found += solve_many([problem], **options)
        except (ValueError, ArithmeticError) as error:
            found.append(error)
    return found


def _enter(solution, columns, index) -> str:
    """Fill one point of theory; returns why it failed, or an empty string."""
    if isinstance(solution, Exception):
        columns.texts[index] = str(solution)
        return str(solution)
    for name, value in {**solution.order_parameters, **solution.observables}.items():
        columns.put(name, index, value)
    for name in CERTIFICATE:
        columns.put(name, index, getattr(solution, name))
    columns.texts[index] = solution.status
    return "" if solution.converged else str(solution.result)


def _simulate(problem, settings, columns, index) -> str:
    """Fill one point of experiment; returns what a reader must know, or an empty string."""
    from threadpoolctl import threadpool_limits

    # Seeds side by side, each on one thread: threads within small matrix products cost more than they save.
    with warnings.catch_warnings(), threadpool_limits(limits=1, user_api="blas"):
        warnings.simplefilter("ignore")
        trials = problem.simulate(**{"n_jobs": os.cpu_count() or 1, **settings})
    used, count = int(trials.converged.sum()), len(trials.seeds)
    columns.put("trials", index, used)
    for name in trials.values if used else ():
        mean, error, _ = trials[name]
        if name in columns.values:  # in the shape of the theory
            theory = columns.values[name][index]
            mean, error = np.reshape(mean, theory.shape), np.reshape(error, theory.shape)
            columns.put(f"{name}_deviation", index, deviation(theory, mean, error))
        columns.put(f"{name}_mean", index, mean)
        columns.put(f"{name}_se", index, np.where(np.isfinite(error), error, np.nan))
    return f"{count - used} of {count} trials did not converge and were left out" if used < count else ""


def _strides(grid, every) -> list[int]:
    """For every parameter, at which of its values there is an experiment: one in so many."""
    if not isinstance(every, Mapping):
        every = check.integer("every", every)
        return [1 if values.dtype.kind == "U" else every for values in grid.values()]
    for name in every:
        check.choice("every", name, grid)
    return [check.integer(f"every[{name!r}]", every.get(name, 1)) for name in grid]


def _values(name: str, values) -> np.ndarray:
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iufU":
        raise ValueError(f"over[{name!r}] must be a list of numbers or of words, got {values!r}")
    if len(np.unique(array)) < array.size:
        raise ValueError(f"over[{name!r}] must hold each value once, got {array.tolist()}")
    return array


def _point(grid, index) -> dict:
    return {name: values[k].item() for (name, values), k in zip(grid.items(), index, strict=True)}


def _words(point) -> str:
    return ", ".join(f"{name}={f'{value:.6g}' if isinstance(value, float) else value}" for name, value in point.items())


def _variable(name, values, dims):
    """Array observables get dimensions of their own, ``cosine_0``, ``cosine_1``."""
    extra = tuple(f"{name}_{k}" for k in range(values.ndim - len(dims)))
    base = name
    for suffix in ("_mean", "_se", "_deviation"):
        base = base.removesuffix(suffix)
    known = attributes(base)
    if name.endswith("_deviation"):
        known = {"long_name": f"{known['long_name']}: (simulation - theory) / se", "units": "standard errors"}
    return dims + extra, values, known


def _attributes(problem, grid, settings, failed) -> dict:
    from .. import __version__

    parameters = {name: _plain(value) for name, value in problem.parameters.items() if name not in grid}
    return {
        "quenched": __version__,
        "problem": type(problem).__name__,
        "parameters": json.dumps(parameters),
        "simulate": json.dumps({name: _plain(value) for name, value in settings.items()}),
        "failed": "\n".join(failed),
    }


def _plain(value):
    """A parameter as JSON can hold it; functions by their name, laws by their kind."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, np.ndarray, np.generic)) and np.asarray(value).dtype.kind in "biufU":
        return np.asarray(value).tolist()
    return getattr(value, "__name__", type(value).__name__)
