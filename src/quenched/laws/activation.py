"""Activations and what a Gaussian pre-activation makes of them: the numbers behind every random-features theory.

All that the theory needs to know of a wide layer is a few Gaussian averages of its activation: :func:`coefficients`,
:func:`hermite`, and those of pairs in :mod:`quenched.laws.pairs`. They are computed on Gauss-Legendre panels that end at every
kink and jump (Gauss-Hermite rules are wrong in the third digit there), and because the panels move with mean and variance,
JAX's derivatives of them are right too, also for the sign.

Inside a trace these functions return JAX arrays in the caller's precision (open a float64 scope around it); with nothing traced,
NumPy float64 arrays.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, ndtr
from jaxtyping import Array, Float
from scipy import special

from quenched.numerics import check
from quenched.numerics.mapped import filled, room
from quenched.numerics.precision import float64

#: The half width of the panels in standard deviations, order and number (without and with kinks).
_REACH, _ORDER, _PANELS = 9.0, 20, (12, 8)
#: Variances below are raised to it: what is smooth does not notice, and its derivatives keep half their digits.
FLOOR = 1e-14
#: Where kinks are looked for (no round number lies on it), how many are found at most, and by how many halvings.
_GRID, _MOST, _HALVINGS = np.linspace(-12.0137, 12.0091, 4801), 64, 45
#: How many neurons are computed at once: as many as fit into a processor's cache.
_BATCH = 64
#: Fewer are filled up to so many, and more done in so many calls at most, before there is a program for their number.
_LEAST, _PIECES = 8, 16


def _linear(x):
    return 1.0 * x


def _gelu(x):
    return x * ndtr(x)


_HALF = (0.0,)
#: Name: the function, where it is not smooth, and callables that are the same (also those that JAX cannot trace).
_KNOWN = {
    "linear": (_linear, (), ()), "identity": (_linear, (), (jax.nn.identity,)),
    "relu": (jax.nn.relu, _HALF, ()), "sign": (jnp.sign, _HALF, (np.sign, jax.lax.sign)),
    "tanh": (jnp.tanh, (), (np.tanh, jax.lax.tanh, jax.nn.tanh)), "erf": (erf, (), (special.erf, jax.lax.erf)),
    "sigmoid": (jax.nn.sigmoid, (), (special.expit, jax.scipy.special.expit, jax.lax.logistic)),
    "sin": (jnp.sin, (), (np.sin, jax.lax.sin)), "cos": (jnp.cos, (), (np.cos, jax.lax.cos)),
    "quadratic": (jnp.square, (), (np.square, jax.lax.square)), "abs": (jnp.abs, _HALF, (np.abs, abs, jax.lax.abs)),
    "leaky_relu": (jax.nn.leaky_relu, _HALF, ()), "elu": (jax.nn.elu, _HALF, ()), "softplus": (jax.nn.softplus, (), ()),
    "silu": (jax.nn.silu, (), (jax.nn.swish,)), "gelu": (_gelu, (), ()), "hard_tanh": (jax.nn.hard_tanh, (-1.0, 1.0), ()),
    "relu6": (jax.nn.relu6, (0.0, 6.0), ()),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, repr=False)
class Activation:
    """An elementwise function and the places ``kinks`` (ascending) where it jumps or has a kink. Made by :func:`activation`.

    Immutable and hashable; equal for equal arguments, so that it may key a compiled program. Called, it applies the function.

    >>> activation(lambda x: jnp.maximum(x - 0.3, 0.0)).kinks, activation("relu")(-1.0).item()
    ((0.3,), 0.0)
    """

    fn: Callable
    kinks: tuple[float, ...] = ()
    name: str = ""

    def __call__(self, x):
        value = self.fn(x)
        return value if jnp.issubdtype(jnp.result_type(value), jnp.inexact) else jnp.asarray(value).astype(jnp.result_type(x))

    @property
    def __name__(self):  # how problems show it
        return self.name or getattr(self.fn, "__name__", repr(self.fn))

    def __repr__(self):
        if self.name:
            return f"activation({self.name!r})"
        return f"activation({getattr(self.fn, '__name__', repr(self.fn))}, kinks={self.kinks})"

    def __reduce__(self):
        return (activation, (self.name,)) if self.name else (Activation, (self.fn, self.kinks))


def activation(what, kinks=None) -> Activation:
    """The :class:`Activation` of a name or of a function.

    - ``what``: one of the names below, a JAX function that acts elementwise on arrays, or an Activation (returned as it is).
      ``"erf"`` is erf(x) (not erf(x / sqrt 2)), ``"quadratic"`` x^2, ``"gelu"`` x Phi(x). Well-known functions
      (``jnp.tanh``, ``np.sign``, ``jax.nn.relu``, ...) are recognised as the named ones.
    - ``kinks``: for other functions, where they jump or have a kink (in value, slope or curvature). By default they are looked for
      between -12 and 12, and shown when the result is printed; two of them closer than 0.005 may be taken for one.
      ``()`` says that the function is smooth.

    Names: linear, identity, relu, sign, tanh, erf, sigmoid, sin, cos, quadratic, abs, leaky_relu, elu, softplus, silu, gelu,
    hard_tanh, relu6.

    Raises ``ValueError`` for an unknown name, and for a function that is not elementwise, not finite between -12 and 12, whose JAX
    derivative is not its derivative, that has more than 64 kinks, or that varies too fast to be averaged; ``TypeError`` for what
    JAX cannot trace.

    >>> activation(jnp.tanh), activation(lambda x: jnp.maximum(x - 0.3, 0.0))
    (activation('tanh'), activation(<lambda>, kinks=(0.3,)))
    """
    if isinstance(what, str) and what not in _KNOWN:
        raise ValueError(f"activation must be a function or one of {', '.join(map(repr, _KNOWN))}, got {what!r}")
    if isinstance(what, Activation) or isinstance(what, str):
        if kinks is not None:
            raise ValueError(f"kinks must be left out for the activation {what!r}, whose kinks are known, got {kinks!r}")
        return what if isinstance(what, Activation) else Activation(_KNOWN[what][0], _KNOWN[what][1], what)
    if not callable(what):
        raise TypeError(f"activation must be a name or a function, got {what!r}")
    for name, (fn, _, same) in _KNOWN.items():
        if any(what is other for other in (fn, *same)) and kinks is None:
            return activation("linear" if fn is _linear else name)
    if kinks is not None:
        kinks = tuple(sorted({float(k) for k in check.array("kinks", kinks, ndim=1)}))
    try:
        return _examined(what, kinks)
    except TypeError as error:
        if "unhashable" in str(error):
            raise TypeError(f"activation must be a hashable function (wrap it in a def), got {what!r}") from error
        raise


_made = activation  # a parameter of the functions below has its name


@functools.lru_cache(maxsize=512)
def _examined(fn, kinks) -> Activation:
    """The activation of a function that nothing is known of."""
    made, x = Activation(fn, kinks or ()), _GRID

    def refuse(why):
        raise ValueError(f"activation must be an elementwise function with finite values, got {made!r}, which {why}")

    with float64(True):
        try:
            value = made(jnp.asarray(x))
            shape = jnp.shape(value)
            if shape != x.shape:
                refuse(f"maps the shape {x.shape} to {shape}")
            if jnp.iscomplexobj(value):
                refuse("is complex")
            value, mixed = np.asarray(value), np.asarray(made(jnp.asarray(x[::-7][None])))
            derivatives = _derivatives(made)
            table = np.asarray(derivatives(x))
            step = (np.asarray(made(jnp.asarray(x + 1e-5))) - np.asarray(made(jnp.asarray(x - 1e-5)))) / 2e-5
        except jax.errors.JAXTypeError as error:
            raise TypeError(f"activation must be a function that JAX can trace, got {fn!r}: {error}".split("\n")[0]) from error
        except (ArithmeticError, AttributeError, LookupError, NameError) as error:
            raise ValueError(f"activation could not be evaluated, {type(error).__name__}: {error}") from error
        if not np.all(np.isfinite(value)):
            refuse("is not finite everywhere between -12 and 12")
        if mixed.shape != (1, len(x[::-7])) or not np.allclose(mixed[0], value[::-7], rtol=1e-9, atol=1e-12):
            refuse("depends on what else is in the array")
        found = made.kinks if kinks is not None else _irregular(derivatives, table)
        if len(found) > _MOST:
            refuse(f"has more than {_MOST} kinks between -12 and 12")
        away = np.all(np.abs(x[:, None] - np.asarray(found)) > 0.006, axis=1)
        if np.any((np.abs(step - table[1]) > 1e-4 * (1.0 + np.abs(table[1]) + np.abs(step)))[away]):
            refuse("has another derivative than the one that JAX takes")
        made = dataclasses.replace(made, kinks=found)
        once, again = np.asarray(_twice(made))
        if np.any(np.abs(once - again) > 1e-7 * (1.0 + again)):
            refuse("varies too fast (or has kinks that are not known: give `kinks`) for its averages to be computed")
    return made


@functools.partial(jax.jit, static_argnums=0)
def _twice(act):
    """Averages of the square by the panels in use and by far more of them (2, 3)."""
    mean, scale = jnp.array([0.0, 0.5, -0.5]), jnp.array([1.0, 2.0, 2.0])
    rules = (panels(act.kinks, mean, scale, counts=counts) for counts in (_PANELS, (53, 41)))
    return jnp.stack([jnp.sum(w * act(mean[:, None] + scale[:, None] * z) ** 2, axis=1) for z, w in rules])


def _derivatives(fn):
    """x (n,) to the function and its first three derivatives (4, n)."""

    def slope(of):
        return lambda x: jax.jvp(of, (x,), (jnp.ones_like(x),))[1]

    orders = [fn]
    for _ in range(3):
        orders.append(slope(orders[-1]))
    return jax.jit(lambda x: jnp.nan_to_num(jnp.stack([of(x) for of in orders]), posinf=1e30, neginf=-1e30))


def _irregular(derivatives, table) -> tuple[float, ...]:
    """Where the function or one of its first two derivatives jumps: what the next derivative leaves unexplained is halved."""
    places = []
    for order in range(3):

        def misfit(x, table, order=order):  # (..., 2) ends of intervals
            change = table[order, ..., 1:] - table[order, ..., :-1]
            return np.abs(change - 0.5 * np.diff(x) * (table[order + 1, ..., 1:] + table[order + 1, ..., :-1]))

        all_ = misfit(_GRID, table)
        pick = np.argsort(-all_, kind="stable")[: _MOST + 1]
        low, high = _GRID[pick], _GRID[pick + 1]
        for _ in range(_HALVINGS):
            x = np.stack([low, 0.5 * (low + high), high], axis=-1)
            both = misfit(x, np.asarray(derivatives(x)))
            left = both[:, 0] >= both[:, 1]
            low, high = np.where(left, low, x[:, 1]), np.where(left, x[:, 1], high)
        last = both.max(axis=1)
        there = (last > 1e-3 * all_[pick]) & (last > 1e-8 * (1.0 + np.median(np.abs(table[order]))))
        places += list((0.5 * (low + high))[there])
    places = np.unique([round(p, 9) + 0.0 if abs(round(p, 9) - p) < 1e-11 else p for p in places])
    return tuple(float(p) for p in places[np.diff(places, prepend=-np.inf) > 1e-8])


# --- one Gaussian variable ---------------------------------------------------------------------------------------------------


class Coefficients(NamedTuple):
    """What a layer keeps of an activation of N(mean, variance) numbers, all of one shape.

    With g the activation, z standard normal: ``kappa_0 = E g``; ``kappa_1 = E[z g] / sqrt(variance) = E g'``, which multiplies the
    pre-activation itself (not normalised); ``kappa_star2 = E g^2 - kappa_0^2 - variance kappa_1^2``; ``second = E g^2``.

    >>> found = coefficients("tanh")
    >>> [round(float(x), 6) for x in (found.kappa_0, found.kappa_1, found.kappa_star2, found.second)]
    [0.0, 0.605706, 0.027415, 0.394294]
    """

    kappa_0: Float[Array | np.ndarray, "*n"]
    kappa_1: Float[Array | np.ndarray, "*n"]
    kappa_star2: Float[Array | np.ndarray, "*n"]
    second: Float[Array | np.ndarray, "*n"]


def coefficients(activation, mean=0.0, variance=1.0) -> Coefficients:
    """The Gaussian coefficients of an activation at pre-activations N(mean, variance).

    - ``activation``: an :class:`Activation`, a name or a function (see :func:`activation`).
    - ``mean``, ``variance`` >= 0: numbers or arrays that broadcast, say one entry a neuron. At variance zero the coefficients are
      the limit of small variance: the value and the slope at the mean where they exist.

    Relative errors are about 1e-14 at any mean and variances up to 10 (up to 100 for what bends at zero and its kinks only, not for
    ``sin``); derivatives are those of the averages, to second order. Raises ``ValueError`` for bad arguments.

    Source: D. Schroeder, H. Cui, D. Dmitriev, B. Loureiro (2023), arXiv:2302.00401; H. Cui, F. Krzakala, L. Zdeborova (2023),
    arXiv:2302.00375.

    >>> [round(float(x), 7) for x in coefficients("tanh")]
    [0.0, 0.6057055, 0.0274153, 0.3942945]
    """
    return entry(_coefficients, (_made(activation),), mean=mean, variance=variance)


def hermite(activation, degree, mean=0.0, variance=1.0) -> Float[Array | np.ndarray, "*n degree_plus_1"]:
    """``c_j = E[He_j(z) g(mean + sqrt(variance) z)]`` for j = 0..degree, along a new last axis.

    He_j are the probabilists' Hermite polynomials (1, z, z^2 - 1, ...), not normalised: ``E g^2 = sum_j c_j^2 / j!``.
    ``mean``, ``variance``: as in :func:`coefficients`. Errors are about 1e-13 sqrt(j!).

    >>> (hermite("quadratic", 2).round(12) + 0.0).tolist()
    [1.0, 0.0, 2.0]
    """
    return entry(_hermite, (_made(activation), check.integer("degree", degree, 0)), mean=mean, variance=variance)


@functools.partial(jax.jit, static_argnums=0)
def _coefficients(act: Activation, mean: Float[Array, "*n"], variance: Float[Array, "*n"]) -> Coefficients:
    def one(mean, variance):
        variance = raised(variance, FLOOR)
        if act.name in _STAR:
            kappa_0, kappa_1 = with_slope(lambda m: mean_value(act, m, variance), mean)
            star = _STAR[act.name](mean, variance)
        else:

            def average(mean):
                z, weights = panels(act.kinks, mean, jnp.sqrt(variance))
                h = jnp.sqrt(variance)[..., None] * z
                value = act(mean[..., None] + h)
                return jnp.sum(weights * value, axis=-1), (h, weights, value)

            (kappa_0, (h, weights, value)), (kappa_1, _) = with_slope(average, mean)
            rest = value - kappa_0[..., None] - kappa_1[..., None] * h
            star = jnp.sum(weights * rest**2, axis=-1)  # a variance, summed as one: nothing cancels
        return Coefficients(kappa_0, kappa_1, star, star + kappa_0**2 + variance * kappa_1**2)

    return batched(one, _BATCH, mean, variance)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _hermite(act: Activation, degree: int, mean: Float[Array, "*n"], variance: Float[Array, "*n"]) -> Float[Array, "*n c"]:
    reach = max(_REACH, 2.0 * degree**0.5 + 6.0)  # the polynomial times the density lives up to 2 sqrt(degree)
    counts = tuple(int(np.ceil(p * reach / _REACH)) for p in _PANELS)

    def one(mean, variance):
        scale = jnp.sqrt(raised(variance, FLOOR))
        z, weights = panels(act.kinks, mean, scale, reach=reach, counts=counts)
        value = weights * act(mean[..., None] + scale[..., None] * z)

        def up(polynomials, j):
            before, now = polynomials
            return (now, z * now - j * before), jnp.sum(value * now, axis=-1)

        _, sums = jax.lax.scan(up, (jnp.zeros_like(z), jnp.ones_like(z)), jnp.arange(degree + 1.0))
        return jnp.moveaxis(sums, 0, -1)

    return batched(one, _BATCH, mean, variance)


def _relu_star(mean, variance):
    a = mean / jnp.sqrt(variance)
    a = jnp.where(a > 0.0, -a, a)  # relu(h) - relu(-h) is linear: the same on both sides, and small numbers on this one
    density, below = _density(a), ndtr(a)
    return variance * ((a * a + 1.0) * below + a * density - (a * below + density) ** 2 - below**2)


def _sign_star(mean, variance):
    a = mean / jnp.sqrt(variance)
    return 4.0 * (ndtr(a) * ndtr(-a) - _density(a) ** 2)


def _relu_mean(mean, variance):
    a = mean / jnp.sqrt(variance)
    return mean * ndtr(a) + jnp.sqrt(variance) * _density(a)


#: Closed forms of kappa_0 (kappa_1 is its derivative by the mean) and of kappa_star^2.
MEAN = {
    "linear": lambda mean, variance: mean, "identity": lambda mean, variance: mean,
    "quadratic": lambda mean, variance: mean**2 + variance, "relu": _relu_mean,
    "sign": lambda mean, variance: erf(mean / jnp.sqrt(2.0 * variance)),
    "erf": lambda mean, variance: erf(mean / jnp.sqrt(1.0 + 2.0 * variance)),
}  # fmt: skip
_STAR = {
    "linear": lambda mean, variance: 0.0 * mean, "identity": lambda mean, variance: 0.0 * mean,
    "quadratic": lambda mean, variance: 2.0 * variance**2, "relu": _relu_star, "sign": _sign_star,
}  # fmt: skip


def mean_value(act, mean, variance, **rule):
    """``E g`` for arrays of one shape, of a positive variance."""
    if act.name in MEAN:
        return MEAN[act.name](mean, variance)
    scale = jnp.sqrt(variance)
    z, weights = panels(act.kinks, mean, scale, **rule)
    return jnp.sum(weights * act(mean[..., None] + scale[..., None] * z), axis=-1)


def panels(kinks, mean, scale, more=None, reach=_REACH, order=_ORDER, counts=_PANELS):
    """Nodes and weights (..., N) of a standard normal z, on panels that end where ``mean + scale z`` is one of the ``kinks``.

    ``more`` (..., m): where panels end besides. Between kinks the panels are small around ``mean + scale z = 0``, where activations
    bend. Only the ends at kinks are differentiated: they alone are seen by the integral.
    """
    edge = jnp.full((*mean.shape, 1), reach, mean.dtype)
    images = (np.asarray(kinks, float) - mean[..., None]) / scale[..., None]
    ends = jnp.concatenate([-edge, jnp.clip(images, -reach, reach), edge], axis=-1)
    low, high = ends[..., :-1, None], ends[..., 1:, None]
    even = np.linspace(0.0, 1.0, counts[bool(kinks)] + 1)
    left, right = (mean[..., None, None] + scale[..., None, None] * end for end in (low, high))
    wide = right - left > 1e-6 * (1.0 + jnp.abs(left))
    graded = jnp.sinh(jnp.arcsinh(left) * (1.0 - even) + jnp.arcsinh(right) * even)
    parts = jnp.where(wide, (graded - left) / jnp.where(wide, right - left, 1.0), even).at[..., 0].set(0.0).at[..., -1].set(1.0)
    if more is not None:
        room = jnp.where(high > low, high - low, 1.0)
        parts = jnp.sort(jnp.concatenate([parts, jnp.clip((more[..., None, :] - low) / room, 0.0, 1.0)], axis=-1), axis=-1)
    breaks = low + jax.lax.stop_gradient(parts) * (high - low)
    x, w = np.polynomial.legendre.leggauss(order)
    half, middle = 0.5 * jnp.diff(breaks), 0.5 * (breaks[..., 1:] + breaks[..., :-1])
    nodes = middle[..., None] + half[..., None] * x
    weights = half[..., None] * w * _density(nodes)
    return nodes.reshape(*mean.shape, -1), weights.reshape(*mean.shape, -1)


# --- common ------------------------------------------------------------------------------------------------------------------


def entry(core, static, **arrays):
    """``core`` for checked, broadcast arrays; compiled, in float64 and back to NumPy where nothing is traced."""
    arrays = {name: check.array(name, value) for name, value in arrays.items()}
    try:
        shape = np.broadcast_shapes(*(value.shape for value in arrays.values()))
    except ValueError as error:
        raise ValueError(f"the arguments must broadcast, got {', '.join(f'{n} {v.shape}' for n, v in arrays.items())}") from error
    for name, value in arrays.items():
        if "variance" in name and not check.traced(value) and np.any(value < 0.0):
            raise ValueError(f"{name} must be non-negative, got {value.min():.6g}")
    if check.traced(*arrays.values()):
        return core(*static, *(jnp.broadcast_to(jnp.asarray(value, float), shape) for value in arrays.values()))
    if "cross" in arrays:
        most = np.sqrt(arrays["first_variance"] * arrays["second_variance"])
        if np.any(np.abs(arrays["cross"]) > most * (1.0 + 1e-10)):
            raise ValueError(f"cross must be at most the root of the product of the variances, got {arrays['cross']}")
    count = int(np.prod(shape))
    # filled up, in pieces: compiled for few lengths only
    size = _LEAST if count <= _LEAST else _BATCH if count <= _PIECES * _BATCH else room(count, _BATCH)
    flat = [np.broadcast_to(np.asarray(v, float), shape).reshape(-1) for v in arrays.values()]
    with float64(True):
        pieces = [core(*static, *(jnp.asarray(filled(v[k : k + size], size)) for v in flat)) for k in range(0, max(count, 1), size)]
    whole = jax.tree.map(lambda *parts: np.concatenate([np.asarray(a) for a in parts])[:count], *pieces)
    return jax.tree.map(lambda a: a.reshape((*shape, *a.shape[1:])), whole)


def batched(fn, size, *arrays):
    """``fn`` of arrays of one shape, ``size`` entries at once."""
    shape = arrays[0].shape
    if np.prod(shape, dtype=int) <= size:
        return fn(*arrays)
    out = jax.lax.map(lambda one: fn(*one), tuple(a.reshape(-1) for a in arrays), batch_size=size)
    return jax.tree.map(lambda a: a.reshape(*shape, *a.shape[1:]), out)


def with_slope(fn, x):
    """The value and the derivative of an elementwise function."""
    return jax.jvp(fn, (x,), (jnp.ones_like(x),))


def raised(variance, floor):
    """The variance, or ``floor`` where it is smaller, with the derivative one in both cases."""
    return variance + jax.lax.stop_gradient(jnp.maximum(floor - variance, 0.0))


def _density(x):
    return jnp.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi)
