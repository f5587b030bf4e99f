"""Online diffusion models: training against other forms of the equations and closed cases, and the law of what they generate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import quenched as qn
from quenched.laws.activation import activation
from quenched.laws.schedule import Schedule
from quenched.limit import diffusion_retraining as again
from quenched.limit import diffusion_sampling as sampling
from quenched.limit import diffusion_training as training
from quenched.numerics.precision import float64
from quenched.problems.base import SolveError, SolveWarning

OnlineDiffusion = qn.problems.OnlineDiffusion
THREE = qn.laws.mixture([1 / 3] * 3, means=[[3.0, 0.0], [0.0, -3.0], [-3.0, 0.0]])
K3 = OnlineDiffusion(THREE, units=2, learning_rate=0.2, weight_decay=0.05, times=[(0.3, 0.7)], training_time=20.0)
GRAM = np.array([[[4.0, 0.0], [0.0, 2.25]], [[1.0, 0.0], [0.0, 0.0]]])
BLOCKS = qn.laws.mixture([0.7, 0.3], spectrum=qn.laws.SpectralLaw([0.5, 0.5], [[1.5, 0.4], [0.3, 0.8]], GRAM))
NOISY = {"informed": 0.2, "noise": 0.5, "b": 0.2}
PAIR = qn.laws.mixture([0.7, 0.3], gram=[[6.25, -6.25], [-6.25, 6.25]])
TWO = OnlineDiffusion(
    PAIR, units=1, learning_rate=0.3, skip_learning_rate=0.5, weight_decay=0.05, times=[(0.4, 0.6)], training_time=8.0,
    initialisation={"informed": 0.2, "noise": 0.09},
)  # fmt: skip


def two_blocks(units, name, **settings):
    return OnlineDiffusion(
        BLOCKS, units=units, activation=name, learning_rate=0.5, weight_decay=0.1, initialisation=NOISY, **settings
    )


# ---- the equations ------------------------------------------------------------------------------------------------------


def random_case(units=2, blocks=2, K=3, p=2, seed=0):
    rng = np.random.default_rng(seed)
    G = 0.4 * rng.standard_normal((blocks, p, units))
    root = 0.5 * rng.standard_normal((blocks, units, units))
    q = np.swapaxes(G, 1, 2) @ G + np.swapaxes(root, 1, 2) @ root
    mass = rng.dirichlet(np.ones(blocks))
    variances, means = rng.uniform(0.2, 1.5, (blocks, K)), rng.standard_normal((blocks, K, p))
    target = training.Target(rng.dirichlet(np.ones(K)), variances, mass, means)
    rates = training.Rates(np.array([0.4, 0.7]), np.array([0.6, 0.3]), np.array([0.3, 0.7]), 0.5, 0.8, 0.1)
    return training.State(G, q, 0.3), target, rates


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tanh", "softplus", "erf"])
def test_the_drift_is_minus_the_gradient_of_the_risk(name, x64):
    """Without noise and decay, dG/dtau = -eta dL/dG at fixed rest, and the part of q beside the means moves by -2 dL/dq."""
    state, target, rates = random_case()
    rates = rates._replace(weight_decay=0.0)
    rule, sigma = training.rule_for(2, nodes=60), activation(name).fn
    target = training.Target(*map(jnp.asarray, target))
    rates = training.Rates(*map(jnp.asarray, rates))

    @jax.jit
    def both(state):
        moved = training.velocity(state, target, rates, rule, jnp.zeros(2), sigma, False)
        gradient = jax.grad(lambda G, q: training.risk(training.State(G, q, state.b), target, rates, rule, sigma), (0, 1))
        return moved, *gradient(state.G, state.q)

    moved, by_G, by_q = both(training.State(*map(jnp.asarray, state)))
    A = -2.0 * 0.5 * (by_q + jnp.swapaxes(by_q, 1, 2))
    np.testing.assert_allclose(moved.G, 0.5 * (state.G @ A - by_G), atol=1e-8)
    X = A @ state.q - jnp.swapaxes(by_G, 1, 2) @ state.G
    np.testing.assert_allclose(moved.q, 0.5 * (X + jnp.swapaxes(X, 1, 2)), atol=1e-8)


@pytest.mark.slow
def test_averages_given_h_are_averages_over_all_fields(x64):
    """Against a sample of a and n, of everything that enters, and without second derivatives the same as with them."""
    state, target, _ = random_case(seed=3)
    rng, b, alpha, beta = np.random.default_rng(1), 0.3, 0.4, 0.6
    M, Q, Qk = (np.asarray(x) for x in training.fields(state, target))
    a = M[0] + rng.standard_normal((400_000, 2)) @ np.linalg.cholesky(Qk[0]).T
    n = rng.standard_normal((400_000, 2)) @ np.linalg.cholesky(Q).T
    h = alpha * n + beta * a
    s, slope = np.tanh(h), 1.0 - np.tanh(h) ** 2
    p = a - b * h - s @ Q
    G1, G0 = (1 - b * beta) * s + beta * p * slope, -b * alpha * s + alpha * p * slope
    rule = training.rule_for(2, nodes=90)
    found = training.averages(jnp.tanh, False, rule, alpha, beta, b, M[0], Q, Qk[0])
    np.testing.assert_allclose(found.C, G1.mean(0), atol=0.01)
    np.testing.assert_allclose(found.N1, G1.T @ G1 / len(h), atol=0.02)
    np.testing.assert_allclose(found.N0, G0.T @ G0 / len(h), atol=0.02)
    np.testing.assert_allclose(found.D1 @ Qk[0], G1.T @ (a - M[0]) / len(h), atol=0.01)
    np.testing.assert_allclose(found.D0 @ Q, G0.T @ n / len(h), atol=0.01)
    again_ = training.averages(jnp.tanh, True, rule, alpha, beta, b, M[0], Q, Qk[0])
    for one, other in zip(found, again_, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def moved(state, target, rates, units, sigma=jnp.tanh):
    rule = training.rule_for(units)
    return jax.jit(lambda state: training.velocity(state, target, rates, rule, rates.weights, sigma, False))(state)


@pytest.mark.slow
def test_singular_weights_stay_finite(x64):
    """Equal units, and no weights at all."""
    state, target, rates = random_case()
    alone = state.G[:, :, :1]
    equal = training.State(np.repeat(alone, 2, axis=2), np.swapaxes(alone, 1, 2) @ alone * np.ones((2, 2)), 0.3)
    for start in (equal, training.State(0 * state.G, 0 * state.q, 0.3)):
        found = moved(start, target, rates, 2)
        assert all(np.isfinite(x).all() for x in found)
        np.testing.assert_allclose(found.G[..., 0], found.G[..., 1], atol=1e-12)


@pytest.mark.slow
def test_a_linear_activation_closes(x64):
    """One centred block of variance 1.3: dQ = 2 eta A Q + eta^2 N, polynomials in Q."""
    lam, Q, b, alpha, beta, decay, eta = 1.3, 0.7, 0.3, 0.4, 0.6, 0.05, 0.2
    target = training.Target(np.ones(1), np.array([[lam]]), np.ones(1), np.zeros((1, 1, 1)))
    rates = training.Rates(np.array([alpha]), np.array([beta]), np.ones(1), eta, 0.1, decay)
    A = 2 * beta * (1 - b * beta) * lam - 2 * b * alpha**2 - 2 * (alpha**2 + beta**2 * lam) * Q - decay
    assert abs(A - 0.254) < 5e-4
    # G1 = c1.(a, n), G0 = c0.(a, n), p = (1 - b beta - beta Q) a - (b + Q) alpha n
    variances = np.array([lam * Q, Q])
    h, p = np.array([beta, alpha]), np.array([1 - b * beta - beta * Q, -(b + Q) * alpha])
    N = sum(w * ((x * h + y * p) ** 2 @ variances) for w, x, y in ((lam, 1 - b * beta, beta), (1, -b * alpha, alpha)))
    state = training.State(np.zeros((1, 1, 1)), np.array([[[Q]]]), b)
    found = moved(state, target, rates, 1, lambda x: 1.0 * x)
    assert abs(float(found.q[0, 0, 0]) - (2 * eta * A * Q + eta**2 * N)) < 1e-10


@pytest.mark.slow
def test_training_of_one_unit():
    """The table at d to infinity; b in closed form; odd activations that know no direction; a path in other steps."""
    path = TWO.online()
    with pytest.warns(SolveWarning, match="less accurate than"):
        rough = TWO.online(nodes=6)
    assert path.quadrature_error < 1e-5 and rough.quadrature_error > 1e-2 and not rough.converged
    assert path.converged and path["q"].shape == (101, 1, 1, 1) and path["m"].shape == (101, 1, 2, 1)
    found = [path["Q"][-1, 0, 0], path["M"][-1, 0, 0] / 2.5, path["b"][-1]]
    np.testing.assert_allclose(found, [1.59375, 1.23931, 1.0097], atol=4e-5)
    rate, limit = 0.16 + 0.36, 0.6 / (0.16 + 0.36)
    np.testing.assert_allclose(path["b"], limit * (1.0 - np.exp(-0.5 * rate * path.times)), atol=1e-6)
    blind = TWO.replace(initialisation={"m": [[0.0], [0.0]], "q": [[1.0]]}).online()
    assert np.abs(blind["M"]).max() < 1e-12 and np.all(blind["Q"] > 0.0)
    half = TWO.online(saveat=[4.0])
    np.testing.assert_allclose(path.at(4.0)["Q"], half["Q"][0], atol=1e-6)
    assert abs(TWO.online(dim=10**9)["b"][-1] - path["b"][-1]) < 1e-7 < abs(TWO.online(dim=500)["b"][-1] - path["b"][-1])
    # slow learning at a fixed product of rate and time: the gradient flow, along which the risk falls where b does not move
    flow = TWO.replace(learning_rate=1e-4, training_time=2e4, skip_learning_rate=0.0, weight_decay=0.0).online()
    assert np.all(np.diff(flow["L"]) < 1e-9)


@pytest.mark.slow
def test_published_statistics():
    """Units along two of three clusters, digits as published; two blocks whose clusters differ in their variances."""
    times = [2.0, 5.0, 10.0, 20.0]
    path, converged = (K3.online(saveat=times, nodes=nodes) for nodes in (30, None))

    def columns(path):
        return np.stack([path["M"][:, 0, 0], path["M"][:, 1, 1], path["Q"][:, 0, 0], path["Q"][:, 1, 1], path["b"]], axis=1)

    published = [[2.90222, 2.18494, 0.983967, 0.570779, 0.249893], [3.99377, 3.06466, 1.826740, 1.105110, 0.531157],
                 [3.83300, 3.07566, 1.668119, 1.097747, 0.828551], [2.52802, 2.17267, 0.729732, 0.548986, 1.088291]]  # fmt: skip
    np.testing.assert_allclose(columns(path)[:3], published[:3], rtol=2e-6, atol=1e-6)  # published with 30 nodes an axis
    np.testing.assert_allclose(columns(converged), published, rtol=1.5e-4)
    assert converged.quadrature_error < 3e-4  # of 30 nodes: that of 40 is an order less
    np.testing.assert_allclose(path["L"][:3], [-1.90490, -1.61834, -0.73857], atol=1e-5)
    assert np.abs(path["M"][:, 0, 1]).max() < 1e-12
    one = two_blocks(1, "softplus", times=[(0.4, 0.6)], training_time=6.0, skip_learning_rate=1.0).online()
    np.testing.assert_allclose(one["m"][-1].ravel(), [1.071726, 0.102138, 0.231256, 0.0], atol=2e-6)
    np.testing.assert_allclose([*one["q"][-1].ravel(), one["b"][-1]], [0.341900, 0.078208, 1.017853], atol=2e-6)
    # published with a coarser rule: 2.103852, .469522; 1.376789, .364706
    times = {"times": [(0.4, 0.6), (0.8, 0.3)]}
    summed = two_blocks(1, "tanh", mode="sum", training_time=4.0, skip_learning_rate=0.5, **times).online()
    np.testing.assert_allclose(summed["m"][-1, :, 0, 0], [2.103852, 0.469522], rtol=6e-4)
    np.testing.assert_allclose([*summed["q"][-1].ravel(), summed["b"][-1]], [1.376789, 0.364706, 0.584528], rtol=1e-3)
    drawn = two_blocks(2, "tanh", training_time=6.0, skip_learning_rate=1.0, **times)
    path = drawn.online()
    np.testing.assert_allclose(path["m"][-1, 0].diagonal(), [1.94236, 0.615713], rtol=4e-4)
    np.testing.assert_allclose(path["q"][-1].diagonal(axis1=1, axis2=2), [[1.11138, 0.376974], [0.289523, 0.0623822]], rtol=1e-3)
    assert abs(path["b"][-1] - 0.613071) < 1e-6
    assert path.quadrature_error < 1e-3


@pytest.mark.slow
def test_three_and_four_units_agree_with_fewer():
    """Units that know nothing of each other's clusters: a third and a fourth one far away change nothing that is not theirs."""
    law = qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]])
    settings = {"activation": "erf", "learning_rate": 0.3, "training_time": 3.0}
    one = OnlineDiffusion(law, units=1, initialisation={"informed": 0.2}, **settings).online()
    for units, tol in ((3, 1e-4), (4, 3e-3)):
        c = np.zeros((units, 2))
        c[0, 0] = 0.2
        more = OnlineDiffusion(law, units=units, initialisation={"informed": c, "noise": 1e-10}, **settings).online()
        np.testing.assert_allclose(more["M"][:, 0, 0], one["M"][:, 0, 0], atol=tol)
        assert np.abs(more["Q"][:, 1:]).max() < 1e-6  # next to no weights, next to no gradient: the activation is odd


