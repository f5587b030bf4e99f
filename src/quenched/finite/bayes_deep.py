"""The experiment: draw a deep network, label samples with it, let learners have them; everything as it is at finite size."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from quenched.finite.data import sample_size, stream
from quenched.finite.simulate import repeated, seed_list
from quenched.finite.trials import CONVERGED, Trials
from quenched.laws.kernel import DeepKernel
from quenched.laws.layers import input_root
from quenched.laws.network import Network
from quenched.laws.spectrum import SpectralLaw
from quenched.numerics import check
from quenched.numerics.programs import make_room

_WEIGHTS = 9  # a random stream of its own
_MEASURED = 20  # samples per dimension over which the target's linear part is measured


class Target(NamedTuple):
    """One drawn network: ``hidden`` its layers, ``readout`` (k_L,); the standard deviations (d,) of the inputs, and whether white
    inputs are put on the sphere of radius sqrt(d)."""

    hidden: Network
    readout: np.ndarray
    deviations: np.ndarray
    sphere: bool = False

    def inputs(self, rng, n: int) -> np.ndarray:
        """n inputs (n, d), in the eigenbasis of their covariance."""
        x = rng.standard_normal((n, len(self.deviations)))
        if self.sphere:
            x *= np.sqrt(x.shape[1]) / np.linalg.norm(x, axis=1)[:, None]
        return x * self.deviations

    def __call__(self, x) -> np.ndarray:
        """The output (n,) for inputs (n, d)."""
        return self.hidden(x) @ self.readout / np.sqrt(len(self.readout))


def draw_target(prior: DeepKernel, widths, spectrum: SpectralLaw, seed, sphere: bool = False) -> Target:
    """A network of ``widths`` (d, k_1, ..) with the variances of ``prior``; every seed has its own weights.

    >>> from quenched.laws.equivalent import inputs_spectrum
    >>> draw_target(DeepKernel("erf"), (30, 40), inputs_spectrum(None), seed=0)(np.zeros((2, 30))).tolist()
    [0.0, 0.0]
    """
    rng = np.random.default_rng((_WEIGHTS, *(seed if isinstance(seed, tuple) else (seed,))))
    shapes = zip(prior.weight_variances, widths[1:], widths[:-1], strict=True)
    weights = [np.sqrt(variance) * rng.standard_normal((after, before)) for variance, after, before in shapes]
    readout = np.sqrt(prior.readout_variance) * rng.standard_normal(widths[-1])
    return Target(Network(weights, prior.activations), readout, input_root(spectrum, widths[0], seed), sphere)


def linear_part(target: Target, seed) -> tuple[float, float]:
    """``(slope, rest)`` of this very network: least squares of its output on 20 d inputs, unbiased.

    Its fluctuations from network to network are of order d^(-1/2), common to all learners; formulas are linear in the two.
    """
    d = len(target.deviations)
    rng = np.random.default_rng((*stream(seed, "start"), 1))
    x = target.inputs(rng, _MEASURED * d)
    f = target(x)
    f, z = f - f.mean(), x - x.mean(axis=0)
    w = np.linalg.solve(z.T @ z, z.T @ f)
    rest = np.sum((f - z @ w) ** 2) / (len(f) - d - 1)
    variances = target.deviations**2
    return float((np.sum(variances * w**2) - d / len(f) * rest) / np.mean(variances)), float(rest)


def simulate(prior: DeepKernel, learners: dict[str, Callable], *, task: str, widths, spectrum: SpectralLaw, alpha, noise,
             seeds=8, test_samples: int = 4000, samples: int | None = None, sphere: bool = False, n_jobs: int = 1,
             settings=None, progress=None) -> Trials:  # fmt: skip
    """Every seed's own network, n = round(alpha d) labels, all ``learners`` on the same data.

    - ``learners``: name -> learner (see :mod:`quenched.finite.learners`); the name ``""`` is the problem's own.
    - ``samples``: n, in place of alpha d; ``sphere``: white inputs are scaled to the length sqrt(d); ``n_jobs``: seeds at a time.

    Per seed and learner: ``test_mse``, ``test_mse_clean``, ``train_mse``, or ``test_error``, ``test_error_clean``,
    ``train_error``; those of a learner called ``ridge`` are called ``ridge_test_mse`` and so on. Of the network: ``target_slope``,
    ``target_rest`` (:func:`linear_part`).
    """
    make_room()
    seeds, d = seed_list(seeds), widths[0]
    n = sample_size(alpha, d) if samples is None else check.integer("samples", samples)
    test_samples = check.integer("test_samples", test_samples, 2)

    def one(seed):
        clock = time.perf_counter()
        target = draw_target(prior, widths, spectrum, seed, sphere)
        x, _, y = _sample(target, task, noise, n, seed, False)
        fresh, clean, noisy = _sample(target, task, noise, test_samples, seed, True)
        slope, rest = linear_part(target, seed)
        row, status, worst = {"target_slope": slope, "target_rest": rest}, CONVERGED, 0.0
        for name, learner in learners.items():
            learnt = learner(x, y, seed)
            row |= {f"{name}_{k}".lstrip("_"): v for k, v in _measured(task, learnt, fresh, clean, noisy, y).items()}
            worst = max(worst, learnt.optimality)
            status = status if learnt.status == CONVERGED else learnt.status
        return row, status, worst, time.perf_counter() - clock

    return repeated(one, seeds, n_jobs, progress, d, n, settings)


def _sample(target: Target, task, noise, n, seed, test):
    """Inputs (n, d), outputs of the network (n,), labels (n,)."""
    rng = np.random.default_rng(stream(seed, "test") if test else (*stream(seed, "response"), 2))
    x = target.inputs(rng, n)
    f = target(x)
    field = f + np.sqrt(noise) * rng.standard_normal(n)
    return x, f, field if task == "regression" else np.where(field >= 0.0, 1.0, -1.0)


def _measured(task, learnt, fresh, clean, noisy, y) -> dict:
    h = learnt.predict(fresh)
    if task == "regression":
        return {
            "test_mse": np.mean((h - noisy) ** 2), "test_mse_clean": np.mean((h - clean) ** 2),
            "train_mse": np.mean((learnt.fitted - y) ** 2),
        }  # fmt: skip
    return {
        "test_error": np.mean(noisy * h < 0.0), "test_error_clean": np.mean(clean * h < 0.0),
        "train_error": np.mean(y * learnt.fitted < 0.0),
    }  # fmt: skip
