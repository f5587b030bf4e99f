"""What a study is made of, as a short text: values that hold the same things have the same fingerprint, others different ones."""

from __future__ import annotations

import contextlib
import dataclasses
import dis
import functools
import hashlib
import inspect
import re
import sys
import sysconfig
import types
from collections.abc import Mapping

import numpy as np

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_INSTALLED = re.compile(r"[/\\](site|dist)-packages[/\\]")
_OURS = __name__.partition(".")[0]
_OF_FIELDS = tuple(f"__{name}__" for name in "init repr eq lt le gt ge hash setattr delattr replace getstate setstate".split())
_OF_PYTHON = tuple(
    f"__{name}__" for name in "module qualname name doc dict weakref annotations annotate annotate_func annotations_cache slots "
    "firstlineno static_attributes dataclass_fields dataclass_params match_args abstractmethods parameters orig_bases".split()
)  # fmt: skip
_RULES = ("jvp", "fwd", "bwd")  # of functions with derivatives of their own
_WRAPPERS = (property, functools.cached_property, staticmethod, classmethod)


def fingerprint(value) -> str:
    """A text of 32 hexadecimal digits for any parameter of a problem: numbers, arrays, words, laws, losses, functions.

    Arrays count with all their entries; a function with its code, defaults and what it refers to, a class with its methods and
    attributes, so that an edited loss is another one; functions and classes of a library count by their names, and what a function
    imports when it is called is not followed. The text is the same in every process of one version of Python.

    ``TypeError`` for what cannot be looked into, a generator or an open file.

    >>> fingerprint({"alpha": 1.0}) == fingerprint({"alpha": 1.0}), fingerprint(1.0) == fingerprint(2.0)
    (True, False)
    """
    return _Reader().digest(value)[:32]


def identity(value) -> str | None:
    """The fingerprint behind the versions of Python and of this package, which make functions; None for what has none.

    >>> identity([1.0]) == identity([1.0]), identity([1.0]) == identity([2.0]), identity(iter([]))
    (True, False, None)
    """
    from .. import __version__

    with contextlib.suppress(Exception):  # whatever lies in a function's reach: to tell values apart is a by-product
        return f"{sys.version_info[0]}.{sys.version_info[1]}/{__version__} {fingerprint(value)}"
    return None


def differ(one: str | None, other: str | None) -> bool:
    """Whether two identities tell that their values differ: they were taken, and by the same versions.

    >>> differ("3.11/1.0 abc", "3.11/1.0 abd"), differ("3.11/1.0 abc", "3.13/1.0 abd"), differ("3.11/1.0 abc", None)
    (True, False, False)
    """
    if one is None or other is None or one.partition(" ")[0] != other.partition(" ")[0]:
        return False
    return one != other


