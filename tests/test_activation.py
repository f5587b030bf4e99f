"""Activations: their Gaussian coefficients against quadrature by another hand, derivatives, and what is refused."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from quenched.laws.activation import Activation, activation, coefficients, hermite
from quenched.laws.pairs import covariance, slopes

PI = np.pi
THOROUGH = (pytest.mark.slow, pytest.mark.thorough)


def bent(x):
    """A jump at -0.7, a kink at 0.4 and a bend of the curvature at 1.5."""
    return jnp.where(x < -0.7, -1.0, jnp.tanh(x)) + jnp.maximum(x - 0.4, 0.0) + 0.3 * jnp.maximum(x - 1.5, 0.0) ** 2


REFERENCES = {
    "relu": (lambda x: np.maximum(x, 0.0), (0.0,)), "sign": (np.sign, (0.0,)), "tanh": (np.tanh, ()), "erf": (special.erf, ()),
    "sin": (np.sin, ()), "quadratic": (np.square, ()), "linear": (lambda x: x, ()), "gelu": (lambda x: x * special.ndtr(x), ()),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0.0))), (0.0,)),
    "hard_tanh": (lambda x: np.clip(x, -1.0, 1.0), (-1.0, 1.0)), "softplus": (lambda x: np.logaddexp(0.0, x), ()),
    bent: (lambda x: np.where(x < -0.7, -1.0, np.tanh(x)) + np.maximum(x - 0.4, 0) + 0.3 * np.maximum(x - 1.5, 0) ** 2,
           (-0.7, 0.4, 1.5)),
}  # fmt: skip


def by_quad(fn, kinks, mean, variance):
    """kappa_0, kappa_1, kappa_star^2 and E g^2 by adaptive quadrature between the kinks."""
    scale = np.sqrt(variance)
    ends = np.unique(np.clip([-11.0, *np.linspace(-8, 8, 17), *((np.array(kinks) - mean) / scale), 11.0], -11, 11))

    def average(of):
        density = np.sqrt(2 * PI)
        pieces = [
            integrate.quad(lambda z: of(z) * np.exp(-z * z / 2) / density, a, b, epsabs=1e-13, epsrel=1e-12)[0]
            for a, b in zip(ends[:-1], ends[1:], strict=True)
        ]
        return sum(pieces)

    zero, one = average(lambda z: fn(mean + scale * z)), average(lambda z: z * fn(mean + scale * z)) / scale
    star = average(lambda z: (fn(mean + scale * z) - zero - one * scale * z) ** 2)
    return zero, one, star, star + zero**2 + variance * one**2


def _id(what):
    """A name of the case that is the same in every process."""
    return getattr(what, "__name__", str(what))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", (0, 1, 0)), ("identity", (0, 1, 0)), ("sign", (0, np.sqrt(2 / PI), 1 - 2 / PI)), ("quadratic", (1, 0, 2)),
        ("erf", (0, 2 / np.sqrt(3 * PI), 2 / PI * np.arcsin(2 / 3) - 4 / (3 * PI))), ("tanh", (0, 0.6057055, 0.0274153)),
        ("relu", (1 / np.sqrt(2 * PI), 0.5, 0.25 - 0.5 / PI)),
    ],
)  # fmt: skip
def test_the_known_coefficients(name, expected):
    found = coefficients(name)
    assert all(isinstance(value, np.ndarray) and value.dtype == np.float64 for value in found)
    np.testing.assert_allclose(found[:3], expected, atol=6e-8 if name == "tanh" else 1e-13)


@pytest.mark.parametrize("what", REFERENCES, ids=_id)
@pytest.mark.parametrize(("mean", "variance"), [(0.7, 0.3), (-2.0, 10.0)])
def test_against_adaptive_quadrature(what, mean, variance):
    expected = by_quad(*REFERENCES[what], mean, variance)
    np.testing.assert_allclose(coefficients(what, mean, variance), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("variance", [0.01, 0.5, 4.0, 50.0])
def test_erf_of_any_variance(variance):
    found = coefficients("erf", variance=variance)
    second = 2 / PI * np.arcsin(2 * variance / (1 + 2 * variance))
    np.testing.assert_allclose([found.kappa_1, found.second], [2 / np.sqrt(PI * (1 + 2 * variance)), second], rtol=1e-12)


@pytest.mark.parametrize("what", ["relu", "tanh", bent], ids=_id)
def test_neurons_are_computed_one_by_one(what):
    mean, variance = np.linspace(-2, 2, 150).reshape(50, 3), np.array([0.5, 1.0, 2.0])  # more than are computed at once
    together = coefficients(what, mean, variance)
    alone = [[coefficients(what, m, r) for m, r in zip(row, variance, strict=True)] for row in mean[::10]]
    for k, value in enumerate(together):
        assert value.shape == mean.shape
        np.testing.assert_allclose(value[::10], [[one[k] for one in row] for row in alone], rtol=1e-12, atol=1e-14)
    assert hermite(what, 2, mean, variance).shape == (50, 3, 3)
    np.testing.assert_allclose(hermite(what, 1, mean, variance)[..., 0], together.kappa_0, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("what", ["relu", "sign", "tanh", bent], ids=_id)
@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.4, 0.7)])
def test_derivatives_are_those_of_the_averages(what, mean, variance, x64):
    def stacked(x):
        return jnp.stack(coefficients(what, x[0], x[1]))

    x, step = jnp.array([mean, variance]), 1e-4
    first, second = jax.jacfwd(stacked), jax.hessian(stacked)
    for k in range(2):
        e = step * np.eye(2)[k]
        np.testing.assert_allclose(first(x)[:, k], (stacked(x + e) - stacked(x - e)) / (2 * step), rtol=2e-6, atol=1e-7)
        np.testing.assert_allclose(second(x)[:, :, k], (first(x + e) - first(x - e)) / (2 * step), rtol=2e-6, atol=3e-7)
    np.testing.assert_allclose(jax.jacrev(stacked)(x), first(x), rtol=1e-10, atol=1e-10)


@settings(deadline=None, max_examples=25)
@given(
    what=st.sampled_from(["relu", "sign", "tanh", "quadratic", bent]),
    mean=st.floats(-5, 5),
    variance=st.one_of(st.just(0.0), st.floats(1e-6, 10)),
)
def test_no_average_of_squares_is_negative(what, mean, variance):
    found, degree = coefficients(what, mean, variance), 12
    assert found.kappa_star2 >= 0 and np.all(np.isfinite(found))
    series = hermite(what, degree, mean, variance) ** 2 / special.factorial(np.arange(degree + 1))
    assert series.sum() <= found.second * (1 + 1e-10) + 1e-12
    np.testing.assert_allclose(series[:2], [found.kappa_0**2, max(variance, 1e-14) * found.kappa_1**2], rtol=1e-6, atol=1e-9)


def test_a_variance_of_zero_leaves_value_and_slope():
    for name, value, slope in [("tanh", np.tanh(0.3), 1 - np.tanh(0.3) ** 2), ("relu", 0.3, 1.0), ("sign", 1.0, 0.0)]:
        found = coefficients(name, 0.3, 0.0)
        np.testing.assert_allclose(found, (value, slope, 0.0, value**2), atol=1e-12)
    np.testing.assert_allclose(coefficients(lambda x: jnp.maximum(x - 0.2, 0.0), 0.3, 0.0)[:3], (0.1, 1.0, 0.0), atol=1e-12)


def test_small_neurons_have_small_noise():
    """Where E g^2 - kappa_0^2 - r kappa_1^2 would be nothing but rounding errors."""
    r = 1e-6
    np.testing.assert_allclose(coefficients("erf", 0.0, r).kappa_star2, 4 / PI * 2 / 3 * r**3, rtol=1e-4)
    assert coefficients("relu", 8.0, 1.0).kappa_star2 == coefficients("relu", -8.0, 1.0).kappa_star2 > 0


@pytest.mark.parametrize(("name", "correlation"), [("sign", -0.7), ("sign", 1 - 1e-6), ("erf", 0.3), ("relu", 1.0)])
def test_closed_forms_of_pairs(name, correlation):
    own = {
        "sign": activation(lambda x: jnp.where(x > 0, 1.0, -1.0)), "relu": activation(lambda x: jnp.where(x > 0, x, 0.0)),
        "erf": activation(lambda x: 1.0 * jax.scipy.special.erf(x)),
    }[name]  # fmt: skip
    variances, cross = (1.0, 4.0), 2.0 * correlation
    closed = covariance(name, name, cross, variances)
    np.testing.assert_allclose(covariance(name, name, cross, variances, (0.0, 0.0)), closed, atol=1e-9)
    np.testing.assert_allclose(covariance(own, own, cross, variances), closed, atol=1e-9)
    if correlation < 1.0:
        derivative = slopes(name, name, cross, variances)
        np.testing.assert_allclose(slopes(own, own, cross, variances), derivative, rtol=1e-8)
        np.testing.assert_allclose(slopes(name, name, cross, variances, (0.0, 0.0)), derivative, rtol=1e-8)


@pytest.mark.parametrize(("first", "second"), [("hard_tanh", "sign"), pytest.param(bent, bent, marks=THOROUGH)], ids=_id)
def test_pairs_with_means(first, second, x64):
    m, r = (0.3, -0.4), (0.8, 2.0)
    one, two = coefficients(first, m[0], r[0]), coefficients(second, m[1], r[1])
    np.testing.assert_allclose(covariance(first, second, 0.0, r, m), one.kappa_0 * two.kappa_0, rtol=1e-9)
    np.testing.assert_allclose(slopes(first, second, 0.0, r, m), one.kappa_1 * two.kappa_1, rtol=1e-9)
    c, j = 0.5, np.arange(61)
    rho = c / np.sqrt(r[0] * r[1])
    series = hermite(first, 60, m[0], r[0]) * hermite(second, 60, m[1], r[1]) * rho**j / special.factorial(j)
    np.testing.assert_allclose(covariance(first, second, c, r, m), series.sum(), rtol=1e-9)
    np.testing.assert_allclose(slopes(first, second, c, r, m), (j * series).sum() / c, rtol=1e-9)
    np.testing.assert_allclose(jax.grad(lambda c: covariance(first, second, c, r, m))(c), slopes(first, second, c, r, m), rtol=1e-8)
    np.testing.assert_allclose(covariance(first, first, 0.8, (0.8, 0.8), (0.3, 0.3)), one.second, rtol=1e-9)


def test_pairs_broadcast():
    c, r = np.linspace(0, 0.9, 5)[:, None], np.array([1.0, 2.0])
    found = covariance("hard_tanh", "tanh", c, (r, 1.0))
    assert found.shape == slopes("hard_tanh", "tanh", c, (r, 1.0)).shape == (5, 2)
    np.testing.assert_allclose(found[3, 1], covariance("hard_tanh", "tanh", c[3, 0], (2.0, 1.0)), rtol=1e-12)


@pytest.mark.parametrize(
    ("fn", "kinks"),
    [
        (lambda x: x > 0.3, (0.3,)), (lambda x: jnp.where(x > 1 / 3, 1.0, 0.0), (1 / 3,)), (jnp.arctan, ()),
        (lambda x: 1.1 * jnp.sign(x) * jnp.minimum(jnp.abs(x), 2.0), (-2.0, 2.0)), (bent, (-0.7, 0.4, 1.5)),
        (jnp.floor, tuple(np.arange(-12.0, 13.0))),
    ],
)  # fmt: skip
def test_kinks_are_found(fn, kinks):
    np.testing.assert_allclose(activation(fn).kinks, kinks, atol=1e-12)
    assert all(f"{kink}" in repr(activation(fn)) for kink in activation(fn).kinks)


def test_activations_are_equal_where_they_are_the_same():
    assert activation(jnp.tanh) == activation(np.tanh) == activation("tanh") and activation("identity") != activation("relu")
    assert activation(jax.nn.relu).name == "relu" and activation(jnp.sign).kinks == (0.0,)
    assert activation(bent) == activation(bent) and hash(activation(bent)) == hash(activation(bent))
    assert activation(bent, kinks=[1.5, 0.4, -0.7]) == activation(bent) == activation(activation(bent))
    for made in (activation("gelu"), activation(bent)):
        assert pickle.loads(pickle.dumps(made)) == made and isinstance(made, Activation)
    assert activation(lambda x: x > 0.3)(jnp.array([0.0, 1.0])).tolist() == [0.0, 1.0]


@jax.custom_jvp
def straight_through(x):
    return jnp.sign(x)


straight_through.defjvp(lambda primals, tangents: (jnp.sign(primals[0]), tangents[0]))


@pytest.mark.parametrize(
    ("what", "error", "sentence"),
    [
        ("swissh", ValueError, "'linear', .*'tanh'.* got 'swissh'"), (3, TypeError, "a name or a function, got 3"),
        (jax.nn.softmax, ValueError, "depends on what else"), (jnp.cumsum, ValueError, "depends on what else"),
        (jnp.sum, ValueError, r"maps the shape \(4801,\) to \(\)"), (jnp.log, ValueError, "not finite"),
        (lambda x: np.maximum(x, 0.0), TypeError, "JAX can trace"), (lambda x: jnp.exp(1j * x), ValueError, "complex"),
        (lambda x: jnp.round(8 * x), ValueError, "more than 64 kinks"), (straight_through, ValueError, "another derivative"),
        (lambda x: jnp.tanh(100 * x), ValueError, "too fast"),
    ],
)  # fmt: skip
def test_refused_activations(what, error, sentence):
    with pytest.raises(error, match="activation must be .*" + sentence):
        activation(what)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: coefficients("tanh", 0.0, -1.0), "variance must be non-negative, got -1"),
        (lambda: coefficients("tanh", np.nan), "mean must hold finite numbers"),
        (lambda: coefficients("tanh", np.zeros(2), np.ones(3)), r"broadcast, got mean \(2,\), variance \(3,\)"),
        (lambda: hermite("tanh", -1), "degree must be a whole number"),
        (lambda: covariance("tanh", "tanh", 1.5), "cross must be at most"),
        (lambda: covariance("tanh", "tanh", 0.5, variances=1.0), "variances must be a pair"),
        (lambda: activation("tanh", kinks=[1.0]), "kinks must be left out"),
        (lambda: activation(bent, kinks=1.0), "kinks must have 1 axes"),
        (lambda: activation(bent, kinks=()), "kinks that are not known"),
    ],
)
def test_refused_arguments(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()
