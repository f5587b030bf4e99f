"""Derivatives through the solve, compilation once per structure, and the caller's configuration left alone."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quenched as qn

LOGISTIC = qn.problems.GeneralizedLinear("logistic", "sign", alpha=2.0, weight_decay=0.5, noise=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["alpha", "weight_decay", "noise"])
def test_gradient_against_finite_differences(name):
    slope = LOGISTIC.gradient("test_error", name, tol=1e-11)
    at, step = getattr(LOGISTIC, name), 1e-4
    high, low = (LOGISTIC.replace(**{name: at + s}).solve(tol=1e-11)["test_error"] for s in (step, -step))
    assert abs(slope - (high - low) / (2 * step)) < 1e-5 * abs(slope)


@pytest.mark.slow
def test_gradient_from_outside_any_float64_scope():
    assert not jax.config.jax_enable_x64
    slope = jax.grad(lambda w: LOGISTIC.replace(weight_decay=w).solve()["test_error"])(0.5)
    assert slope.dtype == jnp.float32
    assert abs(float(slope) - LOGISTIC.gradient("test_error", "weight_decay")) < 1e-5
    assert not jax.config.jax_enable_x64 and jnp.ones(1).dtype == jnp.float32


@pytest.mark.thorough
@pytest.mark.slow
def test_gradient_in_params():
    def loss(h, label, params):
        return jax.nn.softplus(-params["slope"] * label * h[0, 0])

    problem = qn.SequenceProblem(qn.laws.single(), loss, 2.0, 0.1, response=qn.losses.Sign(0.2), params={"slope": 1.0})

    def q(slope):
        return problem.replace(params={"slope": slope}).solve(tol=1e-11)["q"][0, 0, 0]

    slope = jax.grad(q)(1.3)
    assert abs(float(slope) - float(q(1.3 + 1e-4) - q(1.3 - 1e-4)) / 2e-4) < 2e-5 * abs(float(slope))


def test_solving_inside_jit_is_refused_with_one_sentence():
    with pytest.raises(TypeError, match="cannot be solved inside jax.jit"):
        jax.jit(lambda w: LOGISTIC.replace(weight_decay=w).solve()["test_error"])(0.1)


def test_numbers_do_not_compile_again():
    from quenched.limit.certificate import solve_and_certify

    LOGISTIC.solve()
    before = solve_and_certify._cache_size()
    LOGISTIC.replace(alpha=2.5, weight_decay=0.3, noise=0.4).solve()
    assert solve_and_certify._cache_size() == before


def test_threads_give_the_same_numbers():
    problems = [LOGISTIC.replace(alpha=a) for a in (1.0, 1.5, 2.0, 3.0)]
    serial = [float(p.solve()["test_error"]) for p in problems]
    with ThreadPoolExecutor(4) as pool:
        threaded = [float(s["test_error"]) for s in pool.map(lambda p: p.solve(), problems)]
    assert serial == threaded


@pytest.mark.slow
def test_a_mapped_grid_gives_the_same_numbers():
    problems = [LOGISTIC.replace(alpha=a) for a in np.geomspace(0.5, 5.0, 12)]
    many = qn.problems.solve_many(problems)
    for problem, solution in zip(problems, many, strict=True):
        assert solution.converged
        assert abs(float(solution["test_error"]) - float(problem.solve()["test_error"])) < 1e-9


def test_the_test_error_is_the_angle():
    s = qn.problems.GeneralizedLinear("logistic", "sign", alpha=2.0, weight_decay=0.1).solve(tol=1e-11)
    assert abs(s["test_error"] - np.arccos(s["theta"] / np.sqrt(s["q"])) / np.pi) < 1e-10


def test_a_solution_is_a_pytree():
    solution = LOGISTIC.solve()
    doubled = jax.tree.map(lambda x: 2 * x, solution)
    assert doubled["q"] == 2 * solution["q"] and doubled.result is solution.result
    slopes = jax.jacrev(lambda w: LOGISTIC.replace(weight_decay=w).solve().observables)(0.5)
    assert abs(float(slopes["test_error"]) - LOGISTIC.gradient("test_error", "weight_decay")) < 1e-5
