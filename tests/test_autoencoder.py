"""Denoising autoencoders: the reduced envelope, published numbers, baselines, and trained networks."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quenched as qn
from quenched.finite.autoencoder import Pairs, answer, population_excess, train
from quenched.limit.denoisers import Mixture, oracle
from quenched.losses import envelope
from quenched.losses.autoencoder import denoising

DA, mixture = qn.problems.DenoisingAutoencoder, qn.laws.mixture
OPPOSITE = [[1.0, -1.0], [-1.0, 1.0]]


def linear(h):
    return h


def erf(h):
    return jax.scipy.special.erf(h / 2.0**0.5)


def opposite(variance, **parameters):
    return DA(mixture([0.5, 0.5], gram=OPPOSITE, covariances=variance), **parameters)


def anisotropic(atoms=400):
    """The page's set J: an exponential spectrum and two plateaus, means spread evenly and linearly over them."""
    i = (np.arange(atoms) + 0.5) / atoms
    even, ramp = np.ones(atoms) / np.sqrt(atoms), i / np.linalg.norm(i)
    return mixture(
        [0.6, 0.4], means=[even, -0.8 * ramp], covariances=[0.6 * np.exp(-3 * i), 0.3 * (0.3 + 1.4 * (i > 0.5))]
    )


@functools.partial(jax.jit, static_argnums=0)
def derivatives(loss, omega, V, extra):
    def value(omega, V, extra):
        return envelope.moreau(loss, omega, V, extra)

    return jax.value_and_grad(value, (0, 1, 2))(omega, V, extra), jax.hessian(value)(omega, V, extra)


@pytest.mark.parametrize("activation", [pytest.param(jnp.tanh, marks=pytest.mark.slow), jax.nn.sigmoid], ids=["tanh", "sigmoid"])
def test_the_reduced_envelope_is_the_full_one(x64, activation):
    """Value, gradient and Hessian in all arguments against the search in two variables."""
    short = denoising(activation, 1)
    full = dataclasses.replace(short, moreau=None)
    rng = np.random.default_rng(0)
    for _ in range(12):
        omega, V = jnp.array(rng.normal(size=(2, 1))), jnp.array(rng.uniform(0.02, 2.0, (2, 1, 1)))
        noise, skip, gram = rng.uniform(0.05, 0.95), rng.uniform(0.0, 0.6), rng.uniform(0.7, 2.0)
        extra = {"gram": jnp.array([[gram]]), "params": {"noise": jnp.array(noise), "skip": jnp.array(skip)}}

        both = (jax.tree.leaves(derivatives(loss, omega, V, extra)) for loss in (short, full))
        for one, other in zip(*both, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-9)
    still = jnp.zeros((2, 1, 1))
    assert envelope.moreau(short, omega, still, extra) == pytest.approx(float(envelope.evaluate(short, omega, extra)), abs=1e-14)


