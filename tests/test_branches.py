"""Branches of fixed points: where they cross in energy, where they end, how they are followed.

The problem: clustering in two classes, ``loss = (|h| - 1)^2 / 2``, of ``x = +-mu_1 +- mu_2 + noise``. The learner splits the data
along either direction, and all Gaussian averages are elementary, so that crossings and ends are known from a few lines of algebra
that share nothing with the library.
"""

import dataclasses
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar, root
from scipy.special import erf

import quenched as qn

P = qn.problems
GAMMA, NORM = np.array([2.0, 1.0]), np.array([4.0, 3.2])  # the noise along each direction, and the norms of the means


def wells(h, params):
    return 0.5 * params["depth"] * (jnp.abs(h) - 1.0) ** 2


def envelope(omega, V, params):
    V = params["depth"] * V
    h = (omega + V * jnp.where(omega < 0, -1.0, 1.0)) / (1.0 + V)
    return 0.5 * params["depth"] * (jnp.abs(omega) - 1.0) ** 2 / (1.0 + V), h


WELLS = qn.Loss(wells, moreau=envelope, kinks=lambda V, label: jnp.zeros(1), convex=False, scalar=True)
SPECTRUM = qn.laws.SpectralLaw([0.5, 0.5], GAMMA[:, None], gram=[np.diag([NORM[0] ** 2, 0.0]), np.diag([0.0, NORM[1] ** 2])])
LAW = qn.laws.sequence([0.5, 0.5], mean=np.array([[[1.0, 1.0]], [[1.0, -1.0]]]), spectrum=SPECTRUM, value=[1.0, 1.0])
CLUSTERS = qn.SequenceProblem(LAW, WELLS, alpha=2.0, weight_decay=1.0, params={"depth": 1.0})
STARTS = {
    "first": {"m": [[0.9], [0.0]], "q": 0.1, "Q": 0.2, "V": 0.5},
    "second": {"m": [[0.0], [0.9]], "q": 0.1, "Q": 0.2, "V": 0.5},
}


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Clusters(qn.SequenceProblem):
    """The same with starts of its own, one of them in the sector m = 0."""

    _starts = ("first", "second", "collapsed")

    def _start(self, name):
        return (STARTS[name], ()) if name in STARTS else ("uninformed", ("m",) if name == "collapsed" else ())


# ---- the same in closed form ----------------------------------------------------------------------------------------


def averages(V, q, m, alpha, weight_decay, k):
    """One update of (V, q, m) for a split along direction k, and the energy at it."""
    density = np.exp(-0.5 * m * m / q) / np.sqrt(2.0 * np.pi)
    distance = 2.0 * np.sqrt(q) * density + m * erf(m / np.sqrt(2.0 * q))  # E |omega|
    loss = 0.5 * (q + m * m - 2.0 * distance + 1.0) / (1.0 + V)
    q_hat, V_hat = 2.0 * alpha * loss / (1.0 + V), alpha * (1.0 - 2.0 * density / np.sqrt(q)) / (1.0 + V)
    m_hat = alpha * (erf(m / np.sqrt(2.0 * q)) - m) / (1.0 + V)
    A, B = weight_decay + GAMMA * V_hat, NORM[k] ** 2 * m_hat
    new = [np.mean(GAMMA / A), np.mean(GAMMA**2 * q_hat / A**2) + GAMMA[k] * B * m_hat / A[k] ** 2, B / A[k]]
    potential = 0.5 * np.mean(GAMMA * q_hat / A) + 0.5 * B * m_hat / A[k]
    return np.array(new), 0.5 * q_hat * V - 0.5 * V_hat * q + m_hat * m - potential + alpha * loss


def fixed_point(alpha, weight_decay, k, start=(0.5, 0.1, 0.85)):
    found = root(lambda x: averages(*x, alpha, weight_decay, k)[0] - x, start, tol=1e-13)
    assert found.success
    return found.x


def energy(alpha, weight_decay, k):
    return averages(*fixed_point(alpha, weight_decay, k), alpha, weight_decay, k)[1]


def crossing(weight_decay=1.0):
    return brentq(lambda alpha: energy(alpha, weight_decay, 0) - energy(alpha, weight_decay, 1), 1.5, 4.0, xtol=1e-12)


def fold():
    """The smallest weight decay at which a split along the first direction exists (alpha = 2): the branch turns back there."""

    def weight_decay(V):
        start = [0.2, 0.84, np.log(0.33)]
        found = root(lambda y: averages(V, y[0], y[1], 2.0, np.exp(y[2]), 0)[0] - [V, y[0], y[1]], start, tol=1e-13)
        return np.exp(found.x[2])

    return minimize_scalar(weight_decay, bounds=(1.2, 1.6), method="bounded", options={"xatol": 1e-9}).fun


