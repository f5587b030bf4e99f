"""Where a loss or an observable jumps as a function of the target's field, as a label ``sign(h_*)`` does."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..losses.base import answer
from ..numerics.gaussian import RANGE
from ..numerics.precision import float64
from .model import Model

_GRID, _CANDIDATES, _HALVINGS, _PROBES = 2047, 16, 45, 3


class Jumps(NamedTuple):
    """``places``: the values of a single target at which a function jumps, whatever its other arguments; ``moving``: it jumps
    elsewhere too, at places that depend on other arguments (on several targets, on noise)."""

    places: tuple = ()
    moving: bool = False

    def joined(self, other: Jumps) -> Jumps:
        """Where either jumps."""
        return Jumps(tuple(sorted({*self.places, *other.places})), self.moving or other.moving)


NO_JUMPS = Jumps()


def target_jumps(model: Model, fn, names: tuple) -> Jumps:
    """Where ``fn``, of the arguments ``names``, jumps as the target moves: found by bisection.

    It is probed along lines of targets, 8.5 standard deviations either side, at a few fixed values of its other
    arguments. ``model`` holds NumPy numbers.
    """
    if "target" not in names or not any(model.reads):
        return NO_JUMPS
    (rho, m_star), labels = model.law.targets(), model.law.labels()
    t = rho.shape[-1]
    mean, cov = np.asarray(labels.mean), np.asarray(labels.cov)
    sizes = np.einsum("clb,btt->clt", cov, rho)
    reads = np.asarray(model.reads)[:, None] & np.ones(t, bool)
    single = reads.sum() == 1
    rng = np.random.default_rng(0)
    classes = rng.integers(0, len(cov), _PROBES)
    if single:
        centres, reach = (mean @ m_star)[:, reads][:, 0], RANGE * np.sqrt(sizes[:, reads][:, 0])
        line = np.linspace((centres - reach).min(), (centres + reach).max(), _GRID + 1)
        base, direction = np.zeros((_PROBES, *reads.shape)), np.broadcast_to(1.0 * reads, (_PROBES, *reads.shape))
    else:
        line = np.linspace(-RANGE, RANGE, _GRID + 1)
        around = rng.standard_normal((2, _PROBES, *reads.shape)) * np.sqrt(sizes[classes])
        base, direction = (mean @ m_star)[classes] + 0.5 * around[0], around[1]
    h, noise = rng.standard_normal((_PROBES, mean.shape[1], model.units)), rng.standard_normal(_PROBES)
    probes = h, _labels(model, labels.value, classes, rng), noise, base, direction
    found = _found(fn, names, *as_key((line, probes, _shared(model, names))))
    if not single:
        return Jumps((), any(found))
    places = np.unique(np.concatenate(found))
    places = [x for k, x in enumerate(places) if k == 0 or x - places[k - 1] > _SAME * (1.0 + abs(x))]
    fixed = tuple(float(x) for x in places if sum(_near(x, row) for row in found) > 1)
    return Jumps(fixed, len(fixed) < len(places))


def steps_only(model: Model, fn, names: tuple) -> bool:
    """Whether a function of ``names`` takes few values only, as a boolean or ``where(label * h < 0, 1.0, 0.0)`` does: it jumps.

    It is looked at for 300 random arguments; ``model`` holds NumPy numbers.
    """
    A, B, L, t, C = model.shape
    rng, count = np.random.default_rng(1), 300
    labels = model.law.labels()
    given = {
        "h": rng.standard_normal((count, L, model.units)),
        "target": rng.standard_normal((count, L, t)),
        "label": _labels(model, labels.value, rng.integers(0, C, count), rng),
        "noise": rng.standard_normal(count),
    }
    return _few_values(fn, names, *as_key((given, {"gram": np.eye(model.units), **_shared(model, names)})))


def _shared(model: Model, names: tuple) -> dict:
    """What a function of ``names`` may see of the model's own numbers."""
    return {name: value for name, value in {"params": model.params, "scalars": model.scalars}.items() if name in names}


