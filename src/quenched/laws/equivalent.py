"""What students see of a deep random target: its inputs, random features of them, or a kernel, as laws of features.

Against n ~ d samples the target ``f(x)`` acts as ``b + sqrt(slope) theta.x / sqrt(d) + sqrt(rest) z``: an isotropic linear teacher
and noise of its own (:class:`~quenched.laws.kernel.Numbers`), so that every student below is a :class:`FeatureLaw`. The constant
b is not part of it: students fit it, from few samples.
"""

from __future__ import annotations

import numpy as np

from quenched.laws.activation import coefficients
from quenched.laws.features import FeatureLaw
from quenched.laws.kernel import Numbers
from quenched.laws.spectrum import SpectralLaw
from quenched.numerics import check
from quenched.numerics.resolvent import Chain, Layer


def inputs_spectrum(spectrum) -> SpectralLaw:
    """The spectrum of the inputs with an isotropic teacher of unit variance: None for the identity, eigenvalues (d,), a covariance
    (d, d), or a :class:`SpectralLaw` of one covariance, whose own directions are left aside.

    >>> inputs_spectrum([1.0, 3.0]).gram.ravel().tolist()
    [0.5, 0.5]
    """
    if isinstance(spectrum, SpectralLaw):
        if spectrum.eigenvalues.shape[1] != 1:
            raise ValueError(f"spectrum must have one covariance, got {spectrum.eigenvalues.shape[1]}")
        weights, eigenvalues = np.asarray(spectrum.weights), np.asarray(spectrum.eigenvalues)[:, 0]
    else:
        eigenvalues = np.ones(1) if spectrum is None else check.array("spectrum", spectrum)
        if eigenvalues.ndim == 2:
            eigenvalues = np.maximum(np.linalg.eigvalsh(check.covariance("spectrum", eigenvalues)), 0.0)
        if eigenvalues.ndim != 1 or not len(eigenvalues):
            raise ValueError(f"spectrum must hold eigenvalues (d,) or a covariance (d, d), got the shape {eigenvalues.shape}")
        weights = np.full(len(eigenvalues), 1.0 / len(eigenvalues))
    if np.any(eigenvalues < 0.0) or not np.any(eigenvalues):
        raise ValueError(f"spectrum must hold eigenvalues of at least 0 that are not all 0, got {eigenvalues.tolist()[:9]}")
    return SpectralLaw(weights, eigenvalues, [[1.0]])


def variance(spectrum: SpectralLaw) -> float:
    """tr S / d of the inputs."""
    return float(spectrum.weights @ spectrum.eigenvalues[:, 0])


def seen_inputs(spectrum: SpectralLaw, target: Numbers) -> FeatureLaw:
    """The inputs themselves as features, (d,).

    >>> law = seen_inputs(inputs_spectrum(None), Numbers(0.0, 0.25, 0.1))
    >>> float(law.rho), float(law.size)
    (0.35, 1.0)
    """
    weights, s = spectrum.weights, spectrum.eigenvalues[:, 0]
    return FeatureLaw(chain=Chain(weights, s, target.slope * weights * s**2), rho=_total(spectrum, target))


def seen_features(spectrum: SpectralLaw, target: Numbers, ratio: float, activation, weight_variance: float = 1.0) -> FeatureLaw:
    """Random features ``sigma(F x / sqrt(d))``, ``ratio`` d of them; the entries of F have the variance ``weight_variance``.

    ``ValueError`` for features without a linear part: they see nothing of the target.
    """
    weights, s = spectrum.weights, weight_variance * spectrum.eigenvalues[:, 0]
    c = coefficients(activation, 0.0, float(weights @ s))
    if float(c.kappa_1) ** 2 * float(weights @ s) < 1e-20 * float(c.second):
        raise ValueError(f"activation must have a linear part, E z sigma(z) not 0, got {activation!r}")
    projections = target.slope * weights * s**2 / weight_variance
    chain = Chain(weights, s, projections, (Layer(ratio, c.kappa_1**2, c.kappa_star2),))
    return FeatureLaw(chain=chain, size=ratio, rho=_total(spectrum, target))


def seen_kernel(spectrum: SpectralLaw, target: Numbers, student: Numbers) -> FeatureLaw:
    """Infinitely many features of a kernel, ``h(x) = sum_mu K(x, x_mu) c_mu``, penalty ``weight_decay / 2 c^T K c``.

    Its conjugates are those of one feature per dimension.

    >>> import quenched as qn
    >>> law = seen_kernel(inputs_spectrum(None), Numbers(0.0, 0.25, 0.1), Numbers(0.0, 0.5, 0.2))
    >>> more = dict(alpha=2.0, response=qn.losses.Additive(0.0))
    >>> kernel = qn.SequenceProblem(law, "square", weight_decay=0.1, **more).solve()
    >>> inputs = seen_inputs(inputs_spectrum(None), Numbers(0.0, 0.25, 0.1))  # the same, with more ridge
    >>> ridge = qn.SequenceProblem(inputs, "square", weight_decay=(0.1 + 0.2) / 0.5, **more).solve()
    >>> [round(float(np.squeeze(s["theta"])), 6) for s in (kernel, ridge)]
    [0.171612, 0.171612]
    """
    weights, s = np.asarray(spectrum.weights), student.slope * np.asarray(spectrum.eigenvalues[:, 0])
    projections = target.slope / student.slope * weights * s**2

    def D(kappa):
        return student.rest / kappa + (weights * s / (kappa + s)).sum()

    def A(kappa):
        return (projections / (kappa + s)).sum()

    return FeatureLaw(D, A, rho=_total(spectrum, target))


def _total(spectrum: SpectralLaw, target: Numbers) -> float:
    """The variance of the target about its constant."""
    return target.slope * variance(spectrum) + target.rest
