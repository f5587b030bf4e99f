"""Students of a deep random target that are trained with the square loss, in closed form: for regression, and for +-1 labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..laws.features import FeatureLaw
from ..numerics import check
from ..numerics.resolvent import Chain
from .bayes_deep import angle_error
from .feature_ridge import feature_ridge, minimiser, optimal_ridge


class Regression(NamedTuple):
    """A student of noisy real labels; arrays of the shape of the arguments.

    ``test_mse`` against noisy labels, ``test_mse_clean`` against the target; ``train_mse``; ``q`` = Var h, ``theta`` = Cov(h, f).
    """

    weight_decay: np.ndarray
    test_mse: np.ndarray
    test_mse_clean: np.ndarray
    train_mse: np.ndarray
    q: np.ndarray
    theta: np.ndarray


class Classification(NamedTuple):
    """A student of labels +-1: ``test_error`` against noisy labels, ``test_error_clean`` against the target's sign;
    ``train_loss`` the mean loss per sample; ``q`` = Var h, ``theta`` = Cov(h, f)."""

    weight_decay: np.ndarray
    test_error: np.ndarray
    test_error_clean: np.ndarray
    train_loss: np.ndarray
    q: np.ndarray
    theta: np.ndarray


def regression(law: FeatureLaw, alpha, weight_decay, noise=0.0) -> Regression:
    """Ridge regression (:func:`~quenched.limit.feature_ridge.feature_ridge`); ``weight_decay=None`` for the best."""
    if weight_decay is None:
        weight_decay, found = optimal_ridge(law, alpha, noise)
    else:
        found = feature_ridge(law, alpha, weight_decay, noise)
    decay = np.broadcast_to(weight_decay, np.shape(found.test_mse))
    return Regression(decay, found.test_mse_noisy, found.test_mse, found.train_mse, found.q, found.theta)


def signs(law: FeatureLaw, noise: float) -> tuple[FeatureLaw, float]:
    """The law whose target has the covariance of ``sign(f + sqrt(noise) z)`` with the features, and the rest of that variance, 1.

    >>> from quenched.laws.features import FeatureLaw
    >>> law, rest = signs(FeatureLaw(chain=Chain([1.0], [1.0], [1.0])), 0.0)
    >>> round(float(law.rho), 12), round(rest, 12)
    (0.636619772368, 0.363380227632)
    """
    share = 2.0 / (np.pi * (float(law.rho) + noise))
    c = law.chain
    chain = Chain(c.weights, c.eigenvalues, share * c.target, c.layers)
    return FeatureLaw(chain=chain, size=law.size, rho=share * law.rho), 1.0 - share * float(law.rho)


def classification(law: FeatureLaw, alpha, weight_decay, noise=0.0) -> Classification:
    """The square loss on labels ``sign(f + sqrt(noise) z)``: ridge regression of a linear target and noise, then an angle.

    ``weight_decay=None`` for the one of the smallest ``test_error``, to a relative 1e-6 or so.
    """
    linear, rest = signs(law, noise)
    alpha = check.array("alpha", alpha)
    total = float(law.rho) + noise
    if weight_decay is None:
        weight_decay = minimiser(lambda w: _classified(linear, rest, alpha[..., None], w, noise, total).test_error, alpha.shape)
    return _classified(linear, rest, alpha, weight_decay, noise, total)


def _classified(linear, rest, alpha, weight_decay, noise, total) -> Classification:
    found = feature_ridge(linear, alpha, weight_decay, rest)
    q, theta = found.q, found.theta * np.sqrt(0.5 * np.pi * total)
    decay = np.broadcast_to(weight_decay, np.shape(theta))
    noisy, clean = angle_error(theta, q, total), angle_error(theta, q, total - noise)
    return Classification(decay, noisy, clean, 0.5 * found.train_mse, q, theta)
