"""Lists of points: the same numbers as point by point, and one program for lists of every length."""

import jax
import numpy as np
import pytest

from quenched.laws import activation
from quenched.numerics import mapped
from quenched.numerics.precision import float64


def point(shift, x, rows):
    return {"sum": shift["by"] + x + rows.sum(), "rows": x * rows}


@pytest.mark.parametrize("count", [0, 1, 7, mapped.CHUNK, mapped.CHUNK + 3])
def test_each_is_the_function_of_every_point(count):
    rng = np.random.default_rng(count)
    x, rows = rng.normal(size=count), rng.normal(size=(count, 3))
    with float64(True):
        found = mapped.each(point, ({"by": np.float64(2.0)},), (x, rows))
    np.testing.assert_allclose(found["sum"], 2.0 + x + rows.sum(1), rtol=1e-14)
    np.testing.assert_array_equal(found["rows"], x[:, None] * rows)


def test_lists_of_other_lengths_need_no_other_program():
    shared = ({"by": np.float64(2.0)},)
    with float64(True):
        mapped.each(point, shared, (np.ones(5), np.ones((5, 3))))
        compiled = mapped._each._cache_size()
        mapped.each(point, shared, (np.ones(900), np.ones((900, 3))))
    assert mapped._each._cache_size() == compiled


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 2), (70,)])
def test_coefficients_do_not_depend_on_their_neighbours(shape):
    mean = np.random.default_rng(0).normal(size=shape)
    found, whole = activation.coefficients("relu", mean, 0.7), activation.hermite("relu", 3, mean, 0.7)
    assert found.kappa_1.shape == shape and whole.shape == (*shape, 4)
    for index in np.ndindex(shape):
        alone = activation.coefficients("relu", mean[index], 0.7)
        jax.tree.map(lambda one, all_, at=index: np.testing.assert_allclose(one, all_[at], rtol=1e-13), alone, found)
        np.testing.assert_allclose(activation.hermite("relu", 3, mean[index], 0.7), whole[index], rtol=1e-12, atol=1e-13)


def test_few_coefficients_share_a_program():
    activation.coefficients("tanh", 0.1)
    compiled = activation._coefficients._cache_size()
    activation.coefficients("tanh", np.linspace(-1.0, 1.0, 7), 0.5)
    assert activation._coefficients._cache_size() == compiled
