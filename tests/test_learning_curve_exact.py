"""Learning curves against brute force and closed forms: nothing here is a matter of tolerance for real data."""

import gzip
import struct

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import quenched as qn
from quenched.laws import real
from quenched.limit.leave_one_out import LeaveOneOut
from quenched.limit.mixture import Mixture
from quenched.limit.score_errors import ScoreNoise, wrong


def gaussian(n, p, seed, noise=0.3):
    """Anisotropic inputs, and targets of known noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, p)) / np.sqrt(np.arange(1.0, p + 1.0))
    return x, x @ np.cos(np.arange(p)) + np.sqrt(noise) * rng.normal(size=n)


def refits(x, y, penalty, intercept):
    """Residuals of each row from scikit-learn's fit to the others."""
    model = Ridge(alpha=penalty, fit_intercept=intercept)
    rows = [np.arange(len(x)) != i for i in range(len(x))]
    return np.array([y[i] - model.fit(x[r], y[r]).predict(x[i : i + 1])[0] for i, r in enumerate(rows)])


@pytest.mark.parametrize("intercept", [False, True])
def test_wide_rows_are_left_out_exactly(intercept):
    x, y = gaussian(25, 60, 1)
    loo = LeaveOneOut.of(x, y[:, None], intercept=intercept)
    assert loo.interpolates
    np.testing.assert_allclose(loo.residuals(0.02)[:, 0], refits(x, y, 0.02, intercept), rtol=1e-6)


def test_all_penalties_at_once_are_each_by_itself():
    x, y = gaussian(40, 9, 2)
    loo = LeaveOneOut.of(x, np.stack([y, -2.0 * y + x[:, 0]], axis=1), intercept=True)
    penalties = np.geomspace(1e-3, 1e3, 7)
    single = [np.mean(loo.residuals(a) ** 2, axis=1) for a in penalties]
    np.testing.assert_allclose(loo.row_errors(penalties), single, rtol=1e-12)


def test_rows_of_even_leverage_have_the_plain_kappa():
    """Cosines and sines: all rows have the same leverage, and kappa and df2 are those of even rows."""
    angles = 2.0 * np.pi * np.outer(np.arange(80), np.arange(1, 16)) / 80
    x = np.hstack([np.cos(angles), np.sin(angles)]) / np.tile(np.arange(1.0, 16.0), 2)
    loo = LeaveOneOut.of(x, x[:, :1], intercept=True)
    a = np.array([0.01, 1.0, 50.0])
    f = loo.freedom(a)
    np.testing.assert_allclose(f.df1, np.sum(loo.eigenvalues / (loo.eigenvalues + a[:, None]), axis=1), rtol=1e-12)
    np.testing.assert_allclose(f.kappa * (79 - f.df1), a, rtol=1e-9)
    slope = np.sum(loo.eigenvalues / (loo.eigenvalues + a[:, None]) ** 2, axis=1)  # -ddf1/da
    np.testing.assert_allclose(f.df2, 79 - (79 - f.df1) ** 2 / (79 - f.df1 - a * slope), rtol=0.02)


