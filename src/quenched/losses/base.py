"""A loss is a JAX function that names the arguments it uses."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable

ARGUMENTS = ("h", "gram", "target", "label", "noise", "scalars", "params")


@functools.lru_cache(maxsize=1024)
def argument_names(fn: Callable, what: str = "loss") -> tuple[str, ...]:
    """The arguments that ``fn`` asks for, a subset of ``ARGUMENTS``; ValueError for any other name.

    >>> argument_names(lambda h, label: 0.0)
    ('h', 'label')
    """
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} must be a Python function with named arguments, got {fn!r}") from error
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = tuple(p.name for p in parameters if p.name in ARGUMENTS or (p.default is p.empty and p.kind not in variadic))
    unknown = [name for name in names if name not in ARGUMENTS]
    if unknown:
        raise ValueError(f"{what} asks for the argument {unknown[0]!r}; it may use {', '.join(ARGUMENTS)}")
    return names


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss function and what is known about it. Hashable: two equal losses share one compilation.

    - ``fn``: ``fn(h, gram, target, label, noise, scalars, params) -> scalar``, naming only what it uses.
      ``h`` is (L, r), ``gram = w^T w / d`` is (r, r), ``target`` is (L, t).
    - ``name``: the name of a built-in loss; the experiment picks its solver by it.
    - ``prox``: ``prox(omega, V, label) -> h``, a special solver for scalar h; derivatives stay automatic.
    - ``moreau``: ``moreau(omega, V, **arguments) -> (value, h)``, a closed-form envelope, right at V = 0 too,
      for losses without a Hessian.
    - ``starts``: ``starts(omega, **arguments) -> h (K, L, r)``: where the search for a global minimum begins, for losses whose
      minima are known to lie in the basins of a few points; None for starts that suit any loss.
    - ``kinks``: ``kinks(V, label) -> array`` where, in a scalar omega, the envelope is not smooth (``scalars`` and ``params`` may
      be further arguments).
    - ``residual``: the loss is a function of ``h - label`` (scalar).
    - ``quadratic``: the loss is quadratic in all its Gaussian arguments.
    - ``convex``: True, False, or None for unknown (then several starts are tried).
    - ``scalar``: ``fn`` takes a scalar h, and scalar labels.
    - ``shift``: the same number added to all units of a token changes nothing (softmax).
    """

    fn: Callable
    name: str = "custom"
    prox: Callable | None = None
    moreau: Callable | None = None
    starts: Callable | None = None
    kinks: Callable | None = None
    residual: bool = False
    quadratic: bool = False
    convex: bool | None = None
    scalar: bool = False
    shift: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments this loss uses."""
        return argument_names(self.fn)

    def kinks_of(self, scalars, params) -> Callable | None:
        """``kinks`` as a function of V and the label alone, or None."""
        if self.kinks is None:
            return None
        given = {"scalars": scalars, "params": params}
        return functools.partial(self.kinks, **{k: v for k, v in given.items() if k in inspect.signature(self.kinks).parameters})

    def __call__(self, h, gram=None, target=None, label=None, noise=None, scalars=None, params=None):
        given = dict(gram=gram, target=target, label=label, noise=noise, scalars=scalars, params=params)
        h = h[0, 0] if self.scalar else h
        return self.fn(**{k: h if k == "h" else given[k] for k in self.names})
