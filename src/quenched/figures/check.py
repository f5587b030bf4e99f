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
    text = (
        f"{near} of {away.size} measured points lie within {NEAR:g} standard errors of the theory, "
        f"the farthest at {away.max():.1f}"
    )
    if doubtful:
        text += f"; {doubtful} points of theory are doubtful (hollow)"
    return Check(bool(near >= SHARE * away.size and away.max() <= FAR and not failed), text, rows, failed)
