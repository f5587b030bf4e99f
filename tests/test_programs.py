"""Compiled programs are forgotten before the process runs out of memory maps."""

import sys

import jax
import jax.numpy as jnp
import pytest

from quenched.numerics.programs import make_room


def maps():
    with open("/proc/self/maps") as lines:
        return sum(1 for _ in lines)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits memory maps")
def test_programs_are_forgotten_when_maps_run_short():
    make_room()
    before = maps()
    program = jax.jit(lambda x, k: sum(jnp.sort(jnp.sin(x * j) @ jnp.ones((5, 5))).sum() for j in range(k)), static_argnums=1)
    first = [program(jnp.ones(5), k) for k in range(1, 20)]
    grown = maps()
    assert grown > before
    assert not make_room(share=1.0) and maps() == grown  # enough room: nothing is forgotten
    again = program(jnp.ones(5), 20)
    assert make_room(share=0.0) and maps() < grown
    assert not make_room(share=0.0)  # nothing compiled since
    assert [program(jnp.ones(5), k) for k in range(1, 20)] == first and program(jnp.ones(5), 20) == again
