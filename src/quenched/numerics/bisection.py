"""Roots of increasing functions of positive numbers, many at once."""

from __future__ import annotations

import numpy as np


def root(function, low, high, steps: int = 80) -> np.ndarray:
    """Where an increasing ``function`` of a positive array (J,) changes sign: bisection in the logarithm.

    ``low`` and ``high`` (J,) are positive; where the sign is the same at both, the end nearer to the root is returned.

    >>> root(lambda x: x**2 - [4.0, 9.0], np.full(2, 1e-3), np.full(2, 1e3)).round(6).tolist()
    [2.0, 3.0]
    """
    low, high = np.log(low), np.log(high)
    for _ in range(steps):
        middle = 0.5 * (low + high)
        above = function(np.exp(middle)) > 0.0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.exp(0.5 * (low + high))
