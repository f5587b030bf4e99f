"""Trials: averages over converged seeds only, merging, saving, printing, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import quenched as qn
from quenched.finite.trials import Trials


def trials(seeds=(0, 1, 2, 3), bad=(), **changes):
    rng = np.random.default_rng(5)
    errors, q = rng.normal(size=20), rng.normal(size=(20, 2, 2))
    rows = [np.sum(seed) for seed in seeds]  # a seed's row does not depend on the other seeds
    values = {"test_error": errors[rows], "q": q[rows]}
    status = tuple("stopped early" if seed in bad else "converged" for seed in seeds)
    settings = {"alpha": np.float64(2.0), "grid": np.arange(2.0)}
    given_ = dict(values=values, seeds=seeds, status=status, dim=50, n=100, settings=settings) | changes
    return Trials(**given_)


def test_mean_and_standard_error_are_those_of_the_values():
    t = trials()
    mean, error, values = t["q"]
    np.testing.assert_allclose(mean, t.values["q"].mean(axis=0))
    np.testing.assert_allclose(error, t.values["q"].std(axis=0, ddof=1) / 2)
    assert values.shape == (4, 2, 2) and mean.shape == (2, 2)
    np.testing.assert_array_equal(t.mean["q"], mean)
    np.testing.assert_array_equal(t.standard_error["q"], error)


def test_seeds_that_did_not_converge_are_listed_and_left_out():
    t = trials(bad=(1,))
    np.testing.assert_array_equal(t["test_error"].values, t.values["test_error"][[0, 2, 3]])
    assert t.not_converged == {1: "stopped early"} and t.converged.tolist() == [True, False, True, True]
    assert "3 of 4 seeds converged" in repr(t) and "seed 1: stopped early" in repr(t)
    assert "<li>seed 1: stopped early</li>" in t._repr_html_()


def test_nothing_converged():
    t = trials(bad=(0, 1, 2, 3))
    with pytest.raises(ValueError, match="no seed converged, so 'q' has no mean"):
        t["q"]
    assert "0 of 4 seeds converged" in repr(t)


def test_one_seed_says_nothing_of_the_spread():
    t = trials(seeds=(4,))
    assert t["test_error"].standard_error == np.inf
    assert "± unknown" in repr(t)


def test_names_as_of_a_dict():
    t = trials()
    assert tuple(t) == t.keys() == tuple(t.values) and "q" in t and "train_mse" not in t


def test_unknown_name():
    with pytest.raises(KeyError, match="'train_mse' was not measured; there are 'test_error', 'q'"):
        trials()["train_mse"]
    assert "q" in trials() and "train_mse" not in trials()


@given(st.lists(st.integers(0, 19), unique=True, min_size=2, max_size=12), st.data())
def test_merging_gives_the_trials_of_all_seeds(seeds, data):
    cut = data.draw(st.integers(1, len(seeds) - 1))
    bad = tuple(data.draw(st.sets(st.sampled_from(seeds))))
    whole, merged = trials(tuple(seeds), bad), trials(tuple(seeds[:cut]), bad) + trials(tuple(seeds[cut:]), bad)
    assert merged.seeds == whole.seeds and merged.status == whole.status
    for name in whole.values:
        np.testing.assert_array_equal(merged.values[name], whole.values[name])


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (trials((3, 4)), r"trials must have different seeds, got \[3\] in both"),
        (trials((4, 5), dim=51), "trials must be of one experiment, got dim 50 and 51"),
        (trials((4, 5), n=101), "trials must be of one experiment, got n 100 and 101"),
        (trials((4, 5), settings={"alpha": 3.0}), "trials must be of one experiment, got settings"),
        (trials((4,), values={"q": [np.eye(2)]}), "trials must measure the same things"),
    ],
)
def test_merging_refuses(other, sentence):
    with pytest.raises(ValueError, match=sentence):
        trials() + other


def test_merging_with_something_else_is_a_type_error():
    with pytest.raises(TypeError):
        trials() + 1


def test_save_and_load(tmp_path):
    t = trials(seeds=(0, (1, 2), 3), bad=(3,), values={"q": np.arange(6.0).reshape(3, 2)}, seconds=[1, 2, 3])
    t.save(tmp_path / "trials.npz")
    back = Trials.load(tmp_path / "trials.npz")
    for field in ("seeds", "status", "dim", "n", "settings"):
        assert getattr(back, field) == getattr(t, field)
    for field in ("optimality", "seconds"):
        np.testing.assert_array_equal(getattr(back, field), getattr(t, field))
    np.testing.assert_array_equal(back.values["q"], t.values["q"])
    assert (back + trials(seeds=(5,), values={"q": [[1.0, 2.0]]})).seeds == (0, (1, 2), 3, 5)


def test_loading_another_file_is_refused_and_runs_no_code(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.ones(2))
    with pytest.raises(ValueError, match="path must be a file written by Trials.save"):
        Trials.load(tmp_path / "other.npz")
    np.savez(tmp_path / "code.npz", about=np.array([object()], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        Trials.load(tmp_path / "code.npz")


def test_more_values_and_mapped_values():
    t = trials()
    more = t.with_values(twice=2 * t.values["test_error"])
    np.testing.assert_array_equal(more["twice"].mean, 2 * t["test_error"].mean)
    traced = t.map(lambda row: {"trace": np.trace(row["q"])})
    assert list(traced.values) == ["trace"]
    np.testing.assert_allclose(traced["trace"].mean, np.trace(t["q"].mean))


def test_is_immutable():
    t = trials()
    with pytest.raises(ValueError, match="read-only"):
        t.values["q"][0] = 0.0
    with pytest.raises(AttributeError):
        t.dim = 3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(status=("converged",)), r"status must hold one sentence per seed \(4\), got 1"),
        (dict(values={"q": np.ones(3)}), r"values\['q'\] must hold one row per seed \(4\), got the shape \(3,\)"),
        (dict(optimality=[1.0]), "optimality must hold one number per seed"),
        (dict(seconds=np.ones(5)), "seconds must hold one number per seed"),
        (dict(settings={"loss": json}), "settings must hold numbers, strings, lists and dicts only"),
    ],
)
def test_refuses(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        trials(**change)


def test_repeated_seeds_are_refused():
    with pytest.raises(ValueError, match=r"seeds must differ from each other, got \(0, 0\)"):
        trials(seeds=(0, 0))


def test_print_shows_as_many_digits_as_are_known():
    text = repr(Trials({"a": [1.23, 1.27], "b": [0.5, 0.5], "c": [1e-17, 3e-17]}, (0, 1), ("converged",) * 2, 5, 9))
    assert "a  1.250 ± 0.020" in text
    assert "b  0.5 ± 0.0e+00" in text and "c  2e-17 ± 1.0e-17" in text
    assert text.startswith("Trials(dim=5, n=9): all 2 seeds converged")


def test_problems_that_read_alike_are_told_apart(tmp_path):
    """Arrays and functions are named in a problem's text, and not shown: trials and solutions know them by their fingerprints."""

    def problem(shift, x=0.0):
        loss = qn.Loss(lambda h, label: 0.5 * (h[0, 0] - label - shift) ** 2, convex=True, quadratic=True)
        law = qn.laws.mixture([0.5, 0.5], means=[[1.0 + x, *[0.0] * 5], [-1.0, *[0.0] * 5]], labels=[1.0, -1.0])
        return qn.SequenceProblem(law, loss, alpha=1.0, weight_decay=0.1)

    one, same, edited, moved = problem(0.0), problem(0.0), problem(0.5), problem(0.0, 1e-3)
    assert repr(one) == repr(edited) == repr(moved)
    first = one.simulate(dim=20, seeds=[0])
    assert "identity" not in repr(first)
    first.save(tmp_path / "trials.npz")
    assert (Trials.load(tmp_path / "trials.npz") + same.simulate(dim=20, seeds=[1])).seeds == (0, 1)
    one.solve().save(tmp_path / "solution.npz")
    assert qn.Solution.load(tmp_path / "solution.npz", same).problem is same
    qn.Solution.load(tmp_path / "solution.npz").save(tmp_path / "again.npz")
    assert qn.Solution.load(tmp_path / "again.npz", same).problem is same
    old = Trials.load(tmp_path / "trials.npz").with_values()
    old = dataclasses.replace(old, seeds=(9,), settings={"problem": repr(one)})  # of before there were identities
    assert (old + first).settings["identity"] == first.settings["identity"]
    for other in (edited, moved):
        with pytest.raises(ValueError, match="trials must be of one experiment, got two of .*: their arrays or functions differ"):
            _ = first + other.simulate(dim=20, seeds=[1])
        with pytest.raises(ValueError, match="problem must be the one that was solved, got another .* functions differ"):
            qn.Solution.load(tmp_path / "solution.npz", other)
