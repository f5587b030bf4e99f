"""What can be told of a loss by looking at it: kinks that its author did not declare."""

from __future__ import annotations

import dataclasses
import functools

import jax
import numpy as np

from ..losses.envelope import OMEGA, VARIANCES, envelope_misses
from ..losses.kinked import look, with_kinks
from ..losses.response import Finite
from ..numerics import check
from ..numerics.precision import float64
from .model import Model, as_numbers

_LABELS = 8
#: Draws for the check of a rule for outcomes, and how far their average may be from what the rule says.
_DRAWS, _MISSED = 2048, 0.05


def recognised(model: Model) -> Model:
    """The model with a loss that knows its kinks, where the loss is a plain function of one pre-activation, convex, and has some.

    Without them neither its proximal operator nor an average over it would be right to more than a few digits.
    """
    loss, shape = model.loss, model.shape
    if isinstance(model.response, Finite):
        _check_outcomes(model.response.rule, tuple(model.response.values.tolist()), shape[2], shape[3])
    if loss.moreau is not None and loss.name == "custom":
        _check_envelope(model)
    known = loss.moreau is not None or loss.prox is not None or loss.kinks is not None
    if known or loss.convex is False or model.units != 1 or shape[2] != 1 or {"target", "noise", "gram"} & set(loss.names):
        return model
    labels = _labels(model)
    if labels is None:
        return model
    # a number that is being differentiated cannot be looked at: the kind of a loss is seen at any other as well
    numbers = jax.tree.map(lambda x: np.full(np.shape(x), 0.5) if check.traced(x) else x, (model.scalars, model.params))
    seen = look(loss, labels, *as_numbers(numbers))
    if not (seen.convex and seen.kinks):
        return model
    additive = model.response is not None and model.response.additive_variance is not None
    return dataclasses.replace(model, loss=with_kinks(loss, additive and seen.residual))


def _check_envelope(model: Model) -> None:
    """``ValueError`` where a loss of one pre-activation comes with an envelope that is not its own."""
    loss = model.loss
    if model.units != 1 or model.shape[2] != 1 or {"target", "noise", "gram"} & set(loss.names):
        return
    labels = _labels(model)
    if labels is None or check.traced(*jax.tree.leaves((model.scalars, model.params))):
        return
    with float64(True):
        misses = np.asarray(envelope_misses(loss, labels, *as_numbers((model.scalars, model.params))))
    worst = np.unravel_index(np.argmax(np.nan_to_num(misses, nan=np.inf)), misses.shape)
    if not misses[worst] < 1e-6:
        label, omega, V = labels[worst[0]], OMEGA[worst[1]], VARIANCES[worst[2]]
        where = f"omega = {omega:g}, V = {V:g}{f', label = {label:g}' if 'label' in loss.names else ''}"
        raise ValueError(
            "moreau must return the least value over h of (h - omega)^2/2V + loss(h), with this h, and have the right derivative, "
            f"got others at {where} (off by {misses[worst]:.2g})"
        )


@functools.lru_cache(maxsize=256)
def _check_outcomes(rule, values: tuple, tokens: int, targets: int) -> None:
    """``ValueError`` where a rule for outcomes gives no probabilities, or does not average them over the covariance."""
    response, rng = Finite(np.array(values), rule), np.random.default_rng(0)
    mean = rng.standard_normal((_LABELS, 1, tokens, targets))
    root = rng.standard_normal((_LABELS, 1, tokens, targets, targets)) / np.sqrt(targets)
    drawn = mean + np.einsum("nklst,nklt->nkls", root, rng.standard_normal((_LABELS, _DRAWS, tokens, targets)))
    told = response.table(mean[:, 0], np.einsum("nklst,nklut->nlsu", root, root))
    averaged = response.table(drawn.reshape(-1, tokens, targets)).reshape(_LABELS, _DRAWS, -1).mean(axis=1)
    if np.abs(told - averaged).max() > _MISSED:
        raise ValueError(
            "rule must return P(y) for a Gaussian target of the mean and the covariance given, the average of P(y) without "
            f"covariance, got {told[0].tolist()} in place of about {averaged[0].round(2).tolist()}"
        )


def _labels(model: Model):
    """Some labels that the loss meets; None where they are no single numbers."""
    if "label" not in model.loss.names:
        return np.zeros(1)
    if model.response is None:
        values = model.law.labels().value
        if check.traced(values) or not isinstance(values, np.ndarray) or values.ndim != 1:
            return None
        return np.unique(values)[:_LABELS]
    if model.response.outcomes is not None:
        return np.asarray(model.response.outcomes)[:_LABELS]
    return np.array([-1.3, -0.2, 0.45, 2.1])
