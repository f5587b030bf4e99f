"""Networks with random weights: drawn, or averaged over their weights."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from quenched.laws import sampling
from quenched.laws.network import Network, as_activations, neurons, warn_low_rank
from quenched.laws.spectrum import SpectralLaw
from quenched.numerics import check
from quenched.numerics.gaussian import breakpoints, panel_rule
from quenched.numerics.resolvent import Layer

_NETWORK = 4  # a random stream of its own
_CENTRED = 1e-20  # the mean square of features, over their variance, that counts as none


class NotAveraged(ValueError):
    """The weights cannot be averaged out: draw them."""


class Averaged(NamedTuple):
    """What is left of a network with random weights.

    ``layers``: a tuple of :class:`~quenched.numerics.resolvent.Layer`; ``variance`` (L + 1,) the mean variance of a feature of each
    layer, inputs first; ``slope2`` (L,): the mean of kappa_1^2; ``mean2`` (L + 1,): the mean square of the features' means.
    """

    layers: tuple
    variance: tuple
    slope2: tuple
    mean2: tuple


@dataclasses.dataclass(frozen=True, eq=False)
class DeepNetwork:
    """A network of random layers ``phi_l = sigma_l(W_l phi_{l-1} / sqrt(p_{l-1}) + b_l)``: the law of its weights.

    - ``widths``: (d, p_1, ..., p_L); or ``width_ratios``: (p_1 / d, ..., p_L / d), for any d.
    - ``activations``: one name (``"tanh"``, ``"relu"``, ``"erf"``, ``"sign"``, ...), function or
      :class:`~quenched.laws.Activation` for all layers, or one a layer.
    - ``weight_covariances``: for each layer the covariance C of a row of its weights: None (the identity), its eigenvalues
      (p_{l-1},) along the coordinates of the layer before, a matrix, or a function of the list of the weights before, which
      returns one of these ("rainbow" weights ``W = Z C^{1/2}``). None for all.
    - ``biases``: for each layer the variance of its normal biases, a number for all layers, or None.

    No layers (``widths=(d,)`` or ``width_ratios=()``): the features are the inputs.
    Source: D. Schroeder, H. Cui, D. Dmitriev, B. Loureiro (2023), arXiv:2302.00401; F. Guth, B. Menard, G. Rochette, S. Mallat
    (2023), arXiv:2305.18512, for rainbow networks.

    >>> network = DeepNetwork(widths=(40, 60, 50), activations="tanh")
    >>> network.draw(seed=0)(np.zeros((3, 40))).shape
    (3, 50)
    """

    widths: Any = None
    activations: Any = ()
    weight_covariances: Any = None
    biases: Any = None
    width_ratios: Any = None

    def __post_init__(self):
        set_ = object.__setattr__
        if (self.widths is None) == (self.width_ratios is None):
            raise ValueError(f"either widths or width_ratios must be given, got {self.widths!r} and {self.width_ratios!r}")
        if self.widths is not None:
            widths = tuple(check.integer("widths", p) for p in check.listed("widths", self.widths))
            if not widths:
                raise ValueError("widths must hold the input dimension at least, got ()")
            set_(self, "widths", widths)
            ratios = tuple(p / widths[0] for p in widths[1:])
        else:
            ratios = tuple(check.positive("width_ratios", g) for g in np.atleast_1d(self.width_ratios))
        set_(self, "width_ratios", ratios)
        set_(self, "activations", as_activations(self.activations, self.depth))
        covariances = self.weight_covariances
        covariances = (None,) * self.depth if covariances is None else tuple(check.listed("weight_covariances", covariances))
        if len(covariances) != self.depth:
            raise ValueError(f"weight_covariances must hold one entry for each of the {self.depth} layers, got {len(covariances)}")
        before = (None,) * self.depth if self.widths is None else self.widths
        made = tuple(self._row_covariance(i, c, size) for i, (c, size) in enumerate(zip(covariances, before, strict=False)))
        set_(self, "weight_covariances", made)
        biases = np.broadcast_to(0.0 if self.biases is None else check.array("biases", self.biases), (self.depth,))
        if np.any(biases < 0.0):
            raise ValueError(f"biases must be variances of at least 0, got {biases.tolist()}")
        set_(self, "biases", tuple(float(b) for b in biases))

    def _row_covariance(self, index, value, size):
        if value is None or callable(value):
            return value
        name = f"weight_covariances[{index}]"
        value = check.array(name, value)
        if value.ndim == 2:
            value = check.covariance(name, value)
        if value.ndim not in (1, 2) or np.any(value < 0.0) * (value.ndim == 1):
            raise ValueError(f"{name} must be eigenvalues of at least 0 or a covariance matrix, got the shape {value.shape}")
        if size is not None and len(value) != size:
            raise ValueError(f"{name} must have the size {size} of the layer before, got {len(value)}")
        if not np.any(value):
            raise ValueError(f"{name} must not be zero everywhere")
        return value

    @property
    def depth(self) -> int:
        """L, the number of layers."""
        return len(self.width_ratios)

    def __repr__(self) -> str:
        size = f"widths={self.widths}" if self.widths else f"width_ratios={self.width_ratios}"
        return f"DeepNetwork({size}, activations={tuple(a.name for a in self.activations)})"

    def sizes(self, dim: int | None = None) -> tuple[int, ...]:
        """(d, p_1, ..., p_L) at input dimension ``dim``; None for the network's own widths (``ValueError`` where it has none).

        >>> DeepNetwork(width_ratios=[1.5, 0.5], activations="tanh").sizes(dim=40)
        (40, 60, 20)
        """
        if dim is None:
            if self.widths is None:
                raise ValueError("dim must be given for a network that is stated by its width_ratios, got None")
            return self.widths
        dim = check.integer("dim", dim)
        sizes = (dim, *(max(1, round(ratio * dim)) for ratio in self.width_ratios))
        for index, c in enumerate(self.weight_covariances):
            if c is not None and not callable(c) and len(c) != sizes[index]:
                raise ValueError(f"dim must give layer {index} the width {len(c)} of weight_covariances[{index}], got {dim}")
        return sizes

    def draw(self, seed, dim: int | None = None, like: Network | None = None, shared: int = 0, correlation=()) -> Network:
        """One network with weights of its own; ``seed`` is an int or a tuple of ints.

        ``like`` and ``shared``: take over the first ``shared`` layers of another network. ``correlation``: or weights of the first
        layers that are correlated with its own, ``c W + sqrt(1 - c^2) Z``.

        >>> network = DeepNetwork(width_ratios=[1.5], activations="tanh")
        >>> network.draw(seed=0, dim=40).weights[0].shape
        (60, 40)
        """
        sizes, rng = self.sizes(dim), sampling.generator(_NETWORK, seed)
        weights, biases = [], []
        for layer, (before, width) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            if layer < shared:
                w, b = like.weights[layer], like.biases[layer]
            else:
                w = rng.standard_normal((width, before))
                b = np.sqrt(self.biases[layer]) * rng.standard_normal(width)
                c = self.weight_covariances[layer]
                c = self._row_covariance(layer, c(list(weights)), before) if callable(c) else c
                if c is not None:
                    w = w * np.sqrt(c) if c.ndim == 1 else w @ symmetric_root(c)
                if layer < len(correlation):
                    w = correlation[layer] * like.weights[layer] + np.sqrt(1.0 - correlation[layer] ** 2) * w
            weights.append(w)
            biases.append(b)
        return Network(weights, self.activations, biases, sizes[0])

    def averaged(self, variance: float = 1.0, linear: bool = True) -> Averaged:
        """The layers with their weights averaged out; ``variance`` is ``tr C_1 Omega_0 / d`` (``tr Omega_0 / d`` without layers).

        ``linear``: refuse layers that have no linear part, behind which no chain leads on.

        :class:`NotAveraged` where only given weights will do: covariances that depend on earlier layers, or that are no multiple
        of the identity after neurons that differ.

        >>> found = DeepNetwork(width_ratios=[1.5], activations="linear").averaged(variance=2.0)
        >>> found.layers[0].ratio.item(), found.variance, [float(v) for v in found.slope2]
        (1.5, (2.0, 2.0), [1.0])
        """
        before, mean2, features, sees = 1.0, 0.0, [variance], variance
        layers, slopes, means = [], [], [0.0]
        for index in range(self.depth):
            here, spread = self.width_ratios[index], mean2 + self.biases[index]
            z, prob = _neuron_nodes(spread)
            c = neurons(self.activations[index], np.sqrt(spread) * z, np.full(len(z), sees))
            slope2, noise = c.kappa_1**2, c.kappa_star2
            if linear and sees * float(prob @ slope2) <= _CENTRED * float(prob @ c.second):
                raise NotAveraged(f"activations[{index}] = {self.activations[index]!r} has no linear part (kappa_1 = 0): behind it "
                                  "nothing of the inputs is left that a readout could find in n = alpha d samples")  # fmt: skip
            if len(z) > 1:  # neurons that are switched off
                noise = np.maximum(noise, 1e-14 * float(prob @ (slope2 + noise)))
            rows = self.rows(index + 1) if index + 1 < self.depth else None
            if rows is not None and len(rows) > 1 and len(z) > 1:
                raise NotAveraged(f"weight_covariances[{index + 1}] must be a multiple of the identity after neurons that differ "
                                  "(biases, or features with a mean): draw the network, and solve for its weights")  # fmt: skip
            layers.append(Layer(here / before, slope2, noise, prob=prob, rows=rows))
            features.append(float(prob @ (sees * slope2 + noise)))
            slopes.append(float(prob @ slope2))
            mean2 = float(prob @ c.kappa_0**2)
            mean2 = mean2 if mean2 > _CENTRED * features[-1] else 0.0  # a rounding error of an odd activation
            means.append(mean2)
            scale = 1.0 if rows is None else float(np.mean(rows))
            # neurons that are alike have means that are: along the constant vector
            along = self._along_the_constant(index + 1) if mean2 and rows is not None else scale
            sees, mean2, before = features[-1] * scale, mean2 * along, here
        return Averaged(tuple(layers), tuple(features), tuple(slopes), tuple(means))

    def _along_the_constant(self, index: int) -> float:
        """``1^T C 1 / p`` of the covariance of the rows of a layer."""
        c = self.weight_covariances[index]
        return float(np.sum(c)) / len(c)

    def rows(self, index: int) -> np.ndarray | None:
        """The eigenvalues of the covariance of the rows of layer ``index`` (0 for the first), None for the identity.

        >>> network = DeepNetwork(widths=(100, 50), activations="tanh", weight_covariances=[np.linspace(0.5, 1.5, 100)])
        >>> network.rows(0)[[0, -1]].tolist()
        [0.5, 1.5]
        """
        c = self.weight_covariances[index]
        if callable(c):
            raise NotAveraged(f"weight_covariances[{index}] depends on the weights before it, so that they cannot be averaged out: "
                             "draw the network, and solve for the weights that it has")  # fmt: skip
        if c is None:
            return None
        values = c if c.ndim == 1 else np.linalg.eigvalsh(c)
        values = np.maximum(values, 1e-12 * values.max())  # rows that see nothing of some neurons
        if np.ptp(values) == 0.0:
            return values[:1]
        warn_low_rank(index, np.sum(values**2) / np.sum(values) ** 2, 10**9)
        return values


def _neuron_nodes(spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for the standard normal means of neurons, a single one where all are alike."""
    if spread <= 0.0:
        return np.zeros(1), np.ones(1)
    z, weights = panel_rule(breakpoints(0), xp=np)
    return z, weights / weights.sum()


