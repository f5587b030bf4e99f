"""A problem over a grid of its parameters: theory at every point, experiments where asked for, in one Dataset."""

from __future__ import annotations

import functools
import inspect
import math
import os
import pathlib
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from ..numerics import check
from ..numerics.fingerprint import fingerprint
from ..problems.base import Problem, SolveError
from . import executors, table, tasks
from .limits import OutOfTime, limited
from .points import Grid, part
from .records import Solved, Trial, reason, seed_key
from .store import Store

_EXAMPLES = {"over": "{'alpha': [1.0, 2.0]}", "simulate": "{'dim': 500, 'seeds': 8}"}
_LASTING = (ValueError, ArithmeticError, TypeError, SolveError, tasks.Lost)  # what a point would meet again


def sweep(
    problem,
    over: Mapping[str, Any],
    simulate: Mapping[str, Any] | None = None,
    *,
    solve: bool = True,
    executor=None,
    store=None,
    along: str | None = None,
    time_limit: float = 3600.0,
    shard: tuple[int, int] | None = None,
    merge=(),
    progress=None,
    **options,
):
    """Solve (and simulate) a problem at every point of a grid of its parameters; returns an ``xarray.Dataset``.

    Parameters
    ----------
    problem : any problem; ``problem.replace(**point)`` states its neighbours.
    over : parameter name -> values: numbers, words, or True and False. One dimension of the result each, in this order.
    simulate : arguments of ``problem.simulate`` (``dim``, ``seeds``, ...), or None for theory alone. One more key,
        ``every``, takes an experiment at every so-manieth value only: of the parameters that it names, ``{"alpha": 4}``,
        or, as a whole number, of all that are numbers (default 1).
    solve : whether to solve; False for experiments alone.
    executor : where trials run, each a task: None for this process (as many at a time as there are cores), ``"processes"`` for
        processes of their own, one a core, or any :class:`concurrent.futures.Executor`, such as ``client.get_executor()`` of a Dask
        client. Theory is solved in this process meanwhile.
    store : a directory that keeps every finished point from then on, or None. A sweep that was interrupted, killed even, goes on
        where it was; values and seeds can be added later. Another problem, parameter or version is refused. The Dataset is
        ``xarray.open_dataset(store / "data.nc")``.
    along : the parameter along which every solution starts from the nearest one before (in the order of its values, the first
        from ``init``), to stay on one branch; points where the branch has ended are marked. None: every point on its own.
        Values that are added to a store later come after those that it holds; in another order, all is solved anew.
    time_limit : seconds of wall-clock time that one solve or one trial may take (``math.inf``: any); what takes longer is recorded
        as failed, and tried again by the next sweep on the store.
    shard : (k, n): only the k-th of n parts of the points, k from 1; for jobs on one ``store``, or on stores to ``merge``.
    merge : directories of finished sweeps of this same study, to be taken into this one.
    progress : True for a bar with the time left on standard error, or ``progress(done, total, what)``, called as points end.
    options : given to :func:`quenched.problems.solve_many` (``init``, ``tol``, ``max_steps``, ...).

    Returns
    -------
    A Dataset with, for each observable and order parameter, the theory under its own name, and for what was simulated
    ``<name>_mean``, ``<name>_se`` (standard error over seeds), ``<name>_deviation`` ((mean - theory) / se); ``trials``
    is the number of trials that entered. ``converged``, ``stable``, ``approximate``, ``residual``, ``quadrature_error``,
    ``replicon`` and ``status`` certify each point; ``trusted`` is converged, stable and not approximate. A point that fails does
    not stop the sweep: it is NaN and not trusted, and ``attrs["failed"]`` lists each with its reason. Attributes hold the version
    and all parameters. The numbers of a point do not depend on the other points, nor on how often the sweep was interrupted.

    Raises
    ------
    ValueError
        If a name is not a parameter of the problem, a value is refused by it, nothing at all could be computed, or the store
        holds another study.

    Examples
    --------
    >>> import quenched as qn
    >>> problem = qn.problems.GeneralizedLinear("square", target="linear", alpha=1.0, weight_decay=0.1, noise=0.1)
    >>> curve = qn.sweep(problem, over={"alpha": [0.5, 2.0]})
    >>> curve["test_mse_noisy"].values.round(4)
    array([0.6742, 0.1844])
    """
    if progress is True:
        from .progress import shown

        with shown() as report:
            return sweep(problem, over, simulate, solve=solve, executor=executor, store=store, along=along, time_limit=time_limit,
                         shard=shard, merge=merge, progress=report, **options)  # fmt: skip
    study = _Study(problem, over, simulate, solve, along, options)
    if not (isinstance(time_limit, (float, np.floating)) and time_limit == math.inf):
        time_limit = check.positive("time_limit", time_limit)
    report = check.function("progress", progress or None) or (lambda done, total, what: None)
    run = executors.in_turn if executor is None else _runner(executor)
    part([], shard)  # refuses what is no shard before a store is made
    others = [merge] if isinstance(merge, (str, pathlib.Path)) else check.listed("merge", () if merge is None else merge)
    for name, path in [("store", store), *(("merge", other) for other in others)]:
        if path is not None and not isinstance(path, (str, os.PathLike)):
            raise ValueError(f"{name} must be a directory's path, got {path!r}")
    kept = Store(store, study.manifests if store is not None or others else study.no_manifests)
    for other in others:
        kept.merge(other)
    return _Run(study, kept, shard, time_limit, report).complete(run, seeds_at_a_time=None if executor is None else 1)


