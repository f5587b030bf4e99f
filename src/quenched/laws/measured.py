"""The law of a readout on given features, for a target that is any function of the inputs: from weights, or from samples."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from quenched.laws.features import FeatureLaw
from quenched.laws.layers import input_root
from quenched.laws.network import Network, measured_moments
from quenched.numerics import check
from quenched.numerics.precision import in_float64
from quenched.numerics.resolvent import Chain

#: Samples per feature (or input dimension) for errors of about a per cent.
ENOUGH = 100
_CENTRED = 1e-20  # a mean square of the features' means that counts as zero, where it is computed
_MEASURED = 10.0  # the same in units of what N samples make of a mean of zero, 1 / N of the variance
_BEYOND = 1.05  # of the edge of the bulk, which fluctuates by some per cent


class FewSamplesWarning(UserWarning):
    """Moments from so few samples that predictions from them are off by more than a per cent.

    >>> rng = np.random.default_rng(0)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     law = law_from_samples(lambda x: x, lambda x: x[:, 0], lambda n: rng.standard_normal((n, 4)), 40)
    >>> print(caught[0].message)
    samples should be at least 100 times the number 4 of features, got 40: predictions may be too low by 10%
    """


def law_from_samples(features, target, sample, samples: int, *, intercept: bool = False) -> FeatureLaw:
    """The law of a readout on measured features: ``Omega = Cov phi``, ``u = Cov(phi, y)`` and ``rho = Var y`` from inputs.

    - ``features``: a function from inputs (n, d) to features (n, p), or an object with ``transform``.
    - ``target``: a function (JAX or NumPy) from inputs (n, d) to outcomes y (n,), or, with an array ``sample``, the array of them.
    - ``sample``: a function (n) -> inputs (n, d), or an array of at least ``samples`` inputs.
    - ``intercept``: an unpenalised constant is fitted. Features with a mean have one in any case.

    Ridge regression on fresh samples needs nothing else of the features, however they came about. From N = ``samples`` inputs the
    predicted error is too low by a relative p / N or so (part of u is noise that fits itself), with a :class:`FewSamplesWarning`
    where N < 100 p. The sampling error of u and rho comes on top, 1 to 2% of the predicted error at N = 40 000 and p = 250.
    Source: B. Loureiro et al. (2021), arXiv:2102.08127.

    >>> rng = np.random.default_rng(0)
    >>> law = law_from_samples(lambda x: x, lambda x: x[:, 0], lambda n: rng.standard_normal((n, 4)), 40_000)
    >>> law.size.item(), round(law.rho.item(), 1)
    (1.0, 1.0)
    """
    function, samples = getattr(features, "transform", features), check.integer("samples", samples, 2)
    given = None if callable(target) else check.array("target", target, ndim=1)
    if given is not None and (callable(sample) or len(given) < samples):
        raise ValueError(
            f"target must be a function, or, where sample is an array, at least {samples} outcomes, got an array of {len(given)}"
        )
    if not callable(function):
        raise ValueError(f"features must be a function or have a transform method, got {type(features).__name__}")
    seen = {"dim": 0, "done": 0}

    def joint(x):
        first, seen["done"], seen["dim"] = seen["done"], seen["done"] + len(x), x.shape[1]
        y = outcomes(target, x) if given is None else given[first : seen["done"]]
        return np.column_stack([function(x), y])

    measured = measured_moments(joint, sample, samples)
    p = len(measured.mean) - 1
    if samples < ENOUGH * p:
        warnings.warn(
            f"samples should be at least {ENOUGH} times the number {p} of features, got {samples}: predictions may be too low by "
            f"{100.0 * p / samples:.2g}%",
            FewSamplesWarning,
            stacklevel=2,
        )
    mean2, variance = np.mean(measured.mean[:p] ** 2), np.mean(np.diag(measured.covariance)[:p])
    free = intercept or mean2 > _MEASURED * variance / samples
    return _law(measured.covariance[:p, :p], measured.covariance[:p, p], measured.covariance[p, p], seen["dim"], free)


def law_from_weights(network, target, spectrum=None, *, samples: int | None = None, seed=0, intercept=False) -> FeatureLaw:
    """The law of a readout on a network's features as its weights give it, for Gaussian inputs of covariance Omega_0.

    - ``network``: a :class:`~quenched.laws.Network`; ``target``: a function (JAX or NumPy) from inputs (n, d) to outcomes y (n,).
    - ``spectrum``: None for the identity, eigenvalues (d,), or a matrix (d, d).
    - ``samples``: inputs, drawn with ``seed``, that measure the best linear predictor ``a`` of y, which is ``E grad y``, and the
      variance rho (default 1000 d; the relative error is about d / samples).

    ``Omega`` is that of :meth:`Network.moments`, ``u = J Omega_0 a`` with the linear part J of the network. Only what is linear in
    the inputs can be learnt in this picture: right for random weights and after a little training, wrong where features are
    non-linear functions of a few directions that the target depends on. Compare :func:`law_from_samples`.
    Source: D. Schroeder, H. Cui, D. Dmitriev, B. Loureiro (2023), arXiv:2302.00401.

    >>> network = Network([np.eye(3)], "linear")
    >>> law = law_from_weights(network, lambda x: x[:, 0])
    >>> law.size.item(), float(np.sum(law.chain.target).round(1))
    (1.0, 0.3)
    """
    if not isinstance(network, Network):
        raise ValueError(f"network must be a Network, whose weights are given, got {type(network).__name__}")
    if not callable(target):
        raise ValueError(f"target must be a function from inputs (n, d) to outcomes (n,), got {target!r}")
    dim = network.dim
    samples = 10 * ENOUGH * dim if samples is None else check.integer("samples", samples, 2 * dim)
    root, rng = input_root(spectrum, dim, (seed,)), np.random.default_rng(seed)

    def sample(n):
        z = rng.standard_normal((n, dim))
        return z * root if root.ndim == 1 else z @ root

    covariance = measured_moments(lambda x: np.column_stack([x, outcomes(target, x)]), sample, samples).covariance
    direction = np.linalg.solve(covariance[:dim, :dim], covariance[:dim, dim])
    moments = network.moments(spectrum)
    u = moments.linear_part(0) @ (moments.covariance[0] @ direction)
    free = intercept or float(np.mean(moments.mean[-1] ** 2)) > _CENTRED
    return _law(moments.covariance[-1], u, covariance[dim, dim], dim, free)


def _law(omega, u, rho, dim, free) -> FeatureLaw:
    """In the eigenbasis of Omega."""
    values, vectors = np.linalg.eigh(omega)
    p = len(values)
    chain = Chain(np.full(p, 1.0 / p), np.maximum(values, 0.0), (vectors.T @ u) ** 2)
    return FeatureLaw(chain=chain, size=p / dim, rho=rho, intercept=bool(free))


@in_float64
def outcomes(target, x) -> np.ndarray:
    """A function of the inputs at ``x`` (n, d), as NumPy float64 (n,)."""
    return check.array("target", np.asarray(target(x), dtype=np.float64), shape=(len(x),))


class Outliers(NamedTuple):
    """Of every layer's weights W (p_l, p_{l-1}): ``norm``, the largest singular value over the edge of the bulk that independent
    entries of the same size have, ``std (sqrt(p_l) + sqrt(p_{l-1}))``; ``number``: how many lie beyond 1.05 of that edge.

    >>> found = weight_outliers(Network([np.random.default_rng(0).standard_normal((300, 200))], "tanh"))
    >>> found.number.tolist(), bool(abs(found.norm[0] - 1.0) < 0.05)
    ([0], True)
    """

    norm: np.ndarray
    number: np.ndarray


def weight_outliers(network: Network) -> Outliers:
    """Directions that stand out of a network's weights: there are none at random, and training makes some.

    >>> rng = np.random.default_rng(0)
    >>> weights = rng.standard_normal((300, 200))
    >>> spiked = weights + 4.0 * np.outer(np.ones(300), np.ones(200)) / 10
    >>> weight_outliers(Network([weights], "tanh")).number.tolist(), weight_outliers(Network([spiked], "tanh")).number.tolist()
    ([0], [1])
    """
    norms, numbers = [], []
    for w in network.weights:
        edge = float(np.sqrt(np.mean(w**2))) * (np.sqrt(len(w)) + np.sqrt(w.shape[1]))
        values = np.linalg.svd(w, compute_uv=False) / edge
        norms.append(values[0])
        numbers.append(int(np.sum(values > _BEYOND)))
    return Outliers(np.array(norms), np.array(numbers))
