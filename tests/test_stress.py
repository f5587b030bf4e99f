"""Cases that break engines of this kind: jumps, shared atoms, singular covariances, vanishing weight decay, covariances that do
not commute. Every one has a reference that is computed in another way."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import quenched as qn

P = qn.problems
ISOTROPIC = qn.laws.single()
# Three tokens, the target reads the first: on half of the coordinates one covariance, on the other half both.
HALVES = qn.laws.SpectralLaw([0.5, 0.5], [[1.0, 0.0], [1.0, 1.0]], directions=[[np.sqrt(2.0)], [0.0]])
THREE_TOKENS = qn.laws.SpectralTokens(HALVES, prob=[1.0], cov=[[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]])
# h_0 + h_1 + h_2 is the pre-activation of one token with the sum of the covariances.
THEIR_SUM = qn.laws.SpectralLaw([0.5, 0.5], [[1.0], [3.0]], directions=[[np.sqrt(2.0)], [0.0]])


def logistic(margin):
    return jnp.logaddexp(0.0, -margin)


def solve(problem, **options):
    """A solution, converged or not, without its warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P.SolveWarning)
        return problem.solve(**options)


# ---- a label that jumps in the target ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_sign_in_the_loss_is_a_sign_in_the_response():
    problem = qn.SequenceProblem(
        ISOTROPIC, lambda h, target: logistic(jnp.sign(target[0, 0]) * h[0, 0]), 2.0, 0.1,
        observables={
            "test_error": lambda h, target: h[0, 0] * target[0, 0] < 0,
            "gap": lambda h, target: (h[0, 0] - jnp.sign(target[0, 0])) ** 2,
        },
    )  # fmt: skip
    stated = P.GeneralizedLinear("logistic", "sign", 2.0, 0.1).solve(tol=1e-11)
    found = problem.solve(tol=1e-11)
    assert found.converged and found.stable
    for name in ("q", "V", "theta", "train_loss", "free_energy", "test_error"):
        np.testing.assert_allclose(np.squeeze(found[name]), stated[name], rtol=1e-9, err_msg=name)
    # E (h - sign h_*)^2 = q + 1 - 2 theta sqrt(2 / pi)
    np.testing.assert_allclose(found["gap"], stated["q"] + 1.0 - 2.0 * stated["theta"] * np.sqrt(2.0 / np.pi), rtol=1e-9)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_jump_where_a_parameter_says_and_its_derivative():
    problem = qn.SequenceProblem(
        ISOTROPIC, lambda h, target, params: logistic(jnp.where(target[0, 0] > params["level"], 1.0, -1.0) * h[0, 0]), 2.0, 0.1,
        params={"level": 0.7}, observables={"error": lambda h, target, params: (h[0, 0] > 0) != (target[0, 0] > params["level"])},
    )  # fmt: skip
    gradient, step = problem.gradient("error", "alpha"), 1e-3
    high, low = (problem.replace(alpha=2.0 + s).solve(tol=1e-11)["error"] for s in (step, -step))
    np.testing.assert_allclose(gradient, (high - low) / (2.0 * step), rtol=1e-5)
    # the error of a sign with a threshold: a bivariate normal probability
    solution = problem.solve(tol=1e-11)
    q, theta = solution["q"].item(), solution["theta"].item()
    from scipy.stats import multivariate_normal

    both = multivariate_normal(cov=[[q, theta], [theta, 1.0]]).cdf([0.0, 0.7])  # h < 0 and h_* < level
    lower = multivariate_normal().cdf(0.7)
    np.testing.assert_allclose(solution["error"], 0.5 + lower - 2.0 * both, rtol=1e-6)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_jump_across_two_targets_is_found_and_marked():
    """sign(h_1 + h_2) jumps along a line of the plane of targets: quasi-random nodes, and an error that says so."""
    law = qn.laws.single(qn.laws.SpectralLaw.isotropic(gram=np.eye(2)))
    problem = qn.SequenceProblem(law, lambda h, target: logistic(jnp.sign(target[0, 0] + target[0, 1]) * h[0, 0]), 2.0, 0.1)
    found, stated = solve(problem), P.GeneralizedLinear("logistic", "sign", 2.0, 0.1).solve()
    error = abs(found["q"].item() / stated["q"] - 1.0)
    assert found.quadrature_error > 1e-5 and error < 5.0 * found.quadrature_error < 5e-2


