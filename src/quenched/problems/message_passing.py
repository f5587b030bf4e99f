"""Message passing on an instance of a problem, and its state evolution, under the names of theory and experiment."""

from __future__ import annotations

import dataclasses
import html
import time
import warnings
from typing import Any

import numpy as np

from ..numerics import check
from ..numerics.results import RESULTS
from .base import SolveWarning
from .solution import Lookup, _show

_OVERLAPS = ("q", "V", "m", "theta", "Q")


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Passing(Lookup):
    """Message passing on one instance: where it ended, what was measured there, and every step on the way.

    - ``order_parameters``: the final ``q``, ``V``, ``m``, ``theta``, ``Q`` and trained scalars; ``observables``: those of
      :meth:`Problem.simulate`, measured in the same way on the final weights.
    - ``overlaps``: name -> (iterations + 1, ...), the order parameters of every iterate, the start first, in the form
      of :meth:`Problem.state_evolution`.
    - ``gradient`` (iterations + 1,): the norm of the gradient of the risk; ``optimality``: the same relative to its data
      and penalty parts. A fixed point is a stationary point of the risk, at any size.
    - ``w`` (d, r), ``free`` (F, r): weights and free means; ``result``: a :class:`~quenched.numerics.results.RESULTS`.
    - ``dim``, ``n``, ``seed``, ``seconds``, ``damping`` (the weight of the old values that was used), ``branch`` (the name
      of the start), ``problem``.

    ``passing["test_error"]`` looks a name up among observables, then order parameters.

    >>> import quenched as qn
    >>> passing = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).amp(dim=200, seed=3)
    >>> passing.converged, passing.w.shape, passing.overlaps["q"].shape == (passing.iterations + 1,)
    (True, (200, 1), True)
    """

    order_parameters: dict[str, Any]
    observables: dict[str, Any]
    overlaps: dict[str, np.ndarray]
    gradient: np.ndarray
    optimality: np.ndarray
    w: np.ndarray
    free: np.ndarray
    result: RESULTS
    dim: int
    n: int
    seed: Any
    damping: float
    seconds: float
    branch: str
    problem: Any

    def __post_init__(self):
        for array in (self.gradient, self.optimality, self.w, self.free, *self.overlaps.values()):
            array.flags.writeable = False

    @property
    def iterations(self) -> int:
        """The number of steps taken."""
        return len(self.gradient) - 1

    @property
    def converged(self) -> bool:
        """Whether the gradient of the risk vanishes to the tolerance asked for."""
        return self.result is RESULTS.successful

    @property
    def status(self) -> str:
        """One line: how it ended, how stationary the risk is, and whether other stationary points may exist."""
        parts = [str(self.result), f"{self.iterations} steps", f"|grad R| {self.gradient[-1]:.0e}"]
        if self.damping:
            parts.append(f"damping {self.damping:g}")
        if not self.problem.model.loss.convex:
            parts.append(f"a branch (start {self.branch!r}): the loss is not known to be convex, others may exist")
        return ", ".join(parts)

    def _tables(self):
        return {**self.observables, **{k: v for k, v in self.order_parameters.items() if k not in self.observables}}

    def __repr__(self) -> str:
        rows = [f"Passing(dim={self.dim}, n={self.n}, seed={self.seed}) of {self.problem!r}", f"  {self.status}"]
        return "\n".join([*rows, *(f"  {name:<18} {_show(value)}" for name, value in self._tables().items())])

    def _repr_html_(self) -> str:
        cells = "".join(f"<tr><td><code>{k}</code></td><td>{_show(v)}</td></tr>" for k, v in self._tables().items())
        title = f"{type(self.problem).__name__}, message passing, d = {self.dim}, n = {self.n}, seed {self.seed}"
        return f"<div><b>{html.escape(title)}</b><br>{html.escape(self.status)}<table>{cells}</table></div>"


def amp(problem, dim: int, seed=0, *, init="random", max_steps=500, damping=None, tol=1e-10, test_samples=10_000) -> Passing:
    """See :meth:`Problem.amp`."""
    from ..finite import amp as algorithm
    from ..finite.observe import cosines, fresh_averages
    from ..finite.risk import Trained

    clock = time.perf_counter()
    m = problem.model
    dim, test_samples = check.integer("dim", dim), check.integer("test_samples", test_samples)
    sample = algorithm.draw(m.law, m.loss, m.response, alpha=float(m.alpha), dim=dim, seed=seed)
    passed = algorithm.pass_messages(
        sample, m.loss, float(m.weight_decay), units=m.units, scalars=m.scalars, params=m.params, free=m.law.free,
        init=_finite_start(problem, init), seed=seed, max_steps=max_steps, damping=damping, tol=tol,
    )  # fmt: skip
    population, n = sample.population, len(sample.index)
    del sample  # the largest array: not needed any more when the test samples are drawn
    align = problem._align()
    if align is not None:
        passed = passed.rotated(align(passed.w, population))
    fit = Trained(passed.w, passed.free, passed.scalars)
    row = {"train_loss": passed.train_loss, "free_energy": passed.risk / dim}
    if population.targets.shape[1]:
        row["cosine"] = cosines(fit, population)
    row |= fresh_averages(
        dict(m.observables), fit, population, m.law.sample, m.response, n=test_samples, seed=seed, params=m.params
    )
    made = Passing(
        order_parameters=problem._present_row({name: rows[-1] for name, rows in passed.trajectory.items()}),
        observables=problem._present_row(row), overlaps=_present_trajectory(problem, passed.trajectory),
        gradient=passed.gradient, optimality=passed.optimality, w=passed.w, free=passed.free, result=passed.result,
        dim=dim, n=n, seed=seed, damping=passed.damping, seconds=time.perf_counter() - clock,
        branch=init if isinstance(init, str) else "given weights", problem=problem,
    )  # fmt: skip
    if not made.converged:
        advice = f" (damping={0.5 * (1.0 + passed.damping):g} may help)"
        warnings.warn(f"message passing for {problem!r}, seed {seed}: {made.status}{advice}", SolveWarning, stacklevel=3)
    return made


def _finite_start(problem, init):
    """The start of the weights that a name of :meth:`Problem.solve` stands for."""
    if not isinstance(init, str):
        return init
    name = problem._start(init)[0]
    name = init if not isinstance(name, str) else name
    return "random" if name == "uninformed" else name


def state_evolution(problem, steps: int, init: Any = "random", level: int | None = None) -> dict[str, np.ndarray]:
    """See :meth:`Problem.state_evolution`."""
    from ..limit.evolution import evolve

    model = problem.model
    if isinstance(init, Passing):
        init = problem._shaped({name: rows[0] for name, rows in init.overlaps.items()})
    elif isinstance(init, str) and init == "zero":
        init = {"q": 0.0, "Q": 0.0}
    elif isinstance(init, str):
        init, frozen = ("uninformed", ()) if init == "random" else problem._start(init)
        if frozen:
            model = dataclasses.replace(model, frozen=tuple(sorted({*model.frozen, *frozen})))
    elif isinstance(init, dict):
        init = problem._shaped(init)
    return _present_trajectory(problem, evolve(model, steps, init, level))


def _present_trajectory(problem, table) -> dict[str, np.ndarray]:
    """name -> (steps + 1, ...), every row in the form of the problem's order parameters; empty overlaps left out."""
    return {
        name: np.stack([problem._present(np.asarray(row), name in _OVERLAPS) for row in rows])
        for name, rows in table.items()
        if np.size(rows)
    }
