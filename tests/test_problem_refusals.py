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
DAE = dict(law=TWO, alpha=1.0, noise=0.5, weight_decay=0.1)
ATT = dict(alpha=2.0, weight_decay=0.01, omega=0.3, positional_matrix=[[0.6, 0.4], [0.4, 0.6]], token_std=0.5)
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
        (P.GeneralizedLinear, GLM, {"loss": lambda: 0.0}),
        (P.GeneralizedLinear, GLM, {"loss": lambda h: h}),
        (P.GeneralizedLinear, GLM, {"loss": lambda label, h: (h - label) ** 2}),
        (P.GeneralizedLinear, GLM, {"loss": qn.Loss(lambda label: label)}),
        (P.GeneralizedLinear, GLM, {"loss": qn.Loss(lambda h, params: h[0, 0])}),
        (P.GeneralizedLinear, GLM, {"target": lambda: 0.0}),
        (P.GeneralizedLinear, GLM, {"target": lambda h: jnp.stack([h, h])}),
        (P.GeneralizedLinear, GLM, {"spectrum": qn.laws.single()}),
        (P.GeneralizedLinear, GLM, {"spectrum": "flat"}),
        (P.MixtureClassification, MIX, {"loss": lambda: 0.0}),
        (P.MixtureClassification, MIX, {"loss": "absolute"}),
        (P.MixtureClassification, MIX, {"law": "mixture"}),
        (P.MixtureClassification, MIX, {"loss": "softmax"}),
        (P.MixtureClassification, MIX, {"intercept": None}),
        (P.Committee, COM, {"units": 0}),
        (P.Committee, COM, {"target_units": 1.5}),
        (P.Committee, COM, {"activation": "step"}),
        (P.Committee, COM, {"noise": -1.0}),
        (P.Committee, COM, {"activation": lambda: 0.0}),
        (P.Committee, COM, {"activation": lambda h: 1.0}),
        (P.DenoisingAutoencoder, DAE, {"activation": lambda: 0.0}),
        (P.DenoisingAutoencoder, DAE, {"activation": "tanh"}),
        (P.PhaseRetrieval, SIA, {"noise": np.nan}),
        (P.Siamese, SIA, {"separation": -1.0}),
        (P.Siamese, SIA, {"positive": 1.0}),
        (P.Siamese, SIA, {"spectrum": [-1.0]}),
        (P.Siamese, SIA, {"spectrum": []}),
        (P.Siamese, SIA, {"spectrum": TWO}),
        (P.SequenceProblem, SEQ, {"law": None}),
        (P.SequenceProblem, SEQ, {"loss": "cross-entropy"}),
        (P.SequenceProblem, SEQ, {"loss": lambda h, weight: h[0, 0]}),
        (P.SequenceProblem, SEQ, {"loss": lambda label: label}),
        (P.SequenceProblem, SEQ, {"loss": lambda: 0.0}),
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
                                 dict(init={"p": 1.0}), dict(init={"q": "one"})])  # fmt: skip
