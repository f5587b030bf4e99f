"""A grid of parameters: its points, which of them are measured, and which belong to one shard."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ..numerics import check
from .records import key


@dataclasses.dataclass(frozen=True)
class Grid:
    """The points of ``over``, parameter name -> values (1-d arrays, see :meth:`of`); one dimension each, in this order."""

    over: dict[str, np.ndarray]

    @classmethod
    def of(cls, over: Mapping) -> Grid:
        """``ValueError`` for anything but lists of distinct numbers, words or truth values."""
        for name in over:
            if not isinstance(name, str):
                raise ValueError(f"over must name parameters, got {name!r}")
        grid = {name: _values(name, values) for name, values in over.items()}
        if not grid:
            raise ValueError("over must name at least one parameter, got none")
        return cls(grid)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.over)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(values) for values in self.over.values())

    @property
    def indices(self) -> list[tuple[int, ...]]:
        return list(np.ndindex(self.shape))

    def point(self, index) -> dict:
        """Parameter name -> value at an index of the grid."""
        return {name: values[k].item() for (name, values), k in zip(self.over.items(), index, strict=True)}

    def key(self, index) -> str:
        return key(self.point(index))

    def words(self, index) -> str:
        return ", ".join(f"{n}={f'{v:.6g}' if isinstance(v, float) else v}" for n, v in self.point(index).items())

    def measured(self, every) -> list[tuple[int, ...]]:
        """The indices where there is an experiment: one in so many, see :func:`quenched.sweep`."""
        strides = self._strides(every)
        return [i for i in self.indices if all(k % stride == 0 for k, stride in zip(i, strides, strict=True))]

    def lines(self, along: str) -> list[list[tuple[int, ...]]]:
        """The indices, line by line along one parameter."""
        axis = self.names.index(check.choice("along", along, self.names))
        lines: dict = {}
        for index in self.indices:
            lines.setdefault(index[:axis] + index[axis + 1 :], []).append(index)
        return list(lines.values())

    def _strides(self, every) -> list[int]:
        if not isinstance(every, Mapping):
            every = check.integer("every", every)
            return [1 if values.dtype.kind in "Ub" else every for values in self.over.values()]
        for name in every:
            check.choice("every", name, self.names)
        return [check.integer(f"every[{name!r}]", every.get(name, 1)) for name in self.names]


def part(items: list, shard) -> list:
    """Every n-th of the items, from the k-th on, for the shard (k, n); all for None."""
    if shard is None:
        return items
    if not isinstance(shard, (tuple, list)) or len(shard) != 2:
        raise ValueError(f"shard must be (k, n), the k-th of n parts, got {shard!r}")
    count = check.integer("shard[1]", shard[1])
    number = check.integer("shard[0]", shard[0])
    if number > count:
        raise ValueError(f"shard must be (k, n) with k from 1 to n, got {tuple(shard)}")
    return items[number - 1 :: count]


def _values(name: str, values) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError:  # of lists of several lengths
        array = np.empty(0)
    if array.dtype.kind in "OT" and array.size and all(isinstance(value, str) for value in array.flat):
        array = array.astype(str)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iufUb":
        raise ValueError(f"over[{name!r}] must be a list of numbers or of words, got {values!r}")
    if len(np.unique(array)) < array.size:
        raise ValueError(f"over[{name!r}] must hold each value once, got {array.tolist()}")
    return array
