"""The registry of names covers what problems have and what they report, and its labels can be typeset."""

import inspect

import matplotlib.pyplot as plt
import pytest

import quenched as qn
from quenched import names


@pytest.mark.parametrize("name", names.NAMES)
def test_every_label_can_be_typeset(name):
    figure, ax = plt.subplots()
    ax.set_xlabel(names.label(name))
    ax.set_ylabel(names.symbol(name))
    figure.canvas.draw()
    plt.close(figure)


def test_numbers_of_every_problem_are_registered():
    classes = [getattr(qn.problems, name) for name in qn.problems.__all__]
    problems = [c for c in classes if isinstance(c, type) and issubclass(c, qn.problems.Problem)]
    numbers = {p for c in problems for p in inspect.signature(c).parameters}
    objects = {"args", "kwargs", "loss", "law", "target", "spectrum", "intercept", "params", "scalars", "response"}
    objects |= {"observables", "freeze", "activation"}
    assert numbers - objects <= set(names.NAMES)


def test_what_a_solution_reports_is_registered():
    solution = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve()
    assert set(solution.observables) | set(solution.order_parameters) <= set(names.NAMES)
    assert all(hasattr(solution, name) for name in ("residual", "quadrature_error", "replicon"))


def test_symbol_drops_the_explanation_only():
    assert names.symbol("alpha") == r"$\alpha$"
    assert names.symbol("width_ratio") == r"$p/d$"
    assert names.symbol("test_error") == "test error"
