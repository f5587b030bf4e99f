"""The page of figures: it holds its pictures, tells passed from failed, and says where it lies."""

import csv
import json
import pickle
import re
import sys
import types

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from quenched import cli, plotting
from quenched.figures import digits, message_passing, mixture, report
from quenched.figures.check import close_ones, counted, in_standard_errors
from quenched.plotting.page import settings


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
    charts = [json.loads(held) for held in re.findall(r'<script type="application/json">(.*?)</script>', text)]
    np.testing.assert_allclose(charts[0]["traces"][0]["y"], tiny.data["test_error"].values, rtol=1e-6)
    assert charts[1]["traces"][0]["y"] == [0.5, -1, 2] and charts[1]["traces"][0]["text"][0].startswith("alpha = 1, theory = 1")
    assert "data:image/png" not in text and 'href="#tiny"' in text and "✓ pass" in text
    outside = re.findall(r'(?:src|href)="(?!data:|#|https://arxiv.org)([^"]*)"', text.partition("<script>")[0])
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
    assert in_standard_errors(data([0.0], trusted=False), "test_error").text == (
        "1 of 1 measured point lies within 3 standard errors of the theory, the farthest at 0.0; "
        "1 point of theory is doubtful (hollow)"
    )


@pytest.mark.parametrize(
    ("away", "words"),
    [
        ([0.5, -1.0], "2 of 2 measured points lie"), ([0.5, -7.0], "1 of 2 measured points lies"),
        ([7.0, 7.0], "0 of 2 measured points lie"), ([7.0], "0 of 1 measured point lies"),
    ],
)  # fmt: skip
def test_words_agree_with_numbers(away, words):
    assert close_ones(away) == f"{words} within 3 standard errors"
    assert [counted(n, "layer") for n in range(3)] == ["0 layers", "1 layer", "2 layers"]


def test_settings_say_once_what_is_fixed():
    about = {"problem": "Tiny", "parameters": '{"alpha": 1.0, "noise": 0.25, "units": [3.0, 4]}', "simulate": '{"dim": 50}'}
    assert settings(about, data([0.0]).coords) == "Tiny: noise = 0.25, units = [3, 4], dim = 50"
    assert settings(about | {"parameters": '"Tiny(noise=0.25)"'}) == "Tiny(noise=0.25): dim = 50"
    assert settings({}) == ""


def test_a_long_legend_does_not_take_the_place_of_the_curves():
    ax = plt.subplots()[1]
    for k in range(6):
        ax.plot([0.0, 1.0], [0.0, k], label=f"curve {k}")
    assert "style" not in report._chart(plotting.charts(ax)[0])
    ax.legend()
    assert 'style="height: 458px"' in report._chart(plotting.charts(ax)[0])
    plt.close(ax.figure)


@pytest.mark.parametrize(("count", "step"), [(1, 1), (4, 1), (40, None)])
def test_deviations_of_few_points_are_marked_at_whole_numbers(count, step):
    [held] = re.findall(r'json">(.*?)</script>', report._deviations(in_standard_errors(data([0.5] * count), "test_error")))
    axis = json.loads(held)["layout"]["xaxis"]
    assert axis.get("dtick") == step and 0.0 < axis["range"][0] < 1.0 and count < axis["range"][1] < count + 1.0


def test_a_figure_that_fails_shows(tiny, tmp_path, monkeypatch, capsys):
    tiny.data = data([0.0, 9.0], failed="alpha=2: not converged")
    monkeypatch.setattr(report, "FIGURES", ("tiny",))
    assert cli.main(["report", "--out", str(tmp_path)]) == 1
    assert "FAIL A <tiny> figure: 1 of 2 measured points" in capsys.readouterr().out
    text = (tmp_path / "index.html").read_text()
    assert 'class="failed"' in text and "alpha=2: not converged" in text and "✗ fail" in text


def test_a_figure_that_cannot_be_computed_is_told_and_the_others_go_on(tiny, tmp_path):
    broken = types.ModuleType("quenched.figures.broken_one")
    broken.TITLE, broken.study = "A broken figure", lambda quick, progress: 1 / 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, broken.__name__, broken)
        page = report.build(tmp_path, names=("broken-one", "no-such-figure", "tiny"), processes=1)
    text = page.path.read_text()
    assert not page.passed and "FAIL A broken figure: it could not be computed, ZeroDivisionError: division by zero" in page.summary
    assert "No module named &#x27;quenched.figures.no_such_figure&#x27;" in text and "1 of 3 figures passes" in text
    assert "A &lt;tiny&gt; figure" in text


def test_the_page_is_whole_after_every_figure(tiny, tmp_path):
    module, seen = types.ModuleType("quenched.figures.second"), []
    module.TITLE = "Second"

    def study(quick, progress):
        seen.append((tmp_path / "index.html").read_text())
        raise KeyboardInterrupt  # somebody ends the report here

    module.study = study
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setitem(sys.modules, module.__name__, module)
        report.build(tmp_path, names=("tiny", "second"), processes=1)
    [text] = seen
    assert text.endswith("</html>\n") and "1 of 2 figures passes, 1 not computed yet" in text and ">waiting</span>second" in text


def test_a_section_goes_between_processes(tiny, tmp_path):
    section = report.compute("tiny", True, tmp_path)
    assert pickle.loads(pickle.dumps(section)) == section and section.passed and section.seconds > 0


def test_a_heat_map_is_shown_as_a_picture(tiny, tmp_path):
    def draw(data):
        _, (left, right) = plt.subplots(1, 2)
        left.imshow([[1.0, 2.0]])
        return plotting.curve(data, "test_error", ax=right)

    tiny.plot = draw
    body = report.compute("tiny", True, tmp_path).body
    assert len(re.findall(r'src="data:image/png;base64,[\w+/=]{1000,}" alt="A &lt;tiny&gt; figure, panel 1"', body)) == 1
    assert body.count("data-lazy") == 2  # the other panel, and the deviations


def test_every_measured_number_has_a_deviation_if_it_can():
    assert report._deviation({"deviation": -2.0, "mean": 1.0}) == -2.0
    assert np.isnan(report._deviation({"predicted": 1.0, "measured": 1.5, "standard error": 0.25}))  # it has an error of its own
    assert np.isnan(report._deviation({"mean": 1.0})) and np.isnan(report._deviation({"theory": 1, "mean": 2, "standard error": 0}))


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


@pytest.mark.slow
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
