"""Denoising autoencoders on Gaussian mixtures."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from ..numerics import check
from ..numerics.fingerprint import fingerprint
from .base import Problem

#: Arguments of the training that the problem itself gives.
_FIXED = ("units", "activation", "skip", "directions", "seed")


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DenoisingAutoencoder(Problem):
    """A two-layer autoencoder of tied weights, with a skip connection, that removes noise from a Gaussian mixture.

    From ``y = sqrt(1 - noise) x + sqrt(noise) xi`` it makes ``f(y) = b y + w activation(w^T y/sqrt(d))/sqrt(d)`` and minimises
    ``sum_mu 1/2 |x - f(y)|^2 + weight_decay/2 |w|^2`` over w (d, units) and b (unpenalised).

    - ``law``: a one-token law without target: :func:`quenched.laws.mixture`, with any number of clusters, covariances as
      numbers, spectra or matrices (``dense=True`` where they do not commute; for one unit).
    - ``alpha`` > 0: samples per dimension; ``noise`` in (0, 1): the variance Delta; ``weight_decay`` > 0.
    - ``units``: hidden units; ``activation``: a JAX function of arrays, elementwise; smooth but for kinks.
    - ``skip``: True for a trained b, False for b = 0 (the bottleneck), or a number for a fixed b.

    The part of the risk of order d fixes b and does not see w: errors are *in excess* of those of the rescaling
    ``b y`` with the same b, of order one. Order parameters: ``q`` = w^T w/d and its susceptibility ``V``, of clusters
    ``q_clusters`` = w^T S_k w/d and ``V_clusters``, ``m`` (clusters x units). Observables: ``test_mse_excess``,
    ``train_mse_excess`` (mean squared distances, without 1/2), ``rescaling_mse_per_dim``, ``cosine`` (units x clusters, with
    the clusters' means), ``skip`` (b), ``train_loss`` (half of the training excess), ``free_energy`` (the risk per
    dimension relative to the rescaling).

    Starts: ``"informed"`` (the first unit on the heaviest cluster, others on noise), ``"centroid-1"``, ... (all units on that
    cluster's mean, for one unit), ``"specialised"`` (unit a on cluster a), ``"uninformed"`` (the sector m = 0: noise is
    fitted, or nothing is learnt). ``solve(init="global")`` is the one of lowest free energy.

    Source: H. Cui, L. Zdeborova (2023), arXiv:2305.11041.

    >>> import quenched as qn
    >>> law = qn.laws.mixture([0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=0.1)
    >>> autoencoder = qn.problems.DenoisingAutoencoder(law, alpha=1.0, noise=0.3, weight_decay=0.1)
    >>> round(float(autoencoder.solve()["test_mse_excess"]), 3)
    -0.379
    """

    law: Any
    alpha: Any
    noise: Any
    weight_decay: Any
    units: int = 1
    activation: Any = None
    skip: Any = True

    _references = ("cui2023autoencoders", "cui2024narrow")
    _default_start = "informed"

    def __post_init__(self):
        import jax.numpy as jnp

        from .. import laws
        from ..losses.base import elementwise

        set_ = object.__setattr__
        if not isinstance(self.law, (laws.SpectralTokens, laws.DenseTokens)):
            raise ValueError(f"law must be a mixture such as quenched.laws.mixture gives, got {type(self.law).__name__}")
        if self.law.mean.shape[1] != 1 or self.law.targets()[0].shape[-1] or any(self.law.free):
            raise ValueError("law must have one token, no target and no free mean")
        set_(self, "alpha", check.positive("alpha", self.alpha))
        set_(self, "noise", check.scalar("noise", self.noise, 0.0, 1.0, open_low=True, open_high=True))
        set_(self, "weight_decay", check.positive("weight_decay", self.weight_decay))
        set_(self, "units", check.integer("units", self.units, 1, check.UNITS))
        set_(self, "activation", jnp.tanh if self.activation is None else self.activation)
        if not callable(self.activation):
            raise ValueError(f"activation must be a JAX function, got {self.activation!r}")
        elementwise("activation", self.activation, 2)
        is_flag = isinstance(self.skip, (bool, np.bool_))
        set_(self, "skip", bool(self.skip) if is_flag else check.scalar("skip", self.skip))

    @classmethod
    def from_data(cls, X, labels, alpha, noise, weight_decay, **parameters) -> DenoisingAutoencoder:
        """The problem whose clusters have the class means and covariances of a data set.

        - ``X`` (N, d): the data, scaled so that class means have norms and covariances eigenvalues of order one (pixels of
          MNIST over 400/255, say); ``labels`` (N,): classes. The data are centred between the class means.
        - ``alpha``, ``noise``, ``weight_decay`` and ``parameters`` (``units``, ``activation``, ``skip``): of the problem.

        :meth:`solve` is the theory, :meth:`simulate` with ``dim=d`` trains on a Gaussian surrogate of these moments, and
        :meth:`train_on` on the data themselves. Covariances that do not commute are taken as they are (for one unit).

        >>> import quenched as qn
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> keep = (y == 1) | (y == 7)
        >>> digits = qn.problems.DenoisingAutoencoder.from_data(X[keep] / 16, y[keep], alpha=2.0, noise=0.5, weight_decay=0.1)
        >>> digits.law.prob.round(3).tolist(), digits.law.covariances.shape
        ([0.504, 0.496], (2, 64, 64))
        """
        from .. import laws

        X, classes, which = _classes(X, labels)
        rows = _centred(X, which)
        shares = np.bincount(which) / len(which)
        means = np.array([rows[which == k].mean(axis=0) for k in range(len(classes))])
        covariances = [np.cov(rows[which == k].T, bias=True) for k in range(len(classes))]
        law = laws.mixture(shares, means=means, covariances=covariances, dense=True)
        return cls(law, alpha, noise, weight_decay, **parameters)

    def train_on(self, X, labels, seeds: Any = 8, **options):
        """Train the network on alpha d rows of a data set, and test it on the others, as :meth:`simulate` does on drawn samples.

        - ``X`` (N, d), ``labels`` (N,): as given to :meth:`from_data`; centred in the same way.
        - ``seeds``: how many, or which: of the choice of rows and the noise. ``options`` as for :meth:`simulate`, and ``noises``:
          draws of noise for each test row.

        Returns :class:`quenched.Trials` under the names of :meth:`solve`.

        >>> import quenched as qn
        >>> labels = np.arange(200) % 2
        >>> X = np.outer(2 * labels - 1, np.eye(50)[0]) + 0.3 * np.random.default_rng(0).standard_normal((200, 50))
        >>> data = qn.problems.DenoisingAutoencoder.from_data(X, labels, alpha=2.0, noise=0.3, weight_decay=0.1)
        >>> trials = data.train_on(X, labels, seeds=2)
        >>> trials.n, bool(trials["test_mse_excess"].mean < -0.1)
        (100, True)
        """
        from ..finite.autoencoder import simulate_on_rows, train

        check.names("train_on", options, ("noises", "n_jobs", "progress", *check.keywords(train, without=_FIXED)))
        X, _, which = _classes(X, labels)
        trials = simulate_on_rows(
            _centred(X, which), self.pairs, alpha=float(self.alpha), noise=float(self.noise), weight_decay=float(self.weight_decay),
            seeds=seeds, units=self.units, activation=self.activation,
            skip=None if self.skip is True else float(self.skip_strength), settings=self._settings(rows=fingerprint((X, which))),
            **options,
        )  # fmt: skip
        return trials.map(self._present_row)

    # ---- the law of pairs (clean input, noise), and b ------------------------------------------------------------------

    @functools.cached_property
    def pairs(self):
        """The law of two tokens, the input and its noise, whose covariance comes last."""
        import jax.numpy as jnp

        from .. import laws

        law, xp = self.law, jnp if check.traced(self.law.cov, self.law.mean) else np
        none = xp.zeros_like(law.mean)
        mean = xp.concatenate([law.mean, none], axis=1)
        cov = xp.concatenate([law.cov, xp.zeros_like(law.cov)], axis=1)
        cov = xp.concatenate([cov, np.broadcast_to(np.array([0.0, 1.0])[:, None], (*cov.shape[:2], 1))], axis=2)
        if isinstance(law, laws.DenseTokens):
            covariances = np.concatenate([law.covariances, np.eye(law.covariances.shape[-1])[None]])
            return laws.DenseTokens(covariances, law.means, law.target, law.prob, mean, cov, law.value)
        old = law.spectrum
        xp = jnp if check.traced(old.eigenvalues) else np
        eigenvalues = xp.concatenate([old.eigenvalues, xp.ones((old.eigenvalues.shape[0], 1))], axis=1)
        return laws.SpectralTokens(laws.SpectralLaw(old.weights, eigenvalues, old.gram), law.prob, mean, cov, law.value)

    @property
    def variance(self):
        """tr S/d averaged over the clusters."""
        return self.law.prob @ _traces(self.law)

    @property
    def skip_strength(self):
        """b: what training makes of it in the limit, or the value that was given."""
        if not isinstance(self.skip, bool):
            return self.skip
        if not self.skip:
            return np.zeros(())
        c, variance = (1.0 - self.noise) ** 0.5, self.variance
        return c * variance / (c**2 * variance + self.noise)

    def _model(self):
        from ..limit.model import Model, target_reads
        from ..losses.autoencoder import denoising

        return Model(
            law=self.pairs, response=None, alpha=self.alpha, weight_decay=self.weight_decay,
            params={"noise": self.noise, "skip": self.skip_strength}, scalars={},
            loss=denoising(self.activation, self.units), units=self.units, observables=(),
            reads=target_reads(self.pairs), frozen=(), derived=_derived(self.activation),
        )  # fmt: skip

    @property
    def _quadrature_tol(self):
        """Where the proximal operator jumps, tensor rules converge slowly."""
        return (1e-3, 3e-5) if self.units == 1 else (None, None)

    # ---- starts ----------------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _starts(self):
        if self.units > 1:
            return ("informed", "specialised", "uninformed")
        names, seen, signs = ["informed"], [self._start("informed")[0]["m"]], (1.0, -1.0) if _odd(self.activation) else (1.0,)
        for name in (f"centroid-{k + 1}" for k in range(len(self.law.prob))):
            m = self._start(name)[0]["m"]
            if not any(np.allclose(m, sign * other, 1e-12, 0.0) for other in seen for sign in signs):  # w and -w are one network
                names.append(name)
                seen.append(m)
        return (*names, "uninformed")

    @property
    def _named_starts(self):
        return tuple(dict.fromkeys((*super()._named_starts, *(f"centroid-{k + 1}" for k in range(len(self.law.prob))), "global")))

    def _start(self, name):
        law, r = self.law, self.units
        gram = _centroids(law)
        weights = np.asarray(law.prob) * np.diag(gram)
        C = np.zeros((len(law.prob), r))
        if name == "informed":
            C[np.argmax(weights), 0] = 1.0
        elif name == "specialised":
            C[np.arange(r) % len(law.prob), np.arange(r)] = 1.0
        elif isinstance(name, str) and name.startswith("centroid-"):
            C[int(name.removeprefix("centroid-")) - 1] = 1.0
        else:
            return name, (("m",) if name == "uninformed" else ())
        Q = C.T @ gram @ C + 0.1 * np.eye(r)
        traces = np.append(_basis_traces(law), 1.0)[:, None, None]
        return {"m": _directions(law) @ C, "q": traces * Q, "Q": Q, "V": 0.5 * traces * np.eye(r)}, ()

    def solve(self, init: Any = None, **options):
        """See :meth:`Problem.solve`; ``init="global"`` solves from every start and keeps the lowest free energy.

        >>> import quenched as qn
        >>> law = qn.laws.mixture([0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=0.1)
        >>> autoencoder = qn.problems.DenoisingAutoencoder(law, alpha=1.0, noise=0.3, weight_decay=0.1)
        >>> solution = autoencoder.solve("global")
        >>> solution.branch, round(float(solution["test_mse_excess"]), 3)
        ('informed', -0.379)
        """
        if isinstance(init, str) and init == "global":
            return self._lowest(**options)
        return super().solve(init, **options)

    # ---- from the engine's basis to clusters, and back -----------------------------------------------------------------

    @property
    def _overlap_names(self):
        return (*super()._overlap_names, "q_clusters", "V_clusters")

    def _split(self, table: dict) -> dict:
        """Overlaps of the two tokens' law as those of clusters and noise; whatever else is in the table stays."""
        law, made = self.law, dict(table)
        for name in {"q", "V"} & set(table):
            value = np.asarray(table[name]) if not check.traced(table[name]) else table[name]
            made[name] = value[-1, 0, 0] if self.units == 1 else value[-1]
            made[f"{name}_clusters"] = _tensordot(np.asarray(law.cov)[:, 0], value[:-1])
        if "m" in table:
            made["m"] = _tensordot(np.asarray(law.mean)[:, 0], table["m"])
        if self.units == 1 and "Q" in table:
            made["Q"] = table["Q"][0, 0]
        return made

    def _solution(self, found, solved, branch):
        orders = {name: found[name] for name in ("q", "V", "m", "Q")}
        rest = {**found, "train_mse_excess": 2.0 * found["train_loss"]}
        solution = super()._solution(rest, solved, branch)
        return dataclasses.replace(solution, order_parameters={**solution.order_parameters, **self._split(orders)})

    def _present(self, value, overlap: bool):
        return value

    def _present_row(self, row):
        return self._split(super()._present_row(row))

    def _from_solution(self, solution):
        return self._shaped({name: solution.order_parameters[name] for name in ("q", "V", "m", "q_clusters", "V_clusters")})

    def _shaped(self, overlaps: dict) -> dict:
        """Overlaps by cluster (``q``, ``V`` (units x units), ``m`` (clusters x units), optionally ``q_clusters``, ``V_clusters``),
        or in the engine's own shapes, as the engine takes them."""
        r, law = self.units, self.law
        made = dict(overlaps)
        traces = np.append(_basis_traces(law), 1.0)[:, None, None]
        for name in {"q", "V"} & set(overlaps):
            if np.size(overlaps[name]) != r * r:
                continue
            value = np.reshape(np.asarray(overlaps[name], float), (1, r, r))
            made[name] = traces * value
            if f"{name}_clusters" in overlaps:
                clusters = np.reshape(np.asarray(overlaps[f"{name}_clusters"], float), (len(law.prob), r * r))
                made[name][:-1] = np.linalg.lstsq(np.asarray(law.cov)[:, 0], clusters)[0].reshape(-1, r, r)
            if name == "q":
                made.setdefault("Q", value[0])
        if "m" in overlaps and np.size(overlaps["m"]) == len(law.prob) * r:
            clusters = np.reshape(np.asarray(overlaps["m"], float), (-1, r))
            made["m"] = np.linalg.lstsq(np.asarray(law.mean)[:, 0], clusters)[0]
        return super()._shaped({name: value for name, value in made.items() if not name.endswith("_clusters")})

    # ---- what it is measured against ---------------------------------------------------------------------------------------

    def baselines(self) -> dict[str, Any]:
        """Denoisers to compare with, for a law with spectral atoms.

        ``rescaling_mse_per_dim``: of ``b y`` with the best b; ``oracle_mse_per_dim`` and ``oracle_mse_excess``: the Bayes-optimal
        denoiser, the latter relative to the best rescaling (None unless all clusters have one isotropic covariance; the
        per-dimension errors differ then); ``pca``: the projection on the leading principal component of the clean sample,
        whose errors are relative to E|x|^2 as those of the bottleneck (``skip=False``) are, None where there is no such component.

        >>> import quenched as qn
        >>> law = qn.laws.mixture([0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=0.1)
        >>> found = qn.problems.DenoisingAutoencoder(law, alpha=1.0, noise=0.3, weight_decay=0.1).baselines()
        >>> round(float(found["rescaling_mse_per_dim"]), 6), round(float(found["oracle_mse_excess"]), 4)
        (0.081081, -0.4947)
        """
        from ..limit.denoisers import Mixture, oracle, principal_component

        mixture, noise = Mixture.of(self.law), float(self.noise)
        level, excess = oracle(mixture, noise)
        best = self.replace(skip=True)
        b, c = float(best.skip_strength), (1.0 - noise) ** 0.5
        return {
            "rescaling_mse_per_dim": (1.0 - b * c) ** 2 * float(self.variance) + b**2 * noise,
            "oracle_mse_per_dim": level,
            "oracle_mse_excess": excess,
            "pca": principal_component(mixture, float(self.alpha), noise),
        }

    def trivial_threshold(self):
        """The weight decay above which nothing is learnt, w = 0, and what ends that: "spike" or "bulk" (noise is fitted).

        For an activation that vanishes at zero, a trained skip connection and clusters of one isotropic covariance; a
        ``ValueError`` otherwise.

        >>> import quenched as qn
        >>> law = qn.laws.mixture([0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=0.1)
        >>> round(qn.problems.DenoisingAutoencoder(law, 1.0, 0.01, 0.1).trivial_threshold().weight_decay, 7)
        0.2391753
        """
        import jax

        from ..limit.denoisers import Mixture, trivial_threshold
        from ..numerics.precision import float64

        with float64(True):
            zero, slope = (float(v) for v in jax.value_and_grad(lambda h: self.activation(h[None])[0])(np.float64(0.0)))
        if zero != 0.0:
            raise ValueError(f"activation must vanish at zero for w = 0 to be stationary, got {zero:.6g} there")
        if self.skip is not True:
            raise ValueError(f"skip must be True for the threshold of the trivial branch, got {self.skip!r}")
        return trivial_threshold(Mixture.of(self.law), float(self.alpha), float(self.noise), slope)

    # ---- the experiment --------------------------------------------------------------------------------------------------

    def simulate(self, dim: int, seeds: Any = 8, **options):
        """Train the network itself, w and b, on noisy samples: one draw of noise for every sample.

        - ``dim``: d; ``seeds``: how many, or which.
        - ``options``: ``init`` (names or an array, see :func:`quenched.finite.autoencoder.train`), ``restarts``, ``tol``,
          ``max_iterations``, ``n_jobs`` (seeds at a time), ``progress``.

        Returns :class:`quenched.Trials` under the names of :meth:`solve`. Test errors are those of the trained weights on
        the whole population, without test noise, relative to the rescaling with the trained b.

        >>> import quenched as qn
        >>> law = qn.laws.mixture([0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=0.1)
        >>> trials = qn.problems.DenoisingAutoencoder(law, alpha=1.0, noise=0.3, weight_decay=0.1).simulate(dim=100, seeds=2)
        >>> bool(abs(trials["test_mse_excess"].mean + 0.379) < 0.1)
        True
        """
        from ..finite.autoencoder import simulate, train

        check.names("simulate", options, ("n_jobs", "progress", *check.keywords(train, without=_FIXED)))
        trials = simulate(
            self.pairs, alpha=float(self.alpha), noise=float(self.noise), weight_decay=float(self.weight_decay),
            dim=check.integer("dim", dim), seeds=seeds, units=self.units, activation=self.activation,
            skip=None if self.skip is True else float(self.skip_strength), settings=self._settings(), **options,
        )  # fmt: skip
        return trials.map(self._present_row)


def _classes(X, labels):
    """Data (N, d), its classes, and which of them each row belongs to."""
    X = check.array("X", X, ndim=2)
    labels = np.asarray(labels)
    if labels.shape != (len(X),):
        raise ValueError(f"labels must hold one class for each of the {len(X)} rows of X, got the shape {labels.shape}")
    classes, which = np.unique(labels, return_inverse=True)
    few = [str(c) for k, c in enumerate(classes) if np.sum(which == k) < 2]
    if few:
        raise ValueError(f"labels must give at least two rows to every class, got one of class {few[0]}")
    return X, classes, which


def _centred(X, which):
    """Data with the point between the class means as the origin."""
    return X - np.mean([X[which == k].mean(axis=0) for k in range(which.max() + 1)], axis=0)


def _tensordot(coefficients, value):
    """``coefficients @ value`` over the first axis, in NumPy unless something is being differentiated."""
    if check.traced(value):
        import jax.numpy as jnp

        return jnp.tensordot(coefficients, value, 1)
    return np.tensordot(coefficients, value, 1)


def _basis_traces(law):
    """tr S_b/d of the law's covariances, (B,)."""
    if hasattr(law, "spectrum"):
        return law.spectrum.weights @ law.spectrum.eigenvalues
    return law.covariances.trace(axis1=1, axis2=2) / law.covariances.shape[-1]


def _traces(law):
    """tr S/d of the first token of every cluster, (C,)."""
    return law.cov[:, 0] @ _basis_traces(law)


@functools.lru_cache(maxsize=256)
def _odd(activation) -> bool:
    """Whether the activation is odd, as far as a few points tell."""
    from ..numerics.precision import float64

    x = np.array([0.1, 0.37, 1.1, 2.3, 4.7])
    with float64(True):
        return bool(np.allclose(activation(x), -np.asarray(activation(-x)), 1e-12, 0.0))


def _directions(law):
    """Scalar products of mean directions with the clusters' means, (A, C)."""
    gram = law.spectrum.gram.sum(axis=0) if hasattr(law, "spectrum") else law.means @ law.means.T
    return gram @ law.mean[:, 0].T


def _centroids(law):
    """The Gram matrix of the clusters' means, (C, C)."""
    return law.mean[:, 0] @ _directions(law)


@functools.lru_cache(maxsize=256)
def _derived(activation):
    """Observables that follow from the overlaps; the same functions for the same activation."""
    import jax
    import jax.numpy as jnp

    from ..losses.autoencoder import levels
    from ..numerics.elementwise import moments

    def test_mse_excess(model, overlaps):
        labels, (c, s, b) = model.law.labels(), levels(model.params)
        clean, noise = (jnp.einsum("cb,bij->cij", labels.cov[:, token], overlaps.q) for token in (0, 1))
        centre = jnp.asarray(labels.mean)[:, 0] @ overlaps.m
        covariance = c**2 * clean + s**2 * noise
        cross = jnp.diagonal(c * (1.0 - b * c) * clean - b * s**2 * noise, axis1=1, axis2=2)

        def cluster(centre, covariance, cross):
            pairs, single, slopes = moments(activation, c * centre, covariance)
            return jnp.sum(overlaps.Q * pairs) - 2.0 * jnp.sum((1.0 - b * c) * centre * single + cross * slopes)

        return jnp.sum(jnp.asarray(labels.prob) * jax.vmap(cluster)(centre, covariance, cross))

    def rescaling_mse_per_dim(model, overlaps):
        c, s, b = levels(model.params)
        return (1.0 - b * c) ** 2 * jnp.sum(model.law.prob * _traces(model.law)) + b**2 * s**2

    def cosine(model, overlaps):
        size = jnp.sqrt(jnp.diagonal(overlaps.Q)[:, None] * jnp.diagonal(_centroids(model.law)))
        overlap = (model.law.mean[:, 0] @ overlaps.m).T
        return jnp.where(size > 0.0, overlap / jnp.where(size > 0.0, size, 1.0), 0.0)

    def skip(model, overlaps):
        return jnp.asarray(model.params["skip"])

    found = (test_mse_excess, rescaling_mse_per_dim, cosine, skip)
    return tuple((fn.__name__, fn) for fn in found)
