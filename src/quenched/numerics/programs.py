"""Compiled programs, forgotten before the process runs out of memory maps.

A compiled saddle point is some hundred kernels, each with memory maps of its own. Linux allows a process 65,530 of them
by default, after about sixty programs, and the compiler then ends the process: a long sweep over losses or numbers of
units, a notebook left open. JAX never forgets a program by itself.
"""

from __future__ import annotations

import importlib.metadata
import os

import jax

_MAPS, _ALLOWED = "/proc/self/maps", "/proc/sys/vm/max_map_count"
_compiled = [True]  # whether something was compiled since maps were last counted


def hasty() -> str:
    """Flags of XLA with which it compiles faster, to slower code: for programs that run for less than they are compiled.

    Without any optimisation code runs four times longer, which is not worth the third of the compilation that is saved.
    """
    flags = ["--xla_backend_optimization_level=1"]
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # a flag that a version does not know is fatal
        flags.append("--xla_cpu_use_fusion_emitters=false")
    return " ".join(flags)


def _note(event: str, duration: float, **_) -> None:
    if event.endswith("backend_compile_duration"):
        _compiled[0] = True


jax.monitoring.register_event_duration_secs_listener(_note)


def make_room(share: float = 0.5) -> bool:
    """Forget all compiled programs if this process holds more than ``share`` of the memory maps it may have.

    Returns whether it did; programs that are needed again are compiled again, or read from the compilation cache. Costs
    nothing unless something was compiled since the last call, and does nothing where the system has no such limit.
    """
    if not _compiled[0]:
        return False
    _compiled[0] = False
    if not (os.path.exists(_MAPS) and os.path.exists(_ALLOWED)):
        return False
    with open(_MAPS, "rb") as maps, open(_ALLOWED) as allowed:
        full = sum(1 for _ in maps) > share * int(allowed.read())
    if full:
        jax.clear_caches()
    return full
