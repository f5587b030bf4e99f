"""Learning curves of ridge estimators: leave-one-out against refits, known populations, and what is refused."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier

import quenched as qn
from quenched.limit.leave_one_out import LeaveOneOut

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 8)) * np.linspace(0.5, 2.0, 8) + 1.0
Y = X @ RNG.normal(size=(8, 2)) + RNG.normal(size=(60, 2))


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_leave_one_out_is_what_refits_find(intercept, penalty):
    loo = LeaveOneOut.of(X, Y, intercept=intercept)
    refits = [
        Y[i] - Ridge(alpha=penalty, fit_intercept=intercept).fit(np.delete(X, i, 0), np.delete(Y, i, 0)).predict(X[i : i + 1])[0]
        for i in range(len(X))
    ]
    np.testing.assert_allclose(loo.residuals(penalty), refits, rtol=1e-8)


def test_a_known_population_is_the_closed_form():
    curve = qn.LearningCurve(Ridge(alpha=0.1 * 200, fit_intercept=False), verbose=False)
    curve.fit_population(np.eye(200), np.full(200, 200**-0.5), 1.1)  # alpha 2, weight_decay 0.1, noise 0.1
    assert abs(curve.predict(400).mean - 0.1844288770) < 1e-9
    best = curve.tune(400)
    assert abs(best.penalty - 20.0) < 0.5  # the optimal weight decay is the noise


def gaussian(n, p, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) / np.sqrt(np.arange(1, p + 1))
    return x, x @ np.where(np.arange(p) % 3, 1.0, -1.0) + 0.5 * rng.normal(size=n)


@pytest.mark.parametrize("penalty", [0.3, pytest.param(10.0, marks=pytest.mark.slow)])
def test_more_data_than_there_are(penalty):
    """Fitted on 200 rows of 100 features; models trained on 800 fresh rows: their error, and whether the interval holds it."""
    fresh, inside = [], 0
    test = gaussian(20_000, 100, 99)
    for seed in range(6):
        at = qn.LearningCurve(Ridge(alpha=penalty), verbose=False).fit(*gaussian(200, 100, seed)).predict(800)
        model = Ridge(alpha=penalty).fit(*gaussian(800, 100, (1, seed)))
        error = np.mean((model.predict(test[0]) - test[1]) ** 2)
        fresh.append(float(at.mean) / error)
        inside += at.lower <= error <= at.upper
    assert abs(np.mean(fresh) - 1.0) < 3 * np.std(fresh, ddof=1) / np.sqrt(6) + 0.05
    assert inside >= 4


def test_required_is_a_size_or_a_floor():
    curve = qn.LearningCurve(Ridge(alpha=1.0), verbose=False).fit(*gaussian(300, 50, 0))
    enough = curve.required(test_mse=0.35)
    assert enough.n_samples > 50 and float(curve.predict(enough.n_samples).mean) <= 0.35
    assert "floor" in repr(curve.required(test_mse=0.1))  # the noise alone is 0.25


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: qn.LearningCurve(LogisticRegression()), "estimator"),
        (lambda: qn.LearningCurve("ridge"), "estimator"),
        (lambda: qn.LearningCurve(Ridge(), level=1.0), "level must be"),
        (lambda: qn.LearningCurve(Ridge(), route="loo"), "route must be"),
        (lambda: qn.LearningCurve(Ridge(), trainings=1), "trainings must be"),
        (lambda: qn.LearningCurve(Ridge()).predict(100), "fitted first"),
        (lambda: qn.LearningCurve(Ridge()).fit(X[:10], Y[:10]), "X must have 20 rows"),
        (lambda: qn.LearningCurve(Ridge()).fit(X, Y[:10]), "y must have one entry"),
        (lambda: qn.LearningCurve(Ridge()).fit(np.full((30, 2), np.nan), np.ones(30)), "X must hold finite"),
    ],
)
def test_refusals(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


def test_classifier_and_printing(capsys):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 3, 300)
    x = rng.normal(size=(300, 20)) + 1.5 * np.eye(3, 20)[y]
    curve = qn.LearningCurve(RidgeClassifier(alpha=5.0)).fit(x, y)
    assert "measured" in capsys.readouterr().out  # the back-test
    prediction = curve.predict(np.array([150, 300, 1200]))
    assert prediction.observable == "test_error" and "approximate" in repr(prediction)
    assert np.all(np.diff(prediction.mean) < 0) and np.all(prediction.lower <= prediction.mean)
    with pytest.raises(ValueError, match="n_samples must be"):
        curve.predict(1.5)


def test_least_squares_is_ridge_without_a_penalty():
    curve = qn.LearningCurve(LinearRegression(), verbose=False).fit(*gaussian(300, 30, 3))
    assert 0.25 < float(curve.predict(300).mean) < 0.35  # noise 0.25 / (1 - 30/300)
