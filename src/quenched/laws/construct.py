"""Short ways to state a law of the data: one token, a mixture of classes, a sequence of tokens."""

from __future__ import annotations

import equinox as eqx
import jax
import numpy as np

from quenched.laws.assemble import (
    class_coefficients,
    covariance_entries,
    dense_parts,
    distinct,
    numpy_or_jax,
    spectral_parts,
    target_columns,
)
from quenched.laws.dense import DenseTokens
from quenched.laws.spectrum import SpectralLaw, class_moments, lift
from quenched.laws.tokens import SpectralTokens
from quenched.numerics import check


def single(spectrum=None, targets=None) -> SpectralTokens:
    """One class, one token: ``x ~ N(0, S)`` and targets ``x w_* / sqrt(d)``; the data of a generalised linear model.

    - ``spectrum``: None for S = I, a number for a multiple of I, a vector of eigenvalues (each of weight 1/d0), a
      covariance matrix (d0, d0), or a :class:`SpectralLaw` with B = 1, whose directions are then the targets.
    - ``targets``: how many generic targets (orthogonal, coordinates of variance one; the default is 1, or what the
      :class:`SpectralLaw` has), or explicit ``w_*`` (d0,) or (d0, t) beside a vector or matrix.

    >>> single([0.5, 0.5, 2.0]).targets()[0].tolist()
    [[[1.0]]]
    """
    if isinstance(spectrum, SpectralLaw):
        if targets is None and spectrum.gram.shape[-1] == 0:
            targets = 1
        return sequence([1.0], spectrum=spectrum, targets=targets)
    entry = 1.0 if spectrum is None else spectrum
    return sequence([1.0], covariances=[entry], targets=1 if targets is None else targets)


def mixture(
    weights, means=None, gram=None, covariances=None, labels=None, *, spectrum=None, targets=None, dense=False
) -> SpectralTokens | DenseTokens:
    """A mixture of K Gaussian classes, one token: class k has probability ``weights[k]``, mean mu_k, covariance S_k.

    - ``weights`` (K,): class probabilities.
    - ``means`` (K, d0): the vectors mu_k, of norm O(1); or ``gram`` (K, K): ``mu_k . mu_l`` for means in generic
      position. With neither, all means vanish (A = 0).
    - ``covariances``: a number or a symmetric matrix (an array) for all classes (default 1), or a sequence of one entry a
      class (or a single one for all): numbers, vectors of eigenvalues (d0,) in the coordinates of the means, or matrices
      (d0, d0). Equal entries are one basis covariance. Matrices must commute, unless ``dense``.
    - ``labels``: what the loss sees as ``label``, K entries; 0..K-1 by default. Integers stay integers (class
      indices), unless one is negative: -1, 1 become float64.
    - ``spectrum``: a :class:`SpectralLaw` instead of means, gram and covariances, with K eigenvalue columns (or one)
      and the K means first among its directions; the others are targets.
    - ``targets``: a number of generic targets, or explicit ``w_*`` (d0, t); none by default.
    - ``dense``: True for a :class:`DenseTokens` law, for covariance matrices that do not commute.

    Source: B. Loureiro et al. (2021), arXiv:2106.03791.

    >>> law = mixture([0.5, 0.5], means=[[1.0, 0.0], [-1.0, 0.0]], labels=[-1, 1])
    >>> law.spectrum.gram[0].tolist(), law.value.tolist()
    ([[1.0, -1.0], [-1.0, 1.0]], [-1.0, 1.0])
    """
    weights = check.probabilities("weights", lift(weights))
    classes = np.arange(weights.shape[0])
    if labels is None:
        labels = classes
    elif any(np.ndim(leaf) == 0 or len(leaf) != len(classes) for leaf in jax.tree.leaves(label_values(labels))):
        raise ValueError(f"labels must hold one entry for each of the {len(classes)} classes, got {labels!r}")
    return sequence(
        weights, classes=classes[:, None], value=labels, spectrum=spectrum, means=means, gram=gram,
        covariances=covariances, targets=targets, dense=dense,
    )  # fmt: skip


