"""Ridge regression on features in closed form: one effective ridge, then algebra."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..laws.features import FeatureLaw
from ..numerics import check
from ..numerics.mapped import each
from ..numerics.precision import in_float64

_RIDGELESS = 1e-12  # of the features' variance: the ridge of the sample covariance that stands for none
_GRID, _ZOOMS = np.geomspace(1e-9, 1e5, 85), 7


class FeatureRidge(NamedTuple):
    """What ridge regression on features reaches; arrays of the shape of the arguments.

    ``kappa`` the effective ridge; ``test_mse`` against the clean target, ``test_mse_noisy``, ``train_mse``; ``norm`` =
    |w|^2 / p; ``q``, ``theta``, ``V`` the order parameters; ``df1``, ``df2`` the effective numbers of directions over p.
    """

    kappa: np.ndarray
    test_mse: np.ndarray
    test_mse_noisy: np.ndarray
    train_mse: np.ndarray
    norm: np.ndarray
    q: np.ndarray
    theta: np.ndarray
    V: np.ndarray
    df1: np.ndarray
    df2: np.ndarray


def _point(chain, rho, size, alpha, weight_decay, noise):
    aspect = size / alpha
    kappa, D, A, dD, dA = chain.at_ridge(weight_decay * aspect, aspect)
    df2 = D + kappa * dD
    noisy = (rho + noise - A + kappa * dA) / (1.0 - aspect * df2)
    return FeatureRidge(
        kappa=kappa, test_mse=noisy - noise, test_mse_noisy=noisy, train_mse=noisy * (1.0 - aspect * D) ** 2,
        norm=-aspect * noisy * dD - dA, q=aspect * noisy * df2 + A + kappa * dA, theta=A,
        V=D / (1.0 - aspect * D) * aspect, df1=D, df2=df2,
    )  # fmt: skip


@in_float64
def feature_ridge(law: FeatureLaw, alpha, weight_decay, noise=0.0) -> FeatureRidge:
    """Ridge regression on the features of ``law``: loss (y - h)^2 / 2, y = h_* + sqrt(noise) z.

    - ``law``: a :class:`FeatureLaw` of a chain; ``alpha`` = n / d > 0, ``weight_decay`` >= 0 and ``noise`` >= 0: numbers or arrays
      that broadcast. At ``weight_decay = 0`` it is the limit: the interpolator of least norm where n < p, least squares else.
      A ridge of 1e-12 of the features' variance stands for it, and for all below it.

    Source: D. Schroeder, H. Cui, D. Dmitriev, B. Loureiro (2023), arXiv:2302.00401.

    >>> from quenched.laws import FeatureLaw
    >>> from quenched.numerics.resolvent import Chain
    >>> law = FeatureLaw(chain=Chain([1.0], [1.0], [1.0]), size=1.0)  # linear regression on isotropic inputs
    >>> feature_ridge(law, alpha=2.0, weight_decay=0.1, noise=0.1).test_mse_noisy.round(10).item()
    0.184428877
    """
    if law.chain is None:
        raise ValueError("law must be made of a Chain for the closed form, got functions D and A")
    alpha = check.array("alpha", alpha)
    weight_decay, noise = check.array("weight_decay", weight_decay), check.array("noise", noise)
    if np.any(alpha <= 0.0):
        raise ValueError(f"alpha must be positive, got {np.min(alpha):.6g}")
    for name, value in (("weight_decay", weight_decay), ("noise", noise)):
        if np.any(value < 0.0):
            raise ValueError(f"{name} must be non-negative, got {np.min(value):.6g}")
    alpha, weight_decay, noise = np.broadcast_arrays(alpha, weight_decay, noise)
    floor = _RIDGELESS * float(law.chain.mean_eigenvalue) * alpha / float(law.size)
    weight_decay = np.maximum(weight_decay, floor)
    shared = law.chain, np.float64(law.rho), np.float64(law.size)
    found = each(_point, shared, tuple(v.reshape(-1) for v in (alpha, weight_decay, noise)))
    return FeatureRidge(*(v.reshape(alpha.shape) for v in found))


class OptimalRidge(NamedTuple):
    """The weight decay of the smallest test error, and what is reached there; arrays of the shape of the arguments."""

    weight_decay: np.ndarray
    ridge: FeatureRidge


def optimal_ridge(law: FeatureLaw, alpha, noise=0.0) -> OptimalRidge:
    """The weight decay at which ridge regression on the features has the smallest ``test_mse``.

    - ``law``, ``alpha``, ``noise``: as for :func:`feature_ridge`.

    By a grid in the logarithm, since there may be several minima, and ever finer ones around its best point: to a relative 1e-7 or
    so, less where the minimum is flat. It is 0 where nothing on the grid is better than no ridge: the features' own noise is
    then ridge enough; and at the end of the grid, 1e5 of its scale, where nothing can be learnt.

    >>> from quenched.laws import FeatureLaw
    >>> from quenched.numerics.resolvent import Chain
    >>> law = FeatureLaw(chain=Chain([1.0], [1.0], [1.0]), size=1.0)
    >>> optimal_ridge(law, alpha=[1.0, 2.0], noise=0.1).weight_decay.round(6).tolist()
    [0.1, 0.1]
    """
    alpha, noise = np.broadcast_arrays(check.array("alpha", alpha), check.array("noise", noise))
    feature_ridge(law, alpha, 0.0, noise)  # refuses bad input
    scale = float(law.chain.mean_eigenvalue) * np.maximum(1.0, noise / float(law.rho))[..., None]

    def error(decay):
        return feature_ridge(law, alpha[..., None], scale * decay, noise[..., None]).test_mse

    best = scale[..., 0] * minimiser(error, alpha.shape)
    none, least = (feature_ridge(law, alpha, decay, noise).test_mse for decay in (0.0, best))
    weight_decay = np.where(none <= least, 0.0, best)
    return OptimalRidge(weight_decay, feature_ridge(law, alpha, weight_decay, noise))


def minimiser(error, shape) -> np.ndarray:
    """Where ``error`` (a function of positive (*shape, k), point by point) is smallest, (*shape,): a grid from 1e-9 to 1e5 in the
    logarithm, and ever finer ones around its best point.

    >>> minimiser(lambda x: (x - np.array([[0.3], [2.0]])) ** 2, (2,)).round(6).tolist()
    [0.3, 2.0]
    """
    grid, step = np.broadcast_to(np.log(_GRID), (*shape, len(_GRID))), np.diff(np.log(_GRID))[0]
    for zoom in range(_ZOOMS + 1):
        place = np.argmin(error(np.exp(grid)), axis=-1)[..., None]
        centre = np.take_along_axis(grid, place, -1)
        step = step / (1 if zoom == 0 else 10)
        grid = centre + step * np.linspace(-1.0, 1.0, 21)
    return np.asarray(np.exp(centre[..., 0]))


def infinitely_wide(slope2: float, noise: float, target_slope2: float, target_noise: float, label_noise: float = 0.0) -> float:
    """The best weight decay of infinitely wide features, whose first weights are isotropic, on an independent isotropic target.

    - ``slope2``, ``noise``: of the learner, the product of kappa_1^2 over its layers and the variance of its last layer that is not
      linear in the inputs; ``target_slope2``, ``target_noise``: the same of the target; ``label_noise`` a variance.

    Ridge regression on such features is ridge regression on the inputs at ``(weight_decay + noise) / slope2``: the result is
    zero where the features' own noise is more than the best ridge.

    >>> round(infinitely_wide(0.366879, 0.0274153, 2 / np.pi, 1 - 2 / np.pi), 4)
    0.182
    """
    return max(0.0, slope2 * (label_noise + target_noise) / target_slope2 - noise)
