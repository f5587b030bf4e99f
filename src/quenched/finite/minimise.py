"""The minimiser of the empirical risk: the best solver for each loss, and a certificate for each answer."""

from __future__ import annotations

import dataclasses

import numpy as np

from quenched.finite.data import Data, stream
from quenched.finite.descent import descend
from quenched.finite.interior_point import interior_point, relative_gap
from quenched.finite.least_squares import least_squares
from quenched.finite.piecewise import Lines, lines
from quenched.finite.result import Minimiser, Restart, Status
from quenched.finite.risk import Risk, Trained
from quenched.finite.starts import NAMES, start
from quenched.laws.base import Population
from quenched.losses.base import Loss
from quenched.numerics import check

OPTIMISERS = ("auto", "closed form", "interior point", "lbfgs", "adam")


def minimise(
    data: Data,
    loss: Loss,
    weight_decay: float,
    *,
    units: int = 1,
    scalars: dict | None = None,
    params: dict | None = None,
    init=None,
    restarts: int = 1,
    scale: float = 1.0,
    seed=0,
    population: Population | None = None,
    optimiser: str = "auto",
    tol: float = 1e-8,
    max_iterations: int = 5000,
    learning_rate: float = 0.01,
) -> Minimiser:
    """Minimise sum_mu loss(h_mu, ...) + weight_decay/2 |w|^2 over w (d, r), free means (F, r) and scalars.

    Here h_mu = x_mu w / sqrt(d) + free_mu m_free, (L, r). Nothing of the theory is used, only the loss itself.

    Parameters
    ----------
    data : the sample, see :class:`Data`.
    loss : a :class:`Loss`.
    weight_decay : lambda >= 0. With 0 the square loss gives the w of least norm; others must determine w by themselves.
    units : r.
    scalars : start values, by name, of what is trained and not penalised.
    params : fixed numbers that the loss reads.
    init : "zero" (default for convex losses), "random" (default otherwise), "informed", an array (d, r), or a tuple of
        these, all of which are tried (see :func:`quenched.finite.starts.start`). Free means start at 0.
    restarts : how many times each "random" start is repeated, with fresh numbers. The lowest risk is kept, among starts
        that converged if any did; all are reported.
    scale : standard deviation of a random start.
    seed : an int or a tuple of ints, of the random starts.
    population : directions behind the data, for "informed".
    optimiser : "auto" takes "closed form" for the named square loss of one unit and one token, "interior point" for
        losses of straight lines such as hinge and absolute (their dual, gap-certified; weight_decay > 0), "lbfgs" for
        all others. "adam" with a ``learning_rate`` follows the basin of its start more closely. Both descents end with
        Newton steps.
    tol : on the relative gradient, or on the relative duality gap.
    max_iterations : of the descent.

    Returns
    -------
    Minimiser, marked where ``tol`` was not met; never an exception for that.

    Raises
    ------
    ValueError : an argument out of its range, or a loss that is not one number per sample.

    >>> from quenched.losses.named import square
    >>> x = np.sqrt(2.0) * np.eye(2)[:, None, :]
    >>> none = np.zeros((2, 1, 0))
    >>> fit = minimise(Data(x, none, none, np.array([1.0, 2.0])), square, weight_decay=1.0)
    >>> fit.w[:, 0], fit.status.value
    (array([0.5, 1. ]), 'converged')
    """
    risk = Risk(data, loss, weight_decay, units=units, scalars=scalars, params=params)
    check.choice("optimiser", optimiser, OPTIMISERS)
    tol, max_iterations = check.positive("tol", tol), check.integer("max_iterations", max_iterations)
    restarts = check.integer("restarts", restarts)
    check.positive("learning_rate", learning_rate)
    inits = init if isinstance(init, tuple) else ("zero" if loss.convex else "random",) if init is None else (init,)
    for one in inits:
        if isinstance(one, str):
            check.choice("init", one, NAMES)
    straight = _lines(risk)
    solver = _solver(risk, optimiser, straight is not None)
    if solver == "closed form":
        return _closed_form(risk, tol)
    if solver == "interior point":
        return _interior_point(risk, straight, tol)
    starts = [one for one in inits for _ in range(restarts if isinstance(one, str) and one == "random" else 1)]
    if restarts > 1 and len(starts) == len(inits):
        raise ValueError(f"restarts must be 1 unless init is 'random', got {restarts} with init={init!r}")
    rng = np.random.default_rng(stream(seed, "start"))
    found = []
    for one in starts:
        w = start(one, *risk.layout.w, rng=rng, scale=scale, population=population)
        z = risk.zero.copy()
        z[: w.size] = w.ravel()
        found.append(
            descend(risk, z, optimiser=solver, tol=tol, max_iterations=max_iterations, learning_rate=learning_rate)
        )
    names = [one if isinstance(one, str) else "array" for one in starts]
    tried = tuple(Restart(name, f.risk, f.optimality, f.status) for name, f in zip(names, found, strict=True))
    best = min(found, key=lambda f: (f.status is not Status.CONVERGED, f.risk if np.isfinite(f.risk) else np.inf))
    note = "" if weight_decay else "weight_decay is 0: where minimisers are not unique, the start chose among them"
    made = _minimiser(risk, best.z, best.optimality, "gradient", best.status, best.iterations, solver, note)
    return dataclasses.replace(made, restarts=tried)


