"""Bayes-optimal learning of deep random networks, and its baselines: identities, limits, published tables, actual networks."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import quenched as qn
from quenched.finite.learners import Classifier, KernelRegression, ProbitMessages, RandomFeatures, Ridge
from quenched.laws import FeatureLaw, SpectralLaw, coefficients, covariance
from quenched.laws.equivalent import seen_inputs
from quenched.laws.kernel import DeepKernel, Numbers
from quenched.limit import deep_students
from quenched.limit.feature_ridge import feature_ridge
from quenched.numerics.resolvent import Chain, Layer
from quenched.problems import BayesOptimalDeep


def tanh2(x):
    return jnp.tanh(2.0 * x)


TWO = SpectralLaw([0.25, 0.75], [3.0, 0.4])
STUDENT = DeepKernel(("erf", "erf"), (3.0, 2.0), 1.5)
RELU = DeepKernel(("relu", "relu"), (2.0, 2.0), 1.0)


def target_a(task="regression", alpha=1.0, d=None, **changes):
    widths = (1.4, 1.4) if d is None else (d, round(1.4 * d), round(1.4 * d))
    return BayesOptimalDeep(widths, tanh2, task, alpha, **changes)


def target_b(task="regression", alpha=1.0, d=None, **changes):
    widths = (0.8, 0.8) if d is None else (d, round(0.8 * d), round(0.8 * d))
    variances = {"weight_variances": (3.0, 2.0), "readout_variance": 1.5}
    return BayesOptimalDeep(widths, "erf", task, alpha, **{"noise": 0.1, "spectrum": TWO, **variances, **changes})


def target_c(alpha=1.5, **changes):
    return BayesOptimalDeep((400, 480, 480), "relu", "regression", alpha, 0.05, weight_variances=2.0, **changes)


def target_d(alpha=2.0):
    return BayesOptimalDeep((400, *[560] * 4), tanh2, "regression", alpha)


# --- the kernel of a network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activations", "want"),
    [
        ((tanh2,), (0.0, 0.5321374689, 0.1031237653)), ((tanh2,) * 2, (0.0, 0.4090945176, 0.1525061196)),
        ((tanh2,) * 3, (0.0, 0.3457008942, 0.1946690435)), ((tanh2,) * 5, (0.0, 0.2641019540, 0.2673465187)),
        ((tanh2,) * 10, (0.0, 0.1408190702, 0.3895536037)), ((tanh2,) * 20, (0.0, 0.0402164605, 0.4901519317)),
        ("relu", (0.1591549431, 0.25, 0.0908450569)), (("relu",) * 2, (0.1234327726, 0.0753894061, 0.0511778214)),
        ("sign", (0.0, 0.6366197724, 0.3633802276)), (("erf", "tanh"), (0.0, 0.2312388582, 0.0306258401)),
    ],
)  # fmt: skip
def test_network_constants(activations, want):
    np.testing.assert_allclose(DeepKernel(activations).numbers(), want, atol=6e-11)


def test_closed_forms_of_constants():
    np.testing.assert_allclose(DeepKernel("relu").numbers(), (0.5 / np.pi, 0.25, 0.25 - 0.5 / np.pi), rtol=1e-12)
    assert DeepKernel(("linear",) * 3, (2.0, 3.0, 0.5), 0.7).numbers(1.3) == (0.0, pytest.approx(2.1), 0.0)
    slope = 4.0 / (np.pi * (1.0 + 2.0 * 3.0))
    np.testing.assert_allclose(DeepKernel("erf", 3.0).numbers().slope, 3.0 * slope, rtol=1e-12)
    np.testing.assert_allclose(target_b().numbers, (0.0, 0.547368, 0.201316), atol=6e-7)


@pytest.mark.slow
def test_numbers_are_value_slope_and_rest_of_the_kernel():
    """By the averages over pairs, which the recursion does not use; at another variance of the inputs."""
    for kernel in (RELU, DeepKernel(("relu", tanh2), (1.5, 0.7))):
        constant, slope, rest = kernel.numbers(1.3)

        def K(t, kernel=kernel):
            r, c = 1.3 * kernel.weight_variances[0], t * kernel.weight_variances[0]
            for sigma, after in kernel._layers():
                r, c = (after * covariance(sigma, sigma, x, (r, r)) for x in (r, c))
            return float(c)

        h = 1e-3
        np.testing.assert_allclose([constant, slope], [K(0.0), (K(h) - K(-h)) / (2.0 * h)], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(constant + 1.3 * slope + rest, K(1.3), rtol=1e-7)
        series = kernel.series(8, 1.3)
        found = [series.terms[0], series.terms[1], series.total]
        np.testing.assert_allclose(found, [constant, 1.3 * slope, K(1.3)], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(np.polyval(series.terms[::-1], 0.1), K(0.13), rtol=1e-7)
        x = np.random.default_rng(0).standard_normal((4, 60))
        gram, G = kernel.weight_variances[0] * x @ x.T / 60, None
        for sigma, after in kernel._layers():
            r = np.diag(gram if G is None else G)
            G = after * covariance(sigma, sigma, gram if G is None else G, (r[:, None], r[None]))
        np.testing.assert_allclose(kernel.matrix(x), G, rtol=1e-7)
        np.testing.assert_allclose(kernel.matrix(x, x[:2])[2:], G[2:, :2], rtol=1e-7, atol=1e-12)


# --- regression ------------------------------------------------------------------------------------------------------------------

POWER = SpectralLaw.power_law(1.2, 100)


@pytest.mark.parametrize("alpha", [0.05, 0.7, 1.0, 2.5, 40.0])
@pytest.mark.parametrize("spectrum", [None, TWO, POWER], ids=["identity", "two", "power"])
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_ridge_at_its_best_is_bayes_optimal(alpha, spectrum, noise):
    problem = target_a(alpha=alpha, spectrum=spectrum, noise=noise)
    best, ridge, kernel = problem.solve(), problem.ridge(), problem.kernel()
    assert best.result and best.stable
    np.testing.assert_allclose(best["test_mse"], ridge.test_mse, atol=1e-10, rtol=0)
    np.testing.assert_allclose(best["test_mse_clean"], kernel.test_mse_clean, atol=1e-10, rtol=0)
    np.testing.assert_allclose([best["test_mse"] - noise, kernel.weight_decay], [best["test_mse_clean"], noise], atol=1e-12)
    assert problem.ridge(ridge.weight_decay * np.array([0.9, 1.1])).test_mse.min() > ridge.test_mse
    kappa = 1.0 / best["q_hat"]  # the page's identity: error = alpha slope kappa
    np.testing.assert_allclose(best["test_mse"], alpha * problem.numbers.slope * kappa, rtol=1e-10)
    for other in (STUDENT, RELU):
        assert problem.kernel(other).test_mse >= ridge.test_mse - 1e-12


@pytest.mark.slow
def test_ridge_by_the_engine():
    problem = target_b(alpha=0.7)
    engine = qn.SequenceProblem(
        seen_inputs(problem.inputs, problem.numbers), "square", 0.7, 0.02, response=qn.losses.Additive(0.1)
    ).solve()
    ridge = problem.ridge(0.02)
    np.testing.assert_allclose([np.squeeze(engine[k]) for k in ("q", "theta")], [ridge.q, ridge.theta], rtol=1e-7)
    np.testing.assert_allclose(2.0 * engine["train_loss"], ridge.train_mse, rtol=1e-7)


def check(found, want):
    np.testing.assert_allclose(found, want, atol=6e-7)


@pytest.mark.parametrize(
    ("alpha", "want"),
    [
        (1.0, (0.337412, 0.068931, 0.648334, 0.382813, 0.337599, 0.370985, 0.080710, 0.346696,
               0.778177, 0.472887, 0.555759, 0.394373)),
        (2.5, (0.226745, 0.102574, 0.249973, 0.263979, 0.226829, 0.252432, 0.074182, 0.232451,
               0.505830, 0.502161, 0.480998, 0.288290)),
    ],
)  # fmt: skip
def test_table_of_target_a(alpha, want):
    p = target_a(alpha=alpha)
    np.testing.assert_allclose(p.ridge().weight_decay, 0.372789, atol=6e-7)
    check(p.solve()["test_mse"], want[0])
    found = [p.ridge().test_mse, p.ridge().train_mse, p.ridge(0.02).test_mse, p.ridge(1.5).test_mse]
    # the page's erf-erf row at a kernel ridge of zero, whose own rest is more than the best ridge
    found += [p.kernel(STUDENT, 0.0).test_mse, p.kernel(STUDENT, 0.5).test_mse, p.kernel(STUDENT, 0.5).train_mse]
    found += [p.kernel(RELU, 0.0).test_mse]
    found += [p.random_features(ratio, decay).test_mse for decay in (0.01, 0.3) for ratio in (0.5, 3.0)]
    check(found, want)


def test_more_values_of_target_a():
    check([target_a(alpha=a).solve()["test_mse"] for a in (0.5, 1.0, 2.0, 4.0)], (0.429657, 0.337412, 0.247523, 0.196331))
    check(target_a(alpha=0.514493).solve()["q"], 0.330481)
    p = target_a(alpha=2.0)
    check([p.random_features(g, 0.01).test_mse for g in (0.5, 1.0, 3.0)], (0.538381, 0.560499, 0.478518))
    check(p.kernel(DeepKernel(tanh2), 0.01).test_mse, 0.252416)
    np.testing.assert_allclose(p.random_features(1e7, 0.01).test_mse, 0.252416, atol=2e-6)


@pytest.mark.parametrize(
    ("alpha", "want"),
    [
        (0.7, (0.565982, 0.160405, 0.880555, 0.595112, 0.570815, 0.586776, 0.781848, 0.610527)),
        (2.5, (0.408679, None, 0.486576, 0.429947, 0.411768, 0.423723, 0.651767, 0.470907)),
    ],
)
def test_table_of_target_b(alpha, want):
    p = target_b(alpha=alpha)
    found = [p.ridge().test_mse, p.ridge().train_mse, p.ridge(0.02).test_mse, p.ridge(1.5).test_mse]
    found += [p.kernel(weight_decay=decay).test_mse for decay in (0.0, 0.5)]
    found += [p.random_features(ratio, 0.3, tanh2).test_mse for ratio in (0.5, 3.0)]
    rows = [i for i, value in enumerate(want) if value is not None]
    # the first four rows at alpha = 0.7 were published from another run, with 0.565980 beside 0.565982 for the first
    np.testing.assert_allclose(np.array(found)[rows], np.array(want, float)[rows], atol=1.2e-5 if alpha == 0.7 else 1e-6)
    check(p.kernel().test_mse, {0.7: 0.565980, 2.5: 0.408679}[alpha])
    check(np.array(found)[4:], want[4:])


def test_targets_c_and_d():
    c, d = target_c(), target_d()
    found = [c.ridge().test_mse, c.ridge().train_mse, c.ridge(0.02).test_mse]
    np.testing.assert_allclose(found, (0.39535, 0.16410, 0.67055), atol=6e-6)
    np.testing.assert_allclose([d.ridge().test_mse, d.ridge().train_mse], (0.34189, 0.15865), atol=6e-6)


def test_anisotropic_features_and_information():
    """The published row has the student's coefficients at variance one, although the inputs' is 1.05."""
    numbers, c, s = target_a().numbers, coefficients(tanh2), TWO.eigenvalues[:, 0]
    chain = Chain(TWO.weights, s, numbers.slope * TWO.weights * s**2, (Layer(1.5, c.kappa_1**2, c.kappa_star2),))
    law = FeatureLaw(chain=chain, size=1.5, rho=1.05 * numbers.slope + numbers.rest)
    check(feature_ridge(law, 2.0, 0.05).test_mse, 0.390359)
    problem = target_a(alpha=1.5, spectrum=TWO)
    object.__setattr__(problem, "numbers", numbers)
    check(problem.solve()["mutual_information"], 0.600195)


@pytest.mark.parametrize(
    ("depth", "want"),
    [
        (1, (0.458749, 0.233568, 0.212328)), (2, (0.600804, 0.379287, 0.252524)), (3, (0.692879, 0.490464, 0.282237)),
        (5, (0.811219, 0.654692, 0.327680)), (10, (0.941600, 0.873353, 0.401350)), (20, (0.994629, 0.985783, 0.468690)),
    ],
)  # fmt: skip
def test_depth(depth, want):
    p = BayesOptimalDeep((1.0,) * depth, tanh2, "regression", 1.0)
    found = [p.replace(alpha=a).solve()["test_mse"] / p.total for a in (1.0, 3.0)]
    check([*found, p.replace(alpha=3.0, task="classification").solve()["test_error"]], want)


def test_limits_of_regression():
    p = target_a()
    np.testing.assert_allclose(p.replace(alpha=1e-7).solve()["test_mse"], p.total, rtol=1e-6)
    np.testing.assert_allclose(p.replace(alpha=1e4).solve()["test_mse"], p.label_noise * (1 + 1e-4), rtol=1e-7)
    slope, rest = p.numbers.slope, p.numbers.rest
    ridgeless = p.ridge(0.0, alpha=np.array([0.5, 3.0])).test_mse
    np.testing.assert_allclose(ridgeless, [0.5 * slope + 2.0 * rest, 1.5 * rest], rtol=1e-8)
    linear = BayesOptimalDeep((1.0, 1.0), "linear", "regression", 0.4, weight_variances=(0.5, 3.0))
    assert linear.numbers.rest == 0.0
    for alpha in (0.4, 1.0, 1.7):
        solution = linear.replace(alpha=alpha).solve()
        assert solution.result and np.isposinf(solution["mutual_information"])
        np.testing.assert_allclose(solution["test_mse"], 1.5 * max(0.0, 1.0 - alpha), atol=1e-7)
    np.testing.assert_allclose(p.kernel(weight_decay=-0.5 * rest).train_mse, p.ridge(0.5 * rest / slope).train_mse, rtol=1e-9)


# --- classification --------------------------------------------------------------------------------------------------------------


def test_bayes_optimal_classification():
    check([target_a("classification", a).solve()["test_error"] for a in (0.5, 1.0, 2.0, 3.0, 4.0)],
          (0.374009, 0.329288, 0.279518, 0.252524, 0.235996))  # fmt: skip
    check(target_b("classification", 0.8).solve()["test_error"], 0.323430)
    p = target_b("classification")
    small = p.replace(alpha=1e-5).solve()
    np.testing.assert_allclose(small["q_hat"], 2e-5 * p.numbers.slope / (np.pi * p.total), rtol=1e-4)
    large = p.replace(alpha=1e6).solve()
    held = p.total - p.label_noise
    np.testing.assert_allclose(large["test_error"], np.arccos(np.sqrt(held / p.total)) / np.pi, rtol=1e-5)
    np.testing.assert_allclose(large["test_error_clean"], np.arccos(np.sqrt(held / (p.total - 0.1))) / np.pi, rtol=1e-5)
    assert large["mutual_information"] > small["mutual_information"] > 0.0


def test_the_square_loss_on_labels():
    p = target_a("classification")
    np.testing.assert_allclose(p.ridge().weight_decay, 1.156373, atol=6e-7)
    check([p.ridge(alpha=a).test_error for a in (1.0, 3.0)], (0.329594, 0.254158))
    check([p.ridge(w, a).test_error for a in (1.0, 3.0) for w in (0.05, 1.0)], (0.365361, 0.329662, 0.261005, 0.254209))
    check(p.ridge(0.1, [0.1, 0.463158, 0.826316, 1.189474]).test_error, (0.442536, 0.386484, 0.361930, 0.340604))
    b = target_b("classification")
    check([b.ridge(w, a).test_error for a in (0.8, 2.5) for w in (0.05, 1.0)], (0.362435, 0.324149, 0.294708, 0.268284))
    hebb = 2.0 * p.numbers.slope / (np.pi * p.total)
    want = np.arccos(np.sqrt(p.numbers.slope / p.total * hebb / (1.0 + hebb))) / np.pi
    np.testing.assert_allclose(p.ridge(1e7).test_error, want, rtol=1e-6)  # Hebb's rule
    features = p.random_features(2.0)
    nearby = [float(p.random_features(2.0, features.weight_decay * f).test_error) for f in (0.8, 1.25)]
    assert min(nearby) > features.test_error > p.solve()["test_error"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("loss", "rows"),
    [
        ("logistic", {(1.0, 0.05): 0.331449, (1.0, 1.0): 0.333107, (3.0, 0.05): 0.254888, (3.0, 1.0): 0.258605,
                      (0.1, 0.1): 0.441938, (2.4, 0.1): 0.267492, (4.7, 0.1): 0.228159, (1.0, 0.186468): 0.329291}),
        pytest.param("hinge", {(1.0, 0.05): 0.348283, (1.0, 1.0): 0.335080, (3.0, 0.05): 0.268875, (3.0, 1.0): 0.262478},
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_classifiers_of_target_a(loss, rows):
    for (alpha, decay), want in rows.items():
        found = target_a("classification", alpha).classifier(loss, decay)
        check(found.test_error, want)
        assert found.test_error == found.test_error_clean


def test_a_sweep_over_samples():
    grid = qn.sweep(target_a(), over={"alpha": [0.5, 2.0]})
    np.testing.assert_allclose(grid["test_mse"], [float(target_a(alpha=a).solve()["test_mse"]) for a in (0.5, 2.0)], rtol=1e-12)


@pytest.mark.thorough
@pytest.mark.slow
def test_best_weight_decays_of_classifiers():
    p = target_a("classification")
    found = p.classifier("logistic")
    check([found.weight_decay, found.test_error], [0.186468, 0.329291])
    errors = [p.classifier("hinge", decay).test_error for decay in (0.9, 0.929, 0.96)]
    assert np.argmin(errors) == 1
    check(errors[1], 0.335061)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "want"),
    [("logistic", (0.327112, 0.326127, 0.273196, 0.271806)), ("hinge", (0.346341, 0.328840, 0.291956, 0.273398))],
)
def test_classifiers_of_target_b(loss, want):
    found = [target_b("classification", a).classifier(loss, w).test_error for a in (0.8, 2.5) for w in (0.05, 1.0)]
    check(found, want)


@pytest.mark.thorough
@pytest.mark.slow
def test_students_by_the_engine_agree_with_closed_forms():
    p = target_b("classification", 1.2)
    for options, closed in (({"width_ratio": 1.5}, p.random_features(1.5, 0.3)), ({"kernel": STUDENT}, p.kernel(STUDENT, 0.3))):
        engine = p.classifier("square", 0.3, **options)
        names = ("test_error", "test_error_clean", "train_loss", "q", "theta")
        np.testing.assert_allclose([getattr(engine, k) for k in names], [getattr(closed, k) for k in names], rtol=1e-6)


# --- the object ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"task": "clustering"}, "task must be one of"), ({"alpha": 0.0}, "alpha must be positive"),
        ({"noise": -1.0}, "noise must be non-negative"), ({"widths": (400,)}, "widths must be"),
        ({"widths": (0.5, -1.0)}, "widths must be positive"), ({"activations": ("erf",)}, "activations must hold one for each"),
        ({"activations": "cos"}, "activations must have a linear part"),
        ({"weight_variances": (1.0, 0.0)}, "weight_variances must be"),
        ({"weight_variances": (1.0,) * 3}, "weight_variances must be"), ({"readout_variance": 0.0}, "readout_variance must be"),
        ({"spectrum": [1.0, -1.0]}, "spectrum must hold"),
        ({"task": "classification", "activations": "relu"}, "activations must be odd"),
    ],
)  # fmt: skip
def test_refusals(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        target_a().replace(**change)


def test_refused_questions():
    p = target_a()
    for sentence, ask in (
        ("task must be 'classification'", lambda: p.classifier("logistic", 0.1)),
        ("weight_decay must be non-neg", lambda: p.ridge(-0.1)),
        ("weight_decay must be more than", lambda: p.kernel(weight_decay=-1.0)), ("dim must be given", lambda: p.simulate()),
        ("student must be a", lambda: p.kernel("relu")), ("one length", lambda: target_b().staircase(10, 50)),
        ("readout_variance must be a plain", lambda: p.gradient("test_mse", "readout_variance")),
        ("must have a linear part", lambda: p.random_features(1.0, 0.1, "cos")),
        ("width_ratio must be None", lambda: target_a("classification").classifier("square", 0.1, width_ratio=1.0, kernel=RELU)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            ask()
    with pytest.raises(TypeError, match="solve takes"):
        p.solve(tolerance=1.0)


@pytest.mark.slow
def test_gradients_saving_and_citing(tmp_path):
    p, h = target_b("classification"), 1e-5
    for name in ("test_error_clean", "q"):
        ends = [p.replace(alpha=1.0 + s).solve()[name] for s in (h, -h)]
        np.testing.assert_allclose(p.gradient(name, "alpha"), (ends[0] - ends[1]) / (2 * h), rtol=1e-6)
    solution = p.solve()
    assert list(p.branches()) == ["uninformed"]
    solution.save(tmp_path / "best.npz")
    assert qn.problems.Solution.load(tmp_path / "best.npz", p)["q"] == solution["q"]
    assert "2302.00375" in p.cite() and dataclasses.replace(p).total == p.total


# --- actual networks -------------------------------------------------------------------------------------------------------------


def deviations(trials, theory):
    """(mean - theory) in standard errors, with a shift of 2/d of the value beside them."""
    found = {}
    for name, value in theory.items():
        estimate = trials[name]
        found[name] = float(abs(estimate.mean - value) / (estimate.standard_error + 2.0 * abs(value) / trials.dim))
    return found


@pytest.mark.thorough
@pytest.mark.slow
def test_a_small_experiment():
    p = target_a(alpha=1.0, d=150, noise=0.1)
    trials = p.simulate(seeds=6, learners={"ridge": Ridge(1.5)})
    found = deviations(trials, {"test_mse": p.solve()["test_mse"], "ridge_test_mse": p.ridge(1.5).test_mse})
    assert max(found.values()) < 3.5, found
    assert len(qn.compare(p.solve(), trials)) == 2


def adjusted(p, trials, name, theory):
    """Each seed's value less the theory of the network that it drew, plus that of the average network (a control variate)."""
    values = trials.values[name].copy()
    for i, (slope, rest) in enumerate(zip(trials.values["target_slope"], trials.values["target_rest"], strict=True)):
        own = seen_inputs(p.inputs, Numbers(0.0, slope, rest))
        mean = seen_inputs(p.inputs, p.numbers)
        values[i] += theory(mean) - theory(own)
    return values


