"""A sample as the experiment sees it: tokens, targets, outcomes and label noise, drawn from one seed."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from quenched.laws.base import Instance, Population
from quenched.losses.base import Loss, argument_names
from quenched.numerics import check

# One stream of random numbers per purpose: changing one (a larger test set, another start) leaves the others alone.
# The instance itself has the plain seed, so that `law.draw(seed, n, d)` is the data of `simulate(..., seeds=[seed])`.
STREAMS = {"response": 1, "noise": 2, "start": 3, "test": 4, "test_response": 5, "test_noise": 6}


class Data(NamedTuple):
    """n samples, with what the loss may ask for (NumPy; L tokens, dimension d, F free directions, t targets).

    ``x`` (n, L, d); ``free`` (n, L, F) coefficients of the free mean directions; ``target`` (n, L, t) = x w_*/sqrt(d);
    ``label`` a pytree with leading axis n: the outcome, (n,) for one token and one target and (n, L, t) otherwise, or
    the law's label value; ``noise`` (n,) standard normal, or None where nothing asks for it.

    >>> from quenched.laws import single
    >>> from quenched.losses import Additive, as_loss
    >>> data, population = draw(single(), as_loss("square"), Additive(0.1), alpha=2.0, dim=100, seed=0)
    >>> data.x.shape, data.target.shape, data.label.shape, data.noise
    ((200, 1, 100), (200, 1, 1), (200,), None)
    """

    x: np.ndarray
    free: np.ndarray
    target: np.ndarray
    label: Any = None
    noise: Any = None


def stream(seed, purpose: str) -> tuple[int, ...]:
    """The seed of one purpose: the experiment's seed (an int or a tuple of ints) and the purpose's number.

    >>> stream(7, "test")
    (7, 4)
    """
    parts = seed if isinstance(seed, tuple) else (seed,)
    return (*(check.integer("seed", part, 0) for part in parts), STREAMS[purpose])


def reads_noise(fn) -> bool:
    """Whether a loss or an observable asks for the standard normal z of each sample."""
    return "noise" in (fn.names if isinstance(fn, Loss) else argument_names(fn, "observable"))


def sample_size(alpha: float, dim: int) -> int:
    """The number of samples n = alpha d, rounded to the nearest whole number, at least one.

    >>> sample_size(1.5, 401)
    602
    """
    return max(1, round(check.positive("alpha", alpha) * check.integer("dim", dim)))


def outcomes(instance: Instance, response=None, *, seed, noise: bool = False, test: bool = False) -> Data:
    """An instance with its outcomes: ``response.draw(rng, target)`` where there is a response, else the law's label.

    ``noise``: whether to draw the standard normal z of each sample, (n,). ``test``: use the test set's streams.
    """
    prefix = "test_" if test else ""
    label = instance.value
    if response is not None:
        label = response.draw(np.random.default_rng(stream(seed, prefix + "response")), instance.target)
        n = len(instance.x)
        if np.shape(label)[:1] != (n,):
            raise ValueError(f"response must draw one outcome per sample, ({n}, ...), got the shape {np.shape(label)}")
        label = label[:, 0, 0] if np.shape(label) == (n, 1, 1) else label
    z = np.random.default_rng(stream(seed, prefix + "noise")).standard_normal(len(instance.x)) if noise else None
    return Data(instance.x, instance.free, instance.target, label, z)


def draw(law, loss: Loss, response=None, *, alpha: float, dim: int, seed) -> tuple[Data, Population]:
    """The training set of one seed: ``round(alpha dim)`` samples of ``law`` with their outcomes.

    Parameters: ``law`` with ``draw(seed, n, d) -> Instance``; ``loss`` decides whether label noise is drawn;
    ``response`` the law of the outcome given the target, or None (the outcome is the law's label value);
    ``alpha`` samples per dimension; ``dim`` d; ``seed`` an int or a tuple of ints. Minimising the risk and message
    passing with the same seed see the same data.

    >>> from quenched.laws import single
    >>> from quenched.losses import Additive, as_loss
    >>> data, population = draw(single(), as_loss("square"), Additive(0.1), alpha=2.0, dim=100, seed=0)
    >>> np.allclose(data.target[:, 0], data.x[:, 0] @ population.targets / 10.0)  # x w_* / sqrt(d)
    True
    """
    instance = law.draw(seed, sample_size(alpha, dim), dim)
    return outcomes(instance, response, seed=seed, noise=reads_noise(loss)), instance.population