def as_key(tree) -> tuple:
    """A pytree of numbers as two hashable things: its leaves and its structure."""
    leaves, structure = jax.tree.flatten(tree)
    return tuple((a.dtype.str, a.shape, a.tobytes()) for a in map(np.asarray, leaves)), structure


def of_key(numbers, structure):
    """The pytree of :func:`as_key`, of NumPy arrays."""
    return jax.tree.unflatten(structure, [np.frombuffer(data, dtype).reshape(shape) for dtype, shape, data in numbers])


@functools.lru_cache(maxsize=512)
def _few_values(fn, names, numbers, structure) -> bool:
    given, shared = of_key(numbers, structure)
    with float64(True):
        values = np.asarray(_probed(fn, names, given, shared))
    return len(np.unique(values.reshape(len(values), -1).astype(float).round(12), axis=0)) <= 16


@functools.partial(jax.jit, static_argnames=("fn", "names"))
def _probed(fn, names, given, shared):
    """``fn`` at every sample of ``given``."""
    return jax.vmap(lambda own: jnp.asarray(answer("observable", fn, **{name: {**shared, **own}[name] for name in names})))(given)


def _labels(model: Model, values, classes, rng):
    """What a function may see as the label: outcomes where there is a response, else the law's own."""
    response, count = model.response, len(classes)
    A, B, L, t, C = model.shape
    if response is None:
        return jax.tree.map(lambda a: np.asarray(a)[classes], values)
    if response.outcomes is not None:
        return rng.choice(np.asarray(response.outcomes), count)
    return rng.standard_normal((count, L, t) if response.additive_variance is not None and L * t > 1 else count)


_SAME = 1e-9


def _near(x, places) -> bool:
    return any(abs(x - y) <= _SAME * (1.0 + abs(x)) for y in places)


@functools.lru_cache(maxsize=512)
def _found(fn, names, numbers, structure) -> tuple:
    """The places along the line at which ``fn`` jumps, probe by probe."""
    line, probes, shared = of_key(numbers, structure)

    def along(x):
        with float64(True):
            return np.asarray(_along(x, probes, shared, fn, names))

    with np.errstate(invalid="ignore"):  # a function that is no number somewhere has no jump there
        return _bisect(along, line)


def _bisect(along, line) -> tuple:
    y = along(np.broadcast_to(line, (_PROBES, line.size)))
    step = np.nan_to_num(np.abs(np.diff(y, axis=1)), posinf=0.0)
    excess = step.copy()
    excess[:, 1:-1] -= np.maximum(step[:, :-2], step[:, 2:])  # what is smooth steps alike from one interval to the next
    which = np.argsort(excess, axis=1)[:, -_CANDIDATES:]
    low, high = line[which], line[which + 1]
    y_low, y_high = np.take_along_axis(y, which, 1), np.take_along_axis(y, which + 1, 1)
    before = np.abs(y_high - y_low)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        y_middle = along(middle)
        left = np.abs(y_middle - y_low) >= np.abs(y_high - y_middle)
        low, high = np.where(left, low, middle), np.where(left, middle, high)
        y_low, y_high = np.where(left, y_low, y_middle), np.where(left, y_middle, y_high)
    jumped = np.abs(y_high - y_low) > np.maximum(0.1 * before, 1e-10)
    middle = 0.5 * (low + high)
    return tuple(tuple(np.sort(middle[k][jumped[k]]).tolist()) for k in range(_PROBES))


@functools.partial(jax.jit, static_argnames=("fn", "names"))
def _along(x, probes, shared, fn, names):
    """``fn`` at the points ``x`` (P, X) of each probe's line."""

    def at(h, label, noise, base, direction, x):
        given = dict(shared, h=h, gram=jnp.eye(h.shape[1]), target=base + x * direction, label=label, noise=noise)
        value = jnp.ravel(jnp.asarray(answer("observable", fn, **{name: given[name] for name in names}), x.dtype))
        return value @ jnp.cos(jnp.arange(value.size))  # any number in which no jump of an array cancels

    return jax.vmap(lambda x, *probe: jax.vmap(lambda x: at(*probe, x))(x))(x, *probes)
