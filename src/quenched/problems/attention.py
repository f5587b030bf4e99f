"""Attention that learns by position or by meaning."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import warnings
from typing import Any

import numpy as np

from ..numerics import check
from .base import Problem, SolveError, SolveWarning

#: A bistable mass from which a second start is tried, and an overlap below which a branch is none.
_DOUBT, _NOTHING = 5e-2, 1e-6


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Attention(Problem):
    """Tied low-rank dot-product attention with positional encodings, trained on a target that mixes positions and meaning.

    A sentence x has ``length`` tokens ``x_l ~ N(0, token_std_l^2 I)``. The network answers ``S (x + p)`` with
    ``S = softmax[(x + p) w w^T (x + p)^T/d]``, row by row; it learns ``y = T x`` with
    ``T = (1 - omega) softmax(x w_* w_*^T x^T/d) + omega positional_matrix`` by minimising
    ``sum_mu |y - f(x)|^2/(2 d) + weight_decay/2 |w|^2`` over w (d, rank).

    - ``alpha`` > 0: samples per dimension; ``weight_decay`` > 0; ``omega`` in [0, 1]: the positional share of the target.
    - ``positional_matrix`` (length, length); ``token_std``: standard deviation of the tokens, a number or (length,).
    - ``rank``, ``target_rank``: columns of w and of the target's w_*, which are orthonormal (times sqrt(d)).
    - ``positions``: the encodings p_l in coordinates of their own, (length,) or (length, k), of order one and orthogonal to the
      target; None for equidistant numbers from 1 to -1.

    Order parameters by token: ``q`` = w^T S_l w/d, ``V``, ``m`` = w^T p_l/sqrt(d), ``theta`` = w^T S_l w_*/d, (length,) for rank
    one, and ``Q`` = w^T w/d. Observables: ``test_mse`` (per token dimension, without 1/2), ``train_loss`` (with it),
    ``free_energy`` (the risk per dimension), ``bistable_mass`` (how often the proximal problem has several minima: where that is
    not small, replica symmetry is an approximation), ``cosine`` (with the target), ``linear_attention_mse`` (what it is measured
    against).

    Starts: ``"positional"`` (along the encodings; theta = 0 stays) and ``"semantic"`` (along the target; m = 0 stays);
    ``solve(init="global")``, the default, is the one of lower free energy. A start that finds neither leads to the branch
    ``"uninformed"``, m = theta = 0.

    Source: H. Cui, F. Behrens, F. Krzakala, L. Zdeborova (2024), arXiv:2402.03902.

    >>> import quenched as qn
    >>> attention = qn.problems.Attention(2.0, 0.01, 0.3, [[0.6, 0.4], [0.4, 0.6]], token_std=0.5)
    >>> round(float(attention.solve("semantic")["test_mse"]), 5), round(float(attention.linear_attention_mse()), 9)
    (0.00281, 0.003942769)
    """

    alpha: Any
    weight_decay: Any
    omega: Any
    positional_matrix: Any
    token_std: Any
    length: int = 2
    rank: int = 1
    target_rank: int = 1
    positions: Any = None

    _references = ("cui2024attention", "cui2024narrow")
    _starts = ("positional", "semantic")
    _default_start = "global"
    _quadrature_tol = 1e-2, 5e-3
    _warmup = 0  # starts are close, and damped steps leave the positional branch

    def __post_init__(self):
        set_ = object.__setattr__
        set_(self, "alpha", check.positive("alpha", self.alpha))
        set_(self, "weight_decay", check.positive("weight_decay", self.weight_decay))
        set_(self, "omega", check.scalar("omega", self.omega, 0.0, 1.0))
        for name in ("length", "rank", "target_rank"):
            set_(self, name, check.integer(name, getattr(self, name)))
        L = self.length
        if L < 2:
            raise ValueError(f"length must be at least 2, a single token attends to itself, got {L}")
        set_(self, "positional_matrix", check.array("positional_matrix", self.positional_matrix, shape=(L, L)))
        std = self.token_std if check.traced(self.token_std) else check.array("token_std", self.token_std)
        if np.shape(std) not in ((), (L,)) or (not check.traced(std) and np.any(std <= 0.0)):
            raise ValueError(f"token_std must be a positive number or {L} of them, got {self.token_std!r}")
        set_(self, "token_std", std)
        if self.positions is not None:
            given = check.array("positions", self.positions)
            if given.shape[:1] != (L,) or given.ndim > 2:
                raise ValueError(f"positions must have the shape ({L},) or ({L}, k), got {given.shape}")
            set_(self, "positions", given)

    def number(self, name: str):
        """As for every problem; ``token_std`` counts where it is one number.

        >>> import quenched as qn
        >>> attention = qn.problems.Attention(2.0, 0.01, 0.3, [[0.6, 0.4], [0.4, 0.6]], token_std=0.5)
        >>> float(attention.number("token_std")), attention.number("rank")
        (0.5, None)
        """
        value = super().number(name)
        return float(value) if isinstance(value, np.ndarray) and value.ndim == 0 else value

    # ---- the law of the tokens ---------------------------------------------------------------------------------------------

    @property
    def encodings(self) -> np.ndarray:
        """The encodings p_l, (length, k)."""
        if self.positions is None:
            return np.linspace(1.0, -1.0, self.length)[:, None]
        return np.reshape(self.positions, (self.length, -1))

    @property
    def variances(self):
        """The variance of every token, (length,)."""
        return self.token_std**2 + np.zeros(self.length)

    @functools.cached_property
    def law(self):
        """The law of the tokens with their encodings as means."""
        from .. import laws

        p = self.encodings
        return laws.sequence(
            [1.0], mean=p[None], gram=np.eye(p.shape[1]), cov=self.variances[None, :, None], targets=self.target_rank
        )

    def _symmetries(self):
        """Orders of the tokens, with either sign, that the loss does not see: S and T turn with the tokens."""
        A, R = self.positional_matrix, self.variances
        if check.traced(A, R):
            return ()
        orders = (list(order) for order in itertools.permutations(range(self.length))) if self.length <= 4 else ()
        same = [tuple(o) for o in orders if np.array_equal(A[np.ix_(o, o)], A) and np.array_equal(R[o], R)]
        return tuple((order, sign) for order in same for sign in (1, -1) if (order, sign) != (tuple(range(self.length)), 1))

    def _model(self):
        from ..limit.model import Model, target_reads
        from ..losses.attention import attention, mean_square

        return Model(
            law=self.law, response=None, alpha=self.alpha, weight_decay=self.weight_decay,
            params={"omega": self.omega, "positional": self.positional_matrix, "variances": self.variances}, scalars={},
            loss=attention(), units=self.rank, observables=(("test_mse", mean_square),), reads=target_reads(self.law), frozen=(),
            derived=_derived(), symmetries=self._symmetries(),
        )  # fmt: skip

    # ---- starts ------------------------------------------------------------------------------------------------------------

    def _start(self, name, attempt: int = 0):
        """Where a named branch is looked for; a second ``attempt`` starts nearer to the target or to the population's minimum."""
        if name not in self._starts:
            return name, ()
        r, t = self.rank, self.target_rank
        alpha, decay, R = (1.0 if check.traced(x) else np.mean(x) for x in (self.alpha, self.weight_decay, self.variances))
        variance = 0.25 if check.traced(self.variances) else float(R)
        axis = np.zeros(r)
        axis[0] = 1.0
        size, norm = ((0.25, 0.12), (0.29, 0.005))[attempt] if name == "positional" else ((0.52, 0.09), (0.95, 0.05))[attempt]
        v = float(min(0.6 / decay, (90.0, 20.0)[attempt] / alpha * (0.25 / variance) ** 3))
        made = {"V": v * np.eye(r), "m": np.zeros((self.encodings.shape[1], r)), "theta": np.zeros((1, r, t))}
        if name == "positional":
            made["m"] = size * np.outer(np.linalg.svd(self.encodings, full_matrices=False)[2][0], axis)
            made["q"] = size**2 * np.outer(axis, axis) + norm * np.eye(r)
        else:
            made["theta"][0, : min(r, t)] = size * np.eye(t)[: min(r, t)]
            made["q"] = made["theta"][0] @ made["theta"][0].T + norm * np.eye(r)
        made["Q"] = made["q"]
        rotations = ("rotations",) if r > 1 else ()
        return made, (("theta",) if name == "positional" else ("m",)) + rotations

    def solve(self, init: Any = None, **options):
        """See :meth:`Problem.solve`; ``init="global"`` solves from both starts and keeps the lower free energy.

        >>> import quenched as qn
        >>> attention = qn.problems.Attention(2.0, 0.01, 0.3, [[0.6, 0.4], [0.4, 0.6]], token_std=0.5)
        >>> solution = attention.solve("global")
        >>> solution.branch, round(float(solution["test_mse"]), 5)
        ('semantic', 0.00281)
        """
        init = self._default_start if init is None else init
        if isinstance(init, str) and init == "global":
            if self._traced:
                names = ", ".join(self._starts)
                raise ValueError(f"init must name one branch ({names}) where a solve is differentiated, got 'global'")
            return self._lowest(**options)
        if self._traced or not isinstance(init, str) or init not in self._starts:
            return self._named(super().solve(init, **options))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", SolveWarning)
            first = self._named(super().solve(init, **options))
        second = None
        if first.branch != init or not first.residual <= options.get("tol", 1e-8) or float(first["bistable_mass"]) > _DOUBT:
            start, frozen = self._start(init, attempt=1)
            second = self._again(start, frozen, init, options)
        if second is not None and self._better(second, first, init, options):
            return second
        for warning in caught:
            warnings.warn(warning.message, stacklevel=2)
        return first

    @property
    def _traced(self) -> bool:
        return check.traced(self.alpha, self.weight_decay, self.omega, self.token_std)

    def _again(self, start, frozen, name, options):
        """The solution from another start in the sector of a branch, None where there is none."""
        held = _Held(**self.parameters)
        object.__setattr__(held, "frozen", frozen)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SolveWarning)
            try:
                found = Problem.solve(held, start, **{**options, "throw": False})
            except SolveError:
                return None
        return self._named(dataclasses.replace(found, branch=name, problem=self))

    def _better(self, one, other, name, options) -> bool:
        tol = options.get("tol", 1e-8)
        if not (one.residual <= tol and one.branch == name):
            return False
        return other.branch != name or not other.residual <= tol or float(one["free_energy"]) < float(other["free_energy"])

    def _direction(self, over: str):
        """Of the first token, and the first unit: its own order parameter."""
        direction = np.zeros(self._shapes[over])
        if over == "theta":
            direction[0, 0, 0] = float(self.variances[0])
        else:
            direction[:, 0] = self.encodings[0]
        return direction

    def _named(self, solution):
        """A solution under the name of what it is: a branch whose overlap has vanished is ``"uninformed"``."""
        overlap = {"positional": "m", "semantic": "theta"}.get(solution.branch)
        if overlap is None or check.traced(solution[overlap]) or np.abs(solution[overlap]).max() > _NOTHING:
            return solution
        return dataclasses.replace(solution, branch="uninformed")

    def branches(self, starts: Any = None, **options):
        """See :meth:`Problem.branches`; a start that leads to m = theta = 0 is listed as ``"uninformed"``.

        >>> import quenched as qn
        >>> attention = qn.problems.Attention(2.0, 0.01, 0.3, [[0.6, 0.4], [0.4, 0.6]], token_std=0.5)
        >>> {name: round(float(solution["free_energy"]), 6) for name, solution in attention.branches().items()}
        {'semantic': 0.00359, 'positional': 0.004513}
        """
        starts = self._starts if starts is None else starts
        table = starts if isinstance(starts, dict) else {name: name for name in starts}
        found = super().branches(starts, **options)
        named = {}
        for name, solution in found.items():
            known = isinstance(table[name], str)
            solution = self._named(dataclasses.replace(solution, branch=table[name])) if known else solution
            named.setdefault(solution.branch if known else name, solution)
        return named

    # ---- from the engine's basis to tokens, and back -----------------------------------------------------------------------

    def _split(self, table: dict) -> dict:
        """Overlaps of the one covariance and of the encodings' axes as those of tokens; whatever else is in the table stays."""
        made, R = dict(table), self.variances
        for name in {"q", "V", "theta"} & set(table):
            made[name] = _squeezed(R[:, None, None] * table[name][0])
        if "m" in table:
            made["m"] = _squeezed(self.encodings @ table["m"])
        for name in {"Q", "cosine"} & set(table):
            made[name] = table[name][0, 0] if np.size(table[name]) == 1 else table[name]
        return made

    def _solution(self, found, solved, branch):
        split = self._split(self._oriented(found))
        if not check.traced(self.omega, self.variances):
            split["linear_attention_mse"] = np.float64(self.linear_attention_mse())
        solution = super()._solution(split, solved, branch)
        return dataclasses.replace(solution, order_parameters={k: v for k, v in solution.order_parameters.items() if np.size(v)})

    def _oriented(self, found):
        """One unit has no sign: it is given the one that makes its largest overlap positive."""
        linear = [np.ravel(found[name]) for name in ("m", "theta") if not check.traced(found[name])]
        if self.rank > 1 or len(linear) < 2:
            return found
        overlaps = np.concatenate([np.ravel(self.encodings @ found["m"])[:1], linear[1]])
        sign = 1.0 if overlaps[np.argmax(np.abs(overlaps))] >= 0.0 else -1.0
        turned = ("m", "theta", "m_hat", "theta_hat", "cosine")
        return {name: sign * value if name in turned else value for name, value in found.items()}

    def _present(self, value, overlap: bool):
        return value

    def _present_row(self, row):
        return self._split(super()._present_row(row))

    def _from_solution(self, solution):
        solved = solution.problem if isinstance(solution.problem, Attention) else self  # tokens may have had another size
        return self._shaped({name: solution.order_parameters[name] for name in ("q", "V", "m", "theta", "Q")}, solved.variances)

    def _shaped(self, overlaps: dict, variances=None) -> dict:
        """Overlaps by token (of these variances), or in the engine's own shapes, as the engine takes them."""
        L, r, t, k = self.length, self.rank, self.target_rank, self.encodings.shape[1]
        columns = {"q": r, "V": r, "theta": t}
        made = dict(overlaps)
        for name, width in columns.items():
            if name in overlaps and np.size(overlaps[name]) == L * r * width:
                value = np.reshape(np.asarray(overlaps[name], float), (L, r, width))
                R = np.asarray(self.variances if variances is None else variances)
                made[name] = np.mean(value / R[:, None, None], axis=0)[None]
        if "m" in overlaps and np.size(overlaps["m"]) == L * r != k * r:
            made["m"] = np.linalg.lstsq(self.encodings, np.reshape(np.asarray(overlaps["m"], float), (L, r)))[0]
        if "q" in made and np.size(made["q"]) == r * r:
            made.setdefault("Q", np.reshape(made["q"], (r, r)))
        return super()._shaped(made)

    # ---- what it is measured against ---------------------------------------------------------------------------------------

    def linear_attention_mse(self):
        """The test error of the best positional attention ``W x`` with a trained matrix W, whatever alpha and weight decay are.

        ``(1 - omega)^2 sum_ab variances_b Var[softmax(h_* h_*^T)_ab]``. The positional branch is never better.

        >>> import quenched as qn
        >>> attention = qn.problems.Attention(2.0, 0.01, 0.3, [[0.6, 0.4], [0.4, 0.6]], token_std=0.5)
        >>> round(float(attention.linear_attention_mse()), 9)
        0.003942769
        """
        return float((1.0 - self.omega) ** 2 * _variance_of_mixing(tuple(np.asarray(self.variances).tolist()), self.target_rank))

    def linear_crossing(self, bracket=None, rtol: float = 1e-4, points: int = 9, **options):
        """The alpha beyond which the semantic branch beats :meth:`linear_attention_mse`, with its uncertainty: ``(alpha, error)``.

        - ``bracket``: the range of alpha that is searched (default: a quarter to eight times the present one), on ``points``
          logarithmic steps; ``options`` go to :meth:`solve`.

        The error is the width of the last bracket and what the quadrature error of the branch can move. ``ValueError`` where
        the branch does not cross the baseline in the range.

        >>> import quenched as qn
        >>> attention = qn.problems.Attention(2.0, 0.01, 0.3, [[0.6, 0.4], [0.4, 0.6]], token_std=0.5)
        >>> alpha, error = attention.linear_crossing(bracket=(1.2, 1.8), rtol=1e-2, points=3)
        >>> round(alpha, 1), bool(error < 0.05)
        (1.5, True)
        """
        from scipy.optimize import brentq

        from .continuation import Branch, positive_range

        now, level = float(self.alpha), self.linear_attention_mse()
        low, high = positive_range("bracket", bracket, (now / 4.0, 8.0 * now))
        branch = Branch(self, "alpha", "semantic", options)
        anchor = min(max(now, low), high)
        grid = sorted(np.geomspace(low, high, check.integer("points", points, 3)), key=lambda x: abs(np.log(x / anchor)))
        gaps = {}
        for x in grid:
            solution = branch.at(float(x))
            if solution is not None and solution.branch == "semantic":
                gaps[float(x)] = float(solution["test_mse"]) - level
        known = sorted(gaps)
        cell = next(((a, b) for a, b in zip(known[:-1], known[1:], strict=True) if gaps[a] > 0.0 >= gaps[b]), None)
        if cell is None:
            raise ValueError(
                f"bracket must hold an alpha at which the semantic branch meets the linear baseline, got {(low, high)}, where the "
                f"difference goes from {gaps[known[0]]:.3g} to {gaps[known[-1]]:.3g}" if known
                else f"bracket must hold an alpha at which there is a semantic branch, got {(low, high)}"
            )  # fmt: skip

        def gap(u):
            alpha = float(np.exp(u))
            solution = branch.at(alpha)
            if solution is None:  # the branch is not continued from its neighbours there
                solution = self.replace(alpha=alpha).solve("semantic", **options)
                if solution.branch != "semantic" or solution.residual > options.get("tol", 1e-8):
                    raise SolveError(f"the semantic branch is not found at alpha = {alpha:.6g}, between points where it is")
                branch.found[alpha] = solution
            return float(solution["test_mse"]) - level

        u = brentq(gap, *np.log(cell), xtol=0.1 * check.positive("rtol", rtol))
        slope = abs(gap(min(u + 10 * rtol, np.log(cell[1]))) - gap(max(u - 10 * rtol, np.log(cell[0])))) / (20.0 * rtol)
        gap(u)
        solution = branch.found[float(np.exp(u))]
        error = rtol + solution.quadrature_error * float(solution["test_mse"]) / slope
        return float(np.exp(u)), float(np.exp(u) * error)

    def encoding_shift(self, solution, dim: int) -> dict[str, float]:
        """What the encodings add to the errors at finite ``dim``: test_mse, train_loss, free_energy, of order 1/dim.

        The output ``S p`` of the encodings themselves has the mean square ``E|S p|^2/d``, on fresh sentences in the test error, on
        the training set (half of it) in the loss. Other corrections of order 1/dim are not in it.

        >>> import quenched as qn
        >>> attention = qn.problems.Attention(2.0, 0.01, 0.3, [[0.6, 0.4], [0.4, 0.6]], token_std=0.5)
        >>> round(attention.encoding_shift(attention.solve("semantic"), 1000)["test_mse"], 6)
        2.4e-05
        """
        fn, dim = _answered(self.encodings.tobytes(), self.encodings.shape), check.integer("dim", dim)
        fresh, trained = (float(solution.average(fn, training=training)) for training in (False, True))
        return {
            "test_mse": fresh / dim, "train_loss": 0.5 * trained / dim, "free_energy": 0.5 * float(self.alpha) * trained / dim,
        }  # fmt: skip

    # ---- the experiment ----------------------------------------------------------------------------------------------------

    def simulate(self, dim: int, seeds: Any = 8, **options):
        """Train the attention layer itself on sentences, from the start of a branch.

        - ``dim``: d; ``seeds``: how many, or which.
        - ``options``: ``init`` (``"positional" | "semantic"``, ``"small"`` for small random weights, or an array (d, rank), or a
          tuple of these, of which the lowest risk is kept; default both branches), ``optimiser`` (``"lbfgs"`` or
          ``"gradient descent"``), ``test_samples``, ``tol``, ``max_iterations``, ``n_jobs``, ``progress``: see
          :func:`quenched.finite.attention.simulate`.

        Returns :class:`quenched.Trials` under the names of :meth:`solve`.

        >>> import quenched as qn
        >>> attention = qn.problems.Attention(2.0, 0.01, 0.3, [[0.6, 0.4], [0.4, 0.6]], token_std=0.5)
        >>> trials = attention.simulate(dim=100, seeds=2, init="semantic", test_samples=500)
        >>> bool(trials["test_mse"].mean < attention.linear_attention_mse()), trials.not_converged
        (True, {})
        """
        from ..finite.attention import simulate, train

        known = check.keywords(train, without=("rank", "encodings", "targets", "seed"))
        check.names("simulate", options, (*known, "test_samples", "n_jobs", "progress"))
        trials = simulate(
            self.law, alpha=float(self.alpha), weight_decay=float(self.weight_decay), omega=float(self.omega),
            positional=np.asarray(self.positional_matrix), rank=self.rank, dim=check.integer("dim", dim), seeds=seeds,
            settings=self._settings(), **options,
        )  # fmt: skip
        return trials.map(self._present_row)


