"""Finished points and trials as plain arrays and words: what is stored, sent between processes, and made into a Dataset."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from ..finite.trials import CONVERGED

CERTIFICATE = ("converged", "stable", "approximate", "residual", "quadrature_error", "replicon")


@dataclasses.dataclass(frozen=True)
class Solved:
    """The theory at one ``point`` (a text, see :func:`key`): numbers by name, ``status``, and why it ``failed`` (empty if not)."""

    point: str
    values: dict[str, np.ndarray]
    status: str
    failed: str

    @classmethod
    def of(cls, point: str, solution) -> Solved:
        """The record of a solution, or of the exception that came instead of one."""
        if isinstance(solution, BaseException):
            return cls(point, {}, reason(solution), reason(solution))
        values = {**solution.order_parameters, **solution.observables}
        values |= {name: getattr(solution, name) for name in CERTIFICATE}
        failed = "" if solution.converged else str(solution.result)
        return cls(point, {k: np.asarray(v, dtype=float) for k, v in values.items()}, solution.status, failed)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One trial at one ``point``: its ``seed`` as a text, numbers by name, ``status`` ("converged", or why it is left out)."""

    point: str
    seed: str
    values: dict[str, np.ndarray]
    status: str

    @classmethod
    def all_of(cls, point: str, trials) -> list[Trial]:
        """The records of a :class:`~quenched.Trials`, one for each seed."""
        return [
            cls(point, seed_key(seed), {name: value[i] for name, value in trials.values.items()}, trials.status[i])
            for i, seed in enumerate(trials.seeds)
        ]

    @property
    def converged(self) -> bool:
        return self.status == CONVERGED


def key(point: dict) -> str:
    """A point of a grid as a text that is the same for the same values, however they were written: 1 is 1.0."""

    def written(value):
        value = value.item() if isinstance(value, np.generic) else value
        return float(value) if type(value) is int and abs(value) < 2**53 else value

    return json.dumps({name: written(value) for name, value in sorted(point.items())})


def seed_key(seed) -> str:
    return json.dumps([int(s) for s in seed] if isinstance(seed, (tuple, list)) else int(seed))


def reason(error: BaseException) -> str:
    """What went wrong: the sentence of a refusal, or the kind of an unforeseen error with its message."""
    text = str(error).strip() or type(error).__name__
    return text if isinstance(error, (ValueError, ArithmeticError, RuntimeError)) else f"{type(error).__name__}: {text}"


def padded(arrays: list[np.ndarray | None]) -> np.ndarray:
    """Arrays of one rank in one, NaN where one is missing or smaller than the largest."""
    known = [a for a in arrays if a is not None]
    rank = max(a.ndim for a in known)
    shaped = [None if a is None else a.reshape(a.shape + (1,) * (rank - a.ndim)) for a in arrays]
    size = np.max([a.shape for a in shaped if a is not None], axis=0).astype(int) if rank else ()
    out = np.full((len(arrays), *size), np.nan)
    for i, array in enumerate(shaped):
        if array is not None:
            out[(i, *(slice(n) for n in array.shape))] = array
    return out
