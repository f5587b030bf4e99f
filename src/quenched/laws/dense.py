"""Conditionally Gaussian tokens whose covariances do not commute: dense matrices in dimension d0."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array, Float

from quenched.laws import sampling
from quenched.laws.base import Conjugates, Instance, Labels, Law, Overlaps, Population, symmetrise
from quenched.laws.tokens import free_directions, label_arrays, size_leaf
from quenched.numerics import check


class DenseTokens(Law):
    """L tokens, Gaussian given a label, with any covariances: :class:`SpectralTokens` without common eigenvectors.

    - ``covariances`` (B, d0, d0), or (d0, d0) for B = 1: symmetric positive semi-definite.
    - ``means`` (A, d0): mean directions mu of norm O(1), zero rows for free directions; None for A = 0.
    - ``target`` (d0, t), or (d0,): weights w_* with entries O(1); None for t = 0.
    - ``prob``, ``mean``, ``cov``, ``value``, ``size``, ``free``: as in :class:`SpectralTokens`.

    The limit is that of d0-dimensional blocks repeated. Potential: ``(1 / 2 d0) [Tr A^{-1} N + b^T A^{-1} b]`` with
    ``A = (ridge I + Q_hat) (x) I + sum_b V_hat_b (x) S_b``, ``N = sum_b q_hat_b (x) S_b`` and
    ``b = sqrt(d0) sum_a m_hat_a (x) mu_a + sum_b theta_hat_b (x) S_b w_*``: one Cholesky factor of size r d0 (LU for a
    complex ridge); NaN where A is not positive definite. Source: H. Cui (2024), arXiv:2409.13904.

    Raises ``ValueError`` for matrices that are not covariances, shapes that disagree, probabilities that do not sum to
    one, an assembled covariance with a negative eigenvalue, or a free direction that is not a zero row.

    >>> law = DenseTokens(np.array([[2.0, 1.0], [1.0, 2.0]]), None, [1.0, 1.0], prob=[1.0])
    >>> law.targets()[0].tolist()
    [[[3.0]]]
    """

    covariances: Float[Array | np.ndarray, "B d d"]
    means: Float[Array | np.ndarray, "A d"]
    target: Float[Array | np.ndarray, "d t"]
    prob: Float[Array | np.ndarray, " C"]
    mean: Float[Array | np.ndarray, "C L A"]
    cov: Float[Array | np.ndarray, "C L B"]
    value: Any
    size: Any
    free: tuple = eqx.field(static=True)

    def __init__(self, covariances, means, target, prob, mean=None, cov=None, value=None, size=1.0, free=None):
        covariances = check.array("covariances", covariances)
        covariances = covariances[None] if covariances.ndim == 2 else covariances
        if covariances.ndim != 3 or covariances.shape[0] == 0 or covariances.shape[1] == 0:
            raise ValueError(f"covariances must have the shape (B, d0, d0), got {covariances.shape}")
        for b in range(covariances.shape[0]):
            check.covariance(f"covariances[{b}]", covariances[b])
        d = covariances.shape[-1]
        means = np.zeros((0, d)) if means is None else check.array("means", means, shape=(None, d))
        target = np.zeros((d, 0)) if target is None else check.array("target", target)
        target = check.array("target", target[:, None] if target.ndim == 1 else target, shape=(d, None))
        self.covariances, self.means, self.target = covariances, means, target
        self.prob, self.mean, self.cov, self.value = label_arrays(prob, mean, cov, value, covariances.shape[0])
        if self.mean.shape[-1] != means.shape[0]:
            raise ValueError(
                f"mean must have {means.shape[0]} directions in its last axis, as means has, got {self.mean.shape}"
            )
        self.size = size_leaf(size)
        self.free = free_directions(free, means.shape[0])
        if not check.traced(self.cov, covariances) and self.cov.min() < 0:
            for row in np.unique(self.cov.reshape(-1, self.cov.shape[-1]), axis=0):
                check.covariance("cov applied to covariances", np.tensordot(row, covariances, axes=1))
        if any(self.free) and not check.traced(means) and np.any(means[np.flatnonzero(self.free)]):
            raise ValueError(f"free must name directions that are zero rows of means, got {self.free}")

    def labels(self) -> Labels:
        """Probabilities, mean and covariance coefficients, and values of the labels."""
        return Labels(self.prob, self.mean, self.cov, self.value)

    def targets(self) -> tuple:
        """``rho`` (B, t, t) = w_*^T S_b w_* / d0 and ``m_star`` (A, t) = mu_a . w_* / sqrt(d0)."""
        d = self.target.shape[0]
        return self.target.T @ self.covariances @ self.target / d, self.means @ self.target / d**0.5

    def potential(self, hats: Conjugates, ridge):
        """The scalar potential (see the class), float64; a complex ``ridge`` gives a complex one."""
        matrix, noise, field = self._system(hats, ridge)
        inverse = inverse_matrix(matrix)
        return 0.5 / self.target.shape[0] * (jnp.sum(inverse * noise.T) + field @ inverse @ field)

    def overlaps(self, hats: Conjugates, ridge) -> Overlaps:
        """The gradient of :meth:`potential`, written out: one inverse of size r d0 and two products."""
        S, mu, d = jnp.asarray(self.covariances), jnp.asarray(self.means), self.target.shape[0]
        matrix, noise, field = self._system(hats, ridge)
        r = hats.Q_hat.shape[0]
        inverse = inverse_matrix(matrix)
        w = inverse @ field
        spread = (inverse @ noise @ inverse + jnp.outer(w, w)).reshape(r, d, r, d)
        inverse, w = inverse.reshape(r, d, r, d), w.reshape(r, d)
        return Overlaps(
            V=symmetrise(jnp.einsum("bkl,iljk->bij", S, inverse)) / d,
            q=symmetrise(jnp.einsum("bkl,iljk->bij", S, spread)) / d,
            m=mu @ w.T / d**0.5,
            theta=jnp.einsum("ik,bkl,lt->bit", w, S, self.target) / d,
            Q=symmetrise(jnp.einsum("ikjk->ij", spread)) / d,
        )

    def _system(self, hats, ridge):
        """A and N (r d0, r d0), and b (r d0,), unit by unit."""
        S, d = jnp.asarray(self.covariances), self.target.shape[0]
        r = hats.Q_hat.shape[0]

        def blocks(coefficients):
            return jnp.einsum("bij,bkl->ikjl", coefficients, S).reshape(r * d, r * d)

        matrix = jnp.kron(ridge * jnp.eye(r) + hats.Q_hat, jnp.eye(d)) + blocks(hats.V_hat)
        field = d**0.5 * hats.m_hat.T @ self.means + jnp.einsum("bit,bkl,lt->ik", hats.theta_hat, S, self.target)
        return matrix, blocks(hats.q_hat), field.reshape(-1)

    def population(self, seed, d) -> Population:
        """The law's own directions, repeated d / d0 times; ``ValueError`` if d is not a multiple of d0."""
        d, d0 = check.integer("d", d), self.target.shape[0]
        if d % d0:
            raise ValueError(f"d must be a multiple of {d0}, the dimension of the law's matrices, got {d}")
        sampling.generator(0, seed)  # nothing is random here, but a bad seed is refused all the same
        copies = d // d0
        covariances = np.stack([np.kron(np.eye(copies), s) for s in np.asarray(self.covariances)])
        means = np.tile(np.asarray(self.means), copies) / np.sqrt(copies)
        return Population(
            covariances, means, np.tile(np.asarray(self.target), (copies, 1)), sampling.numpy_labels(self.labels())
        )

    def sample(self, population: Population, seed, n) -> Instance:
        """n fresh samples of the population; with another seed than :meth:`draw` had, a test set for it."""
        return sampling.sample(population, self.free, seed, n)

    def draw(self, seed, n, d) -> Instance:
        """``sample(population(seed, d), seed, n)``: n samples in dimension d, a multiple of d0; NumPy float64."""
        return self.sample(self.population(seed, d), seed, n)


@jax.custom_jvp
def inverse_matrix(matrix):
    """The inverse of a positive definite matrix by Cholesky (NaN where it is not), or of a complex one by LU."""
    if jnp.iscomplexobj(matrix):
        return jnp.linalg.inv(matrix)
    return jsl.cho_solve(jsl.cho_factor(symmetrise(matrix), lower=True), jnp.eye(matrix.shape[0], dtype=matrix.dtype))


@inverse_matrix.defjvp
def _inverse_matrix_jvp(primals, tangents):
    # Products only: many tangents at once would be batched LAPACK calls, which can lock XLA's CPU thread pool.
    inverse = inverse_matrix(*primals)
    return inverse, -inverse @ tangents[0] @ inverse
