"""Theory beside experiment: one row for each number, with the deviation in standard errors."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .solution import Solution


class Row(NamedTuple):
    """One number: ``deviation`` = (mean - theory) / standard_error, NaN where a single trial leaves it unknown.

    >>> import quenched as qn
    >>> trials = qn.Trials({"test_mse": np.array([0.08, 0.1])}, (0, 1), ("converged",) * 2, dim=100, n=200)
    >>> row = compare(qn.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve(), trials)["test_mse"]
    >>> round(row.mean, 12), round(row.standard_error, 12), round(row.deviation, 4)
    (0.09, 0.01, 0.5571)
    """

    name: str
    theory: float
    mean: float
    standard_error: float
    deviation: float


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """Rows of theory, mean, standard error and deviation; prints as a table, draws itself with :meth:`plot`.

    >>> import quenched as qn
    >>> trials = qn.Trials({"test_mse": np.array([0.08, 0.1])}, (0, 1), ("converged",) * 2, dim=100, n=200)
    >>> table = compare(qn.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve(), trials)
    >>> table
    GeneralizedLinear at d = 100, n = 200, 2 trials
    observable        theory                simulation  deviation
    test_mse       0.0844289              0.09 +- 0.01   +0.56 se
    >>> round(table.worst, 4)
    0.5571
    """

    rows: tuple[Row, ...]
    theory: Any
    trials: Any

    def __getitem__(self, name):
        """The row of an observable (``"test_error"``, ``"cosine[0,1]"``)."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name!r} is not among {', '.join(row.name for row in self.rows)}")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def worst(self) -> float:
        """The largest absolute deviation, in standard errors (0 if no row has one)."""
        return max((abs(row.deviation) for row in self.rows if not np.isnan(row.deviation)), default=0.0)

    @property
    def caption(self) -> str:
        """One line: what was compared, and whether either side is doubtful."""
        trials, problem = self.trials, self.theory.problem
        name = problem if isinstance(problem, str) else type(problem).__name__
        used, count = int(trials.converged.sum()), len(trials.seeds)
        parts = [f"{name} at d = {trials.dim}, n = {trials.n}, {used} trials"]
        if not self.theory.converged:
            parts.append(f"theory: {self.theory.result}")
        elif not self.theory.stable:
            parts.append("theory: replica symmetry is only approximate here")
        if used < count:
            parts.append(f"left out: {count - used} trials whose optimiser did not converge")
        return "; ".join(parts)

    def columns(self) -> dict[str, list]:
        """Name -> column, for a CSV or a data frame.

        >>> import quenched as qn
        >>> trials = qn.Trials({"test_mse": np.array([0.08, 0.1])}, (0, 1), ("converged",) * 2, dim=100, n=200)
        >>> table = compare(qn.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve(), trials)
        >>> list(table.columns()), table.columns()["name"]
        (['name', 'theory', 'mean', 'standard_error', 'deviation'], ['test_mse'])
        """
        return {field: [getattr(row, field) for row in self.rows] for field in Row._fields}

    def __repr__(self) -> str:
        width = max([len("observable"), *(len(row.name) for row in self.rows)])
        lines = [self.caption, f"{'observable':<{width}}  {'theory':>12}  {'simulation':>24}  {'deviation':>9}"]
        for row in self.rows:
            lines.append(f"{row.name:<{width}}  {row.theory:>12.6g}  {_measured(row):>24}  {_deviation(row):>9}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        cells = [(html.escape(row.name), f"{row.theory:.6g}", _measured(row), _deviation(row)) for row in self.rows]
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in line) + "</tr>" for line in cells)
        head = "<tr><th>observable</th><th>theory</th><th>simulation</th><th>deviation</th></tr>"
        return f"<div>{html.escape(self.caption)}<table>{head}{body}</table></div>"

    def plot(self, *, ax=None):
        """Deviations in standard errors, one row for each observable; returns the Axes.

        >>> import matplotlib.pyplot as plt, quenched as qn
        >>> trials = qn.Trials({"test_mse": np.array([0.08, 0.1])}, (0, 1), ("converged",) * 2, dim=100, n=200)
        >>> table = compare(qn.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve(), trials)
        >>> ax = table.plot()
        >>> ax.get_title()
        'GeneralizedLinear at d = 100, n = 200, 2 trials'
        >>> plt.close(ax.figure)
        """
        from .. import plotting

        rows = [row for row in self.rows if np.isfinite(row.deviation)]
        ax = plotting.deviations([row.name for row in rows], [row.deviation for row in rows], ax=ax)
        ax.set_title(self.caption, fontsize="small")
        return ax


def compare(theory, trials) -> Comparison:
    """Lay a :class:`Solution` beside the :class:`Trials` of the same problem: every observable that both carry.

    A deviation of 2 is common, one of 4 is not; at dimension d the means also carry a shift of order 1/d that no
    number of trials removes. Arrays give one row for each entry, ``name[i,j]``. Either may come first.

    Raises ValueError if the two share no observable, or are not a solution and trials.

    >>> import quenched as qn
    >>> problem = qn.problems.GeneralizedLinear("square", target="linear", alpha=2.0, weight_decay=0.1, noise=0.1)
    >>> table = qn.compare(problem.solve(), problem.simulate(dim=200, seeds=4))
    >>> row = table["test_mse"]
    >>> bool(np.isclose(row.deviation, (row.mean - row.theory) / row.standard_error)), table.worst < 6
    (True, True)
    """
    from ..finite.trials import Trials

    if isinstance(theory, Trials):
        theory, trials = trials, theory
    if not isinstance(theory, Solution) or not isinstance(trials, Trials):
        got = f"{type(theory).__name__} and {type(trials).__name__}"
        raise ValueError(f"compare takes a Solution (problem.solve()) and Trials (problem.simulate(...)), got {got}")
    names = [name for name in trials.values if name in theory]
    if not names:
        raise ValueError(f"trials must share an observable with the theory, got {', '.join(trials.values) or 'none'}")
    return Comparison(tuple(row for name in names for row in _rows(name, theory, trials)), theory, trials)


def _rows(name, theory, trials) -> Iterator[Row]:
    estimate = trials[name]
    expected = np.asarray(theory[name], dtype=float)
    if expected.size != np.size(estimate.mean):
        raise ValueError(f"{name} must have the shape {expected.shape} of the theory, got {np.shape(estimate.mean)}")
    mean, error = np.reshape(estimate.mean, expected.shape), np.reshape(estimate.standard_error, expected.shape)
    away = deviation(expected, mean, error)
    for index in np.ndindex(expected.shape):
        text = f"{name}[{','.join(map(str, index))}]" if index else name
        yield Row(text, *(float(column[index]) for column in (expected, mean, error, away)))


def deviation(theory, mean, standard_error) -> np.ndarray:
    """(mean - theory) / standard_error, elementwise; NaN where a single trial leaves the standard error unknown.

    >>> deviation(1.0, [1.5, 1.0, 2.0], [0.25, 0.0, np.inf])
    array([ 2.,  0., nan])
    """
    difference, error = np.asarray(mean, dtype=float) - theory, np.asarray(standard_error, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.where(difference == 0.0, 0.0, difference / error)
    return np.where(np.isfinite(error), away, np.nan)


def _measured(row: Row) -> str:
    return f"{row.mean:.6g} +- {row.standard_error:.2g}" if np.isfinite(row.standard_error) else f"{row.mean:.6g}"


def _deviation(row: Row) -> str:
    return "-" if np.isnan(row.deviation) else f"{row.deviation:+.2f} se"
