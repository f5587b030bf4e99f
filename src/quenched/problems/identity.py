"""Whether two solutions are the same fixed point."""

from __future__ import annotations

import numpy as np


def same(one, other) -> bool:
    """Whether two solutions agree, up to the accuracy of their quadratures and to signs of units that the energy does not see."""
    rtol = 1e-4
    if one.level != other.level:  # other nodes
        rtol += min(0.1, 10.0 * (one.quadrature_error + other.quadrature_error))
    (a, energy), (b, other_energy) = up_to_signs(one), up_to_signs(other)
    penalty = 0.5 * float(one.problem.model.weight_decay) * np.trace(a["Q"])
    if abs(energy - other_energy) > rtol * max(abs(energy), abs(other_energy), penalty):
        return False
    root = np.abs(a["q"]).max() ** 0.5
    return all(np.abs(a[name] - b[name]).max() <= rtol * max(root, np.abs(a[name]).max(), 1e-12) for name in a)


def up_to_signs(solution):
    """The overlaps q, m, theta, Q of shapes (B, r, r), (A, r), (B, r, t), (r, r) and the free energy; every unit has the sign
    that makes its largest entry among m and theta positive."""
    overlaps = solution.problem._from_solution(solution)
    overlaps = {name: overlaps[name] for name in ("q", "m", "theta", "Q") if name in overlaps}
    r = solution.problem.model.units
    by_unit = {"m": lambda a: a, "theta": lambda a: np.swapaxes(a, 1, 2).reshape(-1, r)}
    linear = [rows(overlaps[name]) for name, rows in by_unit.items() if name in overlaps]
    sign = np.ones(r)
    if linear:
        rows = np.concatenate(linear)
        largest = rows[np.argmax(np.abs(rows), axis=0), np.arange(r)]
        sign = np.where(largest < 0, -1.0, 1.0)
    turned = {"m": lambda a: a * sign, "theta": lambda a: a * sign[:, None], "q": lambda a: a * np.outer(sign, sign)}
    return {name: turned.get(name, turned["q"])(a) for name, a in overlaps.items()}, float(solution["free_energy"])


def moved(one, other) -> float:
    """The largest difference of the overlaps q, m, theta, Q of two solutions, relative to the size of each."""
    (a, _), (b, _) = up_to_signs(one), up_to_signs(other)
    return max(float(np.abs(a[k] - b[k]).max(initial=0.0) / max(np.abs(a[k]).max(initial=0.0), 1e-300)) for k in a)
