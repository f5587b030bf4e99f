"""The experiment: against closed forms and published theory values, and its bookkeeping."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf
from scipy.optimize import brentq

from quenched.finite.align import align_to_targets
from quenched.finite.data import draw
from quenched.finite.minimise import minimise
from quenched.finite.simulate import seed_list, simulate
from quenched.laws import SpectralLaw, SpectralTokens
from quenched.losses.base import Loss
from quenched.losses.named import absolute, hinge, logistic, softmax, square
from quenched.losses.response import Additive, Sign


def ridge_law():
    """Three eigenvalues, the target stronger in the small ones."""
    weights, target = np.array([0.5, 0.3, 0.2]), np.array([1.0, 1.0, 0.5])
    gram = (weights * target**2)[:, None, None]
    return SpectralTokens(SpectralLaw(weights, np.array([[0.3], [1.0], [3.0]]), gram), prob=[1.0])


def two_classes(intercept=False):
    """Two blocks of coordinates, classes -1 and +1 of unequal covariance, the second with probability 1/4."""
    tau = np.array([[-1.2, 1.2], [-0.6, 0.9]])
    gram, mean = np.einsum("sa,sb->sab", tau, tau) / 2, np.eye(2)[:, None, :]
    if intercept:
        gram, mean = np.pad(gram, ((0, 0), (0, 1), (0, 1))), np.concatenate([mean, np.ones((2, 1, 1))], axis=2)
    spectrum = SpectralLaw(np.array([0.5, 0.5]), np.array([[0.5, 1.0], [1.5, 0.4]]), gram)
    free = (False, False, True) if intercept else None
    return SpectralTokens(spectrum, [0.75, 0.25], mean, np.eye(2)[:, None, :], np.array([-1.0, 1.0]), free=free)


def isotropic(t=1):
    return SpectralTokens(SpectralLaw.isotropic(gram=np.eye(t)), prob=[1.0])


def ridge_theory(alpha, weight_decay, variance):
    """The deterministic equivalent of ridge regression on :func:`ridge_law`: test error and overlaps."""
    w, g, pi = np.array([0.5, 0.3, 0.2]), np.array([0.3, 1.0, 3.0]), np.array([1.0, 1.0, 0.5])
    kappa = brentq(lambda k: alpha - weight_decay / k - w @ (g / (g + k)), 1e-9, 1e9, xtol=1e-14)
    leak = w @ (g / (g + kappa)) ** 2 / alpha
    test = (kappa**2 * (w @ (g * pi**2 / (g + kappa) ** 2)) + variance * leak) / (1 - leak)
    V_hat = weight_decay / kappa
    q_hat = V_hat**2 * (test + variance) / alpha
    A, B = weight_decay + V_hat * g, V_hat * g * pi
    V = w @ (g / A)
    return {
        "test_mse": test,
        "q": w @ (g * (B**2 + q_hat * g) / A**2),
        "Q": w @ ((B**2 + q_hat * g) / A**2),
        "theta": w @ (g * pi * B / A),
        "train_mse": (test + variance) / (1 + V) ** 2,
    }


ERROR = {"test_error": lambda h, label: label * h[0, 0] < 0}
SQUARES = {
    "test_mse": lambda h, target: (h[0, 0] - target[0, 0]) ** 2,
    "test_mse_noisy": lambda h, label: (h[0, 0] - label) ** 2,
}
TRAIN = {"train_mse": lambda h, label: (h[0, 0] - label) ** 2}


def deviations(trials, theory):
    """(mean - theory) in standard errors, for every entry."""
    out = {}
    for name, value in theory.items():
        mean, error, _ = trials[name]
        out[name] = np.max(np.abs(np.ravel(mean) - np.ravel(value)) / np.ravel(error))
    return out


def agree(trials, theory, sigmas=3.0):
    assert not trials.not_converged
    found = deviations(trials, theory)
    assert max(found.values()) < sigmas, found


@pytest.mark.parametrize(("alpha", "weight_decay"), [(2.0, 0.5), (0.7, 0.1), (4.0, 0.05)])
def test_ridge_agrees_with_the_closed_form(alpha, weight_decay):
    trials = simulate(
        ridge_law(), square, alpha=alpha, weight_decay=weight_decay, dim=400, seeds=8, response=Additive(0.25),
        observables=SQUARES, training_observables=TRAIN,
    )  # fmt: skip
    theory = ridge_theory(alpha, weight_decay, 0.25)
    agree(trials, theory | {"test_mse_noisy": theory["test_mse"] + 0.25})
    assert trials.n == round(alpha * 400) and trials.seeds == tuple(range(8))
    # the same numbers in another way, on every seed: fresh samples against overlaps, and the energy's two parts
    from_overlaps = trials.values["q"] - 2 * trials.values["theta"]
    gap = trials.values["test_mse"] - from_overlaps[:, 0, 0, 0]  # = rho, the same for all seeds
    assert gap.std() < 4 * np.sqrt(2 / 10_000) * theory["test_mse"]
    energy = alpha * trials.values["train_loss"] + 0.5 * weight_decay * trials.values["Q"][:, 0, 0]
    np.testing.assert_allclose(energy, trials.values["free_energy"], rtol=1e-3)
    np.testing.assert_allclose(trials.values["train_mse"], 2 * trials.values["train_loss"], rtol=1e-10)


def test_the_closed_form_is_the_published_one():
    theory = ridge_theory(2.0, 0.5, 0.25)
    np.testing.assert_allclose(
        [theory[k] for k in ("test_mse", "q", "theta", "Q")], [0.153338733, 0.396606, 0.421634, 0.415315], atol=6e-7
    )
    np.testing.assert_allclose(ridge_theory(0.7, 0.1, 0.25)["test_mse"], 0.409913, atol=6e-7)


# Order parameters of H. Cui (2024), arXiv:2409.13904, solved to six digits for the two-class law above.
CLASSES = {
    ("logistic", 1.5, 0.2): dict(
        q=(1.326450, 1.330473), m=(-0.928164, 1.010715), Q=1.635649, free_energy=0.541121, test_error=0.205225
    ),
    ("logistic", 0.8, 0.02): dict(
        q=(5.271073, 4.606666), m=(-1.452979, 1.583905), Q=5.976392, free_energy=0.112609, test_error=0.255126
    ),
    ("hinge", 1.5, 0.2): dict(
        q=(1.417835, 1.465169), m=(-0.855000, 0.921506), Q=1.781438, free_energy=0.280968, test_error=0.233083
    ),
    ("hinge", 0.8, 0.02): dict(
        q=(1.075395, 0.942927), m=(-0.587413, 0.637753), Q=1.221664, free_energy=0.0122166, test_error=0.278075
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CLASSES, ids=str)
def test_two_classes_agree_with_theory(case):
    name, alpha, weight_decay = case
    loss = {"logistic": logistic, "hinge": hinge}[name]
    trials = simulate(two_classes(), loss, alpha=alpha, weight_decay=weight_decay, dim=600, seeds=16, observables=ERROR)
    agree(trials, CLASSES[case])


@pytest.mark.slow
def test_a_trained_intercept_agrees_with_theory():
    trials = simulate(two_classes(True), logistic, alpha=1.5, weight_decay=0.2, dim=600, seeds=12, observables=ERROR)
    theory = dict(q=(1.109591, 1.150580), m=(-0.829673, 0.917188, -1.056262), Q=1.397180)
    agree(trials, theory | dict(free_energy=0.461567, test_error=0.165417))


@pytest.mark.slow
def test_sign_labels_agree_with_theory():
    trials = simulate(
        isotropic(), logistic, alpha=2.0, weight_decay=0.1, dim=600, seeds=12, response=Sign(0.0), observables=ERROR
    )
    theory = dict(theta=1.7203130926, q=4.1458036207, test_error=0.1796623929, train_loss=0.1821496441)
    agree(trials, theory)


@pytest.mark.slow
def test_three_class_softmax_agrees_with_theory():
    gamma = np.array([[0.6, 1.0, 0.8], [1.2, 0.7, 0.8], [0.6, 1.0, 0.8]])
    tau = np.array([[1.5, -1.0, 0.0], [-1.0, 1.5, 0.5], [0.0, -0.5, -1.5]])
    gram = np.einsum("sa,sb->sab", tau, tau) / 3
    each = np.eye(3)[:, None, :]
    law = SpectralTokens(SpectralLaw(np.full(3, 1 / 3), gamma, gram), [0.5, 0.3, 0.2], each, each, np.arange(3))
    trials = simulate(law, softmax, alpha=2.0, weight_decay=0.2, units=3, dim=450, seeds=12)
    trials = trials.map(lambda row: row | {"Q": row["Q"][np.triu_indices(3)], "m": np.diag(row["m"])})
    Q = (1.400968, -0.898858, -0.502110, 1.068777, -0.169919, 0.672029)
    agree(trials, dict(Q=Q, m=(0.891990, 0.679809, 0.228547), free_energy=1.094369, train_loss=0.390096))


@pytest.mark.slow
def test_phase_retrieval_from_the_truth_and_from_random_starts():
    loss = Loss(lambda h, target, noise: 0.25 * (h[0, 0] ** 2 - target[0, 0] ** 2 - 0.2 * noise) ** 2, convex=False)
    given = dict(alpha=3.0, weight_decay=0.2, dim=600, seeds=8, align=align_to_targets(signs=True))
    informed = simulate(isotropic(), loss, init="informed", **given)
    agree(informed, dict(q=0.923488, theta=0.954724, free_energy=0.116278))
    uninformed = simulate(isotropic(), loss, init="random", **given)  # poor minima
    assert np.all(uninformed.values["theta"] >= 0) and uninformed["theta"].mean.item() < 0.5
    assert uninformed["free_energy"].mean > 3 * informed["free_energy"].mean


@pytest.mark.thorough
@pytest.mark.slow
def test_committee_from_the_truth():
    def total(h):
        return jnp.sum(erf(h[0] / jnp.sqrt(2.0)))

    loss = Loss(lambda h, target, noise: 0.5 * (total(h) - total(target) - 0.3 * noise) ** 2, convex=False)
    trials = simulate(
        isotropic(2), loss, alpha=6.0, weight_decay=0.2, units=2, dim=400, seeds=8, init="informed",
        align=align_to_targets(), observables={"half_mse": lambda h, target: 0.5 * (total(h) - total(target)) ** 2},
    )  # fmt: skip
    assert not trials.not_converged
    # Replica symmetry is only approximate here, so the reference is an independent simulation (d = 400, 6 seeds),
    # whose entries are averages over the two equivalent units.
    halves = trials.map(
        lambda row: {
            "q_aa": np.trace(row["q"][0]) / 2,
            "q_ab": row["q"][0, 0, 1],
            "theta_aa": np.trace(row["theta"][0]) / 2,
            "theta_ab": (row["theta"][0, 0, 1] + row["theta"][0, 1, 0]) / 2,
            "free_energy": row["free_energy"],
            "half_mse": row["half_mse"],
        }
    )
    reference = dict(
        q_aa=(0.479, 0.008), q_ab=(0.220, 0.005), theta_aa=(0.580, 0.010), theta_ab=(0.243, 0.010),
        free_energy=(0.3309, 0.0021), half_mse=(0.0194, 0.0005),
    )  # fmt: skip
    for name, (value, value_error) in reference.items():
        mean, error, _ = halves[name]
        assert abs(mean - value) < 3 * np.hypot(error, value_error), (name, mean, error)


def small(**changes):
    given = dict(law=two_classes(), loss=logistic, alpha=1.5, weight_decay=0.2, dim=40, seeds=3)
    return simulate(**(given | dict(observables=ERROR, test_samples=200) | changes))


def test_every_seed_is_reproducible_on_its_own():
    whole, alone = small(seeds=4), small(seeds=[2])
    for name in whole.values:
        np.testing.assert_array_equal(whole.values[name][2], alone.values[name][0])
    assert len(np.unique(whole.values["free_energy"])) == 4


def test_threads_give_the_same_numbers():
    serial, parallel = small(seeds=6), small(seeds=6, n_jobs=3)
    for name in serial.values:
        np.testing.assert_array_equal(serial.values[name], parallel.values[name])
    assert parallel.seeds == serial.seeds and not jax.config.jax_enable_x64


def test_the_trials_are_those_of_the_minimiser():
    trials = small(law=two_classes(True), seeds=[5])
    data, population = draw(two_classes(True), logistic, alpha=1.5, dim=40, seed=5)
    fit = minimise(data, logistic, 0.2)
    np.testing.assert_allclose(trials.values["Q"][0], fit.w.T @ fit.w / 40, rtol=1e-12)
    np.testing.assert_allclose(trials.values["m"][0, 2], fit.free[0])
    np.testing.assert_allclose(trials.values["m"][0, 0], population.means[0] @ fit.w / np.sqrt(40))
    np.testing.assert_allclose(trials.values["free_energy"][0], fit.risk / 40)
    assert "cosine" not in trials  # there is no target


def test_scalars_and_params():
    loss = Loss(
        lambda h, label, scalars, params: params["c"] * jnp.logaddexp(0.0, -label * (h[0, 0] + scalars["bias"])),
        convex=True,
    )
    as_scalar = small(loss=loss, scalars={"bias": 0.0}, params={"c": 1.0})
    as_mean = small(law=two_classes(True))
    np.testing.assert_allclose(as_scalar.values["bias"], as_mean.values["m"][:, 2, 0], rtol=1e-5)
    np.testing.assert_allclose(as_scalar.values["free_energy"], as_mean.values["free_energy"], rtol=1e-10)


def test_seeds_that_do_not_converge_are_warned_of_and_left_out():
    loss = Loss(lambda h, label: jnp.logaddexp(0.0, -label * h[0, 0]))
    with pytest.warns(RuntimeWarning, match="left out of the averages: seed 0 .not converged"):
        trials = small(loss=loss, weight_decay=0.0, alpha=0.3, seeds=2)
    assert set(trials.not_converged) == {0, 1} and "test_error" not in trials.values
    with pytest.raises(ValueError, match="no seed converged"):
        trials["Q"]


def test_a_shifted_test_law():
    shifted = two_classes()
    flipped = SpectralTokens(shifted.spectrum, [0.25, 0.75], shifted.mean, shifted.cov, shifted.value)

    def fresh(population, seed, n):
        return flipped.sample(population._replace(labels=flipped.labels()), seed, n)

    positive = {"positive": lambda label: label > 0}
    here, there = small(observables=positive), small(observables=positive, fresh=fresh)
    assert here["positive"].mean < 0.4 and there["positive"].mean > 0.6


def test_alignment_acts_on_weights_and_free_means():
    plain = small(law=two_classes(True))
    turned = small(law=two_classes(True), align=lambda w, population: -np.eye(1))
    np.testing.assert_allclose(turned.values["m"], -plain.values["m"])
    np.testing.assert_allclose(turned.values["test_error"], 1 - plain.values["test_error"])
    with pytest.raises(ValueError, match="align must return an orthogonal matrix"):
        small(align=lambda w, population: 2 * np.eye(1))


def test_progress_is_told_after_every_seed():
    calls = []
    small(progress=lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_kinked_losses_are_certified_by_their_gap():
    trials = small(law=isotropic(), loss=absolute, response=Additive(0.3), observables=None)
    assert not trials.not_converged and np.all(trials.optimality < 1e-10)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(alpha=-1.0), "alpha must be positive, got -1.0"),
        (dict(dim=0), "dim must be a whole number of at least 1, got 0"),
        (dict(dim=40.5), "dim must be a whole number of at least 1, got 40.5"),
        (dict(weight_decay=-0.1), "weight_decay must be non-negative, got -0.1"),
        (dict(seeds=0), "seeds must be a whole number of at least 1, got 0"),
        (dict(seeds=[0, 0]), "seeds must differ from each other"),
        (dict(seeds=[-1]), "seeds must be a whole number of at least 0, got -1"),
        (dict(test_samples=0), "test_samples must be a whole number of at least 1, got 0"),
        (dict(n_jobs=0), "n_jobs must be a whole number of at least 1, got 0"),
        (
            dict(observables={"q": lambda h: h[0, 0]}),
            "observables and scalars must have names of their own, got 'q' twice",
        ),
        (dict(observables={"a": lambda x: x}), "observable 'a' asks for the argument 'x'"),
        (dict(init="teacher"), "init must be one of"),
    ],
)
def test_refuses(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        small(**change)


def test_seed_lists():
    assert seed_list(np.arange(2)) == (0, 1) and seed_list(range(3, 5)) == (3, 4)
    with pytest.raises(ValueError, match="seeds must be a whole number"):
        seed_list("12")
