"""Generalised approximate message passing on one instance: its fixed points are stationary points of the risk."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from quenched.finite.data import Data, outcomes, reads_noise, sample_size
from quenched.finite.observe import order_parameters
from quenched.finite.risk import Trained, arrays
from quenched.laws.base import Instance, Population
from quenched.losses import envelope
from quenched.losses.base import Loss
from quenched.numerics import check
from quenched.numerics.newton import newton_step
from quenched.numerics.precision import float64
from quenched.numerics.results import RESULTS

_LARGE = 1e8  # weights of this size are on their way to infinity


@dataclasses.dataclass(frozen=True, eq=False)
class Passed:
    """Where message passing ended, and how it went there; T iterations make T + 1 rows, the start among them.

    - ``w`` (d, r), ``free`` (F, r), ``scalars``: what was trained;
    - ``trajectory``: name -> (T + 1, ...): the overlaps ``q``, ``V``, ``m``, ``theta``, ``Q`` and the trained scalars;
    - ``gradient`` (T + 1,): |grad R|, the norm of the gradient of the risk in all that is trained. For losses with
      kinks it is the subgradient that the proximal operator chooses, which is one of R's at a fixed point;
    - ``optimality`` (T + 1,): the same relative to its two parts, which cancel at a stationary point (with kinks: or
      how far the proximal points are from the pre-activations, if that is larger);
    - ``risk`` the penalised risk at ``w``, ``train_loss`` the mean loss per sample without the penalty;
    - ``result``: how it ended.
    """

    w: np.ndarray
    free: np.ndarray
    scalars: dict
    trajectory: dict[str, np.ndarray]
    gradient: np.ndarray
    optimality: np.ndarray
    risk: float
    train_loss: float
    result: RESULTS

    @property
    def iterations(self) -> int:
        """The number of steps taken."""
        return len(self.gradient) - 1


class Sample(NamedTuple):
    """A training set, with the label index of every sample and the population it came from."""

    data: Data
    index: np.ndarray
    population: Population


def draw(law, loss: Loss, response=None, *, alpha: float, dim: int, seed) -> Sample:
    """The training set that :func:`quenched.finite.data.draw` gives for this seed, with the labels' indices."""
    instance: Instance = law.draw(seed, sample_size(alpha, dim), dim)
    data = outcomes(instance, response, seed=seed, noise=reads_noise(loss))
    return Sample(data, instance.index, instance.population)


# ---- the samples: proximal points and their derivatives, compiled once for a loss and its shapes ------------------


class Blocks(NamedTuple):
    """The samples in blocks of equal size, each of one covariance for every token, so that a block shares its V.

    ``rows`` (K, N) which samples; ``real`` (K, N) 0 where a block is filled up; ``cov`` (K, L, B).
    """

    rows: np.ndarray
    real: np.ndarray
    cov: np.ndarray


