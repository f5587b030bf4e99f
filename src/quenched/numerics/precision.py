"""A float64 scope around our entry points, which leaves the caller's JAX configuration alone."""

from __future__ import annotations

import functools

import jax

try:  # JAX >= 0.8
    float64 = jax.enable_x64
except AttributeError:  # pragma: older JAX
    from jax.experimental import enable_x64 as float64


def in_float64(fn):
    """Run ``fn`` within a scope in which JAX computes in float64 (thread-local, undone on return).

    >>> import jax.numpy as jnp
    >>> in_float64(lambda: jnp.ones(1).dtype.name)()
    'float64'
    """

    @functools.wraps(fn)
    def scoped(*args, **kwargs):
        with float64(True):
            return fn(*args, **kwargs)

    return scoped
