"""Matplotlib's Axes as interactive charts: lines, error bars, points and fills become traces that readers can hover and hide."""

from __future__ import annotations

import io

import numpy as np

from .markup import as_html, as_text, wrapped

_PIXELS = 4.0 / 3.0  # in a point
_DASHES = {"-": "solid", "--": "dash", "-.": "dashdot", ":": "dot"}
_MARKERS = {
    "o": "circle", ".": "circle", "s": "square", "D": "diamond", "d": "diamond-tall", "^": "triangle-up", "v": "triangle-down",
    "<": "triangle-left", ">": "triangle-right", "*": "star", "x": "x-thin", "+": "cross-thin", "p": "pentagon", "h": "hexagon",
}  # fmt: skip
_SHAPES = {"steps": "vh", "steps-pre": "vh", "steps-mid": "hvh", "steps-post": "hv"}


def charts(figure) -> list[dict | None]:
    """A chart for each panel of a figure (or of an Axes' figure): ``traces`` and ``layout`` as plotly names them, and a ``title``.

    A panel that holds something else than lines, points, error bars and fills, such as a heat map, gives None.

    >>> import matplotlib.pyplot as plt
    >>> figure, ax = plt.subplots()
    >>> _ = ax.plot([1.0, 2.0], [3.0, 4.0], label="theory")
    >>> [chart] = charts(figure)
    >>> chart["traces"][0]["name"], chart["traces"][0]["y"].tolist()
    ('theory', [3.0, 4.0])
    >>> plt.close(figure)
    """
    return [_chart(ax) if _is_plain(ax) else None for ax in panels(figure)]


def panels(figure) -> list:
    """The Axes of a figure (or of an Axes' figure) that are shown, without colour bars."""
    figure = getattr(figure, "figure", figure)
    return [ax for ax in figure.axes if ax.get_visible() and ax.get_label() != "<colorbar>"]


def cut_out(ax, path) -> bytes:
    """The PNG of one panel, with its colour bars, from the picture of its figure that was saved at ``path``."""
    from matplotlib.image import imread, imsave
    from matplotlib.transforms import Bbox

    pixels, file = imread(path), io.BytesIO()
    bars = [part.colorbar.ax for part in (*ax.images, *ax.collections) if part.colorbar is not None]
    box = Bbox.union([part.get_tightbbox() for part in (ax, *bars)]).padded(0.05 * ax.figure.dpi)
    (left, bottom), (right, top) = np.rint(box.get_points() * len(pixels) / ax.figure.bbox.height).astype(int)
    imsave(file, pixels[max(len(pixels) - top, 0) : len(pixels) - bottom, max(left, 0) : right], format="png")
    return file.getvalue()


def _is_plain(ax) -> bool:
    from matplotlib.collections import LineCollection, PathCollection, PolyCollection
    from matplotlib.contour import ContourSet

    known = (LineCollection, PathCollection, PolyCollection)
    return (
        ax.name == "rectilinear" and not ax.images and {ax.get_xscale(), ax.get_yscale()} <= {"linear", "log"}
        and all(isinstance(one, known) and not isinstance(one, ContourSet) for one in ax.collections)
    )  # fmt: skip


def _chart(ax) -> dict:
    from matplotlib.container import ErrorbarContainer

    bars = [one for one in ax.containers if isinstance(one, ErrorbarContainer)]
    of_line = {id(one.lines[0]): one for one in bars if one.lines[0] is not None}
    parts = {id(part) for one in bars for group in one.lines[1:] for part in group}
    lines = [line for line in ax.lines if id(line) not in parts]
    inside = [line for line in lines if all(_in_data(line, ax))]
    traces = [*_patches(ax), *(_collection(one) for one in ax.collections if id(one) not in parts)]
    traces += [_line(line, of_line.get(id(line))) for line in inside]
    traces += [_line(None, one) for one in bars if one.lines[0] is None]
    traces = [trace for trace in traces if len(trace["x"])]
    shapes = [shape for line in lines if line not in inside for shape in _across(line, ax)] + _spans(ax)
    legend = ax.get_legend()
    _name(traces, shapes, legend)
    layout = {
        "xaxis": _axis(ax, "x"), "yaxis": _axis(ax, "y"), "shapes": shapes, "annotations": _texts(ax),
        "showlegend": legend is not None,
    }  # fmt: skip
    return {"traces": traces, "layout": layout, "title": as_html(ax.get_title())}


