"""Losses that are maxima of straight lines: read off a hand-written one, in the form that the interior-point method takes."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from quenched.losses.base import Loss
from quenched.losses.kinked import breaks
from quenched.numerics.precision import float64


class Lines(NamedTuple):
    """sum_mu loss(h_mu) = constant + sum_k max over low_k <= a <= high_k of a (t_k - s_k h_{row_k}); all (K,), K >= n."""

    row: np.ndarray
    t: np.ndarray
    s: np.ndarray
    low: np.ndarray
    high: np.ndarray
    constant: float


def lines(loss: Loss, y, params) -> Lines | None:
    """The loss as straight lines for the labels ``y`` (n,), or None where it is not made of them.

    >>> from quenched.losses.kinked import with_kinks
    >>> tube = with_kinks(Loss(lambda h, label: jnp.maximum(0.0, jnp.abs(h - label) - 1.0), scalar=True))
    >>> made = lines(tube, np.array([3.0]), None)
    >>> [a.round(6).tolist() for a in (made.t, made.low, made.high)]
    [[-2.0, -4.0], [-1.0, 0.0], [0.0, 1.0]]
    """
    one = np.ones_like(y)
    row = np.arange(len(y))
    if loss.name == "hinge":
        return Lines(row, one, y, 0.0 * one, one, 0.0)
    if loss.name == "absolute":
        return Lines(row, y, one, -one, one, 0.0)
    if not (loss.convex and loss.kinks is not None and set(loss.names) <= {"h", "label", "params"}):
        return None
    return _read(loss, y, params)


def _read(loss, y, params):
    values, which = np.unique(y, return_inverse=True)
    with float64(True):
        place, before, after, level = (np.asarray(a) for a in breaks(loss, values, None, params))
    jump = after - before
    real = jump > 1e-6 * (np.abs(before) + np.abs(after))
    order = np.argsort(np.where(real, place, np.inf), axis=1)
    place, before, jump, level, real = (np.take_along_axis(a, order, 1) for a in (place, before, jump, level, real))
    # the same kink may have been found from two sides
    real[:, 1:] &= np.diff(place, axis=1) > 1e-9 * (1.0 + np.abs(place[:, 1:]))
    if not np.all(real[:, 0]):
        return None
    first = np.arange(real.shape[1]) == 0
    low, high = np.where(first, before, 0.0), np.where(first, before + jump, jump)
    h = np.concatenate([np.sinh(np.linspace(-6.0, 6.0, 41)), values[:40]])
    rise = h - place[:, :, None]
    made = level[:, :1] + np.where(real[:, :, None], np.maximum(low[:, :, None] * rise, high[:, :, None] * rise), 0.0).sum(1)
    with float64(True):
        given = np.asarray(_table(loss, h, values, params))
    if not np.allclose(made, given, rtol=1e-8, atol=1e-8 * np.abs(given).max(initial=0.0) / 100.0):
        return None
    sample, kink = np.nonzero(real[which])
    pick = which[sample], kink
    return Lines(sample, -place[pick], -np.ones(len(sample)), low[pick], high[pick], float(level[which, 0].sum()))


@functools.partial(jax.jit, static_argnames="loss")
def _table(loss, h, labels, params):
    """The loss at every h for every label, (labels, h)."""

    def one(h, label):
        return loss(jnp.reshape(h, (1, 1)), label=label, params=params)

    return jax.vmap(jax.vmap(one, in_axes=(0, None)), in_axes=(None, 0))(h, labels)
