"""Averages at a solved saddle point: more observables, another test law, the training fields."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ..laws.base import Conjugates, Law, Overlaps
from ..laws.spectrum import SpectralLaw
from ..laws.tokens import SpectralTokens
from ..losses import envelope
from ..losses.base import argument_names
from ..numerics.precision import float64
from . import fields
from . import observables as obs
from .channel import channel, conjugates
from .jumps import steps_only
from .model import Model, as_numbers, target_reads
from .quadratures import jumps_of, observable_rule, scheme, training_rule


@functools.partial(jax.jit, static_argnames=("fn", "jumps", "training"))
def _average(model, overlaps, scalars, rule, fn, jumps, training):
    if training:
        return obs.training_average(model, fn, overlaps, scalars, rule)
    return obs.test_average(model, fn, overlaps, scalars, rule, jumps)


def average_error(model: Model, overlaps: Overlaps, scalars, fn, law=None, training: bool = False):
    """How far :func:`average` moves on the next finer rule: what its quadrature is worth. Where panels end at the jumps of ``fn``,
    on quasi-random points, which are right to about 5e-4."""
    coarse, fine = (average(model, overlaps, scalars, fn, law, training, finer) for finer in (0, 1))
    return np.abs(fine - coarse)


def average(model: Model, overlaps: Overlaps, scalars, fn, law=None, training: bool = False, finer: int = 0):
    """E fn over fresh data (of the model's law, or of another ``law`` on the same basis) or over the training fields.

    ``fn`` is any function of arguments by name; its value may be an array. ``finer`` = 1: on the next finer rule.
    """
    model = as_numbers(model)
    if law is not None:
        if not isinstance(law, Law):
            raise ValueError(f"law must be a quenched.laws.Law or None, got {type(law).__name__}")
        model, overlaps = _with_law(model, overlaps, scalars, law)
    names = argument_names(fn, "observable")
    found = jumps_of(model, fn, names)
    with float64(True):
        if training:
            both = found.joined(jumps_of(model, model.loss, model.loss.names))
            rule, jumps = training_rule(model, fn, both, finer), False
        else:
            jumps = steps_only(model, fn, names)
            rule = observable_rule(model, fn, jumps, found, finer)
            jumps = jumps and not finer  # panels may have missed some
        return np.asarray(_average(model, overlaps, scalars, rule, fn, jumps, training))


def energy_error(model: Model, overlaps: Overlaps, scalars, level: int) -> float:
    """How much the free energy at a saddle point changes when the quadrature of ``level`` is refined once.

    The energy is stationary there, so that to first order only the average of the envelope at fixed overlaps changes.
    """
    model = as_numbers(model)
    averages = scheme(model)
    if level + 1 >= averages.levels:
        return 0.0
    with float64(True):
        coarse, fine = (float(_envelope(model, overlaps, scalars, averages.loss_rule(k))) for k in (level, level + 1))
    return abs(float(model.alpha) * (fine - coarse))


_envelope = jax.jit(channel)


def _with_law(model, overlaps, scalars, law):
    """The model with another law of test data, and the overlaps of the trained weights with its covariances."""
    old, new = model.law.labels(), law.labels()
    (rho, _), (new_rho, _) = model.law.targets(), law.targets()
    if old.mean.shape[1:] != new.mean.shape[1:] or rho.shape[1:] != new_rho.shape[1:]:
        raise ValueError(
            "law must have the tokens, mean directions and targets of the training law (list the directions of the test law in "
            f"both), got mean coefficients of the shape {new.mean.shape[1:]} and {new_rho.shape[1]} targets"
        )
    shifted = as_numbers(dataclasses.replace(model, law=law, reads=target_reads(law)))
    if _on_the_same_atoms(model.law, law):
        one, other = (np.asarray(each.spectrum.eigenvalues) for each in (model.law, law))
        equal = one.shape == other.shape and np.allclose(one, other, rtol=1e-12, atol=0.0)
        return shifted, overlaps if equal else _on_other_eigenvalues(model, overlaps, scalars, law)
    same = old.cov.shape[1:] == new.cov.shape[1:]
    if not same or not np.isclose(_basis_probe(model.law, model.units), _basis_probe(law, model.units), rtol=1e-9, atol=0.0):
        raise ValueError(
            "law must be on the covariances, means and targets of the training law, or have other eigenvalues on the same atoms of "
            "its spectrum (with the same weights and directions), got others"
        )
    return shifted, overlaps


def _on_the_same_atoms(one, other) -> bool:
    """Whether two laws differ in the eigenvalues of their atoms only."""
    if not isinstance(one, SpectralTokens) or not isinstance(other, SpectralTokens):
        return False
    pairs = ((one.spectrum.weights, other.spectrum.weights), (one.spectrum.gram, other.spectrum.gram))
    return one.free == other.free and all(np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=1e-12, atol=0.0) for a, b in pairs)


def _on_other_eigenvalues(model, overlaps, scalars, law):
    """The overlaps of weights that were trained on the model's law with the covariances of ``law``, which the training never
    saw: they are gradients of the potential too, in conjugates that are zero."""
    averages = scheme(model)
    old, count = model.law, law.spectrum.eigenvalues.shape[1]
    with float64(True):
        hats = conjugates(model, overlaps, scalars, averages.loss_rule(max(0, averages.levels - 2))).conjugates
        eigenvalues = np.concatenate([old.spectrum.eigenvalues, law.spectrum.eigenvalues], axis=1)
        wide = SpectralTokens(
            SpectralLaw(old.spectrum.weights, eigenvalues, old.spectrum.gram), old.prob, old.mean,
            np.pad(old.cov, ((0, 0), (0, 0), (0, count))), old.value, old.size, old.free,
        )  # fmt: skip
        padded = hats._replace(
            **{name: jnp.pad(getattr(hats, name), ((0, count), (0, 0), (0, 0))) for name in ("q_hat", "V_hat", "theta_hat")}
        )
        found = wide.overlaps(padded, model.weight_decay)
        q, theta = (np.asarray(a)[-count:] for a in (found.q, found.theta))
    return Overlaps(V=np.zeros_like(q), q=q, m=np.asarray(overlaps.m), theta=theta, Q=np.asarray(overlaps.Q))


def _basis_probe(law, r: int) -> float:
    """The potential at arbitrary conjugates: it sees the basis of covariances and directions, and no label."""
    labels, (rho, _) = law.labels(), law.targets()
    A, B, t = labels.mean.shape[-1], labels.cov.shape[-1], rho.shape[-1]
    rng = np.random.default_rng(0)
    factors = rng.uniform(0.5, 1.5, (2, B, 1, 1)) * np.eye(r)
    hats = Conjugates(factors[0], factors[1], rng.normal(size=(A, r)), rng.normal(size=(B, r, t)), np.zeros((r, r)))
    with float64(True):
        return float(law.potential(hats, 1.0))


def training_sample(model: Model, overlaps: Overlaps, scalars, n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """n independent draws of what a trained network sees on its training set: h, omega, label, target, noise.

    Each label is drawn by its probability, (omega, h_*) from the joint Gaussian of the overlaps, and h is the proximal operator at
    omega: pre-activations ``x w / sqrt(d)`` on training samples have this law.
    """
    model = as_numbers(model)
    rng = np.random.default_rng(seed)
    labels = model.law.labels()
    counts = rng.multinomial(n, np.asarray(labels.prob) / np.sum(labels.prob))
    names = tuple(dict.fromkeys((*model.loss.names, "label", *(("target",) if model.shape[3] else ()))))
    plan = fields.layout(model, names)
    parts = []
    with float64(True):
        for c, count in enumerate(counts):
            if not count:
                continue
            label = jax.tree.map(lambda a, c=c: jnp.asarray(a)[c], (labels.mean, labels.cov, labels.value))
            z = rng.standard_normal((count, plan.dimension(model)))
            f = fields.fields(model, plan, overlaps, label, (jnp.asarray(z), jnp.full(count, 1.0)))
            shared = {"gram": overlaps.Q, "scalars": scalars, "params": model.params}

            def at_prox(omega, node, f=f, shared=shared):
                extra = {name: {**shared, **node}[name] for name in model.loss.names if name != "h"}
                return envelope.prox(model.loss, omega, f.V, extra)

            h = jax.jit(jax.vmap(at_prox))(f.omega, f.node)
            table = np.asarray(f.weight).reshape(-1, count)  # outcomes x draws
            pick = (rng.random(count) > np.cumsum(table, axis=0)[:-1]).sum(axis=0) * count + np.arange(count)
            drawn = {"h": h, "omega": f.omega, **f.node}
            parts.append(jax.tree.map(lambda a, pick=pick: np.asarray(a)[pick], drawn))
    order = rng.permutation(n)
    return jax.tree.map(lambda *a: np.concatenate(a)[order], *parts)
