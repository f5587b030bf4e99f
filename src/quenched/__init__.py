"""What a neural network learns, exactly, in the high-dimensional limit, and checked at finite size.

A problem is stated once, as a law of the data, a loss and a few numbers; ``problem.solve()`` gives the theory and
``problem.simulate(dim=400, seeds=8)`` the experiment, under the same observable names. Names are loaded when they
are first used, so that ``import quenched`` imports neither JAX nor matplotlib.

>>> import quenched as qn
>>> problem = qn.GeneralizedLinear("square", target="linear", alpha=2.0, weight_decay=0.1, noise=0.1)
>>> round(float(problem.solve()["test_mse_noisy"]), 6)
0.184429
"""

import importlib

__version__ = "0.1.0"

_MODULES = ("figures", "finite", "laws", "limit", "losses", "names", "numerics", "plotting", "problems", "studies")

# Public name -> the module that holds it.
_NAMES = {
    "GeneralizedLinear": "problems",
    "LearningCurve": "problems.learning_curve",
    "Loss": "losses.base",
    "SequenceProblem": "problems",
    "Solution": "problems",
    "Trials": "finite",
    "compare": "problems.compare",
    "find_transition": "problems",
    "sweep": "studies.sweep",
}

__all__ = ["__version__", *_MODULES, *_NAMES]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        value = getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
