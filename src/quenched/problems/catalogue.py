"""Problems by name, stated in words and numbers: what a command line or a file can say."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping


def catalogue() -> dict[str, type]:
    """Name -> class, of every problem that can be stated in words and numbers.

    >>> "GeneralizedLinear" in catalogue(), "SequenceProblem" in catalogue()
    (True, False)
    """
    from .. import problems

    classes = {name: getattr(problems, name) for name in problems.__all__}
    kept = {n: c for n, c in classes.items() if isinstance(c, type) and issubclass(c, problems.Problem)}
    return {n: c for n, c in kept.items() if n not in ("Problem", "SequenceProblem")}


def named(name: str) -> type:
    """The class of this name; ``ValueError`` with the nearest name for another."""
    known = catalogue()
    if name not in known:
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise ValueError(f"no problem is called {name!r}; {hint}")
    return known[name]


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The parameters of a problem's constructor."""
    return dict(inspect.signature(cls).parameters)


def stated(cls: type, given: Mapping):
    """The problem with these parameters; a ``law`` given as a dict is that of :func:`quenched.laws.mixture`, a ``learner`` or
    ``target`` that of :class:`quenched.laws.DeepNetwork`. ``ValueError`` for parameters that are missing, unknown or refused.

    >>> stated(named("GeneralizedLinear"), {"loss": "square", "target": "linear", "alpha": 2.0, "weight_decay": 0.1}).alpha
    2.0
    """
    from .. import laws

    known = parameters(cls)
    for name in given:
        if name not in known:
            raise ValueError(f"{cls.__name__} takes {', '.join(known)}, got {name!r}")
    missing = [name for name, p in known.items() if p.default is p.empty and name not in given]
    if missing:
        raise ValueError(f"{cls.__name__} needs {', '.join(missing)}")
    makers = {"law": laws.mixture, "learner": laws.DeepNetwork, "target": laws.DeepNetwork}

    def made(name, value):
        if name not in makers or not isinstance(value, Mapping):
            return value
        try:
            return makers[name](**value)
        except TypeError as error:  # of the signature
            raise ValueError(f"{name} must hold the arguments of quenched.laws.{makers[name].__name__}: {error}") from None

    return cls(**{name: made(name, value) for name, value in given.items()})
