"""One solve: start, iterate, refine the quadrature, rescue what does not converge."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..laws.base import Conjugates, Overlaps
from ..numerics.precision import float64
from ..numerics.programs import make_room
from ..numerics.results import RESULTS
from .certificate import Certificate, Plan, solve_and_certify
from .model import Model, as_numbers
from .quadratures import scheme
from .saddle import SINGULAR, SOLVER, Solver, Unknowns

#: A residual that stops falling below this size is a cycle about a fixed point, which no other start would avoid.
CYCLE = 1e-2
#: Steps on a finer rule from a solution on the coarser one: Newton's method takes two to five of them, or there is a cycle.
REFINING = 12
#: A weight decay at which solves are easy, where losses and data are of order one.
EASY = 0.1


class Solved(NamedTuple):
    """A certificate in NumPy, with how the solve ended."""

    certificate: Certificate
    result: RESULTS
    replicon: float
    quadrature_tol: float
    steps: int
    level: int
    singular: bool


@jax.jit
def _mean_variances(law, units):
    r = units.shape[0]
    rho, _ = law.targets()
    labels = law.labels()
    A, B, t = labels.mean.shape[-1], labels.cov.shape[-1], rho.shape[-1]
    still = Conjugates(jnp.zeros((B, r, r)), jnp.zeros((B, r, r)), jnp.zeros((A, r)), jnp.zeros((B, r, t)), jnp.zeros((r, r)))
    return law.overlaps(still, 1.0).V[:, 0, 0], rho


def starting_point(model: Model, init="uninformed") -> Unknowns:
    """The overlaps that an iteration starts from (NumPy float64).

    ``"uninformed"``: q = V = the mean variance of each covariance, m = theta = 0. ``"informed"``: the units sit on the targets
    (theta = 0.95 rho), or, without targets, along the mean directions. A dict of overlaps (``q``, ``m``, ``theta``,
    ``V``, ``Q``, trained scalars by
    name; scalars are broadcast, for q, V and Q times the identity) overrides the uninformed start, as does :class:`Unknowns`.
    """
    if isinstance(init, Unknowns):
        return init
    model = as_numbers(model)
    A, B, L, t, C = scheme(model).shape
    r = model.units
    with float64(True):
        gamma, rho = (np.array(a) for a in _mean_variances(model.law, np.zeros(r)))
    eye = np.eye(r)
    V = gamma[:, None, None] * eye
    q, m, theta, Q = V.copy(), np.zeros((A, r)), np.zeros((B, r, t)), eye.copy()
    scalars = {name: np.array(b, dtype=np.float64) for name, b in model.scalars.items()}
    if isinstance(init, dict):
        given = {"V": V, "q": q, "m": m, "theta": theta, "Q": Q}
        for name, value in init.items():
            if name in scalars:
                scalars[name] = np.broadcast_to(np.asarray(value, np.float64), scalars[name].shape).copy()
                continue
            if name not in given:
                raise ValueError(f"init must name overlaps among {', '.join([*given, *scalars])}, got {name!r}")
            value = np.asarray(value, dtype=np.float64)
            value = value * eye if name in ("V", "q", "Q") and value.ndim == 0 else value
            try:
                given[name] = np.broadcast_to(value, given[name].shape).copy()
            except ValueError as error:
                shape = given[name].shape
                raise ValueError(f"init[{name!r}] must have the shape {shape}, got {value.shape}") from error
        V, q, m, theta, Q = given.values()
    elif init == "informed":
        k = min(r, t)
        if k:
            q[:, :k, :k] = rho[:, :k, :k]
            theta[:, :k, :] = 0.95 * rho[:, :k, :]
            Q[:k, :k] = rho[:, :k, :k].sum(axis=0) / max(gamma.sum(), 1e-300)
        else:
            m = np.where(np.arange(A)[:, None] % r == np.arange(r), 0.5 * np.sqrt(gamma.mean()), 0.0)
    elif not (isinstance(init, str) and init == "uninformed"):
        raise ValueError(f"init must be 'uninformed', 'informed' or a dict of overlaps, got {init!r}")
    if "m" in model.frozen:
        m = np.zeros_like(m)
    if "theta" in model.frozen:
        theta = np.zeros_like(theta)
    return Unknowns(Overlaps(V, q, m, theta, Q), scalars)


def refuse_impossible(model: Model, start: Unknowns) -> None:
    """``ValueError`` for overlaps that no weights have: not finite, or a covariance of the fields that is not one."""
    o, rho = start.overlaps, np.asarray(model.law.targets()[0])
    for name, value in {**o._asdict(), **start.scalars}.items():
        if not np.all(np.isfinite(value)):
            raise ValueError(f"init[{name!r}] must hold finite numbers only, got {value.tolist()}")
    cov = np.asarray(model.law.labels().cov)
    joint = np.concatenate([np.concatenate([o.q, o.theta], 2), np.concatenate([np.swapaxes(o.theta, 1, 2), rho], 2)], 1)
    for name, matrix, what in (
        ("V", o.V, "positive semi-definite"),
        ("q", o.q, "positive semi-definite"),
        ("theta", joint, "small enough that [[q, theta], [theta^T, rho]] is a covariance"),
    ):
        assembled = np.einsum("clb,bij->clij", cov, matrix)
        low, high = np.linalg.eigvalsh(assembled)[..., 0], np.abs(assembled).max(axis=(2, 3))
        if np.any(low < -1e-9 * high):
            raise ValueError(f"init[{name!r}] must be {what}, got {getattr(o, name).tolist()}")


def solve(
    model: Model, init="uninformed", solver: Solver = SOLVER, quadrature_tol=None, level: int = 0, rescue: bool = True, aim=None,
    known: Certificate | None = None, compiled=solve_and_certify,
) -> Solved:
    """Solve the saddle point of a model whose numbers are NumPy.

    Starts on a coarse quadrature and refines it until the error it causes in the overlaps is below ``quadrature_tol`` (relative).
    A start that fails is tried again with more damping, then by continuation from a larger weight decay, and in one
    dimension, where that is cheap, on finer quadratures. Without ``rescue`` only the last is done: the others may leave the branch.
    With an ``aim`` below ``quadrature_tol`` the refinement goes on until the aim is met, as far as there are finer rules.
    Where the end of the iteration at ``level`` is ``known`` already, and converged, it is not computed again. ``compiled`` is the
    program that does the work, :func:`quenched.limit.certificate.solve_and_certify` or one of its arguments and result.
    """
    make_room()
    model = as_numbers(model)
    averages = scheme(model)
    tol = averages.tolerance if quadrature_tol is None else quadrature_tol
    start = starting_point(model, init)
    if isinstance(init, dict):
        refuse_impossible(model, start)
    singular, steps, good, retried = False, 0, None, False
    aim = tol if aim is None else min(aim, tol)
    with float64(True):
        while True:
            end, known = known, None
            if end is None or not (end.residual <= solver.tol):
                end = _attempt(compiled, model, averages, start, solver, level, singular, rescue=rescue and level == 0)
            steps += int(end.steps)
            if not singular and end.null < SINGULAR:
                singular = True
            elif not (end.residual <= solver.tol):
                # where the proximal operator jumps at some nodes, those of the next rule may not be at the jump
                cycle = averages.dimension > 1 and end.stalled and end.residual < CYCLE and not retried
                if (averages.dimension > 1 and not cycle) or level + 2 >= averages.levels:
                    break
                level = level + 1 if cycle else min(level + 2, averages.levels - 2)
                if cycle:
                    start, retried = end.unknowns, True
                continue
            elif end.quadrature_error > aim and level + 2 < averages.levels:
                good = end, level
                level += 1
            else:
                break
            # a finer rule starts where it will end: Newton's method first
            few = good is not None and averages.dimension > 1  # where steps are dear
            most = min(solver.max_steps, REFINING) if few else solver.max_steps
            start, solver = end.unknowns, solver._replace(warmup=-solver.max_steps, max_steps=most)
    # a finer rule that failed, or one that is no better, is not what was asked for
    if good is not None and not (end.residual <= solver.tol and end.quadrature_error <= max(tol, good[0].quadrature_error)):
        end, level = good
    return certified(end._replace(steps=steps), solver, tol, level, singular)


def certified(end: Certificate, solver: Solver, tol: float, level: int, singular: bool) -> Solved:
    """A certificate with its verdict."""
    replicon = _spectral_radius(end.replicon_map)
    return Solved(end, _result(end, solver, tol), replicon, tol, int(end.steps), level, singular)


def _attempt(compiled, model, averages, start, solver, level, singular, rescue):
    rule, fine = averages.solving_rules(level)
    plan = Plan(singular, averages.jumps)

    def run(model, start, solver):
        return jax.device_get(compiled(model.for_any_branch(), start, rule, fine, averages.rules, as_numbers(solver), plan))

    end = run(model, start, solver)
    if end.residual <= solver.tol or not rescue or (not singular and end.null < SINGULAR):
        return end
    slow = solver._replace(damping=0.7, warmup=30, max_steps=2 * solver.max_steps)
    cycle = end.stalled and end.residual < CYCLE
    unknowns = sum(np.size(leaf) for leaf in jax.tree.leaves(start))
    second = run(model, end.unknowns if cycle else start, slow)
    if second.residual <= solver.tol:
        return second
    path = None if cycle else _descend(run, model, start, slow, warm=solver._replace(warmup=-unknowns, max_steps=50))
    if path is not None:
        return path
    return min(end, second, key=lambda c: np.nan_to_num(c.residual, nan=np.inf))


def _descend(run, model, start, solver, warm):
    """The certificate at the end of a continuation from a larger weight decay, where solves are easy; None where it fails.

    Without weight decay the overlaps of data that can be fitted or separated are of the order of its inverse or of
    its logarithm: far from any fixed start, near to those at a weight decay that is a few times larger. The first solve
    is by ``solver``; from there on Newton's method begins at once, at overlaps that go on as powers of the weight decay.
    """
    done, factor, ratio, steps = [], max(1e3, EASY / float(model.weight_decay)), 10.0, 0
    while ratio > 1.2:
        path = run(_with_weight_decay(model, factor), _extrapolated(done, factor) if done else start, warm if done else solver)
        steps += int(path.steps)
        if path.residual <= solver.tol:
            if factor == 1.0:
                return path._replace(steps=steps)
            done = [*done[-1:], (factor, path.unknowns)]
        elif not done:
            return None
        else:
            ratio = ratio**0.5
        factor = max(1.0, done[-1][0] / ratio)
    return None


def _extrapolated(done, factor):
    """The unknowns at ``factor`` from those at the one or two factors before it, entry by entry a power law where signs allow."""
    if len(done) == 1:
        return done[0][1]
    (first, old), (second, new) = done
    step = np.log(factor / second) / np.log(second / first)

    def entry(a, b):
        a, b = np.asarray(a), np.asarray(b)
        ratio = np.divide(b, a, out=np.ones_like(b), where=a != 0.0)
        return np.where(ratio > 0.0, b * np.where(ratio > 0.0, ratio, 1.0) ** step, b)

    return jax.tree.map(entry, old, new)


def _with_weight_decay(model, factor):
    return eqx.tree_at(lambda m: m.weight_decay, model, np.asarray(model.weight_decay * factor))


def _spectral_radius(matrix) -> float:
    if not np.all(np.isfinite(matrix)):
        return float("inf")
    return float(np.abs(np.linalg.eigvals(matrix)).max(initial=0.0))


def _result(end: Certificate, solver, tol) -> RESULTS:
    finite = all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves((end.unknowns, end.conjugates, end.observables)))
    if not finite or (np.isinf(end.residual) and not end.lost):
        return RESULTS.nonfinite
    if not (end.residual <= solver.tol):
        return RESULTS.invalid if end.lost else RESULTS.stalled if end.stalled else RESULTS.max_steps
    if not (end.prox_error <= 1e-6):
        return RESULTS.prox
    return RESULTS.successful if end.quadrature_error <= tol else RESULTS.quadrature


def order_parameters(solved: Solved) -> dict[str, Any]:
    """Overlaps, conjugates and trained scalars by name."""
    c = solved.certificate
    return {**c.unknowns.overlaps._asdict(), **c.conjugates._asdict(), **c.unknowns.scalars}
