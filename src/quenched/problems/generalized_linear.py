"""Generalised linear models with a teacher."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..numerics import check
from .base import Problem


def _error(h, label):
    return label * h[0, 0] < 0


def _mse(h, target):
    return (h[0, 0] - target[0, 0]) ** 2


def _mse_noisy(h, label):
    return (h[0, 0] - label) ** 2


def _cosine(model, overlaps):
    from ..limit.observables import cosine

    return cosine(model, overlaps)[0, 0]


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class GeneralizedLinear(Problem):
    """Learning a linear teacher's outcomes by penalised empirical risk minimisation.

    Inputs ``x ~ N(0, Sigma)``, target ``h_* = x.w_* / sqrt(d)``; minimises ``sum_mu loss(x_mu.w / sqrt(d) [+ b],
    y_mu) + weight_decay/2 ||w||^2``.

    - ``loss``: ``"square" | "logistic" | "hinge" | "huber" | "absolute"`` or a JAX function ``(h, label)`` of two numbers.
    - ``target``: the law of the outcome: ``"linear"`` (y = h_* + sqrt(noise) z), ``"sign"`` (y = sign(h_* + sqrt(noise) z)),
      ``"probit"`` (P(y = 1) = Phi(h_* / sqrt(1 + noise))), or a JAX function phi (y = phi(h_*) + sqrt(noise) z).
    - ``alpha`` > 0: samples per dimension; ``weight_decay`` > 0; ``noise`` >= 0: a variance.
    - ``spectrum``: the law of inputs and teacher, a :class:`quenched.laws.SpectralLaw`, a vector of eigenvalues, a matrix, or None
      for isotropic inputs and a teacher with coordinates of unit variance.
    - ``intercept``: fit an unpenalised intercept b.

    Order parameters ``q``, ``V``, ``theta``, ``Q`` (and ``m``, the intercept). Observables: ``test_mse`` (against
    the clean target) and
    ``test_mse_noisy`` (against noisy outcomes), or ``test_error`` for +-1 outcomes; ``train_loss``, ``cosine``, ``free_energy``.

    These arguments give classical problems: ridge regression ``("square", "linear")``; logistic regression
    ``("logistic", "sign")``;
    the perceptron with maximal margin ``("hinge", "sign")`` at small weight decay; robust regression ``("huber", "linear")``.

    Source: B. Loureiro et al. (2021), arXiv:2102.08127; H. Cui (2024), arXiv:2409.13904.

    >>> import quenched as qn
    >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
    >>> round(float(ridge.solve()["test_mse_noisy"]), 10)
    0.184428877
    """

    loss: Any
    target: Any
    alpha: Any
    weight_decay: Any
    noise: Any = 0.0
    spectrum: Any = None
    intercept: bool = False

    _references = ("loureiro2021learning", "cui2024narrow")

    def __post_init__(self):
        from ..losses import NAMED
        from ..losses.base import elementwise

        set_ = object.__setattr__
        check_loss(self.loss, NAMED)
        if callable(self.target):
            elementwise("target", self.target)
        else:
            check.choice("target", self.target, ("linear", "sign", "probit"))
        set_(self, "alpha", check.positive("alpha", self.alpha))
        set_(self, "weight_decay", check.positive("weight_decay", self.weight_decay))
        set_(self, "noise", check.nonnegative("noise", self.noise))
        if not isinstance(self.intercept, (bool, np.bool_)):
            raise ValueError(f"intercept must be True or False, got {self.intercept!r}")
        if self.target == "linear" and self.loss in ("logistic", "hinge"):
            raise ValueError(f"loss {self.loss!r} needs outcomes of +-1, so target must be 'sign' or 'probit', got 'linear'")
        set_(self, "law", _law(self.spectrum, self.intercept))

    def _model(self):
        from ..limit.model import Model, target_reads
        from ..losses import Additive, Link, Probit, Sign

        law = self.law
        observables = {"test_error": _error}
        loss = _loss(self.loss)
        if callable(self.target):
            link, clean = _teacher(self.target)
            response = Link(link, self.noise)
            observables = {"test_mse": clean, "test_mse_noisy": _mse_noisy}
        elif self.target == "linear":
            response = Additive(self.noise)
            observables = {"test_mse": _mse, "test_mse_noisy": _mse_noisy}
        else:
            response = (Sign if self.target == "sign" else Probit)(self.noise)
        return Model(
            law=law, response=response, alpha=self.alpha, weight_decay=self.weight_decay, params={}, scalars={},
            loss=loss, units=1, observables=tuple(observables.items()), reads=target_reads(law), frozen=(),
            derived=(("cosine", _cosine),),
        )  # fmt: skip


def _law(spectrum, intercept):
    from .. import laws

    if spectrum is not None and not isinstance(spectrum, laws.SpectralLaw):
        try:
            np.asarray(spectrum, dtype=np.float64)
        except (TypeError, ValueError) as error:
            wanted = "a number, a vector of eigenvalues, a matrix, a quenched.laws.SpectralLaw or None"
            hint = " (quenched.SequenceProblem takes laws)" if isinstance(spectrum, laws.Law) else ""
            raise ValueError(f"spectrum must be {wanted}, got {check.brief(spectrum)}{hint}") from error

    def make():
        try:
            law = laws.single(spectrum)
        except ValueError as error:
            raise ValueError(f"spectrum is refused: {error}") from error
        return laws.with_free_mean(law) if intercept else law

    return _kept(("isotropic", intercept), make) if spectrum is None else make()


_KEPT: dict = {}
_MOST = 512


def _kept(key, make):
    # the same function object for the same (loss, target): functions key the compilation
    _KEPT[key] = found = _KEPT.pop(key) if key in _KEPT else make()
    while len(_KEPT) > _MOST:
        del _KEPT[next(iter(_KEPT))]  # what was not asked for the longest
    return found


def check_loss(loss, named) -> None:
    """Refuses what is neither one of the names nor a function of (h, label), whatever it calls them."""
    from ..losses import Loss, as_loss
    from ..losses.base import takes

    if isinstance(loss, Loss):
        foreign = {"scalars", "params"} & set(as_loss(loss).names)
        if foreign:
            raise ValueError(f"loss uses {foreign.pop()!r}, which quenched.SequenceProblem has, got {loss.name!r}")
    elif callable(loss):
        takes("loss", loss, "h", "label")
    else:
        check.choice("loss", loss, named)


def _loss(loss):
    from ..losses import Loss, as_loss

    if isinstance(loss, (str, Loss)):
        return as_loss(loss)
    return _kept(loss, lambda: Loss(_renamed(loss), scalar=True))


def _renamed(fn):
    """A user's function of (h, label), whatever its arguments are called."""

    def loss(h, label):
        return fn(h, label)

    return loss


def _teacher(target):
    """The clean outcome target(h_*), and the observable of its mean square error."""

    def make():
        def link(field):
            return target(field[0, 0])

        def clean(h, target):
            return (h[0, 0] - link(target)) ** 2

        return link, clean

    return _kept((target,), make)