def birth(m=1e-4):
    """The alpha from which on a split along the second direction grows continuously out of none (weight_decay = 1)."""
    V, q, first = fixed_point(0.25, 1.0, 1, (0.74, 0.06, 0.49))
    y = [V, q, 0.25]
    for step in np.geomspace(first, m, 40):
        found = root(lambda y, m=step: averages(y[0], y[1], m, y[2], 1.0, 1)[0] - [y[0], y[1], m], y, tol=1e-13)
        y = found.x
    return y[2]


# ---- crossings ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_split_agrees_with_the_closed_form():
    for k, start in enumerate(STARTS.values()):
        solution = CLUSTERS.solve(init=start, tol=1e-11)
        V, q, m = fixed_point(2.0, 1.0, k)
        found = [np.squeeze(solution["V"]), np.squeeze(solution["q"]), abs(solution["m"][k, 0]), solution["free_energy"]]
        np.testing.assert_allclose(found, [V, q, m, energy(2.0, 1.0, k)], rtol=1e-9)


@pytest.mark.slow
def test_crossing_over_alpha():
    transition = qn.find_transition(CLUSTERS, between=STARTS, bracket=(0.5, 8.0), points=5)
    assert abs(transition.value - crossing()) < transition.uncertainty < 3e-4 * crossing()
    assert (transition.below, transition.above) == ("first", "second")
    assert transition.crossings == (transition.value,) and transition.spinodals == ()
    first, second = (transition.solutions[name] for name in STARTS)
    assert abs(first["free_energy"] - second["free_energy"]) < 1e-4 * abs(first["free_energy"])
    assert first.problem.alpha == second.problem.alpha
    assert abs(first.problem.alpha / transition.value - 1.0) < 1e-4


def test_crossing_is_where_solved_energies_cross():
    """Independent bisection on the energies of cold solves, without continuation."""

    def solved(weight_decay, k):
        V, q, m = fixed_point(2.0, weight_decay, k)
        start = {"V": V, "q": q, "m": m * np.eye(2)[:, [k]]}
        return float(CLUSTERS.replace(weight_decay=weight_decay).solve(init=start)["free_energy"])

    def gap(weight_decay):
        return solved(weight_decay, 0) - solved(weight_decay, 1)

    transition = qn.find_transition(CLUSTERS, "weight_decay", between=STARTS, bracket=(0.7, 1.4), points=3, rtol=1e-3)
    assert abs(transition.value - brentq(gap, 0.8, 1.0, xtol=1e-7)) < transition.uncertainty < 2e-3


def test_a_finer_search_narrows_the_uncertainty():
    options = dict(between=STARTS, bracket=(1.5, 3.0), points=3)
    coarse, fine = (qn.find_transition(CLUSTERS, **options, rtol=rtol) for rtol in (1e-2, 1e-5))
    assert fine.uncertainty < 1e-2 * coarse.uncertainty
    assert abs(fine.value - crossing()) < fine.uncertainty
    assert abs(coarse.value - crossing()) < coarse.uncertainty


def test_the_error_of_an_energy():
    """What the uncertainty holds of the quadrature: the change on the next rule, here of nodes that are not told of the jump."""
    from quenched.limit.averages import energy_error
    from quenched.limit.channel import channel
    from quenched.limit.model import as_numbers
    from quenched.limit.quadratures import scheme
    from quenched.numerics.precision import float64

    unknowns = CLUSTERS.solve(init=STARTS["first"], tol=1e-11)._unknowns()
    blind = as_numbers(CLUSTERS.replace(loss=dataclasses.replace(WELLS, kinks=None)).model)
    V, q, m = fixed_point(2.0, 1.0, 0)
    density = np.exp(-0.5 * m * m / q) / np.sqrt(2.0 * np.pi)
    exact = 0.5 * (q + m * m - 4.0 * np.sqrt(q) * density - 2.0 * m * erf(m / np.sqrt(2.0 * q)) + 1.0) / (1.0 + V)
    with float64(True):
        errors = [2.0 * abs(float(channel(blind, *unknowns, scheme(blind).loss_rule(level))) - exact) for level in range(4)]
    assert errors[0] > 1e-5
    for level in range(3):
        assert abs(energy_error(blind, *unknowns, level) - errors[level]) < errors[level + 1] + 1e-9
    assert energy_error(CLUSTERS.model, *unknowns, 0) < 1e-9


def test_no_crossing_names_the_lower_branch():
    transition = qn.find_transition(CLUSTERS, between=STARTS, bracket=(3.0, 6.0), points=3)
    assert transition.value is None and transition.lower == "second"
    assert "second is lowest wherever both exist" in repr(transition)
    assert energy(4.0, 1.0, 1) < energy(4.0, 1.0, 0)


