"""Speed of the engine, compile time apart: ``python -m pytest benchmarks/bench_engine.py --benchmark-only``.

Figures asked for on two cores: ridge below 1 ms, logistic below 5 ms (weight decay 1e-3: 10 ms), at residual 1e-10 and
quadrature error 1e-7; a grid of 1,000 logistic points below 4 s; an autoencoder of one unit on 500 atoms below 100 ms;
both branches of attention below 2 s, its phase diagram of 30 x 30 points below 8 min.
"""

import jax.numpy as jnp
import numpy as np
import pytest

import quenched as qn
from quenched.laws.readout import feature_law
from quenched.limit.feature_ridge import feature_ridge
from quenched.numerics.density import spectral_density

GLM = qn.problems.GeneralizedLinear
ACCURATE = dict(tol=1e-10, quadrature_tol=1e-7)
CASES = {
    "ridge": GLM("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1),
    "logistic": GLM("logistic", "sign", alpha=2.0, weight_decay=0.1),
    "logistic, small weight decay": GLM("logistic", "sign", alpha=2.0, weight_decay=1e-3),
    "hinge": GLM("hinge", "sign", alpha=2.0, weight_decay=0.1),
}


@pytest.mark.parametrize("name", CASES)
def test_solve(benchmark, name):
    solution = CASES[name].solve(**ACCURATE)  # compiles
    assert solution.converged
    benchmark(lambda: CASES[name].solve(**ACCURATE))


def test_grid_of_1000_logistic_points(benchmark):
    logistic = CASES["logistic"]
    points = [
        logistic.replace(alpha=a, weight_decay=w) for a in np.geomspace(0.2, 20, 40) for w in np.geomspace(1e-3, 10, 25)
    ]
    solutions = qn.problems.solve_many(points)  # compiles
    print(f"failed: {[s.problem for s in solutions if not s.converged]}")
    benchmark.pedantic(lambda: qn.problems.solve_many(points), rounds=3)


def test_gradient(benchmark):
    CASES["logistic"].gradient("test_error", "weight_decay")
    benchmark(lambda: CASES["logistic"].gradient("test_error", "weight_decay"))


@pytest.mark.parametrize("dim", [1000, 4000])
def test_experiment(benchmark, dim):
    benchmark.pedantic(lambda: CASES["logistic"].simulate(dim=dim, seeds=1), rounds=3)


def test_autoencoder_of_500_atoms(benchmark):
    i = (np.arange(500) + 0.5) / 500
    spectra = [0.6 * np.exp(-3 * i), 0.3 * (0.3 + 1.4 * (i > 0.5))]
    means = [np.ones(500) / np.sqrt(500), -0.8 * i / np.linalg.norm(i)]
    law = qn.laws.mixture([0.6, 0.4], means=means, covariances=spectra)
    problem = qn.problems.DenoisingAutoencoder(law, alpha=1.0, noise=0.3, weight_decay=0.1)
    assert problem.solve().converged  # compiles
    benchmark(problem.solve)


ATTENTION = qn.problems.Attention(1.5, 0.01, 0.3, [[0.6, 0.4], [0.4, 0.6]], token_std=0.5)
HINGE_BY_HAND = GLM(lambda h, label: jnp.maximum(0.0, 1.0 - label * h), "sign", alpha=2.0, weight_decay=0.1)


def test_both_branches_of_attention(benchmark):
    found = ATTENTION.branches(tol=1e-6)  # compiles
    assert set(found) == {"positional", "semantic"}
    print({name: s.quadrature_error for name, s in found.items()})
    benchmark.pedantic(lambda: ATTENTION.branches(tol=1e-6), rounds=3)


def test_phase_diagram_of_attention(benchmark):
    """30 x 30 points with both branches, compile time included."""
    from quenched.figures import attention_phase_diagram

    benchmark.pedantic(attention_phase_diagram.study, rounds=1)


def test_hinge_written_by_hand(benchmark):
    assert HINGE_BY_HAND.solve(**ACCURATE).converged  # compiles
    benchmark(lambda: HINGE_BY_HAND.solve(**ACCURATE))


def _features(loss, **parameters):
    network = qn.laws.DeepNetwork(width_ratios=[1.5, 1.25], activations="tanh")
    target = qn.laws.DeepNetwork(width_ratios=[1.25], activations="sign")
    return qn.problems.DeepFeatures(network, target, loss, alpha=2.0, weight_decay=0.1, **parameters)


@pytest.mark.parametrize("loss", ["square", "logistic", "hinge"])
def test_deep_features(benchmark, loss):
    """Averaged weights: the square loss below 5 ms, others below 100 ms."""
    problem = _features(loss)
    assert problem.solve(**ACCURATE).converged  # compiles
    benchmark(lambda: problem.solve(**ACCURATE))


def test_deep_features_in_closed_form(benchmark):
    problem = _features("square")
    problem.ridge()
    benchmark(problem.ridge)


@pytest.mark.parametrize("activation", ["tanh", "relu", "hard_tanh"])
def test_learning_curve_of_given_weights(benchmark, activation):
    """100 sample sizes for d = p = 2000, from the weights on: below 10 s."""
    learner = qn.laws.DeepNetwork((2000, 2000), activation).draw(seed=0)
    target = qn.laws.DeepNetwork((2000, 2000), "sign").draw(seed=1)
    readout = np.random.default_rng(2).standard_normal(2000)

    def curve():  # not by way of a problem, which keeps the law of its features
        return feature_ridge(feature_law(learner, target, readout=readout), np.geomspace(0.1, 10, 100), 0.1, 0.1)

    assert np.all(np.isfinite(curve().test_mse))  # compiles
    benchmark.pedantic(curve, rounds=2)


def test_spectral_density(benchmark):
    chain = _features("square").law.chain
    spectral_density(chain, 0.625)  # compiles
    benchmark.pedantic(lambda: spectral_density(chain, 0.625), rounds=3)


def _step(loss="square", **changes):
    given = dict(alpha=1.6, alpha0=20.0, learning_rate=3.0, width_ratio=1.0, activation="tanh", target="sin", weight_decay=0.1)
    return qn.problems.OneGradientStep(**(given | changes), loss=loss)


@pytest.mark.parametrize("readout", [(1.0,), (1.0, -1.0)])
def test_one_gradient_step_in_closed_form(benchmark, readout):
    """Ridge regression after the step: below 10 ms."""
    problem = _step(readout_values=readout)
    problem.ridge()
    benchmark(lambda: problem.replace(weight_decay=0.2).ridge())


@pytest.mark.parametrize("loss", ["square", "logistic"])
def test_one_gradient_step(benchmark, loss):
    """The engine after the step: below 0.5 s."""
    problem = _step(loss, target="sign") if loss == "logistic" else _step()
    problem.solve()  # compiles
    benchmark(problem.solve)


def test_spectrum_after_one_gradient_step(benchmark):
    """The density of the features' covariance: below 3 s."""
    problem = _step()
    problem.feature_density()  # compiles
    benchmark.pedantic(problem.feature_density, rounds=3)


def test_online_committee(benchmark):
    """The plateau of two erf units, 85 adaptive steps on two quadratures."""
    problem = qn.problems.Committee(2, 2, "erf", alpha=1.0, weight_decay=0.1, noise=0.01)
    start = {"Q": [[0.3, 0.05], [0.05, 0.2]], "theta": [[[0.05, 0.0], [0.0, 0.02]]]}

    def path():
        return problem.online(1.0, np.linspace(0.0, 60.0, 16), 0.0, start)

    assert path().converged  # compiles
    benchmark.pedantic(path, rounds=3)
