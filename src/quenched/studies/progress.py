"""How far a long computation is, and how long it will take."""

from __future__ import annotations

import contextlib
import sys
import time

_EVERY = 15.0  # seconds between two lines where there is no terminal


@contextlib.contextmanager
def shown(what: str = "compiling once", *, wait: float = 0.0):
    """``report(done, total, what)`` as a bar with the time left on a terminal, as a line now and then elsewhere.

    Both are on standard error. The first line comes after ``wait`` seconds at the earliest.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines(wait=wait)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, what: bar.update(task, completed=done, total=total, description=what)


class Lines:
    """Progress as lines of text, a few a minute.

    >>> import io
    >>> out = io.StringIO()
    >>> report = Lines(out)
    >>> report(1, 4, "theory"); report(2, 4, "theory"); report(4, 4, "done")
    >>> print(out.getvalue(), end="")
    theory: 1 of 4
    done: 4 of 4, 0 s
    """

    def __init__(self, out=None, *, wait: float = 0.0):
        self.out = sys.stderr if out is None else out
        self.start = time.monotonic()
        self.first: tuple | None = None  # the first report: what was done by then cost other time, or none
        self.last = self.start + wait - _EVERY

    def __call__(self, done: int, total: int, what: str) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = now, done
        if done < total and now - self.last < _EVERY:
            return
        self.last = now
        since, begun = self.first
        text = f"{what}: {done} of {total}"
        if done >= total:
            text += f", {_words(now - self.start)}"
        elif done > begun:
            text += f", about {_words((now - since) * (total - done) / (done - begun))} left"
        print(text, file=self.out, flush=True)


def _words(seconds: float) -> str:
    if seconds < 100.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 6000.0 else f"{seconds / 3600.0:.1f} h"