# ---- what is generated --------------------------------------------------------------------------------------------------

AT_10 = {"Q": np.diag([1.668119, 1.097747]), "M": [[3.833, 0.0], [0.0, 3.07566], [-3.833, 0.0]], "b": 0.828551}


def test_the_law_of_samples():
    made = K3.generate(AT_10)
    assert abs(made.V - 0.233348) < 2e-6
    np.testing.assert_allclose(np.diag(made.covariance), [16.33, 10.01], rtol=1e-3)
    np.testing.assert_allclose(made.fractions("antipodes"), [0.430, 0.0692, 0.4305, 0.0692], atol=2e-3)
    np.testing.assert_allclose(made.wasserstein(), [1.734, 1.706], atol=2e-3)
    np.testing.assert_allclose(made.points.mean(0), 0.0, atol=1e-12)


@pytest.mark.slow
def test_random_samples_and_samplers_with_noise():
    made = K3.generate(AT_10)
    x = made.projected_samples(20_000, seed=1)
    assert stats.ks_2samp(x[:, 0], made.points[:, 0]).pvalue > 1e-3
    noisy = K3.generate(AT_10, diffusion=lambda t: 0.5 * (1.0 - t))
    assert abs(noisy.V - 0.09607) < 1e-5
    np.testing.assert_allclose(np.diag(noisy.covariance), [20.23, 12.23], rtol=5e-3)
    np.testing.assert_allclose(noisy.fractions("antipodes")[:2], [0.4735, 0.0272], atol=2e-3)
    y = noisy.projected_samples(20_000, seed=1)
    assert stats.ks_2samp(y[:, 1], noisy.points[:, 1]).pvalue > 1e-3
    assert abs(np.mean(y[:10_000, 0] * y[10_000:, 0])) < 4 * 20.2 / 100.0  # no sample is another's image


