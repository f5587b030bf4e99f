"""Where one-pass SGD starts: the summary statistics of weights with given overlaps."""

from __future__ import annotations

import numpy as np

from ..numerics import check
from .model import Model, as_numbers
from .online import Statistics
from .solve import starting_point

_BY_ATOM = ("gram", "projections")
#: How far (relatively) overlaps may be from those that weights can have, where they are stated and where they are measured.
_TOL, _MEASURED = 1e-8, 1e-6


def start_statistics(model: Model, init) -> Statistics:
    """The statistics of weights ``w_i = C^T tau_i + noise`` with the overlaps of ``init``, whose noise is the same in all atoms.

    ``init`` is a name or a dict of overlaps of :func:`~quenched.limit.solve.starting_point` (``Q``, ``m``, ``theta``, trained
    scalars; else those of random weights: Q = I, m = theta = 0), or a dict with ``gram`` (S, r, r) and ``projections`` (S, k, r),
    measured atom by atom. ``ValueError`` for overlaps that no weights have.
    """
    model = as_numbers(model)
    law, free = model.law.atoms(), np.flatnonzero(model.law.free)
    atoms, k, r = len(law.weights), law.gram.shape[-1], model.units
    if isinstance(init, dict) and any(name in init for name in _BY_ATOM):
        rest = {name: value for name, value in init.items() if name not in _BY_ATOM}
        missing = [name for name in _BY_ATOM if name not in init]
        if missing or any(name in ("q", "V", "Q", "theta") for name in rest):
            raise ValueError(f"init must give both 'gram' and 'projections' and no other overlaps, got {', '.join(init)}")
        point = starting_point(model, rest)
        gram = check.array("init['gram']", init["gram"], shape=(atoms, r, r))
        projections = check.array("init['projections']", init["projections"], shape=(atoms, k, r))
        along = np.linalg.pinv(np.asarray(law.gram), rcond=1e-10, hermitian=True) @ projections
        scale = 1.0 + np.abs(gram).max(initial=0.0) + np.abs(projections).max(initial=0.0)
        if np.abs(law.gram @ along - projections).max(initial=0.0) > _MEASURED * scale:
            raise ValueError("init['projections'] must be those of weights: linear where the directions of an atom are, got others")
        _refuse_impossible("init['gram']", gram, gram - np.swapaxes(along, 1, 2) @ projections, _MEASURED * scale)
        return Statistics(gram, projections, point.overlaps.m[free], point.scalars)
    if isinstance(init, dict) and any(name in ("q", "V") for name in init):
        raise ValueError(f"init must give Q, m, theta or trained scalars (q follows from them), got {', '.join(init)}")
    point = starting_point(model, init)
    overlaps, A = point.overlaps, len(model.law.free)
    bound = np.setdiff1d(np.arange(A), free)
    G = np.asarray(law.gram)
    weighted = np.einsum("sb,sij->bij", np.asarray(law.eigenvalues), G)[:, A:].reshape(-1, k)
    matrix = np.concatenate([G.sum(axis=0)[bound], weighted])
    wanted = np.concatenate([overlaps.m[bound], np.swapaxes(overlaps.theta, 1, 2).reshape(-1, r)])
    along = np.linalg.lstsq(matrix, wanted, rcond=1e-12)[0] if k else np.zeros((0, r))
    miss = np.abs(matrix @ along - wanted).max(initial=0.0)
    if miss > _TOL * (1.0 + np.abs(wanted).max(initial=0.0)):
        raise ValueError(f"init must hold overlaps m and theta that weights can have, got some that are {miss:.2g} away from it")
    rest = overlaps.Q - along.T @ G.sum(axis=0) @ along
    _refuse_impossible("init['Q']", overlaps.Q, rest, _TOL * (1.0 + np.abs(overlaps.Q).max()))
    gram = np.einsum("kr,skl,lu->sru", along, G, along) + np.asarray(law.weights)[:, None, None] * rest
    return Statistics(gram, G @ along, overlaps.m[free], point.scalars)


def _refuse_impossible(name: str, gram, rest, tol: float) -> None:
    """Gram matrices (..., r, r) must be symmetric, and what the overlaps leave of them positive semi-definite."""
    if np.abs(gram - np.swapaxes(gram, -1, -2)).max(initial=0.0) > tol:
        raise ValueError(f"{name} must be symmetric, got {np.asarray(gram).tolist()}")
    lowest = np.linalg.eigvalsh(rest).min(initial=0.0)
    if lowest < -tol:
        raise ValueError(f"{name} must be at least what the other overlaps imply, but minus that has the eigenvalue {lowest:.3g}")
