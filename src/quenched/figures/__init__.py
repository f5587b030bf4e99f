"""Figures: one file each, a study and a plot, and the page that shows them all.

Every figure is a module with ``TITLE``, ``CAPTION``, ``REFERENCES`` (authors, year, arXiv), ``study(quick, progress) ->
xarray.Dataset`` in the form of :func:`quenched.sweep`, ``check(data) -> Check`` and ``plot(data, ax=None) -> Axes``.
"""
