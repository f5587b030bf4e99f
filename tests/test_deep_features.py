"""Readouts on deep random features: the published tables, the closed form, limits, and trainings on actual networks."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import ndtr

import quenched as qn
from quenched.finite import features
from quenched.laws import DeepNetwork, FeatureLaw, LowRankWarning, Network
from quenched.limit.feature_ridge import feature_ridge, infinitely_wide
from quenched.numerics.resolvent import Chain
from quenched.problems import DeepFeatures

RAINBOW = [np.tile([0.5, 1.5], 200), np.r_[np.full(125, 2.5), np.full(375, 0.5)]]


def net(widths, activations, d=400, **parameters):
    return DeepNetwork((d, *widths), activations, **parameters)


#: Name: learner, target, n, weight_decay, noise, more, and published test mse, train mse, |w|^2 / p, kappa (d = 400).
RIDGE = {
    "A": (net([600], "tanh"), net([500], "sign"), 800, 0.1, 0.0, {}, (0.679020, 0.238723, 1.373472, 0.126490)),
    "B": (net([600, 500], "tanh"), net([500], "sign"), 600, 0.01, 0.1, {}, (1.123724, 0.201291, 9.470191, 0.020547)),
    "C": (
        net([600, 450, 600], "erf"), net([500, 400], ("tanh", "erf")), 500, 0.001, 0.05, {},
        (0.570530, 0.009417, 11.816673, 0.009741),
    ),
    "D": (net([500], "relu"), net([500], "tanh"), 800, 0.05, 0.1, {}, (0.336551, 0.116630, 1.167414, 0.060459)),
    "E": (net([500], "sign"), net([400], "sign"), 600, 0.2, 0.0, {}, (1.088814, 0.217880, 0.661826, 0.372577)),
    "F": (net([500, 450], "relu"), net([500], "relu"), 700, 0.02, 0.05, {}, (0.408957, 0.137126, 2.624954, 0.023522)),
    "G": (
        net([500, 450], "tanh", biases=0.5), net([500], "sign"), 700, 0.02, 0.05, {},
        (0.976836, 0.344175, 6.985473, 0.022208),
    ),
    "all layers shared": (
        net([500, 450], "tanh"), net([500, 450], "tanh"), 600, 0.05, 0.1, {"shared": 2}, (0.054953, 0.054212, 0.676338, None),
    ),
    "one layer shared": (
        net([500, 450], "tanh"), net([500, 400], ("tanh", "erf")), 600, 0.05, 0.1, {"shared": 1},
        (0.126729, 0.079323, 0.953753, None),
    ),
    "rainbow": (
        net([500, 450], ("tanh", "erf"), weight_covariances=RAINBOW), net([450], "sign"), 600, 0.02, 0.1,
        {"spectrum": np.linspace(0.3, 1.7, 400)}, (1.019086, 0.290485, 6.148595, 0.029442),
    ),
}  # fmt: skip


def ridge_problem(name, **changes):
    learner, target, n, weight_decay, noise, more, _ = RIDGE[name]
    problem = DeepFeatures(learner, target, "square", alpha=n / 400, weight_decay=weight_decay, noise=noise, **more)
    return problem.replace(**changes) if changes else problem


@pytest.mark.parametrize("name", RIDGE)
def test_ridge_as_published(name):
    found, want = ridge_problem(name).ridge(), RIDGE[name][-1]
    for value, number in zip((found.test_mse, found.train_mse, found.norm, found.kappa), want, strict=True):
        assert number is None or abs(value - number) < 1.1e-6 * max(1.0, number)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("name", ["G", "one layer shared", "rainbow"])
def test_the_engine_and_the_closed_form_agree(name):
    problem = ridge_problem(name)
    closed, solution = problem.ridge(), problem.solve(tol=1e-11)
    assert solution.result
    for key, value in (("test_mse", closed.test_mse), ("test_mse_noisy", closed.test_mse_noisy), ("train_mse", closed.train_mse)):
        np.testing.assert_allclose(solution[key], value, rtol=1e-8)
    for key in ("q", "theta", "V"):
        np.testing.assert_allclose(solution[key], getattr(closed, key), rtol=1e-8)
    np.testing.assert_allclose(solution["Q"], closed.norm, rtol=1e-8)


def shifted(y, mean, cov):
    return ndtr(y * (mean[0, 0] + 0.4) / jnp.sqrt(cov[0, 0, 0] + 0.09))


#: Name: learner, target, loss, n, weight_decay, response, and published error, training loss, |w|^2 / p, V, q, m (d = 300).
CONVEX = {
    "L1": (
        net([400], "tanh", 300), net([450], "sign", 300), "logistic", 600, 0.1, None,
        (0.344788, 0.398852, 2.427676, 1.604106, 1.315475, 0.537362),
    ),
    "L2": (
        net([400, 350], ("erf", "tanh"), 300), net([450], "tanh", 300), "logistic", 900, 0.01, None,
        (0.283450, 0.293716, 32.090894, 2.700888, 5.485857, 0.925141),
    ),
    "L3": (
        net([450, 400, 350], "erf", 300), net([450, 400], ("erf", "tanh"), 300), "logistic", 600, 0.02, qn.losses.Flip(0.05),
        (0.366957, 0.378575, 11.381707, 2.235055, 2.531140, 0.364645),
    ),
    "L4": (
        net([400], "relu", 300), net([450], "tanh", 300), "logistic", 750, 0.05, qn.losses.Finite([-1.0, 1.0], shifted),
        (0.267214, 0.287186, 5.680350, 2.572087, 2.197646, 0.481276),
    ),
    "L5": (
        net([400], "sign", 300), net([450], "sign", 300), "logistic", 600, 0.05, None,
        (0.394068, 0.252239, 5.268374, 5.812058, 5.086462, 0.736784),
    ),
    "H1": (
        net([400], "tanh", 300), net([450], "sign", 300), "hinge", 600, 0.1, None,
        (0.347184, 0.276189, 3.709121, 0.965197, 1.511079, 0.567738),
    ),
    "H2": (
        net([400, 350], ("erf", "tanh"), 300), net([450], "tanh", 300), "hinge", 900, 0.02, None,
        (0.290629, 0.254222, 20.315619, 1.038952, 2.929169, 0.657006),
    ),
    "S1": (
        net([400], "tanh", 300), net([450], "sign", 300), "square", 600, 0.1, "sign",
        (0.341774, 0.175583, 1.457011, 0.645420, 0.475465, 0.328815),
    ),
}  # fmt: skip


def convex_problem(name):
    learner, target, loss, n, weight_decay, response, _ = CONVEX[name]
    intercept = name == "L4"
    return DeepFeatures(learner, target, loss, n / 300, weight_decay, response=response, intercept=intercept)


MORE = [pytest.param(name, marks=pytest.mark.thorough) for name in ("L1", "L2", "L3", "L5", "H1", "S1")]


@pytest.mark.parametrize("name", ["L4", "H2", *MORE])
@pytest.mark.slow
def test_convex_losses_as_published(name):
    solution = convex_problem(name).solve()
    assert solution.result
    found = [float(solution[key]) for key in ("test_error", "train_loss", "Q", "V", "q", "theta")]
    np.testing.assert_allclose(found, CONVEX[name][-1], rtol=1.5e-6, atol=6e-7)
    if name == "L4":
        np.testing.assert_allclose(solution["m"], 1.328273, atol=1e-6)


OUTLIERS = qn.losses.NoiseMixture([0.8, 0.2], [0.05, 4.0])


def half_huber(h, label):
    r = jnp.abs(h - label)
    return jnp.where(r < 0.7, 0.5 * r**2, 0.7 * (r - 0.35))


#: Name: learner, target, loss, n, weight_decay, and published test mse, training loss, |w|^2 / p, V, q, m (d = 300).
ROBUST = {
    "U1": (
        net([400], "tanh", 300), net([450], "tanh", 300), half_huber, 600, 0.1,
        (0.268274, 0.175914, 0.899003, 0.746199, 0.327619, 0.226820),
    ),
    "U2": (
        net([400, 350], ("erf", "tanh"), 300), net([450], "sign", 300), "absolute", 900, 0.1,
        (0.881325, 0.684274, 3.066495, 0.322005, 0.541653, 0.330164),
    ),
}  # fmt: skip


def robust_problem(name):
    learner, target, loss, n, weight_decay, _ = ROBUST[name]
    return DeepFeatures(learner, target, loss, n / 300, weight_decay, response=OUTLIERS)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["U1", "U2"])
@pytest.mark.slow
def test_robust_losses_as_published(name):
    solution = robust_problem(name).solve()
    assert solution.result
    found = [float(solution[key]) for key in ("test_mse", "train_loss", "Q")]
    found += [float(solution[key][0]) for key in ("V", "q", "theta")]
    np.testing.assert_allclose(found, ROBUST[name][-1], rtol=1.5e-6, atol=6e-7)
    np.testing.assert_allclose(solution["test_mse_noisy"] - solution["test_mse"], OUTLIERS.variance, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["U1", pytest.param("U2", marks=pytest.mark.thorough)])
def test_robust_losses_on_actual_networks(name):
    problem = robust_problem(name)
    trials = problem.replace(learner=bigger(problem.learner), target=bigger(problem.target)).simulate(seeds=8, test_samples=4000)
    solution = problem.solve()
    for key in ("test_mse", "train_loss", "Q"):
        estimate, value = trials[key], float(solution[key])
        assert abs(estimate.mean - value) < 3.5 * (estimate.standard_error + 2.0 * value / 400)


@pytest.mark.slow
def test_outliers_belong_to_deep_features():
    with pytest.raises(TypeError, match="DeepFeatures only"):
        qn.SequenceProblem(qn.laws.single(), "square", 1.0, 0.1, response=OUTLIERS).solve()
    square = robust_problem("U2").replace(loss="square", learner=net([400], "tanh", 300))
    np.testing.assert_allclose(square.solve(tol=1e-10)["test_mse"], square.ridge().test_mse, rtol=1e-8)
    with pytest.raises(ValueError, match="variances must be non-negative"):
        qn.losses.NoiseMixture([1.0], [-1.0])


def test_fully_shared_targets_want_a_weight_decay_of_the_noise():
    problem = ridge_problem("all layers shared")
    np.testing.assert_allclose(problem.optimal_ridge(alpha=[0.5, 1.5, 4.0]).weight_decay, 0.1, rtol=1e-6)
    np.testing.assert_allclose(ridge_problem("one layer shared").optimal_ridge().weight_decay, 0.083682, atol=1e-6)
    np.testing.assert_allclose(problem.ridge(weight_decay=0.1).test_mse_noisy, 0.151332, atol=1e-6)


@pytest.mark.parametrize(
    ("depth", "want"),
    [
        (1, (1.11288, 2.03815, 0.95418, 0.98759, 0.80682)), (2, (1.17048, 1.51336, 1.02578, 1.31507, 0.92121)),
        (3, (1.21605, 1.32514, 1.07686, 1.58395, 0.99327)), (6, (1.31025, 1.26632, 1.27519, 2.33472, 1.22572)),
    ],
)  # fmt: skip
def test_depth_regularises_as_published(depth, want):
    network = DeepNetwork(width_ratios=[4.0] * depth, activations=clipped)
    target = DeepNetwork(width_ratios=[4.0], activations="sign")
    problem = DeepFeatures(network, target, "square", alpha=1.0, weight_decay=0.001)
    np.testing.assert_allclose(problem.ridge(alpha=[0.5, 1.0, 2.0, 4.0, 6.0]).test_mse, want, atol=1.1e-5)


@pytest.mark.parametrize(
    ("depth", "decays", "errors"),
    [
        (1, (0.7858, 0.6160, 0.4716, 0.4082, 0.4039), (0.84912, 0.72607, 0.57489, 0.46791, 0.43203)),
        (6, (2.3497, 1.2145, 0.4715, 0.3871, 0.4210), (0.92421, 0.84751, 0.71610, 0.60032, 0.55663)),
    ],
)
def test_optimal_ridge_as_published(depth, decays, errors):
    network = DeepNetwork(width_ratios=[4.0] * depth, activations=clipped)
    target = DeepNetwork(width_ratios=[4.0], activations="sign")
    best = DeepFeatures(network, target, "square", alpha=1.0, weight_decay=1.0).optimal_ridge(alpha=[0.5, 1.0, 2.0, 4.0, 6.0])
    np.testing.assert_allclose(best.weight_decay, decays, atol=6e-5)
    np.testing.assert_allclose(best.ridge.test_mse, errors, atol=6e-6)


@pytest.mark.parametrize("name", ["A", "C", "F", "rainbow"])
def test_no_number_is_missing_at_any_ridge(name):
    """From interpolation to nothing learnt, with more and with fewer samples than features."""
    problem = ridge_problem(name)
    found = problem.ridge(alpha=np.array([0.2, 1.0, 1.5, 3.0, 1e9])[:, None], weight_decay=np.geomspace(1e-10, 1e8, 61))
    for value in found:
        assert np.all(np.isfinite(value))
    assert np.all(np.diff(found.kappa[:-1], axis=1) > 0.0)
    np.testing.assert_allclose(found.test_mse[:-1, -1], float(problem.law.rho), rtol=1e-6)


def clipped(x):
    return 1.1 * jnp.sign(x) * jnp.minimum(jnp.abs(x), 2.0)


@pytest.mark.parametrize(("activations", "want"), [("tanh", 0.181998), (("tanh", "erf"), 0.119563), ("sign", 0.0)])
def test_the_best_weight_decay_of_infinitely_wide_features(activations, want):
    depth = 1 if isinstance(activations, str) else len(activations)
    wide = DeepNetwork(width_ratios=[3e4] * depth, activations=activations)
    layers = wide.averaged()
    slope2 = np.prod(layers.slope2)
    best = infinitely_wide(slope2, layers.variance[-1] - slope2, 2 / np.pi, 1 - 2 / np.pi)
    np.testing.assert_allclose(best, want, atol=1e-6)
    if want:
        problem = DeepFeatures(wide, DeepNetwork(width_ratios=[1.0], activations="sign"), "square", alpha=2.0, weight_decay=0.1)
        grid = want * np.array([0.98, 1.0, 1.02])
        assert np.argmin(problem.ridge(weight_decay=grid).test_mse) == 1


def test_limits_of_no_ridge():
    problem = ridge_problem("A", noise=0.2)
    chain, rho, p_over_d = problem.law.chain, float(problem.law.rho), 1.5
    below = problem.ridge(alpha=1.0, weight_decay=0.0)  # n < p: interpolation
    np.testing.assert_allclose([below.df1 * p_over_d, below.train_mse], [1.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(below.test_mse, problem.ridge(alpha=1.0, weight_decay=1e-9).test_mse, rtol=1e-6)
    above = problem.ridge(alpha=3.0, weight_decay=0.0)  # n > p: least squares
    missed = rho - float(np.asarray(problem.ridge(alpha=1e9, weight_decay=1e-9).theta))
    np.testing.assert_allclose(above.test_mse_noisy, (0.2 + missed) / (1.0 - p_over_d / 3.0), rtol=1e-6)
    np.testing.assert_allclose(above.train_mse, (0.2 + missed) * (1.0 - p_over_d / 3.0), rtol=1e-6)
    np.testing.assert_allclose(problem.ridge(alpha=1e9, weight_decay=1e-9).test_mse, missed, rtol=1e-6)
    assert problem.ridge(alpha=1.5, weight_decay=1e-10).test_mse > 100.0  # the peak at n = p
    assert isinstance(chain, Chain)


@pytest.mark.slow
def test_linear_features_are_linear_regression():
    linear = DeepFeatures(DeepNetwork(width_ratios=()), None, "square", alpha=2.0, weight_decay=0.1, noise=0.1)
    want = qn.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve()
    np.testing.assert_allclose(linear.ridge().test_mse_noisy, want["test_mse_noisy"], rtol=1e-10)
    spectrum = np.array([0.2, 1.0, 3.0])
    bent = DeepFeatures(DeepNetwork(width_ratios=()), None, "logistic", alpha=2.0, weight_decay=0.1, spectrum=spectrum)
    other = qn.GeneralizedLinear("logistic", "sign", alpha=2.0, weight_decay=0.1, spectrum=spectrum)
    np.testing.assert_allclose(bent.solve()["test_error"], other.solve()["test_error"], rtol=1e-7)


@pytest.mark.slow
def test_given_weights_agree_with_the_average():
    """One draw at d = 800 is close to the average over draws, with shared layers, biases and means."""
    for learner, target, shared in (
        (net([900, 700], "tanh", 800), net([900, 600], ("tanh", "erf"), 800), 1),
        (net([900], "relu", 800), net([700], "tanh", 800), 0),
        (net([900, 700], "tanh", 800, biases=0.5), net([700], "sign", 800), 0),
    ):
        problem = DeepFeatures(learner, target, "square", alpha=1.2, weight_decay=0.05, noise=0.05, shared=shared)
        one = problem.instance(seed=1)
        assert isinstance(one.learner, Network) and one.law.free == problem.law.free
        np.testing.assert_allclose(one.ridge().test_mse, problem.ridge().test_mse, rtol=0.06)
        np.testing.assert_allclose(one.ridge().df1, problem.ridge().df1, rtol=0.01)
        averaged = dataclasses.replace(one, readout=None)
        np.testing.assert_allclose(averaged.ridge().test_mse, problem.ridge().test_mse, rtol=0.03)


@pytest.mark.slow
def test_neighbours_share_the_law_of_their_features():
    one = ridge_problem("A").instance(seed=0)
    assert one.replace(alpha=3.0).law is one.law and one.replace(intercept=True).law is not one.law
    grid = qn.sweep(one, over={"alpha": [1.0, 3.0]})
    np.testing.assert_allclose(grid["test_mse"], one.ridge(alpha=[1.0, 3.0]).test_mse, rtol=1e-6)


def test_moments_of_a_network_against_samples():
    """The neuron-wise recursion, with biases, a mean at depth two and a trained-like row norm."""
    rng = np.random.default_rng(0)
    network = net([260, 240], ("relu", "tanh"), 250, biases=0.3).draw(seed=2)
    moments = network.moments(np.linspace(0.5, 1.5, 250))
    scales = np.sqrt(np.linspace(0.5, 1.5, 250))
    measured = qn.laws.measured_moments(network, lambda n: rng.standard_normal((n, 250)) * scales, 40_000)
    assert np.sqrt(np.mean((measured.mean - moments.mean[-1]) ** 2)) < 0.02
    scale = np.sqrt(np.mean(np.diag(moments.covariance[-1]) ** 2))
    assert np.sqrt(np.mean((np.diag(measured.covariance) - np.diag(moments.covariance[-1])) ** 2)) < 0.05 * scale
    assert moments.response[1].shape == (240, 260) and measured.error == 240 / 40_000


def test_few_large_directions_are_warned_of():
    spectrum = 1.0 / np.arange(1, 101.0) ** 2
    with pytest.warns(LowRankWarning, match="effective rank"):
        net([120], "tanh", 100).draw(seed=0).moments(spectrum)


def test_draws_are_reproducible_and_share_layers():
    problem = ridge_problem("one layer shared")
    learner, target, readout, root = problem._networks(None, 3)
    assert np.array_equal(learner.weights[0], target.weights[0]) and not np.array_equal(learner.weights[1][:400], target.weights[1])
    assert np.array_equal(problem._networks(None, 3)[0].weights[1], learner.weights[1])
    np.testing.assert_allclose(np.sum(readout**2), len(readout))
    assert np.array_equal(root, np.ones(400))
    covariance = DeepNetwork((30, 40, 20), "tanh", weight_covariances=[None, lambda before: before[0] @ before[0].T / 30])
    assert covariance.draw(seed=0).widths == (30, 40, 20)
    with pytest.raises(ValueError, match="cannot be averaged out"):
        covariance.averaged()


def test_rows_that_depend_on_earlier_weights():
    """Only given weights are solved for: C_2 = (I + W_1 W_1^T / d) / 2, which the average refuses when it is asked for."""
    learner = net([300, 250], ("tanh", "erf"), 250, weight_covariances=[None, lambda w: 0.5 * (np.eye(300) + w[0] @ w[0].T / 250)])
    problem = DeepFeatures(learner, net([250], "sign", 250), "square", alpha=1.5, weight_decay=0.02, noise=0.1)
    with pytest.raises(ValueError, match="cannot be averaged out"):
        problem.solve()
    trials = problem.simulate(seeds=4, test_samples=3000)
    paired = [float(problem.instance(seed=seed).ridge().test_mse) for seed in range(4)]
    difference = trials["test_mse"].values - paired
    assert abs(difference.mean()) < 3.5 * difference.std(ddof=1) / 2 + 0.02


def test_means_along_structured_rows():
    """relu, then rows of covariance 0.6^|i - j|, which see the constant of the layer before four times over."""
    i = np.arange(250)
    learner = net([250, 220], ("relu", "tanh"), 200, weight_covariances=[None, 0.6 ** np.abs(i[:, None] - i)])
    problem = DeepFeatures(learner, None, "square", 1.5, 0.05, 0.05)
    drawn = [problem.instance(seed=seed).ridge().df1 for seed in range(4)]
    np.testing.assert_allclose(np.mean(drawn), problem.ridge().df1, rtol=0.02)


@pytest.mark.parametrize(("activation", "biases"), [("relu", 10.0), ("relu6", 1.0), ("gelu", 10.0)])
def test_neurons_that_are_switched_off(activation, biases):
    problem = DeepFeatures(net([250, 220], activation, 200, biases=biases), None, "square", 1.5, 0.05, 0.05)
    np.testing.assert_allclose(problem.instance(seed=0).ridge().df1, problem.ridge().df1, rtol=0.05)


def test_rows_that_do_not_see_some_neurons():
    rows = np.r_[np.zeros(60), np.ones(190)]
    problem = DeepFeatures(net([250, 220], "tanh", 200, weight_covariances=[None, rows]), None, "square", 1.5, 0.05, 0.05)
    np.testing.assert_allclose(problem.instance(seed=0).ridge().df1, problem.ridge().df1, rtol=0.02)


def test_what_has_no_linear_part_is_refused_as_a_learner_and_pure_noise_as_a_target():
    with pytest.raises(ValueError, match="no linear part"):
        DeepFeatures(net([200], "quadratic", 200), None, "square", 1.5, 0.05).ridge()
    problem = DeepFeatures(net([200], "tanh", 200), net([200], "quadratic", 200), "square", 1.5, 0.05)
    np.testing.assert_allclose(problem.optimal_ridge().ridge.test_mse, float(problem.law.rho), rtol=1e-4)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_optimal_ridge_in_any_units(size):
    problem = DeepFeatures(net([600], "relu"), net([500], "sign"), "square", 2.0, 0.1, spectrum=np.full(400, size))
    grid = np.geomspace(0.05, 5.0, 2001)
    errors = problem.ridge(weight_decay=size * grid).test_mse
    np.testing.assert_allclose(problem.optimal_ridge().weight_decay / size, grid[np.argmin(errors)], rtol=2e-3)
    assert 0 < np.argmin(errors) < 2000
    shared = ridge_problem("all layers shared", noise=size)
    np.testing.assert_allclose(shared.optimal_ridge().weight_decay, size, rtol=1e-2)


def test_no_ridge_on_features_of_low_rank():
    """Linear features, p = 2 d: rank d, n = 1.5 d; the interpolator is least squares on the inputs."""
    linear = DeepNetwork((200, 400), "linear")
    problem = DeepFeatures(linear, None, "square", 1.5, 0.1, 0.1)
    inputs = DeepFeatures(DeepNetwork((200,)), None, "square", 1.5, 0.1, 0.1)
    want = inputs.ridge(weight_decay=0.0).test_mse
    np.testing.assert_allclose(problem.ridge(weight_decay=0.0).test_mse, want, rtol=1e-6)
    given = problem.instance(seed=0).ridge(weight_decay=[0.0, 1e-8])
    np.testing.assert_allclose(given.test_mse[0], want, rtol=0.02)
    np.testing.assert_allclose(given.norm[0], given.norm[1], rtol=1e-5)


def test_a_layered_chain_knows_what_its_features_hold_of_the_target(x64):
    law = ridge_problem("A").law
    with pytest.raises(ValueError, match="D and A, or chain"):
        FeatureLaw()
    np.testing.assert_allclose(FeatureLaw(chain=law.chain, size=1.5).rho, law.chain(1e-9)[1], rtol=1e-6)


def test_instances_of_given_networks_draw_the_readout_of_a_seed():
    given = ridge_problem("A").instance(seed=0).replace(readout=None)
    one, two = given.instance(seed=1), given.instance(seed=2)
    assert one.learner is given.learner and not np.array_equal(one.readout, two.readout)
    assert np.array_equal(one.readout, given._networks(None, 1)[2])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"spectrum": 2.0}, "spectrum must have the shape"), ({"spectrum": np.ones(100)}, "agree on the input dimension"),
        ({"spectrum": np.zeros(400)}, "spectrum must not be zero"), ({"correlation": [0.5]}, "with the same widths"),
        ({"target": net([500], "sign", 100)}, "agree on the input dimension"), ({"shared": True}, "shared must be a whole number"),
        ({"correlation": 0.5}, "correlation must be a list"),
    ],
)  # fmt: skip
def test_refusals_of_what_does_not_fit(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        ridge_problem("A", **change)


def test_shared_layers_are_the_same_in_all():
    one = ridge_problem("one layer shared").instance(seed=0)
    other = Network(one.target.weights, ("relu", "erf"))
    with pytest.raises(ValueError, match="the same in all"):
        one.replace(target=other)
    rows = DeepNetwork((200, 250), "tanh", weight_covariances=[np.linspace(0.1, 1.9, 200)])
    with pytest.raises(ValueError, match="got a SpectralLaw"):
        DeepFeatures(rows, None, "square", 1.0, 0.1, spectrum=qn.laws.SpectralLaw([0.5, 0.5], [1.0, 2.0]))


def test_matched_layers_generalise_shared_ones():
    """Weights that are the same are a case of correlated ones; independent weights are matched to nothing."""
    shared = ridge_problem("one layer shared").instance(seed=0)
    matched = shared.replace(shared=0, correlation=(1.0,))
    np.testing.assert_allclose(matched.ridge().test_mse, shared.ridge().test_mse, rtol=1e-9)
    independent = DeepFeatures(net([450], "tanh"), net([450], "sign"), "square", 1.75, 0.05, 0.05).instance(seed=0)
    np.testing.assert_allclose(independent.replace(correlation=(0.0,)).ridge().test_mse, independent.ridge().test_mse, rtol=5e-3)
    with pytest.raises(ValueError, match="draw the networks"):
        DeepFeatures(net([450], "tanh"), net([450], "sign"), "square", 1.75, 0.05, correlation=[0.8]).solve()


@pytest.mark.slow
def test_correlated_rows_as_published():
    """tanh(W x) learns sign(V x), V = 0.8 W + 0.6 Z: 0.6476 for given weights, 0.6431(55) in trainings, 20 seeds."""
    problem = DeepFeatures(net([450], "tanh"), net([450], "sign"), "square", 1.75, 0.05, 0.05, correlation=[0.8])
    theory = np.array([float(problem.instance(seed=seed).ridge().test_mse) for seed in range(12)])
    assert abs(theory.mean() - 0.6476) < 0.015  # other draws of weights and readouts
    trials = problem.simulate(seeds=12, test_samples=4000)
    difference = trials["test_mse"].values - theory
    assert abs(difference.mean()) < 3.0 * difference.std(ddof=1) / np.sqrt(12) + 2.0 * 0.65 / 400


def test_a_spectrum_of_few_large_eigenvalues_is_warned_of():
    with pytest.warns(LowRankWarning, match="layer 1 sees a covariance of effective rank"):
        DeepFeatures(net([120], "tanh", 100), None, "square", 1.0, 0.1, spectrum=1.0 / np.arange(1, 101.0) ** 2)


def test_feature_law_of_functions_equals_its_gradient(x64):
    from quenched.laws import Conjugates

    law = FeatureLaw(lambda k: jnp.mean(1 / (1 + k * jnp.array([1.0, 2.0]))), lambda k: 0.4 / (1 + k), size=0.7, rho=0.9)
    hats = Conjugates(*(jnp.full((1,) * n, v) for n, v in ((3, 0.7), (3, 1.3), (2, 0.0), (3, 0.5), (2, 0.2))))
    hats = hats._replace(m_hat=jnp.zeros((0, 1)))
    for mine, general in zip(law.overlaps(hats, 0.3), super(FeatureLaw, law).overlaps(hats, 0.3), strict=True):
        np.testing.assert_allclose(mine, general, rtol=1e-10)


@pytest.mark.slow
def test_a_gradient_and_a_saved_solution(tmp_path):
    problem = ridge_problem("A")
    slope = problem.gradient("test_mse", "weight_decay")
    up, down = (problem.ridge(weight_decay=0.1 + h).test_mse for h in (1e-4, -1e-4))
    np.testing.assert_allclose(slope, (up - down) / 2e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"learner": 3}, "learner must be a DeepNetwork or a Network"), ({"shared": 3}, "shared must be at most"),
        ({"shared": 1}, "shared layers must be the same"), ({"noise": -1.0}, "noise must be non-negative"),
        ({"loss": "cubic"}, "loss must be one of"), ({"loss": "hinge", "response": "linear"}, "outcomes of"),
        ({"response": "poisson"}, "response must be one of"), ({"spectrum": [-1.0, 1.0]}, "spectrum must be non-negative"),
        ({"readout": [1.0]}, "readout must be None"), ({"surrogate": "yes"}, "surrogate must be True or False"),
        ({"alpha": 0.0}, "alpha must be positive"), ({"spectrum": np.ones((2, 2)) * [[1], [2]]}, "spectrum must be"),
    ],
)  # fmt: skip
def test_refusals(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        ridge_problem("A", **change)


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({}, "either widths or width_ratios"), ({"widths": (3, 0)}, "widths must be a whole number"),
        ({"widths": (3, 4), "activations": ("tanh", "erf")}, "activations must hold one for each of the 1 layers"),
        ({"widths": (3, 4), "activations": "tanh", "biases": -1.0}, "biases must be variances"),
        ({"widths": (3, 4), "activations": "tanh", "weight_covariances": [np.ones(4)]}, "must have the size 3"),
        ({"widths": (3, 4), "activations": "swissh"}, "activation must be"),
        ({"width_ratios": [-1.0], "activations": "tanh"}, "width_ratios must be positive"),
    ],
)  # fmt: skip
def test_refused_networks(parameters, sentence):
    with pytest.raises(ValueError, match=sentence):
        DeepNetwork(**parameters)


def test_ridge_needs_the_square_loss_and_dim_where_widths_are_ratios():
    with pytest.raises(ValueError, match="closed form of the square loss"):
        convex_problem("L1").ridge()
    with pytest.raises(ValueError, match="dim must be given"):
        DeepFeatures(DeepNetwork(width_ratios=[1.0], activations="tanh"), None, "square", 1.0, 0.1).simulate()
    with pytest.raises(ValueError, match="weight_decay must be non-negative"):
        feature_ridge(ridge_problem("A").law, 1.0, -0.1)


def deviations(problem, trials, names):
    """(theory - mean) in standard errors, with the finite-size shift of about 1/d of the value beside them."""
    solution = problem.solve()
    assert solution.result
    found = []
    for name in names:
        estimate, value = trials[name], float(solution[name])
        found.append(abs(float(estimate.mean) - value) / (float(estimate.standard_error) + 2.0 * abs(value) / trials.dim))
    return found


@pytest.mark.slow
def test_a_small_experiment_with_actual_networks():
    problem = ridge_problem("D", learner=net([250], "relu", 200), target=net([250], "tanh", 200))
    trials = problem.simulate(seeds=6, test_samples=4000)
    assert max(deviations(problem, trials, ("test_mse", "train_mse", "Q", "q", "theta"))) < 3.5
    surrogate = problem.replace(surrogate=True).simulate(seeds=6, test_samples=4000)
    assert max(deviations(problem, surrogate, ("test_mse", "train_mse", "Q", "q", "theta"))) < 3.5
    paired = [float(problem.instance(seed=seed).ridge().test_mse) for seed in range(6)]
    difference = trials["test_mse"].values - paired
    assert abs(difference.mean()) < 3.5 * difference.std(ddof=1) / np.sqrt(6) + 0.01


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("name", list(RIDGE))
def test_ridge_on_actual_networks(name):
    """Every row of the table, d = 400: within 3 standard errors and the shift of O(1/d)."""
    problem = ridge_problem(name)
    trials = problem.simulate(seeds=12, test_samples=4000)
    found = deviations(problem, trials, ("test_mse", "train_mse", "Q", "q", "theta"))
    assert max(found) <= 3.0, found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["L4", "H2", *MORE])
def test_convex_losses_on_actual_networks(name):
    problem = convex_problem(name)
    problem = problem.replace(learner=bigger(problem.learner), target=bigger(problem.target))
    trials = problem.simulate(seeds=8, test_samples=4000)
    found = deviations(problem, trials, ("test_error", "train_loss", "Q", "q", "theta"))
    assert max(found) <= 3.0, found


def bigger(network):
    """The same ratios at d = 400."""
    return net([round(ratio * 400) for ratio in network.width_ratios], network.activations)


def test_the_mean_of_a_target_is_seen_where_it_vanishes():
    """An odd target has none, exactly; that of another one is averaged."""
    rng, x = np.random.default_rng(0), np.eye(3)
    for fn, want in ((np.tanh, 0.0), (lambda x: np.maximum(x, 0.0), 3.0 / np.sqrt(2.0 * np.pi))):
        setting = features.Setting(lambda x: x, fn, np.full(3, np.sqrt(3.0)), np.diag(x))
        found = features.mean_field(setting, rng)
        assert found == want if want == 0.0 else abs(found - want) < 0.03
