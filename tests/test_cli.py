"""The command line: what it prints, its exit codes, and how quickly it answers."""

import json
import os
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import Ridge, RidgeClassifier

import quenched as qn
from quenched import cli
from quenched.numerics import cache

RIDGE = ["--loss", "square", "--target", "linear", "--alpha", "2", "--weight-decay", "0.1", "--noise", "0.1"]


def test_help_is_quick_and_names_every_command():
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "quenched.cli", "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 0.5
    for command in ("list", "solve", "compare", "curve", "report", "figure", "explore", "demo", "about"):
        assert f"\n    {command} " in done.stdout


def test_solve_prints_the_solution(capsys):
    assert cli.main(["solve", "GeneralizedLinear", *RIDGE]) == 0
    out = capsys.readouterr().out
    assert "converged" in out and "0.184428877" in out


def test_solve_as_json(capsys):
    assert cli.main(["solve", "GeneralizedLinear", *RIDGE, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["converged"] is True and found["residual"] < 1e-8
    assert found["observables"]["test_mse_noisy"] == pytest.approx(0.1844288770, abs=1e-9)
    assert found["order_parameters"]["V"] == pytest.approx(0.8442887702, abs=1e-9)


def test_a_solve_that_does_not_converge_is_code_one(capsys):
    assert cli.main(["solve", "GeneralizedLinear", *RIDGE, "--max-steps", "1"]) == 1
    assert "not converged" in capsys.readouterr().out


def test_a_law_is_given_as_json(capsys):
    law = {"weights": [0.5, 0.5], "gram": [[1, -1], [-1, 1]], "covariances": [1, 1], "labels": [-1, 1]}
    words = ["solve", "MixtureClassification", "--loss", "square", "--alpha", "2", "--weight-decay", "0.1", "--json"]
    assert cli.main([*words, "--law", json.dumps(law)]) == 0
    problem = qn.problems.MixtureClassification("square", qn.laws.mixture(**law), alpha=2.0, weight_decay=0.1)
    found = json.loads(capsys.readouterr().out)["observables"]
    assert found["test_error"] == pytest.approx(float(problem.solve()["test_error"]), rel=1e-9)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["solve"], "needs a PROBLEM"),
        (["solve", "GenralizedLinear"], "no problem is called 'GenralizedLinear'; did you mean GeneralizedLinear?"),
        (["solve", "GeneralizedLinear", *RIDGE, "--alpha", "-2"], "alpha must be positive, got -2"),
        (["solve", "GeneralizedLinear", *RIDGE, "--loss", "sqare"], "loss must be one of"),
        (["list", "--fast"], "quenched list does not take '--fast'"),
    ],
)
def test_bad_input_is_code_two_and_one_sentence(words, sentence, capsys):
    assert cli.main(words) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.err.count("\n") == 1 and captured.out == ""


@pytest.mark.parametrize("words", [["fly"], ["solve", "GeneralizedLinear", "--alpha", "2"], []])
def test_argparse_refuses_with_code_two(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(words)
    assert "required" in capsys.readouterr().err or words == ["fly"]


def test_help_of_a_problem_explains_its_parameters(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["solve", "GeneralizedLinear", "--help"])
    out = capsys.readouterr().out
    for text in ("--weight-decay VALUE", "number of samples over input dimension", "(default 0.0)", "ridge regression"):
        assert text in out


def test_list_shows_every_problem(capsys):
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    assert "GeneralizedLinear\n" in out and "needs loss, target, alpha, weight_decay" in out
    assert cli.main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows["GeneralizedLinear"]["takes"]["noise"] == 0.0 and "law" in rows["MixtureClassification"]["needs"]


def test_about_prints_versions(capsys):
    assert cli.main(["about"]) == 0
    out = capsys.readouterr().out
    assert f"quenched {qn.__version__}" in out and f"numpy {np.__version__}" in out and f"jax {jax.__version__}" in out


def test_compare_lays_theory_beside_experiment(tmp_path, capsys):
    words = ["compare", "GeneralizedLinear", *RIDGE, "--dim", "100", "--seeds", "4", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "test_mse_noisy" in out and "+-" in out and "se" in out
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "compare.csv").read_text().startswith("name,theory,mean,standard_error,deviation\n")


@pytest.fixture
def digits(tmp_path):
    X, y = load_digits(return_X_y=True)
    np.save(tmp_path / "X.npy", X[:200] / 16.0)
    np.save(tmp_path / "y.npy", y[:200])
    return [str(tmp_path / "X.npy"), str(tmp_path / "y.npy")]


def test_curve_predicts_the_error_with_more_data(digits, tmp_path, capsys):
    words = ["curve", *digits, "--penalty", "10", "--samples", "200", "1000", "--out", str(tmp_path)]
    assert cli.main(words) == 0
    assert "test_error at penalty alpha = 10" in capsys.readouterr().out
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    rows = np.genfromtxt(tmp_path / "curve.csv", delimiter=",", names=True, usecols=("n_samples", "mean"))
    curve = qn.LearningCurve(RidgeClassifier(alpha=10.0), verbose=False).fit(*map(np.load, digits))
    assert rows["n_samples"].tolist() == [200, 1000]
    np.testing.assert_allclose(rows["mean"], np.asarray(curve.predict([200, 1000])))


def test_curve_takes_classes_as_numbers_if_told_so(digits, capsys):
    assert cli.main(["curve", *digits, "--regression", "--json"]) == 0
    prediction = json.loads(capsys.readouterr().out)["prediction"]
    assert prediction["n_samples"] == [200, 400, 800]
    curve = qn.LearningCurve(Ridge(alpha=1.0), verbose=False).fit(*map(np.load, digits))
    np.testing.assert_allclose(prediction["mean"], np.asarray(curve.predict([200, 400, 800])))


def test_curve_refuses_a_missing_file_and_a_pickle(digits, tmp_path, capsys):
    np.save(tmp_path / "o.npy", np.array([{}], dtype=object), allow_pickle=True)
    for path, sentence in ((tmp_path / "none.npy", "No such file"), (tmp_path / "o.npy", "Object arrays")):
        assert cli.main(["curve", str(path), digits[1]]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2), ("1e-3", 1e-3), (".5", 0.5), ("true", True), ("null", None), ("[1, 2]", [1, 2]), ("hinge", "hinge")],
)
def test_values_are_read_as_numbers_or_words(text, value):
    assert cli._value(text) == value and type(cli._value(text)) is type(value)


def test_the_cache_directory_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.setenv("QUENCHED_CACHE", str(tmp_path / "compiled"))
    assert cache.directory() == tmp_path / "compiled"
    monkeypatch.delenv("QUENCHED_CACHE")
    assert cache.directory().name == "quenched"


def test_compiled_functions_are_kept_there(tmp_path):
    code = """
from quenched.numerics import cache
cache.enable()
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.jit(lambda x: x + 1)(1.0)
print(cache.enable())
"""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    settings = inherited | {"QUENCHED_CACHE": str(tmp_path / "here")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=settings)
    assert any((tmp_path / "here").iterdir())
    assert done.stdout == "None\n"  # a cache that JAX has been given is left alone