def sequence(
    prob,
    mean=None,
    cov=None,
    value=None,
    *,
    classes=None,
    spectrum=None,
    means=None,
    gram=None,
    covariances=None,
    targets=None,
    dense=False,
) -> SpectralTokens | DenseTokens:
    """L tokens, independent Gaussians given a label; the label has any finite law, or a continuous one on nodes.

    - ``prob`` (C,): the probability of each joint label, or the weights of quadrature nodes.
    - ``classes`` (C, L): the class of each token under each joint label: token l has the mean ``means[k]`` and the
      covariance ``covariances[k]``, k = ``classes[c, l]``. Or, instead, coefficients:
    - ``mean`` (C, L, A): the mean of token l is ``sum_a mean[c,l,a] means[a]``; ``cov`` (C, L, B): its covariance is
      ``sum_b cov[c,l,b] covariances[b]``. Without ``cov``, all tokens have the one covariance.
    - ``value``: what the loss sees as ``label``, a pytree with leading axis C; ``classes`` or 0..C-1 by default.
    - ``spectrum``, or ``means`` / ``gram`` and ``covariances``, ``targets``, ``dense``: as in :func:`mixture`.

    Inputs of random scale, x = s z with s lognormal, in one line:

    >>> from quenched.laws import nodes
    >>> s, w = nodes.lognormal(20, sigma=0.5)
    >>> law = sequence(w, cov=s[:, None, None] ** 2, value=s, targets=1)

    Pairs of tokens that share their cluster with probability 0.7, means +-mu:

    >>> pairs = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
    >>> law = sequence([0.35, 0.15, 0.15, 0.35], mean=np.array(pairs)[:, :, None], gram=[[1.0]], value=pairs)
    >>> law.mean.shape, law.spectrum.gram.tolist()
    ((4, 2, 1), [[[1.0]]])
    """
    prob = check.probabilities("prob", lift(prob))
    _refuse_pairs(
        (("means", means), ("gram", gram)),
        (("spectrum", spectrum), ("means", means)),
        (("spectrum", spectrum), ("gram", gram)),
        (("spectrum", spectrum), ("covariances", covariances)),
        (("classes", classes), ("mean", mean)),
        (("classes", classes), ("cov", cov)),
    )
    if not isinstance(spectrum, (SpectralLaw, type(None))):
        raise ValueError(f"spectrum must be a SpectralLaw, got {type(spectrum).__name__}")
    targets = target_columns(targets) if spectrum is None or targets is not None else None
    means = None if means is None else check.array("means", lift(means), ndim=2)
    gram = None if gram is None else check.covariance("gram", lift(gram))
    entries = covariance_entries(covariances) if spectrum is None else list(spectrum.eigenvalues.T)
    given = means if means is not None else gram
    A = len(given) if given is not None else 0
    if classes is not None:
        if spectrum is not None:
            K = int(np.max(classes)) + 1
            A = _means_of(spectrum, K, targets)
        mean, cov, classes = class_coefficients(classes, prob, A, len(entries))
        value = classes if value is None else value
    elif spectrum is not None:
        A = 0 if mean is None else np.shape(mean)[-1]
    _check_last_axis("mean", mean, A, "mean direction")
    _check_last_axis("cov", cov, len(entries), "covariance")
    if (mean is None and A) or (cov is None and len(entries) > 1):
        raise ValueError(
            f"{'mean' if mean is None and A else 'cov'} (or classes) must say what each token has, got None"
        )
    value = None if value is None else label_values(value)
    kept, cov = distinct(entries, cov)
    entries = [entries[k] for k in kept]
    if dense:
        if spectrum is not None:
            raise ValueError("dense must be False where a spectrum is given, got True")
        return DenseTokens(*dense_parts(entries, means, gram, targets), prob, mean, cov, value)
    if spectrum is None:
        return SpectralTokens(spectral_parts(entries, means, gram, targets), prob, mean, cov, value)
    if len(entries) < spectrum.eigenvalues.shape[1]:
        spectrum = SpectralLaw(spectrum.weights, np.stack(entries, axis=1), spectrum.gram)
    return SpectralTokens(_with_targets(spectrum, A, targets), prob, mean, cov, value)


