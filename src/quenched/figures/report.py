"""All figures on one self-contained page: pictures, how far theory lies from experiment, parameters, references."""

from __future__ import annotations

import base64
import html
import importlib
import json
import pathlib
import re
import time
from typing import NamedTuple

from .. import plotting
from .check import Check

FIGURES = ("glm", "mixture", "phase_retrieval", "message_passing", "digits")


class Page(NamedTuple):
    """The written page: ``path``, whether every figure ``passed`` its check, and a ``summary`` to print."""

    path: pathlib.Path
    passed: bool
    summary: str


def build(out="quenched-report", *, quick: bool = False, progress=None, names=None) -> Page:
    """Compute figures and write ``index.html``, with a PNG and a CSV of each beside it.

    Parameters: ``out`` a directory (made if missing); ``names`` of the figures (default: all); ``quick`` smaller
    sizes; ``progress(done, total, what)``. Returns a :class:`Page`.
    """
    out, names = pathlib.Path(out), FIGURES if names is None else names
    start, sections, lines, passed = time.perf_counter(), [], [], True
    for number, name in enumerate(names, start=1):
        module = importlib.import_module(f"{__package__}.{name}")
        clock = time.perf_counter()
        data = module.study(quick, _headed(progress, f"figure {number} of {len(names)}, {name}"))
        verdict = module.check(data)
        seconds = time.perf_counter() - clock
        with plotting.style("screen"):
            ax = module.plot(data)
            picture, _ = plotting.save(ax, out / f"{name}.png", data)
        _close(ax.figure)
        sections.append(_section(module, data, verdict, picture, seconds))
        lines.append(f"{'ok  ' if verdict.passed else 'FAIL'} {module.TITLE}: {verdict.text} ({seconds:.0f} s)")
        passed &= verdict.passed
    path = out / "index.html"
    path.write_text(_page(sections, quick, time.perf_counter() - start), encoding="utf-8")
    return Page(path, passed, "\n".join([*lines, f"The report lies in {path.resolve()}"]))


def draw(name: str, out, *, quick: bool = True, progress=None):
    """One figure, by its name with dashes: its PNG and CSV in ``out``; returns the picture's path and the :class:`Check`."""
    module = importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
    data = module.study(quick, _headed(progress, name))
    with plotting.style("screen"):
        ax = module.plot(data)
        picture, _ = plotting.save(ax, pathlib.Path(out) / f"{name}.png", data)
    _close(ax.figure)
    return picture, module.check(data)


def _headed(progress, heading):
    if progress is None:
        return None
    return lambda done, total, what: progress(done, total, f"{heading}: {what}")


def _close(figure):
    import matplotlib.pyplot as plt

    plt.close(figure)


_STYLE = """
body { max-width: 46em; margin: 2em auto; padding: 0 1em; font: 16px/1.5 Georgia, serif; color: #222; }
h1, h2 { font-weight: normal; } img { width: 100%; max-width: 36em; display: block; margin: 1em auto; }
table { border-collapse: collapse; font: 13px/1.4 monospace; } td, th { padding: 0 0.8em; text-align: right; }
.ok { color: #00704a; } .failed { color: #b33a00; font-weight: bold; } .small { font-size: 14px; color: #555; }
"""


def _page(sections, quick, seconds) -> str:
    from .. import __version__

    kind = "quick report, small sizes" if quick else "full report"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>quenched: theory and experiment</title>'
        f"<style>{_STYLE}</style></head><body><h1>Theory and experiment</h1>"
        f"<p>Lines are solved in the limit of large dimension, points are models trained at finite size, with bars of "
        f"one standard error. Hollow marks are not to be trusted. quenched {__version__}, {kind}, {seconds:.0f} s.</p>"
        + "".join(sections)
        + "</body></html>\n"
    )


def _section(module, data, verdict: Check, picture: pathlib.Path, seconds: float) -> str:
    image = base64.b64encode(picture.read_bytes()).decode()
    parameters = {**json.loads(data.attrs["parameters"]), **json.loads(data.attrs["simulate"])}
    settings = ", ".join(f"{name} = {value}" for name, value in parameters.items() if value is not None)
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in (verdict.rows[0] if verdict.rows else ()))
    rows = "".join("<tr>" + "".join(f"<td>{_cell(v)}</td>" for v in row.values()) + "</tr>" for row in verdict.rows)
    failed = f"<p class=failed>Failed points:<br>{html.escape(verdict.failed)}</p>" if verdict.failed else ""
    return (
        f"<h2>{html.escape(module.TITLE)}</h2>"
        f'<img src="data:image/png;base64,{image}" alt="{html.escape(module.TITLE)}">'
        f"<p>{html.escape(module.CAPTION)}</p>"
        f"<p class={'ok' if verdict.passed else 'failed'}>{html.escape(verdict.text)}.</p>{failed}"
        f"<details><summary>Every measured point</summary><table><tr>{head}</tr>{rows}</table></details>"
        f"<p class=small>{html.escape(data.attrs['problem'])}: {html.escape(settings)}. Computed in {seconds:.0f} s. "
        f'<a href="{picture.name}">Picture</a>, <a href="{picture.with_suffix(".csv").name}">numbers</a>. '
        f"{'; '.join(_reference(text) for text in module.REFERENCES)}.</p>"
    )


def _cell(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))


def _reference(text: str) -> str:
    """A reference whose arXiv number is a link."""
    return re.sub(r"arXiv:([\d.]+\d)", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', html.escape(text))
