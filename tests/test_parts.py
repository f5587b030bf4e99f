"""Rules in parts: the same averages, the same Jacobian, and one program for rules of every length."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import quenched as qn
from quenched.limit.certificate import solve_and_certify
from quenched.limit.model import as_numbers
from quenched.limit.parts import SIZE, Parts, in_parts, total
from quenched.limit.quadratures import scheme
from quenched.limit.saddle import linearised_update, update
from quenched.limit.solve import solve, starting_point
from quenched.numerics import gaussian
from quenched.numerics.precision import float64
from quenched.numerics.results import RESULTS


def wells(h, target, params):
    """A loss that is neither convex nor quadratic, of two Gaussian variables."""
    return jnp.sum((h - target) ** 2) / (1.0 + params["width"] * jnp.sum(h**2)) + 0.3 * jnp.sum(jnp.log(jnp.cosh(8.0 * h)))


def problem():
    law = qn.laws.sequence([1.0], cov=np.ones((1, 1, 1)), targets=1)
    return qn.SequenceProblem(law, wells, alpha=2.0, weight_decay=0.5, params={"width": 0.3})


@pytest.fixture
def in_float64():
    with float64(True):
        yield


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_averages_are_those_of_the_whole_rule(dimension, in_float64):
    rules = [gaussian.rule(dimension, level) for level in range(3)]
    ladder = in_parts(rules)
    assert ladder.nodes.shape[1] <= SIZE

    def of(rule):
        nodes, weights = rule
        values = jnp.cos(nodes).sum(1) + nodes[:, 0] ** 2
        return {"mean": weights @ values, "moments": (weights * values) @ nodes**2}

    for level, rule in enumerate(rules):
        parts = ladder._replace(level=np.array(level))
        for found, exact in zip(jax.tree.leaves(jax.jit(lambda p: total(of, p))(parts)), jax.tree.leaves(of(rule)), strict=True):
            np.testing.assert_allclose(found, exact, rtol=1e-13)
        largest = total(lambda rule: jnp.max(jnp.abs(rule[0])), parts, jnp.maximum)
        assert float(largest) == np.abs(rule[0]).max()
    assert int(ladder.finer.level) == 1
    assert in_parts(rules[:1]).finer is None


def test_one_pass_gives_the_update_and_its_jacobian(in_float64):
    model = as_numbers(problem().model)
    unknowns = starting_point(model, {"q": 0.7, "theta": 0.4, "V": 0.6, "Q": 0.7})
    parts, fine = scheme(model).solving_rules(0)
    assert isinstance(parts, Parts) and fine is None
    whole = scheme(model).loss_rule(0)
    x, unravel = ravel_pytree(unknowns)

    def plain(x):
        return ravel_pytree(update(model, unravel(x), whole).unknowns)[0]

    for needed in (True, False):
        new, jacobian = jax.jit(lambda needed: linearised_update(model, unknowns, parts, False, needed))(needed)
        np.testing.assert_allclose(ravel_pytree(new.unknowns)[0], plain(x), rtol=1e-12)
        np.testing.assert_allclose(jacobian, jax.jacfwd(plain)(x) if needed else np.zeros_like(jacobian), rtol=1e-9, atol=1e-11)


def test_a_finer_rule_needs_no_other_program():
    coarse = problem().solve(quadrature_tol=0.1)
    compiled = solve_and_certify._cache_size()
    fine = problem().solve(quadrature_tol=1e-7)
    assert solve_and_certify._cache_size() == compiled
    assert coarse.quadrature_error > 10.0 * fine.quadrature_error
    # the estimate is of the error in the overlaps
    change = max(float(np.max(np.abs(coarse[name] - fine[name])) / np.max(np.abs(fine[name]))) for name in ("V", "q", "theta"))
    assert change < 10.0 * coarse.quadrature_error


def test_nothing_is_said_of_the_quadrature_without_convergence():
    with pytest.warns(qn.problems.SolveWarning):
        solution = problem().solve(max_steps=2)
    assert not solution.converged and np.isnan(solution.quadrature_error)


def test_overlaps_held_at_zero_need_no_other_program():
    problem().solve(quadrature_tol=0.1)
    compiled = solve_and_certify._cache_size()
    held = dataclasses.replace(problem(), freeze={"theta": 0})
    solution = held.solve(quadrature_tol=0.1)
    assert solve_and_certify._cache_size() == compiled
    assert solution.converged and solution["theta"] == 0.0
    # where zeros are written into the program instead, this is a fixed point too
    at = held.evaluate(**{name: solution[name] for name in ("V", "q", "theta", "Q") if name in solution})
    assert at["update"]["theta"] == 0.0
    assert max(at["residual"].values()) < 10.0 * solution.quadrature_error + 1e-7


def test_a_cycle_is_tried_on_one_finer_rule_only():
    levels = []

    def cycles(model, start, rule, *rest):
        levels.append(int(rule.level))
        return solve_and_certify(model, start, rule, *rest)._replace(residual=np.float64(1e-3), stalled=np.True_)

    end = solve(problem().model, compiled=cycles)
    assert sorted(set(levels)) == [0, 1] and levels.count(1) == 1
    assert end.result == RESULTS.stalled and end.level == 1


def test_a_finer_rule_that_fails_leaves_the_coarser_one():
    def only_coarse(model, start, rule, *rest):
        end = solve_and_certify(model, start, rule, *rest)
        return end if int(rule.level) == 0 else end._replace(residual=np.float64(1.0), quadrature_error=np.float64(np.nan))

    end = solve(problem().model, quadrature_tol=1e-12, compiled=only_coarse)
    assert end.result == RESULTS.quadrature and end.level == 0 and end.certificate.residual < 1e-8
