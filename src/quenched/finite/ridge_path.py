"""Ridge regression trained on parts of a sample and tested on the rest, at many penalties at once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np


def fit_path(x, y, penalties, *, intercept: bool) -> tuple[np.ndarray, np.ndarray]:
    """Minimisers of ``sum (y - x.w - b)^2 + a |w|^2`` at all ``penalties`` a (G,), from one eigendecomposition.

    ``x`` (n, p), ``y`` (n, K). Returns weights (G, p, K) and intercepts (G, K), zero without ``intercept``.

    >>> w, b = fit_path(np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]]), [2.0], intercept=True)
    >>> w.ravel().tolist(), b.ravel().tolist()
    ([0.5], [1.5])
    """
    penalties = np.asarray(penalties, dtype=float)
    centre_x, centre_y = (x.mean(axis=0), y.mean(axis=0)) if intercept else (np.zeros(x.shape[1]), np.zeros(y.shape[1]))
    x, y = x - centre_x, y - centre_y
    wide = x.shape[1] > x.shape[0]
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    kept = values > 1e-13 * max(values[-1], np.finfo(float).tiny)
    values, vectors = values[kept], vectors[:, kept]
    right = vectors.T @ (y if wide else x.T @ y)
    dual = np.einsum("ij,gj,jk->gik", vectors, 1.0 / (values + penalties[:, None]), right, optimize=True)
    weights = np.einsum("np,gnk->gpk", x, dual, optimize=True) if wide else dual
    return weights, centre_y - np.einsum("p,gpk->gk", centre_x, weights)


@dataclasses.dataclass(frozen=True, eq=False)
class PathTrials:
    """Test errors of trainings on parts of a sample: S sizes, G penalties.

    - ``sizes`` (S,), ``penalties`` (G,), ``counts`` (S,): how many trainings each size got.
    - ``mean_square`` (S, G): squared error per row and target, mean over trainings; ``spread`` (S, G): standard
      deviation of its logarithm from training to training.
    - ``wrong`` (S, G): fraction of rows given the wrong class, mean over trainings, and ``wrong_spread`` (S, G) its
      standard deviation from training to training; NaN for regression.
    """

    sizes: np.ndarray
    penalties: np.ndarray
    counts: np.ndarray
    mean_square: np.ndarray
    spread: np.ndarray
    wrong: np.ndarray
    wrong_spread: np.ndarray


def part_sizes(samples: int, smallest: int) -> np.ndarray:
    """Sizes of parts: from a sixteenth to two thirds of ``samples``, a factor of root two apart, none below ``smallest``.

    >>> part_sizes(320, 10).tolist()
    [20, 28, 40, 57, 80, 113, 160, 213]
    """
    halves = samples * 2.0 ** -np.arange(4.0, 0.75, -0.5)
    sizes = np.unique(np.rint(np.append(halves, 2.0 * samples / 3.0)).astype(int))
    return sizes[sizes >= smallest]


def parts(samples: int, size: int, count: int, rng) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """``count`` pairs (rows to train on, rows to test on): parts, or what remains of them, are disjoint in runs."""
    short = min(size, samples - size)
    made = 0
    while made < count:
        order = rng.permutation(samples)
        for start in range(0, samples - short + 1, short):
            if made == count:
                return
            chosen = np.zeros(samples, bool)
            chosen[order[start : start + short]] = True
            chosen = chosen if short == size else ~chosen
            made += 1
            yield np.flatnonzero(chosen), np.flatnonzero(~chosen)


def measure_path(
    features: Callable, y, sizes, penalties, *, intercept: bool, classify: bool, reference, trainings: int, seed
) -> PathTrials:
    """Train on parts of a sample and test on the rest.

    Parameters: ``features(train, test)`` the inputs of two sets of rows, made without looking at the second; ``y``
    (N, K); ``reference`` (G, N) errors of each row at each penalty: a part's test error is divided by the same rows'
    mean reference and multiplied by that of all rows, which removes most of the luck of which rows were held out;
    ``trainings`` how many at half the sample or more (in proportion more of smaller parts, up to eight times as many).
    """
    from threadpoolctl import threadpool_limits

    rng = np.random.default_rng(seed)
    relative = reference / reference.mean(axis=1, keepdims=True)

    def train(part):
        rows, others = part
        x, x_others = features(rows, others)
        weights, constant = fit_path(x, y[rows], penalties, intercept=intercept)
        scores = x_others @ np.swapaxes(weights, 0, 1).reshape(x.shape[1], -1)
        scores = scores.reshape(len(others), *constant.shape) + constant
        square = np.mean((scores - y[others][:, None]) ** 2, axis=(0, 2)) / relative[:, others].mean(axis=1)
        return square, np.mean(wrong_class(scores, y[others][:, None]), axis=0) if classify else np.full(len(square), np.nan)

    counts = (trainings * np.clip(0.5 * len(y) / np.asarray(sizes), 1.0, 8.0)).astype(int)
    columns = []
    # One training a core: small decompositions gain nothing from more.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        for size, count in zip(sizes, counts, strict=True):
            square, wrong = map(np.array, zip(*pool.map(train, parts(len(y), int(size), count, rng)), strict=True))
            columns.append((square.mean(0), np.log(square).std(0, ddof=1), wrong.mean(0), wrong.std(0, ddof=1)))
    columns = (np.array(column) for column in zip(*columns, strict=True))
    return PathTrials(np.asarray(sizes), np.asarray(penalties), counts, *columns)


def wrong_class(scores, coded) -> np.ndarray:
    """Whether the sign (one score) or the largest score names another class than ``coded`` (..., K) of +-1.

    ``scores`` (..., K); returns booleans (...).
    """
    if coded.shape[-1] == 1:
        return (scores[..., 0] > 0.0) != (coded[..., 0] > 0.0)
    return scores.argmax(axis=-1) != coded.argmax(axis=-1)
