"""Networks after one large gradient step: the page's numbers, limits, and actual networks."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.scipy.special import erf

import quenched as qn
from quenched.laws import SpikedFeatures, Spikes, gradient_step, index_target
from quenched.laws.activation import activation
from quenched.limit.feature_spectrum import feature_density, outliers, ridge_from_spectrum
from quenched.limit.spiked_ridge import error_floor, spiked_ridge
from quenched.numerics.blocks import block_resolvent
from quenched.problems import ApproximationWarning, OneGradientStep


def small_erf(x):
    return erf(x / jnp.sqrt(2.0))


def th2(x):
    return jnp.tanh(x) + 0.5 * (x**2 - 1.0)


def sh2(x):
    return jnp.sin(2.0 * x) + 0.3 * (x**2 - 1.0)


def he2(x):
    return (x**2 - 1.0) / jnp.sqrt(2.0)


def three(x, y, z):
    return jnp.sin(x) + 0.7 * x * y + 0.5 * z


def problem(activation="tanh", target="sin", alpha0=20.0, learning_rate=3.0, width_ratio=1.0, alpha=1.6, weight_decay=0.1, **more):
    return OneGradientStep(alpha, alpha0, learning_rate, width_ratio, activation, target, weight_decay, **more)


def spiked(
    act, target, spike, variance, alignment, size=1.0, probabilities=None, length=0.0, equivalent=True, width=None, facing=None
):
    """Rows that are literally spikes plus noise."""
    target = index_target(target) if facing is None else index_target(target).facing(facing)
    spike, T = np.atleast_1d(np.array(spike, float)), target.directions
    k = len(spike)
    scale = np.sqrt(np.broadcast_to(np.array(variance, float), (k,)))
    same = np.broadcast_to(np.eye(T + 1), (k, T + 1, T + 1))
    spikes = Spikes(spike, scale, np.float64(alignment), same, np.zeros(k), np.ones((k, T + 1)), np.full(k, length))
    return SpikedFeatures(act, target, spikes, size, probabilities, width, equivalent)


POP = np.inf
CASES = {
    "T1": problem(),
    "P1": problem(alpha0=POP),
    "T2": problem(alpha0=2.0, learning_rate=1.5, alpha=1.5, weight_decay=0.05, readout_values=(1, -1)),
    "T3": problem(target="tanh", alpha0=0.5, learning_rate=2.0, alpha=2.0, weight_decay=0.02),
    "T4": problem(small_erf, th2, 4.0, 2.0, 1.2, 2.0, 0.1, readout_values=(1, -0.5, 0.25), readout_probabilities=(0.3, 0.3, 0.4)),
    "T6": problem(learning_rate=0.0),
    "T7": problem(target=th2, alpha0=8.0, width_ratio=0.5, alpha=2.5, weight_decay=0.01, readout_values=(1, 1 / 3)),
    "T9": problem(alpha0=4.0, width_ratio=2.0, alpha=1.0, weight_decay=0.01),
    "P5": problem("relu", th2, POP, 1.5, alpha=2.0),
    "P8": problem("relu", th2, POP, 1.5, alpha=2.0, readout_values=(1, -1)),
    "P2": problem("softplus", sh2, POP, 2.0, 0.8, 1.5, 0.05, readout_values=(1, -0.5), readout_probabilities=(0.3, 0.7)),
    "T5": problem("relu", th2, 40.0, 1.5, alpha=2.0),
    "T8": problem("relu", th2, 40.0, 1.5, alpha=2.0, readout_values=(1, -1)),
}
# isotropic, refined, refined at p neurons: test and train
TABLE = {
    "T6": ((0.258801, 0.092011), (0.258801, 0.092011), (0.258801, 0.092011), 1000),
    "T1": ((0.037311, 0.019590), (0.036294, 0.018812), (0.036534, 0.018874), 1000),
    "P1": ((0.023492, 0.016169), (0.022134, 0.015161), (0.022393, 0.015226), 1000),
    "T2": ((0.144844, 0.040492), (0.145530, 0.040619), (0.145897, 0.040702), 1000),
    "T3": ((0.205944, 0.062904), (0.220500, 0.066754), (0.220606, 0.066786), 1000),
    "T4": ((0.727074, 0.321416), (0.726828, 0.321316), (0.727893, 0.321773), 1200),
    "T7": ((0.670219, 0.481311), (0.669913, 0.481124), (0.670725, 0.481630), 500),
    "T9": ((0.099858, 0.005069), (0.098601, 0.004793), (0.098749, 0.004791), 1200),
    "P5": ((0.658673, 0.309501), (0.428346, 0.218820), (0.428382, 0.218847), 1000),
    "P8": ((0.650676, 0.235740), (0.623854, 0.226288), (0.624362, 0.226540), 1000),
    "P2": ((0.880653, 0.305601), (0.880688, 0.305613), (0.882843, 0.306437), 800),
    "T5": ((0.662466, 0.309365), (0.454506, 0.227195), (0.454557, 0.227234), 600),
    "T8": ((0.667888, 0.242112), (0.643623, 0.233602), (0.644435, 0.233997), 600),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", [k if k in ("T1", "P1") else pytest.param(k, marks=pytest.mark.thorough) for k in TABLE])
def test_errors_of_the_table(case):
    iso, refined, finite, p = TABLE[case]
    # a coarser rule for relu and a rounded c at finite alpha0 and c_2 other than 0: 1e-5 in the errors
    atol = 1.2e-5 if case in ("T5", "T8") else 1.1e-6
    for changes, expected in (({"refined": False}, iso), ({}, refined), ({"width": p}, finite)):
        found = CASES[case].replace(**changes).ridge()
        np.testing.assert_allclose((found.test_mse_noisy, found.train_mse), expected, atol=atol)


@pytest.mark.slow
def test_order_parameters_of_the_table():
    iso, refined, finite = (CASES["T1"].replace(**c).ridge() for c in ({"refined": False}, {}, {"width": 1000}))
    np.testing.assert_allclose((iso.m[0], *iso.components[0]), (1.1197, 0.05744, 0.15397), atol=5e-5)
    np.testing.assert_allclose((finite.m[0], *refined.components[0]), (1.0882, 0.08033, 0.15389), atol=5e-5)
    third = CASES["T3"].ridge(), CASES["T3"].replace(width=1000).ridge()
    np.testing.assert_allclose((third[1].m[0], *third[0].components[0]), (0.69633, -0.0795, 0.56318), atol=5e-5)
    np.testing.assert_allclose(CASES["T4"].replace(width=1200).ridge().m, (1.1704, -0.0180, -0.1167), atol=5e-5)
    np.testing.assert_allclose(CASES["P5"].replace(width=1000).ridge().m, (-0.33140,), atol=5e-5)
    np.testing.assert_allclose(CASES["P8"].replace(width=1000).ridge().m, (0.8573, -0.9088), atol=5e-5)
    np.testing.assert_allclose(CASES["T9"].replace(width=1200).ridge().m, (0.84332,), atol=5e-5)


def test_the_map_of_the_page():
    one = CASES["T1"].spikes
    found = one.spike[0], one.scale[0] ** 2, one.alignment, one.stretch[0], one.variance[0, 0]
    np.testing.assert_allclose(found, (1.13405551, 1.0189732, 0.97185444, -0.67438788, 1.01409037), atol=1e-8)
    two = CASES["T3"].spikes
    found = two.spike[0], two.scale[0] ** 2, two.alignment, two.stretch[0], two.variance[0, 0], two.length[0]
    np.testing.assert_allclose(found, (1.30217846, 1.30762458, 0.56348523, -0.68357441, 2.12176614, 0.36300128), atol=1e-8)
    three_ = CASES["P5"].spikes
    found = three_.spike[0], three_.scale[0] ** 2, three_.response[0, 0, 0] - 1.0, three_.stretch[0]
    np.testing.assert_allclose(found, (0.45427913, 0.57952834, 0.78607500, 0.0), atol=1e-8)  # the page: .78608240


_SLOW = pytest.mark.slow  # compiles long


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("case", "width"), [("T1", 700), pytest.param("T4", 700, marks=_SLOW), pytest.param("P8", None, marks=_SLOW)]
)
@pytest.mark.slow
def test_the_engine_and_the_closed_form(case, width):
    one = CASES[case].replace(width=width, noise=0.05)
    solution, ridge = one.solve(), one.ridge()
    for name in ("test_mse", "test_mse_noisy", "train_mse"):
        assert float(solution[name]) == pytest.approx(float(getattr(ridge, name)), rel=1e-8)
    k = len(one.readout_values)
    assert float(solution["Q"]) == pytest.approx(float(ridge.norm), rel=1e-7)
    np.testing.assert_allclose(np.reshape(solution["theta"], k), ridge.components[:, 0], rtol=1e-6, atol=1e-9)
    if width:
        np.testing.assert_allclose(np.reshape(solution["m"], k), ridge.m, rtol=1e-6)
    again = one.replace(alpha=one.alpha * 1.01).solve(init=solution)
    assert float(again["test_mse"]) == pytest.approx(float(one.replace(alpha=one.alpha * 1.01).ridge().test_mse), rel=1e-8)


@pytest.mark.slow
def test_sampled_spiked_features_of_the_page():
    one = {length: spiked_ridge(spiked("tanh", "sin", 1.2, 1.1, 0.9, length=length), 1.5, 0.1) for length in (2.0, 0.0)}
    found = [(r.test_mse, r.train_mse) for r in one.values()]
    np.testing.assert_allclose(found, [(0.0756644, 0.0290036), (0.0757490, 0.0290710)], atol=1e-7)
    two = [
        spiked_ridge(spiked("tanh", "sin", (1.2, -0.6), (1.1, 1.0), 0.9, 0.7, (0.4, 0.6), 2.0, width=width), 1.5, 0.05).m
        for width in (None, 560)
    ]
    np.testing.assert_allclose(two, [(2.307, 2.024), (1.690, 1.051)], atol=1e-3)


@pytest.mark.parametrize(
    ("act", "spike", "width", "errors"),
    [
        ("relu", (1.5, -1.5), None, (0.783841, 0.348096)), ("relu", (1.5, -1.5), 800, (0.784136, 0.348235)),
        ("tanh", (1.5, 0.5), None, (0.788590, 0.433804)), ("tanh", (1.5, 0.5), 800, (0.790750, 0.434986)),
    ],
)  # fmt: skip
def test_several_directions_of_the_page(act, spike, width, errors):
    law = spiked(act, three, spike, 1.0, 1.0, length=2.0, width=width, facing=(1.0, 0.0, 0.0))
    found = spiked_ridge(law, 3.0, 0.02)
    np.testing.assert_allclose((found.test_mse, found.train_mse), errors, atol=2.5e-6)
    if act == "relu":
        np.testing.assert_allclose(found.components[:, 2:], [(0.29278, 0.24255), (-0.29278, 0.24255)], atol=1e-5)
    else:
        np.testing.assert_allclose(found.components[:, 2], 0.0, atol=1e-12)  # x_1 x_2 needs an activation that is not odd


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("arguments", "alpha", "decay", "expected"),
    [
        ((0.0, 1.0, 0.8), 2.0, 0.1, (0.281871, 0.545997, 0.362707)),
        pytest.param(((1.2, 0.4), (1.1, 1.0), 0.7), 1.5, 0.05, (0.210977, 0.445760, 0.212592), marks=_SLOW),
    ],
)
@pytest.mark.slow
def test_logistic_regression_on_sampled_spiked_features(arguments, alpha, decay, expected):
    observables = {"error": lambda h, label: label * h[0, 0] < 0, "loss": lambda h, label: jnp.logaddexp(0.0, -label * h[0, 0])}
    law = spiked("tanh", "sign", *arguments, equivalent=False)
    solution = qn.SequenceProblem(
        law, "logistic", alpha=alpha, weight_decay=decay, response=qn.losses.Sign(0.0), observables=observables
    ).solve()
    np.testing.assert_allclose([float(solution[name]) for name in ("error", "loss", "train_loss")], expected, atol=1e-6)


@pytest.mark.thorough
@pytest.mark.slow
def test_logistic_regression_of_the_page():
    """L1 and L2. The page's own numbers belong to E|z| = .79983 in place of sqrt(2 / pi) = .79788 (a rule on the jump of the sign):
    with it they come out to 2e-5, the numbers of the problem itself are .1 to .2 per cent higher."""
    one = problem(target="sign", alpha0=4.0, alpha=2.0, loss="logistic", refined=False)
    two = problem(small_erf, "sign", 1.0, 2.0, 1.0, 2.0, 0.05, readout_values=(1, -1), loss="logistic", refined=False)
    for case, page in ((one, (0.153228, 0.209656)), (two, (0.223203, 0.275720))):
        solution = case.solve()
        found = np.array([float(solution["test_error"]), float(solution["train_loss"])])
        np.testing.assert_allclose(found, page, rtol=2.5e-3)
        assert np.all(found > page)
    constants = one.spikes
    slope = 0.79983  # instead of E|z|
    norm = np.sqrt(slope**2 + 0.25)
    spikes = constants._replace(
        spike=constants.spike * norm / np.sqrt(2.0 / np.pi + 0.25), alignment=np.float64(slope / norm),
    )  # fmt: skip
    law = SpikedFeatures("tanh", "sign", spikes, 1.0)
    solution = qn.SequenceProblem(
        law, "logistic", alpha=2.0, weight_decay=0.1, response=qn.losses.Sign(0.0),
        observables={"e": lambda h, label: label * h[0, 0] < 0},
    ).solve()  # fmt: skip
    np.testing.assert_allclose((float(solution["e"]), float(solution["train_loss"])), (0.153228, 0.209656), atol=2.5e-5)


# --- exact: limits and symmetries ---------------------------------------------------------------------------------------------


def test_population_ridge_of_the_page():
    law = spiked("tanh", "sin", (1.2, 0.4), (1.1, 1.0), 0.9, 0.8, (0.4, 0.6))
    found = spiked_ridge(law, [10.0, 1e2, 1e3, 1e5], 0.1)
    np.testing.assert_allclose(found.test_mse, (0.0571323, 0.0532983, 0.0529205, 0.0528790), atol=1e-7)
    assert found.train_mse[-1] == pytest.approx(found.test_mse[-1], rel=1e-4)


def test_a_linear_network_of_infinite_width_is_ridge_regression():
    page = problem("linear", "linear", learning_rate=0.0, width_ratio=1e6, alpha=2.0, weight_decay=0.5)
    found = page.ridge()
    np.testing.assert_allclose((found.test_mse_noisy, found.train_mse), (0.10633920, 0.04360940), atol=5e-9)
    wide = page.replace(width_ratio=1e8, noise=0.3)
    found = wide.ridge()
    exact = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.5, noise=0.3).solve()
    assert float(found.test_mse_noisy) == pytest.approx(float(exact["test_mse_noisy"]), rel=1e-6)
    ridgeless = wide.ridge(weight_decay=1e-7)
    assert float(ridgeless.test_mse_noisy) == pytest.approx(0.6, rel=1e-5)


def test_wide_layers_have_a_kernel(x64):
    from quenched.limit.spiked_ridge import _fixed_point

    law = spiked("tanh", "sin", (1.2, 0.4), (1.1, 1.0), 0.9, 1e9, (0.4, 0.6))
    decay, alpha, mu1 = 0.1, 1.5, law.profile.mu1
    V = np.zeros(len(law.kappa))
    for _ in range(300):
        A = alpha * np.einsum("c,cl,cm->lm", law.prob / (1.0 + V), mu1, mu1)
        inner = np.linalg.inv(decay * np.diag(1.0 / law.groups) + A)
        V = law.profile.rest @ law.groups / decay + np.einsum("cl,lm,cm->c", mu1, inner, mu1)
    (A, B), _ = _fixed_point(law, alpha / law.size, decay)
    found = law.susceptibility(*block_resolvent(decay + B, A, law.size * law.groups))
    np.testing.assert_allclose(found, V, rtol=1e-7)


@pytest.mark.parametrize("alpha0", [0.3, 50.0])
def test_without_a_step_the_samples_of_the_step_do_not_matter(alpha0):
    assert problem(learning_rate=0.0, alpha0=alpha0).ridge().test_mse == pytest.approx(CASES["T6"].ridge().test_mse, rel=1e-12)
    assert CASES["T6"].error_floor() == pytest.approx((1.0 - np.exp(-2.0)) / 2.0 - np.exp(-1.0), rel=1e-10)


@given(split=st.floats(0.1, 0.9), spike=st.floats(-2.0, 2.0), variance=st.floats(0.3, 2.0), alignment=st.floats(0.0, 1.0))
@settings(max_examples=8, deadline=None)
@pytest.mark.slow
def test_two_equal_groups_are_one(split, spike, variance, alignment):
    one = spiked_ridge(spiked("relu", "sin", spike, variance, alignment), 1.4, 0.1)
    two = spiked_ridge(spiked("relu", "sin", (spike,) * 2, variance, alignment, probabilities=(split, 1.0 - split)), 1.4, 0.1)
    np.testing.assert_allclose((one.test_mse, one.train_mse, one.norm), (two.test_mse, two.train_mse, two.norm), rtol=1e-8)
    assert two.components.sum(0) == pytest.approx(one.components[0], abs=1e-8)


def test_interpolation():
    small = problem(width_ratio=2.0, alpha=1.0, learning_rate=0.5).ridge(weight_decay=[1e-5, 1e-6])
    assert small.train_mse[0] / small.train_mse[1] == pytest.approx(100.0, rel=1e-2)
    peak = problem(width_ratio=1.0, alpha=1.0, noise=0.1).ridge(alpha=[0.7, 1.0, 1.5], weight_decay=1e-6).test_mse
    assert peak[1] > 10.0 * max(peak[0], peak[2])


@pytest.mark.thorough
@pytest.mark.slow
def test_gradients_are_those_of_the_solution():
    one = problem(noise=0.1)
    slopes = one.gradient("test_mse", ("learning_rate", "alpha0", "weight_decay", "noise"))
    for name, slope in slopes.items():
        step = 1e-4 * float(getattr(one, name))
        up, down = (one.replace(**{name: float(getattr(one, name)) + s}).ridge().test_mse for s in (step, -step))
        assert float(slope) == pytest.approx(float(up - down) / (2.0 * step), rel=1e-4), name


@pytest.mark.parametrize("width", [pytest.param(None, marks=_SLOW), 300])
@pytest.mark.slow
def test_overlaps_are_the_gradient_of_the_potential(x64, width):
    from quenched.laws.base import Conjugates, Law

    law = problem("relu", three, POP, 1.5, readout_values=(1.0, -0.5), width=width).law
    B, A, (rho, _) = law.labels().cov.shape[-1], len(law.free), law.targets()
    rng = np.random.default_rng(1)
    positive = np.abs(rng.standard_normal((2, B, 1, 1)))
    positive[1, 1] *= 0.1  # the coupling of the groups
    hats = Conjugates(
        positive[0], positive[1], rng.standard_normal((A, 1)), rng.standard_normal((B, 1, rho.shape[-1])), np.array([[0.2]])
    )
    ours, theirs = law.overlaps(hats, 0.3), Law.overlaps(law, hats, 0.3)
    k = 2
    m = np.asarray(theirs.m)
    for name in ("V", "q", "theta", "Q"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.m[k:], m[k:], rtol=1e-9, atol=1e-12)
    if width:
        np.testing.assert_allclose(ours.m[:k], m[:k], rtol=1e-9)


def test_the_block_resolvent_is_that_of_sampled_blocks(x64):
    rng = np.random.default_rng(0)
    d, beta, A, ridges = 700, np.array([0.7, 0.5]), np.array([[1.0, 0.4], [0.4, 0.5]]), np.array([0.1, 0.05])
    p = (beta * d).astype(int)
    group = np.repeat([0, 1], p)
    rows = rng.standard_normal((p.sum(), d)) / np.sqrt(d)
    inverse = np.linalg.inv(np.diag(ridges[group]) + A[np.ix_(group, group)] * (rows @ rows.T))
    found = block_resolvent(jnp.array(ridges), jnp.array(A), jnp.array(beta))
    traces = [np.trace(inverse[np.ix_(group == a, group == a)]) / p[a] for a in (0, 1)]
    np.testing.assert_allclose(found.g, traces, rtol=0.01)
    forms = [[np.trace((rows @ rows.T)[np.ix_(group == a, group == b)] @ inverse[np.ix_(group == b, group == a)]) / d
              for b in (0, 1)] for a in (0, 1)]  # fmt: skip
    np.testing.assert_allclose(found.T, forms, rtol=0.01)
    slope = jax.jacfwd(lambda r: block_resolvent(r, jnp.array(A), jnp.array(beta)).g)(jnp.array(ridges))
    ahead, behind = (block_resolvent(jnp.array(ridges + s), jnp.array(A), jnp.array(beta)).g for s in ([1e-6, 0.0], [-1e-6, 0.0]))
    np.testing.assert_allclose(slope[:, 0], (ahead - behind) / 2e-6, rtol=1e-6)


# The page's last column is off by up to 1%, as Gauss-Hermite rules of 101 nodes are; these are right to the digits given (relu by a
# rule of 8,001 nodes and the closed forms of its functions).
FLOORS = {  # activation, target: r = 0, {1}, {1, -1}, {1, 2}, {1, 2, 3}
    ("tanh", lambda x: jnp.sin(2.0 * x)): (0.42657, 0.05027, 0.05027, 0.00225, 0.00022),
    ("tanh", lambda x: (x**3 - 3.0 * x) / jnp.sqrt(6.0)): (1.0, 0.23548, 0.23548, 0.04959, 0.02144),
    ("tanh", he2): (1.0, 1.0, 1.0, 1.0, 1.0),
    ("relu", he2): (1.0, 0.58882, 0.09140, 0.44215, 0.33202),
    ("relu", "tanh"): (0.02742, 0.16628, 0.02742, 0.08587, 0.06350),
}


@pytest.mark.parametrize("row", range(len(FLOORS)))
def test_error_floors_of_the_page(row):
    (act, target), floors = list(FLOORS.items())[row]
    groups = ((0.0,), (1.0,), (1.0, -1.0), (1.0, 2.0), (1.0, 2.0, 3.0))
    found = [error_floor(spiked(act, target, spike, 1.0, 1.0)) for spike in groups]
    np.testing.assert_allclose(found, floors, atol=1.1e-5)


# --- the spectrum -------------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("case", "p", "edge", "expected"),
    [
        ("T1", 800, 1.547, (220.71,)), pytest.param("T8", 500, 1.641, (100.15, 28.28), marks=_SLOW),
    ],
)
@pytest.mark.slow
def test_spectra_of_the_page(case, p, edge, expected):
    one = CASES[case]
    density = one.feature_density()
    assert density.mass == pytest.approx(1.0, abs=1e-5)
    assert density.edges[-1, 1] == pytest.approx(edge, rel=5e-3)  # the page's edges are where the density is 2e-3
    found = one.outliers(width=p)
    np.testing.assert_allclose([o.position for o in found], expected, rtol=2e-4)
    if case == "T1":
        assert found[0].constants[0] == pytest.approx(0.998755, abs=1e-6)
    gram = one.gram_density()
    assert gram.mass == pytest.approx(1.0, abs=1e-5)
    trace = [float(np.sum(d.weights * d.density * d.x)) for d in (density, gram)]
    assert trace[1] == pytest.approx(trace[0], rel=1e-10)  # Tr Phi^T Phi / (n p), from both sides
    ridge, through = one.ridge(), ridge_from_spectrum(one.law, float(one.alpha), float(one.weight_decay))
    np.testing.assert_allclose((through.test_mse, through.train_mse), (ridge.test_mse, ridge.train_mse), rtol=1e-10)


@pytest.mark.thorough
@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.slow
def test_the_bulk_at_fewer_samples_than_features(alpha):
    density = problem(alpha=alpha).feature_density()
    assert density.atom == pytest.approx(1.0 - alpha) and density.mass == pytest.approx(1.0, abs=1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("step", "size", "alpha", "expected"),
    [(3.0, 1.0, 2.0, (2.423787, 0.8453)), pytest.param(1.5, 0.5, 4.0, (0.984310, 0.3416), marks=_SLOW)],
)
@pytest.mark.slow
def test_second_order_signal_makes_an_outlier_of_order_one(step, size, alpha, expected):
    """relu on He_2: a single step of all neurons, the network's own output left out of the gradient."""
    response = np.eye(2)[None].copy()
    response[0, 0, 0] += step / np.sqrt(2.0 * np.pi) * np.sqrt(2.0)
    spikes = Spikes(np.zeros(1), np.ones(1), np.float64(1.0), response, np.zeros(1), np.ones((1, 2)), np.zeros(1))
    (found,) = outliers(SpikedFeatures("relu", he2, spikes, size, equivalent=True), alpha)
    np.testing.assert_allclose((found.position, found.components[0, 0]), expected, rtol=1e-4)
    isotropic = SpikedFeatures("relu", he2, spikes._replace(response=np.eye(2)[None]), size, equivalent=True)
    assert outliers(isotropic, alpha) == ()
    large = outliers(SpikedFeatures("relu", he2, spikes, size, equivalent=True), alpha, 1000)
    if size == 1.0:
        assert large[0].position == pytest.approx(159.66, rel=1e-4)


