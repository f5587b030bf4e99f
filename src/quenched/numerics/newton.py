"""A Newton step for a handful of unpenalised numbers (intercepts, trained scalars)."""

from __future__ import annotations

import numpy as np

#: Relative curvature below which a direction counts as flat (a shift that the loss does not see): it is not moved.
FLAT = 1e-10


def newton_step(gradient, hessian, longest: float = 1.0) -> np.ndarray:
    """The step that lowers a function with this gradient (k,) and Hessian (k, k), (k,), of length <= ``longest``.

    Curvatures are taken by their absolute value, so that a saddle is left and not approached; flat directions rest.
    Y. Dauphin et al. (2014), arXiv:1406.2572.

    >>> newton_step(np.array([0.5, 0.5, 0.0]), np.diag([2.0, -1.0, 0.0])).round(10).tolist()
    [-0.25, -0.5, 0.0]
    """
    gradient, hessian = np.asarray(gradient, dtype=np.float64), np.asarray(hessian, dtype=np.float64)
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    size = np.abs(values)
    bent = size > FLAT * size.max(initial=0.0)
    step = -vectors @ np.where(bent, vectors.T @ gradient / np.where(bent, size, 1.0), 0.0)
    return step * min(1.0, longest / max(float(np.linalg.norm(step)), np.finfo(float).tiny))
