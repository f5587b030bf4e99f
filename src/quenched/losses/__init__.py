"""What is minimised: named losses, any JAX loss, responses, Moreau envelopes."""

from .base import Loss
from .named import NAMED, absolute, as_loss, hinge, huber, logistic, softmax, square
from .response import Additive, Finite, Flip, Link, NoiseMixture, Probit, Response, Sign

__all__ = [
    "NAMED",
    "Additive",
    "Finite",
    "Flip",
    "Link",
    "Loss",
    "NoiseMixture",
    "Probit",
    "Response",
    "Sign",
    "absolute",
    "as_loss",
    "hinge",
    "huber",
    "logistic",
    "softmax",
    "square",
]
