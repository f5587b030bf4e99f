"""Several lines over samples per dimension, each of a problem of its own, with experiments at some places."""

from __future__ import annotations

import json

import numpy as np

from ..names import attributes
from ..studies import sweep
from .check import Check, close_ones, in_standard_errors

SHIFT = 2.0  # what the finite size d adds to the errors of measurements, over d


def closed_form(problem, alphas) -> dict[str, np.ndarray]:
    """Ridge regression on features at all ``alphas``: its errors, all to be trusted."""
    found = problem.ridge(alpha=alphas)
    return {"test_mse": found.test_mse, "train_mse": found.train_mse, "trusted": np.ones(len(alphas), bool)}


def solved(problem, alphas) -> dict[str, np.ndarray]:
    """The saddle point at all ``alphas``: its numbers, and which points are to be trusted."""
    return {name: column.values for name, column in sweep(problem, {"alpha": alphas}).data_vars.items()}


def lines(problems, theory, alphas, measured, observables, *, dim, seeds, progress=None, test_samples=4000, about=None):
    """Theory and experiment of several problems over ``alphas``; a Dataset like a sweep's, over line and alpha.

    - ``problems``: text -> problem; ``theory``: text -> :func:`closed_form` or :func:`solved`.
    - ``measured``: the alphas at which ``seeds`` readouts are trained in dimension ``dim``, or text -> these.
    - ``observables``: names; where a problem has no such thing the numbers are NaN.
    """
    import xarray as xr

    from .. import __version__

    report, shape = progress or (lambda done, total, what: None), (len(problems), len(alphas))
    parts = ("", "_mean", "_se", "_deviation")
    columns = {name + part: np.full(shape, np.nan) for name in observables for part in parts}
    columns |= {"trusted": np.zeros(shape, bool), "trials": np.zeros(shape, int)}
    for row, (text, problem) in enumerate(problems.items()):
        report(row, len(problems), f"{text}, theory")
        found = theory[text](problem, alphas)
        names = [name for name in observables if name in found]
        for name in (*names, "trusted"):
            columns[name][row] = found[name]
        for alpha in measured.get(text, ()) if isinstance(measured, dict) else measured:
            report(row, len(problems), f"{text}, training at alpha = {alpha:.3g}")
            trials = problem.replace(alpha=float(alpha)).simulate(dim, seeds=seeds, test_samples=test_samples)
            column = int(np.argmin(np.abs(alphas - alpha)))
            columns["trials"][row, column] = int(trials.converged.sum())
            for name in (name for name in names if name in trials):
                estimate = trials[name]
                columns[f"{name}_mean"][row, column] = float(estimate.mean)
                columns[f"{name}_se"][row, column] = float(estimate.standard_error)
    report(len(problems), len(problems), "done")
    for name in observables:
        columns[f"{name}_deviation"] = (columns[f"{name}_mean"] - columns[name]) / columns[f"{name}_se"]
    return xr.Dataset(
        {name: (("line", "alpha"), column) for name, column in columns.items()},
        {"line": ("line", list(problems)), "alpha": ("alpha", np.asarray(alphas), attributes("alpha"))},
        {"quenched": __version__, "problem": type(next(iter(problems.values()))).__name__, "parameters": json.dumps(about or {}),
         "simulate": json.dumps({"dim": dim, "seeds": seeds}), "failed": ""},
    )  # fmt: skip


def _named(row) -> dict:
    return {"standard error and shift" if name == "standard error" else name: value for name, value in row.items()}


def all_in_standard_errors(data, observables) -> Check:
    """The verdict of :func:`in_standard_errors` on several observables, all of which must pass.

    Networks of dimension d differ from the limit by a relative O(1/d), which many seeds resolve: ``2 |theory| / d`` is added
    to the standard errors of what is measured.
    """
    dim, verdicts = json.loads(data.attrs["simulate"])["dim"], {}
    for name in observables:
        error = data[f"{name}_se"] + SHIFT * np.abs(data[name]) / dim
        away = (data[f"{name}_mean"] - data[name]) / error
        verdicts[name] = in_standard_errors(data.assign({f"{name}_se": error, f"{name}_deviation": away}), name)
    rows = tuple({"observable": name, **_named(row)} for name, verdict in verdicts.items() for row in verdict.rows)
    away = np.abs([row["deviation"] for row in rows])
    allowed = f" (and a finite-size shift of {SHIFT:g}/d)"
    text = f"{close_ones(away, allowed=allowed)} of the theory, the farthest at {away.max():.1f}"
    return Check(all(verdict.passed for verdict in verdicts.values()), text, rows, data.attrs["failed"])
