"""Shipped explorers: a problem over one axis and some sliders, as a page to play with (see :func:`quenched.plotting.explorer`).

``EXPLORERS`` holds, for every name, a ``TITLE``, the ``sliders``, and ``study(quick, progress) -> xarray.Dataset``.
"""

from __future__ import annotations

import itertools
import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import plotting
from ..names import attributes
from ..numerics import check
from ..studies import sweep
from . import EXPLORERS as NAMES

#: Of the Gaussian averages at quick sizes, as a share of the results: finer than a screen shows, and one program for all points.
TOLERANCE = 1e-3


class Explorer(NamedTuple):
    """What a page shows: its ``title``, which parameters are ``sliders``, the observables ``y``, and how it is computed."""

    title: str
    sliders: tuple[str, ...]
    y: tuple[str, ...]
    study: Callable[..., Any]


def logistic(quick: bool = False, progress=None):
    """Logistic regression on labels of a linear teacher: over alpha, for weight decays and noises."""
    from ..problems import GeneralizedLinear

    problem = GeneralizedLinear("logistic", target="sign", alpha=1.0, weight_decay=0.1)
    noises, decays, count = ((0.0, 0.5), 4, 21) if quick else ((0.0, 0.25, 0.5, 1.0), 13, 41)
    over = {"noise": noises, "weight_decay": np.geomspace(1e-3, 1.0, decays), "alpha": np.geomspace(0.2, 10.0, count)}
    every = {"alpha": (count - 1) // (2 if quick else 5), "weight_decay": 3}
    simulate = {"dim": 200, "seeds": 4} if quick else {"dim": 500, "seeds": 8}
    return sweep(problem, over, simulate | {"every": every}, progress=progress, quadrature_tol=TOLERANCE if quick else None)


def double_descent(quick: bool = False, progress=None):
    """Ridge regression on random relu features: over alpha, for weight decays, noises and numbers of features."""
    from ..laws import DeepNetwork
    from ..problems import DeepFeatures

    size = {"dim": 50, "seeds": 4} if quick else {"dim": 100, "seeds": 8}
    over = {
        "width_ratio": np.array([1.0, 2.0] if quick else [0.5, 1.0, 2.0, 4.0]), "noise": np.array([0.0, 0.1, 0.5]),
        "weight_decay": 10.0 ** np.arange(-4.0, 0.1, 1.0 if quick else 0.5),
    }  # fmt: skip
    alphas = np.geomspace(0.2, 20.0, 61)
    learners = {width: DeepNetwork(width_ratios=[width], activations="relu") for width in over["width_ratio"]}
    problems = {
        width: DeepFeatures(learner, None, "square", alpha=1.0, weight_decay=0.1, noise=0.1) for width, learner in learners.items()
    }
    chosen = (1e-4, 1e-2) if quick else (1e-4, 1e-2, 1.0)

    def theory(width_ratio, **point):
        found = problems[width_ratio].ridge(alpha=alphas, **point)
        return {"test_mse": found.test_mse, "train_mse": found.train_mse}

    def experiment(width_ratio, weight_decay, noise):
        if noise != 0.1 or not np.isclose(weight_decay, chosen).any():
            return None
        problem, places = problems[width_ratio].replace(weight_decay=weight_decay, noise=noise), range(6, 61, 18 if quick else 8)
        trials = {k: problem.replace(alpha=alphas[k]).simulate(size["dim"], seeds=size["seeds"]) for k in places}
        return {name: _rows({k: one[name] for k, one in trials.items()}, len(alphas)) for name in ("test_mse", "train_mse")}

    about = {"problem": "DeepFeatures", "activations": "relu", "loss": "square", "target": "linear"}
    return _table(over, {"alpha": alphas}, theory, experiment, about, size, progress)


def attention(quick: bool = False, progress=None):
    """Attention that learns by position or by meaning, both branches: over alpha, for shares of position in the target."""
    from ..problems import follow
    from . import attention_transition as figure

    size = {"dim": 300, "seeds": 4} if quick else {"dim": 1000, "seeds": 16}
    omegas = np.array([0.2, 0.3] if quick else [0.1, 0.2, 0.3, 0.4])
    alphas = np.linspace(0.9, 2.2, 5 if quick else 14)
    trained = alphas[2::2] if quick else alphas[3::4]
    found: dict = {}

    def path(omega, branch):
        if (omega, branch) not in found:
            found[omega, branch] = follow(
                figure.problem().replace(omega=float(omega)), "alpha", alphas[::-1], branch, quadrature_tol=0.05
            )
        solutions = [found[omega, branch].get(float(alpha)) for alpha in alphas]
        return [one if one is not None and one.branch == branch else None for one in solutions]

    def theory(omega, branch):
        solutions = path(omega, branch)
        columns = {
            name: np.array([np.nan if one is None else float(one[name]) for one in solutions])
            for name in ("test_mse", "free_energy", "bistable_mass")
        }
        sound = [one is not None and one.residual < 1e-6 and float(one["bistable_mass"]) < figure.DOUBT for one in solutions]
        return {**columns, "trusted": np.array(sound)}

    def experiment(omega, branch):
        rows: dict = {"test_mse": {}, "free_energy": {}}
        for k, solution in enumerate(path(omega, branch)):
            if solution is None or alphas[k] not in trained or (quick and omega != omegas[-1]):
                continue
            runs, shift = solution.problem.simulate(init=branch, **size), solution.problem.encoding_shift(solution, size["dim"])
            for name, row in rows.items():
                row[k] = (runs[name].mean - shift[name], runs[name].standard_error)
        return {name: _rows(row, len(alphas)) for name, row in rows.items() if row}

    over = {"omega": omegas, "branch": np.array(figure.BRANCHES)}
    about = {"problem": "Attention", "weight_decay": 0.01, "token_std": 0.5}
    return _table(over, {"alpha": alphas}, theory, experiment, about, size, progress)


def online_committee(quick: bool = False, progress=None):
    """A committee machine learnt by one-pass SGD: over time, for learning rates and weight decays."""
    from . import online_committee as figure

    size = {"dim": 200, "seeds": 4} if quick else {"dim": 1000, "seeds": 8}
    over = {
        "weight_decay": np.array([0.0, 0.02] if quick else [0.0, 0.01, 0.02, 0.05]),
        "learning_rate": np.array([0.5, 0.75, 1.0] if quick else [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0]),
    }  # fmt: skip
    times, found = np.linspace(0.0, 80.0, 41), {}
    accuracy = {"tol": 1e-5, "quadrature_tol": 10.0 * TOLERANCE} if quick else {}

    def theory(learning_rate, weight_decay):
        path = figure.problem().online(learning_rate, times, weight_decay, figure.START, **accuracy)
        found[learning_rate, weight_decay] = path
        return {**{name: path[name] for name in ("theta", "test_mse")}, "trusted": np.full(len(times), path.converged)}

    def experiment(learning_rate, weight_decay):
        if quick and (learning_rate, weight_decay) != (1.0, 0.0):
            return None
        trials = found[learning_rate, weight_decay].simulate(**size, test_samples=500 if quick else 4000)
        shown = range(0, len(times), 4)
        return {
            name: _rows({k: (trials[name].mean[k], trials[name].standard_error[k]) for k in shown}, len(times))
            for name in ("theta", "test_mse")
        }

    about = {"problem": "Committee", "units": 2, "target_units": 2, "activation": "erf", "noise": figure.NOISE}
    return _table(over, {"time": times}, theory, experiment, about, size, progress, {"theta": ("unit", "target")})


EXPLORERS = dict(
    zip(
        NAMES,
        (
            Explorer("Logistic regression", ("noise", "weight_decay"), ("test_error", "train_loss", "cosine"), logistic),
            Explorer("Double descent", ("width_ratio", "noise", "weight_decay"), ("test_mse", "train_mse"), double_descent),
            Explorer("Attention by position or by meaning", ("omega",), ("test_mse", "free_energy", "bistable_mass"), attention),
            Explorer("A committee learnt online", ("learning_rate", "weight_decay"), ("theta", "test_mse"), online_committee),
        ),
        strict=True,
    )
)


def draw(name: str, out="quenched-explorers", *, quick: bool = True, progress=None) -> pathlib.Path:
    """Compute one of the shipped explorers and write ``NAME.html`` in the directory ``out``; returns its path.

    ``ValueError`` for a name that is none of :data:`EXPLORERS`.
    """
    made = EXPLORERS[check.choice("name", name, EXPLORERS)]
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)  # or say now that there is no such place
    data = made.study(quick, progress)
    return plotting.explorer(data, list(made.sliders), pathlib.Path(out) / f"{name}.html", y=list(made.y), title=made.title)


