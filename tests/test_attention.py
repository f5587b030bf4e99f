"""Attention: positional and semantic branches, their energies and errors, the baseline, the experiment."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quenched as qn
from quenched.finite.attention import AttentionRisk, sentences
from quenched.limit.channel import channel
from quenched.limit.model import as_numbers
from quenched.limit.quadratures import scheme
from quenched.limit.solve import starting_point
from quenched.numerics import gaussian
from quenched.problems import Attention

SQUARE = [[0.6, 0.4], [0.4, 0.6]]
THREE = [[0.5, 0.3, 0.2], [0.25, 0.5, 0.25], [0.2, 0.3, 0.5]]
BASE = Attention(2.0, 0.01, 0.3, SQUARE, token_std=0.5)


@functools.cache
def solved(alpha, omega, branch, weight_decay=0.01):
    return BASE.replace(alpha=alpha, omega=omega, weight_decay=weight_decay).solve(branch)


def test_linear_baseline():
    """The variance of the target's mixing matrix, to nine digits; whatever A, alpha and weight decay are."""
    assert BASE.linear_attention_mse() == pytest.approx(0.003942769, abs=6e-10)
    other = BASE.replace(omega=0.0, alpha=7.0, positional_matrix=np.eye(2))
    assert other.linear_attention_mse() == pytest.approx(0.008046467, abs=6e-10)
    # by Monte Carlo for three tokens of unequal size
    unequal = Attention(2.0, 0.01, 0.3, THREE, token_std=[0.4, 0.5, 0.6], length=3)
    h = np.random.default_rng(0).normal(size=(400_000, 3)) * [0.4, 0.5, 0.6]
    scores = np.exp(h[:, :, None] * h[:, None, :])
    mixed = scores / scores.sum(2, keepdims=True)
    assert unequal.linear_attention_mse() == pytest.approx(0.49 * (mixed.var(0) * np.square([0.4, 0.5, 0.6])).sum(), rel=5e-3)


@pytest.mark.thorough
@pytest.mark.slow
def test_semantic_branch():
    """The published row, the two expressions of the energy, and the inequality of the overlaps."""
    s = solved(2.0, 0.3, "semantic")
    assert s.converged and s.stable and s.branch == "semantic"
    assert s["q"] == pytest.approx([0.114814] * 2, rel=1e-3)
    assert s["V"] == pytest.approx([12.6691] * 2, rel=1e-3)
    assert s["theta"] == pytest.approx([0.158154] * 2, rel=1e-3)
    assert np.abs(s["m"]).max() < 1e-12
    assert s["test_mse"] == pytest.approx(0.002809, rel=1e-3) and s["free_energy"] == pytest.approx(0.0035906, rel=1e-4)
    assert s["free_energy"] == pytest.approx(2.0 * s["train_loss"] + 0.005 * s["Q"], rel=1e-8)
    assert s["Q"] > (s["theta"][0] / 0.25) ** 2
    assert s["bistable_mass"] < 1e-3 and s["linear_attention_mse"] == s.problem.linear_attention_mse()
    shift = s.problem.encoding_shift(s, 1000)
    assert s["test_mse"] + shift["test_mse"] == pytest.approx(0.002833, abs=2e-6)
    assert s["free_energy"] + shift["free_energy"] == pytest.approx(0.003631, abs=1e-6)


