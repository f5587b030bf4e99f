"""Figures by name: each says what it is, refuses what it must, and draws what it was given."""

import importlib
import re
from typing import NamedTuple

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from quenched import cli, figures
from quenched.figures import attention_phase_diagram as diagram
from quenched.figures import (
    attention_transition,
    bayes_optimal,
    deep_rf,
    implicit_regularisation,
    kernel_staircase,
    one_step_equivalence,
    one_step_expressivity,
    one_step_learning_curve,
    one_step_spectrum,
    online_committee,
    rainbow,
    trained_features,
)
from quenched.figures.along import along
from quenched.figures.lines import all_in_standard_errors, closed_form, lines
from quenched.finite.trials import Estimate


@pytest.mark.parametrize("name", figures.FIGURES)
def test_every_figure_is_whole(name):
    module = importlib.import_module(f"quenched.figures.{name.replace('-', '_')}")
    assert module.TITLE and len(module.CAPTION) > 100 and module.REFERENCES
    assert all(callable(getattr(module, part)) for part in ("study", "check", "plot"))


@pytest.mark.parametrize("name", figures.FIGURES)
def test_captions_do_not_say_where_panels_are(name):
    """On a page they wrap."""
    caption = importlib.import_module(f"quenched.figures.{name.replace('-', '_')}").CAPTION
    place = r"(left|right|middle|top|bottom|above|below)"
    assert not re.search(rf"(^|[.;,(] ?){place}( left| right)?[:,)]|\b(on|from|at|to) the {place}\b", caption, re.IGNORECASE)


class Solvable(NamedTuple):
    """A problem with one parameter, of which it is told from where it is solved."""

    noise: float = 0.0
    log: list | None = None

    @property
    def parameters(self):
        return {"noise": self.noise, "units": 1}

    def replace(self, noise):
        return self._replace(noise=noise)

    def solve(self, init):
        self.log.append((self.noise, init if init == "global" else init["at"]))
        return Solved(self.noise)

    def simulate(self, dim, seeds):
        return {"q": Estimate(self.noise, 0.1, seeds)}


class Solved(dict):
    def __init__(self, noise):
        super().__init__(q=2.0 * noise, at=noise)
        self.converged, self.stable = True, noise < 0.8


def test_theory_is_continued_from_the_nearest_anchor():
    log = []
    values, some = [0.1, 0.2, 0.5, 0.7, 0.9], {"anchors": (0.1, 0.9), "known": {0.7: 7.0}}
    data = along(Solvable(log=log), "noise", values, (0.5,), "q", dim=8, seeds=2, **some)
    assert log == [(0.1, "global"), (0.9, "global"), (0.2, 0.1), (0.5, 0.1)]
    np.testing.assert_allclose(data["q"], [0.2, 0.4, 1.0, 7.0, 1.8])
    assert data["trusted"].values.tolist() == [True, True, True, True, False] and data["trials"].values.tolist() == [0, 0, 2, 0, 0]
    assert data.attrs["parameters"] == '{"units": 1}'


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
    columns["gap"][-1, :2] = np.nan
    columns = {name: (("omega", "alpha"), column) for name, column in columns.items()} | {"trusted": (("omega", "alpha"), gap < 9)}
    return xr.Dataset(columns, {"omega": omega, "alpha": alpha})


def test_phase_diagram_reads_its_transition():
    data = phases()
    found = diagram.transitions(data)
    assert list(found.values()) == pytest.approx([1.0 + omega for omega in found], abs=1e-9)
    assert diagram.check(data).passed and not diagram.check(phases(slope=-1.0)).passed
    ax = diagram.plot(data)
    assert "omega" in ax.get_xlabel() and "alpha" in ax.get_ylabel()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["transition", "beats linear", "several minima"]
    colours = ax.collections[0].cmap(ax.collections[0].norm(np.array([-1e-9, 1e-9])))  # on both sides of the transition
    assert colours[0, 2] > colours[0, 0] + 0.1 and colours[1, 0] > colours[1, 2] + 0.1
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


