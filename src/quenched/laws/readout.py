"""The law that a readout sees: features of one network against a target that another one makes, or a part of the same."""

from __future__ import annotations

import numpy as np

from quenched.laws.features import FeatureLaw
from quenched.laws.layers import DeepNetwork, NotAveraged, symmetric_root
from quenched.laws.network import Network, neurons, warn_low_rank
from quenched.laws.pairs import covariance
from quenched.laws.spectrum import SpectralLaw
from quenched.numerics import check
from quenched.numerics.resolvent import Chain

_CENTRED = 1e-20  # a mean square of the features' means that counts as zero


def feature_law(
    learner, target, spectrum=None, *, shared: int = 0, matched: int = 0, readout=None, intercept: bool = False
) -> FeatureLaw:
    """The :class:`FeatureLaw` of ``h = phi.w / sqrt(p)`` against ``h_* = phi_*.theta / sqrt(k)``, centred.

    - ``learner``, ``target``: both :class:`~quenched.laws.DeepNetwork` (weights averaged out), or both
      :class:`~quenched.laws.Network` (for their weights).
    - ``spectrum``: the covariance of the inputs: None for the identity, its eigenvalues (d,), a matrix (d, d), or, with averaged
      weights, a :class:`~quenched.laws.SpectralLaw`.
    - ``shared``: how many first layers the two have in common.
    - ``matched``: in how many first layers neuron i of the one has weights that are correlated with those of neuron i of the other
      (given weights only; shared layers are a case of it).
    - ``readout`` (k,): theta, for given weights; None for the average over theta of |theta|^2 = k.
    - ``intercept``: an unpenalised constant is fitted. Features with a mean have one in any case.
    """
    shared = check.integer("shared", shared, 0)
    for name, network in (("learner", learner), ("target", target)):
        if not isinstance(network, (DeepNetwork, Network)):
            raise ValueError(f"{name} must be a DeepNetwork or a Network, got {type(network).__name__}")
    own_dims = {network.widths[0] for network in (learner, target) if network.widths}
    if spectrum is not None and not isinstance(spectrum, SpectralLaw):
        own_dims.add(len(input_covariance(spectrum)))
    if len(own_dims) > 1:
        raise ValueError(f"learner, target and spectrum must agree on the input dimension, got {sorted(own_dims)}")
    if isinstance(learner, DeepNetwork) != isinstance(target, DeepNetwork):
        raise ValueError("learner and target must both be a DeepNetwork (averaged) or both a Network (given weights), got one each")
    if shared > min(len(learner.activations), len(target.activations)):
        raise ValueError(f"shared must be at most the number of layers of both networks, got {shared}")
    matched = check.integer("matched", matched, 0)
    if isinstance(learner, Network):
        return _given(learner, target, spectrum, shared, matched, readout, intercept)
    if matched:
        raise NotAveraged("correlated layers cannot be averaged over their weights: draw the networks, and solve for their weights")
    if readout is not None:
        raise ValueError("readout must be None where the weights are averaged out: it is averaged too")
    return _averaged(learner, target, spectrum, shared, intercept)


