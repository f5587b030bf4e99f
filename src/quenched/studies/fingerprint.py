"""What a study is made of, as a short text: two values have the same fingerprint if and only if they hold the same things."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import sys
import sysconfig
import types
from collections.abc import Mapping

import numpy as np

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_OURS = __name__.partition(".")[0]
_OF_FIELDS = tuple(f"__{name}__" for name in "init repr eq lt le gt ge hash setattr delattr replace getstate setstate".split())
_RULES = ("jvp", "fwd", "bwd")  # of functions with derivatives of their own
_WRAPPERS = (property, functools.cached_property, staticmethod, classmethod)


def fingerprint(value) -> str:
    """A text of 32 hexadecimal digits for any parameter of a problem: numbers, arrays, words, laws, losses, functions.

    Arrays count with all their entries; a function with its code, defaults and what it refers to, a class with its methods and
    attributes, so that an edited loss is another one; functions and classes of a library count by their names. The text is the same
    in every process of one version of Python.

    ``TypeError`` for what cannot be looked into, a generator or an open file.

    >>> fingerprint({"alpha": 1.0}) == fingerprint({"alpha": 1.0}), fingerprint(1.0) == fingerprint(2.0)
    (True, False)
    """
    digest = hashlib.sha256()
    _feed(digest.update, value, [])
    return digest.hexdigest()[:32]


def _feed(write, value, above) -> None:
    """Write what ``value`` holds; ``above`` are the objects that hold it, since they may hold themselves."""
    if any(value is seen for seen in above):
        return write(b"(cycle)")
    inside = functools.partial(_feed, write, above=[*above, value])
    if isinstance(value, (np.number, np.bool_, np.str_)):
        value = value.item()
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes):
        return write(f"({kind.__name__} {value!r})".encode())
    if hasattr(value, "__array__") and hasattr(value, "dtype") and not isinstance(value, type):
        array = np.asarray(value)
        if array.dtype.kind != "O":
            write(f"(array {array.dtype.str} {array.shape} ".encode())
            return write(np.ascontiguousarray(array).tobytes() + b")")
        value = array.tolist()
    if isinstance(value, (types.FunctionType, types.MethodType)):
        return _function(write, value, inside)
    if isinstance(value, type) and not _known(value):
        return _class(write, value, inside)
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType, np.ufunc)):
        write(f"(named {_name(value)}".encode())
        owner = getattr(value, "__self__", None)  # of a method of a built-in type
        if owner is not None and not isinstance(owner, (type, types.ModuleType)):
            inside(owner)
        return write(b")")
    if isinstance(value, types.CodeType):
        write(b"(code " + value.co_code + repr((value.co_names, value.co_varnames)).encode())
        inside(value.co_consts)
        return write(b")")
    write(f"({_name(kind)} ".encode())
    if not _known(kind):
        inside(kind)
    if isinstance(value, Mapping):
        for key, item in sorted(value.items(), key=lambda pair: repr(pair[0])):
            inside(key), inside(item)
    elif isinstance(value, (set, frozenset)):
        for item in sorted(value, key=repr):
            inside(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            inside(item)
    elif isinstance(value, functools.partial):
        inside((value.func, value.args, value.keywords))
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            inside((field.name, getattr(value, field.name, None)))
    elif _parts(value) is not None:
        inside(_parts(value))
    else:
        raise TypeError(f"a fingerprint cannot be taken of {kind.__module__}.{kind.__qualname__}, whose parts cannot be seen")
    write(b")")


def _parts(value) -> dict | None:
    """What an object holds by name, the slots of its classes included; None where that cannot be seen."""
    if hasattr(value, "__wrapped__") and _known(type(value)):  # compiled, cached, ... by a library, which keeps books of its own
        return {name: getattr(value, name, None) for name in ("__wrapped__", *_RULES)}
    slots = [name for cls in type(value).__mro__ for name in _slots(cls)]
    if not slots and not hasattr(value, "__dict__"):
        return None
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)} | dict(getattr(value, "__dict__", {}))
    return {name: item for name, item in found.items() if not isinstance(item, types.ModuleType)}


def _slots(cls) -> tuple:
    slots = vars(cls).get("__slots__", ())
    slots = (slots,) if isinstance(slots, str) else tuple(slots)
    names = (f"_{cls.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name for name in slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _function(write, value, inside) -> None:
    write(f"(function {_name(value)} ".encode())
    if isinstance(value, types.MethodType):
        inside(value.__self__)
        value = value.__func__
    inside((value.__defaults__, value.__kwdefaults__, {k: v for k, v in vars(value).items() if k != "__wrapped__"}))
    for cell in value.__closure__ or ():
        with contextlib.suppress(*((TypeError,) if _of_a_library(value) else ())):  # a library's own marks
            inside(cell.cell_contents)
    if not _of_a_library(value):
        inside(value.__code__)
        if value.__module__ is None or value.__module__.partition(".")[0] != _OURS:  # the version stands for our own
            _names_of(value.__globals__, _globals(value.__code__), inside, [])
    write(b")")


def _names_of(space: dict, names: set[str], inside, above) -> None:
    """What ``names`` stand for in the namespace of a module; of a module of the user's own, what they stand for there."""
    for name in sorted(names & set(space)):
        item = space[name]
        inside((name, item))
        if isinstance(item, types.ModuleType) and not _known(item) and item not in above:
            _names_of(vars(item), names - {name}, inside, [*above, item])


def _class(write, value, inside) -> None:
    """A class that no library defines: its bases, and what it holds but for what Python itself puts there."""
    write(f"(class {_name(value)} ".encode())
    for base in value.__bases__:
        inside(base)
    made: tuple = ()  # from the fields of a dataclass
    if "__dataclass_fields__" in vars(value):
        fields = dataclasses.fields(value)
        inside([(field.name, field.default, field.default_factory) for field in fields])
        made = (*(field.name for field in fields), *_OF_FIELDS)
    for name, item in sorted(vars(value).items()):
        if name.startswith("__") and not isinstance(item, (types.FunctionType, *_WRAPPERS)):
            continue
        if isinstance(item, _WRAPPERS):
            item = getattr(item, "fget", None) or getattr(item, "func", None) or getattr(item, "__func__", None)
        if name in made and getattr(getattr(item, "__code__", None), "co_filename", "<string>") == "<string>":
            continue
        write(name.encode())
        with contextlib.suppress(TypeError, ValueError):  # a lock, a slot, an empty cell: nothing that numbers depend on
            inside(item)
    write(b")")


def _known(value) -> bool:
    """Whether a class or module is of a library or of this package, where a name says what it is."""
    module = value if isinstance(value, types.ModuleType) else sys.modules.get(value.__module__)
    if module is None or module.__name__ == "__main__":
        return False
    file = getattr(module, "__file__", None)
    return module.__name__.partition(".")[0] == _OURS or file is None or file.startswith(_LIBRARIES)


def _globals(code) -> set[str]:
    """The names that a function, or one within it, may read from its module."""
    return set(code.co_names).union(*(_globals(c) for c in code.co_consts if isinstance(c, types.CodeType)))


def _of_a_library(value) -> bool:
    # by the file of the code: the module of what a notebook defines is called as the library that runs it
    return value.__code__.co_filename.startswith(_LIBRARIES)


def _name(value) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"
