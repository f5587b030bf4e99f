"""A network of quadratic units and n ~ d^2 samples, where kernels are no longer Bayes-optimal."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np

from ..numerics import check
from .base import Problem, SolveError, SolveWarning
from .solution import Solution, register_pytree


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class QuadraticNetwork(Problem):
    """Learning ``y = (x^T S x - tr S) / sqrt(d) + sqrt(noise) z`` with ``S = sum_k w_k w_k^T / m``, m = ``width_ratio`` d units.

    Inputs are normal, and so are the entries of w_k; n = ``alpha`` d^2 samples (of the order of the unknowns).

    - ``width_ratio``: m / d, from 1e-4 to 1e9; ``alpha``: samples over d^2, from 1e-9 to 1e9; ``noise``, a variance, to 1e9.

    Order parameter ``t``, the variance of the noise through which the samples show S. Observables of the Bayes-optimal
    learner, ``test_mse`` against noisy labels, ``test_mse_clean`` = 2 ``mmse`` against the target, ``mmse`` = |S - S_hat|^2 / d;
    and of the best kernel, ``kernel_test_mse``, ``kernel_test_mse_clean``, ``kernel_mmse``. Without noise S is known exactly from
    alpha = ``width_ratio - width_ratio^2 / 2`` on (1/2 for width_ratio > 1; always 1/2 for the kernel).

    Source: A. Maillard, E. Troiani, S. Martin, F. Krzakala, L. Zdeborova (2024), arXiv:2408.03733.

    >>> import quenched as qn
    >>> solution = qn.problems.QuadraticNetwork(width_ratio=0.5, alpha=0.3, noise=0.25).solve()
    >>> round(float(solution["mmse"]), 6), round(float(solution["kernel_mmse"]), 6)
    (0.532514, 0.940746)
    """

    width_ratio: Any
    alpha: Any
    noise: Any = 0.0

    _by_the_engine = False
    _references = ("maillard2024quadratic", "cui2023bayes")

    def __post_init__(self):
        from ..limit.quadratic_network import checked

        for name, value in zip(("width_ratio", "alpha", "noise"), checked(self.width_ratio, self.alpha, self.noise), strict=True):
            object.__setattr__(self, name, value)
            if check.traced(value):
                raise ValueError(f"{name} must be a plain number, the error of a quadratic network is not differentiated")

    def _model(self):
        raise ValueError("QuadraticNetwork minimises no risk: it is solved by solve(), and has no model of a loss")

    def solve(self, init: Any = None, *, tol: float = 1e-8, throw: bool = False, **unknown):
        """The fixed point that is reached without a hint, from S = I; ``throw``: raise where it is not found to ``tol``.

        >>> import quenched as qn
        >>> round(float(qn.problems.QuadraticNetwork(width_ratio=0.5, alpha=0.3, noise=0.25).solve()["mmse"]), 6)
        0.532514
        """
        from ..limit import quadratic_network as limit
        from ..numerics.results import RESULTS

        check.names("solve", unknown, ("init", *check.keywords(Problem.solve)))
        check.choice("init", "uninformed" if init is None else init, ("uninformed",))
        found = limit.bayes(self.width_ratio, self.alpha, self.noise)
        kernel = limit.kernel(self.width_ratio, self.alpha, self.noise)
        observables = {}
        for prefix, point in (("", found), ("kernel_", kernel)):
            observables[prefix + "test_mse"] = np.float64(self.noise + 2.0 * point.mmse)
            observables[prefix + "test_mse_clean"] = np.float64(2.0 * point.mmse)
            observables[prefix + "mmse"] = np.float64(point.mmse)
        result = found.result
        if result is RESULTS.successful and not found.residual <= check.positive("tol", tol):
            result = RESULTS.max_steps
        register_pytree()
        solution = Solution(
            order_parameters={"t": np.float64(found.t)}, observables=observables, result=result, residual=found.residual,
            quadrature_error=found.quadrature_error, replicon=found.slope, stein_gap=0.0, iterations=1, branch="uninformed",
            problem=self,
        )  # fmt: skip
        if not result:
            if throw:
                raise SolveError(f"{self!r}: {solution.status}")
            warnings.warn(f"{self!r}: {solution.status}", SolveWarning, stacklevel=2)
        return solution

    def simulate(self, dim: int, seeds: Any = 8, **options):
        """The experiment: message passing with a spectral denoiser, and the best kernel, on round(alpha d^2) samples.

        - ``options``: ``test_samples``, ``n_jobs``, ``progress``, and of the message passing ``damping`` (0.3), ``iterations``
          (100) and ``tol`` (1e-2), to which two parts of the last ones must agree.

        >>> import quenched as qn
        >>> trials = qn.problems.QuadraticNetwork(width_ratio=1.0, alpha=0.4, noise=0.1).simulate(dim=40, seeds=3)
        >>> bool(abs(trials["mmse"].mean - 0.2126) < 0.04)
        True
        """
        from ..finite.quadratic_network import messages, simulate

        check.names("simulate", options, ("test_samples", "progress", "n_jobs", *check.keywords(messages)))
        return simulate(
            width_ratio=float(self.width_ratio), alpha=float(self.alpha), noise=float(self.noise), dim=dim, seeds=seeds,
            settings=self._settings(), **options,
        )  # fmt: skip
