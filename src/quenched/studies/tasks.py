"""What a study does at a point, as functions that run anywhere: in this process, in another, on another machine."""

from __future__ import annotations

import warnings

from ..problems.continuation import Branch
from ..problems.solution import Solution
from .limits import limited
from .records import Trial


def solve_block(problems, options: dict) -> list:
    """The solution of each problem, or the exception with which it refused; in one program where that is possible."""
    from ..problems import solve_many

    try:
        return solve_many(problems, **options)
    except Exception as error:
        if len(problems) == 1:
            return [error]
    return [solve_block([problem], options)[0] for problem in problems]  # one of them refuses: which?


#: Points of theory, for every core, that are solved before they are stored.
BLOCK = 8


class Lost(RuntimeError):
    """A branch that was followed is not found here."""


class Walk:
    """One branch along a parameter, point by point: see :func:`quenched.problems.follow`."""

    def __init__(self, problem, along: str, options: dict):
        rest = {name: value for name, value in options.items() if name != "init"}
        self.branch = Branch(problem, along, options.get("init"), rest)

    def resume(self, path, x: float) -> bool:
        """Go on from the solution at ``x`` that was saved in ``path``; False, with a warning, where that is damaged."""
        try:
            self.branch.found[x] = Solution.load(path, self.branch.problem.replace(**{self.branch.over: x}))
        except Exception as error:
            warnings.warn(f"{path} cannot be read ({type(error).__name__}), and is solved again", stacklevel=2)
            return False
        return True

    def at(self, x: float):
        """The solution at ``x``, or the exception that came instead."""
        try:
            return self.branch.at(x) or Lost(self.branch.lost[x])
        except Exception as error:
            return error


def simulate(problem, settings: dict, seeds: list, point: str, seconds: float) -> list[Trial]:
    """Trials of these seeds side by side; what they raise is raised, also :class:`~quenched.studies.limits.OutOfTime`."""
    from threadpoolctl import threadpool_limits

    # Seeds side by side, each on one thread: threads within small matrix products cost more than they save.
    def call():  # filters are set where they are set back, also by what has run out of time and goes on
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return problem.simulate(**{"n_jobs": len(seeds), **settings, "seeds": seeds})

    with threadpool_limits(limits=1, user_api="blas"):
        return Trial.all_of(point, limited(call, seconds))


def packed(problem, settings: dict) -> tuple:
    """The call of :func:`simulate` with its arguments packed, for another process."""
    import cloudpickle

    return (simulate_packed, cloudpickle.dumps((problem, settings)))


def simulate_packed(packed: bytes, seeds: list, point: str, seconds: float) -> list[Trial]:
    """:func:`simulate` of a problem and settings that were packed by ``cloudpickle``, functions of a notebook included."""
    import cloudpickle

    problem, settings = cloudpickle.loads(packed)
    return simulate(problem, settings, seeds, point, seconds)
