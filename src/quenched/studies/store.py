"""Finished points on disk: written whole or not at all, read back after any interruption, data and never code.

A store is a directory::

    manifest.json   the problem, its parameters and the version, with a fingerprint of each
    theory.json     how it is solved, experiment.json: what is simulated; from the first success on
    points/*.npz    finished points and trials, in files that are never changed
    lines/          what a line of points goes on from
    data.nc         the Dataset of the last sweep, replaced now and then

Several processes may write to one store at a time: each adds files of its own.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import shutil
import time
import uuid
import warnings
from collections.abc import Iterator

import numpy as np

from ..numerics.fingerprint import fingerprint
from .records import Solved, Trial, padded

FORMAT = "quenched.sweep/1"
_WORDS = {Solved: ("point", "status", "failed"), Trial: ("point", "seed", "status")}
_MANIFEST = {Solved: "theory", Trial: "experiment"}  # on which records of a kind depend
_FORGOTTEN = 3600.0  # seconds after which a file that was never finished is taken away


class Store:
    """The finished points of one study; in memory only where ``path`` is None.

    ``manifests`` say what is studied: file -> part -> {"value": in words, "fingerprint": text}, or None for what does not matter
    now, the records of which are not looked at. ``ValueError`` where ``path`` holds another study (the sentence says in what it
    differs) or is no store.
    """

    def __init__(self, path, manifests: dict):
        self.solved: dict[str, Solved] = {}
        self.trials: dict[tuple[str, str], Trial] = {}
        self.path = None if path is None else pathlib.Path(path).expanduser().absolute()
        self.manifests = manifests
        self._published = -np.inf, 0.0  # when, and how long it took
        self._seen: set[pathlib.Path] = set()
        self._waiting: dict[type, list] = {}
        if self.path is not None:
            _open(self.path, manifests)
            self.refresh()

    def add(self, records: list) -> None:
        """Keep finished points (:class:`Solved`) or trials (:class:`Trial`); they are on disk when this returns.

        Failures wait for the first success of their kind: arguments that nothing could be done with make no study.
        """
        self._remember(records)
        if not records or self.path is None:
            return
        kind = type(records[0])
        name = _MANIFEST[kind]
        if not (self.path / f"{name}.json").exists():
            if not any(record.values for record in records):
                self._waiting.setdefault(kind, []).extend(records)
                return
            _claim(self.path, {name: self.manifests.get(name)})
        records = [*self._waiting.pop(kind, []), *records]
        path = self.path / "points" / f"{kind.__name__.lower()}-{uuid.uuid4().hex}.npz"
        _whole(path, lambda temporary: _save(temporary, _arrays(records)))
        self._seen.add(path)

    def merge(self, other) -> None:
        """Take in what another store of this study holds."""
        other = pathlib.Path(other)
        if not (other / "manifest.json").is_file():
            raise ValueError(f"merge must name directories that sweeps have written, got {other}")
        _check_same(other, self.manifests, "merge names")
        for _, records in self._unread(other):
            self.add(records)
        if self.path is not None and self.manifests.get("theory") is not None:
            for kept in (other / "lines").glob("*.npz"):
                self.keep(kept.stem, functools.partial(shutil.copyfile, kept))

    def refresh(self) -> bool:
        """Look for what other processes have added; whether there was anything."""
        before = len(self._seen)
        if self.path is not None:
            for path, records in self._unread(self.path):
                self._seen.add(path)
                self._remember(records)
        return len(self._seen) > before

    def _unread(self, path) -> Iterator[tuple[pathlib.Path, list]]:
        """(file, what is new in it and matters now) of a store."""
        for part in sorted((path / "points").glob("*.npz")):
            if part not in self._seen:
                yield part, [record for record in _read(part) if self._matters(record) and not self._knows(record)]

    def keep(self, name: str, save) -> None:
        """Keep what points after this one, called ``name``, go on from: ``save(path)`` writes it."""
        if self.path is not None:
            (self.path / "lines").mkdir(exist_ok=True)
            _whole(self.path / "lines" / f"{name}.npz", save)

    def kept(self, name: str) -> pathlib.Path | None:
        """The file that :meth:`keep` wrote, if there is one."""
        path = None if self.path is None else self.path / "lines" / f"{name}.npz"
        return path if path is not None and path.is_file() else None

    def publish(self, make, *, now: bool = False) -> None:
        """Write ``make()``, a Dataset, as ``data.nc``: the first time, then every so often, and when it is asked for ``now``."""
        if self.path is None:
            return
        start, (last, took) = time.monotonic(), self._published
        if now or start - last > max(2.0, 10.0 * took):
            self.refresh()  # what is published by several processes should not go backwards
            _whole(self.path / "data.nc", lambda temporary: make().to_netcdf(temporary, engine="h5netcdf"))
            self._published = time.monotonic(), time.monotonic() - start

    def _matters(self, record) -> bool:
        return self.manifests.get(_MANIFEST[type(record)]) is not None

    def _knows(self, record) -> bool:
        return record.point in self.solved if isinstance(record, Solved) else (record.point, record.seed) in self.trials

    def _remember(self, records) -> None:
        for record in records:
            if isinstance(record, Solved):
                self.solved.setdefault(record.point, record)
            else:
                self.trials.setdefault((record.point, record.seed), record)


def _open(path: pathlib.Path, manifests: dict) -> None:
    """Make the directory and its manifests, or check that it holds this study."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"store must be a directory, got the file {path}")
    path.mkdir(parents=True, exist_ok=True)
    if not (path / "manifest.json").exists() and any(not entry.name.startswith(".") for entry in path.iterdir()):
        raise ValueError(f"store must be an empty directory or one that a sweep has written, got {path}")
    _check_same(path, manifests)
    _claim(path, {"manifest": manifests["manifest"]})
    (path / "points").mkdir(exist_ok=True)
    for forgotten in path.rglob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - forgotten.stat().st_mtime > _FORGOTTEN:
                forgotten.unlink()