# ---- ends -----------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.slow
def test_a_spinodal_is_where_the_branch_turns_back():
    transition = qn.find_transition(CLUSTERS, "weight_decay", between=STARTS, bracket=(0.2, 1.4), points=4)
    (end,) = transition.spinodals
    assert end.branch == "first"
    assert end.lost < fold() < end.found < (1.0 + 1e-4) * end.lost
    assert f"first ends between {end.lost:.6g} and {end.found:.6g}" in repr(transition)
    assert abs(transition.value - 0.8993833) < transition.uncertainty  # beyond the fold the crossing is still found


def test_the_slope_diverges_at_a_spinodal():
    """Near a fold overlaps go like its distance to the power 1/2: at a hundredth of the distance the slope is ten times larger."""
    at = fold()
    path = P.follow(CLUSTERS, "weight_decay", at * (1.0 + np.geomspace(3.0, 1e-6, 30)), STARTS["first"], tol=1e-10)
    assert len(path) == 30
    slopes = []
    for distance in (1e-3, 1e-5):
        there = min(path.values(), key=lambda s, d=distance: abs(np.log((s.problem.weight_decay / at - 1.0) / d)))
        near = there.problem.replace(weight_decay=at * (1.0 + distance)).solve(init=there, tol=1e-11)
        h = 1e-3 * at * distance
        high, low = (near.problem.replace(weight_decay=near.problem.weight_decay + s).solve(init=near, tol=1e-12) for s in (h, -h))
        slopes.append(float(np.squeeze(high["V"] - low["V"]) / (2 * h)))
    assert 9.0 < slopes[1] / slopes[0] < 11.0


@pytest.mark.slow
def test_a_branch_that_grows_out_of_another_ends_there():
    transition = qn.find_transition(CLUSTERS, between=STARTS, bracket=(0.03, 2.0), points=4)
    (end,) = transition.spinodals
    assert end.branch == "second" and end.how == "the iteration leads to another solution"
    assert abs(end.found / birth() - 1.0) < 2e-4 and end.lost < end.found < (1.0 + 2e-4) * end.lost


@pytest.mark.slow
def test_a_branch_that_meets_the_other():
    problem = Clusters(**{**CLUSTERS.parameters, "alpha": 0.2})
    transition = qn.find_transition(problem, between=("second", "collapsed"), bracket=(0.03, 0.3), points=4, rtol=1e-3)
    (end,) = transition.spinodals
    assert transition.lower == "second" and end.branch == "second"
    assert abs(end.found / birth() - 1.0) < 2e-3
    assert np.all(problem.replace(alpha=0.1).solve(init="collapsed")["m"] == 0.0)


@pytest.mark.slow
def test_the_search_may_begin_where_one_branch_does_not_exist():
    beyond = Clusters(**{**CLUSTERS.parameters, "weight_decay": 0.25})
    assert list(beyond.branches(("first", "collapsed"))) == ["first"]  # both starts lead to the collapsed branch
    transition = qn.find_transition(beyond, "weight_decay", ("first", "collapsed"), bracket=(0.2, 1.0), points=4, rtol=1e-3)
    (end,) = transition.spinodals
    assert end.branch == "first" and end.lost < fold() < end.found
    assert (transition.below, transition.above) == ("collapsed", "first") and fold() < transition.value < 0.4


def test_branches_that_are_nowhere_found_together():
    transition = qn.find_transition(CLUSTERS, "weight_decay", between=STARTS, bracket=(0.15, 0.2), points=3, max_steps=100)
    assert transition.value is None and transition.lower is None
    assert "nowhere found together" in repr(transition)


def test_following_a_branch_stops_at_its_end():
    values = [1.0, 0.6, 0.35, 0.32, 0.3, 0.2]
    path = P.follow(CLUSTERS, "weight_decay", values, STARTS["first"])
    assert list(path) == [w for w in values if w > fold()]
    for weight_decay, solution in path.items():
        start = np.array([np.squeeze(solution["V"]), np.squeeze(solution["q"]), abs(solution["m"][0, 0])])
        np.testing.assert_allclose(start, fixed_point(2.0, weight_decay, 0, start), rtol=1e-6)


def test_a_warm_start_stays_on_its_branch_or_fails():
    last = CLUSTERS.replace(weight_decay=0.32).solve(init=P.follow(CLUSTERS, "weight_decay", [1.0, 0.4], STARTS["first"])[0.4])
    assert last.converged and abs(last["m"][0, 0]) > 0.5
    with pytest.warns(P.SolveWarning):
        beyond = CLUSTERS.replace(weight_decay=0.311).solve(init=last, max_steps=60)
    assert not beyond.converged


