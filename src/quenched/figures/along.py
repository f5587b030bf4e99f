"""One observable of the lowest branch along one parameter, with experiments at some of its values."""

from __future__ import annotations

import json

import numpy as np

from ..names import attributes


def along(problem, name: str, values, measured, observable: str, *, dim: int, seeds: int, progress=None, extra=None, **options):
    """Theory and experiment of an autoencoder over ``values`` of the parameter ``name``; a Dataset like a sweep's.

    ``measured``: the values at which networks are trained in dimension ``dim``; ``extra(problem)`` gives further columns;
    ``options`` are those of ``solve``.
    """
    import xarray as xr

    from .. import __version__

    report, values = progress or (lambda done, total, what: None), np.asarray(values)
    theory, mean, error = (np.full(len(values), np.nan) for _ in range(3))
    trusted, trials, more = np.zeros(len(values), bool), np.zeros(len(values), int), []
    for k, value in enumerate(values):
        report(k, len(values), "solving and training")
        at = problem.replace(**{name: float(value)})
        solution = at.solve(init="global", **options)
        theory[k], trusted[k] = float(solution[observable]), solution.converged and solution.stable
        more.append({} if extra is None else extra(at))
        if value in measured:
            estimate = at.simulate(dim, seeds=seeds)[observable]
            mean[k], error[k], trials[k] = float(estimate.mean), float(estimate.standard_error), seeds
    report(len(values), len(values), "done")
    columns = {
        observable: theory, f"{observable}_mean": mean, f"{observable}_se": error,
        f"{observable}_deviation": (mean - theory) / error, "trusted": trusted, "trials": trials,
        **{key: np.array([row[key] for row in more]) for key in more[0]},
    }  # fmt: skip
    return xr.Dataset(
        {key: ((name,), column) for key, column in columns.items()}, {name: (name, values, attributes(name))},
        {"quenched": __version__, "problem": type(problem).__name__, "parameters": json.dumps(repr(problem)),
         "simulate": json.dumps({"dim": dim, "seeds": seeds}), "failed": ""},
    )  # fmt: skip
