"""The minimiser of the empirical risk against scikit-learn on the same data, its certificates, what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.svm import SVC, SVR

from quenched.finite.data import Data
from quenched.finite.interior_point import interior_point
from quenched.finite.least_squares import least_squares
from quenched.finite.minimise import minimise
from quenched.finite.newton import conjugate_gradients, lowest_curvature
from quenched.finite.piecewise import lines
from quenched.finite.result import Status
from quenched.losses.base import Loss
from quenched.losses.named import NAMED, absolute, hinge, huber, logistic, softmax, square


def sample(n, d, intercept=False, binary=False, seed=0, noise=0.5):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1, d))
    target = x @ rng.normal(size=(d, 1)) / np.sqrt(d)
    y = target[:, 0, 0] + noise * rng.normal(size=n) + 0.7 * intercept
    return Data(x, np.ones((n, 1, int(intercept))), target, np.where(y > 0, 1.0, -1.0) if binary else y)


def plain(data):
    """What scikit-learn sees: inputs divided by sqrt(d), and labels."""
    return data.x[:, 0] / np.sqrt(data.x.shape[2]), data.label


def check_against(fit, w, intercept, rtol):
    assert fit.converged, fit
    np.testing.assert_allclose(fit.w[:, 0], w, rtol=0, atol=rtol * np.abs(w).max())
    if fit.free.size:
        np.testing.assert_allclose(fit.free[0, 0], np.ravel(intercept)[0], rtol=0, atol=rtol)


PHASE = Loss(lambda h, target: 0.25 * (h[0, 0] ** 2 - target[0, 0] ** 2) ** 2)
sizes = pytest.mark.parametrize(("n", "d"), [(150, 40), (40, 150)])
intercepts = pytest.mark.parametrize("intercept", [False, True])


@sizes
@intercepts
@pytest.mark.parametrize("optimiser", ["closed form", "lbfgs"])
def test_square_loss_is_ridge_regression(n, d, intercept, optimiser):
    data = sample(n, d, intercept)
    reference = Ridge(alpha=0.3, fit_intercept=intercept, solver="svd").fit(*plain(data))
    fit = minimise(data, square, 0.3, optimiser=optimiser)
    check_against(fit, reference.coef_, reference.intercept_, 1e-10 if optimiser == "closed form" else 1e-7)
    assert fit.optimality < 1e-12 or optimiser == "lbfgs"


@sizes
@intercepts
def test_square_loss_without_penalty_is_the_least_norm_solution(n, d, intercept):
    data = sample(n, d, intercept)
    reference = LinearRegression(fit_intercept=intercept).fit(*plain(data))
    fit = minimise(data, square, 0.0)
    check_against(fit, reference.coef_, reference.intercept_, 1e-9)
    assert "least norm" in fit.note


def test_repeated_free_directions_do_not_break_the_closed_form():
    data = sample(80, 20, True)
    fit = minimise(data, square, 0.1)
    twice = minimise(data._replace(free=np.ones((80, 1, 2))), square, 0.1)
    np.testing.assert_allclose(twice.w, fit.w, atol=1e-9)
    np.testing.assert_allclose(twice.free.sum(), fit.free.sum(), atol=1e-9)
    few = sample(20, 80, True)
    twice = minimise(few._replace(free=np.ones((20, 1, 2))), square, 0.1)
    np.testing.assert_allclose(twice.w, minimise(few, square, 0.1).w, atol=1e-9)


@sizes
@intercepts
@pytest.mark.parametrize("weight_decay", [0.2, 1e-3])
def test_logistic_regression(n, d, intercept, weight_decay):
    data = sample(n, d, intercept, binary=True)
    reference = LogisticRegression(
        C=1 / weight_decay, fit_intercept=intercept, solver="newton-cg", tol=1e-12, max_iter=1000
    ).fit(*plain(data))
    fit = minimise(data, logistic, weight_decay)
    check_against(fit, reference.coef_[0], reference.intercept_, 1e-6)
    assert fit.optimality < 1e-8 and fit.certificate == "gradient"


def test_softmax_is_multinomial_logistic_regression():
    rng = np.random.default_rng(0)
    x, label = rng.normal(size=(200, 1, 20)), rng.integers(0, 3, 200)
    data = Data(x, np.zeros((200, 1, 0)), np.zeros((200, 1, 0)), label)
    reference = LogisticRegression(C=1 / 0.3, fit_intercept=False, solver="newton-cg", tol=1e-12).fit(*plain(data))
    fit = minimise(data, softmax, 0.3, units=3)
    assert fit.converged
    np.testing.assert_allclose(fit.w, reference.coef_.T, atol=1e-6)


@sizes
@pytest.mark.parametrize("weight_decay", [0.2, 1e-3])
def test_hinge_with_an_intercept_is_a_support_vector_machine(n, d, weight_decay):
    data = sample(n, d, True, binary=True)
    reference = SVC(kernel="linear", C=1 / weight_decay, tol=1e-10).fit(*plain(data))
    fit = minimise(data, hinge, weight_decay)
    check_against(fit, reference.coef_[0], reference.intercept_, 1e-5)
    assert fit.certificate == "duality gap" and fit.optimality < 1e-10


@sizes
def test_hinge_without_an_intercept(n, d):
    data = sample(n, d, binary=True)
    x, y = plain(data)  # beside its mirror image the sample's best intercept is zero
    reference = SVC(kernel="linear", C=0.5 / 0.2, tol=1e-10).fit(np.vstack([x, -x]), np.r_[y, -y])
    check_against(minimise(data, hinge, 0.2), reference.coef_[0], None, 1e-5)


@sizes
def test_absolute_loss_is_support_vector_regression_without_a_tube(n, d):
    data = sample(n, d, True)
    reference = SVR(kernel="linear", C=1 / 0.2, epsilon=0.0, tol=1e-10).fit(*plain(data))
    check_against(minimise(data, absolute, 0.2), reference.coef_[0], reference.intercept_, 1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 40), st.integers(0, 2),
    st.sampled_from(["hinge", "absolute"]), st.floats(-3, 1),
)  # fmt: skip
def test_interior_point_is_certified_by_its_dual_value(seed, n, d, F, name, log_decay):
    """The dual value is close below the risk, and no other point lies below it."""
    rng = np.random.default_rng(seed)
    x, free = rng.normal(size=(n, d)), rng.normal(size=(n, F))
    y = np.where(rng.normal(size=n) > 0, 1.0, -1.0) if name == "hinge" else rng.normal(size=n)
    weight_decay = 10.0**log_decay
    w, m, dual, _ = interior_point(x, free, *lines(NAMED[name], y, None)[1:5], weight_decay)
    h = x @ w / np.sqrt(d) + free @ m
    losses = np.maximum(0.0, 1.0 - y * h) if name == "hinge" else np.abs(h - y)
    primal = losses.sum() + 0.5 * weight_decay * w @ w
    assert primal - dual <= 1e-8 * primal + 1e-12
    assert dual <= primal + 1e-12
    for scale in (1e-3, 1e-1, 1.0):
        w2, m2 = w + scale * rng.normal(size=d), m + scale * rng.normal(size=F)
        h = x @ w2 / np.sqrt(d) + free @ m2
        losses = np.maximum(0.0, 1.0 - y * h) if name == "hinge" else np.abs(h - y)
        assert losses.sum() + 0.5 * weight_decay * w2 @ w2 >= dual - 1e-12


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 30), st.integers(1, 30), st.integers(0, 2), st.floats(-6, 2))
def test_least_squares_is_stationary(seed, n, d, F, log_decay):
    rng = np.random.default_rng(seed)
    x, free, y = rng.normal(size=(n, d)), rng.normal(size=(n, F)), rng.normal(size=n)
    weight_decay = 10.0**log_decay
    w, m = least_squares(x, free, y, weight_decay)
    residual = y - x @ w / np.sqrt(d) - free @ m
    np.testing.assert_allclose(x.T @ residual / np.sqrt(d), weight_decay * w, atol=1e-8 * np.linalg.norm(x))
    np.testing.assert_allclose(free.T @ residual, 0.0, atol=1e-8 * np.sqrt(n))


def test_huber_meets_its_gradient_condition_by_hand():
    data = sample(150, 40, True, noise=2.0)
    fit = minimise(data, huber, 0.1)
    x, y = plain(data)
    force = np.clip(y - x @ fit.w[:, 0] - fit.free[0, 0], -1.0, 1.0)
    assert 5 < np.sum(np.abs(force) == 1.0) < 145  # both regimes are met
    np.testing.assert_allclose(x.T @ force, 0.1 * fit.w[:, 0], atol=1e-7)
    np.testing.assert_allclose(force.sum(), 0.0, atol=1e-7)


def test_a_trained_scalar_is_an_intercept():
    data = sample(120, 30, True, binary=True)
    loss = Loss(lambda h, label, scalars: jnp.logaddexp(0.0, -label * (h[0, 0] + scalars["b"])), convex=True)
    as_scalar = minimise(data._replace(free=np.zeros((120, 1, 0))), loss, 0.2, scalars={"b": 3.0})
    as_mean = minimise(data, logistic, 0.2)
    np.testing.assert_allclose(as_scalar.scalars["b"], as_mean.free[0, 0], rtol=1e-6)
    np.testing.assert_allclose(as_scalar.w, as_mean.w, atol=1e-6)


def test_starts_of_convex_problems_do_not_matter():
    data = sample(100, 30, binary=True)
    fits = [minimise(data, logistic, 0.1, init=init) for init in ("zero", "random", np.full((30, 1), 5.0))]
    for fit in fits[1:]:
        np.testing.assert_allclose(fit.w, fits[0].w, atol=1e-6)


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_non_convex_from_the_truth_and_from_random_starts(optimiser):
    from quenched.laws.base import Labels, Population

    data = sample(400, 50, noise=0.0)
    truth = np.linalg.lstsq(data.x[:, 0] / np.sqrt(50), data.target[:, 0, 0])[0][:, None]
    labels = Labels(np.ones(1), np.zeros((1, 1, 0)), np.ones((1, 1, 1)), np.zeros(1))
    population = Population(np.ones((1, 50)), np.zeros((0, 50)), truth, labels)
    fit = minimise(
        data, PHASE, 0.1, init=("informed", "random"), restarts=3, population=population, optimiser=optimiser
    )
    assert fit.converged and [r.start for r in fit.restarts] == ["informed", "random", "random", "random"]
    assert fit.risk == min(r.risk for r in fit.restarts if r.status is Status.CONVERGED)
    cosine = fit.w[:, 0] @ truth[:, 0] / np.linalg.norm(fit.w) / np.linalg.norm(truth)
    assert abs(cosine) > 0.99
    assert repr(fit).count("from random") == 3


def test_restarts_are_reproducible_and_differ_by_seed():
    data = sample(60, 40, noise=0.0)
    risks = [[r.risk for r in minimise(data, PHASE, 0.1, restarts=3, seed=s).restarts] for s in (1, 1, 2)]
    assert risks[0] == risks[1] != risks[2]
    assert len(set(risks[0])) > 1


class TestFailuresAreReported:
    data = sample(100, 30, binary=True, noise=0.0)

    def status(self, loss, weight_decay=0.1, **options):
        fit = minimise(self.data, loss, weight_decay, **options)
        assert not fit.converged
        return fit.status

    def test_a_saddle(self):
        assert self.status(PHASE, init="zero") is Status.SADDLE

    def test_a_loss_that_is_not_a_number(self):
        assert self.status(Loss(lambda h, label: jnp.log(-1.0 - h[0, 0] ** 2))) is Status.DIVERGED

    @pytest.mark.parametrize("power", [2, 3])
    def test_a_loss_that_is_unbounded_below(self, power):
        assert self.status(Loss(lambda h: -(h[0, 0] ** power)), init="random") is Status.DIVERGED

    def test_separable_data_without_penalty(self):
        assert self.status(logistic, 0.0) is Status.UNDETERMINED

    def test_too_few_iterations(self):
        assert self.status(PHASE, init="random", max_iterations=1) is Status.MAX_ITERATIONS

    def test_a_kink_that_descent_cannot_resolve(self):
        fit = minimise(sample(100, 30), absolute, 0.1, optimiser="lbfgs", max_iterations=300)
        assert not fit.converged and fit.optimality > 1e-3
        assert fit.risk > minimise(sample(100, 30), absolute, 0.1).risk


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(optimiser="sgd"), "optimiser must be one of 'auto'"),
        (dict(optimiser="closed form"), "optimiser must be one that fits the loss 'logistic', got 'closed form'"),
        (dict(loss=hinge, weight_decay=0.0), "weight_decay must be positive for the loss 'hinge'"),
        (dict(tol=0.0), "tol must be positive, got 0.0"),
        (dict(max_iterations=0), "max_iterations must be a whole number of at least 1, got 0"),
        (dict(restarts=2), "restarts must be 1 unless init is 'random', got 2"),
        (dict(init="teacher"), "init must be one of 'zero', 'random', 'informed', got 'teacher'"),
        (dict(init="informed"), "init must not be 'informed' where the population is unknown"),
        (dict(init=np.ones((3, 1))), r"init must have the shape \(30, 1\), got \(3, 1\)"),
        (dict(init="random", scale=-1.0), "scale must be positive, got -1.0"),
        (dict(learning_rate=0.0), "learning_rate must be positive"),
        (dict(seed=-1, init="random"), "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_refuses(change, sentence):
    arguments = dict(data=sample(40, 30, binary=True), loss=logistic, weight_decay=0.1) | change
    with pytest.raises(ValueError, match=sentence):
        minimise(**arguments)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_conjugate_gradients_and_lowest_curvature_against_dense_algebra(seed, size):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    positive, b = root @ root.T + np.eye(size), rng.normal(size=size)
    u, convex = conjugate_gradients(lambda v: positive @ v, b, 1e-12, 10 * size)
    assert convex
    np.testing.assert_allclose(positive @ u, b, atol=1e-8 * np.linalg.norm(b))
    symmetric = root + root.T
    low, large = lowest_curvature(lambda v: symmetric @ v, size)
    values = np.linalg.eigvalsh(symmetric)
    np.testing.assert_allclose([low, large], [values[0], np.abs(values).max()], rtol=1e-6, atol=1e-6)
    if values[0] < 0 < values[-1]:
        _, convex = conjugate_gradients(lambda v: symmetric @ v, np.linalg.eigh(symmetric)[1][:, 0], 1e-12, size)
        assert not convex