def _single(risk: Risk) -> bool:
    """Whether there is one unit, one token, and no trained scalar."""
    return risk.layout.w[1] == 1 and risk.host.x.shape[1] == 1 and not risk.layout.scalars


def _lines(risk: Risk) -> Lines | None:
    """The loss as straight lines, where it is made of them."""
    label = risk.host.label
    numbers = isinstance(label, np.ndarray) and label.size == len(risk.host.x)
    return lines(risk.loss, _plain(risk)[2], risk.params) if _single(risk) and numbers else None


def _solver(risk: Risk, optimiser: str, straight: bool) -> str:
    """The solver to use, refusing one that does not fit the loss."""
    loss = risk.loss
    fits = {
        "closed form": _single(risk) and loss.scalar and loss.name == "square",
        "interior point": straight and risk.weight_decay > 0,
    }
    if optimiser == "auto" and straight and risk.weight_decay == 0:
        raise ValueError(f"weight_decay must be positive for the loss {loss.name!r}, whose dual needs it, got 0")
    if optimiser == "auto":
        return next((name for name, yes in fits.items() if yes), "lbfgs")
    if not fits.get(optimiser, True):
        raise ValueError(f"optimiser must be one that fits the loss {loss.name!r}, got {optimiser!r}")
    return optimiser


def _plain(risk: Risk):
    """x (n, d), free (n, F) and the outcome (n,) of a problem with one token and one unit."""
    y = np.asarray(risk.host.label, dtype=np.float64).reshape(len(risk.host.x))
    return risk.host.x[:, 0], risk.host.free[:, 0], y


def _closed_form(risk: Risk, tol: float) -> Minimiser:
    w, m = least_squares(*_plain(risk), float(risk.weight_decay))
    z = risk.layout.pack(Trained(w, m, {}))
    start = float(np.linalg.norm(risk.value_and_grad(risk.zero)[1]))
    optimality = risk.relative_gradient(z, risk.value_and_grad(z)[1], start)
    status = Status.CONVERGED if optimality <= tol else Status.STALLED
    note = "weight_decay is 0: the w of least norm among the minimisers" if risk.weight_decay == 0 else ""
    return _minimiser(risk, z, optimality, "gradient", status, 1, "closed form", note)


def _interior_point(risk: Risk, straight: Lines, tol: float) -> Minimiser:
    """The gap is between the risk itself (the loss as given) and the dual value: it certifies loss and solver."""
    x, free, _ = _plain(risk)
    row, t, s, low, high, constant = straight
    w, m, dual, iterations = interior_point(x[row], free[row], t, s, low, high, float(risk.weight_decay))
    z = risk.layout.pack(Trained(w, m, {}))
    value = risk.value_and_grad(z)[0]
    gap = relative_gap(value, dual + constant, risk.value_and_grad(risk.zero)[0])
    status = Status.CONVERGED if gap <= tol else Status.STALLED
    return _minimiser(risk, z, gap, "duality gap", status, iterations, "interior point", "")


def _minimiser(risk: Risk, z, optimality, certificate, status, iterations, solver, note) -> Minimiser:
    value = risk.value_and_grad(z)[0]
    w, free, scalars = risk.layout.unpack(z)
    penalty = 0.5 * float(risk.weight_decay) * float(np.sum(w**2))
    train_loss = (value - penalty) / len(risk.host.x)
    return Minimiser(
        w, free, scalars, value, train_loss, optimality, certificate, status, iterations, solver, note=note
    )