@pytest.mark.parametrize("p", [150, 600])
def test_uneven_rows_have_the_kappa_of_their_population(p):
    """Rows of scale 0.2 and 1.8: kappa solves ``a g/df1``, ``n mean(g tau/(1 + g tau)) = df1``, ``df1 = p/(1 + kappa)``."""
    from scipy.optimize import brentq

    rng = np.random.default_rng(6)
    tau = np.tile([0.2, 1.8], 150)
    x = np.sqrt(tau)[:, None] * rng.normal(size=(300, p))
    loo = LeaveOneOut.of(x, x[:, :1], intercept=False)
    for a in (0.1, 10.0, 200.0):

        def excess(log_kappa, a=a):
            df1 = p / (1.0 + np.exp(log_kappa))
            g = np.exp(log_kappa) * df1 / a
            return 300 * np.mean(g * tau / (1.0 + g * tau)) - df1

        kappa = np.exp(brentq(excess, -12.0, 8.0))
        assert loo.freedom(a).kappa[0] == pytest.approx(kappa, rel=0.03)
        if a < 100:
            assert abs(np.log(loo._even(np.array([a])).kappa[0] / kappa)) > 0.08  # what even rows would have
        doubled = brentq(lambda k, kappa=kappa: 600 * np.mean(k * tau / (1 + k * tau)) - p / (1 + kappa), 1e-9, 1e9)
        df1 = loo.freedom(a).df1
        assert loo.demand(600.0, loo.freedom(a).kappa, df1)[0] == pytest.approx(kappa * df1[0] / doubled, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("p", [pytest.param(60, marks=pytest.mark.thorough), 300])
def test_uneven_rows_are_foreseen(p):
    """150 rows of scale 0.2 and 1.8 tell what 75 and 600 of them will do."""

    def draw(n, seed):
        rng = np.random.default_rng(seed)
        scale = np.where(rng.random(n) < 0.5, 0.2, 1.8)
        x = np.sqrt(scale)[:, None] * rng.normal(size=(n, p))
        return x, x[:, :10].sum(axis=1) + rng.normal(size=n)

    test, ratios = draw(20_000, 0), []
    for seed in range(1, 13):
        at = qn.LearningCurve(Ridge(alpha=3.0), verbose=False).fit(*draw(150, seed)).predict([75, 600])
        models = [Ridge(alpha=3.0).fit(*draw(n, (n, seed))) for n in (75, 600)]
        ratios.append(at.mean / [np.mean((m.predict(test[0]) - test[1]) ** 2) for m in models])
    error = np.std(ratios, axis=0, ddof=1) / np.sqrt(12)
    assert np.all(np.abs(np.mean(ratios, axis=0) - 1.0) < 3.0 * error + 0.02), (np.mean(ratios, axis=0), error)


@pytest.mark.parametrize("p", [30, 200])
def test_at_its_own_size_a_sample_is_equivalent_to_itself(p):
    loo = LeaveOneOut.of(*(v.reshape(80, -1) for v in gaussian(80, p, 4)), intercept=True)
    np.testing.assert_allclose(loo.equivalent(np.full(3, 80.0), [0.1, 1.0, 30.0]), [0.1, 1.0, 30.0], rtol=1e-6)


def test_prediction_at_n_is_the_leave_one_out_error():
    x, y = gaussian(70, 20, 5)
    curve = qn.LearningCurve(Ridge(alpha=0.7), verbose=False).fit(x, y)
    assert float(curve.predict(70)) == pytest.approx(np.mean(refits(x, y, 0.7, True) ** 2), rel=1e-6)


def test_classes_are_coded_as_scikit_learn_codes_them():
    x, y = gaussian(60, 8, 6)
    y = np.digitize(y, [-0.5, 0.5])
    curve = qn.LearningCurve(RidgeClassifier(alpha=2.0), verbose=False).fit(x, y)
    rows = [np.arange(60) != i for i in range(60)]
    misses = [RidgeClassifier(alpha=2.0).fit(x[r], y[r]).predict(x[i : i + 1])[0] != y[i] for i, r in enumerate(rows)]
    assert float(curve.predict(60)) == pytest.approx(np.mean(misses), abs=1e-12)


def test_a_pipeline_is_its_scaled_inputs():
    x, y = gaussian(90, 12, 7)
    piped = qn.LearningCurve(make_pipeline(StandardScaler(), Ridge(alpha=3.0)), verbose=False).fit(100.0 * x, y)
    scaled = qn.LearningCurve(Ridge(alpha=3.0), verbose=False).fit(StandardScaler().fit_transform(x), y)
    assert float(piped.predict(90)) == pytest.approx(float(scaled.predict(90)), rel=1e-9)


def test_the_turn_of_the_inputs_is_not_seen():
    x, y = gaussian(60, 10, 8)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(10, 10)))[0]
    one, other = (qn.LearningCurve(Ridge(), verbose=False).fit(z, y).predict([20, 60, 400]) for z in (x, x @ turn))
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-6)


def test_resampled_residuals_have_the_jackknife_covariance():
    x, y = gaussian(30, 6, 9)
    loo = LeaveOneOut.of(x, y[:, None], intercept=True)
    draws = loo.resampled(0.5, 40_000, np.random.default_rng(0))[:, :, 0]
    centred = x - x.mean(axis=0)
    hat = centred @ np.linalg.solve(centred.T @ centred + 0.5 * np.eye(6), centred.T) + 1 / 30
    own, r = np.diag(hat), loo.residuals(0.5)[:, 0]
    wanted = ((hat**2 @ r**2) - own**2 * r**2) / (1 - own) ** 2
    np.testing.assert_allclose(draws.var(axis=0), wanted, rtol=0.05)


def test_noise_of_rows_is_removed_as_it_was_added():
    """Rows of noise 1 and 9: what is taken out of each brings back the errors of scores without noise."""
    rng = np.random.default_rng(0)
    coded = np.where(rng.random((40_000, 1)) < 0.5, 1.0, -1.0)
    size = np.where(rng.random((40_000, 1)) < 0.5, 0.4, 1.2)
    calm = coded + rng.normal(size=coded.shape)
    noise = ScoreNoise(size * rng.normal(size=(64, 40_000, 1)))
    before = np.mean(size**2)
    changed = noise.changed(calm + size * rng.normal(size=coded.shape), coded, before, 0.0)
    assert np.mean(wrong(changed, coded)) == pytest.approx(np.mean(wrong(calm, coded)), abs=0.01)


