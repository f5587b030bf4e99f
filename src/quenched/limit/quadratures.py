"""What is fixed by a problem's structure: its dimensions, and which quadrature each of its averages uses."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..losses.base import argument_names
from ..numerics import gaussian
from ..numerics.chebyshev import chebyshev_nodes
from . import fields
from .channel import loss_layout
from .jumps import NO_JUMPS, Jumps, as_key, of_key, steps_only, target_jumps
from .model import Model
from .observables import SPLIT, training_layout
from .parts import Parts, in_parts

#: Default tolerances of the quadrature error: up to three dimensions, and more (coarse or quasi-random rules).
TOLERANCE, COARSE_TOLERANCE = 1e-6, 5e-3

#: Chebyshev nodes for an interpolated outcome, level by level.
INTERPOLATION = (16, 20, 28, 40)


class Scheme(NamedTuple):
    """The averages of one problem structure.

    ``shape`` is (A, B, L, t, C); ``dimension`` counts the Gaussian variables of the loss; ``panels`` says that its rule is given
    by the ends of panels, which kinks then split; ``inner`` counts the variables of the target's field where a real outcome is
    interpolated (else None); ``splits``: where the loss, or the interpolated outcome, jumps as the target moves, and panels
    end, or quasi-random rules are used; ``levels`` is the height of the ladder of rules; ``jumps`` tells for
    every observable whether it is boolean, ``rules`` gives its rule; ``tolerance`` is the default one. ``symmetries``: the orders
    and signs of tokens under which neither the loss nor the law changes; nodes that are images of one another are merged.
    ``general``: those of them that hold on every branch; rules in parts have the shape that they would have with these.
    """

    shape: tuple
    dimension: int
    quadratic: bool
    panels: bool
    inner: int | None
    splits: Jumps
    levels: int
    jumps: tuple
    rules: tuple
    tolerance: float
    symmetries: tuple = ()
    general: tuple = ()

    def loss_rule(self, level: int):
        """Nodes and weights of one level (two pairs and Chebyshev nodes for an interpolated outcome), or the ends of panels
        (and no weights)."""
        if self.panels:
            return gaussian.breakpoints(level), np.zeros(0)
        if self.inner is not None:
            inner = gaussian.inner_rule(self.inner, level)
            if self.splits.places:
                inner = gaussian.breakpoints(level), np.asarray(self.splits.places)
            return *gaussian.outer_rule(self.dimension, level), *inner, chebyshev_nodes(INTERPOLATION[level])
        return _nodes(self.dimension, level, self.quadratic, self.symmetries, self.splits)

    def solving_rules(self, level: int):
        """The rule to solve with, and the one that measures its error: None where the first is in parts, and knows a finer one."""
        ladder = None
        if not self.panels and self.inner is None:
            ladder = _ladder(self.dimension, self.levels, self.quadratic, self.symmetries, self.general, self.splits)
        if ladder is None:
            return self.loss_rule(level), self.loss_rule(level + 1) if level + 1 < self.levels else None
        return ladder._replace(level=np.array(level)), None


@functools.lru_cache(maxsize=64)
def _ladder(dimension: int, levels: int, quadratic: bool, symmetries: tuple, general: tuple, splits: Jumps) -> Parts | None:
    rules = [_nodes(dimension, level, quadratic, symmetries, splits) for level in range(levels)]
    if any(len(rule) != 2 for rule in rules):
        return None
    return in_parts(rules, None if symmetries == general else _ladder(dimension, levels, quadratic, general, general, splits))


def _nodes(dimension: int, level: int, quadratic: bool, symmetries: tuple, splits: Jumps):
    if splits != NO_JUMPS:
        return jumping_rule(splits, dimension, level)
    return rule(dimension, level, quadratic, symmetries)


@functools.lru_cache(maxsize=64)
def rule(dimension: int, level: int, quadratic: bool, symmetries: tuple):
    """A rule of the ladder for functions with these symmetries."""
    return fold(*gaussian.rule(dimension, level, quadratic), symmetries)


def fold(nodes, weights, symmetries: tuple):
    """Nodes that are images of one another, merged: a symmetry is an order and a sign of the tokens' equal blocks of variables."""
    if not symmetries:
        return nodes, weights

    def moved(z, order, sign):
        return sign * z.reshape(len(z), len(order), -1)[:, order].reshape(z.shape)

    return gaussian.folded(nodes, weights, [functools.partial(moved, order=list(order), sign=sign) for order, sign in symmetries])


