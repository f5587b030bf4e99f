"""One undamped update at any overlaps, equation by equation: see :meth:`Problem.evaluate`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..numerics import check


def evaluate(problem, overlaps: dict) -> dict[str, Any]:
    """See :meth:`Problem.evaluate`."""
    import jax

    from ..limit.certificate import Plan, certify_at
    from ..limit.model import as_numbers
    from ..limit.quadratures import scheme
    from ..limit.saddle import SINGULAR
    from ..limit.solve import refuse_impossible, starting_point
    from ..numerics.precision import float64

    model = as_numbers(problem.model)
    shapes = problem._shapes
    check.names("evaluate", overlaps, problem._overlap_names)
    start = starting_point(model, problem._shaped(overlaps))
    refuse_impossible(model, start)
    averages = scheme(model)
    rule, _ = averages.solving_rules(max(0, averages.levels - 2))
    with float64(True):
        certificate, new = certify_at(model, start, rule, averages.rules, Plan(False, averages.jumps))
        if certificate.null < SINGULAR:  # nodes do not see all of a singular covariance
            certificate, new = certify_at(model, start, rule, averages.rules, Plan(True, averages.jumps))
        certificate, new = jax.tree.map(np.asarray, (certificate, new))
    old_values = {**start.overlaps._asdict(), **start.scalars}
    new_values = {**new.overlaps._asdict(), **new.scalars}
    scale = {k: max(np.abs(v).max(initial=0.0), np.abs(new_values[k]).max(initial=0.0), 1e-300) for k, v in old_values.items()}
    hats = {k: problem._present(v, True) for k, v in certificate.conjugates._asdict().items() if v.size}
    return {
        **hats,
        **{name: float(value) if np.ndim(value) == 0 else value for name, value in certificate.observables.items()},
        "update": {k: problem._present(v, k in shapes) for k, v in new_values.items() if v.size},
        "residual": {k: float(np.abs(new_values[k] - v).max() / scale[k]) for k, v in old_values.items() if np.size(v)},
    }
