"""The examples of the README run as they stand, one after the other."""

import pathlib
import re

import matplotlib
import numpy as np
import pytest

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    with matplotlib.rc_context():
        for number, example in enumerate(EXAMPLES):
            exec(compile(example, f"README.md, example {number}", "exec"), names)
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    table = np.genfromtxt(tmp_path / "curve.csv", delimiter=",", names=True, usecols=("alpha", "test_error"))
    np.testing.assert_allclose(table["alpha"], np.geomspace(0.2, 10, 16))
    assert np.all(np.diff(table["test_error"]) < 0)


def test_the_commands_that_it_names_exist():
    from quenched import cli

    parser = cli._parser()
    for line in re.findall(r"^quenched (.*?) *(?:#.*)?$", README, re.MULTILINE):
        arguments, _ = parser.parse_known_args(line.split())
        assert arguments.command == line.split()[0]


def test_the_picture_lies_where_it_says():
    (path,) = re.findall(r"!\[.*?\]\((.*?)\)", README, re.DOTALL)
    assert (pathlib.Path(__file__).parents[1] / path).read_bytes().startswith(b"\x89PNG")
