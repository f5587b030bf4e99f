"""Laws of the data: what the inputs look like, in the limit (overlaps) and at finite size (instances)."""

from quenched.laws import nodes
from quenched.laws.base import Conjugates, Instance, Labels, Law, Overlaps, Population
from quenched.laws.construct import from_data, mixture, sequence, single, with_free_mean
from quenched.laws.dense import DenseTokens
from quenched.laws.spectrum import SpectralLaw
from quenched.laws.tokens import SpectralTokens

__all__ = [
    "Conjugates",
    "DenseTokens",
    "Instance",
    "Labels",
    "Law",
    "Overlaps",
    "Population",
    "SpectralLaw",
    "SpectralTokens",
    "from_data",
    "mixture",
    "nodes",
    "sequence",
    "single",
    "with_free_mean",
]
