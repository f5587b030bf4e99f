"""A Dataset as a page with sliders: the numbers that the page holds, what it refuses, and the shipped ones."""

import json
import re

import numpy as np
import pytest
import xarray as xr

from quenched import cli, figures, plotting
from quenched.figures import explorers
from quenched.names import attributes
from quenched.plotting.explore import page_data


def dataset(sizes=(2, 3, 5)):
    """A sweep over losses, penalties and sizes; measured at the last two penalties, doubtful at one point."""
    shape, dims = sizes, ("loss", "weight_decay", "alpha")
    coordinates = {
        "loss": [f"loss {k}" for k in range(shape[0])], "weight_decay": np.geomspace(0.01, 1.0, shape[1]),
        "alpha": ("alpha", np.geomspace(0.5, 8.0, shape[2]), attributes("alpha")),
    }  # fmt: skip
    theory = 0.1 + np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)
    mean = np.where(np.arange(shape[1])[:, None] > 0, theory, np.nan)
    trusted = np.ones(shape, bool)
    trusted[0, 0, 1] = False
    columns = {
        "q": theory**2, "test_error": theory, "test_error_mean": mean, "test_error_se": 0.1 * mean,
        "test_error_deviation": 0 * mean, "residual": 0 * theory, "trusted": trusted, "trials": np.where(np.isfinite(mean), 4, 0),
    }  # fmt: skip
    known = {name: (dims, column, attributes(name)) for name, column in columns.items()}
    return xr.Dataset(known, coordinates, {"problem": "Tiny", "parameters": '{"noise": 0.1}', "simulate": '{"dim": 50}'})


def test_numbers_are_in_the_order_of_sliders_curves_and_axis():
    data = dataset()
    held = page_data(data, ["weight_decay"])
    [one] = held["observables"]  # what was measured
    assert (held["x"]["name"], held["x"]["log"], one["name"], one["log"]) == ("alpha", True, "test_error", False)
    assert held["x"]["title"] == "samples per dimension <i>α</i> = <i>n</i>/<i>d</i>"
    assert one["title"] == "test error (fraction of wrong labels)" and one["curves"] == ["loss 0", "loss 1"]
    np.testing.assert_array_equal(one["theory"], data["test_error"].transpose("weight_decay", "loss", "alpha").values.ravel())
    np.testing.assert_array_equal(one["mean"].reshape(3, 2, 5)[2, 1], data["test_error_mean"].values[1, 2])
    assert one["trusted"].reshape(3, 2, 5)[0, 0].tolist() == [1, 0, 1, 1, 1]
    assert one["sound"].reshape(3, 2, 5)[:, 0, 0].tolist() == [0, 1, 1]
    [slider] = held["sliders"]
    assert slider["values"] == ["0.01", "0.1", "1"] and slider["start"] == 1 and slider["title"] == "weight decay <i>λ</i>"
    assert held["title"] == "Tiny" and held["about"] == "Tiny: noise = 0.1, dim = 50"


def test_all_but_the_axis_are_sliders_and_words_slide_too():
    held = page_data(dataset(), x="weight_decay", y=["q", "test_error"])
    assert [slider["name"] for slider in held["sliders"]] == ["loss", "alpha"]
    assert held["sliders"][0]["values"] == ["loss 0", "loss 1"]
    assert [one["name"] for one in held["observables"]] == ["q", "test_error"] and held["observables"][0]["mean"] is None
    assert all(one["curves"] == [""] for one in held["observables"])


def test_a_slider_starts_where_something_was_measured():
    data = dataset((1, 7, 5))
    data["test_error_mean"] = data["test_error_mean"].where(data["weight_decay"] > 0.9)
    assert page_data(data, ["weight_decay"])["sliders"][0]["start"] == 6


def test_a_path_in_time_has_no_flags_and_arrays_are_curves():
    time, rate = np.linspace(0.0, 4.0, 5), np.linspace(0.1, 0.9, 9)
    values = np.random.default_rng(0).normal(size=(5, 9, 2, 2))
    data = xr.Dataset({"theta": (("time", "learning_rate", "unit", "target"), values)}, {"time": time, "learning_rate": rate})
    held = page_data(data)
    [one] = held["observables"]
    assert held["x"]["name"] == "time" and not held["x"]["log"] and not held["x"]["positive"]
    assert one["curves"] == [f"<i>θ</i>[{i}, {j}]" for i in range(2) for j in range(2)] and one["trusted"] is None
    np.testing.assert_array_equal(one["theory"].reshape(9, 4, 5)[3, 2], values[:, 3, 1, 0])


def test_names_and_units_come_from_the_dataset():
    data = dataset()
    data["alpha"].attrs = {"long_name": "number of cells", "units": "cells"}
    data["test_error"].attrs = {"long_name": "misses $m_1$", "units": "%"}
    held = page_data(data)
    assert held["x"]["title"] == "number of cells"
    assert held["observables"][0]["title"] == "misses <i>m</i><sub>1</sub> (%)" and held["observables"][0]["text"] == "misses m1"


