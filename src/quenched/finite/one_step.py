"""Two-layer networks after one large full-batch gradient step on the first layer, then a readout trained on fresh samples.

The network is ``f(x) = a.sigma(W x) / sqrt(p)`` with p rows w_i of unit norm, inputs are standard Gaussian in d dimensions, and the
clean outcome is a function of the inner products of x with T orthonormal directions theta_t. Averages over inputs that an infinite
first sample needs are taken here by Hermite series on a dense rule; nothing of the theory is used.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import eval_hermitenorm

from quenched.finite.data import outcomes, reads_noise, sample_size, stream
from quenched.finite.features import Setting, samples
from quenched.finite.minimise import minimise
from quenched.finite.observe import averages
from quenched.finite.simulate import repeated, seed_list
from quenched.finite.trials import Trials
from quenched.losses import Additive
from quenched.losses.response import Response
from quenched.numerics import check
from quenched.numerics.mapped import by_rows, elementwise
from quenched.numerics.programs import make_room

_ROWS, _STEP, _SPECTRUM = 11, 12, 13  # random streams of their own, next to those of `finite.data`
_ENTRIES = 5_000_000  # numbers in the largest arrays of one batch of inputs, some five of which live at once (200 MB)
_NODES = 2_000_000  # of a rule over the whole index space
_ORDER = 20  # of series in overlaps of rows
_TARGET_ORDERS = {1: 20, 2: 12, 3: 8}  # of series in overlaps with T directions; 6 for more


class Training(NamedTuple):
    """What all seeds share: the network, the target, and the first step.

    - ``activation``: a JAX function, elementwise; ``target``: a JAX function from inner products (n, T) to clean outcomes (n,).
    - ``directions``: T.
    - ``readout_values`` (k,): the values a~ of ``sqrt(p) a_i`` during the step, taken by groups of neurons whose sizes are in the
      proportions ``readout_probabilities`` (k,).
    - ``learning_rate``: the effective step of neuron i is s_i = learning_rate a~_i, whatever the sizes:
      ``w_i <- w_i + s_i mean_mu (y_mu - f(x_mu)) sigma'(w_i.x_mu) x_mu``.
    - ``alpha0``: n_0 / d, samples of the step, infinite for the population's gradient; ``width_ratio``: p / d;
      ``noise``: variance of the outcomes' Gaussian noise in the step.
    """

    activation: Callable
    target: Callable
    directions: int
    readout_values: np.ndarray
    readout_probabilities: np.ndarray
    learning_rate: float
    alpha0: float
    width_ratio: float
    noise: float


class Layer(NamedTuple):
    """One first layer, ``w_i = r_l v + sqrt(c_l) omega_i`` up to small corrections, for the neurons i of group l.

    - ``weights`` (p, d); ``start`` (p, d): the rows before the step, for a sampled layer omega; ``groups`` (p,): 0..k-1, ascending.
    - ``directions`` (T, d): theta, orthonormal; ``spike_direction`` (d,): v, of norm 1.
    - ``nu`` (p,): <omega_i, v>, and ``zeta`` (p, F): <omega_i, zeta_f> with the orthonormal directions zeta, orthogonal to v, that
      Gram and Schmidt make of theta_1, ..., theta_T after v; F = T, or T - 1 where v is in their span. Here omega_i is the row
      before the step where its gradient was the population's, and else (w_i - r_l v) / sqrt(c_l) with r, c as measured.
    - ``measured``: ``spike`` (k,) r_l, the mean of <w_i, v> in a group; ``bulk_variance`` (k,) c_l, the mean of
      ``|w_i - <w_i, v> v|^2 d / (d - 1)``; ``alignment`` (T,): <v, theta_t>.
    """

    weights: np.ndarray
    start: np.ndarray
    groups: np.ndarray
    directions: np.ndarray
    spike_direction: np.ndarray
    nu: np.ndarray
    zeta: np.ndarray
    measured: dict[str, np.ndarray]


def group_sizes(probabilities, p: int) -> np.ndarray:
    """Sizes (k,) of groups that sum to p, in these proportions, by largest remainders; ``ValueError`` where one is empty.

    >>> group_sizes([0.3, 0.3, 0.4], 11)
    array([3, 3, 5])
    """
    shares = p * check.probabilities("readout_probabilities", probabilities)
    sizes = np.floor(shares + 1e-9).astype(int)
    sizes[np.argsort(sizes - shares, kind="stable")[: p - sizes.sum()]] += 1
    if np.any(sizes == 0):
        raise ValueError(f"every value of the readout must have a neuron: got groups of {sizes.tolist()} of {p} neurons")
    return sizes


def first_layer(training: Training, dim: int, seed) -> Layer:
    """Draw a network and its directions, and take the step: the first layer that comes of it.

    ``dim``: d; ``seed``: an int or a tuple of ints. With ``alpha0`` infinite the gradient is the population's, a power series in
    the overlaps <w_i, theta_t> and <w_i, w_j> of the rows before the step, which are about 1/sqrt(d). It is cut after order 20 in
    the overlaps of rows, and after order 20, 12, 8 in those with T = 1, 2, 3 directions (6 for more), a relative error of order
    overlap^21, 13, 9 (7). At d = 200, where few overlaps exceed 0.25, this is below 1e-5 up to T = 3 and below 1e-4 for more.

    The spike's direction v is that of ``mean_mu (y_mu - b) x_mu`` with b = (mean a~) E sigma, the network's constant, its sign
    such that <v, theta_1> is positive for T = 1. For the population it is theta_1 for T = 1 and else that of
    ``sum_t E[d_t sigma_*] theta_t`` (theta_1 where this vanishes).

    Source: J. Ba et al. (2022), arXiv:2205.01445; H. Cui et al. (2024), arXiv:2402.04980.

    >>> training = Training(jnp.tanh, lambda z: jnp.sin(z[:, 0]), 1, np.ones(1), np.ones(1), 3.0, 20.0, 1.0, 0.0)
    >>> layer = first_layer(training, dim=100, seed=0)
    >>> layer.weights.shape, bool(layer.measured["alignment"][0] > 0.9), bool(abs(layer.measured["spike"][0] - 1.13) < 0.2)
    ((100, 100), True, True)
    """
    training, dim = _checked(training), check.integer("dim", dim, 2)
    sizes = group_sizes(training.readout_probabilities, max(1, round(training.width_ratio * dim)))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng((*_parts(seed), _ROWS))
    start = _unit(rng.standard_normal((len(groups), dim)))
    directions = _orthonormal(rng, training.directions, dim)
    readout = training.readout_values[groups]
    population = math.isinf(training.alpha0)
    if population:
        gradient, spike = population_gradient(training, start, directions, readout)
    else:
        gradient, spike = _sample_gradient(training, start, directions, readout, np.random.default_rng((*_parts(seed), _STEP)))
    weights = start + training.learning_rate * readout[:, None] * gradient
    return _layer(weights, start, groups, directions, spike, start if population else None)


def spiked_layer(
    dim: int, seed, *, spikes, scales, alignment, width_ratio: float, readout_probabilities=(1.0,), unit_rows: bool = False
) -> Layer:
    """A first layer drawn from the model of spiked rows: ``w_i = spikes_l v + scales_l omega_i`` in group l, omega ~ N(0, I/d).

    - ``spikes`` (k,), ``scales`` (k,): sqrt(c_l), of either sign; ``readout_probabilities`` (k,): the proportions of the groups.
    - ``alignment`` (T,): <v, theta_t>, of norm at most 1; the theta_t are orthonormal all the same.
    - ``width_ratio``: p / d; ``unit_rows``: whether omega_i is divided by its norm.

    >>> layer = spiked_layer(50, 0, spikes=[1.0], scales=[1.1], alignment=[0.8], width_ratio=0.5)
    >>> layer.weights.shape, layer.measured["alignment"].round(12)
    ((25, 50), array([0.8]))
    """
    dim, ratio = check.integer("dim", dim, 2), check.positive("width_ratio", width_ratio)
    sizes = group_sizes(readout_probabilities, max(1, round(ratio * dim)))
    spikes, scales = (check.array(n, v, shape=(len(sizes),)) for n, v in (("spikes", spikes), ("scales", scales)))
    alignment = check.array("alignment", alignment, ndim=1)
    square = float(alignment @ alignment)
    if square > 1.0 + 1e-12:
        raise ValueError(f"alignment must have a norm of at most 1, as inner products with orthonormal directions, got {alignment}")
    groups = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng((*_parts(seed), _ROWS))
    omega = rng.standard_normal((len(groups), dim))
    omega = _unit(omega) if unit_rows else omega / np.sqrt(dim)
    frame = _orthonormal(rng, len(alignment) + 1, dim)
    # I - a a^T has this symmetric root, so that theta = a v + root e is orthonormal
    shrink = (1.0 - math.sqrt(max(1.0 - square, 0.0))) / square if square else 0.0
    root = np.eye(len(alignment)) - shrink * np.outer(alignment, alignment)
    directions = np.outer(alignment, frame[0]) + root @ frame[1:]
    weights = spikes[groups][:, None] * frame[0] + scales[groups][:, None] * omega
    return _layer(weights, omega, groups, directions, frame[0], omega)


def simulate(
    make: Callable, activation: Callable, target: Callable, loss, response=0.0, *, alpha: float, weight_decay: float, dim: int,
    seeds=8, observables: dict[str, Callable] | None = None, test_samples: int = 10_000, n_jobs: int = 1,
    settings: dict | None = None, progress: Callable | None = None, **options,
) -> Trials:  # fmt: skip
    """Train the readout on the features ``sigma(W x)`` of n = round(alpha dim) fresh samples, for every seed's own first layer.

    - ``make(seed)`` -> :class:`Layer`; ``activation`` and ``target``: as in :class:`Training`, the target is not centred.
    - ``loss``: a :class:`Loss` of ``h = phi.a / sqrt(p)``; the readout a minimises ``sum_mu loss + weight_decay/2 |a|^2``.
    - ``response``: law of the label given the clean outcome, or the variance of the Gaussian noise on it: 0 for outcomes of +-1.
    - ``observables``: name -> function of (h, target, label, ...) by argument names, averaged over ``test_samples`` fresh samples:
      ``target`` (1, 1) is the clean outcome, ``label`` the noisy one.
    - ``seeds``, ``n_jobs``, ``settings``, ``progress``: as for :func:`quenched.finite.simulate.simulate`; ``options`` go to
      :func:`quenched.finite.minimise.minimise`.

    Per seed ``train_loss``, ``free_energy`` (penalised risk over dim), ``Q`` = |a|^2 / p, the observables, and of each group l

    - ``m`` (k,) = sum_l a_i / sqrt(p), ``theta`` (k,) = sum_l a_i nu_i / sqrt(p), ``psi`` (k, F) = sum_l a_i zeta_i / sqrt(p)
      (absent for F = 0), with nu and zeta of the :class:`Layer`;
    - ``spike`` (k,), ``bulk_variance`` (k,), and ``alignment`` (T,): as measured on the layer.

    >>> from quenched.losses import as_loss
    >>> training = Training(jnp.tanh, lambda z: jnp.sin(z[:, 0]), 1, np.ones(1), np.ones(1), 3.0, np.inf, 1.0, 0.0)
    >>> trials = simulate(
    ...     lambda seed: first_layer(training, 100, seed), training.activation, training.target, as_loss("square"),
    ...     alpha=1.6, weight_decay=0.1, dim=100, seeds=2,
    ...     observables={"test_mse": lambda h, target: (h[0, 0] - target[0, 0]) ** 2},
    ... )
    >>> bool(trials["test_mse"].mean < 0.05), trials["m"].mean.shape
    (True, (1,))
    """
    make_room()
    seeds, n, response = seed_list(seeds), sample_size(alpha, dim), _response(response)
    test_samples, observables = check.integer("test_samples", test_samples), dict(observables or {})
    noise = reads_noise(loss) or any(reads_noise(fn) for fn in observables.values())

    def one(seed):
        clock = time.perf_counter()
        layer = make(seed)
        setting = _setting(layer, activation, target)
        data = outcomes(samples(setting, seed, n, 0.0, False), response, seed=seed, noise=noise)
        fit = minimise(data, loss, weight_decay, seed=seed, **options)
        row = _order_parameters(layer, fit.w[:, 0]) | {"train_loss": fit.train_loss, "free_energy": fit.risk / dim}
        if fit.converged and observables:
            fresh = samples(setting, stream(seed, "test"), test_samples, 0.0, False)
            row |= averages(observables, fit, outcomes(fresh, response, seed=seed, noise=noise, test=True))
        return row, fit.status.value, fit.optimality, time.perf_counter() - clock

    return repeated(one, seeds, n_jobs, progress, dim, n, settings)


def feature_eigenvalues(layer: Layer, activation: Callable, n: int, seed=0, top: int = 0):
    """Eigenvalues (p,) of ``Phi^T Phi / n``, Phi = sigma(W x) on n fresh inputs, the largest first.

    With ``top`` > 0 also the squared overlaps of as many of the first eigenvectors, each (top, k): with the normalised indicators
    of the groups, and with nu restricted to a group, normalised.

    >>> layer = spiked_layer(50, 0, spikes=[2.0], scales=[1.0], alignment=[1.0], width_ratio=1.0)
    >>> values, indicators, nu = feature_eigenvalues(layer, jnp.tanh, 200, top=1)
    >>> values.shape, bool(values[0] > 5.0 * values[1]), bool(indicators[0, 0] > 0.9)
    ((50,), True, True)
    """
    n, top = check.integer("n", n), check.integer("top", top, 0)
    rng, (p, d) = np.random.default_rng((*_parts(seed), _SPECTRUM)), layer.weights.shape
    gram = np.zeros((p, p))
    for size in _batches(n, p + d):
        phi = _apply(activation, rng.standard_normal((size, d)) @ layer.weights.T)
        gram += phi.T @ phi
    if not top:
        return np.linalg.eigvalsh(gram / n)[::-1]
    values, vectors = np.linalg.eigh(gram / n)
    first, members = vectors[:, ::-1][:, :top].T, _members(layer.groups)

    def overlaps(channels):
        return (first @ channels) ** 2 / np.sum(channels**2, axis=0)

    return values[::-1], overlaps(members), overlaps(members * layer.nu[:, None])


def population_gradient(training: Training, rows, directions, readout) -> tuple[np.ndarray, np.ndarray]:
    """``E[(y - f(x)) sigma'(w_i.x) x]``, (p, d), for rows of norm 1, and the direction (d,) of ``sum_t E[d_t sigma_*] theta_t``.

    ``readout`` (p,): the values a~_i. For jointly Gaussian fields ``E[F(theta.x) G(w.x)] = sum_k E[G He_k] <E[D^k F], t^k> / k!``
    in the overlaps t, and ``E[y sigma' x] = E[d_t y sigma'] theta_t + E[y sigma''] w``, by parts; likewise with f for y.

    >>> training = Training(jnp.sin, lambda z: z[:, 0], 1, np.ones(1), np.ones(1), 1.0, np.inf, 1.0, 0.0)
    >>> gradient, spike = population_gradient(training, np.eye(3)[:2], np.eye(3)[2:], np.zeros(2))
    >>> np.allclose(gradient, np.exp(-0.5) * spike)
    True
    """
    p, T, order = len(rows), len(directions), _TARGET_ORDERS.get(len(directions), 6)
    c, own = _activation_coefficients(training.activation, max(order, _ORDER) + 3)
    clean = _target_coefficients(training.target, T, order + 2)
    overlaps = rows @ directions.T
    powers = overlaps[..., None] ** np.arange(order + 1)
    along, itself = np.zeros((p, T)), np.zeros(p)
    for exponents in itertools.product(range(order + 1), repeat=T):
        k = sum(exponents)
        if k <= order:
            term = np.prod([powers[:, t, e] / math.factorial(e) for t, e in enumerate(exponents)], axis=0)
            for t in range(T):
                along[:, t] += c[k + 1] * clean[_raised(exponents, t)] * term
            itself += c[k + 2] * clean[exponents] * term

    q = rows @ rows.T
    np.fill_diagonal(q, 0.0)
    crossed, constant, power = np.zeros((p, p)), np.zeros((p, p)), np.ones((p, p))
    for k in range(_ORDER + 1):
        crossed += c[k + 1] ** 2 * power
        constant += c[k] * c[k + 2] * power
        power *= q / (k + 1)
    np.fill_diagonal(crossed, 0.0)
    np.fill_diagonal(constant, 0.0)
    others = (crossed * readout) @ rows / p
    itself -= (constant @ readout + own * readout) / p
    gradient = along @ directions - others + itself[:, None] * rows

    slopes = np.array([clean[_raised((0,) * T, t)] for t in range(T)])
    length = np.linalg.norm(slopes)
    if T == 1 or length < 1e-6:  # the rule's error at kinks
        return gradient, directions[0].copy()
    return gradient, slopes @ directions / length


def _sample_gradient(training, rows, directions, readout, rng):
    """The gradient on a sample of round(alpha0 d), and the direction of mean (y - b) x."""
    (p, d), n = rows.shape, sample_size(training.alpha0, rows.shape[1])
    constant = _activation_coefficients(training.activation, 0)[0][0] * readout.mean()
    total, mean = np.zeros((p, d)), np.zeros(d)
    for size in _batches(n, p + d):
        x = rng.standard_normal((size, d))
        y = _clean(training.target, x @ directions.T) + math.sqrt(training.noise) * rng.standard_normal(size)
        value, slope = _value_and_slope(training.activation, x @ rows.T)
        total += (slope * (y - value @ readout / p)[:, None]).T @ x
        mean += (y - constant) @ x
    spike = _unit(mean)
    if len(directions) == 1 and spike @ directions[0] < 0.0 and abs(_target_coefficients(training.target, 1, 1)[1]) > 1e-6:
        spike = -spike  # but for targets without a mean gradient, where the sign is noise
    return total / n, spike


def _layer(weights, start, groups, directions, spike, omega):
    """A Layer with what is measured on it; ``omega`` None: from the rows themselves."""
    d, members = weights.shape[1], _members(groups)
    along = weights @ spike
    r = along @ members / members.sum(0)
    c = (np.sum(weights**2, axis=1) - along**2) @ members / members.sum(0) * d / (d - 1)
    others = _gram_schmidt(spike, directions)
    if omega is None:
        sign = np.where(np.sum(weights * start, axis=1) @ members < 0.0, -1.0, 1.0)  # a large step may turn the rows around
        scale = (sign / np.sqrt(c))[groups]
        nu, zeta = scale * (along - r[groups]), scale[:, None] * (weights @ others.T)
    else:
        nu, zeta = omega @ spike, omega @ others.T
    measured = {"spike": r, "bulk_variance": c, "alignment": directions @ spike}
    return Layer(weights, start, groups, directions, spike, nu, zeta, measured)


def _order_parameters(layer, a):
    members = _members(layer.groups) * a[:, None] / np.sqrt(len(a))
    found = {"Q": a @ a / len(a), "m": members.sum(0), "theta": layer.nu @ members, **layer.measured}
    return found | ({"psi": members.T @ layer.zeta} if layer.zeta.shape[1] else {})


def _setting(layer, activation, target):
    return Setting(
        lambda x: _apply(activation, x @ layer.weights.T), lambda x: _clean(target, x @ layer.directions.T)[:, None],
        np.ones(1), np.ones(layer.weights.shape[1]),
    )  # fmt: skip


def _response(response):
    return response if isinstance(response, Response) else Additive(response)


def _checked(training):
    """The same with arrays and floats, refusing what does not fit."""
    for name in ("activation", "target"):
        if not callable(getattr(training, name)):
            raise ValueError(f"{name} must be a JAX function, got {getattr(training, name)!r}")
    probabilities = check.probabilities("readout_probabilities", training.readout_probabilities)
    alpha0 = float(training.alpha0)
    return training._replace(
        directions=check.integer("directions", training.directions), readout_probabilities=probabilities,
        readout_values=check.array("readout_values", training.readout_values, shape=probabilities.shape),
        learning_rate=check.scalar("learning_rate", training.learning_rate), noise=check.nonnegative("noise", training.noise),
        width_ratio=check.positive("width_ratio", training.width_ratio),
        alpha0=alpha0 if alpha0 == math.inf else check.positive("alpha0", alpha0),
    )  # fmt: skip


def _parts(seed):
    return tuple(check.integer("seed", part, 0) for part in (seed if isinstance(seed, tuple) else (seed,)))


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _members(groups):
    """Indicators of the groups, (p, k)."""
    return np.eye(groups.max() + 1)[groups]


def _orthonormal(rng, count, dim):
    if count > dim:
        raise ValueError(f"dim must be at least the number of directions, {count}, got {dim}")
    q, r = np.linalg.qr(rng.standard_normal((dim, count)))
    return (q * np.sign(np.diag(r))).T


def _gram_schmidt(spike, directions):
    """What the directions add to the spike: orthonormal (F, d)."""
    basis = [spike]
    for direction in directions:
        rest = direction
        for _ in range(2):  # the second time removes the rounding of the first
            rest = rest - np.array(basis).T @ (np.array(basis) @ rest)
        if np.linalg.norm(rest) > 1e-6:
            basis.append(_unit(rest))
    return np.array(basis[1:]).reshape(-1, len(spike))


def _batches(n, width):
    """Sizes of batches of inputs, with ``width`` numbers for each."""
    size = max(1, min(n, _ENTRIES // width))
    return [size] * (n // size) + [n % size] * (n % size > 0)


@functools.lru_cache(maxsize=256)
def _tangents(fn):
    return lambda z: jax.jvp(fn, (z,), (jnp.ones_like(z),))


def _apply(fn, z):
    return np.asarray(elementwise(fn, z), np.float64)


def _value_and_slope(fn, z):
    """sigma(z) and sigma'(z), at kinks as JAX has it."""
    return tuple(np.asarray(a, np.float64) for a in elementwise(_tangents(fn), z))


def _clean(target, fields):
    found = np.asarray(by_rows(target, fields), np.float64)
    if found.shape != (len(fields),):
        raise ValueError(f"target must give one number for each of the {len(fields)} samples, got the shape {found.shape}")
    return found


def _rule(count):
    """Midpoints of [-9, 9] and Gaussian weights; an even count, so that kinks at 0 lie between two nodes."""
    z = (np.arange(count) + 0.5) * (18.0 / count) - 9.0
    weight = np.exp(-(z**2) / 2.0)
    return z, weight / weight.sum()


def _hermite(z, weight, order):
    """``weight He_k(z)`` for k = 0..order, (order + 1, nodes)."""
    return np.array([weight * eval_hermitenorm(k, z) for k in range(order + 1)])


def _activation_coefficients(activation, order):
    """E[sigma He_k] for k = 0..order, and E[sigma sigma' z]."""
    z, weight = _rule(20_000)
    value, slope = _value_and_slope(activation, z)
    return _hermite(z, weight, order) @ value, float(np.sum(weight * value * slope * z))


def _target_coefficients(target, T, order):
    """E[sigma_* He_k1(x_1) ... He_kT(x_T)], (order + 1,) * T; 20000 nodes for T = 1, 1414 and 124 per axis for T = 2 and 3."""
    count = min(20_000, 2 * int(_NODES ** (1.0 / T) / 2.0))
    z, weight = _rule(count)
    grid = np.stack(np.meshgrid(*[z] * T, indexing="ij"), axis=-1).reshape(-1, T)
    found = _clean(target, grid).reshape((count,) * T)
    hermite = _hermite(z, weight, order)
    for _ in range(T):  # contracts the first axis, and appends its order
        found = np.tensordot(found, hermite, axes=(0, 1))
    return found


def _raised(exponents, t):
    return tuple(e + (s == t) for s, e in enumerate(exponents))
