"""Generalised approximate message passing on one instance. Its fixed points are stationary points of the risk.

Source: S. Rangan (2011), arXiv:1010.5141; with labels, tokens and units: H. Cui (2024), arXiv:2409.13904. Damping:
S. Rangan, P. Schniter, A. Fletcher (2014), arXiv:1402.3210.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from quenched.finite.amp_channel import Answers, Messages, answer, blocks
from quenched.finite.data import Data, outcomes, reads_noise, sample_size, stream
from quenched.finite.observe import order_parameters
from quenched.finite.risk import Layout, Trained, arrays
from quenched.finite.starts import start
from quenched.laws.base import Population
from quenched.losses.base import Loss
from quenched.numerics import check
from quenched.numerics.newton import newton_step
from quenched.numerics.precision import float64
from quenched.numerics.results import RESULTS

_LARGE = 1e8  # weights of this size are on their way to infinity
_DAMPINGS = (0.0, 0.3, 0.6, 0.8, 0.9)  # tried in turn
_PATIENCE = 100  # steps in which the best of the relative gradient must halve, where more damping can be tried


class Sample(NamedTuple):
    """A training set, the label index (n,) of every sample, and the population it was drawn from."""

    data: Data
    index: np.ndarray
    population: Population


def draw(law, loss: Loss, response=None, *, alpha: float, dim: int, seed) -> Sample:
    """The training set that :func:`quenched.finite.data.draw` gives for this seed, with the index of every label.

    ``TypeError`` for a law without spectral atoms: message passing works in the common eigenbasis of its covariances.
    """
    law.atoms()
    instance = law.draw(seed, sample_size(alpha, dim), dim)
    data = outcomes(instance, response, seed=seed, noise=reads_noise(loss))
    return Sample(data, instance.index, instance.population)


@dataclasses.dataclass(frozen=True, eq=False)
class Passed:
    """Where message passing ended, and how it got there. T steps make T + 1 rows, the start among them.

    - ``w`` (d, r), ``free`` (F, r), ``scalars``: what was trained;
    - ``trajectory``: name -> (T + 1, ...): the overlaps ``q``, ``V``, ``m``, ``theta``, ``Q``, and the trained scalars;
    - ``gradient`` (T + 1,): |grad R|, of the risk in all that is trained. For a loss with kinks it is the subgradient
      that the proximal operator chooses, which is one of the risk's at a fixed point;
    - ``optimality`` (T + 1,): the same over the larger of its data part and its penalty part, which cancel; for a loss
      with kinks also the relative distance of the proximal points from the pre-activations, if that is larger;
    - ``risk``: the penalised risk at ``w``; ``train_loss``: the mean loss per sample; ``damping``: the weight of the old
      values that was used; ``result``: how it ended.
    """

    w: np.ndarray
    free: np.ndarray
    scalars: dict
    trajectory: dict[str, np.ndarray]
    gradient: np.ndarray
    optimality: np.ndarray
    risk: float
    train_loss: float
    damping: float
    result: RESULTS

    def rotated(self, rotation: np.ndarray) -> Passed:
        """The same with the units of every iterate mixed by an orthogonal (r, r) matrix, a symmetry of the loss."""
        matrices = {name: rotation.T @ self.trajectory[name] @ rotation for name in ("q", "V", "Q")}
        matrices |= {"m": self.trajectory["m"] @ rotation, "theta": rotation.T @ self.trajectory["theta"]}
        trajectory = {**self.trajectory, **matrices}
        return dataclasses.replace(self, w=self.w @ rotation, free=self.free @ rotation, trajectory=trajectory)


class State(NamedTuple):
    """One iterate: what is trained, the susceptibilities V (B, r, r), and the last f (n, L, r)."""

    trained: Trained
    V: np.ndarray
    f: np.ndarray


class Measured(NamedTuple):
    """One row of the trajectory, and x^T f/sqrt(d) (d, r), which the next step needs."""

    overlaps: dict
    gradient: float
    optimality: float
    loss: float
    field: np.ndarray


def pass_messages(
    sample: Sample,
    loss: Loss,
    weight_decay: float,
    *,
    units: int = 1,
    scalars: dict | None = None,
    params: dict | None = None,
    free: tuple = (),
    init: Any = "random",
    seed=0,
    max_steps: int = 500,
    damping: float | None = None,
    tol: float = 1e-10,
) -> Passed:
    """Iterate message passing for the risk sum_mu loss(h_mu, ...) + weight_decay/2 |w|^2 of one sample.

    A step passes omega = x w/sqrt(d) + free m_free - V f to the samples, takes the new f and its derivative J at their
    proximal points, and solves (weight_decay + Q_hat + sum_b V_hat_b S_b) w = x^T f/sqrt(d) + sum_b S_b w V_hat_b, an
    r x r system for each coordinate, with V_hat_b = -1/d sum J over the tokens of covariance b and
    Q_hat = 2/d sum dloss/dgram. Free means and scalars take one Newton step on the sum of the Moreau envelopes.
    Only products with x and its transpose are formed, once a step; x is not copied.

    Parameters
    ----------
    sample : as :func:`draw` gives it: its coordinates are those in which all covariances are diagonal.
    loss, units, scalars, params : the risk, see :func:`quenched.finite.minimise.minimise`; weight_decay >= 0.
    free : which of the law's A mean directions are free.
    init : "random", "informed", "zero" or an array (d, r), see :func:`quenched.finite.starts.start`; V starts at the
        mean eigenvalues times the identity, free means at 0.
    seed : of a random start. max_steps : the largest number of steps.
    damping : the weight of the old values, in [0, 1). ``None`` starts without, and anew with 0.3, 0.6, 0.8, 0.9 where the
        messages run away, or cycle: where their relative gradient does not halve in a hundred steps.
    tol : on the relative gradient of the risk.

    Returns
    -------
    Passed, marked where ``tol`` was not met.

    Raises
    ------
    ValueError : an argument out of its range, or a loss that is not finite at the start.

    >>> from quenched.laws import single
    >>> from quenched.losses.named import square
    >>> from quenched.losses.response import Additive
    >>> sample = draw(single(), square, Additive(0.1), alpha=2.0, dim=100, seed=0)
    >>> passed = pass_messages(sample, square, 0.1)
    >>> passed.result.value, bool(passed.gradient[-1] < 1e-8)
    ('converged', True)
    """
    data, population = sample.data._replace(label=arrays(sample.data.label)), sample.population
    if population.covariances.ndim != 2:
        raise ValueError(f"sample must have diagonal covariances (B, d), got the shape {population.covariances.shape}")
    weight_decay, units = check.nonnegative("weight_decay", weight_decay), check.integer("units", units)
    if damping is not None:
        damping = check.scalar("damping", damping, 0.0, 1.0, open_high=True)
    max_steps, tol = check.integer("max_steps", max_steps), check.positive("tol", tol)
    params, grouping = arrays(params or {}), blocks(population.labels.cov, sample.index)
    n, tokens, d = data.x.shape

    w = start(init, d, units, rng=np.random.default_rng(stream(seed, "start")), population=population)
    given = {name: check.array(f"scalars[{name!r}]", value) for name, value in (scalars or {}).items()}
    trained = Trained(w, np.zeros((data.free.shape[-1], units)), given)
    V = population.covariances.mean(axis=1)[:, None, None] * np.eye(units)
    state = State(trained, V, np.zeros((n, tokens, units)))
    fields = data, population, loss, params, grouping, free, weight_decay
    tried = []
    for strength in _DAMPINGS if damping is None else (damping,):
        patience = max_steps if damping is not None or strength == _DAMPINGS[-1] else _PATIENCE
        tried.append(_iterate(*fields, state, max_steps=max_steps, damping=strength, tol=tol, patience=patience))
        if tried[-1].result in (RESULTS.successful, RESULTS.max_steps):
            return tried[-1]
    return min(tried, key=lambda passed: passed.optimality[-1])


def _iterate(data, population, loss, params, grouping, free, weight_decay, state, *, max_steps, damping, tol, patience) -> Passed:
    """:func:`pass_messages` at one damping, until the best of the last ``patience`` steps is not half of that before."""
    n, _, d = data.x.shape
    rows, result = [], RESULTS.max_steps
    for count in range(max_steps + 1):
        w, h = state.trained.w, preactivations(data, state.trained)
        messages = Messages(h, state.f, state.V, w.T @ w / d, state.trained.scalars)
        with float64(True):
            answers = jax.tree.map(np.asarray, answer(loss, messages, data._replace(x=None), params, grouping))
        if not np.isfinite(answers.value) or not np.all(np.isfinite(answers.f)):
            result = RESULTS.nonfinite
            break
        last = state
        rows.append(_measure(data, population, free, weight_decay, state, h, answers, rows, loss.kinks is not None))
        if rows[-1].optimality <= tol:
            result = RESULTS.successful
        elif count >= 2 * patience and not _falls([row.optimality for row in rows], patience):
            result = RESULTS.stalled
        state = _step(population.covariances, weight_decay, state, answers, rows[-1].field, damping)
        if result is not RESULTS.max_steps or count == max_steps:
            break
        if state is None:
            result = RESULTS.invalid
            break
    if not rows:
        raise ValueError(f"loss must be finite at the start, got {float(answers.value)}")
    w = last.trained.w
    return Passed(
        *last.trained,
        trajectory={name: np.stack([row.overlaps[name] for row in rows]) for name in rows[0].overlaps},
        gradient=np.array([row.gradient for row in rows]),
        optimality=np.array([row.optimality for row in rows]),
        risk=rows[-1].loss + 0.5 * weight_decay * float(np.sum(w**2)),
        train_loss=rows[-1].loss / n,
        damping=damping,
        result=result,
    )


def _falls(optimality: list[float], patience: int) -> bool:
    """Whether the best of the last ``patience`` values is less than half of the best before."""
    return min(optimality[-patience:]) < 0.5 * min(optimality[:-patience])


def preactivations(data: Data, trained: Trained) -> np.ndarray:
    """h = x w/sqrt(d) + free m_free, (n, L, r), without a copy of x."""
    n, tokens, d = data.x.shape
    h = data.x.reshape(n * tokens, d) @ trained.w / math.sqrt(d)
    return h.reshape(n, tokens, -1) + data.free @ trained.free


def _transpose(data: Data, f: np.ndarray) -> np.ndarray:
    """x^T f/sqrt(d), (d, k), for f (n, L, k)."""
    n, tokens, d = data.x.shape
    return data.x.reshape(n * tokens, d).T @ f.reshape(n * tokens, -1) / math.sqrt(d)


def _measure(data, population, free, weight_decay, state, h, answers: Answers, rows, kinked) -> Measured:
    w, d = state.trained.w, data.x.shape[-1]
    if kinked:
        field = _transpose(data, answers.f)
        gradient = -field
    else:
        field, gradient = np.split(_transpose(data, np.concatenate([answers.f, answers.g], axis=-1)), 2, axis=-1)
    gradient = gradient + w @ (answers.gram_h + answers.gram_h.T) / d
    others = [np.einsum("nlf,nlr->fr", data.free, answers.g), *answers.scalars_h.values()]
    outer = math.sqrt(sum(float(np.sum(a**2)) for a in others))
    size = math.hypot(np.linalg.norm(gradient + weight_decay * w), outer)
    scale = max(
        math.hypot(np.linalg.norm(gradient), outer),
        weight_decay * max(float(np.linalg.norm(w)), math.sqrt(w.size)),
    )
    if weight_decay == 0.0 and rows:  # nothing cancels: compare with the start
        scale = rows[0].gradient
    optimality = size / max(scale, np.finfo(float).tiny)
    if kinked:
        optimality = max(optimality, float(answers.gap) / max(1.0, float(np.abs(h).max())))
    overlaps = order_parameters(state.trained, population, free) | {"V": state.V} | state.trained.scalars
    return Measured(overlaps, size, optimality, float(answers.value), field)


def _step(eigenvalues, weight_decay, state: State, answers: Answers, field, damping) -> State | None:
    """The next iterate; None where the quadratic form that it minimises is not positive definite, or it runs away."""
    (w, free, scalars), d = state.trained, eigenvalues.shape[1]
    feedback = np.tensordot(eigenvalues.T, answers.slope / d, axes=1)
    matrix = feedback + (answers.gram + answers.gram.T) / d + weight_decay * np.eye(w.shape[1])
    if not np.all(np.linalg.eigvalsh(matrix)[:, 0] > 0.0):
        return None
    inverse = np.linalg.inv(matrix)
    new = np.einsum("ij,ijk->ik", field + np.einsum("ij,ijk->ik", w, feedback), inverse)
    if not np.abs(new).max() < _LARGE:
        return None
    V = np.tensordot(eigenvalues, inverse, axes=1) / d

    def mixed(old, new):
        return damping * old + (1.0 - damping) * new

    layout = Layout((0, w.shape[1]), free.shape, tuple((name, np.shape(scalars[name])) for name in sorted(scalars)))
    outer = layout.pack(Trained(w[:0], free, scalars))
    longest = 1.0 + float(np.linalg.norm(outer))
    moved = layout.unpack(outer + (1.0 - damping) * newton_step(answers.outer, answers.curvature, longest))
    return State(Trained(mixed(w, new), moved.free, moved.scalars), mixed(state.V, V), mixed(state.f, answers.f))