def test_options_of_solve(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        P.GeneralizedLinear(**GLM).solve(**bad)


@pytest.mark.thorough
@pytest.mark.slow
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


NO_VALUES = "traced by JAX.*jnp.where"
UNFIT = [
    (lambda h, label: "0", "must return .*got str"),
    (lambda h, label: None, "must return .*got NoneType"),
    (lambda h, label: (h, label), "must return .*got tuple"),
    (lambda h, label: True, "must return .*got bool"),
    (lambda h, label: 1j, "must return .*got complex"),
    (lambda h, label: label if jnp.sum(h) > 0 else 0.0, NO_VALUES),
    (lambda h, label: np.exp(np.asarray(h)), NO_VALUES),
    (lambda h, label: float(jnp.sum(h)), NO_VALUES),
]


@pytest.mark.parametrize(("loss", "message"), UNFIT)
@pytest.mark.parametrize("use", [lambda p: p.solve(), lambda p: p.simulate(dim=20, seeds=1), lambda p: p.amp(dim=20)], ids=range(3))
def test_a_loss_that_is_none(loss, message, use):
    for problem in (P.SequenceProblem(**{**SEQ, "loss": loss}), P.GeneralizedLinear(**{**GLM, "loss": loss})):
        with pytest.raises(TypeError, match=f"loss {message}|loss is {message}"):
            use(problem)


@pytest.mark.parametrize(("problem", "good", "name"), [(P.GeneralizedLinear, GLM, "target"), (P.Committee, COM, "activation"),
                                                       (P.DenoisingAutoencoder, DAE, "activation")])  # fmt: skip
def test_a_function_that_is_none(problem, good, name):
    for fn, message in ((lambda h: h if jnp.all(h > 0) else 0.0 * h, NO_VALUES), (lambda h: h if h > 0 else 0.0 * h, NO_VALUES),
                        (lambda h: "0", "must return .*got str")):  # fmt: skip
        with pytest.raises(TypeError, match=f"{name}.*{message}"):
            problem(**{**good, name: fn})


@pytest.mark.parametrize(("problem", "good", "name"), [(P.GeneralizedLinear, GLM, "target"), (P.Committee, COM, "activation"),
                                                       (P.SequenceProblem, SEQ, "loss")])  # fmt: skip
def test_a_function_that_fails_by_itself(problem, good, name):
    with pytest.raises(ValueError, match=f"{name}.* could not be evaluated, ZeroDivisionError: division by zero") as caught:
        problem(**{**good, name: (lambda h, label: 1 / 0) if name == "loss" else lambda h: 1 / 0}).solve()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_an_observable_that_is_none():
    for fn, message in ((lambda h: None, "got NoneType"), (lambda h: 1.0 if h[0, 0] > 0 else 0.0, NO_VALUES)):
        problem = P.SequenceProblem(**SEQ, observables={"mine": fn})
        for use in (problem.solve, lambda problem=problem: problem.simulate(dim=20, seeds=1)):
            with pytest.raises(TypeError, match=f"observable.*{message}"):
                use()


GLM_, PHASE = P.GeneralizedLinear(**GLM), P.PhaseRetrieval(alpha=2.0, weight_decay=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("use", "known"),
    [
        (lambda: GLM_.solve(foo=1), "init, tol"),
        (lambda: GLM_.solve(quadature_tol=1), "did you mean 'quadrature_tol'"),
        (lambda: GLM_.simulate(dim=20, foo=1), "init, restarts"),
        (lambda: GLM_.simulate(dim=20, alpha=1.0), "init, restarts"),
        (lambda: GLM_.amp(dim=20, foo=1), "dim, seed, init"),
        (lambda: GLM_.evaluate(foo=1.0), "V, q, m, theta, Q"),
        (lambda: GLM_.gradient("test_error", "alpha", foo=1), "init, tol"),
        (lambda: GLM_.tune("alpha", "test_error", foo=1), "init, tol"),
        (lambda: GLM_.landscape("theta", [0.1, 0.2], foo=1), "tol, quadrature_tol"),
        (lambda: qn.sweep(GLM_, {"alpha": [1.0]}, foo=1), "init, tol"),
        (lambda: qn.sweep(GLM_, {"alpha": [1.0]}, simulate=dict(dim=20, foo=1)), "init, restarts"),
        (lambda: qn.find_transition(PHASE, foo=1), "init, tol"),
        (lambda: P.Attention(**ATT).solve(foo=1), "init, tol"),
        (lambda: P.Attention(**ATT).simulate(dim=20, foo=1), "init, optimiser"),
        (lambda: P.DenoisingAutoencoder(**DAE).simulate(dim=20, foo=1), "init, restarts"),
        (lambda: P.DenoisingAutoencoder(**DAE).evaluate(foo=1.0), "V, q, m, theta, Q"),
    ],
)
def test_unknown_arguments_are_named_and_the_known_ones_listed(use, known):
    with pytest.raises(TypeError, match=rf"takes .*{known}"):
        use()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("use", "name"),
    [
        (lambda: qn.sweep(P.GeneralizedLinear, {"alpha": [1.0]}), "problem"),
        (lambda: qn.sweep(GLM_, ["alpha"]), "over"),
        (lambda: qn.sweep(GLM_, {"alpha": [1.0]}, simulate=100), "simulate"),
        (lambda: qn.sweep(GLM_, {"alpha": [1.0]}, progress=1), "progress"),
        (lambda: GLM_.simulate(dim=20, progress=True), "progress"),
        (lambda: P.GeneralizedLinear("square", "linear", 1.0, 0.1).simulate(dim=20, init="warm"), "init"),
        (lambda: qn.find_transition(GLM), "problem"),
        (lambda: qn.find_transition(PHASE, init="informed"), "init"),
        (lambda: GLM_.gradient("test_error", ()), "wrt"),
        (lambda: GLM_.gradient("test_error", 3), "wrt"),
        (lambda: GLM_.tune("weight_decay", ["test_error"], points=3), "minimize"),
        (lambda: GLM_.landscape("theta", [0.1, 0.2], starts="uninformed"), "starts"),
        (lambda: GLM_.landscape("theta", [0.1, 0.2], direction=[[[0.0]]]), "direction"),
        (lambda: PHASE.branches("informed"), "starts"),
        (lambda: P.solve_many([GLM]), "problems"),
        (lambda: P.Attention(**ATT).solve("warm"), "init must be one of .*'semantic'"),
        (lambda: P.DenoisingAutoencoder(**DAE).solve("centroid-9"), "init must be one of .*'centroid-2'"),
    ],
)
def test_other_arguments(use, name):
    with pytest.raises(ValueError, match=name):
        use()


