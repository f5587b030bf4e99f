"""Where the learning curve of a readout on a trained network may be read off its weights, and where it must be measured."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from ..numerics import check


class Diagnosis(NamedTuple):
    """Two predictions of ridge regression on frozen features, arrays of the shape of alpha and weight_decay.

    ``from_weights`` and ``measured``: test mse; ``error``: the relative error p / N of the measured one (its bias);
    ``outliers``: directions that stand out of the weights (:func:`quenched.laws.weight_outliers`).

    >>> import quenched as qn
    >>> network = qn.laws.DeepNetwork((40, 80), "tanh").draw(seed=0)
    >>> found = diagnose_features(network, lambda x: x[:, 0], alpha=2.0, weight_decay=0.1)
    >>> bool(np.isclose(found.gap, found.from_weights / found.measured - 1.0)), found.error
    (True, 0.00625)
    """

    from_weights: np.ndarray
    measured: np.ndarray
    error: float
    outliers: tuple

    @property
    def gap(self) -> np.ndarray:
        """How much higher the prediction from the weights is, relatively: features that know more of the target than its linear
        part show as positive numbers."""
        return self.from_weights / self.measured - 1.0

    def __str__(self) -> str:
        worst = float(np.ravel(self.gap)[np.argmax(np.abs(self.gap))])
        found = ", ".join(f"{norm:.2f} ({number})" for norm, number in zip(*self.outliers, strict=True))
        return (
            f"The test error from the weights differs by up to {100 * worst:+.1f}% from that of measured features (good to "
            f"{100 * self.error:.1g}%). Largest singular value of each layer over the edge of its bulk (how many stand out): "
            f"{found}."
        )


def diagnose_features(network, target, alpha, weight_decay, noise=0.0, *, spectrum=None, samples=None, seed=0) -> Diagnosis:
    """Compare what the weights of a network say about ridge regression on its frozen features with what its features say.

    - ``network``: a :class:`quenched.laws.Network`; ``target``: a function from inputs (n, d) to outcomes (n,).
    - ``alpha`` = n / d, ``weight_decay`` >= 0, ``noise`` >= 0: numbers or arrays that broadcast.
    - ``spectrum``: covariance of the Gaussian inputs; ``samples``: how many measure the features (default 160 p), with ``seed``.

    Both see the same inputs (the sampling error of either is 1 to 2% at the default), so that their difference is not that of
    two samples.

    >>> import quenched as qn
    >>> network = qn.laws.DeepNetwork((40, 80), "tanh").draw(seed=0)
    >>> found = diagnose_features(network, lambda x: x[:, 0], alpha=2.0, weight_decay=0.1)
    >>> bool(abs(found.gap) < 0.05), found.outliers.number.tolist()
    (True, [0])
    """
    from ..laws import LowRankWarning, Network, law_from_samples, law_from_weights, weight_outliers
    from ..laws.layers import input_root
    from ..limit.feature_ridge import feature_ridge

    if not isinstance(network, Network):
        raise ValueError(f"network must be a Network, whose weights are given, got {type(network).__name__}")
    p = network.widths[-1]
    samples = 160 * p if samples is None else check.integer("samples", samples, 2)
    root, rng = input_root(spectrum, network.dim, (seed,)), np.random.default_rng(seed)

    def sample(n):
        z = rng.standard_normal((n, network.dim))
        return z * root if root.ndim == 1 else z @ root

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LowRankWarning)  # this comparison is what the warning asks for
        laws = (
            law_from_weights(network, target, spectrum, samples=samples, seed=seed),
            law_from_samples(network, target, sample, samples),
        )
    found = [feature_ridge(law, alpha, weight_decay, noise).test_mse for law in laws]
    return Diagnosis(*found, p / samples, weight_outliers(network))
