"""Whether the experiments of a figure agree with its theory."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# What a comparison must meet: this share of points within three standard errors, and none beyond five.
SHARE, NEAR, FAR = 0.95, 3.0, 5.0


class Check(NamedTuple):
    """The verdict on one figure.

    ``passed``; ``text`` one sentence with the numbers; ``rows`` one dict for each measured point (its parameters, then
    theory, mean, standard error, ...); ``failed`` the points that could not be computed, in words, or "".
    """

    passed: bool
    text: str
    rows: tuple[dict, ...]
    failed: str


def counted(number: int, noun: str) -> str:
    """A number and what it counts.

    >>> counted(1, "point"), counted(3, "point"), counted(0, "point")
    ('1 point', '3 points', '0 points')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def close_ones(away, noun: str = "measured point", allowed: str = "") -> str:
    """How many of the deviations ``away`` are small, in words; ``allowed``: what was added to the standard errors.

    >>> close_ones([0.5, 1.0, 7.0]), close_ones([0.5], "fit", " (and 1%)")
    ('2 of 3 measured points lie within 3 standard errors', '1 of 1 fit lies within 3 standard errors (and 1%)')
    """
    near, count = int(np.sum(np.abs(away) <= NEAR)), len(away)
    verb = "lies" if 1 in (near, count) else "lie"
    return f"{near} of {counted(count, noun)} {verb} within {NEAR:g} standard errors{allowed}"


def measured_points(data, columns: dict[str, str]) -> tuple[dict, ...]:
    """One dict for each measured point of a Dataset: its coordinates, then ``columns`` (text -> variable)."""
    frame = data[list(columns.values())].to_dataframe().reset_index().dropna()
    frame.columns = [*data["trusted"].dims, *columns]
    return tuple(frame.to_dict("records"))


def in_standard_errors(data, observable: str) -> Check:
    """The verdict on one observable of a sweep (see :func:`quenched.sweep`), by deviations in standard errors."""
    names = {"theory": "", "mean": "_mean", "standard error": "_se", "deviation": "_deviation"}
    rows = measured_points(data, {text: observable + suffix for text, suffix in names.items()})
    failed, doubtful = data.attrs["failed"], int((~data["trusted"]).sum())
    if not rows:
        return Check(False, "no point was measured", rows, failed)
    away = np.abs([row["deviation"] for row in rows])
    near = int(np.sum(away <= NEAR))
    text = f"{close_ones(away)} of the theory, the farthest at {away.max():.1f}"
    if doubtful:
        text += f"; {counted(doubtful, 'point')} of theory {'is' if doubtful == 1 else 'are'} doubtful (hollow)"
    return Check(bool(near >= SHARE * away.size and away.max() <= FAR and not failed), text, rows, failed)
