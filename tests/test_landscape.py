"""The free energy with an overlap held: against constrained regression, and at the branches themselves."""

import numpy as np
import pytest

import quenched as qn
from quenched.problems import landscape

RIDGE = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)


def constrained_ridge(value, d, seed):
    """min over w with w.w_*/d = value of the penalised risk per dimension, by eliminating the constraint."""
    rng = np.random.default_rng(seed)
    n = 2 * d
    x, target = rng.normal(size=(n, d)) / np.sqrt(d), rng.normal(size=d)
    target *= np.sqrt(d) / np.linalg.norm(target)
    y = x @ target + np.sqrt(0.1) * rng.normal(size=n)
    free = np.linalg.svd(target[None])[2][1:].T  # (d, d - 1), orthogonal to the target
    left = y - value * (x @ target)
    inner = x @ free
    u = np.linalg.solve(inner.T @ inner + 0.1 * np.eye(d - 1), inner.T @ left)
    return (0.5 * np.sum((left - inner @ u) ** 2) + 0.05 * (u @ u + value**2 * d)) / d


def test_ridge_with_a_held_overlap_is_constrained_regression():
    values = np.linspace(0.2, 1.4, 7)
    curve = landscape(RIDGE, "theta", values).curves["uninformed"]
    for value, energy in zip(values[::3], curve.energy[::3], strict=True):
        runs = np.array([constrained_ridge(value, 200, seed) for seed in range(8)])
        assert abs(runs.mean() - energy) < 4 * runs.std(ddof=1) / np.sqrt(8)
    assert curve.residual.max() <= 1e-8 and curve.quadrature_error.max() == 0.0
    # a parabola whose minimum is the branch
    assert np.abs(np.diff(curve.energy, 3)).max() < 1e-8
    assert curve.place == pytest.approx(float(RIDGE.solve()["theta"]))
    a, b, c = np.polyfit(values, curve.energy, 2)
    assert -b / (2 * a) == pytest.approx(curve.place, rel=1e-6) and c - b**2 / (4 * a) == pytest.approx(curve.level, rel=1e-8)


def test_what_is_refused():
    with pytest.raises(ValueError, match="over"):
        landscape(RIDGE, "q", [0.1, 0.2])
    with pytest.raises(ValueError, match="at must"):
        landscape(RIDGE, "theta", [0.2, 0.1])
    with pytest.raises(ValueError, match="tol must be positive"):
        landscape(RIDGE, "theta", [0.1, 0.2], tol=-1.0)
    with pytest.raises(ValueError, match="max_steps must be"):
        landscape(RIDGE, "theta", [0.1, 0.2], max_steps=0)
    committee = qn.problems.Committee(2, 2, "erf", alpha=6.0, weight_decay=0.2)
    with pytest.raises(ValueError, match="direction"):
        landscape(committee, "m", [0.1, 0.2])


def test_values_that_are_not_reached_are_listed():
    found = landscape(RIDGE, "theta", [0.5, 0.9, 300.0], max_steps=1)
    assert found.missing == {"uninformed": (0.5, 0.9, 300.0)} and not found.curves["uninformed"].value.size


def test_picture():
    ax = qn.plotting.landscape(RIDGE, "theta", np.linspace(0.5, 1.3, 5))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["uninformed"]
    assert "held" in ax.get_xlabel()


@pytest.mark.thorough
@pytest.mark.slow
def test_attention_has_two_minima_and_a_barrier():
    """Near the transition both branches are minima of one curve, equally deep, and the barrier lies between."""
    attention = qn.problems.Attention(1.25, 0.01, 0.3, [[0.6, 0.4], [0.4, 0.6]], token_std=0.5)
    found = landscape(attention, "theta", [0.0, 0.03, 0.06, 0.09, 0.11, 0.12, 0.13])
    positional, semantic = found.curves["positional"], found.curves["semantic"]
    assert found.minima[-1][0] == pytest.approx(semantic.place, abs=3e-3)
    assert positional.place == 0.0 and abs(positional.level - semantic.level) < 2e-6
    assert any(0.03 < x < 0.09 and energy > semantic.level + 5e-5 for x, energy in found.barriers)
    assert found.spinodals
    # with theta held far out, the encodings are let go of: both curves are one
    assert positional.energy[-1] == pytest.approx(semantic.energy[-1], rel=1e-6)
