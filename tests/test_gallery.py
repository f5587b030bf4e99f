"""The scripts of the gallery run, and draw."""

import pathlib
import runpy
import warnings

import matplotlib.pyplot as plt
import pytest

SCRIPTS = sorted((pathlib.Path(__file__).parent.parent / "examples").glob("plot_*.py"))
LONG = ("plot_attention", "plot_model_collapse", "plot_tuning")


def test_there_is_a_gallery():
    assert {path.stem for path in SCRIPTS} >= {
        "plot_new_problem", "plot_learning_curve", "plot_tuning", "plot_attention", "plot_model_collapse"
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [pytest.param(path, marks=[pytest.mark.thorough] * (path.stem in LONG)) for path in SCRIPTS],
    ids=lambda path: path.stem,
)
def test_a_script_draws(script, monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.extend(plt.get_fignums()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_path(str(script), run_name="__main__")
    figures = [plt.figure(number) for number in set(shown)]
    plt.close("all")
    assert figures and all(ax.has_data() for figure in figures for ax in figure.axes)
