"""One-pass SGD of a stated problem: its equations of motion, and the experiment beside them."""

from __future__ import annotations

import dataclasses
import warnings

import equinox as eqx
import jax
import numpy as np

from ..finite.online import simulate
from ..laws.tokens import SpectralTokens
from ..limit.derivative import REFUSAL, differentiable
from ..limit.model import as_numbers
from ..limit.online import Descent, descend, jacobian
from ..limit.online_start import start_statistics
from ..numerics import check
from .base import SolveWarning
from .solution import Solution
from .trajectory import Trajectory


def online(problem, learning_rate, time, weight_decay, init, scalar_rate, tol, quadrature_tol) -> Trajectory:
    """See :meth:`Problem.online`."""
    model = _followed(problem)
    learning_rate = check.positive("learning_rate", learning_rate)
    scalar_rate = learning_rate if scalar_rate is None else check.nonnegative("scalar_rate", scalar_rate)
    decay = model.weight_decay if weight_decay is None else check.nonnegative("weight_decay", weight_decay)
    times, tol = stored_times(time), check.positive("tol", tol)
    quadrature_tol = None if quadrature_tol is None else check.positive("quadrature_tol", quadrature_tol)
    named = _overlaps(problem, init)
    try:
        start = start_statistics(_plain(model), named)
    except jax.errors.TracerArrayConversionError as error:
        raise TypeError(REFUSAL) from error
    given = named if isinstance(named, dict) else {}
    traced = {name: value for name, value in model.scalars.items() if check.traced(value) and name not in given}
    start = start._replace(scalars=start.scalars | traced)
    descent = Descent(model, learning_rate, scalar_rate, decay, start)

    def value(descent):
        path = descend(descent, times, tol, quadrature_tol)
        return path.values, path

    if check.traced(*jax.tree.leaves(descent)):
        found, path = differentiable(
            descent, value, lambda descent, path, which: jacobian(descent, times[: _length(path)], tol, path.level, which)
        )
        experiment = None
    else:
        descent = as_numbers(descent)
        found, path = value(descent)

        def experiment(dim, seeds, **options):
            check.names("simulate", options, check.keywords(simulate, without=_OWN))
            trials = simulate(
                model.law, model.loss, learning_rate=float(learning_rate), scalar_rate=float(scalar_rate),
                weight_decay=float(decay), times=trajectory.times, dim=dim, seeds=seeds, start=start, response=model.response,
                units=model.units, params=model.params, observables=dict(model.observables),
                settings=problem._settings(), **options,
            )  # fmt: skip
            return trials.map(lambda row: {name: presented(name, value) for name, value in row.items() if np.size(value)})

    def presented(name, path):
        """Values (K, ...) as the problem shows them at every time."""
        if name not in _OVERLAPS:
            return path
        stack = jax.numpy.stack if check.traced(path) else np.stack
        return stack([problem._present(row, True) for row in path])

    shown = {name: presented(name, value) for name, value in found.items() if np.size(value)}
    orders = {*_OVERLAPS, *model.scalars}
    trajectory = Trajectory(
        times=times[: _length(path)], order_parameters={name: value for name, value in shown.items() if name in orders},
        observables={name: value for name, value in shown.items() if name not in orders}, result=path.result, problem=problem,
        quadrature_error=path.quadrature_error, experiment=experiment,
        again=lambda times: online(problem, learning_rate, times, weight_decay, init, scalar_rate, tol, quadrature_tol),
        settings={"learning_rate": learning_rate, "scalar_rate": scalar_rate, "weight_decay": decay, "steps": path.steps},
    )  # fmt: skip
    if not trajectory.converged:
        warnings.warn(f"online descent of {problem!r}: {trajectory.status}", SolveWarning, stacklevel=3)
    return trajectory


def _followed(problem):
    """The model as SGD sees it: nothing is held at zero, and atoms of equal eigenvalues are one."""
    model = dataclasses.replace(problem.model, frozen=())
    atoms = model.law.atoms()  # refuses a law without any
    for name in ("test_loss", "initial_gram", "initial_projections"):
        if name in dict(model.observables) or name in model.scalars:
            raise ValueError(f"observables and scalars must not be called {name!r} in online, where that is another number")
    if check.traced(*jax.tree.leaves(model.law)):
        raise ValueError("the law must be of plain numbers in online: rates, params, scalars and the noise can be differentiated")
    merged = atoms.merged()
    if not isinstance(model.law, SpectralTokens) or len(merged.weights) == len(atoms.weights):
        return model
    return dataclasses.replace(model, law=eqx.tree_at(lambda tokens: tokens.spectrum, model.law, merged))


def _overlaps(problem, init):
    """``init`` as a name of the engine, or a dict without q and V, which follow from the others."""
    if isinstance(init, dict):
        if check.traced(*jax.tree.leaves(init)):
            raise ValueError("init must hold plain numbers in online: rates, params, scalars and the noise can be differentiated")
        return problem._shaped(init)
    if isinstance(init, Solution):
        start = problem._from_solution(init)
    elif init is None or isinstance(init, str):
        names = tuple(name for name in problem._named_starts if name != "global")
        start = problem._start("uninformed" if init is None else check.choice("init", init, names))[0]
    else:
        raise ValueError(f"init must be a named start, a dict of overlaps or a Solution, got {type(init).__name__}")
    if isinstance(start, str):
        return start
    return {name: value for name, value in problem._shaped(start).items() if name not in ("q", "V")}


_OVERLAPS = ("q", "m", "theta", "Q")
#: Arguments of the experiment that the path fixes.
_OWN = (
    "law", "loss", "learning_rate", "scalar_rate", "weight_decay", "times", "dim", "seeds", "start", "response", "units", "params",
    "observables", "settings",
)  # fmt: skip


def stored_times(time) -> np.ndarray:
    """``time`` itself where it is a list of increasing times, else 101 equal ones up to it."""
    time = check.array("time", time)
    if check.traced(time):
        raise ValueError("time must be plain numbers, got a tracer")
    times = np.linspace(0.0, float(time), 101) if time.ndim == 0 else time
    if times.ndim != 1 or not len(times) or times[0] < 0 or not times[-1] > 0 or np.any(np.diff(times) <= 0):
        raise ValueError(f"time must be positive, or increasing times from 0 or later, got {time.tolist()}")
    return times


def _plain(model):
    """The model with ones in place of numbers that are being differentiated: a start depends on the law alone."""
    return jax.tree.map(lambda leaf: np.ones(np.shape(leaf)) if check.traced(leaf) else leaf, model)


def _length(path) -> int:
    return len(path.values["Q"])