@pytest.mark.thorough
@pytest.mark.slow
def test_regression_on_actual_networks():
    p = target_a(alpha=1.0, d=400)
    decay = float(p.ridge().weight_decay)
    learners = {
        "ridge": Ridge(decay), "small": Ridge(0.02), "erf": KernelRegression(STUDENT, 0.5), "relu": KernelRegression(RELU),
        "features": RandomFeatures(3.0, 0.3, tanh2),
    }  # fmt: skip
    trials = p.simulate(seeds=8, learners=learners)
    theory = {
        "test_mse": p.solve()["test_mse"], "ridge_test_mse": p.ridge().test_mse, "ridge_train_mse": p.ridge().train_mse,
        "small_test_mse": p.ridge(0.02).test_mse, "erf_test_mse": p.kernel(STUDENT, 0.5).test_mse,
        "erf_train_mse": p.kernel(STUDENT, 0.5).train_mse, "relu_test_mse": p.kernel(RELU, 0.0).test_mse,
        "features_test_mse": p.random_features(3.0, 0.3).test_mse, "target_slope": p.numbers.slope, "target_rest": p.numbers.rest,
    }  # fmt: skip
    found = deviations(trials, theory)
    assert max(found.values()) < 3.0, found
    values = adjusted(p, trials, "ridge_test_mse", lambda law: float(deep_students.regression(law, 1.0, decay).test_mse))
    error = values.std(ddof=1) / np.sqrt(8)
    assert error < 0.5 * trials["ridge_test_mse"].standard_error
    assert abs(values.mean() - p.ridge().test_mse) < 3.0 * error + 4.0 * p.ridge().test_mse / 400


