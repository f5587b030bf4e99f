"""Laws of the data: what the inputs look like, in the limit (overlaps) and at finite size (instances)."""

from quenched.laws import nodes
from quenched.laws.activation import Activation, Coefficients, coefficients, hermite
from quenched.laws.base import Conjugates, Instance, Labels, Law, Overlaps, Population
from quenched.laws.construct import from_data, mixture, sequence, single, with_free_mean
from quenched.laws.dense import DenseTokens
from quenched.laws.features import FeatureLaw
from quenched.laws.gradient_step import Spikes, gradient_step
from quenched.laws.index import IndexTarget, index_target
from quenched.laws.layers import DeepNetwork
from quenched.laws.measured import FewSamplesWarning, Outliers, law_from_samples, law_from_weights, weight_outliers
from quenched.laws.network import LowRankWarning, Measured, Moments, Network, measured_moments
from quenched.laws.pairs import covariance, slopes
from quenched.laws.schedule import Schedule
from quenched.laws.spectrum import SpectralLaw
from quenched.laws.spiked import SpikedFeatures
from quenched.laws.tokens import SpectralTokens

__all__ = [
    "Activation",
    "Coefficients",
    "Conjugates",
    "DeepNetwork",
    "DenseTokens",
    "FeatureLaw",
    "FewSamplesWarning",
    "IndexTarget",
    "Instance",
    "Labels",
    "Law",
    "LowRankWarning",
    "Measured",
    "Moments",
    "Network",
    "Outliers",
    "Overlaps",
    "Population",
    "Schedule",
    "SpectralLaw",
    "SpectralTokens",
    "SpikedFeatures",
    "Spikes",
    "coefficients",
    "covariance",
    "from_data",
    "gradient_step",
    "hermite",
    "index_target",
    "law_from_samples",
    "law_from_weights",
    "measured_moments",
    "mixture",
    "nodes",
    "sequence",
    "single",
    "slopes",
    "weight_outliers",
    "with_free_mean",
]
