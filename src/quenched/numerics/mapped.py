"""Functions of many points, compiled once for lists of every length, or of few lengths."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from .precision import float64

#: Points in one call of a program, at most.
CHUNK = 1024
#: Rows that are evaluated at once, of few and of many.
_PIECES = (1024, 65536)


def room(count: int, least: int) -> int:
    """The smallest power of two that is at least ``count`` and ``least``, itself a power of two: lists are filled up to it.

    >>> [room(n, 16) for n in (1, 16, 17, 100)]
    [16, 16, 32, 128]
    """
    return max(least, 1 << max(count - 1, 0).bit_length())


def filled(array, size: int):
    """``array`` (n, ...) with zeros up to ``size`` entries."""
    return np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]), array.dtype)])


def each(fn, shared: tuple, points: tuple):
    """``fn(*shared, *point)`` of every point, one after the other: a pytree of arrays (n, ...).

    - ``fn``: JAX code, a function of a module (it keys the compilation).
    - ``shared``: pytrees; ``points``: arrays (n, ...), of which a point has one entry each.

    >>> each(jnp.add, (1.0,), (np.arange(3.0),)).tolist()
    [1.0, 2.0, 3.0]
    """
    points = tuple(np.asarray(a) for a in points)
    found = []
    for start in range(0, max(len(points[0]), 1), CHUNK):
        chunk = tuple(a[start : start + CHUNK] for a in points)
        count = len(chunk[0])
        ends = _each(fn, shared, tuple(filled(a, CHUNK) for a in chunk), count)
        found.append(jax.tree.map(lambda a, count=count: np.asarray(a)[:count], ends))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *found)


@functools.partial(jax.jit, static_argnums=0)
def _each(fn, shared, points, count):
    return loop(lambda k: fn(*shared, *(a[k] for a in points)), count, CHUNK)


def loop(one, count, size: int):
    """Within a trace: ``one(k)`` for every k below ``count`` (traced), a pytree of arrays (size, ...), zero beyond."""
    empty = jax.tree.map(lambda a: jnp.zeros((size, *a.shape), a.dtype), jax.eval_shape(one, 0))
    return jax.lax.fori_loop(0, count, lambda k, found: jax.tree.map(lambda all_, new: all_.at[k].set(new), found, one(k)), empty)


def elementwise(fn, x):
    """``fn`` of every entry of a NumPy array of any shape, in float64: a pytree of such arrays.

    >>> elementwise(jnp.square, np.arange(4.0).reshape(2, 2)).tolist()
    [[0.0, 1.0], [4.0, 9.0]]
    """
    x = np.asarray(x, np.float64)
    return jax.tree.map(lambda a: a.reshape(x.shape), by_rows(fn, x.reshape(-1)))


def by_rows(fn, x):
    """``fn(x)`` for a function that maps every row of ``x`` (n, ...) by itself: a pytree of NumPy arrays (n, ...), in float64.

    ``fn``: JAX code, hashable (it keys the compilation, one for few rows and one for many).

    >>> by_rows(lambda x: x.sum(axis=1), np.ones((3, 2))).tolist()
    [2.0, 2.0, 2.0]
    """
    x = np.asarray(x, np.float64)
    size, out = _PIECES[len(x) > _PIECES[0]], None
    with float64(True):
        for start in range(0, max(len(x), 1), size):
            piece = x[start : start + size]
            ends = _evaluated(fn, piece if len(piece) == size else filled(piece, size))
            if any(np.shape(leaf)[:1] != (size,) for leaf in jax.tree.leaves(ends)):
                return jax.tree.map(np.asarray, _evaluated(fn, x))  # whatever it does: the caller will see
            if out is None:
                out = jax.tree.map(lambda leaf: np.empty((len(x), *leaf.shape[1:]), leaf.dtype), ends)
            for whole, part in zip(jax.tree.leaves(out), jax.tree.leaves(ends), strict=True):
                whole[start : start + size] = np.asarray(part)[: len(piece)]
    return out


@functools.partial(jax.jit, static_argnums=0)
def _evaluated(fn, x):
    return fn(x)
