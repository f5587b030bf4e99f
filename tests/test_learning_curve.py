"""Learning curves on real data: predictions from part of the digits against scikit-learn trained on more and less."""

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import Lasso, LogisticRegression, Ridge, RidgeClassifier, RidgeCV
from sklearn.pipeline import make_pipeline

import quenched as qn

X, Y = load_digits(return_X_y=True)
X, ONE_HOT = X / 16.0, np.eye(10)[Y]
PENALTIES = (0.01, 1.0, 30.0)


def rows(seed, n):
    return np.random.default_rng((51, seed)).permutation(len(X))[:n]


def trained(n, penalty, seeds):
    """Test mean squares of ``seeds`` trainings on n of all digits, tested on the rest."""
    found = []
    for seed in range(seeds):
        order = np.random.default_rng((5, n, seed)).permutation(len(X))
        train, test = order[:n], order[n:]
        found.append(np.mean((Ridge(alpha=penalty).fit(X[train], ONE_HOT[train]).predict(X[test]) - ONE_HOT[test]) ** 2))
    return np.array(found)


@pytest.mark.filterwarnings("ignore:Singular matrix", "ignore:Ill-conditioned matrix")
@pytest.mark.slow
def test_digits_at_every_size_and_penalty():
    """Half of the sample to five times of it: deviation, coverage, and where more data hurt."""
    sizes, curves = (30, 60, 100, 200, 400, 800, 1500), []
    for penalty in PENALTIES:
        samples = [rows(seed, 300) for seed in range(3)]
        curves.append([qn.LearningCurve(Ridge(alpha=penalty), verbose=False).fit(X[r], ONE_HOT[r]) for r in samples])
    deviations, inside = [], []
    for penalty, fitted in zip(PENALTIES, curves, strict=True):
        for n in sizes:
            truth = trained(n, penalty, 12 if n < 500 else 6)
            for at in (curve.predict(n) for curve in fitted):
                deviations.append(abs(float(at) / truth.mean() - 1.0))
                inside.append(np.mean((at.lower <= truth) & (truth <= at.upper)))
    assert np.mean(deviations) < 0.08
    assert np.mean(inside) > 0.85  # of 90% intervals
    grid = np.arange(30, 120, 2)
    peaks = [grid[np.argmax(curve.predict(grid).mean)] for curve in curves[0]]
    truth = [trained(int(n), PENALTIES[0], 12).mean() for n in grid[::4]]
    assert abs(np.mean(peaks) - grid[::4][np.argmax(truth)]) <= 12


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("classes", [10, 2])
def test_error_rates_over_draws(classes):
    labels = Y if classes == 10 else (Y >= 5).astype(int)
    for penalty in (100.0 / 256, 3000.0 / 256):
        ratios = {n: [] for n in (100, 200, 400, 1200)}
        truth = {}
        for n in ratios:
            orders = [np.random.default_rng((7, n, t)).permutation(len(X)) for t in range(30)]
            fits = [(RidgeClassifier(alpha=penalty).fit(X[o[:n]], labels[o[:n]]), o[n:]) for o in orders]
            truth[n] = np.mean([np.mean(model.predict(X[test]) != labels[test]) for model, test in fits])
        for seed in range(12):
            r = rows(seed, 400)
            curve = qn.LearningCurve(RidgeClassifier(alpha=penalty), verbose=False).fit(X[r], labels[r])
            for n in ratios:
                at = curve.predict(n)
                ratios[n].append((float(at) / truth[n], at.lower <= truth[n] <= at.upper))
        for n, found in ratios.items():
            found = np.array(found, float)
            error = found[:, 0].std(ddof=1) / np.sqrt(len(found))
            assert abs(found[:, 0].mean() - 1.0) < 0.08 + 2.0 * error, (n, penalty)  # approximate: a bias of 8% at most
            assert found[:, 1].mean() >= 0.75, (n, penalty)


