"""The same problem at finite size: real samples, real optimisers, repeated trials. Names are loaded when first used."""

import importlib

_NAMES = {
    "Data": "data",
    "Estimate": "trials",
    "Minimiser": "result",
    "Status": "result",
    "Trained": "trained",
    "Trials": "trials",
    "align_to_means": "align",
    "align_to_targets": "align",
    "draw": "data",
    "simulate_frozen": "trained",
    "train_network": "trained",
}

__all__ = list(_NAMES)


def __getattr__(name):
    if name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
