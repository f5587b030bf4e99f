"""How an iterative solver ended."""

from __future__ import annotations

import enum


class RESULTS(enum.Enum):
    """Result codes; the value is the sentence a user reads.

    >>> str(RESULTS.successful), bool(RESULTS.max_steps)
    ('converged', False)
    """

    successful = "converged"
    quadrature = "converged, but the Gaussian averages are less accurate than quadrature_tol"
    prox = "the proximal operator did not converge at every quadrature node"
    max_steps = "not converged: the largest number of steps was reached"
    stalled = "not converged: the residual stopped falling (a cycle, as where the proximal operator jumps at some nodes)"
    invalid = "not converged: the iteration left the region where the saddle point is defined"
    nonfinite = "not converged: the loss, its derivatives or an observable are not finite"

    def __bool__(self) -> bool:
        return self is RESULTS.successful

    def __str__(self) -> str:
        return self.value
