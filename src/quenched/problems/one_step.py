"""Two-layer networks after one large gradient step on the first layer."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from typing import Any

import numpy as np

from ..numerics import check
from .base import Problem
from .generalized_linear import _error, _kept, _loss, _mse, _mse_noisy, check_loss
from .solution import Solution

_MARGIN = ("logistic", "hinge")
#: Samples per dimension of the step above which its first-order effects are enough for activations that are not odd.
_ENOUGH = 40.0
_DISORDER = 0.1  # the noise in the rows, relative to what the step leaves of them, up to which they are enough


class ApproximationWarning(UserWarning):
    """The theory itself is approximate at these parameters; the solution says so.

    >>> import quenched as qn
    >>> problem = qn.problems.OneGradientStep(alpha=1.6, alpha0=5.0, learning_rate=3.0, width_ratio=1.0, activation="relu",
    ...                                       target="sin", weight_decay=0.1)
    >>> problem.approximate  # what solve() warns of
    'the activation is not odd and alpha0 = 5 is finite: first order in 1/alpha0 only'
    """


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class OneGradientStep(Problem):
    """A network ``f(x) = a.sigma(W x) / sqrt(p)`` whose first layer takes one large gradient step; then its readout is trained.

    Inputs ``x ~ N(0, I_d)``, outcomes ``y = target(theta_1.x, ..) + sqrt(noise) z``. First, rows w_i of unit length take a
    full-batch step on ``sum_mu (y_mu - f(x_mu))^2 / (2 n_0)`` over n_0 = alpha0 d samples, ``w_i <- w_i + s_i mean[(y - f) sigma'
    x]``. Then ``sum_mu loss(f(x_mu), y_mu) + weight_decay / 2 |a|^2`` is minimised over a, on n = alpha d fresh samples.

    - ``alpha`` > 0, ``alpha0`` > 0 (may be infinite: the population gradient).
    - ``learning_rate``: the step of neuron i is ``s_i = learning_rate * v_i``, with its readout ``a_i = v_i / sqrt(p)`` at
      initialisation. In terms of the rate eta of the loss above, ``learning_rate = eta / p``, so eta is proportional to d.
    - ``width_ratio`` = p / d > 0; ``activation``: a name or a continuous function.
    - ``target``: a name, a function of one number, or a smooth function of 2 to 4 numbers (one for each direction).
    - ``weight_decay`` > 0; ``noise`` >= 0: a variance, in both samples.
    - ``readout_values`` (k,): the values v that neurons have at initialisation; ``readout_probabilities`` (k,): in which
      proportions (None: equal). More values make more functions of the target's direction learnable.
    - ``refined``: with the parts of the gradient that are small in each row but the same for all of them; else the common model of
      rows that are a spike plus isotropic noise, 1 to 3% off for odd activations and up to 50% for others.
    - ``width``: p itself, for the leading effect of a finite number of neurons; None for the limit.
    - ``loss``: ``"square" | "logistic" | "hinge" | "huber" | "absolute"`` or a convex JAX function (h, label).

    Observables: ``test_mse`` (clean target), ``test_mse_noisy``, ``train_mse`` (square loss), or ``test_error`` where the target's
    values are +-1 and the loss is not the square; ``train_loss``, ``free_energy``; and of the first layer
    ``spike`` (k,), ``bulk_variance`` (k,), ``alignment`` (T,) of the spike with the target's directions.
    Order parameters by group of neurons: ``m`` (k,) = ``sum a_i / sqrt(p)``, ``theta`` (k,) and ``psi`` (k, T) the same sums
    weighted by the rows' components along the spike and the rest of the target's directions, ``lengths`` (k,) by that of their
    squared length; ``Q`` = |a|^2 / p. Axes of size one are left out.

    The theory is exact in high dimension where ``E[sigma(z) (z^2 - 1)]`` is 0 (odd activations) or alpha0 infinite; else to first
    order in 1 / alpha0, and the solution is marked ``approximate`` (with an :class:`ApproximationWarning`) below alpha0 = 40, or
    where the step leaves little of the rows; so it is for such activations without ``refined``.

    Source: H. Cui et al. (2024), arXiv:2402.04980; Y. Dandi et al. (2024), arXiv:2410.18938; J. Ba et al. (2022), arXiv:2205.01445.

    >>> import quenched as qn
    >>> problem = qn.problems.OneGradientStep(alpha=1.6, alpha0=20.0, learning_rate=3.0, width_ratio=1.0, activation="tanh",
    ...                                       target="sin", weight_decay=0.1)
    >>> solution = problem.solve()
    >>> [round(float(solution[name]), 5) for name in ("test_mse", "train_mse", "spike", "alignment")]
    [0.03629, 0.01881, 1.13406, 0.97185]
    """

    alpha: Any
    alpha0: Any
    learning_rate: Any
    width_ratio: Any
    activation: Any
    target: Any
    weight_decay: Any
    readout_values: Any = (1.0,)
    readout_probabilities: Any = None
    noise: Any = 0.0
    refined: bool = True
    width: int | None = None
    loss: Any = "square"

    _references = ("cui2024asymptotics", "dandi2024random", "ba2022high")

    def __post_init__(self):
        from ..laws.activation import activation
        from ..laws.gradient_step import constants
        from ..laws.index import index_target
        from ..losses import NAMED

        set_ = object.__setattr__
        for name in ("alpha", "width_ratio", "weight_decay"):
            set_(self, name, check.positive(name, getattr(self, name)))
        if not (isinstance(self.alpha0, (int, float, np.floating)) and self.alpha0 == np.inf):
            set_(self, "alpha0", check.scalar("alpha0", self.alpha0, 0.0, open_low=True, allowed="positive or infinite"))
        set_(self, "alpha0", self.alpha0 if check.traced(self.alpha0) else float(self.alpha0))
        set_(self, "learning_rate", check.scalar("learning_rate", self.learning_rate))
        set_(self, "noise", check.nonnegative("noise", self.noise))
        # whose squares and fourth powers are numbers still
        for name, low, high in (("alpha0", 1e-50, np.inf), ("learning_rate", -1e50, 1e50), ("noise", 0.0, 1e50)):
            value = getattr(self, name)
            if not check.traced(value) and not low <= value <= high:
                raise ValueError(f"{name} must be between {low:g} and {high:g}, got {value!r}")
        set_(self, "activation", activation(self.activation))
        constants(self.activation)
        set_(self, "target", index_target(self.target))
        set_(self, "readout_values", check.array("readout_values", self.readout_values, ndim=1))
        k = len(self.readout_values)
        if not k:
            raise ValueError("readout_values must hold at least one number, got none")
        given = np.full(k, 1.0 / k) if self.readout_probabilities is None else self.readout_probabilities
        probabilities = check.probabilities("readout_probabilities", given)
        if probabilities.shape != (k,):
            raise ValueError(f"readout_probabilities must be {k} numbers, one for each of readout_values, got {len(probabilities)}")
        if not check.traced(probabilities) and np.any(probabilities <= 0.0):
            raise ValueError(f"readout_probabilities must be positive, got {probabilities.tolist()}")
        if self.readout_probabilities is not None:
            set_(self, "readout_probabilities", probabilities)
        if not isinstance(self.refined, (bool, np.bool_)):
            raise ValueError(f"refined must be True or False, got {self.refined!r}")
        if self.width is not None:
            set_(self, "width", check.integer("width", self.width))
        check_loss(self.loss, NAMED)
        if self.loss in _MARGIN and not self._classifies:
            raise ValueError(
                f"loss {self.loss!r} needs outcomes of +-1, so target must be 'sign' or another function of one number with these "
                f"values, and noise 0, got target={self.target!r}, noise={self.noise}"
            )

    @property
    def _shares(self):
        """The proportions of the readout's values."""
        k = len(self.readout_values)
        return np.full(k, 1.0 / k) if self.readout_probabilities is None else self.readout_probabilities

    @property
    def _square(self) -> bool:
        return isinstance(self.loss, str) and self.loss == "square"

    @property
    def _classifies(self) -> bool:
        values = self.target.values
        return not self._square and values is not None and set(values) == {-1.0, 1.0} and _is_zero(self.noise)

    @property
    def approximate(self) -> str:
        """Why the theory is approximate at these parameters, in a few words; "" where it is exact in high dimension."""
        from ..laws.gradient_step import constants, disorder

        if constants(self.activation).c[2] == 0.0 or _is_zero(self.learning_rate):
            return ""
        if not self.refined:
            return "the activation is not odd, and rows are taken as a spike plus isotropic noise"
        if check.traced(self.alpha0, self.learning_rate, self.noise, self.readout_values) or self.alpha0 == np.inf:
            return ""
        if self.alpha0 < _ENOUGH:
            return f"the activation is not odd and alpha0 = {self.alpha0:g} is finite: first order in 1/alpha0 only"
        numbers = self.learning_rate, self.alpha0, self.readout_values, self._shares, self.noise
        share = disorder(self.activation, self.target, *numbers)
        if share > _DISORDER:
            return f"the activation is not odd and the step's noise in the rows is {share:.2g} of what it leaves of them"
        return ""

    @functools.cached_property
    def spikes(self):
        """The first layer after the step, :class:`quenched.laws.gradient_step.Spikes`."""
        from ..laws.gradient_step import gradient_step

        return gradient_step(
            self.activation, self.target, self.learning_rate, self.alpha0, self.readout_values, self._shares, self.noise,
            bool(self.refined),
        )  # fmt: skip

    @functools.cached_property
    def law(self):
        """The :class:`~quenched.laws.SpikedFeatures` that the engine sees."""
        return self._law(self._square)

    def _law(self, equivalent):
        from ..laws.spiked import SpikedFeatures

        numbers = self.learning_rate, self.alpha0, self.width_ratio, self.noise, self.readout_values, self._shares
        if check.traced(*numbers):
            return SpikedFeatures(
                self.activation, self.target, self.spikes, self.width_ratio, self._shares, self.width, equivalent
            )
        key = *map(float, numbers[:4]), *(tuple(np.asarray(v).tolist()) for v in numbers[4:])
        return _kept_law(self.activation, self.target, bool(self.refined), self.width, equivalent, *key)

    def _model(self):
        from ..limit.model import Model, target_reads
        from ..losses import Additive, Link

        if self._square:
            response, observables = Additive(self.noise), {"test_mse": _mse, "test_mse_noisy": _mse_noisy}
        elif self._classifies:
            response, observables = _signs(self.target), {"test_error": _error}
        else:
            link, clean = _link(self.target)
            response, observables = Link(link, self.noise), {"test_mse": clean, "test_mse_noisy": _mse_noisy}
        law = self.law
        return Model(
            law=law, response=response, alpha=self.alpha, weight_decay=self.weight_decay, params={}, scalars={},
            loss=_loss(self.loss), units=1, observables=tuple(observables.items()), reads=target_reads(law), frozen=(),
        )  # fmt: skip

    @property
    def _first_layer(self) -> dict:
        spikes, alignment = self.spikes, self.target.frame[0] * self.spikes.alignment
        return {"spike": spikes.spike, "bulk_variance": spikes.scale**2, "alignment": alignment}

    def _solution(self, found, solved, branch):
        k, T = len(self.readout_values), self.target.directions
        m = found["m"].reshape(-1)
        components = m[k : k + k * (T + 1)].reshape(k, T + 1)
        found = {name: value for name, value in found.items() if name not in ("m_hat", "theta_hat", "Q_hat")}
        found |= {"m": self.law.means(m), "theta": components[:, 0], "psi": components[:, 1:], "lengths": m[-1 - k : -1]}
        if not check.traced(self.alpha0) and self.alpha0 == np.inf:
            found["psi"] = found["psi"][:, 1:]  # the spike is the mean gradient's direction
        found |= self._first_layer
        if self._square:
            found["train_mse"] = 2.0 * found["train_loss"]
        solution = super()._solution({n: v if n in self._shapes else _squeezed(v) for n, v in found.items()}, solved, branch)
        own = [name for name in ("psi", "lengths") if name in solution.observables]
        orders = {n: v for n, v in {**solution.order_parameters, **{n: solution.observables[n] for n in own}}.items() if np.size(v)}
        observables = {name: value for name, value in solution.observables.items() if name not in own}
        note = self.approximate
        if note:
            warnings.warn(f"{self!r}: approximate: {note}", ApproximationWarning, stacklevel=4)
        return dataclasses.replace(solution, order_parameters=orders, observables=observables, note=note)

    def _from_solution(self, solution: Solution):
        """The engine's overlaps of a solution, of this problem or one that differs in numbers."""
        law, orders = self.law, solution.order_parameters
        k, T = len(self.readout_values), self.target.directions
        components = np.zeros((k, T + 1))
        if np.size(orders["m"]) != k or np.size(orders.get("psi", ())) not in (k * T, k * (T - 1)):
            raise ValueError(
                f"init must be a solution with as many groups of neurons ({k}) and directions ({T}) as this problem, got one of "
                f"{np.size(orders['m'])} groups"
            )
        components[:, 0] = orders["theta"]
        psi = np.reshape(orders.get("psi", np.zeros((k, 0))), (k, -1))
        components[:, T + 1 - psi.shape[1] :] = psi
        _, sizes, turn = law.basis
        constants = sizes * (turn @ np.reshape(orders["m"], k))
        m = np.concatenate([constants, components.ravel(), np.reshape(orders["lengths"], k), [0.0]])
        tilt = np.einsum("lj,ljs,st->lst", components, np.asarray(law.spikes.response)[:, :, 1:], np.asarray(law.field[3]))
        theta = np.zeros(self._shapes["theta"])
        theta[-1 - k * T : -1, 0] = tilt.reshape(k * T, -1)
        shaped = {name: np.reshape(orders[name], self._shapes[name]) for name in ("V", "q", "Q")}
        return {**shaped, "m": m[:, None], "theta": theta}

    def ridge(self, alpha=None, weight_decay=None):
        """The closed form of the square loss, at this problem's numbers or at arrays of others that broadcast.

        Returns :class:`quenched.limit.spiked_ridge.SpikedRidge`: ``test_mse``, ``test_mse_noisy``, ``train_mse``, ``norm``, ...

        >>> import quenched as qn
        >>> problem = qn.problems.OneGradientStep(alpha=1.6, alpha0=20.0, learning_rate=3.0, width_ratio=1.0, activation="tanh",
        ...                                       target="sin", weight_decay=0.1)
        >>> problem.ridge(alpha=[0.8, 1.6]).test_mse.round(5).tolist()
        [0.04255, 0.03629]
        """
        from ..limit.spiked_ridge import spiked_ridge

        if not self._square:
            raise ValueError(f"ridge is the closed form of the square loss, got loss {self.loss!r}")
        alpha = self.alpha if alpha is None else alpha
        return spiked_ridge(self.law, alpha, self.weight_decay if weight_decay is None else weight_decay, self.noise)

    def error_floor(self) -> float:
        """The least test error against the clean target that any number of samples and neurons reaches with these features.

        >>> import quenched as qn
        >>> problem = qn.problems.OneGradientStep(alpha=1.0, alpha0=np.inf, learning_rate=0.0, width_ratio=1.0, activation="tanh",
        ...                                       target="sin", weight_decay=0.1)
        >>> round(problem.error_floor(), 5), round(float((1 - np.exp(-2)) / 2 - np.exp(-1)), 5)  # what is not linear in the inputs
        (0.06445, 0.06445)
        """
        from ..limit.spiked_ridge import error_floor

        return error_floor(self._law(True))

    # ---- the spectrum of the features ----------------------------------------------------------------------------

    def feature_density(self, points: int = 300):
        """The bulk of the eigenvalues of ``Phi^T Phi / n`` (p, p), Phi (n, p) the features of the n = alpha d samples.

        Returns :class:`quenched.numerics.density.SpectralDensity`: ``x``, ``density``, ``edges``, ``atom``, ``cdf``, ``distance``.
        At fewer samples than features, those far out make small eigenvalues one by one, some 1e-3 of which is lost (``mass``).
        At ``learning_rate=0`` it is that of random features; what the step adds beside the bulk is in :meth:`outliers`.

        >>> import quenched as qn
        >>> problem = qn.problems.OneGradientStep(alpha=1.6, alpha0=20.0, learning_rate=0.0, width_ratio=1.0, activation="tanh",
        ...                                       target="sin", weight_decay=0.1)
        >>> density = problem.feature_density()
        >>> round(float(density.edges[0, 1]), 3), round(density.mass, 4)
        (2.216, 1.0)
        """
        from ..limit.feature_spectrum import feature_density

        return feature_density(self._law(True), float(self.alpha), points)

    def gram_density(self, points: int = 300):
        """The bulk of the eigenvalues of ``Phi Phi^T / p`` (n, n): those of :meth:`feature_density` times n / p, and the zeros.

        >>> import quenched as qn
        >>> problem = qn.problems.OneGradientStep(alpha=1.6, alpha0=20.0, learning_rate=0.0, width_ratio=1.0, activation="tanh",
        ...                                       target="sin", weight_decay=0.1)
        >>> density = problem.gram_density()
        >>> round(float(density.edges[0, 1]), 3), round(density.mass, 4)
        (3.546, 1.0)
        """
        density, rate = self.feature_density(points), float(self.alpha) / float(self.width_ratio)
        return dataclasses.replace(
            density, atom=max(0.0, 1.0 - min(1.0, rate) / rate), edges=density.edges * rate, x=density.x * rate,
            density=density.density / rate**2, weights=density.weights * rate,
        )  # fmt: skip

    def outliers(self, width: int | None = None, edge: float | None = None):
        """The eigenvalues of ``Phi^T Phi / n`` above the bulk, largest first.

        - ``width``: p, to which those of the mean features are proportional. None: this problem's ``width``, and if that is None
          the limit p -> infinity, where only eigenvalues of order one are left.
        - ``edge``: where the bulk ends, if known from :meth:`feature_density`; else it is looked for.

        Returns a tuple of :class:`quenched.limit.feature_spectrum.Outlier`: ``position``, and squared overlaps of the eigenvector.

        >>> import quenched as qn
        >>> problem = qn.problems.OneGradientStep(alpha=1.6, alpha0=20.0, learning_rate=3.0, width_ratio=1.0, activation="tanh",
        ...                                       target="sin", weight_decay=0.1, width=1000)
        >>> [round(float(found.position), 1) for found in problem.outliers(edge=10.0)]
        [275.8]
        """
        from ..limit.feature_spectrum import outliers

        return outliers(self._law(True), float(self.alpha), width, edge)

    # ---- finite size -------------------------------------------------------------------------------------------

    def simulate(self, dim: int, seeds: Any = 8, *, sampled: bool = False, **options):
        """The experiment: the actual step on an actual network, then the readout on fresh samples; for every seed.

        - ``dim``: d; ``seeds``: how many, or which; p = round(width_ratio d), whatever ``width`` is.
        - ``sampled``: draw the rows as spikes plus isotropic noise of unit length instead, with the limit's numbers.
        - ``options``: ``test_samples``, ``n_jobs`` (seeds at a time), ``progress``, and of the minimiser ``tol``,
          ``max_iterations``, ``optimiser``.

        Reports what :meth:`solve` does: ``m``, ``theta``, ``psi``, ``Q``, the errors, and ``spike``, ``bulk_variance``,
        ``alignment`` as measured on the trained rows.

        >>> import quenched as qn
        >>> problem = qn.problems.OneGradientStep(alpha=1.6, alpha0=20.0, learning_rate=3.0, width_ratio=1.0, activation="tanh",
        ...                                       target="sin", weight_decay=0.1)
        >>> trials = problem.simulate(dim=100, seeds=2, test_samples=2000)
        >>> bool(abs(trials["spike"].mean.item() - 1.134) < 0.1), bool(abs(trials["test_mse"].mean - 0.0363) < 0.01)
        (True, True)
        """
        from ..finite import one_step
        from ..finite.minimise import minimise
        from ..losses import Additive

        own = ("units", "scalars", "params", "seed", "population")
        check.names("simulate", options, ("sampled", "test_samples", "n_jobs", "progress", *check.keywords(minimise, without=own)))
        clean, frame = _turned(self.target), self.target.frame
        if sampled:
            spikes = self.spikes

            def make(seed):
                alignment = np.eye(len(frame))[0] * float(spikes.alignment)
                return one_step.spiked_layer(
                    dim, seed, spikes=spikes.spike, scales=spikes.scale, alignment=alignment, width_ratio=float(self.width_ratio),
                    readout_probabilities=self._shares, unit_rows=True,
                )  # fmt: skip
        else:
            training = one_step.Training(
                self.activation, clean, self.target.directions, np.asarray(self.readout_values),
                np.asarray(self._shares), float(self.learning_rate), float(self.alpha0), float(self.width_ratio),
                float(self.noise),
            )  # fmt: skip

            def make(seed):
                return one_step.first_layer(training, dim, seed)

        observables = {"test_error": _error} if self._classifies else {"test_mse": _mse, "test_mse_noisy": _mse_noisy}
        trials = one_step.simulate(
            make, self.activation, clean, _loss(self.loss), Additive(0.0 if self._classifies else float(self.noise)),
            alpha=float(self.alpha), weight_decay=float(self.weight_decay), dim=dim, seeds=seeds, observables=observables,
            settings=self._settings(**({"sampled": True} if sampled else {})), **options,
        )  # fmt: skip

        def shown(row):
            row = {**row, "alignment": frame.T @ row["alignment"]}
            if self._square:
                row["train_mse"] = 2.0 * row["train_loss"]
            return {name: _squeezed(np.asarray(value)) for name, value in row.items()}

        return trials.map(shown)