def _in_data(artist, ax) -> tuple[bool, bool]:
    return artist.get_transform().contains_branch_seperately(ax.transData)


def _colour(colour, alpha=None) -> str:
    from matplotlib.colors import to_rgba

    r, g, b, a = to_rgba(colour, alpha)
    return f"rgba({round(255 * r)},{round(255 * g)},{round(255 * b)},{a:.3g})"


def _numbers(values) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(values, dtype=float), np.nan)


def _line(line, bars) -> dict:
    """The trace of a line, or of points with error bars."""
    trace = {"type": "scatter", "label": bars.get_label() if bars is not None else line.get_label()}
    if line is None:  # bars alone
        segments = np.array(bars.lines[2][0].get_segments())
        middle = segments.mean(1)
        trace |= {"x": middle[:, 0], "y": middle[:, 1], "mode": "markers", "marker": {"size": 1}}
        colour = trace["colour"] = _colour(bars.lines[2][0].get_color()[0])
    else:
        colour = trace["colour"] = _colour(line.get_color(), line.get_alpha())
        trace |= {"x": _numbers(line.get_xdata(orig=False)), "y": _numbers(line.get_ydata(orig=False))}
        trace |= _strokes(line, colour)
        if trace["mode"] == "markers":
            colour = trace["colour"] = trace["marker"]["color"]
    for which, low, high in _reaches(bars):
        place = trace[which]
        up, down = np.abs(high - place), np.abs(place - low)
        shown = {"type": "data", "array": up, "color": colour, "thickness": 1.2, "width": 3}
        even = np.allclose(up, down, equal_nan=True)
        trace[f"error_{which}"] = shown if even else shown | {"symmetric": False, "arrayminus": down}
    error = trace.get("error_y", {}).get("array")
    trace["hovertemplate"] = "%{y:.5g}" + (" ± %{error_y.array:.2g}" if error is not None else "") + " at %{x:.4g}<extra></extra>"
    return trace


def _strokes(line, colour) -> dict:
    from matplotlib.colors import to_rgba

    style, marker = line.get_linestyle(), line.get_marker()
    drawn, marked = style in _DASHES and line.get_linewidth() > 0, marker not in ("None", "none", "", " ", None)
    trace = {"mode": "+".join(["lines"] * drawn + ["markers"] * marked) or "none"}
    if drawn:
        trace["line"] = {"color": colour, "dash": _DASHES[style], "width": _PIXELS * line.get_linewidth()}
        if line.get_drawstyle() in _SHAPES:
            trace["line"]["shape"] = _SHAPES[line.get_drawstyle()]
    if marked:
        face, edge = line.get_markerfacecolor(), line.get_markeredgecolor()
        thin = marker in ("x", "+")
        hollow = thin or (isinstance(face, str) and face == "none") or to_rgba(face)[3] == 0
        size = _PIXELS * line.get_markersize() * (0.5 if marker == "." else 1.0)
        trace["marker"] = {
            "color": _colour(edge if hollow else face, line.get_alpha()), "size": max(size, 4.0),
            "symbol": _MARKERS.get(marker, "circle") + ("-open" if hollow else ""),
        }  # fmt: skip
    return trace


def _reaches(bars):
    """The direction of error bars, and where each ends."""
    if bars is None:
        return
    which = ["x"] * bars.has_xerr + ["y"] * bars.has_yerr
    for name, collection in zip(which, bars.lines[2], strict=False):
        ends = np.array([part if len(part) == 2 else np.full((2, 2), np.nan) for part in collection.get_segments()])
        ends = ends[:, :, "xy".index(name)]
        yield name, ends[:, 0], ends[:, 1]


def _joined(pieces) -> dict:
    """Several polygons or segments as one trace, with gaps between them."""
    gap = np.full((1, 2), np.nan)
    rows = [row for piece in pieces for row in (np.asarray(piece, dtype=float), gap)]
    whole = np.concatenate(rows[:-1]) if rows else np.empty((0, 2))
    return {"x": whole[:, 0], "y": whole[:, 1]}


