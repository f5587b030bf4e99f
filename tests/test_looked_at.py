"""What is told of a user's functions by looking at them: jumps, envelopes; and that no look is taken for another."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

import quenched as qn


def _distance(h, target, params):
    return jnp.abs(h[0, 0] - params["a"] * jnp.sign(target[0, 0]))


@pytest.mark.slow
def test_a_number_of_an_observable_is_looked_at_again():
    """At a = 0 the observable is continuous in the target, at a = 1 it jumps: the order of the points does not matter."""
    problem = qn.SequenceProblem(
        qn.laws.single(), "square", alpha=2.0, weight_decay=0.1, params={"a": 1.0}, response=qn.losses.Additive(0.1),
        observables={"distance": _distance},
    )  # fmt: skip
    first = problem.replace(a=0.0).solve()
    solution = problem.solve()
    rng = np.random.default_rng(0)
    q, theta = solution["q"].item(), solution["theta"].item()
    target = rng.standard_normal(2_000_000)
    h = theta * target + np.sqrt(q - theta**2) * rng.standard_normal(target.size)
    assert solution["distance"] == pytest.approx(np.mean(np.abs(h - np.sign(target))), abs=2e-3)
    assert first["distance"] == pytest.approx(np.sqrt(2.0 * q / np.pi), rel=3e-3)  # a kink in h, beside a target: 0.17%


def test_observables_of_the_outcome_and_the_target():
    """Without noise the probability of an outcome is a step in the target."""
    solution = qn.problems.GeneralizedLinear("logistic", "sign", alpha=2.0, weight_decay=0.1).solve()
    assert solution.average(lambda label, target: label * target[0, 0]) == pytest.approx(np.sqrt(2.0 / np.pi), rel=1e-9)

    def margin(h, label, target):
        return jnp.maximum(0.0, 1.0 - label * h[0, 0]) * jnp.abs(target[0, 0])

    rng = np.random.default_rng(0)
    target, q, theta = rng.standard_normal(2_000_000), float(solution["q"]), float(solution["theta"])
    h = theta * target + np.sqrt(q - theta**2) * rng.standard_normal(target.size)
    drawn = np.maximum(0.0, 1.0 - np.sign(target) * h) * np.abs(target)
    assert solution.average(margin) == pytest.approx(drawn.mean(), abs=4 * drawn.std() / np.sqrt(drawn.size))


def _envelope(factor, shift=0.0):
    def moreau(w, V, label):
        return (w - label) ** 2 / (2.0 * (1.0 + factor * V)), (w + V * label) / (1.0 + V) + shift

    return qn.Loss(lambda h, label: 0.5 * (h - label) ** 2, convex=True, scalar=True, moreau=moreau)


def test_an_envelope_of_another_loss_is_refused():
    right = qn.problems.GeneralizedLinear(_envelope(1.0), "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve()
    square = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve()
    assert right["test_mse"] == pytest.approx(float(square["test_mse"]), rel=1e-9)
    for wrong in (_envelope(2.0), _envelope(1.0, shift=0.1)):
        with pytest.raises(ValueError, match="moreau must return the least value over h .* got others at omega = "):
            qn.problems.GeneralizedLinear(wrong, "linear", alpha=2.0, weight_decay=0.1).solve()


@pytest.mark.slow
def test_a_link_is_no_polynomial():
    """Three nodes an axis are exact for a quadratic loss of normal variables, and wrong for an outcome that is a link of them."""

    def problem(quadratic):
        loss = qn.Loss(lambda h, label: 0.5 * (jnp.mean(h[:, 0]) - label) ** 2, convex=True, quadratic=quadratic)
        law = qn.laws.sequence([1.0], cov=np.ones((1, 4, 1)), targets=1)
        link = qn.losses.Link(lambda target: jnp.tanh(jnp.sum(target[:, 0])), 0.1)
        return qn.SequenceProblem(law, loss, alpha=2.0, weight_decay=0.1, response=link)

    assert problem(True).solve()["q"].item() == pytest.approx(problem(False).solve()["q"].item(), rel=1e-9)


def test_averages_know_their_own_quadrature_error():
    """Beside the certificate of the overlaps: smooth functions have none to speak of, kinks in two variables do."""
    from scipy import integrate

    problem = qn.problems.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1)
    ridge = problem.solve()
    assert ridge.average_error(lambda h, target: (h[0, 0] * target[0, 0]) ** 2) < 1e-9  # what lies beyond the last node
    assert ridge.average_error("test_mse") < 1e-9
    q, theta = float(ridge["q"]), float(ridge["theta"])

    def kinked(h, target):
        return jnp.maximum(0.0, 1.0 - h[0, 0] * target[0, 0])

    def given_target(t):  # h given the target is normal, and the average of a hinge a closed form
        mean, scale = 1.0 - theta * t * t, abs(t) * np.sqrt(q - theta**2)
        return mean * norm.cdf(mean / scale) + scale * norm.pdf(mean / scale)

    exact = 2.0 * integrate.quad(lambda t: norm.pdf(t) * given_target(t), 1e-12, 9.0, epsabs=1e-12)[0]
    away, error = abs(float(ridge.average(kinked)) - exact), float(ridge.average_error(kinked))
    assert away > 1e-6 and 0.1 * away < error < 10.0 * away
    training = ridge.average_error(lambda h, label: (h[0, 0] - label) ** 2, training=True)
    assert training < 1e-10
    # more jumps than are looked for
    often = {"often": lambda h: jnp.sin(20.0 * h[0, 0] + 1.0) > 0.5}
    found, told = ridge.average(often)["often"], ridge.average_error(often)["often"]
    grid = np.linspace(-9.0, 9.0, 2_000_001) * np.sqrt(q)
    true = np.sum(norm.pdf(grid / np.sqrt(q)) * (np.sin(20.0 * grid + 1.0) > 0.5)) * (grid[1] - grid[0]) / np.sqrt(q)
    assert abs(found - true) > 1e-3 and abs(told - abs(found - true)) < 5e-4
    with pytest.raises(ValueError, match="of must be one of 'test_mse'"):
        ridge.average_error("train_loss")
