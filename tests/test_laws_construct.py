"""Constructors of laws: what single, mixture, sequence, from_data and with_free_mean put where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from quenched.laws import (
    Conjugates,
    DenseTokens,
    SpectralLaw,
    SpectralTokens,
    from_data,
    mixture,
    nodes,
    sequence,
    single,
    with_free_mean,
)

TWO_ATOMS = SpectralLaw([0.5, 0.5], [[0.5, 1.0], [1.5, 0.4]], directions=[[-1.2, 1.2], [-0.6, 0.9]])


@pytest.mark.parametrize("spectrum", [None, 1.0, np.ones(7), np.eye(3), SpectralLaw.isotropic()])
def test_single_isotropic_is_one_atom(spectrum):
    law = single(spectrum)
    assert law.spectrum.weights.tolist() == [1.0]
    assert law.spectrum.eigenvalues.tolist() == [[1.0]]
    np.testing.assert_allclose(law.targets()[0], [[[1.0]]])
    assert (law.prob.tolist(), law.mean.shape, law.cov.tolist(), law.free) == ([1.0], (1, 1, 0), [[[1.0]]], ())


def test_single_with_a_spectrum():
    law = single([0.5, 2.0, 2.0, 1.5], targets=2)
    assert law.spectrum.eigenvalues[:, 0].tolist() == [0.5, 1.5, 2.0]
    assert law.spectrum.weights.tolist() == [0.25, 0.25, 0.5]
    np.testing.assert_allclose(law.targets()[0][0], 1.5 * np.eye(2))  # rho is the mean eigenvalue


def test_single_with_an_explicit_target():
    rng = np.random.default_rng(0)
    factor, w = rng.normal(size=(6, 6)), rng.normal(size=6)
    covariance = factor @ factor.T
    np.testing.assert_allclose(single(covariance, targets=w).targets()[0], [[[w @ covariance @ w / 6]]], rtol=1e-12)
    gamma = rng.uniform(size=6)
    np.testing.assert_allclose(single(gamma, targets=w).targets()[0], [[[gamma @ w**2 / 6]]], rtol=1e-12)


def test_single_takes_the_directions_of_a_spectral_law_as_targets():
    law = single(SpectralLaw([0.5, 0.5], [1.0, 2.0], directions=[[1.0, 0.0], [1.0, 3.0]]))
    rho, m_star = law.targets()
    np.testing.assert_allclose(rho, [[[1.5, 3.0], [3.0, 9.0]]])
    assert m_star.shape == (0, 2)
    assert single(SpectralLaw.isotropic(), targets=0).targets()[0].shape == (1, 0, 0)


def test_mixture_from_atoms():
    law = mixture([0.75, 0.25], spectrum=TWO_ATOMS, labels=[-1.0, 1.0])
    assert law.mean[:, 0].tolist() == law.cov[:, 0].tolist() == [[1, 0], [0, 1]]
    assert law.value.tolist() == [-1.0, 1.0]
    np.testing.assert_allclose(law.spectrum.gram[1], 0.5 * np.outer([-0.6, 0.9], [-0.6, 0.9]))
    assert law.atoms() is law.spectrum


def test_mixture_from_atoms_with_targets_but_no_means():
    law = mixture(np.full(3, 1 / 3), spectrum=SpectralLaw.isotropic([1.0, 2.0, 3.0], gram=[[2.0]]), targets=1)
    assert law.mean.shape == (3, 1, 0)
    assert law.targets()[0].ravel().tolist() == [2.0, 4.0, 6.0]


def test_mixture_with_scalar_covariances_needs_only_the_gram_matrix_of_the_means():
    means = np.random.default_rng(0).normal(size=(3, 50))
    law = mixture([0.2, 0.3, 0.5], means, covariances=[1.0, 0.5, 1.0], targets=1)
    assert law.spectrum.eigenvalues.tolist() == [[1.0, 0.5]]  # two distinct covariances, one atom
    assert law.cov[:, 0].tolist() == [[1, 0], [0, 1], [1, 0]]
    gram = np.zeros((4, 4))
    gram[:3, :3], gram[3, 3] = means @ means.T, 1.0
    np.testing.assert_allclose(law.spectrum.gram[0], gram)
    again = mixture([0.2, 0.3, 0.5], gram=means @ means.T, covariances=[1.0, 0.5, 1.0], targets=1)
    np.testing.assert_allclose(again.spectrum.gram, law.spectrum.gram)


def test_mixture_with_spectra_and_matrices_agree():
    rng = np.random.default_rng(1)
    spectra, means, w = rng.uniform(0.1, 1, (2, 8)), rng.normal(size=(2, 8)), rng.normal(size=(8, 1))
    basis = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    one = mixture([0.5, 0.5], means, covariances=list(spectra), targets=w)
    two = mixture([0.5, 0.5], means @ basis.T, covariances=[(basis * s) @ basis.T for s in spectra], targets=basis @ w)
    for law in (one, two):
        assert law.spectrum.weights.shape == (8,)
    order = [np.argsort(law.spectrum.eigenvalues[:, 0]) for law in (one, two)]
    for name in ("eigenvalues", "gram"):
        a, b = (getattr(law.spectrum, name)[o] for law, o in zip((one, two), order, strict=True))
        np.testing.assert_allclose(a, b, atol=1e-12)
    np.testing.assert_allclose(one.targets()[1], means @ w / np.sqrt(8), rtol=1e-12)
    mixed = mixture([0.5, 0.5], means, covariances=[0.7, np.diag(spectra[1])], targets=w)  # a number is promoted
    np.testing.assert_allclose(mixed.targets()[0][0], 0.7 * w.T @ w / 8, rtol=1e-12)


def test_generic_means_beside_spectra_are_spread_over_all_atoms():
    gram = np.array([[1.0, 0.2], [0.2, 2.0]])
    law = mixture([0.5, 0.5], gram=gram, covariances=[[1.0, 2.0, 3.0], [1.0, 1.0, 4.0]])
    np.testing.assert_allclose(law.spectrum.gram, np.broadcast_to(gram / 3, (3, 2, 2)))


def test_mixture_without_means():
    law = mixture([0.5, 0.5], covariances=[1.0, 2.0])
    assert (law.mean.shape, law.spectrum.gram.shape) == ((2, 1, 0), (1, 0, 0))


@pytest.mark.parametrize(
    ("labels", "kind", "values"),
    [
        (None, "i", [0, 1]),
        ([1, 0], "i", [1, 0]),
        ([-1, 1], "f", [-1, 1]),
        ((-1, 1), "f", [-1, 1]),
        ([0.0, 1.0], "f", [0, 1]),
    ],
)
def test_labels_that_may_be_class_indices_stay_integers(labels, kind, values):
    law = mixture([0.5, 0.5], gram=np.eye(2), labels=labels)
    assert law.value.dtype.kind == kind
    assert law.value.tolist() == values


def test_labels_may_be_any_pytree():
    law = mixture([0.5, 0.5], gram=np.eye(2), labels={"class": [0, 1], "scale": [[1.0, 2.0], [3.0, 4.0]]})
    assert law.value["class"].dtype.kind == "i"
    assert law.value["scale"].shape == (2, 2)


def test_dense_mixture():
    rng = np.random.default_rng(2)
    factors, means = rng.normal(size=(2, 4, 4)), rng.normal(size=(2, 4))
    covariances = [f @ f.T for f in factors]
    with pytest.raises(ValueError, match="dense=True"):
        mixture([0.5, 0.5], means, covariances=covariances)
    law = mixture(
        [0.3, 0.3, 0.4], [*means, means[0]], covariances=[*covariances, covariances[0]], dense=True, targets=means[0]
    )
    assert isinstance(law, DenseTokens)
    assert law.covariances.shape == (2, 4, 4)  # the third is the first
    assert law.cov[:, 0].tolist() == [[1, 0], [0, 1], [1, 0]]
    np.testing.assert_allclose(law.targets()[1][0], [means[0] @ means[0] / 2])


def test_sequence_by_classes_is_the_sequence_by_coefficients():
    """Two tokens of a denoising problem: token 0 one of two clusters, token 1 pure noise."""
    mu = np.array([1.0, 0.0, 0.0])
    one = sequence([0.4, 0.6], classes=[(0, 2), (1, 2)], means=[mu, -mu, 0 * mu], covariances=[0.1, 0.2, 1.0])
    two = sequence([0.4, 0.6], mean=[[[1.0], [0]], [[-1], [0]]], cov=one.cov, means=[mu], covariances=[0.1, 0.2, 1.0])
    assert one.value.tolist() == [[0, 2], [1, 2]]
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        hats = [rng.uniform(size=(3, 1, 1)) for _ in range(2)]
        m_hat = rng.normal(size=(3, 1))
        rest = (np.zeros((3, 1, 0)), np.zeros((1, 1)))
        a = one.overlaps(Conjugates(*hats, m_hat, *rest), 0.1)
        b = two.overlaps(Conjugates(*hats, m_hat[:1] - m_hat[1:2], *rest), 0.1)
        np.testing.assert_allclose(a.q, b.q, rtol=1e-13)
        np.testing.assert_allclose(one.mean @ a.m, two.mean @ b.m, rtol=1e-13, atol=1e-16)


def test_random_scales_share_one_covariance_and_one_atom():
    s, w = nodes.lognormal(40, sigma=0.5)
    law = sequence(w, cov=s[:, None, None] ** 2, value=s, targets=1)
    assert law.spectrum.eigenvalues.shape == (1, 1)
    assert law.cov.shape == (40, 1, 1)
    assert law.value.tolist() == s.tolist()
    assert law.targets()[0].tolist() == [[[1.0]]]


def test_coefficients_of_equal_covariances_are_added():
    law = sequence([1.0], cov=[[[1.0, 2.0, 4.0]]], covariances=[1.0, 0.5, 1.0])
    assert law.spectrum.eigenvalues.tolist() == [[1.0, 0.5]]
    assert law.cov.tolist() == [[[5.0, 2.0]]]
    spectrum = SpectralLaw([0.5, 0.5], [[1.0, 3.0, 1.0], [2.0, 4.0, 2.0]])
    law = sequence([1.0], cov=[[[1.0, 2.0, 4.0]]], spectrum=spectrum)
    assert law.spectrum.eigenvalues.tolist() == [[1.0, 3.0], [2.0, 4.0]]
    assert law.cov.tolist() == [[[5.0, 2.0]]]


def test_covariance_coefficients_may_be_negative_where_the_sum_is_not():
    law = sequence([1.0], cov=[[[2.0, -1.0]]], covariances=[[1.0, 2.0], [2.0, 1.0]])
    assert law.cov.min() == -1.0
    with pytest.raises(ValueError, match="cov must give every token a covariance without negative eigenvalues, got -3"):
        sequence([1.0], cov=[[[1.0, -2.0]]], covariances=[[1.0, 2.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="must be positive semi-definite, got the eigenvalue -3"):
        sequence([1.0], cov=[[[1.0, -2.0]]], covariances=[[1.0, 2.0], [2.0, 1.0]], dense=True)


@pytest.mark.parametrize("dense", [False, True])
def test_a_free_mean_is_a_zero_row_between_means_and_targets(dense):
    means, w = np.array([[1.0, 0.0], [0.5, 1.0]]), np.array([1.0, 2.0])
    law = mixture([0.5, 0.5], means, covariances=[[1.0, 2.0]], targets=w, dense=dense)
    free = with_free_mean(law)
    assert free.free == (False, False, True)
    assert free.mean[:, 0].tolist() == [[1, 0, 1], [0, 1, 1]]
    np.testing.assert_allclose(free.targets()[0], law.targets()[0])
    np.testing.assert_allclose(free.targets()[1], [*law.targets()[1], [0.0]])
    with jax.enable_x64(True):
        hats = Conjugates(np.ones((1, 1, 1)), np.ones((1, 1, 1)), np.ones((2, 1)), np.ones((1, 1, 1)), np.zeros((1, 1)))
        more = hats._replace(m_hat=np.array([[1.0], [1.0], [7.0]]))
        a, b = law.overlaps(hats, 0.5), free.overlaps(more, 0.5)
        np.testing.assert_allclose(a.q, b.q, rtol=1e-14)
        np.testing.assert_allclose(b.m, [*a.m, [0.0]], rtol=1e-14)
    with pytest.raises(ValueError, match="must not have a free mean"):
        with_free_mean(free)


def test_with_free_mean_refuses_other_laws():
    with pytest.raises(TypeError, match="law must be a SpectralTokens or DenseTokens law"):
        with_free_mean(SpectralLaw.isotropic())


def test_from_data_pooled_and_by_class():
    rng = np.random.default_rng(3)
    X, y = rng.normal(size=(60, 4)), np.repeat(["a", "b"], [20, 40])
    law = from_data(X, y, labels=[-1, 1])
    np.testing.assert_allclose(law.prob, [1 / 3, 2 / 3])
    assert law.value.tolist() == [-1.0, 1.0]
    means = np.stack([X[y == k].mean(axis=0) for k in "ab"])
    np.testing.assert_allclose(law.spectrum.gram.sum(axis=0), means @ means.T, atol=1e-13)
    law = from_data(X, y, covariance="class")
    assert isinstance(law, DenseTokens)
    np.testing.assert_allclose(law.covariances[1], np.cov(X[y == "b"].T), atol=1e-13)


def test_laws_can_be_built_of_tracers(x64):
    def overlap(scale, weight):
        law = mixture([weight, 1 - weight], gram=[[1.0, 0.0], [0.0, 1.0]], covariances=[scale, 2.0])
        hats = Conjugates(np.ones((2, 1, 1)), np.ones((2, 1, 1)), np.ones((2, 1)), np.ones((2, 1, 0)), np.zeros((1, 1)))
        return jnp.sum(law.overlaps(hats, 0.5).V) + law.labels().prob[0]

    gradient = jax.grad(overlap, argnums=(0, 1))(1.0, 0.3)
    np.testing.assert_allclose(gradient, [0.5 / 3.5**2, 1.0], rtol=1e-12)


def test_spectral_tokens_defaults():
    law = SpectralTokens(SpectralLaw.isotropic(), [0.5, 0.5], mean=np.zeros((2, 3, 0)))
    assert law.cov.tolist() == np.ones((2, 3, 1)).tolist()
    assert law.value.tolist() == [0, 1]
    assert law.size == 1.0
