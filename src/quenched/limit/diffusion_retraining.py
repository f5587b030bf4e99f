"""Training on what was generated: a target of arbitrary law on few directions, and the overlaps from one generation to the next.

A generation with Q, overlaps H with o reference directions, and b makes samples ``E^T y + sqrt(V) (I - E^T E) z`` with
``E = Q^{-1/2} w / sqrt(d)`` and ``y = Q^{-1/2} Z``: a mixture of one cluster a node of Z, whose means lie in a block of no mass and
no variance. The training theory applies as it stands; directions on which no mean lies follow the reference directions.

Source: H. Cui, C. Pehlevan, Y. Lu (2025), arXiv:2501.03937.
"""

from __future__ import annotations

import numpy as np

from .diffusion_training import State, Target


def latent_target(Q, Z, V: float, references: int) -> Target:
    """The law of samples with fields Z (N, r) of weights (r, r) and the variance V beside them, and so many watching directions."""
    count, units = Z.shape
    means = np.zeros((2, count, units + references))
    means[0, :, :units] = Z @ _power(Q, -0.5)
    return Target(np.full(count, 1.0 / count), np.array([[0.0] * count, [V] * count]), np.array([0.0, 1.0]), means)


def restart(Q, H, new_Q, new_H, b: float, between=None) -> State:
    """The state of new weights in this target: their Gram matrix, their overlaps (o, r) with the references, and b.

    ``between`` (r, r) = w' w^T / d; None for weights that know of the old ones through the references only.
    """
    root = _power(Q, -0.5)
    between = new_H.T @ H if between is None else between
    G = root @ between.T
    F = new_H - _seen(Q, H).T @ G
    inside = G.T @ G
    return State(np.stack([_padded(G, len(F), 0), _padded(F, len(G), 1)]), np.stack([inside, new_Q - inside]), float(b))


def overlaps(Q, H, state: State) -> tuple[np.ndarray, np.ndarray]:
    """Q and H of the new weights, from the Q and H of those that made the target."""
    units = len(Q)
    G, F = state.G[0, :units], state.G[1, units:]
    return state.q.sum(axis=0), _seen(Q, H).T @ G + F


def _seen(Q, H):
    """U = Q^{-1/2} H: what the references are in the coordinates of the target, (r, o)."""
    return _power(Q, -0.5) @ H.T


def _padded(rows, zeros: int, before: int):
    blank = np.zeros((zeros, rows.shape[1]))
    return np.concatenate([blank, rows] if before else [rows, blank])


def _power(S, exponent: float):
    values, vectors = np.linalg.eigh(0.5 * (S + S.T))
    kept = values > 1e-12 * np.abs(values).max(initial=0.0)
    return (vectors * np.where(kept, np.where(kept, values, 1.0) ** exponent, 0.0)) @ vectors.T
