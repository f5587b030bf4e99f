"""Pictures show what the data say: what is not to be trusted is hollow, numbers go beside the picture."""

import csv

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from quenched import plotting


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def dataset(trusted=(True, True, True, True), simulated=True):
    """A sweep over two losses and four sizes, as `qn.sweep` returns it."""
    alpha = np.array([0.5, 1.0, 2.0, 8.0])
    dims = ("loss", "alpha")
    error = np.array([0.4 / np.sqrt(alpha), 0.3 / np.sqrt(alpha)])
    data = {"test_error": (dims, error), "trusted": (dims, np.array([trusted, [True] * 4]))}
    if simulated:
        mean = np.where(alpha == 1.0, np.nan, error + 0.01)
        data |= {"test_error_mean": (dims, mean), "test_error_se": (dims, np.full(mean.shape, 0.02))}
        data["trials"] = (dims, np.where(np.isfinite(mean), 4, 0))
    attrs = {"simulate": '{"dim": 200}'}
    return xr.Dataset(data, {"loss": ["hinge", "square"], "alpha": alpha}, attrs)


def hollow(ax):
    return [drawn for drawn in ax.lines if drawn.get_markerfacecolor() == "none"]


def test_curve_draws_every_line_and_every_measured_point():
    ax = plotting.curve(dataset(), "test_error")
    assert ax.get_xlabel() == r"samples per dimension $\alpha = n/d$" and ax.get_ylabel() == "test error"
    assert ax.get_xscale() == "log"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["hinge", "square"]
    assert len(ax.containers) == 2
    assert [len(container[0].get_xdata()) for container in ax.containers] == [3, 3]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 0.4 / np.sqrt([0.5, 1.0, 2.0, 8.0]))
    assert hollow(ax) == []


def test_a_doubtful_point_leaves_the_line_and_is_hollow():
    ax = plotting.curve(dataset(trusted=(True, False, True, True), simulated=False), "test_error")
    assert np.isnan(ax.lines[0].get_ydata()).tolist() == [False, True, False, False]
    (mark,) = hollow(ax)
    assert mark.get_xdata().tolist() == [1.0] and mark.get_markeredgecolor() == ax.lines[0].get_color()


def test_points_with_few_trials_are_hollow():
    ax = plotting.points([1.0, 2.0], [0.5, 0.4], [0.1, np.nan], trusted=[True, False], label="measured")
    assert len(hollow(ax)) == 1 and hollow(ax)[0].get_xdata().tolist() == [2.0]
    assert [text for text in ax.get_legend_handles_labels()[1] if not text.startswith("_")] == ["measured"]


def test_curve_of_one_parameter_names_theory_and_simulation():
    ax = plotting.curve(dataset().sel(loss="hinge", drop=True), "test_error", log="y")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["theory", "simulation, $d = 200$"]
    assert ax.get_yscale() == "log"


def test_an_axis_that_is_given_is_used():
    left, right = plt.subplots(1, 2)[1]
    assert plotting.curve(dataset(), "test_error", ax=left) is left
    assert plotting.deviations(["q"], [1.0], ax=right) is right


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (dict(observable="test_mse"), "observable must be one of 'test_error'.*got 'test_mse'"),
        (dict(observable="test_error", x="noise"), "x must be one of 'loss', 'alpha', got 'noise'"),
        (dict(observable="test_error", log="z"), "log must be one of .* got 'z'"),
    ],
)
def test_unknown_names_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        plotting.curve(dataset(), **arguments)


def test_deviations_marks_what_lies_beyond_three_standard_errors():
    ax = plotting.deviations(["q", "test_error", "V"], [0.5, -7.0, np.nan])
    inside, outside = (drawn for drawn in ax.lines if drawn.get_marker() == "o")
    assert inside.get_xdata().tolist() == [0.5] and outside.get_xdata().tolist() == [-7.0]
    assert ax.get_xlim()[0] < -7.0
    assert [text.get_text() for text in ax.get_yticklabels()] == ["$q$", "test error", "$V$"]


def test_style_is_undone():
    before = matplotlib.rcParams["font.size"], matplotlib.rcParams["axes.prop_cycle"]
    with plotting.style("paper"):
        assert matplotlib.rcParams["font.size"] == 8
    assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["axes.prop_cycle"]) == before
    with pytest.raises(ValueError, match="style must be one of 'paper', 'screen', got 'poster'"):
        plotting.style("poster").__enter__()


@pytest.mark.parametrize("kind", ["dataset", "columns"])
def test_save_writes_the_numbers_beside_the_picture(tmp_path, kind):
    data = dataset().sel(loss="hinge", drop=True)
    columns = {"alpha": data["alpha"].values, "test_error": data["test_error"].values}
    ax = plotting.line(data["alpha"], data["test_error"])
    path, table = plotting.save(ax, tmp_path / "new" / "curve.png", data if kind == "dataset" else columns)
    assert path.read_bytes().startswith(b"\x89PNG")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["alpha"]) for row in rows] == [0.5, 1.0, 2.0, 8.0]
    assert [float(row["test_error"]) for row in rows] == data["test_error"].values.tolist()


def test_save_without_data_and_with_ragged_columns(tmp_path):
    ax = plotting.line([1.0, 2.0], [1.0, 2.0])
    assert plotting.save(ax, tmp_path / "a.png") == (tmp_path / "a.png", None)
    with pytest.raises(ValueError, match="data must have columns of equal length, got {'x': 1, 'y': 2}"):
        plotting.save(ax, tmp_path / "b.png", {"x": [1], "y": [1, 2]})


def test_array_variables_become_columns_of_their_entries(tmp_path):
    data = dataset(simulated=False)
    data["q"] = (("loss", "alpha", "q_0"), np.arange(16.0).reshape(2, 4, 2))
    _, table = plotting.save(plotting.line([1.0], [1.0]), tmp_path / "a.png", data)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["loss", "alpha", "test_error", "trusted", "q[0]", "q[1]"] and len(rows) == 8
    square = next(row for row in rows if row["loss"] == "square" and float(row["alpha"]) == 2.0)
    assert (float(square["q[0]"]), float(square["q[1]"])) == (12.0, 13.0)
    assert float(square["test_error"]) == float(data["test_error"].sel(loss="square", alpha=2.0))
