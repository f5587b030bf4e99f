"""Deterministic equivalents of sample-covariance resolvents, and of covariances that layers of random weights make.

For n samples of p features with covariance Omega, ``Sigma = X^T X / n`` behaves like Omega with a larger ridge:

    zeta (Sigma + zeta)^-1  ~  kappa (Omega + kappa)^-1,       zeta = kappa (1 - D(kappa) / n),   D = tr Omega (Omega + kappa)^-1.

The covariance of a random layer is a "sample covariance" with p_l samples of the layer before it, so one effective ridge a
layer, kappa_0 .. kappa_L, gives the averages over all weights. Read from the inputs on, the recursion is explicit:

    kappa_l = k1^2 kappa_{l-1} (p_l - D_{l-1}) / p_{l-1} - k*^2,        D_l = p_l - p_{l-1} kappa_l / (k1^2 kappa_{l-1}),

with the coefficients k1, k* of the layer's activation. What is conserved from layer to layer is the resolvent of a direction
of the input, ``A = v^T (Omega_0 + kappa_0)^-1 v``.

Sources: D. Schroeder, H. Cui, D. Dmitriev, B. Loureiro (2023), arXiv:2302.00401, and D. Schroeder, D. Dmitriev, H. Cui,
B. Loureiro (2024), arXiv:2402.13999, for the layers; V. Marchenko, L. Pastur (1967) and J. Silverstein (1995) for one of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from . import check

#: Where the effective ridge of the inputs is looked for: its logarithm.
_LOW, _HIGH = -60.0, 60.0


class Layer(eqx.Module):
    """One layer of averaged weights.

    - ``ratio``: its width over that of the layer before, p_l / p_{l-1}.
    - ``prob`` (N,), ``slope2`` (N,), ``noise`` (N,): the law over its neurons of ``kappa_1^2`` and ``kappa_*^2`` (N = 1 where all
      neurons are alike).
    - ``weights`` (K,), ``rows`` (K,): the spectrum of the covariance C of the next layer's weights (K = 1 for multiples
      of the identity). Either N or K is 1.

    >>> layer = Layer(ratio=2.0, slope2=1.0, noise=0.0)  # a linear layer, twice as wide as what it sees
    >>> layer.prob.tolist(), layer.rows.tolist()
    ([1.0], [1.0])
    """

    ratio: Any
    prob: Any
    slope2: Any
    noise: Any
    weights: Any
    rows: Any

    def __init__(self, ratio, slope2, noise, prob=None, weights=None, rows=None):
        def vector(name, value):
            return jnp.atleast_1d(value) if check.traced(value) else np.atleast_1d(check.array(name, value))

        self.ratio = ratio if check.traced(ratio) else np.asarray(check.positive("ratio", ratio))
        self.slope2, self.noise = vector("slope2", slope2), vector("noise", noise)
        self.prob = np.ones(1) if prob is None else vector("prob", prob)
        self.rows = np.ones(1) if rows is None else vector("rows", rows)
        self.weights = np.full(len(self.rows), 1.0 / len(self.rows)) if weights is None else vector("weights", weights)
        if len(self.prob) > 1 and len(self.rows) > 1:
            raise ValueError("rows must be a single number where neurons differ (biases, or features with a mean), "
                             f"got {len(self.rows)} and {len(self.prob)} kinds of neurons")  # fmt: skip

    def onward(self, kappa, freedom, guess=None):
        """``(kappa, D / width)`` of this layer from those of the layer before; kappa is not positive where there is none.

        A complex ``kappa`` needs ``guess``, a value near the result.

        >>> kappa, freedom = Layer(ratio=2.0, slope2=1.0, noise=0.0).onward(1.0, 0.5)
        >>> float(kappa), float(freedom)
        (1.5, 0.25)
        """
        if len(self.rows) == 1 and len(self.prob) == 1:
            slope2, noise = self.slope2[0], self.noise[0]
            scale = noise + slope2 * kappa * freedom
            bare = self.ratio * slope2 * kappa - scale
            return self.rows[0] * bare, scale / (self.ratio * slope2 * kappa)
        if len(self.rows) == 1:
            base = self.noise + kappa * freedom * self.slope2
            bare = harmonic_root(self.prob * self.slope2, base, self.ratio * kappa, None if guess is None else guess / self.rows[0])
            return self.rows[0] * bare, jnp.sum(self.prob * base / (base + bare))
        scale = self.noise[0] + self.slope2[0] * kappa * freedom
        freedom = scale / (self.ratio * self.slope2[0] * kappa)
        share = harmonic_root(self.weights * self.rows, self.rows, 1.0 / freedom, None if guess is None else guess / scale)
        return scale * share, freedom


def harmonic_root(weights, base, value, guess=None):
    """x with ``1 / sum weights / (base + x) = value``: for positive arrays (N,) the left side is concave and increasing.

    Newton's method from the left rises to the root and cannot pass it. Where x would be negative, a negative number comes back.
    Derivatives are those of the root. A complex ``value`` needs a ``guess``.

    >>> with jax.enable_x64(True):
    ...     round(float(harmonic_root(jnp.array([1.0]), jnp.array([2.0]), 5.0)), 12)
    3.0
    """

    def step(x, weights, base, value):
        sums = jnp.sum(weights / (base + x))
        return x + sums / jnp.sum(weights / (base + x) ** 2) * (value * sums - 1.0)

    fixed = jax.tree.map(jax.lax.stop_gradient, (weights, base, value))
    start = jnp.zeros_like(fixed[2]) if guess is None else jax.lax.stop_gradient(guess)

    def body(state):
        x, _, count = state
        new = step(x, *fixed)
        return new, jnp.abs(new - x) > 1e-13 * jnp.abs(new), count + 1

    x = jax.lax.while_loop(lambda s: s[1] & (s[2] < 100) & (jnp.real(s[0]) > -1e300), body, (start, jnp.array(True), 0))[0]
    x = jax.lax.stop_gradient(x)
    if guess is None:  # there is no positive root
        x = jnp.where(value * jnp.sum(weights / base) < 1.0, -1.0, x)
        return jnp.where(x < 0.0, -1.0, step(step(jnp.maximum(x, 0.0), weights, base, value), weights, base, value))
    return step(step(x, weights, base, value), weights, base, value)


class Chain(eqx.Module):
    """Features of width p behind a list of random layers: the two functions ``D(kappa)/p`` and ``A(kappa)`` that a readout sees.

    - ``weights`` (S,), ``eigenvalues`` (S,): the spectrum of the first matrix M_0: of the features' own covariance where there are
      no layers, else of the inputs' covariance as the first layer's weights see it, ``C_1^{1/2} Omega_0 C_1^{1/2}``.
    - ``target`` (S,): for each atom the squared projections ``sum_i v_i^2`` of the target's direction,
      ``A_0(kappa_0) = sum_s target_s / (eigenvalues_s + kappa_0)``.
    - ``layers``: a tuple of :class:`Layer`.
    - ``shared``: the layer after which the target has weights of its own, 0 for one that shares the inputs only; then
      ``A = strength [variance - kappa_s D_s / p_s]`` with the features' variance ``tr Omega_s / p_s`` at that layer.

    >>> chain = Chain([1.0], [1.0], [1.0])
    >>> with jax.enable_x64(True):
    ...     [float(v) for v in chain(1.0)]
    [0.5, 0.5]
    """

    weights: Any
    eigenvalues: Any
    target: Any
    layers: tuple = ()
    strength: Any = 0.0
    variance: Any = 0.0
    shared: int = eqx.field(static=True, default=0)

    def __post_init__(self):
        self.weights = check.probabilities("weights", self.weights)
        for name in ("eigenvalues", "target"):
            setattr(self, name, check.array(name, getattr(self, name), shape=self.weights.shape))
            if not check.traced(getattr(self, name)) and np.any(getattr(self, name) < 0.0):
                raise ValueError(f"{name} must be non-negative, got {np.min(getattr(self, name)):.6g}")
        if not 0 <= self.shared <= len(self.layers):
            raise ValueError(f"shared must be at most the number of layers, {len(self.layers)}, got {self.shared}")

    @property
    def mean_eigenvalue(self):
        """``tr Omega / p`` of the features (times the mean of the rows' covariance, where the last layer has one)."""
        mean = self.weights @ self.eigenvalues
        for layer in self.layers:
            mean = (layer.prob @ (layer.slope2 * mean + layer.noise)) * (layer.weights @ layer.rows)
        return mean

    def forward(self, kappa, guess=None):
        """``(kappa_L, D_L / p_L, A)`` from the effective ridge of the first matrix; kappa_L = -1 where there is none.

        ``guess`` holds the kappa_l of all layers nearby; it is needed for complex numbers.

        >>> chain = Chain([1.0], [1.0], [1.0], (Layer(2.0, 1.0, 0.0),))
        >>> with jax.enable_x64(True):
        ...     [float(v) for v in chain.forward(1.0)]
        [1.5, 0.25, 0.5]
        """
        freedom = jnp.sum(self.weights * self.eigenvalues / (self.eigenvalues + kappa))
        A = jnp.sum(self.target / (self.eigenvalues + kappa))
        possible, trace = jnp.array(True), [kappa]
        for index, layer in enumerate(self.layers):
            near = None if guess is None else guess[index + 1]
            following, freedom = layer.onward(kappa, freedom, near)
            if guess is None:
                possible &= following > 0.0
                following = jnp.where(possible, following, 1.0)  # any positive number: the result is thrown away
                freedom = jnp.where(possible, freedom, 0.5)
            kappa = following
            trace.append(kappa)
            if index + 1 == self.shared:
                A = self.strength * (self.variance - kappa * freedom)
        if guess is not None:
            return kappa, freedom, A, jnp.stack(trace)
        return jnp.where(possible, kappa, -1.0), freedom, A

    def root(self, height, order: int = 2):
        """The effective ridge of the first matrix at which an increasing ``height(kappa_L, D_L / p_L)`` is zero.

        >>> chain = Chain([1.0], [1.0], [1.0], (Layer(2.0, 1.0, 0.0),))
        >>> with jax.enable_x64(True):
        ...     round(float(chain.root(lambda kappa, freedom: kappa - 1.5)), 12)
        1.0
        """

        def residual(log_kappa):
            kappa, freedom, _ = self.forward(jnp.exp(log_kappa))
            return jnp.where(kappa > 0.0, height(jnp.where(kappa > 0.0, kappa, 1.0), freedom), -1.0)

        return jnp.exp(increasing_root(residual, _LOW, _HIGH, order))

    def first(self, kappa, order: int = 2):
        """The effective ridge of the first matrix that belongs to ``kappa`` of the features.

        >>> chain = Chain([1.0], [1.0], [1.0], (Layer(2.0, 1.0, 0.0),))
        >>> with jax.enable_x64(True):
        ...     round(float(chain.first(1.5)), 12)
        1.0
        """
        if not self.layers:
            return kappa
        log = jnp.log(kappa)
        return self.root(lambda found, _: jnp.log(found) - log, order)

    def __call__(self, kappa):
        """``(D / p, A)`` at the effective ridge ``kappa`` of the features."""
        return self.forward(self.first(kappa))[1:]

    def slopes(self, kappa):
        """``(D / p, A, D' / p, A')`` at the effective ridge ``kappa`` of the features; to be differentiated once at most.

        >>> with jax.enable_x64(True):
        ...     [round(float(v), 12) for v in Chain([1.0], [1.0], [1.0]).slopes(1.0)]
        [0.5, 0.5, -0.25, -0.25]
        """
        return self._with_slopes(self.first(kappa, order=1))[1:]

    def _with_slopes(self, first):
        (kappa, freedom, A), slopes = jax.jvp(self.forward, (first,), (jnp.ones_like(first),))
        return kappa, freedom, A, slopes[1] / slopes[0], slopes[2] / slopes[0]

    def at_ridge(self, zeta, aspect):
        """``(kappa, D / p, A, D', A')`` at a ridge zeta of the sample covariance of n = p / aspect rows, the root kappa > 0 of
        ``zeta = kappa (1 - aspect D / p)``; primes are derivatives in kappa. ``zeta = 0`` needs n below the rank.

        >>> with jax.enable_x64(True):
        ...     [round(float(v), 12) for v in Chain([1.0], [1.0], [1.0]).at_ridge(0.5, 1.0)]
        [1.0, 0.5, 0.5, -0.25, -0.25]
        """

        def height(kappa, freedom):
            rest = 1.0 - aspect * freedom
            inside = (rest > 0.0) & (zeta > 0.0)  # nearly a straight line in the logarithm of the first matrix's ridge
            logarithm = jnp.log(jnp.where(inside, rest * kappa, 1.0)) - jnp.log(jnp.where(zeta > 0.0, zeta, 1.0))
            return jnp.where(inside, logarithm, jnp.where(zeta > 0.0, -1.0, rest))

        return self._with_slopes(self.root(height))


def increasing_root(fn, low, high, order: int = 2, steps: int = 200):
    """The root of an increasing function of one number in [low, high], by Newton's method inside a shrinking bracket.

    Derivatives with respect to what ``fn`` closes over are those of the root, up to the first (``order`` 1) or third (2). If
    ``fn`` has one sign, the end nearest to its root comes back.

    >>> with jax.enable_x64(True):
    ...     round(float(increasing_root(lambda x: x**2 - 2.0, 0.0, 2.0)), 12)
    1.414213562373
    """

    def body(state):
        x, low, high, _, count = state
        value, slope = jax.jvp(fn, (x,), (jnp.ones_like(x),))
        value, slope = jax.lax.stop_gradient((value, slope))
        low, high = jnp.where(value > 0.0, low, x), jnp.where(value > 0.0, x, high)
        new = x - value / jnp.where(slope > 0.0, slope, 1.0)
        new = jnp.where((slope > 0.0) & (new >= low) & (new <= high), new, 0.5 * (low + high))
        return new, low, high, jnp.abs(new - x) > 4e-16 * (1.0 + jnp.abs(x)), count + 1

    low, high = jnp.asarray(low, float), jnp.asarray(high, float)
    start = 0.5 * (low + high)
    x = jax.lax.while_loop(lambda s: s[3] & (s[4] < steps), body, (start, low, high, jnp.array(True), 0))[0]
    x = jax.lax.stop_gradient(x)
    for _ in range(order):  # a step that starts with n right derivatives ends with 2 n + 1
        value, slope = jax.jvp(fn, (x,), (jnp.ones_like(x),))
        x = x - value / jnp.where(slope > 0.0, slope, jnp.inf)
    return x


class Dimensions(NamedTuple):
    """Effective numbers of directions of p features at ``kappa``: ``df1 = tr Omega (Omega + kappa)^-1`` and
    ``df2 = tr Omega^2 (Omega + kappa)^-2``.

    >>> found = effective_dimensions([1.0, 1.0], kappa=1.0)
    >>> float(found.kappa), float(found.df1), float(found.df2)
    (1.0, 1.0, 0.5)
    """

    kappa: np.ndarray
    df1: np.ndarray
    df2: np.ndarray


def effective_dimensions(eigenvalues, kappa) -> Dimensions:
    """df1 and df2 of a covariance with the ``eigenvalues`` (p,) at effective ridges ``kappa`` (any shape).

    >>> found = effective_dimensions([1.0, 3.0], 1.0)
    >>> float(found.df1), float(found.df2)
    (1.25, 0.8125)
    """
    omega = check.array("eigenvalues", eigenvalues, ndim=1)
    kappa = check.array("kappa", kappa)
    share = omega / (omega + kappa[..., None])
    return Dimensions(kappa, share.sum(axis=-1), (share**2).sum(axis=-1))


def effective_ridge(eigenvalues, samples, zeta) -> np.ndarray:
    """kappa with ``zeta = kappa (1 - D(kappa) / n)``, for arrays ``samples`` and ``zeta`` of one shape.

    - ``eigenvalues`` (p,) of the covariance; ``samples`` n > 0; ``zeta`` >= 0, the ridge added to the sample covariance.

    At ``zeta = 0`` it is the limit: 0 where n is at least the rank, else the root of ``D = n``.

    >>> effective_ridge(np.ones(4), samples=2, zeta=0.0).item()
    1.0
    """
    omega = check.array("eigenvalues", eigenvalues, ndim=1)
    omega = omega[omega > 0.0]
    n, zeta = np.broadcast_arrays(check.array("samples", samples), check.array("zeta", zeta))
    if np.any(n <= 0.0):
        raise ValueError(f"samples must be positive, got {n.min():.6g}")
    if np.any(zeta < 0.0):
        raise ValueError(f"zeta must be non-negative, got {zeta.min():.6g}")
    if not len(omega):
        return zeta.astype(np.float64).copy()
    n, zeta = n.astype(np.float64), zeta.astype(np.float64)

    def height(kappa):
        share = omega / (omega + kappa[..., None])
        return kappa * (1.0 - share.sum(-1) / n) - zeta, 1.0 - (share**2).sum(-1) / n

    # convex where it is positive: Newton's method comes down from above, and zeta + tr Omega / n is above
    kappa = zeta + omega.sum() / n
    for _ in range(200):
        value, slope = height(kappa)
        new = np.where(value > 0.0, kappa - value / np.where(slope > 0.0, slope, np.inf), kappa)
        if np.all(np.abs(new - kappa) <= 1e-15 * kappa):
            break
        kappa = new
    return np.where((zeta == 0.0) & (n >= len(omega)), 0.0, kappa)


def one_resolvent(covariance, samples, zeta, test) -> float:
    """``zeta tr[B (Sigma + zeta)^-1]`` in the limit: ``kappa tr[B (Omega + kappa)^-1]``.

    - ``covariance`` Omega (p, p); ``samples`` n; ``zeta`` > 0; ``test`` B (p, p).

    >>> round(one_resolvent(np.eye(4), 2, 1.0, np.eye(4)), 12)
    2.828427124746
    """
    kappa, vectors, resolvent, _ = _equivalent(covariance, samples, zeta)
    B = check.array("test", test, shape=vectors.shape)
    return float(kappa * (np.diag(vectors.T @ B @ vectors) @ resolvent))


def two_resolvents(covariance, samples, zeta, first, second) -> tuple[float, float]:
    """``zeta^2 tr[B G C G]`` and ``tr[B Sigma G C Sigma G]`` in the limit, with ``G = (Sigma + zeta)^-1``.

    - ``covariance`` Omega (p, p); ``samples`` n; ``zeta`` > 0; ``first`` B and ``second`` C (p, p), which may depend on Omega.

    With R = (Omega + kappa)^-1 they are ``kappa^2 tr[B R C R] + x`` and ``tr[B Omega R C Omega R] + x``, where
    ``x = kappa^2 tr[B R Omega R] tr[C R Omega R] / (n - df2)``.

    >>> a, b = two_resolvents(np.eye(4), 8, 1.0, np.eye(4), np.eye(4))
    >>> round(a, 9), round(b, 9)
    (1.395498751, 0.903076248)
    """
    kappa, vectors, resolvent, omega = _equivalent(covariance, samples, zeta)
    B, C = (vectors.T @ check.array(n, v, shape=vectors.shape) @ vectors for n, v in (("first", first), ("second", second)))
    df2 = np.sum((omega * resolvent) ** 2)
    around = resolvent * omega * resolvent
    extra = kappa**2 * (np.diag(B) @ around) * (np.diag(C) @ around) / (samples - df2)
    through = omega * resolvent

    def both(left):
        return np.einsum("ij,j,ji,i->", B, left, C, left)

    return float(kappa**2 * both(resolvent) + extra), float(both(through) + extra)


def _equivalent(covariance, samples, zeta):
    covariance = check.covariance("covariance", covariance)
    zeta = check.positive("zeta", zeta)
    omega, vectors = np.linalg.eigh(covariance)
    omega = np.maximum(omega, 0.0)
    kappa = float(effective_ridge(omega, samples, zeta))
    return kappa, vectors, 1.0 / (omega + kappa), omega
