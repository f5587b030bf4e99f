"""A flow that generates data, learnt from a number of samples that does not grow with the dimension."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..laws.schedule import Schedule
from ..numerics import check
from ..numerics.results import RESULTS
from .base import Problem
from .solution import Solution, register_pytree

NOISES = ("shared", "fresh")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FlowFromSamples(Problem):
    """A flow learnt from n samples of two clusters ``x_1 = s mu + sigma z``, s = +-1, as the dimension grows and n does not.

    At every time t of ``x_t = alpha(t) x_0 + beta(t) x_1``, with x_0 normal noise, an autoencoder f(x) = c x + w phi(w.x), whose
    hidden unit saturates at +-1, minimises

        R = sum |x_1 - f(x_t)|^2 / 2 + weight_decay |w|^2 / 2

    over the N = n ``noises_per_sample`` pairs of samples and noises; then ``dX/dt = (alpha'/alpha) X + (beta' - beta alpha'/alpha)
    f(X)`` carries noise X(0) to new samples ``X(1) = +-(R mu + c_eta eta + c_xi xi) + sqrt(S) X(0)``, with ``eta`` and ``xi`` the
    means of s z and s x_0 over the training set.

    - ``n_samples``: n >= 2; ``separation`` > 0: |mu|^2 / d; ``cluster_std`` > 0: sigma; ``weight_decay`` >= 0.
    - ``schedule``: ``"linear"``, ``"variance-preserving"``, or functions ``(alpha, beta)``, see :class:`quenched.laws.Schedule`;
      the samples do not depend on it.
    - ``noises_per_sample`` >= 1; ``noises``: ``"shared"`` by all times, or ``"fresh"`` ones at each.
    - ``skip``: whether there is the skip connection c x. ``positive``: the share of the cluster s = 1 in the training set; nothing
      depends on it, the two clusters that are generated are always equally large.

    Order parameters ``R``, ``c_eta``, ``c_xi``, ``S``. Observables: of the generated clusters ``mean_mse`` = |mean - mu|^2 / d,
    ``cosine`` of their mean and mu, ``cluster_variance`` = S, ``wasserstein`` (the squared distance W_2 of a cluster to the true
    one, per dimension), ``sample_cosine`` of a sample and mu, ``squared_norm`` = |X|^2 / d, ``positive_fraction``; ``bayes_mse``
    and ``bayes_cosine`` of the best estimate of mu from the same samples.

    Raises ``ValueError`` for bad parameters, and for n = 1, where the hidden unit's input is not of order d and the theory ends.

    Source: H. Cui, F. Krzakala, E. Vanden-Eijnden, L. Zdeborova (2023), arXiv:2310.03575.

    >>> import quenched as qn
    >>> problem = qn.problems.FlowFromSamples(n_samples=4, separation=1.0, cluster_std=0.7, weight_decay=0.1)
    >>> solution = problem.solve()
    >>> [round(float(solution[name]), 6) for name in ("mean_mse", "cosine", "cluster_variance", "bayes_mse")]
    [0.241465, 0.893333, 0.522258, 0.109131]
    """

    n_samples: Any
    separation: Any
    cluster_std: Any
    weight_decay: Any
    schedule: Any = "linear"
    noises_per_sample: int = 1
    noises: str = "shared"
    skip: bool = True
    positive: Any = 0.5

    _by_the_engine = False
    _references = ("cui2023flow",)

    def __post_init__(self):
        set_ = object.__setattr__
        if check.integer("n_samples", self.n_samples) == 1:
            raise ValueError("n_samples must be at least 2, got 1: what one sample tells the hidden unit is not of order d")
        set_(self, "n_samples", int(self.n_samples))
        set_(self, "separation", check.moderate("separation", self.separation))
        set_(self, "cluster_std", check.moderate("cluster_std", self.cluster_std))
        set_(self, "weight_decay", check.moderate("weight_decay", self.weight_decay, 0.0))
        set_(self, "schedule", Schedule(self.schedule).spec)
        set_(self, "noises_per_sample", check.integer("noises_per_sample", self.noises_per_sample))
        check.choice("noises", self.noises, NOISES)
        if not isinstance(self.skip, (bool, np.bool_)):
            raise ValueError(f"skip must be True or False, got {self.skip!r}")
        set_(self, "positive", check.scalar("positive", self.positive, 0.0, 1.0))

    def _model(self):
        raise ValueError("FlowFromSamples has no saddle point: all is in closed form, see denoiser(t), flow() and solve()")

    @property
    def _schedule(self) -> Schedule:
        return Schedule(self.schedule)

    @property
    def _setting(self):
        from ..limit.few_samples import Setting

        return Setting(self.n_samples, self.noises_per_sample, self.separation, self.cluster_std, self.weight_decay,
                       self.noises == "fresh", bool(self.skip))  # fmt: skip

    def denoiser(self, t):
        """The trained autoencoder at time(s) t in [0, 1]: a :class:`~quenched.limit.few_samples.Denoiser` of the shape of t.

        ``c``; ``w = w_mu mu + w_eta eta + w_xi xi``; ``test_mse`` = E|x_1 - f(x_t)|^2 / d on fresh data, ``floor`` the least
        possible; ``train_loss`` = R / d.

        >>> import quenched as qn
        >>> found = qn.problems.FlowFromSamples(3, separation=2.0, cluster_std=1.0, weight_decay=1.0).denoiser(0.5)
        >>> float(found.c), float(found.w_xi), float(found.test_mse)
        (1.25, -0.46875, 0.6484375)
        """
        from ..limit.few_samples import denoiser

        point = self._schedule(t)
        return denoiser(self._setting, point.alpha, point.beta)

    def flow(self, times=None, steps: int | None = None, diffusion=None, first: float = 0.02):
        """Summary statistics of X along the flow: a :class:`~quenched.limit.few_samples.Flow` of arrays over its ``times``.

        - ``times`` (T,), increasing in [0, 1] (default: 101 of them): the flow in continuous time, exactly.
        - ``steps``: instead that of a sampler with so many equal Euler steps, at the times 0, 1 / steps, ..., 1; a step uses the
          denoiser and the velocity of its beginning, but never of times before ``first``.
        - ``diffusion``: a function epsilon(t) >= 0 that vanishes at t = 1: the stochastic sampler, whose drift also has epsilon
          times the score (beta f(X) - X) / alpha^2. In continuous time it is integrated by SciPy.

        >>> import quenched as qn
        >>> problem = qn.problems.FlowFromSamples(4, separation=1.0, cluster_std=0.7, weight_decay=0.1)
        >>> flows = problem.flow(), problem.flow(steps=50), problem.flow(diffusion=lambda t: 1.0 - t)
        >>> [round(float(flow.xi_coefficient[-1]), 4) for flow in flows]
        [-0.705, -0.6867, -1.0252]
        """
        from ..limit import few_samples as limit

        check.function("diffusion", diffusion)
        if steps is not None:
            if times is not None:
                raise ValueError(f"times must be None where steps are given, 0, 1 / steps, ..., 1 then, got {check.brief(times)}")
            first = check.scalar("first", first, 0.0, 1.0, open_high=True)
            return limit.euler(self._setting, self._schedule, check.integer("steps", steps), first, diffusion)
        times = np.linspace(0.0, 1.0, 101) if times is None else check.array("times", np.atleast_1d(times), ndim=1)
        if diffusion is None:
            point = self._schedule(times)
            return limit.exact(self._setting, times, point.alpha, point.beta)
        for name in ("separation", "cluster_std", "weight_decay"):
            if check.traced(getattr(self, name)):
                raise ValueError(f"{name} must be a plain number for a diffusion in continuous time; with steps it need not be")
        if not times.size or np.any(np.diff(times) <= 0.0) or times[0] < 0.0 or times[-1] > 1.0:
            raise ValueError(f"times must increase within [0, 1], got {check.brief(times)}")
        return limit.diffused(self._setting, self._schedule, times, diffusion)

    def solve(self, init: Any = None, *, steps: int | None = None, diffusion=None, first: float = 0.02, tol: float = 1e-8,
              quadrature_tol: Any = None, throw: bool = False) -> Solution:  # fmt: skip
        """The end of the flow, t = 1; with ``steps``, ``diffusion`` and ``first`` as for :meth:`flow`, that of a sampler.

        Nothing is iterated: ``tol``, ``quadrature_tol`` and ``throw`` are there for the sake of sweeps.

        >>> import quenched as qn
        >>> problem = qn.problems.FlowFromSamples(n_samples=4, separation=1.0, cluster_std=0.7, weight_decay=0.1)
        >>> [round(float(problem.solve(steps=steps)["cosine"]), 4) for steps in (10, 100, None)]
        [0.9044, 0.8946, 0.8933]
        """
        from ..limit import few_samples as limit

        check.choice("init", "uninformed" if init is None else init, ("uninformed",))
        setting = self._setting
        if steps is None and diffusion is None:
            end = limit.exact(setting, 1.0, 0.0, 1.0)
        else:
            end = limit.Flow(*(part[-1] for part in self.flow([0.0, 1.0] if steps is None else None, steps, diffusion, first)))
        best, S = limit.bayes(setting), end.cluster_variance
        observables = {
            "mean_mse": end.mean_mse, "cosine": end.cosine, "cluster_variance": S, "sample_cosine": end.sample_cosine,
            "squared_norm": end.squared_norm, "wasserstein": end.mean_mse + (S**0.5 - self.cluster_std) ** 2,
            "positive_fraction": 0.5, "bayes_mse": best.mse, "bayes_cosine": best.cosine,
        }  # fmt: skip
        orders = {"R": end.mean_coefficient, "c_eta": end.eta_coefficient, "c_xi": end.xi_coefficient, "S": S}
        register_pytree()
        return Solution(
            order_parameters={name: _number(value) for name, value in orders.items()},
            observables={name: _number(value) for name, value in observables.items()},
            result=RESULTS.successful, residual=0.0, quadrature_error=0.0, replicon=0.0, stein_gap=0.0, iterations=0,
            branch="uninformed", problem=self, convex=True,
        )  # fmt: skip

    def rate(self, n_samples=None):
        """How ``mean_mse`` falls with the number of samples: a :class:`~quenched.limit.few_samples.Rate`.

        ``n_samples`` (M,), increasing: where exponents are fitted, by default from 10^4 to 10^6.

        >>> import quenched as qn
        >>> rate = qn.problems.FlowFromSamples(4, separation=1.0, cluster_std=1.5, weight_decay=0.1).rate()
        >>> [round(float(number), 3) for number in rate]  # 2 sigma^2 / n, and sigma^2 / n
        [-1.0, 4.5, -1.0, 2.25]
        """
        from ..limit.few_samples import rate

        n = np.geomspace(1e4, 1e6, 21) if n_samples is None else check.array("n_samples", n_samples, ndim=1)
        if n.size < 2 or np.any(np.diff(n) <= 0.0) or n[0] < 2.0:
            raise ValueError(f"n_samples must be two or more numbers from 2 on that increase, got {check.brief(n_samples)}")
        return rate(self._setting, n)

    def _experiment(self):
        return dict(
            n=self.n_samples, noises=self.noises_per_sample, separation=float(self.separation),
            cluster_std=float(self.cluster_std), weight_decay=float(self.weight_decay), schedule=self.schedule,
            positive=self.positive, skip=bool(self.skip), settings=self._settings(schedule=repr(self._schedule)),
        )  # fmt: skip

    def simulate(self, dim: int, seeds: Any = 8, **options):
        """The experiment: n samples in dimension ``dim``, an autoencoder trained at every time, samples generated with it.

        - ``options``: ``steps`` (50) of Euler's method, ``first`` (0.02), ``diffusion``, as for :meth:`flow`; ``samples`` (40) to
          generate; ``activation`` (``"sign" | "tanh" | "erf"``); ``restarts`` (20) of the training at the first times;
          ``along``: numbers of steps after which all is measured too, as ``R_along`` and so on; ``tol`` (1e-5), of the training's
          relative gradient; ``n_jobs``, ``progress``.

        Compare with ``solve(steps=50)``: steps change S by some per cent.

        >>> import quenched as qn
        >>> problem = qn.problems.FlowFromSamples(4, separation=1.0, cluster_std=0.7, weight_decay=0.1)
        >>> trials, theory = problem.simulate(dim=400, seeds=3, steps=25), problem.solve(steps=25)
        >>> bool(abs(trials["cosine"].mean - theory["cosine"]) < 0.03)
        True
        """
        from ..finite.few_samples import simulate

        allowed = ("steps", "first", "samples", "restarts", "activation", "diffusion", "along", "tol", "n_jobs", "progress")
        check.names("simulate", options, allowed)
        check.function("diffusion", options.get("diffusion"))
        return simulate(**self._experiment(), fresh=self.noises == "fresh", dim=dim, seeds=seeds, **options)

    def simulate_denoiser(self, dim: int, t: float, seeds: Any = 8, **options):
        """The experiment at one time t in (0, 1): the autoencoder trained on n samples, with the names of :meth:`denoiser`.

        ``options``: ``restarts``, ``activation``, ``test_samples`` (200), ``tol``, ``n_jobs``, ``progress``.

        >>> import quenched as qn
        >>> problem = qn.problems.FlowFromSamples(4, separation=1.0, cluster_std=0.7, weight_decay=0.1)
        >>> bool(abs(problem.simulate_denoiser(1000, 0.5, seeds=4)["c"].mean - problem.denoiser(0.5).c) < 0.03)
        True
        """
        from ..finite.few_samples import simulate_denoiser

        check.names("simulate_denoiser", options, ("restarts", "activation", "test_samples", "tol", "n_jobs", "progress"))
        t = check.scalar("t", t, 0.0, 1.0, open_low=True, open_high=True)
        return simulate_denoiser(t, **self._experiment(), dim=dim, seeds=seeds, **options)


def _number(value):
    return value if check.traced(value) else np.float64(value)
