"""Message passing: its fixed points are minimisers of the risk, its steps follow state evolution.

Table: H. Cui (2024), arXiv:2409.13904, conventions; logistic regression on two classes, alpha 1.5, weight decay 0.2.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quenched as qn

P = qn.problems
G2 = qn.laws.SpectralLaw([0.5, 0.5], [(0.5, 1.0), (1.5, 0.4)], directions=[(-1.2, 1.2), (-0.6, 0.9)])
TWO = qn.laws.mixture([0.75, 0.25], spectrum=G2, labels=[-1, 1])
CLASSES = P.MixtureClassification("logistic", TWO, alpha=1.5, weight_decay=0.2)
RIDGE = P.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
TABLE = {  # step: q of both classes, m of both classes
    1: (2.90206, 3.17926, -1.46443, 1.58638),
    2: (1.44683, 1.36730, -0.89062, 0.97030),
    3: (1.37699, 1.37529, -0.94269, 1.02671),
    4: (1.32649, 1.32701, -0.92556, 1.00796),
    20: (1.32645, 1.33047, -0.92816, 1.01072),
}


def test_state_evolution_is_the_published_one():
    steps = CLASSES.state_evolution(20)
    for step, row in TABLE.items():
        np.testing.assert_allclose([*steps["q"][step], *steps["m"][step]], row, atol=1.5e-5, err_msg=f"step {step}")


@pytest.mark.slow
def test_iterates_follow_state_evolution():
    """Eight instances at d = 2000, every step of the table, in standard errors."""
    passed = [CLASSES.amp(2000, seed, test_samples=1) for seed in range(8)]
    away = []
    for step, row in TABLE.items():
        found = np.array([[*p.overlaps["q"][min(step, p.iterations)], *p.overlaps["m"][min(step, p.iterations)]] for p in passed])
        error = np.hypot(found.std(axis=0, ddof=1) / np.sqrt(8), 2.0 / 2000 * np.abs(row))
        away.append((found.mean(axis=0) - row) / error)
    assert np.mean(np.abs(away) <= 3.0) >= 0.95 and np.abs(away).max() < 5.0


@pytest.mark.thorough
@pytest.mark.parametrize("problem", [RIDGE, CLASSES], ids=["ridge", "logistic"])
@pytest.mark.slow
def test_state_evolution_ends_at_the_saddle_point(problem):
    end = problem.state_evolution(80)
    solution = problem.solve(tol=1e-11)
    for name in ("q", "V", "Q"):
        np.testing.assert_allclose(end[name][-1], solution[name], rtol=1e-7)


def assert_fixed_points_are_minimisers(problem, dim, seed=3, rtol=1e-6, **start):
    passing = problem.amp(dim, seed, **start)
    trials = problem.simulate(dim, seeds=[seed], **start)
    assert passing.converged and trials.converged.all()
    assert passing.gradient[-1] < 1e-6 * passing.gradient[0]
    for name in ("q", "m", "theta", "Q", "train_loss", "free_energy", *problem.model.scalars):
        if name in passing and name in trials.mean:
            np.testing.assert_allclose(passing[name], trials.mean[name], rtol=rtol, atol=1e-8, err_msg=name)


@pytest.mark.parametrize(
    "problem",
    [RIDGE, CLASSES, CLASSES.replace(intercept=True), P.GeneralizedLinear("huber", "linear", 2.0, 0.3, noise=0.2)],
    ids=["ridge", "logistic", "intercept", "huber"],
)
def test_fixed_points_are_minimisers(problem):
    assert_fixed_points_are_minimisers(problem, dim=200)


@pytest.mark.thorough
@pytest.mark.slow
def test_fixed_points_of_losses_with_more_than_one_unit_token_or_scalar():
    spectrum = qn.laws.SpectralLaw([0.5, 0.5], [(0.6, 1, 0.8), (1.2, 0.7, 0.8)], directions=[(1.5, -1, 0), (-1, 1.5, 0.5)])
    softmax = P.MixtureClassification("softmax", qn.laws.mixture([0.5, 0.3, 0.2], spectrum=spectrum), 2.0, 0.2)
    assert_fixed_points_are_minimisers(softmax, dim=120)
    shifted = qn.SequenceProblem(
        TWO, lambda h, label, scalars: jax.nn.softplus(-label * (h[0, 0] + scalars["b"])), 1.5, 0.2, scalars={"b": 0.0}
    )
    assert_fixed_points_are_minimisers(shifted, dim=200)
    pairs = P.Siamese(alpha=3.0, weight_decay=0.6, spectrum=[0.6, 1.0])
    assert_fixed_points_are_minimisers(pairs, dim=200, init="informed")


@pytest.mark.thorough
@pytest.mark.slow
def test_damping_is_found_where_messages_cycle():
    """A committee from random weights: undamped messages do not settle, damped ones end where gradient descent does."""
    machine = P.Committee(2, 2, "erf", alpha=6.0, weight_decay=0.2, noise=0.09)
    with pytest.warns(P.SolveWarning, match="damping=0.5 may help"):
        assert not machine.amp(400, 0, damping=0.0, max_steps=250, test_samples=1).converged
    passing = machine.amp(400, 0)
    assert passing.converged and passing.damping > 0 and "damping" in passing.status
    trials = machine.simulate(400, seeds=[0], init=passing.w)
    np.testing.assert_allclose(passing["free_energy"], trials.mean["free_energy"], rtol=1e-7)
    np.testing.assert_allclose(passing["q"], trials.mean["q"], rtol=1e-4)


@pytest.mark.thorough
@pytest.mark.slow
def test_user_written_problem_agrees_with_itself():
    """Theory, experiment and message passing of one problem that is in no catalogue."""
    problem = qn.SequenceProblem(
        law=TWO, loss=lambda h, label: jnp.exp(-label * h[0, 0]), alpha=1.5, weight_decay=0.5,
        observables={"test_error": lambda h, label: label * h[0, 0] < 0},
    )  # fmt: skip
    theory, trials, passing = problem.solve(), problem.simulate(dim=300, seeds=8), problem.amp(dim=2000, seed=0)
    error = trials["test_error"].standard_error
    assert abs(trials["test_error"].mean - theory["test_error"]) < 4 * error
    assert passing.converged
    assert abs(passing["test_error"] - theory["test_error"]) < 8 * error
    np.testing.assert_allclose(passing["V"], theory["V"], rtol=0.05)


def test_what_is_refused_or_marked():
    rng = np.random.default_rng(0)
    a, b = (m @ m.T / 4 for m in rng.normal(size=(2, 4, 4)))
    dense = qn.laws.mixture([0.5, 0.5], means=rng.normal(size=(2, 4)), covariances=[a, b], labels=[-1, 1], dense=True)
    with pytest.raises(TypeError, match="DenseTokens has no spectral atoms"):
        CLASSES.replace(law=dense).amp(dim=40)
    for bad in (dict(damping=1.0), dict(max_steps=0), dict(tol=-1.0), dict(init="warm")):
        with pytest.raises(ValueError, match=next(iter(bad))):
            RIDGE.amp(dim=40, **bad)
    with pytest.warns(P.SolveWarning, match="message passing"):
        passing = RIDGE.amp(dim=40, max_steps=1)
    assert not passing.converged and "not converged" in repr(passing)


def test_printing():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P.SolveWarning)
        passing = RIDGE.amp(dim=40)
    assert "test_mse" in repr(passing) and "<table>" in passing._repr_html_()
    with pytest.raises(KeyError, match="nothing"):
        passing["nothing"]