def _given(learner: Network, target: Network, spectrum, shared, matched, readout, intercept) -> FeatureLaw:
    if isinstance(spectrum, SpectralLaw):
        raise ValueError("spectrum must be eigenvalues or a matrix where the weights are given, got a SpectralLaw")
    for index in range(shared):
        pairs = ((learner.weights, target.weights), (learner.biases, target.biases))
        same = all(np.array_equal(a[index], b[index]) for a, b in pairs)
        if not same or learner.activations[index] != target.activations[index]:
            raise ValueError(f"shared must count layers that are the same in all, got {shared}, but layer {index + 1} differs")
    spectrum = None if spectrum is None else input_covariance(spectrum, learner.dim)
    own, other = learner.moments(spectrum), target.moments(spectrum)
    k, p = target.widths[-1], learner.widths[-1]
    common = shared if matched <= shared else matched
    cross = own.covariance[shared] if common == shared else _matched(learner, target, own, other, shared, matched)
    toward = other.linear_part(common).T
    psi = other.covariance[-1]
    if readout is None:
        direction, rho = toward / np.sqrt(k), np.trace(psi) / k
    else:
        theta = check.array("readout", readout, shape=(k,))
        direction, rho = toward @ theta[:, None] / np.sqrt(k), theta @ psi @ theta / k
    u = own.linear_part(common) @ (cross @ direction)
    omega, vectors = np.linalg.eigh(own.covariance[-1])
    seen = omega > 1e-12 * omega[-1]  # directions that no feature has are a rounding error
    chain = Chain(np.full(p, 1.0 / p), np.where(seen, omega, 0.0), np.where(seen, np.sum((vectors.T @ u) ** 2, axis=1), 0.0))
    free = intercept or float(np.mean(own.mean[-1] ** 2)) > _CENTRED
    return FeatureLaw(chain=chain, size=p / learner.dim, rho=rho, intercept=bool(free))


def _matched(learner: Network, target: Network, own, other, shared, matched):
    """The covariance of the two networks' features after ``matched`` layers whose neurons correspond to one another.

    Beyond the linear parts, neuron i of the one shares with neuron i of the other what is not linear in their common inputs.
    """
    cross = own.covariance[shared]
    for layer in range(shared, matched):
        w, v = learner.weights[layer], target.weights[layer]
        if w.shape != v.shape:
            raise ValueError(f"matched layers must have the same widths, got {w.shape[::-1]} and {v.shape[::-1]}")
        fields = w @ cross @ v.T / w.shape[1]
        means, variances, slopes = [], [], []
        for network, moments in ((learner, own), (target, other)):
            one, root = network.weights[layer], np.sqrt(w.shape[1])
            means.append(one @ moments.mean[layer] / root + network.biases[layer])
            variances.append(np.einsum("ij,jk,ik->i", one, moments.covariance[layer], one) / w.shape[1])
            slopes.append(neurons(network.activations[layer], means[-1], variances[-1]).kappa_1)
        both = covariance(learner.activations[layer], target.activations[layer], np.diag(fields), variances, means)
        rest = both - own.mean[layer + 1] * other.mean[layer + 1] - slopes[0] * slopes[1] * np.diag(fields)
        cross = slopes[0][:, None] * fields * slopes[1] + np.diag(rest)
    return cross


def _averaged(learner: DeepNetwork, target: DeepNetwork, spectrum, shared, intercept) -> FeatureLaw:
    weights, inputs, rows, target_rows = _commuting(spectrum, learner, target)
    own = learner.averaged(_trace(weights, inputs, rows))
    other = target.averaged(_trace(weights, inputs, target_rows), linear=False)
    if shared:
        _same_layers(learner, target, shared)
        later = target.weight_covariances[shared:]
        if any(c is not None for c in (*later, *learner.weight_covariances[shared : shared + 1])):
            raise NotAveraged("weight_covariances after the shared layers must be None where the weights are averaged out")
    # |J^T theta|^2 / k through the target's own layers; their later rows' covariances enter by their traces
    strength = float(np.prod(other.slope2[shared:]))
    for index in range(max(shared, 1), target.depth):
        c = target.rows(index)
        strength *= 1.0 if c is None else float(np.mean(c))
    if isinstance(inputs, np.ndarray) and inputs.ndim == 2:
        root = symmetric_root(rows)
        matrix = root @ inputs @ root
        eigenvalues, vectors = np.linalg.eigh(0.5 * (matrix + matrix.T))
        spread = vectors.T @ root @ inputs
        projections = strength * np.einsum("ij,jk,ik->i", spread, target_rows, spread) * weights
        eigenvalues = np.maximum(eigenvalues, 0.0)
    else:
        eigenvalues, projections = rows * inputs, strength * weights * target_rows * rows * inputs**2
    if learner.depth and len(weights) > 1 and not isinstance(spectrum, SpectralLaw):
        warn_low_rank(0, float(weights @ eigenvalues**2) / max(float(weights @ eigenvalues), 1e-300) ** 2 / len(weights), 10**9)
    variance = own.variance[shared]
    chain = Chain(weights, eigenvalues, projections, own.layers, strength, variance, shared)
    free = intercept or own.mean2[-1] > _CENTRED
    size = learner.width_ratios[-1] if learner.depth else 1.0
    return FeatureLaw(chain=chain, size=size, rho=other.variance[-1], intercept=bool(free))