def drawn(module, data):
    """The figure of all panels, and the one that a given Axes gets."""
    figure = module.plot(data).figure
    own = plt.subplots()[1]
    assert module.plot(data, own) is own and own.get_xlabel()
    assert all(panel.get_xlabel() and panel.get_ylabel() for panel in figure.axes)
    plt.close(figure)
    plt.close(own.figure)
    return len(figure.axes)


def test_lines_hold_theory_and_experiment():
    """Two problems, one trained: the finite-size shift is a part of the verdict, wrong theory fails it."""
    problems = {"one": deep_rf.problem(1, weight_decay=0.1), "two": deep_rf.problem(2, weight_decay=0.1)}
    alphas = np.array([0.5, 1.0, 2.0])
    theory = dict.fromkeys(problems, closed_form)
    data = lines(problems, theory, alphas, {"two": alphas[1:2]}, ("test_mse", "test_error"), dim=40, seeds=4)
    assert data["trials"].values.tolist() == [[0, 0, 0], [0, 4, 0]] and data["trusted"].all()
    assert np.isnan(data["test_error"]).all() and np.isfinite(data["test_mse"]).all()
    assert np.isfinite(data["test_mse_mean"]).sum() == 1
    np.testing.assert_allclose(data["test_mse"].sel(line="two"), problems["two"].ridge(alpha=alphas).test_mse)
    verdict = all_in_standard_errors(data, ("test_mse",))
    assert verdict.passed and len(verdict.rows) == 1 and "1 of 1" in verdict.text and "2/d" in verdict.text
    assert not all_in_standard_errors(data.assign(test_mse=2.0 * data["test_mse"]), ("test_mse",)).passed


@pytest.mark.thorough
@pytest.mark.slow
def test_depth_regularises_in_the_figures_own_lines(tmp_path):
    """Theory alone: depth lowers the peak of tanh at n = p and raises that of the clipped line; it hurts at the best ridge."""
    names = ("test_mse", "train_mse", "best_weight_decay", "best_test_mse")
    module, alphas = implicit_regularisation, np.array([1.0, 4.0])
    texts = {a: [module._line(a, depth) for depth in module.DEPTHS] for a in module.ACTIVATIONS}
    problems = {module._line(a, d): module.problem(a, d) for a in module.ACTIVATIONS for d in module.DEPTHS}
    data = lines(problems, dict.fromkeys(problems, module._best), alphas, {}, names, dim=80, seeds=2)
    assert drawn(module, data) == 4
    bump, peak = (data["test_mse"].sel(alpha=alpha) for alpha in alphas)
    assert np.all(np.diff(peak.sel(line=texts["tanh"])) < 0.0) and np.all(np.diff(peak.sel(line=texts["clipped"])) > 0.0)
    assert np.all(np.diff(bump.sel(line=texts["clipped"])[:4]) < 0.0)
    for text in texts.values():
        assert np.all(np.diff(data["best_test_mse"].sel(line=text), axis=0) > 0.0)
    assert np.all(data["best_test_mse"] <= data["test_mse"])
    data.to_netcdf(tmp_path / "lines.nc", engine="h5netcdf")


@pytest.mark.parametrize(("network", "passed"), [(0.002, True), (0.024, False), (0.04, False)])
def test_a_trained_network_must_lie_below_kernel_and_plateau(network, passed):
    """It has no theory and no part in the deviations; at 0.024 it lies below the kernel, not below the plateau of 0.0225."""
    mean = np.array([[0.1, np.nan], [0.2, np.nan], [0.12, network]])
    columns = {"test_mse": np.array([[0.1, 0.027], [0.2, 0.19], [np.nan, np.nan]]), "test_mse_mean": mean}
    columns |= {"test_mse_se": np.where(np.isfinite(mean), 1e-4, np.nan), "trusted": np.ones((3, 2), bool)}
    columns |= {"test_mse_deviation": (mean - columns["test_mse"]) / 1e-4}
    data = xr.Dataset(
        {name: (("line", "n_samples"), column) for name, column in columns.items()},
        {"line": ["kernel", "ridge", "network"], "n_samples": [900, 2700]}, {"simulate": '{"dim": 30}', "failed": ""},
    )  # fmt: skip
    verdict = kernel_staircase.check(data)
    assert verdict.passed == passed and len(verdict.rows) == 2 and "n = 3 d^2" in verdict.text
    assert f"{100 * network / 0.027:.2g}%" in verdict.text
    assert drawn(kernel_staircase, data) == 1


