"""Theory against finite-size experiments: every observable and overlap of every problem, in standard errors.

Judged together, as a family: within 3 standard errors at 95% of the comparisons and none beyond 5, with a finite-size shift of
``SHIFT / d`` of the value allowed beside the standard error (class proportions and norms fluctuate by O(1/d)).
"""

import warnings

import numpy as np
import pytest

import quenched as qn

pytestmark = pytest.mark.slow

SHIFT = 2.0
P = qn.problems
G2 = qn.laws.SpectralLaw([0.5, 0.5], [(0.5, 1.0), (1.5, 0.4)], directions=[(-1.2, 1.2), (-0.6, 0.9)])
TWO = qn.laws.mixture([0.75, 0.25], spectrum=G2, labels=[-1, 1])
THREE = qn.laws.mixture(
    [0.5, 0.3, 0.2],
    spectrum=qn.laws.SpectralLaw(
        [1 / 3] * 3, [(0.6, 1, 0.8), (1.2, 0.7, 0.8), (0.6, 1, 0.8)], directions=[(1.5, -1, 0), (-1, 1.5, 0.5), (0, -0.5, -1.5)]
    ),
)
R3 = qn.laws.SpectralLaw([0.5, 0.3, 0.2], [[0.3], [1.0], [3.0]], directions=[[1.0], [1.0], [0.5]])


