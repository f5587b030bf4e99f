"""The kernel of a network with random weights of any depth: three numbers, a power series, or a matrix.

Where all widths grow, the output f of a network with normal weights is a Gaussian process over its inputs. Its covariance is a
function of ``t = x.x'/d``, layer by layer: with r the variance of a pre-activation and c(t) the covariance of two of them,

    r_1 = D_1 tr S/d,  c_1 = D_1 t,     r_{l+1} = D_{l+1} E phi(u)^2,  c_{l+1} = D_{l+1} E phi(u) phi(v),

(u, v) centred normal with variances r_l and covariance c_l. Two inputs drawn at random have t near 0, so that n ~ d samples see
three numbers of it: its value there, its slope, and what is left at t = tr S / d.
"""

from __future__ import annotations

import dataclasses
from math import factorial
from typing import Any, NamedTuple

import numpy as np

from quenched.laws.activation import coefficients, hermite
from quenched.laws.network import as_activations
from quenched.laws.pairs import CLOSED, covariance
from quenched.numerics import check
from quenched.numerics.gaussian import breakpoints, panel_rule

_CENTRED = 1e-24  # a squared mean, over the second moment, that is a rounding error of an odd activation
_DEGREE = 40  # of the Hermite expansion behind the matrix of a kernel


class Numbers(NamedTuple):
    """What n ~ d samples see of a kernel K(t): ``constant`` = K(0), ``slope`` = K'(0) and ``rest`` = K(r) - K(0) - r K'(0),
    with r = tr S / d."""

    constant: float
    slope: float
    rest: float


class Series(NamedTuple):
    """``K = sum_j terms_j cos^j`` (degree + 1,) of inputs of one length, and ``total`` = K(1), all degrees together."""

    terms: np.ndarray
    total: float

    def tail(self, degree: int) -> float:
        """The sum of all terms of a degree higher than this: what is left of the total."""
        return max(0.0, self.total - float(np.sum(self.terms[: degree + 1])))