@pytest.mark.slow
def test_published_laws_of_samples():
    path = K3.online(saveat=[2.0, 5.0, 10.0, 20.0])
    published = {2: (0.00121365, (0.7044, 0.1090), (0.451, 0.049), (1.480, 1.293)),
                 5: (0.0168686, (6.110, 2.971), (0.486, 0.0144), (1.010, 1.054)),
                 10: (0.233348, (16.33, 10.01), (0.430, 0.0696), (1.734, 1.706)),
                 20: (2.08455, (23.16, 17.15), (0.312, 0.188), (2.245, 2.381))}  # fmt: skip
    for tau, (V, variances, fractions, distance) in published.items():
        made = K3.generate(path, at=tau)
        assert abs(made.V / V - 1) < 1e-5
        np.testing.assert_allclose(np.diag(made.covariance), variances, rtol=1e-3)
        np.testing.assert_allclose(made.fractions("antipodes")[:2], fractions, atol=2e-3)
        np.testing.assert_allclose(made.wasserstein(), distance, atol=6e-3)


@pytest.mark.slow
def test_euler_steps_of_the_linear_schedule():
    """V is the product over the steps made; without weights the samples are N(0, V), as V is (1-t)^(2(1-b)) for small steps."""
    none = TWO.generate({"Q": [[0.0]], "H": [[0.0]], "b": 0.4}, steps=4000, stop=0.9)
    assert abs(none.V - 0.1**1.2) < 2e-3 * none.V
    np.testing.assert_allclose(none.covariance, [[none.V]])
    z = np.array([[0.3], [-1.0]])
    grid = sampling.grid(Schedule("linear"), 4, 3)
    by_hand, V = z.copy(), 1.0
    for t in (0.0, 0.25, 0.5):
        gain = 1.0 / (1.0 - t)
        by_hand = by_hand + 0.25 * ((-gain + gain * 0.4) * by_hand + gain * 0.8 * np.tanh(by_hand))
        V *= (1.0 - 0.25 * gain * 0.6) ** 2
    Z, found = sampling.generate(activation("tanh"), np.array([[0.8]]), 0.4, z, grid)
    np.testing.assert_allclose(Z, by_hand)
    assert abs(found - V) < 1e-12


