"""The experiment of one large gradient step on the first layer: exact gradients, groups, drawn models, and trained readouts."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quenched.finite.one_step import (
    Training,
    feature_eigenvalues,
    first_layer,
    group_sizes,
    population_gradient,
    simulate,
    spiked_layer,
)
from quenched.losses import as_loss
from quenched.losses.response import Additive

ONE = np.ones(1)


def sine(z):
    return jnp.sin(z[:, 0])


def tanh_and_square(z):
    return jnp.tanh(z[:, 0]) + 0.5 * (z[:, 0] ** 2 - 1.0)


def two_directions(z):
    return jnp.sin(z[:, 0]) + 0.7 * z[:, 0] * z[:, 1] + 0.3 * jnp.cos(z[:, 1])


def sign(z):
    return jnp.sign(z[:, 0])


def shifted_sine(z):
    return jnp.sin(z + 0.4)


def clean_mse(h, target):
    return (h[0, 0] - target[0, 0]) ** 2


def noisy_mse(h, label):
    return (h[0, 0] - label) ** 2


TANH = Training(jnp.tanh, sine, 1, ONE, ONE, 3.0, 20.0, 1.0, 0.0)
RELU = Training(jax.nn.relu, tanh_and_square, 1, np.array([1.0, -0.5]), np.array([0.5, 0.5]), 1.5, np.inf, 1.0, 0.0)


@pytest.mark.parametrize("alpha0", [2.0, np.inf])
def test_no_step_leaves_the_rows(alpha0):
    layer = first_layer(TANH._replace(learning_rate=0.0, alpha0=alpha0), 60, 3)
    np.testing.assert_array_equal(layer.weights, layer.start)
    np.testing.assert_allclose(np.linalg.norm(layer.weights, axis=1), 1.0, rtol=1e-14)
    assert abs(layer.measured["bulk_variance"][0] - 1.0) < 0.01


def exact_gradient(training, rows, directions, readout):
    """E[(y - f) sigma'(w_i.x) x] by a Gauss-Hermite rule over all inputs, for few dimensions and smooth functions."""
    p, d = rows.shape
    z, weight = np.polynomial.hermite_e.hermegauss(30)
    x = np.array(list(itertools.product(z, repeat=d)))
    weight = np.prod(list(itertools.product(weight / weight.sum(), repeat=d)), axis=1)
    fields = x @ rows.T
    residual = np.asarray(training.target(x @ directions.T)) - np.asarray(training.activation(fields)) @ readout / p
    return (weight * residual * np.asarray(jax.vmap(jax.vmap(jax.grad(training.activation)))(fields)).T) @ x


@pytest.mark.parametrize(
    ("target", "count", "tol"), [(sine, 1, 1e-7), (lambda z: jnp.sin(z[:, 0] + 0.3) + z[:, 1] ** 2 * z[:, 0], 2, 1e-5)]
)
def test_population_gradient_equals_a_rule_over_all_inputs(target, count, tol, x64):
    """Rows which overlap strongly with each other and with the directions, an activation of both parities."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((4, 3))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    directions = np.linalg.qr(rng.standard_normal((3, count)))[0].T
    readout = np.array([1.0, -0.5, 2.0, 0.3])
    training = TANH._replace(activation=shifted_sine, target=target, directions=count)
    found, _ = population_gradient(training, rows, directions, readout)
    np.testing.assert_allclose(found, exact_gradient(training, rows, directions, readout), atol=tol)


@pytest.mark.parametrize(("target", "count"), [(tanh_and_square, 1), (two_directions, 2)])
def test_population_gradient_is_that_of_a_large_sample(target, count):
    """relu at d = 20: the difference is the sampling error, in size and along the rows and the directions."""
    training = RELU._replace(target=target, directions=count, noise=0.3)
    infinite = first_layer(training, 20, 1)
    large = first_layer(training._replace(alpha0=10_000.0), 20, 1)
    np.testing.assert_array_equal(large.start, infinite.start)
    difference = large.weights - infinite.weights
    step = 1.5 * np.array([1.0, -0.5])[large.groups]
    # E[(y - f)^2 sigma'^2] is about half of E[y^2], for a half of the inputs: the order of the error, from the sample itself
    size = np.abs(step) * np.sqrt(0.5 * 2.0 / 200_000)
    assert 0.3 < np.sqrt(np.mean((difference / size[:, None]) ** 2)) < 2.0
    for vector in infinite.directions:
        along = difference @ vector / size
        assert abs(along.mean()) < 4.0  # errors are shared by neurons
    assert np.all(np.abs(np.sum(difference * infinite.start, axis=1)) < 8.0 * size)


def test_group_sizes_sum_to_the_width():
    for p, probabilities in itertools.product((3, 10, 101, 560), ([1.0], [0.4, 0.6], [1 / 3, 1 / 3, 1 / 3])):
        sizes = group_sizes(probabilities, p)
        assert sizes.sum() == p and np.all(np.abs(sizes - p * np.array(probabilities)) < 1.0)
    with pytest.raises(ValueError, match="every value of the readout must have a neuron"):
        group_sizes([0.01, 0.99], 10)


@pytest.mark.parametrize("alignment", [[0.9], [1.0], [0.0], [0.6, -0.3, 0.2], [1.0, 0.0, 0.0]])
def test_inner_products_of_a_spiked_layer(alignment):
    layer = spiked_layer(
        40, (2, 1), spikes=[1.2, -0.6], scales=[1.1, -0.9], alignment=alignment, width_ratio=0.7, readout_probabilities=[0.4, 0.6],
        unit_rows=True,
    )  # fmt: skip
    theta, v = layer.directions, layer.spike_direction
    np.testing.assert_allclose(theta @ theta.T, np.eye(len(alignment)), atol=1e-12)
    np.testing.assert_allclose(theta @ v, alignment, atol=1e-12)
    np.testing.assert_allclose(layer.measured["alignment"], alignment, atol=1e-12)
    spike, scale = np.array([1.2, -0.6])[layer.groups], np.array([1.1, -0.9])[layer.groups]
    np.testing.assert_allclose((layer.weights - np.outer(spike, v)) / scale[:, None], layer.start)
    np.testing.assert_allclose(layer.weights @ v, spike + scale * layer.nu)
    assert layer.zeta.shape == (28, len(alignment) - (np.sum(np.square(alignment)) == 1.0))
    # the coordinates along v and zeta hold all of the projection of omega on the directions
    inside = np.linalg.qr(np.vstack([v, theta]).T)[0][:, : 1 + layer.zeta.shape[1]].T
    total = layer.nu**2 + np.sum(layer.zeta**2, axis=1)
    assert alignment[0] == 1.0 or np.allclose(total, np.sum((layer.start @ inside.T) ** 2, axis=1))


def test_the_step_measures_the_spike():
    """tanh, sin, s = 3, alpha0 = 20: r = 1.134, c = 1.019, gamma = 0.972."""
    layers = [first_layer(TANH, 150, seed) for seed in range(4)]
    for name, value, error in (("spike", 1.13406, 0.03), ("bulk_variance", 1.01897, 0.02), ("alignment", 0.97185, 0.008)):
        assert abs(np.mean([layer.measured[name] for layer in layers]) - value) < error
    layer = layers[0]
    rest = layer.directions[0] - layer.measured["alignment"][0] * layer.spike_direction
    along = (layer.weights @ rest) / np.linalg.norm(rest) / np.sqrt(layer.measured["bulk_variance"][0])
    np.testing.assert_allclose(layer.zeta[:, 0], along)
    assert abs(layer.nu.mean()) < 1e-12 and abs(150 * layer.nu.var() - 1.0) < 0.5


def test_a_negative_slope_flips_the_spike():
    layer = first_layer(TANH._replace(target=lambda z: -jnp.sin(z[:, 0])), 100, 0)
    assert layer.measured["alignment"][0] > 0.9 and layer.measured["spike"][0] < -0.9


def test_two_directions_have_one_spike():
    layer = first_layer(RELU._replace(target=two_directions, directions=2), 100, 0)
    np.testing.assert_allclose(layer.measured["alignment"], [1.0, 0.0], atol=1e-6)
    assert layer.zeta.shape == (100, 1)
    finite = first_layer(RELU._replace(target=two_directions, directions=2, alpha0=5.0), 100, 0)
    assert finite.zeta.shape == (100, 2)
    basis = np.vstack([finite.spike_direction, finite.directions])
    assert np.linalg.matrix_rank(basis) == 3


def test_what_a_trial_reports():
    make = {seed: first_layer(RELU, 60, seed) for seed in range(2)}
    trials = simulate(
        make.get, jax.nn.relu, tanh_and_square, as_loss("square"), 0.5, alpha=2.0, weight_decay=0.1, dim=60, seeds=2,
        observables={"test_mse": clean_mse, "test_mse_noisy": noisy_mse}, test_samples=4000, settings={"case": "relu"},
    )  # fmt: skip
    shapes = {name: value.shape[1:] for name, value in trials.values.items()}
    assert shapes == {
        "Q": (), "m": (2,), "theta": (2,), "spike": (2,), "bulk_variance": (2,), "alignment": (1,), "train_loss": (),
        "free_energy": (), "test_mse": (), "test_mse_noisy": (),
    }  # fmt: skip
    assert trials.n == 120 and trials.settings == {"case": "relu"}
    added = trials["test_mse_noisy"].values - trials["test_mse"].values
    assert np.all(np.abs(added - 0.5) < 0.2)
    again = simulate(
        make.get, jax.nn.relu, tanh_and_square, as_loss("square"), Additive(0.5), alpha=2.0, weight_decay=0.1, dim=60, seeds=2
    )
    np.testing.assert_allclose(again["m"].values, trials["m"].values)


def test_labels_of_classes():
    """The clean outcome is the label, and the logistic loss takes it."""
    layer = spiked_layer(80, 0, spikes=[1.0], scales=[1.0], alignment=[0.8], width_ratio=1.0)
    trials = simulate(
        lambda seed: layer, jnp.tanh, sign, as_loss("logistic"), alpha=3.0, weight_decay=0.1, dim=80, seeds=2,
        observables={"test_error": lambda h, label: label * h[0, 0] < 0}, test_samples=2000,
    )  # fmt: skip
    assert 0.1 < trials["test_error"].mean < 0.3 and trials["psi"].mean.shape == (1, 1) and trials["psi"].mean > 0.0


def test_eigenvalues_of_the_features():
    layer = spiked_layer(
        100, 0, spikes=[1.5, -1.5], scales=[1.0, 1.0], alignment=[1.0], width_ratio=1.0, readout_probabilities=[0.5, 0.5]
    )
    values, indicators, nu = feature_eigenvalues(layer, jnp.tanh, 300, top=2)
    assert np.all(np.diff(values) <= 0.0) and values[0] > 10.0 * values[1] and values[-1] > -1e-10
    np.testing.assert_allclose(indicators[0], [0.5, 0.5], atol=0.05)
    assert indicators.shape == nu.shape == (2, 2) and np.all(nu <= 1.0)
    np.testing.assert_allclose(feature_eigenvalues(layer, jnp.tanh, 300), values, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"alpha0": 0.0}, "alpha0 must be positive"), ({"noise": -1.0}, "noise must be non-negative"),
        ({"readout_probabilities": np.array([0.5])}, "readout_probabilities must"),
        ({"target": 2.0}, "target must be a JAX function"),
        ({"readout_values": np.ones(2)}, "readout_values must"), ({"directions": 0}, "directions must be a whole number"),
        ({"target": lambda z: z}, "one number for each"), ({"directions": 50}, "dim must be at least"),
    ],
)  # fmt: skip
def test_refusals(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        first_layer(TANH._replace(**change), 20, 0)


def test_a_spike_cannot_be_aligned_more_than_fully():
    with pytest.raises(ValueError, match="alignment must have a norm of at most 1"):
        spiked_layer(20, 0, spikes=[1.0], scales=[1.0], alignment=[0.9, 0.9], width_ratio=1.0)


def found(training, dim, seeds, **options):
    trials = simulate(
        lambda seed: first_layer(training, dim, seed), training.activation, training.target, as_loss("square"), dim=dim,
        seeds=seeds, observables={"test_mse": clean_mse}, **options,
    )  # fmt: skip
    return trials.map(lambda row: {**row, "train_mse": 2.0 * row["train_loss"]})


def test_a_small_experiment():
    """relu after a step of the population, where channels of order 1/sqrt(d) change the error by a third: 0.428 and 0.219."""
    training = RELU._replace(readout_values=ONE, readout_probabilities=ONE)
    trials = found(training, 200, 6, alpha=2.0, weight_decay=0.1, test_samples=4000)
    for name, value in (("test_mse", 0.4283), ("train_mse", 0.2188), ("m", -0.3314)):
        estimate = trials[name]
        assert abs(np.squeeze(estimate.mean) - value) < 3.5 * np.squeeze(estimate.standard_error) + 0.02


#: Name: training, alpha, weight_decay, and test mse, train mse with the standard errors of published means at d = 1000.
CASES = {
    "no step": (TANH._replace(learning_rate=0.0), 1.6, 0.1, (0.2593, 0.0036), (0.0912, 0.0016)),
    "tanh": (TANH, 1.6, 0.1, (0.03592, 0.00024), (0.0182, 0.0004)),
    "population": (TANH._replace(alpha0=np.inf), 1.6, 0.1, (0.02194, 0.00014), (0.0150, 0.0006)),
    "two steps": (
        TANH._replace(readout_values=np.array([1.0, -1.0]), readout_probabilities=np.full(2, 0.5), learning_rate=1.5, alpha0=2.0),
        1.5, 0.05, (0.1443, 0.0022), (0.0413, 0.0005),
    ),
    "relu": (RELU._replace(readout_values=ONE, readout_probabilities=ONE), 2.0, 0.1, (0.4273, 0.0025), (0.2186, 0.0034)),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_published_simulations(name):
    training, alpha, weight_decay, *numbers = CASES[name]
    trials = found(training, 600, 6, alpha=alpha, weight_decay=weight_decay)
    for key, (value, error) in zip(("test_mse", "train_mse"), numbers, strict=True):
        estimate = trials[key]
        # the last part: corrections of O(1/d) between the two sizes
        assert abs(float(estimate.mean) - value) < 3.5 * np.hypot(float(estimate.standard_error), error) + 0.005 * value
