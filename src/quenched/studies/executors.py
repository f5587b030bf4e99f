"""Calls on executors: results as they end, and processes that die replaced."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, ProcessPoolExecutor, as_completed, wait

from ..numerics import check


def processes(count: int | None = None, flags: str = "") -> ProcessPoolExecutor:
    """An executor of ``count`` processes (None: one a core), started afresh, with one thread for linear algebra and one for XLA.

    ``flags``: further flags of XLA.

    >>> with processes(1) as pool:
    ...     pool.submit(abs, -2).result()
    2
    """
    count = os.cpu_count() or 1 if count is None else check.integer("count", count)
    context = multiprocessing.get_context("spawn")  # a fork of a process that runs JAX may hang
    return ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(flags,))


def _begin(flags: str) -> None:
    """In a new process, before JAX looks for its devices."""
    from threadpoolctl import threadpool_limits

    gc.set_threshold(100_000, 20, 20)  # tracing makes millions of objects that stay: looking for garbage takes a tenth of it
    flags = f"--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1 {flags}"
    os.environ["XLA_FLAGS"] = f"{flags} {os.environ.get('XLA_FLAGS', '')}".strip()  # the last one counts
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of libraries that are loaded later
    threadpool_limits(limits=1)  # of those that are
    parent = multiprocessing.parent_process()
    if parent is not None:  # a worker whose parent was killed would wait for work for ever
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def in_turn(calls: dict, steps: Iterable) -> Iterator[tuple]:
    """(name, result or exception) of each of ``calls`` (name -> (function, *arguments)), in this process, after the ``steps``."""
    for _ in steps:
        pass
    for name, (function, *arguments) in calls.items():
        try:
            end = function(*arguments)
        except Exception as error:
            end = error
        yield name, end


def results(executor: Executor, calls: dict, steps: Iterable = ()) -> Iterator[tuple]:
    """(name, result or exception) of each of ``calls``, as they end on an executor, while the ``steps`` are taken here."""
    futures = {}
    try:
        for name, call in calls.items():
            futures[executor.submit(*call)] = name
        pending = set(futures)
        for _ in steps:
            ended, pending = wait(pending, timeout=0.0)
            yield from ((futures[future], _end(future)) for future in ended)
        yield from ((futures[future], _end(future)) for future in as_completed(pending))
    finally:
        for future in futures:
            future.cancel()


def _end(future):
    try:
        return future.result()
    except (Exception, CancelledError) as error:
        return error


def results_of_processes(calls: dict, steps: Iterable = (), count: int | None = None, flags: str = "") -> Iterator[tuple]:
    """:func:`results` on :func:`processes` of our own. Where one dies, what was not finished is done by new ones; a call during
    which a process died twice, alone the second time, gives an exception.
    """
    left, steps, suspects, healthy = dict(calls), iter(steps), set(), False
    workers = max(1, min(count or os.cpu_count() or 1, len(left)))
    for _ in steps if not left else ():
        pass
    while left:
        pool = processes(workers, flags)
        try:
            for name, end in results(pool, left.copy(), steps):
                if not isinstance(end, BrokenExecutor):
                    healthy = True
                    del left[name]
                    yield name, end
        except BrokenExecutor:  # before all calls were submitted
            pass
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if not left:
            return
        if not healthy:
            _check_start()
        running = list(left)[:workers]  # when it broke: calls begin in their order
        if workers == 1 and running[0] in suspects:
            del left[running[0]]
            yield running[0], RuntimeError("the process that ran it died")
            continue
        if suspects.issuperset(running):
            workers = 1
        suspects.update(running)
        left = {name: left[name] for name in [*list(left)[len(running) :], *running]}  # they may be to blame: the others first


def results_of_families(families: Iterable[dict], count: int | None = None, flags: str = "") -> Iterator[tuple]:
    """(name, result or exception) of the calls (name -> (function, *arguments)) of several families, as they end, on ``count``
    processes of our own.

    The calls of a family run one after the other in one process, so that they share what it has compiled; families begin in
    their order. A call during which its process dies is made once more by a new one.

    >>> dict(results_of_families([{"one": (abs, -1), "two": (abs, -2)}], count=1))
    {'one': 1, 'two': 2}
    """
    waiting = [dict(family) for family in families if family]
    lanes, again = {}, set()  # future -> (its name, its call, the rest of the family, the process)

    def begin(family, pool):
        name = next(iter(family))
        call = family.pop(name)
        try:
            future = pool.submit(*call)
        except BrokenExecutor:  # it died while it waited
            pool = processes(1, flags)
            future = pool.submit(*call)
        lanes[future] = name, call, family, pool

    try:
        for _ in range(min(count or os.cpu_count() or 1, len(waiting))):
            begin(waiting.pop(0), processes(1, flags))
        while lanes:
            for future in wait(lanes, return_when=FIRST_COMPLETED)[0]:
                name, call, family, pool = lanes.pop(future)
                end = _end(future)
                if isinstance(end, BrokenExecutor):
                    pool.shutdown(wait=False)
                    _check_start()
                    pool = processes(1, flags)
                    if name not in again:
                        again.add(name)
                        begin({name: call, **family}, pool)
                        continue
                    end = RuntimeError("the process that ran it died")
                yield name, end
                if family or waiting:
                    begin(family or waiting.pop(0), pool)
                else:
                    pool.shutdown(wait=False)
    finally:
        for *_, pool in lanes.values():
            pool.shutdown(wait=False, cancel_futures=True)


def _check_start() -> None:
    try:
        with processes(1) as pool:
            pool.submit(abs, 1).result()
    except BrokenExecutor as error:
        raise RuntimeError(
            "no process can be started: a script that sweeps on processes must guard what it runs by `if __name__ == '__main__':`"
        ) from error
