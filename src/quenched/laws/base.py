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

    >>> import jax.numpy as jnp
    >>> from quenched.laws import single
    >>> one = jnp.ones((1, 1, 1))
    >>> found = single().overlaps(Conjugates(one, one, jnp.zeros((0, 1)), one, jnp.zeros((1, 1))), ridge=1.0)
    >>> found.V.item(), found.q.item(), found.theta.item()
    (0.5, 0.5, 0.5)
    """

    V: Float[Array, "B r r"]
    q: Float[Array, "B r r"]
    m: Float[Array, "A r"]
    theta: Float[Array, "B r t"]
    Q: Float[Array, "r r"]


class Conjugates(NamedTuple):
    """Variables conjugate to :class:`Overlaps` (the "hats").

    >>> import jax.numpy as jnp
    >>> one = jnp.ones((1, 1, 1))
    >>> hats = Conjugates(q_hat=one, V_hat=one, m_hat=jnp.zeros((0, 1)), theta_hat=one, Q_hat=jnp.zeros((1, 1)))
    >>> hats.V_hat.shape, hats.m_hat.shape  # one covariance, one unit; no mean
    ((1, 1, 1), (0, 1))
    """

    q_hat: Float[Array, "B r r"]
    V_hat: Float[Array, "B r r"]
    m_hat: Float[Array, "A r"]
    theta_hat: Float[Array, "B r t"]
    Q_hat: Float[Array, "r r"]


class Labels(NamedTuple):
    """The law of the label: C values (or quadrature nodes), L tokens, A mean directions, B covariances.

    Given the label c, token l is Gaussian with mean ``sum_a mean[c, l, a] mu_a`` and covariance
    ``sum_b cov[c, l, b] S_b``; ``value`` is what the loss sees as ``label`` (a pytree, leading axis C).

    >>> from quenched.laws import mixture
    >>> labels = mixture([0.3, 0.7], gram=[[1.0, -1.0], [-1.0, 1.0]], labels=[-1, 1]).labels()
    >>> labels.prob.tolist(), labels.mean.tolist(), labels.value.tolist()
    ([0.3, 0.7], [[[1.0, 0.0]], [[0.0, 1.0]]], [-1.0, 1.0])
    """

    prob: Float[Array, " C"]
    mean: Float[Array, "C L A"]
    cov: Float[Array, "C L B"]
    value: Any


class Population(NamedTuple):
    """The directions behind one drawn instance, in its own coordinates (NumPy float64).

    ``covariances`` is ``(B, d)`` (eigenvalues, where the coordinates are the common eigenbasis) or
    ``(B, d, d)``; ``means`` is ``(A, d)`` with zero rows for free directions; ``targets`` is ``(d, t)``.

    >>> from quenched.laws import mixture
    >>> people = mixture([0.3, 0.7], gram=[[1.0, -1.0], [-1.0, 1.0]]).population(0, 50)
    >>> people.covariances.shape, people.means.shape, people.targets.shape
    ((1, 50), (2, 50), (50, 0))
    >>> (people.means @ people.means.T).round(12).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
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

    >>> from quenched.laws import mixture
    >>> found = mixture([0.3, 0.7], gram=[[1.0, -1.0], [-1.0, 1.0]], labels=[-1, 1]).draw(0, n=4, d=50)
    >>> found.x.shape, found.index.tolist(), found.value.tolist()
    ((4, 1, 50), [1, 1, 0, 1], [1.0, 1.0, -1.0, 1.0])
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

    >>> from quenched.laws import single
    >>> law = single([0.5, 1.5])
    >>> law.size.item(), law.free, law.targets()[0].tolist()
    (1.0, (), [[[1.0]]])
    """

    size: eqx.AbstractVar[Any]
    free: eqx.AbstractVar[tuple]

    def labels(self) -> Labels:
        """The law of the label.

        >>> from quenched.laws import mixture
        >>> mixture([0.3, 0.7], gram=[[1.0, -1.0], [-1.0, 1.0]], labels=[-1, 1]).labels().value.tolist()
        [-1.0, 1.0]
        """
        raise NotImplementedError

    def targets(self) -> tuple[Float[Array, "B t t"], Float[Array, "A t"]]:
        """``rho[b] = w_*^T S_b w_* / d`` and ``m_star[a] = mu_a . w_* / sqrt(d)``.

        >>> from quenched.laws import single
        >>> rho, m_star = single([0.5, 1.5]).targets()
        >>> rho.tolist(), m_star.shape
        ([[[1.0]]], (0, 1))
        """
        raise NotImplementedError

    def potential(self, hats: Conjugates, ridge):
        """The scalar Psi(hats, ridge) whose gradient holds all overlaps; ``ridge`` may be complex.

        >>> import jax.numpy as jnp
        >>> from quenched.laws import single
        >>> one = jnp.ones((1, 1, 1))
        >>> hats = Conjugates(q_hat=one, V_hat=one, m_hat=jnp.zeros((0, 1)), theta_hat=one, Q_hat=jnp.zeros((1, 1)))
        >>> single().potential(hats, ridge=1.0).item()  # (q_hat + theta_hat^2) / (2 (ridge + V_hat))
        0.5
        """
        raise NotImplementedError

    def overlaps(self, hats: Conjugates, ridge) -> Overlaps:
        """The overlaps that the conjugates produce: the (symmetrised) gradient of :meth:`potential`.

        >>> import jax.numpy as jnp
        >>> from quenched.laws import single
        >>> one = jnp.ones((1, 1, 1))
        >>> hats = Conjugates(q_hat=one, V_hat=one, m_hat=jnp.zeros((0, 1)), theta_hat=one, Q_hat=jnp.zeros((1, 1)))
        >>> single().overlaps(hats, ridge=3.0).V.item()  # 1 / (ridge + V_hat)
        0.25
        """
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

        >>> import jax.numpy as jnp
        >>> from quenched.laws import single, with_free_mean
        >>> one = jnp.ones((1, 1, 1))
        >>> hats = Conjugates(q_hat=one, V_hat=one, m_hat=jnp.ones((1, 1)), theta_hat=one, Q_hat=jnp.zeros((1, 1)))
        >>> m, _ = with_free_mean(single()).settle(np.array([[1.0]]), np.array([[0.25]]), hats, ridge=0.1, rate=2.0)
        >>> m.tolist()
        [[0.75]]
        """
        return m - step, hats

    def relax(self, old: Overlaps, new: Overlaps, hats: Conjugates, rate) -> Overlaps:
        """``new``, or a point between ``old`` and it with the same fixed points, for laws whose plain updates overshoot.

        >>> import jax.numpy as jnp
        >>> from quenched.laws import single
        >>> law, one = single(), jnp.ones((1, 1, 1))
        >>> hats = Conjugates(q_hat=one, V_hat=one, m_hat=jnp.zeros((0, 1)), theta_hat=one, Q_hat=jnp.zeros((1, 1)))
        >>> old, new = law.overlaps(hats, 1.0), law.overlaps(hats, 2.0)
        >>> law.relax(old, new, hats, rate=2.0) is new  # plain updates of this law do not overshoot
        True
        """
        return new

    def atoms(self):
        """The law's :class:`~quenched.laws.SpectralLaw`, where it is one of spectral atoms; else a ``TypeError``.

        >>> from quenched.laws import single
        >>> single([0.5, 0.5, 2.0]).atoms().eigenvalues.tolist()
        [[0.5], [2.0]]
        """
        raise TypeError(f"{type(self).__name__} has no spectral atoms, so what needs them is not available for it")

    def population(self, seed, d) -> Population:
        """The directions behind one instance in dimension d; ``seed`` is an int, or a tuple of ints.

        >>> from quenched.laws import single
        >>> single().population(0, 50).targets.shape
        (50, 1)
        """
        raise TypeError(f"{type(self).__name__} has no population that samples could be drawn from")

    def sample(self, population: Population, seed, n) -> Instance:
        """n fresh samples of one population: a training set, or a test set for it.

        >>> from quenched.laws import single
        >>> law = single()
        >>> law.sample(law.population(0, 50), seed=1, n=3).x.shape
        (3, 1, 50)
        """
        raise TypeError(f"{type(self).__name__} cannot draw samples of a population")

    def draw(self, seed, n: int, d: int) -> Instance:
        """Draw n samples in dimension d; ``seed`` is an int, or a tuple of ints. ``TypeError`` for laws without samples.

        >>> from quenched.laws import single
        >>> found = single().draw(0, n=3, d=50)
        >>> found.x.shape, np.allclose(found.target[:, 0], found.x[:, 0] @ found.population.targets / np.sqrt(50))
        ((3, 1, 50), True)
        """
        raise TypeError(f"{type(self).__name__} cannot draw samples, so simulate and amp are not available for it")
