"""Targets that see a few directions of the inputs: ``sigma_*(theta_1.x, ..., theta_T.x)``, and their Gaussian averages."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from quenched.laws.activation import Activation, activation, coefficients, panels
from quenched.numerics import check
from quenched.numerics.gaussian import tensor_hermite
from quenched.numerics.precision import float64

#: Nodes an axis for targets of several directions, and how far a rule of two thirds as many may differ (in units of the square).
_NODES, _ROUGH = {2: 48, 3: 24, 4: 14}, 1e-4


class Moments(NamedTuple):
    """Averages of the target: ``mean``, ``gradient`` (T,) = E d_t sigma_*, ``hessian`` (T, T), ``second`` = E sigma_*^2."""

    mean: float
    gradient: np.ndarray
    hessian: np.ndarray
    second: float


class Given(NamedTuple):
    """The target given kappa, at C values: E[y|kappa], E[y chi_s|kappa] for each further direction, the variance of y."""

    mean: Float[Array | np.ndarray, " C"]
    slope: Float[Array | np.ndarray, "C T"]
    variance: Float[Array | np.ndarray, " C"]


@dataclasses.dataclass(frozen=True, repr=False)
class IndexTarget:
    """A function of T orthonormal directions of the inputs. Made by :func:`index_target`.

    >>> target = index_target(lambda x, y: x + 0.5 * x * y)
    >>> target.directions, target(jnp.array([2.0, 1.0])).item(), target.moments.gradient.round(12).tolist()
    (2, 3.0, [1.0, 0.0])
    """

    fn: Activation | Callable
    directions: int = 1
    first: tuple[float, ...] | None = None  # the frame's first row, where it is not the mean gradient's direction

    @property
    def __name__(self):  # how problems show it
        return getattr(self.fn, "__name__", repr(self.fn))

    def __repr__(self):
        return repr(self.fn) if self.directions == 1 else f"index_target({getattr(self.fn, '__name__', repr(self.fn))})"

    def __call__(self, fields):
        """The target at fields (..., T), JAX code."""
        return self.fn(fields[..., 0]) if self.directions == 1 else _several(self.fn, self.directions, fields)

    def facing(self, direction) -> IndexTarget:
        """The same target for a spike whose part within the target's space has this ``direction`` (T,).

        >>> turned = index_target(lambda x, y: x + 0.5 * x * y).facing([0.6, 0.8])
        >>> turned.frame.round(12)[0].tolist()
        [0.6, 0.8]
        """
        direction = check.array("direction", direction, shape=(self.directions,))
        return dataclasses.replace(self, first=tuple(map(float, direction)))

    @property
    def kinks(self) -> tuple:
        """Where a target of one direction has a kink or jumps."""
        return self.fn.kinks if self.directions == 1 else ()

    @functools.cached_property
    def nodes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fields (N, T) of standard normal inputs, weights (N,), and the target there (N,)."""
        with float64(True):
            if self.directions == 1:
                z, weights = (np.asarray(v) for v in panels(self.kinks, jnp.zeros(()), jnp.ones(())))
                z = z[:, None]
            else:
                z, weights = tensor_hermite(self.directions, _NODES[self.directions])
            return z, weights / weights.sum(), np.asarray(self(jnp.asarray(z)))

    @functools.cached_property
    def moments(self) -> Moments:
        """The averages over standard normal inputs."""
        z, weights, y = self.nodes
        gradient, second = z.T @ (weights * y), float(weights @ y**2)
        gradient = np.where(np.abs(gradient) < 1e-13 * np.sqrt(second), 0.0, gradient)
        hessian = (z.T * (weights * y)) @ z - float(weights @ y) * np.eye(self.directions)
        return Moments(float(weights @ y), gradient, hessian, second)

    @functools.cached_property
    def frame(self) -> np.ndarray:
        """Orthonormal rows (T, T): first the direction of the mean gradient (for one: plus; or :meth:`facing`), then the others."""
        if self.directions == 1:
            return np.ones((1, 1))
        gradient = self.moments.gradient if self.first is None else np.asarray(self.first)
        first = gradient if np.any(gradient) else np.eye(self.directions)[0]
        q = np.linalg.qr(np.column_stack([first, np.eye(self.directions)]))[0].T
        return q * np.where(np.arange(len(q)) == 0, np.sign(q[0] @ first), 1.0)[:, None]

    @functools.cached_property
    def values(self) -> tuple[float, ...] | None:
        """The values of a target of one direction that is constant between its jumps, from left to right; else None."""
        if self.directions > 1 or not self.kinks:
            return None
        edges = np.concatenate([[self.kinks[0] - 2.0], self.kinks, [self.kinks[-1] + 2.0]])
        parts = edges[:-1, None] + np.diff(edges)[:, None] * np.array([0.05, 0.3, 0.7, 0.95])
        with float64(True):
            y = np.asarray(self(jnp.asarray(parts)[..., None]))
            far = np.asarray(self(jnp.asarray([[edges[0] - 20.0], [edges[-1] + 20.0]])))
        flat = np.all(y == y[:, :1]) and far[0] == y[0, 0] and far[1] == y[-1, 0]
        return tuple(float(v) for v in y[:, 0]) if flat else None

    def given(self, kappa, alignment) -> Given:
        """The target at C values of kappa, the field along the spike, whose ``alignment`` with the frame's first row is in [0, 1].

        ``chi_1`` is the rest of that direction, ``chi_s`` for s > 1 the other rows of :attr:`frame`.

        >>> given = index_target("linear").given(np.array([-1.0, 2.0]), alignment=0.5)
        >>> given.mean.round(12).tolist(), given.variance.round(12).tolist()
        ([-0.5, 1.0], [0.75, 0.75])
        """
        xp = jnp if check.traced(alignment) else np
        rest = xp.sqrt(xp.maximum(1.0 - alignment**2, 0.0))
        if self.directions == 1:
            found = coefficients(self.fn, alignment * kappa, rest**2)
            slope = rest * found.kappa_1
            return Given(found.kappa_0, slope[:, None], found.kappa_star2 + slope**2)
        chi, weights = tensor_hermite(self.directions, _NODES[self.directions])
        with float64(True):
            found = _given(self, jnp.asarray(kappa), jnp.asarray(alignment), jnp.asarray(rest), chi, weights / weights.sum())
        return found if check.traced(kappa, alignment) else Given(*(np.asarray(v) for v in found))


