"""Real outcomes of a link: interpolated averages against the same problem stated with target and noise in the loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quenched as qn
from quenched.losses import Link
from quenched.numerics.chebyshev import chebyshev_nodes, interpolated_weights


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(3, 16))
def test_polynomials_are_averaged_exactly(seed, count):
    rng = np.random.default_rng(seed)
    points, weights = rng.uniform(-1, 1, 40), rng.normal(size=40)
    f = np.polynomial.Polynomial(rng.normal(size=count))
    nodes = chebyshev_nodes(count)
    with jax.enable_x64(True):
        p = np.asarray(interpolated_weights(jnp.asarray(points), jnp.asarray(weights), nodes))
    assert abs(p @ f(nodes) - weights @ f(points)) < 1e-11 * count * np.abs(weights).sum() * np.abs(f.coef).sum()


def tanh(target):
    return jnp.tanh(target[0, 0])


def tanh_and_noise(h, target, noise, params):
    return 0.5 * (h[0, 0] - jnp.tanh(target[0, 0]) - jnp.sqrt(params["noise"]) * noise) ** 2


def tanh_alone(h, target):
    return 0.5 * (h[0, 0] - jnp.tanh(target[0, 0])) ** 2


@pytest.mark.slow
@pytest.mark.parametrize(("noise", "loss", "params"), [(0.0, tanh_alone, {}), (0.3, tanh_and_noise, {"noise": 0.3})])
def test_the_same_problem_stated_twice(noise, loss, params):
    numbers = dict(alpha=2.0, weight_decay=0.3)
    law = qn.laws.single([0.5, 2.0])
    one = qn.SequenceProblem(law, lambda h, label: 0.5 * (h[0, 0] - label) ** 2, response=Link(tanh, noise), **numbers).solve()
    two = qn.SequenceProblem(law, loss, params=params, **numbers).solve(quadrature_tol=1e-6 if params else 1e-7)
    assert one.converged and two.converged
    for name in ("q", "V", "theta", "Q", "free_energy", "train_loss"):
        np.testing.assert_allclose(one[name], two[name], rtol=2e-6, err_msg=name)


def test_a_linear_link_is_additive_noise():
    problem = qn.problems.GeneralizedLinear("square", lambda x: x, alpha=2.0, weight_decay=0.1, noise=0.1)
    solution = problem.solve(tol=1e-11)
    assert abs(solution["test_mse_noisy"] - 0.1844288770) < 2e-8
    assert abs(solution["V"] - 0.8442887702) < 2e-8
    assert abs(problem.gradient("test_mse", "weight_decay")) < 1e-6  # the optimal weight decay is the noise


@pytest.mark.slow
def test_gradient_in_the_noise():
    problem = qn.problems.GeneralizedLinear("square", jnp.tanh, alpha=2.0, weight_decay=0.3, noise=0.2)
    high, low = (problem.replace(noise=0.2 + s).solve(tol=1e-11)["q"] for s in (1e-4, -1e-4))
    assert abs(problem.gradient("q", "noise") / ((high - low) / 2e-4) - 1.0) < 1e-5


def test_draws_and_refusals():
    rng = np.random.default_rng(0)
    drawn = Link(tanh, 0.25).draw(rng, np.full((20_000, 1, 1), 0.5))
    assert abs(drawn.mean() - np.tanh(0.5)) < 4 * 0.5 / np.sqrt(20_000) and abs(drawn.var() - 0.25) < 0.02
    with pytest.raises(ValueError, match="noise must be"):
        Link(tanh, -1.0)
    with pytest.raises(ValueError, match="link must return a single number"):
        Link(lambda target: target[0]).draw(rng, np.zeros((2, 1, 1)))