# ---- three tokens with a target ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_three_tokens_spend_no_dimension_on_targets_that_are_not_read():
    from quenched.limit.model import as_numbers
    from quenched.limit.quadratures import scheme

    problem = qn.SequenceProblem(
        THREE_TOKENS, lambda h, target: 0.5 * (h[0, 0] + h[1, 0] + h[2, 0] - target[0, 0]) ** 2, 2.0, 0.1,
        observables={"test_mse": lambda h, target: (h[0, 0] + h[1, 0] + h[2, 0] - target[0, 0]) ** 2},
    )  # fmt: skip
    assert scheme(as_numbers(problem.model)).dimension == 4
    found, sum_of = problem.solve(tol=1e-11), P.GeneralizedLinear("square", "linear", 2.0, 0.1, spectrum=THEIR_SUM).solve(tol=1e-11)
    for name in ("test_mse", "free_energy", "train_loss", "Q"):
        np.testing.assert_allclose(np.squeeze(found[name]), sum_of[name], rtol=3e-7, err_msg=name)


@pytest.mark.thorough
@pytest.mark.slow
def test_three_tokens_with_a_label_that_jumps():
    problem = qn.SequenceProblem(
        THREE_TOKENS, lambda h, target: logistic(jnp.sign(target[0, 0]) * (h[0, 0] + h[1, 0] + h[2, 0])), 2.0, 0.1,
        observables={"test_error": lambda h, target: (h[0, 0] + h[1, 0] + h[2, 0]) * target[0, 0] < 0},
    )  # fmt: skip
    found, sum_of = problem.solve(), P.GeneralizedLinear("logistic", "sign", 2.0, 0.1, spectrum=THEIR_SUM).solve()
    assert found.converged
    for name in ("free_energy", "train_loss", "Q"):
        np.testing.assert_allclose(np.squeeze(found[name]), sum_of[name], rtol=1e-7, err_msg=name)
    assert abs(found["test_error"] - sum_of["test_error"]) < 2e-3  # boolean in four dimensions: quasi-random


# ---- continuous labels that share one atom -------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.slow
def test_twenty_nodes_of_a_continuous_label_share_one_atom():
    """Inputs of a random scale, uniform on [0.1, 2.1]: Gauss nodes of the scale's own law."""

    def at(count):
        x, weight = np.polynomial.legendre.leggauss(count)
        law = qn.laws.SpectralTokens(ISOTROPIC.atoms(), prob=weight / 2.0, cov=((1.1 + x) ** 2)[:, None, None])
        assert law.labels().cov.shape == (count, 1, 1) and law.atoms().weights.shape == (1,)
        solution = qn.SequenceProblem(law, "logistic", 2.0, 0.1, response=qn.losses.Sign(0.0)).solve(tol=1e-11)
        assert solution["q"].shape == (1, 1, 1)
        return np.array([solution["q"].item(), solution["theta"].item(), solution["train_loss"]])

    few, many = at(20), at(40)
    np.testing.assert_allclose(few, many, rtol=1e-8)
    # scale 1 + s z of two values: their average by hand, from two labels, is the same law with two nodes
    assert np.all(np.abs(at(2) / many - 1.0) > 1e-4)


