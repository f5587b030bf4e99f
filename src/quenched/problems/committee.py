"""Committee machines and phase retrieval: multi-index regression."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from ..numerics import check
from .base import Problem


def _erf(h):
    import jax

    return jax.scipy.special.erf(h / 2.0**0.5)


def _tanh(h):
    import jax.numpy as jnp

    return jnp.tanh(h)


ACTIVATIONS = {"erf": _erf, "tanh": _tanh}


@functools.lru_cache(maxsize=256)
def _functions(activation):
    """Loss and observables of one activation: the same objects every time, since functions key the compilation."""
    import jax.numpy as jnp

    def output(target):
        return jnp.sum(activation(target[0]))

    def loss(h, label):
        return 0.5 * (output(h) - label) ** 2

    def test_mse(h, target):
        return (output(h) - output(target)) ** 2

    def test_mse_noisy(h, label):
        return (output(h) - label) ** 2

    return output, loss, (("test_mse", test_mse), ("test_mse_noisy", test_mse_noisy))


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Committee(Problem):
    """A soft committee machine that learns a soft committee machine: multi-index regression.

    Minimises ``sum_mu 1/2 (sum_a sigma(h_a) - y)^2 + weight_decay/2 ||w||^2`` with ``y = sum_b sigma(h_*b) +
    sqrt(noise) z``, isotropic inputs
    and orthonormal targets.

    - ``units``, ``target_units``: hidden units of the learner and of the target.
    - ``activation``: ``"erf"`` (erf(h / sqrt 2)), ``"tanh"``, or a smooth JAX function.
    - ``alpha`` > 0, ``weight_decay`` > 0, ``noise`` >= 0 (a variance).

    Starts: ``"specialised"`` (unit a on target a) and ``"unspecialised"`` (all units alike, kept so); ``branches()``
    ranks what they lead
    to. Order parameters ``q``, ``V``, ``Q`` (units x units), ``theta`` (units x targets). Observables ``test_mse`` (clean),
    ``test_mse_noisy``, ``train_loss``, ``free_energy``. Where the replicon exceeds one, replica symmetry is approximate.

    Source: B. Aubin et al. (2018), arXiv:1806.05451; H. Cui (2024), arXiv:2409.13904.

    >>> import quenched as qn
    >>> qn.problems.Committee(2, 2, "erf", alpha=6.0, weight_decay=0.2, noise=0.09).replace(units=3).units
    3
    """

    units: int
    target_units: int
    activation: Any
    alpha: Any
    weight_decay: Any
    noise: Any = 0.0

    _references = ("aubin2018committee", "cui2024narrow")
    _squeeze = False
    _starts = ("specialised", "unspecialised")
    _default_start = "specialised"

    def __post_init__(self):
        from ..losses.base import elementwise

        set_ = object.__setattr__
        set_(self, "units", check.integer("units", self.units, 1, check.UNITS))
        set_(self, "target_units", check.integer("target_units", self.target_units, 1, check.UNITS))
        if callable(self.activation):
            elementwise("activation", self.activation, 2)
        else:
            check.choice("activation", self.activation, ACTIVATIONS)
        set_(self, "alpha", check.positive("alpha", self.alpha))
        set_(self, "weight_decay", check.positive("weight_decay", self.weight_decay))
        set_(self, "noise", check.nonnegative("noise", self.noise))

    def _model(self):
        from .. import laws
        from ..limit.model import Model, target_reads
        from ..losses import Link, Loss

        activation = self.activation if callable(self.activation) else ACTIVATIONS[self.activation]
        output, loss, observables = _functions(activation)
        law = laws.single(targets=self.target_units)
        return Model(
            law=law, response=Link(output, self.noise), alpha=self.alpha, weight_decay=self.weight_decay, params={}, scalars={},
            loss=Loss(loss, convex=False), units=self.units, observables=observables,
            reads=target_reads(law), frozen=(),
        )  # fmt: skip

    def _start(self, name):
        if name == "unspecialised":
            return "uninformed", ("units",)
        return ("informed" if name == "specialised" else name), ()

    def _direction(self, over: str):
        """The specialisation: the mean overlap of units with their own targets, minus that with others."""
        r, t = self.units, self.target_units
        if over != "theta" or r < 2 or t < 2:
            return super()._direction(over)
        own = np.eye(r, t)
        return (own / own.sum() - (1.0 - own) / (1.0 - own).sum())[None]

    def _present(self, value, overlap: bool):
        return value[0] if overlap and value.ndim == 3 and value.shape[0] == 1 else value

    def _align(self):
        from ..finite.align import align_to_targets

        return align_to_targets(signs=False)


def _square(target):
    return target[0, 0] ** 2


def _phase_loss(h, label):
    return 0.25 * (h[0, 0] ** 2 - label) ** 2


def _phase_mse(h, target):
    return (h[0, 0] ** 2 - target[0, 0] ** 2) ** 2


def _phase_mse_noisy(h, label):
    return (h[0, 0] ** 2 - label) ** 2


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class PhaseRetrieval(Problem):
    """Recovering w_* up to its sign from ``y = h_*^2 + sqrt(noise) z``: minimises ``sum 1/4 (h^2 - y)^2 + weight_decay/2 ||w||^2``.

    - ``alpha`` > 0, ``weight_decay`` > 0, ``noise`` >= 0 (a variance); isotropic inputs, target of unit-variance coordinates.

    Starts: ``"informed"`` (on the target) and ``"uninformed"`` (the sector theta = 0, which the sign symmetry protects). Order
    parameters ``q``, ``V``, ``theta``, ``Q``. Observables ``test_mse`` (of h^2 against h_*^2), ``test_mse_noisy``,
    ``train_loss``, ``free_energy``.

    Source: H. Cui (2024), arXiv:2409.13904.

    >>> import quenched as qn
    >>> qn.problems.PhaseRetrieval(alpha=3.0, weight_decay=0.2, noise=0.04)
    PhaseRetrieval(alpha=3, weight_decay=0.2, noise=0.04)
    """

    alpha: Any
    weight_decay: Any
    noise: Any = 0.0

    _starts = ("informed", "uninformed")
    _default_start = "informed"

    def __post_init__(self):
        set_ = object.__setattr__
        set_(self, "alpha", check.positive("alpha", self.alpha))
        set_(self, "weight_decay", check.positive("weight_decay", self.weight_decay))
        set_(self, "noise", check.nonnegative("noise", self.noise))

    def _model(self):
        from .. import laws
        from ..limit.model import Model, target_reads
        from ..losses import Link, Loss

        law = laws.single()
        return Model(
            law=law, response=Link(_square, self.noise), alpha=self.alpha, weight_decay=self.weight_decay, params={}, scalars={},
            loss=Loss(_phase_loss, convex=False), units=1,
            observables=(("test_mse", _phase_mse), ("test_mse_noisy", _phase_mse_noisy)),
            reads=target_reads(law), frozen=(),
        )  # fmt: skip

    def _start(self, name):
        return name, (("theta",) if name == "uninformed" else ())

    def _align(self):
        from ..finite.align import align_to_targets

        return align_to_targets(signs=True)
