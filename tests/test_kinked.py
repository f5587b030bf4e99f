"""Convex losses with kinks that a user writes by hand: proximal operator, averages, derivatives, the experiment."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from sklearn.svm import SVR

import quenched as qn
from quenched.finite.data import Data
from quenched.finite.minimise import minimise
from quenched.finite.piecewise import lines
from quenched.losses import Loss, Sign
from quenched.losses.kinked import look, with_kinks


def absolute(h, label):
    return jnp.abs(h - label)


def hinge(h, label):
    return jnp.maximum(0.0, 1.0 - label * h)


def huber(h, label):
    u = jnp.abs(h - label)
    return jnp.where(u < 1.0, 0.5 * u**2, u - 0.5)


def tube(h, label):
    return jnp.maximum(0.0, jnp.abs(h - label) - 0.5)


def pinball(h, label, params):
    u = label - h
    return jnp.maximum(params["tau"] * u, (params["tau"] - 1.0) * u)


def shifted(h, label, params):
    """Its kink moves with a parameter, and its pieces are curved."""
    return jnp.maximum(0.0, params["tau"] - label * h) ** 2 + 0.2 * jnp.abs(h - params["tau"]) + 0.05 * h**2


PARAMS = {"tau": jnp.asarray(0.3)}


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("fn", [absolute, hinge, huber, tube, pinball, shifted], ids=lambda f: f.__name__)
def test_proximal_operator_is_the_minimiser(fn):
    made = with_kinks(Loss(fn, scalar=True))
    extra = {"params": {"tau": jnp.asarray(0.3)}} if "params" in made.names else {}
    rng = np.random.default_rng(0)
    envelope = jax.jit(lambda w, V, y: made.moreau(w, V, label=y, **extra))
    at = jax.jit(lambda h, y: fn(h, y, **extra))
    for _ in range(40):
        w, V, y = rng.normal() * 2.0, 10.0 ** rng.uniform(-2, 2), rng.choice([-1.0, 1.0])
        found = scipy.optimize.minimize_scalar(
            lambda h, w=w, V=V, y=y: float(at(h, y)) + (h - w) ** 2 / (2 * V), bracket=(w - 5 * V - 1, w + 5 * V + 1), tol=1e-12
        )
        value, h = envelope(w, V, y)
        assert abs(float(value) - found.fun) < 1e-9 * (1.0 + abs(found.fun))
        assert abs(float(h) - found.x) < 1e-5 * (1.0 + abs(found.x))
    assert abs(float(envelope(0.7, 0.0, 1.0)[0]) - float(at(0.7, 1.0))) < 1e-15  # V = 0: the loss itself


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("omega", [-2.0, 0.1, 0.35, 0.9, 3.0])
def test_derivatives_in_all_arguments_also_where_the_kink_moves(omega):
    """First and second derivatives of the envelope; the kink at h = tau holds the proximal operator for omega near it."""
    made = with_kinks(Loss(shifted, scalar=True))

    def envelope(x):
        return made.moreau(x[0], x[1], label=1.0, params={"tau": x[2]})[0]

    x, step = jnp.array([omega, 0.6, 0.3]), 1e-4  # a kink is located to 1e-9
    gradient, hessian = jax.grad(envelope)(x), jax.hessian(envelope)(x)
    shift = step * np.eye(3)
    np.testing.assert_allclose(gradient, [(envelope(x + s) - envelope(x - s)) / (2 * step) for s in shift], atol=1e-7)
    numeric = [(jax.grad(envelope)(x + s) - jax.grad(envelope)(x - s)) / (2 * step) for s in shift]
    np.testing.assert_allclose(hessian, np.array(numeric), atol=2e-5)


@pytest.mark.slow
def test_what_is_told_from_a_look():
    labels = np.array([-1.0, 1.0])
    scalar = {fn: look(Loss(fn, scalar=True), labels, {}, PARAMS) for fn in (absolute, hinge, huber, tube, pinball)}
    assert all(seen.convex and seen.kinks for seen in scalar.values())
    assert [seen.residual for seen in scalar.values()] == [True, False, True, True, True]
    exponential, quartic = (lambda h, label: jnp.exp(-label * h)), (lambda h, label: jnp.log(jnp.cosh(h - label)) + h**4)
    for smooth in (lambda h, label: jnp.logaddexp(0.0, -label * h), exponential, quartic):
        assert not look(Loss(smooth, scalar=True), labels, {}, {}).kinks
    assert not look(Loss(lambda h, label: (jnp.abs(h) - label) ** 2, scalar=True), labels, {}, {}).convex


def test_smooth_and_non_convex_losses_are_left_as_they_are():
    for fn in (lambda h, label: jnp.logaddexp(0.0, -label * h), lambda h, label: jnp.minimum((h - 1) ** 2, (h + 1) ** 2)):
        loss = qn.problems.GeneralizedLinear(fn, "sign", alpha=2.0, weight_decay=0.1).model.loss
        assert loss.kinks is None and loss.moreau is None


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(
    ("fn", "name", "target"),
    [
        (absolute, "absolute", "linear"),
        (huber, "huber", "sign"),
    ],
)
def test_written_by_hand_is_as_good_as_named(fn, name, target):
    options = dict(target=target, alpha=2.0, weight_decay=0.1, noise=0.1)
    mine, known = (qn.problems.GeneralizedLinear(loss, **options).solve(tol=1e-10) for loss in (fn, name))
    assert mine.result.name == known.result.name == "successful"
    assert mine.replicon == pytest.approx(known.replicon, rel=1e-7)
    for observable in ("q", "V", "theta", "train_loss", "free_energy"):
        assert mine[observable] == pytest.approx(known[observable], rel=1e-9)


@pytest.mark.thorough
@pytest.mark.slow
def test_gradient_in_a_parameter_of_the_loss():
    """In a parameter with which a kink moves."""

    def loss(h, label, params):
        return shifted(h[0, 0], label, params)

    problem = qn.SequenceProblem(qn.laws.single(), loss, 2.0, 0.1, params={"tau": 0.3}, response=Sign(0.1))
    step = 1e-4
    above, below = (problem.replace(tau=0.3 + s).solve(tol=1e-12)["train_loss"] for s in (step, -step))
    assert problem.gradient("train_loss", "tau") == pytest.approx((above - below) / (2 * step), rel=1e-5)


def test_straight_lines_are_read_off():
    y = np.array([3.0, -0.5, 3.0])
    made = lines(with_kinks(Loss(tube, scalar=True)), y, None)
    h = np.random.default_rng(0).normal(size=3)
    pieces = np.maximum(made.low * (made.t - made.s * h[made.row]), made.high * (made.t - made.s * h[made.row]))
    assert made.constant + pieces.sum() == pytest.approx(float(tube(h, y).sum()), rel=1e-9)
    assert lines(with_kinks(Loss(huber, scalar=True)), y, None) is None
    assert lines(with_kinks(Loss(shifted, scalar=True)), y, {"tau": 0.3}) is None


def test_interior_point_agrees_with_a_support_vector_regression():
    rng = np.random.default_rng(0)
    n, d, weight_decay = 60, 20, 0.3
    x = rng.normal(size=(n, d))
    y = x @ rng.normal(size=d) / np.sqrt(d) + rng.normal(size=n)
    data = Data(x[:, None], np.ones((n, 1, 1)), np.zeros((n, 1, 0)), y)
    fit = minimise(data, with_kinks(Loss(tube, scalar=True)), weight_decay)
    reference = SVR(kernel="linear", C=1.0 / weight_decay, epsilon=0.5, tol=1e-8).fit(x / np.sqrt(d), y)
    assert fit.solver == "interior point" and fit.status.value == "converged"
    np.testing.assert_allclose(fit.w[:, 0], reference.coef_[0], atol=1e-5)
    assert fit.free.item() == pytest.approx(reference.intercept_[0], abs=1e-5)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(("fn", "target"), [(pinball, "linear")])
def test_theory_meets_training(fn, target):
    def loss(h, label):
        return fn(h, label, {"tau": 0.3}) if fn is pinball else fn(h, label)

    problem = qn.problems.GeneralizedLinear(loss, target, alpha=2.0, weight_decay=0.1, noise=0.5)
    table = qn.compare(problem.solve(), problem.simulate(dim=500, seeds=12))
    assert max(abs(row.deviation) for row in table.rows) < 4.0
