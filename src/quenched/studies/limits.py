"""A limit on wall-clock time for work that cannot be asked to stop."""

from __future__ import annotations

import threading
import warnings


class OutOfTime(Exception):
    """Something took longer than it may."""


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
        raise OutOfTime(f"took more than the time limit of {seconds:g} s")
    if "error" in end:
        raise end["error"]
    return end["value"]
