"""A flow learnt from a few samples of a mixture by several units: limits, the published case, networks in finite dimension."""

import numpy as np
import pytest

import quenched as qn
from quenched.finite import few_samples_mixture as finite
from quenched.finite.few_samples import Trained
from quenched.laws import Schedule
from quenched.limit import few_samples_mixture as limit
from quenched.problems import FlowFromMixture, FlowFromSamples, SolveError

T = [[1.0, 0.0, -0.5], [0.0, 0.8, 0.0], [-0.5, 0.0, 1.2]]
THREE = FlowFromMixture(T, [0.6, 0.8, 0.5], [2, 2, 2], units=2, weight_decay=0.2)
E = [[1, 1, 1, 1, -1, -1], [1, 1, -1, -1, -1, -1]]


def test_published_case():
    found, solution = THREE.denoiser(0.5), THREE.solve()
    np.testing.assert_allclose((found.c, found.variance, found.train_loss), (0.839745, 0.723759, 0.854863), atol=0.5001e-6)
    assert found.pattern.tolist() == E and solution["E"].tolist() == E and not solution.approximate
    assert solution["mode_probability"][0] == pytest.approx(0.468659, abs=0.5001e-6)
    sampler = THREE.solve(steps=40, first=0.03)
    expected = [[0.8201, 0.8201, 0, 0, -0.8909, -0.8909], [0, 0, 1.0675, 1.0675, 0, 0]]
    np.testing.assert_allclose(sampler["sample_overlap"], expected, atol=0.51e-4)
    assert sampler["S"] == pytest.approx(0.6781, abs=0.51e-4)


@pytest.mark.parametrize(("means", "counts", "n"), [([[1.3]], [5], 5), ([[1.3, -1.3], [-1.3, 1.3]], [2, 3], 5)])
@pytest.mark.parametrize("steps", [None, 20])
def test_one_unit_and_two_antipodal_clusters(means, counts, n, steps):
    """The problem of two clusters, however samples are shared between them: S and |X|^2, c and the risk."""
    problem = FlowFromMixture(means, [0.8] * len(counts), counts, units=1, weight_decay=0.3)
    other = FlowFromSamples(n, separation=1.3, cluster_std=0.8, weight_decay=0.3)
    one, two = problem.solve(steps=steps), other.solve(steps=steps)
    assert one["S"] == pytest.approx(two["S"], rel=1e-12) and one["mode_probability"].tolist() == [1.0]
    assert one["squared_norm"][0] == pytest.approx(two["squared_norm"], rel=1e-12)
    mine, theirs = problem.denoiser(0.4), other.denoiser(0.4)
    assert mine.c == pytest.approx(theirs.c, rel=1e-12) and mine.train_loss == pytest.approx(theirs.train_loss, rel=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "variance-preserving"])
def test_many_steps_reach_the_closed_form(schedule):
    problem = THREE.replace(schedule=schedule)
    for mode in ([1, 1], [1, -1]):
        exact, errors = problem.flow(mode), []
        for steps in (40, 80):
            path = problem.flow(mode, steps=steps, first=1e-6)
            assert exact.steady and path.steady
            errors.append(np.abs(path.overlaps[-1] - exact.overlaps[-1]).max() + abs(path.variance[-1] - exact.variance[-1]))
        assert errors[1] < 0.6 * errors[0] < 0.04


def test_opposite_modes_and_time_zero():
    up, down = THREE.flow([1, -1]), THREE.flow([-1, 1])
    np.testing.assert_allclose(up.overlaps, -down.overlaps)
    assert np.all(up.overlaps[0] == 0.0) and up.squared_norm[0] == 1.0


def test_orthants_of_three_units_against_draws():
    problem = FlowFromMixture(np.eye(3), [0.5] * 3, [2, 2, 1], units=3, weight_decay=0.2)
    found, K = problem.denoiser(0.01), problem._gram
    w = found.weights @ np.linalg.cholesky(K)
    point = Schedule()(1e-6)
    chances = limit.probabilities(K, found._replace(c=0.0), float(point.alpha), float(point.beta))
    fields = w @ np.random.default_rng(0).standard_normal((5, 200_000))
    answers = np.sign(fields * np.sign(fields[0]))
    drawn = [np.mean(np.all(answers == mode[:, None], axis=0)) for mode in limit.modes(3)]
    np.testing.assert_allclose(chances, drawn, atol=0.004)
    assert chances.shape == (4,) and chances.sum() == pytest.approx(1.0)


def test_equal_units_have_one_mode():
    """Two units on one antipodal pair: they may share the work, answer alike, and the other mode does not occur."""
    problem = FlowFromMixture([[1.3]], [0.8], [4], units=2, weight_decay=0.3)
    solution = problem.solve()
    assert solution["E"].tolist() == [[1.0] * 4] * 2 and solution["mode_probability"].tolist() == [1.0, 0.0]
    assert np.all(solution["sample_overlap"][1] == 0.0) and np.all(solution["sample_overlap"][0] > 0.5)