def valid_symmetries(model: Model) -> tuple:
    """The symmetries of the loss that the law has too: equal covariances, and means that turn with the sign (or are held at 0)."""
    labels = model.law.labels()
    mean, cov = np.asarray(labels.mean), np.asarray(labels.cov)
    held = np.zeros_like(mean) if "m" in model.frozen else mean
    return tuple(
        (order, sign)
        for order, sign in model.symmetries
        if np.array_equal(cov[:, list(order)], cov) and np.array_equal(sign * held[:, list(order)], held)
    )


def scheme(model: Model) -> Scheme:
    """The averages of a model whose leaves are NumPy arrays; kept per structure."""
    leaves, treedef = jax.tree.flatten(model)
    structure = treedef, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
    splits, steps = _irregular(_Looked.at(model, leaves, treedef))
    symmetries = valid_symmetries(model) if model.symmetries else ()
    general = valid_symmetries(dataclasses.replace(model, frozen=())) if model.symmetries else ()
    return _scheme(*structure, splits, steps, symmetries, general)


class _Looked:
    """A model that equals those with the same numbers, whatever its alpha and weight decay: functions do not see these."""

    def __init__(self, model: Model, key):
        self.model, self.key = model, key

    @classmethod
    def at(cls, model: Model, leaves, treedef) -> _Looked:
        digest = hashlib.blake2b(digest_size=16)
        for leaf in leaves:
            if leaf is not model.alpha and leaf is not model.weight_decay:
                digest.update(repr((leaf.dtype, leaf.shape)).encode() + leaf.tobytes())
        return cls(model, (treedef, digest.digest()))

    def __hash__(self):
        return hash(self.key)

    def __eq__(self, other):
        return self.key == other.key


@functools.lru_cache(maxsize=256)
def _irregular(looked: _Looked) -> tuple:
    """Where the loss and the observables jump, and which of the observables take few values only."""
    model = looked.model
    named = [(fn, argument_names(fn, "observable")) for _, fn in model.observables]
    splits = tuple(jumps_of(model, fn, names) for fn, names in [(model.loss, model.loss.names), *named])
    return splits, tuple(steps_only(model, fn, names) for fn, names in named)


def jumps_of(model: Model, fn, names) -> Jumps:
    """Where ``fn``, of the arguments ``names``, jumps as the target moves, also by way of the outcome: of a link, or of the
    probability of a discrete outcome beside the target itself, as that of a sign without noise."""
    found, response = target_jumps(model, fn, names), model.response
    if "label" not in names or response is None:
        return found
    if getattr(response, "link", None) is not None:
        return found.joined(target_jumps(model, _by_name(response.link), ("target",)))
    if response.outcomes is not None and "target" in names:
        return found.joined(target_jumps(model, _probabilities(*as_key(response)), ("target",)))
    return found


@functools.lru_cache(maxsize=512)
def _by_name(link):
    return lambda target: link(target)


@functools.lru_cache(maxsize=512)
def _probabilities(numbers, structure):
    """The probabilities of the outcomes of a response given the target."""
    response = of_key(numbers, structure)

    def given(target):
        cov = jnp.zeros((*target.shape, target.shape[-1]))
        return jnp.stack([response.probability(y, target, cov) for y in np.asarray(response.outcomes)])

    return given


