"""Two parameters have one fingerprint if and only if they hold the same things, in every process."""

import copy
import functools
import importlib.util
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import quenched as qn
from quenched.numerics.fingerprint import identity
from quenched.studies import fingerprint

SLOPE = 2.0


def linear(x):
    return SLOPE * x


def made(slope, code):
    """A function of a module of its own, as a user's script would hold it."""
    space = {"__name__": "__main__", "SLOPE": slope, "np": np}
    exec(code, space)
    return space["f"]


MIXTURE = functools.partial(qn.laws.mixture, [0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]])
def knotted(slope):
    from scipy.interpolate import CubicSpline

    return CubicSpline(np.linspace(0.0, 1.0, 5), slope * np.linspace(0.0, 1.0, 5))


def ruled(slope):
    """A function with a derivative of its own."""
    function = jax.custom_jvp(lambda x: x)
    function.defjvp(lambda primals, tangents: (primals[0], slope * tangents[0]))
    return function


METHOD = """
import functools, jax
class C:
    @functools.partial(jax.jit, static_argnums=0)
    def __call__(self, h): return {}
f = C()
"""


class Slotted:
    __slots__ = ("slope",)


class Sloped(Slotted):
    __slots__ = ()

    def __init__(self, slope):
        self.slope = slope


DISTINCT = {
    "int": 1, "float": 1.0, "text": "1", "none": None, "true": True, "list": [1.0], "nested": [[1.0]],
    "array": np.array([1.0]), "float32": np.array([1.0], np.float32), "column": np.array([[1.0]]), "nan": np.array([np.nan]),
    "dict": {"a": 1.0}, "other key": {"b": 1.0}, "mixture": MIXTURE(), "labels": MIXTURE(labels=[-1, 1]),
    "covariances": MIXTURE(covariances=[0.5, 1.0]), "numpy": np.tanh, "jax": jnp.tanh, "function": linear,
    "thrice": made(3.0, "f = lambda x: SLOPE * x"),
    "plus": made(2.0, "f = lambda x: SLOPE + x"), "of numpy": made(2.0, "f = lambda x: np.cos(x)"),
    "also of numpy": made(2.0, "f = lambda x: np.sin(x)"), "default": made(2.0, "def f(x, a=1.0): return x"),
    "other default": made(2.0, "def f(x, a=2.0): return x"), "partial": functools.partial(linear, 1.0),
    "closure": made(2.0, "f = (lambda a: lambda x: a * x)(1.0)"),
    "other closure": made(2.0, "f = (lambda a: lambda x: a * x)(2.0)"),
    "inner": made(2.0, "f = lambda x: [1.0 for _ in x]"), "other inner": made(2.0, "f = lambda x: [2.0 for _ in x]"),
    "spline": knotted(1.0), "other spline": knotted(2.0), "slots": Sloped(1.0), "other slots": Sloped(2.0),
    "rule": ruled(1.0), "other rule": ruled(2.0), "bound": {1: 2}.get, "other bound": {1: 3}.get,
    "method": made(2.0, METHOD.format("h")), "edited method": made(2.0, METHOD.format("2 * h")),
    "mapped": jax.vmap(made(2.0, "f = lambda x: SLOPE * x")), "otherwise mapped": jax.vmap(made(3.0, "f = lambda x: SLOPE * x")),
    "compiled": jax.jit(made(2.0, "f = lambda x: x")), "other compiled": jax.jit(made(2.0, "f = lambda x: 2 * x")),
    "recursive": made(2.0, "def f(x): return f(x - 1)"),
    "class": made(2.0, "class f:\n    def __call__(self, x): return x"),
    "edited class": made(2.0, "class f:\n    def __call__(self, x): return 2 * x"),
    "attribute": made(2.0, "class f:\n    w = 2.0\n    def __call__(self, x): return x"),
    "instance": made(2.0, "class C:\n    def __call__(self, x): return x\nf = C()"),
    "edited instance": made(2.0, "class C:\n    def __call__(self, x): return 2 * x\nf = C()"),
    "property": made(2.0, "class f:\n    @property\n    def a(self): return 1"),
    "edited property": made(2.0, "class f:\n    @property\n    def a(self): return 2"),
    "of a class": made(2.0, "class C: w = 1.0\nf = lambda x: C.w * x"),
    "of an edited class": made(2.0, "class C: w = 2.0\nf = lambda x: C.w * x"),
    "itself": made(2.0, "class f:\n    def copy(self): return f()"),
    "dataclass": made(2.0, "import dataclasses\n@dataclasses.dataclass\nclass f:\n    a: float = 1.0"),
    "other dataclass": made(2.0, "import dataclasses\n@dataclasses.dataclass\nclass f:\n    a: float = 2.0"),
    "problem": made(2.0, "import quenched as qn\nclass f(qn.problems.PhaseRetrieval):\n    def _model(self): return 1"),
    "edited problem": made(2.0, "import quenched as qn\nclass f(qn.problems.PhaseRetrieval):\n    def _model(self): return 2"),
}  # fmt: skip