def _fill(face, label) -> dict:
    return {
        "type": "scatter", "mode": "lines", "fill": "toself", "fillcolor": face, "line": {"width": 0, "color": face},
        "hoverinfo": "skip", "label": label, "colour": face,
    }  # fmt: skip


def _collection(one) -> dict:
    """The trace of segments, of scattered points or of polygons."""
    from matplotlib.collections import LineCollection, PathCollection

    label = one.get_label()
    if isinstance(one, LineCollection):
        colour = _colour(one.get_color()[0]) if len(one.get_color()) else "black"
        line = {"color": colour, "width": _PIXELS * float(one.get_linewidth()[0])}
        return {"type": "scatter", "mode": "lines", "label": label, "colour": colour, "line": line, **_joined(one.get_segments())}
    if isinstance(one, PathCollection):
        places, faces, edges = _numbers(one.get_offsets()), one.get_facecolor(), one.get_edgecolor()
        shown = faces if len(faces) else edges
        colours = [_colour(colour) for colour in shown]
        single = len(set(colours)) == 1
        sizes = _PIXELS * np.sqrt(one.get_sizes())
        marker = {
            "color": colours[0] if single else colours, "size": float(sizes[0]) if len(sizes) == 1 else sizes,
            "symbol": "circle" if len(faces) else "circle-open",
        }  # fmt: skip
        return {
            "type": "scatter", "mode": "markers", "label": label, "colour": colours[0], "marker": marker, "x": places[:, 0],
            "y": places[:, 1], "hovertemplate": "%{y:.5g} at %{x:.4g}<extra></extra>",
        }  # fmt: skip
    face = one.get_facecolor()
    polygons = [polygon for path in one.get_paths() for polygon in path.to_polygons()]
    return {**_fill(_colour(face[0]) if len(face) else "rgba(0,0,0,0)", label), **_joined(polygons)}


def _patches(ax) -> list[dict]:
    """Histograms, bars and other polygons, those of one look as one trace."""
    from matplotlib.patches import StepPatch

    looks: dict[tuple, list] = {}
    traces = []
    owners = {id(bar): container.get_label() for container in ax.containers for bar in getattr(container, "patches", ())}
    for patch in ax.patches:
        label = owners.get(id(patch), patch.get_label())
        if isinstance(patch, StepPatch):
            colour = _colour(patch.get_facecolor() if patch.get_fill() else patch.get_edgecolor())
            traces.append({**_stairs(patch, colour), "label": label, "colour": colour})
        elif all(patch.get_transform().contains_branch_seperately(ax.transData)):
            polygons = patch.get_path().transformed(patch.get_patch_transform()).to_polygons()
            looks.setdefault((_colour(patch.get_facecolor()), label), []).extend(polygons)
    return traces + [{**_fill(face, label), **_joined(polygons)} for (face, label), polygons in looks.items()]


def _stairs(patch, colour) -> dict:
    values, edges, _ = patch.get_data()
    trace = {"type": "scatter", "mode": "lines", "x": _numbers(edges), "y": _numbers([*values, values[-1]])}
    trace["line"] = {"shape": "hv", "color": colour, "width": 0 if patch.get_fill() else 1.5}
    if patch.get_fill():
        trace |= {"fill": "tozeroy", "fillcolor": colour, "hoverinfo": "skip"}
    return trace


def _across(line, ax) -> list[dict]:
    """A line from one side of the panel to the other, as a shape; below the curves the grid would hide it."""
    data = _in_data(line, ax)
    if not any(data):
        return []
    ends = np.column_stack([line.get_xdata(orig=False), line.get_ydata(orig=False)]).astype(float)
    look = {"color": _colour(line.get_color(), line.get_alpha()), "width": _PIXELS * line.get_linewidth()}
    shape = {"type": "line", "layer": "above", "line": look | {"dash": _DASHES.get(line.get_linestyle(), "solid")}}
    return [shape | _placed(ends, data) | {"label": line.get_label()}]


def _spans(ax) -> list[dict]:
    """Bands from one side of the panel to the other, as shapes."""
    shapes = []
    for patch in ax.patches:
        data = patch.get_transform().contains_branch_seperately(ax.transData)
        if any(data) and not all(data):
            corners = patch.get_path().transformed(patch.get_patch_transform()).vertices
            ends = np.array([corners.min(0), corners.max(0)])
            look = {"type": "rect", "layer": "below", "line": {"width": 0}, "fillcolor": _colour(patch.get_facecolor())}
            shapes.append(look | _placed(ends, data) | {"label": patch.get_label()})
    return shapes


