"""Features of a layer whose rows are spikes plus noise: conditionally Gaussian, given the inputs' field along the spike."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from quenched.laws.activation import Activation, activation, coefficients, hermite
from quenched.laws.base import Conjugates, Labels, Law, Overlaps
from quenched.laws.gradient_step import Spikes
from quenched.laws.index import IndexTarget, index_target
from quenched.numerics import check
from quenched.numerics.blocks import block_resolvent, block_response, symmetric
from quenched.numerics.gaussian import RANGE, panel_rule

#: Nodes of kappa: panels of this order, one of these numbers of them (a program is compiled for each), at most so wide in units of
#: the scale on which features vary with kappa.
_ORDER, _PANELS, _WIDE = 8, (17, 24, 34, 48, 68, 96, 136), 2.0


class Profile(NamedTuple):
    """What a neuron of each of the k groups does at C values of kappa, the inputs' field along the spike; z is standard normal.

    With ``h = spike kappa + scale z``: ``mu0 = E sigma(h)``, ``mu1 = E z sigma(h)``, ``mu22 = E (z^2 - 1) sigma(h) / 2``, and
    ``rest`` the variance of sigma(h) that is left, ``E sigma(h)^2 - mu0^2 - mu1^2``. All (C, k).
    """

    mu0: Any
    mu1: Any
    mu22: Any
    rest: Any


def profile(activation: Activation, spikes: Spikes, kappa) -> Profile:
    """The :class:`Profile` of an activation at ``kappa`` (C,)."""
    mean, variance = kappa[:, None] * spikes.spike, spikes.scale**2
    xp = jnp if check.traced(mean, variance) else np
    mean, variance = xp.broadcast_arrays(mean, variance[None])
    c = hermite(activation, 2, mean, variance)
    rest = coefficients(activation, mean, variance).kappa_star2
    return Profile(c[..., 0], c[..., 1] * xp.sign(spikes.scale), 0.5 * c[..., 2], rest)


def kappa_nodes(spikes: Spikes, target: IndexTarget, kinks=()) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights (C,) of a standard normal kappa, fine enough for the features and for the target's jumps and ``kinks``.

    Under a trace their number is fixed, and they are constants of the differentiation.
    """
    if check.traced(*spikes):
        breaks = np.linspace(-RANGE, RANGE, 41)
    else:
        steepest = np.max(np.abs(spikes.spike) / np.maximum(np.abs(spikes.scale), 1e-2), initial=0.0)
        count = next((n for n in _PANELS if n >= 2.0 * RANGE * steepest / _WIDE), _PANELS[-1])
        breaks = np.linspace(-RANGE, RANGE, count + 1)
        if kinks:
            # the outcome turns where alignment kappa + sqrt(1 - alignment^2) chi passes a kink: the sharper, the better aligned
            gamma = max(float(spikes.alignment), 1e-3)
            width = min(1.0, np.sqrt(max(1.0 - gamma**2, 0.0)) / gamma)
            steps = width * np.array([-6.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 6.0])
            ends = np.clip((np.asarray(kinks)[:, None] / gamma + steps).ravel(), -RANGE, RANGE)
            breaks = np.sort(np.concatenate([breaks, ends]))  # panels without length have no weight
    nodes, weights = panel_rule(breaks, _ORDER, xp=np)
    return nodes, weights / weights.sum()


