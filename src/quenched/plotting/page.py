"""Pages of HTML that hold all they need: style, scripts, the chart library and the numbers."""

from __future__ import annotations

import functools
import html
import importlib.resources
import json
import math

import numpy as np


@functools.cache
def asset(name: str) -> str:
    """The text of one of the package's own files for pages."""
    return importlib.resources.files("quenched").joinpath("assets", name).read_text(encoding="utf-8")


def page(title: str, body: str, *scripts: str) -> str:
    """A whole page: ``body`` is HTML, ``scripts`` are names of assets that run after the chart library."""
    code = "".join(f"<script>{asset(name)}</script>" for name in ("plotly-basic.min.js", "chart.js", *scripts))
    # Words before code: the page can be read while the library is still being compiled.
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{html.escape(title)}</title><style>{asset("page.css")}</style></head>'
        f"<body>{body}{code}</body></html>\n"
    )


def as_json(value) -> str:
    """``value`` as JSON within a page: seven digits, null for what is not finite, and no tag can end its script.

    >>> as_json({"x": np.array([1 / 3, np.nan]), "text": "</script>"})
    '{"x":[0.3333333,null],"text":"\\\\u003c/script>"}'
    """
    return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def embedded(value, **attributes: str) -> str:
    """``value`` as an element of a page that scripts read."""
    named = "".join(f' {name}="{html.escape(text)}"' for name, text in attributes.items())
    return f'<script type="application/json"{named}>{as_json(value)}</script>'


def _plain(value):
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, np.bool_):
        return bool(value)
    number = float(value)
    if not math.isfinite(number):
        return None
    short = float(f"{number:.7g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def settings(attributes, swept=()) -> str:
    """What a Dataset says about its problem, parameters and experiments, as one line of text, but for what is ``swept``.

    >>> settings({"problem": "Committee", "parameters": '{"units": 2, "noise": null}', "simulate": '{"dim": 50}'})
    'Committee: units = 2, dim = 50'
    >>> settings({"parameters": '{"noise": 0.5, "alpha": 1.0, "rates": {"tanh": 3.0, "relu": 1.5}}'}, swept=["noise"])
    'alpha = 1, rates = 3 (tanh), 1.5 (relu)'
    """
    name, said = str(attributes.get("problem", "")), {}
    for part in ("parameters", "simulate"):
        found = json.loads(attributes.get(part) or "{}")
        if isinstance(found, dict):
            said |= {key if said.get(key, value) == value else f"{key} ({part})": value for key, value in found.items()}
        elif found:  # the problem, spelt out
            name = str(found)
    parts = [f"{key} = {_said(value)}" for key, value in said.items() if value is not None and key not in swept]
    return ": ".join(text for text in (name, ", ".join(parts)) if text)


def _said(value) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_said(inner)} ({name})" for name, inner in value.items())
    if isinstance(value, list):
        return f"[{', '.join(map(_said, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
