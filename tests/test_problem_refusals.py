"""Bad input: one sentence that names the parameter; bad problems: a clear error or a marked result."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import quenched as qn
from quenched.numerics.results import RESULTS

P = qn.problems
TWO = qn.laws.mixture([0.5, 0.5], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=[1.0, 1.0], labels=[-1, 1])
GLM = dict(loss="logistic", target="sign", alpha=1.0, weight_decay=0.1)
MIX = dict(loss="logistic", law=TWO, alpha=1.0, weight_decay=0.1)
COM = dict(units=2, target_units=2, activation="erf", alpha=1.0, weight_decay=0.1)
SIA = dict(alpha=1.0, weight_decay=0.1)
SEQ = dict(law=TWO, loss=lambda h, label: jnp.logaddexp(0.0, -label * h[0, 0]), alpha=1.0, weight_decay=0.1)
NONSENSE = [0.0, -1.0, np.nan, np.inf, "1", None, [1.0]]


@pytest.mark.parametrize("value", NONSENSE, ids=repr)
@pytest.mark.parametrize("name", ["alpha", "weight_decay"])
@pytest.mark.parametrize(
    ("problem", "good"),
    [(P.GeneralizedLinear, GLM), (P.MixtureClassification, MIX), (P.Committee, COM), (P.PhaseRetrieval, SIA), (P.Siamese, SIA),
     (P.SequenceProblem, SEQ)],
)  # fmt: skip
def test_positive_numbers(problem, good, name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        problem(**{**good, name: value})


@pytest.mark.parametrize(
    ("problem", "good", "bad"),
    [
        (P.GeneralizedLinear, GLM, {"loss": "logit"}),
        (P.GeneralizedLinear, GLM, {"target": "cubic"}),
        (P.GeneralizedLinear, GLM, {"noise": -0.1}),
        (P.GeneralizedLinear, GLM, {"intercept": 1}),
        (P.GeneralizedLinear, GLM, {"spectrum": [-1.0, 1.0]}),
        (P.GeneralizedLinear, GLM, {"target": "linear"}),
        (P.MixtureClassification, MIX, {"loss": "absolute"}),
        (P.MixtureClassification, MIX, {"law": "mixture"}),
        (P.MixtureClassification, MIX, {"loss": "softmax"}),
        (P.MixtureClassification, MIX, {"intercept": None}),
        (P.Committee, COM, {"units": 0}),
        (P.Committee, COM, {"target_units": 1.5}),
        (P.Committee, COM, {"activation": "step"}),
        (P.Committee, COM, {"noise": -1.0}),
        (P.PhaseRetrieval, SIA, {"noise": np.nan}),
        (P.Siamese, SIA, {"separation": -1.0}),
        (P.Siamese, SIA, {"positive": 1.0}),
        (P.Siamese, SIA, {"spectrum": [-1.0]}),
        (P.SequenceProblem, SEQ, {"law": None}),
        (P.SequenceProblem, SEQ, {"loss": "cross-entropy"}),
        (P.SequenceProblem, SEQ, {"loss": lambda h, weight: h[0, 0]}),
        (P.SequenceProblem, SEQ, {"loss": lambda label: label}),
        (P.SequenceProblem, SEQ, {"loss": lambda h, target: h[0, 0]}),
        (P.SequenceProblem, SEQ, {"units": -1}),
        (P.SequenceProblem, SEQ, {"params": [1.0]}),
        (P.SequenceProblem, SEQ, {"params": {"a": "x"}}),
        (P.SequenceProblem, SEQ, {"scalars": {"q": 0.0}}),
        (P.SequenceProblem, SEQ, {"response": "sign"}),
        (P.SequenceProblem, SEQ, {"observables": {"a": 1}}),
        (P.SequenceProblem, SEQ, {"observables": {"a": lambda x: x}}),
        (P.SequenceProblem, SEQ, {"freeze": {"m": 1.0}}),
    ],
)
def test_other_parameters(problem, good, bad):
    name = next(iter(bad))
    with pytest.raises(ValueError, match=name):
        problem(**{**good, **bad})


@pytest.mark.parametrize("bad", [dict(tol=0.0), dict(damping=1.0), dict(max_steps=0), dict(quadrature_tol=-1.0), dict(init="warm"),
                                 dict(init={"p": 1.0})])  # fmt: skip
def test_options_of_solve(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        P.GeneralizedLinear(**GLM).solve(**bad)


def test_too_few_steps_are_marked_warned_and_thrown():
    problem = P.GeneralizedLinear(**GLM)
    with pytest.warns(P.SolveWarning, match="largest number of steps"):
        solution = problem.solve(max_steps=1, tol=1e-12)
    assert solution.result is RESULTS.max_steps and not solution.converged and "not converged" in repr(solution)
    with pytest.raises(P.SolveError, match="largest number of steps"):
        problem.solve(max_steps=1, tol=1e-12, throw=True)


def test_a_loss_that_returns_a_vector():
    with pytest.raises(ValueError, match="loss must return a single number"):
        P.SequenceProblem(**{**SEQ, "loss": lambda h, label: h[0]}).solve()


def test_a_loss_that_is_not_a_number():
    problem = P.SequenceProblem(**{**SEQ, "loss": lambda h, label: jnp.log(-1.0 - h[0, 0] ** 2)})
    with pytest.raises(P.SolveError, match="not finite"):
        problem.solve()


@pytest.mark.slow
def test_a_loss_that_cannot_be_solved_is_marked():
    """Unbounded below faster than the penalty holds."""
    problem = P.SequenceProblem(**{**SEQ, "loss": lambda h, label: -5.0 * h[0, 0] ** 2})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", P.SolveWarning)
        try:
            solution = problem.solve()
        except P.SolveError:
            return
    assert not solution.converged


def test_save_and_load(tmp_path):
    problem = P.GeneralizedLinear(**GLM)
    solution = problem.solve()
    solution.save(tmp_path / "solution.npz")
    again = qn.Solution.load(tmp_path / "solution.npz", problem)
    assert again["test_error"] == solution["test_error"] and again.result is solution.result
    with pytest.raises(ValueError, match="problem must be"):
        qn.Solution.load(tmp_path / "solution.npz", problem.replace(alpha=9.0))