class _Held(Attention):
    """The same problem with overlaps held at zero whatever the start."""

    frozen: tuple = ()

    def _model(self):
        return dataclasses.replace(super()._model(), frozen=tuple(self.frozen))


def _squeezed(value):
    """(L, r, s) or (L, r) without axes of size one but the first."""
    return value.reshape(value.shape[0], *(size for size in value.shape[1:] if size != 1))


@functools.lru_cache(maxsize=256)
def _variance_of_mixing(variances: tuple, target_rank: int) -> float:
    """sum_ab variances_b Var[softmax(h_* h_*^T)_ab]."""
    import jax
    import jax.numpy as jnp

    from ..losses.attention import mixing
    from ..numerics import gaussian
    from ..numerics.precision import float64

    L, size = len(variances), len(variances) * target_rank
    nodes, weights = gaussian.tensor_hermite(size, 80) if size <= 2 else gaussian.rule(size, 3)
    with float64(True):
        fields = nodes.reshape(-1, L, target_rank) * np.sqrt(variances)[:, None]
        mixed = np.asarray(jax.vmap(mixing)(jnp.asarray(fields)))
    mean = np.tensordot(weights, mixed, 1)
    return float(np.sum(np.tensordot(weights, (mixed - mean) ** 2, 1) * np.array(variances)))


@functools.lru_cache(maxsize=64)
def _answered(data: bytes, shape: tuple):
    """|S p|^2 for encodings p of this shape."""
    import jax.numpy as jnp

    from ..losses.attention import mixing

    encodings = np.frombuffer(data).reshape(shape)

    def answered(h, target):
        return jnp.sum((mixing(h) @ encodings) ** 2)

    return answered


@functools.cache
def _derived():
    from ..limit.bistability import bistable_mass
    from ..limit.observables import cosine

    return (("bistable_mass", bistable_mass), ("cosine", cosine))
