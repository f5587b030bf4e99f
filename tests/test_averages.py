"""Averages at a solved saddle point: unlisted observables, another test law, the training set; and tuning."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from scipy.stats import norm

import quenched as qn

P = qn.problems
LABELS = np.array([-1.0, 1.0])


def mixture(prob, cov):
    """Means +-mu of norm one, class k with the variance cov[k]."""
    return qn.laws.sequence(
        prob, mean=LABELS[:, None, None], gram=[[1.0]], cov=np.reshape(cov, (2, 1, 1)), covariances=1.0, value=LABELS
    )


PROBLEM = qn.SequenceProblem(
    mixture([0.7, 0.3], [1.0, 0.5]), lambda h, label: jnp.logaddexp(0.0, -label * h[0, 0]), alpha=2.0, weight_decay=0.2,
    observables={"test_error": lambda h, label: label * h[0, 0] < 0},
)  # fmt: skip


def wrong(h, label):
    return label * h[0, 0] < 0


@pytest.mark.thorough
@pytest.mark.slow
def test_boolean_observables_are_exact_at_the_jump():
    solution = PROBLEM.solve()
    m, q = float(solution["m"][0, 0]), float(solution["q"][0, 0, 0])
    expected = 0.7 * norm.cdf(-m / np.sqrt(q)) + 0.3 * norm.cdf(-m / np.sqrt(0.5 * q))
    assert abs(solution["test_error"] - expected) < 1e-12
    assert abs(solution.average(wrong) - expected) < 1e-12


@pytest.mark.thorough
@pytest.mark.slow
def test_a_shifted_test_law():
    """Other class proportions and variances: closed form, and fresh data of that law for networks trained on the old one."""
    shifted = mixture([0.2, 0.8], [2.0, 1.5])
    solution = PROBLEM.solve()
    m, q = float(solution["m"][0, 0]), float(solution["q"][0, 0, 0])
    expected = 0.2 * norm.cdf(-m / np.sqrt(2.0 * q)) + 0.8 * norm.cdf(-m / np.sqrt(1.5 * q))
    found = solution.average({"test_error": wrong, "square": lambda h: h[0, 0] ** 2}, law=shifted)
    assert abs(found["test_error"] - expected) < 1e-12
    assert abs(found["square"] - (m**2 + (0.2 * 2.0 + 0.8 * 1.5) * q)) < 1e-10
    trials = PROBLEM.simulate(dim=400, seeds=8, fresh=lambda population, seed, n: shifted.sample(
        population._replace(labels=shifted.labels()), seed, n))  # fmt: skip
    assert abs(trials["test_error"].mean - expected) < 4 * trials["test_error"].standard_error
    with pytest.raises(ValueError, match="law must have the tokens"):
        solution.average(wrong, law=qn.laws.single())
    spectrum = qn.laws.SpectralLaw.isotropic(2.0, gram=[[1.0]])
    wider = qn.laws.SpectralTokens(spectrum, [0.2, 0.8], mean=LABELS[:, None, None], cov=np.ones((2, 1, 1)), value=LABELS)
    assert solution.average(wrong, law=wider) == pytest.approx(norm.cdf(-m / np.sqrt(2.0 * q)), abs=1e-9)
    longer = qn.laws.SpectralLaw.isotropic(2.0, gram=[[3.0]])
    other = qn.laws.SpectralTokens(longer, [0.2, 0.8], mean=LABELS[:, None, None], cov=np.ones((2, 1, 1)), value=LABELS)
    with pytest.raises(ValueError, match="law must be on the covariances"):
        solution.average(wrong, law=other)


@pytest.mark.slow
def test_a_test_law_of_other_eigenvalues():
    """Ridge on two eigenvalues, tested where they are exchanged: the mean and the noise of the weights in each of the two."""
    spectra, spread = (np.array([0.5, 1.5]), np.array([1.5, 0.5])), np.full((2, 1, 1), 0.5)
    trained, tested = (
        qn.laws.SpectralTokens(qn.laws.SpectralLaw([0.5, 0.5], s[:, None], spread), [1.0], cov=np.ones((1, 1, 1))) for s in spectra
    )
    ridge = qn.SequenceProblem(trained, "square", 2.0, 0.1, response=qn.losses.Additive(0.3))
    solution = ridge.solve(tol=1e-12)
    found = solution.average({"q": lambda h: h[0, 0] ** 2, "theta": lambda h, target: h[0, 0] * target[0, 0]}, law=tested)
    q_hat, V_hat = float(solution["q_hat"].squeeze()), float(solution["V_hat"].squeeze())
    theta_hat = float(solution["theta_hat"].squeeze())
    mean, inverse = theta_hat * spectra[0] / (0.1 + V_hat * spectra[0]), 1.0 / (0.1 + V_hat * spectra[0])
    assert found["theta"] == pytest.approx(np.mean(spectra[1] * mean), rel=1e-9)
    assert found["q"] == pytest.approx(np.mean(spectra[1] * (mean**2 + q_hat * spectra[0] * inverse**2)), rel=1e-9)


@pytest.mark.thorough
@pytest.mark.slow
def test_averages_over_the_training_set():
    solution = PROBLEM.solve()
    loss = solution.average(lambda h, label: jnp.logaddexp(0.0, -label * h[0, 0]), training=True)
    assert abs(loss - solution["train_loss"]) < 1e-8
    error = float(solution.average(wrong, training=True))
    trials = PROBLEM.simulate(dim=400, seeds=8, training_observables={"train_error": wrong})
    assert abs(trials["train_error"].mean - error) < 4 * trials["train_error"].standard_error + 2.0 / 400
    draws = solution.training_fields(100_000)
    share = np.mean(draws["label"] * draws["h"][:, 0, 0] < 0)
    assert abs(share - error) < 4 * np.sqrt(error * (1 - error) / 100_000) + 1e-3


@pytest.mark.thorough
@pytest.mark.slow
def test_training_fields_of_two_tokens():
    pairs = P.Siamese(alpha=3.0, weight_decay=0.6, spectrum=[0.6, 1.0]).solve(init="informed", quadrature_tol=1e-4)
    draws = pairs.training_fields(20_000)
    assert draws["h"].shape == (20_000, 2, 1)
    losses = np.logaddexp(0.0, -draws["label"] * draws["h"][:, 0, 0] * draws["h"][:, 1, 0])
    assert abs(losses.mean() - pairs["train_loss"]) < 4 * losses.std() / np.sqrt(20_000)


RIDGE = P.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=1.0, noise=0.3)


@pytest.mark.thorough
@pytest.mark.slow
def test_the_best_weight_decay_of_ridge_is_the_noise():
    best = RIDGE.tune("weight_decay", minimize="test_mse")
    assert abs(best.value - 0.3) < 1e-7 and not best.at_edge and float(best) == best.value
    assert best.problem.weight_decay == best.value and best.solution["test_mse"] == best.minimum


@pytest.mark.thorough
@pytest.mark.slow
def test_tuning_against_a_grid():
    logistic = P.GeneralizedLinear("logistic", "sign", alpha=2.0, weight_decay=0.1, noise=0.3)
    best = logistic.tune("weight_decay", minimize="test_error")
    grid = np.geomspace(0.5 * best.value, 2.0 * best.value, 9)
    errors = [float(logistic.replace(weight_decay=w).solve()["test_error"]) for w in grid]
    assert int(np.argmin(errors)) == 4 and best.minimum <= min(errors) + 1e-12


@pytest.mark.slow
def test_an_edge_is_marked_and_nonsense_refused():
    assert RIDGE.tune("weight_decay", minimize="test_mse", between=(1.0, 10.0)).at_edge
    for bad, sentence in (
        (dict(parameter="loss", minimize="test_mse"), "parameter must be"),
        (dict(parameter="weight_decay", minimize="risk"), "minimize must name"),
        (dict(parameter="weight_decay", minimize="test_mse", between=(2.0, 1.0)), "between must hold"),
    ):
        with pytest.raises(ValueError, match=sentence):
            RIDGE.tune(**bad)


@pytest.mark.thorough
@pytest.mark.slow
def test_gradients_by_name():
    slopes = RIDGE.gradient("test_mse", ("alpha", "weight_decay", "noise"))
    assert set(slopes) == {"alpha", "weight_decay", "noise"} and slopes["alpha"] < 0 < slopes["noise"]
    m = PROBLEM.gradient("m", "alpha")
    high, low = (PROBLEM.replace(alpha=2.0 + s).solve(tol=1e-11)["m"] for s in (1e-4, -1e-4))
    np.testing.assert_allclose(m, (high - low) / 2e-4, rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_boolean_of_two_tokens_that_jumps_in_both():
    """h_0 h_1 < 0 of two tokens with means: a sum of products of normal probabilities."""
    law = qn.laws.mixture([1.0], gram=[[1.0]], covariances=[1.0])
    law = qn.laws.SpectralTokens(law.atoms(), prob=[1.0], mean=[[[1.0], [0.6]]], cov=np.ones((1, 2, 1)))
    problem = qn.SequenceProblem(
        law, lambda h: jnp.sum((h[:, 0] - 1.0) ** 2), 1.0, 0.5, observables={"differ": lambda h: h[0, 0] * h[1, 0] < 0}
    )
    solution = problem.solve(tol=1e-11)
    m, root = solution["m"].item(), np.sqrt(solution["q"].item())
    below = norm.cdf(-m / root), norm.cdf(-0.6 * m / root)
    expected = below[0] * (1.0 - below[1]) + below[1] * (1.0 - below[0])
    np.testing.assert_allclose(solution["differ"], expected, rtol=1e-10)


@pytest.mark.thorough
@pytest.mark.slow
def test_observables_that_step_are_exact_whatever_their_type():
    """The error rate as a boolean, as numbers of two values, and as signs: one and the same."""
    rules = {
        "boolean": lambda h, label: label * h[0, 0] < 0,
        "numbers": lambda h, label: jnp.where(label * h[0, 0] < 0, 1.0, 0.0),
        "signs": lambda h, label: 0.5 * (1.0 - jnp.sign(h[0, 0] * label)),
        "integers": lambda h, label: (jnp.sign(h[0, 0]) != label).astype(int),
    }
    law = qn.laws.mixture([0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], labels=[-1, 1])
    problem = qn.SequenceProblem(law, lambda h, label: 0.5 * (h[0, 0] - label) ** 2, 2.0, 0.1, observables=rules)
    solution = problem.solve()
    for name in rules:
        np.testing.assert_allclose(solution[name], solution["boolean"], rtol=1e-9)
        np.testing.assert_allclose(solution.average(rules[name]), solution["boolean"], rtol=1e-9)
    q = float(solution["q"].squeeze())
    np.testing.assert_allclose(solution.average(lambda h: jnp.abs(h[0, 0])), _folded(float(solution["m"][1, 0]), q), rtol=2e-5)


def _folded(mean, variance):
    """E|h| of a Gaussian."""
    scale = np.sqrt(variance)
    return scale * np.sqrt(2 / np.pi) * np.exp(-0.5 * mean**2 / variance) + mean * (2 * scipy.special.ndtr(mean / scale) - 1)
