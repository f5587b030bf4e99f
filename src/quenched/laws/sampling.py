"""Drawing instances: directions with exact Gram matrices, and Gaussian tokens around them. NumPy only."""

from __future__ import annotations

import jax
import numpy as np

from quenched.laws.base import Instance, Labels, Population
from quenched.numerics import check

_POPULATION, _SAMPLE = 1, 2  # separate random streams, so that a seed's directions do not depend on n
_BLOCK = 1 << 22  # entries of x transformed at once


def generator(stream: int, seed) -> np.random.Generator:
    """The random generator of one stream of ``seed``, an int or a tuple of ints (all non-negative)."""
    entries = seed if isinstance(seed, tuple) else (seed,)
    entries = tuple(check.integer("seed", entry, 0) for entry in entries)
    return np.random.default_rng((stream, len(entries), *entries))  # the length: numpy ignores trailing zeros


def numpy_labels(labels: Labels) -> Labels:
    """The labels with NumPy leaves."""
    return jax.tree.map(np.asarray, labels)


def round_atoms(spectrum, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Atoms in the order of their eigenvalues, and how many of the d coordinates each of them gets.

    Cumulative weights are rounded, so that every part of the spectrum keeps its share to one coordinate at any d,
    also where there are more atoms than coordinates. An atom of weight zero gets the rank of its Gram matrix (spikes).
    """
    gamma, weights = np.asarray(spectrum.eigenvalues), np.asarray(spectrum.weights)
    order = np.lexsort((*gamma.T[::-1], gamma.mean(axis=1)))
    ranks = _ranks(np.asarray(spectrum.gram)[order])
    reserved = np.where(weights[order] == 0, ranks, 0)
    if reserved.sum() > d:
        raise ValueError(f"d must be at least {reserved.sum()}, the rank of the atoms of weight zero, got {d}")
    edges = np.floor(np.cumsum(weights[order]) * (d - reserved.sum()) + 0.5 - 1e-9).astype(int)
    edges[-1] = d - reserved.sum()
    return order, np.diff(edges, prepend=0) + reserved


def _roots(gram):
    """Roots R of positive semi-definite matrices, gram = R^T R, with the rows of the range only marked by ``keep``."""
    values, vectors = np.linalg.eigh(gram)
    keep = values > 1e-13 * np.maximum(values.max(axis=-1, initial=0.0), 1e-300)[..., None]
    return np.sqrt(np.where(keep, values, 0.0))[..., None] * np.swapaxes(vectors, -1, -2), keep


def _ranks(gram):
    return _roots(gram)[1].sum(axis=-1)


def place_atoms(seed, spectrum, d) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (B, d) and coordinates tau (d, k) of the directions, with ``tau^T tau / d = sum_s gram[s]``."""
    d = check.integer("d", d)
    rng = generator(_POPULATION, seed)
    order, counts = round_atoms(spectrum, d)
    gram = np.asarray(spectrum.gram)[order]
    tau = np.zeros((d, gram.shape[-1]))
    start = stop = 0
    held = np.zeros(gram.shape[1:])
    groups = []
    for count, mass in zip(counts, gram, strict=True):
        stop, held = stop + count, held + mass
        if stop > start and stop - start >= _ranks(held):
            groups.append((start, stop, held))
            start, held = stop, np.zeros_like(held)
    if np.any(held):  # what is left joins groups from the end until it fits
        while groups and stop - start < _ranks(held):
            start, _, mass = groups.pop()
            held = held + mass
        if stop - start < _ranks(held):
            raise ValueError(f"d must be at least {_ranks(held)}, the number of independent directions, got {d}")
        groups.append((start, stop, held))
    for start, stop, mass in groups:
        root, keep = _roots(d * mass)
        basis = np.linalg.qr(rng.standard_normal((stop - start, keep.sum())))[0]
        tau[start:stop] = basis @ root[keep]
    tau[:, ~np.any(gram, axis=(0, 1))] = 0.0  # free directions vanish exactly
    return np.repeat(np.asarray(spectrum.eigenvalues)[order], counts, axis=0).T.copy(), tau


def sample(population: Population, free: tuple, seed, n) -> Instance:
    """n i.i.d. samples of a population: labels (from ``population.labels``), tokens, targets, free coefficients.

    A continuous label is drawn from its nodes, so that theory and experiment treat the same law.
    """
    n = check.integer("n", n)
    rng = generator(_SAMPLE, seed)
    labels = population.labels
    C, L, _ = labels.cov.shape
    d = population.targets.shape[0]
    index = rng.choice(C, n, p=labels.prob)
    centre = labels.mean @ population.means
    x = np.empty((n, L, d))
    colour = _diagonal(population, labels) if population.covariances.ndim == 2 else _dense(population, labels)
    step = max(1, _BLOCK // (L * d))
    for first in range(0, n, step):
        rows = slice(first, first + step)
        rng.standard_normal(out=x[rows])
        colour(x[rows], index[rows])
        if np.any(centre):
            x[rows] += centre[index[rows]]
    return Instance(
        x=x,
        index=index,
        value=jax.tree.map(lambda leaf: leaf[index], labels.value),
        target=x @ population.targets / np.sqrt(d),
        free=labels.mean[index][:, :, np.flatnonzero(free)],
        population=population,
    )


def _diagonal(population, labels):
    """In place: white noise to tokens, where coordinates are the eigenbasis."""
    std = np.sqrt(np.maximum(labels.cov @ population.covariances, 0.0))

    def colour(x, index):
        x *= std[index]

    return colour


def _dense(population, labels):
    """In place: white noise to tokens, one symmetric root for each distinct covariance (up to its scale)."""
    C, L, B = labels.cov.shape
    rows = labels.cov.reshape(C * L, B)
    scale = np.abs(rows).max(axis=1)
    shapes, which = np.unique(rows / np.where(scale > 0, scale, 1.0)[:, None], axis=0, return_inverse=True)
    roots = []
    for row in shapes:
        values, vectors = np.linalg.eigh(np.tensordot(row, population.covariances, axes=1))
        roots.append((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)
    which, scale = which.reshape(C, L), np.sqrt(scale).reshape(C, L)

    def colour(x, index):
        for token in range(L):
            for k, root in enumerate(roots):
                chosen = which[index, token] == k
                x[chosen, token] = x[chosen, token] @ root
            x[:, token] *= scale[index, token, None]

    return colour