def _placed(ends, data) -> dict:
    (x0, y0), (x1, y1) = ends[[0, -1]].tolist()
    return {
        "x0": x0, "x1": x1, "y0": y0, "y1": y1, "xref": "x" if data[0] else "x domain", "yref": "y" if data[1] else "y domain",
    }  # fmt: skip


def _name(traces, shapes, legend) -> None:
    """Names in the legend; what has none joins the curve of its colour that was drawn last, so that they are hidden together."""
    groups: dict[str, str] = {}  # by colour, whatever its opacity
    parts = [(trace, trace.pop("label"), trace.pop("colour").rpartition(",")[0]) for trace in traces]
    for _, label, colour in parts:
        if _is_shown(label):
            groups.setdefault(colour, label)
    shown = set()
    for trace, label, colour in parts:
        if _is_shown(label):
            groups[colour] = label
            trace["showlegend"] = label not in shown
            shown.add(label)
        else:
            label = groups.get(colour, "")
            trace["showlegend"] = False
        if label:
            trace |= {"name": as_html(label), "legendgroup": as_html(label)}
            if "hovertemplate" in trace:
                trace["hovertemplate"] = f"<b>{as_html(label)}</b><br>{trace['hovertemplate']}"
    for shape in shapes:
        label = shape.pop("label")
        if _is_shown(label):
            shown.add(label)
            shape |= {"showlegend": True, "name": as_html(label)}
    # Entries of the legend that were written for it alone.
    for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=False) if legend else ():
        if text.get_text() not in shown and hasattr(handle, "get_linestyle") and hasattr(handle, "get_marker"):
            look = _strokes(handle, _colour(handle.get_color()))
            if look["mode"] != "none":
                traces.append({"type": "scatter", "x": [None], "y": [None], "name": as_html(text.get_text()), **look})


def _is_shown(label: str) -> bool:
    return bool(label) and not label.startswith("_")


def _axis(ax, which) -> dict:
    from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter

    axis, log = getattr(ax, f"{which}axis"), getattr(ax, f"get_{which}scale")() == "log"
    low, high = getattr(ax, f"get_{which}lim")()
    text = axis.get_label_text()
    if not text:  # a panel that shares its axis with another one, which has the label
        family = getattr(ax, f"get_shared_{which}_axes")().get_siblings(ax)
        text = next((t for other in family if (t := getattr(other, f"{which}axis").get_label_text())), "")
    made = {
        "type": "log" if log else "linear", "range": np.log10([low, high]) if log else [low, high],
        "title": {"text": wrapped(text)},
    }  # fmt: skip
    if isinstance(axis.get_major_locator(), FixedLocator):
        at, formatter = axis.get_majorticklocs(), axis.get_major_formatter()
        made["tickvals"] = at
        if isinstance(formatter, (FixedFormatter, FuncFormatter)):
            made["ticktext"] = [as_html(words) for words in formatter.format_ticks(at)]
    elif log and axis.get_transform().base == 2.0:
        powers = 2.0 ** np.arange(np.ceil(np.log2(low)), np.floor(np.log2(high)) + 1)
        made |= {"tickvals": powers, "ticktext": [f"{value:g}" for value in powers]} if len(powers) <= 10 else {}
    return made


def _texts(ax) -> list[dict]:
    sides = {"center": "center", "left": "left", "right": "right", "top": "top", "bottom": "bottom"}
    found = []
    for text in ax.texts:
        pixels = text.get_transform().transform(text.get_unitless_position())
        x, y = ax.transData.inverted().transform(pixels)
        x, y = (np.log10(x) if ax.get_xscale() == "log" else x), (np.log10(y) if ax.get_yscale() == "log" else y)
        if as_text(text.get_text()).strip() and np.isfinite([x, y]).all():
            found.append({
                "x": x, "y": y, "text": as_html(text.get_text()), "showarrow": False, "xanchor": sides.get(text.get_ha(), "center"),
                "yanchor": sides.get(text.get_va(), "bottom"), "font": {"color": _colour(text.get_color()), "size": 11},
            })  # fmt: skip
    return found
