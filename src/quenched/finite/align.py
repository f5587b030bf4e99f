"""Equivalent minimisers (permuted units, flipped signs) brought to one representative before they are averaged.

An alignment is a function ``align(w, population) -> rotation``, (d, r) -> (r, r) orthogonal, and
``w @ rotation`` is what is measured. Use only symmetries of the loss: the risk must not change under them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import linear_sum_assignment


def align_to_targets(signs: bool = False) -> Callable:
    """Units permuted (and, with ``signs``, flipped) to the best total overlap with the targets: unit a beside target a.

    Units without a target follow, the largest first. For committees and phase retrieval (``signs=True``).

    >>> from quenched.laws.base import Labels, Population
    >>> labels = Labels(np.ones(1), np.zeros((1, 1, 0)), np.ones((1, 1, 1)), np.zeros(1))
    >>> people = Population(np.ones((1, 2)), np.zeros((0, 2)), np.eye(2), labels)
    >>> align_to_targets(signs=True)(np.array([[0.0, -1.0], [2.0, 0.0]]), people)
    array([[ 0.,  1.],
           [-1.,  0.]])
    """
    return lambda w, population: signed_permutation(w.T @ population.targets, np.linalg.norm(w, axis=0), signs)


def align_to_means(signs: bool = True) -> Callable:
    """The same with the penalised mean directions: for autoencoders and contrastive losses without a target.

    >>> from quenched.laws import mixture
    >>> means = mixture([0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]]).draw(0, n=1, d=50).population
    >>> align_to_means()(-means.means[:1].T, means)
    array([[-1.]])
    """

    def align(w, population):
        means = population.means[np.linalg.norm(population.means, axis=1) > 0]
        return signed_permutation(w.T @ means.T, np.linalg.norm(w, axis=0), signs)

    return align


def signed_permutation(overlap: np.ndarray, norms: np.ndarray, signs: bool) -> np.ndarray:
    """The (r, r) signed permutation P that makes the trace of ``(w P)^T u`` largest, for ``overlap = w^T u`` (r, k)."""
    r = len(norms)
    chosen, place = linear_sum_assignment(np.abs(overlap) if signs else overlap, maximize=True)
    chosen = chosen[np.argsort(place)]
    places = np.sort(place)
    rest = [a for a in np.argsort(-norms, kind="stable") if a not in chosen]
    rotation = np.zeros((r, r))
    for column, unit in enumerate([*chosen, *rest]):
        flip = signs and column < len(places) and overlap[unit, places[column]] < 0
        rotation[unit, column] = -1.0 if flip else 1.0
    return rotation
