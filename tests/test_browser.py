"""The pages in a real browser: sliders move the curves, legends hide them, phones need not scroll sideways, nothing is fetched."""

import contextlib
import pathlib
import shutil
import sys
import types

import numpy as np
import pytest
import xarray as xr

from quenched import plotting
from quenched.figures import report
from quenched.figures.check import in_standard_errors

playwright = pytest.importorskip("playwright.sync_api", reason="the browser's tests need the Python package playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="the browser's tests need chromium on the path")

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as run:
        browser = run.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """``visit(path, device)``: the page once it has loaded. Errors, and requests for anything else, fail the test in the end."""
    wrong = []
    with contextlib.ExitStack() as stack:

        def go(path, device=DESKTOP):
            context = stack.enter_context(contextlib.closing(chromium.new_context(**device)))
            page, address = context.new_page(), pathlib.Path(path).resolve().as_uri()
            page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.on("request", lambda request: None if request.url.partition("#")[0] == address else wrong.append(request.url))
            page.goto(address)
            return page

        yield go
    assert wrong == []


def trace(page, index, key, chart=".chart"):
    """What is drawn: one property of one trace of a chart."""
    return page.evaluate("([chart, index, key]) => document.querySelector(chart)._fullData[index][key]", [chart, index, key])


def sideways(page):
    """By how many pixels the page is wider than the screen."""
    return page.evaluate("document.documentElement.scrollWidth") - page.viewport_size["width"]


@pytest.fixture
def table():
    """A sweep over two losses, three penalties and six sizes; measured at two penalties, doubtful at one point."""
    alpha, decay = np.geomspace(0.5, 16.0, 6), np.array([0.01, 0.1, 1.0])
    theory = np.array([1.0, 0.7])[:, None, None] * (0.4 + 0.1 * np.log10(decay))[:, None] / np.sqrt(alpha)
    mean = np.where((np.arange(6) % 2 == 0) & (decay > 0.05)[:, None], theory + 0.01, np.nan)
    trusted = np.ones(theory.shape, bool)
    trusted[0, 2, 3] = False
    names, dims = ("test_error", "test_error_mean", "test_error_se"), ("loss", "weight_decay", "alpha")
    columns = {name: (dims, column) for name, column in zip(names, (theory, mean, 0.02 + 0.0 * mean), strict=True)}
    columns |= {"trusted": (dims, trusted), "train_mse": (dims, 100.0 * theory**4)}
    columns["train_mse_mean"] = (dims, 100.0 * mean**4)
    coordinates = {"loss": ["hinge", "</script><b>"], "weight_decay": decay, "alpha": alpha}
    return xr.Dataset(columns, coordinates, {"problem": "Tiny", "simulate": '{"dim": 50}'})


def test_a_slider_moves_the_curves_to_the_numbers_of_the_dataset(table, visit, tmp_path):
    page = visit(plotting.explorer(table, ["weight_decay"], tmp_path / "lecture.html"))

    def shown(decay):
        for k, loss in enumerate(table["loss"].values):
            part = table.sel(loss=loss, weight_decay=decay)
            expected = part["test_error"].where(part["trusted"]).values
            drawn = np.array(trace(page, 4 * k, "y"), dtype=float)
            np.testing.assert_allclose(drawn, expected, rtol=1e-6)
            np.testing.assert_allclose(trace(page, 4 * k + 1, "y"), part["test_error"].values[~part["trusted"].values], rtol=1e-6)
            measured = part["test_error_mean"].dropna("alpha")
            np.testing.assert_allclose(trace(page, 4 * k + 2, "y"), measured.values, rtol=1e-6)
            np.testing.assert_allclose(trace(page, 4 * k + 2, "x"), measured["alpha"].values, rtol=1e-6)

    slider = page.get_by_label("weight decay")
    assert page.locator("#value-0").inner_text() == "0.1"
    shown(0.1)
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#value-0").inner_text() == "1"
    shown(1.0)
    box = slider.bounding_box()
    page.mouse.click(box["x"] + 4, box["y"] + box["height"] / 2)
    assert page.locator("#value-0").inner_text() == "0.01"
    assert page.locator("#status").inner_text() == "No experiment was made at these values."
    shown(0.01)


def test_the_legend_hides_a_curve_with_its_points_and_sliders_leave_it_hidden(table, visit, tmp_path):
    page = visit(plotting.explorer(table, ["weight_decay"], tmp_path / "lecture.html"))
    assert trace(page, 0, "visible") is True
    page.locator(".legendtoggle").first.click()
    page.wait_for_function("document.querySelector('.chart')._fullData[0].visible === 'legendonly'")
    assert trace(page, 2, "visible") == "legendonly" and trace(page, 4, "visible") is True
    page.get_by_label("weight decay").press("ArrowRight")
    assert trace(page, 0, "visible") == "legendonly" and trace(page, 4, "visible") is True


def test_readers_hover_and_choose_what_is_shown(table, visit, tmp_path):
    page = visit(plotting.explorer(table, ["weight_decay"], tmp_path / "lecture.html"))
    place = page.locator(".chart .scatterlayer .trace .points path").first.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2 - 20, place["y"] + 20)
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2, steps=4)
    words = page.locator(".hoverlayer .hovertext").first.text_content()
    assert "hinge" in words and "experiment" in words and "± 0.02" in words
    axis = "document.querySelector('.chart')._fullLayout.{}.type"
    assert page.evaluate(axis.format("xaxis")) == "log" and page.evaluate(axis.format("yaxis")) == "linear"
    page.get_by_role("combobox").select_option(label="training mean square")
    np.testing.assert_allclose(trace(page, 4, "y"), table["train_mse"].values[1, 1], rtol=1e-6)
    assert page.evaluate(axis.format("yaxis")) == "log"  # it spans decades
    page.get_by_role("button", name="log x").click()
    page.get_by_role("button", name="log y").click()
    assert page.evaluate(axis.format("xaxis")) == page.evaluate(axis.format("yaxis")) == "linear"


