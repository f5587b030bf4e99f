"""A flow learnt from a few samples of any mixture by several hidden units that saturate at +-1, in the limit of large dimension.

What is left of the samples is their Gram matrix K (N, N), over d; of the training, the answers E (r, N) of the units to the
samples: the risk is quadratic once these are known, and they are those of lowest risk among the ones that reproduce themselves.

Source: H. Cui, F. Krzakala, E. Vanden-Eijnden, L. Zdeborova (2023), arXiv:2310.03575, of which this is an extension.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

#: So many patterns of answers are tried at most, and at once.
MOST, _CHUNK = 300_000, 4096


def gram(means, stds, counts) -> np.ndarray:
    """K (N, N): inner products over d of ``counts`` (k,) samples of the clusters in turn; ``means`` (k, k) those of their means."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return means[np.ix_(labels, labels)] + np.diag(stds[labels] ** 2)


def pattern_count(units: int, samples: int) -> int:
    """How many patterns there are that differ by more than signs and the order of units.

    >>> pattern_count(2, 6)
    528
    """
    return math.comb(2 ** (samples - 1) + units - 1, units)


def _patterns(units, samples):
    """All of them, a chunk (M, r, N) at a time: rows start with 1 and are in descending order."""
    rows = np.array(list(itertools.product([1.0, -1.0], repeat=samples - 1))).reshape(2 ** (samples - 1), samples - 1)
    rows = np.concatenate([np.ones((len(rows), 1)), rows], axis=1)
    chosen = itertools.combinations_with_replacement(range(len(rows)), units)
    while chunk := list(itertools.islice(chosen, _CHUNK)):
        yield rows[np.array(chunk)]


class Trained(NamedTuple):
    """The trained denoiser of one time: ``c``; the answers ``pattern`` (r, N); ``weights`` M E (r, N), with which
    ``w = weights ((1 - c beta) x_1 - c alpha x_0)``; ``variance`` S = A / B; ``train_loss``, the risk R / d; ``lowest``: whether no
    pattern that does not reproduce itself has a lower risk (else the minimum may be where units do not saturate)."""

    c: float
    pattern: np.ndarray
    weights: np.ndarray
    variance: float
    train_loss: float
    lowest: bool = True


def train(K, units: int, decay: float, alpha: float, beta: float) -> Trained | None:
    """The pattern of lowest risk that reproduces itself, among all of them; None where none does.

    >>> K = gram(np.array([[1.0]]), np.array([0.7]), [4])
    >>> found = train(K, 1, 0.1, 0.3, 0.7)
    >>> round(found.c, 6), found.pattern.tolist(), round(found.train_loss, 6)
    (1.056877, [[1.0, 1.0, 1.0, 1.0]], 0.205483)
    """
    best, risk, bound = None, np.inf, np.inf
    for E in _patterns(units, len(K)):
        inverse = np.linalg.pinv(E @ E.transpose(0, 2, 1) + decay * np.eye(units), hermitian=True)
        weights = inverse @ E
        projection = np.eye(len(K)) - E.transpose(0, 2, 1) @ weights
        A, B = np.einsum("mab,ab->m", projection, K), np.einsum("maa->m", projection)
        D = beta**2 * A + alpha**2 * B
        c, missing = beta * A / D, alpha**2 * B / D
        seen = weights @ (beta * missing[:, None, None] * K - (c * alpha**2)[:, None, None] * np.eye(len(K)))
        margin = 1e-10 * beta * missing * np.abs(weights).max(axis=(1, 2)) * np.abs(K).max()
        itself = np.all(seen * E > margin[:, None, None], axis=(1, 2))
        every = 0.5 * (missing**2 * A + c**2 * alpha**2 * B)
        risks, bound = np.where(itself, every, np.inf), min(bound, float(every.min()))
        k = int(np.argmin(risks))
        if risks[k] < risk * (1.0 - 1e-12):
            risk, best = risks[k], Trained(float(c[k]), E[k], weights[k], float(A[k] / B[k]), float(risks[k]))
    return best and best._replace(lowest=best.train_loss <= bound * (1.0 + 1e-9))


def modes(units: int) -> np.ndarray:
    """What the units may answer to a generated sample, up to the sign of all: (2^(r-1), r)."""
    rest = np.array(list(itertools.product([1.0, -1.0], repeat=units - 1))).reshape(2 ** (units - 1), units - 1)
    return np.concatenate([np.ones((len(rest), 1)), rest], axis=1)


