"""State evolution: the overlaps that message passing has after every step, in the limit n, d -> infinity.

One step is the saddle point's undamped, parallel update; its fixed points are the saddle points.
Source: M. Bayati, A. Montanari (2011), arXiv:1001.3448; with labels, tokens and units: H. Cui (2024), arXiv:2409.13904.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..numerics import check
from ..numerics.newton import newton_step
from ..numerics.precision import float64
from .channel import channel
from .model import Model, as_numbers
from .quadratures import scheme
from .saddle import SINGULAR, Unknowns, update
from .solve import refuse_impossible, starting_point


def evolve(model: Model, steps: int, init="uninformed", level: int | None = None) -> dict[str, np.ndarray]:
    """The overlaps ``q``, ``V``, ``m``, ``theta``, ``Q`` and the trained scalars: name -> (steps + 1, ...), the start first.

    ``init`` is a start of :func:`~quenched.limit.solve.starting_point`; ``level`` that of the quadrature, None for the finest
    but one. Free means and trained scalars take one Newton step on the channel, as they do in message passing.
    ``ValueError`` for a start that no weights have, and where a step leaves the region in which overlaps are defined, as it
    may from weights that lie exactly on the target where outcomes are discrete: the quadrature cannot see the jump there.

    >>> from quenched.laws import single
    >>> from quenched.losses import Additive, square
    >>> numbers = dict(alpha=2.0, weight_decay=0.1, params={}, scalars={})
    >>> structure = dict(loss=square, units=1, observables=(), reads=(True,), frozen=())
    >>> q = evolve(Model(single(), Additive(0.1), **numbers, **structure), 30)["q"]
    >>> q.shape, round(float(q[-1, 0, 0, 0]), 6)
    ((31, 1, 1, 1), 0.915571)
    """
    steps = check.integer("steps", steps)
    model = as_numbers(model)
    averages = scheme(model)
    finest = averages.levels - 1
    level = max(0, finest - 1) if level is None else check.integer("level", level, 0)
    if level > finest:
        raise ValueError(f"level must be at most {finest}, the finest of this problem's quadratures, got {level}")
    rule = averages.loss_rule(level)
    unknowns = starting_point(model, init)
    refuse_impossible(model, unknowns)
    rows = [unknowns]
    with float64(True):
        for step in range(1, steps + 1):
            singular = _smallest(model, unknowns) < SINGULAR
            new, outer = jax.device_get(_step(model, unknowns, rule, singular))
            unknowns = _with_outer(model, unknowns, new, *outer)
            if not _defined(model, unknowns):
                raise ValueError(f"init must be overlaps from which state evolution can go on, got lost in step {step}")
            rows.append(unknowns)
    table = [{**row.overlaps._asdict(), **row.scalars} for row in rows]
    return {name: np.stack([np.asarray(row[name]) for row in table]) for name in table[0]}


def _smallest(model: Model, unknowns: Unknowns) -> float:
    """The smallest relative eigenvalue of the covariance of (omega, h_*), over all labels and tokens."""
    q, theta = (np.asarray(a) for a in (unknowns.overlaps.q, unknowns.overlaps.theta))
    rho = np.asarray(model.law.targets()[0])
    joint = np.concatenate([np.concatenate([q, theta], -1), np.concatenate([np.swapaxes(theta, 1, 2), rho], -1)], -2)
    cov = np.asarray(model.law.labels().cov)
    values = np.linalg.eigvalsh(np.tensordot(cov.reshape(-1, cov.shape[-1]), joint, axes=1))
    return float(np.min(values[:, 0] / np.maximum(values[:, -1], np.finfo(float).tiny)))


def _defined(model: Model, unknowns: Unknowns) -> bool:
    """All finite, and every token's susceptibility positive."""
    if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(unknowns)):
        return False
    cov = np.asarray(model.law.labels().cov)
    V = np.tensordot(cov.reshape(-1, cov.shape[-1]), np.asarray(unknowns.overlaps.V), axes=1)
    return bool(np.all(np.linalg.eigvalsh(V)[:, 0] >= 0.0))


@partial(jax.jit, static_argnames="singular")
def _step(model: Model, unknowns: Unknowns, rule, singular: bool):
    """One update, with gradient and Hessian of the channel in the free means and scalars."""
    overlaps = unknowns.overlaps
    free = np.flatnonzero(model.law.free)
    outer, unravel = ravel_pytree((overlaps.m[free], unknowns.scalars))

    def value(u):
        m, scalars = unravel(u)
        return channel(model, overlaps._replace(m=overlaps.m.at[free].set(m)), scalars, rule)

    slopes = (jax.grad(value)(outer), jax.hessian(value)(outer)) if outer.size else (outer, jnp.zeros((0, 0)))
    return update(model, unknowns, rule, singular).unknowns, slopes


def _with_outer(model: Model, old: Unknowns, new: Unknowns, gradient, hessian) -> Unknowns:
    if not gradient.size:
        return new
    free = np.flatnonzero(model.law.free)
    outer, unravel = ravel_pytree((old.overlaps.m[free], old.scalars))
    outer = np.asarray(outer)
    longest = 1.0 + float(np.linalg.norm(outer))
    means, scalars = unravel(outer + newton_step(gradient, hessian, longest))
    m = np.array(new.overlaps.m)
    m[free] = means
    return Unknowns(new.overlaps._replace(m=m), jax.tree.map(np.asarray, scalars))