@pytest.mark.slow
def test_densities():
    """Both forms integrate to one, and to the covariance; the target's too."""
    law, grid = qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]]), np.linspace(-12.0, 12.0, 2401)
    problem = OnlineDiffusion(law, units=1)
    for H, tol in ((0.9, 2e-3), (1.0, 2e-3)):  # beside the weights; all of the direction, by the change of volume
        made = problem.generate({"Q": [[1.0]], "H": [[H]], "b": 0.8})
        density = made.projected_density(grid[:, None])
        assert abs(np.trapezoid(density, grid) - 1.0) < tol
        assert abs(np.trapezoid(density * grid**2, grid) / made.covariance[0, 0] - 1.0) < tol
        assert abs(np.trapezoid(made.target_density(grid[:, None]), grid) - 1.0) < 1e-9
    with pytest.raises(ValueError, match="nearly singular"):
        OnlineDiffusion(law, units=2).generate({"Q": np.eye(2), "H": [[1.0, 0.0]], "b": 0.0}).projected_density([[0.0]])


def test_nodes_are_antisymmetric_and_white():
    for units in (1, 2, 3):
        z, noise = sampling.normal_nodes(units, 2, 10, 0)
        both, half = np.concatenate([z, noise], axis=1), 512
        np.testing.assert_allclose(both[:half], -both[half:], atol=1e-12)
        np.testing.assert_allclose(z.T @ z / 1024, np.eye(units), atol=1e-2 if units == 1 else 1e-9)
    z, _ = sampling.normal_nodes(1, 1, 10, 0)
    np.testing.assert_allclose(np.sort(stats.norm.cdf(z[:, 0])), (np.arange(1024) + 0.5) / 1024, atol=1e-9)


