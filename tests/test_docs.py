"""The examples in the documentation are executed."""

import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
MADE = ("_build", "gallery")  # written by Sphinx
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if page.relative_to(DOCS).parts[0] not in MADE]
EXECUTED = [page for page in PAGES if ">>> " in page.read_text(encoding="utf-8")]


def test_every_python_block_is_executed():
    for page in PAGES:
        for block in page.read_text(encoding="utf-8").split("```python\n")[1:]:
            assert block.startswith(">>> "), f"{page.name} has a block of Python that is no doctest: {block[:60]!r}"
    assert len(EXECUTED) > 20


@pytest.mark.slow
@pytest.mark.parametrize("page", EXECUTED, ids=lambda page: str(page.relative_to(DOCS)))
def test_examples_run(page):
    failures, tried = doctest.testfile(str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried > 0 and failures == 0
