"""Readouts on deep random features, or on the features of a given network."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np

from ..numerics import check
from .base import Problem
from .generalized_linear import _error, _loss, _mse, _mse_noisy, check_loss

_MARGIN = ("logistic", "hinge")
_OWN = ("units", "scalars", "params", "seed", "population")  # what simulate itself passes to the minimiser


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class DeepFeatures(Problem):
    """Training the readout of a network with frozen layers, on a target that another frozen network makes.

    Inputs ``x ~ N(0, Omega_0)``; features ``phi = phi_L(x)`` of the ``learner`` (p of them); target
    ``h_* = theta.phi_*(x) / sqrt(k)``, centred, with a random theta of |theta|^2 = k; minimises
    ``sum_mu loss(phi_mu.w / sqrt(p) [+ b], y_mu) + weight_decay / 2 |w|^2`` over n = alpha d samples.

    - ``learner``, ``target``: :class:`quenched.laws.DeepNetwork`, averaged over their weights in :meth:`solve` and drawn in
      :meth:`simulate`; or :class:`quenched.laws.Network`, given weights. ``target=None``: linear in the inputs.
    - ``loss``: ``"square" | "logistic" | "hinge" | "huber" | "absolute"`` or a JAX function ``(h, label)``.
    - ``alpha`` > 0: samples per *input dimension*; ``weight_decay`` > 0; ``noise`` >= 0, a variance.
    - ``response``: the law of the outcome: ``"linear"`` (y = h_* + sqrt(noise) z), ``"sign"`` (y = sign(h_* + sqrt(noise) z)),
      ``"probit"``, or a :class:`quenched.losses.Response`. None: ``"sign"`` for logistic and hinge loss, else ``"linear"``.
    - ``spectrum``: the covariance of the inputs: None for the identity, eigenvalues (d,), a matrix, or a SpectralLaw.
    - ``shared``: how many first layers learner and target have in common, weights and all.
    - ``correlation``: or, for each of the first layers, the correlation of the weights of neuron i of the target with those of
      neuron i of the learner, in [-1, 1] (solved for given weights only: :meth:`instance`); biases are independent.
    - ``readout``: theta (k,), where the weights are given; None for the average over it.
    - ``intercept``: fit an unpenalised constant b. Features whose mean is not zero learn as if there were one.
    - ``surrogate``: :meth:`simulate` draws Gaussian features of the same covariance in place of the networks' own.

    Order parameters ``q`` = Var h, ``theta`` = Cov(h, h_*), ``V``, ``Q`` = |w|^2 / p (and ``m``, the constant, in the units of h
    about its mean). Observables: ``test_mse``, ``test_mse_noisy`` (and ``train_mse`` for the square loss), or ``test_error``;
    ``train_loss``, ``free_energy``.

    These arguments give classical problems: random features (one layer); linear regression (``learner`` without layers); the
    "hidden manifold" (a ``target`` that shares the learner's first layers).

    Source: D. Schroeder, H. Cui, D. Dmitriev, B. Loureiro (2023), arXiv:2302.00401; B. Loureiro et al. (2021), arXiv:2102.08127.

    >>> import quenched as qn
    >>> learner = qn.laws.DeepNetwork(width_ratios=[1.5], activations="tanh")
    >>> target = qn.laws.DeepNetwork(width_ratios=[1.25], activations="sign")
    >>> problem = qn.problems.DeepFeatures(learner, target, "square", alpha=2.0, weight_decay=0.1)
    >>> round(float(problem.solve()["test_mse"]), 6)
    0.67902
    """

    learner: Any
    target: Any
    loss: Any
    alpha: Any
    weight_decay: Any
    noise: Any = 0.0
    response: Any = None
    spectrum: Any = None
    shared: int = 0
    correlation: Any = ()
    readout: Any = None
    intercept: bool = False
    surrogate: bool = False

    _references = ("schroeder2023deterministic", "schroeder2024structured", "loureiro2021learning")

    def __post_init__(self):
        from ..laws import Network
        from ..laws.layers import NotAveraged
        from ..losses import NAMED, Response

        set_ = object.__setattr__
        check_loss(self.loss, NAMED)
        set_(self, "alpha", check.positive("alpha", self.alpha))
        set_(self, "weight_decay", check.positive("weight_decay", self.weight_decay))
        set_(self, "noise", check.nonnegative("noise", self.noise))
        for name in ("intercept", "surrogate"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.response is None:
            set_(self, "response", "sign" if self.loss in _MARGIN else "linear")
        if not isinstance(self.response, Response):
            check.choice("response", self.response, ("linear", "sign", "probit"))
        elif float(self.noise) != 0.0:
            raise ValueError(f"noise must be 0 where response is an object that has its own, got {float(self.noise):g}")
        if self.response == "linear" and self.loss in _MARGIN:
            raise ValueError(f"loss {self.loss!r} needs outcomes of +-1, so response must be 'sign' or 'probit', got 'linear'")
        correlation = tuple(check.scalar("correlation", c, -1.0, 1.0) for c in check.listed("correlation", self.correlation))
        set_(self, "correlation", correlation)
        set_(self, "shared", check.integer("shared", self.shared, 0))
        if self.target is None:
            set_(self, "target", _inputs_of(self.learner))
        _matching(self.learner, self.target, len(correlation))
        set_(self, "given", isinstance(self.learner, Network))
        try:
            _ = self.law  # refuses networks that do not fit
        except NotAveraged:  # they can be drawn still: the sentence waits until the theory is asked for
            pass

    @functools.cached_property
    def law(self):
        """The :class:`~quenched.laws.FeatureLaw` of the features and the target."""
        given = _Same(self.learner), _Same(self.target), _Same(self.spectrum), _Same(self.readout)
        return _law(*given, self.shared, len(self.correlation), bool(self.intercept))

    @property
    def _outcome(self):
        from ..losses import Additive, Probit, Sign

        kinds = {"linear": Additive, "sign": Sign, "probit": Probit}
        return kinds[self.response](self.noise) if isinstance(self.response, str) else self.response

    @property
    def _noise_variance(self):
        from ..losses import NoiseMixture

        outcome = self._outcome
        return outcome.variance if isinstance(outcome, NoiseMixture) else outcome.additive_variance

    @property
    def _observables(self) -> dict:
        return {"test_error": _error} if self._outcome.outcomes is not None else {"test_mse": _mse, "test_mse_noisy": _mse_noisy}

    def _model(self):
        from ..laws import FeatureLaw
        from ..limit.model import Model, target_reads
        from ..losses import Additive, NoiseMixture

        law, outcome = self.law, self._outcome
        if isinstance(outcome, NoiseMixture):  # noise of several sizes is a part of the target that no feature sees
            noise = outcome.weights, outcome.variances
            law = FeatureLaw(chain=law.chain, size=law.size, rho=law.rho, intercept=any(law.free), noise=noise)
            outcome = Additive(0.0)
        return Model(
            law=law, response=outcome, alpha=self.alpha, weight_decay=self.weight_decay, params={}, scalars={},
            loss=_loss(self.loss), units=1, observables=tuple(self._observables.items()), reads=target_reads(law), frozen=(),
        )  # fmt: skip

    @property
    def _regression(self) -> bool:
        return isinstance(self.loss, str) and self.loss == "square" and self._outcome.outcomes is None

    def _solution(self, found, solved, branch):
        extra = {"train_mse": 2.0 * found["train_loss"]} if self._regression else {}
        if self.model.law.noise is not None:  # which the solved target holds
            extra["test_mse"] = found["test_mse_noisy"] - self._outcome.variance
        return super()._solution({**found, **extra}, solved, branch)

    def ridge(self, alpha=None, weight_decay=None, noise=None):
        """The closed form for the square loss, at this problem's numbers or at arrays of others that broadcast.

        Returns :class:`quenched.limit.feature_ridge.FeatureRidge`: ``test_mse``, ``train_mse``, ``norm``, ``kappa``, and more.
        ``weight_decay=0`` is the limit of no ridge. A curve over ``alpha`` costs one root each.

        >>> import quenched as qn
        >>> learner = qn.laws.DeepNetwork(width_ratios=[1.5], activations="tanh")
        >>> problem = qn.problems.DeepFeatures(learner, None, "square", alpha=1.0, weight_decay=0.1, noise=0.1)
        >>> problem.ridge(alpha=[1.0, 2.0]).test_mse.round(4).tolist()
        [0.5243, 0.3066]
        """
        from ..limit.feature_ridge import feature_ridge

        if not self._regression:
            raise ValueError(f"ridge is the closed form of the square loss on additive noise, got loss {self.loss!r}, "
                             f"response {self.response!r}")  # fmt: skip
        noise = self._noise_variance if noise is None else noise
        return feature_ridge(
            self.law, self.alpha if alpha is None else alpha, self.weight_decay if weight_decay is None else weight_decay, noise
        )

    def optimal_ridge(self, alpha=None, noise=None):
        """The weight decay of the smallest test error of ridge regression, and all that :meth:`ridge` gives there.

        Returns :class:`quenched.limit.feature_ridge.OptimalRidge`: ``weight_decay`` (0 where no ridge is best) and ``ridge``.

        >>> import quenched as qn
        >>> network = qn.laws.DeepNetwork(width_ratios=[1.25, 1.125], activations="tanh")
        >>> problem = qn.problems.DeepFeatures(network, network, "square", alpha=1.5, weight_decay=1.0, noise=0.1, shared=2)
        >>> problem.optimal_ridge().weight_decay.round(6).item()  # a target of the learner's own features: the noise
        0.1
        """
        from ..limit.feature_ridge import optimal_ridge

        self.ridge()  # refuses other losses
        noise = self._noise_variance if noise is None else noise
        return optimal_ridge(self.law, self.alpha if alpha is None else alpha, noise)

    def instance(self, dim: int | None = None, seed=0) -> DeepFeatures:
        """The same problem with the networks and the readout that :meth:`simulate` draws for ``seed``: for paired comparisons.

        >>> import quenched as qn
        >>> network = qn.laws.DeepNetwork(width_ratios=[1.5], activations="tanh")
        >>> problem = qn.problems.DeepFeatures(network, None, "square", alpha=1.0, weight_decay=0.1, noise=0.1)
        >>> problem.instance(dim=200, seed=0).learner.widths
        (200, 300)
        """
        from ..laws import SpectralLaw

        networks = self._networks(self._dim(dim), seed)
        if self.given:
            return self.replace(readout=networks[2])
        spectrum = networks[3] ** 2 if isinstance(self.spectrum, SpectralLaw) else self.spectrum  # its atoms, placed
        return dataclasses.replace(self, learner=networks[0], target=networks[1], readout=networks[2], spectrum=spectrum)

    def _networks(self, dim, seed):
        """Learner, target, readout and the root of the inputs' covariance of one seed."""
        from ..laws.layers import drawn_pair

        return drawn_pair(self.learner, self.target, self.readout, self.spectrum, dim, seed, self.shared, self.correlation)

    def simulate(self, dim: int | None = None, seeds: Any = 8, **options):
        """The experiment: draw the networks, train the readout on their features, measure on fresh samples; for every seed.

        - ``dim``: d (None for the networks' own); ``seeds``: how many, or which.
        - ``options``: ``test_samples``, ``tol``, ``max_iterations``, ``optimiser``, ``n_jobs`` (seeds at a time), ``progress``.

        Every seed has its own weights and readout, unless they are given. ``q`` and ``theta`` are measured on the test set.

        >>> import quenched as qn
        >>> learner = qn.laws.DeepNetwork(width_ratios=[1.5], activations="tanh")
        >>> problem = qn.problems.DeepFeatures(learner, None, "square", alpha=2.0, weight_decay=0.1, noise=0.1)
        >>> bool(abs(problem.simulate(dim=100, seeds=4)["test_mse"].mean - problem.ridge().test_mse) < 0.05)
        True
        """
        from ..finite.features import Setting, simulate
        from ..finite.minimise import minimise

        dim = self._dim(dim)
        if self.surrogate:
            return self._simulate_surrogate(dim, seeds, options)
        check.names("simulate", options, ("test_samples", "n_jobs", "progress", *check.keywords(minimise, without=_OWN)))
        trials = simulate(
            lambda seed: Setting(*self._networks(dim, seed)), _loss(self.loss), self._outcome, alpha=float(self.alpha), dim=dim,
            weight_decay=float(self.weight_decay), seeds=seeds, intercept=bool(self.intercept), observables=self._observables,
            settings=self._settings(), **options,
        )  # fmt: skip
        return self._with_train_mse(trials)

    def _dim(self, dim):
        own = self.learner.dim if self.given else self.learner.widths[0] if self.learner.widths else None
        if dim is None and own is None:
            raise ValueError("dim must be given, since the networks are stated by their width_ratios, got None")
        dim = own if dim is None else check.integer("dim", dim)
        if self.given and dim != own:
            raise ValueError(f"dim must be {own}, the networks' own, got {dim}")
        return dim

    def _simulate_surrogate(self, dim, seeds, options):
        from ..finite.simulate import gathered, seed_list

        # every seed has its own networks and readout, where they are not given, and the covariance of their features
        parts = [Problem.simulate(self.instance(dim, seed), dim, [seed], **options) for seed in seed_list(seeds)]
        rows = [({k: v[0] for k, v in t.values.items()}, t.status[0], t.optimality[0], t.seconds[0]) for t in parts]
        return self._with_train_mse(gathered(rows, seed_list(seeds), dim, parts[0].n, self._settings()))

    def _with_train_mse(self, trials):
        if not self._regression:
            return trials
        return trials.map(lambda row: {**row, "train_mse": 2.0 * row["train_loss"]})


def _matching(learner, target, layers: int) -> None:
    """Refuses correlated layers of different widths."""
    if not layers:
        return
    widths = [n.width_ratios if hasattr(n, "width_ratios") else n.widths[1:] for n in (learner, target)]
    if any(len(w) < layers for w in widths) or widths[0][:layers] != widths[1][:layers]:
        raise ValueError(f"correlation must be of layers that learner and target have with the same widths, got {layers} of them")


class _Same:
    """An object as a key: equal to itself only."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value is other.value

    def __hash__(self):
        return id(self.value)


@functools.lru_cache(maxsize=4)
def _law(learner, target, spectrum, readout, shared, matched, intercept):
    """The law of the features, once for problems that differ in other parameters: given weights cost a spectrum each time."""
    from ..laws.readout import feature_law

    return feature_law(
        learner.value, target.value, spectrum.value, shared=shared, matched=matched, readout=readout.value, intercept=intercept
    )


def _inputs_of(learner):
    """The network without layers: its features are the inputs of ``learner``."""
    from ..laws import DeepNetwork, Network

    if isinstance(learner, Network):
        return Network([], dim=learner.dim)
    if isinstance(learner, DeepNetwork):
        return DeepNetwork(widths=learner.widths[:1]) if learner.widths else DeepNetwork(width_ratios=())
    return learner  # refused where both are looked at
