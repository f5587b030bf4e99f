"""Studies: a problem over a grid of its parameters, on disk, on many processors."""

from .executors import processes
from .fingerprint import fingerprint
from .sweep import sweep

__all__ = ["fingerprint", "processes", "sweep"]
