"""Sphinx: ``make docs`` writes the pages to ``docs/_build/html``. Nothing here asks the network for anything."""

import os
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_extensions"))
sys.path.insert(0, str(HERE.parent / "src"))
os.environ.setdefault("MPLBACKEND", "agg")

import quenched  # noqa: E402

project = "quenched"
author = "the quenched authors"
copyright = author
version = release = quenched.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_gallery.gen_gallery", "mathml", "docstrings"]
root_doc = "index"
exclude_patterns = ["_build", "_extensions", "sg_execution_times.rst", "gallery/sg_execution_times.rst"]
nitpicky = True
suppress_warnings = ["config.cache"]

html_theme = "furo"
html_title = f"quenched {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_dmath_double_inline = True
myst_heading_anchors = 3

# The docstrings are written by hand: mathematics, then a list of arguments. Types are in the lists.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}

# QUENCHED_GALLERY=0 writes the pages of the gallery without running its scripts.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "plot_gallery": os.environ.get("QUENCHED_GALLERY", "1") not in ("0", "no", "off", "false"),
    "filename_pattern": r"/plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "min_reported_time": 1,
    "image_scrapers": ("matplotlib",),
    "within_subsection_order": "FileNameSortKey",
}


def skip_fields(app, what, name, obj, skip, options):
    """The fields of named tuples are described in the docstring of the class."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    app.connect("autodoc-skip-member", skip_fields)
