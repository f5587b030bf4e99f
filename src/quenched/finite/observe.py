"""What is measured on a minimiser: order parameters from its weights, averages over fresh and over training samples."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from quenched.finite.data import Data, outcomes, reads_noise, stream
from quenched.finite.result import Minimiser
from quenched.finite.risk import Trained, arrays, per_sample
from quenched.laws.base import Population
from quenched.numerics.precision import float64

_ENTRIES = 1 << 25  # numbers of one batch of fresh samples (256 MB)


def order_parameters(fit: Minimiser, population: Population, free: tuple = ()) -> dict[str, np.ndarray]:
    """The overlaps of finite weights, under the theory's names.

    ``q`` (B, r, r) = w^T S_b w/d, ``m`` (A, r) = w^T mu_a/sqrt(d) (the trained value for free directions), ``theta``
    (B, r, t) = w^T S_b w_*/d, ``Q`` (r, r) = w^T w/d. ``free`` says which of the A mean directions are free.
    """
    w, targets = fit.w, population.targets
    d = w.shape[0]
    image = _times(population.covariances, w)
    m = population.means @ w / np.sqrt(d)
    m[np.flatnonzero(free)] = fit.free
    return {"q": w.T @ image / d, "m": m, "theta": np.swapaxes(image, 1, 2) @ targets / d, "Q": w.T @ w / d}


def _times(covariances: np.ndarray, u: np.ndarray) -> np.ndarray:
    """S_b u for every b, (B, d, k): eigenvalues (B, d) or matrices (B, d, d)."""
    return covariances[:, :, None] * u if covariances.ndim == 2 else covariances @ u


def cosines(fit: Minimiser, population: Population) -> np.ndarray:
    """The cosine similarity of every unit with every target on inputs of the average covariance, (r, t)."""
    labels = population.labels
    weights = np.einsum("c,clb->b", labels.prob, labels.cov)
    both = np.hstack([fit.w, population.targets])
    gram = both.T @ np.tensordot(weights, _times(population.covariances, both), axes=1)
    scale = np.sqrt(np.diag(gram))
    r = fit.w.shape[1]
    norms = np.outer(scale[:r], scale[r:])
    return np.divide(gram[:r, r:], norms, out=np.zeros_like(norms), where=norms > 0)


@partial(jax.jit, static_argnames="functions")
def _means(functions: tuple[Callable, ...], trained: Trained, data: Data, params):
    return [jnp.mean(per_sample(fn, trained, data, params).astype(float), axis=0) for fn in functions]


def averages(
    functions: dict[str, Callable], fit: Minimiser, data: Data, params: dict | None = None
) -> dict[str, np.ndarray]:
    """The mean over samples of each function of (h, gram, target, label, noise, scalars, params), by argument names.

    ``h`` is (L, r); booleans are averaged as 0 and 1; results may be arrays. ValueError where a mean is not finite.
    """
    if not functions:
        return {}
    with float64(True):
        trained = Trained(fit.w, fit.free, fit.scalars)
        data = data._replace(label=arrays(data.label))
        found = [np.asarray(v) for v in _means(tuple(functions.values()), trained, data, arrays(params or {}))]
    for name, value in zip(functions, found, strict=True):
        if not np.all(np.isfinite(value)):
            raise ValueError(f"observable {name!r} must be finite on every sample, got the mean {value}")
    return dict(zip(functions, found, strict=True))


def fresh_averages(
    functions: dict[str, Callable],
    fit: Minimiser,
    population: Population,
    sample: Callable,
    response=None,
    *,
    n: int,
    seed,
    params: dict | None = None,
) -> dict[str, np.ndarray]:
    """The same averages over (at least) n fresh samples, drawn in equal batches that fit in memory.

    ``sample(population, seed, n) -> Instance`` draws them: a law's own method, or another for a shifted test law.
    """
    if not functions:
        return {}
    d, L = fit.w.shape[0], population.labels.cov.shape[1]
    batches = -(-n * L * d // _ENTRIES)
    noise = any(reads_noise(fn) for fn in functions.values())
    totals = {}
    for batch in range(1, batches + 1):
        own = (*(seed if isinstance(seed, tuple) else (seed,)), batch)
        instance = sample(population, stream(own, "test"), -(-n // batches))
        data = outcomes(instance, response, seed=own, noise=noise, test=True)
        for name, value in averages(functions, fit, data, params).items():
            totals[name] = totals.get(name, 0.0) + value / batches
    return totals
