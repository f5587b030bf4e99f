"""The best that any learner can do on a deep random network, and what ridge, kernels, random features and classifiers do."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any

import numpy as np

from ..numerics import check
from ..numerics.results import RESULTS
from .base import Problem, SolveError, SolveWarning
from .deep_baselines import DeepBaselines
from .solution import Solution, register_pytree

TASKS = ("regression", "classification")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class BayesOptimalDeep(DeepBaselines, Problem):
    """Learning a network of known architecture and unknown random weights: the Bayes-optimal error, and that of baselines.

    Inputs ``x ~ N(0, S)``; target ``f = a.x_L / sqrt(k_L)``, ``x_l = sigma_l(W_l x_{l-1} / sqrt(k_{l-1}))`` with normal weights;
    labels ``y = f + sqrt(noise) z`` (regression) or ``y = sign(f + sqrt(noise) z)`` (classification); n = alpha d samples.

    - ``widths``: (d, k_1, .., k_L), whole numbers; or (k_1 / d, .., k_L / d), floats. They drop out of :meth:`solve` where all
      grow together; :meth:`simulate` draws networks of these widths.
    - ``activations``: one for all layers, or L of them; ``task``: ``"regression"`` or ``"classification"``.
    - ``alpha`` > 0: samples per dimension; ``noise`` >= 0, a variance; ``spectrum``: the covariance of the inputs: None for the
      identity, eigenvalues, a matrix, or a SpectralLaw.
    - ``weight_variances``: of the entries of W_1, .., W_L, one number or L; ``readout_variance``: of the entries of a.

    Order parameters: ``q``, the overlap of the posterior mean with the linear teacher that the target amounts to, ``q_hat``, and
    ``V`` = tr S / d - q. Observables: ``test_mse`` against noisy labels and ``test_mse_clean`` against the target, or
    ``test_error`` and ``test_error_clean``; ``mutual_information`` of labels and target, per dimension.

    A constant of the target (activations that are not odd) is learnt from few samples and left out of regression; in
    classification it would unbalance the labels, and is refused.

    Source: H. Cui, F. Krzakala, L. Zdeborova (2023), arXiv:2302.00375.

    >>> import quenched as qn
    >>> problem = qn.problems.BayesOptimalDeep((1.4, 1.4), "erf", "regression", alpha=2.0, noise=0.1)
    >>> best, ridge = problem.solve(), problem.ridge()
    >>> bool(abs(best["test_mse"] - ridge.test_mse) < 1e-10), round(float(ridge.weight_decay), 6)
    (True, 0.499046)
    """

    widths: Any
    activations: Any
    task: str
    alpha: Any
    noise: Any = 0.0
    spectrum: Any = None
    weight_variances: Any = 1.0
    readout_variance: Any = 1.0

    _by_the_engine = False
    _references = ("cui2023bayes",)

    def __post_init__(self):
        from ..laws.equivalent import inputs_spectrum, variance
        from ..laws.kernel import DeepKernel
        from ..laws.network import as_activations

        set_ = object.__setattr__
        set_(self, "widths", _widths(self.widths))
        check.choice("task", self.task, TASKS)
        set_(self, "alpha", check.positive("alpha", self.alpha))
        set_(self, "noise", check.nonnegative("noise", self.noise))
        if check.traced(self.readout_variance):
            raise ValueError("readout_variance must be a plain number: nothing is differentiated with respect to it")
        layers = as_activations(self.activations, self.depth)
        set_(self, "target", DeepKernel(layers, self.weight_variances, self.readout_variance))
        set_(self, "readout_variance", self.target.readout_variance)
        set_(self, "inputs", inputs_spectrum(self.spectrum))
        set_(self, "numbers", self.target.numbers(variance(self.inputs)))
        if not self.numbers.slope > 1e-14 * (self.numbers.slope + self.numbers.rest):
            raise ValueError(f"activations must have a linear part (E z sigma(z) not 0), or n ~ d samples teach nothing, "
                             f"got {self.activations!r}")  # fmt: skip
        if self.task == "classification" and self.numbers.constant > 0.0:
            raise ValueError(f"activations must be odd for classification, since a random constant of the target unbalances the "
                             f"labels, got one of variance {self.numbers.constant:.6g} for {self.activations!r}")  # fmt: skip

    # ---- what the samples see of the target --------------------------------------------------------------------------------

    @property
    def depth(self) -> int:
        """L, the number of hidden layers."""
        return len(self.widths) - isinstance(self.widths[0], int)

    @property
    def label_noise(self):
        """sigma^2: the part of the labels' field that is not linear in the inputs, and the noise."""
        return self.numbers.rest + self.noise

    @property
    def total(self):
        """The variance of the labels' field about the constant of the target."""
        from ..laws.equivalent import variance

        return self.numbers.slope * variance(self.inputs) + self.label_noise

    @functools.cached_property
    def law(self):
        """The law of the inputs, with the linear teacher that the target amounts to."""
        from ..laws import single

        return single(self.inputs)

    def _model(self):
        raise ValueError("BayesOptimalDeep minimises no risk: it is solved by solve(), and has no model of a loss")

    # ---- the limit ---------------------------------------------------------------------------------------------------------

    def solve(self, init: Any = None, *, tol: float = 1e-8, quadrature_tol: float | None = None, throw: bool = False, **unknown):
        """Solve for the posterior in the limit; there is one fixed point, whatever the start. See :meth:`Problem.solve`.

        >>> import quenched as qn
        >>> problem = qn.problems.BayesOptimalDeep((1.4,), "erf", "regression", alpha=2.0, noise=0.1)
        >>> round(float(problem.solve()["test_mse"]), 6)
        0.23091
        """
        from ..limit.bayes_deep import bayes_point

        names = check.keywords(Problem.solve)
        check.names("solve", unknown, ("init", *names))
        check.choice("init", "uninformed" if init is None else init, ("uninformed", "informed"))
        tol = check.positive("tol", tol)
        quadrature_tol = 1e-6 if quadrature_tol is None else check.positive("quadrature_tol", quadrature_tol)
        p = bayes_point(self.law, self.task, self.alpha, self.numbers.slope, self.label_noise)
        plain = not check.traced(self.alpha, self.noise)
        observables = {**self._errors(p), "mutual_information": p.information}
        orders = {"q": p.q, "q_hat": p.q_hat, "V": p.V}
        if plain:
            observables, orders = ({k: np.asarray(v, np.float64) for k, v in t.items()} for t in (observables, orders))
        q, update, error, replicon = (_number(v) for v in (p.q, p.update, p.quadrature_error, p.replicon))
        residual = abs(update - q) / q
        result = RESULTS.successful if residual <= tol else RESULTS.max_steps
        if result and error > quadrature_tol:
            result = RESULTS.quadrature
        if not np.all(np.isfinite([q, residual, error, replicon])):
            result = RESULTS.nonfinite
        register_pytree()
        solution = Solution(
            order_parameters=orders, observables=observables, result=result, residual=residual, quadrature_error=error,
            replicon=replicon, stein_gap=0.0, iterations=1, branch="uninformed", problem=self, quadrature_tol=quadrature_tol,
        )  # fmt: skip
        if not result:
            if throw or result is RESULTS.nonfinite:
                raise SolveError(f"{self!r}: {solution.status}")
            warnings.warn(f"{self!r}: {solution.status}", SolveWarning, stacklevel=2)
        return solution

    def _errors(self, point) -> dict:
        import jax.numpy as jnp

        from ..limit.bayes_deep import angle_error
        from ..numerics.precision import float64

        with float64(True):
            if self.task == "regression":
                clean = self.numbers.rest + self.numbers.slope * point.V
                return {"test_mse": clean + self.noise, "test_mse_clean": clean}
            known = self.numbers.slope * point.q
            wrong = {"test_error": self.total, "test_error_clean": self.total - self.noise}
            return {name: angle_error(known, known, jnp.asarray(total)) for name, total in wrong.items()}

    def branches(self, starts: Any = None, **options):
        """The one fixed point, under the name of its start.

        >>> import quenched as qn
        >>> list(qn.problems.BayesOptimalDeep((1.4,), "erf", "regression", alpha=2.0, noise=0.1).branches())
        ['uninformed']
        """
        return {"uninformed": self.solve(**options)}

    # ---- finite size -------------------------------------------------------------------------------------------------------

    def simulate(self, dim: int | None = None, seeds: Any = 8, *, learners: Any = None, **options):
        """The experiment: networks are drawn, n = alpha d samples labelled, and learnt; for every seed.

        - ``dim``: d, None for the first of the ``widths``; ``seeds``: how many, or which.
        - ``learners``: name -> learner, run on the same data as the Bayes-optimal one: any of :mod:`quenched.finite.learners` (as
          ``{"ridge": Ridge(0.1)}``, whose ``ridge_test_mse`` is reported), or a function (x, y, seed) that returns a ``Learnt``.
        - ``options``: ``test_samples``, ``n_jobs``, ``progress``; ``samples``: n in place of alpha d, and ``sphere=True``:
          inputs of one length, as :meth:`staircase` has them.

        The Bayes-optimal learner is exact Gaussian process regression with the network's own kernel, or expectation propagation
        with it for classification. Reports the observables of :meth:`solve` and, of every drawn network, ``target_slope`` and
        ``target_rest``.

        >>> import quenched as qn
        >>> problem = qn.problems.BayesOptimalDeep((1.4,), "erf", "regression", alpha=2.0, noise=0.1)
        >>> trials = problem.simulate(dim=120, seeds=4)
        >>> bool(abs(trials["test_mse"].mean - problem.solve()["test_mse"]) < 0.05)
        True
        """
        from ..finite import bayes_deep
        from ..finite import learners as known

        check.names("simulate", options, ("learners", "test_samples", "n_jobs", "progress", "samples", "sphere"))
        noise = float(self.noise)
        own = (known.KernelRegression if self.task == "regression" else known.ProbitProcess)(self.target, noise)
        learners = {} if learners is None else dict(learners)
        for name, learner in learners.items():
            if not name.isidentifier() or not callable(learner):
                raise ValueError(f"learners must map names to learners (x, y, seed) -> Learnt, got {name!r}: {learner!r}")
        return bayes_deep.simulate(
            self.target, {"": own, **learners}, task=self.task, widths=self._sizes(dim), spectrum=self.inputs,
            alpha=float(self.alpha), noise=noise, seeds=seeds, settings=self._settings(), **options,
        )  # fmt: skip

    def _sizes(self, dim):
        own = self.widths[0] if isinstance(self.widths[0], int) else None
        if dim is None and own is None:
            raise ValueError("dim must be given, since the widths are ratios, got None")
        dim = own if dim is None else check.integer("dim", dim)
        ratios = self.widths if own is None else [w / own for w in self.widths[1:]]
        return dim, *(max(1, round(ratio * dim)) for ratio in ratios)


def _widths(widths) -> tuple:
    """(d, k_1, ..) as ints or (k_1 / d, ..) as floats."""
    given = tuple(check.listed("widths", widths))
    whole = all(isinstance(w, (int, np.integer)) and not isinstance(w, (bool, np.bool_)) for w in given)
    if len(given) < 1 + whole:
        raise ValueError(f"widths must be (d, k_1, ..), or (k_1 / d, ..) with at least one hidden layer, got {widths!r}")
    return tuple(check.integer("widths", w) if whole else check.positive("widths", w) for w in given)


def _number(value) -> float:
    """A float, also of what is differentiated."""
    import jax

    return float(jax.lax.stop_gradient(value))
