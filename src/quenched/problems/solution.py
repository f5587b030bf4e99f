"""What a solve hands back."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..numerics import check
from ..numerics.fingerprint import differ, identity
from ..numerics.results import RESULTS


class Lookup:
    """Finds a name among ``observables``, then ``order_parameters``; iterates over the names, as a dict does."""

    observables: dict[str, Any]
    order_parameters: dict[str, Any]

    def __getitem__(self, name: str) -> Any:
        for table in (self.observables, self.order_parameters):
            if name in tuple(table):  # a tuple: whatever is asked for need not be hashable
                return table[name]
        raise KeyError(f"{name!r} is not among {', '.join(self.keys())}")

    def __contains__(self, name: str) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def keys(self) -> tuple[str, ...]:
        """The names that can be looked up.

        >>> import quenched as qn
        >>> solution = qn.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve()
        >>> [name for name in solution.keys() if name in ("q", "V", "test_mse", "train_loss")]
        ['test_mse', 'train_loss', 'V', 'q']
        """
        return tuple(dict.fromkeys([*self.observables, *self.order_parameters]))


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Solution(Lookup):
    """The solved saddle point of a problem: numbers and a certificate of how far they can be trusted.

    - ``order_parameters``, ``observables``: name -> NumPy float64 array (or 0-d number).
    - ``result``: a :class:`~quenched.numerics.results.RESULTS`; its value is the sentence a user reads.
    - ``residual``: largest relative change of one *undamped* update.
    - ``quadrature_error``: how far the overlaps move (relative) when averages are refined; NaN without convergence.
    - ``replicon``: spectral radius of the replicon map; replica symmetry is locally stable below 1.
    - ``stein_gap``: relative difference of the two forms of V_hat. Larger than the quadrature error, it is the mass at
      jumps of the proximal operator, and replica symmetry is only approximate (unless the loss is known to be ``convex``:
      then nothing jumps, replica symmetry holds, and the gap is quadrature error at its kinks).
    - ``iterations``, ``branch`` (the name of the start), ``problem``; ``note``: why the theory is ``approximate``, or "".

    ``solution["test_error"]`` looks a name up among observables, then order parameters; ``solution.keys()`` has the names.
    A solution is a pytree: ``jax.tree.map`` acts on its order parameters and observables.

    >>> import quenched as qn
    >>> solution = qn.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve()
    >>> round(float(solution["test_mse"]), 8), round(float(solution["q"]), 8), solution.converged, solution.stable
    (0.08442888, 0.91557112, True, True)
    """

    order_parameters: dict[str, Any]
    observables: dict[str, Any]
    result: RESULTS
    residual: float
    quadrature_error: float
    replicon: float
    stein_gap: float
    iterations: int
    branch: str
    problem: Any
    level: int = 0
    quadrature_tol: float = 1e-6
    convex: bool = False
    note: str = ""

    @property
    def approximate(self) -> bool:
        """Whether the theory itself is only approximate at these parameters; ``note`` says why."""
        return bool(self.note)

    @property
    def converged(self) -> bool:
        """Whether the saddle point was found to the tolerances asked for."""
        return self.result is RESULTS.successful

    @property
    def jumps(self) -> bool:
        """Whether the proximal operator jumps with noticeable mass (the two forms of V_hat differ)."""
        return not self.convex and bool(self.stein_gap > max(1e-3, 3.0 * self.quadrature_error))

    @property
    def stable(self) -> bool:
        """Whether replica symmetry is locally stable, as far as replicon and jumps tell."""
        return self.convex or (bool(self.replicon < 1.0) and not self.jumps)

    @property
    def status(self) -> str:
        """One line: how it ended, the errors, stability."""
        parts = [str(self.result), f"residual {self.residual:.0e}", f"quadrature {self.quadrature_error:.0e}"]
        if self.convex:
            parts.append(f"stable (replicon {self.replicon:.3g})" if self.replicon < 1.0 else "stable (the loss is convex)")
        elif self.replicon >= 1.0:
            parts.append(f"replica symmetry unstable (replicon {self.replicon:.3g}): approximate")
        elif self.jumps:
            parts.append(f"replica symmetry approximate (the proximal operator jumps: gap {self.stein_gap:.1e})")
        else:
            parts.append(f"stable (replicon {self.replicon:.3g})")
        if self.note:
            parts.append(f"approximate: {self.note}")
        return ", ".join(parts)

    def __repr__(self) -> str:
        rows = [f"Solution of {self.problem!r}", f"  {self.status}"]
        rows += [f"  {name:<18} {_show(value)}" for name, value in self.observables.items()]
        hats = [name for name in self.order_parameters if name.endswith("_hat")]
        rows += [f"  {name:<18} {_show(value)}" for name, value in self.order_parameters.items() if name not in hats]
        return "\n".join(rows)

    def _repr_html_(self) -> str:
        def table(values):
            return "".join(f"<tr><td><code>{k}</code></td><td>{_show(v)}</td></tr>" for k, v in values.items())

        orders = {k: v for k, v in self.order_parameters.items() if not k.endswith("_hat")}
        return (
            f"<div><b>{type(self.problem).__name__}</b><br>{self.status}"
            f"<table>{table(self.observables)}{table(orders)}</table></div>"
        )

    def average(self, fn, law=None, training: bool = False):
        """An observable that the problem did not list, without solving again.

        - ``fn``: a function of ``h``, ``label``, ``target``, ``noise``, ``gram``, ``scalars``, ``params`` by name,
          or a dict of them.
        - ``law``: a test law other than the training law (a distribution shift), with other label probabilities, mean or covariance
          coefficients on the *same* basis of directions (those that only the test law uses are listed in both), or with other
          eigenvalues on the same atoms of the spectrum.
        - ``training``: average over the training set (h at the proximal operator) and not over fresh data.

        >>> import quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve()
        >>> round(float(ridge.average(lambda h: h[0, 0] ** 2)), 6)  # q
        0.915571
        """
        from ..limit.averages import average

        if isinstance(fn, dict):
            return {name: self.average(one, law, training) for name, one in fn.items()}
        return average(self.problem.model, *self._unknowns(), fn, law, training)

    def average_error(self, of, law=None, training: bool = False):
        """How far the average of an observable moves on the next finer quadrature, absolutely: the certificate's error is that of
        the overlaps alone. Functions that take few values (errors of classification) are compared on quasi-random points, which
        tell errors above about 5e-4.

        - ``of``: the name of an observable of :meth:`solve` that is an average over fresh data, or functions as for
          :meth:`average`; ``law``, ``training``: as there. ``ValueError`` for another name.

        >>> import jax.numpy as jnp, quenched as qn
        >>> ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve()
        >>> bool(ridge.average_error(lambda h: h[0, 0] ** 2) < 1e-12)
        True
        >>> float(ridge.average_error(lambda h, target: jnp.abs(h[0, 0] - target[0, 0]))) > 1e-6  # a kink in two variables
        True
        """
        from ..limit.averages import average_error

        if isinstance(of, dict):
            return {name: self.average_error(one, law, training) for name, one in of.items()}
        if isinstance(of, str):
            known = dict(self.problem.model.observables)
            of = known[check.choice("of", of, known)]
        return average_error(self.problem.model, *self._unknowns(), of, law, training)

    def training_fields(self, n: int = 10_000, seed: int = 0) -> dict[str, np.ndarray]:
        """n draws from the exact law of the pre-activations on the *training* set: ``h`` (n, L, r), with label, target, omega.

        >>> import quenched as qn
        >>> svm = qn.problems.GeneralizedLinear("hinge", "sign", alpha=2.0, weight_decay=0.1).solve()
        >>> draws = svm.training_fields(2000)
        >>> margin = draws["label"] * draws["h"][:, 0, 0]
        >>> bool((abs(margin - 1) < 1e-12).mean() > 0.2)  # support vectors on the margin: an atom
        True
        """
        from ..limit.averages import training_sample

        n, seed = check.integer("n", n), check.integer("seed", seed, 0)
        return training_sample(self.problem.model, *self._unknowns(), n, seed)

    def _unknowns(self):
        from ..limit.solve import starting_point

        start = starting_point(self.problem.model, self.problem._from_solution(self))
        return start.overlaps, start.scalars

    def save(self, path) -> None:
        """Write the numbers to ``path`` (.npz): data, never code; :meth:`load` needs the problem again.

        >>> import quenched as qn
        >>> ridge = qn.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
        >>> ridge.solve().save("ridge.npz")
        >>> round(float(Solution.load("ridge.npz", ridge)["test_mse"]), 8)
        0.08442888
        """
        header = {
            "result": self.result.name, "residual": self.residual, "quadrature_error": self.quadrature_error,
            "replicon": self.replicon, "stein_gap": self.stein_gap, "iterations": self.iterations, "branch": self.branch,
            "level": self.level, "quadrature_tol": self.quadrature_tol, "convex": self.convex, "note": self.note,
            "problem": repr(self.problem), "identity": identity(self.problem),
        }
        if isinstance(self.problem, str):  # loaded without one
            header |= {"problem": self.problem, "identity": None}  # fmt: skip
        arrays = {f"order_parameters/{k}": np.asarray(v) for k, v in self.order_parameters.items()}
        arrays |= {f"observables/{k}": np.asarray(v) for k, v in self.observables.items()}
        with open(path, "wb") as file:
            np.savez(file, header=np.array(json.dumps(header)), **arrays)

    @classmethod
    def load(cls, path, problem=None) -> Solution:
        """Read what :meth:`save` wrote. ``problem`` is the problem it belongs to; without it, its text takes the place.

        ``ValueError`` for another problem: other parameters, or, in files of the same versions of Python and quenched, other
        entries of arrays or functions of other code.

        >>> import quenched as qn
        >>> ridge = qn.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
        >>> ridge.solve().save("ridge.npz")
        >>> Solution.load("ridge.npz").problem
        "GeneralizedLinear(loss='square', target='linear', alpha=2, weight_decay=0.1, noise=0.1, intercept=False)"
        """
        with np.load(path, allow_pickle=False) as data:
            header = json.loads(str(data["header"]))
            tables: dict = {"order_parameters": {}, "observables": {}}
            for key in data.files:
                if "/" in key:
                    table, name = key.split("/", 1)
                    tables[table][name] = data[key]
        text, saved = header.pop("problem"), header.pop("identity", None)
        if problem is not None and repr(problem) != text:
            raise ValueError(f"problem must be the one that was solved, {text}, got {problem!r}")
        if problem is not None and differ(saved, identity(problem)):
            raise ValueError(f"problem must be the one that was solved, got another {text}: its arrays or functions differ")
        result = RESULTS[header.pop("result")]
        return cls(**tables, **header, result=result, problem=text if problem is None else problem)


@functools.cache
def register_pytree() -> None:
    """Make solutions pytrees, with order parameters and observables as leaves (once; JAX is imported by the first solve only)."""
    import jax

    data = ["order_parameters", "observables"]
    meta = [field.name for field in dataclasses.fields(Solution) if field.name not in data]
    jax.tree_util.register_dataclass(Solution, data_fields=data, meta_fields=meta)


def _show(value) -> str:
    value = np.asarray(value)
    if value.ndim == 0:
        return f"{float(value):.10g}"
    return np.array2string(value, precision=6, separator=", ", threshold=16).replace("\n", " ")
