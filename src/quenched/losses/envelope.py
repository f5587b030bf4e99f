"""The proximal operator and the Moreau envelope of any loss: batched, global, implicitly differentiable.

``M(omega, V) = min_h 1/2 sum_l (h_l - omega_l)^T V_l^{-1} (h_l - omega_l) + loss(h)``, jointly over the L tokens of r
units. ``V = 0`` is legal (h = omega). Source: H. Cui (2024), arXiv:2409.13904.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from ..numerics.linalg import ldl_factor, ldl_solve, symmetrise
from ..numerics.roots import psd_factors
from .base import Loss

MAX_STEPS = 80
#: Nodes that are searched together on a CPU: all wait for the slowest of them, and their state should stay in the cache.
TOGETHER = 32


def evaluate(loss: Loss, h, extra):
    """The loss at ``h`` (L, r); ``extra`` is a dict of its other arguments."""
    value = jnp.asarray(loss(h, **extra))
    value = value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(h.dtype)
    if value.shape != ():
        raise ValueError(f"loss must return a single number for one sample, got an array of shape {value.shape}")
    return value


def prox(loss: Loss, omega, V, extra):
    """The global minimiser h (L, r) of the Moreau problem, for omega (L, r) and V (L, r, r); of V the symmetric part counts."""
    V = symmetrise(V)
    return _smooth_prox(loss, omega, V, extra) if loss.moreau is None else _closed_form(loss, omega, V, extra)[1]


def moreau(loss: Loss, omega, V, extra):
    """The Moreau envelope, differentiable any number of times in all real arguments.

    ``dM/domega = -f``, ``dM/dV = -f f^T / 2``, ``dM/dextra = dloss/dextra`` with ``f = -grad loss(h)``.
    """
    V = symmetrise(V)
    return _smooth_moreau(loss, omega, V, extra) if loss.moreau is None else _closed_form(loss, omega, V, extra)[0]


def _closed_form(loss, omega, V, extra):
    named = {name: extra[name] for name in loss.names if name != "h"}
    if not loss.scalar:
        return loss.moreau(omega, V, **named)
    value, h = loss.moreau(omega[0, 0], V[0, 0, 0], **named)
    return value, jnp.reshape(h, (1, 1))


#: Where an envelope that comes with a loss is compared with its definition.
OMEGA, VARIANCES = (-2.7, -0.61, -0.043, 0.17, 0.83, 3.9), (0.03, 0.7, 9.0)


@functools.partial(jax.jit, static_argnums=0)
def envelope_misses(loss: Loss, labels, scalars, params):
    """How far ``loss.moreau`` is from its definition, relative to its size: (labels, omegas, variances).

    The value is compared with the energy at the point that comes with it and with a scan of others, the slope with that of the
    envelope, ``(omega - h) / V``.
    """

    def one(label, omega, V):
        given = {"label": label, "scalars": scalars, "params": params}
        extra = {name: given[name] for name in loss.names if name != "h"}
        omega, V = jnp.reshape(omega, (1, 1)), jnp.reshape(V, (1, 1, 1))
        value, h = _closed_form(loss, omega, V, extra)
        slope = jax.grad(lambda omega: _closed_form(loss, omega, V, extra)[0])(omega)[0, 0]

        def energy(h):
            return evaluate(loss, jnp.reshape(h, (1, 1)), extra) + (h - omega[0, 0]) ** 2 / (2.0 * V[0, 0, 0])

        others = omega[0, 0] + jnp.sqrt(V[0, 0, 0]) * jnp.linspace(-5.0, 5.0, 101)
        at, least, size = energy(h[0, 0]), jnp.min(jax.vmap(energy)(others)), 1.0 + jnp.abs(value)
        expected = (omega - h)[0, 0] / V[0, 0, 0]
        wrong = jnp.array([jnp.abs(at - value) / size, (at - least) / size, jnp.abs(slope - expected) / (1.0 + jnp.abs(expected))])
        return jnp.max(jnp.where(jnp.isnan(wrong), jnp.inf, wrong))

    omegas, variances = jnp.asarray(OMEGA), jnp.asarray(VARIANCES)
    return jax.vmap(lambda y: jax.vmap(lambda w: jax.vmap(lambda v: one(y, w, v))(variances))(omegas))(jnp.asarray(labels))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _smooth_prox(loss, omega, V, extra):
    if loss.prox is not None:
        return loss.prox(omega[0, 0], V[0, 0, 0], extra["label"])[None, None]
    return _found(loss, omega, V, extra)


@functools.partial(jax.jit, static_argnums=0)  # within other programs: traced once, and not for each of their derivatives
def _found(loss, omega, V, extra):
    return _in_batches(functools.partial(_minimise, loss))(omega, V, extra)


@_smooth_prox.defjvp
def _smooth_prox_jvp(loss, primals, tangents):
    omega, V, extra = primals
    d_omega, d_V, d_extra = tangents
    h = _smooth_prox(loss, omega, V, extra)

    def gradient(h, extra):
        return jax.grad(evaluate, argnums=1)(loss, h, extra)

    minus_f, d_gradient = jax.jvp(lambda e: gradient(h, e), (extra,), (d_extra,))
    hessian = jax.jacfwd(gradient)(h, extra)
    rhs = d_omega - jnp.einsum("lab,lb->la", d_V, minus_f) - jnp.einsum("lab,lb->la", V, d_gradient)
    # (I + V H)^{-1} = I - C (I + C^T H C)^{-1} C^T H with V = C C^T: positive definite at a minimum
    root = jax.vmap(lambda v: psd_factors(v)[0])(V)
    whitened = jnp.einsum("lca,lcmd,mdb->lamb", root, hessian, root).reshape(h.size, h.size)
    push = jnp.einsum("lca,lcmd,md->la", root, hessian, rhs).reshape(-1)
    inner = ldl_solve(ldl_factor(jnp.eye(h.size, dtype=h.dtype) + whitened), push).reshape(h.shape)
    return h, rhs - jnp.einsum("lac,lc->la", root, inner)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _smooth_moreau(loss, omega, V, extra):
    h = _smooth_prox(loss, omega, V, extra)
    value, f = jax.value_and_grad(evaluate, argnums=1)(loss, h, extra)
    return value + 0.5 * jnp.einsum("la,lab,lb->", f, V, f)


@_smooth_moreau.defjvp
def _smooth_moreau_jvp(loss, primals, tangents):
    omega, V, extra = primals
    d_omega, d_V, d_extra = tangents
    h = _smooth_prox(loss, omega, V, extra)
    minus_f = jax.grad(evaluate, argnums=1)(loss, h, extra)
    at_h, d_loss = jax.jvp(lambda e: evaluate(loss, h, e), (extra,), (d_extra,))
    value = at_h + 0.5 * jnp.einsum("la,lab,lb->", minus_f, V, minus_f)
    tangent = jnp.sum(minus_f * d_omega) - 0.5 * jnp.einsum("la,lab,lb->", minus_f, d_V, minus_f) + d_loss
    return value, tangent


def starting_points(loss: Loss, omega, V, root, extra):
    """Where the search for the global minimum starts, in the whitened variable ``u`` (K, L, r), h = omega + root u."""
    zero = jnp.zeros_like(omega)
    if loss.convex:
        return zero[None]
    length, units = omega.shape
    _, pinv, _ = jax.vmap(psd_factors)(V)
    back = jnp.einsum("lab,lbc->lac", root, pinv)

    def reaching(h):
        return jnp.clip(jnp.einsum("lba,lb->la", back, h - omega), -20.0, 20.0)

    if loss.starts is not None:
        return jax.vmap(reaching)(loss.starts(omega, **{name: extra[name] for name in loss.names if name != "h"}))
    points = [zero, reaching(zero), reaching(-omega)]
    if omega.size == 1:
        points += list(_lowest_wells(loss, omega, root, extra))
    else:
        push = jnp.full_like(omega, 1.5 / omega.size**0.5)
        pattern = jnp.where(jnp.arange(omega.size).reshape(omega.shape) % 2 == 0, 1.0, -1.0)
        points += [push, -push, pattern * push, -pattern * push]
    if units > 1:
        points.append(reaching(omega[:, ::-1]))
    if length > 1:
        points.append(reaching(omega[::-1]))
    target = extra.get("target")
    if target is not None and target.shape == omega.shape:
        points += [reaching(target), reaching(-target)]
        if units > 1:
            points.append(reaching(target[:, ::-1]))
    return jnp.stack(points)


def _lowest_wells(loss, omega, root, extra, count: int = 3):
    """The lowest local minima (count, 1, 1) of the objective of one number on a grid that is finest around u = 0."""
    u = 2.0 * jnp.sinh(jnp.linspace(-3.0, 3.0, 129))[:, None, None]
    value = jax.vmap(lambda u: 0.5 * jnp.sum(u * u) + evaluate(loss, omega + root[:, 0] * u, extra))(u)
    around = jnp.concatenate([value[:1], value, value[-1:]])
    well = (value <= around[:-2]) & (value <= around[2:])
    return u[jax.lax.top_k(jnp.where(well, -value, -jnp.inf), count)[1]]


def _in_batches(fn):
    """``fn``, which ``vmap`` maps over few samples at a time (on a CPU; elsewhere over all at once)."""

    @jax.custom_batching.custom_vmap
    def batched(*args):
        return fn(*args)

    @batched.def_vmap
    def rule(size, in_batched, *args):
        leaves, tree = jax.tree.flatten(args)
        mapped = jax.tree.leaves(in_batched)

        def one(values):
            values = iter(values)
            return fn(*jax.tree.unflatten(tree, [next(values) if m else a for a, m in zip(leaves, mapped, strict=True)]))

        together = min(TOGETHER, size) if jax.default_backend() == "cpu" else size
        # whole batches only: the rest of a division would be a second program beside the first
        missing = -size % together
        whole = [jnp.concatenate([a, a[:missing]]) if missing else a for a, m in zip(leaves, mapped, strict=True) if m]
        return jax.tree.map(lambda a: a[:size], jax.lax.map(one, whole, batch_size=together)), True

    return batched


def minima(loss, omega, V, extra):
    """Where the searches from all starts end, (K, L, r): the local minima that a global minimum is chosen among."""
    return _in_batches(lambda *at: _searched(loss, *at)[0])(omega, symmetrise(V), extra)


def _minimise(loss, omega, V, extra):
    """The lowest end of the searches."""
    ends, values = _searched(loss, omega, V, extra)
    return ends[0] if len(ends) == 1 else ends[jnp.argmin(jnp.where(jnp.isfinite(values), values, jnp.inf))]


@functools.partial(jax.jit, static_argnums=0)  # as above
def _searched(loss, omega, V, extra):
    """Levenberg-shifted Newton on ``|u|^2 / 2 + loss(omega + root u)`` from several starts: the ends, and the values there."""
    root = jax.vmap(lambda v: psd_factors(v)[0])(V)
    starts = starting_points(loss, omega, V, root, extra)

    def objective(u):
        return 0.5 * jnp.sum(u * u) + evaluate(loss, omega + jnp.einsum("lab,lb->la", root, u), extra)

    def derivatives(u):
        value, gradient = jax.value_and_grad(objective)(u)
        hessian = jax.jacfwd(jax.grad(objective))(u)
        return value, gradient.reshape(-1), hessian.reshape(u.size, u.size)

    def search(u):
        def going(state):
            return (state[-1] < MAX_STEPS) & ~state[-2]

        def step(state):
            u, trial, length, value, gradient, hessian, shift, _, count = state
            t_value, t_gradient, t_hessian = derivatives(trial)
            size, t_size = jnp.max(jnp.abs(gradient)), jnp.max(jnp.abs(t_gradient))
            slack = 1e-13 * (1.0 + jnp.abs(value))
            better = (t_value < value - slack) | ((t_value <= value + slack) & (t_size < size))
            good = (count == 0) | better
            u, value = jnp.where(good, trial, u), jnp.where(good, t_value, value)
            gradient, hessian = jnp.where(good, t_gradient, gradient), jnp.where(good, t_hessian, hessian)
            shift = jnp.where(good, jnp.where(shift < 1e-4, 0.0, 0.1 * shift), jnp.maximum(4.0 * shift, 0.05))
            scale = 1.0 + jnp.max(jnp.abs(u))
            size = jnp.max(jnp.abs(gradient))
            stuck = (shift > 1e10) | (~good & (size <= 1e-11 * scale)) | (good & (length <= 1e-15 * scale))
            newton, shift = _shifted_newton(hessian, shift, gradient)
            length = jnp.sqrt(jnp.sum(newton**2))
            newton = newton * jnp.minimum(1.0, 10.0 / jnp.maximum(length, 1e-300))
            trial = u + newton.reshape(u.shape)
            return u, trial, length, value, gradient, hessian, shift, (size <= 4e-15 * scale) | stuck, count + 1

        one = jnp.ones((), u.dtype)
        flat = jnp.zeros(u.size, u.dtype)
        state = (u, u, one, one, flat, jnp.zeros((u.size, u.size), u.dtype), 0.0 * one, False, 0)
        u, _, _, value, *_ = jax.lax.while_loop(going, step, state)
        return u, value

    if starts.shape[0] == 1:
        ends, values = jax.tree.map(lambda a: a[None], search(starts[0]))
    else:
        ends, values = jax.vmap(search)(starts)
    return omega + jnp.einsum("lab,klb->kla", root, ends), values


def _shifted_newton(hessian, shift, gradient):
    """Solve (hessian + shift) step = -gradient; a shift that leaves it indefinite is raised by Gershgorin's bound."""
    diagonal = jnp.diagonal(hessian)
    lowest = jnp.min(diagonal - (jnp.sum(jnp.abs(hessian), axis=1) - jnp.abs(diagonal)))
    eye = jnp.eye(hessian.shape[0], dtype=hessian.dtype)
    _, pivots = ldl_factor(hessian + shift * eye)
    definite = jnp.min(jnp.stack(pivots)) > 1e-10
    shift = jnp.where(definite, shift, jnp.maximum(shift, 0.05 - lowest))
    return ldl_solve(ldl_factor(hessian + shift * eye), -gradient), shift
