"""Matplotlib's Axes as charts: what was drawn is in the traces, what charts cannot show is refused."""

import json
import struct

import matplotlib.pyplot as plt
import numpy as np
import pytest

from quenched import plotting
from quenched.plotting.markup import as_html, as_text, wrapped
from quenched.plotting.page import as_json
from quenched.plotting.panels import cut_out, panels


@pytest.fixture
def ax():
    with plotting.style("screen"):
        figure, ax = plt.subplots()
        yield ax
        plt.close(figure)


def chart(ax):
    [found] = plotting.charts(ax)
    json.loads(as_json(found))  # all of it can be written
    return found


def test_theory_and_experiment_keep_their_numbers_and_are_hidden_together(ax):
    x, y = np.array([1.0, 2.0, 4.0]), np.array([0.5, 0.3, 0.2])
    plotting.line(x, y, [True, True, False], ax=ax, color="#D55E00", label=r"$\lambda = 10^{-2}$", ls="--")
    plotting.points(x, y + 0.01, [0.1, 0.2, 0.3], [True, True, False], ax=ax, color="#D55E00")
    ax.legend()
    line, doubtful, points, few = chart(ax)["traces"]
    np.testing.assert_array_equal(line["y"], [0.5, 0.3, np.nan])
    assert line["line"]["dash"] == "dash" and line["line"]["color"] == "rgba(213,94,0,1)" and line["mode"] == "lines"
    assert line["name"] == "<i>λ</i> = 10<sup>−2</sup>" and line["showlegend"] is True
    assert doubtful["marker"]["symbol"] == few["marker"]["symbol"] == "circle-open" and doubtful["x"].tolist() == [4.0]
    np.testing.assert_allclose(points["y"], [0.51, 0.31])
    np.testing.assert_allclose(points["error_y"]["array"], [0.1, 0.2])
    assert points["marker"]["symbol"] == "circle" and "±" in points["hovertemplate"]
    assert {trace["legendgroup"] for trace in (doubtful, points, few)} == {line["name"]}
    assert not any(trace["showlegend"] for trace in (doubtful, points, few))


def test_curves_of_one_colour_keep_their_own_points(ax):
    for name in ("own", "other"):
        plotting.line([1.0, 2.0], [1.0, 2.0], ax=ax, color="#0072B2", label=name)
        plotting.points([1.0], [1.0], [0.1], ax=ax, color="#0072B2")
    assert [trace["legendgroup"] for trace in chart(ax)["traces"]] == ["own", "own", "other", "other"]


def test_bars_may_be_uneven_lie_down_or_stand_alone(ax):
    ax.errorbar([1.0, 2.0], [3.0, 4.0], yerr=[[0.1, 0.2], [0.3, 0.4]], xerr=[0.5, 0.6], fmt="v", label="both")
    ax.errorbar([1.0, 2.0], [5.0, 6.0], yerr=[1.0, 2.0], fmt="none")
    both, bars = chart(ax)["traces"]
    np.testing.assert_allclose(both["error_y"]["arrayminus"], [0.1, 0.2])
    np.testing.assert_allclose(both["error_y"]["array"], [0.3, 0.4])
    np.testing.assert_allclose(both["error_x"]["array"], [0.5, 0.6])
    assert both["marker"]["symbol"] == "triangle-down" and both["name"] == "both"
    np.testing.assert_allclose(bars["y"], [5.0, 6.0])
    np.testing.assert_allclose(bars["error_y"]["array"], [1.0, 2.0])


def test_axes_keep_scales_limits_and_labels(ax):
    ax.plot([0.25, 16.0], [1e-3, 1.0])
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xlim(16.0, 0.25)
    ax.set_ylim(1e-3, 1.0)
    ax.set_xlabel(plotting.label("alpha"))
    ax.set_title("a < b")
    found = chart(ax)
    x, y = found["layout"]["xaxis"], found["layout"]["yaxis"]
    assert x["type"] == y["type"] == "log" and found["title"] == "a &lt; b"
    np.testing.assert_allclose(x["range"], np.log10([16.0, 0.25]))
    np.testing.assert_allclose(y["range"], [-3.0, 0.0])
    assert x["title"]["text"] == "samples per dimension <i>α</i> = <i>n</i>/<i>d</i>"
    assert found["layout"]["showlegend"] is False


def test_ticks_in_words(ax):
    ax.plot([1.0], [1.0], "o")
    ax.set_xticks([1.0, 2.0], ["one", r"$\hat q$"])
    axis = chart(ax)["layout"]["xaxis"]
    assert axis["tickvals"].tolist() == [1.0, 2.0] and axis["ticktext"] == ["one", "<i>q̂</i>"]


def test_lines_across_and_bands_are_shapes(ax):
    ax.plot([0.0, 1.0], [0.0, 2.0])
    ax.axhline(1.0, ls="--", label="optimal")
    ax.axvline(0.5, color="0.6")
    ax.axhspan(0.1, 0.2)
    ax.legend()
    across, up, band = chart(ax)["layout"]["shapes"]
    assert (across["yref"], across["y0"], across["xref"]) == ("y", 1.0, "x domain") and across["line"]["dash"] == "dash"
    assert across["showlegend"] is True and across["name"] == "optimal" and "showlegend" not in up
    assert (up["xref"], up["x0"], up["yref"]) == ("x", 0.5, "y domain")
    assert band["type"] == "rect" and (band["y0"], band["y1"]) == (0.1, 0.2)


