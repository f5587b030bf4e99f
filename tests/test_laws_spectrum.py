"""Spectral laws: quadrature nodes against closed forms, atoms from matrices and data, and differentiability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import block_diag

from quenched.laws import SpectralLaw, nodes
from quenched.laws.spectrum import common_eigenbasis


@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0, 2.0, 7.5])
@pytest.mark.parametrize("variance", [1.0, 0.3])
def test_marchenko_pastur_moments(ratio, variance):
    law = SpectralLaw.marchenko_pastur(ratio, variance=variance, nodes=20)
    c = ratio
    moments = [1.0, 1.0, 1 + c, 1 + 3 * c + c**2, 1 + 6 * c + 6 * c**2 + c**3]
    found = [law.weights @ (law.eigenvalues[:, 0] / variance) ** k for k in range(5)]
    np.testing.assert_allclose(found, moments, rtol=1e-13)
    at_zero = law.weights[law.eigenvalues[:, 0] == 0.0].sum()
    assert at_zero == pytest.approx(max(0.0, 1 - 1 / c), abs=1e-14)


@pytest.mark.parametrize(("ratio", "count", "rtol"), [(0.3, 40, 1e-13), (3.0, 40, 1e-13), (1.0, 200, 1e-12)])
def test_marchenko_pastur_resolvent(ratio, count, rtol):
    """E 1/(z + gamma) solves ratio z g^2 + (z + 1 - ratio) g - 1 = 0."""
    law = SpectralLaw.marchenko_pastur(ratio, nodes=count)
    z = 0.2
    b = z + 1 - ratio
    exact = (-b + np.sqrt(b**2 + 4 * ratio * z)) / (2 * ratio * z)
    assert law.weights @ (1 / (z + law.eigenvalues[:, 0])) == pytest.approx(exact, rel=rtol)


def test_marchenko_pastur_is_the_spectrum_of_a_sample_covariance():
    X = np.random.default_rng(0).normal(size=(600, 900))
    values = np.linalg.eigvalsh(X.T @ X / 600)
    law = SpectralLaw.marchenko_pastur(1.5)
    found = law.weights @ np.exp(-law.eigenvalues[:, 0])
    assert found == pytest.approx(np.exp(-values).mean(), abs=3e-3)
    assert law.eigenvalues.max() < (1 + np.sqrt(1.5)) ** 2


def test_power_law_is_one_atom_an_eigenvalue():
    law = SpectralLaw.power_law(1.5, 4)
    np.testing.assert_allclose(law.eigenvalues[:, 0], [1, 2**-1.5, 3**-1.5, 4**-1.5], rtol=1e-15)
    np.testing.assert_allclose(law.weights, 0.25)
    assert SpectralLaw.power_law(1.5, 4, nodes=9).weights.shape == (4,)


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.5, 2.5])
@pytest.mark.parametrize("count", [40, 80])
def test_power_law_nodes_have_the_documented_error(exponent, count):
    dim = 20_000
    full = SpectralLaw.power_law(exponent, dim)
    few = SpectralLaw.power_law(exponent, dim, nodes=count)
    assert few.weights.shape == (count,)
    for kappa in (1e-6, 1e-2):
        totals = [law.weights @ (law.eigenvalues[:, 0] / (law.eigenvalues[:, 0] + kappa)) for law in (full, few)]
        assert abs(totals[0] - totals[1]) <= exponent / 24 / (dim * count / 2) + 1e-14 * dim**0.5


def test_power_law_variance():
    law = SpectralLaw.power_law(2.0, 300, variance=0.7, nodes=20)
    assert law.weights @ law.eigenvalues[:, 0] == pytest.approx(0.7, rel=1e-14)


def test_directions_and_gram_are_the_same_thing():
    weights, gamma = [0.5, 0.3, 0.2], [0.3, 1.0, 3.0]
    tau = np.array([[1.0, 2.0], [1.0, 0.0], [0.5, -1.0]])
    law = SpectralLaw(weights, gamma, directions=tau)
    other = SpectralLaw(weights, gamma, [w * np.outer(t, t) for w, t in zip(weights, tau, strict=True)])
    np.testing.assert_allclose(law.gram, other.gram, rtol=1e-15)
    generic = SpectralLaw(weights, gamma, [[2.0, 1.0], [1.0, 3.0]])
    np.testing.assert_allclose(generic.gram.sum(axis=0), [[2.0, 1.0], [1.0, 3.0]], rtol=1e-15)
    assert SpectralLaw(weights, gamma).gram.shape == (3, 0, 0)


def test_with_targets_appends_generic_directions():
    law = SpectralLaw([0.4, 0.6], [1.0, 2.0], directions=[[1.0], [2.0]]).with_targets(2)
    assert law.gram.shape == (2, 3, 3)
    np.testing.assert_allclose(law.gram[1], [[0.6 * 4, 0, 0], [0, 0.6, 0], [0, 0, 0.6]])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 4))
def test_from_matrices_finds_the_common_eigenbasis(seed, count):
    """Matrices that each are degenerate, so that no single one of them determines the basis."""
    rng = np.random.default_rng(seed)
    d = 12
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    gamma = rng.integers(0, 4, (d, count)).astype(float)
    covariances = np.stack([(basis * gamma[:, b]) @ basis.T for b in range(count)])
    means, w = rng.normal(size=(2, d)), rng.normal(size=(d, 1))
    law = SpectralLaw.from_matrices(covariances, means, w)
    found = sorted(
        map(tuple, np.round(np.repeat(law.eigenvalues, np.rint(d * law.weights).astype(int), axis=0), 9) + 0.0)
    )
    assert found == sorted(map(tuple, gamma))
    stacked = np.vstack([means, w.T / np.sqrt(d)])
    np.testing.assert_allclose(law.gram.sum(axis=0), stacked @ stacked.T, atol=1e-12)
    for b in range(count):  # a direction's weight on the eigenvalues is basis free
        np.testing.assert_allclose(
            np.tensordot(law.eigenvalues[:, b], law.gram, axes=1), stacked @ covariances[b] @ stacked.T, atol=1e-12
        )


def test_from_matrices_merges_equal_eigenvalues_only():
    assert SpectralLaw.from_matrices(np.eye(5)).weights.tolist() == [1.0]
    assert SpectralLaw.from_matrices(np.diag([1.0, 2.0, 2.0])).weights.tolist() == pytest.approx([1 / 3, 2 / 3])


def test_common_eigenbasis_diagonalises():
    rng = np.random.default_rng(3)
    basis = np.linalg.qr(rng.normal(size=(30, 30)))[0]
    covariances = np.stack([(basis * g) @ basis.T for g in rng.uniform(size=(3, 30))])
    values, vectors = common_eigenbasis(covariances)
    for b in range(3):
        np.testing.assert_allclose((vectors * values[:, b]) @ vectors.T, covariances[b], atol=1e-13)


def test_matrices_that_do_not_commute_are_sent_to_the_dense_law():
    a = np.diag([1.0, 2.0])
    b = np.array([[1.0, 0.5], [0.5, 1.0]])
    with pytest.raises(ValueError, match="covariances must commute.*use DenseTokens"):
        SpectralLaw.from_matrices([a, b])
    with pytest.raises(ValueError, match="use DenseTokens"):
        SpectralLaw.from_matrices([block_diag(a, np.eye(40)), block_diag(b + 1e-6, np.eye(40))])


def test_from_data_pooled():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(40, 5)) * [1, 2, 3, 4, 5], rng.integers(0, 3, 40)
    X[y == 1] += 1.0
    law = SpectralLaw.from_data(X, y)
    means = np.stack([X[y == k].mean(axis=0) for k in range(3)])
    within = sum((np.sum(y == k) - 1) * np.cov(X[y == k].T) for k in range(3)) / (40 - 3)
    np.testing.assert_allclose(law.gram.sum(axis=0), means @ means.T, atol=1e-12)
    np.testing.assert_allclose(np.sort(law.eigenvalues[:, 0]), np.linalg.eigvalsh(within), atol=1e-12)
    np.testing.assert_allclose(
        np.tensordot(law.eigenvalues[:, 0], law.gram, axes=1), means @ within @ means.T, rtol=1e-11, atol=1e-11
    )
    np.testing.assert_allclose(
        np.sort(SpectralLaw.from_data(X).eigenvalues[:, 0]), np.linalg.eigvalsh(np.cov(X.T)), atol=1e-12
    )


def test_from_data_by_class():
    """Two classes whose samples vary along the axes only: their covariances commute."""
    cross = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]])
    law = SpectralLaw.from_data(np.vstack([cross, 2 * cross[:, ::-1]]), [0] * 4 + [1] * 4, covariance="class")
    np.testing.assert_allclose(sorted(law.eigenvalues.tolist()), [[2 / 3, 32 / 3], [8 / 3, 8 / 3]])
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="use DenseTokens"):
        SpectralLaw.from_data(rng.normal(size=(30, 4)), rng.integers(0, 2, 30), covariance="class")


def test_leaves_may_be_tracers(x64):
    """d/d(parameter) of the mean eigenvalue, through each constructor that has a continuous parameter."""

    def mean_eigenvalue(law):
        return jnp.sum(law.weights * law.eigenvalues[:, 0])

    assert jax.grad(lambda v: mean_eigenvalue(SpectralLaw.isotropic(v)))(2.0) == 1.0
    slope = jax.grad(lambda a: mean_eigenvalue(SpectralLaw.power_law(a, 3)))(1.0)
    assert slope == pytest.approx(-(np.log(2) / 2 + np.log(3) / 3) / 3, rel=1e-14)
    assert jax.grad(lambda w: mean_eigenvalue(SpectralLaw([w, 1 - w], [1.0, 3.0], [[1.0]])))(0.3) == pytest.approx(-2.0)
    total = jax.grad(lambda t: SpectralLaw([0.5, 0.5], [1.0, 3.0], directions=[[t], [2.0]]).gram.sum())(3.0)
    assert total == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("rule", "moments"),
    [
        (nodes.normal(12, 0.5, 2.0), [0.5, 4.25, 0.125 + 1.5 * 4]),
        (nodes.lognormal(30, 0.2, 0.6), [np.exp(0.2 * k + 0.18 * k**2) for k in (1, 2, 3)]),
        (nodes.gamma(12, 2.5, 0.4), [1.0, 1.4, 1.4 * 4.5 * 0.4]),
        (nodes.beta(12, 2.0, 3.0), [0.4, 0.2, 0.2 * 4 / 7]),
        (nodes.beta(12, 1.0, 1.0, -1.0, 3.0), [1.0, 28 / 12, 80 / 16]),
    ],
)
def test_gauss_nodes_have_the_moments_of_their_law(rule, moments):
    x, w = rule
    assert w.sum() == pytest.approx(1.0, abs=1e-14)
    np.testing.assert_allclose([w @ x**k for k in (1, 2, 3)], moments, rtol=1e-10)