# ---- retraining ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_published_generations_of_one_unit():
    made = TWO.generations(3, steps=50, stop=0.9)
    published = [[1.59375, 1.23931, 1.00970, 1.04389], [2.2258, 1.44845, 1.03187, 1.15153], [2.7649, 1.60132, 1.08176, 1.43511]]
    found = [[one.Q[0, 0], one.H[0, 0], one.b, one.V] for one in made]
    np.testing.assert_allclose(found[:3], published, rtol=1e-4)
    np.testing.assert_allclose(found[3][:3], [2.8002, 1.59887, 1.18760], rtol=1e-4)


@pytest.mark.slow
def test_mode_collapse_becomes_model_collapse():
    """Published: a mode at 33% in the data, at 7% in generation 0 and extinct from then on; so is the variance."""
    made = K3.replace(training_time=10.0).generations(3)
    published = [[1.2777, 1.0252], [2.9546, 2.3030], [3.3141, 2.6052], [2.8077, 2.2362]]
    np.testing.assert_allclose([np.abs(np.diag(one.H)) for one in made], published, rtol=1e-3)
    np.testing.assert_allclose([one.b for one in made], [0.8286, 0.268, 0.002, 0.0001], atol=4e-4)
    np.testing.assert_allclose([one.V for one in made], [0.2333, 0.0015, 1e-4, 1e-4], rtol=0.05)
    assert [one.fractions("antipodes")[1] < 1e-4 for one in made] == [False, True, True, True]


