"""What is minimised: named losses, any JAX loss, responses, Moreau envelopes."""

from .base import Loss
from .named import NAMED, absolute, as_loss, hinge, huber, logistic, softmax, square
from .response import Additive, Finite, Flip, Link, Probit, Response, Sign

__all__ = [
    "NAMED",
    "Additive",
    "Finite",
    "Flip",
    "Link",
    "Loss",
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
