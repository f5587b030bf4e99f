"""What a law of the data is: labels, targets, and one scalar potential whose gradient is every overlap."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from ..numerics.linalg import symmetrise


class Overlaps(NamedTuple):
    """Order parameters of the weights, for B covariances, A mean directions, r units, t targets.

    ``q[b] = w^T S_b w / d``, ``V[b]`` its susceptibility, ``m[a] = w^T mu_a / sqrt(d)``,
    ``theta[b] = w^T S_b w_* / d`` and ``Q = w^T w / d``.
    """

    V: Float[Array, "B r r"]
    q: Float[Array, "B r r"]
    m: Float[Array, "A r"]
    theta: Float[Array, "B r t"]
    Q: Float[Array, "r r"]


class Conjugates(NamedTuple):
    """Variables conjugate to :class:`Overlaps` (the "hats")."""

    q_hat: Float[Array, "B r r"]
    V_hat: Float[Array, "B r r"]
    m_hat: Float[Array, "A r"]
    theta_hat: Float[Array, "B r t"]
    Q_hat: Float[Array, "r r"]


class Labels(NamedTuple):
    """The law of the label: C values (or quadrature nodes), L tokens, A mean directions, B covariances.

    Given the label c, token l is Gaussian with mean ``sum_a mean[c, l, a] mu_a`` and covariance
    ``sum_b cov[c, l, b] S_b``; ``value`` is what the loss sees as ``label`` (a pytree, leading axis C).
    """

    prob: Float[Array, " C"]
    mean: Float[Array, "C L A"]
    cov: Float[Array, "C L B"]
    value: Any


class Population(NamedTuple):
    """The directions behind one drawn instance, in its own coordinates (NumPy float64).

    ``covariances`` is ``(B, d)`` (eigenvalues, where the coordinates are the common eigenbasis) or
    ``(B, d, d)``; ``means`` is ``(A, d)`` with zero rows for free directions; ``targets`` is ``(d, t)``.
    """

    covariances: np.ndarray
    means: np.ndarray
    targets: np.ndarray
    labels: Labels


class Instance(NamedTuple):
    """n samples of d-dimensional tokens (NumPy float64).

    ``x`` (n, L, d); ``index`` (n,) which label; ``value`` the label's value per sample (pytree, leading axis n);
    ``target`` (n, L, t) the pre-activations ``x w_* / sqrt(d)``; ``free`` (n, L, F) the coefficients of the F
    free mean directions (each adds ``free @ m_free`` to ``h``, unpenalised); ``population`` what it was drawn from.
    """

    x: Float[np.ndarray, "n L d"]
    index: Int[np.ndarray, " n"]
    value: Any
    target: Float[np.ndarray, "n L t"]
    free: Float[np.ndarray, "n L F"]
    population: Population


class Law(eqx.Module):
    """A law of conditionally Gaussian tokens, seen by the theory only through one scalar function.

    Subclasses provide ``size`` (trained coordinates per input dimension; 1 for plain inputs), ``free`` (a static
    tuple of bool, which mean directions are unpenalised), :meth:`labels`, :meth:`targets` and :meth:`potential`.
    """

    size: eqx.AbstractVar[Any]
    free: eqx.AbstractVar[tuple]

    def labels(self) -> Labels:
        """The law of the label."""
        raise NotImplementedError

    def targets(self) -> tuple[Float[Array, "B t t"], Float[Array, "A t"]]:
        """``rho[b] = w_*^T S_b w_* / d`` and ``m_star[a] = mu_a . w_* / sqrt(d)``."""
        raise NotImplementedError

    def potential(self, hats: Conjugates, ridge):
        """The scalar Psi(hats, ridge) whose gradient holds all overlaps; ``ridge`` may be complex."""
        raise NotImplementedError

    def overlaps(self, hats: Conjugates, ridge) -> Overlaps:
        """The overlaps that the conjugates produce: the (symmetrised) gradient of :meth:`potential`."""
        g = jax.grad(self.potential)(hats, ridge)
        return Overlaps(
            V=2.0 * symmetrise(g.q_hat),
            q=-2.0 * symmetrise(g.V_hat),
            m=g.m_hat,
            theta=g.theta_hat,
            Q=-2.0 * symmetrise(g.Q_hat),
        )

    def settle(self, m, step, hats: Conjugates, ridge, rate):
        """The free means ``m`` (A, r) after a ``step`` down their gradient, and the conjugates; laws may take it longer, or draw
        means back that are not quite free. ``rate`` = alpha / size multiplies the channel.
        """
        return m - step, hats

    def relax(self, old: Overlaps, new: Overlaps, hats: Conjugates, rate) -> Overlaps:
        """``new``, or a point between ``old`` and it with the same fixed points, for laws whose plain updates overshoot."""
        return new

    def atoms(self):
        """The law's :class:`~quenched.laws.SpectralLaw`, where it is one of spectral atoms."""
        raise TypeError(f"{type(self).__name__} has no spectral atoms, so what needs them is not available for it")

    def population(self, seed, d) -> Population:
        """The directions behind one instance in dimension d; ``seed`` is an int, or a tuple of ints."""
        raise TypeError(f"{type(self).__name__} has no population that samples could be drawn from")

    def sample(self, population: Population, seed, n) -> Instance:
        """n fresh samples of one population: a training set, or a test set for it."""
        raise TypeError(f"{type(self).__name__} cannot draw samples of a population")

    def draw(self, seed, n: int, d: int) -> Instance:
        """Draw n samples in dimension d; ``seed`` is an int, or a tuple of ints."""
        raise TypeError(f"{type(self).__name__} cannot draw samples, so simulate and amp are not available for it")
