"""Refusing bad input where it enters, with one sentence that names the parameter, its value and what is allowed."""

from __future__ import annotations

import difflib
import inspect
import numbers
import sys
from collections.abc import Iterable

import numpy as np


def traced(*values) -> bool:
    """Whether any value is a JAX tracer (then only shapes can be checked). Never imports JAX itself."""
    jax = sys.modules.get("jax")
    return jax is not None and any(isinstance(value, jax.core.Tracer) for value in values)


def scalar(name: str, value, low: float = -np.inf, high: float = np.inf, *, open_low=False, open_high=False, allowed=""):
    """``value`` as a float in the given range; tracers and 0-d arrays pass through.

    >>> scalar("alpha", 2)
    2.0
    >>> scalar("alpha", -1, 0, open_low=True, allowed="positive")
    Traceback (most recent call last):
    ...
    ValueError: alpha must be positive, got -1
    """
    if traced(value):
        if getattr(value, "shape", ()) != ():
            raise ValueError(f"{name} must be a single number, got an array of shape {value.shape}")
        return value
    wanted = allowed or _range_in_words(low, high, open_low, open_high)
    try:
        number = float(value) if not isinstance(value, (str, bytes, bool, np.bool_)) and np.ndim(value) == 0 else None
    except (TypeError, ValueError):
        number = None
    if number is None or not np.isfinite(number):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    if number < low or number > high or (open_low and number == low) or (open_high and number == high):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return number


def _range_in_words(low, high, open_low, open_high):
    if low == -np.inf and high == np.inf:
        return "a finite number"
    if high == np.inf:
        return f"a number {'greater than' if open_low else 'at least'} {low:g}"
    if low == -np.inf:
        return f"a number {'less than' if open_high else 'at most'} {high:g}"
    return f"a number in {'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"


def positive(name: str, value):
    """``value`` as a float > 0."""
    return scalar(name, value, 0.0, open_low=True, allowed="positive")


def nonnegative(name: str, value):
    """``value`` as a float >= 0."""
    return scalar(name, value, 0.0, allowed="non-negative")


#: The most hidden units of a network whose theory has a matrix of them.
UNITS = 1000
#: Squares of numbers between this one's inverse and itself are numbers too.
LARGEST = 1e50


def moderate(name: str, value, low: float = 1.0 / LARGEST):
    """``value`` as a float that is positive (``low`` = 0: or zero) and whose powers neither overflow nor vanish."""
    wanted = "positive" if low > 0.0 else "non-negative"
    return scalar(name, value, low, LARGEST, allowed=f"{wanted}, from {low:g} to {LARGEST:g}")


def integer(name: str, value, low: int = 1, high: int | None = None) -> int:
    """``value`` as an int from ``low`` to ``high``; True, 2.5 and "3" are refused."""
    whole = isinstance(value, (numbers.Integral, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not whole or value < low or (high is not None and value > high):
        allowed = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name} must be a whole number {allowed}, got {value!r}")
    return int(value)


def choice(name: str, value, options):
    """``value`` if it is one of ``options``."""
    if not isinstance(value, str) or value not in tuple(options):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
    return value


class UnknownName(TypeError):
    """An argument that a function does not take."""


def names(what: str, given, allowed) -> None:
    """:class:`UnknownName` for an argument ``what`` does not take, with the ones it does and the one that may have been meant.

    >>> names("solve", {"tolerance": 1e-8}, ("init", "tol"))
    Traceback (most recent call last):
    ...
    quenched.numerics.check.UnknownName: solve takes init, tol, got 'tolerance' (did you mean 'tol'?)
    """
    for name in given:
        if name not in allowed:
            near = difflib.get_close_matches(str(name), allowed, 1, 0.5)
            raise UnknownName(f"{what} takes {', '.join(allowed)}, got {name!r}{f' (did you mean {near[0]!r}?)' if near else ''}")


def keywords(*functions, without=()) -> tuple[str, ...]:
    """The names of the keyword-only arguments of the functions, but for some."""
    found = [p for fn in functions for p in inspect.signature(fn).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return tuple(dict.fromkeys(p.name for p in found if p.name not in without))


def function(what: str, value):
    """``value`` if it is a function or None."""
    if value is not None and not callable(value):
        raise ValueError(f"{what} must be a function or None, got {value!r}")
    return value


def listed(what: str, value):
    """``value`` if it can be gone through; a word is not a list of letters."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{what} must be a list, got {value!r}")
    return value


def brief(value) -> str:
    """A value in a few words: itself where that is short, else its type.

    >>> brief([1, 2]), brief("x" * 99)
    ('[1, 2]', 'str')
    """
    text = repr(value)
    return text if len(text) <= 60 else type(value).__name__


def array(name: str, value, ndim: int | None = None, shape: tuple | None = None):
    """``value`` as a float64 array of finite numbers, of ``ndim`` axes or of ``shape`` (None entries are free)."""
    if not traced(value):
        try:
            if np.iscomplexobj(value) or isinstance(value, (bool, np.bool_)):
                raise TypeError("not real numbers")
            value = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be an array of numbers, got {value!r}") from error
        if not np.all(np.isfinite(value)):
            raise ValueError(f"{name} must hold finite numbers only, got {value!r}")
    if ndim is not None and value.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} axes, got the shape {value.shape}")
    if shape is not None and (
        value.ndim != len(shape) or any(want is not None and want != got for want, got in zip(shape, value.shape, strict=True))
    ):
        raise ValueError(f"{name} must have the shape {shape}, got {value.shape}")
    return value


def probabilities(name: str, value):
    """``value`` as a vector of non-negative numbers that sum to one (to 1e-8; then normalised exactly)."""
    value = array(name, value, ndim=1)
    if traced(value):
        return value
    if value.size == 0 or np.any(value < 0) or abs(value.sum() - 1.0) > 1e-8:
        raise ValueError(f"{name} must be non-negative and sum to one, got {value.tolist()}")
    return value / value.sum()


def covariance(name: str, value):
    """``value`` as a symmetric positive semi-definite matrix (to a relative 1e-10)."""
    value = array(name, value, ndim=2)
    if value.shape[0] != value.shape[1]:
        raise ValueError(f"{name} must be a square matrix, got the shape {value.shape}")
    if traced(value):
        return value
    scale = np.abs(value).max(initial=0.0)
    if np.abs(value - value.T).max(initial=0.0) > 1e-10 * scale:
        raise ValueError(f"{name} must be symmetric, got entries that differ by {np.abs(value - value.T).max():.3g}")
    low = np.linalg.eigvalsh(value).min(initial=0.0)
    if low < -1e-10 * scale:
        raise ValueError(f"{name} must be positive semi-definite, got the eigenvalue {low:.6g}")
    return value
