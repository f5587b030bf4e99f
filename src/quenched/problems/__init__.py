"""Problems: one file each, their law, loss, parameters and observables."""

from .attention import Attention
from .autoencoder import DenoisingAutoencoder
from .base import Problem, SolveError, SolveWarning
from .bayes_deep import BayesOptimalDeep
from .committee import Committee, PhaseRetrieval
from .continuation import follow
from .deep_features import DeepFeatures
from .flow_from_mixture import FlowFromMixture
from .flow_from_samples import FlowFromSamples
from .frozen_features import Diagnosis, diagnose_features
from .generalized_linear import GeneralizedLinear
from .landscape import Landscape, landscape
from .many import solve_many
from .mixture import MixtureClassification
from .one_step import ApproximationWarning, OneGradientStep
from .online_diffusion import OnlineDiffusion
from .quadratic_network import QuadraticNetwork
from .sequence import SequenceProblem
from .siamese import Siamese
from .solution import Solution
from .transition import Spinodal, Transition, find_transition
from .tuning import Tuned

__all__ = [
    "ApproximationWarning", "Attention", "BayesOptimalDeep", "Committee", "DeepFeatures", "DenoisingAutoencoder", "Diagnosis",
    "FlowFromMixture", "FlowFromSamples", "GeneralizedLinear", "Landscape", "MixtureClassification", "OneGradientStep",
    "OnlineDiffusion", "PhaseRetrieval", "Problem", "QuadraticNetwork", "SequenceProblem", "Siamese", "Solution", "SolveError",
    "SolveWarning", "Spinodal", "Transition", "Tuned", "diagnose_features", "find_transition", "follow", "landscape", "solve_many",
]
