"""A limit on wall-clock time for work that cannot be asked to stop."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import warnings


class OutOfTime(Exception):
    """Something took longer than it may."""


_PATIENCE = 60.0  # seconds that a process waits at its end for what it left to itself

_abandoned: list[threading.Thread] = []


@atexit.register
def _wait() -> None:
    """The interpreter aborts where compiled code still runs in such a thread."""
    end = time.monotonic() + _PATIENCE
    for thread in _abandoned:
        thread.join(max(0.0, end - time.monotonic()))


def leave(status: int) -> None:
    """End this process with an exit ``status``, without waiting for what was left to itself."""
    sys.stdout.flush(), sys.stderr.flush()
    if any(thread.is_alive() for thread in _abandoned):
        os._exit(status)
    sys.exit(status)


def limited(work, seconds: float):
    """What ``work()`` returns or raises; :class:`OutOfTime` after ``seconds`` of wall-clock time.

    Compiled code cannot be interrupted: what has run out of time goes on in a thread of its own, unheard, until it ends.

    >>> limited(lambda: 1 + 1, seconds=10.0)
    2
    """
    if seconds > threading.TIMEOUT_MAX:
        return work()
    end: dict = {}

    def run():
        try:
            end["value"] = work()
        except BaseException as error:  # raised where it is waited for
            end["error"] = error

    thread = threading.Thread(target=run, daemon=True, name="quenched-limited")
    with warnings.catch_warnings():  # which the thread may have changed when it is left to itself
        thread.start()
        thread.join(seconds)
    if not end:
        _abandoned.append(thread)
        raise OutOfTime(f"took more than the time limit of {seconds:g} s")
    if "error" in end:
        raise end["error"]
    return end["value"]
