"""Every public name loads, is listed, and an unknown one is refused as Python does."""

import subprocess
import sys

import pytest

import quenched as qn


@pytest.mark.parametrize("name", qn.__all__)
def test_public_name_loads(name):
    assert getattr(qn, name) is getattr(qn, name) is not None
    assert name in dir(qn)


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'quanched'"):
        _ = qn.quanched


def test_asking_for_one_room_does_not_load_the_pictures():
    code = "import sys, quenched as qn; qn.laws; print('matplotlib' in sys.modules, 'sklearn' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]