@functools.lru_cache(maxsize=512)
def _scheme(treedef, shapes, splits, steps, symmetries, general) -> Scheme:
    model = jax.tree.unflatten(treedef, [np.zeros(shape, dtype) for shape, dtype in shapes])
    plan = loss_layout(model)
    dimension = plan.dimension(model)
    quadratic = model.loss.quadratic and not plan.outcomes and not plan.linked  # neither a probability nor a link is a polynomial
    interpolated = plan.outcomes and model.response.linked
    split = splits[0] if plan.target or plan.linked or interpolated else NO_JUMPS
    if interpolated and split.moving:
        raise ValueError(
            "the link of a response must not jump where it reads several targets: write the outcome into the loss, as a "
            "function of target, or use quenched.losses.Finite"
        )
    inner = sum(model.reads) * model.shape[3]
    return Scheme(
        shape=model.shape,
        dimension=dimension,
        quadratic=quadratic,
        panels=model.loss.kinks is not None and dimension == 1,
        inner=inner if interpolated else None,
        splits=split,
        levels=4 if split != NO_JUMPS or interpolated else gaussian.levels(dimension, quadratic),
        jumps=steps,
        rules=tuple(observable_rule(model, fn, *how) for (_, fn), *how in zip(model.observables, steps, splits[1:], strict=True)),
        tolerance=COARSE_TOLERANCE if split.moving or dimension + (inner + 1 if interpolated else 0) > 3 else TOLERANCE,
        symmetries=symmetries,
        general=general,
    )


#: Panels for a target at whose jumps they end, and the rule for one to three variables beside it, level by level.
_TARGET = {0: (4, 6, 9, 14), 1: (4, 6, 9, 14), 2: (3, 4, 6, 9), 3: (2, 3, 4, 6)}
_REST = {1: (24, 40, 64, 100), 2: (14, 20, 30, 42), 3: (8, 10, 13, 16)}


def jumping_rule(jumps: Jumps, dimension: int, level: int):
    """The ends of the target's panels, its jumps, nodes and weights for the other variables; or a quasi-random rule."""
    if jumps.moving or dimension - 1 not in _TARGET:
        return gaussian.sobol(dimension, gaussian.SOBOL[level], seed=level)
    rest = gaussian.tensor_hermite(dimension - 1, _REST[dimension - 1][level]) if dimension > 1 else gaussian.rule(0, 0)
    panels = _TARGET[dimension - 1][level]
    return np.linspace(-gaussian.RANGE, gaussian.RANGE, panels + 1), np.asarray(jumps.places), *rest


def observable_rule(model: Model, fn, boolean: bool, jumps: Jumps = NO_JUMPS, finer: int = 0):
    """The rule for an observable's average over fresh data; ``jumps``: where it jumps as the target moves.

    ``finer`` = 1: the next one, which tells the error; other quasi-random points where there is none."""
    size = fields.layout(model, argument_names(fn, "observable")).dimension(model)
    if boolean and size <= SPLIT * (1 - finer):
        return gaussian.rule(size, 0)  # which tells the dimension: panels end at the jumps
    if boolean or jumps.moving:
        return gaussian.sobol(size, 17, seed=finer)
    # in one dimension nodes are cheap, and few kinks are far from the end of a panel
    level = (3 if size == 1 else 1) + finer
    return jumping_rule(jumps, size, 1 + finer) if jumps.places else gaussian.rule(size, min(level, gaussian.levels(size) - 1))


def training_rule(model: Model, fn, jumps: Jumps, finer: int = 0):
    """The rule for an average over the training fields: panels that end at the kinks of the proximal operator, where it has any,
    or at the targets at which ``fn`` or the loss ``jumps``. ``finer`` = 1: the next one."""
    dimension = training_layout(model, fn).dimension(model)
    if jumps != NO_JUMPS:
        return jumping_rule(jumps, dimension, 2 + finer)
    level = max(0, gaussian.levels(dimension) - 2 + finer)
    if dimension == 1 and model.loss.kinks is not None:
        return gaussian.breakpoints(level), np.zeros(0)
    return gaussian.rule(dimension, level)
