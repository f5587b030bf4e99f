"""A network trained by Adam on a plain sample: what it learns that its kernel does not, and what it refuses."""

import numpy as np
import pytest

from quenched.finite.learners import KernelRegression
from quenched.finite.network_learner import TrainedNetwork
from quenched.laws.kernel import DeepKernel


def test_a_trained_network_learns_one_unit_from_few_samples():
    """|x_1|, all degrees of which it knows of one direction: the kernel of its own start knows of none."""
    rng = np.random.default_rng(0)
    x, fresh = rng.standard_normal((2, 600, 8))
    y, truth = np.abs(x[:, 0]), np.abs(fresh[:, 0])
    learner = TrainedNetwork(4.0, "relu", steps=1000)
    learnt, again = learner(x, y, 0), learner(x, y, 0)
    error = np.mean((learnt.predict(fresh) - truth) ** 2)
    kernel = np.mean((KernelRegression(DeepKernel("relu", 2.0), 1e-3)(x, y, 0).predict(fresh) - truth) ** 2)
    assert error < 0.5 * kernel and np.array_equal(learnt.fitted, again.fitted)
    assert np.array_equal(learnt.fitted, learnt.predict(x)) and not np.array_equal(learnt.fitted, learner(x, y, 1).fitted)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: TrainedNetwork(0.0, "relu"), "width_ratio must be positive"),
        (lambda: TrainedNetwork(1.0, "relu", held_out=1.0), "held_out must be"),
        (lambda: TrainedNetwork(1.0, "relu", steps=0), "steps must be a whole number"),
        (lambda: TrainedNetwork(1.0, "relu")(np.ones((1, 3)), np.ones(1), 0), "samples must be two or more"),
    ],
)
def test_a_trained_network_refuses(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_a_trained_network_that_diverges_says_so():
    x = np.random.default_rng(0).standard_normal((50, 3))
    with pytest.raises(FloatingPointError, match="learning_rate must be smaller"):
        TrainedNetwork(2.0, "relu", learning_rate=1e30)(x, x[:, 0], 0)