def deviations(problem, dim, seeds=8, solve=None, simulate=None):
    """name -> deviations in standard errors (with the finite-size shift) of everything both report."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P.SolveWarning)
        theory = problem.solve(**(solve or {}))
    assert theory.residual < 1e-8
    trials = problem.simulate(dim, seeds, **(simulate or {}))
    assert trials.converged.all()
    found = {}
    for name in trials.mean:
        if name in theory:
            value = np.asarray(theory[name])
            error = np.hypot(trials.standard_error[name], SHIFT / dim * np.maximum(np.abs(value), 0.1))
            found[name] = np.ravel((trials.mean[name] - value) / error)
    return found


def judge(table):
    every = np.concatenate([d for row in table for d in row.values()])
    assert every.size >= 12
    assert np.mean(np.abs(every) <= 3.0) >= 0.95, table
    assert np.abs(every).max() <= 5.0, table


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "target", "noise"),
    [("square", "linear", 0.1), ("logistic", "sign", 0.0), ("hinge", "sign", 0.2), ("huber", "linear", 0.3),
     ("absolute", "linear", 0.3), ("logistic", "probit", 0.0)],
)  # fmt: skip
def test_generalised_linear(loss, target, noise):
    problem = P.GeneralizedLinear(loss, target, alpha=1.0, weight_decay=0.1, noise=noise, spectrum=R3)
    points = [(0.7, 0.3), (1.5, 0.1), (3.0, 0.05)]
    judge([deviations(problem.replace(alpha=a, weight_decay=w), dim=500) for a, w in points])


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("loss", ["logistic", "hinge", "square"])
@pytest.mark.parametrize("intercept", [False, True])
def test_binary_mixture(loss, intercept):
    problem = P.MixtureClassification(loss, TWO, alpha=1.0, weight_decay=0.1, intercept=intercept)
    points = [(0.8, 0.1), (1.5, 0.2), (3.0, 0.5)]
    judge([deviations(problem.replace(alpha=a, weight_decay=w), dim=600, seeds=10) for a, w in points])


@pytest.mark.thorough
@pytest.mark.slow
def test_softmax_mixture():
    problem = P.MixtureClassification("softmax", THREE, alpha=2.0, weight_decay=0.2)
    judge([deviations(problem.replace(alpha=a), dim=500) for a in (1.0, 2.0, 4.0)])


@pytest.mark.thorough
@pytest.mark.slow
def test_phase_retrieval():
    problem = P.PhaseRetrieval(alpha=3.0, weight_decay=0.2, noise=0.04)
    options = dict(solve={"init": "informed", "quadrature_tol": 1e-4}, simulate={"init": "informed"})
    judge([deviations(problem.replace(alpha=a), dim=800, **options) for a in (2.5, 3.0, 5.0)])


@pytest.mark.thorough
@pytest.mark.slow
def test_committee():
    """Beyond the specialisation transition, where unit a learns target a."""
    problem = P.Committee(2, 2, "erf", alpha=8.0, weight_decay=0.3, noise=0.09)
    options = dict(solve={"init": "specialised"}, simulate={"init": "informed"})
    judge([deviations(problem.replace(alpha=a, weight_decay=w), dim=400, **options) for a, w in [(8, 0.3), (10, 0.3), (12, 0.5)]])


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("loss", ["square", "huber"])
def test_a_teacher_that_is_not_linear(loss):
    def bent(x):
        return x + 0.25 * x**2

    problem = P.GeneralizedLinear(loss, bent, alpha=2.0, weight_decay=0.3, noise=0.2, spectrum=R3)
    options = dict(solve={"quadrature_tol": 1e-3})
    judge([deviations(problem.replace(alpha=a), dim=500, **options) for a in (1.0, 2.0, 4.0)])


@pytest.mark.thorough
@pytest.mark.slow
def test_siamese():
    problem = P.Siamese(alpha=3.0, weight_decay=0.6, spectrum=[0.6, 1.0])
    options = dict(solve={"init": "informed", "quadrature_tol": 1e-4}, simulate={"init": "informed"})
    judge([deviations(problem.replace(alpha=a, weight_decay=w), dim=600, **options) for a, w in [(2, 0.6), (3, 0.6), (4, 0.9)]])


@pytest.mark.thorough
@pytest.mark.slow
def test_inputs_of_random_scale():
    """A problem outside the catalogue: every input has its own scale (a continuous label on quadrature nodes)."""
    scale, weight = qn.laws.nodes.lognormal(12, sigma=0.5)
    law = qn.laws.sequence(weight, cov=scale[:, None, None] ** 2, value=scale, targets=1)
    problem = qn.SequenceProblem(
        law, "huber", alpha=2.0, weight_decay=0.3, response=qn.losses.Additive(0.2),
        observables={"test_mse": lambda h, target: (h[0, 0] - target[0, 0]) ** 2},
    )  # fmt: skip
    judge([deviations(problem.replace(alpha=a), dim=500) for a in (1.0, 2.0, 4.0)])


@pytest.mark.thorough
@pytest.mark.slow
def test_training_fields():
    """The law of the training pre-activations: quantiles against an actual training set, for a hinge loss (an atom at 1)."""
    from quenched.finite.data import draw
    from quenched.finite.minimise import minimise

    problem = P.GeneralizedLinear("hinge", "sign", alpha=2.0, weight_decay=0.1)
    draws = problem.solve().training_fields(200_000, seed=1)
    theory = draws["label"] * draws["h"][:, 0, 0]
    m = problem.model
    margins = []
    for seed in range(6):
        data, population = draw(m.law, m.loss, m.response, alpha=2.0, dim=500, seed=seed)
        fit = minimise(data, m.loss, 0.1, seed=seed, population=population)
        margins.append(data.label * (data.x[:, 0] @ fit.w[:, 0]) / np.sqrt(500))
    at_margin = np.array([np.mean(np.abs(x - 1) < 1e-6) for x in margins])
    expected = np.mean(np.abs(theory - 1) < 1e-9)
    assert abs(at_margin.mean() - expected) < 3 * at_margin.std(ddof=1) / np.sqrt(6) + SHIFT / 500
    below = np.array([np.mean(x < 0.5) for x in margins])
    assert abs(below.mean() - np.mean(theory < 0.5)) < 3 * below.std(ddof=1) / np.sqrt(6) + 3 / np.sqrt(200_000)