@dataclasses.dataclass(frozen=True)
class DeepKernel:
    """The infinitely wide network ``f = a.phi_L / sqrt(k_L)``, ``phi_l = sigma_l(W_l phi_{l-1} / sqrt(k_{l-1}))``.

    - ``activations``: of the L hidden layers, each as in :func:`quenched.laws.activation.activation`; a single one for L = 1.
    - ``weight_variances``: of the entries of W_1, .., W_L, or one number for all; ``readout_variance``: of the entries of a.

    ``ValueError`` for variances that are not positive, or not as many as layers.
    Source: H. Cui, F. Krzakala, L. Zdeborova (2023), arXiv:2302.00375; Y. Cho and L. Saul (2009), Kernel methods for deep learning.

    >>> relu = DeepKernel("relu")
    >>> [round(x, 10) for x in relu.numbers()]
    [0.1591549431, 0.25, 0.0908450569]
    """

    activations: Any
    weight_variances: Any = 1.0
    readout_variance: float = 1.0

    def __post_init__(self):
        given = self.activations
        depth = len(given) if isinstance(given, (tuple, list)) else 1
        object.__setattr__(self, "activations", as_activations(given, depth))
        variances = np.atleast_1d(check.array("weight_variances", self.weight_variances))
        if variances.shape not in ((1,), (depth,)) or np.any(variances <= 0.0):
            raise ValueError(f"weight_variances must be one positive number or {depth} of them, got {self.weight_variances!r}")
        object.__setattr__(self, "weight_variances", tuple(float(v) for v in np.broadcast_to(variances, (depth,))))
        object.__setattr__(self, "readout_variance", check.positive("readout_variance", self.readout_variance))

    @property
    def depth(self) -> int:
        """L, the number of hidden layers."""
        return len(self.activations)

    def _layers(self):
        """Activation and the variance of the weights that come after it, layer by layer."""
        return zip(self.activations, (*self.weight_variances[1:], self.readout_variance), strict=True)

    def numbers(self, variance: float = 1.0) -> Numbers:
        """Constant, slope and rest for inputs with ``variance`` = tr S / d; no difference of large numbers is taken.

        >>> [round(x, 10) for x in DeepKernel(("relu", "relu")).numbers()]
        [0.1234327726, 0.0753894061, 0.0511778214]
        """
        slope = self.weight_variances[0]
        constant, rest = 0.0, 0.0
        for sigma, after in self._layers():
            mean, weights = _common(constant)
            c = coefficients(sigma, mean, slope * variance + rest)
            constant = after * _centred(float(weights @ c.kappa_0**2), float(weights @ c.second))
            slope2 = float(weights @ c.kappa_1**2)
            rest = after * (float(weights @ c.kappa_star2) + rest * slope2)
            slope = after * slope * slope2
        return Numbers(constant, slope, rest)

    def series(self, degree: int, variance: float = 1.0) -> Series:
        """The power series in the cosine of inputs with |x|^2 / d = ``variance``, up to ``degree``.

        A layer maps ``c`` to ``E phi phi``, a power series in ``(c - c(0)) / (r - c(0))`` with the squared Hermite coefficients;
        series of layers are composed, which is exact for the degrees that are kept.

        >>> DeepKernel("relu", weight_variances=2.0).series(4).terms.round(6).tolist()
        [0.31831, 0.5, 0.159155, 0.0, 0.013263]
        """
        degree = check.integer("degree", degree, 0)
        terms, total = np.zeros(degree + 1), self.weight_variances[0] * variance
        terms[1 : 2] = total
        for sigma, after in self._layers():
            mean, weights = _common(terms[0])
            spread = total - terms[0]
            h = np.atleast_2d(hermite(sigma, degree, mean, spread))
            second = float(weights @ np.atleast_1d(coefficients(sigma, mean, spread).second))
            outer = after * (weights @ h**2) / np.array([float(factorial(j)) for j in range(degree + 1)])
            outer[0] = after * _centred(outer[0] / after, second)
            inner = terms / spread
            inner[0] = 0.0
            terms, total = _composed(outer, inner), after * second
        return Series(terms, total)

    def matrix(self, x, other=None) -> np.ndarray:
        """The covariance of the outputs at the rows of ``x`` (n, d) and of ``other`` (m, d), (n, m); of ``x`` with itself for None.

        In closed form for sign, erf and relu; else by an expansion to degree 40 in the correlation, which two different inputs have
        well below one. Diagonals are exact.
        """
        x = check.array("x", x, ndim=2)
        y = x if other is None else check.array("other", other, shape=(None, x.shape[1]))
        first = self.weight_variances[0] / x.shape[1]
        n, cross = len(x), first * (x @ y.T)
        both = first * np.sum((x if other is None else np.concatenate([x, y])) ** 2, axis=1)
        for sigma, after in self._layers():
            own, its = both[:n], both if other is None else both[n:]
            cross = after * _pairs(sigma, cross, own, its)
            both = after * coefficients(sigma, 0.0, both).second
        if other is None:
            np.fill_diagonal(cross, both)
        return cross


def _pairs(sigma, cross, own, its) -> np.ndarray:
    """``E phi(u) phi(v)`` for covariances ``cross`` (n, m) of pre-activations of variances ``own`` (n,) and ``its`` (m,)."""
    if sigma.name in CLOSED:
        bound = np.sqrt(np.outer(own, its))
        return np.array(covariance(sigma, sigma, np.clip(cross, -bound, bound), (own[:, None], its[None])))
    scale = np.array([float(factorial(k)) for k in range(_DEGREE + 1)]) ** 0.5
    h = hermite(sigma, _DEGREE, 0.0, np.concatenate([own, its])) / scale
    a, b = h[: len(own)], h[len(own) :]
    correlation, power, found = cross / np.sqrt(np.outer(own, its)), 1.0, np.zeros_like(cross)
    for k in range(_DEGREE + 1):
        if np.any(np.abs(a[:, k]) > 1e-14):
            found += np.outer(a[:, k], b[:, k]) * power
        power = power * correlation
    return found


def _common(variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for what two pre-activations have in common: their covariance, seen as a random mean."""
    if variance <= 0.0:
        return np.zeros(1), np.ones(1)
    z, weights = panel_rule(breakpoints(1), xp=np)
    return np.sqrt(variance) * z, weights / weights.sum()


def _centred(squared_mean: float, second: float) -> float:
    """The squared mean, or zero where it is a rounding error."""
    return squared_mean if squared_mean > _CENTRED * second else 0.0


def _composed(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """``outer(inner(t))`` of two power series, cut at their degree; ``inner`` has no constant."""
    found = np.zeros_like(outer)
    for coefficient in outer[::-1]:
        found = np.convolve(found, inner)[: len(outer)]
        found[0] += coefficient
    return found