@pytest.mark.thorough
@pytest.mark.slow
def test_nodes_that_are_images_of_one_another_are_merged():
    """The average over the merged nodes is that over all; the symmetries are those of the sector."""
    start, frozen = BASE._start("semantic")
    for overlaps, held, merged in ((start, ("m",), 4), ({**start, "m": [[0.2]]}, (), 2)):
        model = as_numbers(dataclasses.replace(BASE.model, frozen=held))
        averages = scheme(model)
        assert len(averages.symmetries) == merged - 1
        unknowns = starting_point(model, BASE._shaped(overlaps))
        with jax.enable_x64(True):
            few, all_ = averages.loss_rule(0), gaussian.rule(4, 0)
            assert len(few[0]) < 1.1 * len(all_[0]) / merged
            one, other = (float(channel(model, unknowns.overlaps, {}, rule)) for rule in (few, all_))
        assert one == pytest.approx(other, rel=1e-12)
    lopsided = BASE.replace(positional_matrix=[[0.7, 0.3], [0.4, 0.6]])
    assert scheme(as_numbers(lopsided.model)).symmetries == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", 0.0), ("weight_decay", -1.0), ("omega", 1.2), ("positional_matrix", np.eye(3)), ("token_std", -0.5),
        ("token_std", [0.5, 0.5, 0.5]), ("length", 1), ("rank", 0), ("target_rank", 1.5), ("positions", [1.0, 0.0, -1.0]),
    ],
)  # fmt: skip
def test_bad_parameters_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=name):
        BASE.replace(**{name: value})


def test_the_risk_of_the_experiment_is_the_mean_square_error():
    """Against the formula spelt out in NumPy, sentence by sentence; and its gradient against differences."""
    law, d, n = BASE.law, 30, 12
    instance = law.draw(0, n, d)
    encodings = instance.population.labels.mean[0] @ instance.population.means
    assert np.allclose(encodings @ encodings.T, [[1, -1], [-1, 1]])
    risk = AttentionRisk(sentences(instance, encodings, 0.3, np.array(SQUARE)), 0.01, 1)
    w = np.random.default_rng(1).normal(size=(d, 1))

    def softmax(a):
        e = np.exp(a - a.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    total = 0.005 * np.sum(w**2)
    for seen in instance.x:
        x, h = seen - encodings, seen @ w / np.sqrt(d)
        target = x @ instance.population.targets / np.sqrt(d)
        y = (0.7 * softmax(target @ target.T) + 0.3 * np.array(SQUARE)) @ x
        total += np.sum((y - softmax(h @ h.T) @ seen) ** 2) / (2 * d)
    value, gradient = risk.value_and_grad(w.ravel())
    assert value == pytest.approx(total, rel=1e-12)
    step = 1e-5 * np.eye(d)[3]
    numeric = (risk.value_and_grad(w.ravel() + step)[0] - risk.value_and_grad(w.ravel() - step)[0]) / 2e-5
    assert gradient[3] == pytest.approx(numeric, rel=1e-6)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(
    ("alpha", "omega", "branch", "row"),
    [
        (1.24, 0.3, "semantic", (0.08110, 0.0, 18.43, 0.11714, 0.004734, 0.0027067)),
        (1.5, 0.1, "semantic", (0.110006, 0.0, 13.464, 0.151757, 0.003691, 0.0031220)),
        (1.5, 0.3, "positional", (0.04948, 0.2547, 13.60, 0.0, 0.006880, 0.0032964)),
        (1.5, 0.5, "positional", (0.03851, 0.28997, 11.45, 0.0, 0.004906, 0.0026750)),
        (2.275, 0.5, "positional", (0.03827, 0.29616, 8.420, 0.0, 0.004875, 0.0041031)),
    ],
)
def test_published_rows(alpha, omega, branch, row):
    """To 1%, and energies to 1e-3: where the proximal operator jumps, V differs by 0.5% from one quadrature to another."""
    s = solved(alpha, omega, branch)
    q, m, V, theta, mse, energy = row
    assert s.residual < 1e-6 and s.branch == branch
    found = [abs(s[name][0]) for name in ("q", "m", "V", "theta")] + [s["test_mse"]]
    assert found == pytest.approx([q, m, V, theta, mse], rel=1e-2, abs=1e-8)
    assert s["free_energy"] == pytest.approx(energy, rel=1e-3)
    if branch == "positional":  # with this equality: S(omega) does not depend on T
        assert s["test_mse"] > s.problem.linear_attention_mse()


@pytest.mark.thorough
@pytest.mark.slow
def test_large_samples_reach_the_minimum_of_the_population_error():
    s = solved(200.0, 0.3, "positional")
    assert [s["q"][0], s["m"][0], s["V"][0]] == pytest.approx([0.0212674, 0.2885299, 0.1123029], rel=1e-4)
    assert s["free_energy"] == pytest.approx(0.5591874, rel=1e-5)
    s = solved(20.0, 0.0, "semantic")
    assert [s["q"][0], s["theta"][0], s["V"][0]] == pytest.approx([0.2408361, 0.2453695, 0.789451], rel=1e-4)
    assert solved(200.0, 0.3, "semantic", 1e-4)["test_mse"] == pytest.approx(0.000693, abs=1e-6)


def deviations(theory, trials, dim):
    """(theory + its shift at finite size - mean)/standard error of the observables and the overlaps."""
    shift = theory.problem.encoding_shift(theory, dim)
    made = {name: float(np.ravel(theory[name])[0]) + shift.get(name, 0.0) for name in ("Q", "test_mse", "free_energy")}
    return {k: (np.ravel(trials[k].mean)[0] - v) / np.ravel(trials[k].standard_error)[0] for k, v in made.items()}


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "branch", "dim"),
    [
        (BASE, "semantic", 800),
        (BASE.replace(alpha=1.5, omega=0.5), "positional", 800),
        (Attention(2.0, 0.01, 0.3, THREE, token_std=[0.4, 0.5, 0.6], length=3), "semantic", 600),
    ],
    ids=["alpha-2", "positional", "three-tokens"],
)
def test_theory_meets_training(problem, branch, dim):
    """Within 3 standard errors, after the shift by the encodings and a rest of order 1/d: 1% in the energy, 3% in the others at
    these sizes (measured: both fall as 1/d)."""
    theory, trials = problem.solve(branch), problem.simulate(dim, seeds=8, init=branch)
    assert not trials.not_converged
    found = deviations(theory, trials, dim)
    for name, rest in (("Q", 0.03), ("test_mse", 0.03), ("free_energy", 0.01)):
        room = 3.0 + rest * abs(float(np.ravel(theory[name]).max())) / float(np.ravel(trials[name].standard_error).max())
        assert abs(found[name]) < room, found