def test_the_envelope_of_a_kink_is_the_lowest_of_its_pieces(x64):
    """ReLU: each linear piece has a closed form; the kink itself may win."""
    reduced, rng, kinks = jax.jit(denoising(jax.nn.relu, 1).moreau), np.random.default_rng(1), 0
    for _ in range(200):
        (wu, wv), (Vu, Vv) = rng.normal(size=2), rng.uniform(0.02, 2.0, 2)
        noise, b, Q = rng.uniform(0.05, 0.95), rng.uniform(0.0, 0.6), rng.uniform(2.0, 4.0)
        c, s = math.sqrt(1 - noise), math.sqrt(noise)
        extra = {"gram": jnp.array([[Q]]), "params": {"noise": jnp.array(noise), "skip": jnp.array(b)}}
        found, h = reduced(jnp.array([[wu], [wv]]), jnp.array([[[Vu]], [[Vv]]]), **extra)

        def objective(x, wu=wu, wv=wv, Vu=Vu, Vv=Vv, c=c, s=s, b=b, Q=Q):
            u, v = x
            phi = max(c * u + s * v, 0.0)
            g = (1 - b * c) * u - b * s * v
            return 0.5 * (u - wu) ** 2 / Vu + 0.5 * (v - wv) ** 2 / Vv + 0.5 * Q * phi**2 - phi * g

        idle = np.array([wu, wv])
        edge = idle - np.array([c * Vu, s * Vv]) * (c * wu + s * wv) / (c**2 * Vu + s**2 * Vv)
        k, a = np.array([c, s]), np.array([1 - b * c, -b * s])
        hessian = np.diag([1 / Vu, 1 / Vv]) + Q * np.outer(k, k) - np.outer(k, a) - np.outer(a, k)
        active = np.linalg.solve(hessian, [wu / Vu, wv / Vv])
        assert np.linalg.eigvalsh(hessian)[0] > 0
        candidates = [x for x, ok in ((idle, idle @ k <= 0), (edge, True), (active, active @ k >= 0)) if ok]
        best = min(candidates, key=objective)
        kinks += best is edge
        assert float(found) == pytest.approx(objective(best), abs=1e-10)
        np.testing.assert_allclose(np.asarray(h)[:, 0], best, atol=1e-7)
    assert kinks > 5


# name: problem, (b, q, first m, excess on fresh and on training data, risk), relative tolerance
TABLE = {
    "A .1": (opposite(0.1, alpha=1.0, noise=0.1, weight_decay=0.1), (0.499307, 0.61631, 0.72369, -0.20168, -0.29639, -0.117377)),
    "A .3": (opposite(0.1, alpha=1.0, noise=0.3, weight_decay=0.1), (0.226124, 1.06917, 0.95414, -0.37908, -0.60880, -0.250942)),
    "D": (
        DA(mixture([0.5, 0.3, 0.2], gram=np.eye(3), covariances=[0.1, 0.2, 0.3]), 2.0, 0.4, 0.1),
        (0.262314, 0.71385, 0.68852, -0.02404, -0.22861, -0.192919),
    ),
    "E": (
        DA(mixture([0.7, 0.3], gram=OPPOSITE, covariances=[0.1, 0.2]), 2.0, 0.5, 0.1, activation=jax.nn.sigmoid),
        (0.162697, 0.94781, 0.90735, -0.21444, -0.32176, -0.274366),
    ),
    "G": (
        opposite(0.2, alpha=2.0, noise=0.3, weight_decay=0.1, activation=linear),
        (0.380300, 0.588683, 0.692383, -0.196912, -0.378130, -0.348696),
    ),
    "H": (
        opposite(0.2, alpha=2.0, noise=0.3, weight_decay=0.1, activation=linear, skip=False),
        (0.0, 0.901612, 0.882384, -0.755511, -1.031651, -0.986571),
    ),
    "I": (
        opposite(0.2, alpha=0.7, noise=0.3, weight_decay=0.05, activation=erf),
        (0.380300, 1.23550, 0.89303, -0.09022, -0.57075, -0.168874),
    ),
    "J": (DA(anisotropic(), 1.0, 0.3, 0.1), (0.422148, 0.86736, 0.71065, -0.03593, -0.40546, -0.159364)),
    "J'": (DA(anisotropic(), 3.0, 0.6, 0.02), (0.213392, 0.95424, 0.83065, -0.05449, -0.34070, -0.501505)),
}
JUMPING = {
    "A .5": (opposite(0.1, alpha=1.0, noise=0.5, weight_decay=0.1), (0.128565, 1.21346, 0.98382, -0.26488, -0.66802, -0.273338)),
    "A .9": (opposite(0.1, alpha=1.0, noise=0.9, weight_decay=0.1), (0.034750, 1.16648, 0.83759, 0.22724, -0.53261, -0.207982)),
    "B .1": (
        opposite(0.3, alpha=1.0, noise=0.1, weight_decay=0.1, skip=False),
        (0.0, 1.72907, 1.11764, -0.89040, -1.49241, -0.659750),
    ),
    "C": (
        DA(mixture([0.75, 0.25], gram=OPPOSITE, covariances=[0.2, 0.5]), 1.5, 0.4, 0.05),
        (0.377016, 1.09151, 0.86990, -0.07866, -0.48307, -0.335018),
    ),
}
OBSERVED = ("skip", "q", "m", "test_mse_excess", "train_mse_excess", "free_energy")


