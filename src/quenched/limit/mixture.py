"""Positive mixtures: the form that B(kappa) and df1(kappa) have whatever the population is."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.optimize import nnls


@dataclasses.dataclass(frozen=True, eq=False)
class Mixture:
    """``f(kappa) = constant + sum_j weights_j term(omega_j, kappa)`` with non-negative weights.

    ``power`` 2: terms ``(kappa/(omega + kappa))^2``, the bias of ridge regression in a direction of variance omega, on
    top of the noise. ``power`` -1: terms ``omega/(omega + kappa)``, its degrees of freedom. Fitted by non-negative
    least squares, it smooths what is noisy and continues it below the smallest kappa that was measured.
    """

    omega: np.ndarray
    weights: np.ndarray
    constant: float
    power: int

    @classmethod
    def fit(cls, kappa, values, errors, power: int, total: float = np.inf, through=None) -> Mixture:
        """Fit positive ``values`` (J,) at ``kappa`` (J,) with relative standard ``errors`` (J,).

        ``total``: an upper bound of the sum of all weights and the constant. ``through``: a pair (kappa, value) that
        is met exactly.
        """
        omega = np.geomspace(kappa.min() / 300.0, 3.0 * kappa.max(), 80)
        design = np.hstack([_terms(omega, kappa, power), np.ones((len(kappa), 1))])
        design, wanted = design / (values * errors)[:, None], 1.0 / errors
        if np.isfinite(total):  # with one more, idle, weight the sum is total
            design = np.pad(design, ((0, 0), (0, 1)))
            design, wanted = _with_row(design, np.ones(len(omega) + 2) / total, wanted, 1.0)
        if through is not None:
            at, value = through
            row = np.append(_terms(omega, np.array([at]), power)[0], 1.0) / value
            design, wanted = _with_row(design, np.pad(row, (0, design.shape[1] - len(row))), wanted, 1.0)
        found, _ = nnls(design, wanted, maxiter=100 * design.shape[1])
        return cls(omega, found[: len(omega)], float(found[len(omega)]), power)

    def __call__(self, kappa) -> np.ndarray:
        """The function at ``kappa`` (J,) >= 0."""
        return _terms(self.omega, np.atleast_1d(kappa), self.power) @ self.weights + self.constant

    def squared(self, kappa) -> np.ndarray:
        """``sum_j weights_j (omega_j/(omega_j + kappa))^2``, at ``kappa`` (J,): df2 where the function is df1."""
        kappa = np.atleast_1d(kappa)
        return (self.omega / (self.omega + kappa[:, None])) ** 2 @ self.weights + self.constant

    def misfit(self, kappa, values, errors) -> float:
        """Sum of squared deviations over ``errors``."""
        return float(np.sum(((self(kappa) / values - 1.0) / errors) ** 2))


def bounds(kappa, values, errors, at) -> np.ndarray:
    """Lowest and highest value at each kappa in ``at`` (M,) of mixtures of power 2 that fit as well as the best, to one.

    A profile likelihood: the sum of squares may rise by one. Returns (M, 2).
    """
    best = Mixture.fit(kappa, values, errors, 2)
    allowed = best.misfit(kappa, values, errors) + 1.0

    def fits(point, value):
        return Mixture.fit(kappa, values, errors, 2, through=(point, value)).misfit(kappa, values, errors) <= allowed

    found, least = np.empty((len(at), 2)), 1e-9 * values.min()
    for row, point in zip(found, at, strict=True):
        centre = float(best(point)[0])
        for side, end in enumerate((least, 2.0 * values.max())):
            inside, outside = np.log(max(centre, least)), np.log(end)
            for _ in range(10):
                middle = 0.5 * (inside + outside)
                inside, outside = (middle, outside) if fits(point, np.exp(middle)) else (inside, middle)
            row[side] = np.exp(inside)
    return found


def _terms(omega, kappa, power):
    ratio = kappa[:, None] / (omega + kappa[:, None])
    return ratio**2 if power == 2 else 1.0 - ratio


def _with_row(design, row, wanted, value, weight: float = 1e4):
    return np.vstack([design, weight * row]), np.append(wanted, weight * value)
