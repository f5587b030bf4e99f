"""A network as it is: given weights, its features, and the mean and covariance of its features on Gaussian inputs."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from quenched.laws.activation import Activation, activation, coefficients
from quenched.numerics import check
from quenched.numerics.mapped import elementwise
from quenched.numerics.precision import in_float64

#: Below this effective rank of a covariance the layer after it is not well described by its linear part.
LOW_RANK = 50.0


class Moments(NamedTuple):
    """Means and covariances of the features of every layer, inputs first, in the Gaussian approximation.

    ``mean[l]`` (p_l,), ``covariance[l]`` (p_l, p_l); ``response[l]`` (p_{l+1}, p_l): the linear part of layer l + 1,
    ``D_1 W / sqrt(p_l)``.

    >>> found = Network([3.0 * np.eye(100)], "linear").moments()
    >>> found.covariance[1][0, 0].round(12).item(), found.response[0][0, 0].round(12).item()
    (0.09, 0.3)
    """

    mean: tuple
    covariance: tuple
    response: tuple

    def linear_part(self, since: int) -> np.ndarray:
        """The product of the linear parts of all layers after layer ``since``, (p_L, p_since).

        >>> found = Network([3.0 * np.eye(100), 2.0 * np.eye(100)], "linear").moments()
        >>> [found.linear_part(since)[0, 0].round(12).item() for since in (0, 1)]  # (3 / 10) (2 / 10), and 2 / 10
        [0.06, 0.2]
        """
        parts = self.response[since:]
        return functools.reduce(lambda before, one: one @ before, parts) if parts else np.eye(len(self.mean[since]))


class LowRankWarning(UserWarning):
    """Few directions carry most of a covariance: features are then not well described by their linear part.

    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     moments = Network([np.eye(60)], "tanh").moments(covariance=np.diag([100.0, *np.ones(59)]))
    >>> print(str(caught[0].message).split(":")[0])
    layer 1 sees a covariance of effective rank 3 (below 50)
    """


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """Frozen layers ``phi_l = sigma_l(W_l phi_{l-1} / sqrt(p_{l-1}) + b_l)`` with given weights.

    - ``weights``: matrices W_l (p_l, p_{l-1}), inputs first. A trained layer ``x @ K + b`` of another library has
      ``W = sqrt(p_{l-1}) K.T``. No layer at all: the features are the inputs.
    - ``activations``: one name, function or :class:`~quenched.laws.Activation` for all layers, or one a layer.
    - ``biases``: vectors b_l (p_l,), or None for a layer or for all.
    - ``dim``: the dimension of the inputs, where there is no layer.

    ``network(x)`` are the features (n, p_L) of inputs (n, d).

    >>> Network([np.eye(2)], "relu")(np.array([[1.0, -1.0]])).round(6).tolist()
    [[0.707107, 0.0]]
    """

    weights: Sequence
    activations: Any = ()
    biases: Any = None
    dim: int | None = None

    def __post_init__(self):
        weights = tuple(check.array(f"weights[{i}]", w, ndim=2) for i, w in enumerate(self.weights))
        for before, after in zip(weights[:-1], weights[1:], strict=True):
            if after.shape[1] != before.shape[0]:
                raise ValueError(f"weights must fit one another, got {len(before)} neurons before a layer of {after.shape[1]}")
        biases = (None,) * len(weights) if self.biases is None else tuple(self.biases)
        if len(biases) != len(weights):
            raise ValueError(f"biases must hold one vector or None for each of the {len(weights)} layers, got {len(biases)}")
        pairs = zip(biases, weights, strict=True)
        biases = tuple(np.zeros(len(w)) if b is None else check.array("biases", b, shape=(len(w),)) for b, w in pairs)
        if not weights and self.dim is None:
            raise ValueError("dim must be given where there are no weights, got None")
        activations = as_activations(self.activations, len(weights))
        for name, value in (("weights", weights), ("biases", biases), ("activations", activations)):
            object.__setattr__(self, name, value)
        dim = weights[0].shape[1] if weights else check.integer("dim", self.dim)
        object.__setattr__(self, "dim", dim)

    @property
    def widths(self) -> tuple[int, ...]:
        """(d, p_1, ..., p_L)."""
        return (self.dim, *(len(w) for w in self.weights))

    def __repr__(self) -> str:
        return f"Network(widths={self.widths}, activations={tuple(a.name for a in self.activations)})"

    def __call__(self, x) -> np.ndarray:
        """The features (n, p_L) of inputs (n, d)."""
        return self.layers(x)[-1]

    def layers(self, x) -> list[np.ndarray]:
        """The features of every layer, the inputs first.

        >>> inputs, features = Network([np.ones((3, 4))], "linear").layers(np.ones((1, 4)))
        >>> inputs.shape, features.tolist()
        ((1, 4), [[2.0, 2.0, 2.0]])
        """
        features = [check.array("x", x, shape=(None, self.dim))]
        for w, b, sigma in zip(self.weights, self.biases, self.activations, strict=True):
            features.append(_apply(sigma, features[-1] @ w.T / np.sqrt(w.shape[1]) + b))
        return features

    def moments(self, covariance=None) -> Moments:
        """Mean and covariance of all layers for inputs N(0, ``covariance``), neuron by neuron; None for the identity.

        The covariance of a layer is its linear part's plus a diagonal: ``D_1 W Omega W^T D_1 / p + diag kappa_*^2``, with the
        coefficients of every neuron at its own mean and variance. It is exact as the widths grow, as long as no covariance
        has only a few large directions: else a :class:`LowRankWarning`, and :func:`measured_moments` is what to use. Networks
        after much feature learning are beyond it too.

        >>> found = Network([10.0 * np.eye(100)], "relu").moments(covariance=np.full(100, 4.0))
        >>> found.mean[1][0].round(6).item()  # 2 / sqrt(2 pi)
        0.797885
        """
        omega = np.eye(self.dim) if covariance is None else check.array("covariance", covariance)
        omega = check.covariance("covariance", np.diag(omega) if omega.ndim == 1 else omega)
        check.array("covariance", omega, shape=(self.dim, self.dim))
        mean, means, covariances, response = np.zeros(self.dim), [np.zeros(self.dim)], [omega], []
        for layer, (w, b, sigma) in enumerate(zip(self.weights, self.biases, self.activations, strict=True)):
            fields = w @ omega @ w.T / w.shape[1]
            warn_low_rank(layer, np.linalg.norm(fields) ** 2 / np.trace(fields) ** 2 if np.any(fields) else 0.0, len(w))
            c = neurons(sigma, w @ mean / np.sqrt(w.shape[1]) + b, np.diag(fields))
            mean, slope = c.kappa_0, c.kappa_1
            omega = slope[:, None] * fields * slope + np.diag(c.kappa_star2)
            omega = 0.5 * (omega + omega.T)
            means.append(mean)
            covariances.append(omega)
            response.append(slope[:, None] * w / np.sqrt(w.shape[1]))
        return Moments(tuple(means), tuple(covariances), tuple(response))


def warn_low_rank(layer: int, purity: float, width: int) -> None:
    """A :class:`LowRankWarning` where ``purity`` = tr M^2 / (tr M)^2, less 1/width for the rows of M, is above 1 / LOW_RANK."""
    rank = 1.0 / max(purity - 1.0 / width, 1e-12)
    if purity and rank < LOW_RANK:
        warnings.warn(
            f"layer {layer + 1} sees a covariance of effective rank {rank:.0f} (below {LOW_RANK:.0f}): its features may be off by "
            "some per cent from their linear part plus noise; measured moments are safe",
            LowRankWarning,
            stacklevel=3,
        )


@in_float64
def neurons(sigma: Activation, mean, variance):
    """The :func:`~quenched.laws.coefficients` of many neurons, NumPy float64."""
    found = coefficients(sigma, np.asarray(mean, dtype=np.float64), np.asarray(variance, dtype=np.float64))
    return type(found)(*(np.asarray(v, dtype=np.float64) for v in found))


def _apply(sigma: Activation, h: np.ndarray) -> np.ndarray:
    return np.asarray(elementwise(sigma, h), dtype=np.float64)


def as_activations(given, layers: int) -> tuple[Activation, ...]:
    """One activation a layer."""
    if isinstance(given, (str, Activation)) or callable(given):
        given = (given,) * layers
    try:
        given = tuple(given)
    except TypeError:
        wanted = f"a name or a function, or one for each of the {layers} layers"
        raise ValueError(f"activations must be {wanted}, got {given!r}") from None
    if len(given) != layers:
        raise ValueError(f"activations must hold one for each of the {layers} layers, or be a single one, got {len(given)}")
    return tuple(activation(one) for one in given)


class Measured(NamedTuple):
    """Mean (p,) and covariance (p, p) of features, and the relative standard error that their number of samples gives a
    learning curve: ``error`` is about p / N.

    >>> rng = np.random.default_rng(0)
    >>> measured = measured_moments(lambda x: x, lambda n: rng.standard_normal((n, 3)), 30_000)
    >>> measured.mean.shape, measured.covariance.shape, measured.error
    ((3,), (3, 3), 0.0001)
    """

    mean: np.ndarray
    covariance: np.ndarray
    error: float


def measured_moments(features, sample, samples: int, *, batch: int = 4096) -> Measured:
    """Mean and covariance of any feature map, from ``samples`` inputs: a trained network, a fitted transformer, a function.

    - ``features``: a function from inputs (n, d) to features (n, p), or an object with ``transform``.
    - ``sample``: a function (n) -> inputs (n, d), or an array of at least ``samples`` inputs.

    Errors of predictions from N samples are about p / N (and biased low): ``error`` says so. Use N of at least 100 p.

    >>> rng = np.random.default_rng(0)
    >>> measured = measured_moments(np.tanh, lambda n: rng.standard_normal((n, 3)), 30_000)
    >>> np.diag(measured.covariance).round(1).tolist(), measured.error
    ([0.4, 0.4, 0.4], 0.0001)
    """
    function = getattr(features, "transform", features)
    if not callable(function):
        raise ValueError(f"features must be a function or have a transform method, got {type(features).__name__}")
    samples, rows = check.integer("samples", samples, 2), None
    if not callable(sample):
        rows = check.array("sample", sample, ndim=2)
        if len(rows) < samples:
            raise ValueError(f"sample must hold at least {samples} rows, got {len(rows)}")
    shift, total, square, done = None, 0.0, 0.0, 0
    while done < samples:
        n = min(batch, samples - done)
        phi = check.array("features", function(sample(n) if rows is None else rows[done : done + n]), shape=(n, None))
        shift = phi.mean(axis=0) if shift is None else shift  # sums about a centre lose no digits
        phi = phi - shift
        total, square, done = total + phi.sum(axis=0), square + phi.T @ phi, done + n
    mean = total / samples
    return Measured(shift + mean, (square - samples * np.outer(mean, mean)) / (samples - 1), len(mean) / samples)