class _Study:
    """What is asked for, checked before anything is run."""

    def __init__(self, problem, over, simulate, solve, along, options):
        if not isinstance(problem, Problem):
            got = problem.__name__ if isinstance(problem, type) else type(problem).__name__
            raise ValueError(f"problem must be a problem such as quenched.problems.GeneralizedLinear(...), got {got}")
        for name, given in {"over": over, "simulate": {} if simulate is None else simulate}.items():
            if not isinstance(given, Mapping):
                raise ValueError(f"{name} must be a dict such as {_EXAMPLES[name]}, got {given!r}")
        if not solve and simulate is None:
            raise ValueError("simulate must be given where solve is False, got None")
        from ..problems import solve_many

        known = ("over", "simulate", *check.keywords(sweep), "init", *check.keywords(solve_many))
        check.names("sweep", options, tuple(dict.fromkeys(known)))
        _check_options(problem, options)
        self.problem, self.solve, self.along, self.options = problem, bool(solve), along, options
        self.grid = Grid.of(over)
        self.problems = {i: problem.replace(**self.grid.point(i)) for i in self.grid.indices}  # refuses bad values
        if along is not None:
            from ..problems.continuation import real_parameter

            self.grid.lines(along)
            real_parameter(problem, along, "along")
        settings = dict(simulate or {})
        every, seeds = settings.pop("every", 1), settings.pop("seeds", 8)
        if simulate is not None:
            _check_settings(problem, simulate)
        self.settings = settings
        self.seeds: dict = {}
        if simulate is not None:
            from ..finite.simulate import seed_list

            named = list(seed_list(seeds))
            if len(set(named)) < len(named):
                raise ValueError(f"simulate['seeds'] must differ from each other, got {seeds!r}")
            self.seeds = dict.fromkeys(self.grid.measured(every), named)
        shown = settings if simulate is None else settings | {"seeds": seeds}
        self.attributes = table.attributes_of(problem, self.grid, {k: v for k, v in shown.items() if k not in _NO_MATTER})

    @property
    def manifests(self) -> dict:
        """What the numbers depend on: file -> part -> its value in words and its fingerprint."""
        from .. import __version__
        from ..problems import solve_many

        def described(parts):
            return {n: {"value": table.plain(value), "fingerprint": fingerprint(_number(value))} for n, value in parts.items()}

        fixed = {name: value for name, value in self.problem.parameters.items() if name not in self.grid.over}
        about = {"quenched": __version__, "problem": type(self.problem), "over": sorted(self.grid.over)}
        usual = {"init": None} | {p.name: p.default for p in inspect.signature(solve_many).parameters.values()}
        solver = {name: value for name, value in self.options.items() if usual[name] is not value and usual[name] != value}
        if self.along is not None:
            solver["along"] = self.along
        experiment = {name: value for name, value in self.settings.items() if name not in _NO_MATTER and value is not None}
        return {
            "manifest": described(about | fixed),
            "theory": described(solver) if self.solve else None,
            "experiment": described(experiment) if self.seeds else None,
        }

    no_manifests: ClassVar[dict] = {"manifest": {}, "theory": {}, "experiment": {}}  # of a sweep that is kept nowhere

    @functools.cached_property
    def keys(self) -> dict:
        """Index -> what its solution depends on beside the manifests, as a text: the point, and the way there, if there is one."""
        keys = {index: self.grid.key(index) for index in self.grid.indices}
        if self.along is None:
            return keys
        ways = {}
        for line in self.grid.lines(self.along):
            for k, index in enumerate(line):
                ways[index] = f"{keys[index]} {fingerprint([keys[i] for i in line[: k + 1]])}"
        return ways