class _Reader:
    """One reading: ``above`` are the objects that hold what is being read, since they may hold themselves."""

    def __init__(self):
        self.above: list = []
        self.known: dict[int, tuple] = {}  # of functions and classes that refer to nothing above them: id -> (itself, digest)
        self.outermost = np.inf  # the highest place in ``above`` that was referred to

    def digest(self, value) -> str:
        """The digest of one value, each function and class read once."""
        place = next((k for k, seen in enumerate(self.above) if seen is value), None)
        if place is not None:
            self.outermost = min(self.outermost, place)
            return f"(cycle {len(self.above) - place})"
        if id(value) in self.known:
            return self.known[id(value)][1]
        depth, before, self.outermost = len(self.above), self.outermost, np.inf
        self.above.append(value)
        try:
            text = hashlib.sha256("\0".join(self.parts(value)).encode()).hexdigest()
        finally:
            self.above.pop()
            alone, self.outermost = self.outermost >= depth, min(before, self.outermost)
        if alone and isinstance(value, (types.FunctionType, type)):
            self.known[id(value)] = value, text
        return text

    def parts(self, value):
        """What a value is and holds, as texts."""
        if isinstance(value, (np.number, np.bool_, np.str_)):
            value = value.item()
        kind = type(value)
        if value is None or kind in (bool, int, float, complex, str, bytes):
            yield f"{kind.__name__} {value!r}"
        elif hasattr(value, "__array__") and hasattr(value, "dtype") and not isinstance(value, type):
            yield from self.array(value)
        elif isinstance(value, (types.FunctionType, types.MethodType)):
            yield from self.function(value)
        elif isinstance(value, type) and not _library(value):
            yield from self.cls(value)
        elif isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType, np.ufunc)):
            yield f"named {_name(value)}"
            owner = getattr(value, "__self__", None)  # of a method of a built-in type
            if owner is not None and not isinstance(owner, (type, types.ModuleType)):
                yield self.digest(owner)
        elif isinstance(value, types.CodeType):
            yield f"code {value.co_code.hex()} {value.co_names} {value.co_varnames}"
            yield self.digest(value.co_consts)
        else:
            yield _name(kind) if _library(kind) else self.digest(kind)
            yield from self.contents(value)

    def contents(self, value):
        if isinstance(value, Mapping):
            for key, item in sorted(value.items(), key=lambda pair: repr(pair[0])):
                yield from (self.digest(key), self.digest(item))
        elif isinstance(value, (set, frozenset)):
            yield from sorted(map(self.digest, value))
        elif isinstance(value, (list, tuple)):
            yield from map(self.digest, value)
        elif isinstance(value, functools.partial):
            yield self.digest((value.func, value.args, value.keywords))
        elif hasattr(value, "__wrapped__") and _library(type(value)):  # compiled, cached, ...: the library keeps books of its own
            yield from (self.digest(getattr(value, name, None)) for name in ("__wrapped__", *_RULES))
        elif dataclasses.is_dataclass(value):
            yield from (self.digest((field.name, getattr(value, field.name, None))) for field in dataclasses.fields(value))
        elif (held := _held(value)) is not None and (held or not _compiled(value)):
            yield self.digest(held)
        else:
            kind = type(value)
            raise TypeError(f"a fingerprint cannot be taken of {kind.__module__}.{kind.__qualname__}, whose parts cannot be seen")

    def array(self, value):
        if str(value.dtype).startswith("key<"):  # of random numbers
            import jax

            value = jax.random.key_data(value)
        array = np.asarray(value)
        if array.dtype.kind == "O":
            yield self.digest(array.tolist())
        else:
            yield f"array {array.dtype.str} {array.shape} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()}"

    def function(self, value):
        if _of_ours(value) and isinstance(value, types.FunctionType):
            value = inspect.unwrap(value)  # of checks that tests add
        foreign = _of_a_library(getattr(value, "__func__", value))
        yield f"function {_name(value) if foreign else ''}"
        if isinstance(value, types.MethodType):
            yield self.digest(value.__self__)
            value = value.__func__
        own = {name: item for name, item in vars(value).items() if name != "__wrapped__"}
        yield self.digest((value.__defaults__, value.__kwdefaults__))
        if not foreign:
            yield self.digest(own)
        for cell in value.__closure__ or ():
            # a library's own marks need not be seen, what it wraps must be
            loose = foreign and not isinstance(cell.cell_contents, (types.FunctionType, types.MethodType, functools.partial, type))
            with contextlib.suppress(*((TypeError,) if loose else ())):
                yield self.digest(cell.cell_contents)
        if foreign:
            return
        code = value.__code__
        if value.__doc__ is not None and code.co_consts[:1] == (value.__doc__,):
            code = code.replace(co_consts=(None, *code.co_consts[1:]))
        yield self.digest(code)
        read, named = _names_in(value.__code__)
        yield from self.names(value.__globals__, read, named, [])

    def names(self, space: dict, read: set[str], named: set[str], above):
        """What the names that are ``read`` stand for in a module; of a module of the user's own, what is ``named`` of it."""
        for name in sorted(read & set(space)):
            item = space[name]
            yield from (name, self.digest(item))
            if isinstance(item, types.ModuleType) and not _library(item) and item not in above:
                yield from self.names(vars(item), named, named, [*above, item])

    def cls(self, value):
        """A class that no library defines: its bases, and what it holds but for what Python itself puts there."""
        yield f"class {value.__qualname__}"
        yield from map(self.digest, value.__bases__)
        made: tuple = ()  # from the fields of a dataclass
        if "__dataclass_fields__" in vars(value):
            fields = dataclasses.fields(value)
            yield self.digest([(field.name, field.default, field.default_factory) for field in fields])
            made = (*(field.name for field in fields), *_OF_FIELDS)
        for name, item in sorted(vars(value).items()):
            if name in _OF_PYTHON:
                continue
            if isinstance(item, _WRAPPERS):
                item = getattr(item, "fget", None) or getattr(item, "func", None) or getattr(item, "__func__", None)
            if name in made and getattr(getattr(item, "__code__", None), "co_filename", "<string>") == "<string>":
                continue
            yield name
            with contextlib.suppress(TypeError, ValueError):  # a lock, a slot, an empty cell: nothing that numbers depend on
                yield self.digest(item)


def _compiled(value) -> bool:
    """Whether a library keeps a function where it cannot be seen: what JAX has compiled, once it was copied."""
    return callable(value) and _library(type(value))


def _held(value) -> dict | None:
    """What an object holds by name, the slots of its classes included; None where that cannot be seen."""
    slots = [name for cls in type(value).__mro__ for name in _slots(cls)]
    if not slots and not hasattr(value, "__dict__"):
        return None
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)} | dict(getattr(value, "__dict__", {}))
    made = [vars(cls).items() for cls in type(value).__mro__]
    kept = {name for items in made for name, item in items if isinstance(item, functools.cached_property)}
    return {name: item for name, item in found.items() if not isinstance(item, types.ModuleType) and name not in kept}


def _slots(cls) -> tuple:
    slots = vars(cls).get("__slots__", ())
    slots = (slots,) if isinstance(slots, str) else tuple(slots)
    hidden = f"_{cls.__name__.lstrip('_')}"
    names = (hidden + name if name.startswith("__") and not name.endswith("__") else name for name in slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _names_in(code) -> tuple[set[str], set[str]]:
    """The names that a function, or one within it, reads from its module, and all that it names, attributes included."""
    read = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    named = set(code.co_names)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found = _names_in(inner)
            read, named = read | found[0], named | found[1]
    return read, named


def _library(value) -> bool:
    """Whether a class or module is of a library or of this package, where a name says what it is."""
    module = value if isinstance(value, types.ModuleType) else sys.modules.get(value.__module__)
    if module is None or module.__name__ == "__main__":
        return False
    file = getattr(module, "__file__", None)
    return module.__name__.partition(".")[0] == _OURS or file is None or _of_libraries(file)


def _of_a_library(function) -> bool:
    # by the file of the code: the module of what a notebook defines is called as the library that runs it; of this package by
    # the module, wherever it lies: its version stands for its code
    return _of_ours(function) or _of_libraries(function.__code__.co_filename)


def _of_ours(function) -> bool:
    return (function.__module__ or "").partition(".")[0] == _OURS


def _of_libraries(file: str) -> bool:
    return file.startswith(_LIBRARIES) or _INSTALLED.search(file) is not None


def _name(value) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', getattr(value, '__name__', ''))}"
