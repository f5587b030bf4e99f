"""More samples than dimensions: the staircase of kernels, and networks of quadratic units, as published and as they are."""

import numpy as np
import pytest

from quenched.finite import quadratic_network as quadratic_messages
from quenched.finite.learners import KernelRegression, Ridge
from quenched.laws.kernel import DeepKernel
from quenched.laws.wishart import denoise, denoised
from quenched.limit import quadratic_network
from quenched.limit.staircase import multiplicities, one_step, plateaus
from quenched.problems import BayesOptimalDeep, QuadraticNetwork


def check(found, want):
    np.testing.assert_allclose(found, want, atol=6e-7)


def test_staircase_as_published():
    n = np.array([254, 637, 1274, 2293])
    table = {
        1: [(0.15459, 0.11739, 0.07222, 0.04354), (0.19614, 0.13229, 0.07796, 0.04520), (0.22185, 0.19666, 0.18900, 0.18571)],
        2: [(0.18702, 0.16384, 0.13498, 0.10878), (0.23025, 0.18017, 0.14194, 0.11104), (0.24651, 0.22112, 0.21284, 0.20921)],
    }
    series = {1: (0.318310, 0.5, 0.159155, 0.0, 0.013263), 2: (0.493731, 0.301558, 0.137961, 0.029198, 0.015920)}
    assert multiplicities(50, 2).tolist() == [1.0, 50.0, 1274.0]
    for depth in (1, 2):
        p = BayesOptimalDeep((1.2,) * depth, "relu", "regression", 1.0, weight_variances=2.0)
        s = p.target.series(20)
        check(s.terms[:5], series[depth])
        found = [
            one_step(2, s, s, n / 1274, 1e-3).test_mse, p.staircase(n, 50, weight_decay=1e-3).test_mse,
            p.ridge(alpha=n / 50).test_mse,
        ]  # fmt: skip
        np.testing.assert_allclose(found, table[depth], atol=6e-6)
        np.testing.assert_allclose(one_step(2, s, s, [1e-9, 1e9]).test_mse, plateaus(s)[1:3], rtol=1e-6)


def test_staircase_meets_the_proportional_regime():
    """At n ~ d in many dimensions the sum over degrees is ridge regression on the inputs."""
    p, student = BayesOptimalDeep((1.4, 1.4), "erf", "regression", 1.0), DeepKernel(("erf", "erf"), (3.0, 2.0), 1.5)
    wide = p.staircase(np.array([5000, 20000]), dim=10**4, student=student, weight_decay=0.2).test_mse
    np.testing.assert_allclose(wide, p.kernel(student, 0.2, alpha=[0.5, 2.0]).test_mse, rtol=2e-3)
    s = p.target.series(9)
    assert one_step(1, s, s, 1.0).test_mse == pytest.approx(p.solve()["test_mse"], abs=1e-9)
    with pytest.raises(ValueError, match="degree must be one that the student's kernel has"):
        one_step(2, s, s, 1.0)  # odd networks have no even degrees


def test_quadratic_network_as_published():
    found = [denoised(k, t) for k in (0.5, 1.0) for t in (0.2, 1.0)]
    check(found, (0.133083, 0.498519, 0.144391, 0.443869))
    for numbers, best, kernel in (((0.5, 0.3, 0.25), 0.532514, 0.940746), ((1.0, 0.4, 0.1), 0.212617, 0.310850)):
        solution = QuadraticNetwork(*numbers[:2], noise=numbers[2]).solve()
        assert solution.result and solution.stable
        check([solution["mmse"], solution["kernel_mmse"]], (best, kernel))
    n = 0.3 * 80**2
    shifted = QuadraticNetwork(0.5, n / (80 * 81 - 2), 0.25 * 82 / 80).solve()
    np.testing.assert_allclose(shifted["mmse"], 0.5477, atol=6e-5)