# ---- singular covariances of the fields ----------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.slow
def test_an_autoencoder_that_learns_no_cluster():
    """Without means two units do not see each other: m = 0 of two of them is m = 0 of one, twice."""
    law = qn.laws.mixture([0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=[0.3, 0.3], labels=[-1, 1])

    def reconstruction(h, gram):
        s = jnp.tanh(h[0])
        return 0.5 * s @ gram @ s - s @ h[0]

    one = qn.SequenceProblem(law, reconstruction, 2.0, 0.3, freeze={"m": 0})
    two = one.replace(units=2)
    single, pair = one.solve(tol=1e-9), two.solve(tol=1e-9)
    assert single.converged and pair.converged and np.all(pair["m"] == 0.0)
    for name in ("q", "V", "Q"):
        np.testing.assert_allclose(pair[name], single[name] * np.eye(2), rtol=1e-6, atol=1e-6)
    for name in ("free_energy", "train_loss"):
        np.testing.assert_allclose(pair[name], 2.0 * single[name], rtol=1e-6)
    # the same units merged into one direction, where q is singular: still a point at which every equation can be read
    merged = {name: np.full((2, 2), single[name].item()) for name in ("q", "Q")}
    found = two.evaluate(V=pair["V"], **merged)
    assert np.all(np.isfinite(found["V_hat"])) and found["residual"]["q"] > 0.1


# ---- no weight decay -----------------------------------------------------------------------------------------------------


def ridge_error(alpha, weight_decay, noise):
    """The test error of ridge regression on isotropic data in closed form (Dobriban and Wager 2018, arXiv:1507.03003)."""
    V = brentq(lambda V: V * (weight_decay + alpha / (1.0 + V)) - 1.0, 1e-12, 1e14, xtol=1e-14, rtol=1e-14)
    bias = (1.0 - alpha * V / (1.0 + V)) ** 2
    return (bias + noise) / (1.0 - alpha * (V / (1.0 + V)) ** 2) - noise


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("weight_decay", [1e-4, 1e-7, 1e-10])
def test_ridge_without_weight_decay(alpha, weight_decay):
    solution = P.GeneralizedLinear("square", "linear", alpha, weight_decay, noise=0.1).solve()
    assert solution.converged
    np.testing.assert_allclose(solution["test_mse"], ridge_error(alpha, weight_decay, 0.1), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_logistic_regression_of_separable_data_becomes_the_maximum_margin(alpha):
    """Labels of a linear rule are separable at every alpha. As weight decay vanishes q diverges like the square of a logarithm, the
    direction tends to that of the largest margin, which the hinge loss reaches at once, q then being 1 / margin^2."""
    logistic = P.GeneralizedLinear("logistic", "sign", alpha, 1.0)
    hinge = P.GeneralizedLinear("hinge", "sign", alpha, 1e-6).solve()
    again = P.GeneralizedLinear("hinge", "sign", alpha, 1e-8).solve()
    assert hinge.converged and again.converged
    np.testing.assert_allclose(hinge["q"], again["q"], rtol=1e-4)
    inverse_norm, errors = [], []
    for weight_decay in (1e-4, 1e-6, 1e-8, 1e-10):
        solution = logistic.replace(weight_decay=weight_decay).solve()
        assert solution.converged
        inverse_norm.append(solution["q"] ** -0.5)
        errors.append(solution["test_error"])
    assert np.all(np.diff(np.abs(np.array(errors) - hinge["test_error"])) < 0)
    # the distance is of the order of the inverse norm: a polynomial in it, taken to norm infinity
    limit = np.polynomial.Polynomial.fit(inverse_norm, errors, 3)(0.0)
    np.testing.assert_allclose(limit, hinge["test_error"], atol=2e-4)


# ---- covariances that do not commute -------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.slow
def test_covariances_that_do_not_commute():
    """Two classes whose covariances share no eigenvectors, against trained networks."""
    rng = np.random.default_rng(1)
    roots = rng.normal(size=(2, 4, 4)) / 2.0
    covariances = roots @ roots.transpose(0, 2, 1) + 0.2 * np.eye(4)
    assert np.abs(covariances[0] @ covariances[1] - covariances[1] @ covariances[0]).max() > 0.1
    mean = 0.6 * np.array([[0.8, -0.6, 0.3, 0.5]])
    law = qn.laws.DenseTokens(
        covariances, mean, None, prob=[0.4, 0.6], mean=[[[1.0]], [[-1.0]]], cov=[[[1.0, 0.0]], [[0.0, 1.0]]], value=[1.0, -1.0]
    )
    for alpha, weight_decay in ((1.0, 0.1), (3.0, 0.05)):
        problem = qn.SequenceProblem(
            law, "logistic", alpha, weight_decay, observables={"test_error": lambda h, label: label * h[0, 0] < 0}
        )
        theory, trials = problem.solve(), problem.simulate(600, seeds=12)
        assert theory.converged and trials.converged.all()
        for name in ("q", "m", "Q", "train_loss", "free_energy", "test_error"):
            value = np.asarray(theory[name])
            error = np.hypot(trials.standard_error[name], 2.0 / 600 * np.maximum(np.abs(value), 0.1))
            assert np.abs((trials.mean[name] - value) / error).max() < 3.5, (name, value, trials.mean[name])
    assert jax.config.jax_enable_x64 is False  # nothing of this changed the caller's precision
