"""What every problem can do, whatever its law and loss: solve, simulate, differentiate, evaluate."""

from __future__ import annotations

import dataclasses
import functools
import html
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..numerics import check
from ..numerics.fingerprint import identity
from ..numerics.results import RESULTS
from .identity import same
from .solution import Solution, register_pytree


class SolveWarning(UserWarning):
    """A solve did not end as asked; the solution is marked.

    >>> import quenched as qn
    >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     solution = ridge.solve(max_steps=1)
    >>> caught[-1].category.__name__, solution.converged, solution.result.value
    ('SolveWarning', False, 'not converged: the largest number of steps was reached')
    """


class SolveError(RuntimeError):
    """A solve did not end as asked, and ``throw=True``.

    >>> import quenched as qn
    >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
    >>> ridge.solve(max_steps=1, throw=True)
    Traceback (most recent call last):
        ...
    quenched.problems.base.SolveError: GeneralizedLinear(...): not converged: the largest number of steps was reached, ...
    """


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """Base of all problems: a frozen dataclass whose fields are its parameters.

    Subclasses give :meth:`_model` (law, loss, numbers), and may give ``_references`` (keys of the bibliography).

    >>> import quenched as qn
    >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
    >>> ridge
    GeneralizedLinear(loss='square', target='linear', alpha=2, weight_decay=0.1, noise=0.1, intercept=False)
    >>> list(ridge.parameters)
    ['loss', 'target', 'alpha', 'weight_decay', 'noise', 'spectrum', 'intercept']
    """

    _by_the_engine = True  # False for problems whose solve() is their own
    _squeeze = True  # drop unit and basis axes of size one from the order parameters
    _references = ("cui2024narrow",)

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    def number(self, name: str):
        """The real number or array of this name that the problem depends on, or None: what can be varied and differentiated.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1)
        >>> float(ridge.number("alpha")), ridge.number("loss")
        (2.0, None)
        """
        value = self.parameters.get(name)
        return value if isinstance(value, (float, np.ndarray)) else None

    def replace(self, **changes) -> Problem:
        """The same problem with some parameters changed; ``ValueError`` for a name that is none.

        >>> import quenched as qn
        >>> qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1).replace(alpha=3.0).alpha
        3.0
        """
        unknown = [name for name in changes if name not in self.parameters]
        if unknown:
            raise ValueError(f"replace takes {', '.join(self.parameters)}, got {unknown[0]!r}")
        return dataclasses.replace(self, **changes)

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={_short(value)}" for name, value in self.parameters.items() if value is not None)
        return f"{type(self).__name__}({inside})"

    def _repr_html_(self) -> str:
        cells = ((k, html.escape(_short(v))) for k, v in self.parameters.items())
        rows = "".join(f"<tr><td><code>{k}</code></td><td>{value}</td></tr>" for k, value in cells)
        return f"<div><b>{type(self).__name__}</b><table>{rows}</table></div>"

    def _settings(self, **others) -> dict[str, Any]:
        """What trials of this problem keep about it, and is compared when they are merged."""
        return {"problem": repr(self), "identity": identity(self), **others}

    def _model(self):
        raise NotImplementedError

    @functools.cached_property
    def model(self):
        """The :class:`~quenched.limit.model.Model` the engine sees."""
        from ..limit.recognition import recognised

        return recognised(self._model())

    # ---- finite size -------------------------------------------------------------------------------------------

    def simulate(self, dim: int, seeds: Any = 8, **options):
        """The experiment: draw n = alpha dim samples, minimise the empirical risk, measure; for every seed.

        - ``dim``: d; ``seeds``: how many, or which.
        - ``options``: ``init`` (``"random" | "informed" | "zero"`` or an array), ``restarts``, ``test_samples``,
          ``n_jobs``, ``progress``,
          and what else :func:`quenched.finite.simulate.simulate` takes.

        Returns :class:`quenched.Trials`, with the observable names of :meth:`solve`.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
        >>> bool(abs(ridge.simulate(dim=100, seeds=4)["test_mse"].mean - 0.0844) < 0.03)
        True
        """
        from ..finite.minimise import minimise
        from ..finite.simulate import simulate

        m = self.model
        own = dict(
            alpha=float(m.alpha), weight_decay=float(m.weight_decay), dim=check.integer("dim", dim), seeds=seeds,
            response=m.response, units=m.units, scalars=m.scalars or None, params=m.params or None,
            observables=dict(m.observables), settings=self._settings(),
        )  # fmt: skip
        check.names("simulate", options, check.keywords(minimise, simulate, without={*own, "seed", "population"}))
        trials = simulate(m.law, m.loss, **own, **{"align": self._align(), **options})
        return trials.map(self._present_row)

    def amp(self, dim: int, seed: Any = 0, *, init: Any = "random", max_steps: int = 500, damping: float | None = None,
            tol: float = 1e-10, test_samples: int = 10_000, **unknown):
        """Message passing (GAMP) on the data that :meth:`simulate` draws for ``seed``, in dimension ``dim``.

        - ``init``: ``"random"`` (standard normal weights), ``"informed"``, ``"zero"``, a named start of :meth:`solve`, or
          weights (d, r).
        - ``max_steps``; ``damping``: the weight of the old values, in [0, 1), ``None``: zero, and more where the messages run
          away or cycle; ``tol``: on the relative gradient of the risk.
        - ``test_samples``: fresh samples that observables are averaged over.

        Returns :class:`~quenched.problems.message_passing.Passing`: order parameters and |grad R| step by step, the observables of
        :meth:`simulate`. A fixed point is a stationary point of the risk: its minimiser where the loss is convex, else one branch.
        A :class:`SolveWarning` where it does not converge; ``TypeError`` for a law without spectral atoms.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
        >>> passing = ridge.amp(dim=200, seed=3)
        >>> bool(abs(passing["test_mse"] - ridge.simulate(dim=200, seeds=[3])["test_mse"].mean) < 1e-8)
        True
        """
        from .message_passing import amp

        check.names("amp", unknown, ("dim", "seed", *check.keywords(Problem.amp)))
        return amp(self, dim, seed, init=init, max_steps=max_steps, damping=damping, tol=tol, test_samples=test_samples)

    def state_evolution(self, steps: int, init: Any = "random", level: int | None = None) -> dict[str, Any]:
        """The order parameters of message passing after 0 to ``steps`` steps, in the limit: name -> (steps + 1, ...).

        ``init``: as for :meth:`solve` (``"random"`` is ``"uninformed"``, ``"zero"`` has q = 0), or the :class:`Passing` of an
        instance, whose own start is then followed; ``level`` of the quadrature, None for the finest but one.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
        >>> ridge.state_evolution(20)["q"].round(4)[[0, 1, 20]].tolist()
        [1.0, 1.6942, 0.9156]
        """
        from .message_passing import state_evolution

        return state_evolution(self, steps, init, level)

    def online(self, learning_rate, time, weight_decay=None, init: Any = "uninformed", *, scalar_rate=None, tol: float = 1e-8,
               quadrature_tol: float | None = None):
        """One-pass SGD in the limit: ``w -= learning_rate (grad loss + weight_decay / d w)`` at every fresh sample.

        - ``time``: the number of steps over d at the end, or increasing times to store, (K,).
        - ``weight_decay``: None for the problem's own number; ``alpha`` plays no part.
        - ``init``: a named start, or a dict of overlaps ``Q``, ``m``, ``theta`` and trained scalars (left out: that of random
          weights, Q = I and no overlap, from which a symmetric problem cannot move: give the small overlaps it starts from), or a
          :class:`Solution`, or
          ``gram`` (S, r, r) and ``projections`` (S, k, r) as :func:`quenched.finite.online.statistics` measures them.
        - ``scalar_rate``: free means and trained scalars move by ``scalar_rate / d`` their gradient; None for ``learning_rate``.
        - ``tol``: relative tolerance of the integration; ``quadrature_tol``: of the Gaussian averages, as for :meth:`solve`.

        Returns :class:`~quenched.problems.trajectory.Trajectory` of order parameters, ``test_loss`` and the observables of
        :meth:`solve`; its ``simulate(dim, seeds)`` is the experiment, with the options ``test_samples`` (1000), ``exact_start``,
        ``n_jobs`` and ``progress`` of :func:`quenched.finite.online.simulate`. Differentiable in the rates, ``params``, scalars and
        noise where the loss is smooth (derivatives are compared with differences, and refused where they differ).
        A :class:`SolveWarning` where the path ends early; ``TypeError`` for a law without spectral atoms.

        Source: D. Saad, S. Solla (1995), Phys. Rev. E 52, 4225; S. Goldt et al. (2019), arXiv:1906.08632.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=1.0, weight_decay=0.1, noise=0.1)
        >>> path = ridge.online(learning_rate=0.5, time=4.0, weight_decay=0.0)
        >>> bool(abs(path["test_mse"][-1] - 0.1 / 3 - (2 - 0.1 / 3) * np.exp(-0.75 * 4.0)) < 1e-6)
        True
        """
        from .online import online

        return online(self, learning_rate, time, weight_decay, init, scalar_rate, tol, quadrature_tol)

    def _align(self):
        """The symmetry of the loss by which equivalent minimisers are brought together, see ``finite/align.py``."""
        return None

    def _present_row(self, row):
        overlaps = {"V", "q", "m", "theta", "Q", "cosine"}
        return {k: self._present(np.asarray(v), k in overlaps) for k, v in row.items() if np.size(v)}

    # ---- the limit ---------------------------------------------------------------------------------------------

    def solve(
        self,
        init: Any = None,
        *,
        tol: float = 1e-8,
        quadrature_tol: float | None = None,
        damping: float = 0.2,
        max_steps: int = 300,
        throw: bool = False,
        **unknown,
    ) -> Solution:
        """Solve the saddle point in the limit n, d -> infinity at n / d = alpha.

        - ``init``: where to start, ``"uninformed"`` (the default of most problems), ``"informed"``, a start of the problem's own,
          or a dict of overlaps, or a :class:`Solution` of a neighbour (a warm start, which stays on its branch or fails).
        - ``tol``: tolerance of the relative residual of one undamped update.
        - ``quadrature_tol``: tolerance of the quadrature error; None for 1e-6 (5e-3 where the average has four or more
          dimensions and its rule is coarse or quasi-random).
        - ``damping``: weight of the old value in the first, damped steps (in [0, 1)).
        - ``throw``: raise :class:`SolveError` where the result is not ``RESULTS.successful``; otherwise the solution is marked
          and a :class:`SolveWarning` is issued.

        Returns a :class:`Solution`; a :class:`SolveError` also where no number at all is finite.
        Differentiable with respect to every real parameter by ``jax.grad`` (first derivatives, outside of jit).

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
        >>> solution = ridge.solve()
        >>> round(float(solution["test_mse"]), 8), round(float(solution["V"]), 8), solution.result.value
        (0.08442888, 0.84428877, 'converged')
        """
        from ..limit import derivative
        from ..limit.solve import solve

        check.names("solve", unknown, ("init", *check.keywords(Problem.solve)))
        init = self._default_start if init is None else init
        quadrature_tol, aim = self._quadrature_tol if quadrature_tol is None else (quadrature_tol, None)
        solver, quadrature_tol = engine_options(tol, quadrature_tol, damping, max_steps)
        solver = solver._replace(warmup=self._warmup)
        model, branch = self.model, init if isinstance(init, str) else "given overlaps"
        if isinstance(init, Solution):
            # a warm start stays in the sector of the branch it continues; Newton's first, since damped steps may leave the branch
            branch, start, solver = init.branch, self._from_solution(init), solver._replace(warmup=-solver.max_steps)
            _, frozen = self._start(branch) if branch in self._starts else (None, ())
        elif isinstance(init, str):
            start, frozen = self._start(check.choice("init", init, self._named_starts))
        else:
            start, frozen = self._shaped(init) if isinstance(init, dict) else init, ()
        if frozen:
            model = dataclasses.replace(model, frozen=tuple(sorted({*model.frozen, *frozen})))
        options = dict(init=start, solver=solver, quadrature_tol=quadrature_tol, rescue=not isinstance(init, Solution), aim=aim)
        if derivative.is_traced(model):
            found, solved = derivative.solve_traced(model, **options)
        else:
            solved = solve(model, **options)
            found = derivative.outputs(solved)
        solution = self._solution(found, solved, branch)
        if not solution.result:
            if throw:
                raise SolveError(f"{self!r}: {solution.status}")
            if solution.result is RESULTS.nonfinite:
                raise SolveError(f"{self!r}: {solution.result}; there is no number to report")
            warnings.warn(f"{self!r}: {solution.status}", SolveWarning, stacklevel=2)
        return solution

    #: Named starts of :meth:`solve`, and what :meth:`branches` tries.
    _starts = ("uninformed",)
    _default_start = "uninformed"
    _warmup = 6  # damped steps before Newton's method
    _quadrature_tol = None, None  # default tolerance of the quadrature error, and what is aimed at; None for the engine's own

    @property
    def _named_starts(self) -> tuple[str, ...]:
        """All names that :meth:`solve` knows."""
        return tuple(dict.fromkeys((self._default_start, *self._starts, "uninformed", "informed")))

    def _start(self, name: str):
        """The start of this name (a name or overlaps), and the overlaps its branch holds at zero."""
        return name, ()

    def landscape(self, over: str, at, starts: Any = None, direction: Any = None, **options):
        """The free energy with one overlap held at each of the values ``at``: see :func:`quenched.problems.landscape`.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
        >>> ridge.landscape("theta", [0.5, 0.8, 1.1]).curves["uninformed"].energy.round(4).tolist()
        [0.2023, 0.1079, 0.1201]
        """
        from .landscape import landscape

        return landscape(self, over, at, starts, direction, **options)

    def _lowest(self, **options) -> Solution:
        """The solution of lowest free energy from all starts: one that has all but converged counts, and is then marked."""
        throw, tol = options.pop("throw", False), options.get("tol", 1e-8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SolveWarning)
            found, failed = [], None
            for name in self._starts:
                try:
                    found.append(self.solve(name, **options))
                except SolveError as error:  # no number at all from this start
                    failed = error
        if not found:
            raise failed
        near = [s for s in found if s.residual <= max(tol, 1e-2)] or found
        best = min(near, key=lambda s: (not np.isfinite(s.residual), float(s["free_energy"])))
        if not best.result:
            if throw:
                raise SolveError(f"{self!r}: {best.status}")
            warnings.warn(f"{self!r}: {best.status}", SolveWarning, stacklevel=3)
        return best

    def _direction(self, over: str):
        """The direction along which a landscape holds an overlap: <direction, overlap> is the order parameter that is shown."""
        shape = self._shapes[over]
        if np.prod(shape) != 1:
            raise ValueError(f"direction must be given, since {over} of {type(self).__name__} has the shape {shape}, got None")
        return np.ones(shape)

    def branches(self, starts: Any = None, **options) -> dict[str, Solution]:
        """The distinct fixed points found from the named starts, lowest free energy first.

        ``starts`` is a sequence of names or a dict name -> start of :meth:`solve`; None for the problem's own. Two starts that end
        in the same place count once, under the first name; starts that do not converge are left out, with a warning.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
        >>> list(ridge.branches(["uninformed", "informed"]))  # a convex risk has one
        ['uninformed']
        """
        starts = self._starts if starts is None else check.listed("starts", starts)
        starts = starts if isinstance(starts, dict) else {name: name for name in starts}
        found: dict[str, Solution] = {}
        for name, start in starts.items():
            solution = dataclasses.replace(self.solve(init=start, **options), branch=name)
            if solution.residual <= options.get("tol", 1e-8) and not any(same(solution, s) for s in found.values()):
                found[name] = solution
        return dict(sorted(found.items(), key=lambda item: float(item[1]["free_energy"])))

    def _from_solution(self, solution):
        names, shapes = self._overlap_names, self._shapes
        return {n: np.reshape(np.asarray(solution.order_parameters[n]), shapes.get(n, ())) for n in names if n in solution}

    def _shaped(self, overlaps: dict) -> dict:
        """Overlaps as solutions give them (axes of size one squeezed), in the shapes of the engine."""
        shapes = self._shapes
        overlaps = {name: v if check.traced(v) else check.array(f"init[{name!r}]", v) for name, v in overlaps.items()}
        fits = {name: name in shapes and np.size(value) == np.prod(shapes[name]) for name, value in overlaps.items()}
        return {name: np.reshape(np.asarray(v, float), shapes[name]) if fits[name] else v for name, v in overlaps.items()}

    @property
    def _overlap_names(self) -> tuple[str, ...]:
        """The overlaps that a state of this problem is given by."""
        return ("V", "q", "m", "theta", "Q", *self.model.scalars)

    @functools.cached_property
    def _shapes(self):
        A, B, L, t, C = self.model.shape
        r = self.model.units
        shapes = {"V": (B, r, r), "q": (B, r, r), "m": (A, r), "theta": (B, r, t), "Q": (r, r)}
        return {**shapes, **{f"{name}_hat": shape for name, shape in shapes.items()}}

    def _solution(self, found, solved, branch) -> Solution:
        shapes = self._shapes
        orders, observables = {}, {}
        for name, value in found.items():
            known = name in shapes or name in self.model.scalars
            (orders if known else observables)[name] = self._present(value, name in shapes)
        orders = {k: v for k, v in orders.items() if np.size(v)}
        c = solved.certificate
        register_pytree()
        return Solution(
            order_parameters=orders, observables=observables, result=solved.result, residual=float(c.residual),
            quadrature_error=float(c.quadrature_error), replicon=solved.replicon, stein_gap=float(c.stein_gap),
            iterations=solved.steps, branch=branch, problem=self, level=solved.level,
            quadrature_tol=solved.quadrature_tol, convex=self.model.loss.convex is True,
        )  # fmt: skip

    def _present(self, value, overlap: bool):
        if overlap and self._squeeze:
            value = value.reshape([size for size in value.shape if size != 1])
        return value

    def evaluate(self, **overlaps) -> dict[str, Any]:
        """Conjugates, free energy and one undamped update at any overlaps: a calculator for checking a derivation.

        Overlaps (``V``, ``q``, ``m``, ``theta``, ``Q``, trained scalars) that are not given take their values of the
        uninformed start.
        Returns a dict: the conjugates (``q_hat``, ...), ``free_energy``, the observables, ``update`` (name -> value) and
        ``residual`` (name -> relative difference between update and value).

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
        >>> at = ridge.evaluate(V=1.0, q=1.0, theta=0.5)
        >>> round(float(at["V_hat"]), 12), round(float(at["q_hat"]), 12)  # alpha / (1 + V), alpha E(y - h)^2 / (1 + V)^2
        (1.0, 0.55)
        """
        from .evaluation import evaluate

        return evaluate(self, overlaps)

    def gradient(self, of: str, wrt: str | tuple[str, ...], **options):
        """The derivative of an observable or order parameter with respect to parameters of the problem.

        ``of`` is any name of the solution, ``wrt`` one parameter (returns its derivative) or several (returns a dict). By the
        implicit function theorem at the solved saddle point; ``options`` go to :meth:`solve`. ``ValueError`` for parameters that
        are not real.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
        >>> bool(abs(ridge.gradient("test_mse", "weight_decay")) < 1e-9)  # the optimal weight decay is the noise
        True
        """
        import jax

        from ..numerics.precision import float64

        names = (wrt,) if isinstance(wrt, str) or not isinstance(wrt, Iterable) else tuple(wrt)
        if not names or any(self.number(name) is None for name in names):
            raise ValueError(f"wrt must name real parameters of {type(self).__name__}, got {wrt!r}")

        init = options.get("init", self._default_start)
        if isinstance(init, str) and init == "global":  # which branch is lowest is settled before
            options["init"] = self._lowest(**{key: value for key, value in options.items() if key != "init"})

        def value(numbers):
            return self.replace(**numbers).solve(**options)[of]

        with float64(True):
            numbers = {name: np.asarray(self.number(name), dtype=np.float64) for name in names}
            slopes = jax.tree.map(np.asarray, jax.jacrev(value)(numbers))
        return slopes[wrt] if isinstance(wrt, str) else slopes

    def tune(self, parameter: str, minimize: str, between: tuple[float, float] | None = None, **options):
        """The value of a positive parameter at which an observable is smallest: :func:`quenched.problems.tuning.tune`.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=1.0, noise=0.1)
        >>> ridge.tune("weight_decay", minimize="test_mse")
        Tuned(weight_decay=0.1, test_mse=0.084428877...)
        """
        from .tuning import tune

        return tune(self, parameter, minimize, between, **options)

    def cite(self) -> str:
        """BibTeX of the references behind this problem (also printed by the command line).

        >>> import quenched as qn
        >>> print(qn.problems.GeneralizedLinear("square", "linear", 2.0, 0.1).cite().splitlines()[0])
        @article{loureiro2021learning,
        """
        from .references import bibtex

        return bibtex(self._references)


def engine_options(tol, quadrature_tol, damping, max_steps):
    """The numbers of :meth:`Problem.solve`, checked, as the engine's solver and tolerance."""
    from ..limit.saddle import Solver

    if quadrature_tol is not None:
        quadrature_tol = check.positive("quadrature_tol", quadrature_tol)
    solver = Solver(
        damping=check.scalar("damping", damping, 0.0, 1.0, open_high=True),
        max_steps=check.integer("max_steps", max_steps),
        tol=check.positive("tol", tol),
    )
    return solver, quadrature_tol


def _short(value) -> str:
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return f"{float(value):g}"
    if isinstance(value, float):
        return f"{value:.12g}"
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__}(...)"
