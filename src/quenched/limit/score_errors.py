"""Classification errors of ridge scores at another sample size: an approximation on top of the ridge curve.

At equal kappa the scores of n and of N samples have the same mean over samples and differ in their sampling noise,
whose variance is the part ``E(n) - B`` of the mean square error. So leave-one-out scores of N rows become scores of n.
How the noise is shared out among rows and scores is seen by resampling the residuals:

- n < N: noise of the missing variance is added to each row's scores;
- n > N: each row's scores are mapped affinely, about the mean of its class, so that their covariance loses the
  superfluous noise of that row (the least-moving map, exact where mean scores of a class are Gaussian).

What is approximate: the noise is taken as Gaussian and independent of the mean scores, and mean scores as Gaussian
where noise is removed. For n = N nothing is done, and the error is the leave-one-out error rate.

Resampled residuals: C. F. J. Wu (1986), Annals of Statistics 14, 1261. The use made of them here is ours.
"""

from __future__ import annotations

import functools

import numpy as np

_AT_ONCE = 30_000_000  # numbers of noise held at a time
_CUT = 0.9  # the largest part of a variance that is taken for noise


def draws_for(samples: int, scores: int) -> int:
    """How many draws of noise serve for ``samples`` rows of so many scores: more for fewer, as far as memory goes."""
    return int(np.clip(30_000 // samples, 12, max(12, min(64, _AT_ONCE // (samples * scores)))))


def wrong(scores, coded) -> np.ndarray:
    """Which ``scores`` (..., N, K) name another class than ``coded`` (N, K): booleans (..., N).

    ``coded`` is +1 for the class of a row (K = 1: for the second class) and -1 otherwise.
    """
    if coded.shape[1] == 1:
        return scores[..., 0] * coded[:, 0] <= 0.0
    return scores.argmax(axis=-1) != coded.argmax(axis=-1)


class ScoreNoise:
    """How the sampling noise of scores is shared out among N rows and K scores.

    Parameter: ``draws`` (draws, N, K) of the noise, of any overall size.

    >>> rng = np.random.default_rng(0)
    >>> coded = np.repeat([[1.0], [-1.0]], 5000, axis=0)
    >>> scores, noise = coded + rng.normal(size=coded.shape), ScoreNoise(rng.normal(size=(32, *coded.shape)))
    >>> changed = [noise.changed(scores, coded, 0.9, after) for after in (0.9, 3.9, 0.15)]
    >>> [round(float(np.mean(wrong(each, coded))), 2) for each in changed]  # Phi(-1), Phi(-1/2), Phi(-2)
    [0.16, 0.31, 0.02]
    """

    def __init__(self, draws):
        self.draws = draws / np.sqrt(np.mean(draws**2))

    @functools.cached_property
    def covariances(self) -> np.ndarray:
        """The covariance of each row's noise, (N, K, K); few draws are helped by the mean over rows."""
        count, _, scores = self.draws.shape
        by_row = np.ascontiguousarray(np.moveaxis(self.draws, 0, -1))
        own = by_row @ np.swapaxes(by_row, 1, 2) / count
        mean = own.mean(axis=0)
        size = np.trace(own, axis1=1, axis2=2)[:, None, None] / np.trace(mean)
        return (count * own + scores * size * mean) / (count + scores)

    def changed(self, scores, coded, before: float, after: float) -> np.ndarray:
        """Scores whose noise has the variance ``after`` in place of ``before``; means over rows and scores.

        ``scores`` (N, K) predict ``coded`` (N, K). Returns (draws, N, K) where noise is added, (N, K) otherwise.
        """
        if after > before:
            return scores + np.sqrt(after - before) * self.draws
        return self._calmed(scores, coded, before, after) if after < before else scores

    def _calmed(self, scores, coded, before, after):
        """Less noise. The covariance of a class with few rows is taken mostly from all classes together."""
        labels = (coded[:, 0] > 0.0).astype(int) if coded.shape[1] == 1 else coded.argmax(axis=1)
        present, labels, counts = np.unique(labels, return_inverse=True, return_counts=True)
        inside = labels == np.arange(len(present))[:, None]
        centres = inside @ scores / counts[:, None]
        centred, noise, few = scores - centres[labels], before * self.covariances, 3.0 * coded.shape[1]
        total, luck, calm = centred.T @ centred / len(scores), noise.mean(axis=0), []
        for rows, count in zip(inside, counts, strict=True):
            seen = (centred[rows].T @ centred[rows] + few * total) / (count + few)
            calm.append(_without(seen, (noise[rows].sum(axis=0) + few * luck) / (count + few)))
        # Rows move towards the centre of their class: where both are right, they stay right.
        codes = coded[np.unique(labels, return_index=True)[1]]
        at = wrong(scores, coded) | wrong(centres, codes)[labels]
        calm, noise, out = np.stack(calm)[labels[at]], noise[at], scores.copy()
        moved = _least_moving_map(calm + noise, calm + (after / before) * noise) @ centred[at, :, None]
        out[at] = centres[labels[at]] + moved[:, :, 0]
        return out


def _without(total, noise) -> np.ndarray:
    """``total - noise``, where no direction loses more than nine tenths of its variance."""
    half, inverse = _roots(total)
    lost, axes = np.linalg.eigh(inverse @ noise @ inverse)
    return half @ (axes * (1.0 - np.clip(lost, 0.0, _CUT))) @ axes.T @ half


def _least_moving_map(before, after) -> np.ndarray:
    """The symmetric A with ``A before A = after``, (N, K, K): optimal transport between two Gaussians."""
    idle = 1e-9 * np.trace(before, axis1=-2, axis2=-1)[..., None, None] * np.eye(before.shape[-1])
    half, inverse = _roots(before + idle)  # scores of all classes have a constant sum: nothing moves along it
    return inverse @ _roots(half @ (after + idle) @ half)[0] @ inverse


def _roots(matrix) -> tuple[np.ndarray, np.ndarray]:
    """Square root and inverse square root of covariances (..., K, K)."""
    values, vectors = np.linalg.eigh(matrix)
    root = np.sqrt(np.maximum(values, 1e-12 * values[..., -1:]))[..., None, :]
    turned = np.swapaxes(vectors, -1, -2)
    return (vectors * root) @ turned, (vectors / root) @ turned