@pytest.mark.slow
def test_derivatives_where_the_prox_jumps():
    """The jump moves with the parameter, and the implicit derivative knows it."""
    start = STARTS["first"]
    slope = CLUSTERS.gradient("q", "weight_decay", init=start, tol=1e-11)
    high, low = (CLUSTERS.replace(weight_decay=1.0 + s).solve(init=start, tol=1e-12)["q"] for s in (1e-4, -1e-4))
    np.testing.assert_allclose(slope, (high - low) / 2e-4, rtol=1e-6)


# ---- the list of branches, and what is refused ----------------------------------------------------------------------


def test_branches_are_ranked_and_named_once():
    problem = Clusters(**CLUSTERS.parameters)
    found = problem.branches()
    assert list(found) == ["first", "second", "collapsed"]
    energies = [float(s["free_energy"]) for s in found.values()]
    assert energies == sorted(energies)
    np.testing.assert_allclose(energies[:2], [energy(2.0, 1.0, 0), energy(2.0, 1.0, 1)], rtol=1e-8)
    # a start and its image under w -> -w end in the same branch, whichever sign the iteration picks
    turned = {**STARTS["second"], "m": [[0.0], [-0.9]]}
    assert list(CLUSTERS.branches({"second": STARTS["second"], "turned": turned})) == ["second"]


def test_a_start_that_does_not_converge_is_left_out():
    with pytest.warns(P.SolveWarning):
        found = CLUSTERS.branches({"first": STARTS["first"], "second": STARTS["second"]}, max_steps=2)
    assert found == {}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(between=("first",)), "between must name two different branches"),
        (dict(between=("first", "first")), "between must name two different branches"),
        (dict(between="first"), "between must name two different branches"),
        (dict(between=("first", "nowhere")), r"between must name branches of Clusters \(first, second, .*got 'nowhere'"),
        (dict(between=(None, 2)), "between must name branches of Clusters"),
        (dict(over="units"), "over must be a real parameter of Clusters .alpha, weight_decay., got 'units'"),
        (dict(over="nonsense"), "over must be a real parameter of Clusters .alpha, weight_decay., got 'nonsense'"),
        (dict(over=3), "over must be a real parameter of Clusters .*, got 3"),
        (dict(bracket=(2.0, 1.0)), "bracket must hold two increasing numbers"),
        (dict(bracket=(0.0, 1.0)), r"bracket\[0\] must be positive"),
        (dict(bracket=3.0), "bracket must hold two increasing numbers, got 3.0"),
        (dict(bracket=(1.0, 2.0, 3.0)), "bracket must hold two increasing numbers"),
        (dict(points=2), "points must be a whole number of at least 3"),
        (dict(rtol=0.0), "rtol must be positive"),
    ],
)
def test_refusals(options, words):
    with pytest.raises(ValueError, match=words):
        qn.find_transition(Clusters(**CLUSTERS.parameters), **options)


def test_one_start_is_no_transition():
    with pytest.raises(ValueError, match="between must name two different branches"):
        qn.find_transition(CLUSTERS)


def test_a_vanishing_parameter_is_refused():
    with pytest.raises(ValueError, match="over must be positive"):
        qn.find_transition(P.PhaseRetrieval(3.0, 0.2, noise=0.0), "noise")


def test_entries_of_params_are_parameters():
    """The depth scales the loss: energies cross where the weight decay per depth has its critical value."""
    critical = brentq(lambda weight_decay: energy(2.0, weight_decay, 0) - energy(2.0, weight_decay, 1), 0.8, 1.0)
    transition = qn.find_transition(CLUSTERS, "depth", between=STARTS, bracket=(0.9, 1.4), points=3, rtol=1e-3)
    assert abs(transition.value - 1.0 / critical) < transition.uncertainty


# ---- problems of the catalogue --------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.slow
def test_phase_retrieval_within_its_uncertainty():
    """On a coarse quadrature the transition is off by two per cent, and says so: finer energies cross within the uncertainty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P.SolveWarning)  # replica symmetry is approximate in the uninformed branch
        problem = P.PhaseRetrieval(alpha=1.6, weight_decay=0.2, noise=0.04)
        transition = qn.find_transition(problem, bracket=(1.5, 1.7), points=3, rtol=1e-3, quadrature_tol=1e-2)
        assert (transition.below, transition.above) == ("uninformed", "informed")
        assert 1e-3 < transition.uncertainty / transition.value < 0.05
        gaps = []
        for side in (-1, 1):
            alpha = transition.value + side * transition.uncertainty
            fine = [s.problem.replace(alpha=alpha).solve(init=s, quadrature_tol=1e-3) for s in transition.solutions.values()]
            assert fine[1]["theta"] == 0.0 and fine[0]["theta"] > 0.5
            gaps.append(float(fine[0]["free_energy"] - fine[1]["free_energy"]))
    assert gaps[0] > 0.0 > gaps[1]