def test_the_axis_runs_upwards():
    data = dataset().isel(alpha=slice(None, None, -1))
    held = page_data(data)
    assert (np.diff(held["x"]["values"]) > 0).all()
    np.testing.assert_array_equal(held["observables"][0]["theory"], dataset()["test_error"].values.ravel())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"sliders": ["alhpa"]}, "sliders must be one of 'loss', 'weight_decay', 'alpha', got 'alhpa'"),
        ({"sliders": ["alpha", "weight_decay"]}, "sliders must leave one parameter of numbers for the axis, of loss, weight_decay"),
        ({"x": "loss"}, "x must be one of 'weight_decay', 'alpha', got 'loss'"),
        ({"x": "alpha", "sliders": ["alpha"]}, "sliders must not name x, which is 'alpha', got .'alpha'."),
        ({"y": "residual"}, "y must be one of 'q', 'test_error', got 'residual'"),
        ({"y": []}, "y must name at least one observable"),
    ],
)
def test_refusals(arguments, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        plotting.explorer(dataset(), path=tmp_path / "a.html", **arguments)
    assert not list(tmp_path.iterdir())


def test_what_is_no_sweep_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dataset must be an xarray.Dataset as quenched.sweep returns it, got dict"):
        plotting.explorer({}, path=tmp_path / "a.html")
    with pytest.raises(ValueError, match="dataset must have at least one parameter"):
        plotting.explorer(xr.Dataset({"a": ("x", [1.0])}), path=tmp_path / "a.html")
    with pytest.raises(ValueError, match="y must name observables with at least one number, got 'q', which has none"):
        plotting.explorer(dataset().assign(q=dataset()["q"] * np.nan), path=tmp_path / "a.html", y="q")


def test_a_page_beyond_two_megabytes_is_refused_and_says_how_to_shrink(tmp_path):
    with pytest.raises(ValueError, match=r"at most 2 MB, got \d\.\d MB: name fewer observables in y, or keep fewer values of loss"):
        plotting.explorer(dataset((20, 40, 100)), path=tmp_path / "a.html")


def test_the_page_holds_all_it_needs(tmp_path):
    data = dataset().assign_attrs(problem="</script><b>")
    path = plotting.explorer(data, ["weight_decay"], tmp_path / "new" / "lecture.html", title="A <lecture>")
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 2_000_000 and "<h1>A &lt;lecture&gt;</h1>" in text and "<title>A &lt;lecture&gt;</title>" in text
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?!data:)', text)
    [held] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    numbers = json.loads(held, parse_constant=lambda name: pytest.fail(f"{name} in the page"))
    expected = page_data(data, ["weight_decay"])["observables"][0]["theory"]
    np.testing.assert_allclose(numbers["observables"][0]["theory"], expected, 1e-6)
    assert None in numbers["observables"][0]["mean"]


def test_the_licence_of_the_chart_library_is_beside_it():
    from quenched.plotting.page import asset

    assert "Permission is hereby granted, free of charge" in asset("plotly-LICENSE.txt")
    assert "Licensed under the MIT license" in asset("plotly-basic.min.js")[:200]
    assert "</script" not in asset("plotly-basic.min.js")


def test_explorers_of_the_command_line_are_those_that_exist(tmp_path, monkeypatch, capsys):
    assert tuple(explorers.EXPLORERS) == figures.EXPLORERS
    assert cli.main(["explore", "nothing"]) == cli.BAD_INPUT and "NAME must be one of logistic" in capsys.readouterr().err
    tiny = explorers.Explorer("Tiny", ("weight_decay",), ("test_error",), lambda quick, progress: dataset())
    monkeypatch.setitem(explorers.EXPLORERS, "logistic", tiny)
    assert cli.main(["explore", "logistic", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "logistic.html").exists() and str(tmp_path / "logistic.html") in capsys.readouterr().out


def test_a_table_of_curves_has_the_form_of_a_sweep():
    axis = np.array([1.0, 2.0, 3.0])

    def theory(alpha, kind):
        return {"q": alpha * axis, "test_mse": axis[:, None] * np.ones(2)} | ({"trusted": axis < 3.0} if kind == "a" else {})

    def experiment(alpha, kind):
        return {"q": explorers._rows({1: (alpha, 0.5)}, 3)} if alpha == 2.0 else None

    seen = []
    data = explorers._table(
        {"alpha": np.array([1.0, 2.0]), "kind": np.array(["a", "b"])}, {"time": axis}, theory, experiment, {"problem": "Tiny"},
        {"dim": 50}, lambda *step: seen.append(step), {"test_mse": ("unit",)},
    )  # fmt: skip
    assert data["q"].dims == ("alpha", "kind", "time") and data["test_mse"].dims == ("alpha", "kind", "time", "unit")
    assert data["trusted"].values.tolist() == [[[True, True, False], [True] * 3]] * 2
    np.testing.assert_array_equal(data["q_mean"].values[1, 0], [np.nan, 2.0, np.nan])
    assert np.isnan(data["q_mean"].values[0]).all() and seen[-1] == (4, 4, "done")
    assert page_data(data, ["alpha"])["observables"][0]["curves"] == ["a", "b"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.thorough] * (name in ("attention", "online-committee"))) for name in figures.EXPLORERS],
)
def test_shipped_explorers(name, tmp_path):
    """They are computed, and nine in ten of the measured numbers lie within four standard errors (and 5%) of the theory."""
    made = explorers.EXPLORERS[name]
    data = made.study(quick=True)
    assert data["trusted"].values.mean() > 0.7
    measured = [one for one in made.y if f"{one}_mean" in data]
    away = [np.abs(data[f"{n}_mean"] - data[n]) / (4 * data[f"{n}_se"] + 0.05 * np.abs(data[n])) for n in measured]
    away = np.concatenate([one.values[np.isfinite(one.values)] for one in away])
    assert away.size > 3 and np.mean(away < 1.0) > 0.9
    assert plotting.explorer(data, list(made.sliders), tmp_path / "a.html", y=list(made.y)).stat().st_size < 2_000_000