def _commuting(spectrum, learner, target):
    """Atoms of the inputs' covariance and of the two first layers' row covariances: weights, inputs, learner's, target's.

    Vectors along the common eigenvectors where all of them have one, else matrices.
    """
    firsts = [network.weight_covariances[0] if network.depth else None for network in (learner, target)]
    for network, c in zip(("learner", "target"), firsts, strict=True):
        if callable(c):
            raise NotAveraged(f"weight_covariances[0] of the {network} must be given, not a function, to average the weights out")
    if isinstance(spectrum, SpectralLaw):
        if spectrum.eigenvalues.shape[1] != 1:
            raise ValueError(f"spectrum must have one covariance, got {spectrum.eigenvalues.shape[1]}")
        if any(c is not None for c in firsts):
            raise ValueError("spectrum must be a vector or a matrix where the first rows have a covariance, got a SpectralLaw")
        inputs, weights = np.asarray(spectrum.eigenvalues)[:, 0], np.asarray(spectrum.weights)
    else:
        inputs, weights = None if spectrum is None else input_covariance(spectrum), None
    given = [inputs, *firsts]
    sizes = {len(v) for v in given if v is not None}
    if len(sizes) > 1:
        raise ValueError(f"spectrum and weight_covariances must have the input dimension in common, got {sorted(sizes)}")
    d = sizes.pop() if sizes else 1
    if any(v is not None and v.ndim == 2 for v in given):
        return np.full(d, 1.0 / d), *(np.eye(d) if v is None else np.diag(v) if v.ndim == 1 else v for v in given)
    return (np.full(d, 1.0 / d) if weights is None else weights), *(np.ones(d) if v is None else v for v in given)


def input_covariance(spectrum, dim: int | None = None) -> np.ndarray:
    """The eigenvalues (d,) or the matrix (d, d) of the inputs' covariance, checked."""
    spectrum = check.array("spectrum", spectrum)
    if spectrum.ndim not in (1, 2) or (dim is not None and len(spectrum) != dim):
        size = "d" if dim is None else dim
        raise ValueError(f"spectrum must have the shape ({size},) or ({size}, {size}), got {spectrum.shape}")
    if spectrum.ndim == 2:
        check.covariance("spectrum", spectrum)
    elif np.any(spectrum < 0.0):
        raise ValueError(f"spectrum must be non-negative, got {spectrum.min():.6g}")
    if not np.any(spectrum):
        raise ValueError("spectrum must not be zero everywhere")
    return spectrum


def _trace(weights, inputs, rows) -> float:
    """``tr C Omega_0 / d``."""
    return float(weights @ (inputs * rows)) if inputs.ndim == 1 else float(np.sum(inputs * rows) / len(inputs))


def _same_layers(learner, target, shared) -> None:
    for name in ("width_ratios", "activations", "biases"):
        if getattr(learner, name)[:shared] != getattr(target, name)[:shared]:
            raise ValueError(f"shared layers must be the same in learner and target, but their {name} differ")
    for one, two in zip(learner.weight_covariances[:shared], target.weight_covariances[:shared], strict=True):
        if not (one is two or (one is not None and two is not None and np.array_equal(one, two))):
            raise ValueError("shared layers must be the same in learner and target, but their weight_covariances differ")
