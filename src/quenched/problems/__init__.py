"""Problems: one file each, their law, loss, parameters and observables."""

from .base import Problem, SolveError, SolveWarning, solve_many
from .committee import Committee, PhaseRetrieval
from .generalized_linear import GeneralizedLinear
from .mixture import MixtureClassification
from .sequence import SequenceProblem
from .siamese import Siamese
from .solution import Solution
from .transition import Transition, find_transition, follow
from .tuning import Tuned

__all__ = [
    "Committee", "GeneralizedLinear", "MixtureClassification", "PhaseRetrieval", "Problem", "SequenceProblem", "Siamese",
    "Solution", "SolveError", "SolveWarning", "Transition", "Tuned", "find_transition", "follow", "solve_many",
]