@pytest.mark.slow
def test_one_step_expressivity_knows_its_floors(monkeypatch):
    """Spikes of 1, 2, 3 and a pair of opposite ones, for sin(2x); tanh makes nothing that is even, relu does."""
    module = one_step_expressivity
    monkeypatch.setitem(module.TARGETS, "odd", lambda x: jnp.sin(2.0 * x))
    c1, slope = problem_constants(module.problem("tanh", "odd"))
    floors = [
        module.problem("tanh", "odd", values, 1.0 / (c1 * slope), refined=False).error_floor()
        for values in ((), (1.0,), (1.0, -1.0), (1.0, 2.0), (1.0, 2.0, 3.0))
    ]
    assert floors == pytest.approx([0.42657, 0.05027, 0.05027, 0.00225, 0.00022], abs=1e-5)
    assert module.problem("tanh", "mixed", (1.0, 2.0, 3.0)).error_floor() == pytest.approx(0.5, abs=1e-3)
    assert module.problem("relu", "mixed", (1.0, -1.0)).error_floor() < module.problem("relu", "mixed").error_floor()


def problem_constants(problem):
    """The first Hermite coefficients of activation and target."""
    from quenched.laws.gradient_step import constants

    return constants(problem.activation).c[1], problem.target.moments.gradient[0]


@pytest.mark.parametrize(("factor", "distance", "passed"), [(1.02, 0.005, True), (1.2, 0.005, False), (1.02, 0.05, False)])
def test_one_step_spectrum_checks_bulks_and_outliers(factor, distance, passed):
    module, steps = one_step_spectrum, ["before", "after"]
    theory = np.array([[[np.nan] * 2, [220.0, np.nan]], [[np.nan] * 2, [100.0, 5.0]]])
    x = np.geomspace(0.01, 2.0, 9)
    columns = {"outlier": theory, "outlier_mean": factor * theory, "outlier_se": 0.01 * theory}
    columns = {name: (("side", "step", "index"), column) for name, column in columns.items()}
    columns |= {name: (("side", "step", "bin"), np.tile(x[1:], (2, 2, 1))) for name in ("counted", "density", "density_x")}
    columns |= {"eigenvalue": (("side", "step", "bound"), np.tile(x, (2, 2, 1)))}
    columns |= {name: (("side", "step"), np.full((2, 2), distance)) for name in ("distance", "edge")}
    about = {"simulate": '{"dim": 300, "seeds": 3}', "failed": ""}
    data = xr.Dataset(columns, {"side": list(module.SIDES), "step": steps}, about)
    verdict = module.check(data)
    assert verdict.passed == passed and len(verdict.rows) == 3 and drawn(module, data) == 2


AXES = {deep_rf: 2, implicit_regularisation: 4, rainbow: 2, trained_features: 1, bayes_optimal: 2, kernel_staircase: 1}
AXES |= {one_step_learning_curve: 2, one_step_spectrum: 2, one_step_expressivity: 3, one_step_equivalence: 4, online_committee: 2}


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("module", AXES)
def test_figures_of_features_agree_with_trained_readouts(module, tmp_path):
    data = module.study(quick=True)
    verdict = module.check(data)
    assert verdict.passed, verdict.text
    assert drawn(module, data) == AXES[module]
    data.to_netcdf(tmp_path / "figure.nc", engine="h5netcdf")