def test_the_explorer_fits_a_phone(table, visit, tmp_path):
    page = visit(plotting.explorer(table, path=tmp_path / "lecture.html"), PHONE)
    assert sideways(page) == 0 and page.locator("input[type=range]").count() == 2
    page.locator("#slider-1").tap()
    chart = page.locator(".chart .main-svg").first.bounding_box()
    assert chart["width"] <= 360 and chart["height"] > 300


def test_a_path_in_time_is_explored(visit, tmp_path):
    time, rate = np.linspace(0.0, 10.0, 11), [0.5, 1.0]
    overlap = np.tanh(np.array(rate)[:, None, None] * time[:, None] * np.array([1.0, 0.5]))
    data = xr.Dataset({"theta": (("learning_rate", "time", "unit"), overlap)}, {"learning_rate": rate, "time": time})
    page = visit(plotting.explorer(data, path=tmp_path / "path.html"))
    page.locator("#slider-0").press("ArrowRight")
    np.testing.assert_allclose(trace(page, 4, "y"), overlap[1, :, 1], rtol=1e-6)
    assert trace(page, 4, "name") == "<i>θ</i>[1]"


# ---- the report ------------------------------------------------------------------------------------------------------


@pytest.fixture
def three(monkeypatch, tmp_path):
    """A report of three figures: two panels and a heat map, one that fails, one of lines and points. Returns its page."""
    alpha = np.geomspace(0.5, 16.0, 40)
    columns = {"test_error": 0.3 / alpha, "test_error_mean": 0.31 / alpha, "test_error_se": 0.02 / alpha}
    columns |= {"test_error_deviation": np.linspace(-4.0, 2.0, 40), "trusted": alpha < 10.0, "trials": np.full(40, 4)}
    attrs = {"problem": "Tiny", "parameters": '"Tiny(alpha=1)"', "simulate": '{"dim": 50}', "failed": ""}
    data = xr.Dataset({name: ("alpha", column) for name, column in columns.items()}, {"alpha": alpha}, attrs)

    def panels(data):
        import matplotlib.pyplot as plt

        _, (left, middle, right) = plt.subplots(1, 3)
        right.imshow([[1.0, 2.0]])
        middle.plot([1.0, 2.0], [1.0, 2.0], label=r"$\hat q$")
        middle.legend()
        middle.axvline(1.5, ls=":")
        middle.axhspan(1.2, 1.4)
        return plotting.curve(data, "test_error", ax=left)

    def fails(data):
        raise ValueError("alpha must be positive, got -1")

    for name, plot in (("panels", panels), ("broken", fails), ("lines", lambda data: plotting.curve(data, "test_error"))):
        module = types.ModuleType(f"quenched.figures.{name}")
        module.TITLE, module.CAPTION, module.REFERENCES = f"Figure of {name}", "What it shows. " * 20, ("arXiv:2002.11544",)
        module.study, module.plot = lambda quick, progress: data, plot
        module.check = lambda data: in_standard_errors(data, "test_error")
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return report.build(tmp_path, quick=True, names=("panels", "broken", "lines"), processes=1).path


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_report_draws_its_charts_as_they_are_scrolled_to(three, device, visit):
    page = visit(three, device)
    drawn = page.locator(".chart.js-plotly-plot")
    drawn.first.wait_for()
    assert page.locator(".chart").count() == 5 and drawn.count() < 5  # those far below wait
    page.get_by_role("link", name="Figure of lines").click()
    page.wait_for_function("document.querySelectorAll('#lines .chart.js-plotly-plot').length == 2")
    assert page.evaluate("document.querySelector('#lines').getBoundingClientRect().top") < 740
    np.testing.assert_allclose(trace(page, 2, "y", "#lines .chart"), 0.31 / np.geomspace(0.5, 16.0, 40), rtol=1e-6)
    assert len(trace(page, 0, "x", "#lines .chart.strip")) + len(trace(page, 1, "x", "#lines .chart.strip")) == 40
    assert "alpha must be positive, got -1" in page.locator("#broken").inner_text()
    assert page.locator("nav li").all_inner_texts()[1].split() == ["✗", "fail", "Figure", "of", "broken"]
    assert page.locator("#panels img").count() == 1
    page.locator("#lines summary").click()
    page.locator("#panels .chart").nth(1).scroll_into_view_if_needed()
    page.wait_for_function("document.querySelectorAll('#panels .chart')[1].querySelectorAll('.shapelayer path').length == 2")
    assert page.locator("#panels img").bounding_box()["width"] > 300  # a panel of three, but not a third of the screen
    assert sideways(page) == 0  # the table scrolls in its own box