def test_different_things_differ():
    prints = {name: fingerprint(value) for name, value in DISTINCT.items()}
    assert len(set(prints.values())) == len(prints), prints


def test_equal_things_agree():
    assert fingerprint(MIXTURE()) == fingerprint(MIXTURE())
    assert fingerprint(np.arange(6.0).reshape(2, 3).T) == fingerprint(np.arange(6.0).reshape(2, 3).T.copy())
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    code = "def f(x):\n    return SLOPE * x"
    assert fingerprint(made(2.0, code)) == fingerprint(made(2.0, code))
    problem = qn.problems.GeneralizedLinear("square", "linear", alpha=1.0, weight_decay=0.1)
    before = fingerprint(problem)
    _ = problem.model  # what is computed on the way is no parameter
    assert fingerprint(problem) == before == fingerprint(problem.replace(alpha=1.0)) != fingerprint(problem.replace(alpha=2.0))


def test_what_a_function_reads_from_a_module_counts(tmp_path, monkeypatch):
    """Edited between two runs: a function and a number in a module of the user's own."""
    prints = []
    texts = "W = 1.0\ndef base(x): return x", "W = 10.0\ndef base(x): return x", "W = 1.0\ndef base(x): return 2 * x"
    for text in (*texts, texts[0] + "\nother = 3"):
        path = tmp_path / f"{len(prints)}" / "mine.py"
        path.parent.mkdir()
        path.write_text(text)
        spec = importlib.util.spec_from_file_location("mine", path)
        mine = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "mine", mine)
        spec.loader.exec_module(mine)
        space = {"__name__": "__main__", "mine": mine}
        exec("f = lambda x: mine.base(x)\ng = lambda x: mine.W * x", space)
        prints.append((fingerprint(space["f"]), fingerprint(space["g"])))
    f, g = zip(*prints, strict=True)
    assert f[0] == f[1] == f[3] != f[2] and g[0] == g[2] == g[3] != g[1]


def test_what_a_name_stands_for():
    """Functions that call each other are read once; an attribute is no global of the same name."""
    names = "".join(f"\ndef f{k}(x): return f{k - 1}(x) + f{k - 2}(x)" for k in range(2, 60))
    assert fingerprint(made(1.0, f"f0 = f1 = lambda x: x{names}\nf = f59"))
    code = "def f(h, label): return np.mean((h - label) ** 2)"
    assert fingerprint(made(1.0, code)) == fingerprint(made(1.0, f"mean = 3.0\n{code}"))
    documented = "def f(x):\n    {}return x"
    assert fingerprint(made(1.0, documented.format("'one'\n    "))) == fingerprint(made(1.0, documented.format("'two'\n    ")))


def test_another_process_agrees():
    of_this_file = ("function", "slots", "other slots", "rule", "other rule")
    names = [name for name in DISTINCT if name not in of_this_file]
    code = f"import test_fingerprint as t; print([t.fingerprint(t.DISTINCT[name]) for name in {names!r}])"
    directory = __file__.rpartition("/")[0]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=directory, check=True).stdout
    assert out.strip() == repr([fingerprint(DISTINCT[name]) for name in names])


def test_what_cannot_be_seen_is_refused():
    with pytest.raises(TypeError, match="a fingerprint cannot be taken of builtins.generator"):
        fingerprint(x for x in [1])


def test_identities_are_a_byproduct_that_never_fails():
    """What cannot be looked into has none: copies of compiled functions, which hide theirs, and what raises on the way."""
    assert identity(jnp.tanh) is not None and identity(jnp.tanh) != identity(jax.nn.sigmoid)
    assert identity(copy.deepcopy(jnp.tanh)) is None
    with pytest.raises(TypeError, match="a fingerprint cannot be taken of"):
        fingerprint(copy.deepcopy(jnp.tanh))

    def early():
        return late

    assert identity(early) is None  # its cell is empty
    late = 1.0
    assert identity(early) is not None


def test_a_function_is_what_it_does_and_not_its_name():
    def one(h, scale=2.0):
        """Words."""
        return scale * h

    def other(h, scale=2.0):
        return scale * h

    def third(h, scale=3.0):
        return scale * h

    assert fingerprint(one) == fingerprint(other) != fingerprint(third)


def test_functions_of_this_package_go_by_their_names():
    """However it is installed, and whatever checks of shapes its tests add."""
    from quenched.losses import NAMED

    code = """from quenched.losses import NAMED
from quenched.studies import fingerprint
print(fingerprint(NAMED["logistic"]))"""
    plain = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert fingerprint(NAMED["logistic"]) == plain.stdout.strip()
