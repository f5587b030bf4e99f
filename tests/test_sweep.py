"""A sweep holds at every point what the problem itself gives there, and marks what failed."""

import json

import numpy as np
import pytest
import xarray as xr

import quenched as qn


@pytest.fixture(scope="module")
def ridge():
    return qn.problems.GeneralizedLinear("square", "linear", alpha=1.0, weight_decay=0.1, noise=0.1)


@pytest.fixture(scope="module")
def curve(ridge):
    over = {"weight_decay": [0.1, 1.0], "alpha": [0.5, 1.0, 2.0, 4.0, 8.0]}
    return qn.sweep(ridge, over, simulate={"dim": 60, "seeds": 4, "every": 2})


def test_theory_at_every_point(ridge, curve):
    assert dict(curve.sizes) == {"weight_decay": 2, "alpha": 5}
    for weight_decay in (0.1, 1.0):
        for alpha in (0.5, 8.0):
            solution = ridge.replace(weight_decay=weight_decay, alpha=alpha).solve()
            point = curve.sel(weight_decay=weight_decay, alpha=alpha)
            for name in ("test_mse", "V", "q_hat", "residual", "replicon"):
                value = getattr(solution, name) if hasattr(solution, name) else solution[name]
                assert float(point[name]) == pytest.approx(float(value), rel=1e-9, abs=1e-12)
            assert bool(point["converged"]) and bool(point["trusted"]) and point["status"].item() == solution.status


def test_experiments_where_asked_for_with_the_numbers_of_simulate(ridge, curve):
    measured = np.isfinite(curve["test_mse_mean"])
    np.testing.assert_array_equal(measured.sel(weight_decay=0.1), [True, False, True, False, True])
    assert not measured.sel(weight_decay=1.0).any()  # the second of two values: every other one starts at the first
    np.testing.assert_array_equal(curve["trials"].sel(weight_decay=0.1), [4, 0, 4, 0, 4])
    trials = ridge.replace(alpha=2.0).simulate(dim=60, seeds=4)
    point = curve.sel(weight_decay=0.1, alpha=2.0)
    assert float(point["test_mse_mean"]) == pytest.approx(float(trials["test_mse"].mean), rel=1e-9)
    assert float(point["test_mse_se"]) == pytest.approx(float(trials["test_mse"].standard_error), rel=1e-9)
    deviation = (point["test_mse_mean"] - point["test_mse"]) / point["test_mse_se"]
    assert float(point["test_mse_deviation"]) == pytest.approx(float(deviation))


def test_attributes_say_what_was_computed(curve):
    assert curve.attrs["quenched"] == qn.__version__ and curve.attrs["problem"] == "GeneralizedLinear"
    parameters = json.loads(curve.attrs["parameters"])
    assert parameters["loss"] == "square" and parameters["noise"] == 0.1 and "alpha" not in parameters
    assert json.loads(curve.attrs["simulate"]) == {"dim": 60, "seeds": 4}
    assert curve["alpha"].attrs["units"] == "samples per input dimension"
    assert curve["test_mse"].attrs["long_name"].startswith("mean square distance to the clean target")
    assert curve.attrs["failed"] == ""


def test_a_sweep_survives_netcdf(curve, tmp_path):
    curve.to_netcdf(tmp_path / "curve.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "curve.nc", engine="h5netcdf") as back:
        xr.testing.assert_allclose(back.load(), curve)
        assert back.attrs == curve.attrs


@pytest.mark.slow
def test_points_that_fail_are_marked_listed_and_warned_of_once(ridge):
    logistic = qn.problems.GeneralizedLinear("logistic", "sign", alpha=1.0, weight_decay=0.1)
    with pytest.warns(UserWarning, match="2 failures: alpha=0.5: not converged") as caught:
        data = qn.sweep(logistic, {"alpha": [0.5, 2.0]}, max_steps=1)
    assert len(caught) == 1
    assert not data["converged"].any() and not data["trusted"].any()
    assert [line.split(":")[0] for line in data.attrs["failed"].splitlines()] == ["alpha=0.5", "alpha=2"]


class Refusing(qn.problems.GeneralizedLinear):
    """A problem that refuses to be solved with few samples."""

    def _start(self, name):
        if self.alpha < 1.0:
            raise ValueError("alpha is too small for a solution to exist")
        return super()._start(name)


def test_a_point_that_refuses_does_not_stop_the_sweep():
    problem = Refusing("square", "linear", alpha=1.0, weight_decay=0.1)
    with pytest.warns(UserWarning, match="1 failure: alpha=0.5: alpha is too small"):
        data = qn.sweep(problem, {"alpha": [0.5, 2.0]})
    assert np.isnan(data["test_mse"].values).tolist() == [True, False]
    assert data["trusted"].values.tolist() == [False, True]
    assert str(data["status"].values[0]) == "alpha is too small for a solution to exist"
    with pytest.raises(ValueError, match="no point of the sweep could be computed; the first: alpha=0.1: alpha is"):
        qn.sweep(problem, {"alpha": [0.1, 0.2]})


@pytest.mark.slow
def test_words_and_progress(ridge):
    seen = []
    data = qn.sweep(ridge, {"loss": ["square", "huber"]}, progress=lambda *step: seen.append(step))
    assert seen[-2:] == [(2, 2, "theory"), (2, 2, "done")] and sorted(seen) == sorted(set(seen))
    assert data["loss"].values.tolist() == ["square", "huber"]


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ({}, "over must name at least one parameter"),
        ({"beta": [1.0]}, "replace takes .* got 'beta'"),
        ({"alpha": [1.0, -2.0]}, "alpha must be positive, got -2.0"),
        ({"alpha": 2.0}, r"over\['alpha'\] must be a list of numbers or of words, got 2.0"),
        ({"alpha": []}, r"over\['alpha'\] must be a list"),
        ({"alpha": [1.0, 1.0]}, r"over\['alpha'\] must hold each value once"),
    ],
)
def test_bad_grids_are_refused_before_anything_is_run(ridge, over, sentence):
    with pytest.raises(ValueError, match=sentence):
        qn.sweep(ridge, over, simulate={"dim": 60, "seeds": 4})


def test_experiments_at_some_values_of_one_parameter(ridge):
    over = {"weight_decay": [0.1, 1.0], "alpha": [0.5, 1.0, 2.0]}
    data = qn.sweep(ridge, over, simulate={"dim": 40, "seeds": 2, "every": {"alpha": 2}})
    assert (data["trials"].values > 0).tolist() == [[True, False, True]] * 2
    with pytest.raises(ValueError, match="every must be one of 'weight_decay', 'alpha'"):
        qn.sweep(ridge, over, simulate={"dim": 40, "every": {"noise": 2}})