def test_a_law_for_a_spectrum_is_told_where_to_go():
    with pytest.raises(ValueError, match="SpectralLaw or None, got SpectralTokens .*SequenceProblem takes laws"):
        P.GeneralizedLinear(**GLM, spectrum=qn.laws.single())


def test_names_of_a_solution_as_of_a_dict():
    solution = GLM_.solve()
    assert tuple(solution) == solution.keys() and "test_error" in solution and "test_mse" not in solution and 3 not in solution
    assert dict(solution).keys() == {*solution.observables, *solution.order_parameters}
    with pytest.raises(KeyError, match="'test_mse' is not among .*test_error"):
        solution["test_mse"]


@pytest.mark.thorough
@pytest.mark.slow
def test_a_loss_that_is_not_a_number():
    problem = P.SequenceProblem(**{**SEQ, "loss": lambda h, label: jnp.log(-1.0 - h[0, 0] ** 2)})
    with pytest.raises(P.SolveError, match="not finite"):
        problem.solve()


@pytest.mark.thorough
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


def test_sizes_that_no_memory_holds_are_refused():
    law = qn.laws.mixture([0.5, 0.5], gram=[[4.0, -4.0], [-4.0, 4.0]], covariances=[1.0, 1.0])
    for make in (
        lambda units: P.Committee(units, 2, "erf", alpha=1.0, weight_decay=0.1),
        lambda units: P.OnlineDiffusion(law, units=units, training_time=1.0),
        lambda units: P.DenoisingAutoencoder(law, alpha=1.0, noise=0.1, weight_decay=0.1, units=units),
        lambda units: qn.SequenceProblem(law, lambda h: (h**2).sum(), 1.0, 0.1, units=units),
    ):
        with pytest.raises(ValueError, match="units must be a whole number from 1 to 1000, got 1000000"):
            make(10**30)
    with pytest.raises(ValueError, match="activations must be a name or a function, or one for each of the 1 layers, got 1e"):
        P.BayesOptimalDeep((1.0,), 1e300, "regression", 1.0)
