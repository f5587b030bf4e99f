"""The law of the outcome given the target's pre-activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr

from ..numerics import check
from .base import answer, takes


class Response(eqx.Module):
    """How the outcome ``y`` (the loss's ``label``) is drawn given ``h_* = x w_* / sqrt(d)``, of shape (L, t).

    Either *discrete*: ``outcomes`` and ``probability(y, mean, cov)``, the probability of y when ``h_*`` is Gaussian
    with that mean (L, t) and covariance (L, t, t), so that theories sum over y and never integrate over a jump;
    or *additive*: ``y = h_* + sqrt(additive_variance) z``; or a *link*: :meth:`outcome`, any real function of ``h_*`` and z.

    >>> Sign(0.0).outcomes.tolist(), Additive(0.1).outcomes, Additive(0.25).additive_variance
    ([-1.0, 1.0], None, 0.25)
    """

    @property
    def linked(self) -> bool:
        """Whether the outcome is the real number :meth:`outcome`."""
        return False

    @property
    def outcomes(self) -> np.ndarray | None:
        """The possible outcomes, or None where the outcome is a real number."""
        return None

    @property
    def additive_variance(self):
        """The variance of the Gaussian noise on the outcome, or None where the outcome is discrete."""
        return None

    def probability(self, y, mean, cov):
        """P(y) for Gaussian ``h_*`` of ``mean`` (L, t) and covariance ``cov`` (L, t, t); ``TypeError`` for real outcomes.

        >>> round(float(Sign(0.0).probability(1.0, np.ones((1, 1)), np.ones((1, 1, 1)))), 5)  # Phi(1)
        0.84134
        """
        raise TypeError(f"{type(self).__name__} has no discrete outcomes")

    def outcome(self, target, z):
        """The real outcome at ``h_*`` (L, t) and a standard normal number z.

        >>> Link(lambda target: target[0, 0] ** 2, 0.25).outcome(np.array([[3.0]]), z=1.0).item()
        9.5
        """
        raise TypeError(f"{type(self).__name__} is no function of the target and one normal number")

    def draw(self, rng: np.random.Generator, target: np.ndarray) -> np.ndarray:
        """One outcome for each of the n samples ``target`` (n, L, t).

        >>> Sign(0.0).draw(np.random.default_rng(0), np.array([[[0.5]], [[-2.0]]])).tolist()
        [1.0, -1.0]
        """
        raise NotImplementedError


class Additive(Response):
    """``y = h_* + sqrt(noise) z`` with ``z`` standard normal; ``noise`` is a variance.

    >>> Additive(0.25).draw(np.random.default_rng(0), np.zeros((2, 1, 1))).round(3).ravel().tolist()
    [0.063, -0.066]
    """

    noise: Any = 0.0

    def __post_init__(self):
        object.__setattr__(self, "noise", check.nonnegative("noise", self.noise))

    @property
    def additive_variance(self):
        return self.noise

    def draw(self, rng, target):
        return target + np.sqrt(self.noise) * rng.standard_normal(target.shape)


class NoiseMixture(Response):
    """``y = h_* + sqrt(variance_k) z``, the component k with its weight: noise with outliers, for :class:`DeepFeatures`.

    >>> round(NoiseMixture([0.8, 0.2], [0.05, 4.0]).variance, 12)
    0.84
    """

    weights: Any
    variances: Any

    def __post_init__(self):
        weights, variances = check.probabilities("weights", self.weights), check.array("variances", self.variances)
        check.array("variances", variances, shape=weights.shape)
        if np.any(variances < 0.0):
            raise ValueError(f"variances must be non-negative, got {variances.tolist()}")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "variances", variances)

    @property
    def variance(self) -> float:
        """The variance of the noise."""
        return float(self.weights @ self.variances)

    @property
    def additive_variance(self):
        raise TypeError("NoiseMixture is a response of quenched.problems.DeepFeatures only, whose law has a place for it")

    def draw(self, rng, target):
        k = rng.choice(len(self.weights), target.shape, p=self.weights)
        return target + np.sqrt(self.variances)[k] * rng.standard_normal(target.shape)


def _step_cdf(x, variance):
    """P(x + sqrt(variance) z > 0), also at variance = 0."""
    positive = variance > 0.0
    scale = jnp.sqrt(jnp.where(positive, variance, 1.0))
    return jnp.where(positive, ndtr(x / scale), 0.5 * (1.0 + jnp.sign(x)))


class Sign(Response):
    """``y = sign(h_* + sqrt(noise) z)`` of a single target (L = t = 1): ``P(y) = Phi(y mean / sqrt(cov + noise))``.

    >>> float(Sign(0.0).probability(1.0, np.zeros((1, 1)), np.ones((1, 1, 1))))
    0.5
    """

    noise: Any = 0.0

    def __post_init__(self):
        object.__setattr__(self, "noise", check.nonnegative("noise", self.noise))

    @property
    def outcomes(self):
        return np.array([-1.0, 1.0])

    def probability(self, y, mean, cov):
        return _step_cdf(y * mean[0, 0], cov[0, 0, 0] + self.noise)

    def draw(self, rng, target):
        z = rng.standard_normal(target.shape[0])
        return np.where(target[:, 0, 0] + np.sqrt(self.noise) * z >= 0, 1.0, -1.0)


class Probit(Sign):
    """``P(y = 1 | h_*) = Phi(h_* / sqrt(1 + noise))``: a sign seen through unit noise, and ``noise`` more.

    >>> round(float(Probit(0.0).probability(1.0, np.ones((1, 1)), np.zeros((1, 1, 1)))), 5)  # Phi(1)
    0.84134
    """

    def probability(self, y, mean, cov):
        return _step_cdf(y * mean[0, 0], cov[0, 0, 0] + 1.0 + self.noise)

    def draw(self, rng, target):
        z = rng.standard_normal(target.shape[0])
        return np.where(target[:, 0, 0] + np.sqrt(1.0 + self.noise) * z >= 0, 1.0, -1.0)


class Flip(Response):
    """``y = sign(h_*)``, flipped with probability ``probability_of_flip`` in [0, 1/2].

    >>> float(Flip(0.125).probability(-1.0, np.ones((1, 1)), np.zeros((1, 1, 1))))
    0.125
    """

    probability_of_flip: Any

    def __post_init__(self):
        eps = check.scalar("probability_of_flip", self.probability_of_flip, 0.0, 0.5)
        object.__setattr__(self, "probability_of_flip", eps)

    @property
    def outcomes(self):
        return np.array([-1.0, 1.0])

    def probability(self, y, mean, cov):
        eps = self.probability_of_flip
        return eps + (1.0 - 2.0 * eps) * _step_cdf(y * mean[0, 0], cov[0, 0, 0])

    def draw(self, rng, target):
        flip = np.where(rng.random(target.shape[0]) < self.probability_of_flip, -1.0, 1.0)
        return flip * np.where(target[:, 0, 0] >= 0, 1.0, -1.0)


class Finite(Response):
    """Any finite set of outcomes: ``values`` (K,) and ``rule(y, mean, cov) -> P(y)`` for Gaussian ``h_*``.

    ``rule`` is JAX code, right for a covariance of zero too (there it is the law of y given ``h_*``, which the
    experiment draws from). Its values over y must sum to one, and a covariance must average them: problems check both.

    >>> from jax.scipy.special import ndtr  # of a logistic or other link: the average by quadrature
    >>> above = Finite([0, 1], lambda y, mean, cov: ndtr((2 * y - 1) * mean[0, 0] / jnp.sqrt(0.1 + cov[0, 0, 0])))
    >>> above.table(np.zeros((1, 1, 1))).tolist()
    [[0.5, 0.5]]
    """

    values: Any
    rule: Callable = eqx.field(static=True)

    def __post_init__(self):
        values = np.asarray(self.values)
        if values.ndim != 1 or values.size < 2:
            raise ValueError(f"values must be a vector of at least two outcomes, got {self.values!r}")
        object.__setattr__(self, "values", values)

    @property
    def outcomes(self):
        return self.values

    def probability(self, y, mean, cov):
        return self.rule(y, mean, cov)

    def table(self, mean, cov=None) -> np.ndarray:
        """P(y) for n Gaussian targets, (n, K): ``mean`` (n, L, t), ``cov`` (n, L, t, t), None for zero.

        ``ValueError`` where these are no probabilities, or do not sum to one (within 1e-6).
        """
        from ..numerics.precision import float64

        with float64(True):
            mean = jnp.asarray(mean)
            cov = jnp.zeros((*mean.shape, mean.shape[-1])) if cov is None else jnp.asarray(cov)
            one = jax.vmap(self.rule, in_axes=(0, None, None))
            table = np.asarray(jax.vmap(lambda m, c: one(jnp.asarray(self.values), m, c))(mean, cov))
        if table.shape != (len(mean), len(self.values)):
            raise ValueError(f"rule must return one number, got the shape {table.shape[2:]}")
        if not (np.all(table > -1e-6) and np.abs(table.sum(1) - 1.0).max(initial=0.0) < 1e-6):
            raise ValueError("rule must give non-negative probabilities that sum to one over values")
        return table

    def draw(self, rng, target):
        table = self.table(target)
        return self.values[(rng.random(len(target))[:, None] > np.cumsum(table, axis=1)[:, :-1]).sum(axis=1)]


class Link(Response):
    """``y = link(h_*) + sqrt(noise) z``, one real outcome a sample, for any JAX function ``link`` of ``h_*`` (L, t).

    For smooth links and losses: theories interpolate in y, so that a committee of t targets costs one dimension and not t + 1.

    >>> Link(lambda target: target[0, 0] ** 2, 0.0).draw(np.random.default_rng(0), np.full((2, 1, 1), 3.0)).tolist()
    [9.0, 9.0]
    """

    link: Callable = eqx.field(static=True)
    noise: Any = 0.0

    def __post_init__(self):
        if not callable(self.link):
            raise ValueError(f"link must be a function of the target (L, t), got {self.link!r}")
        takes("link", self.link, "target")
        object.__setattr__(self, "noise", check.nonnegative("noise", self.noise))

    @property
    def linked(self):
        return True

    def clean(self, target):
        """The outcome without its noise.

        >>> Link(lambda target: target[0, 0] ** 2, noise=0.25).clean(np.array([[3.0]])).item()
        9.0
        """
        value = jnp.asarray(answer("link", self.link, target))
        value = value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(target.dtype)
        if value.shape != ():
            raise ValueError(f"link must return a single number for one sample, got an array of shape {value.shape}")
        return value

    def outcome(self, target, z):
        return self.clean(target) + jnp.sqrt(self.noise) * z

    def draw(self, rng, target):
        from ..numerics.precision import float64

        with float64(True):
            return np.asarray(_drawn(self, target, rng.standard_normal(len(target))))


@jax.jit
def _drawn(response, target, z):
    return jax.vmap(response.outcome)(target, z)
