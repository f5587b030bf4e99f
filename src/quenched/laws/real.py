"""Real data from files: IDX (MNIST's format), NPY, NPZ, and OpenML by name. Nothing is shipped with the package."""

from __future__ import annotations

import gzip
import pathlib

import numpy as np

from quenched.numerics import check

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read(path, key: str | None = None) -> np.ndarray:
    """The array in a file.

    - ``path``: ends in ``.npy``, ``.npz``, or holds IDX (``train-images-idx3-ubyte``), each also with ``.gz`` after it.
    - ``key``: which array of an ``.npz``; may be left out where it holds only one.

    Returns the array as it is stored. Raises ``ValueError`` for a file of another format (pickles are not opened), and
    ``FileNotFoundError`` where there is none.
    """
    path = pathlib.Path(path)
    name = path.name.removesuffix(".gz")
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        if name.endswith(".npy"):
            return np.load(file, allow_pickle=False)
        if name.endswith(".npz"):
            with np.load(file, allow_pickle=False) as held:
                keys = list(held)
                if key is None and len(keys) != 1:
                    raise ValueError(f"key must be one of {', '.join(map(repr, keys))} for {path}, got None")
                return held[check.choice("key", keys[0] if key is None else key, keys)]
        return _idx(file.read(), path)


def _idx(content: bytes, path) -> np.ndarray:
    """IDX: two zero bytes, a type code, the number of axes, big-endian lengths of the axes, then the numbers."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(f"path must be an NPY, NPZ or IDX file, got {path}")
    kind, axes = np.dtype(_IDX_TYPES[content[2]]), content[3]
    shape = tuple(np.frombuffer(content, ">u4", axes, offset=4).tolist())
    numbers = content[4 + 4 * axes :]
    if len(numbers) != kind.itemsize * int(np.prod(shape)):
        raise ValueError(f"path must be a whole IDX file, got {path} with {len(numbers)} bytes for the shape {shape}")
    return np.frombuffer(numbers, kind).reshape(shape).astype(kind.newbyteorder("="))


def mnist(folder, part: str = "train") -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of MNIST, or of a data set in its files' names (Fashion-MNIST, KMNIST), from a folder.

    - ``folder``: holds ``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte`` (``t10k-`` for ``part="test"``), with
      or without ``.gz``.

    Returns images (n, pixels) scaled to [0, 1] and labels (n,). Raises ``FileNotFoundError`` naming what is missing.
    """
    prefix = {"train": "train", "test": "t10k"}[check.choice("part", part, ("train", "test"))]
    images, labels = (_find(pathlib.Path(folder), f"{prefix}-{rest}") for rest in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    images = read(images)
    return images.reshape(len(images), -1) / 255.0, read(labels).astype(int)


def _find(folder: pathlib.Path, name: str) -> pathlib.Path:
    for path in (folder / name, folder / f"{name}.gz", folder / name.replace("-idx", ".idx")):
        if path.is_file():
            return path
    raise FileNotFoundError(f"folder must hold {name} or {name}.gz, got {folder}")


def openml(name: str, version: int = 1, folder=None) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n, p) and targets (n,) of a data set on openml.org: ``openml("mnist_784")``; downloaded once by scikit-learn.

    ``folder`` is where scikit-learn keeps it. Raises ``ValueError`` where an input column holds no numbers.
    """
    from sklearn.datasets import fetch_openml

    x, y = fetch_openml(name, version=version, data_home=folder, as_frame=False, return_X_y=True)
    return check.array("inputs", x, ndim=2), y
