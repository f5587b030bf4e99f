"""A study as a file of TOML: the arguments of a sweep, in words and numbers."""

from __future__ import annotations

import pathlib
import tomllib
from collections.abc import Mapping

import numpy as np

from ..numerics import check
from ..problems import solve_many
from ..problems.catalogue import named, stated

_KEYS = ("problem", "parameters", "over", "simulate", "solve", "store", "executor", "along", "time_limit")
_SPACES = {"linspace": np.linspace, "geomspace": np.geomspace}


def read(path) -> dict:
    """The arguments of :func:`quenched.sweep` in a file such as::

        problem = "GeneralizedLinear"
        store = "logistic"                             # beside the file; without it, named as the file
        executor = "processes"                         # or left out: trials in this process

        [parameters]
        loss = "logistic"
        target = "sign"

        [over]
        weight_decay = [0.01, 0.1, 1.0]
        alpha = { geomspace = [0.2, 20.0, 60] }        # or linspace: first, last, how many

        [simulate]                                     # left out: theory alone
        dim = 500
        seeds = 8
        every = { alpha = 6 }

        [solve]                                        # options of the solver, if any
        tol = 1e-9

    ``along`` and ``time_limit`` are those of the sweep. ``ValueError`` for what is no such file, ``OSError`` if it cannot be read.
    """
    path = pathlib.Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be a file of TOML: {error}") from None
    for name in content:
        check.choice(f"{path}: a key", name, _KEYS)
    for name in ("parameters", "over", "simulate", "solve"):
        if not isinstance(content.get(name, {}), dict):
            raise ValueError(f"{path}: {name} must be a table [{name}], got {content[name]!r}")
    for name in ("problem", "over"):
        if name not in content:
            raise ValueError(f"{path} must hold {name!r}, got {', '.join(content) or 'nothing'}")
    for name in ("problem", "store"):
        if not isinstance(content.get(name, ""), str):
            raise ValueError(f"{path}: {name} must be a word, got {content[name]!r}")
    for name in content.get("solve", {}):
        check.choice(f"{path}: a key of [solve]", name, ("init", *check.keywords(solve_many, without=("progress",))))
    over = {name: _values(f"over.{name}", values) for name, values in content["over"].items()}
    first = {name: np.asarray(values)[0].item() for name, values in over.items() if np.size(values)}
    cls = named(content["problem"])
    solve = dict(content.get("solve", {}))
    return {
        "problem": stated(cls, content.get("parameters", {}) | first),
        "over": over,
        "simulate": content.get("simulate"),
        "store": path.parent / content.get("store", path.stem),
        **{name: content[name] for name in ("executor", "along", "time_limit") if name in content},
        **solve,
    }


def _values(name: str, values):
    if isinstance(values, list) and all(isinstance(value, (bool, int, float, str)) for value in values):
        return values
    if not isinstance(values, Mapping) or len(values) != 1 or next(iter(values)) not in _SPACES:
        raise ValueError(
            f"{name} must be a list of numbers or words, or linspace or geomspace of [first, last, how many], got {values!r}"
        )
    ((kind, given),) = values.items()
    if not isinstance(given, list) or len(given) != 3:
        raise ValueError(f"{name}: {kind} must be [first, last, how many], got {given!r}")
    first, last = (check.scalar(f"{name}: {kind}", x) for x in given[:2])
    if kind == "geomspace" and not (first > 0.0 and last > 0.0):
        raise ValueError(f"{name}: geomspace must lie between positive numbers, got {given!r}")
    return _SPACES[kind](first, last, check.integer(f"{name}: {kind}[2]", given[2]))
