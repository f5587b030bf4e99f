"""Studies: a problem over a grid of its parameters."""

from .sweep import sweep

__all__ = ["sweep"]