@pytest.mark.slow
def test_thresholds_of_the_quadratic_network():
    for k, threshold in ((0.5, 0.375), (0.8, 0.48), (1.0, 0.5), (2.0, 0.5)):
        below, above = (QuadraticNetwork(k, threshold + shift).solve() for shift in (-0.002, 0.002))
        assert below["mmse"] > 1e-5 and above["mmse"] == 0.0 and above.result
        np.testing.assert_allclose(QuadraticNetwork(k, 0.51).solve()["kernel_mmse"], 0.0, atol=1e-12)
    for k, alpha in ((1e9, 1e-9), (1e6, 1e9), (1e-4, 1e-9), (1e-4, 1e9)):  # at the ends of what is allowed
        extreme = QuadraticNetwork(k, alpha, 1.0).solve()
        assert extreme.converged
        if k > 1.0:  # S is the identity and a matrix of normal noise, of which a kernel knows all
            np.testing.assert_allclose(extreme["mmse"], extreme["kernel_mmse"], rtol=1e-5)
    with pytest.raises(ValueError, match=r"width_ratio must be a number in \[0.0001, 1e\+09\], got 1e\+300"):
        QuadraticNetwork(1e300, 1e-12)
    wide = QuadraticNetwork(300.0, 0.3, 0.1).solve()
    np.testing.assert_allclose(wide["mmse"], wide["kernel_mmse"], rtol=5e-3)
    assert wide["mmse"] <= wide["kernel_mmse"]


def test_the_denoiser_reaches_its_error():
    rng, d = np.random.default_rng(1), 400
    for k, t in ((0.5, 0.2), (1.0, 1.0)):
        w, G = rng.standard_normal((round(k * d), d)), rng.standard_normal((d, d))
        S = w.T @ w / len(w)
        seen = S + np.sqrt(t / (2.0 * d)) * (G + G.T)
        estimate, told = quadratic_messages.estimate(seen, k, t)
        np.testing.assert_allclose(estimate, denoise(seen, k, t), atol=1e-12)
        # the experiment knows its error from the derivative of its denoiser, the theory from an integral over the spectrum
        np.testing.assert_allclose([np.sum((estimate - S) ** 2) / d, told], denoised(k, t), rtol=0.02)
    assert quadratic_network.kernel(0.5, 0.3, 0.25).residual < 1e-12


def deviations(trials, theory):
    """(mean - theory) in standard errors, with a shift of 2/d of the value beside them."""
    found = {}
    for name, value in theory.items():
        estimate = trials[name]
        found[name] = float(abs(estimate.mean - value) / (estimate.standard_error + 2.0 * abs(value) / trials.dim))
    return found


@pytest.mark.thorough
@pytest.mark.slow
def test_kernels_beyond_the_proportional_regime():
    for depth, n in ((1, 1274), (2, 637)):
        p = BayesOptimalDeep((50, *[60] * depth), "relu", "regression", 1.0, weight_variances=2.0)
        ridge = p.ridge(alpha=n / 50)
        learners = {"kernel": KernelRegression(p.target, 1e-3), "ridge": Ridge(float(ridge.weight_decay))}
        trials = p.simulate(seeds=8, samples=n, sphere=True, learners=learners, test_samples=1000)
        drawn = trials.values["target_slope"] + trials.values["target_rest"]
        for name, want in (("kernel", p.staircase(n, 50, weight_decay=1e-3).test_mse), ("ridge", ridge.test_mse)):
            values = trials.values[f"{name}_test_mse"] * p.total / drawn
            assert abs(values.mean() - want) < 3.0 * values.std(ddof=1) / np.sqrt(8) + 2.0 * want / 50, (depth, name)


@pytest.mark.thorough
@pytest.mark.slow
def test_quadratic_networks_by_message_passing():
    for k, alpha, noise in ((0.5, 0.3, 0.25), (1.0, 0.4, 0.1)):
        trials = QuadraticNetwork(k, alpha, noise).simulate(dim=80, seeds=8)
        assert not trials.not_converged
        n = round(alpha * 80**2)
        theory = QuadraticNetwork(k, n / (80 * 81 - 2), noise * 82 / 80).solve()  # most of the shift of order 1/d
        found = deviations(trials, {name: theory[name] for name in ("mmse", "test_mse_clean", "kernel_mmse")})
        assert max(found.values()) < 3.0, found
