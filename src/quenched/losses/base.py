"""A loss is a JAX function that names the arguments it uses."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import numbers
from collections.abc import Callable

import numpy as np

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


def takes(what: str, fn: Callable, *names: str) -> None:
    """ValueError unless ``fn`` can be called with these arguments by position, each of ``ARGUMENTS`` in its own place.

    >>> takes("loss", lambda: 0.0, "h", "label")
    Traceback (most recent call last):
    ...
    ValueError: loss must be a function of (h, label), got one of ()
    """
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):  # compiled functions do not say what they take
        return
    try:
        bound = signature.bind(*names).arguments
    except TypeError as error:
        raise ValueError(f"{what} must be a function of ({', '.join(names)}), got one of {signature}") from error
    if len(names) > 1 and any(name in ARGUMENTS and given in ARGUMENTS and name != given for name, given in bound.items()):
        raise ValueError(f"{what} must be a function of ({', '.join(names)}) in this order, got one of {signature}")


def answer(what: str, fn: Callable, *arguments, real: bool = False, **named):
    """What a user's function returns, within JAX's tracing: a number or an array (with ``real``: not of booleans).

    ``TypeError``, in one sentence, where it returns anything else or cannot be traced; ``ValueError`` where it fails by itself.
    """
    import jax
    import jax.numpy as jnp

    untraceable = jax.errors.ConcretizationTypeError, jax.errors.TracerArrayConversionError, jax.errors.TracerIntegerConversionError
    try:
        value = fn(*arguments, **named)
    except (*untraceable, ValueError) as error:
        if isinstance(error, ValueError) and "truth value" not in str(error):
            raise
        raise TypeError(
            f"{what} is traced by JAX, which knows no values yet: it must choose by jnp.where(h > 0, a, b) and not by if, "
            "and compute by jax.numpy and not by NumPy, math or float()"
        ) from error
    except (ArithmeticError, AttributeError, LookupError, NameError) as error:
        raise ValueError(f"{what} could not be evaluated, {type(error).__name__}: {error}") from error
    kind = type(value)
    if isinstance(value, (jax.Array, np.ndarray, np.generic, numbers.Number)):
        kind = jnp.result_type(value)
        if any(jnp.issubdtype(kind, one) for one in (jnp.floating, jnp.integer, *(() if real else (jnp.bool_,)))):
            return value
    allowed = "a single real number" if real else "a real number or an array of them"
    raise TypeError(f"{what} must return {allowed}, got {getattr(kind, '__name__', kind)}")


@functools.lru_cache(maxsize=256)
def elementwise(what: str, fn: Callable, *shape: int) -> None:
    """Refuses what is not a JAX function of one array that returns an array of the same shape (tried on ``shape``)."""
    import jax

    from ..numerics.precision import float64

    takes(what, fn, "h")
    with float64(True):
        found = jax.eval_shape(lambda h: jax.numpy.asarray(answer(what, fn, h)), jax.ShapeDtypeStruct(shape, np.float64)).shape
    if found != shape:
        raise ValueError(f"{what} must return one number for each number, got an array of shape {found} for one of shape {shape}")


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

    >>> import quenched as qn
    >>> distance = qn.Loss(
    ...     lambda h, label: abs(h - label), kinks=lambda V, label: np.array([label - V, label + V]), convex=True, scalar=True
    ... )
    >>> distance.names, float(distance(np.array([[0.5]]), label=2.0))
    (('h', 'label'), 1.5)
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

    def __post_init__(self):
        if not callable(self.fn):
            raise ValueError(f"fn must be a JAX function, got {self.fn!r}")

    @property
    def names(self) -> tuple[str, ...]:
        """The arguments this loss uses."""
        return argument_names(self.fn)

    def kinks_of(self, scalars, params) -> Callable | None:
        """``kinks`` as a function of V and the label alone, or None.

        >>> distance = Loss(
        ...     lambda h, params: abs(h - params["at"]), scalar=True,
        ...     kinks=lambda V, label, params: params["at"] + np.array([-V, V]),
        ... )
        >>> distance.kinks_of(scalars=None, params={"at": 1.0})(0.5, label=None).tolist()
        [0.5, 1.5]
        """
        if self.kinks is None:
            return None
        given = {"scalars": scalars, "params": params}
        return functools.partial(self.kinks, **{k: v for k, v in given.items() if k in inspect.signature(self.kinks).parameters})

    def __call__(self, h, gram=None, target=None, label=None, noise=None, scalars=None, params=None):
        given = dict(gram=gram, target=target, label=label, noise=noise, scalars=scalars, params=params)
        h = h[0, 0] if self.scalar else h
        return answer("loss", self.fn, real=True, **{k: h if k == "h" else given[k] for k in self.names})
