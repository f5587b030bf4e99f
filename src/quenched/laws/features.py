"""Readouts on features: a law that is known through two functions of the effective ridge."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from quenched.laws import sampling
from quenched.laws.base import Conjugates, Instance, Labels, Law, Overlaps, Population
from quenched.laws.spectrum import SpectralLaw
from quenched.laws.tokens import size_leaf
from quenched.numerics import check
from quenched.numerics.resolvent import Chain

_MISFIT = 3  # a random stream of its own
_INFINITE = 1e-12  # V_hat over the ridge, where nothing but the trace of Omega is left


class _Pair(eqx.Module):
    """Two functions of kappa as one."""

    D: Any
    A: Any

    def __call__(self, kappa):
        return self.D(kappa), self.A(kappa)

    def slopes(self, kappa):
        value, slope = jax.jvp(self, (kappa,), (jnp.ones_like(kappa),))
        return *value, *slope


class FeatureLaw(Law):
    """Gaussian features with covariance Omega (p, p), whose readout ``h = phi.w / sqrt(p)`` is trained against one target h_*.

    - ``D``: ``tr Omega (Omega + kappa)^-1 / p``, a JAX function of kappa > 0: the effective number of directions *per feature*.
    - ``A``: ``u^T (Omega + kappa)^-1 u`` with ``u = Cov(phi, h_*)``.
    - ``size``: p / d, features per input dimension. ``alpha`` stays n / d; the engine divides by the size.
    - ``rho``: the variance of h_*. By default ``A(0)``, so that the features hold all of the target: then A must be right at 0.
    - ``noise``: a mixture of normal noises on the target, ``(weights (C,), variances (C,))``: target and outcome are one.
    - ``intercept``: whether an unpenalised constant is added to h. Features whose mean is not zero train as if there were one.

    Instead of D and A, ``chain=`` takes a :class:`~quenched.numerics.resolvent.Chain`, which knows both.
    Order parameters: ``q`` = Var h, ``theta`` = Cov(h, h_*), ``Q`` = w.w / p. Potential, with ``kappa = (ridge + Q_hat) / V_hat``:
    ``[q_hat D(kappa) + theta_hat^2 A(kappa)] / (2 V_hat)``.

    A law of a chain without layers draws Gaussian surrogates of its features; any other is theory only.
    Source: B. Loureiro et al. (2021), arXiv:2102.08127; D. Schroeder et al. (2023), arXiv:2302.00401.

    >>> import quenched as qn
    >>> law = qn.laws.FeatureLaw(lambda kappa: 1 / (1 + kappa), lambda kappa: 1 / (1 + kappa), size=1.0)  # isotropic inputs
    >>> ridge = qn.SequenceProblem(law, "square", alpha=2.0, weight_decay=0.1, response=qn.losses.Additive(0.1))
    >>> round(ridge.solve()["theta"].item(), 10)
    0.915571123
    """

    functions: Any
    rho: Any
    size: Any
    noise: Any  # None, or the weights and the variances of a mixture: a second covariance, which no weight sees
    free: tuple = eqx.field(static=True)

    def __init__(self, D=None, A=None, size=1.0, rho=None, intercept=False, *, chain=None, noise=None):
        if (chain is None) == (D is None and A is None):
            raise ValueError("D and A, or chain, must be given: two functions of kappa, or a Chain that knows both")
        if chain is not None:
            if not isinstance(chain, Chain):
                raise ValueError(f"chain must be a quenched.numerics.resolvent.Chain, got {type(chain).__name__}")
            self.functions = chain
        else:
            for name, fn in (("D", D), ("A", A)):
                if not callable(fn):
                    raise ValueError(f"{name} must be a function of kappa, got {fn!r}")
            self.functions = _Pair(*(fn if isinstance(fn, eqx.Module) else Partial(fn) for fn in (D, A)))
        if not isinstance(intercept, (bool, np.bool_)):
            raise ValueError(f"intercept must be True or False, got {intercept!r}")
        if rho is None:
            rho = _at_zero(self.functions)
        self.rho = rho if check.traced(rho) else np.asarray(check.positive("rho", rho))
        self.size, self.free = size_leaf(size), (True,) * bool(intercept)
        if noise is not None:
            weights, variances = check.probabilities("noise", noise[0]), check.array("noise", noise[1])
            noise = weights, check.array("noise", variances, shape=np.shape(weights))
            if np.any(variances < 0.0):
                raise ValueError(f"noise must have variances of at least 0, got {variances.tolist()}")
        self.noise = noise

    @property
    def chain(self) -> Chain | None:
        """The chain behind D and A, or None."""
        return self.functions if isinstance(self.functions, Chain) else None

    def labels(self) -> Labels:
        """One label, or one for each component of the noise."""
        A = len(self.free)
        if self.noise is None:
            return Labels(np.ones(1), np.ones((1, 1, A)), np.ones((1, 1, 1)), np.zeros(1, dtype=int))
        weights, variances = self.noise
        C, xp = len(weights), jnp if check.traced(variances) else np
        return Labels(weights, np.ones((C, 1, A)), xp.stack([xp.ones(C), variances], -1)[:, None], np.zeros(C, dtype=int))

    def targets(self) -> tuple:
        """``rho`` (B, 1, 1) and ``m_star`` (A, 1) = 0; B = 2 where there is noise, of variance one in its own covariance."""
        xp = jnp if check.traced(self.rho) else np
        rho = xp.reshape(self.rho, (1, 1, 1))
        return rho if self.noise is None else xp.concatenate([rho, np.ones((1, 1, 1))]), np.zeros((len(self.free), 1))

    def potential(self, hats: Conjugates, ridge):
        """The scalar potential (see the class) for one unit; ``ridge`` may be complex where D and A may."""
        ridge = ridge + hats.Q_hat[0, 0]
        V_hat = jnp.maximum(hats.V_hat[0, 0, 0], _INFINITE * ridge) if not jnp.iscomplexobj(ridge) else hats.V_hat[0, 0, 0]
        D, A = self.functions(ridge / V_hat)
        return 0.5 * (hats.q_hat[0, 0, 0] * D + hats.theta_hat[0, 0, 0] ** 2 * A) / V_hat

    def overlaps(self, hats: Conjugates, ridge) -> Overlaps:
        """The gradient of :meth:`potential`, written out."""
        ridge = ridge + hats.Q_hat[0, 0]
        V_hat = jnp.maximum(hats.V_hat[0, 0, 0], _INFINITE * ridge)
        kappa, q_hat, theta_hat = ridge / V_hat, hats.q_hat[0, 0, 0], hats.theta_hat[0, 0, 0]
        D, A, dD, dA = self.functions.slopes(kappa)
        q = (q_hat * (D + kappa * dD) + theta_hat**2 * (A + kappa * dA)) / V_hat**2
        Q = -(q_hat * dD + theta_hat**2 * dA) / V_hat**2
        one = jnp.zeros_like(hats.q_hat).at[0].set(1.0)
        return Overlaps(V=D / V_hat * one, q=q * one, m=jnp.zeros_like(hats.m_hat), theta=theta_hat * A / V_hat * one, Q=Q * one[0])

    def population(self, seed, d) -> Population:
        """p = round(size d) features in their eigenbasis, and the part of the target that is linear in them."""
        chain = self.chain
        if chain is None or chain.layers or self.noise is not None:
            raise TypeError("FeatureLaw draws surrogates only from a chain without layers (the covariance of given features), and "
                            "without noise of its own")  # fmt: skip
        omega = np.asarray(chain.eigenvalues)
        gram = np.where(omega > 0.0, chain.target / np.where(omega > 0.0, omega, 1.0) ** 2, 0.0)
        spectrum = SpectralLaw(chain.weights, omega, gram[:, None, None])
        covariances, targets = sampling.place_atoms(seed, spectrum, max(1, round(float(self.size) * check.integer("d", d))))
        means = np.zeros((len(self.free), len(targets)))
        return Population(covariances, means, targets, sampling.numpy_labels(self.labels()))

    def sample(self, population: Population, seed, n) -> Instance:
        """n Gaussian features and targets; what the features do not hold of the target is noise of its own."""
        instance = sampling.sample(population, self.free, seed, n)
        held = np.sum(population.covariances[0] * population.targets[:, 0] ** 2) / len(population.targets)
        rest = np.sqrt(max(0.0, float(self.rho) - held))
        noise = sampling.generator(_MISFIT, seed).standard_normal(instance.target.shape)
        return instance._replace(target=instance.target + rest * noise)

    def draw(self, seed, n, d) -> Instance:
        """``sample(population(seed, d), seed, n)``: n samples of round(size d) features; NumPy float64."""
        return self.sample(self.population(seed, d), seed, n)


def _at_zero(functions) -> float:
    from quenched.numerics.precision import float64

    layered = isinstance(functions, Chain) and functions.layers
    with float64(True):  # the recursion of layers has no kappa = 0
        value = float(functions(jnp.asarray(1e-12 * float(functions.mean_eigenvalue) if layered else 0.0))[1])
    if not np.isfinite(value) or value <= 0.0:
        raise ValueError(f"rho must be given, the variance of the target: A(0) is no positive number, got {value}")
    return value
