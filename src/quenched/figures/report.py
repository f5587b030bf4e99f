"""All figures on one self-contained page: charts, how far theory lies from experiment, parameters, references."""

from __future__ import annotations

import base64
import html
import importlib
import os
import pathlib
import re
import time
import traceback
import warnings
from typing import NamedTuple

import numpy as np

from .. import plotting
from ..numerics import cache
from ..numerics.programs import hasty
from ..plotting.page import embedded, page, settings
from ..plotting.panels import cut_out, panels
from ..studies.executors import results_of_families
from . import FAMILIES, FIGURES
from .check import FAR, NEAR, Check, counted


class Page(NamedTuple):
    """The written page: ``path``, whether every figure ``passed`` its check, and a ``summary`` to print."""

    path: pathlib.Path
    passed: bool
    summary: str


class Section(NamedTuple):
    """One figure's part of the page, which can be computed in any process.

    ``name`` as on the command line; ``title``; ``body`` its HTML; whether it ``passed``; ``text`` the verdict in one sentence;
    ``seconds`` that it took.
    """

    name: str
    title: str
    body: str
    passed: bool
    text: str
    seconds: float


def build(out="quenched-report", *, quick: bool = False, progress=None, names=None, processes: int | None = None) -> Page:
    """Compute figures and write ``index.html``, with a PNG and a CSV of each beside it.

    The page is written anew as each figure ends, so that an interrupted report leaves what there is. A figure that fails is told
    on the page, and the others go on.

    Parameters: ``out`` a directory (made if missing); ``names`` of the figures (default: all); ``quick`` smaller
    sizes; ``progress(done, total, what)``; ``processes`` that compute figures side by side, None: one a core. Returns a
    :class:`Page`.
    """
    out, names = pathlib.Path(out), FIGURES if names is None else tuple(names)
    start, sections = time.perf_counter(), {}
    path = write(out, sections, names, quick, 0.0)
    for name, section in _computed(names, quick, out, progress, (os.cpu_count() or 1) if processes is None else processes):
        sections[name] = section
        write(out, sections, names, quick, time.perf_counter() - start)
    found = [sections[name] for name in names]
    lines = [f"{'ok  ' if s.passed else 'FAIL'} {s.title}: {s.text} ({s.seconds:.0f} s)" for s in found]
    passed = all(section.passed for section in sections.values())
    return Page(path, passed, "\n".join([*lines, f"The report lies in {path.resolve()}"]))


def _computed(names, quick, out, progress, processes):
    """(name, section) of each figure, as they end."""
    if processes == 1 or len(names) == 1:
        for number, name in enumerate(names, start=1):
            yield name, compute(name, quick, out, _headed(progress, f"figure {number} of {len(names)}, {name}"))
        return
    if progress is not None:
        progress(0, len(names), f"{processes} at a time")
    families = [[name for name in family if name in names] for family in FAMILIES]
    families += [[name] for name in names if not any(name in family for family in families)]
    calls = [{name: (_compute_apart, name, quick, out) for name in family} for family in families]
    ends = results_of_families(sorted(calls, key=len, reverse=True), count=processes, flags=hasty() if quick else "")
    for done, (name, end) in enumerate(ends, start=1):
        if progress is not None:
            progress(done, len(names), name)
        yield name, end if isinstance(end, Section) else _failed(name, name, end, 0.0)


def _compute_apart(name, quick, out) -> Section:
    """:func:`compute` in a process of its own, as the command line would."""
    cache.enable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is part of what is shown
        return compute(name, quick, out)


def compute(name: str, quick: bool, out, progress=None) -> Section:
    """One figure, by its name with dashes: its PNG and CSV in ``out``, and its :class:`Section`; an exception becomes one too."""
    clock = time.perf_counter()
    title = name
    try:
        module = _module(name)
        title = module.TITLE
        data = module.study(quick, progress)
        verdict = module.check(data)
        picture, shown = _draw(module, data, name, out)
        seconds = time.perf_counter() - clock
        return Section(name, title, _body(module, data, verdict, picture, shown, seconds), verdict.passed, verdict.text, seconds)
    except Exception as error:  # whatever it is, the other figures are not to blame
        return _failed(name, title, error, time.perf_counter() - clock)


def _failed(name, title, error, seconds) -> Section:
    text = f"it could not be computed, {type(error).__name__}: {error}"
    where = html.escape("".join(traceback.format_exception(error, limit=-3)))
    where = f'<details><summary>Where</summary><pre class="scroll">{where}</pre></details>'
    return Section(name, title, f'<p class="failed">{html.escape(text)}</p>{where}', False, text, seconds)


