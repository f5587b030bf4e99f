"""The experiment with a flow learnt from a few samples of a mixture: networks of several units, trained at every time."""

from __future__ import annotations

import itertools
import time

import numpy as np

from quenched.finite.data import stream
from quenched.finite.few_samples import ACTIVATIONS, Trained, generate, random_answers, train
from quenched.finite.simulate import repeated, seed_list
from quenched.finite.trials import CONVERGED, Trials
from quenched.laws.schedule import Schedule
from quenched.numerics import check
from quenched.numerics.programs import make_room

_STOPPED = "not converged: the gradient of the training risk is not small at every time"
_MISSING = "not converged: some mode has fewer than two of the generated samples"


def _possible(pattern) -> np.ndarray:
    """Which answers (1, +-1, ...) there can be, (2^(r-1),): units whose weights are the same answer alike."""
    rest = np.array(list(itertools.product([1.0, -1.0], repeat=len(pattern) - 1))).reshape(2 ** (len(pattern) - 1), -1)
    answers = np.concatenate([np.ones((len(rest), 1)), rest], axis=1)
    same = np.all(pattern[:, None] == pattern[None], axis=2)
    return ~np.any(same & (answers[:, :, None] != answers[:, None, :]), axis=(1, 2))


def draw(rng, d: int, means, stds, counts):
    """Samples (N, d), ``counts`` of each cluster in turn, and noises (N, d); means have the inner products ``means`` d exactly."""
    values, vectors = np.linalg.eigh(means)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    basis = np.linalg.qr(rng.standard_normal((d, len(means))))[0].T
    labels = np.repeat(np.arange(len(counts)), counts)
    centres = np.sqrt(d) * (root @ basis)[labels]
    return centres + stds[labels, None] * rng.standard_normal(centres.shape), rng.standard_normal(centres.shape)


def in_order(found: Trained):
    """The signs (r,) and the order (r,) of units with which their answers start with +1 and are in descending order."""
    sign = np.where(found.pattern[:, 0] >= 0.0, 1.0, -1.0)
    return sign, np.lexsort((-sign[:, None] * found.pattern).T[::-1])


def simulate_denoiser(t: float, *, means, stds, counts, units: int, weight_decay: float, schedule, dim: int, seeds=8,
                      restarts: int = 40, activation: str = "sign", tol: float = 1e-5, n_jobs: int = 1, settings=None,
                      progress=None) -> Trials:  # fmt: skip
    """For every seed the network at one time: ``c``, ``train_loss`` (the risk over d), the ``pattern`` (r, N) that was found."""
    make_room()
    d, seeds, point = check.integer("dim", dim, len(means) + 1), seed_list(seeds), Schedule(schedule)(t)
    check.choice("activation", activation, ACTIVATIONS)
    restarts = check.integer("restarts", restarts)

    def one(seed):
        clock = time.perf_counter()
        rng = np.random.default_rng(stream(seed, "response"))
        x1, x0 = draw(rng, d, means, stds, counts)
        xt = point.alpha * x0 + point.beta * x1
        found = train(x1, xt, weight_decay, random_answers(rng, xt, units, restarts), activation)
        sign, order = in_order(found)
        row = {"c": found.c, "train_loss": found.risk / d, "pattern": (sign[:, None] * found.pattern)[order]}
        return row, CONVERGED if found.optimality < tol else _STOPPED, found.optimality, time.perf_counter() - clock

    about = {"t": float(t), "activation": activation} | (settings or {})
    return repeated(one, seeds, n_jobs, progress, d, int(np.sum(counts)), about)


def simulate(*, means, stds, counts, units: int, weight_decay: float, schedule, dim: int, seeds=8, steps: int = 50,
             first: float = 0.02, samples: int = 100, restarts: int = 40, activation: str = "sign", tol: float = 1e-5,
             n_jobs: int = 1, settings=None, progress=None) -> Trials:  # fmt: skip
    """For every seed: training at ``steps`` times, and what the ``samples`` that follow the flow show at its end.

    Per seed: ``pattern`` (r, N), the units' answers to the training set halfway; ``mode_probability`` (2^(r-1),), how often they
    answer (1, +-1, ...) to a generated sample, or the opposite; and of the samples of each of these modes, with their sign,
    ``sample_overlap`` (2^(r-1), N) = X.x_1 / d, ``squared_norm`` |X|^2 / d; and ``cluster_variance``, within modes.
    """
    make_room()
    d, seeds, schedule = check.integer("dim", dim, len(means) + 1), seed_list(seeds), Schedule(schedule)
    steps, samples = check.integer("steps", steps, 2), check.integer("samples", samples, 2)
    restarts = check.integer("restarts", restarts)
    check.choice("activation", activation, ACTIVATIONS)

    def one(seed):
        clock = time.perf_counter()
        rng = np.random.default_rng(stream(seed, "response"))
        x1, x0 = draw(rng, d, means, stds, counts)
        run = generate(
            rng, x1, x0, schedule, weight_decay, units=units, steps=steps, first=first, samples=samples, restarts=restarts,
            activation=activation, keep=(steps // 2,),
        )  # fmt: skip
        row, every = measured(run, x1)
        status = _STOPPED if not run.optimality < tol else CONVERGED if every else _MISSING
        return row, status, run.optimality, time.perf_counter() - clock

    about = {"steps": steps, "first": first, "samples": samples, "activation": activation} | (settings or {})
    return repeated(one, seeds, n_jobs, progress, d, int(np.sum(counts)), about)


def measured(run, x1):
    """Observables of the generated points by mode, as the units halfway tell modes apart, and whether every mode has samples."""
    ((halfway, found),) = run.path
    sign, order = in_order(found)
    answers = (np.where(halfway @ found.w.T >= 0.0, 1.0, -1.0) * sign)[:, order]
    points = answers[:, :1] * run.x
    mode = ((1.0 - answers[:, :1] * answers[:, 1:]) / 2.0) @ 2.0 ** np.arange(len(sign) - 1)[::-1]
    d, kinds = x1.shape[1], 2 ** (len(sign) - 1)
    members = [points[mode == k] for k in range(kinds)]
    count = np.array([len(part) for part in members])
    pattern = (sign[:, None] * found.pattern)[order]
    every = bool(np.all((count >= 2) | ((count == 0) & ~_possible(pattern))))
    row = {"pattern": pattern, "mode_probability": count / len(points)}
    row["unresolved_times"] = run.unresolved
    if every:
        centres = [part.sum(axis=0) / max(len(part), 1) for part in members]
        left = sum(np.sum((part - centre) ** 2) for part, centre in zip(members, centres, strict=True))
        row |= {
            "sample_overlap": np.stack(centres) @ x1.T / d,
            "squared_norm": np.array([np.sum(part**2) / (d * max(len(part), 1)) for part in members]),
            "cluster_variance": left / (d * (len(points) - np.sum(count > 0))),
        }
    return row, every