def test_generated_targets_and_their_overlaps():
    """What a network generates has its own weights' directions; a warm start has the same overlaps before any step."""
    rng = np.random.default_rng(0)
    w, E = rng.standard_normal((2, 30)), np.eye(3, 30)
    Q, H = w @ w.T / 30, E @ w.T / np.sqrt(30)
    start = again.restart(Q, H, Q, H, 0.3, Q)
    for one, other in zip(again.overlaps(Q, H, start), (Q, H), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    fresh = 0.5 * rng.standard_normal((2, 30))
    start = again.restart(Q, H, fresh @ fresh.T / 30, E @ fresh.T / np.sqrt(30), 0.3, fresh @ w.T / 30)
    np.testing.assert_allclose(again.overlaps(Q, H, start)[1], E @ fresh.T / np.sqrt(30), atol=1e-12)
    assert np.linalg.eigvalsh(start.q[1]).min() > 0.0
    target = again.latent_target(Q, rng.standard_normal((8, 2)), 0.2, 3)
    assert target.means.shape == (2, 8, 5) and target.mass.tolist() == [0.0, 1.0] and not target.means[:, :, 2:].any()


# ---- the contract -------------------------------------------------------------------------------------------------------


def test_a_solution_and_statistics_as_measured():
    solution = TWO.solve(steps=50, stop=0.9)
    assert set(solution.keys()) == {"m", "q", "b", "M", "Q", "L", "V", "fractions", "W1"} and abs(solution["V"] - 1.04389) < 1e-5
    assert set(solution.keys()) <= set(qn.names.NAMES) and "2501.03937" in TWO.cite()
    measured = TWO.replace(initialisation={"m": TWO._start.m, "q": TWO._start.q, "b": 0.0}).online()
    np.testing.assert_allclose(measured["Q"], TWO.online()["Q"], atol=1e-9)
    assert TWO.replace(times=[0.3, 0.6]).online(saveat=[1.0])["b"].shape == (1,)
    assert K3.replace(learning_rate=0.4)._skip_rate == 0.4  # the default follows


@pytest.mark.slow
def test_a_path_that_runs_away_says_so():
    from quenched.problems import SolveWarning

    with pytest.warns(SolveWarning, match="not "):
        path = TWO.replace(activation="quadratic", learning_rate=20.0).online()
    assert not path.converged and all(np.isfinite(path[name]).all() for name in path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"units": 0}, "units must be a whole number"), ({"activation": "tahn"}, "activation must be"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"), ({"weight_decay": -1.0}, "weight_decay must be non-negative"),
        ({"times": [1.5]}, "times must be numbers in"), ({"mode": "both"}, "mode must be one of"), ({"times": []}, "times must be"),
        ({"time_weights": [0.5, 0.5]}, "time_weights must have the shape"), ({"schedule": "cosine"}, "schedule must be one of"),
        ({"training_time": -1.0}, "training_time must be positive"), ({"initialisation": "near"}, "initialisation must be a dict"),
        ({"initialisation": {"m": [[1.0], [1.0]], "q": [[1.0]]}}, "m must be overlaps with the means"),
        ({"initialisation": {"m": [[1.0], [-1.0]], "q": [[0.1]]}}, "q must be symmetric and at least"),
        ({"initialisation": {"informed": [[1.0, 2.0, 3.0]]}}, "informed must have the shape"),
        ({"law": qn.laws.single()}, "law must have one token, no targets"), ({"law": 3}, "law must be a mixture"),
        ({"law": qn.laws.mixture([0.5, 0.5], means=np.eye(2), covariances=[np.eye(2)], dense=True)}, "law must be a mixture"),
    ],
)  # fmt: skip
def test_refusals(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        TWO.replace(**changes)


def test_refusals_of_the_calls():
    with pytest.raises(TypeError, match="initialisation takes"):
        TWO.replace(initialisation={"informed": 0.1, "nosie": 0.1})
    for call, sentence in (
        (lambda: TWO.online(saveat=[2.0, 1.0]), "saveat must be increasing"), (lambda: TWO.online(-1.0), "training_time must be"),
        (lambda: TWO.generate({"Q": [[1.0]], "H": [[1.0]], "b": 0.0}, stop=1.0), "stop must be between"),
        (lambda: TWO.generate({"Q": [[1.0]], "H": [[1.0, 0.0]], "b": 0.0}), "H must have the shape"),
        (lambda: TWO.generate({"Q": [[-1.0]], "H": [[1.0]], "b": 0.0}), "Q must be positive semi-definite"),
        (lambda: TWO.simulate(3, initial=2), "simulate takes"), (lambda: TWO.solve("informed"), "init must be one of"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=sentence):
            call()


def test_float64_only_inside():
    with float64(False):
        assert TWO.online(saveat=[1.0])["Q"].dtype == np.float64 and jnp.ones(1).dtype == jnp.float32


def _two(**changes):
    given = dict(units=1, activation="tanh", learning_rate=0.3, weight_decay=0.05, times=[(0.4, 0.6)], training_time=3.0,
                 initialisation={"informed": 0.2, "noise": 0.09})  # fmt: skip
    return qn.problems.OnlineDiffusion(qn.laws.mixture([0.7, 0.3], gram=[[6.25, -6.25], [-6.25, 6.25]]), **(given | changes))


def test_networks_are_sampled_at_the_time_asked_for():
    problem = _two()
    early = float(problem.online(saveat=[1.0])["b"][0])
    assert np.isclose(problem.generate(at=1.0, log2_nodes=6).b, early, atol=1e-8)
    assert np.isclose(problem.generate(problem.online(), at=1.0, log2_nodes=6).b, early, atol=1e-6)
    with pytest.raises(ValueError, match="at must be None"):
        problem.generate({"M": [[1.0], [-1.0]], "Q": [[1.0]], "b": 0.5}, at=1.0)
    with pytest.raises(ValueError, match="source must be a path"):
        problem.generate({"M": [[1.0], [-1.0]]})


@pytest.mark.slow
def test_training_that_diverged_generates_nothing():
    problem = _two(learning_rate=200.0)
    with pytest.warns(SolveWarning), pytest.raises(SolveError, match="training ended early"):
        problem.generate(problem.online())


def test_activations_that_jump_and_times_that_fall_are_refused():
    with pytest.raises(ValueError, match="activation must not jump"):
        _two(activation="sign")
    with pytest.raises(ValueError, match="saveat must be increasing"):
        _two().simulate(dim=100, seeds=1, saveat=[2.0, 1.0])
    with pytest.raises(ValueError, match="initialisation must give all 3 units weights"):
        _two(units=3, initialisation={"informed": 0.2})
    with pytest.warns(SolveWarning, match="less accurate"):
        assert not _two(training_time=8.0).online(nodes=3).converged


def test_what_is_handed_out_is_not_shared():
    start = {"informed": 0.2, "noise": 0.09}
    problem = _two(initialisation=start)
    start["informed"] = 5.0
    assert problem.initialisation["informed"] == 0.2
    with pytest.raises(ValueError, match="read-only"):
        problem.generate(log2_nodes=6).noise[:] = 0.0
