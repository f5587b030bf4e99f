"""What training or a flow looks like in time: summary statistics and observables at stored times."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ..names import label
from ..numerics import check
from ..numerics.results import RESULTS
from .solution import Lookup, _show


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Trajectory(Lookup):
    """Summary statistics at increasing times, exact in the limit of high dimension.

    - ``times`` (K,); ``order_parameters``, ``observables``: name -> (K, ...) arrays.
    - ``result``: a :class:`~quenched.numerics.results.RESULTS`; a path that diverged keeps what is finite.
    - ``quadrature_error``: by how much the path moves when its Gaussian averages are refined, relative to its largest values.
    - ``again(times)``: the same path at other times; ``experiment(dim, seeds, **options)``: see :meth:`simulate`.
    - ``problem``; ``settings``: what else defines the path; ``note``: why the theory is approximate, or "".

    ``trajectory["Q"]`` looks a name up among observables, then order parameters.

    >>> import quenched as qn
    >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=1.0, weight_decay=0.1, noise=0.1)
    >>> path = ridge.online(learning_rate=0.5, time=4.0, weight_decay=0.0)
    >>> path.times[[0, -1]].tolist(), path["theta"][[0, -1]].round(6).tolist(), path.converged
    ([0.0, 4.0], [0.0, 0.864665], True)
    """

    times: np.ndarray
    order_parameters: dict[str, Any]
    observables: dict[str, Any]
    result: RESULTS
    problem: Any
    note: str = ""
    quadrature_error: float = 0.0
    settings: dict = dataclasses.field(default_factory=dict)
    experiment: Callable | None = None
    again: Callable | None = None

    @property
    def converged(self) -> bool:
        """Whether the path reached its last time to the tolerances asked for."""
        return self.result is RESULTS.successful

    @property
    def status(self) -> str:
        """One line: how it ended, up to when, how accurately."""
        parts = [str(self.result), f"to time {self.times[-1]:g}" if len(self.times) else "nothing is finite"]
        if self.quadrature_error:
            parts.append(f"quadrature {self.quadrature_error:.0e}")
        if self.note:
            parts.append(f"approximate: {self.note}")
        return ", ".join(parts)

    def _tables(self):
        return {**self.order_parameters, **self.observables}

    def at(self, time) -> dict[str, np.ndarray]:
        """All values at any time up to the last of the path: name -> array. Saved times are looked up; to others the equations
        are integrated again.

        ``time`` is a number, or (N,) numbers, which then come first in the shapes. ``ValueError`` outside of the path.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=1.0, weight_decay=0.1, noise=0.1)
        >>> path = ridge.online(learning_rate=0.5, time=4.0, weight_decay=0.0)
        >>> np.allclose(path.at(path.times / 2)["theta"], 1.0 - np.exp(-0.25 * path.times), atol=1e-6)
        True
        """
        time = check.array("time", time)
        if not len(self.times) or np.any((time < 0.0) | (time > self.times[-1])):
            raise ValueError(f"time must be in the path, 0 to {self.times[-1] if len(self.times) else 0.0:g}, got {time}")
        saved = np.minimum(np.searchsorted(self.times, time), len(self.times) - 1)
        if np.array_equal(self.times[saved], time):
            return {name: np.take(value, saved, axis=0) for name, value in self._tables().items() if np.size(value)}
        if self.again is None:
            raise TypeError("this path cannot be integrated again: look its stored times up instead")
        at, place = np.unique(time, return_inverse=True)
        path = self.again(at if at[-1] > 0.0 else np.append(at, self.times[-1]))  # a path has to lead somewhere
        return {name: np.asarray(value)[place.reshape(time.shape)] for name, value in path._tables().items() if np.size(value)}

    def simulate(self, dim: int, seeds: Any = 8, **options):
        """The experiment of this path at finite size: from weights with the same overlaps, with the same rates, at the same times.

        Returns :class:`quenched.Trials` with values (seeds, K, ...). ``options`` are those of the experiment, see where the path
        comes from. ``TypeError`` for a path without an experiment.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=1.0, weight_decay=0.1, noise=0.1)
        >>> path = ridge.online(learning_rate=0.5, time=4.0, weight_decay=0.0)
        >>> trials = path.simulate(dim=100, seeds=2, test_samples=100)
        >>> bool(abs(trials["theta"].mean - path["theta"])[-1] < 0.1)
        True
        """
        if self.experiment is None:
            raise TypeError("this path has no experiment of its own: use simulate of the problem it comes from")
        return self.experiment(dim, seeds, **options)

    def plot(self, *names: str, trials=None, ax=None):
        """Values over time, one line for each entry, and the means and standard errors of ``trials``; returns the Axes.

        ``names``: what to draw; without any, the overlaps. Entries that are zero throughout are left out.

        >>> import matplotlib.pyplot as plt, quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=1.0, weight_decay=0.1, noise=0.1)
        >>> ax = ridge.online(learning_rate=0.5, time=4.0, weight_decay=0.0).plot("test_mse")
        >>> ax.get_ylabel(), ax.lines[0].get_ydata().round(4)[[0, -1]].tolist()
        ('test mean square', [2.0, 0.1312])
        >>> plt.close(ax.figure)
        """
        from .. import plotting

        ax = plotting.axes(ax)
        for name, index, color, style, title in self._entries(names):
            plotting.line(self.times, self[name][(slice(None), *index)], ax=ax, color=color, ls=style, label=title)
            if trials is not None and name in trials:
                where = (slice(None), *index)
                estimate = trials[name]
                plotting.points(self._measured(trials), estimate.mean[where], estimate.standard_error[where], ax=ax, color=color)
        ax.set_xlabel(label("time"))
        if len(names) == 1:
            ax.set_ylabel(label(names[0]))
        if ax.get_legend_handles_labels()[0]:
            ax.legend()
        return ax

    def _measured(self, trials):
        return np.asarray(trials.settings.get("times", self.times), float)

    def _entries(self, names):
        """(name, index, colour, line style, title) of every line: a colour an entry, a style a name."""
        from .. import plotting

        names = names or tuple(name for name in ("m", "theta", "Q") if name in self)
        lines = []
        for number, name in enumerate(names):
            value = np.asarray(self[name])
            scale = np.abs(value).max(initial=0.0)
            for index in np.ndindex(value.shape[1:]):
                mirrored = name in ("Q", "q") and list(index[-2:]) != sorted(index[-2:])
                if mirrored or (value[0].size > 1 and np.abs(value[(slice(None), *index)]).max() <= 1e-9 * scale):
                    continue
                title = name + (f"[{', '.join(map(str, index))}]" if index else "")
                color = plotting.COLOURS[len(lines) % len(plotting.COLOURS)]
                lines.append((name, index, color, ("-", "--", ":", "-.")[number % 4], title))
        return lines

    def animate(self, path, *names: str, trials=None, seconds: float = 5.0, frames: int = 60):
        """Write a GIF of the same picture as :meth:`plot` in which time passes, and return its path.

        ``trials``: measured points appear as time reaches them. ``ValueError`` for a name that does not end in ``.gif``.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=1.0, weight_decay=0.1, noise=0.1)
        >>> path = ridge.online(learning_rate=0.5, time=4.0, weight_decay=0.0)
        >>> path.animate("path.gif", "test_mse", frames=2).name
        'path.gif'
        """
        import matplotlib.pyplot as plt
        from matplotlib.animation import FuncAnimation, PillowWriter

        path = pathlib.Path(path)
        if path.suffix.lower() != ".gif":
            raise ValueError(f"path must end in .gif, got {path}")
        frames, seconds = check.integer("frames", frames, 2), check.positive("seconds", seconds)
        figure, ax = plt.subplots(figsize=(5.0, 3.4), layout="constrained")
        try:
            self.plot(*names, trials=trials, ax=ax)
            if len(self.times) < 2:
                raise ValueError(f"an animation needs two times or more, got a path of {len(self.times)}")
            ax.set_xlim(self.times[0], self.times[-1])
            ax.set_ylim(ax.get_ylim())
            curtain = ax.axvspan(self.times[0], self.times[-1], color="white", zorder=10)
            front = ax.axvline(self.times[0], color="0.6", lw=1.0, zorder=11)
            legend = ax.get_legend()
            if legend is not None:
                legend.set_zorder(12)

            def draw(frame):
                now = self.times[0] + (self.times[-1] - self.times[0]) * frame / (frames - 1)
                curtain.set_x(now)
                curtain.set_width(max(self.times[-1] - now, 0.0))
                front.set_xdata([now, now])
                return curtain, front

            FuncAnimation(figure, draw, frames=frames).save(path, writer=PillowWriter(fps=frames / seconds), dpi=100)
        finally:
            plt.close(figure)
        return path

    def __repr__(self) -> str:
        rows = [f"Trajectory of {self.problem!r}", f"  {self.status}"]
        if len(self.times):
            rows += [f"  {name:<18} {_show(value[0])} -> {_show(value[-1])}" for name, value in self._tables().items()]
        return "\n".join(rows)

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(repr(self))}</pre>"
