"""The potential and its gradient: against explicit formulas, against each other, and spectral against dense laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quenched.laws import Conjugates, DenseTokens, Law, SpectralLaw, SpectralTokens, single
from quenched.laws.dense import inverse_matrix
from quenched.laws.tokens import small_inverse

SHAPES = [(1, 1, 0, 1, 1), (1, 2, 2, 0, 6), (1, 2, 1, 2, 4), (2, 2, 2, 1, 5), (3, 2, 1, 2, 4), (5, 1, 3, 0, 3)]
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def semidefinite(rng, *shape):
    """Random positive semi-definite matrices with eigenvalues of order one."""
    a = rng.normal(size=shape)
    return a @ a.swapaxes(-1, -2) / shape[-1]


def random_hats(rng, r, B, A, t):
    return Conjugates(
        semidefinite(rng, B, r, r), semidefinite(rng, B, r, r), rng.normal(size=(A, r)),
        rng.normal(size=(B, r, t)), semidefinite(rng, r, r) - 0.1 * np.eye(r),
    )  # fmt: skip


def random_spectral(rng, r, B, A, t, S):
    gamma = np.exp(rng.normal(size=(S, B)))
    spectrum = SpectralLaw(rng.dirichlet(np.ones(S)), gamma, semidefinite(rng, S, A + t, A + t))
    return SpectralTokens(spectrum, [1.0], np.ones((1, 1, A)), np.ones((1, 1, B)))


def random_dense(rng, r, B, A, t, d):
    return DenseTokens(
        semidefinite(rng, B, d, d), rng.normal(size=(A, d)) / d**0.5, rng.normal(size=(d, t)),
        [1.0], np.ones((1, 1, A)), np.ones((1, 1, B)),
    )  # fmt: skip


def boxes(law, hats, ridge):
    """Equations of section 3.1 of Cui (2024), with B B^T replaced by its second moments, atom by atom in NumPy."""
    r, A = hats.Q_hat.shape[0], law.mean.shape[-1]
    out = [np.zeros(np.shape(a)) for a in (hats.q_hat, hats.V_hat, hats.m_hat, hats.theta_hat, hats.Q_hat)]
    V, q, m, theta, Q = out
    for w, gamma, gram in zip(law.spectrum.weights, law.spectrum.eigenvalues, law.spectrum.gram, strict=True):
        inverse = np.linalg.inv(
            ridge * np.eye(r) + hats.Q_hat + sum(g * v for g, v in zip(gamma, hats.V_hat, strict=True))
        )
        slopes = np.column_stack([*hats.m_hat, sum(g * x for g, x in zip(gamma, hats.theta_hat, strict=True))])
        second = slopes @ gram @ slopes.T + w * sum(g * x for g, x in zip(gamma, hats.q_hat, strict=True))
        V += w * gamma[:, None, None] * inverse
        q += gamma[:, None, None] * (inverse @ second @ inverse)
        Q += inverse @ second @ inverse
        m += (inverse @ slopes @ gram)[:, :A].T
        theta += gamma[:, None, None] * (inverse @ slopes @ gram)[:, A:]
    return out


def assert_close(found, expected, rtol=1e-13):
    for name, a, b in zip(("V", "q", "m", "theta", "Q"), found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * (np.abs(b).max() if np.size(b) else 1.0), err_msg=name)


written = jax.jit(lambda law, hats, ridge: law.overlaps(hats, ridge))
gradient = jax.jit(lambda law, hats, ridge: Law.overlaps(law, hats, ridge))
potential = jax.jit(lambda law, hats, ridge: law.potential(hats, ridge))


@shapes
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), ridge=st.floats(0.2, 10.0))
def test_spectral_overlaps_are_the_gradient_and_the_boxes(shape, seed, ridge):
    rng = np.random.default_rng(seed)
    law, hats = random_spectral(rng, *shape), random_hats(rng, *shape[:4])
    with jax.enable_x64(True):
        found = written(law, hats, ridge)
        assert_close(found, gradient(law, hats, ridge))
    assert_close(found, boxes(law, hats, ridge))


@shapes
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), ridge=st.floats(0.2, 10.0))
def test_dense_overlaps_are_the_gradient(shape, seed, ridge):
    rng = np.random.default_rng(seed)
    law, hats = random_dense(rng, *shape[:4], 7), random_hats(rng, *shape[:4])
    with jax.enable_x64(True):
        assert_close(written(law, hats, ridge), gradient(law, hats, ridge), rtol=1e-12)


@shapes
def test_dense_equals_atoms_where_the_covariances_commute(shape, x64):
    r, B, A, t, _ = shape
    rng = np.random.default_rng(1)
    d = 9
    basis = np.linalg.qr(rng.normal(size=(d, d)))[0]
    covariances = np.stack([(basis * g) @ basis.T for g in rng.uniform(0.2, 2.0, (B, d))])
    means, w = rng.normal(size=(A, d)) / 3, rng.normal(size=(d, t))
    rest = ([1.0], np.ones((1, 1, A)), np.ones((1, 1, B)))
    atoms = SpectralTokens(SpectralLaw.from_matrices(covariances, means, w), *rest)
    dense = DenseTokens(covariances, means, w, *rest)
    hats = random_hats(rng, r, B, A, t)
    assert_close(written(dense, hats, 0.4), written(atoms, hats, 0.4))
    for ridge in (0.4, 0.4 + 0.3j):
        assert complex(potential(dense, hats, ridge)) == pytest.approx(
            complex(potential(atoms, hats, ridge)), rel=1e-13
        )
    for a, b in zip(dense.targets(), atoms.targets(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (2, 2, 2, 1)], ids=str)
def test_dense_overlaps_are_the_explicit_traces(shape, x64):
    """Section 3.4 of the same derivation with numpy.kron, covariances that do not commute."""
    r, B, A, t = shape
    rng = np.random.default_rng(2)
    d, ridge = 6, 0.3
    law, hats = random_dense(rng, *shape, d), random_hats(rng, *shape)
    S, mu, w = law.covariances, law.means, law.target
    inverse = np.linalg.inv(
        np.kron(ridge * np.eye(r) + hats.Q_hat, np.eye(d)) + sum(np.kron(hats.V_hat[b], S[b]) for b in range(B))
    )
    noise = sum(np.kron(hats.q_hat[b], S[b]) for b in range(B))
    field = d**0.5 * mu.T @ hats.m_hat + sum(S[b] @ w @ hats.theta_hat[b].T for b in range(B))
    mean = (inverse @ field.T.ravel()).reshape(r, d).T

    def trace(matrix, s):
        return (
            np.array([[np.trace(s @ matrix[i * d : i * d + d, j * d : j * d + d]) for j in range(r)] for i in range(r)])
            / d
        )

    spread = inverse @ noise @ inverse
    expected = (
        np.stack([trace(inverse, s) for s in S]),
        np.stack([trace(spread, s) + mean.T @ s @ mean / d for s in S]),
        mu @ mean / d**0.5,
        np.stack([mean.T @ s @ w / d for s in S]),
        trace(spread, np.eye(d)) + mean.T @ mean / d,
    )
    assert_close(law.overlaps(hats, ridge), expected, rtol=1e-12)


def explicit_potential(law, hats, ridge):
    """1/2 Tr A^{-1} (N + B B^T), normalised, in NumPy: atom by atom, or in one Kronecker product."""
    r = hats.Q_hat.shape[0]
    if isinstance(law, DenseTokens):
        d = law.target.shape[0]
        S, eye = law.covariances, np.eye(d)
        terms = [sum(np.kron(h, s) for h, s in zip(hat, S, strict=True)) for hat in (hats.V_hat, hats.q_hat)]
        field = d**0.5 * law.means.T @ hats.m_hat
        field = (field + sum(s @ law.target @ x.T for s, x in zip(S, hats.theta_hat, strict=True))).T.ravel()
        matrix = np.kron(ridge * np.eye(r) + hats.Q_hat, eye) + terms[0]
        return 0.5 / d * np.trace(np.linalg.inv(matrix) @ (terms[1] + np.outer(field, field)))
    total = 0.0
    for w, gamma, gram in zip(law.spectrum.weights, law.spectrum.eigenvalues, law.spectrum.gram, strict=True):
        V, q, theta = (np.tensordot(gamma, hat, axes=1) for hat in (hats.V_hat, hats.q_hat, hats.theta_hat))
        rows = np.vstack([hats.m_hat, theta.T])
        matrix = ridge * np.eye(r) + hats.Q_hat + V
        total += 0.5 * np.trace(np.linalg.inv(matrix) @ (w * q + rows.T @ gram @ rows))
    return total


@pytest.mark.parametrize("make", [random_spectral, random_dense])
@pytest.mark.parametrize("r", [1, 2, 3])
@pytest.mark.parametrize("ridge", [0.7, 0.7 + 0.3j, -0.5 + 0.05j])
def test_potential_at_a_real_and_a_complex_ridge(make, r, ridge, x64):
    rng = np.random.default_rng(4)
    law, hats = make(rng, r, 2, 1, 1, 5), random_hats(rng, r, 2, 1, 1)
    assert complex(potential(law, hats, ridge)) == pytest.approx(
        complex(explicit_potential(law, hats, ridge)), rel=1e-12
    )


@shapes
def test_second_derivatives_of_both_forms_agree(shape, x64):
    """Newton differentiates the written overlaps in every entry of the (symmetric) conjugates."""
    rng = np.random.default_rng(5)
    law, hats = random_spectral(rng, *shape), random_hats(rng, *shape[:4])
    direction = random_hats(rng, *shape[:4])
    tangents = [jax.jvp(lambda h, f=f: f(law, h, 0.5), (hats,), (direction,))[1] for f in (written, gradient)]
    assert_close(*tangents, rtol=1e-11)


@pytest.mark.parametrize("r", [1, 2, 3, 6])
@pytest.mark.parametrize("dtype", [float, complex])
def test_small_inverse(r, dtype, x64):
    rng = np.random.default_rng(6)
    matrices = semidefinite(rng, 50, r, r) + 0.1 * np.eye(r)
    matrices = matrices + (1j * semidefinite(rng, 50, r, r) if dtype is complex else 0.0)
    identity = np.broadcast_to(np.eye(r), matrices.shape)
    np.testing.assert_allclose(small_inverse(matrices) @ matrices, identity, atol=1e-12)


def test_dense_inverse_has_its_derivative_and_says_nan_where_it_is_not_positive(x64):
    rng = np.random.default_rng(7)
    a, b = semidefinite(rng, 5, 5) + np.eye(5), semidefinite(rng, 5, 5)
    step = 1e-5
    difference = (np.linalg.inv(a + step * b) - np.linalg.inv(a - step * b)) / (2 * step)
    np.testing.assert_allclose(jax.jvp(inverse_matrix, (a,), (b,))[1], difference, rtol=1e-6, atol=1e-8)
    assert np.all(np.isnan(inverse_matrix(-a)))


def ridge_overlaps(law, alpha, weight_decay, noise):
    """The saddle point of ridge regression: the law's overlaps in a loop with the closed-form channel."""
    q, V, theta = 1.0, 1.0, 0.0
    rho = law.targets()[0].item()
    for _ in range(400):
        shrink = alpha / (1.0 + V)
        hats = Conjugates(
            np.full((1, 1, 1), shrink * (rho - 2 * theta + q + noise) / (1.0 + V)), np.full((1, 1, 1), shrink),
            np.zeros((0, 1)), np.full((1, 1, 1), shrink), np.zeros((1, 1)),
        )  # fmt: skip
        out = written(law, hats, weight_decay)
        q, V, theta = (float(a.item()) for a in (out.q, out.V, out.theta))
    return q, V, theta, out.Q.item()


