"""The page of figures: it holds its pictures, tells passed from failed, and says where it lies."""

import csv
import re
import sys
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from quenched import cli, plotting
from quenched.figures import digits, message_passing, mixture, report
from quenched.figures.check import in_standard_errors


def data(deviations, failed="", trusted=True):
    """A sweep over alpha whose experiments lie so many standard errors from the theory (NaN: not measured)."""
    alpha = np.arange(1.0, 1.0 + len(deviations))
    theory, error, away = 1.0 / alpha, np.full(alpha.shape, 0.01), np.array(deviations, dtype=float)
    columns = {"test_error": theory, "test_error_mean": theory + away * error, "test_error_se": error}
    columns |= {"test_error_deviation": away, "trusted": np.full(alpha.shape, trusted)}
    columns["trials"] = np.where(np.isfinite(away), 8, 0)
    attrs = {"problem": "Tiny", "parameters": '{"noise": 0.25}', "simulate": '{"dim": 50}', "failed": failed}
    return xr.Dataset({name: ("alpha", column) for name, column in columns.items()}, {"alpha": alpha}, attrs)


@pytest.fixture
def tiny(monkeypatch):
    """A figure module that the page can be built from; its data are set by the test."""
    module = types.ModuleType("quenched.figures.tiny")
    module.TITLE, module.CAPTION = "A <tiny> figure", "What it shows."
    module.REFERENCES = ("A. Author (2020), arXiv:2002.11544",)
    module.data = data([0.5, -1.0, np.nan, 2.0])

    def study(quick, progress):
        if progress is not None:
            progress(1, 1, "theory")
        return module.data

    module.check = lambda data: in_standard_errors(data, "test_error")
    module.study, module.plot = study, lambda data: plotting.curve(data, "test_error")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def test_page_is_self_contained(tiny, tmp_path):
    seen = []
    page = report.build(tmp_path / "out", quick=True, progress=lambda *step: seen.append(step), names=("tiny",))
    text = page.path.read_text()
    assert page.passed and str(page.path.resolve()) in page.summary
    assert seen == [(1, 1, "figure 1 of 1, tiny: theory")]
    assert "A &lt;tiny&gt; figure" in text and "What it shows." in text and "quick report" in text
    assert "3 of 3 measured points lie within 3 standard errors of the theory, the farthest at 2.0" in text
    assert "noise = 0.25, dim = 50" in text
    assert '<a href="https://arxiv.org/abs/2002.11544">arXiv:2002.11544</a>' in text
    assert len(re.findall(r'src="data:image/png;base64,[\w+/=]{1000,}"', text)) == 1
    outside = re.findall(r'(?:src|href)="(?!data:|https://arxiv.org)([^"]*)"', text)
    assert sorted(outside) == ["tiny.csv", "tiny.png"] and all((tmp_path / "out" / name).exists() for name in outside)
    with (tmp_path / "out" / "tiny.csv").open() as file:
        assert [float(row["alpha"]) for row in csv.DictReader(file)] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("made", "passed"),
    [
        (data([2.9] * 19 + [4.9]), True),
        (data([2.9] * 18 + [4.9] * 2), False),  # fewer than 95% within three
        (data([0.0] * 99 + [-5.1]), False),  # one beyond five
        (data([0.0] * 9, failed="alpha=1: not converged"), False),
        (data([np.nan] * 3), False),  # nothing was measured
        (data([0.0] * 3, trusted=False), True),  # approximate theory may still agree; the page says how many
    ],
)
def test_what_passes(made, passed):
    assert in_standard_errors(made, "test_error").passed is passed


def test_doubtful_points_are_counted():
    assert "3 points of theory are doubtful" in in_standard_errors(data([0.0] * 3, trusted=False), "test_error").text


def test_a_figure_that_fails_shows(tiny, tmp_path, monkeypatch, capsys):
    tiny.data = data([0.0, 9.0], failed="alpha=2: not converged")
    monkeypatch.setattr(report, "FIGURES", ("tiny",))
    assert cli.main(["report", "--out", str(tmp_path)]) == 1
    assert "FAIL A <tiny> figure: 1 of 2 measured points" in capsys.readouterr().out
    text = (tmp_path / "index.html").read_text()
    assert "class=failed" in text and "alpha=2: not converged" in text


def test_demo_is_the_quick_report(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(report, "FIGURES", ("tiny",))
    assert cli.main(["demo", "--out", str(tmp_path)]) == 0
    assert "The report lies in" in capsys.readouterr().out
    assert "quick report" in (tmp_path / "index.html").read_text()


def test_optimal_error_of_two_clusters_is_the_limit_of_strong_penalties():
    """Theory at a very strong penalty against the formula of the dashed line, at two ratios."""
    problem = mixture.problem()
    for alpha in (0.5, 2.0):
        error = problem.replace(alpha=alpha, weight_decay=1e5).solve()["test_error"]
        assert float(error) == pytest.approx(mixture.bayes_error(alpha), abs=1e-5)
        assert float(problem.replace(alpha=alpha, weight_decay=0.1).solve()["test_error"]) > mixture.bayes_error(alpha)


def test_digits_are_predicted_and_the_check_can_fail():
    data = digits.study(quick=True)
    verdict = digits.check(data)
    assert verdict.passed and len(verdict.rows) == 27 and verdict.rows[0]["n_samples"] == 30
    wrong = data.assign(test_mse=1.2 * data["test_mse"])
    assert not digits.check(wrong).passed
    assert not digits.check(data.assign(inside=0.5 * data["inside"])).passed
    ax = digits.plot(data)
    assert len(ax.containers) == 3 and ax.get_xscale() == ax.get_yscale() == "log"
    plt.close(ax.figure)


def test_message_passing_is_compared_step_by_step(monkeypatch):
    monkeypatch.setattr(message_passing, "ALPHAS", (2.0,))
    data = message_passing.study(quick=True)
    verdict = message_passing.check(data)
    assert len(verdict.rows) == message_passing.STEPS + 1 and verdict.passed
    assert not message_passing.check(data.assign(cosine_deviation=data["cosine_deviation"] + 6.0)).passed
    ax = message_passing.plot(data)
    assert ax.get_xlabel() == "step $t$"
    plt.close(ax.figure)


def test_mean_square_of_one_training_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(40, 3)), rng.normal(size=(40, 2))
    order = np.random.default_rng((1, 5)).permutation(40)
    train, test = order[:30], order[30:]
    centred, shift = X[train] - X[train].mean(axis=0), Y[train].mean(axis=0)
    w = np.linalg.solve(centred.T @ centred + 0.5 * np.eye(3), centred.T @ (Y[train] - shift))
    expected = np.mean((shift + (X[test] - X[train].mean(axis=0)) @ w - Y[test]) ** 2)
    assert digits._train(X, Y, 0.5, 30, 5) == pytest.approx(expected)
