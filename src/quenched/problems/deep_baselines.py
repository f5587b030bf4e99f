"""What ridge, kernels, random features and classifiers do on the target of :class:`~quenched.problems.BayesOptimalDeep`."""

from __future__ import annotations

import numpy as np

from ..numerics import check


class DeepBaselines:
    """The learners that a Bayes-optimal one is measured against; for problems with ``numbers``, ``inputs``, ``target``."""

    def ridge(self, weight_decay=None, alpha=None):
        """Ridge regression on the inputs, in closed form; on labels +-1 for classification.

        - ``weight_decay``: None for the best, the same for all alpha (in regression it makes ridge Bayes-optimal); ``alpha``:
          None for the problem's own; numbers or arrays that broadcast.

        Returns :class:`quenched.limit.deep_students.Regression` or ``Classification``.

        >>> import quenched as qn
        >>> problem = qn.problems.BayesOptimalDeep((1.0,), "sign", "classification", alpha=3.0)
        >>> round(float(problem.ridge().test_error), 6), round(float(problem.solve()["test_error"]), 6)
        (0.284034, 0.283257)
        """
        from ..laws.equivalent import seen_inputs

        best = self._best_ridge if weight_decay is None else weight_decay
        return self._square(seen_inputs(self.inputs, self.numbers), best, alpha)

    def kernel(self, student=None, weight_decay=None, alpha=None):
        """Regression with a dot-product kernel, ``(K + weight_decay)^-1``; in this regime ridge on the inputs with more ridge.

        - ``student``: a :class:`quenched.laws.kernel.DeepKernel`, None for the target's own; a constant of it fits the target's.
        - ``weight_decay``: > -(its rest); None for the best that is not negative. With the target's own kernel that is
          the noise, and Bayes-optimal.

        >>> import quenched as qn
        >>> problem = qn.problems.BayesOptimalDeep((1.4, 1.4), "erf", "regression", alpha=2.0, noise=0.1)
        >>> round(float(problem.kernel().weight_decay), 12), round(float(problem.kernel().test_mse - problem.ridge().test_mse), 10)
        (0.1, 0.0)
        """
        from ..laws.equivalent import seen_inputs

        numbers = self._student(student)
        if weight_decay is None:
            weight_decay = max(0.0, numbers.slope * self._best_ridge - numbers.rest)
        decay = check.array("weight_decay", weight_decay)
        if np.any(decay <= -numbers.rest) and not (numbers.rest == 0.0 and np.all(decay >= 0.0)):
            raise ValueError(f"weight_decay must be more than {-numbers.rest:.6g}, minus the kernel's own, got {decay.min():.6g}")
        more = (decay + numbers.rest) / numbers.slope
        found = self._square(seen_inputs(self.inputs, self.numbers), more, alpha)
        share = np.divide(decay, decay + numbers.rest, out=np.ones_like(decay), where=decay + numbers.rest != 0.0) ** 2
        trained = "train_mse" if self.task == "regression" else "train_loss"
        shape = np.shape(found.weight_decay)
        return found._replace(**{"weight_decay": np.broadcast_to(decay, shape), trained: share * getattr(found, trained)})

    def random_features(self, width_ratio, weight_decay=None, activation=None, weight_variance=1.0, alpha=None):
        """Ridge regression on ``width_ratio`` d random features ``sigma(F x / sqrt(d))``.

        - ``activation``: None for the target's first; ``weight_variance``: of the entries of F; ``weight_decay``: None
          for the best at each alpha.

        >>> import quenched as qn
        >>> problem = qn.problems.BayesOptimalDeep((1.4, 1.4), "erf", "regression", alpha=2.0, noise=0.1)
        >>> [round(float(problem.random_features(ratio).test_mse), 4) for ratio in (1.0, 10.0, 1e4)]
        [0.3034, 0.225, 0.2184]
        """
        return self._square(self._features(width_ratio, activation, weight_variance), weight_decay, alpha)

    def classifier(self, loss="logistic", weight_decay=None, *, width_ratio=None, kernel=None, activation=None,
                   weight_variance=1.0):  # fmt: skip
        """Empirical risk minimisation with any loss of (h, label), by the engine: on the inputs, random features or a kernel.

        - ``loss``: ``"logistic" | "hinge" | "square" | "huber" | "absolute"`` or a JAX function; ``weight_decay``: > 0,
          None for the one of the smallest ``test_error``.
        - ``width_ratio``: on that many random features per dimension (with ``activation``, ``weight_variance``); ``kernel``: with a
          :class:`quenched.laws.kernel.DeepKernel`; neither: on the inputs.

        Returns :class:`quenched.limit.deep_students.Classification`; a :class:`SolveWarning` where the engine does not converge.

        >>> import quenched as qn
        >>> problem = qn.problems.BayesOptimalDeep((1.0,), "sign", "classification", alpha=3.0)
        >>> round(float(problem.classifier("logistic", 0.5).test_error), 4)
        0.2842
        """
        decay = 1.0 if weight_decay is None else weight_decay
        problem = self.student(loss, decay, width_ratio, kernel, activation, weight_variance)
        solution = problem.solve() if weight_decay is not None else problem.tune("weight_decay", minimize="test_error").solution
        return self._classified(solution)

    def student(self, loss, weight_decay, width_ratio=None, kernel=None, activation=None, weight_variance=1.0):
        """The problem behind :meth:`classifier`, a :class:`quenched.SequenceProblem`, for sweeps and all else that problems do.

        >>> import quenched as qn
        >>> problem = qn.problems.BayesOptimalDeep((1.0,), "sign", "classification", alpha=3.0)
        >>> student = problem.student("logistic", 0.5)
        >>> student.loss, float(student.alpha), float(student.weight_decay)
        ('logistic', 3.0, 0.5)
        """
        from ..laws.equivalent import seen_inputs, seen_kernel
        from ..losses import Sign
        from .generalized_linear import _error
        from .sequence import SequenceProblem

        self._needs("classification", "classifier")
        if width_ratio is not None and kernel is not None:
            raise ValueError(f"width_ratio must be None where a kernel is given, got {width_ratio!r}")
        if width_ratio is not None:
            law = self._features(width_ratio, activation, weight_variance)
        elif kernel is not None:
            law = seen_kernel(self.inputs, self.numbers, self._student(kernel))
        else:
            law = seen_inputs(self.inputs, self.numbers)
        return SequenceProblem(
            law, loss, alpha=self.alpha, weight_decay=weight_decay, response=Sign(self.noise), observables={"test_error": _error}
        )

    def staircase(self, n, dim: int, student=None, weight_decay=0.0, degree: int = 20):
        """Kernel regression on any number of samples, also n ~ d^2, d^3, ..: for isotropic inputs of one length.

        - ``n``: a number or an array; ``dim``: d; ``student``: as for :meth:`kernel`; ``weight_decay`` >= 0; ``degree``: what is
          beyond it counts as noise, and as ridge.

        Returns :class:`quenched.limit.staircase.Step`. :mod:`quenched.limit.staircase` has the limits of single degrees, and
        the plateaus between them.

        >>> import quenched as qn
        >>> problem = qn.problems.BayesOptimalDeep((1.2,), "relu", "regression", alpha=1.0, weight_variances=2.0)
        >>> problem.staircase([254, 2293], dim=50, weight_decay=1e-3).test_mse.round(4).tolist()
        [0.1961, 0.0452]
        """
        from ..laws.equivalent import variance
        from ..limit.staircase import finite_size

        self._needs("regression", "staircase")
        if np.ptp(self.inputs.eigenvalues) > 0.0:
            raise ValueError("spectrum must be a multiple of the identity for staircase, whose inputs have one length")
        self._student(student)
        degree, length = check.integer("degree", degree), variance(self.inputs)
        own, other = ((kernel or self.target).series(degree, length) for kernel in (None, student))
        return finite_size(n, dim, own, other, weight_decay, float(self.noise))

    def _classified(self, solution):
        from ..limit.bayes_deep import angle_error
        from ..limit.deep_students import Classification

        q, theta = (float(np.squeeze(solution[name])) for name in ("q", "theta"))
        wrong = [np.asarray(angle_error(theta, q, float(total))) for total in (self.total, self.total - self.noise)]
        decay = np.asarray(solution.problem.weight_decay)
        return Classification(decay, *wrong, np.asarray(solution["train_loss"]), np.asarray(q), np.asarray(theta))

    @property
    def _best_ridge(self):
        """Of ridge regression on the inputs, for any alpha and spectrum."""
        if self.task == "regression":
            return self.label_noise / self.numbers.slope
        return 0.5 * np.pi * self.total / self.numbers.slope - (self.total - self.label_noise) / self.numbers.slope

    def _square(self, law, weight_decay, alpha):
        from ..limit import deep_students

        solve = deep_students.regression if self.task == "regression" else deep_students.classification
        return solve(law, self.alpha if alpha is None else alpha, weight_decay, float(self.noise))

    def _features(self, width_ratio, activation, weight_variance):
        from ..laws.equivalent import seen_features

        width_ratio = check.positive("width_ratio", width_ratio)
        activation = self.target.activations[0] if activation is None else activation
        return seen_features(self.inputs, self.numbers, width_ratio, activation, check.positive("weight_variance", weight_variance))

    def _student(self, kernel):
        from ..laws.equivalent import variance
        from ..laws.kernel import DeepKernel

        kernel = self.target if kernel is None else kernel
        if not isinstance(kernel, DeepKernel):
            raise ValueError(f"student must be a quenched.laws.kernel.DeepKernel, got {kernel!r}")
        return kernel.numbers(variance(self.inputs))

    def _needs(self, task, what):
        if self.task != task:
            raise ValueError(f"task must be {task!r} for {what}, got {self.task!r}")
