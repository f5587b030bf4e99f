"""Rules of quadrature in parts of one size, so that one compiled program serves rules of every length."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

#: Nodes in one part, at most.
SIZE = 256


class Parts(NamedTuple):
    """The rule number ``level`` (traced) of a ladder of rules: its parts are those from ``ends[level]`` to ``ends[level + 1]``."""

    nodes: Any  # (K, SIZE, D)
    weights: Any  # (K, SIZE)
    ends: Any
    level: Any

    @property
    def finer(self) -> Parts | None:
        """The rule one level up; None if the ladder has one rule only. The last rule stands for what would be beyond it."""
        highest = len(self.ends) - 2
        return self._replace(level=jnp.minimum(self.level + 1, highest)) if highest else None


def in_parts(rules, like: Parts | None = None) -> Parts:
    """The first of a ladder of rules (nodes (N, D), weights (N,)). What is missing to the last part of a rule has no weight.

    With a longer ladder ``like`` the arrays have its shapes, so that programs serve both.

    >>> ladder = in_parts([(np.zeros((3, 1)), np.full(3, 1 / 3)), (np.zeros((4, 1)), np.full(4, 0.25))])
    >>> ladder.nodes.shape, ladder.ends.tolist(), ladder.weights.tolist()[-1]
    ((3, 3, 1), [0, 1, 3], [0.25, 0.0, 0.0])
    """
    size = min(SIZE, *(len(weights) for _, weights in rules)) if like is None else like.nodes.shape[1]
    nodes, weights, ends = [], [], [0]
    for x, w in rules:
        missing = -len(w) % size
        nodes += [x, np.repeat(x[-1:], missing, axis=0)]
        weights += [w, np.zeros(missing)]
        ends.append(ends[-1] + (len(w) + missing) // size)
    spare = 0 if like is None else (len(like.nodes) - ends[-1]) * size
    nodes, weights = np.concatenate([*nodes, np.zeros((spare, rules[0][0].shape[1]))]), np.concatenate([*weights, np.zeros(spare)])
    return Parts(nodes.reshape(-1, size, nodes.shape[1]), weights.reshape(-1, size), np.array(ends), np.array(0))


def total(fn, rule, combine=operator.add):
    """``fn(rule)``; of a rule in parts the sum of what ``fn((nodes, weights))`` gives for each of them.

    ``fn`` returns a pytree of arrays; ``combine`` puts values of one leaf together, and leaves them as they are beside zero.
    """
    if not isinstance(rule, Parts):
        return fn(rule)

    nodes, weights, ends = (jnp.asarray(a) for a in rule[:3])

    def part(k):
        return fn((nodes[k], weights[k]))

    first, end = ends[rule.level], ends[rule.level + 1]
    part = jax.jit(part)  # traced once
    none = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(part, first))
    return jax.lax.fori_loop(first, end, lambda k, before: jax.tree.map(combine, before, part(k)), none)