@pytest.mark.thorough
@pytest.mark.slow
def test_noisy_anisotropic_constant_and_deep_targets_on_actual_networks():
    for p in (target_b(alpha=2.5, d=400), target_c(), target_d()):
        trials = p.simulate(seeds=8, learners={"ridge": Ridge(float(p.ridge().weight_decay)), "small": Ridge(0.02)})
        theory = {
            "test_mse": p.solve()["test_mse"], "test_mse_clean": p.solve()["test_mse_clean"], "ridge_test_mse": p.ridge().test_mse,
            "ridge_train_mse": p.ridge().train_mse, "small_test_mse": p.ridge(0.02).test_mse,
        }  # fmt: skip
        found = deviations(trials, theory)
        assert max(found.values()) < 3.0, found


@pytest.mark.thorough
@pytest.mark.slow
def test_classification_on_actual_networks():
    p = target_b("classification", 2.0, d=400, spectrum=None)
    learners = {
        "messages": ProbitMessages(p.numbers.slope, float(p.label_noise)), "square": Ridge(1.0),
        "logistic": Classifier("logistic", 1.0), "hinge": Classifier("hinge", 1.0), "features": RandomFeatures(1.5, 0.3, "erf"),
    }  # fmt: skip
    trials = p.simulate(seeds=8, learners=learners)
    assert not trials.not_converged
    best = p.solve()
    theory = {
        "test_error": best["test_error"], "test_error_clean": best["test_error_clean"], "messages_test_error": best["test_error"],
        "square_test_error": p.ridge(1.0).test_error, "features_test_error": p.random_features(1.5, 0.3, "erf").test_error,
        "logistic_test_error": p.classifier("logistic", 1.0).test_error, "hinge_test_error": p.classifier("hinge", 1.0).test_error,
    }  # fmt: skip
    found = deviations(trials, theory)
    assert max(found.values()) < 3.0, found
    pair = trials.values["logistic_test_error"] - trials.values["messages_test_error"]
    want = theory["logistic_test_error"] - best["test_error"]
    assert abs(pair.mean() - want) < 3.0 * pair.std(ddof=1) / np.sqrt(8) + 2e-3
