"""Repeated trials of one experiment: a value per seed, means and standard errors over the seeds that converged."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from quenched.numerics.fingerprint import differ

CONVERGED = "converged"


class Estimate(NamedTuple):
    """A mean over seeds with its standard error (infinite for one seed), and the values it is made of.

    >>> t = Trials({"q": np.array([1.0, 3.0])}, (0, 1), ("converged", "converged"), dim=10, n=20)
    >>> float(t["q"].mean), float(t["q"].standard_error), t["q"].values.tolist()
    (2.0, 1.0, [1.0, 3.0])
    """

    mean: np.ndarray
    standard_error: np.ndarray
    values: np.ndarray

    def __repr__(self) -> str:
        return f"Estimate({_in_words(self.mean, self.standard_error)}, seeds={len(self.values)})"


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Trials:
    """The results of one experiment repeated over seeds.

    - ``values``: name -> (S, ...) array, one row per seed, in the order of ``seeds``;
    - ``seeds`` (S,): ints, or tuples of ints; ``status`` (S,): the sentence of each seed, "converged" where it did;
    - ``dim``: d; ``n``: samples per seed; ``settings``: what else defines the experiment (JSON-able), ``settings["identity"]``
      tells problems apart that read alike, where it is known;
    - ``optimality`` (S,): relative gradient or duality gap; ``seconds`` (S,): wall-clock time of each seed.

    ``trials["test_error"]`` is an :class:`Estimate`; means are over converged seeds only, the others are listed.
    ``a + b`` merges disjoint seeds of the same experiment. ``ValueError`` for rows that do not match the seeds.

    >>> t = Trials({"q": np.array([1.0, 3.0, 9.0])}, (0, 1, 2), ("converged", "converged", "stopped"), dim=10, n=20)
    >>> t["q"]
    Estimate(2.0 ± 1.0, seeds=2)
    >>> t.not_converged
    {2: 'stopped'}
    """

    values: dict[str, np.ndarray]
    seeds: tuple
    status: tuple[str, ...]
    dim: int
    n: int
    optimality: np.ndarray | None = None
    seconds: np.ndarray | None = None
    settings: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        count = len(self.seeds)
        if len(set(self.seeds)) != count:
            raise ValueError(f"seeds must differ from each other, got {self.seeds}")
        if len(self.status) != count:
            raise ValueError(f"status must hold one sentence per seed ({count}), got {len(self.status)}")
        for name in ("optimality", "seconds"):
            row = np.zeros(count) if getattr(self, name) is None else np.array(getattr(self, name), dtype=np.float64)
            if row.shape != (count,):
                raise ValueError(f"{name} must hold one number per seed ({count}), got the shape {row.shape}")
            object.__setattr__(self, name, _frozen(row))
        values = {name: _frozen(np.array(value, dtype=np.float64)) for name, value in self.values.items()}
        for name, value in values.items():
            if value.shape[:1] != (count,):
                raise ValueError(f"values[{name!r}] must hold one row per seed ({count}), got the shape {value.shape}")
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "settings", _plain(self.settings))

    @property
    def converged(self) -> np.ndarray:
        """Which seeds converged, (S,) bool."""
        return np.array([sentence == CONVERGED for sentence in self.status], dtype=bool)

    @property
    def not_converged(self) -> dict:
        """seed -> sentence, for the seeds that are left out of the averages."""
        return {seed: text for seed, text in zip(self.seeds, self.status, strict=True) if text != CONVERGED}

    @property
    def mean(self) -> dict[str, np.ndarray]:
        """name -> mean over the converged seeds."""
        return {name: self[name].mean for name in self.values}

    @property
    def standard_error(self) -> dict[str, np.ndarray]:
        """name -> standard error of the mean over the converged seeds; infinite where only one converged."""
        return {name: self[name].standard_error for name in self.values}

    def __getitem__(self, name: str) -> Estimate:
        if name not in self:
            raise KeyError(f"{name!r} was not measured; there are {', '.join(map(repr, self.values))}")
        kept = self.values[name][self.converged]
        if not len(kept):
            raise ValueError(f"no seed converged, so {name!r} has no mean; see .not_converged and .values")
        error = kept.std(axis=0, ddof=1) / np.sqrt(len(kept)) if len(kept) > 1 else np.full(kept.shape[1:], np.inf)
        return Estimate(kept.mean(axis=0), error, kept)

    def __contains__(self, name: str) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> tuple[str, ...]:
        """The names of what was measured.

        >>> list(Trials({"q": np.array([1.0, 3.0])}, (0, 1), ("converged", "converged"), dim=10, n=20).keys())
        ['q']
        """
        return tuple(self.values)

    @property
    def _shown(self) -> dict:
        """Settings without what only a machine reads."""
        return {name: value for name, value in self.settings.items() if name != "identity"}

    def with_values(self, **values: np.ndarray) -> Trials:
        """The same trials with more values (or replaced ones), each with one row per seed.

        >>> t = Trials({"q": np.array([1.0, 3.0])}, (0, 1), ("converged", "converged"), dim=10, n=20)
        >>> t.with_values(root=np.sqrt(t["q"].values))["root"].values.round(4).tolist()
        [1.0, 1.7321]
        """
        return dataclasses.replace(self, values={**self.values, **values})

    def map(self, fn) -> Trials:
        """The same trials with ``fn(row: dict of one seed's values) -> dict`` in place of every seed's values.

        >>> t = Trials({"q": np.array([1.0, 3.0])}, (0, 1), ("converged", "converged"), dim=10, n=20)
        >>> t.map(lambda row: {"twice": 2.0 * row["q"]})["twice"].values.tolist()
        [2.0, 6.0]
        """
        rows = [fn({name: value[i] for name, value in self.values.items()}) for i in range(len(self.seeds))]
        return dataclasses.replace(self, values={name: np.stack([row[name] for row in rows]) for name in rows[0]})

    def __add__(self, other: Trials) -> Trials:
        """The seeds of both; ValueError where the experiments differ or a seed is in both."""
        if not isinstance(other, Trials):
            return NotImplemented
        for name in ("dim", "n", "_shown"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(f"trials must be of one experiment, got {name.replace('_shown', 'settings')} {mine} and {theirs}")
        if differ(self.settings.get("identity"), other.settings.get("identity")):
            raise ValueError(f"trials must be of one experiment, got two of {self._shown}: their arrays or functions differ")
        shapes = [{name: value.shape[1:] for name, value in t.values.items()} for t in (self, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"trials must measure the same things, got {shapes[0]} and {shapes[1]}")
        common = set(self.seeds) & set(other.seeds)
        if common:
            raise ValueError(f"trials must have different seeds, got {sorted(common, key=str)} in both")
        identity = self.settings.get("identity") or other.settings.get("identity")
        return dataclasses.replace(
            self,
            settings=self._shown | ({"identity": identity} if identity else {}),
            values={name: np.concatenate([value, other.values[name]]) for name, value in self.values.items()},
            seeds=self.seeds + other.seeds,
            status=self.status + other.status,
            optimality=np.concatenate([self.optimality, other.optimality]),
            seconds=np.concatenate([self.seconds, other.seconds]),
        )

    def save(self, path) -> None:
        """Write to a NumPy .npz file: numbers and JSON, never code.

        >>> t = Trials({"q": np.array([1.0, 3.0])}, (0, 1), ("converged", "converged"), dim=10, n=20)
        >>> t.save("trials.npz")
        >>> Trials.load("trials.npz").dim
        10
        """
        about = {
            "format": "quenched.Trials/1",
            "seeds": [list(seed) if isinstance(seed, tuple) else seed for seed in self.seeds],
            "status": list(self.status),
            "dim": self.dim,
            "n": self.n,
            "settings": self.settings,
        }
        numbers = {f"value:{name}": value for name, value in self.values.items()}
        with open(path, "wb") as file:
            np.savez(
                file, about=np.array(json.dumps(about)), optimality=self.optimality, seconds=self.seconds, **numbers
            )

    @classmethod
    def load(cls, path) -> Trials:
        """Read what :meth:`save` wrote; ValueError for another file.

        >>> t = Trials({"q": np.array([1.0, 3.0])}, (0, 1), ("converged", "converged"), dim=10, n=20)
        >>> t.save("trials.npz")
        >>> Trials.load("trials.npz")["q"].values.tolist()
        [1.0, 3.0]
        """
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"])) if "about" in file else {}
            if about.get("format") != "quenched.Trials/1":
                raise ValueError(f"path must be a file written by Trials.save, got {path}")
            values = {name.removeprefix("value:"): file[name] for name in file.files if name.startswith("value:")}
            return cls(
                values=values,
                seeds=tuple(tuple(seed) if isinstance(seed, list) else seed for seed in about["seeds"]),
                status=tuple(about["status"]),
                dim=about["dim"],
                n=about["n"],
                optimality=file["optimality"],
                seconds=file["seconds"],
                settings=about["settings"],
            )

    def _rows(self) -> list[tuple[str, str]]:
        if not self.converged.any():
            return []
        rows = []
        for name in self.values:
            mean, error, _ = self[name]
            for index in np.ndindex(mean.shape):
                where = f"[{', '.join(map(str, index))}]" if mean.size > 1 else ""
                rows.append((name + where, _in_words(mean[index], error[index])))
        return rows

    def _headline(self) -> str:
        good, count = int(self.converged.sum()), len(self.seeds)
        all_or_some = f"all {count} seeds converged" if good == count else f"{good} of {count} seeds converged"
        settings = "".join(f", {key}={value}" for key, value in self._shown.items())
        return f"Trials(dim={self.dim}, n={self.n}{settings}): {all_or_some}, {np.mean(self.seconds):.2g} s a seed"

    def _failures(self) -> list[str]:
        return [f"seed {seed}: {sentence}" for seed, sentence in self.not_converged.items()]

    def __repr__(self) -> str:
        rows = self._rows()
        width = max((len(name) for name, _ in rows), default=0)
        lines = [f"{name:<{width}}  {text}" for name, text in rows] + self._failures()
        return "\n".join([self._headline(), *(f"  {line}" for line in lines)])

    def _repr_html_(self) -> str:
        escaped = ([html.escape(cell) for cell in row] for row in self._rows())
        cells = "".join(f"<tr><td>{name}</td><td>{text}</td></tr>" for name, text in escaped)
        failures = "".join(f"<li>{html.escape(line)}</li>" for line in self._failures())
        table = f"<table><tr><th>observable</th><th>mean ± standard error</th></tr>{cells}</table>"
        return f"<p>{html.escape(self._headline())}</p>{table}" + (f"<ul>{failures}</ul>" if failures else "")


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _plain(settings) -> dict:
    """Settings as JSON gives them back, so that saved trials can be merged with new ones."""
    try:
        return json.loads(json.dumps(settings, default=lambda value: np.asarray(value, dtype=np.float64).tolist()))
    except (TypeError, ValueError) as error:
        raise ValueError(f"settings must hold numbers, strings, lists and dicts only, got {settings!r}") from error


def _in_words(mean, error) -> str:
    """A number with as many digits as its error allows."""
    if np.size(mean) != 1:
        return f"{np.array2string(np.asarray(mean), precision=4)} ± {np.array2string(np.asarray(error), precision=2)}"
    mean, error = float(np.ravel(mean)[0]), float(np.ravel(error)[0])
    if not np.isfinite(error):
        return f"{mean:.5g} ± unknown"
    digits = 0 if error == 0 else max(0, 1 - int(np.floor(np.log10(error))))
    if error == 0 or digits > 8:
        return f"{mean:.6g} ± {error:.1e}"
    return f"{mean:.{digits}f} ± {error:.{digits}f}"
