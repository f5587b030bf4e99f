"""Learners of a plain sample (x, y): ridge, kernels, random features, classifiers, and two algorithms for the probit posterior.

A learner is called with inputs (n, d), labels (n,) and a seed, and returns :class:`Learnt`. All labels may have a constant, which
is fitted without a penalty where a learner has no kernel to do it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, special

from quenched.finite.data import Data
from quenched.finite.minimise import minimise
from quenched.finite.trials import CONVERGED
from quenched.laws.activation import activation
from quenched.laws.kernel import DeepKernel
from quenched.laws.network import Network
from quenched.losses import as_loss
from quenched.numerics import check

_STOPPED = "not converged: the largest number of iterations was reached"


class Learnt(NamedTuple):
    """``predict`` maps inputs (m, d) to real numbers (m,); ``fitted`` (n,) are those of the training inputs; ``status`` a sentence,
    ``"converged"`` where it did; ``optimality`` a relative residual.

    >>> x = np.array([[1.0], [3.0]])
    >>> learnt = Ridge(0.0)(x, np.array([1.0, 5.0]), 0)
    >>> learnt.fitted.round(12).tolist(), learnt.status
    ([1.0, 5.0], 'converged')
    """

    predict: Callable
    fitted: np.ndarray
    status: str = CONVERGED
    optimality: float = 0.0


@dataclasses.dataclass(frozen=True)
class Ridge:
    """Minimises ``sum (y - b - x.w / sqrt(d))^2 / 2 + weight_decay / 2 |w|^2``, ``features`` (n, d) -> (n, p) of x in its place.

    ``weight_decay`` = 0 is the solution of least norm.

    >>> x = np.array([[1.0], [3.0]])
    >>> Ridge(0.0)(x, np.array([1.0, 5.0]), 0).predict(np.array([[2.0]])).round(12).tolist()
    [3.0]
    """

    weight_decay: float

    def __post_init__(self):
        check.nonnegative("weight_decay", self.weight_decay)

    def __call__(self, x, y, seed, features=None) -> Learnt:
        features = (lambda x: x) if features is None else features
        phi = features(x)
        centre, middle, n = phi.mean(axis=0), y.mean(), len(y)
        z = (phi - centre) / np.sqrt(phi.shape[1])
        wide = n <= z.shape[1]
        gram = z @ z.T if wide else z.T @ z
        if self.weight_decay > 0.0:
            gram[np.diag_indices(len(gram))] += self.weight_decay
            solve = linalg.solve(gram, y - middle if wide else z.T @ (y - middle), assume_a="pos")
        else:
            solve = linalg.lstsq(gram, y - middle if wide else z.T @ (y - middle), cond=1e-12)[0]
        w = z.T @ solve if wide else solve

        def predict(x):
            return (features(x) - centre) @ w / np.sqrt(len(w)) + middle

        return Learnt(predict, z @ w + middle)


@dataclasses.dataclass(frozen=True)
class RandomFeatures:
    """:class:`Ridge` on ``width_ratio`` d frozen features ``sigma(F x / sqrt(d))``, F_ij of variance ``weight_variance``.

    >>> x = np.random.default_rng(0).standard_normal((50, 10))
    >>> learnt = RandomFeatures(width_ratio=8.0, weight_decay=0.0, activation="tanh")(x, x[:, 0], 0)
    >>> bool(np.allclose(learnt.fitted, x[:, 0]))  # 80 features interpolate 50 samples
    True
    """

    width_ratio: float
    weight_decay: float
    activation: Any
    weight_variance: float = 1.0

    def __call__(self, x, y, seed) -> Learnt:
        shape = max(1, round(self.width_ratio * x.shape[1])), x.shape[1]
        weights = np.sqrt(self.weight_variance) * np.random.default_rng((7, *_seed(seed))).standard_normal(shape)
        return Ridge(self.weight_decay)(x, y, seed, Network([weights], activation(self.activation)))


@dataclasses.dataclass(frozen=True)
class KernelRegression:
    """``K(., x) (K(x, x) + weight_decay)^-1 y``: the posterior mean of a Gaussian process, for labels of that noise.

    >>> x = np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> learnt = KernelRegression(DeepKernel("linear"), weight_decay=1.0)(x, np.array([2.0, 4.0]), 0)
    >>> learnt.fitted.round(12).tolist()  # K = identity / 2
    [0.666666666667, 1.333333333333]
    """

    kernel: DeepKernel
    weight_decay: float = 0.0

    def __call__(self, x, y, seed) -> Learnt:
        K = self.kernel.matrix(x)
        ridged = K + self.weight_decay * np.eye(len(y))
        try:
            c = linalg.solve(ridged, y, assume_a="pos")
        except linalg.LinAlgError:  # a kernel without full rank and no ridge: the solution of least norm
            c = linalg.lstsq(ridged, y, cond=1e-12)[0]
        return Learnt(lambda other: self.kernel.matrix(other, x) @ c, K @ c)


@dataclasses.dataclass(frozen=True)
class Classifier:
    """Minimises ``sum loss(x.w / sqrt(d), y) + weight_decay / 2 |w|^2`` with the library's minimisers.

    >>> x = np.random.default_rng(0).standard_normal((200, 10))
    >>> learnt = Classifier("logistic", 0.1)(x, np.sign(x[:, 0]), 0)
    >>> learnt.status, bool(np.mean(np.sign(learnt.fitted) == np.sign(x[:, 0])) > 0.95)
    ('converged', True)
    """

    loss: Any
    weight_decay: float

    def __call__(self, x, y, seed) -> Learnt:
        data = Data(x[:, None, :], np.ones((len(y), 1, 0)), np.zeros((len(y), 1, 0)), y)
        fit = minimise(data, as_loss(self.loss), self.weight_decay, seed=seed)
        w = fit.w[:, 0] / np.sqrt(x.shape[1])
        return Learnt(lambda other: other @ w, x @ w, fit.status.value, fit.optimality)


@dataclasses.dataclass(frozen=True)
class ProbitProcess:
    """Expectation propagation for labels ``sign(f + sqrt(noise) z)`` of a Gaussian process f; the sign of the answer is the guess.

    Source: T. Minka (2001), Expectation propagation for approximate Bayesian inference; C. Rasmussen and C. Williams (2006),
    Gaussian processes for machine learning, section 3.6.

    >>> x = np.random.default_rng(0).standard_normal((200, 10))
    >>> learnt = ProbitProcess(DeepKernel("linear"), noise=0.1)(x, np.sign(x[:, 0]), 0)
    >>> learnt.status, bool(np.mean(np.sign(learnt.fitted) == np.sign(x[:, 0])) > 0.95)
    ('converged', True)
    """

    kernel: DeepKernel
    noise: float = 0.0
    tol: float = 1e-6
    max_iterations: int = 200

    def __call__(self, x, y, seed) -> Learnt:
        K = self.kernel.matrix(x)
        precision, shift, change = np.zeros(len(y)), np.zeros(len(y)), np.inf
        for _ in range(self.max_iterations):
            variance, mean, weights = _posterior(K, precision, shift)
            cavity_precision, cavity_shift = 1.0 / variance - precision, mean / variance - shift
            cavity = 1.0 / cavity_precision
            total = self.noise + cavity
            t, r = _hazard(y * cavity_shift * cavity / np.sqrt(total))
            tilted = cavity - cavity**2 * r * (t + r) / total
            centre = cavity_shift * cavity + y * cavity * r / np.sqrt(total)
            found = 1.0 / tilted - cavity_precision, centre / tilted - cavity_shift
            change = np.abs(found[1] - shift).max() / np.abs(found[1]).max()
            if change < self.tol:
                break
            precision, shift = 0.1 * precision + 0.9 * np.maximum(found[0], 1e-12), 0.1 * shift + 0.9 * found[1]
        return Learnt(lambda other: self.kernel.matrix(other, x) @ weights, K @ weights, _ended(change, self.tol), float(change))


def _posterior(K, precision, shift):
    """Marginal variances and means (n,), and the weights of K that give the means, of a Gaussian process under normal sites."""
    root = np.sqrt(precision)
    factor = linalg.cholesky(np.eye(len(K)) + root[:, None] * K * root, lower=True)
    half = linalg.solve_triangular(factor, root[:, None] * K, lower=True)
    weights = shift - root * linalg.cho_solve((factor, True), root * (K @ shift))
    return np.diag(K) - np.sum(half**2, axis=0), K @ weights, weights


@dataclasses.dataclass(frozen=True)
class ProbitMessages:
    """Message passing for labels ``sign(sqrt(slope) theta.x / sqrt(d) + sqrt(noise) z)`` of a standard normal theta.

    - ``eigenvalues`` (d,): the variances of the coordinates of x, which are independent; None for ones.

    Source: S. Rangan (2011), Generalized approximate message passing, arXiv:1010.5141.

    >>> x = np.random.default_rng(0).standard_normal((200, 10))
    >>> learnt = ProbitMessages(slope=1.0, noise=0.1)(x, np.sign(x[:, 0]), 0)
    >>> learnt.status, bool(np.mean(np.sign(learnt.fitted) == np.sign(x[:, 0])) > 0.95)
    ('converged', True)
    """

    slope: float
    noise: float
    eigenvalues: Any = None
    tol: float = 1e-6
    max_iterations: int = 500

    def __call__(self, x, y, seed) -> Learnt:
        d = x.shape[1]
        s = np.ones(d) if self.eigenvalues is None else np.asarray(self.eigenvalues)
        A = np.sqrt(self.slope / d) * x
        m, v, g, change = np.zeros(d), np.ones(d), np.zeros(len(y)), np.inf
        for _ in range(self.max_iterations):
            V = self.slope * np.mean(s * v)
            omega, total = A @ m - V * g, V + self.noise
            t, r = _hazard(y * omega / np.sqrt(total))
            g = y * r / np.sqrt(total)
            precision = self.slope * s * np.sum(r * (t + r)) / (d * total)
            v = 1.0 / (1.0 + precision)
            new = v * (A.T @ g + precision * m)
            change, m = np.linalg.norm(new - m) / np.linalg.norm(new), new
            if change < self.tol:
                break
        w = np.sqrt(self.slope / d) * m
        return Learnt(lambda other: other @ w, x @ w, _ended(change, self.tol), float(change))


def _hazard(t):
    """t and ``phi(t) / Phi(t)``."""
    return t, np.exp(-0.5 * t**2 - 0.5 * np.log(2.0 * np.pi) - special.log_ndtr(t))


def _ended(change, tol) -> str:
    return CONVERGED if change < tol else _STOPPED


def _seed(seed) -> tuple:
    return seed if isinstance(seed, tuple) else (seed,)
