"""Descent from a given start: L-BFGS (SciPy) or Adam (Optax) and L-BFGS, then Newton steps to the tolerance."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

from quenched.finite import newton
from quenched.finite.result import Status
from quenched.finite.risk import Risk, value_and_grad
from quenched.numerics.precision import float64

_LARGE = 1e8  # weights of this size are on their way to infinity
_CHUNK = 100  # steps of Adam per call
_DETERMINED = 1e-4  # with weight_decay = 0, a Newton step this small (relative) says that the weights have settled


class Descent(NamedTuple):
    """The last point with its risk, relative gradient, status and number of iterations."""

    z: np.ndarray
    risk: float
    optimality: float
    status: Status
    iterations: int


def lbfgs(risk: Risk, z: np.ndarray, gtol: float, max_iterations: int) -> tuple[np.ndarray, int]:
    """L-BFGS until the largest entry of the gradient is below ``gtol``; stops by itself where the risk runs away."""

    def stop_if_running_away(intermediate_result):
        if not np.isfinite(intermediate_result.fun) or not np.abs(intermediate_result.x).max(initial=0.0) < _LARGE:
            raise StopIteration

    found = scipy.optimize.minimize(
        risk.value_and_grad,
        z,
        jac=True,
        method="L-BFGS-B",
        callback=stop_if_running_away,
        options=dict(maxcor=20, ftol=0.0, gtol=gtol, maxiter=max_iterations, maxfun=10 * max_iterations, maxls=40),
    )
    return found.x, int(found.nit)


@partial(jax.jit, static_argnames=("loss", "layout"))
def _adam_chunk(loss, layout, z, state, rate, data, weight_decay, params):
    """``_CHUNK`` steps of Adam on the risk per sample."""
    import optax

    n = data.x.shape[0]

    def step(carry, _):
        z, state = carry
        _, gradient = value_and_grad(loss, layout, z, data, weight_decay, params)
        update, state = optax.scale_by_adam().update(gradient / n, state)
        return (z - rate * update, state), None

    return jax.lax.scan(step, (z, state), None, length=_CHUNK)[0]


def adam(risk: Risk, z: np.ndarray, small, max_iterations: int, learning_rate: float) -> tuple[np.ndarray, int]:
    """Adam with a constant learning rate on the whole sample until ``small(z, gradient)``.

    Small steps keep it in the basin of its start, where the line searches of L-BFGS may jump. It stops too where the
    risk has not fallen for ten chunks of a hundred steps.
    D. P. Kingma and J. Ba (2014), arXiv:1412.6980.
    """
    import optax

    best, since = np.inf, 0
    with float64(True):
        state = optax.scale_by_adam().init(jnp.asarray(z))
        for taken in range(0, max_iterations, _CHUNK):
            value, gradient = risk.value_and_grad(z)
            best, since = (value, 0) if value < best - 1e-7 * abs(best) or best == np.inf else (best, since + 1)
            if small(z, gradient) or since == 10 or not np.isfinite(value):
                return z, taken
            z, state = _adam_chunk(
                risk.loss, risk.layout, z, state, learning_rate, risk.data, risk.weight_decay, risk.params
            )
            z = np.array(z)
    return z, max_iterations


def descend(
    risk: Risk, z: np.ndarray, *, optimiser: str, tol: float, max_iterations: int, learning_rate: float
) -> Descent:
    """A local minimum of ``risk`` from ``z``: ``optimiser`` "lbfgs" or "adam", then Newton steps, until ``tol``.

    ``max_iterations`` limits the descent; the Newton steps at its end come on top and are counted in the result.
    """
    start = max(float(np.linalg.norm(risk.value_and_grad(at)[1])) for at in (z, risk.zero))

    def small(z, gradient, tol=tol):
        return risk.relative_gradient(z, gradient, start) <= tol

    descended = steps = 0
    for attempt in range(3):  # a line search that failed for lack of digits is helped by a restart
        value, gradient = risk.value_and_grad(z)
        if attempt == 0 and not _finite(z, value, gradient):
            return Descent(z, value, float("inf"), Status.DIVERGED, 0)
        left = max_iterations - descended
        if optimiser == "adam" and attempt == 0:
            z, taken = adam(risk, z, partial(small, tol=max(tol, 1e-4)), left, learning_rate)
        else:
            z, taken = lbfgs(risk, z, _largest_entry(risk, z, gradient, start, tol), left)
        descended += taken
        value, gradient = risk.value_and_grad(z)
        if not _finite(z, value, gradient):
            return Descent(z, value, float("inf"), Status.DIVERGED, descended)
        length = 0.0
        if not small(z, gradient) or risk.weight_decay == 0:
            polished = newton.polish(risk.value_and_grad, risk.hessian_product, z, small=small)
            z, gradient, length = polished.z, polished.gradient, polished.length
            steps += polished.steps
        if small(z, gradient) or descended >= max_iterations:
            break
    optimality = risk.relative_gradient(z, gradient, start)
    if optimality > tol:
        status = Status.MAX_ITERATIONS if descended >= max_iterations else Status.STALLED
    elif risk.weight_decay == 0 and length > _DETERMINED * np.linalg.norm(z):
        status = Status.UNDETERMINED
    elif not risk.loss.convex and _is_saddle(risk, z):
        status = Status.SADDLE
    else:
        status = Status.CONVERGED
    return Descent(z, risk.value_and_grad(z)[0], optimality, status, descended + steps)


def _finite(z, value, gradient) -> bool:
    return bool(np.isfinite(value) and np.all(np.isfinite(gradient)) and np.abs(z).max(initial=0.0) < _LARGE)


def _largest_entry(risk: Risk, z, gradient, start: float, tol: float) -> float:
    """The largest entry of the gradient that L-BFGS may stop at, so that its norm is near ``tol`` times the scale."""
    relative = risk.relative_gradient(z, gradient, start)
    return 0.3 * tol * float(np.linalg.norm(gradient)) / relative / np.sqrt(z.size) if relative > 0.0 else 0.0


def _is_saddle(risk: Risk, z: np.ndarray) -> bool:
    low, size = newton.lowest_curvature(lambda v: risk.hessian_product(z, v), z.size)
    return low < -1e-8 * size
