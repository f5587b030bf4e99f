"""From means, covariances and targets as users give them to the parts of a spectral or dense law."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from quenched.laws.spectrum import SpectralLaw, common_eigenbasis, lift
from quenched.numerics import check


def numpy_or_jax(*values):
    """jax.numpy where a value is traced, else numpy."""
    return jnp if check.traced(*values) else np


def covariance_entries(covariances) -> list:
    """The covariance basis as a list of numbers, vectors of eigenvalues or matrices (None is the identity)."""
    if covariances is None or (not isinstance(covariances, (list, tuple)) and np.ndim(covariances) == 0):
        covariances = [1.0 if covariances is None else covariances]
    if not isinstance(covariances, (list, tuple)) and _is_covariance(covariances):
        covariances = [covariances]
    entries = [check.array(f"covariances[{k}]", lift(entry)) for k, entry in enumerate(covariances)]
    if not entries:
        raise ValueError("covariances must hold at least one entry, got none")
    for k, entry in enumerate(entries):
        if entry.ndim > 2 or (entry.ndim == 2 and entry.shape[0] != entry.shape[1]) or 0 in entry.shape:
            raise ValueError(
                f"covariances[{k}] must be a number, a vector or a square matrix, got the shape {entry.shape}"
            )
        if entry.ndim < 2 and not check.traced(entry) and entry.min() < 0:
            raise ValueError(f"covariances[{k}] must be non-negative, got {entry.min():.6g}")
        if entry.ndim == 2:
            check.covariance(f"covariances[{k}]", entry)
    return entries


def _is_covariance(array) -> bool:
    """Whether an array is one symmetric matrix, and not a table of spectra."""
    shape = np.shape(array)
    return len(shape) == 2 and shape[0] == shape[1] and not check.traced(array) and np.array_equal(array, np.asarray(array).T)


def target_columns(targets):
    """``targets`` as a number of generic targets, or as explicit columns (d0, t)."""
    if targets is None or np.ndim(targets) == 0:
        return check.integer("targets", 0 if targets is None else targets, 0)
    targets = check.array("targets", lift(targets))
    return check.array("targets", targets[:, None] if targets.ndim == 1 else targets, ndim=2)


def class_coefficients(classes, prob, means: int, covariances: int):
    """One-hot coefficients (C, L, A) and (C, L, B) from the class of every token, and the classes as an array."""
    classes = np.asarray(classes)
    if classes.ndim != 2 or len(classes) != len(prob) or classes.dtype.kind not in "iu" or classes.min(initial=0) < 0:
        raise ValueError(f"classes must be a ({len(prob)}, L) array of class indices, got {classes.tolist()}")
    K = int(classes.max()) + 1
    if means not in (0, K):
        raise ValueError(f"means (or gram) must have one entry for each of the {K} classes, got {means}")
    if covariances not in (1, K):
        raise ValueError(
            f"covariances must have one entry for each of the {K} classes or one for all, got {covariances}"
        )
    mean = np.eye(K)[classes] if means else np.zeros((*classes.shape, 0))
    return mean, np.ones((*classes.shape, 1)) if covariances == 1 else np.eye(K)[classes], classes


def distinct(entries: list, cov):
    """Equal covariances become one basis element: which entries to keep, and the summed coefficients."""
    if cov is None or check.traced(*entries):
        return list(range(len(entries))), cov
    kept, which = [], []
    for k, entry in enumerate(entries):
        same = (i for i, other in enumerate(kept) if np.array_equal(entry, entries[other]))
        which.append(next(same, len(kept)))
        if which[-1] == len(kept):
            kept.append(k)
    return kept, cov @ np.eye(len(kept))[which]


def spectral_parts(entries, means, gram, targets) -> SpectralLaw:
    """The spectral law of a basis of covariances, with means (explicit, or generic of this ``gram``) and targets."""
    d = common_dimension(entries, means, targets)
    columns, generic = _directions(means, gram, targets, d or 1)
    xp = numpy_or_jax(*entries)
    if all(entry.ndim == 0 for entry in entries):  # no direction is special: only the Gram matrix matters
        return SpectralLaw.isotropic(xp.stack(entries), gram=(columns.T @ columns + generic)[None])
    if any(entry.ndim == 2 for entry in entries):
        eigenvalues, basis = common_eigenbasis([as_matrix(entry, d) for entry in entries])
        columns = basis.T @ columns
    else:
        eigenvalues = xp.stack([entry * np.ones(d) for entry in entries], axis=1)
    gram = columns[:, :, None] * columns[:, None, :] + generic / d
    return SpectralLaw(np.full(d, 1.0 / d), eigenvalues, gram).merged()


def dense_parts(entries, means, gram, targets):
    """Covariances (B, d0, d0), means (A, d0) and target (d0, t) of a dense law."""
    d = common_dimension(entries, means, targets)
    if d is None or all(entry.ndim == 0 for entry in entries):
        raise ValueError("dense must be False where all covariances are numbers, got True")
    if gram is not None:
        raise ValueError("gram must be None where dense is True (a dense law needs the means themselves), got a matrix")
    if np.ndim(targets) == 0:
        if targets:
            raise ValueError(f"targets must be explicit vectors (d0, t) where dense is True, got {targets!r}")
        targets = np.zeros((d, 0))
    covariances = numpy_or_jax(*entries).stack([as_matrix(entry, d) for entry in entries])
    return covariances, np.zeros((0, d)) if means is None else means, targets


def common_dimension(entries, means, targets) -> int | None:
    """The dimension d0 of whatever is a vector or a matrix; None if nothing is."""
    sizes = {f"covariances[{k}]": entry.shape[-1] for k, entry in enumerate(entries) if entry.ndim}
    if means is not None:
        sizes["means"] = means.shape[1]
    if np.ndim(targets):
        sizes["targets"] = targets.shape[0]
    if len(set(sizes.values())) > 1:
        raise ValueError(f"means, covariances and targets must have one dimension d0, got {sizes}")
    return next(iter(sizes.values()), None)


def as_matrix(entry, d: int):
    """A number or a vector of eigenvalues as a matrix."""
    return entry if entry.ndim == 2 else entry * np.eye(d)


def _directions(means, gram, targets, d):
    """Explicit directions mu and w_* / sqrt(d) as columns (d, k), and the Gram matrix (k, k) of the generic ones."""
    A = means.shape[0] if means is not None else 0 if gram is None else gram.shape[0]
    explicit = np.ndim(targets) > 0
    t = targets.shape[1] if explicit else targets
    columns = [np.zeros((d, A)) if means is None else means.T, targets / np.sqrt(d) if explicit else np.zeros((d, t))]
    generic = np.zeros((A + t, A + t))
    generic[:A, :A] = 0.0 if gram is None else gram
    generic[A:, A:] = 0.0 if explicit else np.eye(t)
    return numpy_or_jax(*columns).concatenate(columns, axis=1), generic
