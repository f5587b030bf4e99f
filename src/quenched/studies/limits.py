"""A limit on wall-clock time for work that cannot be asked to stop."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import warnings


class OutOfTime(Exception):
    """Something took longer than it may."""


_abandoned: list[threading.Thread] = []


@atexit.register
def _leave() -> None:
    """End the process where compiled code still runs in a thread that was left to itself: the interpreter would abort."""
    if any(thread.is_alive() for thread in _abandoned):
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(int(hasattr(sys, "last_value")))


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
