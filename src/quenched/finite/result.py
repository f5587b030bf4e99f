"""What a minimisation returns."""

from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple

import numpy as np


class Status(enum.Enum):
    """How a minimisation ended; the value is the sentence a user reads.

    >>> Status.CONVERGED.value
    'converged'
    >>> [status.name for status in Status]
    ['CONVERGED', 'MAX_ITERATIONS', 'STALLED', 'UNDETERMINED', 'SADDLE', 'DIVERGED']
    """

    CONVERGED = "converged"
    MAX_ITERATIONS = "not converged: the largest number of iterations was reached"
    STALLED = "not converged: no further descent was found before the tolerance was met"
    UNDETERMINED = "not converged: the gradient vanishes, but nothing holds the weights (weight_decay is 0)"
    SADDLE = "not a minimum: the gradient vanishes, but the Hessian has a direction of negative curvature"
    DIVERGED = "diverged: the risk is not a finite number, or the weights grow without bound"


class Restart(NamedTuple):
    """One of several starts: its name, the risk it ended in, its optimality and status."""

    start: str
    risk: float
    optimality: float
    status: Status


@dataclasses.dataclass(frozen=True)
class Minimiser:
    """A minimiser of the empirical risk, with its certificate.

    - ``w`` (d, r), ``free`` (F, r), ``scalars``: what was trained;
    - ``risk``: the penalised risk, a sum over samples; ``train_loss``: the mean loss per sample, without the penalty;
    - ``optimality``: a relative distance from optimality, measured as ``certificate`` says: "gradient" (its norm, see
      :meth:`Risk.relative_gradient`) or "duality gap" ((primal - dual) / primal, for losses with kinks);
    - ``status``, ``iterations``, ``solver``: how it ended and what was run; ``note``: what else a reader must know;
    - ``restarts``: all starts that were tried, the chosen one among them.

    >>> from quenched.finite.data import Data
    >>> from quenched.finite.minimise import minimise
    >>> from quenched.losses.named import square
    >>> none = np.zeros((2, 1, 0))
    >>> fit = minimise(Data(np.sqrt(2.0) * np.eye(2)[:, None], none, none, np.array([1.0, 2.0])), square, weight_decay=1.0)
    >>> fit.w[:, 0].tolist(), round(fit.risk, 12), fit.converged  # half the labels, 5/4
    ([0.5, 1.0], 1.25, True)
    """

    w: np.ndarray
    free: np.ndarray
    scalars: dict
    risk: float
    train_loss: float
    optimality: float
    certificate: str
    status: Status
    iterations: int
    solver: str
    restarts: tuple[Restart, ...] = ()
    note: str = ""

    @property
    def converged(self) -> bool:
        """Whether the tolerance was met."""
        return self.status is Status.CONVERGED

    def __repr__(self) -> str:
        d, r = self.w.shape
        lines = [
            f"Minimiser(d={d}, units={r}): {self.status.value}",
            f"  risk {self.risk:.8g}, relative {self.certificate} {self.optimality:.1e}, "
            f"{self.solver}, {self.iterations} iterations",
        ]
        if len(self.restarts) > 1:
            lines += [f"  from {s.start}: risk {s.risk:.8g}, {s.status.value}" for s in self.restarts]
        return "\n".join([*lines, f"  {self.note}"] if self.note else lines)