def index_target(what) -> IndexTarget:
    """The :class:`IndexTarget` of a name, a function of one number, or a function of 2 to 4 numbers (one for each direction).

    - One direction: a name or function as for :func:`quenched.laws.activation.activation` (kinks and jumps are found).
    - Several: a JAX function of as many positional arguments, elementwise on arrays, and smooth: averages are taken by
      Gauss-Hermite rules, and refused where two of them differ by more than 1e-4.

    Raises ``ValueError`` or ``TypeError`` for anything else.

    >>> index_target("sin").moments.gradient.round(6).tolist()
    [0.606531]
    >>> index_target(lambda x, y: x + 0.5 * x * y).moments.hessian.round(6).tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    if isinstance(what, IndexTarget):
        return what
    count = 1 if isinstance(what, (str, Activation)) or not callable(what) else _arguments(what)
    if count == 1:
        try:
            return _of_one(activation(what))
        except (ValueError, TypeError) as error:
            raise type(error)(str(error).replace("activation must be", "target must be")) from error
    if count not in _NODES:
        raise ValueError(f"target must be a function of one to {max(_NODES)} numbers, one for each direction, got one of {count}")
    try:
        return _checked(IndexTarget(what, count))
    except TypeError as error:
        if "unhashable" in str(error):
            raise TypeError(f"target must be a hashable function (wrap it in a def), got {what!r}") from error
        raise


@functools.lru_cache(maxsize=128)
def _of_one(fn: Activation) -> IndexTarget:
    return IndexTarget(fn)


def _arguments(fn) -> int:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in parameters) or 1


@functools.lru_cache(maxsize=128)
def _checked(target: IndexTarget) -> IndexTarget:
    """The target of several directions, if it can be averaged."""
    T = target.directions

    def refuse(why):
        raise ValueError(f"target must be an elementwise function of {T} numbers with finite values, got {target!r}, which {why}")

    x = np.random.default_rng(0).standard_normal((6, T))
    with float64(True):
        try:
            y = np.asarray(jax.jit(target)(jnp.asarray(x)))
            turned = np.asarray(target(jnp.asarray(x[::-1][:, None])))
        except (jax.errors.JAXTypeError, ValueError) as error:
            if isinstance(error, ValueError) and "truth value" not in str(error):
                raise
            raise TypeError(
                f"target must be a function that JAX can trace (jax.numpy, and jnp.where in place of if), got {target!r}"
            ) from error
        if y.shape != (6,) or turned.shape != (6, 1) or not np.allclose(turned[:, 0], y[::-1]):
            refuse("does not act entry by entry")
        if not np.all(np.isfinite(target.nodes[2])):
            refuse("is not finite everywhere")
        z, weights = tensor_hermite(T, 2 * _NODES[T] // 3 | 1)  # odd: with nodes where the finer rule has none, at zero
        coarse = np.asarray(target(jnp.asarray(z)))
    fine, second = target.nodes, target.moments.second
    for power in (1, 2):
        rules = (z, weights / weights.sum(), coarse), fine
        moments = []
        for x, w, y in rules:
            up_to_one = np.column_stack([np.ones(len(x)), x])
            moments.append((up_to_one.T * (w * y**power)) @ up_to_one)
        if np.max(np.abs(moments[0] - moments[1])) > _ROUGH * max(second, second ** (power / 2)):
            refuse("has kinks or jumps, or varies too fast, for the averages over several directions")
    return target


def _several(fn, count, fields):
    value = jnp.asarray(fn(*(fields[..., t] for t in range(count))))
    return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(fields.dtype)


@functools.partial(jax.jit, static_argnums=0)
def _given(target, kappa, alignment, rest, chi, weights):
    frame = target.frame

    def one(k):
        along = alignment * k + rest * chi[:, :1]
        y = target(jnp.concatenate([along, chi[:, 1:]], axis=1) @ frame)
        mean = weights @ y
        return Given(mean, chi.T @ (weights * y), weights @ (y - mean) ** 2)

    return jax.lax.map(one, kappa)
