"""Conditionally Gaussian tokens whose covariances share their eigenvectors: the law is a list of spectral atoms."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quenched.laws import sampling
from quenched.laws.base import Conjugates, Instance, Labels, Law, Overlaps, Population, symmetrise
from quenched.laws.spectrum import SpectralLaw
from quenched.numerics import check
from quenched.numerics.linalg import small_inverse


class SpectralTokens(Law):
    """L tokens, Gaussian given a label c: mean ``sum_a mean[c,l,a] mu_a``, covariance ``sum_b cov[c,l,b] S_b``.

    - ``spectrum``: the :class:`SpectralLaw` of the B covariances and the A means and t targets (k = A + t directions).
    - ``prob`` (C,): probabilities of the labels, or weights of the quadrature nodes of a continuous label.
    - ``mean`` (C, L, A), ``cov`` (C, L, B): coefficients. ``cov`` may be negative where the assembled covariance
      is not. None stands for no means (A = 0), and for ones (B = 1).
    - ``value``: what the loss sees as ``label``; a pytree of arrays with leading axis C; None for 0..C-1.
      Integer leaves stay integers, real ones become float64.
    - ``size``: trained coordinates per input dimension (1 for plain inputs).
    - ``free``: which of the A mean directions are unpenalised (zero rows of ``spectrum.gram``); None for none.

    Potential: ``1/2 sum_s Tr A_s^{-1} [w_s sum_b gamma_sb q_hat_b + K_s^T gram_s K_s]`` with
    ``A_s = ridge I + Q_hat + sum_b gamma_sb V_hat_b`` and ``K_s`` the rows ``m_hat_a`` then
    ``sum_b gamma_sb theta_hat_b^T``. Source: H. Cui (2024), arXiv:2409.13904.

    Raises ``ValueError`` for probabilities that do not sum to one, shapes that disagree, an assembled covariance
    with a negative eigenvalue, or a free direction that is not a zero row.

    >>> law = SpectralTokens(SpectralLaw.isotropic(gram=[[1.0]]), prob=[1.0], cov=[[[1.0]]])
    >>> law.targets()[0].tolist()
    [[[1.0]]]
    """

    spectrum: SpectralLaw
    prob: Float[Array | np.ndarray, " C"]
    mean: Float[Array | np.ndarray, "C L A"]
    cov: Float[Array | np.ndarray, "C L B"]
    value: Any
    size: Any
    free: tuple = eqx.field(static=True)

    def __init__(self, spectrum, prob, mean=None, cov=None, value=None, size=1.0, free=None):
        if not isinstance(spectrum, SpectralLaw):
            raise ValueError(f"spectrum must be a SpectralLaw, got {type(spectrum).__name__}")
        count = spectrum.eigenvalues.shape[1]
        self.spectrum = spectrum
        self.prob, self.mean, self.cov, self.value = label_arrays(prob, mean, cov, value, count)
        self.size = size_leaf(size)
        A, k = self.mean.shape[-1], spectrum.gram.shape[-1]
        if A > k:
            raise ValueError(f"mean must have at most {k} directions in its last axis, as spectrum.gram does, got {A}")
        self.free = free_directions(free, A)
        eigenvalues, gram = spectrum.eigenvalues, spectrum.gram
        if not check.traced(self.cov, eigenvalues):
            low, scale = np.min(self.cov @ eigenvalues.T), np.abs(self.cov).max() * eigenvalues.max()
            if low < -1e-12 * scale:
                raise ValueError(f"cov must give every token a covariance without negative eigenvalues, got {low:.6g}")
        if any(self.free) and not check.traced(gram) and np.any(gram[:, np.flatnonzero(self.free)]):
            raise ValueError(f"free must name directions that are zero rows of spectrum.gram, got {self.free}")

    def labels(self) -> Labels:
        """Probabilities, mean and covariance coefficients, and values of the labels."""
        return Labels(self.prob, self.mean, self.cov, self.value)

    def targets(self) -> tuple:
        """``rho`` (B, t, t) = w_*^T S_b w_* / d and ``m_star`` (A, t) = mu_a . w_* / sqrt(d)."""
        A = self.mean.shape[-1]
        gamma, gram = self.spectrum.eigenvalues, self.spectrum.gram
        xp = jnp if check.traced(gamma, gram) else np
        return xp.tensordot(gamma.T, gram[:, A:, A:], axes=1), xp.sum(gram[:, :A, A:], axis=0)

    def atoms(self) -> SpectralLaw:
        """The spectral law itself."""
        return self.spectrum

    def potential(self, hats: Conjugates, ridge):
        """The scalar potential (see the class), float64; a complex ``ridge`` gives a complex one."""
        _, noise, K, inverse = self._resolvent(hats, ridge)
        second = noise + jnp.einsum("skr,skl,slu->sru", K, self.spectrum.gram, K)
        return 0.5 * jnp.sum(inverse * jnp.swapaxes(second, 1, 2))

    def overlaps(self, hats: Conjugates, ridge) -> Overlaps:
        """The gradient of :meth:`potential`, written out: one inverse an atom."""
        gamma, noise, K, inverse = self._resolvent(hats, ridge)
        A = self.mean.shape[-1]
        weights, gram = self.spectrum.weights, self.spectrum.gram
        GK = jnp.einsum("skl,slr->skr", gram, K)
        second = noise + jnp.einsum("skr,sku->sru", K, GK)
        product = symmetrise(inverse @ second @ inverse)
        inverse = symmetrise(inverse)
        weighted = jnp.swapaxes(gamma * weights[:, None], 0, 1)
        linear = GK @ inverse
        return Overlaps(
            V=jnp.tensordot(weighted, inverse, axes=1),
            q=jnp.tensordot(gamma.T, product, axes=1),
            m=jnp.sum(linear[:, :A], axis=0),
            theta=jnp.einsum("sb,str->brt", gamma, linear[:, A:]),
            Q=jnp.sum(product, axis=0),
        )

    def _resolvent(self, hats, ridge):
        """Per atom: eigenvalues, the noise term w sum gamma q_hat, the rows K, and the inverse of A."""
        gamma = jnp.asarray(self.spectrum.eigenvalues)
        r, A = hats.Q_hat.shape[0], self.mean.shape[-1]
        matrix = ridge * jnp.eye(r) + hats.Q_hat + jnp.tensordot(gamma, hats.V_hat, axes=1)
        noise = self.spectrum.weights[:, None, None] * jnp.tensordot(gamma, hats.q_hat, axes=1)
        means = jnp.broadcast_to(hats.m_hat, (gamma.shape[0], A, r))
        K = jnp.concatenate([means, jnp.einsum("sb,brt->str", gamma, hats.theta_hat)], axis=1)
        return gamma, noise, K, small_inverse(matrix)

    def population(self, seed, d) -> Population:
        """Directions in dimension d with exactly this law's Gram matrices, in the coordinates of the eigenbasis.

        ``d`` is shared among the atoms in proportion to their weights, by rounding the cumulative weights in the order
        of the eigenvalues; inside an atom the directions are random with the exact Gram matrix ``d gram[s]``. Atoms
        with fewer coordinates than the rank of their Gram matrix share it with the next ones, so that the sum over
        atoms stays exact. ``ValueError`` if d is below the rank of the total.
        """
        A = self.mean.shape[-1]
        covariances, tau = sampling.place_atoms(seed, self.spectrum, d)
        return Population(covariances, tau[:, :A].T / np.sqrt(d), tau[:, A:], sampling.numpy_labels(self.labels()))

    def sample(self, population: Population, seed, n) -> Instance:
        """n fresh samples of the population; with another seed than :meth:`draw` had, a test set for it."""
        return sampling.sample(population, self.free, seed, n)

    def draw(self, seed, n, d) -> Instance:
        """``sample(population(seed, d), seed, n)``: n i.i.d. samples in dimension d; NumPy float64, O(n L d) memory."""
        return self.sample(self.population(seed, d), seed, n)


def label_arrays(prob, mean, cov, value, bases: int):
    """Validated ``prob`` (C,), ``mean`` (C, L, A), ``cov`` (C, L, B) and ``value`` for B = ``bases`` covariances."""
    prob = check.probabilities("prob", prob)
    C = prob.shape[0]
    given = cov if cov is not None else mean
    L = 1 if given is None else np.shape(given)[1] if np.ndim(given) == 3 else None
    if cov is None and bases != 1:
        raise ValueError(f"cov must say which of the {bases} covariances each token has, got None")
    cov = np.ones((C, L or 1, 1)) if cov is None else check.array("cov", cov)
    mean = np.zeros((C, L or 1, 0)) if mean is None else check.array("mean", mean)
    check.array("cov", cov, shape=(C, L, bases))
    check.array("mean", mean, shape=(C, L, None))
    value = np.arange(C) if value is None else jax.tree.map(_value_leaf, value, is_leaf=_is_list_of_numbers)
    for leaf in jax.tree.leaves(value):
        if np.ndim(leaf) == 0 or np.shape(leaf)[0] != C:
            raise ValueError(f"value must hold one entry for each of the {C} labels, got the shape {np.shape(leaf)}")
    return prob, mean, cov, value


def _is_list_of_numbers(node):
    return isinstance(node, list)


def _value_leaf(leaf):
    if check.traced(leaf):
        return leaf
    leaf = np.asarray(leaf)
    if leaf.dtype.kind in "iub":
        return leaf
    return check.array("value", leaf)


def size_leaf(size):
    """``size`` as a positive float64 leaf."""
    return size if check.traced(size) else np.asarray(check.positive("size", size))


def free_directions(free, count: int) -> tuple:
    """``free`` as a tuple of ``count`` bools."""
    free = (False,) * count if free is None else tuple(free)
    if len(free) != count or any(not isinstance(f, (bool, np.bool_)) for f in free):
        raise ValueError(f"free must hold one bool for each of the {count} mean directions, got {free!r}")
    return tuple(bool(f) for f in free)