def blocks(cov: np.ndarray, index: np.ndarray) -> Blocks:
    """Blocks for the covariance coefficients ``cov`` (C, L, B) of the labels and the label ``index`` (n,) of samples.

    >>> blocks(np.ones((2, 1, 1)), np.array([0, 1, 1])).rows.tolist()
    [[0, 1, 2, 0, 0, 0, 0, 0]]
    """
    kinds, which = np.unique(cov.reshape(len(cov), -1), axis=0, return_inverse=True)
    kind = which.reshape(-1)[index]
    size = 2 ** int(np.clip(np.round(np.log2(len(index) / len(kinds))), 3, 9))
    rows, real, coefficients = [], [], []
    for k in np.unique(kind):
        members = np.flatnonzero(kind == k)
        count = -(-len(members) // size)
        rows.append(np.resize(np.r_[members, np.full(count * size - len(members), members[0])], (count, size)))
        real.append((np.arange(count * size) < len(members)).reshape(count, size))
        coefficients += [kinds[k].reshape(cov.shape[1:])] * count
    return Blocks(np.concatenate(rows), np.concatenate(real).astype(np.float64), np.stack(coefficients))


class Inputs(NamedTuple):
    """What the samples see: ``omega`` and the pre-activations ``h``, (n, L, r), and what all of them share."""

    omega: Any
    h: Any
    V: Any  # (B, r, r)
    gram: Any  # (r, r)
    scalars: Any


class Outputs(NamedTuple):
    """``f`` (n, L, r) at the proximal points and sums over samples; ``at_h`` are of the risk at the pre-activations."""

    f: Any
    gap: Any  # largest distance of a proximal point from its pre-activation
    V_hat: Any  # (B, r, r): sum of -df/domega, token by token
    d_gram: Any  # (r, r): sum of dloss/dgram
    d_outer: Any  # (k,): sum of dloss/d(free means, scalars)
    hessian: Any  # (k, k): sum of the second derivatives of the envelope in these
    at_h: Any  # loss, its gradient (n, L, r) in h, in gram and in the scalars


@partial(jax.jit, static_argnames=("loss", "free_count"))
def _samples(loss: Loss, free_count: int, inputs: Inputs, data: Data, params, grouping: Blocks) -> Outputs:
    names = [name for name in loss.names if name != "h"]
    r = inputs.omega.shape[-1]
    outer, unravel = ravel_pytree((jnp.zeros((free_count, r)), inputs.scalars))

    def one(V, omega, h, free, target, label, noise):
        def given(gram, scalars):
            table = dict(gram=gram, target=target, label=label, noise=noise, scalars=scalars, params=params)
            return {name: table[name] for name in names}

        def proximal(omega):
            if loss.moreau is not None:
                f = -jax.grad(envelope.moreau, argnums=1)(loss, omega, V, extra)
            else:
                f = -jax.grad(envelope.evaluate, argnums=1)(loss, envelope.prox(loss, omega, V, extra), extra)
            return f, f

        def energy(u):
            shift, scalars = unravel(u)
            moved = jax.tree.map(jnp.add, inputs.scalars, scalars)
            return envelope.moreau(loss, omega + free @ shift, V, given(inputs.gram, moved))

        def direct(h, gram, scalars):
            return envelope.evaluate(loss, h, given(gram, scalars))

        extra = given(inputs.gram, inputs.scalars)
        J, f = jax.jacfwd(proximal, has_aux=True)(omega)
        point = omega + jnp.einsum("lab,lb->la", V, f)
        d_gram = jax.grad(direct, argnums=1)(point, inputs.gram, inputs.scalars)
        d_outer, hessian = jax.grad(energy)(outer), jax.hessian(energy)(outer)
        here = jax.value_and_grad(direct, argnums=(0, 1, 2))(h, inputs.gram, inputs.scalars)
        return f, jnp.max(jnp.abs(point - h)), jnp.einsum("lalb->lab", J), d_gram, d_outer, hessian, here

    def block(part):
        rows, real, cov = part
        V = jnp.einsum("lb,bij->lij", cov, inputs.V)
        own = (inputs.omega, inputs.h, data.free, data.target, data.label, data.noise)
        own = jax.tree.map(lambda a: a[rows], own)
        f, gap, J, d_gram, d_outer, hessian, (value, (g, at_gram, at_scalars)) = jax.vmap(partial(one, V))(*own)

        def total(a):
            return jnp.tensordot(real, a, axes=1)

        V_hat = -jnp.einsum("lb,lij->bij", cov, total(J))
        sums = jax.tree.map(total, (V_hat_free(d_gram), d_outer, hessian, value, V_hat_free(at_gram), at_scalars))
        return f, g, jnp.max(gap), V_hat, sums

    f, g, gap, V_hat, sums = jax.lax.map(block, grouping)
    d_gram, d_outer, hessian, value, at_gram, at_scalars = jax.tree.map(lambda a: jnp.sum(a, axis=0), sums)