# --- what is refused, what is marked ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alpha": 0.0}, "alpha must be positive"), ({"alpha0": -1.0}, "alpha0 must be positive or infinite"),
        ({"alpha0": np.nan}, "alpha0 must be"), ({"learning_rate": np.inf}, "learning_rate must be"),
        ({"width_ratio": "wide"}, "width_ratio must be"), ({"activation": "sign"}, "activation must be continuous"),
        ({"activation": "thanh"}, "activation must be"), ({"target": "sine"}, "target must be"),
        ({"target": lambda a, b, c, d, e: a}, "target must be"), ({"readout_values": ()}, "readout_values must"),
        ({"readout_values": (1.0, 2.0), "readout_probabilities": (1.0,)}, "readout_probabilities must"),
        ({"refined": 1}, "refined must be"), ({"width": 2.5}, "width must be"), ({"loss": "logistic"}, "loss 'logistic' needs"),
        ({"loss": "logistic", "target": "sign", "noise": 0.1}, "noise 0"), ({"weight_decay": 0.0}, "weight_decay must be positive"),
        ({"target": lambda a, b: jnp.sign(a * b)}, "target must be"), ({"noise": 1e300}, r"noise must be between 0 and 1e\+50"),
        ({"alpha0": 1e-300}, "alpha0 must be between"), ({"learning_rate": -1e120}, "learning_rate must be between"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(changes, words):
    with pytest.raises((ValueError, TypeError), match=words):
        problem(**changes)


@pytest.mark.slow
def test_first_order_results_are_marked():
    with pytest.warns(ApproximationWarning, match="alpha0 = 10"):
        solution = problem("relu", th2, 10.0, 1.0).solve()
    assert solution.approximate and "approximate" in solution.status
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not problem("relu", th2, 40.0, 1.5).solve().approximate
        assert not problem(alpha0=0.5).solve().approximate
        assert not problem("relu", th2, POP, 1.5).solve().approximate
    large = problem("relu", th2, 50.0, 4.5)  # alpha0 is large enough, but the step leaves little of the rows
    assert "noise in the rows" in large.approximate


def test_a_negative_bulk_is_a_layer_turned_around():
    spikes = gradient_step(activation("relu"), index_target(th2), -30.0, np.inf, [1.0], [1.0])
    assert spikes.scale[0] > 0.0
    turned = gradient_step(activation("softplus"), index_target(sh2), 12.0, np.inf, [1.0], [1.0])
    assert turned.scale[0] < 0.0  # 1 + s c_2 (c_0* - b) < 0: more than the rows themselves is taken away
    ridge = problem("softplus", sh2, POP, 12.0).ridge()
    assert 0.0 < ridge.train_mse < ridge.test_mse


# --- actual networks ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_small_network_agrees():
    one = problem(width=200)
    trials, solution = one.simulate(dim=200, seeds=8), one.solve()
    for name in ("test_mse", "train_mse", "m", "theta", "psi", "spike", "bulk_variance", "alignment", "Q"):
        estimate, value = trials[name], float(solution[name])
        allowed = 3.0 * np.hypot(float(estimate.standard_error), 6.0 / 200 * abs(value) + 0.3 * (name == "theta") / 200)
        assert abs(float(estimate.mean) - value) < allowed, name


GRID = [  # noise, a finite number of neurons
    (act, target, alpha0, rate)
    for act, target, alpha0 in (("tanh", "sin", 4.0), (small_erf, "tanh", 2.0), ("relu", th2, POP))
    for rate in (0.0, 1.0, 2.0)
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("act", "target", "alpha0", "rate"), GRID, ids=[f"{i}" for i in range(len(GRID))])
def test_actual_networks(act, target, alpha0, rate):
    """Three activations, three learning rates: errors within 3 standard errors and a shift of 2 / d."""
    one = problem(act, target, alpha0, rate, alpha=1.5, noise=0.05, width=400)
    trials, ridge = one.simulate(dim=400, seeds=10), one.ridge()
    for name in ("test_mse_noisy", "train_mse"):
        estimate, value = trials[name], float(getattr(ridge, name))
        assert abs(float(estimate.mean) - value) < 3.0 * (float(estimate.standard_error) + 2.0 / 400 * value), name


@pytest.mark.slow
@pytest.mark.parametrize("case", ["T1", "P5"])
def test_eigenvalues_of_actual_networks(case):
    from quenched.finite.one_step import Training, feature_eigenvalues, first_layer

    one, d = CASES[case], 1000
    training = Training(
        one.activation, lambda z: one.target(z), 1, one.readout_values, one.law.groups, float(one.learning_rate),
        float(one.alpha0), float(one.width_ratio), 0.0,
    )  # fmt: skip
    layer = first_layer(training, d, 0)
    values = np.sort(feature_eigenvalues(layer, one.activation, round(float(one.alpha) * d), 1))
    predicted = one.outliers(width=d)
    bulk = values[: len(values) - len(predicted)]
    assert feature_density(one.law, float(one.alpha)).distance(bulk) < 0.01
    np.testing.assert_allclose(values[::-1][: len(predicted)], [o.position for o in predicted], rtol=0.08)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize(
    ("loss", "target", "observable"),
    [
        ("hinge", "sign", "test_error"), ("huber", "sin", "test_mse"),
    ],
)  # fmt: skip
def test_other_losses_on_actual_networks(loss, target, observable):
    one = problem(target=target, alpha0=4.0, alpha=2.0, loss=loss, noise=0.0 if loss in ("logistic", "hinge") else 0.1, width=300)
    # real outcomes: an average over kappa, the field and the outcome, whose rules agree to 7e-6
    solution, trials = one.solve(quadrature_tol=1e-4), one.simulate(dim=300, seeds=8)
    assert solution.converged
    for name in (observable, "train_loss"):
        estimate, value = trials[name], float(solution[name])
        assert abs(float(estimate.mean) - value) < 3.0 * (float(estimate.standard_error) + 4.0 / 300 * value), name


@pytest.mark.slow
def test_several_directions_on_actual_networks():
    one = problem("relu", three, POP, 1.5, alpha=2.0, readout_values=(1.0, -1.0), width=400)
    ridge, trials = one.ridge(), one.simulate(dim=400, seeds=10)
    for name in ("test_mse", "train_mse"):
        estimate, value = trials[name], float(getattr(ridge, name))
        assert abs(float(estimate.mean) - value) < 3.0 * (float(estimate.standard_error) + 2.0 / 400 * value), name
