"""A diffusion model learnt by one-pass SGD on a mixture in high dimension, what it generates, and what it learns from itself."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any

import numpy as np

from ..laws.schedule import Schedule
from ..numerics import check
from ..numerics.results import RESULTS
from . import diffusion_start
from .base import Problem, SolveError, SolveWarning
from .generated import Generated, root
from .solution import Solution, register_pytree
from .trajectory import Trajectory

#: Nodes of the law of samples (log2), and of the clusters they stand for as a target, for one unit and for more.
_NODES, _LATENT = 16, (10, 9)
#: Nodes an axis for the many clusters of a generated target, whose errors average out.
_FEW = {2: 20, 3: 12}
_STORED = 101
#: The largest relative error of the Gaussian averages of a path that counts as converged.
_ACCURATE = 1e-2


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class OnlineDiffusion(Problem):
    """A denoiser ``f(x) = b x + sum_j w_j sigma(h_j) / sqrt(d)``, ``h = w x / sqrt(d)``, learnt on fresh noisy points of a mixture.

    Each step draws a data point x_1 and noise x_0, makes ``x = alpha x_0 + beta x_1``, and goes down the gradient of
    ``|x_1 - f(x)|^2 / 2``: w by ``learning_rate`` (and the decay ``learning_rate weight_decay w / d``), b by ``skip_learning_rate /
    d^2``. Time is the number of steps over d. The statistics of w become deterministic, and so does the law of generated samples.

    - ``law``: a mixture, ``quenched.laws.mixture(weights, means or gram, covariances)`` whose covariances share their eigenvectors.
    - ``units`` r; ``activation``: a name or a JAX function (smooth ones are much more accurate for r >= 2).
    - ``learning_rate``; ``skip_learning_rate``, the same by default; ``weight_decay``.
    - ``schedule``: ``"linear"``, ``"variance-preserving"`` or two functions (see :class:`quenched.laws.Schedule`): of the sampler,
      and of training where ``times`` are times in [0, 1]; 1/2 alone by default. Or ``times`` (A, 2) are pairs (alpha, beta).
    - ``mode``: ``"draw"``: each step uses one time, with the probabilities ``time_weights`` (equal by default); ``"sum"``: all
      times with the same x_0, x_1, the loss times ``time_weights`` (ones by default).
    - ``training_time`` tau: d tau steps.
    - ``initialisation``: ``{"informed": c, "noise": v, "b": b}``: ``w_j = c sqrt(d) mu_j`` plus noise of variance v an entry,
      orthogonal to the means and between units (c a number, or (r, K) coefficients of all means); or ``{"m": (S, K, r), "q": (S, r,
      r), "b": b}``, overlaps ``mu_k.w_j / sqrt(d)`` and Gram matrices ``w w^T / d`` within each of the S blocks, which are the
      atoms of ``law.spectrum``, as measured. From overlaps that vanish, odd activations learn nothing in a time of order one.

    Source: H. Cui, C. Pehlevan, Y. Lu (2025), arXiv:2501.03937.

    >>> import quenched as qn
    >>> law = qn.laws.mixture([0.7, 0.3], gram=[[6.25, -6.25], [-6.25, 6.25]])
    >>> problem = qn.problems.OnlineDiffusion(law, units=1, learning_rate=0.3, skip_learning_rate=0.5, weight_decay=0.05,
    ...     times=[(0.4, 0.6)], training_time=8.0, initialisation={"informed": 0.2, "noise": 0.09})
    >>> path = problem.online()
    >>> path["Q"][-1].round(4).tolist(), float(path["b"][-1].round(4))
    ([[1.5937]], 1.0097)
    """

    law: Any
    units: int
    activation: Any = "tanh"
    learning_rate: Any = 0.2
    weight_decay: Any = 0.0
    skip_learning_rate: Any = None
    schedule: Any = "linear"
    times: Any = None
    time_weights: Any = None
    mode: str = "draw"
    training_time: Any = 10.0
    initialisation: Any = dataclasses.field(default_factory=lambda: {"informed": 0.1})

    _by_the_engine = False
    _references = ("cui2025diffusion",)

    def __post_init__(self):
        from ..laws.activation import activation

        put = functools.partial(object.__setattr__, self)
        put("units", check.integer("units", self.units, 1, check.UNITS))
        put("activation", activation(self.activation))
        if _jumps(self.activation):
            raise ValueError(f"activation must not jump, since it is trained through its derivative, got {self.activation!r}")
        if isinstance(self.initialisation, dict):
            put("initialisation", dict(self.initialisation))
        put("learning_rate", check.positive("learning_rate", self.learning_rate))
        put("weight_decay", check.nonnegative("weight_decay", self.weight_decay))
        if self.skip_learning_rate is not None:
            put("skip_learning_rate", check.nonnegative("skip_learning_rate", self.skip_learning_rate))
        put("training_time", check.positive("training_time", self.training_time))
        put("schedule", Schedule(self.schedule))
        check.choice("mode", self.mode, ("draw", "sum"))
        if self.time_weights is not None:
            put("time_weights", check.array("time_weights", self.time_weights, ndim=1))
        _ = self._times
        for name in ("learning_rate", "weight_decay", "skip_learning_rate", "training_time"):
            if check.traced(getattr(self, name)):
                raise ValueError(f"{name} must be a plain number, an online diffusion model is not differentiated")
        _ = self._start

    @functools.cached_property
    def _times(self):
        """alpha, beta and weights of the times, (A,) each."""
        times = check.array("times", [0.5] if self.times is None else self.times)
        if times.ndim == 1 and times.size and not np.any((times < 0) | (times > 1)):
            point = self.schedule(times)
            alpha, beta = point.alpha, point.beta
        elif times.ndim == 2 and times.shape[1] == 2 and len(times) and times.min() >= 0 and times.sum(axis=1).min() > 0:
            alpha, beta = times.T
        else:
            raise ValueError(f"times must be numbers in [0, 1] or pairs (alpha, beta) that are not negative, got {self.times!r}")
        if self.time_weights is None:
            return alpha, beta, np.full(len(alpha), 1.0 / len(alpha) if self.mode == "draw" else 1.0)
        weights = check.array("time_weights", self.time_weights, shape=(len(alpha),))
        if self.mode == "draw":
            return alpha, beta, check.probabilities("time_weights", weights)
        if weights.min() <= 0:
            raise ValueError(f"time_weights must be positive, got {weights.tolist()}")
        return alpha, beta, weights

    @property
    def _skip_rate(self):
        return self.learning_rate if self.skip_learning_rate is None else self.skip_learning_rate

    @functools.cached_property
    def clusters(self) -> diffusion_start.Clusters:
        """The target block by block, and the orthonormal directions along which samples are described."""
        return diffusion_start.clusters(self.law)

    @functools.cached_property
    def _start(self):
        return diffusion_start.start(self.initialisation, self.clusters, self.units)

    @property
    def _rates(self):
        from ..limit.diffusion_training import Rates

        return Rates(*self._times, self.learning_rate, self._skip_rate, self.weight_decay)

    def _integrated(self, start, target, times, **options):
        from ..limit.diffusion_training import integrate

        return integrate(start, target, self._rates, times, self.activation, summed=self.mode == "sum", **options)

    def _model(self):
        raise ValueError("OnlineDiffusion minimises no risk: it is solved by online(), and has no model of a loss")

    # ---- training ----------------------------------------------------------------------------------------------

    def online(self, training_time: float | None = None, *, saveat=None, nodes: int | None = None, tol: float = 1e-7,
               dim: int | None = None) -> Trajectory:  # fmt: skip
        """The statistics during training: a :class:`~quenched.problems.trajectory.Trajectory`.

        - ``training_time``: the problem's own by default; ``saveat``: increasing times at which to store, 101 equidistant ones by
          default.
        - ``nodes`` of the Gaussian averages on each axis; ``tol`` of the integrator.
        - ``dim``: d of an experiment, to add the leading correction of order 1/d to b (the only one that experiments resolve
          easily).

        Order parameters ``m`` (T, S, K, r), ``q`` (T, S, r, r), block by block, and ``b`` (T,); observables ``M`` (T, K, r) and
        ``Q`` (T, r, r), their sums, and ``L`` (T,), the part of order one of the population risk: ``E |x_1 - f|^2 = O(d) + 2 L``.

        >>> import quenched as qn
        >>> law = qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]])
        >>> path = qn.problems.OnlineDiffusion(law, units=1, initialisation={"m": [[0.0], [0.0]], "q": [[1.0]]}).online(2.0)
        >>> bool(abs(path["M"]).max() < 1e-12)  # an odd activation that does not know a direction finds none
        True
        """
        from ..limit.diffusion_training import State

        end = self.training_time if training_time is None else check.positive("training_time", training_time)
        times = np.linspace(0.0, end, _STORED) if saveat is None else _increasing(saveat)
        nodes = None if nodes is None else check.integer("nodes", nodes, 2)
        c, s = self.clusters, self._start
        dim = np.inf if dim is None else check.integer("dim", dim, 2)
        path = self._integrated(
            State(s.G, s.q, s.b), self._target(), times, nodes=nodes, tol=check.positive("tol", tol), dim=dim
        )
        m = np.einsum("ska,tsaj->tskj", c.means, path.states.G)
        note = "averages of a kink by a product rule, to some 0.3%" if self.activation.kinks and self.units > 1 else ""
        result = path.result
        if result is RESULTS.successful and path.error > _ACCURATE:
            result = RESULTS.quadrature
        trajectory = Trajectory(
            times=path.times, order_parameters={"m": m, "q": path.states.q, "b": path.states.b},
            observables={"M": m.sum(1), "Q": path.states.q.sum(1), "L": path.risk}, result=result, problem=self, note=note,
            quadrature_error=path.error,
            experiment=functools.partial(self._experiment, times=path.times),
            again=lambda times: self.online(saveat=times, nodes=nodes, tol=tol, dim=None if np.isinf(dim) else dim),
        )  # fmt: skip
        if not trajectory.converged:
            warnings.warn(f"{self!r}: {trajectory.status}", SolveWarning, stacklevel=2)
        return trajectory

    def _target(self):
        from ..limit.diffusion_training import Target

        return Target(*self.clusters[:3], self.clusters.means)

    # ---- sampling ----------------------------------------------------------------------------------------------

    def generate(self, source=None, *, at: float | None = None, steps: int = 100, stop: float | None = None, diffusion=None,
                 log2_nodes: int = _NODES, seed: int = 0) -> Generated:  # fmt: skip
        """The law of generated samples, a :class:`~quenched.problems.generated.Generated`.

        - ``source``: a path of :meth:`online` (of which the time ``at``, the last by default), or a dict with ``M`` (K, r) or
          ``H``, ``Q`` (r, r), ``b``, as measured on an actual network; None: :meth:`online`.
        - ``steps`` T: Euler steps of 1/T from t = 0 to ``stop``, 1 - 1/T by default. Results depend on both.
        - ``diffusion``: epsilon(t) >= 0 of an SDE sampler, a function of one time (of the order of alpha near t = 1); None: an ODE.
        - ``log2_nodes``: 2^16 quasi-random nodes by default; ``seed`` of their scramble.

        >>> import quenched as qn
        >>> law = qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]])
        >>> made = qn.problems.OnlineDiffusion(law, units=1, training_time=5.0).generate()
        >>> made.fractions().tolist(), made.projected_samples(1000).shape
        ([0.5, 0.5], (1000, 1))
        """
        Q, H, b = self._network(source, at)
        return self._generated(Q, H, b, self._grid(steps, stop, diffusion), self._sampler_settings(steps, stop, diffusion),
                               check.integer("log2_nodes", log2_nodes, 2), check.integer("seed", seed, 0))  # fmt: skip

    def _network(self, source, at):
        if source is None:
            source, at = self.online(saveat=[self.training_time if at is None else check.nonnegative("at", at)]), None
        if isinstance(source, Trajectory):
            if source.result in (RESULTS.max_steps, RESULTS.nonfinite):
                raise SolveError(f"{self!r}: training ended early ({source.status}); there is no network to sample from")
            source = source.at(at) if at is not None else {name: source[name][-1] for name in source}
        elif at is not None:
            raise ValueError(f"at must be None unless source is a path, got {at!r}")
        missing = [n for n in ("Q", "b") if n not in source] if isinstance(source, dict) else ["Q", "b"]
        if missing or ("H" not in source and "M" not in source):
            raise ValueError(f"source must be a path of online() or a dict with M or H, Q and b, got {source!r}")
        K, r, p = len(self.clusters.prob), self.units, len(self.clusters.directions)
        if "H" in source:
            H = check.array("H", source["H"], shape=(p, r))
        else:
            H = self.clusters.directions @ check.array("M", source["M"], shape=(K, r))
        Q = check.covariance("Q", np.asarray(source["Q"], float).reshape(r, r))
        return Q, H, float(check.scalar("b", source["b"]))

    def _grid(self, steps, stop, diffusion):
        from ..limit.diffusion_sampling import grid

        steps, taken = self._steps(steps, stop)
        return grid(self.schedule, steps, taken, check.function("diffusion", diffusion))

    @staticmethod
    def _steps(steps, stop):
        steps = check.integer("steps", steps, 2)
        taken = steps - 1 if stop is None else round(check.scalar("stop", stop, 0.0, 1.0) * steps)
        if not 1 <= taken < steps:
            raise ValueError(f"stop must be between one step and 1 - 1/steps, got {stop}")
        return steps, taken

    def _sampler_settings(self, steps, stop, diffusion):
        return {"steps": steps, "stop": self._steps(steps, stop)[1] / steps, "sampler": "ODE" if diffusion is None else "SDE"}

    def _generated(self, Q, H, b, grid, settings, log2, seed=0):
        from ..limit.diffusion_sampling import generate, normal_nodes

        z, noise = normal_nodes(len(Q), len(H), log2, seed)
        Z, V = generate(self.activation, Q, b, z @ root(Q), grid, seed)
        if not np.isfinite(Z).all():
            raise SolveError(f"{self!r}: generated samples are not finite; there is no law to report")
        return Generated(Q, H, b, V, Z, noise, self.clusters, self.activation, grid, settings)

    # ---- retraining --------------------------------------------------------------------------------------------

    def generations(self, count: int, *, steps: int = 100, stop: float | None = None, diffusion=None, warm: bool = False,
                    log2_clusters: int | None = None, nodes: int | None = None, tol: float = 1e-6,
                    dim: int | None = None) -> list[Generated]:  # fmt: skip
        """Networks trained one after the other, each on fresh samples of the one before: what generations 0..``count`` generate.

        - ``steps``, ``stop``, ``diffusion``: the sampler, as for :meth:`generate`.
        - ``warm``: each starts from the weights of the one before; else from fresh weights of the problem's ``initialisation``.
        - ``log2_clusters``: of the nodes that stand for the samples, by default 10 for one unit and 9 for more (errors of some
          0.3%).
        - ``dim``: as for :meth:`online`; where V has become small this part of b is most of what b is.

        >>> import quenched as qn
        >>> law = qn.laws.mixture([0.7, 0.3], gram=[[6.25, -6.25], [-6.25, 6.25]])
        >>> problem = qn.problems.OnlineDiffusion(law, units=1, learning_rate=0.3, skip_learning_rate=0.5, weight_decay=0.05,
        ...     times=[(0.4, 0.6)], training_time=8.0, initialisation={"informed": 0.2, "noise": 0.09})
        >>> [round(float(made.b), 3) for made in problem.generations(1, steps=50, stop=0.9)]
        [1.01, 1.032]
        """
        from ..limit import diffusion_retraining as again

        count = check.integer("count", count, 0)
        log2 = _LATENT[self.units > 1] if log2_clusters is None else check.integer("log2_clusters", log2_clusters, 3)
        grid, settings = self._grid(steps, stop, diffusion), self._sampler_settings(steps, stop, diffusion)
        first = self._start
        Q0, H0 = first.q.sum(axis=0), self.clusters.directions @ first.m.sum(axis=0)
        Q, H, b = self._network(self.online(saveat=[self.training_time], tol=tol, dim=dim), None)
        dim = np.inf if dim is None else dim
        found = [self._generated(Q, H, b, grid, settings, _NODES)]
        for _ in range(count):
            few = self._generated(Q, H, b, grid, settings, log2)
            target = again.latent_target(Q, few.Z, few.V, len(H))
            start = again.restart(Q, H, Q, H, b, Q) if warm else again.restart(Q, H, Q0, H0, first.b)
            path = self._integrated(start, target, [self.training_time], nodes=nodes or _FEW.get(self.units), tol=tol, dim=dim,
                                    with_risk=False)  # fmt: skip
            if not path.result:
                raise SolveError(f"{self!r}: generation {len(found)}: {path.result}")
            state = type(start)(*(x[-1] for x in path.states))
            (Q, H), b = again.overlaps(Q, H, state), float(state.b)
            found.append(self._generated(Q, H, b, grid, settings, _NODES))
        return found

    # ---- the contract ------------------------------------------------------------------------------------------

    def solve(self, init: Any = None, *, steps: int = 100, stop: float | None = None, diffusion=None, tol: float = 1e-7,
              throw: bool = False, **unknown) -> Solution:  # fmt: skip
        """The network at ``training_time`` and what it generates: m, q, b, and M, Q, L, V, fractions, W1.

        >>> import quenched as qn
        >>> law = qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]])
        >>> solution = qn.problems.OnlineDiffusion(law, units=1, training_time=5.0).solve()
        >>> round(float(solution["b"]), 4), solution["fractions"].round(4).tolist()
        (0.3935, [0.5, 0.5])
        """
        check.names("solve", unknown, ("init", *check.keywords(OnlineDiffusion.solve)))
        check.choice("init", "own" if init is None else init, ("own",))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SolveWarning)
            path = self.online(saveat=[self.training_time], tol=tol)
        if not len(path.times) or path.result in (RESULTS.max_steps, RESULTS.nonfinite):
            raise SolveError(f"{self!r}: {path.status}; there is no number to report")
        made = self.generate(path, steps=steps, stop=stop, diffusion=diffusion)
        register_pytree()
        observables = {name: np.asarray(value)[0] for name, value in path.observables.items()}
        observables |= {"V": np.float64(made.V), "fractions": made.fractions(), "W1": made.wasserstein()}
        return Solution(
            order_parameters={name: np.asarray(value)[0] for name, value in path.order_parameters.items()}, observables=observables,
            result=path.result, residual=0.0, quadrature_error=path.quadrature_error, replicon=0.0, stein_gap=0.0,
            iterations=1, branch="own", problem=self, note=path.note,
        )  # fmt: skip

    def simulate(self, dim: int, seeds: Any = 8, *, saveat=None, samples: int = 0, generations: int = 0, steps: int = 100,
                 stop: float | None = None, diffusion=None, n_jobs: int = 1, progress=None, **unknown):  # fmt: skip
        """The experiment: SGD in dimension ``dim`` from weights with exactly the statistics of the initialisation.

        - ``saveat``: times at which to measure, a leading axis of the values; without it ``training_time`` alone, and no axis.
        - ``samples``: so many generated by each network at its last time: ``samples`` (n, p) along the directions, ``covariance``,
          ``fractions``, ``V``, by the Euler steps that ``steps``, ``stop`` and ``diffusion`` say.
        - ``generations``: networks retrained on actual samples; the leading axis is then the generation.

        Returns :class:`quenched.Trials` with ``m``, ``q``, ``b``, ``M``, ``Q``.

        >>> import quenched as qn
        >>> law = qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]])
        >>> problem = qn.problems.OnlineDiffusion(law, units=1, training_time=2.0)
        >>> trials = problem.simulate(dim=100, seeds=4)
        >>> bool(abs(trials["b"].mean - problem.online(saveat=[2.0])["b"][0]) < 0.02)
        True
        """
        check.names("simulate", unknown, ("dim", "seeds", *check.keywords(OnlineDiffusion.simulate)))
        options = {"samples": check.integer("samples", samples, 0), "generations": check.integer("generations", generations, 0)}
        times = [self.training_time] if saveat is None else _increasing(saveat)
        trials = self._experiment(dim, seeds, times=times, steps=steps, stop=stop, diffusion=diffusion, n_jobs=n_jobs,
                                  progress=progress, **options)  # fmt: skip
        if saveat is not None or generations:
            return trials
        timed = ("m", "q", "b", "M", "Q")
        return trials.map(lambda row: {name: value[0] if name in timed else value for name, value in row.items()})

    def _experiment(self, dim, seeds, *, times, steps=100, stop=None, diffusion=None, **options):
        from ..finite import diffusion as experiment

        rates = self.learning_rate, self._skip_rate, self.weight_decay
        training = experiment.Training(self.activation.fn, *self._times, self.mode == "sum", *rates)
        sampler = experiment.Sampler(self.schedule, *self._steps(steps, stop), check.function("diffusion", diffusion))
        s = self._start
        return experiment.simulate(
            self.law, training, (s.m, s.q, s.b), self.clusters.directions, dim=dim, seeds=seeds, times=times, sampler=sampler,
            settings=self._settings(times=np.asarray(times).tolist()), **options,
        )  # fmt: skip


def _increasing(saveat) -> np.ndarray:
    times = check.array("saveat", saveat, ndim=1)
    if not len(times) or times[0] < 0 or np.any(np.diff(times) <= 0):
        raise ValueError(f"saveat must be increasing times from 0 on, got {saveat!r}")
    return times


def _jumps(activation) -> bool:
    """Whether the function itself (not only its slope) is different on the two sides of any of its kinks."""
    from ..numerics.precision import float64

    if not activation.kinks:
        return False
    kinks = np.asarray(activation.kinks)
    with float64(True):
        low, high = (np.asarray(activation.fn(kinks + sign * 1e-9)) for sign in (-1.0, 1.0))
    return bool(np.any(np.abs(high - low) > 1e-6 * (1.0 + np.abs(low))))