def write(out, sections: dict[str, Section], names, quick: bool, seconds: float) -> pathlib.Path:
    """Write ``index.html`` of what has been computed so far, of the figures ``names``; returns its path."""
    path = pathlib.Path(out) / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    whole = page("quenched: theory and experiment", _whole(sections, names, quick, seconds), "report.js")
    fresh.write_text(whole, encoding="utf-8")
    fresh.replace(path)  # whoever reads meanwhile has a whole page
    return path


def draw(name: str, out, *, quick: bool = True, progress=None):
    """One figure, by its name with dashes: its PNG and CSV in ``out``; returns the picture's path and the :class:`Check`."""
    module = _module(name)
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)  # or say now that there is no such place
    data = module.study(quick, _headed(progress, name))
    picture, _ = _draw(module, data, name, out)
    return picture, module.check(data)


def _module(name):
    return importlib.import_module(f"{__package__}.{name.replace('-', '_')}")


def _draw(module, data, name, out):
    """The picture of a figure, with its numbers beside it, and its panels: charts, or PNGs of what charts do not show."""
    import matplotlib.pyplot as plt

    with plotting.style("screen"):
        ax = module.plot(data)
        picture, _ = plotting.save(ax, pathlib.Path(out) / f"{name}.png", data)
        shown = [chart or cut_out(panel, picture) for chart, panel in zip(plotting.charts(ax), panels(ax), strict=True)]
        plt.close(ax.figure)
    return picture, shown


def _headed(progress, heading):
    if progress is None:
        return None
    return lambda done, total, what: progress(done, total, f"{heading}: {what}")


# ---- the page --------------------------------------------------------------------------------------------------------


def _whole(sections, names, quick, seconds) -> str:
    from .. import __version__

    kind = "quick report, small sizes" if quick else "full report"
    passed = sum(section.passed for section in sections.values())
    missing = len(names) - len(sections)
    done = f"{passed} of {counted(len(names), 'figure')} pass{'es' if 1 in (passed, len(names)) else ''}"
    done += f", {missing} not computed yet" if missing else ""
    entries = "".join(_entry(sections.get(name), name) for name in names)
    bodies = "".join(
        f'<section id="{s.name}"><h2>{html.escape(s.title)}</h2>{s.body}</section>' for n in names if (s := sections.get(n))
    )
    return (
        f"<main><h1>Theory and experiment</h1><p>Lines are solved in the limit of large dimension, points are models trained at "
        f"finite size, with bars of one standard error. Hollow marks are not to be trusted. Under each figure: how far every "
        f"measured point lies from its theory.</p><p>quenched {__version__}, {kind}, {seconds:.0f} s: {done}.</p>"
        f"<noscript><p>The charts need JavaScript; the pictures are linked under each figure.</p></noscript>"
        f'<nav aria-label="figures"><ol>{entries}</ol></nav>{bodies}</main>'
    )


def _entry(section: Section | None, name: str) -> str:
    if section is None:
        return f'<li><span class="waiting">waiting</span>{html.escape(name)}</li>'
    mark = '<span class="ok">✓ pass</span>' if section.passed else '<span class="failed">✗ fail</span>'
    return f'<li>{mark}<a href="#{section.name}">{html.escape(section.title)}</a></li>'


def _body(module, data, verdict: Check, picture: pathlib.Path, shown, seconds: float) -> str:
    several = " several" if len(shown) > 1 else ""
    drawn = (_image(one, f"{module.TITLE}, panel {k}") if isinstance(one, bytes) else _chart(one) for k, one in enumerate(shown, 1))
    failed = f'<p class="failed">Failed points:<br>{html.escape(verdict.failed)}</p>' if verdict.failed else ""
    links = [_reference(text) for text in module.REFERENCES]
    about = html.escape(settings(data.attrs, (*data.coords, "law")))  # captions say what the law is
    return (
        f'<div class="panels{several}">{"".join(drawn)}</div><p>{html.escape(module.CAPTION)}</p>'
        f'<p class="{"ok" if verdict.passed else "failed"}">{html.escape(verdict.text)}.</p>{failed}{_deviations(verdict)}'
        f'{_table(verdict.rows)}<p class="small">{about}. Computed in {seconds:.0f} s. '
        f'<a href="{picture.name}">Picture</a>, <a href="{picture.with_suffix(".csv").name}">numbers</a>. {"; ".join(links)}.</p>'
    )


