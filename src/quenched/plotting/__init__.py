"""Pictures of sweeps and comparisons: on paper (:func:`curve`, ...) and as pages to play with (:func:`explorer`)."""

from .explore import explorer
from .panels import charts
from .pictures import COLOURS, STYLES, axes, curve, deviations, landscape, line, points, save, style
from .pictures import label as label
from .pictures import symbol as symbol

__all__ = [
    "COLOURS", "STYLES", "axes", "charts", "curve", "deviations", "explorer", "landscape", "line", "points", "save", "style"
]  # fmt: skip
