"""Finished points on disk: written whole or not at all, read back after any interruption, data and never code.

A store is a directory::

    manifest.json   the problem, its parameters and the version, with a fingerprint of each
    theory.json     how it is solved, experiment.json: what is simulated
    points/*.npz    finished points and trials, in files that are never changed
    lines/          what a line of points goes on from
    data.nc         the Dataset that is made of all points, replaced now and then

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

import numpy as np

from .fingerprint import fingerprint
from .records import Solved, Trial, padded

FORMAT = "quenched.sweep/1"
_WORDS = {Solved: ("point", "status", "failed"), Trial: ("point", "seed", "status")}
_FORGOTTEN = 3600.0  # seconds after which a file that was never finished is taken away


class Store:
    """The finished points of one study; in memory only where ``path`` is None.

    ``manifests`` say what is studied: file -> part -> {"value": in words, "fingerprint": text}, or None for what does not matter
    now. ``ValueError`` where ``path`` holds another study (the sentence says in what it differs) or is no store.
    """

    def __init__(self, path, manifests: dict):
        self.solved: dict[str, Solved] = {}
        self.trials: dict[tuple[str, str], Trial] = {}
        self.path = None if path is None else pathlib.Path(path)
        self.manifests = manifests
        self._published = -np.inf, 0.0  # when, and how long it took
        if self.path is not None:
            _open(self.path, manifests)
            self._read(self.path)

    def add(self, records: list) -> None:
        """Keep finished points (:class:`Solved`) or trials (:class:`Trial`); they are on disk when this returns."""
        if records and self.path is not None:
            kind = type(records[0]).__name__.lower()
            _whole(self.path / "points" / f"{kind}-{uuid.uuid4().hex}.npz", lambda temporary: _save(temporary, _arrays(records)))
        self._remember(records)

    def merge(self, other) -> None:
        """Take in what another store of this study holds."""
        other = pathlib.Path(other)
        if not (other / "manifest.json").is_file():
            raise ValueError(f"merge must name directories that sweeps have written, got {other}")
        _check_same(other, self.manifests)
        self._read(other, copy=True)
        if self.path is not None:
            for kept in (other / "lines").glob("*/[0-9]*.npz"):
                self.keep(kept.parent.name, int(kept.stem), functools.partial(shutil.copyfile, kept))

    def _read(self, path, copy: bool = False) -> None:
        for part in sorted((path / "points").glob("*.npz")):
            records = [record for record in _records(part) if not self._knows(record)]
            if copy and self.path is not None:
                self.add(records)
            else:
                self._remember(records)

    def keep(self, name: str, position: int, save) -> None:
        """Keep what the line of points ``name`` goes on from: ``save(path)`` writes it, for the point at ``position``."""
        if self.path is not None:
            folder = self.path / "lines" / name
            folder.mkdir(parents=True, exist_ok=True)
            _whole(folder / f"{position:08d}.npz", save)

    def kept(self, name: str) -> dict[int, pathlib.Path]:
        """Position -> file of all that :meth:`keep` was called for."""
        found = [] if self.path is None else sorted((self.path / "lines" / name).glob("[0-9]*.npz"))
        return {int(path.stem): path for path in found}

    def publish(self, make, *, now: bool = False) -> None:
        """Write ``make()``, a Dataset, as ``data.nc``: the first time, then every so often, and when it is asked for ``now``."""
        if self.path is None:
            return
        start, (last, took) = time.monotonic(), self._published
        if now or start - last > max(2.0, 10.0 * took):
            _whole(self.path / "data.nc", lambda temporary: make().to_netcdf(temporary, engine="h5netcdf"))
            self._published = time.monotonic(), time.monotonic() - start

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
    for name, study in manifests.items():
        if study is not None and not (path / f"{name}.json").exists():
            text = json.dumps({"format": FORMAT, "fingerprint": fingerprint(study), "study": study}, indent=2)
            with contextlib.suppress(FileExistsError):  # another process was first
                _whole(path / f"{name}.json", lambda temporary, text=text: temporary.write_text(text), replace=False)
    _check_same(path, manifests)
    (path / "points").mkdir(exist_ok=True)
    for forgotten in path.rglob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - forgotten.stat().st_mtime > _FORGOTTEN:
                forgotten.unlink()


def _check_same(path: pathlib.Path, manifests: dict) -> None:
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
            raise ValueError(f"store must be a directory that a sweep of this version can read, got {path}")
        for name in dict.fromkeys([*study, *known]):
            here, there = study.get(name), known.get(name)
            if here is None or there is None or here["fingerprint"] != there["fingerprint"]:
                a, b = ("not given" if part is None else repr(part["value"]) for part in (here, there))
                what = f"there {b}, here {a}" if a != b else f"{a} in both, but it holds other things"
                raise ValueError(f"store holds another study: {name} is {what}; give this one a directory of its own, not {path}")


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
            os.link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


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


def _records(path) -> list:
    with np.load(path, allow_pickle=False) as file:
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