def _squeezed(value):
    return value.reshape([size for size in value.shape if size != 1]) if np.ndim(value) else value


def _is_zero(value) -> bool:
    return not check.traced(value) and float(value) == 0.0


@functools.lru_cache(maxsize=64)
def _kept_law(activation, target, refined, width, equivalent, rate, alpha0, width_ratio, noise, values, probabilities):
    """Laws by their numbers: those of a curve over samples or weight decays are one."""
    from ..laws.gradient_step import gradient_step
    from ..laws.spiked import SpikedFeatures

    values, probabilities = np.array(values), np.array(probabilities)
    spikes = gradient_step(activation, target, rate, alpha0, values, probabilities, noise, refined)
    return SpikedFeatures(activation, target, spikes, width_ratio, probabilities, width, equivalent)


def _turned(target):
    """The target as a function (n, T) -> (n,) of the fields along its frame's rows."""

    def make():
        def clean(fields):
            return target(fields @ target.frame)

        return clean

    return _kept(("turned", target), make)


def _link(target):
    """The outcome as a function of the fields (L, T), and the observable of its mean square error."""

    def make():
        def link(fields):
            return target(fields[0])

        def clean(h, target):
            return (h[0, 0] - link(target)) ** 2

        return link, clean

    return _kept(("index", target), make)


def _signs(target):
    """The response of a target of one direction whose values are +-1, constant between its jumps."""
    from ..losses import Finite, Sign

    if target.values == (-1.0, 1.0) and target.kinks == (0.0,):
        return Sign(0.0)

    def make():
        import jax.numpy as jnp

        from ..losses.response import _step_cdf

        ups = np.diff(target.values)

        def above(mean, cov):  # P(y = 1): where the field lies beyond its jumps
            steps = [u * _step_cdf(mean[0, 0] - at, cov[0, 0, 0]) for u, at in zip(ups, target.kinks, strict=True)]
            return 0.5 * (1.0 + target.values[0] + sum(steps))

        def rule(y, mean, cov):
            return jnp.where(y > 0.0, above(mean, cov), 1.0 - above(mean, cov))

        return Finite(np.array([-1.0, 1.0]), rule)

    return _kept(("signs", target), make)
