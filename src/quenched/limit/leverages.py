"""Rows of uneven scale, as their leverages show them.

Rows ``x_i = sqrt(tau_i) z_i`` of one covariance and of scales tau_i (of mean one) have leverages with
``h_i/(1 - h_i) = g tau_i``, where ``g = tr(C G)``, ``G = (X^T X + a)^-1``, C the covariance of the population. From these
odds follow g = their mean, ``kappa = a g/df1``, and what n other rows of the same scales have: the gain g' with
``n mean(g' tau/(1 + g' tau)) = df1`` at the same kappa. Even rows have ``g = df1/(n - df1)``.

Source: the deterministic equivalent of ``sum_i tau_i z_i z_i^T``, N. El Karoui (2009), arXiv:0912.1950.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ..numerics.bisection import root

_BINS = 512  # rows of about the same scale count as one
_SHARES = np.linspace(0.0, 1.0, 33)


def scales(odds, chance) -> np.ndarray:
    """Scales of mean one (M, N) from ``odds`` (M, N), less the relative variance (M,) that even rows have by ``chance``."""
    ratio = odds / odds.mean(axis=1, keepdims=True)
    spread = np.maximum(ratio.var(axis=1), 1e-300)
    return 1.0 + np.sqrt(np.maximum(0.0, 1.0 - chance / spread))[:, None] * (ratio - 1.0)


def gain(tau, share) -> np.ndarray:
    """g (M,) with ``mean(g tau/(1 + g tau)) = share``, for scales ``tau`` (M, N) and shares (M,) in (0, 1)."""
    even = share / (1.0 - share)
    high = even / share / np.maximum(tau, 1e-12).min(axis=1)  # where 1/(1 + g tau) <= 1 - share for all rows
    return root(lambda g: np.mean(g[:, None] * tau / (1.0 + g[:, None] * tau), axis=1) - share, even, 2.0 * high)


@dataclasses.dataclass(frozen=True, eq=False)
class Stretch:
    """What uneven scales add to ``log g`` at degrees of freedom ``df1`` (M,), ascending, and shares df1/n: table (M, L)."""

    df1: np.ndarray
    table: np.ndarray

    @classmethod
    def of(cls, tau, df1) -> Stretch:
        """The table of the scales ``tau`` (M, N) that are seen at each of ``df1`` (M,)."""
        if tau.shape[1] > _BINS:
            tau = np.stack([part.mean(axis=1) for part in np.array_split(np.sort(tau, axis=1), _BINS, axis=1)], axis=1)
        inner = [np.log(gain(tau, np.full(len(tau), share)) * (1.0 - share) / share) for share in _SHARES[1:-1]]
        last = np.log(np.mean(1.0 / np.maximum(tau, 1e-12), axis=1))
        return cls(df1, np.stack([np.zeros(len(tau)), *inner, last], axis=1))

    def __call__(self, df1, share) -> np.ndarray:
        """At ``df1`` and ``share``, arrays of one shape; beyond the table its border holds."""
        place = np.interp(df1, self.df1, np.arange(len(self.df1)))
        row = np.minimum(place.astype(int), len(self.df1) - 2)
        at = np.clip(share, 0.0, 1.0) * (len(_SHARES) - 1)
        column = np.minimum(at.astype(int), len(_SHARES) - 2)
        up, right = place - row, at - column
        low, high = ((1.0 - right) * self.table[r, column] + right * self.table[r, column + 1] for r in (row, row + 1))
        return (1.0 - up) * low + up * high
