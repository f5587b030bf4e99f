"""What the samples answer in one step of message passing: proximal points and their derivatives.

Compiled once for a loss and its shapes. Source: S. Rangan (2011), arXiv:1010.5141; with labels, tokens and units: H. Cui
(2024), arXiv:2409.13904.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from quenched.finite.data import Data
from quenched.losses import envelope
from quenched.losses.base import Loss


class Blocks(NamedTuple):
    """The samples in blocks of equal size that share the covariances of their tokens, hence V.

    ``rows`` (K, N): which samples; ``real`` (K, N): 0 where a block is filled up; ``cov`` (K, L, B).
    """

    rows: np.ndarray
    real: np.ndarray
    cov: np.ndarray


def blocks(cov: np.ndarray, index: np.ndarray) -> Blocks:
    """Blocks for the covariance coefficients ``cov`` (C, L, B) of the labels and the label ``index`` (n,) of samples.

    >>> blocks(np.array([[[1.0]], [[2.0]]]), np.array([0, 1, 1])).rows.tolist()
    [[0, 0, 0, 0, 0, 0, 0, 0], [1, 2, 1, 1, 1, 1, 1, 1]]
    """
    kinds, which = np.unique(cov.reshape(len(cov), -1), axis=0, return_inverse=True)
    kind = which.reshape(-1)[index]
    present = np.unique(kind)
    # small blocks: one runs until the slowest of its proximal points has converged
    size = 2 ** int(np.clip(np.round(np.log2(len(index) / len(present))), 3, 5))
    rows, real, coefficients = [], [], []
    for k in present:
        members = np.flatnonzero(kind == k)
        shape = (-(-len(members) // size), size)
        padding = np.full(math.prod(shape) - len(members), members[0])
        rows.append(np.concatenate([members, padding]).reshape(shape))
        real.append((np.arange(math.prod(shape)) < len(members)).astype(np.float64).reshape(shape))
        coefficients.append(np.broadcast_to(kinds[k].reshape(cov.shape[1:]), (shape[0], *cov.shape[1:])))
    return Blocks(np.concatenate(rows), np.concatenate(real), np.concatenate(coefficients))


class Messages(NamedTuple):
    """What one step passes to the samples; sizes: n samples, L tokens, r units, B covariances."""

    h: Any  # (n, L, r): the pre-activations
    f: Any  # (n, L, r): of the step before
    V: Any  # (B, r, r)
    gram: Any  # (r, r)
    scalars: dict


class Answers(NamedTuple):
    """What the samples answer: ``f`` and ``g`` one by one, ``gap`` their largest, all others summed over samples.

    ``g``, ``gram_h`` and ``scalars_h`` are derivatives of the loss at h, or, where it has kinks, at the proximal points.
    """

    f: Any  # (n, L, r): minus the gradient of the loss at the proximal points
    g: Any  # (n, L, r): the gradient of the loss at h
    gap: Any  # distance of a proximal point from h
    slope: Any  # (B, r, r): minus the derivative of f in omega, token by token
    gram: Any  # (r, r): dloss/dgram at the proximal points
    outer: Any  # (k,): dloss/d(free means, scalars) at the proximal points
    curvature: Any  # (k, k): second derivatives of the envelope in free means and scalars
    value: Any  # the loss at h
    gram_h: Any  # (r, r): dloss/dgram
    scalars_h: Any  # dloss/dscalars


@partial(jax.jit, static_argnames="loss")
def answer(loss: Loss, messages: Messages, data: Data, params, grouping: Blocks) -> Answers:
    n, _, r = messages.h.shape
    names = [name for name in loss.names if name != "h"]
    gram, scalars = messages.gram, messages.scalars
    outer, unravel = ravel_pytree((jnp.zeros((data.free.shape[-1], r)), jax.tree.map(jnp.zeros_like, scalars)))

    def one(V, h, f, free, target, label, noise):
        omega = h - jnp.einsum("lab,lb->la", V, f)

        def extra(gram, scalars):
            given = dict(gram=gram, target=target, label=label, noise=noise, scalars=scalars, params=params)
            return {name: given[name] for name in names}

        def loss_at(h, gram, scalars):
            return envelope.evaluate(loss, h, extra(gram, scalars))

        def proximal(omega):
            here = extra(gram, scalars)
            if loss.moreau is not None:
                f = -jax.grad(envelope.moreau, argnums=1)(loss, omega, V, here)
            else:
                f = -jax.grad(envelope.evaluate, argnums=1)(loss, envelope.prox(loss, omega, V, here), here)
            return f, f

        def moved(u):
            shift, change = unravel(u)
            return envelope.moreau(loss, omega + free @ shift, V, extra(gram, jax.tree.map(jnp.add, scalars, change)))

        slope, f = jax.jacfwd(proximal, has_aux=True)(omega)
        point = omega + jnp.einsum("lab,lb->la", V, f)
        at_point = jax.grad(loss_at, argnums=1)(point, gram, scalars)
        empty = jnp.zeros_like(outer), jnp.zeros((outer.size, outer.size))
        first, second = (jax.grad(moved)(outer), jax.hessian(moved)(outer)) if outer.size else empty
        value, (g, at_h, scalars_h) = jax.value_and_grad(loss_at, argnums=(0, 1, 2))(h, gram, scalars)
        if loss.kinks is not None:
            g, at_h, scalars_h = -f, at_point, unravel(first)[1]
        sums = (jnp.einsum("lalb->lab", slope), at_point, first, second, value, at_h, scalars_h)
        return f, g, jnp.max(jnp.abs(point - h)), sums

    def block(part: Blocks):
        V = jnp.einsum("lb,bij->lij", part.cov, messages.V)
        own = (messages.h, messages.f, data.free, data.target, data.label, data.noise)
        f, g, gap, summands = jax.vmap(partial(one, V))(*jax.tree.map(lambda a: a[part.rows], own))
        slope, *sums = jax.tree.map(lambda a: jnp.tensordot(part.real, a, axes=1), summands)
        return f, g, jnp.max(gap), (-jnp.einsum("lb,lij->bij", part.cov, slope), *sums)

    f, g, gap, sums = jax.lax.map(block, grouping)

    def scatter(a):  # a block is filled up with copies of one sample: they say the same
        return jnp.zeros((n, *a.shape[2:])).at[grouping.rows.reshape(-1)].set(a.reshape(-1, *a.shape[2:]))

    return Answers(scatter(f), scatter(g), jnp.max(gap), *jax.tree.map(lambda a: jnp.sum(a, axis=0), sums))