def test_the_peak_beyond_the_sample_is_foreseen_and_marked():
    """40 rows of 64 pixels: errors beyond the peak are extrapolated, said so, and in the interval."""
    held = []
    for seed in range(4):
        r = rows(seed, 40)
        at = qn.LearningCurve(Ridge(alpha=0.01), verbose=False).fit(X[r], ONE_HOT[r]).predict([40, 160])
        assert at.extrapolated.tolist() == [False, True] and "extrapolated" in repr(at)
        held.append(at.lower[1] <= 0.050 <= at.upper[1])
    assert np.mean(held) >= 0.75


def test_results_read_well(capsys):
    r = rows(0, 300)
    curve = qn.LearningCurve(RidgeClassifier(alpha=1.0)).fit(X[r], Y[r])
    assert "measured/predicted" in capsys.readouterr().out
    html = curve.predict([100, 300])._repr_html_() + curve.backtest._repr_html_()
    assert html.count("<table>") == 2 and "approximate" in html
    best = curve.tune(600, observable="test_mse")
    assert best.penalty > 0 and float(best.prediction) <= float(best.current) and "alpha" in repr(best)
    need = curve.required(test_mse=0.2)
    assert need.lower <= need.n_samples <= need.upper and "samples" in repr(need)
    assert "not reachable, floor" in repr(curve.required(test_mse=0.01))
    axes = curve.plot(n_samples=np.array([50, 150, 300, 900]))
    assert axes.get_xlabel().startswith("number of samples") and len(axes.lines) >= 2
    assert "RidgeClassifier" in repr(curve) and "not fitted" in repr(qn.LearningCurve(Ridge()))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: qn.LearningCurve(Lasso()), "Ridge or RidgeClassifier"),
        (lambda: qn.LearningCurve(RidgeCV()), "the alpha that it chose"),
        (lambda: qn.LearningCurve(make_pipeline(LogisticRegression())), "logistic"),
        (lambda: qn.LearningCurve(make_pipeline(Ridge(), Ridge())), "estimator must be a pipeline"),
        (lambda: qn.LearningCurve(Ridge(positive=True)), "positive=False"),
        (lambda: qn.LearningCurve(RidgeClassifier(class_weight="balanced")), "class_weight=None"),
        (lambda: qn.LearningCurve(Ridge(alpha=-1.0)), "alpha must be non-negative"),
        (lambda: qn.LearningCurve(Ridge(), seed="a"), "seed must be"),
        (lambda: qn.LearningCurve(Ridge()).fit(X[:30], np.ones(30)), "y must vary"),
        (lambda: qn.LearningCurve(Ridge()).fit(np.ones((30, 2)), np.arange(30.0)), "X must vary"),
        (lambda: qn.LearningCurve(RidgeClassifier()).fit(X[:30], np.zeros(30)), "two or more classes"),
        (lambda: qn.LearningCurve(RidgeClassifier()).fit(X[:30], np.arange(30) / 7), "y must hold classes"),
        (lambda: qn.LearningCurve(Ridge()).fit_population(np.eye(2), np.ones(2), 0.5), "variance must be at least"),
        (lambda: qn.LearningCurve(Ridge()).fit_population(np.eye(2), np.ones(3), 5.0), "must be \\(p, p\\)"),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda c: c.predict(1), "n_samples must be"),
        (lambda c: c.predict(True), "n_samples must be"),
        (lambda c: c.predict(np.nan), "n_samples must be"),
        (lambda c: c.predict(50, observable="test_error"), "observable must be"),
        (lambda c: c.predict(50, penalty=-1.0), "penalty must be"),
        (lambda c: c.tune(1), "n_samples must be"),
        (lambda c: c.required(), "one target"),
        (lambda c: c.required(test_mse=-1.0), "test_mse must be positive"),
    ],
)
def test_questions_that_are_refused(ask, sentence):
    curve = qn.LearningCurve(Ridge(), verbose=False).fit_population(np.eye(5), np.full(5, 0.2), 1.0)
    with pytest.raises(ValueError, match=sentence):
        ask(curve)