def _table(over, axis, theory, experiment, about, size, progress, inner=None):
    """A Dataset like a sweep's, from curves: over the parameters ``over`` and one ``axis``.

    ``theory(**point)`` gives name -> values along the axis, ``experiment(**point)`` name -> (means, standard errors) or None;
    ``inner`` names the further dimensions of arrays.
    """
    import xarray as xr

    from .. import __version__

    report, inner = progress or (lambda done, total, what: None), inner or {}
    points = list(itertools.product(*(range(len(values)) for values in over.values())))
    (x, places), columns = next(iter(axis.items())), {}
    shape = tuple(len(values) for values in over.values())

    def put(name, index, values, empty=np.nan):
        columns.setdefault(name, np.full((*shape, *np.shape(values)), empty))[index] = values

    for done, index in enumerate(points):
        point = {name: values[k].item() for (name, values), k in zip(over.items(), index, strict=True)}
        words = ", ".join(str(value) if isinstance(value, str) else f"{name} = {value:.3g}" for name, value in point.items())
        report(done, len(points), words)
        found = {"trusted": np.ones(len(places), bool), **theory(**point)}
        for name, values in found.items():
            put(name, index, values, False if name == "trusted" else np.nan)
        for name, (mean, error) in (experiment(**point) or {}).items():
            put(f"{name}_mean", index, mean)
            put(f"{name}_se", index, error)
    report(len(points), len(points), "done")
    variables = {}
    for name, values in columns.items():
        base = name.removesuffix("_mean").removesuffix("_se")
        variables[name] = ((*over, x, *inner.get(base, ())), values, attributes(base))
    coordinates = {name: (name, values, attributes(name)) for name, values in {**over, **axis}.items()}
    about = dict(about)
    kept = {"quenched": __version__, "problem": about.pop("problem"), "parameters": json.dumps(about), "simulate": json.dumps(size)}
    return xr.Dataset(variables, coordinates, kept | {"failed": ""})


def _rows(estimates, length) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors along the axis, NaN where there are none; ``estimates``: place -> (mean, standard error, ...)."""
    first = next(iter(estimates.values()))
    mean, error = (np.full((length, *np.shape(first[0])), np.nan) for _ in range(2))
    for k, estimate in estimates.items():
        mean[k], error[k] = estimate[0], estimate[1]
    return mean, error
