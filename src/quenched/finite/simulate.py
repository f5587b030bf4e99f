"""The experiment: draw, minimise, measure, once per seed."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from quenched.finite.data import draw, sample_size
from quenched.finite.minimise import minimise
from quenched.finite.observe import averages, cosines, fresh_averages, order_parameters
from quenched.finite.result import Minimiser
from quenched.finite.trials import Trials
from quenched.losses.base import Loss, argument_names
from quenched.numerics import check
from quenched.numerics.programs import make_room

# What every experiment reports; observables and trained scalars must have other names.
RESERVED = ("q", "m", "theta", "Q", "cosine", "train_loss", "free_energy")


def seed_list(seeds) -> tuple:
    """The seeds 0..k-1 for an int k, else the given ones.

    >>> seed_list(3), seed_list([5, (5, 1)])
    ((0, 1, 2), (5, (5, 1)))
    """
    if isinstance(seeds, (Sequence, np.ndarray)) and not isinstance(seeds, str) and len(seeds):
        return tuple(
            tuple(_seed(part) for part in seed) if isinstance(seed, (tuple, list)) else _seed(seed) for seed in seeds
        )
    return tuple(range(check.integer("seeds", seeds)))


def _seed(value) -> int:
    return check.integer("seeds", value, low=0)


def simulate(
    law,
    loss: Loss,
    *,
    alpha: float,
    weight_decay: float,
    dim: int,
    seeds=8,
    response=None,
    units: int = 1,
    scalars: dict | None = None,
    params: dict | None = None,
    observables: dict[str, Callable] | None = None,
    training_observables: dict[str, Callable] | None = None,
    test_samples: int = 10_000,
    fresh: Callable | None = None,
    align: Callable | None = None,
    n_jobs: int = 1,
    settings: dict | None = None,
    progress: Callable | None = None,
    **options,
) -> Trials:
    """Repeat an experiment: n = round(alpha dim) samples, the minimiser of the empirical risk, its observables.

    Parameters
    ----------
    law : draws the data: ``draw(seed, n, d) -> Instance`` and ``sample(population, seed, n) -> Instance``.
    loss, weight_decay, units, scalars, params : the risk, see :func:`quenched.finite.minimise.minimise`.
    alpha : samples per input dimension. dim : d.
    seeds : an int k for 0..k-1, or a sequence of ints or tuples of ints; every seed is reproducible on its own.
    response : law of the outcome given the target, or None: the label is then the law's own.
    observables : name -> function of (h (L, r), gram, target, label, noise, scalars, params), by argument names,
        averaged over ``test_samples`` fresh samples of the same population.
    training_observables : the same over the training samples.
    fresh : ``fresh(population, seed, n) -> Instance``, where test samples have another law than training samples.
    align : ``align(w, population) -> (r, r)``, the symmetry of the loss that brings equivalent minimisers to one
        representative (see ``align.py``); None leaves them as found.
    n_jobs : seeds in parallel (threads; linear algebra is released from the interpreter's lock).
    settings : what defines the experiment, JSON-able, kept with the trials and compared when trials are merged.
    progress : ``progress(done, total)``, called after every seed.
    options : ``init``, ``restarts``, ``scale``, ``optimiser``, ``tol``, ``max_iterations``, ``learning_rate``
        of the minimiser.

    Returns
    -------
    Trials with, per seed, ``q`` (B, r, r), ``m`` (A, r), ``theta`` (B, r, t), ``Q`` (r, r), ``cosine`` (r, t) where
    there are targets, ``train_loss`` (mean per sample, without the penalty), ``free_energy`` (penalised risk over
    dim), the trained scalars, and all observables. Seeds whose optimiser did not converge are listed, warned of once,
    and not averaged.

    >>> from quenched.laws import SpectralLaw, SpectralTokens
    >>> from quenched.losses.named import square
    >>> from quenched.losses.response import Additive
    >>> law = SpectralTokens(SpectralLaw.isotropic(gram=[[1.0]]), prob=[1.0], cov=[[[1.0]]])
    >>> trials = simulate(law, square, alpha=2.0, weight_decay=0.1, dim=50, seeds=4, response=Additive(0.1))
    >>> bool(abs(trials["Q"].mean.item() - 0.93) < 0.2), trials.not_converged
    (True, {})
    """
    make_room()
    seeds, observables = seed_list(seeds), dict(observables or {})
    training_observables, n_jobs = dict(training_observables or {}), check.integer("n_jobs", n_jobs)
    test_samples = check.integer("test_samples", test_samples)
    for name, fn in {"progress": progress, "fresh": fresh, "align": align}.items():
        check.function(name, fn)
    names = [*RESERVED, *(scalars or {}), *observables, *training_observables]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"observables and scalars must have names of their own, got {twice!r} twice")
    for name, fn in {**observables, **training_observables}.items():
        argument_names(fn, f"observable {name!r}")

    def one(seed):
        clock = time.perf_counter()
        data, population = draw(law, loss, response, alpha=alpha, dim=dim, seed=seed)
        fit = minimise(
            data,
            loss,
            weight_decay,
            units=units,
            scalars=scalars,
            params=params,
            seed=seed,
            population=population,
            **options,
        )
        if align is not None:
            fit = rotated(fit, align(fit.w, population))
        row = order_parameters(fit, population, law.free)
        if population.targets.shape[1]:
            row["cosine"] = cosines(fit, population)
        row |= {"train_loss": fit.train_loss, "free_energy": fit.risk / dim} | fit.scalars
        if fit.converged:
            row |= averages(training_observables, fit, data, params)
            row |= fresh_averages(
                observables, fit, population, fresh or law.sample, response, n=test_samples, seed=seed, params=params
            )
        return row, fit.status.value, fit.optimality, time.perf_counter() - clock

    return repeated(one, seeds, n_jobs, progress, dim, sample_size(alpha, dim), settings)


def repeated(one: Callable, seeds: tuple, n_jobs: int, progress, dim: int, n: int, settings: dict | None) -> Trials:
    """Trials of ``one(seed)``, ``n_jobs`` seeds at a time (threads); seeds that did not converge are warned of, once.

    ``one`` returns (values by name, status, optimality, seconds).
    """
    rows = []
    with ThreadPoolExecutor(check.integer("n_jobs", n_jobs)) as pool:
        for result in pool.map(one, seeds) if n_jobs > 1 else map(one, seeds):
            rows.append(result)
            if progress is not None:
                progress(len(rows), len(seeds))
    trials = gathered(rows, seeds, dim, n, settings)
    if trials.not_converged:
        failed = ", ".join(f"{seed} ({text})" for seed, text in trials.not_converged.items())
        warnings.warn(f"left out of the averages: seed {failed}", RuntimeWarning, stacklevel=3)
    return trials


def gathered(rows, seeds, dim: int, n: int, settings: dict | None) -> Trials:
    """Trials from one row (values by name, status, optimality, seconds) for each seed."""
    values, status, optimality, seconds = zip(*rows, strict=True)
    return Trials(_columns(values), seeds, tuple(status), dim, n, list(optimality), list(seconds), settings or {})


def rotated(fit: Minimiser, rotation: np.ndarray) -> Minimiser:
    """The same minimiser with its units mixed by an orthogonal (r, r) matrix."""
    r = fit.w.shape[1]
    rotation = check.array("align", rotation, shape=(r, r))
    if np.abs(rotation.T @ rotation - np.eye(r)).max() > 1e-10:
        raise ValueError(f"align must return an orthogonal matrix, got {rotation.tolist()}")
    return dataclasses.replace(fit, w=fit.w @ rotation, free=fit.free @ rotation)


def _columns(rows: list[dict]) -> dict[str, np.ndarray]:
    """name -> (S, ...); what a seed that did not converge was not asked for is NaN there (it is never averaged)."""
    shapes = {name: np.shape(value) for row in rows for name, value in row.items()}
    return {
        name: np.stack([np.asarray(row.get(name, np.full(shape, np.nan)), dtype=np.float64) for row in rows])
        for name, shape in shapes.items()
    }
