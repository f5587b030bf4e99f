"""Theory beside experiment, in standard errors."""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
import pytest

import quenched as qn
from quenched.finite import Trials


@pytest.fixture(scope="module")
def theory():
    return qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve()


def trials_of(status=("converged",) * 4, **values):
    values = {name: np.asarray(value, dtype=float) for name, value in values.items()}
    return Trials(values, tuple(range(len(status))), status, dim=100, n=200)


def test_rows_hold_mean_error_and_deviation(theory):
    values = theory["test_mse"] + np.array([0.01, 0.03, 0.02, 0.02])
    table = qn.compare(theory, trials_of(test_mse=values, elsewhere=values))
    (row,) = table
    error = values.std(ddof=1) / 2
    assert row.name == "test_mse" and row.theory == float(theory["test_mse"])
    assert row.mean == pytest.approx(values.mean()) and row.standard_error == pytest.approx(error)
    assert row.deviation == pytest.approx(0.02 / error) == pytest.approx(table.worst)
    assert table["test_mse"] is row
    with pytest.raises(KeyError, match="'q' is not among test_mse"):
        table["q"]


def test_either_may_come_first_and_nothing_else(theory):
    trials = trials_of(test_mse=[0.1, 0.2, 0.3, 0.4])
    assert qn.compare(trials, theory).rows == qn.compare(theory, trials).rows
    for pair in ((theory, theory), (trials, trials), (theory.problem, trials), (theory, {"test_mse": 0.1})):
        got = " and ".join(type(side).__name__ for side in pair)
        with pytest.raises(ValueError, match=f"compare takes a Solution .* got {got}"):
            qn.compare(*pair)


def test_print_and_html_show_the_same_numbers(theory):
    table = qn.compare(theory, trials_of(test_mse=theory["test_mse"] + np.array([0.01, 0.03, 0.02, 0.02])))
    for text in (repr(table), table._repr_html_()):
        assert "GeneralizedLinear at d = 100, n = 200, 4 trials" in text
        assert f"{float(theory['test_mse']):.6g}" in text and "+4.90 se" in text
    assert table.columns()["name"] == ["test_mse"]


def test_arrays_give_one_row_an_entry_in_the_shape_of_the_theory(theory):
    cosine = np.array([[0.1, 0.2], [0.3, 0.4]])
    theory = dataclasses.replace(theory, observables={"cosine": cosine})
    table = qn.compare(theory, trials_of(cosine=np.stack([cosine.ravel() + shift for shift in (0.0, 0.1, 0.2, 0.1)])))
    assert [row.name for row in table] == ["cosine[0,0]", "cosine[0,1]", "cosine[1,0]", "cosine[1,1]"]
    assert table["cosine[1,0]"].mean == pytest.approx(0.4)
    with pytest.raises(ValueError, match=r"cosine must have the shape \(2, 2\) of the theory, got \(3,\)"):
        qn.compare(theory, trials_of(cosine=np.zeros((4, 3))))


def test_one_trial_has_no_deviation(theory):
    table = qn.compare(theory, trials_of(status=("converged",), test_mse=[0.2]))
    assert np.isnan(table["test_mse"].deviation) and table.worst == 0.0
    assert repr(table).splitlines()[-1].endswith("-")


def test_an_exact_disagreement_is_infinitely_far(theory):
    table = qn.compare(theory, trials_of(test_mse=[0.5] * 4))
    assert table["test_mse"].deviation == np.inf == table.worst


def test_trials_that_were_left_out_are_named(theory):
    table = qn.compare(theory, trials_of(status=("converged", "converged", "converged", "stopped"), q=[1, 2, 3, 99.0]))
    assert table["q"].mean == 2.0
    assert "3 trials; left out: 1 trials whose optimiser did not converge" in table.caption


def test_nothing_in_common_is_refused(theory):
    with pytest.raises(ValueError, match="trials must share an observable with the theory, got speed"):
        qn.compare(theory, trials_of(speed=[1.0, 2, 3, 4]))


def test_plot_has_a_row_for_each_observable(theory):
    table = qn.compare(theory, trials_of(test_mse=[0.1, 0.2, 0.3, 0.2], q=[0.9, 1.0, 1.1, 1.0]))
    ax = table.plot()
    assert [text.get_text() for text in ax.get_yticklabels()] == ["test mean square", "$q$"]
    plt.close(ax.figure)
