"""What is fixed by a problem's structure: its dimensions, and which quadrature each of its averages uses."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import numpy as np

from ..losses.base import argument_names
from ..numerics import gaussian
from ..numerics.chebyshev import chebyshev_nodes
from . import fields
from .channel import loss_layout
from .model import Model
from .observables import is_discontinuous, training_layout

#: Default tolerances of the quadrature error: up to three dimensions, and more (coarse or quasi-random rules).
TOLERANCE, COARSE_TOLERANCE = 1e-6, 5e-3

#: Chebyshev nodes for an interpolated outcome, level by level.
INTERPOLATION = (16, 20, 28, 40)


class Scheme(NamedTuple):
    """The averages of one problem structure.

    ``shape`` is (A, B, L, t, C); ``dimension`` counts the Gaussian variables of the loss; ``panels`` says that its rule is given
    by the ends of panels, which kinks then split; ``inner`` counts the variables of the target's field where a real outcome is
    interpolated (else None); ``levels`` is the height of the ladder of rules; ``jumps`` tells for
    every observable whether it is discontinuous, ``rules`` gives its rule; ``tolerance`` is the default one.
    """

    shape: tuple
    dimension: int
    quadratic: bool
    panels: bool
    inner: int | None
    levels: int
    jumps: tuple
    rules: tuple
    tolerance: float

    def loss_rule(self, level: int):
        """Nodes and weights of one level (two pairs and Chebyshev nodes for an interpolated outcome), or the ends of panels
        (and no weights)."""
        if self.panels:
            return gaussian.breakpoints(level), np.zeros(0)
        if self.inner is not None:
            inner = gaussian.inner_rule(self.inner, level)
            return *gaussian.outer_rule(self.dimension, level), *inner, chebyshev_nodes(INTERPOLATION[level])
        return gaussian.rule(self.dimension, level, self.quadratic)


def scheme(model: Model) -> Scheme:
    """The averages of a model whose leaves are NumPy arrays; kept per structure."""
    leaves, treedef = jax.tree.flatten(model)
    return _scheme(treedef, tuple((leaf.shape, leaf.dtype) for leaf in leaves))


@functools.lru_cache(maxsize=512)
def _scheme(treedef, shapes) -> Scheme:
    model = jax.tree.unflatten(treedef, [np.zeros(shape, dtype) for shape, dtype in shapes])
    plan = loss_layout(model)
    dimension = plan.dimension(model)
    quadratic = model.loss.quadratic and not plan.outcomes  # the probability of an outcome is no polynomial
    interpolated = plan.outcomes and model.response.linked
    inner = sum(model.reads) * model.shape[3]
    jumps = tuple(is_discontinuous(model, fn, observable_rule(model, fn, False)) for _, fn in model.observables)
    return Scheme(
        shape=model.shape,
        dimension=dimension,
        quadratic=quadratic,
        panels=model.loss.kinks is not None and dimension == 1,
        inner=inner if interpolated else None,
        levels=len(INTERPOLATION) if interpolated else gaussian.levels(dimension, quadratic),
        jumps=jumps,
        rules=tuple(observable_rule(model, fn, jump) for (_, fn), jump in zip(model.observables, jumps, strict=True)),
        tolerance=TOLERANCE if dimension + (inner + 1 if interpolated else 0) < 4 else COARSE_TOLERANCE,
    )


def observable_rule(model: Model, fn, discontinuous: bool):
    """The rule for an observable's average over fresh data."""
    size = fields.layout(model, argument_names(fn, "observable")).dimension(model)
    if discontinuous and size > 1:
        return gaussian.sobol(size, 16, seed=0)
    return gaussian.rule(size, min(1, gaussian.levels(size) - 1))


def training_rule(model: Model, fn):
    """The rule for an average over the training fields: panels that end at the kinks of the proximal operator, where it has any."""
    dimension = training_layout(model, fn).dimension(model)
    level = max(0, gaussian.levels(dimension) - 2)
    if dimension == 1 and model.loss.kinks is not None:
        return gaussian.breakpoints(level), np.zeros(0)
    return gaussian.rule(dimension, level)
