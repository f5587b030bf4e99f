"""A flow learnt from a few samples of any mixture, by an autoencoder of several hidden units."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from ..laws.schedule import Schedule
from ..numerics import check
from ..numerics.results import RESULTS
from .base import Problem, SolveError
from .solution import Solution, register_pytree

#: Times at which the answers to the training set are compared, to know whether they stay the same.
_TIMES = np.array([0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98])
_STEPS = 400


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class FlowFromMixture(Problem):
    """A flow learnt from N samples of a mixture, ``x_1 = mu_k + sigma_k z``, as the dimension grows and N does not.

    As :class:`FlowFromSamples`, with one noise for each sample that all times share, and ``f(x) = c x + sum_j w_j phi(w_j.x)`` of
    several units that saturate at +-1. What the units answer to the training set, a pattern of signs, is found by trying all of
    them: it has the lowest risk among those that reproduce themselves. A generated sample is of one of 2^units modes, the units'
    answers to it, and modes come in pairs of opposite ones, whatever the mixture.

    - ``means_gram`` (K, K): mu_k.mu_l / d; ``cluster_stds`` (K,) > 0; ``samples_per_cluster`` (K,), two in all at least.
    - ``units`` >= 1; ``weight_decay`` >= 0; ``schedule`` as for :class:`FlowFromSamples`.

    Order parameters ``E`` (r, N), the pattern at t = 1/2, up to signs and order of the units (rows start with +1, in descending
    order), and ``S``. Observables: for the modes (1, +-1, ...), M = 2^(r-1) of them, ``mode_probability`` (M,), how often a sample
    is of this mode or its opposite; ``sample_overlap`` (M, N) = X.x_1 / d with the training samples and ``squared_norm`` (M,) =
    |X|^2 / d at the end of the flow, zero for modes that do not occur (equal units answer alike); ``cluster_variance``, per
    direction. ``pattern`` is E again, under the name of the experiment.

    Raises ``ValueError`` for bad parameters, and for more patterns than can be tried (3 10^5); :meth:`solve` raises
    :class:`SolveError` where no pattern reproduces itself.

    Source: H. Cui, F. Krzakala, E. Vanden-Eijnden, L. Zdeborova (2023), arXiv:2310.03575, of which this is an extension.

    >>> import quenched as qn
    >>> problem = qn.problems.FlowFromMixture([[1, 0, -0.5], [0, 0.8, 0], [-0.5, 0, 1.2]], [0.6, 0.8, 0.5], [2, 2, 2], units=2,
    ...                                       weight_decay=0.2)
    >>> solution = problem.solve()
    >>> solution["E"].astype(int).tolist()
    [[1, 1, 1, 1, -1, -1], [1, 1, -1, -1, -1, -1]]
    >>> solution["mode_probability"].round(6).tolist()
    [0.468659, 0.531341]
    """

    means_gram: Any
    cluster_stds: Any
    samples_per_cluster: Any
    units: int
    weight_decay: Any
    schedule: Any = "linear"

    _by_the_engine = False
    _references = ("cui2023flow",)

    def __post_init__(self):
        from ..limit.few_samples_mixture import MOST, pattern_count

        set_ = object.__setattr__
        T = check.covariance("means_gram", self.means_gram)
        stds = check.array("cluster_stds", self.cluster_stds, shape=(len(T),))
        counts = check.listed("samples_per_cluster", self.samples_per_cluster)
        counts = tuple(check.integer("samples_per_cluster", count, 0) for count in counts)
        if len(counts) != len(T) or sum(counts) < 2:
            raise ValueError(f"samples_per_cluster must hold {len(T)} numbers, of two samples in all at least, got {counts}")
        units, decay = check.integer("units", self.units), check.moderate("weight_decay", self.weight_decay, 0.0)
        if check.traced(T, stds, decay):
            raise ValueError("means_gram, cluster_stds and weight_decay must be plain numbers: patterns are compared one by one")
        for name, values, low in (("means_gram", np.diag(T), 0.0), ("cluster_stds", stds, 1.0 / check.LARGEST)):
            for value in values:
                check.moderate(name, value, low)
        if decay == 0.0 and units >= sum(counts):
            raise ValueError(f"weight_decay must be positive for as many units ({units}) as samples ({sum(counts)}), got 0")
        if pattern_count(units, sum(counts)) > MOST:
            raise ValueError(f"units and samples_per_cluster must leave at most {MOST} patterns to try, got {units} and {counts}")
        for name, value in (("means_gram", T), ("cluster_stds", stds), ("samples_per_cluster", counts), ("units", units),
                            ("weight_decay", decay), ("schedule", Schedule(self.schedule).spec)):  # fmt: skip
            set_(self, name, value)

    def _model(self):
        raise ValueError("FlowFromMixture has no saddle point: see denoiser(t), flow(mode) and solve()")

    @property
    def _gram(self):
        from ..limit.few_samples_mixture import gram

        return gram(self.means_gram, self.cluster_stds, self.samples_per_cluster)

    def denoiser(self, t: float):
        """The trained network at one time t in (0, 1): a :class:`~quenched.limit.few_samples_mixture.Trained`.

        :class:`SolveError` where no pattern of answers reproduces itself.

        >>> import quenched as qn
        >>> problem = qn.problems.FlowFromMixture([[1, 0, -0.5], [0, 0.8, 0], [-0.5, 0, 1.2]], [0.6, 0.8, 0.5], [2, 2, 2], units=2,
        ...                                       weight_decay=0.2)
        >>> found = problem.denoiser(0.5)
        >>> round(found.c, 6), found.pattern.astype(int).tolist()
        (0.839745, [[1, 1, 1, 1, -1, -1], [1, 1, -1, -1, -1, -1]])
        """
        from ..limit.few_samples_mixture import train

        point = Schedule(self.schedule)(check.scalar("t", t, 0.0, 1.0, open_low=True, open_high=True))
        found = train(self._gram, self.units, self.weight_decay, float(point.alpha), float(point.beta))
        if found is None:
            raise SolveError(f"{self!r}: no pattern of the units' answers to the training set reproduces itself at t = {t:g}")
        return found

    def flow(self, mode, times=None, steps: int | None = None, first: float = 0.02):
        """Samples of one mode along the flow: a :class:`~quenched.limit.few_samples_mixture.Path`.

        - ``mode`` (r,): the units' answers to the sample, +-1 each. ``times`` (T,): continuous time, in closed form, which holds
          where the path is ``steady``. ``steps``, ``first``: Euler's method, as :meth:`FlowFromSamples.flow`, whether it is or not.

        >>> import quenched as qn
        >>> problem = qn.problems.FlowFromMixture([[1, 0, -0.5], [0, 0.8, 0], [-0.5, 0, 1.2]], [0.6, 0.8, 0.5], [2, 2, 2], units=2,
        ...                                       weight_decay=0.2)
        >>> path = problem.flow([1, 1], times=[0.0, 0.5, 1.0])
        >>> path.squared_norm.round(4).tolist(), path.overlaps[-1].round(4).tolist(), path.steady
        ([1.0, 0.6453, 1.73], [0.8195, 0.8195, 0.0, 0.0, -0.8902, -0.8902], True)
        """
        from ..limit import few_samples_mixture as limit

        mode = check.array("mode", mode, shape=(self.units,))
        if not np.all(np.abs(mode) == 1.0):
            raise ValueError(f"mode must hold +1 and -1 only, got {mode.tolist()}")
        if steps is not None:
            if times is not None:
                raise ValueError(f"times must be None where steps are given, got {check.brief(times)}")
            return self._sampled([mode], steps, first)[0]
        times = np.linspace(0.0, 1.0, 101) if times is None else check.array("times", np.atleast_1d(times), ndim=1)
        point = Schedule(self.schedule)(times)
        path = limit.exact(self._gram, self._halfway, times, point.alpha, point.beta, mode)
        return path._replace(steady=path.steady and self._constant)

    def _sampled(self, modes, steps, first):
        """The paths of several modes, with ``steps`` of Euler's method."""
        from ..limit.few_samples_mixture import euler

        first = check.scalar("first", first, 0.0, 1.0, open_low=True, open_high=True)
        grid = np.maximum(np.arange(check.integer("steps", steps)) / steps, first)
        denoisers, point = [self.denoiser(t) for t in grid], Schedule(self.schedule)(grid)
        return [euler(self._gram, denoisers, point, mode) for mode in modes]

    @functools.cached_property
    def _halfway(self):
        return self.denoiser(0.5)

    @functools.cached_property
    def _constant(self) -> bool:
        """Whether the training set is answered in the same way at all times that are looked at."""
        patterns = [self.denoiser(t).pattern for t in _TIMES]
        return all(np.array_equal(pattern, patterns[0]) for pattern in patterns)

    def solve(self, init: Any = None, *, steps: int | None = None, first: float = 0.02, tol: float = 1e-8,
              quadrature_tol: Any = None, throw: bool = False) -> Solution:  # fmt: skip
        """The end of the flow for every mode; with ``steps`` and ``first``, that of a sampler, as for :meth:`flow`.

        Where answers change on the way the closed form does not hold: 400 steps are made instead. ``solution.note`` says so, and
        also where the minimum of the risk may be one at which units do not saturate, of which this theory knows nothing.

        >>> import quenched as qn
        >>> problem = qn.problems.FlowFromMixture([[1, 0, -0.5], [0, 0.8, 0], [-0.5, 0, 1.2]], [0.6, 0.8, 0.5], [2, 2, 2], units=2,
        ...                                       weight_decay=0.2)
        >>> [problem.solve(steps=steps)["squared_norm"].round(4).tolist() for steps in (50, None)]
        [[1.6853, 2.0155], [1.73, 2.0679]]
        """
        from ..limit import few_samples_mixture as limit

        check.choice("init", "uninformed" if init is None else init, ("uninformed",))
        found, modes, notes = self._halfway, limit.modes(self.units), []
        if not found.lowest:
            notes.append("a pattern that does not reproduce itself has a lower risk, so that units may not saturate at the minimum")
        t = first if steps else 1e-9
        point = Schedule(self.schedule)(t)
        chances = limit.probabilities(self._gram, self.denoiser(t), float(point.alpha), float(point.beta))
        paths = [self.flow(mode) for mode in modes] if steps is None else self._sampled(modes, steps, first)
        if steps is None and not all(path.steady for path, chance in zip(paths, chances, strict=True) if chance > 0.0):
            notes.append(f"the units' answers change along the flow, which was followed in {_STEPS} steps")
            paths = self._sampled(modes, _STEPS, 1.0 / _STEPS)
        observables = {
            "mode_probability": chances,
            "sample_overlap": np.stack([path.overlaps[-1] for path in paths]) * (chances > 0.0)[:, None],
            "squared_norm": np.array([path.squared_norm[-1] for path in paths]) * (chances > 0.0),
            "cluster_variance": np.float64(paths[0].variance[-1]), "pattern": found.pattern,
        }  # fmt: skip
        register_pytree()
        return Solution(
            order_parameters={"E": found.pattern, "S": np.float64(paths[0].variance[-1])}, observables=observables,
            result=RESULTS.successful, residual=0.0, quadrature_error=0.0, replicon=0.0, stein_gap=0.0, iterations=0,
            branch="uninformed", problem=self, convex=True, note="; ".join(notes),
        )  # fmt: skip

    def _experiment(self):
        return dict(
            means=self.means_gram, stds=self.cluster_stds, counts=self.samples_per_cluster, units=self.units,
            weight_decay=float(self.weight_decay), schedule=self.schedule,
            settings=self._settings(means_gram=self.means_gram.tolist(), schedule=repr(Schedule(self.schedule))),
        )  # fmt: skip

    def simulate(self, dim: int, seeds: Any = 8, **options):
        """The experiment: a network trained at every time on samples in dimension ``dim``, and the samples that it generates.

        ``options``: ``steps`` (50), ``first`` (0.02), ``samples`` (100), ``restarts`` (40), ``activation``, ``tol``, ``n_jobs``,
        ``progress``, as for :meth:`FlowFromSamples.simulate`. Compare with ``solve(steps=50)``.

        >>> import quenched as qn
        >>> problem = qn.problems.FlowFromMixture([[1, 0, -0.5], [0, 0.8, 0], [-0.5, 0, 1.2]], [0.6, 0.8, 0.5], [2, 2, 2], units=2,
        ...                                       weight_decay=0.2)
        >>> trials, theory = problem.simulate(dim=400, seeds=2, steps=10, samples=20), problem.solve(steps=10)
        >>> bool(abs(trials["cluster_variance"].mean - theory["cluster_variance"]) < 0.05)
        True
        """
        from ..finite.few_samples_mixture import simulate

        check.names("simulate", options, ("steps", "first", "samples", "restarts", "activation", "tol", "n_jobs", "progress"))
        return simulate(**self._experiment(), dim=dim, seeds=seeds, **options)

    def simulate_denoiser(self, dim: int, t: float, seeds: Any = 8, **options):
        """The experiment at one time: ``c``, ``train_loss`` and ``pattern`` of the trained network; ``options`` as above.

        >>> import quenched as qn
        >>> problem = qn.problems.FlowFromMixture([[1, 0, -0.5], [0, 0.8, 0], [-0.5, 0, 1.2]], [0.6, 0.8, 0.5], [2, 2, 2], units=2,
        ...                                       weight_decay=0.2)
        >>> bool(abs(problem.simulate_denoiser(400, 0.5, seeds=4)["c"].mean - problem.denoiser(0.5).c) < 0.02)
        True
        """
        from ..finite.few_samples_mixture import simulate_denoiser

        check.names("simulate_denoiser", options, ("restarts", "activation", "tol", "n_jobs", "progress"))
        t = check.scalar("t", t, 0.0, 1.0, open_low=True, open_high=True)
        return simulate_denoiser(t, **self._experiment(), dim=dim, seeds=seeds, **options)
