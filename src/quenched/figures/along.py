"""One observable of the lowest branch along one parameter, with experiments at some of its values."""

from __future__ import annotations

import json

import numpy as np

from ..names import attributes
from ..studies.table import plain


def fixed(problem, *swept: str) -> str:
    """The parameters of a problem but those that are ``swept``, as a Dataset's attribute."""
    return json.dumps({name: plain(value) for name, value in problem.parameters.items() if name not in swept})


def along(
    problem, name: str, values, measured, observable: str, *, dim: int, seeds: int, anchors=None, known=None, progress=None,
    extra=None, **options,
):  # fmt: skip
    """Theory and experiment of an autoencoder over ``values`` of the parameter ``name``; a Dataset like a sweep's.

    ``measured``: the values at which networks are trained in dimension ``dim``; ``anchors``: those at which all starts are tried,
    from the nearest of which the others are continued (None: all); ``known``: value -> the observable where it need not be solved
    for; ``extra(problem)`` gives further columns; ``options`` are those of ``solve``.
    """
    import xarray as xr

    from .. import __version__

    report, values = progress or (lambda done, total, what: None), np.asarray(values)
    theory, mean, error = (np.full(len(values), np.nan) for _ in range(3))
    trusted, trials, known = np.ones(len(values), bool), np.zeros(len(values), int), known or {}
    problems = [problem.replace(**{name: float(value)}) for value in values]
    more = [{} if extra is None else extra(at) for at in problems]
    told = np.isin(values, list(known))
    first, solutions = ~told & np.isin(values, values if anchors is None else anchors), {}
    for done, k in enumerate(np.argsort(~first, kind="stable")):
        report(done, len(values), "solving and training")
        at, value = problems[k], float(values[k])
        if value in measured:
            estimate = at.simulate(dim, seeds=seeds)[observable]
            mean[k], error[k], trials[k] = float(estimate.mean), float(estimate.standard_error), seeds
        if told[k]:
            theory[k] = known[value]
            continue
        first[k] |= not solutions
        init = "global" if first[k] else solutions[min(solutions, key=lambda other: abs(other - value))]
        solution = at.solve(init=init, **options)
        theory[k], trusted[k] = float(solution[observable]), solution.converged and solution.stable
        if first[k]:
            solutions[value] = solution
    report(len(values), len(values), "done")
    columns = {
        observable: theory, f"{observable}_mean": mean, f"{observable}_se": error,
        f"{observable}_deviation": (mean - theory) / error, "trusted": trusted, "trials": trials,
        **{key: np.array([row[key] for row in more]) for key in more[0]},
    }  # fmt: skip
    return xr.Dataset(
        {key: ((name,), column) for key, column in columns.items()}, {name: (name, values, attributes(name))},
        {"quenched": __version__, "problem": type(problem).__name__, "parameters": fixed(problem, name),
         "simulate": json.dumps({"dim": dim, "seeds": seeds}), "failed": ""},
    )  # fmt: skip
