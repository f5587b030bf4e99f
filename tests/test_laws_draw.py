"""Instances: exact directions at every size, the right Gaussian tokens, reproducible streams."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quenched.laws import DenseTokens, SpectralLaw, SpectralTokens, mixture, nodes, sequence, single, with_free_mean
from quenched.laws.sampling import round_atoms


def total_gram(law):
    return law.spectrum.gram.sum(axis=0)


def drawn_gram(population):
    d = population.targets.shape[0]
    directions = np.vstack([population.means, population.targets.T / np.sqrt(d)])
    return directions @ directions.T


def assert_same(a, b, equal=True):
    assert np.array_equal(a.x, b.x) is equal
    assert np.array_equal(a.index, b.index) is equal


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    atoms=st.integers(1, 60),
    k=st.integers(0, 4),
    rank=st.integers(1, 4),
    extra=st.integers(0, 80),
)
def test_the_gram_matrix_is_exact_at_every_size(seed, atoms, k, rank, extra):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(atoms, min(rank, k), k))
    law = SpectralLaw(rng.dirichlet(np.ones(atoms)), rng.uniform(0, 2, (atoms, 2)), root.swapaxes(1, 2) @ root)
    tokens = SpectralTokens(law, [1.0], np.ones((1, 1, k // 2)), np.ones((1, 1, 2)))
    population = tokens.population(seed, max(1, k) + extra)
    np.testing.assert_allclose(drawn_gram(population), total_gram(tokens), atol=1e-12 * max(1, atoms))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), atoms=st.integers(1, 60), d=st.integers(1, 200))
def test_every_part_of_the_spectrum_keeps_its_share(seed, atoms, d):
    rng = np.random.default_rng(seed)
    law = SpectralLaw(rng.dirichlet(np.ones(atoms)), rng.uniform(0, 2, atoms))
    order, counts = round_atoms(law, d)
    assert np.all(np.diff(law.eigenvalues[order, 0]) >= 0)
    assert counts.sum() == d
    share = np.cumsum(law.weights[order]) * d
    assert np.abs(np.cumsum(counts) - share).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("d", [10, 100, 1000])
def test_counts_are_exact_where_they_can_be(d):
    law = SpectralLaw([0.5, 0.3, 0.2], [0.3, 1.0, 3.0])
    assert round_atoms(law, d)[1].tolist() == [d // 2, 3 * d // 10, d // 5]


def test_each_atom_has_its_own_gram_matrix_where_it_has_room():
    tau = np.array([[-1.2, 1.2], [-0.6, 0.9]])
    law = mixture([0.5, 0.5], spectrum=SpectralLaw([0.5, 0.5], [[0.5, 1.0], [1.5, 0.4]], directions=tau))
    population = law.population(0, 30)
    for s in (0, 1):
        here = population.covariances[0] == [0.5, 1.5][s]
        assert here.sum() == 15
        np.testing.assert_allclose(
            population.means[:, here] @ population.means[:, here].T, law.spectrum.gram[s], atol=1e-13
        )


@pytest.mark.parametrize("d", [7, 20, 33, 60])
def test_a_data_like_spectrum_at_fewer_and_more_coordinates(d):
    """One atom a coordinate with rank-one Gram matrices, as a data set has."""
    rng = np.random.default_rng(0)
    covariance = np.diag(rng.uniform(0.1, 2.0, 20))
    means, w = rng.normal(size=(4, 20)), rng.normal(size=20)
    law = mixture(np.full(4, 0.25), means, covariances=[covariance], targets=w)
    population = law.population(1, d)
    stacked = np.vstack([means, w / np.sqrt(20)])
    np.testing.assert_allclose(drawn_gram(population), stacked @ stacked.T, atol=1e-11)
    if d in (20, 60):  # then rho and all class variances are exact too
        rho = population.targets.T @ (population.covariances[0][:, None] * population.targets) / d
        np.testing.assert_allclose(rho, law.targets()[0][0], rtol=1e-12)


def test_a_spike_of_weight_zero_gets_its_coordinates():
    law = SpectralLaw([1.0, 0.0], [1.0, 5.0], [[[1.0, 0], [0, 0]], [[0, 0], [0, 1.0]]])
    tokens = SpectralTokens(law, [1.0], np.ones((1, 1, 1)))
    population = tokens.population(3, 50)
    assert np.sum(population.covariances == 5.0) == 1
    assert population.covariances.shape == (1, 50)
    assert population.targets[population.covariances[0] == 5.0] ** 2 == pytest.approx(50)


def test_too_few_coordinates_are_refused():
    law = mixture(np.full(3, 1 / 3), gram=np.eye(3), targets=1)
    with pytest.raises(ValueError, match="d must be at least 4, the number of independent directions, got 3"):
        law.draw(0, 5, 3)
    spike = SpectralTokens(
        SpectralLaw([1.0, 0.0], [1.0, 5.0], [np.zeros((2, 2)), np.eye(2)]), [1.0], np.ones((1, 1, 2))
    )
    with pytest.raises(ValueError, match="d must be at least 2, the rank of the atoms of weight zero, got 1"):
        spike.draw(0, 5, 1)


def make_laws():
    rng = np.random.default_rng(5)
    factor = rng.normal(size=(2, 5, 5)) / 2
    means, w = rng.normal(size=(2, 5)) / 2, rng.normal(size=(5, 2))
    s, p = nodes.gamma(6, 2.0)
    return {
        "single": (single([0.5, 2.0]), 20),
        "mixture": (
            with_free_mean(mixture([0.3, 0.7], means, covariances=[[1, 2, 3, 1, 1], [2, 1, 1, 1, 1]], targets=w)),
            15,
        ),
        "scales": (sequence(p, cov=s[:, None, None], value={"scale": s}, targets=1), 12),
        "pairs": (
            sequence([0.4, 0.1, 0.5], classes=[(0, 0), (0, 1), (1, 1)], gram=np.eye(2), covariances=[1.0, 0.3]),
            9,
        ),
        "dense": (
            with_free_mean(mixture([0.3, 0.7], means, covariances=[f @ f.T for f in factor], targets=w, dense=True)),
            10,
        ),
        "dense scales": (
            sequence(
                p, cov=np.stack([s, 1 + s], -1)[:, None], covariances=[f @ f.T for f in factor], targets=w, dense=True
            ),
            5,
        ),
    }


LAWS = make_laws()
laws = pytest.mark.parametrize(("law", "d"), LAWS.values(), ids=LAWS)


@laws
def test_shapes_and_kinds(law, d):
    n, (C, L, A), t = 11, law.mean.shape, law.targets()[0].shape[-1]
    data = law.draw((3, 1), n, d)
    assert data.x.shape == (n, L, d)
    assert data.x.dtype == data.target.dtype == data.free.dtype == np.float64
    assert data.index.shape == (n,)
    assert data.index.max() < C
    assert data.target.shape == (n, L, t)
    assert data.free.shape == (n, L, sum(law.free))
    assert np.all(data.free == 1.0)
    assert data.population.means.shape == (A, d)
    assert not np.any(data.population.means[np.flatnonzero(law.free)])
    values = data.value["scale"] if isinstance(data.value, dict) else data.value
    labels = law.value["scale"] if isinstance(law.value, dict) else law.value
    assert np.array_equal(values, labels[data.index])
    np.testing.assert_allclose(data.target, data.x @ data.population.targets / np.sqrt(d), rtol=1e-12, atol=1e-14)


@laws
def test_tokens_have_the_means_and_covariances_of_their_label(law, d):
    """Every entry within six standard errors, and those errors small."""
    data = law.draw(2, 60_000, d)
    population, labels = data.population, law.labels()
    S = population.covariances
    S = S[:, :, None] * np.eye(d) if S.ndim == 2 else S
    frequency = np.bincount(data.index, minlength=len(labels.prob)) / len(data.x)
    error = np.sqrt(labels.prob * (1 - labels.prob) / len(data.x))
    assert np.all(np.abs(frequency - labels.prob) <= 6 * error)
    for c in np.flatnonzero(labels.prob > 0.05):
        x = data.x[data.index == c]
        x = x - labels.mean[c] @ population.means
        flat = x.reshape(len(x), -1)
        L = x.shape[1]
        expected = np.zeros((L, d, L, d))
        for token in range(L):
            expected[token, :, token] = np.tensordot(labels.cov[c, token], S, axes=1)
        expected = expected.reshape(L * d, L * d)
        variance = np.diag(expected)
        assert np.all(np.abs(flat.mean(axis=0)) < 6 * np.sqrt(variance / len(x)))
        spread = np.sqrt((np.outer(variance, variance) + expected**2) / len(x))
        assert np.all(np.abs(flat.T @ flat / len(x) - expected) < 6 * spread)


@laws
def test_the_same_seed_gives_the_same_data(law, d):
    assert_same(law.draw(7, 50, d), law.draw(7, 50, d))
    assert_same(law.draw((7, 2), 50, d), law.draw((7, 2), 50, d))
    for other in (8, (7, 0), (7, 1), (0, 7)):
        assert not np.array_equal(law.draw(7, 50, d).x, law.draw(other, 50, d).x)


@laws
def test_a_test_set_comes_from_the_same_population(law, d):
    train = law.draw(7, 50, d)
    assert_same(train, law.sample(train.population, 7, 50))
    test = law.sample(train.population, (7, 1), 50)
    assert test.population is train.population
    assert not np.array_equal(train.x, test.x)
    assert np.array_equal(law.population(7, d).targets, train.population.targets)


def test_the_population_does_not_depend_on_the_sample_size():
    law = single([0.5, 2.0])
    assert np.array_equal(law.draw(1, 10, 30).population.targets, law.draw(1, 20, 30).population.targets)
    assert not np.array_equal(law.draw(1, 10, 30).population.targets, law.draw(2, 10, 30).population.targets)


def test_blocks_of_rows_do_not_change_the_numbers(monkeypatch):
    law, d = LAWS["pairs"]
    whole = law.draw(0, 40, d)
    monkeypatch.setattr("quenched.laws.sampling._BLOCK", 50)
    assert_same(whole, law.draw(0, 40, d))


@pytest.mark.parametrize("name", ["mixture", "dense"])
def test_memory_is_that_of_the_sample(name, monkeypatch):
    monkeypatch.setattr("quenched.laws.sampling._BLOCK", 1 << 17)  # 1 MB
    law, d = LAWS[name]
    population = law.population(0, 10 * d)
    tracemalloc.start()
    data = law.sample(population, 0, 3_000_000 // (10 * d))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rest = data.target.nbytes + data.free.nbytes + data.index.nbytes + data.value.nbytes
    assert data.x.nbytes > 20e6
    assert peak < data.x.nbytes + 2 * rest + 5e6


def test_a_law_without_directions_draws():
    data = mixture([0.5, 0.5], covariances=[1.0, 2.0]).draw(0, 4, 3)
    assert (data.x.shape, data.target.shape, data.population.means.shape) == ((4, 1, 3), (4, 1, 0), (0, 3))


def test_dense_directions_are_repeated():
    law, _ = LAWS["dense"]
    population = law.population(0, 15)
    d = 15
    rho, m_star = law.targets()
    w, S = population.targets, population.covariances
    np.testing.assert_allclose(w.T @ S @ w / d, rho, rtol=1e-12)
    np.testing.assert_allclose(population.means @ w / np.sqrt(d), m_star, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(population.means @ population.means.T, law.means @ law.means.T, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="d must be a multiple of 5, the dimension of the law's matrices, got 12"):
        law.population(0, 12)


@pytest.mark.parametrize("seed", [-1, 1.5, "a", (1, -2), None, (1, "b")])
@pytest.mark.parametrize("name", ["single", "dense"])
def test_bad_seeds(name, seed):
    law, d = LAWS[name]
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0"):
        law.draw(seed, 5, d)


@pytest.mark.parametrize(("n", "d", "name"), [(0, 10, "n"), (2.5, 10, "n"), (5, 0, "d"), (5, 10.0, "d")])
def test_bad_sizes(n, d, name):
    for law in (single(), DenseTokens(np.eye(1), None, None, [1.0])):
        with pytest.raises(ValueError, match=f"{name} must be a whole number"):
            law.draw(0, n, d)


def test_ridge_regression_on_drawn_data_reaches_the_published_overlaps():
    """Three atoms, alpha = 2, weight decay 0.5, noise variance 0.25: theory q, theta, Q = .396606, .421634, .415315."""
    law = single(SpectralLaw([0.5, 0.3, 0.2], [0.3, 1.0, 3.0], directions=[[1.0], [1.0], [0.5]]))
    d, found = 300, []
    for seed in range(24):
        data = law.draw(seed, 2 * d, d)
        X = data.x[:, 0] / np.sqrt(d)
        y = data.target[:, 0, 0] + 0.5 * np.random.default_rng((seed, 99)).normal(size=2 * d)
        w = np.linalg.solve(X.T @ X + 0.5 * np.eye(d), X.T @ y)
        gamma, w_star = data.population.covariances[0], data.population.targets[:, 0]
        found.append([w @ (gamma * w) / d, w @ (gamma * w_star) / d, w @ w / d])
    error = np.std(found, axis=0, ddof=1) / np.sqrt(len(found))
    assert np.all(error < 0.01)
    assert np.all(np.abs(np.mean(found, axis=0) - [0.396606, 0.421634, 0.415315]) < 4 * error)