def probabilities(K, found: Trained, alpha: float, beta: float) -> np.ndarray:
    """How often noise X_0 is answered by each of the :func:`modes`, or its opposite: orthants of N(0, w w^T / d)."""
    C = found.weights @ ((1.0 - found.c * beta) ** 2 * K + (found.c * alpha) ** 2 * np.eye(len(K))) @ found.weights.T
    correlation = C / np.sqrt(np.outer(np.diag(C), np.diag(C)))
    answers, same = modes(len(C)), correlation > 1.0 - 1e-9
    possible = ~np.any(same & (answers[:, :, None] != answers[:, None, :]), axis=(1, 2))  # equal units answer alike
    if len(C) == 1:
        return np.ones(1)
    if len(C) == 2:
        angle = np.arcsin(np.clip(correlation[0, 1], -1.0, 1.0)) / np.pi
        return np.array([0.5 + angle, 0.5 - angle]) if possible.all() else np.array([1.0, 0.0])
    from scipy.stats import multivariate_normal

    laws = [correlation * np.outer(p, p) for p in answers]
    seeded = np.random.default_rng(0)
    found = [multivariate_normal.cdf(np.zeros(len(C)), cov=law, allow_singular=True, rng=seeded) for law in laws]
    chances = np.where(possible, found, 0.0)
    return chances / chances.sum()


class Path(NamedTuple):
    """Samples of one mode along the flow, ``X = g x + u.X_1 + v.X_0`` of the training samples X_1 and noises X_0.

    ``times`` (T,); ``variance`` g^2 (T,); ``overlaps`` (T, N) with the samples, X.x_1 / d; ``squared_norm`` |X|^2 / d (T,);
    ``steady``: whether training set and sample are answered in the same way all along.
    """

    times: np.ndarray
    variance: np.ndarray
    overlaps: np.ndarray
    squared_norm: np.ndarray
    steady: bool


def exact(K, found: Trained, times, alpha, beta, mode) -> Path:
    """The flow in continuous time while all answers stay as they are; ``times``, ``alpha``, ``beta`` (T,), ``mode`` (r,)."""
    pull, g = found.weights.T @ mode, np.sqrt(alpha**2 + found.variance * beta**2)
    u, v = np.outer(beta, pull), -np.outer(g - alpha, pull)
    c = beta * found.variance / g**2
    seen = _seen(K, found.weights, c, alpha, beta, u, v)
    steady = bool(np.all(seen[beta * alpha > 0.0] * mode > 0.0))
    return _path(K, times, g, u, v, steady)


def _seen(K, weights, c, alpha, beta, u, v):
    """w.X / d (T, r) of the denoisers of several times."""
    return (((1.0 - c * beta)[:, None] * (u @ K)) - (c * alpha)[:, None] * v) @ weights.T


def _path(K, times, g, u, v, steady):
    overlaps = u @ K
    return Path(times, g**2, overlaps, g**2 + np.sum(u * overlaps, axis=1) + np.sum(v**2, axis=1), steady)


def euler(K, denoisers, point, mode) -> Path:
    """The flow of equal Euler steps, each with its own denoiser (a list), at a schedule's ``point`` of arrays (steps,).

    Answers may change on the way: they are those of the units to the sample as it is, but for the first step's, ``mode``.
    """
    steps = len(denoisers)
    g, u, v = np.ones(steps + 1), np.zeros((steps + 1, len(K))), np.zeros((steps + 1, len(K)))
    answers, steady = mode, True
    for i, found in enumerate(denoisers):
        c, a, b = found.c, point.alpha[i], point.beta[i]
        if i:
            seen = found.weights @ ((1.0 - c * b) * (K @ u[i]) - c * a * v[i])
            answers = np.where(seen >= 0.0, 1.0, -1.0)
            steady &= np.array_equal(found.pattern, denoisers[0].pattern) and np.array_equal(answers, mode)
        rate, pull = point.linear[i] + point.gain[i] * c, point.gain[i] * (found.weights.T @ answers)
        g[i + 1] = g[i] * (1.0 + rate / steps)
        u[i + 1] = u[i] + (rate * u[i] + (1.0 - c * b) * pull) / steps
        v[i + 1] = v[i] + (rate * v[i] - c * a * pull) / steps
    return _path(K, np.linspace(0.0, 1.0, steps + 1), g, u, v, bool(steady))
