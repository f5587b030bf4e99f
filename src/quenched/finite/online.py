"""The experiment beside the equations of motion: actual one-pass SGD, a fresh sample every step."""

from __future__ import annotations

import time as clock
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from quenched.finite.data import Data, outcomes, reads_noise, stream
from quenched.finite.observe import fresh_averages, order_parameters
from quenched.finite.result import Status
from quenched.finite.risk import Trained, arrays, losses
from quenched.finite.simulate import repeated, seed_list
from quenched.finite.trials import Trials
from quenched.laws.base import Population
from quenched.losses.base import Loss
from quenched.numerics import check
from quenched.numerics.precision import float64
from quenched.numerics.programs import make_room

#: Samples that are drawn together; weights beyond this size have diverged, and their squares would not be finite.
_TOGETHER, _LARGEST = 256, 1e100


@partial(jax.jit, static_argnames="loss")
def _steps(loss: Loss, trained: Trained, data: Data, active, params, rates):
    """One step of SGD for each active sample, in turn; ``rates`` of the weights, of free means and scalars, and the shrinkage."""
    rate, scalar_rate, shrink = rates

    def step(trained, sample):
        one, active = sample
        batch = jax.tree.map(lambda a: a[None], one)
        slope = jax.grad(lambda trained: losses(loss, trained, batch, params)[0])(trained)
        w = trained.w - jnp.where(active, 1.0, 0.0) * (rate * slope.w + shrink * trained.w)
        moved = jax.tree.map(lambda a, s: a - jnp.where(active, scalar_rate, 0.0) * s, trained[1:], slope[1:])
        return Trained(w, *moved), None

    return jax.lax.scan(step, trained, (data, active))[0]


def _padded(data: Data):
    """A sample repeated up to the next power of two, so that few programs are compiled, and which of it counts."""
    n = len(data.x)
    size = 1 << (n - 1).bit_length()
    index = np.minimum(np.arange(size), n - 1)
    return jax.tree.map(lambda a: arrays(a)[index], data), np.arange(size) < n


def initial_weights(start, population: Population, atoms, units: int, rng: np.random.Generator, exact: bool) -> np.ndarray:
    """Weights (d, r) with the statistics ``start``, atom by atom: a part along the directions, and white noise orthogonal to them.

    ``exact``: the noise is orthogonalised, so that its overlaps vanish and its Gram matrix is as asked, else it is i.i.d.
    ``ValueError`` where an atom has too few coordinates for that.
    """
    d = population.targets.shape[0]
    tau = np.concatenate([np.sqrt(d) * population.means.T, population.targets], axis=1)
    w = np.zeros((d, units))
    for members, mass, gram, projections in zip(
        coordinates(population, atoms), np.asarray(atoms.gram), start.gram, start.projections, strict=True
    ):
        along = np.linalg.pinv(mass, rcond=1e-10, hermitian=True) @ projections
        rest = gram - along.T @ mass @ along
        values, vectors = np.linalg.eigh(rest)
        root = (vectors * np.sqrt(np.maximum(values, 0.0))).T
        noise = rng.standard_normal((len(members), units))
        if exact and np.any(root):
            here = tau[members]
            basis = np.linalg.svd(here, full_matrices=False)
            basis = basis[0][:, basis[1] > 1e-10 * max(basis[1].max(initial=0.0), 1e-300)]
            noise = np.linalg.qr(noise - basis @ (basis.T @ noise))[0]
            if len(members) < units + basis.shape[1]:
                raise ValueError(f"dim must give every atom {units + basis.shape[1]} or more coordinates, got {len(members)}")
            noise = noise * np.sqrt(d)
        elif len(members):
            weight = len(members) / d
            noise = noise / np.sqrt(weight)
        w[members] = tau[members] @ along + noise @ root
    return w


def coordinates(population: Population, atoms) -> list[np.ndarray]:
    """The coordinates (indices) that belong to each atom, told by their eigenvalues."""
    eigenvalues = population.covariances.T
    return [np.flatnonzero(np.all(eigenvalues == row, axis=1)) for row in np.asarray(atoms.eigenvalues)]


def statistics(w: np.ndarray, population: Population, atoms) -> dict[str, np.ndarray]:
    """``gram`` (S, r, r) and ``projections`` (S, k, r) of actual weights, atom by atom."""
    d = len(w)
    tau = np.concatenate([np.sqrt(d) * population.means.T, population.targets], axis=1)
    parts = coordinates(population, atoms)
    return {
        "gram": np.stack([w[at].T @ w[at] / d for at in parts]),
        "projections": np.stack([tau[at].T @ w[at] / d for at in parts]),
    }