@pytest.mark.parametrize(
    ("alpha", "weight_decay", "expected"),
    [(2.0, 0.5, (0.396606, 0.453997, 0.421634, 0.415315)), (0.7, 0.1, (0.543109, 3.063615, 0.366598, 0.552967))],
)
def test_published_ridge_on_three_atoms(alpha, weight_decay, expected, x64):
    law = single(SpectralLaw([0.5, 0.3, 0.2], [0.3, 1.0, 3.0], directions=[[1.0], [1.0], [0.5]]))
    np.testing.assert_allclose(ridge_overlaps(law, alpha, weight_decay, 0.25), expected, atol=6e-7)


def test_isotropic_ridge_reference(x64):
    found = ridge_overlaps(single(), 2.0, 0.1, 0.1)
    np.testing.assert_allclose(found, [0.9155711230, 0.8442887702, 0.9155711230, 0.9155711230], atol=1e-10)


def test_numbers_of_a_law_are_traced_not_compiled_in(x64):
    """Two laws that differ in numbers only share one compilation."""
    calls = []

    @jax.jit
    def f(law, hats):
        calls.append(1)
        return law.overlaps(hats, 0.1).V

    rng = np.random.default_rng(8)
    for scale in (1.0, 2.0):
        law = SpectralTokens(SpectralLaw.isotropic(scale, gram=[[scale]]), [1.0], size=scale)
        f(law, random_hats(rng, 1, 1, 0, 1))
    assert len(calls) == 1


def test_all_leaves_are_numpy_float64_or_integers():
    law = single(SpectralLaw.power_law(1.0, 5))
    for leaf in jax.tree.leaves(law):
        assert isinstance(leaf, np.ndarray)
        assert leaf.dtype in (np.float64, np.int64)


@pytest.mark.parametrize("units", [1, 2, 3])
def test_many_atoms_do_not_lock_the_thread_pool(units, x64):
    """Two batched LAPACK inverses in one program were seen to wait for each other for ever: there must be none."""
    rng = np.random.default_rng(9)
    law, hats = random_spectral(rng, units, 1, 1, 1, 10_000), random_hats(rng, units, 1, 1, 1)
    text = jax.jit(lambda h: (law.potential(h, 0.1), law.overlaps(h, 0.1))).lower(hats).as_text()
    assert "lapack" not in text
    assert np.isfinite(jnp.sum(written(law, hats, 0.5).q))
