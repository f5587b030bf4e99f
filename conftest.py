"""What holds for every test, the examples of docstrings in ``src`` included."""

import pytest


@pytest.fixture(autouse=True)
def files_of_examples(request, tmp_path, monkeypatch):
    """Examples write where they please."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def room_for_programs():
    """The tests compile more programs than Linux allows one process."""
    yield
    from quenched.numerics.programs import make_room

    make_room()
