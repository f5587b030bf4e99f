"""Readouts trained on the features of actual networks, against the target that an actual network makes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from quenched.finite.data import Data, outcomes, reads_noise, sample_size, stream
from quenched.finite.minimise import minimise
from quenched.finite.observe import averages
from quenched.finite.simulate import repeated, seed_list
from quenched.finite.trials import Trials
from quenched.laws.base import Instance
from quenched.numerics import check
from quenched.numerics.programs import make_room

_CENTRE = 20_000  # inputs over which the mean of the target is taken
_LOOKED = 256  # inputs at which a target is seen to be odd
_BATCH = 4096


class Setting(NamedTuple):
    """One draw of what is frozen: ``learner`` and ``target`` map inputs to features, ``readout`` (k,) makes the target of them,
    ``root`` colours white inputs: their standard deviations (d,), or a matrix (d, d)."""

    learner: Callable
    target: Callable
    readout: np.ndarray
    root: np.ndarray


def inputs(setting: Setting, rng: np.random.Generator, n: int) -> np.ndarray:
    """n Gaussian inputs (n, d)."""
    z = rng.standard_normal((n, len(setting.root)))
    return z * setting.root if setting.root.ndim == 1 else z @ setting.root


def target_fields(setting: Setting, x) -> np.ndarray:
    """``phi_*(x).theta / sqrt(k)``, (n,), not centred."""
    return setting.target(x) @ setting.readout / np.sqrt(len(setting.readout))


def mean_field(setting: Setting, rng: np.random.Generator) -> float:
    """The average of the target's field over inputs: zero for an odd target, else of many samples."""
    few = inputs(setting, rng, _LOOKED) * np.linspace(0.5, 3.0, _LOOKED)[:, None]  # its tails too
    field = target_fields(setting, few)
    if np.allclose(field, -target_fields(setting, -few), rtol=0.0, atol=1e-12 * np.abs(field).max()):
        return 0.0
    return float(np.mean(target_fields(setting, inputs(setting, rng, _CENTRE))))


def samples(setting: Setting, seed, n: int, centre: float, intercept: bool) -> Instance:
    """n samples: the learner's features as ``x`` (n, 1, p), the centred target (n, 1, 1)."""
    rng = np.random.default_rng(seed)
    features, fields = [], []
    for first in range(0, n, _BATCH):
        x = inputs(setting, rng, min(_BATCH, n - first))
        features.append(setting.learner(x))
        fields.append(target_fields(setting, x) - centre)
    phi, target = np.concatenate(features), np.concatenate(fields)
    return Instance(
        x=phi[:, None, :], index=np.zeros(n, int), value=np.zeros(n, int), target=target[:, None, None],
        free=np.ones((n, 1, int(intercept))), population=None,
    )  # fmt: skip


def simulate(make: Callable, loss, response, *, alpha, weight_decay, dim, seeds=8, intercept=False, observables=None,
             test_samples: int = 10_000, n_jobs: int = 1, settings=None, progress=None, **options) -> Trials:  # fmt: skip
    """Train the readout on n = round(alpha dim) samples of every seed's own networks.

    - ``make(seed)`` -> :class:`Setting`; ``loss``, ``response``, ``observables``: as for :func:`quenched.finite.simulate.simulate`.
    - ``n_jobs``: seeds at a time; ``options`` go to :func:`quenched.finite.minimise.minimise`.

    Per seed: ``q`` = Var h and ``theta`` = Cov(h, h_*) on ``test_samples`` fresh samples, ``Q`` = |w|^2 / p, ``m`` = E h (where a
    constant is fitted), ``train_loss``, ``free_energy`` and the observables, fresh too.
    """
    make_room()
    seeds, n = seed_list(seeds), sample_size(alpha, dim)
    test_samples, observables = check.integer("test_samples", test_samples, 2), dict(observables or {})
    noise = reads_noise(loss) or any(reads_noise(fn) for fn in observables.values())

    def one(seed):
        clock = time.perf_counter()
        setting = make(seed)
        centre = mean_field(setting, np.random.default_rng(stream(seed, "start")))
        data = outcomes(samples(setting, seed, n, centre, intercept), response, seed=seed, noise=noise)
        fit = minimise(data, loss, weight_decay, seed=seed, **options)
        fresh = samples(setting, stream(seed, "test"), test_samples, centre, intercept)
        row = _measured(fit, fresh) | {"train_loss": fit.train_loss, "free_energy": fit.risk / dim}
        if fit.converged:
            row |= averages(observables, fit, outcomes(fresh, response, seed=seed, noise=noise, test=True))
        return row, fit.status.value, fit.optimality, time.perf_counter() - clock

    return repeated(one, seeds, n_jobs, progress, dim, n, settings)


def _measured(fit, fresh: Data | Instance) -> dict:
    p = len(fit.w)
    h, target = fresh.x[:, 0] @ fit.w[:, 0] / np.sqrt(p), fresh.target[:, 0, 0]
    covariance = np.cov(h, target)
    found = {"q": covariance[0, 0], "theta": covariance[0, 1], "Q": float(np.sum(fit.w**2) / p)}
    return found | ({"m": fit.free[0, 0] + float(np.mean(h))} if len(fit.free) else {})