#: Arguments of ``simulate`` on which no number depends.
_NO_MATTER = ("n_jobs", "progress")


def _number(value):
    """Numbers as they compare: 1 is 1.0."""
    return float(value) if isinstance(value, (int, np.number)) and not isinstance(value, (bool, np.complexfloating)) else value


def _check_options(problem, options) -> None:
    """Refuse options of the solver that no point could be solved with."""
    from ..problems.base import engine_options

    given = {"tol": 1e-8, "quadrature_tol": None, "damping": 0.2, "max_steps": 300}
    engine_options(**{name: options.get(name, value) for name, value in given.items()})
    if isinstance(options.get("init"), str) and problem._by_the_engine:
        check.choice("init", options["init"], problem._named_starts)


def _check_settings(problem, settings) -> None:
    """Refuse arguments of ``simulate`` that no trial could be made with, as far as can be told."""
    wanted = inspect.signature(problem.simulate).parameters.values()
    missing = [p.name for p in wanted if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in settings]
    if missing:
        raise ValueError(f"simulate must hold {', '.join(map(repr, missing))}, got {check.brief(settings)}")
    if settings.get("n_jobs") is not None:
        check.integer("simulate['n_jobs']", settings["n_jobs"])


class _Run:
    """One call of :func:`sweep`: what is not in the store is computed and stored."""

    def __init__(self, study: _Study, store: Store, shard, time_limit: float, report):
        grid = study.grid
        self.study, self.store, self.time_limit, self.report = study, store, time_limit, report
        lines = [] if not study.solve else [[i] for i in grid.indices] if study.along is None else grid.lines(study.along)
        lines = part(lines, shard)
        self.whole = shard is None
        self.lines = [line for line in lines if any(study.keys[i] not in store.solved for i in line)]
        asked = {index: study.seeds[index] for index in part(list(study.seeds), shard)}
        self.missing = {
            index: [s for s in seeds if (grid.key(index), seed_key(s)) not in store.trials] for index, seeds in asked.items()
        }
        self.total = sum(map(len, lines)) + sum(map(len, asked.values()))
        unsolved = sum(study.keys[i] not in store.solved for line in self.lines for i in line)
        self.done = self.total - unsolved - sum(map(len, self.missing.values()))
        self.troubles: dict = {}  # index -> what happened there that the next sweep may not meet again

    def complete(self, run, seeds_at_a_time):
        try:
            for name, end in run(self._calls(seeds_at_a_time), self._theory()):
                self._keep_trials(name, end)
            self.report(self.total, self.total, "done")
        finally:
            self.store.publish(self._dataset, now=True)
            if self.store.refresh():  # another process may have published meanwhile, before it knew of our last points
                self.store.publish(self._dataset, now=True)
            data = self._dataset()
        failed = data.attrs["failed"].splitlines()
        computed = any(record.values for record in [*self.store.solved.values(), *self.store.trials.values()])
        if failed and self.whole and not computed:
            what = "point" if self.lines else "trial"
            raise ValueError(f"no {what} of the sweep could be computed; the first: {failed[0]}")
        if failed:
            more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
            count = f"{len(failed)} failures" if len(failed) > 1 else "1 failure"
            warnings.warn(f"{count}: {'; '.join(failed[:3])}{more}", stacklevel=3)
        return data

    def _dataset(self):
        study = self.study
        solved = {index: self.store.solved.get(key) for index, key in study.keys.items()}
        seeds = {index: [seed_key(s) for s in seeds] for index, seeds in study.seeds.items()}
        return table.dataset(study.grid, solved, self.store.trials, seeds, study.attributes, self.troubles, study.solve)

    def _keep(self, records, count: int, what: str) -> None:
        self.store.add(records)
        self.done += count
        self.store.publish(self._dataset)
        self.report(self.done, self.total, what)

    # ---- theory --------------------------------------------------------------------------------------------------------

    def _theory(self) -> Iterator[None]:
        """Solve what is missing, one block at a time."""
        if self.lines:
            self.report(self.done, self.total, "theory")
        if self.study.along is not None:
            for line in self.lines:
                yield from self._line(line)
            return
        indices, size = [index for (index,) in self.lines], max(1, int(tasks.BLOCK * (os.cpu_count() or 1)))
        for start in range(0, len(indices), size):
            yield from self._block(indices[start : start + size])

    def _block(self, block) -> Iterator[None]:
        """Points that are solved side by side; alone, each with all of the time limit, where together they do not keep to it."""
        problems = [self.study.problems[i] for i in block]
        try:
            ends = limited(lambda: tasks.solve_block(problems, self.study.options), self.time_limit)
        except OutOfTime as error:
            if len(block) > 1:
                for index in block:
                    yield from self._block([index])
                return
            ends = [error]
        self._keep([r for i, end in zip(block, ends, strict=True) if (r := self._solved(i, end))], len(block), "theory")
        yield

    def _line(self, line) -> Iterator[None]:
        """The points of a line, each from the solution of the one before."""
        grid, keys = self.study.grid, self.study.keys
        walk = tasks.Walk(self.study.problems[line[0]], self.study.along, self.study.options)
        resumed = set()
        for index in line:
            saved = self.store.kept(fingerprint(keys[index]))
            if saved is not None and walk.resume(saved, grid.point(index)[self.study.along]):
                resumed.add(index)
        for position, index in enumerate(line):
            known = keys[index] in self.store.solved
            if known and (index in resumed or not np.isfinite(self.store.solved[keys[index]].values.get("residual", np.nan))):
                continue
            try:
                x = grid.point(index)[self.study.along]
                end = limited(functools.partial(walk.at, x), self.time_limit)
            except OutOfTime as error:
                for left in line[position:]:  # the next ones would start from here
                    self._trouble(left, error)
                self._keep([], len(line) - position, "theory")
                return
            if not isinstance(end, Exception):  # before the point itself: the next one starts from all of it
                self.store.keep(fingerprint(keys[index]), end.save)
            if not known:  # else solved again to go on from
                self._keep([r for r in [self._solved(index, end)] if r], 1, "theory")
            yield

    def _solved(self, index, end) -> Solved | None:
        if isinstance(end, Exception) and not isinstance(end, _LASTING):
            return self._trouble(index, end)
        return Solved.of(self.study.keys[index], end)

    def _trouble(self, index, error, what: str = "") -> None:
        self.troubles.setdefault(index, []).append(what + reason(error))

    # ---- experiments ---------------------------------------------------------------------------------------------------

    def _calls(self, seeds_at_a_time) -> dict:
        """(index, seeds) -> the call that makes these trials; packed for other processes where each is a task of one seed."""
        calls = {}
        for index, seeds in self.missing.items():
            if not seeds:
                continue
            size = seeds_at_a_time or self.study.settings.get("n_jobs") or os.cpu_count() or 1
            settings = {name: value for name, value in self.study.settings.items() if name not in _NO_MATTER}
            problem = self.study.problems[index]
            call = tasks.packed(problem, settings) if seeds_at_a_time else (tasks.simulate, problem, settings)
            for start in range(0, len(seeds), size):
                some = seeds[start : start + size]
                rest = (some, self.study.grid.key(index), self.time_limit)
                calls[index, tuple(map(seed_key, some))] = (*call, *rest)
        return calls

    def _keep_trials(self, name, end) -> None:
        index, seeds = name
        if isinstance(end, TypeError) and not self.store.trials:  # no trial understands these arguments
            raise end
        if isinstance(end, _LASTING):
            why = reason(end)
            end = [Trial(self.study.grid.key(index), seed, {}, why) for seed in seeds]
        elif isinstance(end, BaseException):
            self._trouble(index, end, f"simulation, seed {', '.join(seeds)}: ")
            end = []
        self._keep(end, len(seeds), "simulation")


def _runner(executor):
    """``run(calls, steps)``: what the calls end with, on an executor, while the steps are taken here."""
    if isinstance(executor, str):
        check.choice("executor", executor, ("processes",))
        return executors.results_of_processes
    if not callable(getattr(executor, "submit", None)):
        raise ValueError(f"executor must be None, 'processes' or a concurrent.futures.Executor, got {executor!r}")
    return functools.partial(executors.results, executor)
