"""Figures by name: each says what it is, refuses what it must, and draws what it was given."""

import importlib

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from quenched import cli
from quenched.figures import attention_phase_diagram as diagram
from quenched.figures import attention_transition


@pytest.mark.parametrize("name", cli._FIGURES)
def test_every_figure_is_whole(name):
    module = importlib.import_module(f"quenched.figures.{name.replace('-', '_')}")
    assert module.TITLE and len(module.CAPTION) > 100 and module.REFERENCES
    assert all(callable(getattr(module, part)) for part in ("study", "check", "plot"))


def test_an_unknown_figure_is_refused(capsys):
    assert cli.main(["figure", "nothing"]) == cli.BAD_INPUT
    assert "NAME must be one of" in capsys.readouterr().err


def phases(slope=1.0):
    """A diagram whose transition lies at alpha = 1 + omega slope."""
    omega, alpha = np.linspace(0.1, 0.5, 5), np.linspace(0.6, 3.0, 13)
    gap = 1e-4 * (1.0 + slope * omega[:, None] - alpha)
    small = np.full(gap.shape, 1e-3)
    columns = {"gap": gap, "advantage": -gap, "bistable_mass": small.copy(), "quadrature_error": small}
    columns["bistable_mass"][:2, :3] = 0.1
    columns = {name: (("omega", "alpha"), column) for name, column in columns.items()} | {"trusted": (("omega", "alpha"), gap < 9)}
    return xr.Dataset(columns, {"omega": omega, "alpha": alpha})


def test_phase_diagram_reads_its_transition():
    data = phases()
    found = diagram.transitions(data)
    assert list(found.values()) == pytest.approx([1.0 + omega for omega in found], abs=1e-9)
    assert diagram.check(data).passed and not diagram.check(phases(slope=-1.0)).passed
    ax = diagram.plot(data)
    assert "omega" in ax.get_xlabel() and "alpha" in ax.get_ylabel()
    plt.close(ax.figure)


def test_doubtful_points_are_hollow():
    alpha = np.array([2.0, 1.5, 1.0])
    shape = (2, 3)
    columns = {"trusted": np.array([[True, True, False]] * 2), "trials": np.zeros(shape, int)}
    for name in attention_transition.NAMES:
        columns |= {name: np.ones(shape), f"{name}_mean": np.full(shape, np.nan), f"{name}_se": np.full(shape, np.nan)}
    data = xr.Dataset(
        {name: (("branch", "alpha"), column) for name, column in columns.items()},
        {"branch": list(attention_transition.BRANCHES), "alpha": alpha}, {"linear": 0.5},
    )  # fmt: skip
    ax = attention_transition.plot(data)
    assert len(ax.figure.axes) == 3
    assert sum(line.get_markerfacecolor() == "none" for line in ax.lines) == 2
    plt.close(ax.figure)
