"""Losses: proximal operators and Moreau envelopes against brute force, their derivatives, and the laws of outcomes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from scipy import optimize

import quenched as qn
from quenched.losses import NAMED, Additive, Finite, Flip, Loss, Probit, Sign, as_loss, softmax
from quenched.losses.envelope import moreau, prox

pytestmark = pytest.mark.usefixtures("x64")

OMEGA = [-40.0, -3.0, -0.4, 0.0, 0.7, 2.0, 55.0]
SUSCEPTIBILITY = [1e-3, 0.1, 1.0, 7.0, 300.0, 1e4]
LABELS = {"square": [-1.3, 2.4], "huber": [-1.3, 2.4], "absolute": [-1.3, 2.4], "logistic": [-1.0, 1.0], "hinge": [-1.0, 1.0]}
PLAIN = {  # the named losses, written again
    "square": lambda h, y: 0.5 * (h - y) ** 2,
    "huber": lambda h, y: 0.5 * (h - y) ** 2 if abs(h - y) < 1 else abs(h - y) - 0.5,
    "absolute": lambda h, y: abs(h - y),
    "logistic": lambda h, y: np.logaddexp(0.0, -y * h),
    "hinge": lambda h, y: max(0.0, 1.0 - y * h),
}


def on_table(fn, *columns):
    """``fn`` mapped over all combinations: the combinations (N, columns) and the results."""
    table = np.array(list(itertools.product(*columns)))
    return table, jax.tree.map(np.asarray, jax.jit(jax.vmap(fn))(*table.T))


def scalar(loss):
    """Envelope and proximal operator of a loss of one number, as functions of numbers (omega, V, label)."""

    def both(omega, V, label):
        args = loss, jnp.reshape(omega, (1, 1)), jnp.reshape(V, (1, 1, 1)), {"label": label}
        return moreau(*args), prox(*args)[0, 0]

    return both


def brute_force(objective, low, high, points=4001):
    """The global minimum of a function of one number: a grid, then a bounded search around its best point."""
    grid = np.linspace(low, high, points)
    best = int(np.argmin([objective(h) for h in grid]))
    ends = grid[max(best - 1, 0)], grid[min(best + 1, points - 1)]
    found = optimize.minimize_scalar(objective, bounds=ends, method="bounded", options={"xatol": 1e-13 * max(1.0, abs(grid[best]))})
    return min((found.fun, found.x), (objective(grid[best]), grid[best]))


@pytest.mark.parametrize("name", NAMED)
def test_named_losses_against_brute_force(name):
    table, (value, h) = on_table(scalar(as_loss(name)), OMEGA, SUSCEPTIBILITY, LABELS[name])
    for (omega, V, y), found, at in zip(table, value, h, strict=True):

        def objective(x, omega=omega, V=V, y=y):
            return 0.5 * (x - omega) ** 2 / V + PLAIN[name](x, y)

        reach = abs(omega - y) + 2.0  # of the minimiser: it lies between omega and where the loss is smallest
        low, _ = brute_force(objective, omega - reach - min(V, 60.0), omega + reach + min(V, 60.0))
        assert found <= low + 1e-10 * (1.0 + abs(low)), (omega, V, y)
        assert objective(at) == pytest.approx(found, rel=1e-11, abs=1e-13), (omega, V, y)


def test_the_logistic_prox_to_the_last_digits():
    """The root of x = u + V sigmoid(-x), bracketed in extended precision: plain Newton cycles beyond V = 4."""
    V, omega = np.geomspace(1e-3, 1e4, 57), np.concatenate([-np.geomspace(1e-2, 3e4, 31), [0.0], np.geomspace(1e-2, 3e4, 31)])
    table, (_, h) = on_table(scalar(as_loss("logistic")), omega, V, [-1.0, 1.0])
    omega, V, y = np.asarray(table.T, dtype=np.longdouble)
    low, high = y * omega, y * omega + V
    for _ in range(140):
        x = 0.5 * (low + high)
        below = x < y * omega + V * np.exp(-np.logaddexp(0.0, x))
        low, high = np.where(below, x, low), np.where(below, high, x)
    np.testing.assert_allclose(y * h, np.asarray(low, dtype=float), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", NAMED)
def test_no_susceptibility(name):
    """V = 0: the envelope is the loss, h = omega, and all derivatives are those of the loss."""
    loss = as_loss(name)
    table, (value, h) = on_table(scalar(loss), OMEGA, [0.0], LABELS[name])
    np.testing.assert_array_equal(h, table[:, 0])
    np.testing.assert_allclose(value, [PLAIN[name](omega, y) for omega, _, y in table], rtol=1e-14, atol=1e-15)
    _, (d_omega, d_V) = on_table(jax.grad(lambda *a: scalar(loss)(*a)[0], argnums=(0, 1)), OMEGA, [0.0], LABELS[name])
    slope = [(PLAIN[name](w + 1e-6, y) - PLAIN[name](w - 1e-6, y)) / 2e-6 for w, _, y in table]
    np.testing.assert_allclose(d_omega, slope, atol=1e-8)
    np.testing.assert_allclose(d_V, -0.5 * np.square(slope), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("name", NAMED)
def test_far_away_nothing_overflows(name):
    both = jax.value_and_grad(lambda *a: scalar(as_loss(name))(*a)[0], argnums=(0, 1))
    _, results = on_table(both, [-1e8, -1e4, 1e4, 1e8], [1e-8, 1.0, 1e8], LABELS[name])
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(results))


def test_softmax_against_brute_force():
    """Four classes, correlated susceptibilities; two of them large; a common shift of all units is never seen."""
    rng = np.random.default_rng(3)
    both = jax.jit(lambda omega, V, label: (jax.value_and_grad(moreau, argnums=1)(softmax, omega, V, {"label": label}),
                                            prox(softmax, omega, V, {"label": label})))  # fmt: skip
    for scale in (0.1, 2.0, 50.0):
        root = rng.standard_normal((4, 4)) * scale**0.5
        V, omega = root @ root.T, 3.0 * rng.standard_normal((1, 4))

        def objective(u, label, root=root, omega=omega):
            h = omega[0] + root @ u
            return 0.5 * u @ u + np.logaddexp.reduce(h) - h[label]

        for label in range(4):
            (value, minus_f), h = both(omega, V[None], label)
            found = optimize.minimize(objective, np.zeros(4), args=(label,), tol=1e-12)
            assert float(value) == pytest.approx(found.fun, rel=1e-9)
            np.testing.assert_allclose(h[0], omega[0] + root @ found.x, atol=1e-4 * scale)
            assert abs(minus_f.sum()) < 1e-12
    (far, _), _ = both(1e5 * np.ones((1, 4)), 1e4 * np.eye(4)[None], 2)
    assert 0.0 < far < np.log(4.0)


def everything(h, gram, target, label, noise, scalars, params):
    """A loss of two tokens and two units that reads all arguments, convex enough for one minimum at moderate V."""
    s = jnp.tanh(h @ jnp.array([[1.0, 0.3], [-0.2, 0.8]]))
    fit = jnp.sum(s, axis=1) - target[:, 0] - label["y"] * scalars["b"] - 0.3 * noise
    return 0.5 * fit @ fit + params["a"] * jnp.sum(s @ gram * s) + 0.1 * jnp.sum(h**2) + 0.05 * jnp.sin(h[0, 0] * h[1, 1])


POINT = dict(
    omega=np.array([[0.3, -0.8], [1.1, 0.4]]),
    V=np.array([[[0.5, 0.2], [0.2, 0.4]], [[0.9, -0.3], [-0.3, 0.6]]]),
    extra=dict(
        gram=np.array([[1.0, 0.2], [0.2, 0.7]]), target=np.array([[0.4], [-0.6]]), label={"y": np.array([0.5, -1.0])},
        noise=np.array(0.7), scalars={"b": np.array(0.3)}, params={"a": np.array(0.2)},
    ),
)  # fmt: skip


def at(fn, point):
    """An envelope or proximal operator of the loss above at a point like POINT."""
    return fn(Loss(everything), point["omega"], point["V"], point["extra"])


@pytest.mark.thorough
@pytest.mark.slow
def test_derivatives_of_the_envelope():
    """Two tokens, two units: first and second derivatives in all arguments, against central differences and identities."""
    flat, build = ravel_pytree(POINT)

    def first(x):
        value, slope = jax.value_and_grad(lambda x: at(moreau, build(x)))(x)
        return slope, value

    slope, value = jax.jit(jax.vmap(first))(np.concatenate([flat[None], *(flat + s * np.eye(flat.size) for s in (1e-5, -1e-5))]))
    second = jax.jit(lambda x: jax.jacfwd(first, has_aux=True)(x)[0])(flat)

    def difference(a):
        return (a[1 : flat.size + 1] - a[flat.size + 1 :]) / 2e-5

    np.testing.assert_allclose(slope[0], difference(value), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(second, difference(slope), rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(second, second.T, atol=1e-12)
    h = jax.jit(lambda p: at(prox, p))(POINT)
    minus_f, direct = jax.grad(lambda h, e: everything(h, **e), argnums=(0, 1))(h, POINT["extra"])
    slopes = build(slope[0])
    np.testing.assert_allclose(h - POINT["omega"], -np.einsum("lab,lb->la", POINT["V"], minus_f), atol=1e-13)
    np.testing.assert_allclose(slopes["omega"], minus_f, atol=1e-13)
    np.testing.assert_allclose(slopes["V"], -0.5 * np.einsum("la,lb->lab", minus_f, minus_f), atol=1e-13)
    np.testing.assert_allclose(*(ravel_pytree(t)[0] for t in (slopes["extra"], direct)), atol=1e-13)


def test_a_singular_susceptibility_moves_h_in_its_range_only():
    point = {**POINT, "V": np.array([[[1.0, 1.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 2.0]]])}
    h, slopes = jax.jit(lambda p: (at(prox, p), jax.grad(lambda p: at(moreau, p))(p)))(point)
    step = np.asarray(h - point["omega"])
    assert step[0, 0] == pytest.approx(step[0, 1], abs=1e-13) and abs(step[0, 0]) > 1e-2
    assert abs(step[1, 0]) < 1e-13 < abs(step[1, 1])
    minus_f = jax.grad(lambda h: everything(h, **point["extra"]))(h)
    np.testing.assert_allclose(slopes["V"], -0.5 * np.einsum("la,lb->lab", minus_f, minus_f), atol=1e-12)


WELLS = [  # a double well; the lower well far from the start; ripples; phase retrieval
    lambda h: 0.5 * (h**2 - 4.0) ** 2 - 0.6 * h,
    lambda h: -6.0 * jnp.exp(-((h - 6.0) ** 2)) - jnp.exp(-0.5 * h**2),
    lambda h: 0.3 * h**2 + 2.0 * jnp.cos(2.0 * h),
    lambda h: 0.25 * (h**2 - 9.0) ** 2,
]


def test_the_global_minimum_of_one_number():
    """Losses with several wells: the envelope is the lowest of all, wherever omega lies."""
    loss = Loss(lambda h, label: jnp.stack([well(h) for well in WELLS])[label.astype(int)], scalar=True)
    table, (value, _) = on_table(scalar(loss), np.linspace(-5.3, 7.1, 32), [0.3, 2.0, 20.0], np.arange(4.0))
    grid = np.linspace(-12.0, 12.0, 24001)
    wells = [np.asarray(well(grid)) for well in WELLS]
    lowest = np.array([np.min(0.5 * (grid - omega) ** 2 / V + wells[int(which)]) for omega, V, which in table])
    assert np.all(value <= lowest + 1e-9), np.column_stack([table, value - lowest])[value > lowest + 1e-9]
    assert np.all(value >= lowest - 1e-4)


def test_the_global_minimum_of_a_pair():
    """The siamese loss log(1 + exp(-y h1 h2)): two sign-related wells, near omega_1 = omega_2 one jumps to the other."""
    loss = Loss(lambda h, label: jax.nn.softplus(-label * h[0, 0] * h[1, 0]), convex=False)

    def envelope(a, b, V, label):
        return moreau(loss, jnp.stack([a, b])[:, None], V * jnp.ones((2, 1, 1)), {"label": label})

    omega = [-2.5, -0.6, -0.05, 0.0, 0.02, 0.9, 3.0]
    table, value = on_table(envelope, omega, omega, [0.4, 3.6, 20.0], [-1.0, 1.0])
    axis = np.linspace(-8.0, 8.0, 481)
    first, second = np.meshgrid(axis, axis, indexing="ij")
    on_grid = {label: np.logaddexp(0.0, -label * first * second) for label in (-1.0, 1.0)}
    for (a, b, V, label), found in zip(table, value, strict=True):
        lowest = np.min(0.5 * ((first - a) ** 2 + (second - b) ** 2) / V + on_grid[label])
        assert lowest - 3e-3 <= found <= lowest + 1e-9, (a, b, V, label, found, lowest)


def rotation_invariant(h, label):
    return jnp.log1p(jnp.sum(h**2)) + 0.3 * (jnp.sum(h[0] * h[1]) - label) ** 2


rotatable = jax.jit(lambda omega, V, label: moreau(Loss(rotation_invariant), omega, V, {"label": label}))


@settings(max_examples=100, deadline=None)
@given(
    angle=st.floats(0.0, 6.3), omega=st.lists(st.floats(-2.0, 2.0), min_size=4, max_size=4),
    root=st.lists(st.floats(-1.0, 1.0), min_size=8, max_size=8), label=st.floats(-1.0, 1.0),
)  # fmt: skip
def test_a_rotation_of_the_units_rotates_the_prox(angle, omega, root, label):
    """For a loss that no rotation of the hidden units changes, M(O omega, O V O^T) = M(omega, V)."""
    O = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # noqa: E741
    omega, root = np.reshape(omega, (2, 2)), np.reshape(root, (2, 2, 2))
    V = np.einsum("lab,lcb->lac", root, root) + 0.05 * np.eye(2)
    value, rotated = rotatable(omega, V, label), rotatable(omega @ O.T, O @ V @ O.T, label)
    assert float(value) == pytest.approx(float(rotated), rel=1e-9, abs=1e-9)


def thirds(y, mean, cov):
    """P(y) of three outcomes, from two thresholds at -1/2 and 1/2 on a target seen through unit noise."""
    from jax.scipy.special import ndtr

    scale = jnp.sqrt(1.0 + cov[0, 0, 0])
    low, high = ndtr((-0.5 - mean[0, 0]) / scale), ndtr((0.5 - mean[0, 0]) / scale)
    return jnp.where(y == 0, low, jnp.where(y == 1, high - low, 1.0 - high))


@pytest.mark.parametrize(
    "response",
    [Sign(0.0), Sign(0.4), Probit(0.0), Probit(0.7), Flip(0.0), Flip(0.2), Finite(np.array([0, 1, 2]), thirds)],
    ids=lambda r: f"{type(r).__name__}",
)
@pytest.mark.parametrize(("mean", "variance"), [(0.3, 0.0), (-0.6, 0.5), (0.0, 2.0), (8.0, 0.1)])
def test_outcomes_are_drawn_as_often_as_theory_says(response, mean, variance):
    probability = np.array(
        [float(response.probability(y, np.array([[mean]]), np.array([[[variance]]]))) for y in response.outcomes]
    )
    assert np.all(probability >= 0.0) and probability.sum() == pytest.approx(1.0, abs=1e-14)
    rng, n = np.random.default_rng(5), 40_000
    target = mean + np.sqrt(variance) * rng.standard_normal((n, 1, 1))
    drawn = np.asarray(response.draw(rng, target))
    assert drawn.shape == (n,)
    frequency = np.array([np.mean(drawn == y) for y in response.outcomes])
    assert frequency.sum() == 1.0
    assert np.all(np.abs(frequency - probability) <= 4.5 * np.sqrt(probability * (1.0 - probability) / n) + 1e-12)


def test_additive_outcomes():
    target = np.linspace(-1.0, 1.0, 60_000).reshape(-1, 2, 1)
    drawn = Additive(0.3).draw(np.random.default_rng(1), target) - target
    assert abs(drawn.mean()) < 5 * np.sqrt(0.3 / drawn.size)
    assert abs(drawn.var() - 0.3) < 5 * 0.3 * np.sqrt(2 / drawn.size)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Sign(-0.1), "noise"),
        (lambda: Additive(np.nan), "noise"),
        (lambda: Flip(0.6), "probability_of_flip"),
        (lambda: Finite([1.0], thirds), "values"),
        (lambda: as_loss("logit"), "loss"),
        (lambda: as_loss(3.0), "loss"),
        (lambda: as_loss(lambda h, lable: 0.0), "lable"),
        (lambda: as_loss(lambda label: 0.0), "'h'"),
    ],
)
def test_refusals(make, name):
    with pytest.raises(ValueError, match=name):
        make()


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (lambda y, mean, cov: 0.4 + 0.0 * mean[0, 0], "rule must give non-negative probabilities that sum to one"),
        (lambda y, mean, cov: 0.5 + y * mean[0, 0], "rule must give non-negative probabilities"),
        (lambda y, mean, cov: 0.5 * jnp.ones(2), r"rule must return one number, got the shape \(2,\)"),
        (lambda y, mean, cov: jax.nn.sigmoid(4.0 * y * mean[0, 0]), "rule must return P.y. for a Gaussian .* in place of about"),
    ],
)
def test_a_rule_for_outcomes_is_checked_before_it_is_used(rule, sentence):
    """The last one forgets the covariance, and the theory would be that of another experiment."""
    problem = qn.SequenceProblem(qn.laws.single(), "logistic", 2.0, 0.1, response=Finite([-1.0, 1.0], rule))
    with pytest.raises(ValueError, match=sentence):
        problem.solve()
    smooth = qn.SequenceProblem(qn.laws.single(), "logistic", 2.0, 0.1, response=Finite([0, 1, 2], thirds))
    assert smooth.model.response is smooth.response