def symmetric_root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric root."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def drawn_pair(learner, target, readout, spectrum, dim, seed, shared: int, correlation=()):
    """Learner and target networks, the target's readout (k,), and the root of the inputs' covariance, of one seed.

    Networks that are given stay; the readout has |theta|^2 = k where it is drawn. The root holds standard deviations (d,) or is a
    matrix (d, d).
    """
    seed = seed if isinstance(seed, tuple) else (seed,)
    if isinstance(learner, DeepNetwork):
        learner = learner.draw((*seed, 0), dim)
    if isinstance(target, DeepNetwork):
        target = target.draw((*seed, 1), learner.dim, like=learner, shared=shared, correlation=correlation)
    if readout is None:
        readout = sampling.generator(_NETWORK, (*seed, 2)).standard_normal(target.widths[-1])
        readout = readout * np.sqrt(len(readout) / np.sum(readout**2))
    return learner, target, np.asarray(readout), input_root(spectrum, learner.dim, seed)


def input_root(spectrum, dim: int, seed) -> np.ndarray:
    """The root of the inputs' covariance in dimension ``dim``: standard deviations (dim,) or a symmetric matrix."""
    if spectrum is None:
        return np.ones(dim)
    if isinstance(spectrum, SpectralLaw):
        return np.sqrt(sampling.place_atoms(seed, spectrum, dim)[0][0])
    spectrum = check.array("spectrum", spectrum)
    if len(spectrum) != dim:
        raise ValueError(f"dim must be {len(spectrum)}, the size of spectrum, got {dim}")
    return np.sqrt(spectrum) if spectrum.ndim == 1 else symmetric_root(spectrum)