def _image(png: bytes, text: str) -> str:
    return f'<figure><img src="data:image/png;base64,{base64.b64encode(png).decode()}" alt="{html.escape(text)}"></figure>'


def _chart(chart, kind: str = "") -> str:
    caption = f"<figcaption>{chart['title']}</figcaption>" if chart.get("title") else ""
    drawn = {"traces": chart["traces"], "layout": chart["layout"]}
    entries = sum(bool(one.get("showlegend", True)) for one in chart["traces"]) if chart["layout"]["showlegend"] else 0
    height = f' style="height: {380 + 26 * (entries - 3)}px"' if entries > 3 else ""  # on a phone each has a line of its own
    return f'<figure>{caption}<div class="chart{kind}"{height} data-lazy></div>{embedded(drawn)}</figure>'


def _deviations(verdict: Check) -> str:
    """How far each measured point lies from its theory, in standard errors, within bands of one, two and three."""
    rows = verdict.rows
    away = np.array([_deviation(row) for row in rows], dtype=float)
    kept = np.flatnonzero(np.isfinite(away))
    if not kept.size:
        return ""
    traces = []
    for name, colour, chosen in (
        (f"within {NEAR:g}", plotting.COLOURS[0], kept[np.abs(away[kept]) <= NEAR]),
        (f"beyond {NEAR:g}", plotting.COLOURS[1], kept[np.abs(away[kept]) > NEAR]),
    ):
        words = [", ".join(f"{key} = {_cell(value)}" for key, value in rows[k].items() if key != "deviation") for k in chosen]
        traces.append({
            "type": "scatter", "mode": "markers", "name": name, "x": chosen + 1, "y": away[chosen], "text": words,
            "marker": {"color": colour, "size": 7}, "hovertemplate": "<b>%{y:.2f}</b> standard errors<br>%{text}<extra></extra>",
        })  # fmt: skip
    reach = 1.1 * max(FAR, np.abs(away[kept]).max())
    bands = [
        {"type": "rect", "xref": "x domain", "x0": 0, "x1": 1, "y0": -width, "y1": width, "layer": "below", "line": {"width": 0},
         "fillcolor": "rgba(0,0,0,0.06)"} for width in (1.0, 2.0, NEAR)
    ]  # fmt: skip
    places = {"title": {"text": "measured point"}, "range": [0.25, len(rows) + 0.75], "tickformat": "d"}
    if len(rows) <= 10:
        places["dtick"] = 1  # or there are ticks between them, which have the numbers of their neighbours
    layout = {
        "xaxis": places,
        "yaxis": {"title": {"text": "standard errors"}, "range": [-reach, reach]}, "shapes": bands, "showlegend": False,
    }  # fmt: skip
    title = "(simulation − theory) / standard error"
    if "(and " in verdict.text or any(map(_allows, rows)):
        title += ", to which is added what the sentence above allows for"
    return _chart({"traces": traces, "layout": layout, "title": title}, " strip")


def _deviation(row) -> float:
    """The row's own deviation, or else that of its mean; NaN where it has none."""
    theory, mean, error = row.get("theory"), row.get("mean"), row.get("standard error")
    if "deviation" not in row and None not in (theory, mean, error) and error > 0:
        return (mean - theory) / error
    return row.get("deviation", np.nan)


def _allows(row) -> bool:
    """Whether a row's deviation is in more than its standard error."""
    alone = _deviation({name: value for name, value in row.items() if name != "deviation"})
    return bool(np.isfinite(alone) and abs(alone - row.get("deviation", alone)) > 1e-6 * (1.0 + abs(alone)))


def _table(rows) -> str:
    if not rows:
        return ""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{html.escape(str(name))}</th>" for name in names)
    cells = "".join("<tr>" + "".join(f"<td>{_cell(row.get(name, ''))}</td>" for name in names) + "</tr>" for row in rows)
    return (
        f"<details><summary>Every measured point ({len(rows)})</summary>"
        f'<div class="scroll" tabindex="0"><table><tr>{head}</tr>{cells}</table></div></details>'
    )


def _cell(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else html.escape(str(value))


def _reference(text: str) -> str:
    """A reference whose arXiv number is a link."""
    return re.sub(r"arXiv:([\d.]+\d)", r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', html.escape(text))