def simulate(
    law,
    loss: Loss,
    *,
    learning_rate: float,
    scalar_rate: float,
    weight_decay: float,
    times,
    dim: int,
    start,
    seeds=8,
    response=None,
    units: int = 1,
    params: dict | None = None,
    observables: dict[str, Callable] | None = None,
    test_samples: int = 1000,
    exact_start: bool = True,
    n_jobs: int = 1,
    progress: Callable | None = None,
    settings: dict | None = None,
) -> Trials:
    """One-pass SGD in dimension d = ``dim``: ``w -= learning_rate (grad loss + weight_decay / d w)`` at every fresh sample.

    - ``law``: of spectral atoms; ``times`` (K,): when to measure, in steps over ``dim`` (rounded to whole steps).
    - ``start``: statistics of the initial weights, atom by atom (``gram``, ``projections``, ``free``, ``scalars``), see
      :func:`initial_weights`, of which ``exact_start`` is the argument.
    - free means and trained scalars move by ``scalar_rate / dim`` times their gradient.
    - ``test_samples``: fresh samples that observables are averaged over at every time; 0 leaves them out.
    - ``n_jobs``: seeds in parallel (threads); ``progress(done, total)``, called after every seed.

    Returns :class:`Trials` whose values are (seeds, K, ...): ``q``, ``m``, ``theta``, ``Q``, trained scalars, ``test_loss`` and
    observables; ``initial_gram`` (S, r, r) and ``initial_projections`` (S, k, r) of the weights drawn.
    """
    make_room()
    seeds, dim = seed_list(seeds), check.integer("dim", dim)
    test_samples = check.integer("test_samples", test_samples, 0)
    check.function("progress", progress)
    atoms = law.atoms()
    if len(np.unique(np.asarray(atoms.eigenvalues), axis=0)) < len(atoms.weights):
        raise ValueError("law must have atoms of different eigenvalues: SpectralLaw.merged() puts equal ones together")
    ends = np.rint(np.asarray(times) * dim).astype(int)
    rates = tuple(np.float64(a) for a in (learning_rate, scalar_rate / dim, learning_rate * weight_decay / dim))
    noise, params = reads_noise(loss), arrays(params or {})
    measured = {"test_loss": loss, **(observables or {})} if test_samples else {}

    def one(seed):
        began = clock.perf_counter()
        population = law.population(seed, dim)
        rng = np.random.default_rng(stream(seed, "start"))
        w = initial_weights(start, population, atoms, units, rng, exact_start)
        scalars = {name: np.asarray(value, np.float64) for name, value in start.scalars.items()}
        trained = Trained(w, np.asarray(start.free, np.float64), scalars)
        first, done, rows, block = statistics(w, population, atoms), 0, [], None
        for end in ends:
            while done < end:
                at = done % _TOGETHER
                if at == 0 or block is None:  # a step's sample does not depend on when anything is measured
                    own = (*(seed if isinstance(seed, tuple) else (seed,)), 7, done // _TOGETHER)
                    block = outcomes(law.sample(population, own, _TOGETHER), response, seed=own, noise=noise)
                count = min(_TOGETHER - at, end - done)
                data = jax.tree.map(lambda a, at=at, count=count: a[at : at + count], block)
                with float64(True):
                    trained = jax.device_get(_steps(loss, trained, *_padded(data), params, rates))
                done += count
            if not all(np.all(np.abs(a) < _LARGEST) for a in jax.tree.leaves(trained)):  # NaN is not smaller either
                break
            row = order_parameters(trained, population, law.free) | dict(trained.scalars)
            rows.append(row | fresh_averages(
                measured, trained, population, law.sample, response, n=test_samples, seed=(*np.ravel(seed).tolist(), 8, done),
                params=params,
            ))  # fmt: skip
        status = Status.CONVERGED if len(rows) == len(ends) else Status.DIVERGED
        table = {name: np.stack([row[name] for row in rows]) for name in rows[0]} if status is Status.CONVERGED else {}
        table |= {f"initial_{name}": value for name, value in first.items()}
        return table, status.value, 0.0, clock.perf_counter() - began

    settings = {**(settings or {}), "times": (ends / dim).tolist(), "learning_rate": learning_rate, "weight_decay": weight_decay}
    return repeated(one, seeds, n_jobs, progress, dim, int(ends[-1]), settings)