class SpikedFeatures(Law):
    """Features ``sigma(w_i.x)`` of rows ``w_i = spike_l v + scale_l omega_i``: a law of the engine with a continuous label.

    The label is kappa = v.x, at C nodes. Given kappa, the readout ``h = a.phi / sqrt(p)`` is Gaussian; its mean runs along ``mu0``
    of each group, free of cost in high dimension, and along the components of the rows on v, on the target's directions and on
    their own length, each of variance O(1/d). The targets h_* are the inputs' fields ``theta_t.x``, or (``equivalent``) the
    outcome itself: a Gaussian number with the outcome's mean and covariances given kappa, which is all that the square loss sees.

    - ``activation``: as for :func:`quenched.laws.activation.activation`; ``target``: as for
      :func:`quenched.laws.index.index_target`.
    - ``spikes``: :class:`~quenched.laws.gradient_step.Spikes`; ``probabilities`` (k,) of the groups.
    - ``size``: p / d; ``width``: p, for the leading effect of a finite number of neurons, or None.
    - ``equivalent``: see above.

    k groups, T directions: covariances B = k (k + 1) / 2 (mu1 mu1') + k (rest) + k T (which only theta has) + 1 (which only the
    target has); mean directions A = k (mu0, along an orthonormal basis) + k (T + 1) (components) + k (lengths) + 1 (the target's
    mean).

    Source: H. Cui et al. (2024), arXiv:2402.04980; Y. Dandi et al. (2024), arXiv:2410.18938.
    """

    kappa: Any
    prob: Any
    profile: Profile
    spikes: Spikes
    groups: Any
    field: tuple  # mean (C,), at (t,), slope (C, T), along (T, t), variance (C,), spread (t, t)
    basis: tuple  # mu0 = directions (C, k) * sizes (k,) @ turn (k, k)
    size: Any
    width: Any
    free: tuple = eqx.field(static=True)

    def __init__(self, activation, target, spikes, size, probabilities=None, width=None, equivalent=False):
        act, target = _made(activation), index_target(target)
        k, T = len(spikes.spike), target.directions
        self.groups = _uniform(k) if probabilities is None else check.probabilities("probabilities", probabilities)
        self.size = size if check.traced(size) else np.asarray(check.positive("size", size))
        self.width = None if width is None else np.float64(check.integer("width", width))
        self.spikes = spikes
        self.kappa, self.prob = kappa_nodes(spikes, target, target.kinks)
        self.profile = profile(act, spikes, self.kappa)
        self.field = _outcome(target, spikes, self.kappa) if equivalent else _fields(target, spikes, self.kappa)
        self.basis = _basis(self.profile, self.prob)
        self.free = (True,) * k + (False,) * (k * (T + 2) + 1)

    @property
    def _pairs(self):
        return np.triu_indices(len(self.groups))

    @property
    def channels(self):
        """The functions of kappa (C, k (T + 2)) by which components along the directions, then lengths, enter the mean of h."""
        T = self.spikes.response.shape[1] - 1
        xp = _xp(*self.profile, *self.spikes)
        parts = [self.kappa[:, None] * self.profile.mu1 * self.spikes.response[:, j, 0] for j in range(T + 1)]
        parts[0] = parts[0] + 2.0 * self.spikes.stretch * self.profile.mu22
        return xp.concatenate([xp.stack(parts, axis=2).reshape(len(self.kappa), -1), self.profile.mu22], axis=1)

    @property
    def tilts(self):
        """By how much each of the :attr:`channels` answers the further directions chi_s, (C, k (T + 2), T)."""
        xp = _xp(*self.profile, *self.spikes)
        tilts = self.profile.mu1[:, :, None, None] * self.spikes.response[:, :, 1:]
        C, k, _, T = tilts.shape
        return xp.concatenate([tilts.reshape(C, -1, T), np.zeros((C, k, T))], axis=1)

    def mobility(self, g):
        """What a unit field on each of the :attr:`channels` makes of its sum over the readout (k (T + 2),), of the traces ``g``."""
        heads = self.size * self.groups * g
        xp = _xp(heads, *self.spikes)
        return xp.concatenate([(self.spikes.variance * heads[:, None]).reshape(-1), self.spikes.length * heads])

    def susceptibility(self, g, T):
        """V (C,) of the traces and the form of the resolvent."""
        mu1 = self.profile.mu1
        return self.profile.rest @ (self.groups * g) + jnp.einsum("cl,lm,cm->c", mu1, T, mu1) / self.size

    def labels(self) -> Labels:
        """kappa at its nodes (see the class for the order of means and covariances)."""
        mu1, (mean, _, slope, _, variance, _) = self.profile.mu1, self.field
        xp = _xp(*self.profile, *self.spikes, *self.field)
        a, b = self._pairs
        tilted = (mu1[:, :, None] * slope[:, None, :]).reshape(len(self.kappa), -1)
        means = xp.concatenate([self.basis[0], self.channels, mean[:, None]], axis=1)
        covs = xp.concatenate(
            [np.where(a == b, 1.0, 2.0) * mu1[:, a] * mu1[:, b], self.profile.rest, tilted, variance[:, None]], axis=1
        )
        return Labels(self.prob, means[:, None], covs[:, None], self.kappa)

    def targets(self) -> tuple:
        """``rho`` (B, t, t) and ``m_star`` (A, t), zero but for their last entries."""
        _, at, _, along, _, spread = self.field
        k, T, t = len(self.groups), len(along), len(at)
        B, xp = k * (k + 1) // 2 + k + k * T, _xp(at, spread)
        return xp.concatenate([np.zeros((B, t, t)), spread[None]]), xp.concatenate([np.zeros((len(self.free) - 1, t)), at[None]])

    def _hats(self, hats: Conjugates, ridge):
        """Ridges (k,) and A (k, k) of the block covariance."""
        k, (a, b) = len(self.groups), self._pairs
        half = hats.V_hat[: len(a), 0, 0] / np.where(a == b, 1.0, 2.0)
        A = symmetric(half, k)
        return ridge + hats.Q_hat[0, 0] + hats.V_hat[len(a) : len(a) + k, 0, 0], A

    def potential(self, hats: Conjugates, ridge):
        """Half the derivative of ``log det S / p`` along the other conjugates, S the block covariance of the conjugates of q."""
        k, (a, b) = len(self.groups), self._pairs
        ridges, A = self._hats(hats, ridge)
        g, T = block_resolvent(ridges, A, self.size * self.groups)
        fields = self._fields(hats)
        sums = self.groups * g * (hats.q_hat[len(a) : len(a) + k, 0, 0] + self._still(hats))
        bulk = jnp.sum(hats.q_hat[: len(a), 0, 0] * T[a, b]) / self.size
        return 0.5 * (jnp.sum(sums) + bulk + jnp.sum(fields * self._components(fields, g, A)))

    def overlaps(self, hats: Conjugates, ridge) -> Overlaps:
        """The gradient of :meth:`potential`, written out."""
        k, (a, b), beta = len(self.groups), self._pairs, self.size * self.groups
        ridges, A = self._hats(hats, ridge)
        blocks = block_resolvent(ridges, A, beta)
        g, T = blocks
        fields = self._fields(hats)
        components = self._components(fields, g, A)
        E = jnp.asarray(self.spikes.response)[:, :, 1:]
        tilts = jnp.einsum("lj,ljs->ls", components, E)
        rest = fields - jnp.einsum("ljs,lm,ms->lj", E, A, tilts)  # over D: what acts on each component but for the others
        pulls = self._still(hats) + self.size * jnp.sum(self.spikes.variance * rest**2, axis=1)
        half = hats.q_hat[: len(a), 0, 0] / np.where(a == b, 1.0, 2.0)
        d_A = symmetric(half, k)
        change = block_response(blocks, A, beta, hats.q_hat[len(a) : len(a) + k, 0, 0] + pulls, d_A)
        q_bulk = -change.T / self.size + tilts @ tilts.T
        q_rest = -self.groups * change.g
        none = jnp.zeros(hats.q_hat.shape[0] - len(a) - k)
        lengths = self.spikes.length * beta * g * hats.m_hat[-1 - k : -1, 0]
        constants = jnp.zeros(k)
        if self.width is not None:
            constants = self.width * self._on_basis(self.groups * g * self._mu0_hat(hats.m_hat[:k, 0]))
        turned = (tilts[:, :, None] * self.field[3]).reshape(tilts.size, -1)
        theta = jnp.zeros_like(hats.theta_hat[:, 0]).at[-1 - tilts.size : -1].set(turned)
        return Overlaps(
            V=jnp.concatenate([T[a, b] / self.size, self.groups * g, none])[:, None, None],
            q=jnp.concatenate([q_bulk[a, b], q_rest, none])[:, None, None],
            m=jnp.concatenate([constants, components.reshape(-1), lengths, jnp.zeros(1)])[:, None],
            theta=theta[:, None], Q=jnp.sum(q_rest)[None, None],
        )  # fmt: skip

    def _still(self, hats):
        """What the lengths of the rows, and constants of p neurons, add to the conjugates of the groups' own variance (k,)."""
        k = len(self.groups)
        found = self.size * self.spikes.length * hats.m_hat[-1 - k : -1, 0] ** 2
        return found if self.width is None else found + self.width * self._mu0_hat(hats.m_hat[:k, 0]) ** 2

    def _fields(self, hats):
        """Fields (k, T + 1) on the rows' components along v and the target's directions: their own, and those of theta."""
        k, T = len(self.groups), len(self.field[3])
        own = hats.m_hat[k : k + k * (T + 1), 0].reshape(k, T + 1)
        tilt = hats.theta_hat[-1 - k * T : -1, 0].reshape(k, T, -1)
        return own + jnp.einsum("ljs,lst,st->lj", self.spikes.response[:, :, 1:], tilt, self.field[3])

    def _components(self, fields, g, A):
        """The components that the fields make, which see one another through A: ``(1 / D + K)^-1 f``."""
        E = jnp.asarray(self.spikes.response)[:, :, 1:]
        D = self.mobility(g)[: fields.size]
        K = (jnp.einsum("ljs,mis->ljmi", E, E) * A[:, None, :, None]).reshape(len(D), len(D))
        return jnp.linalg.solve(jnp.eye(len(D)) + D[:, None] * K, D * fields.reshape(-1)).reshape(fields.shape)

    def _mu0_hat(self, hats):
        """Conjugates of ``m_l = sum_{i in l} a_i / sqrt(p)``, from those along the orthonormal basis."""
        _, sizes, turn = self.basis
        return (sizes * hats) @ turn

    def _on_basis(self, constants):
        _, sizes, turn = self.basis
        return sizes * (turn @ constants)

    def settle(self, m, step, hats: Conjugates, ridge, rate):
        """The free means after a step down their gradient (A, 1), as long as the curvature of the channel allows, and drawn back
        by what they cost at a finite width; their conjugates are set to that cost."""
        _, sizes, turn = self.basis
        k, seen = len(sizes), sizes > 0.0
        ridges, A = self._hats(hats, ridge)
        curvature = self._curvature(hats, rate)
        moved = m[:k, 0] - step[:k, 0] / curvature
        if self.width is None:
            return m.at[:k, 0].set(jnp.where(seen, moved, 0.0)), hats
        g = block_resolvent(ridges, A, self.size * self.groups).g
        heads = self.width * self.groups * g
        cost = (turn / (rate * curvature * heads)) @ turn.T
        over_size = jnp.linalg.solve(jnp.diag(jnp.where(seen, sizes**2, 1.0)) + cost, sizes * moved)
        pull = turn @ (over_size @ turn / heads) / jnp.where(seen, sizes, 1.0)
        hats = hats._replace(m_hat=hats.m_hat.at[:k, 0].set(jnp.where(seen, pull, 0.0)))
        return m.at[:k, 0].set(sizes * over_size), hats

    def relax(self, old, new, hats: Conjugates, rate):
        """The components and lengths after an update ``new``, of which they answer to themselves at once: else a strong response
        makes them overshoot."""
        k = len(self.groups)
        D = self.mobility(new.V[len(self._pairs[0]) :, 0, 0][:k] / self.groups)
        gram = (self.channels.T * self.prob) @ self.channels
        system = jnp.eye(len(D)) + rate * self._curvature(hats, rate) * D[:, None] * gram
        change = jnp.linalg.solve(system, (new.m - old.m)[k:-1, 0])
        return new._replace(m=new.m.at[k:-1, 0].set(old.m[k:-1, 0] + change))

    def _curvature(self, hats, rate):
        """The mean curvature of the channel, as the conjugates of q have it."""
        k, (a, b) = len(self.groups), self._pairs
        seen = jnp.sum(jnp.where(a == b, hats.V_hat[: len(a), 0, 0], 0.0)) + jnp.sum(hats.V_hat[len(a) : len(a) + k, 0, 0])
        return jnp.maximum(seen / (rate * jnp.sum(self.prob @ (self.profile.mu1**2 + self.profile.rest))), 1e-300)

    def means(self, m):
        """``m_l`` (k,) of the k groups from the overlaps ``m`` (A,): those of least norm that make the same mean of h."""
        _, sizes, turn = self.basis
        k = len(sizes)
        xp = _xp(m, sizes)
        return xp.where(sizes > 0.0, m[:k] / xp.where(sizes > 0.0, sizes, 1.0), 0.0) @ turn


