"""Gaussian expectations: quadrature rules of any dimension, on ladders of growing accuracy."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from scipy import special

#: In one dimension: Gauss-Legendre panels on [-RANGE, RANGE] in units of the standard deviation.
RANGE, ORDER = 8.5, 16
#: Panels (1 dimension), Gauss-Hermite nodes an axis (2-4; what two levels of them do not resolve is likely to jump: from
#: level 2 on an equidistant rule in 2 dimensions, Sobol points in 4), log2 of the Sobol points (4 and more), level by level.
PANELS = (8, 16, 32, 64, 128, 256)
HERMITE = {2: (24, 40, 75, 120), 3: (16, 24, 36, 48), 4: (8, 11)}
SOBOL = (12, 14, 16, 17)
#: The same for rules that are multiplied by a rule for the outcome, and for the target's field behind it.
OUTER = {2: (16, 24, 36, 54), 3: (10, 14, 20, 28)}
INNER = {1: (24, 36, 54, 80), 2: (12, 16, 24, 36), 3: (8, 10, 12, 16)}


def levels(dimension: int, quadratic: bool = False) -> int:
    """How many levels the ladder of rules has (the last one only measures the error of the one before)."""
    if dimension == 0 or quadratic:
        return 1
    return len(PANELS) if dimension == 1 else len(SOBOL)


@functools.lru_cache(maxsize=64)
def rule(dimension: int, level: int, quadratic: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Nodes (N, dimension) and weights (N,) for averages over standard normal variables.

    ``quadratic`` integrands get the 3-point Gauss-Hermite rule, exact up to degree five. One dimension uses
    Gauss-Legendre panels, two to four a tensor Gauss-Hermite rule first, more a scrambled Sobol sequence with
    antithetic points and unit second moments (level by level an independent scramble).

    >>> nodes, weights = rule(2, 0)
    >>> bool(abs((weights * nodes[:, 0] ** 2 * nodes[:, 1] ** 4).sum() - 3) < 1e-12)
    True
    """
    if dimension == 0:
        return np.zeros((1, 0)), np.ones(1)
    if quadratic:
        return tensor_hermite(dimension, 3)
    if dimension == 1:
        nodes, weights = (np.asarray(a) for a in panel_rule(breakpoints(level), xp=np))
        return nodes[:, None], weights
    if level < len(HERMITE.get(dimension, ())):
        n = HERMITE[dimension][level]
        return _tensor(*_trapezoid(n), dimension) if dimension == 2 and level > 1 else tensor_hermite(dimension, n)
    return sobol(dimension, SOBOL[level], seed=level)


def outer_rule(dimension: int, level: int) -> tuple[np.ndarray, np.ndarray]:
    """A rule for up to three Gaussian variables beside which an outcome is summed over."""
    return rule(1, level) if dimension == 1 else tensor_hermite(dimension, OUTER[dimension][level])


def inner_rule(dimension: int, level: int) -> tuple[np.ndarray, np.ndarray]:
    """A rule for the target's field at one node of the others: many nodes are cheap there."""
    return tensor_hermite(dimension, INNER[dimension][level]) if dimension in INNER else sobol(dimension, 10 + level, seed=level)


def tensor_hermite(dimension: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """The tensor Gauss-Hermite rule, without the nodes whose weight is below 1e-18 of the largest."""
    x, w = special.roots_hermitenorm(n)
    return _tensor(x, w / w.sum(), dimension)


def _trapezoid(n: int) -> tuple[np.ndarray, np.ndarray]:
    """The trapezoidal rule for a standard normal variable: spectral for smooth integrands, O(1/n) at jumps."""
    x = np.linspace(-7.5, 7.5, n)
    w = np.exp(-0.5 * x**2)
    return x, w / w.sum()


def _tensor(x, w, dimension: int) -> tuple[np.ndarray, np.ndarray]:
    nodes = np.stack(np.meshgrid(*[x] * dimension, indexing="ij"), -1).reshape(-1, dimension)
    weights = functools.reduce(np.multiply.outer, [w] * dimension).reshape(-1)
    keep = weights > 1e-18 * weights.max()
    return nodes[keep], weights[keep] / weights[keep].sum()


@functools.lru_cache(maxsize=16)
def sobol(dimension: int, log2: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A scrambled Sobol rule with 2**log2 nodes, antithetic, second moments matched to the identity."""
    from scipy.stats import qmc  # takes a third of a second to import, and few problems need it

    engine = qmc.Sobol(dimension, scramble=True, rng=np.random.default_rng(seed))
    half = special.ndtri(np.clip(engine.random_base2(log2 - 1), 1e-16, 1 - 1e-16))
    covariance = half.T @ half / len(half)
    half = np.linalg.solve(np.linalg.cholesky(covariance), half.T).T
    nodes = np.concatenate([half, -half])
    return nodes, np.full(len(nodes), 1.0 / len(nodes))


def folded(nodes, weights, images):
    """The rule with nodes that are images of one another merged into one of them.

    ``images`` maps nodes (N, D) to (N, D): the elements of a group under which the integrand does not change.

    >>> nodes, weights = folded(*tensor_hermite(2, 8), [lambda z: -z, lambda z: z[:, ::-1], lambda z: -z[:, ::-1]])
    >>> len(nodes), bool(abs(weights @ (nodes**2).sum(1) - 2) < 1e-12)
    (20, True)
    """
    orbits = np.stack([nodes, *(image(nodes) for image in images)], axis=1).round(12) + 0.0
    first = np.zeros(len(nodes), int)
    for k in range(1, orbits.shape[1]):  # the image that comes last in the order of rows stands for all
        rows = np.arange(len(nodes))
        differ = orbits[:, k] != orbits[rows, first]
        column = np.argmax(differ, axis=1)
        first = np.where(orbits[rows, k, column] > orbits[rows, first, column], k, first)
    kept, place = np.unique(orbits[np.arange(len(nodes)), first], axis=0, return_inverse=True)
    return kept, np.bincount(place.reshape(-1), weights, len(kept))


def breakpoints(level: int) -> np.ndarray:
    """The ends of the panels of the one-dimensional rule, in units of the standard deviation."""
    return np.linspace(-RANGE, RANGE, PANELS[level] + 1)


def panel_rule(breaks, order: int = ORDER, xp=jnp):
    """Gauss-Legendre on every panel between sorted ``breaks`` (P + 1,), times the standard normal density.

    Returns nodes and weights (P * order,). Panels may be empty; split them where the integrand is not smooth.
    """
    x, w = np.polynomial.legendre.leggauss(order)
    half = 0.5 * (breaks[1:] - breaks[:-1])
    middle = 0.5 * (breaks[1:] + breaks[:-1])
    nodes = (middle[:, None] + half[:, None] * x).reshape(-1)
    weights = (half[:, None] * w).reshape(-1) * xp.exp(-0.5 * nodes**2) / np.sqrt(2.0 * np.pi)
    return nodes, weights

