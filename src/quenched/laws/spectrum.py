"""Spectral laws: the limit of the covariances' common spectrum and of the directions (means, targets) in it."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quenched.numerics import check


class SpectralLaw(eqx.Module):
    """A finite list of S atoms: where the eigenvalues of the B covariances lie, and what the directions have there.

    With common eigenvectors e_i (i = 1..d), ``S_b e_i = gamma_ib e_i``, the coordinates of a direction are
    ``tau_i = sqrt(d) e_i . mu`` for a mean and ``tau_i = e_i . w_*`` for a target, all of order one. An atom
    collects the coordinates that share their eigenvalues; only second moments of ``tau`` enter the limit.

    - ``weights`` (S,): fraction of the coordinates in each atom, sum one. Weight zero is legal (finite-rank spikes).
    - ``eigenvalues`` (S, B), or (S,) for B = 1: ``gamma_sb >= 0``.
    - ``gram`` (S, k, k): ``(1/d) sum_{i in s} tau_i tau_i^T``, the mass of the atom included; the k = A + t
      directions are the means first, then the targets. Free (unpenalised) mean directions are zero rows.
      A single (k, k) matrix G means generic directions of that Gram matrix: ``gram[s] = weights[s] G``.
    - ``directions`` (S, k), instead of ``gram``: the coordinates where they are constant on each atom, so
      ``gram[s] = weights[s] tau_s tau_s^T``. With neither there are no directions (k = 0).

    Raises ``ValueError`` for negative weights or eigenvalues, weights that do not sum to one, a ``gram`` that is not
    positive semi-definite, or shapes that disagree. Leaves are float64 NumPy arrays, or JAX tracers, of which only
    the shapes are checked.

    Source: H. Cui (2024), arXiv:2409.13904, for one list of atoms shared by all tokens.

    >>> law = SpectralLaw([0.5, 0.3, 0.2], [0.3, 1.0, 3.0], directions=[[1.0], [1.0], [0.5]])
    >>> law.gram.ravel().tolist()
    [0.5, 0.3, 0.05]
    """

    weights: Float[Array | np.ndarray, " S"]
    eigenvalues: Float[Array | np.ndarray, "S B"]
    gram: Float[Array | np.ndarray, "S k k"]

    def __init__(self, weights, eigenvalues, gram=None, *, directions=None):
        weights = check.probabilities("weights", lift(weights))
        eigenvalues = check.array("eigenvalues", lift(eigenvalues))
        eigenvalues = eigenvalues[:, None] if eigenvalues.ndim == 1 else eigenvalues
        if eigenvalues.ndim != 2 or eigenvalues.shape[0] != weights.shape[0] or eigenvalues.shape[1] == 0:
            raise ValueError(
                f"eigenvalues must have the shape ({weights.shape[0]}, B), one row an atom, got {eigenvalues.shape}"
            )
        if not check.traced(eigenvalues) and eigenvalues.min() < 0:
            raise ValueError(f"eigenvalues must be non-negative, got {eigenvalues.min():.6g}")
        self.weights = weights
        self.eigenvalues = eigenvalues
        self.gram = _gram(weights, gram, directions)

    @classmethod
    def isotropic(cls, variance=1.0, *, gram=None, directions=None) -> SpectralLaw:
        """One atom: covariance ``variance * I`` (a sequence gives B covariances, all multiples of the identity).

        >>> SpectralLaw.isotropic(2.0, gram=[[1.0]]).eigenvalues.tolist()
        [[2.0]]
        """
        variance = check.array("variance", lift(variance))
        if variance.ndim > 1:
            raise ValueError(f"variance must be a number or a vector of them, got the shape {variance.shape}")
        if not check.traced(variance) and np.any(variance < 0):
            raise ValueError(f"variance must be non-negative, got {variance.tolist()}")
        return cls(np.ones(1), variance.reshape(1, -1), gram, directions=directions)

    @classmethod
    def power_law(cls, exponent, dim, *, nodes=None, variance=None, gram=None, directions=None):
        """Eigenvalues ``k ** -exponent`` for k = 1 to ``dim``, each with the weight 1 over ``dim``.

        - ``nodes``: None for the ``dim`` atoms themselves. A number S < dim: the first S // 2 atoms are kept exactly
          and the others are replaced by a Gauss-Legendre rule in log k on (S // 2 + 1/2, dim + 1/2); the error for
          smooth functions of log k is of order (exponent / 24) / (dim * S / 2).
        - ``variance``: rescale all eigenvalues to this mean (over the weights); None leaves them as they are.
        - ``gram``, ``directions``: as in :class:`SpectralLaw`.

        >>> SpectralLaw.power_law(1.0, 3, variance=1.0).eigenvalues.sum().round(12).item()
        3.0
        """
        exponent = check.scalar("exponent", exponent)
        dim = check.integer("dim", dim)
        if nodes is None or check.integer("nodes", nodes, 2) >= dim:
            k, weights = np.arange(1.0, dim + 1), np.full(dim, 1.0 / dim)
        else:
            head = nodes // 2
            x, w = np.polynomial.legendre.leggauss(nodes - head)
            low, high = np.log(head + 0.5), np.log(dim + 0.5)
            tail = np.exp(low + (high - low) * (x + 1) / 2)
            mass = w * tail
            k = np.concatenate([np.arange(1.0, head + 1), tail])
            weights = np.concatenate([np.ones(head), mass * (dim - head) / mass.sum()]) / dim
        eigenvalues = k**-exponent
        if variance is not None:
            eigenvalues = eigenvalues * (check.positive("variance", variance) / (weights @ eigenvalues))
        return cls(weights, eigenvalues, gram, directions=directions)

    @classmethod
    def marchenko_pastur(cls, ratio, *, variance=1.0, nodes=64, gram=None, directions=None) -> SpectralLaw:
        """Eigenvalues of ``X^T X / N`` for N rows of d normal entries of the given variance; ``ratio`` = d / N.

        ``nodes`` is the size of the Gauss rule of the continuous part (exact for polynomials of degree below
        ``2 nodes``), from the Jacobi matrix of the law; for ``ratio > 1`` an atom at zero of weight ``1 - 1/ratio``
        comes first. Source: Marchenko and Pastur (1967); Golub and Welsch (1969) for the rule.

        >>> law = SpectralLaw.marchenko_pastur(2.0)
        >>> [round(float(law.weights @ law.eigenvalues[:, 0]**k), 12) for k in (1, 2)]
        [1.0, 3.0]
        """
        ratio, variance = check.positive("ratio", ratio), check.nonnegative("variance", variance)
        nodes = check.integer("nodes", nodes)
        if check.traced(ratio):
            raise ValueError("ratio must be a concrete number: the nodes are not differentiable with respect to it")
        c = min(ratio, 1.0 / ratio)
        off = np.full(nodes - 1, np.sqrt(c))
        diagonal = np.diag(np.r_[1.0, np.full(nodes - 1, 1.0 + c)])
        x, vectors = np.linalg.eigh(diagonal + np.diag(off, 1) + np.diag(off, -1))
        x, w = np.maximum(x, 0.0), vectors[0] ** 2
        if ratio > 1:  # the nonzero eigenvalues are those of the transposed matrix, of ratio 1/c
            x, w = np.r_[0.0, ratio * x], np.r_[1.0 - 1.0 / ratio, w / (ratio * w.sum())]
        return cls(w / w.sum(), variance * x, gram, directions=directions)

    @classmethod
    def from_matrices(cls, covariances, means=None, targets=None) -> SpectralLaw:
        """The atoms of commuting covariance matrices: one atom of weight 1/d for each common eigenvector.

        - ``covariances`` (B, d, d), or (d, d) for B = 1; symmetric positive semi-definite.
        - ``means`` (A, d), or (d,): mean directions mu of norm O(1).
        - ``targets`` (d, t), or (d,): weights w_* with entries O(1), so that ``x w_* / sqrt(d)`` is O(1).

        Atoms of exactly equal eigenvalues are merged. Raises ``ValueError`` where the matrices do not commute;
        :class:`~quenched.laws.DenseTokens` takes those.

        >>> SpectralLaw.from_matrices(np.eye(3), means=[[1.0, 0.0, 0.0]]).gram.tolist()
        [[[1.0]]]
        """
        covariances = np.asarray(covariances)
        covariances = covariances[None] if covariances.ndim == 2 else covariances
        eigenvalues, basis = common_eigenbasis(covariances)
        d = basis.shape[0]
        means = np.zeros((0, d)) if means is None else np.atleast_2d(check.array("means", means))
        targets = np.zeros((d, 0)) if targets is None else check.array("targets", targets)
        targets = targets[:, None] if targets.ndim == 1 else targets
        check.array("means", means, shape=(None, d))
        check.array("targets", targets, shape=(d, None))
        columns = basis.T @ np.concatenate([means.T, targets / np.sqrt(d)], axis=1)
        return cls(np.full(d, 1.0 / d), eigenvalues, columns[:, :, None] * columns[:, None, :]).merged()

    @classmethod
    def from_data(cls, X, y=None, *, covariance="pooled") -> SpectralLaw:
        """Class means and covariances of a sample, as atoms (d of them); the K classes are the sorted values of ``y``.

        - ``X`` (N, d) samples; ``y`` (N,) class of each, or None for one class.
        - ``covariance``: "pooled" (B = 1: the within-class covariance ``sum (x - mean_y)(x - mean_y)^T / (N - K)``)
          or "class" (B = K: one a class, over ``N_k - 1``; they must commute, which a sample's covariances do only in
          special cases, else ``ValueError``: :func:`quenched.laws.from_data` builds the dense law).

        The result has K mean directions and no targets. A sample covariance is not the population's: unless N is
        much larger than d, predictions from it are too optimistic.

        >>> X = np.array([[0.0, 1.0], [0.0, -1.0], [2.0, 1.0], [2.0, -1.0]])
        >>> SpectralLaw.from_data(X, [0, 0, 1, 1]).gram.sum(axis=0).tolist()
        [[0.0, 0.0], [0.0, 4.0]]
        """
        means, covariances, _, _ = class_moments(X, y, covariance)
        return cls.from_matrices(covariances, means)

    def with_targets(self, targets=1) -> SpectralLaw:
        """The same law with generic targets appended: orthogonal to all else, coordinates of variance one.

        >>> SpectralLaw.isotropic(gram=[[4.0]]).with_targets().gram.tolist()
        [[[4.0, 0.0], [0.0, 1.0]]]
        """
        k, t = self.gram.shape[-1], check.integer("targets", targets, 0)
        xp = jnp if check.traced(self.gram, self.weights) else np
        new = self.weights[:, None, None] * np.diag(np.r_[np.zeros(k), np.ones(t)])
        return SpectralLaw(self.weights, self.eigenvalues, xp.pad(self.gram, ((0, 0), (0, t), (0, t))) + new)

    def merged(self) -> SpectralLaw:
        """The same law with atoms of exactly equal eigenvalues put together (no theory can tell the difference).

        >>> law = SpectralLaw([0.25, 0.5, 0.25], [1.0, 3.0, 1.0]).merged()
        >>> law.weights.tolist(), law.eigenvalues.ravel().tolist()
        ([0.5, 0.5], [1.0, 3.0])
        """
        if check.traced(self.weights, self.eigenvalues, self.gram):
            return self
        eigenvalues, atom = np.unique(self.eigenvalues, axis=0, return_inverse=True)
        gram = np.zeros((len(eigenvalues), *self.gram.shape[1:]))
        np.add.at(gram, atom.ravel(), self.gram)
        return SpectralLaw(np.bincount(atom.ravel(), self.weights), eigenvalues, gram)


def common_eigenbasis(covariances) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues (d, B) and common eigenvectors (d, d), as columns, of commuting covariances (B, d, d).

    The eigenvectors are those of a random positive combination, which separates whatever any of the matrices
    separates. Raises ``ValueError`` if a matrix is not diagonal in them to a relative 1e-8 (Frobenius norms).

    >>> common_eigenbasis([np.diag([1.0, 2.0]), np.eye(2)])[0].tolist()
    [[1.0, 1.0], [2.0, 1.0]]
    """
    covariances = np.stack([check.covariance(f"covariances[{b}]", s) for b, s in enumerate(covariances)])
    d = covariances.shape[-1]
    if np.all(covariances == covariances * np.eye(d)):
        return np.diagonal(covariances, axis1=1, axis2=2).T.copy(), np.eye(d)
    norms = np.maximum(np.linalg.norm(covariances, axis=(1, 2)), np.finfo(float).tiny)
    rng = np.random.default_rng(0)
    for _ in range(3):  # an unlucky combination may be nearly degenerate
        mixed = np.tensordot(rng.uniform(0.5, 1.5, len(norms)) / norms, covariances, axes=1)
        basis = _polish(covariances / norms[:, None, None], np.linalg.eigh(0.5 * (mixed + mixed.T))[1])
        rotated = basis.T @ covariances @ basis
        eigenvalues = np.diagonal(rotated, axis1=1, axis2=2)
        off = np.linalg.norm(rotated - eigenvalues[:, :, None] * np.eye(d), axis=(1, 2)) / norms
        if off.max() <= 1e-8:
            return np.maximum(eigenvalues.T, 0.0), basis
    raise ValueError(
        f"covariances must commute (share their eigenvectors) to be written as atoms, got a relative off-diagonal part "
        f"of {off.max():.3g} in the best common basis; use DenseTokens (mixture or sequence with dense=True) for them"
    )


def _polish(covariances, basis):
    """One first-order step of joint diagonalisation: to rounding errors, also where ``basis`` barely separates."""
    rotated = basis.T @ covariances @ basis
    values = np.diagonal(rotated, axis1=1, axis2=2)
    gaps = values[:, None, :] - values[:, :, None]
    squared = np.sum(gaps**2, axis=0)
    turn = np.sum(rotated * gaps, axis=0) / np.where(squared > 1e-20, squared, np.inf)
    return np.linalg.qr(basis @ (np.eye(len(basis)) + turn))[0] if np.abs(turn).max() < 1e-3 else basis


def class_moments(X, y=None, covariance="pooled"):
    """Means (K, d), covariances (1 or K, d, d), class frequencies (K,) and class names (K,) of a labelled sample."""
    X = check.array("X", X, ndim=2)
    check.choice("covariance", covariance, ("pooled", "class"))
    y = np.zeros(len(X), dtype=int) if y is None else np.asarray(y)
    if y.shape != (len(X),):
        raise ValueError(f"y must hold one class for each of the {len(X)} rows of X, got the shape {y.shape}")
    names, index, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(X) <= len(names) or (covariance == "class" and counts.min() < 2):
        raise ValueError(f"y must have samples enough for the covariances, got the class counts {counts.tolist()}")
    means = np.zeros((len(names), X.shape[1]))
    np.add.at(means, index, X)
    means /= counts[:, None]
    centred = X - means[index]
    if covariance == "pooled":
        covariances = (centred.T @ centred / (len(X) - len(names)))[None]
    else:
        groups = [centred[index == k] for k in range(len(names))]
        covariances = np.stack([g.T @ g / (len(g) - 1) for g in groups])
    return means, covariances, counts / counts.sum(), names


def lift(value):
    """A (nested) list that holds tracers as one JAX array; anything else unchanged."""
    nested = isinstance(value, (list, tuple)) and check.traced(*jax.tree.leaves(value))
    return jnp.asarray(value) if nested else value


def _gram(weights, gram, directions):
    """The validated (S, k, k) Gram matrices from either way of giving them."""
    atoms = weights.shape[0]
    if gram is not None and directions is not None:
        raise ValueError("gram and directions are two ways to say the same, give one of them, got both")
    if directions is not None:
        tau = check.array("directions", lift(directions), shape=(atoms, None))
        return weights[:, None, None] * tau[:, :, None] * tau[:, None, :]
    if gram is None:
        return np.zeros((atoms, 0, 0))
    gram = check.array("gram", lift(gram))
    if gram.ndim not in (2, 3) or gram.shape[-1] != gram.shape[-2]:
        raise ValueError(f"gram must have the shape ({atoms}, k, k) or (k, k), got {gram.shape}")
    gram = weights[:, None, None] * gram if gram.ndim == 2 else gram
    if gram.shape[0] != atoms:
        raise ValueError(f"gram must have one (k, k) matrix for each of the {atoms} atoms, got the shape {gram.shape}")
    if check.traced(gram) or gram.shape[-1] == 0:
        return gram
    scale = np.abs(gram).max()
    skew = np.abs(gram - gram.swapaxes(1, 2)).max()
    if skew > 1e-10 * scale:
        raise ValueError(f"gram must be symmetric, got entries that differ by {skew:.3g}")
    low = np.linalg.eigvalsh(gram).min()
    if low < -1e-10 * scale:
        raise ValueError(f"gram must be positive semi-definite on every atom, got the eigenvalue {low:.6g}")
    return 0.5 * (gram + gram.swapaxes(1, 2))