def values(solution):
    return [float(np.ravel(solution[name])[0]) for name in OBSERVED]


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE)
def test_published_numbers(name):
    problem, wanted = TABLE[name]
    solution = problem.solve()
    assert solution.converged
    np.testing.assert_allclose(values(solution), wanted, atol=1.2e-5)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("name", JUMPING)
def test_published_numbers_where_the_proximal_operator_jumps(name):
    problem, wanted = JUMPING[name]
    solution = problem.solve()
    assert solution.converged
    np.testing.assert_allclose(values(solution), wanted, atol=1e-4)


@pytest.mark.slow
def test_without_noise_the_linear_bottleneck_is_principal_component_analysis():
    solution = opposite(0.3, alpha=1.0, noise=1e-10, weight_decay=0.1, activation=linear, skip=False).solve()
    found = [float(np.ravel(solution[name])[0]) for name in ("q", "cosine", "test_mse_excess", "train_mse_excess")]
    np.testing.assert_allclose(found, [0.970414201, 0.836660027, -0.999124681, -1.688520710], atol=2e-8)


@pytest.mark.slow
def test_many_samples_minimise_the_population_error():
    """alpha = 1000 at fixed weight decay, and the one-dimensional minimisation of the limit."""
    problem = opposite(0.1, alpha=1000.0, noise=0.5, weight_decay=0.1)
    solution = problem.solve()
    assert float(solution["test_mse_excess"]) == pytest.approx(-0.428346, abs=2e-6)
    c, T = math.sqrt(0.5), 0.55
    z, w = np.polynomial.hermite_e.hermegauss(80)
    gap = 0.5 / T

    def excess(a):
        h = c * a + math.sqrt(T) * a * z
        return a**2 * np.sum(w * np.tanh(h) ** 2) / w.sum() - 2 * gap * a * np.sum(w * np.tanh(h)) / w.sum()

    grid = np.linspace(0.9, 1.1, 2001)
    assert min(map(excess, grid)) == pytest.approx(-0.428658, abs=2e-6)
    assert min(map(excess, grid)) < float(solution["test_mse_excess"])


@pytest.mark.thorough
@pytest.mark.slow
def test_rotated_covariances_are_the_same_problem():
    """The dense route against the atoms, in a basis that is turned."""
    law = anisotropic(20)
    i = (np.arange(20) + 0.5) / 20
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0]
    matrices = [turn @ np.diag(v) @ turn.T for v in (0.6 * np.exp(-3 * i), 0.3 * (0.3 + 1.4 * (i > 0.5)))]
    means = [turn @ np.ones(20) / np.sqrt(20), -0.8 * turn @ i / np.linalg.norm(i)]
    dense = mixture([0.6, 0.4], means=means, covariances=matrices, dense=True)
    one, other = (DA(each, 1.0, 0.3, 0.1).solve() for each in (law, dense))
    np.testing.assert_allclose(values(one), values(other), rtol=1e-7)
    np.testing.assert_allclose(one["q_clusters"], other["q_clusters"], rtol=1e-6)


