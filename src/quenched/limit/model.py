"""A stated problem as the theory sees it: numbers that are traced, and a structure that is compiled once."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..laws.base import Law
from ..losses.base import Loss
from ..losses.response import Response
from ..numerics import check


class Model(eqx.Module):
    """Law, loss, response and numbers of one problem; ``structure`` (the treedef) keys the compilation."""

    law: Law
    response: Response | None
    alpha: Any
    weight_decay: Any
    params: dict
    scalars: dict
    loss: Loss = eqx.field(static=True)
    units: int = eqx.field(static=True)
    observables: tuple = eqx.field(static=True)  # (name, function)
    reads: tuple = eqx.field(static=True)  # which tokens the target reads
    frozen: tuple = eqx.field(static=True)  # overlaps held at zero; "units": kept exchangeable; "rotations"
    derived: tuple = eqx.field(static=True, default=())  # (name, function of model and overlaps)
    held: Any = eqx.field(default_factory=dict)  # overlap ("m" or "theta") -> (direction, value): <direction, overlap> is held
    symmetries: tuple = eqx.field(static=True, default=())  # (order of the tokens, sign) of h and target that the loss does not see
    zeroed: dict = eqx.field(default_factory=dict)  # overlap -> whether it is held at zero, see :meth:`for_any_branch`

    @property
    def shape(self):
        """(A, B, L, t, C)."""
        labels = self.law.labels()
        rho, _ = self.law.targets()
        C, L, A = labels.mean.shape
        return A, labels.cov.shape[-1], L, rho.shape[-1], C

    def for_any_branch(self) -> Model:
        """The same model with what is held at zero as numbers, not structure: one program serves all branches."""
        names = ("m", "theta")
        zeroed = {name: np.asarray(name in self.frozen) for name in names}
        return dataclasses.replace(self, frozen=tuple(name for name in self.frozen if name not in names), zeroed=zeroed)

    def unless_zeroed(self, name: str, value):
        """``value`` of, or conjugate to, the overlap ``name``: zero where that is held at zero."""
        if name in self.frozen:
            return jnp.zeros_like(value)
        return jnp.where(self.zeroed[name], 0.0, value) if name in self.zeroed else value


def target_reads(law: Law) -> tuple[bool, ...]:
    """For each token, whether the target's pre-activation varies there (static: no dimension is spent otherwise)."""
    rho, _ = law.targets()
    cov = law.labels().cov
    if check.traced(rho, cov):
        return (True,) * cov.shape[1]
    strength = np.abs(np.asarray(rho)).sum(axis=(1, 2))
    return tuple(bool(x) for x in (np.abs(np.asarray(cov)) @ strength).max(axis=0) > 0.0)


def as_numbers(model):
    """Every real leaf as a float64 NumPy array (a Python float would recompile), integers as they are."""

    def convert(leaf):
        if isinstance(leaf, (bool, np.bool_)):
            return np.asarray(leaf)
        if check.traced(leaf):
            return leaf
        array = np.asarray(leaf)
        return array if array.dtype.kind in "iub" else array.astype(np.float64)

    return jax.tree.map(convert, model)
