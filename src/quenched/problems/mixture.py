"""Classification of Gaussian mixtures."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..numerics import check
from .base import Problem


def _binary_error(h, label):
    return label * h[0, 0] < 0


def _multiclass_error(h, label):
    import jax.numpy as jnp

    return jnp.argmax(h[0]) != label


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class MixtureClassification(Problem):
    """Linear classification of a Gaussian mixture by penalised empirical risk minimisation.

    - ``loss``: a margin loss of ``label * h`` for two classes with labels -1 and 1 (``"logistic" | "hinge" |
      "square"``, or a JAX function
      ``(h, label)`` of two numbers), or ``"softmax"``: the cross-entropy of K classes with labels 0..K-1, one unit a class.
    - ``law``: a one-token law without target, such as :func:`quenched.laws.mixture`.
    - ``alpha`` > 0: samples per dimension; ``weight_decay`` > 0; ``intercept``: fit unpenalised intercepts.

    Observables ``test_error``, ``train_loss``, ``free_energy``. Order parameters ``q``, ``V`` by covariance, ``m``
    by mean direction, ``Q``.

    Source: B. Loureiro et al. (2021), arXiv:2106.03791; H. Cui (2024), arXiv:2409.13904.

    >>> import quenched as qn
    >>> law = qn.laws.mixture(weights=[0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=[1.0, 1.0], labels=[-1, 1])
    >>> square = qn.problems.MixtureClassification("square", law, alpha=2.0, weight_decay=0.1)
    >>> round(float(square.solve()["test_error"]), 4)
    0.2669
    """

    loss: Any
    law: Any
    alpha: Any
    weight_decay: Any
    intercept: bool = False

    _references = ("loureiro2021gaussian", "cui2024narrow")

    def __post_init__(self):
        from ..laws.base import Law
        from .generalized_linear import check_loss

        set_ = object.__setattr__
        check_loss(self.loss, ("logistic", "hinge", "square", "softmax"))
        if not isinstance(self.law, Law):
            raise ValueError(f"law must be a quenched.laws.Law, got {type(self.law).__name__}")
        set_(self, "alpha", check.positive("alpha", self.alpha))
        set_(self, "weight_decay", check.positive("weight_decay", self.weight_decay))
        if not isinstance(self.intercept, (bool, np.bool_)):
            raise ValueError(f"intercept must be True or False, got {self.intercept!r}")
        labels = self.law.labels()
        if labels.mean.shape[1] != 1 or self.law.targets()[0].shape[-1]:
            raise ValueError("law must have one token and no target")
        if check.traced(labels.value):
            return
        value = np.asarray(labels.value)
        if self.loss == "softmax":
            if value.dtype.kind not in "iu" or value.ndim != 1 or value.min() != 0:
                raise ValueError(f"law must have the labels 0..K-1 as integers for loss 'softmax', got {value.tolist()}")
        elif value.ndim != 1 or not set(np.unique(value)) <= {-1.0, 1.0}:
            raise ValueError(f"law must have the labels -1 and 1 for a margin loss, got {value.tolist()}")

    def _model(self):
        from .. import laws
        from ..limit.model import Model, target_reads
        from ..losses import softmax
        from .generalized_linear import _loss

        law = laws.with_free_mean(self.law) if self.intercept else self.law
        multi = self.loss == "softmax"
        units = int(np.max(np.asarray(law.labels().value))) + 1 if multi else 1
        return Model(
            law=law, response=None, alpha=self.alpha, weight_decay=self.weight_decay, params={}, scalars={},
            loss=softmax if multi else _loss(self.loss), units=units,
            observables=(("test_error", _multiclass_error if multi else _binary_error),),
            reads=target_reads(law), frozen=(),
        )  # fmt: skip