def test_fills_histograms_scattered_points_and_segments(ax):
    ax.fill_between([0.0, 1.0], [1.0, 2.0], [2.0, 3.0], alpha=0.2)
    ax.stairs([1.0, 3.0], [0.0, 1.0, 2.0], fill=True, color="black", alpha=0.3)
    ax.plot([0.0, 2.0], [1.0, 3.0], color="black", label="density")
    ax.bar([0.0, 1.0], [2.0, 3.0], label="bars")
    ax.scatter([0.0, 1.0], [1.0, 2.0], c=["red", "blue"])
    ax.vlines([0.0, 1.0], 0.0, 1.0)
    ax.text(0.5, 1.5, r"at $\alpha$")
    found = chart(ax)
    stairs, bars, band, scattered, segments, line = found["traces"]
    assert stairs["legendgroup"] == line["name"] == "density" and stairs["showlegend"] is False
    assert stairs["y"].tolist() == [1.0, 3.0, 3.0] and stairs["line"]["shape"] == "hv" and stairs["fill"] == "tozeroy"
    assert bars["name"] == "bars" and np.nanmax(bars["y"]) == 3.0 and np.isnan(bars["x"]).sum() == 1
    assert band["fill"] == "toself" and band["fillcolor"].endswith(",0.2)") and np.nanmax(band["y"]) == 3.0
    assert len(set(scattered["marker"]["color"])) == 2
    np.testing.assert_array_equal(segments["y"], [0.0, 1.0, np.nan, 0.0, 1.0])
    [note] = found["layout"]["annotations"]
    assert note["text"] == "at <i>α</i>" and (note["x"], note["y"]) == pytest.approx((0.5, 1.5))


def test_entries_that_only_the_legend_has(ax):
    ax.plot([1.0, 2.0], [1.0, 2.0], color="black")
    ax.legend([plt.Line2D([], [], ls=":", color="black")], ["what dots are"])
    assert chart(ax)["traces"][-1]["name"] == "what dots are"


def test_a_heat_map_is_no_chart_but_its_neighbours_are():
    figure, (left, middle, right) = plt.subplots(1, 3, sharey=True)
    left.set_ylabel("error")
    left.plot([1.0], [2.0])
    figure.colorbar(middle.imshow([[1.0, 2.0]]))
    right.contour([[1.0, 2.0], [3.0, 4.0]])
    found = plotting.charts(figure)
    assert [one is None for one in found] == [False, True, True]
    plt.close(figure)


def size(png):
    return struct.unpack(">2I", png[16:24])


def test_one_panel_is_cut_out_with_its_colour_bar(tmp_path):
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.0, 4.0))
    bar = figure.colorbar(right.imshow([[1.0, 2.0], [3.0, 4.0]])).ax
    figure.savefig(tmp_path / "both.png", dpi=2.0 * figure.dpi)
    width, height = size(cut_out(right, tmp_path / "both.png"))
    box, beside = right.get_tightbbox(), bar.get_tightbbox()
    margin = 0.1 * figure.dpi
    expected = 2.0 * np.array([beside.x1 - box.x0 + margin, max(box.height, beside.height) + margin])
    assert (width, height) == pytest.approx(expected, abs=3)
    assert panels(left) == [left, right]
    plt.close(figure)


def test_a_panel_has_the_label_of_the_axis_that_it_shares():
    figure, (left, right) = plt.subplots(1, 2, sharey=True)
    left.set_ylabel("error")
    right.plot([1.0], [2.0])
    assert plotting.charts(figure)[1]["layout"]["yaxis"]["title"]["text"] == "error"
    plt.close(figure)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("plain & <b>", "plain &amp; &lt;b&gt;"),
        (r"$10^4\,(e_\mathrm{sem} - e_\mathrm{pos})$", "10<sup>4</sup>\u2009(<i>e</i><sub>sem</sub>−<i>e</i><sub>pos</sub>)"),
        (r"$\hat\mu_k^2$", "<i>μ̂</i><sub><i>k</i></sub><sup>2</sup>"),
        (r"$\Phi^\top\Phi/n$", "Φ<sup>⊤</sup>Φ/<i>n</i>"),
        (r"$W_{ij} < \infty$", "<i>W</i><sub><i>ij</i></sub> &lt; ∞"),
        (r"$\cos(w, w_*)$", "cos(<i>w</i>,<i>w</i><sub>∗</sub>)"),
        (r"$\unknown{x}$", "unknown<i>x</i>"),
        ("costs 5$", "costs 5$"),
        (r"$x_$ and $}$", "<i>x</i><sub></sub> and "),
    ],
)
def test_labels_as_html(label, shown):
    assert as_html(label) == shown


def test_labels_as_text_and_in_lines():
    assert as_text(r"$\hat q$ & <") == "q̂ & <"
    assert wrapped("short") == "short" and wrapped("one two three", 8) == "one two<br>three"
    assert "<br>" not in wrapped(r"a very long label of more than forty-four letters, $\alpha = n/d$")


def test_json_is_short_finite_and_safe():
    text = as_json({"a": [np.float64(1 / 3), np.nan, np.inf, 2.0, np.bool_(True), None], "b": "</script><!--", "c": np.int64(3)})
    assert json.loads(text) == {"a": [0.3333333, None, None, 2, True, None], "b": "</script><!--", "c": 3}
    assert "<" not in text and "NaN" not in text and "2.0" not in text
