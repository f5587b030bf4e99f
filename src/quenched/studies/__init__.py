"""Studies: a problem over a grid of its parameters, on disk, on many processors."""

from ..numerics.fingerprint import fingerprint
from .executors import processes
from .sweep import sweep

__all__ = ["fingerprint", "processes", "sweep"]
