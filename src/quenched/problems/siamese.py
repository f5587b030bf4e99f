"""Contrastive learning with a siamese network of one unit."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..numerics import check
from .base import Problem


def _loss(h, label):
    import jax

    return jax.nn.softplus(-label * h[0, 0] * h[1, 0])


def _pair_error(h, label):
    return label * h[0, 0] * h[1, 0] < 0


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Siamese(Problem):
    """Learning from pairs whether two inputs belong together: ``sum log(1 + exp(-y h_1 h_2)) + weight_decay/2 ||w||^2``.

    Both inputs come from the clusters +mu and -mu, each with probability 1/2; a pair has y = 1 where they agree.

    - ``alpha`` > 0: pairs per dimension; ``weight_decay`` > 0.
    - ``separation`` >= 0: the norm of mu; ``positive`` in (0, 1): the probability of a pair with y = 1.
    - ``spectrum``: the covariance of the clusters, a number, a vector of equally weighted eigenvalues (mu is spread evenly over
      them), or a :class:`quenched.laws.SpectralLaw` that holds the direction mu itself (then ``separation`` is not used).

    Starts: ``"informed"`` (along mu) and ``"uninformed"`` (the sector m = 0). Order parameters ``q``, ``V``, ``m``,
    ``Q``. Observables ``test_error``
    (of sign(h_1 h_2)), ``train_loss``, ``free_energy``. At small weight decay the proximal operator jumps between
    its two sign-related
    wells and replica symmetry is approximate: the solution says so.

    Source: H. Cui (2024), arXiv:2409.13904.

    >>> import quenched as qn
    >>> qn.problems.Siamese(alpha=3.0, weight_decay=0.6, separation=1.5).positive
    0.7
    """

    alpha: Any
    weight_decay: Any
    separation: Any = 1.5
    positive: Any = 0.7
    spectrum: Any = None

    _starts = ("informed", "uninformed")
    _default_start = "informed"

    def __post_init__(self):
        set_ = object.__setattr__
        set_(self, "alpha", check.positive("alpha", self.alpha))
        set_(self, "weight_decay", check.positive("weight_decay", self.weight_decay))
        set_(self, "separation", check.nonnegative("separation", self.separation))
        set_(self, "positive", check.scalar("positive", self.positive, 0.0, 1.0, open_low=True, open_high=True))
        set_(self, "law", self._law())

    def _law(self):
        from .. import laws

        spectrum = self.spectrum
        if not isinstance(spectrum, laws.SpectralLaw):
            if isinstance(spectrum, laws.Law):
                raise ValueError(f"spectrum must be numbers, a quenched.laws.SpectralLaw or None, got {type(spectrum).__name__}")
            values = np.atleast_1d(check.array("spectrum", 1.0 if spectrum is None else spectrum))
            if values.ndim != 1 or not values.size:
                raise ValueError(f"spectrum must be a number or a vector of eigenvalues, got an array of shape {values.shape}")
            tau = np.full((values.size, 1), self.separation)
            try:
                spectrum = laws.SpectralLaw(np.full(values.size, 1.0 / values.size), values[:, None], directions=tau)
            except ValueError as error:
                raise ValueError(f"spectrum is refused: {error}") from error
        if spectrum.gram.shape[-1] != 1 or spectrum.eigenvalues.shape[1] != 1:
            raise ValueError("spectrum must hold one covariance and one direction (the mean mu)")
        mean = np.array([[[-1.0], [-1.0]], [[-1.0], [1.0]], [[1.0], [-1.0]], [[1.0], [1.0]]])
        same, other = self.positive / 2.0, (1.0 - self.positive) / 2.0
        return laws.SpectralTokens(
            spectrum, prob=np.array([same, other, other, same]), mean=mean, cov=np.ones((4, 2, 1)),
            value=np.array([1.0, -1.0, -1.0, 1.0]),
        )  # fmt: skip

    def _model(self):
        from ..limit.model import Model, target_reads
        from ..losses import Loss

        return Model(
            law=self.law, response=None, alpha=self.alpha, weight_decay=self.weight_decay, params={}, scalars={},
            loss=Loss(_loss, convex=False), units=1, observables=(("test_error", _pair_error),),
            reads=target_reads(self.law), frozen=(),
        )  # fmt: skip

    def _start(self, name):
        return name, (("m",) if name == "uninformed" else ())

    def _align(self):
        from ..finite.align import align_to_means

        return align_to_means(signs=True)
