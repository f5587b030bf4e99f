"""Real outcomes of a link: interpolated averages against the same problem stated with target and noise in the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

import quenched as qn
from quenched.losses import Link
from quenched.numerics.chebyshev import chebyshev_nodes, interpolated_weights


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 16))
def test_polynomials_are_averaged_exactly(seed, count):
    rng = np.random.default_rng(seed)
    points, weights = rng.uniform(-1, 1, 40), rng.normal(size=40)
    f = np.polynomial.Polynomial(rng.normal(size=count))
    nodes = chebyshev_nodes(count)
    with jax.enable_x64(True):
        p = np.asarray(interpolated_weights(jnp.asarray(points), jnp.asarray(weights), nodes))
    assert abs(p @ f(nodes) - weights @ f(points)) < 1e-11 * count * np.abs(weights).sum() * np.abs(f.coef).sum()


def tanh(target):
    return jnp.tanh(target[0, 0])


def tanh_and_noise(h, target, noise, params):
    return 0.5 * (h[0, 0] - jnp.tanh(target[0, 0]) - jnp.sqrt(params["noise"]) * noise) ** 2


def tanh_alone(h, target):
    return 0.5 * (h[0, 0] - jnp.tanh(target[0, 0])) ** 2


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(("noise", "loss", "params"), [(0.0, tanh_alone, {}), (0.3, tanh_and_noise, {"noise": 0.3})])
def test_the_same_problem_stated_twice(noise, loss, params):
    numbers = dict(alpha=2.0, weight_decay=0.3)
    law = qn.laws.single([0.5, 2.0])
    one = qn.SequenceProblem(law, lambda h, label: 0.5 * (h[0, 0] - label) ** 2, response=Link(tanh, noise), **numbers).solve()
    two = qn.SequenceProblem(law, loss, params=params, **numbers).solve(quadrature_tol=1e-6 if params else 1e-7)
    assert one.converged and two.converged
    for name in ("q", "V", "theta", "Q", "free_energy", "train_loss"):
        np.testing.assert_allclose(one[name], two[name], rtol=2e-6, err_msg=name)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_linear_link_is_additive_noise():
    problem = qn.problems.GeneralizedLinear("square", lambda x: x, alpha=2.0, weight_decay=0.1, noise=0.1)
    solution = problem.solve(tol=1e-11)
    assert abs(solution["test_mse_noisy"] - 0.1844288770) < 2e-8
    assert abs(solution["V"] - 0.8442887702) < 2e-8
    assert abs(problem.gradient("test_mse", "weight_decay")) < 1e-6  # the optimal weight decay is the noise


@pytest.mark.thorough
@pytest.mark.slow
def test_gradient_in_the_noise():
    problem = qn.problems.GeneralizedLinear("square", jnp.tanh, alpha=2.0, weight_decay=0.3, noise=0.2)
    high, low = (problem.replace(noise=0.2 + s).solve(tol=1e-11)["q"] for s in (1e-4, -1e-4))
    assert abs(problem.gradient("q", "noise") / ((high - low) / 2e-4) - 1.0) < 1e-5


def test_draws_and_refusals():
    rng = np.random.default_rng(0)
    drawn = Link(tanh, 0.25).draw(rng, np.full((20_000, 1, 1), 0.5))
    assert abs(drawn.mean() - np.tanh(0.5)) < 4 * 0.5 / np.sqrt(20_000) and abs(drawn.var() - 0.25) < 0.02
    with pytest.raises(ValueError, match="noise must be"):
        Link(tanh, -1.0)
    with pytest.raises(ValueError, match="link must return a single number"):
        Link(lambda target: target[0]).draw(rng, np.zeros((2, 1, 1)))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("link", "theta", "mse"),
    [
        (jnp.sign, 0.73052, None),
        (lambda t: jnp.where(t > 0.5, 1.0, -1.0), None, None),
        (lambda t: jnp.where(t > 0.0, 1, -1), 0.73052, None),
        (jnp.round, None, None),
    ],
    ids=["sign", "step", "integers", "round"],
)
@pytest.mark.slow
def test_a_target_that_jumps_is_ridge_on_its_moments(link, theta, mse):
    """Ridge sees the covariance of outcome and target and the variance of the outcome only: the closed form, isotropic."""
    alpha, decay, noise = 2.0, 0.1, 0.05
    solution = qn.problems.GeneralizedLinear("square", link, alpha=alpha, weight_decay=decay, noise=noise).solve()
    z = (np.arange(4_000_000) + 0.5) / 4_000_000
    h = np.sqrt(2.0) * scipy.special.erfinv(2.0 * z - 1.0)
    with jax.enable_x64(True):
        y = np.asarray(link(jnp.asarray(h)), float)
    u, power = np.mean(y * h), np.mean(y**2) + noise
    kappa = (1.0 + decay - alpha + np.sqrt((1.0 + decay - alpha) ** 2 + 4.0 * alpha * decay)) / (2.0 * alpha)
    # V = 1/(decay + alpha/(1 + V)); the fit is u/(1 + kappa) of the direction, kappa = decay (1 + V)/alpha
    V = (alpha * kappa / decay) - 1.0
    assert float(solution["V"]) == pytest.approx(V, rel=1e-6)
    wanted = u / (1.0 + kappa)
    df2 = 1.0 / (1.0 + kappa) ** 2
    error = (power - u**2 + u**2 * kappa**2 * df2) / (1.0 - df2 / alpha)
    assert solution.converged and float(solution["theta"]) == pytest.approx(wanted, rel=2e-6)
    assert float(solution["test_mse_noisy"]) == pytest.approx(error, rel=1e-4)
    assert float(solution["test_mse"]) == pytest.approx(error - noise, rel=1e-4)
    if theta is not None:
        assert wanted == pytest.approx(theta, abs=1e-5)


@pytest.mark.thorough
@pytest.mark.slow
def test_logistic_regression_on_a_target_that_jumps_is_that_on_signs():
    jumping, signs = (qn.problems.GeneralizedLinear("logistic", t, alpha=2.0, weight_decay=0.1) for t in (jnp.sign, "sign"))
    jumping, signs = jumping.solve(quadrature_tol=1e-5), signs.solve()
    for name in ("q", "V", "theta", "train_loss"):
        assert float(jumping[name]) == pytest.approx(float(signs[name]), rel=5e-6)
    assert jumping.residual < 1e-8 and 1e-7 < jumping.quadrature_error < 1e-5  # real outcomes between the two are resolved slowly


def test_a_link_of_two_targets_that_jumps_is_refused():
    problem = qn.SequenceProblem(
        qn.laws.single(targets=2), lambda h, label: 0.5 * (h[0, 0] - label) ** 2, 2.0, 0.1,
        response=qn.losses.Link(lambda target: jnp.sign(target[0, 0] * target[0, 1])),
    )  # fmt: skip
    with pytest.raises(ValueError, match="link of a response must not jump"):
        problem.solve()