_made = activation  # a parameter has its name


def _xp(*arrays):
    return jnp if check.traced(*arrays) else np


def _uniform(k):
    return np.full(k, 1.0 / k)


def _basis(profile, prob):
    """Functions (C, k), orthonormal in kappa, their sizes (k,) and a rotation (k, k): ``mu0 = functions * sizes @ turn``.

    Functions of size zero are zero: what is below 1e-12 of the features' own size. Derivatives by mu0 are those of the functions,
    at fixed sizes and rotation.
    """
    mu0, scale = profile.mu0, prob @ (profile.mu0**2 + profile.mu1**2 + profile.rest)
    xp = _xp(mu0)
    fixed = mu0
    if xp is jnp:
        from jax.lax import stop_gradient

        fixed, scale = stop_gradient((mu0, scale))
    _, sizes, turn = xp.linalg.svd(fixed * np.sqrt(prob)[:, None], full_matrices=False)
    sizes = xp.where(sizes > 1e-12 * xp.sqrt(xp.max(scale)), sizes, 0.0)
    return xp.where(sizes > 0.0, mu0 @ turn.T / xp.where(sizes > 0.0, sizes, 1.0), 0.0), sizes, turn


def _outcome(target, spikes, kappa):
    """The outcome as a Gaussian number given kappa (t = 1)."""
    mean, slope, variance = target.given(kappa, spikes.alignment)
    return mean, np.ones(1), slope, np.ones((target.directions, 1)), variance, np.ones((1, 1))


def _fields(target, spikes, kappa):
    """The fields of the target's T directions."""
    frame, gamma = target.frame, spikes.alignment
    xp = _xp(gamma)
    rest = xp.sqrt(xp.maximum(1.0 - gamma**2, 0.0))
    along = xp.concatenate([rest * frame[:1], frame[1:]])
    ones = np.ones(len(kappa))
    return kappa, gamma * frame[0], ones[:, None] * np.ones(len(frame)), along, ones, along.T @ along
