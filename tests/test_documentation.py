"""The pages of the documentation are complete, reach each other, and are built without a warning."""

import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import quenched as qn
from quenched.problems.references import _ENTRIES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {
    page.relative_to(DOCS).with_suffix("").as_posix(): page.read_text(encoding="utf-8")
    for page in sorted(DOCS.rglob("*.md")) if page.relative_to(DOCS).parts[0] not in ("_build", "gallery")
}  # fmt: skip
PROBLEMS = [
    name for name in qn.problems.__all__
    if isinstance(getattr(qn.problems, name), type) and issubclass(getattr(qn.problems, name), qn.problems.Problem)
]  # fmt: skip
REFERENCE = "\n".join(text for name, text in PAGES.items() if name.startswith("api/"))
SHOWN = re.findall(r"^\.\. auto\w+:: (\S+)", REFERENCE, re.MULTILINE)


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "Problem"])
def test_every_problem_has_a_page(name):
    own = [text for page, text in PAGES.items() if page.startswith("problems/") and page != "problems/index"]
    pages = [text for text in own if f"`{name}`" in text.split("\n## ")[0]]
    assert len(pages) == 1, f"one page of docs/problems must open with `{name}`, {len(pages)} do"
    assert f"`{name}`" in PAGES["problems/index"]
    for what in ("## The model", "## References", ">>> ", "$$"):
        assert what in pages[0], f"the page of {name} has no {what!r}"


@pytest.mark.parametrize("room", ["problems", "laws", "losses", "finite"])
def test_public_names_are_in_the_reference(room):
    module = getattr(qn, room)
    aliases = {entry.split(".")[-1] for entry in SHOWN}
    named = {"NAMED", "absolute", "hinge", "logistic", "softmax", "square"}  # losses by name: a table
    missing = set(module.__all__) - aliases - named - {"Loss", "Solution", "Trials", "nodes"}
    assert not missing


def test_the_reference_names_what_exists():
    for entry in SHOWN:
        owner, _, name = entry.rpartition(".")
        try:  # a module, or an object of one (which a function of the same name may hide)
            found = importlib.import_module(owner)
        except ModuleNotFoundError:
            found = qn
        assert hasattr(found, name) or importlib.util.find_spec(entry), entry


def test_every_page_is_in_a_table_of_contents():
    listed = {"index"}
    for page, text in PAGES.items():
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL):
            entries = [line.strip() for line in tree.splitlines() if line.strip() and not line.startswith(":")]
            listed |= {(Path(page).parent / entry).as_posix() for entry in entries}
    assert set(PAGES) <= listed
    assert {entry for entry in listed if not entry.startswith("gallery/")} <= set(PAGES)


def test_every_reference_is_on_the_page_of_references():
    for key, entry in _ENTRIES.items():
        assert f"`{key}`" in PAGES["references"]
        (number,) = re.findall(r"arXiv:(\d{4}\.\d{5})", entry)
        assert f"https://arxiv.org/abs/{number}" in PAGES["references"]


def test_pictures_are_there_and_small():
    for page, text in PAGES.items():
        for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text):
            picture = (DOCS / page).parent / path
            assert picture.read_bytes().startswith(b"\x89PNG"), path
    assert all(picture.stat().st_size < 60_000 for picture in (DOCS / "figures").glob("*.png"))


def test_figures_that_pages_name_exist():
    for page, text in PAGES.items():
        for name in re.findall(r"quenched figure ([a-z-]+)", text):
            module = ROOT / "src" / "quenched" / "figures" / f"{name.replace('-', '_')}.py"
            assert "\ndef study(" in module.read_text(encoding="utf-8"), f"{page} names a figure {name!r}"


def test_links_of_the_readme_lead_to_pages():
    for path in re.findall(r"`(docs/[^`]+\.md)`|\]\((docs/[^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert (ROOT / "".join(path)).exists(), path


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="Sphinx is not installed: pip install quenched[docs]")
def test_the_pages_are_built_without_a_warning(tmp_path):
    options = ["-b", "html", "-n", "-W", "--keep-going", "-d", tmp_path / "trees"]
    command = [sys.executable, "-m", "sphinx", *options, DOCS, tmp_path / "html"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "QUENCHED_GALLERY": "0"})
    assert done.returncode == 0, done.stderr[-3000:]
    html = (tmp_path / "html" / "problems" / "sequence_problem.html").read_text(encoding="utf-8")
    assert "<math" in html
    assert not [source for source in re.findall(r"<(?:script|link)[^>]*(?:src|href)=\"([^\"]+)\"", html) if "//" in source]