@pytest.mark.slow
def test_the_trivial_branch():
    problem = opposite(0.1, alpha=1.0, noise=0.02, weight_decay=0.1)
    threshold = problem.trivial_threshold()
    assert threshold == (pytest.approx(0.4020821, abs=1e-7), "spike")
    below, above = (problem.replace(weight_decay=f * threshold.weight_decay).solve() for f in (0.97, 1.03))
    assert float(below["q"]) > 1e-3 and abs(below["m"][0, 0]) > 1e-2 and float(above["q"]) < 1e-12
    others = {(1.0, 0.01, 0.1, 1.0): 0.2391753, (1.0, 0.1, 0.1, 1.0): 1.1170845, (4.0, 0.02, 0.3, 1.0): 0.7152508}
    for (alpha, noise, variance, size), wanted in {**others, (1.0, 0.1, 1.0, 0.2): 1.0530988}.items():
        law = mixture([0.5, 0.5], gram=size * np.array(OPPOSITE), covariances=variance)
        found = DA(law, alpha, noise, 0.1).trivial_threshold()
        assert found.weight_decay == pytest.approx(wanted, abs=1e-7)
        assert found.kind == ("bulk" if size < 1 else "spike")
    with pytest.raises(ValueError, match="activation must vanish at zero"):
        problem.replace(activation=jax.nn.sigmoid).trivial_threshold()


def test_baselines():
    wanted = {0.1: -0.264617, 0.3: -0.494664, 0.5: -0.430138, 0.7: -0.278444, 0.9: -0.097385}
    for noise, excess in wanted.items():
        found = opposite(0.1, alpha=1.0, noise=noise, weight_decay=0.1).baselines()
        assert found["oracle_mse_excess"] == pytest.approx(excess, abs=1e-6)
        assert found["oracle_mse_per_dim"] == pytest.approx(found["rescaling_mse_per_dim"], rel=1e-12)
    pca = opposite(0.3, alpha=1.0, noise=0.5, weight_decay=0.1).baselines()["pca"]
    np.testing.assert_allclose([pca.eigenvalue, pca.m[0]], [1.69, 0.836660027], rtol=1e-8)
    np.testing.assert_allclose([pca.excess_plain, pca.excess], [-0.414214, -0.5], atol=1e-6)
    assert opposite(0.3, alpha=0.05, noise=0.5, weight_decay=0.1).baselines()["pca"] is None  # below the transition


def test_the_oracle_is_the_posterior_mean():
    """Three unbalanced clusters against a direct average over drawn inputs."""
    gram = np.array([[1.0, 0.3, -0.4], [0.3, 0.8, 0.1], [-0.4, 0.1, 0.6]])
    law, noise = mixture([0.5, 0.3, 0.2], gram=gram, covariances=0.2), 0.4
    rng, mu, rho = np.random.default_rng(0), np.linalg.cholesky(gram), np.array([0.5, 0.3, 0.2])
    k = rng.choice(3, 400_000, p=rho)
    x = mu[k] + math.sqrt(0.2) * rng.normal(size=(len(k), 3))
    y = math.sqrt(0.6) * x + math.sqrt(0.4) * rng.normal(size=x.shape)
    T, c = 0.6 * 0.2 + 0.4, math.sqrt(0.6)
    pi = rho * np.exp(-0.5 * np.sum((y[:, None] - c * mu) ** 2, axis=2) / T)
    mean = c * 0.2 / T * y + noise / T * (pi / pi.sum(axis=1, keepdims=True)) @ mu
    gain = np.sum((x - mean) ** 2, axis=1) - np.sum((x - c * 0.2 / T * y) ** 2, axis=1)
    assert oracle(Mixture.of(law), noise)[1] == pytest.approx(gain.mean(), abs=4 * gain.std() / math.sqrt(len(gain)))


@pytest.mark.thorough
@pytest.mark.slow
def test_what_a_solution_holds():
    problem = DA(mixture([0.5, 0.3, 0.2], gram=np.eye(3), covariances=[0.1, 0.2, 0.3]), alpha=2.0, noise=0.4, weight_decay=0.1)
    solution = problem.solve()
    assert np.shape(solution["q"]) == np.shape(solution["V"]) == () and solution["m"].shape == (3, 1)
    assert solution["cosine"].shape == (1, 3) and solution["q_clusters"].shape == (3, 1, 1)
    assert float(solution["train_mse_excess"]) == pytest.approx(2 * float(solution["train_loss"]))
    energy = 2.0 * float(solution["train_loss"]) + 0.05 * float(solution["q"])
    assert float(solution["free_energy"]) == pytest.approx(energy, abs=1e-6)
    near = problem.replace(noise=0.41).solve(init=solution)
    again = problem.replace(noise=0.41).solve(init={name: solution[name] for name in ("q", "V", "m")})
    np.testing.assert_allclose(values(near), values(again), rtol=1e-6)
    assert problem.solve(init="uninformed")["m"].max() == 0.0
    branches = problem.branches()
    assert next(iter(branches)) == "informed" and values(problem.solve(init="global")) == values(solution)
    assert "cui2023autoencoders" in problem.cite() and "converged" in repr(solution)


