"""The empirical risk: its value and derivatives against formulas by hand, its compilation, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quenched.finite.data import Data
from quenched.finite.risk import Layout, Risk, Trained
from quenched.losses.base import Loss
from quenched.losses.named import logistic, square


def make(n=7, L=2, d=5, F=1, t=2, seed=0):
    rng = np.random.default_rng(seed)
    return Data(
        rng.normal(size=(n, L, d)), rng.normal(size=(n, L, F)), rng.normal(size=(n, L, t)),
        rng.normal(size=n), rng.normal(size=n),
    )  # fmt: skip


def everything(h, gram, target, label, noise, scalars, params):
    """A loss that uses all its arguments and couples tokens, units and gram."""
    s = jnp.tanh(scalars["gain"] * h)
    return (
        0.5 * jnp.sum((s @ gram - params["c"] * target) ** 2) + label * jnp.sum(h[0] * h[1]) + noise * scalars["b"][1]
    )


def by_hand(data, z, units, weight_decay, c):
    """The same risk, sample by sample in NumPy."""
    n, L, d = data.x.shape
    F = data.free.shape[2]
    w, free = z[: d * units].reshape(d, units), z[d * units : (d + F) * units].reshape(F, units)
    b, gain = z[-3:-1], z[-1]
    gram, total = w.T @ w / d, 0.5 * weight_decay * np.sum(w**2)
    for x, f, target, label, noise in zip(*data, strict=True):
        h = x @ w / np.sqrt(d) + f @ free
        total += 0.5 * np.sum((np.tanh(gain * h) @ gram - c * target) ** 2) + label * h[0] @ h[1] + noise * b[1]
    return total


@pytest.fixture
def risk():
    return Risk(make(), Loss(everything), 0.3, units=2, scalars={"gain": 0.7, "b": [0.1, 0.2]}, params={"c": 1.5})


def test_value_is_the_sum_over_samples_and_the_penalty(risk):
    z = np.random.default_rng(1).normal(size=risk.layout.size)
    assert risk.layout.size == 5 * 2 + 1 * 2 + 2 + 1  # w, free, b, gain: scalars in the order of their names
    np.testing.assert_allclose(risk.value_and_grad(z)[0], by_hand(make(), z, 2, 0.3, 1.5), rtol=1e-13)


def test_gradient_and_hessian_are_derivatives_of_the_value(risk):
    rng = np.random.default_rng(2)
    z, v = rng.normal(size=(2, risk.layout.size))
    step = 1e-5
    up, down = (risk.value_and_grad(z + s * step * v) for s in (1, -1))
    np.testing.assert_allclose(risk.value_and_grad(z)[1] @ v, (up[0] - down[0]) / (2 * step), rtol=1e-8)
    np.testing.assert_allclose(risk.hessian_product(z, v), (up[1] - down[1]) / (2 * step), rtol=1e-7, atol=1e-7)


def test_start_values_are_the_scalars(risk):
    trained = risk.layout.unpack(risk.zero)
    assert trained.scalars["gain"] == 0.7 and trained.scalars["b"].tolist() == [0.1, 0.2]
    assert not trained.w.any() and not trained.free.any()


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.dictionaries(st.text(max_size=3), st.integers(0, 2)))
def test_pack_and_unpack_are_inverse(d, r, F, ndims):
    shapes = {name: (2,) * ndim for name, ndim in ndims.items()}
    layout = Layout((d, r), (F, r), tuple(sorted(shapes.items())))
    z = np.arange(layout.size, dtype=float)
    trained = layout.unpack(z)
    assert {name: a.shape for name, a in trained.scalars.items()} == shapes
    np.testing.assert_array_equal(layout.pack(trained), z)


def test_one_compilation_serves_all_numbers():
    traces = []

    def counted(h, label, params):
        traces.append(1)
        return params["c"] * (h[0, 0] - label) ** 2

    loss = Loss(counted)
    for seed, weight_decay, c in [(0, 0.1, 1), (1, 2, 2.5), (2, np.float32(0.5), np.float64(3))]:
        data = make(seed=seed)
        Risk(data, loss, weight_decay, params={"c": float(c)}).value_and_grad(np.full(6, 0.1))
    assert len(traces) == 1


def test_computes_in_float64_and_leaves_the_callers_configuration_alone():
    assert not jax.config.jax_enable_x64
    value, gradient = Risk(make(L=1), square, 1e-3).value_and_grad(np.full(6, 1 / 3))
    assert gradient.dtype == np.float64 and not jax.config.jax_enable_x64
    data = make(L=1)
    h = data.x[:, 0] @ np.full(5, 1 / 3) / np.sqrt(5) + data.free[:, 0, 0] / 3
    np.testing.assert_allclose(value, 0.5 * np.sum((h - data.label) ** 2) + 0.5e-3 * 5 / 9, rtol=1e-14)


def test_relative_gradient_measures_two_parts_that_cancel():
    data = make(L=1, F=0)
    R = Risk(data, square, 2.0)
    z = np.random.default_rng(0).normal(size=5)
    _, gradient = R.value_and_grad(z)
    parts = np.linalg.norm(gradient - 2.0 * z), np.linalg.norm(2.0 * z), 2.0 * np.sqrt(5)
    np.testing.assert_allclose(R.relative_gradient(z, gradient, 1e9), np.linalg.norm(gradient) / max(parts))
    assert R.relative_gradient(z, 0 * gradient, 1.0) == 0.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(weight_decay=-0.1), "weight_decay must be non-negative, got -0.1"),
        (dict(weight_decay=np.nan), "weight_decay must be non-negative, got nan"),
        (dict(units=0), "units must be a whole number of at least 1, got 0"),
        (dict(scalars={"b": np.inf}), r"scalars\['b'\] must hold finite numbers only"),
        (dict(data=make()._replace(x=np.ones((7, 5)))), "x must have 3 axes"),
        (dict(data=make()._replace(free=np.ones((6, 2, 1)))), "free must have the shape"),
    ],
)
def test_refuses(change, sentence):
    arguments = dict(data=make(), loss=logistic, weight_decay=0.1) | change
    with pytest.raises(ValueError, match=sentence):
        Risk(**arguments)


def test_a_loss_that_is_a_vector_is_refused():
    R = Risk(make(), Loss(lambda h, label: h[0] - label), 0.1, units=2)
    with pytest.raises(ValueError, match=r"loss must return one number per sample, got an array of shape \(2,\)"):
        R.value_and_grad(R.zero)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_risk_does_not_change_under_rotations_of_inputs_and_weights(seed):
    rng = np.random.default_rng(seed)
    data, loss = make(seed=seed), Loss(everything)
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    given_ = dict(units=2, scalars={"gain": 0.7, "b": [0.1, 0.2]}, params={"c": 1.5})
    here, there = (Risk(data._replace(x=x), loss, 0.3, **given_) for x in (data.x, data.x @ rotation))
    z = rng.normal(size=here.layout.size)
    trained = here.layout.unpack(z)
    turned = here.layout.pack(Trained(rotation.T @ trained.w, trained.free, trained.scalars))
    np.testing.assert_allclose(here.value_and_grad(z)[0], there.value_and_grad(turned)[0], rtol=1e-12)
