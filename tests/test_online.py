"""One-pass SGD: closed equations of motion against formulas, and against actual SGD (slow)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import solve_ivp

import quenched as qn
from quenched.problems.base import SolveWarning


def ridge(**changes):
    given = {"alpha": 1.0, "weight_decay": 0.1, "noise": 0.1} | changes
    return qn.problems.GeneralizedLinear("square", "linear", **given)


def test_least_squares_is_linear_in_the_moments():
    eta, decay, noise, t = 0.4, 0.3, 0.1, np.linspace(0.0, 6.0, 9)
    path = ridge(noise=noise).online(eta, t, decay, {"Q": 0.5, "theta": 0.2})
    # theta' = eta (1 - (1 + decay) theta), q' = 2 eta (theta - (1 + decay) q) + eta^2 (q - 2 theta + 1 + noise)
    matrix = np.array([[-eta * (1 + decay), 0.0], [2 * eta - 2 * eta**2, -2 * eta * (1 + decay) + eta**2]])
    push = np.array([eta, eta**2 * (1 + noise)])
    exact = solve_ivp(lambda _, y: matrix @ y + push, (0, 6.0), [0.2, 0.5], t_eval=t, rtol=1e-11, atol=1e-12).y
    assert path.converged and np.allclose(path["theta"], exact[0], atol=1e-7) and np.allclose(path["q"], exact[1], atol=1e-7)
    assert np.allclose(path["test_loss"], 0.5 * (path["q"] - 2 * path["theta"] + 1 + noise), atol=1e-12)


@pytest.mark.slow
def test_phase_retrieval_has_polynomial_equations():
    eta, t = 0.05, np.linspace(0.0, 40.0, 9)
    path = qn.problems.PhaseRetrieval(alpha=1.0, weight_decay=0.1).online(eta, t, 0.0, {"Q": 0.6, "theta": 0.1})

    def motion(_, y):
        q, m = y
        noise = 15 * q**3 - 2 * (3 * q**2 + 12 * q * m**2) + 3 * q + 12 * m**2
        return [-2 * eta * (3 * q**2 - q - 2 * m**2) + eta**2 * noise, -eta * (3 * q * m - 3 * m)]

    exact = solve_ivp(motion, (0, t[-1]), [0.6, 0.1], t_eval=t, rtol=1e-11, atol=1e-12).y
    assert np.allclose(path["q"], exact[0], atol=1e-6) and np.allclose(path["theta"], exact[1], atol=1e-6)
    assert path["theta"][-1] > 0.8  # it has escaped from the saddle


def half_square(h, target):
    return 0.5 * (h[0, 0] - target[0, 0]) ** 2


def two_atoms(**changes):
    spectrum = qn.laws.SpectralLaw([0.25, 0.75], [2.0, 0.5], directions=[[1.5], [0.5]])
    law = qn.laws.SpectralTokens(spectrum, prob=[1.0], cov=[[[1.0]]])
    given = dict(law=law, loss=half_square, alpha=1.0, weight_decay=0.1)
    return qn.SequenceProblem(**(given | changes))


def test_every_atom_has_its_own_time():
    eta, t = 1e-3, np.linspace(0.0, 2000.0, 9)
    path = two_atoms().online(eta, t, 0.0, {"Q": 0.0})
    # gradient flow: the coordinates of an atom are w = (1 - exp(-gamma eta t)) w_*, and the noise is of order eta
    kept = np.exp(-np.array([2.0, 0.5]) * eta * t[:, None])
    mass = np.array([0.25 * 1.5**2, 0.75 * 0.5**2])
    assert np.allclose(path["theta"][:, 0, 0, 0], (1 - kept) @ (mass * [2.0, 0.5]), atol=1e-6)
    assert np.allclose(path["Q"][:, 0, 0], (1 - kept) ** 2 @ mass, atol=3e-3)


@pytest.mark.slow
def test_free_means_and_scalars_move():
    problem = qn.problems.GeneralizedLinear("square", "linear", alpha=1.0, weight_decay=0.1, intercept=True)
    path = problem.online(0.5, 2.0, 0.0, {"m": 1.0}, scalar_rate=0.3)
    assert np.allclose(path["m"], np.exp(-0.3 * path.times), atol=1e-7)

    law = qn.laws.single()
    shifted = qn.SequenceProblem(
        law, lambda h, scalars: 0.5 * (h[0, 0] + scalars["b"] - 2.0) ** 2, alpha=1.0, weight_decay=0.1, scalars={"b": 0.5}
    )
    assert np.allclose(shifted.online(0.5, 2.0)["b"], 2.0 - 1.5 * np.exp(-0.5 * path.times), atol=1e-7)


@pytest.mark.thorough
@pytest.mark.slow
def test_derivatives_are_those_of_differences():
    def error(learning_rate, noise):
        return ridge(noise=noise).online(learning_rate, [1.0, 2.0], 0.0)["test_mse"][-1]

    with jax.enable_x64(True):
        slopes = jax.grad(error, argnums=(0, 1))(0.4, 0.1)
    step = 1e-4
    assert np.isclose(slopes[0], (error(0.4 + step, 0.1) - error(0.4 - step, 0.1)) / (2 * step), rtol=1e-5)
    assert np.isclose(slopes[1], (error(0.4, 0.1 + step) - error(0.4, 0.1 - step)) / (2 * step), rtol=1e-5)
    with jax.enable_x64(True):  # the error is linear in the noise: the same slope where it vanishes
        assert np.isclose(jax.grad(error, argnums=1)(0.4, 0.0), slopes[1], rtol=1e-6)


def test_a_path_that_diverges_keeps_what_is_finite():
    with pytest.warns(SolveWarning, match="online descent"):
        path = ridge().online(30.0, np.linspace(0.0, 2.0, 9), 0.0)
    assert not path.converged and 0 < len(path.times) < 9 and np.isfinite(path["q"]).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (dict(learning_rate=0.0, time=1.0), "learning_rate must be"),
        (dict(learning_rate=0.1, time=-1.0), "time must be positive"),
        (dict(learning_rate=0.1, time=[1.0, 0.5]), "increasing times"),
        (dict(learning_rate=0.1, time=1.0, weight_decay=-1.0), "weight_decay must be"),
        (dict(learning_rate=0.1, time=1.0, init="best"), "init must be"),
        (dict(learning_rate=0.1, time=1.0, init={"theta": 0.9, "Q": 0.5}), r"init\['Q'\] must be at least"),
        (dict(learning_rate=0.1, time=1.0, init={"q": 0.5}), "q follows from them"),
        (dict(learning_rate=0.1, time=1.0, init={"gram": np.ones((1, 1, 1))}), "both 'gram' and 'projections'"),
        (dict(learning_rate=0.1, time=1.0, init={"gram": [[[0.5]]], "projections": [[[0.9]]]}), r"init\['gram'\] must be at least"),
        (dict(learning_rate=0.1, time=1.0, init=[1.0]), "init must be a named start, a dict of overlaps or a Solution"),
    ],
)
def test_bad_input_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        ridge().online(**arguments)


def test_overlaps_that_no_weights_have_are_refused():
    with pytest.raises(ValueError, match="m and theta that weights can have"):
        law = qn.laws.mixture(weights=[0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=[1.0, 1.0], labels=[-1, 1])
        qn.SequenceProblem(law, "logistic", 1.0, 0.1).online(0.1, 1.0, init={"m": [[0.3], [0.3]]})


def test_paths_are_interpolated_drawn_and_animated(tmp_path):
    from PIL import Image

    path = ridge().online(0.5, np.linspace(0.0, 2.0, 9), 0.0)
    assert np.allclose(path.at([1.23, 0.5])["theta"], 1 - np.exp(-0.5 * np.array([1.23, 0.5])), atol=1e-8)
    with pytest.raises(ValueError, match="time must be in the path"):
        path.at(2.5)
    stored = dataclasses.replace(path, again=None)
    assert np.array_equal(stored.at(path.times[[3, 1]])["theta"], path["theta"][[3, 1]]) and stored.at(0.0)["q"] == path["q"][0]
    with pytest.raises(TypeError, match="look its stored times up"):
        stored.at(0.5 * path.times[1])
    assert path.plot("theta").get_ylabel()
    with Image.open(path.animate(tmp_path / "path.gif", frames=5)) as picture:
        assert picture.n_frames == 5
    with pytest.raises(ValueError, match="path must end in .gif"):
        path.animate(tmp_path / "path.png")


def outside(path, trials, names, shift=0.0):
    """The share of entries (over stored times) that are more than three standard errors (and ``shift``) from the theory."""
    misses = []
    for name in names:
        estimate = trials[name]
        misses.append((np.abs(estimate.mean - path[name]) > 3.0 * estimate.standard_error + shift + 1e-12).ravel())
    return np.concatenate(misses).mean()


def along_target(c):
    """theta of weights c w_* plus noise."""
    return [[[c * (0.25 * 1.5**2 * 2.0 + 0.75 * 0.5**2 * 0.5)]]]


def test_the_experiment_starts_where_the_theory_does_and_follows_it():
    path = two_atoms().online(0.5, np.linspace(0.0, 4.0, 9), 0.2, {"Q": 1.0, "theta": along_target(0.2)})
    trials = path.simulate(dim=200, seeds=6)
    start = {name: np.ravel(trials[name].values[:, 0] - path[name][0]) for name in ("q", "theta", "Q")}
    assert all(np.abs(gap).max() < 1e-9 for gap in start.values())
    assert trials.settings["times"] == path.times.tolist() and outside(path, trials, ("q", "theta", "Q"), shift=1e-2) <= 0.05
    again = path.simulate(dim=200, seeds=[2])
    assert np.array_equal(again.values["q"][0], trials.values["q"][2])


def test_overlaps_measured_on_weights_are_a_start():
    problem = two_atoms()
    times = np.linspace(0.0, 1.0, 9)
    trials = problem.online(0.5, times).simulate(dim=200, seeds=1, exact_start=False)
    measured = {name: trials.values[f"initial_{name}"][0] for name in ("gram", "projections")}
    assert abs(measured["projections"]).max() > 1e-3
    path = problem.online(0.5, times, init=measured)
    assert np.allclose(path["theta"][0], trials.values["theta"][0, 0], atol=1e-12)
    assert np.allclose(path["Q"][0], trials.values["Q"][0, 0], atol=1e-12)


def test_a_sample_does_not_depend_on_when_it_is_measured():
    few, more = (ridge().online(0.5, t, 0.0).simulate(60, seeds=[3], test_samples=0) for t in ([0.0, 4.0], [0.0, 1.1, 3.0, 4.0]))
    assert np.allclose(few["theta"].mean[-1], more["theta"].mean[-1], atol=1e-12)


def test_gram_matrices_must_be_symmetric():
    with pytest.raises(ValueError, match=r"init\['Q'\] must be symmetric"):
        qn.problems.Committee(2, 2, "erf", 1.0, 0.1).online(0.5, 2.0, 0.0, {"Q": [[1.0, 0.5], [0.0, 1.0]]})


def test_names_of_its_own_are_refused():
    with pytest.raises(ValueError, match="must not be called 'test_loss'"):
        two_atoms(observables={"test_loss": lambda h: h[0, 0]}).online(0.1, 1.0)


@pytest.mark.slow
def test_a_scalar_that_is_given_does_not_move_with_the_problem():
    def end(b):
        problem = qn.SequenceProblem(qn.laws.single(), shifted_square, alpha=1.0, weight_decay=0.1, scalars={"b": b})
        return problem.online(0.5, [0.0, 1.0], init={"b": 0.0})["b"][-1]

    with jax.enable_x64(True):
        value, slope = jax.value_and_grad(end)(0.5)
    assert np.isclose(value, 2.0 * (1.0 - np.exp(-0.5)), atol=1e-6) and float(slope) == 0.0


def shifted_square(h, scalars):
    return 0.5 * (h[0, 0] + scalars["b"] - 2.0) ** 2


@pytest.mark.thorough
@pytest.mark.slow
def test_derivatives_at_kinks_are_refused():
    problem = qn.SequenceProblem(qn.laws.single(), kinked_square, 1.0, 0.1)
    with jax.enable_x64(True), pytest.raises(ValueError, match="not smooth enough for derivatives"):
        jax.grad(lambda eta: problem.online(eta, [0.0, 2.0], 0.1, {"Q": 0.5, "theta": [[[0.2]]]})["theta"][-1].ravel()[0])(0.5)


def kinked_square(h, target):
    return 0.5 * (jax.nn.relu(h[0, 0]) - jax.nn.relu(target[0, 0])) ** 2


@pytest.mark.slow
@pytest.mark.parametrize("start", ["informed", "centroid-1"])
def test_named_starts_of_autoencoders(start):
    law = qn.laws.mixture([0.5, 0.5], gram=[[2.0, -1.0], [-1.0, 2.0]], covariances=[0.3, 0.3])
    path = qn.problems.DenoisingAutoencoder(law, alpha=1.0, noise=0.4, weight_decay=0.1).online(0.2, [0.0, 0.2], 0.1, start)
    assert path.converged and np.abs(path["m"][0]).max() > 0.1


@pytest.mark.slow
def test_labels_by_sign_learn_as_sgd_of_its_own_does():
    """Logistic regression on signs, against steps that are written out in NumPy."""
    path = qn.problems.GeneralizedLinear("logistic", "sign", alpha=1.0, weight_decay=0.1).online(
        0.6, [0.0, 3.0], 0.1, {"Q": 0.5, "theta": 0.2}
    )
    d, eta, decay, ends = 300, 0.6, 0.1, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        target, other = np.linalg.qr(rng.standard_normal((d, 2)))[0].T * np.sqrt(d)
        w = 0.2 * target + np.sqrt(0.5 - 0.04) * other
        for x in rng.standard_normal((3 * d, d)):
            y = np.sign(x @ target)
            w = w + eta * y / (1.0 + np.exp(y * (x @ w) / np.sqrt(d))) * x / np.sqrt(d) - eta * decay / d * w
        ends.append([w @ w / d, w @ target / d])
    mean, error = np.mean(ends, axis=0), np.std(ends, axis=0, ddof=1) / np.sqrt(len(ends))
    theory = np.array([path["Q"].ravel()[-1], path["theta"].ravel()[-1]])
    assert np.all(np.abs(mean - theory) < 3.0 * error + 2.0 / d), (mean, theory, error)


@pytest.mark.thorough
@pytest.mark.slow
def test_a_link_that_jumps_is_a_label():
    jumping, named = (
        qn.problems.GeneralizedLinear("square", target, 1.0, 0.1).online(0.5, [0.0, 1.0, 2.0], 0.0) for target in (jnp.sign, "sign")
    )
    assert np.allclose(jumping["theta"], named["theta"], atol=1e-6) and np.allclose(jumping["q"], named["q"], atol=1e-6)


@pytest.mark.slow
def test_a_committee_specialises():
    """Actual SGD is laid over it in the figure online-committee."""
    problem = qn.problems.Committee(2, 2, "erf", alpha=1.0, weight_decay=0.1, noise=0.01)
    start = {"Q": [[0.3, 0.05], [0.05, 0.2]], "theta": [[[0.05, 0.0], [0.0, 0.02]]]}
    path = problem.online(1.0, np.linspace(0.0, 60.0, 16), 0.0, start)
    theta = path["theta"]
    plateau, end = theta[3], theta[-1]
    assert abs(plateau[0, 0] - plateau[0, 1]) < 0.1 and end[0, 0] - end[0, 1] > 0.5  # units are alike first, then specialise
    norms = np.diagonal(path["Q"], axis1=1, axis2=2)
    own = np.arcsin(path["Q"] / np.sqrt((1 + norms[:, :, None]) * (1 + norms[:, None, :]))).sum((1, 2))
    cross = np.arcsin(theta / np.sqrt(2 * (1 + norms[:, :, None]))).sum((1, 2))
    exact = 2 / np.pi * (own + 2 * np.arcsin(0.5) - 2 * cross)  # D. Saad, S. Solla (1995)
    assert np.allclose(path["test_mse"], exact, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_an_autoencoder_of_clusters_learns_as_actual_sgd_does():
    law = qn.laws.mixture(weights=[0.5, 0.5], gram=[[2.0, -2.0], [-2.0, 2.0]], covariances=[0.3, 0.3])
    problem = qn.problems.DenoisingAutoencoder(law, alpha=1.0, noise=0.4, weight_decay=0.1)
    path = problem.online(0.3, np.linspace(0.0, 6.0, 9), 0.1, {"Q": 0.4, "m": [[0.3], [-0.3]]})
    assert path["test_loss"][-1] < path["test_loss"][0]
    trials = path.simulate(dim=500, seeds=24, test_samples=0)  # eight may all lie on one side
    assert outside(path, trials, ("q", "m", "Q"), shift=2.0 / 500) <= 0.05


@pytest.mark.slow
def test_a_loss_with_a_kink_learns_as_actual_sgd_does():
    law = qn.laws.mixture(weights=[0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=[1.0, 1.0], labels=[-1, 1])
    path = qn.SequenceProblem(law, "hinge", 1.0, 0.1).online(0.5, np.linspace(0.0, 4.0, 9), 0.5, {"Q": 0.5})
    trials = path.simulate(dim=400, seeds=8)
    assert outside(path, trials, ("q", "m", "Q", "test_loss"), shift=2.0 / 400) <= 0.05


def denoising_loss(h, gram, params):
    b, alpha, beta = params["b"], params["alpha"], params["beta"]
    s = jnp.tanh(beta * h[0] + alpha * h[1])
    return 0.5 * s @ gram @ s - s @ ((1 - b * beta) * h[0] - b * alpha * h[1])


@pytest.mark.slow
def test_a_denoiser_learns_as_the_equations_of_diffusion_models_say():
    """Automatic differentiation of the stated loss, and the equations that are written out for diffusion models."""
    law = qn.laws.mixture([0.7, 0.3], means=[[2.5, 0.0], [-1.0, 1.5]])
    pairs = qn.problems.DenoisingAutoencoder(law, alpha=1.0, noise=0.4, weight_decay=0.1).pairs
    numbers = {"b": 0.5, "alpha": 0.4, "beta": 0.6}
    times = np.linspace(0.0, 8.0, 9)
    gram = np.array([[6.25, -2.5], [-2.5, 3.25]])
    path = qn.SequenceProblem(pairs, denoising_loss, 1.0, 0.05, params=numbers).online(
        0.3, times, init={"Q": 0.04 * gram[0, 0], "m": 0.2 * gram[:, :1]}
    )
    other = qn.problems.OnlineDiffusion(
        law, units=1, activation="tanh", learning_rate=0.3, weight_decay=0.05, times=[(0.4, 0.6)], training_time=8.0,
        skip_learning_rate=0.0, initialisation={"informed": 0.2, "b": 0.5},
    ).online(saveat=times)  # fmt: skip
    assert np.allclose(path["m"], other["M"], rtol=1e-5, atol=1e-6) and np.allclose(path["Q"], other["Q"], rtol=1e-5, atol=1e-6)
    assert np.allclose(path["test_loss"], other["L"], rtol=1e-5, atol=1e-6)