def _claim(path: pathlib.Path, manifests: dict) -> None:
    """Write manifests that are not there yet; ``ValueError`` where another process was first, with another study."""
    for name, study in manifests.items():
        if study is not None and not (path / f"{name}.json").exists():
            text = json.dumps({"format": FORMAT, "fingerprint": fingerprint(study), "study": study}, indent=2)
            with contextlib.suppress(FileExistsError):
                _whole(path / f"{name}.json", lambda temporary, text=text: temporary.write_text(text), replace=False)
    _check_same(path, manifests)


def _check_same(path: pathlib.Path, manifests: dict, where: str = "store holds") -> None:
    """``ValueError`` where the directory holds another study than the manifests describe; files that it lacks do not matter."""
    for file, study in manifests.items():
        if study is None or not (path / f"{file}.json").exists():
            continue
        try:
            held = json.loads((path / f"{file}.json").read_text())
            known = dict(held["study"]) if held["format"] == FORMAT else None
        except (OSError, ValueError, KeyError, TypeError):
            known = None
        if known is None:
            raise ValueError(f"{where.split()[0]} must be a directory that a sweep of this version can read, got {path}")
        for name in dict.fromkeys([*study, *known]):
            here, there = study.get(name), known.get(name)
            if here is None or there is None or here["fingerprint"] != there["fingerprint"]:
                a, b = ("not given" if part is None else repr(part["value"]) for part in (here, there))
                what = f"there {b}, here {a}" if a != b else f"{a} in both, but it holds other things"
                advice = "; give this one a directory of its own, not" if where == "store holds" else ", in"
                raise ValueError(f"{where} another study: {name} is {what}{advice} {path}")


def _whole(path: pathlib.Path, write, *, replace: bool = True) -> None:
    """Call ``write`` with a temporary file beside ``path``, and give it that name when it is on disk."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            _link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _link(old: pathlib.Path, new: pathlib.Path) -> None:
    """Give a file a second name; ``FileExistsError`` where there is one of this name."""
    try:
        os.link(old, new)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        with open(new, "xb") as file:
            file.write(old.read_bytes())


def _save(path, arrays) -> None:
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def _arrays(records) -> dict[str, np.ndarray]:
    """Records of one kind as arrays, one row each: numbers padded, words, and what is no padding."""
    names = list(dict.fromkeys(name for record in records for name in record.values))
    shapes = [{name: np.shape(value) for name, value in record.values.items()} for record in records]
    words = _WORDS[type(records[0])]
    return {
        "format": np.array([FORMAT]),
        "shapes": np.array([json.dumps(shape) for shape in shapes]),
        **{word: np.array([getattr(record, word) for record in records]) for word in words},
        **{f"value:{name}": padded([record.values.get(name) for record in records]) for name in names},
    }


def _read(path) -> list:
    """The records of a file, or none and a warning where it is damaged."""
    try:
        return _records(path)
    except Exception as error:
        text = f"{path} cannot be read ({type(error).__name__}), and is left aside: what it held is computed again"
        warnings.warn(text, stacklevel=2)
        return []


def _records(path) -> list:
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        data = dict(file)
    kind = next(kind for kind, words in _WORDS.items() if set(words) <= set(data))
    records = []
    for i, text in enumerate(data["shapes"]):
        values = {name: _without_padding(data[f"value:{name}"][i], shape) for name, shape in json.loads(str(text)).items()}
        records.append(kind(values=values, **{word: str(data[word][i]) for word in _WORDS[kind]}))
    return records


def _without_padding(array, shape) -> np.ndarray:
    """The first entries along each axis; axes beyond the shape's were added by :func:`padded`."""
    return np.array(array[(*map(slice, shape), *(0,) * (array.ndim - len(shape)))])
