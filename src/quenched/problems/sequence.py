"""The general door: any law, any loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..numerics import check
from .base import Problem

#: What a solution calls its order parameters and the observables that every problem has.
_TAKEN = ("V", "q", "m", "theta", "Q", "V_hat", "q_hat", "m_hat", "theta_hat", "Q_hat", "free", "train_loss", "free_energy")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SequenceProblem(Problem):
    """Empirical risk minimisation of any loss on any law of conditionally Gaussian tokens.

    Minimises ``sum_mu loss(h_mu, gram, target_mu, label_mu, noise_mu; scalars, params) + weight_decay / 2 ||w||^2`` over
    ``w`` (d, r) and ``scalars``, where ``h = x w / sqrt(d)`` is (L, r) and ``gram = w^T w / d``, for n = alpha d samples.

    - ``law``: a :class:`quenched.laws.Law`; ``loss``: a JAX function that names the arguments it uses, a :class:`quenched.Loss`, or
      the name of a built-in loss of a scalar h and label.
    - ``alpha``: samples per input dimension; ``weight_decay``: lambda > 0; ``units``: r.
    - ``params``: fixed numbers, traced and differentiable; :meth:`replace`, :meth:`gradient`, :meth:`tune` and sweeps know
      them by name.
      ``scalars``: trained and unpenalised numbers (their start).
    - ``response``: the law of the outcome given the target (:mod:`quenched.losses`); then ``label`` is the outcome.
    - ``observables``: name -> function of ``h``, ``label``, ``target``, ``noise``, ``gram``, ``scalars``,
      ``params``, averaged over fresh
      data. A function that returns a boolean is averaged with nodes split at its jumps.
    - ``freeze``: overlaps held at zero, ``{"theta": 0}`` or ``{"m": 0}``: a sector that a symmetry protects.

    Source: H. Cui (2024), arXiv:2409.13904.

    >>> import jax.numpy as jnp, quenched as qn
    >>> problem = qn.SequenceProblem(
    ...     law=qn.laws.mixture(weights=[0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=[1.0, 1.0], labels=[-1, 1]),
    ...     loss=lambda h, label: jnp.logaddexp(0.0, -label * h[0, 0]),
    ...     alpha=2.0, weight_decay=0.1,
    ...     observables={"test_error": lambda h, label: label * h[0, 0] < 0})
    >>> round(float(problem.solve()["test_error"]), 4)
    0.2322
    """

    law: Any
    loss: Any
    alpha: Any
    weight_decay: Any
    units: int = 1
    params: Mapping = dataclasses.field(default_factory=dict)
    scalars: Mapping = dataclasses.field(default_factory=dict)
    response: Any = None
    observables: Mapping = dataclasses.field(default_factory=dict)
    freeze: Mapping = dataclasses.field(default_factory=dict)

    _squeeze = False

    def __post_init__(self):
        from ..laws.base import Law
        from ..losses import Response, as_loss
        from ..losses.base import argument_names

        set_ = object.__setattr__
        if not isinstance(self.law, Law):
            raise ValueError(f"law must be a quenched.laws.Law, got {type(self.law).__name__}")
        set_(self, "alpha", check.positive("alpha", self.alpha))
        set_(self, "weight_decay", check.positive("weight_decay", self.weight_decay))
        set_(self, "units", check.integer("units", self.units, 1, check.UNITS))
        loss = as_loss(self.loss)
        if self.response is not None and not isinstance(self.response, Response):
            raise ValueError(f"response must be a quenched.losses.Response or None, got {type(self.response).__name__}")
        for name in ("params", "scalars"):
            table = getattr(self, name)
            if not isinstance(table, Mapping) or not all(isinstance(key, str) for key in table):
                raise ValueError(f"{name} must be a dict of names and numbers, got {table!r}")
            set_(self, name, {k: v if check.traced(v) else check.array(f"{name}[{k!r}]", v) for k, v in table.items()})
        for name in ("params", "scalars"):
            if name in loss.names and not getattr(self, name):
                raise ValueError(f"loss uses {name!r}, so {name} must name at least one number, got {{}}")
        for name in ("observables", "freeze"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name} must be a dict, got {getattr(self, name)!r}")
        for table in ("scalars", "observables"):
            clash = sorted(set(getattr(self, table)) & {*_TAKEN, *(self.scalars if table == "observables" else ())})
            if clash:
                raise ValueError(f"{table} must not be called {clash[0]!r}, a name that a solution has already")
        targets = self.law.targets()[0].shape[-1]
        for name, fn in self.observables.items():
            if not callable(fn):
                raise ValueError(f"observables[{name!r}] must be a function, got {fn!r}")
            for used in argument_names(fn, f"observables[{name!r}]"):
                if (used in ("params", "scalars") and not getattr(self, used)) or (used == "target" and targets == 0):
                    raise ValueError(f"observables[{name!r}] uses {used!r}, but the problem has none")
        for name, value in self.freeze.items():
            if name not in ("m", "theta") or np.any(np.asarray(value) != 0):
                raise ValueError(f"freeze may hold 'm' or 'theta' at 0, got {name!r}: {value!r}")
        if targets == 0 and ("target" in loss.names or self.response is not None):
            raise ValueError("loss or response reads the target, but law has none (t = 0)")
        C, L, A = self.law.labels().mean.shape
        if loss.scalar and (L != 1 or self.units != 1):
            raise ValueError(f"loss {loss.name!r} takes a single number h, so units and tokens must be 1, got {self.units} and {L}")

    def number(self, name: str):
        """As for every problem, and the entries of ``params`` by their own names.

        >>> import quenched as qn
        >>> law, loss = qn.laws.single(), lambda h, params: (h[0, 0] - params["level"]) ** 2
        >>> problem = qn.SequenceProblem(law, loss, 1.0, 0.1, params={"level": 1.0})
        >>> float(problem.number("level")), float(problem.number("alpha"))
        (1.0, 1.0)
        """
        return self.params.get(name) if name not in self.parameters else super().number(name)

    def replace(self, **changes) -> SequenceProblem:
        """The same problem with some parameters changed; entries of ``params`` may be given by their own names.

        >>> import quenched as qn
        >>> law, loss = qn.laws.single(), lambda h, params: (h[0, 0] - params["level"]) ** 2
        >>> qn.SequenceProblem(law, loss, 1.0, 0.1, params={"level": 1.0}).replace(level=2.0).number("level").item()
        2.0
        """
        inner = {name: changes.pop(name) for name in list(changes) if name in self.params and name not in self.parameters}
        if inner:
            changes["params"] = {**changes.get("params", self.params), **inner}
        return super().replace(**changes)

    def _model(self):
        from ..limit.model import Model, target_reads
        from ..losses import as_loss

        return Model(
            law=self.law, response=self.response, alpha=self.alpha, weight_decay=self.weight_decay,
            params=dict(self.params), scalars=dict(self.scalars), loss=as_loss(self.loss), units=self.units,
            observables=tuple(self.observables.items()), reads=target_reads(self.law), frozen=tuple(sorted(self.freeze)),
        )  # fmt: skip
