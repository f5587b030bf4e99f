"""Imports point one way, and `import quenched` is quick because nothing heavy is imported before it is used."""

import ast
import pathlib
import subprocess
import sys

import pytest

import quenched

ROOT = pathlib.Path(quenched.__file__).parent

# What each room may import of the package. Theory (limit) and experiment (finite) share laws and losses only.
_ENGINE = {"numerics", "laws", "losses", "limit", "finite"}
_PICTURES = {"names", "plotting"}
ALLOWED = {
    "__init__": set(),
    "names": set(),
    "numerics": set(),
    "plotting": {"names", "numerics"},
    "laws": {"numerics"},
    "losses": {"numerics"},
    "limit": {"numerics", "laws", "losses"},
    "finite": {"numerics", "laws", "losses"},
    "problems": _ENGINE | _PICTURES,
    "studies": _ENGINE | _PICTURES | {"problems"},
    "figures": _ENGINE | _PICTURES | {"problems", "studies"},
    "cli": _ENGINE | _PICTURES | {"problems", "studies", "figures"},
}
MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def room_of(path):
    return path.parts[0].removesuffix(".py")


def imported_modules(tree, package):
    """Every absolute module name that the tree imports, inside functions too; `package` resolves relative ones."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level] if node.level else ())
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def package_imports(source, path):
    """The rooms of the package that a module's source imports; "__version__" for the bare package."""
    package = ("quenched", *path.parts[:-1])
    for name in imported_modules(ast.parse(source), package):
        parts = name.split(".")
        if parts[0] == "quenched":
            yield parts[1] if len(parts) > 1 else "quenched"


def violations(source, path):
    room = room_of(path)
    return sorted(set(package_imports(source, path)) - ALLOWED[room] - {room, "__version__"})


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_point_one_way(path):
    assert violations((ROOT / path).read_text(), path) == []


@pytest.mark.parametrize(
    ("source", "path", "bad"),
    [
        ("from quenched.finite import trials", "limit/solve.py", ["finite"]),
        ("from ..limit.channel import Channel", "finite/erm.py", ["limit"]),
        ("def f():\n    from quenched import losses", "laws/base.py", ["losses"]),
        ("import quenched.laws.base", "losses/base.py", ["laws"]),
        ("import quenched", "problems/glm.py", ["quenched"]),
        ("from .. import studies", "problems/glm.py", ["studies"]),
        ("from .base import Law", "laws/tokens.py", []),
        ("from ..numerics import check", "laws/tokens.py", []),
        ("from quenched import __version__", "cli.py", []),
    ],
)
def test_the_direction_test_sees_what_it_should(source, path, bad):
    assert violations(source, pathlib.PurePath(path)) == bad


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) == "finite" and not p.stem.startswith("amp")], ids=str)
def test_experiment_never_uses_the_proximal_operators_of_the_theory(path):
    tree = ast.parse((ROOT / path).read_text())
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {part for name in imported_modules(tree, ("quenched", "finite")) for part in name.split(".")}
    assert names.isdisjoint({"prox", "moreau", "envelope"})


def test_import_is_quick_and_light():
    code = "import sys, time; t = time.perf_counter(); import quenched; print(time.perf_counter() - t, *sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert float(out[0]) < 0.5
    heavy = {"jax", "numpy", "scipy", "matplotlib", "sklearn", "xarray", "equinox", "rich", "pandas"}
    assert heavy.isdisjoint(out[1:])
