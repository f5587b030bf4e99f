"""Classification errors of ridge scores at another sample size: an approximation on top of the ridge curve.

At equal kappa the scores of n and of N samples have the same mean over samples and differ in their sampling noise,
whose variance is the part ``E(n) - B`` of the mean square error. So leave-one-out scores of N rows become scores of n:

- n < N: Gaussian noise of the missing variance is added to each row's scores;
- n > N: within each class the scores are mapped affinely so that their covariance loses the superfluous noise (the
  least-moving map, exact where a class's scores are Gaussian).

What is approximate: the noise is taken as Gaussian, of the same covariance for all rows, and independent of the mean
scores. For n = N nothing is done, and the error is the leave-one-out error rate.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr


def error_rate(scores, coded, change: float, covariance, seed: int = 0) -> float:
    """The fraction of wrong classes after the sampling noise of the scores has changed.

    Parameters: ``scores`` (N, K) leave-one-out predictions of ``coded`` (N, K), which is +1 for the class of a row
    (K = 1: for the second class) and -1 otherwise; ``change`` the change of noise variance, averaged over scores;
    ``covariance`` (K, K) its shape, scaled here to a mean diagonal of one.

    >>> rng = np.random.default_rng(0)
    >>> coded = np.repeat([[1.0], [-1.0]], 5000, axis=0)
    >>> scores = coded + rng.normal(size=coded.shape)  # error rate Phi(-1) = 0.159, at variance 4 Phi(-1/2) = 0.309
    >>> [round(error_rate(scores, coded, change, np.eye(1)), 2) for change in (0.0, 3.0, -0.75)]
    [0.16, 0.31, 0.02]
    """
    noise = change * covariance / np.mean(np.diag(covariance))
    if change < 0.0:
        scores = _sharpened(scores, coded, -noise)
    if coded.shape[1] == 1:
        margin = scores[:, 0] * np.sign(coded[:, 0])
        if change <= 0.0:
            return float(np.mean(margin <= 0.0))
        return float(np.mean(ndtr(-margin / np.sqrt(noise[0, 0]))))
    truth = coded.argmax(axis=1)
    if change <= 0.0:
        return float(np.mean(scores.argmax(axis=1) != truth))
    values, vectors = np.linalg.eigh(noise)
    draws = int(np.clip(40_000 // len(scores), 4, 64))
    normal = np.random.default_rng(seed).normal(size=(draws, *scores.shape))
    noisy = scores + normal * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    return float(np.mean(noisy.argmax(axis=2) != truth))


def _sharpened(scores, coded, noise) -> np.ndarray:
    """Scores (N, K) whose covariance within each class is smaller by ``noise`` (K, K), as far as it has that to lose.

    The covariance of a class with few rows is taken mostly from all classes together.
    """
    labels = (coded[:, 0] > 0.0).astype(int) if coded.shape[1] == 1 else coded.argmax(axis=1)
    present, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
    centres = np.stack([scores[labels == label].mean(axis=0) for label in range(len(present))])
    centred = scores - centres[labels]
    pooled, few = centred.T @ centred / len(scores), 3.0 * coded.shape[1]
    out = centres[labels]
    for label, count in enumerate(counts):
        rows = labels == label
        covariance = (centred[rows].T @ centred[rows] + few * pooled) / (count + few)
        out[rows] += centred[rows] @ _least_moving_map(covariance, noise)
    return out


def _least_moving_map(covariance, noise) -> np.ndarray:
    """The symmetric A with ``A C A = C - noise``, where no direction loses more than nine tenths of its variance.

    In the basis where C is the identity the noise is diagonalised and its eigenvalues are cut; A is the optimal
    transport between the two Gaussians.
    """
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 1e-12 * values[-1])
    half, inverse = (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T
    lost, axes = np.linalg.eigh(inverse @ noise @ inverse)
    wanted = half @ (axes * (1.0 - np.clip(lost, 0.0, 0.9))) @ axes.T @ half
    inner_values, inner = np.linalg.eigh(half @ wanted @ half)
    return inverse @ (inner * np.sqrt(np.maximum(inner_values, 0.0))) @ inner.T @ inverse
