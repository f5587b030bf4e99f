"""Interpolants between noise and data."""

import jax.numpy as jnp
import numpy as np
import pytest

from quenched.laws import Schedule


@pytest.mark.parametrize("name", ["linear", "variance-preserving"])
def test_derivatives_and_end_points(name):
    schedule, t, step = Schedule(name), np.linspace(0.05, 0.95, 7), 1e-6
    point, up, down = schedule(t), schedule(t + step), schedule(t - step)
    assert np.allclose(point.d_alpha, (up.alpha - down.alpha) / (2 * step), atol=1e-8)
    assert np.allclose(point.d_beta, (up.beta - down.beta) / (2 * step), atol=1e-8)
    ends = schedule(np.array([0.0, 1.0]))
    assert ends.alpha.tolist() == [1.0, 0.0] and ends.beta.tolist() == [0.0, 1.0]


def test_functions_are_a_schedule():
    t, named = np.linspace(0.0, 0.9, 5), Schedule("variance-preserving")
    written = Schedule((lambda t: jnp.cos(jnp.pi * t / 2), lambda t: jnp.sin(jnp.pi * t / 2)))
    for mine, theirs in zip(written(t), named(t), strict=True):
        assert mine.dtype == np.float64 and np.allclose(mine, theirs, atol=1e-14)
    assert written(0.5).gain.shape == ()


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("cosine", "schedule must be one of"),
        (lambda t: t, "schedule must be one of"),
        ((lambda t: 1 - t, lambda t: 2 * t), "schedule must lead from"),
        ((lambda t: (1 - t) * (1 - 2 * t), lambda t: t), "alpha > 0 before t = 1"),
        ((lambda t: np.cos(t), lambda t: t), "written in JAX"),
    ],
)
def test_others_are_refused(spec, words):
    with pytest.raises(ValueError, match=words):
        Schedule(spec)


def test_times_outside_are_refused():
    with pytest.raises(ValueError, match=r"t must be in \[0, 1\]"):
        Schedule()(1.2)