@pytest.mark.thorough
@pytest.mark.slow
def test_gradients_go_through_the_skip_connection():
    problem = opposite(0.1, alpha=1.0, noise=0.3, weight_decay=0.1)
    for name in ("noise", "weight_decay"):
        slope, at = problem.gradient("test_mse_excess", name), float(getattr(problem, name))
        ends = [float(problem.replace(**{name: at + e}).solve(tol=1e-11)["test_mse_excess"]) for e in (1e-4, -1e-4)]
        assert float(slope) == pytest.approx((ends[0] - ends[1]) / 2e-4, rel=1e-4)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_sweep_starts_where_a_solve_does():
    problem = opposite(0.1, alpha=1.0, noise=0.3, weight_decay=0.1)
    table = qn.sweep(problem, over={"noise": [0.1, 0.3]})
    np.testing.assert_allclose(table["test_mse_excess"], [-0.20168, -0.37908], atol=1e-4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(alpha=0.0), "alpha must be"),
        (dict(noise=1.0), "noise must be"),
        (dict(noise=-0.1), "noise must be"),
        (dict(weight_decay=0.0), "weight_decay must be"),
        (dict(units=0), "units must be"),
        (dict(activation="tanh"), "activation must be a JAX function"),
        (dict(skip=float("nan")), "skip must be"),
        (dict(law=3), "law must be a mixture"),
        (dict(law=qn.laws.single()), "law must have one token, no target"),
    ],
)
def test_refusals(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        opposite(0.1, **{**dict(alpha=1.0, noise=0.3, weight_decay=0.1), **change}) if "law" not in change else DA(
            **{**dict(alpha=1.0, noise=0.3, weight_decay=0.1), **change}
        )


# ---- trained networks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [jnp.tanh, jax.nn.relu], ids=["tanh", "relu"])
def test_the_population_excess_is_what_fresh_samples_show(activation):
    """Any weights of two units: the network itself on fresh inputs, against the average that is reported for it."""
    problem = DA(mixture([0.6, 0.4], gram=[[1.0, -0.4], [-0.4, 0.7]], covariances=[0.3, 0.6]), 1.0, 0.4, 0.1, units=2)
    law, d, n = problem.pairs, 30, 200_000
    instance = law.draw(3, n, d)
    rng = np.random.default_rng(0)
    w = rng.normal(size=(d, 2)) + math.sqrt(d) * instance.population.means.T @ rng.normal(size=(2, 2))
    clean = instance.x[:, 0]
    noisy = math.sqrt(0.6) * clean + math.sqrt(0.4) * instance.x[:, 1]
    with jax.enable_x64(True):
        away = clean - np.asarray(answer(activation, w, 0.3, noisy))
    gain = np.sum(away**2, axis=1) - np.sum((clean - 0.3 * noisy) ** 2, axis=1)
    found = population_excess(activation, w, 0.3, instance.population, 0.4)
    assert found == pytest.approx(gain.mean(), abs=4 * gain.std() / math.sqrt(n) + 1e-3)


def test_training_finds_weights_and_skip_connection():
    """A linear network without noise: the leading principal component, shrunk, and b = 0 imposed."""
    rng = np.random.default_rng(1)
    clean = rng.normal(size=(60, 1)) * np.eye(20)[0] * 2 + 0.3 * rng.normal(size=(60, 20))
    w, b, best, tried = train(Pairs(clean, clean), 0.1, activation=linear, skip=0.0, init="random", restarts=3)
    e, vectors = np.linalg.eigh(clean.T @ clean / 60)
    assert best.status.value == "converged" and b == 0.0 and len(tried) == 3
    assert np.sum(w**2) / 20 == pytest.approx(1.0 - 0.1 / (2.0 * (60 / 20) * e[-1]), rel=1e-5)
    assert abs(w[:, 0] @ vectors[:, -1]) / np.linalg.norm(w) == pytest.approx(1.0, abs=1e-6)


# finite-size shifts: what theory and experiment may differ by beside the standard error, in parts per dimension
CASES = {
    "A .1": TABLE["A .1"][0],
    "A .5": JUMPING["A .5"][0],
    "three clusters": TABLE["D"][0],
    "sigmoid": TABLE["E"][0],
    "bottleneck": JUMPING["B .1"][0],
    "unbalanced": JUMPING["C"][0],
    "anisotropic": DA(anisotropic(100), 1.0, 0.3, 0.1),
}


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_theory_meets_trained_networks(name):
    problem = CASES[name]
    theory, trials = problem.solve(), problem.simulate(dim=400, seeds=8)
    assert trials.converged.all()
    away = {}
    for observable in ("q", "test_mse_excess", "train_mse_excess", "free_energy"):
        measured, wanted = trials[observable], float(theory[observable])
        error = math.hypot(float(measured.standard_error), 4.0 / 400 * max(abs(wanted), 0.1))
        away[observable] = (float(measured.mean) - wanted) / error
    largest = np.abs(trials["m"].mean).max()
    error = math.hypot(float(np.max(trials["m"].standard_error)), 4.0 / 400)
    away["m"] = (largest - np.abs(theory["m"]).max()) / error
    assert max(map(abs, away.values())) < 3.0, away


@pytest.mark.thorough
@pytest.mark.slow
def test_a_second_unit_fits_noise():
    """Two units on two opposite clusters: the second learns nothing of them."""
    problem = opposite(0.2, alpha=2.0, noise=0.4, weight_decay=0.1, units=2)
    theory, trials = problem.solve(), problem.simulate(dim=300, seeds=6)
    np.testing.assert_allclose(np.diag(theory["q"]), [1.0213, 0.6313], rtol=3e-3)
    np.testing.assert_allclose(float(theory["free_energy"]), -0.54873, rtol=1e-3)
    assert float(theory["test_mse_excess"]) == pytest.approx(-0.1016, abs=2e-3)
    for name in ("test_mse_excess", "train_mse_excess", "free_energy"):
        measured = trials[name]
        error = math.hypot(float(measured.standard_error), 8.0 / 300 * abs(float(theory[name])) + 2e-3)
        assert abs(float(measured.mean) - float(theory[name])) < 3 * error, name


@pytest.mark.thorough
@pytest.mark.slow
def test_digits_side_by_side():
    """Theory on the moments of two classes of images, a Gaussian surrogate, and training on the images themselves."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    keep = (y == 1) | (y == 7)
    X, y = X[keep] / 16, y[keep]
    digits = qn.problems.DenoisingAutoencoder.from_data(X, y, alpha=2.0, noise=0.5, weight_decay=0.1)
    theory, drawn, images = digits.solve(), digits.simulate(64, seeds=10), digits.train_on(X, y, seeds=10)
    excess = float(theory["test_mse_excess"])
    assert excess == pytest.approx(-0.385, abs=4e-3)  # published to three digits, with another rule for the centre
    for trials in (drawn, images):  # d = 64: several per cent of finite-size shift
        estimate = trials["test_mse_excess"]
        assert abs(estimate.mean - excess) < 3.0 * estimate.standard_error + 0.05 * abs(excess)
    with pytest.raises(ValueError, match="alpha"):
        digits.replace(alpha=6.0).train_on(X, y)
    with pytest.raises(ValueError, match="labels"):
        digits.train_on(X, y[:-1])
