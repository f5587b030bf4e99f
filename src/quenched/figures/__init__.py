"""Figures: one file each, a study and a plot, and the page that shows them all.

Every figure is a module with ``TITLE``, ``CAPTION``, ``REFERENCES`` (authors, year, arXiv), ``study(quick, progress) ->
xarray.Dataset`` in the form of :func:`quenched.sweep`, ``check(data) -> Check`` and ``plot(data, ax=None) -> Axes``.
"""

#: Figures in the order of the report, as the command line names them; the modules have underscores. Those of one family share
#: compiled programs: one process draws them, one after the other.
FAMILIES = (
    ("glm",), ("mixture",), ("phase-retrieval",), ("message-passing",), ("digits",),
    ("dae-noise", "dae-transition", "dae-real-data"),
    ("attention-transition", "attention-phase-diagram"), ("attention-counting",),
    ("deep-rf",), ("implicit-regularisation", "rainbow", "trained-features"), ("bayes-optimal",),
    ("kernel-staircase", "one-step-learning-curve", "one-step-spectrum", "one-step-expressivity", "one-step-equivalence"),
    ("online-committee",), ("flow-trajectories",), ("flow-rate",),
    ("diffusion-training", "diffusion-samples", "mode-collapse", "model-collapse"),
)  # fmt: skip
FIGURES = tuple(name for family in FAMILIES for name in family)
#: The pages to play with that are shipped, see :mod:`quenched.figures.explorers`.
EXPLORERS = ("logistic", "double-descent", "attention", "online-committee")
