"""Order parameters of finite weights, averages over samples, starts and the alignment of equivalent minimisers."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quenched.finite.align import align_to_means, align_to_targets, signed_permutation
from quenched.finite.data import Data, draw, outcomes, sample_size, stream
from quenched.finite.observe import averages, cosines, fresh_averages, order_parameters
from quenched.finite.result import Minimiser, Status
from quenched.finite.starts import start
from quenched.laws import SpectralLaw, SpectralTokens
from quenched.laws.base import Labels, Population
from quenched.losses.base import Loss
from quenched.losses.named import logistic
from quenched.losses.response import Additive, Sign


def fit_of(w, free=None, scalars=None):
    free = np.zeros((0, w.shape[1])) if free is None else free
    return Minimiser(w, free, scalars or {}, 0.0, 0.0, 0.0, "gradient", Status.CONVERGED, 0, "none")


def population(d=6, t=2, dense=False, seed=0):
    rng = np.random.default_rng(seed)
    covariances = rng.uniform(0.5, 2.0, size=(2, d))
    if dense:
        covariances = np.stack([np.diag(c) for c in covariances])
    means = np.vstack([rng.normal(size=(2, d)), np.zeros((1, d))])
    labels = Labels(np.array([0.3, 0.7]), np.ones((2, 1, 3)), np.eye(2)[:, None, :], np.array([-1.0, 1.0]))
    return Population(covariances, means, rng.normal(size=(d, t)), labels)


def test_order_parameters_are_their_definitions():
    people, rng = population(), np.random.default_rng(1)
    w, free = rng.normal(size=(6, 2)), rng.normal(size=(1, 2))
    for covariances in (people.covariances, np.stack([np.diag(c) for c in people.covariances])):
        found = order_parameters(fit_of(w, free), people._replace(covariances=covariances), (False, False, True))
        for b, c in enumerate(people.covariances):
            np.testing.assert_allclose(found["q"][b], w.T @ np.diag(c) @ w / 6)
            np.testing.assert_allclose(found["theta"][b], w.T @ np.diag(c) @ people.targets / 6)
        np.testing.assert_allclose(found["m"], np.vstack([people.means[:2] @ w / np.sqrt(6), free]))
        np.testing.assert_allclose(found["Q"], w.T @ w / 6)


def test_cosine_is_one_along_the_target_and_zero_for_zero_weights():
    people = population(dense=True)
    w = np.column_stack([3.0 * people.targets[:, 1], np.zeros(6)])
    found = cosines(fit_of(w), people)
    np.testing.assert_allclose([found[0, 1], *found[1]], [1.0, 0.0, 0.0])
    average = 0.3 * people.covariances[0] + 0.7 * people.covariances[1]
    a, b = people.targets.T
    np.testing.assert_allclose(found[0, 0], b @ average @ a / np.sqrt((a @ average @ a) * (b @ average @ b)))


def test_averages_pass_arguments_by_name_and_count_booleans():
    rng = np.random.default_rng(0)
    data = Data(
        rng.normal(size=(9, 2, 4)), np.zeros((9, 2, 0)), rng.normal(size=(9, 2, 1)), *rng.normal(size=(2, 9))
    )  # fmt: skip
    w = rng.normal(size=(4, 1))
    functions = {
        "all": lambda h, gram, target, label, noise, scalars, params: (
            h[0, 0] + gram[0, 0] + target[1, 0] + label + noise + scalars["b"] + params["c"]
        ),
        "negative": lambda h, label: label * h[0, 0] < 0,
        "array": lambda h: h,
        "loss": Loss(lambda h, label: h * label, scalar=True),
    }
    found = averages(functions, fit_of(w, scalars={"b": np.array(2.0)}), data, {"c": 3.0})
    h = data.x @ w / 2
    expected = h[:, 0, 0] + w.T @ w / 4 + data.target[:, 1, 0] + data.label + data.noise + 5.0
    np.testing.assert_allclose(found["all"], expected.mean(), rtol=1e-13)
    assert found["negative"] == np.mean(data.label * h[:, 0, 0] < 0)
    np.testing.assert_allclose(found["array"], h.mean(axis=0))
    np.testing.assert_allclose(found["loss"], np.mean(h[:, 0, 0] * data.label))


def test_an_observable_that_is_not_finite_is_an_error():
    data = Data(np.ones((3, 1, 2)), np.zeros((3, 1, 0)), np.zeros((3, 1, 0)))
    with pytest.raises(ValueError, match="observable 'bad' must be finite on every sample"):
        averages({"bad": lambda h: jnp.log(-1.0 - h[0, 0] ** 2)}, fit_of(np.ones((2, 1))), data)


def test_fresh_averages_use_every_batch_once(monkeypatch):
    law = SpectralTokens(SpectralLaw.isotropic(gram=[[1.0]]), prob=[1.0])
    people = law.population(0, 20)
    drawn = []

    def sample(population, seed, n):
        drawn.append(law.sample(population, seed, n))
        return drawn[-1]

    monkeypatch.setattr("quenched.finite.observe._ENTRIES", 1000)
    fit = fit_of(np.random.default_rng(0).normal(size=(20, 1)))
    found = fresh_averages({"h2": lambda h: h[0, 0] ** 2}, fit, people, sample, n=170, seed=3)
    x = np.concatenate([instance.x for instance in drawn])
    assert len(drawn) == 4 and len(x) == 172  # 170 samples in equal batches of at most 1000 numbers
    assert len(np.unique(x[:, 0, 0])) == 172
    np.testing.assert_allclose(found["h2"], np.mean((x[:, 0] @ fit.w[:, 0]) ** 2) / 20)


def test_fresh_averages_are_the_gaussian_ones():
    law = SpectralTokens(SpectralLaw.isotropic(gram=[[1.0]]), prob=[1.0])
    people = law.population(0, 50)
    fit = fit_of(2.0 * people.targets)
    found = fresh_averages(
        {"mse": lambda h, label: (h[0, 0] - label) ** 2, "z": lambda noise: noise**2},
        fit, people, law.sample, Additive(0.5), n=40_000, seed=0,
    )  # fmt: skip
    np.testing.assert_allclose(found["mse"], 1.0 + 0.5, atol=5 * 1.5 * np.sqrt(2 / 40_000))
    np.testing.assert_allclose(found["z"], 1.0, atol=5 * np.sqrt(2 / 40_000))


class TestData:
    law = SpectralTokens(SpectralLaw.isotropic(gram=[[1.0]]), prob=[1.0])

    def test_the_instance_is_that_of_the_law_with_the_same_seed(self):
        data, people = draw(self.law, logistic, Sign(0.1), alpha=1.5, dim=21, seed=4)
        instance = self.law.draw(4, 32, 21)
        np.testing.assert_array_equal(data.x, instance.x)
        np.testing.assert_array_equal(people.targets, instance.population.targets)
        np.testing.assert_allclose(data.target[:, 0], data.x[:, 0] @ people.targets / np.sqrt(21))
        assert set(data.label.tolist()) == {-1.0, 1.0} and data.noise is None

    def test_noise_is_drawn_for_losses_that_name_it(self):
        data, _ = draw(self.law, Loss(lambda h, noise: h[0, 0] * noise), alpha=1.0, dim=30, seed=(1, 2))
        assert data.noise.shape == (30,) and data.label.tolist() == [0] * 30

    def test_an_outcome_of_one_token_and_one_target_is_one_number(self):
        assert draw(self.law, logistic, Additive(0.1), alpha=1.0, dim=30, seed=0)[0].label.shape == (30,)
        two = SpectralTokens(SpectralLaw.isotropic(gram=np.eye(2)), prob=[1.0])
        assert draw(two, logistic, Additive(0.1), alpha=1.0, dim=30, seed=0)[0].label.shape == (30, 1, 2)

    def test_streams_differ(self):
        seeds = [stream(s, p) for s in (0, 1, (0, 1), (1, 0)) for p in ("response", "noise", "test", "start")]
        first = [np.random.default_rng(seed).random() for seed in seeds]
        assert len(set(first)) == len(first)

    def test_test_outcomes_differ_from_training_outcomes(self):
        instance = self.law.draw(0, 50, 10)
        train, test = (outcomes(instance, Additive(1.0), seed=0, noise=True, test=test) for test in (False, True))
        assert not np.any(train.label == test.label) and not np.any(train.noise == test.noise)

    def test_a_response_of_the_wrong_length_is_refused(self):
        class Short(Sign):
            def draw(self, rng, target):
                return np.ones(3)

        with pytest.raises(
            ValueError, match=r"response must draw one outcome per sample, \(50, ...\), got the shape \(3,\)"
        ):
            outcomes(self.law.draw(0, 50, 10), Short(), seed=0)

    @pytest.mark.parametrize(("alpha", "dim", "n"), [(2.0, 400, 800), (0.7, 1000, 700), (1e-9, 10, 1), (1.1, 15, 16)])
    def test_sample_size(self, alpha, dim, n):
        assert sample_size(alpha, dim) == n

    @pytest.mark.parametrize(
        ("alpha", "dim", "sentence"),
        [(-1.0, 10, "alpha must be positive, got -1.0"), (1.0, 0, "dim must be a whole number of at least 1, got 0")],
    )
    def test_refuses(self, alpha, dim, sentence):
        with pytest.raises(ValueError, match=sentence):
            sample_size(alpha, dim)


class TestStarts:
    rng = np.random.default_rng(0)

    def test_targets_first(self):
        people = population(t=2)
        w = start("informed", 6, 3, rng=self.rng, population=people)
        np.testing.assert_array_equal(w[:, :2], people.targets)
        assert 0 < np.abs(w[:, 2]).max() < 0.5
        np.testing.assert_array_equal(start("informed", 6, 1, rng=self.rng, population=people), people.targets[:, :1])

    def test_one_unit_without_target_goes_along_label_times_input(self):
        people = population(t=0)
        people = people._replace(labels=people.labels._replace(mean=np.eye(3)[:2][:, None, :]))
        w = start("informed", 6, 1, rng=self.rng, population=people)[:, 0]
        direction = 0.7 * people.means[1] - 0.3 * people.means[0]
        np.testing.assert_allclose(w, np.sqrt(6) * direction / np.linalg.norm(direction))

    def test_units_without_target_go_along_the_class_means(self):
        people = population(t=0)
        w = start("informed", 6, 2, rng=self.rng, population=people)
        for k in range(2):
            np.testing.assert_allclose(w[:, k], np.sqrt(6) * people.means[k] / np.linalg.norm(people.means[k]))

    def test_arrays_zero_and_random(self):
        np.testing.assert_array_equal(start(np.arange(3.0), 3, 1, rng=self.rng), [[0.0], [1.0], [2.0]])
        assert not start("zero", 4, 2, rng=self.rng).any()
        w = start("random", 4000, 1, rng=self.rng, scale=0.5)
        np.testing.assert_allclose(w.T @ w / 4000, 0.25, rtol=0.1)

    def test_refuses_what_has_no_direction(self):
        people = population(t=0)._replace(means=np.zeros((3, 6)))
        with pytest.raises(
            ValueError, match="init must not be 'informed' where there is neither a target nor a class mean"
        ):
            start("informed", 6, 1, rng=self.rng, population=people)


@given(st.integers(1, 4), st.integers(0, 4), st.booleans(), st.integers(0, 10**6))
def test_signed_permutation_is_the_best_one(r, k, signs, seed):
    overlap = np.random.default_rng(seed).normal(size=(r, k))
    found = signed_permutation(overlap, np.ones(r), signs)
    np.testing.assert_allclose(found.T @ found, np.eye(r))
    assert signs or np.all(found >= 0)
    common = min(r, k)

    def total(units, targets):
        chosen = overlap[list(units), list(targets)]
        return np.abs(chosen).sum() if signs else chosen.sum()

    best = max(
        (
            total(u, t)
            for u in itertools.permutations(range(r), common)
            for t in itertools.combinations(range(k), common)
        ),
        default=0.0,
    )
    if r >= k:  # every target has its unit, in the order of the targets
        np.testing.assert_allclose(np.trace((found.T @ overlap)[:k]), best, atol=1e-12)


def test_alignment_undoes_a_symmetry():
    rng = np.random.default_rng(3)
    people = population(d=50, t=3)
    w = people.targets + 0.1 * rng.normal(size=(50, 3))
    hidden = w[:, [2, 0, 1]] * np.array([1.0, -1.0, -1.0])
    np.testing.assert_allclose(hidden @ align_to_targets(signs=True)(hidden, people), w)
    swapped = w[:, [1, 2, 0]]
    np.testing.assert_allclose(swapped @ align_to_targets()(swapped, people), w)
    means = np.sqrt(50) * people.means[:2].T
    np.testing.assert_allclose(-means @ align_to_means()(-means, people), means)


def test_units_without_a_target_follow_by_size():
    people = population(d=6, t=1)
    target = people.targets[:, 0]
    w = np.column_stack([-0.1 * target, -2.0 * target, target])
    np.testing.assert_array_equal(w @ align_to_targets()(w, people), w[:, [2, 1, 0]])
