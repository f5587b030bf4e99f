"""Deterministic equivalents against actual random matrices, exact limits, and the published recursion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import quenched as qn
from quenched.numerics.density import spectral_density, stieltjes
from quenched.numerics.resolvent import (
    Chain,
    Layer,
    effective_dimensions,
    effective_ridge,
    harmonic_root,
    one_resolvent,
    two_resolvents,
)

TANH, AFTER = qn.laws.coefficients("tanh"), qn.laws.coefficients("tanh", 0.0, qn.laws.coefficients("tanh").second)


def layer(ratio, c, **parameters):
    return Layer(ratio, float(c.kappa_1) ** 2, float(c.kappa_star2), **parameters)


def two_layers():
    """tanh, tanh of widths 500, 450 on 400 isotropic inputs."""
    return Chain([1.0], [1.0], [1.0], (layer(500 / 400, TANH), layer(450 / 500, AFTER)))


@settings(max_examples=30, deadline=None)
@given(st.floats(0.2, 5.0), st.floats(1e-6, 100.0))
def test_isotropic_effective_ridge_is_the_root_of_a_quadratic(aspect, zeta):
    kappa = effective_ridge(np.ones(20), 20 / aspect, zeta)
    b = 1.0 - aspect - zeta  # kappa^2 + kappa (1 - aspect - zeta) - zeta = 0
    np.testing.assert_allclose(kappa, 0.5 * (-b + np.sqrt(b * b + 4.0 * zeta)), rtol=1e-9)


def test_without_a_ridge():
    omega = np.linspace(0.5, 2.0, 12)
    kappa = effective_ridge(omega, np.array([5.0, 12.0, 30.0]), 0.0)
    assert kappa[1] == kappa[2] == 0.0
    np.testing.assert_allclose(effective_dimensions(omega, kappa[0]).df1, 5.0, rtol=1e-12)
    with pytest.raises(ValueError, match="samples must be positive"):
        effective_ridge(omega, 0.0, 1.0)
    with pytest.raises(ValueError, match="zeta must be non-negative"):
        effective_ridge(omega, 1.0, -1.0)


def test_equivalents_against_random_matrices():
    """B and C depend on the covariance, and errors of traces are O(1) of O(p)."""
    rng, p, n, zeta = np.random.default_rng(0), 300, 400, 0.05
    a = rng.standard_normal((p, p)) / np.sqrt(p)
    omega = np.diag(np.linspace(0.2, 2.0, p)) + 0.3 * a @ a.T
    B, C, root = omega @ omega, a @ a.T, np.linalg.cholesky(omega)
    found = []
    for _ in range(4):
        X = rng.standard_normal((n, p)) @ root.T
        sample = X.T @ X / n
        G = np.linalg.inv(sample + zeta * np.eye(p))
        found.append([
            zeta * np.trace(B @ G), zeta**2 * np.trace(B @ G @ C @ G), np.trace(B @ sample @ G @ C @ sample @ G),
        ])  # fmt: skip
    mean, error = np.mean(found, axis=0) / p, np.std(found, axis=0) / np.sqrt(4) / p
    theory = np.array([one_resolvent(omega, n, zeta, B), *two_resolvents(omega, n, zeta, B, C)]) / p
    assert np.all(np.abs(mean - theory) < 4.0 * error + 2.0 / p * theory)


def test_two_resolvents_are_the_derivative_of_one():
    """zeta^2 tr B G G = zeta^2 (-d/dzeta) tr B G."""
    omega, B = np.diag(np.linspace(0.5, 2.0, 30)), np.diag(np.linspace(1.0, 3.0, 30))
    zeta, h = 0.3, 1e-5
    trace = [one_resolvent(omega, 40, z, B) / z for z in (zeta - h, zeta + h)]
    np.testing.assert_allclose(
        two_resolvents(omega, 40, zeta, B, np.eye(30))[0], -(zeta**2) * (trace[1] - trace[0]) / (2 * h), rtol=1e-8
    )


def test_stieltjes_of_deep_features_as_published():
    found = stieltjes(two_layers(), 450 / 600, [0.5 + 0.05j, 0.1 + 0.02j, 1.5 + 0.1j])
    want = [-1.712169 + 1.085058j, -4.725216 + 5.309502j, -0.805028 + 0.236079j]
    np.testing.assert_allclose(found, want, atol=1e-6)
    with pytest.raises(ValueError, match="imaginary part"):
        stieltjes(two_layers(), 1.0, 1.0 - 1j)
    with pytest.raises(ValueError, match="z must not be 0"):
        stieltjes(two_layers(), 1.0, 0.0)


@pytest.mark.parametrize("aspect", [0.25, 1.0, 4.0])
def test_marchenko_pastur(aspect):
    law = spectral_density(Chain([1.0], [1.0], [0.0]), aspect)
    low, high = (1 - np.sqrt(aspect)) ** 2, (1 + np.sqrt(aspect)) ** 2
    np.testing.assert_allclose(law.edges, [[low, high]], atol=1e-9)
    x = law.x[0]
    np.testing.assert_allclose(law.density[0], np.sqrt((high - x) * (x - low)) / (2 * np.pi * aspect * x), rtol=1e-6)
    assert law.atom == max(0.0, 1.0 - 1.0 / aspect) and abs(law.mass - 1.0) < 1e-8 and law.unresolved == 0


def test_two_separate_intervals_and_moments():
    law = spectral_density(Chain([0.5, 0.5], [1.0, 20.0], [0.0, 0.0]), 0.1)
    assert law.edges.shape == (2, 2) and abs(law.mass - 1.0) < 1e-6
    np.testing.assert_allclose(np.sum(law.weights * law.density, axis=1), 0.5, atol=1e-6)  # each atom keeps its mass
    np.testing.assert_allclose(np.sum(law.weights * law.density * law.x), 10.5, rtol=1e-6)
    np.testing.assert_allclose(np.sum(law.weights * law.density * law.x**2), (1 + 400) / 2 + 0.1 * 10.5**2, rtol=1e-6)


def test_small_eigenvalues_behind_a_gap_are_seen():
    law = spectral_density(Chain([0.5, 0.5], [1e-6, 1.0], [0.0, 0.0]), 0.1)
    assert law.edges.shape == (2, 2) and abs(law.mass - 1.0) < 1e-6


def test_a_population_needs_layers():
    with pytest.raises(ValueError, match="aspect must be positive"):
        spectral_density(Chain([1.0], [1.0], [0.0]), 0.0)


THOROUGH = (pytest.mark.slow, pytest.mark.thorough)
KINDS = {
    "plain": (layer(1.25, TANH), layer(0.9, AFTER)),
    "different neurons": (Layer(1.25, [0.3, 0.5], [0.02, 0.05], prob=[0.5, 0.5]),),
    "structured rows": (layer(1.25, TANH, rows=[0.5, 0.5, 0.5, 2.5]),),
}


@pytest.mark.parametrize("kind", ["plain", *(pytest.param(kind, marks=THOROUGH) for kind in KINDS if kind != "plain")])
def test_a_chain_is_its_forward_recursion(kind, x64):
    """D and A at any kappa, their derivatives, and the effective ridge at any zeta, by finite differences and residuals."""
    chain = Chain([0.4, 0.6], [0.5, 1.5], [0.3, 0.2], KINDS[kind])
    kappa = jnp.asarray(0.07)
    D, A, dD, dA = chain.slopes(kappa)
    np.testing.assert_allclose(chain(kappa), (D, A), rtol=1e-12)
    h = 1e-5
    (up, above), (down, below) = chain(kappa + h), chain(kappa - h)
    np.testing.assert_allclose([dD, dA], [(up - down) / (2 * h), (above - below) / (2 * h)], rtol=1e-6)
    second = jax.jacfwd(lambda k: jnp.stack(chain.slopes(k)[2:]))(kappa)
    np.testing.assert_allclose(second, [(up - 2 * D + down) / h**2, (above - 2 * A + below) / h**2], rtol=1e-3)
    np.testing.assert_allclose(jax.jacfwd(jax.jacfwd(lambda k: jnp.stack(chain(k))))(kappa), second, rtol=1e-8)
    zeta, aspect = 0.05, 0.75
    kappa = chain.at_ridge(zeta, aspect)[0]
    np.testing.assert_allclose(kappa * (1.0 - aspect * chain(kappa)[0]), zeta, rtol=1e-10)


@pytest.mark.slow
def test_alike_neurons_and_rows_reduce_to_the_plain_layer(x64):
    c = (float(TANH.kappa_1) ** 2, float(TANH.kappa_star2))
    plain, neurons, rows = (
        Chain([1.0], [1.0], [1.0], (one,))
        for one in (Layer(1.5, *c), Layer(1.5, [c[0]] * 2, [c[1]] * 2, prob=[0.5, 0.5]), Layer(1.5, *c, rows=[1.0, 1.0]))
    )
    for kappa in (1e-6, 0.1, 30.0):
        np.testing.assert_allclose(neurons(kappa), plain(kappa), rtol=1e-10)
        np.testing.assert_allclose(rows(kappa), plain(kappa), rtol=1e-10)
    with pytest.raises(ValueError, match="rows must be a single number where neurons differ"):
        Layer(1.0, [0.3, 0.5], [0.1, 0.1], prob=[0.5, 0.5], rows=[1.0, 2.0])


def test_harmonic_root_and_where_it_has_none(x64):
    w, b = jnp.array([0.3, 0.7]), jnp.array([0.1, 2.0])
    x = harmonic_root(w, b, 3.0)
    np.testing.assert_allclose(jnp.sum(w / (b + x)), 1 / 3.0, rtol=1e-12)
    assert harmonic_root(w, b, 0.01) < 0
    slope = jax.grad(harmonic_root, argnums=2)(w, b, 3.0)
    np.testing.assert_allclose(slope, (harmonic_root(w, b, 3.0 + 1e-5) - harmonic_root(w, b, 3.0 - 1e-5)) / 2e-5, rtol=1e-7)


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tanh, tanh", "biases", "rainbow", "more features than samples", "relu"])
def test_densities_against_eigenvalues_of_networks(kind):
    """Kolmogorov-Smirnov distance below 0.01 at p = 2000."""
    d, p, n, covariances, biases, activation = 1600, (2000, 2000), 3000, None, None, "tanh"
    if kind == "biases":
        biases = 0.5
    if kind == "rainbow":
        covariances = [np.tile([0.5, 1.5], d // 2), np.r_[np.full(500, 2.5), np.full(1500, 0.5)]]
    if kind == "more features than samples":
        n = 1000
    if kind == "relu":
        p, activation = (2000,), "relu"
    network = qn.laws.DeepNetwork((d, *p), activation, weight_covariances=covariances, biases=biases)
    law = qn.problems.DeepFeatures(network, None, "square", alpha=n / d, weight_decay=0.1).law
    density = spectral_density(law.chain, p[-1] / n)
    rng = np.random.default_rng(5)
    features = network.draw(seed=3)(rng.standard_normal((n, d)))
    features = features - network.draw(seed=3)(rng.standard_normal((20_000, d))).mean(axis=0) if kind == "relu" else features
    eigenvalues = np.linalg.eigvalsh(features.T @ features / n)
    # saturated neurons make narrow peaks near zero, the last of which are not resolved
    biases = kind == "biases"
    assert abs(density.mass - 1.0) < (5e-4 if biases else 1e-4) and density.unresolved <= 0.01 * density.x.size * biases
    assert density.distance(eigenvalues) < 0.01