def test_a_mixture_knows_its_square():
    kappa, omega = np.geomspace(1e-3, 1e3, 40), np.array([0.05, 2.0])
    mixture = Mixture.fit(kappa, np.sum(omega / (omega + kappa[:, None]), axis=1), np.full(40, 1e-3), -1, total=2.0)
    square = np.sum((omega / (omega + kappa[:, None])) ** 2, axis=1)
    np.testing.assert_allclose(mixture.squared(kappa), square, rtol=0.03, atol=1e-6)


def known(p=120):
    omega, noise = 1.0 / np.arange(1.0, p + 1.0), 0.3
    cross = omega * np.cos(np.arange(p))
    return omega, cross, float(np.sum(cross**2 / omega) + noise)


def test_a_known_population_solves_its_equations():
    """The closed form by another route: kappa from a bracketing root, the error from the numerator of the page."""
    from scipy.optimize import brentq

    omega, cross, variance = known()
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(120, 120)))[0]
    curve = qn.LearningCurve(Ridge(alpha=4.0, fit_intercept=False), verbose=False)
    curve.fit_population(turn @ np.diag(omega) @ turn.T, turn @ cross, variance)
    for n in (40, 120, 700):
        kappa = brentq(lambda k, n=n: k * (n - np.sum(omega / (omega + k))) - 4.0, 1e-9, 1e3, xtol=1e-15, rtol=1e-14)
        bias = variance - np.sum(cross**2 / omega) + kappa**2 * np.sum(cross**2 / omega / (omega + kappa) ** 2)
        error = bias / (1.0 - np.sum((omega / (omega + kappa)) ** 2) / n)
        assert float(curve.predict(n)) == pytest.approx(error, rel=1e-8)


def test_many_rows_tend_to_their_population():
    """Plug-in from 200 p rows and leave-one-out from 20 p, against what is known of the population."""
    omega, cross, variance = known(30)
    truth = qn.LearningCurve(Ridge(alpha=4.0), verbose=False).fit_population(np.diag(omega), cross, variance)
    x, y = gaussian(6000, 30, 10)
    many = qn.LearningCurve(Ridge(alpha=4.0), verbose=False).fit(x, y)
    assert type(many._curve).__name__ == "PlugIn"
    few = qn.LearningCurve(Ridge(alpha=4.0), verbose=False, route="leave-one-out").fit(x[:600], y[:600])
    sizes = [40, 200, 3000]
    np.testing.assert_allclose(many.predict(sizes).mean, truth.predict(sizes).mean, rtol=0.06)
    held = few.predict(sizes)
    assert np.all((held.lower < truth.predict(sizes).mean) & (truth.predict(sizes).mean < held.upper))


def test_least_squares_peaks_where_rows_equal_features():
    x, y = gaussian(400, 40, 11)
    curve = qn.LearningCurve(LinearRegression(), verbose=False).fit(x, y)
    sizes = np.arange(25, 80)
    assert abs(int(sizes[np.argmax(curve.predict(sizes).mean)]) - 41) <= 3


def idx(path, array):
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes()) if path.suffix == ".gz" else head + array.tobytes())


def test_files_are_read_as_they_were_written(tmp_path):
    images, labels = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.array([7, 1], np.uint8)
    idx(tmp_path / "t10k-images-idx3-ubyte.gz", images)
    idx(tmp_path / "t10k-labels-idx1-ubyte", labels)
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "two.npz", one=images, other=labels)
    x, y = real.mnist(tmp_path, "test")
    np.testing.assert_allclose(x, images.reshape(2, 12) / 255.0)
    assert y.tolist() == [7, 1]
    np.testing.assert_array_equal(real.read(tmp_path / "a.npy"), images)
    np.testing.assert_array_equal(real.read(tmp_path / "two.npz", "other"), labels)
    with pytest.raises(ValueError, match="key must be one of"):
        real.read(tmp_path / "two.npz")
    (tmp_path / "cut").write_bytes((tmp_path / "t10k-labels-idx1-ubyte").read_bytes()[:-1])
    with pytest.raises(ValueError, match="whole IDX file"):
        real.read(tmp_path / "cut")
    with pytest.raises(FileNotFoundError, match="train-images"):
        real.mnist(tmp_path)
