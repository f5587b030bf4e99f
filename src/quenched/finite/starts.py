"""Where an optimisation starts: named initialisations."""

from __future__ import annotations

import numpy as np

from quenched.laws.base import Population
from quenched.numerics import check

NAMES = ("zero", "random", "informed")


def start(
    init, d: int, units: int, *, rng: np.random.Generator, scale: float = 1.0, population: Population | None = None
):
    """The start value of w, (d, r), by name or as an array.

    - "zero": w = 0 (a saddle point of losses that are even in h: use "random" there).
    - "random": i.i.d. Gaussian entries of standard deviation ``scale``, so that w^T w / d is about scale^2.
    - "informed": the directions behind the data. Where there are targets, unit a starts at target a. Where there are
      none, a single unit with one token and a label +-1 starts along the mean of label times input, and otherwise
      unit a starts along
      the a-th penalised class mean, each with |w|^2 = d. Units left over start at random, at a tenth of that size.
    - an array (d, r), or (d,) for one unit.
    """
    if not isinstance(init, str):
        w = check.array("init", init)
        return check.array("init", w[:, None] if w.ndim == 1 and units == 1 else w, shape=(d, units)).copy()
    check.choice("init", init, NAMES)
    if init == "zero":
        return np.zeros((d, units))
    if init == "random":
        return check.positive("scale", scale) * rng.standard_normal((d, units))
    if population is None:
        raise ValueError("init must not be 'informed' where the population is unknown; give an array")
    directions = _directions(population, units)
    if not directions.size:
        raise ValueError("init must not be 'informed' where there is neither a target nor a class mean")
    w = 0.1 * rng.standard_normal((d, units))
    k = min(units, directions.shape[1])
    w[:, :k] = directions[:, :k]
    return w


def _directions(population: Population, units: int) -> np.ndarray:
    """The informed directions as columns, (d, k): targets, else means of length sqrt(d)."""
    if population.targets.shape[1]:
        return population.targets
    means, labels = population.means, population.labels
    value = labels.value
    signed = isinstance(value, np.ndarray) and value.ndim == 1 and set(value.tolist()) == {-1.0, 1.0}
    if units == 1 and signed and labels.mean.shape[1] == 1:
        means = np.einsum("c,c,cla->a", labels.prob, value, labels.mean)[None] @ means
    norms = np.linalg.norm(means, axis=1)
    kept = norms > 0
    return np.sqrt(means.shape[1]) * (means[kept] / norms[kept, None]).T
