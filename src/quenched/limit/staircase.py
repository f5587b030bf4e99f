"""Kernels with more samples than dimensions: the degrees of the target are learnt one after the other, at n ~ d, d^2 / 2, ...

For isotropic inputs of one length a dot-product kernel ``K = sum_j K_j cos^j`` has nearly one eigenvalue per degree: K_j / N_j on
N_j harmonics. With ``n = alpha d^l / l!`` samples, lower degrees are known, higher ones are noise in the target and ridge in the
kernel, and degree l is linear regression on isotropic inputs.
"""

from __future__ import annotations

from math import comb
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..laws.features import FeatureLaw
from ..laws.kernel import Series
from ..numerics import check
from ..numerics.precision import in_float64
from ..numerics.resolvent import Chain, increasing_root
from .feature_ridge import feature_ridge


class Step(NamedTuple):
    """``test_mse`` against noisy labels, ``test_mse_clean`` against the target, ``kappa`` the effective ridge of a degree."""

    test_mse: np.ndarray
    test_mse_clean: np.ndarray
    kappa: np.ndarray


def multiplicities(dim: int, degree: int) -> np.ndarray:
    """The number of spherical harmonics of degrees 0..``degree`` in ``dim`` > 2 dimensions, (degree + 1,).

    >>> multiplicities(50, 2).tolist()
    [1.0, 50.0, 1274.0]
    """
    dim, degree = check.integer("dim", dim, 3), check.integer("degree", degree, 0)
    return np.array([float(comb(dim + j - 1, j) - (comb(dim + j - 3, j - 2) if j > 1 else 0)) for j in range(degree + 1)])


def plateaus(target: Series, noise: float = 0.0) -> np.ndarray:
    """The error between n ~ d^l and n ~ d^(l+1), l = 0, 1, ..: the noise and all higher degrees."""
    return np.array([noise + target.tail(degree) for degree in range(len(target.terms))])


def one_step(degree: int, target: Series, student: Series, alpha, weight_decay=0.0, noise=0.0) -> Step:
    """The error with ``n = alpha d^degree / degree!`` samples, d to infinity: ridge regression of one degree.

    - ``target``, ``student``: the two kernels' series to at least this ``degree``; ``alpha`` > 0, ``weight_decay`` >= 0: numbers or
      arrays that broadcast; ``noise`` of the labels.

    Source: H. Cui, F. Krzakala, L. Zdeborova (2023), arXiv:2302.00375; B. Ghorbani et al. (2019), arXiv:1904.12191.

    >>> from quenched.laws.kernel import DeepKernel
    >>> relu = DeepKernel("relu", 2.0).series(8)
    >>> one_step(2, relu, relu, alpha=1.0, weight_decay=1e-3).test_mse.round(5).item()
    0.07222
    """
    degree = _known_degree(degree, target, student)
    if student.terms[degree] <= 1e-14 * student.total:
        raise ValueError(f"degree must be one that the student's kernel has, got {degree}, of strength {student.terms[degree]:.3g}")
    strength, rest = float(target.terms[degree]), target.tail(degree)
    more = (_decay(weight_decay) + student.tail(degree)) / student.terms[degree]
    law = FeatureLaw(chain=Chain([1.0], [1.0], [strength]), rho=strength + rest)
    found = feature_ridge(law, alpha, more, noise)
    return Step(found.test_mse_noisy, found.test_mse, found.kappa * student.terms[degree])


@in_float64
def finite_size(n, dim: int, target: Series, student: Series, weight_decay=0.0, noise: float = 0.0) -> Step:
    """The error of kernel ridge regression on n samples in ``dim`` dimensions, all degrees at once: valid through every regime.

    - ``n``: a number or an array; ``target``, ``student``: series of one degree, what is beyond counts as noise and as ridge.

    ``kappa`` solves ``n = sum_j N_j mu_j / (mu_j + kappa) + (weight_decay + tail) / kappa`` with ``mu_j = K_j / N_j``.
    Source: as for :func:`one_step`, and A. Canatar, B. Bordelon, C. Pehlevan (2021), arXiv:2006.13198.

    >>> from quenched.laws.kernel import DeepKernel
    >>> relu = DeepKernel("relu", 2.0).series(8)
    >>> finite_size([254, 2293], 50, relu, relu, weight_decay=1e-3).test_mse.round(3).tolist()
    [0.196, 0.045]
    """
    if len(target.terms) != len(student.terms):
        raise ValueError(f"target and student must be series of one degree, got {len(target.terms)}, {len(student.terms)} terms")
    degree = len(target.terms) - 1
    n = check.array("n", n)
    if np.any(n <= 0.0):
        raise ValueError(f"n must be positive, got {n.min():.6g}")
    more = float(_decay(weight_decay)) + student.tail(degree)
    if not more > 0.0:
        raise ValueError(f"weight_decay must be positive for a kernel that ends at degree {degree}, got {weight_decay!r}")
    counts = multiplicities(dim, degree)
    kappa, noisy = _finite(jnp.asarray(n.ravel()), counts, student.terms, target.terms, more, target.tail(degree) + noise)
    noisy = np.asarray(noisy).reshape(n.shape)
    return Step(noisy, noisy - noise, np.asarray(kappa).reshape(n.shape))


@jax.jit
def _finite(n, counts, student, target, more, rest):
    mu = student / counts

    def one(n):
        def height(log_kappa):
            kappa = jnp.exp(log_kappa)
            return jnp.log(n) - jnp.log(jnp.sum(counts * mu / (mu + kappa)) + more / kappa)

        kappa = jnp.exp(increasing_root(height, -60.0, 60.0))
        missed = jnp.sum(target * (kappa / (mu + kappa)) ** 2)
        return kappa, (missed + rest) / (1.0 - jnp.sum(counts * (mu / (mu + kappa)) ** 2) / n)

    return jax.lax.map(one, n)


def _known_degree(degree, *series) -> int:
    degree, most = check.integer("degree", degree), min(len(s.terms) for s in series) - 1
    if degree > most:
        raise ValueError(f"degree must be at most {most}, the degree of the series, got {degree}")
    return degree


def _decay(value):
    value = check.array("weight_decay", value)
    if np.any(value < 0.0):
        raise ValueError(f"weight_decay must be non-negative, got {value.min():.6g}")
    return value