def test_no_pattern_reproduces_itself():
    problem = FlowFromMixture(np.eye(2), [0.5, 0.5], [1, 1], units=1, weight_decay=0.2)
    with pytest.raises(SolveError, match="no pattern of the units' answers"):
        problem.solve()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"means_gram": [[1.0, 2.0], [2.0, 1.0]]}, "means_gram must be positive semi-definite"),
        ({"cluster_stds": [0.5, 0.5]}, "cluster_stds must have the shape"),
        ({"cluster_stds": [0.5, 0.5, 0.0]}, "cluster_stds must be pos"),
        ({"samples_per_cluster": [2, 2]}, "samples_per_cluster must hold 3"), ({"samples_per_cluster": [0, 1, 0]}, "two samples"),
        ({"samples_per_cluster": [8, 8, 8]}, "at most 300000 patterns"), ({"units": 0}, "units must be a whole number"),
        ({"units": 6, "samples_per_cluster": [1, 1, 0], "weight_decay": 0.0}, "weight_decay must be positive for as many units"),
        ({"weight_decay": 1e300}, r"weight_decay must be non-negative, from 0 to 1e\+50"),
        ({"weight_decay": -1.0}, "weight_decay must be non-negative"), ({"schedule": "other"}, "schedule must be one of"),
    ],
)  # fmt: skip
def test_refusals(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        THREE.replace(**change)


@pytest.mark.parametrize("call", [lambda: THREE.flow([1, 0.5]), lambda: THREE.flow([1]), lambda: THREE.denoiser(1.0)])
def test_refusals_of_methods(call):
    with pytest.raises(ValueError, match="must"):
        call()


def test_units_are_put_in_order():
    found = Trained(0.0, np.zeros((3, 2)), np.array([[-1.0, 1, 1], [1, -1, 1], [1, 1, -1]]), 0.0, 0.0)
    sign, order = finite.in_order(found)
    assert (sign[:, None] * found.pattern)[order].tolist() == [[1, 1, -1], [1, -1, 1], [1, -1, -1]]


def test_drawn_means_have_their_products():
    x1, x0 = finite.draw(np.random.default_rng(0), 4000, np.array(T), 1e-9 * np.ones(3), [1, 1, 1])
    np.testing.assert_allclose(x1 @ x1.T / 4000, T, atol=1e-6)
    assert x0.shape == (3, 4000)


def test_trained_network():
    """The pattern is found in every seed; c and risk within 3 standard errors and 0.3%."""
    trials, found = THREE.simulate_denoiser(6000, 0.5, seeds=8), THREE.denoiser(0.5)
    assert not trials.not_converged and np.all(trials["pattern"].values == np.array(E))
    for name in ("c", "train_loss"):
        assert abs(trials[name].mean - getattr(found, name)) < 3 * trials[name].standard_error + 0.003 * getattr(found, name)


#: Means' products, sizes, samples, units, weight decay.
OTHERS = [
    ([[1.0, 0.2], [0.2, 0.6]], [1.2, 0.4], (2, 2), 1, 1.0), ([[1.0, 0.2], [0.2, 0.6]], [0.5, 0.4], (2, 3), 2, 0.1),
    ([[0.5, -0.3, 0.0], [-0.3, 1.0, 0.4], [0.0, 0.4, 0.8]], [0.5, 0.9, 0.7], (2, 1, 2), 1, 0.1),
    ([[0.5, 0.3, 0.0], [0.3, 1.0, 0.4], [0.0, 0.4, 0.8]], [0.3, 0.4, 0.5], (2, 2, 2), 2, 0.5),
    ([[1.0, 0.3, 0.1], [0.3, 1.1, -0.2], [0.1, -0.2, 1.0]], [0.3, 0.4, 0.5], (2, 2, 2), 3, 0.2),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", OTHERS)
def test_other_mixtures_are_learnt_as_said(case):
    """Where no pattern that does not reproduce itself has a lower risk, trained networks have this pattern and risk."""
    problem = FlowFromMixture(*case)
    found, trials = problem.denoiser(0.5), problem.simulate_denoiser(10_000, 0.5, seeds=4)
    if found.lowest:
        assert not trials.not_converged and np.all(trials["pattern"].values == found.pattern)
        for name in ("c", "train_loss"):
            assert abs(trials[name].mean - getattr(found, name)) < 3.5 * trials[name].standard_error + 0.005 * getattr(found, name)
    else:
        assert problem.solve().approximate and np.all(trials.values["train_loss"] < 1.02 * found.train_loss)


@pytest.mark.slow
def test_generated_samples():
    """Nothing is imposed on the training. Before t = 0.1 two units do not resolve the pattern at this dimension (at 0.03 two thirds
    of the samples are of the first mode, and not 47%), so that the first steps use the network of t = 0.1, in the theory too."""
    options = {"steps": 40, "first": 0.1}
    theory, trials = THREE.solve(**options), THREE.simulate(8000, seeds=8, samples=150, **options)
    table = qn.compare(theory, trials)
    assert not trials.not_converged and table.worst < 6
    for row in table:
        shift = 0.02 if row.name.startswith(("sample_overlap", "mode")) else 0.012  # of order 1/sqrt(d)
        assert abs(row.mean - row.theory) < 3 * row.standard_error + shift, row