@pytest.mark.thorough
@pytest.mark.slow
def test_transition_and_crossing():
    """alpha_c and alpha_l at omega = 0.3 as published, within the uncertainties."""
    found = qn.find_transition(BASE.replace(alpha=1.25), over="alpha", bracket=(1.2, 1.3), points=3)
    assert (found.below, found.above) == ("positional", "semantic")
    assert found.value == pytest.approx(1.251, abs=0.002 + found.uncertainty) and found.uncertainty < 0.01
    alpha, error = BASE.replace(alpha=1.5).linear_crossing(bracket=(1.4, 1.6), points=3)
    assert alpha == pytest.approx(1.493, abs=0.003 + error) and error < 0.02


@pytest.mark.thorough
@pytest.mark.slow
def test_solutions_go_back_and_forth():
    """Overlaps by token are what a solve starts from again; a warm start stays on its branch."""
    s = solved(2.0, 0.3, "semantic")
    again = BASE.solve(s)
    assert again.branch == "semantic" and again.iterations <= 2
    at = BASE.evaluate(**{name: s[name] for name in ("q", "V", "m", "theta")})
    assert max(at["residual"][name] for name in ("q", "V", "theta")) < 2e-2  # on another quadrature
    assert jnp.shape(s["q"]) == (2,) and np.shape(s["Q"]) == ()


@pytest.mark.thorough
@pytest.mark.slow
def test_gradients(name="token_std"):
    """By the implicit function theorem, of the lowest branch, against differences."""
    step = 1e-3
    above, below = (BASE.replace(**{name: getattr(BASE, name) + s}).solve("semantic", tol=1e-11)["test_mse"] for s in (step, -step))
    assert BASE.gradient("test_mse", name) == pytest.approx((above - below) / (2 * step), rel=1e-3)
    with pytest.raises(ValueError, match="init"):
        jax.grad(lambda x: BASE.replace(**{name: x}).solve()["test_mse"])(getattr(BASE, name))