def with_free_mean(law):
    """The law with one more mean direction, free (unpenalised), of coefficient one for every label and token.

    It adds the same trained number per unit to every pre-activation: an intercept.

    >>> law = with_free_mean(single())
    >>> law.free, law.mean.tolist(), law.spectrum.gram.tolist()
    ((True,), [[[1.0]]], [[[0.0, 0.0], [0.0, 1.0]]])
    """
    if not isinstance(law, (SpectralTokens, DenseTokens)):
        raise TypeError(
            f"law must be a SpectralTokens or DenseTokens law to be given a free mean, got {type(law).__name__}"
        )
    A = law.mean.shape[-1]
    if not check.traced(law.mean) and any(f and np.all(law.mean[:, :, a] == 1.0) for a, f in enumerate(law.free)):
        raise ValueError("law must not have a free mean of coefficient one already, got one that has")
    mean = numpy_or_jax(law.mean).concatenate([law.mean, np.ones((*law.mean.shape[:2], 1))], axis=-1)
    free = (*law.free, True)
    if isinstance(law, DenseTokens):
        means = numpy_or_jax(law.means).concatenate([law.means, np.zeros((1, law.means.shape[1]))])
        return DenseTokens(law.covariances, means, law.target, law.prob, mean, law.cov, law.value, law.size, free)
    old, xp = law.spectrum, numpy_or_jax(law.spectrum.gram)
    gram = xp.insert(xp.insert(old.gram, A, 0.0, axis=1), A, 0.0, axis=2)
    spectrum = eqx.tree_at(lambda s: s.gram, old, gram)
    return SpectralTokens(spectrum, law.prob, mean, law.cov, law.value, law.size, free)


def from_data(X, y, *, covariance="pooled", labels=None) -> SpectralTokens | DenseTokens:
    """The Gaussian mixture with the class frequencies, means and covariances of a sample.

    - ``X`` (N, d); ``y`` (N,) classes, K distinct values, which are sorted.
    - ``covariance``: "pooled" for one within-class covariance (a :class:`SpectralTokens`), "class" for one a class
      (a :class:`DenseTokens`, since a sample's covariances do not commute).
    - ``labels``: what the loss sees, in the order of the sorted classes; 0..K-1 by default.

    A sample covariance is not the population's: use it with N much larger than d.

    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> from_data(X, X[:, 0] > 0).mean.shape
    (2, 1, 2)
    """
    means, covariances, frequencies, _ = class_moments(X, y, covariance)
    return mixture(frequencies, means=means, covariances=covariances, labels=labels, dense=covariance == "class")


def label_values(value):
    """Labels as arrays: lists become arrays, integers stay integers unless one is negative, then float64.

    >>> label_values([0, 1]).dtype.kind, label_values([-1, 1]).dtype.kind
    ('i', 'f')
    """

    def leaf(v):
        if check.traced(v):
            return v
        v = np.asarray(v)
        return v.astype(np.float64) if v.dtype.kind == "i" and np.any(v < 0) else v

    def is_array(node):
        return isinstance(node, list) or (isinstance(node, tuple) and all(np.ndim(v) == 0 for v in node))

    return jax.tree.map(leaf, value, is_leaf=is_array)


def _refuse_pairs(*pairs):
    """ValueError where both of two arguments are given that say the same."""
    for (first, one), (second, other) in pairs:
        if one is not None and other is not None:
            raise ValueError(f"{first} and {second} are two ways to say the same, give one of them, got both")


def _check_last_axis(name, value, count, what):
    if value is not None and (np.ndim(value) != 3 or np.shape(value)[-1] != count):
        raise ValueError(f"{name} must have the shape (C, L, {count}), one coefficient a {what}, got {np.shape(value)}")


def _means_of(spectrum, classes, targets) -> int:
    """How many directions of ``spectrum`` are means of the classes: one a class, or none."""
    k = spectrum.gram.shape[-1]
    if 0 < k < classes and not (np.ndim(targets) == 0 and targets == k):
        raise ValueError(f"spectrum must have a mean direction for each of the {classes} classes, got {k} directions")
    return classes if k >= classes else 0


def _with_targets(spectrum, A, targets):
    """``spectrum`` with the generic targets that are asked for beyond its A means."""
    has = spectrum.gram.shape[-1] - A
    if targets is None:
        return spectrum
    if np.ndim(targets):
        raise ValueError(
            "targets must be a number where a spectrum is given (its directions hold explicit ones), got an array"
        )
    if has not in (0, targets):
        raise ValueError(f"targets must be {has}, what the spectrum has beyond its {A} means, got {targets}")
    return spectrum if has else spectrum.with_targets(targets)
