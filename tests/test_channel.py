"""The channel and the saddle point against formulas written out again: explicit conjugates, stationarity, symmetries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import roots_hermitenorm

import quenched as qn
from quenched.laws.base import Conjugates, Overlaps
from quenched.limit.channel import channel, conjugates, jacobian_moments
from quenched.limit.model import as_numbers
from quenched.limit.quadratures import scheme
from quenched.limit.saddle import Unknowns, energy
from quenched.limit.solve import starting_point

P = qn.problems


# ---- the conjugates, written out -------------------------------------------------------------------------------------
# H. Cui (2024), arXiv:2409.13904, explicit formulas for two tokens, two units, one target read by the first token, three labels
# with means and covariances of their own, and a loss that depends on the Gram matrix. Nothing of the engine is used but its law.


def mild(h, gram, target, label):
    """Smooth and moderately non-quadratic, so that tensor rules of ten points an axis are exact to many digits."""
    s = jnp.tanh(0.6 * h @ jnp.array([[1.0, 0.3], [-0.2, 0.8]]))
    gap = jnp.sum(s, axis=1) - jnp.array([1.0, 0.5]) * target[0, 0] - label
    return 0.5 * gap @ gap + 0.15 * jnp.sum(s @ gram * s) + 0.1 * jnp.sum(h[0] * h[1])


# Two covariances, two means and a target that lives where the second covariance vanishes: the second token does not see it.
LAW = qn.laws.SpectralTokens(
    qn.laws.SpectralLaw([0.4, 0.6], [[1.0, 0.0], [0.5, 0.8]], directions=[[0.8, -0.3, 1.0], [0.2, 0.9, 0.0]]),
    prob=[0.5, 0.2, 0.3],
    mean=[[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.5], [0.0, 1.0]], [[0.0, 0.0], [1.0, -1.0]]],
    cov=[[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.0, 1.0]], [[1.0, 0.3], [0.0, 0.6]]],
    value=[[0.3, -0.2], [1.0, 0.4], [-0.5, 0.1]],
)  # fmt: skip
ALPHA = 1.7


def overlaps():
    """Overlaps in general position."""
    return Overlaps(
        V=np.array([[[0.5, 0.1], [0.1, 0.4]], [[0.3, -0.05], [-0.05, 0.35]]]),
        q=np.array([[[0.40, 0.10], [0.10, 0.30]], [[0.25, -0.05], [-0.05, 0.35]]]),
        m=np.array([[0.3, -0.2], [0.1, 0.4]]),
        theta=np.array([[[0.25], [0.15]], [[0.0], [0.0]]]),
        Q=np.array([[0.5, 0.12], [0.12, 0.45]]),
    )


def problem():
    return qn.SequenceProblem(LAW, qn.Loss(mild, convex=True), ALPHA, 0.1, units=2)


def tensor(dimension, n):
    x, w = roots_hermitenorm(n)
    w = w / w.sum()
    nodes = np.stack(np.meshgrid(*[x] * dimension, indexing="ij"), -1).reshape(-1, dimension)
    return nodes, functools.reduce(np.multiply.outer, [w] * dimension).reshape(-1)


@functools.partial(jax.jit, static_argnums=0)
def newton_prox(steps, omega, V, gram, target, label):
    """All nodes at once: plain Newton on the stationarity condition h = omega - V grad loss(h)."""
    inverse = jnp.linalg.inv(V)

    def one(omega, target):
        def objective(h):
            return 0.5 * jnp.einsum("la,lab,lb->", h - omega, inverse, h - omega) + mild(h, gram, target, label)

        h = omega
        for _ in range(steps):
            step = jnp.linalg.solve(jax.hessian(objective)(h).reshape(4, 4), jax.grad(objective)(h).reshape(4))
            h = h - step.reshape(2, 2)
        H = jax.hessian(mild)(h, gram, target, label)
        cross = jax.jacfwd(jax.grad(mild), argnums=2)(h, gram, target, label)
        return h, -jax.grad(mild)(h, gram, target, label), H, cross, jax.grad(mild, argnums=1)(h, gram, target, label)

    return jax.lax.map(lambda a: one(*a), (omega, target), batch_size=2048)


def explicit(o, n):
    """All conjugates by the explicit formulas: V_hat from the Hessian and by integration by parts."""
    rho, m_star = (np.asarray(a) for a in LAW.targets())
    everything = []
    out = {k: np.zeros(s) for k, s in dict(q=(2, 2, 2), V=(2, 2, 2), stein=(2, 2, 2), m=(2, 2), theta=(2, 2, 1), zeta=(2, 2, 1),
                                           Q=(2, 2)).items()}  # fmt: skip
    for prob, mean, cov, label in zip(LAW.prob, LAW.mean, LAW.cov, LAW.value, strict=True):
        q, V, theta, var = (np.tensordot(cov, a, 1) for a in (o.q, o.V, o.theta, rho))
        root = np.linalg.cholesky(q)
        S = var - np.einsum("lrt,lrs,lsu->ltu", theta, np.linalg.inv(q), theta)
        x, w = tensor(5, n)
        xi, zeta = x[:, :4].reshape(-1, 2, 2), x[:, 4:]
        omega = mean @ o.m + np.einsum("lab,nlb->nla", root, xi)
        slope = np.einsum("lrt,lrs->lts", theta, np.linalg.inv(q))
        drift = np.einsum("lts,nls->nlt", slope, omega - mean @ o.m)
        target = mean @ m_star + drift + np.sqrt(np.maximum(S[:, 0], 0.0)) * zeta[:, None]
        h, f, H, cross, d_gram = (np.asarray(a) for a in newton_prox(8, omega, V, o.Q, target, label))
        wide = np.zeros((4, 4))
        wide[:2, :2], wide[2:, 2:] = V
        H = H.reshape(-1, 4, 4)
        J = -H @ np.linalg.inv(np.eye(4) + wide @ H)
        d_target = -np.linalg.inv(np.eye(4) + H @ wide) @ cross.reshape(-1, 4, 2)
        for token in range(2):
            at = slice(2 * token, 2 * token + 2)
            each = {
                "q": np.einsum("n,na,nb->ab", w, f[:, token], f[:, token]),
                "V": -np.einsum("n,nab->ab", w, J[:, at, at]),
                "theta": np.einsum("n,na->a", w, d_target[:, at, token])[:, None],
                "zeta": np.einsum("n,na,nt->at", w, f[:, token], zeta) / np.sqrt(S[token]) if token == 0 else np.zeros((2, 1)),
            }
            each["stein"] = (
                -np.einsum("n,na,nb->ab", w, f[:, token], xi[:, token]) @ np.linalg.inv(root[token])
                + each["theta"] @ theta[token].T @ np.linalg.inv(q[token])
            )
            for name, value in each.items():
                out[name] += ALPHA * prob * cov[token][:, None, None] * value
            out["m"] += ALPHA * prob * mean[token][:, None] * (w @ f[:, token])
        out["Q"] += 2.0 * ALPHA * prob * np.einsum("n,nab->ab", w, d_gram)
        everything.append((prob, cov, w, J.reshape(-1, 2, 2, 2, 2)))

    def replicon(direction):
        terms = (np.einsum("lp,n,nlamb,mbd,nlcmd->pac", cov, prob * w, J, np.tensordot(cov, direction, 1), J)
                 for prob, cov, w, J in everything)  # fmt: skip
        return ALPHA * sum(terms)

    symmetric = {k: 0.5 * (out[k] + np.swapaxes(out[k], -1, -2)) for k in ("q", "V", "stein", "Q")}
    return {**out, **symmetric, "replicon": replicon}


@pytest.fixture(scope="module")
def formulas():
    with jax.enable_x64(True):
        return explicit(overlaps(), 8)


@pytest.fixture(scope="module")
def engine():
    """The engine's conjugates and second moments at the same overlaps, by a rule of the same order."""
    with jax.enable_x64(True):
        model = as_numbers(problem().model)
        assert model.reads == (True, False) and scheme(model).dimension == 5
        run = jax.jit(lambda m, o, r: (conjugates(m, o, {}, r).conjugates, jacobian_moments(m, o, {}, r)))
        return jax.tree.map(np.asarray, run(model, overlaps(), tensor(5, 8)))


def test_conjugates_against_the_explicit_formulas(formulas, engine):
    """Gradients of the average envelope; V_hat is the one by integration by parts, with its term from the target."""
    hats, moments = engine
    for name, value in (("q", hats.q_hat), ("V", hats.V_hat), ("stein", hats.V_hat), ("V", moments.price), ("m", hats.m_hat),
                        ("theta", hats.theta_hat), ("zeta", hats.theta_hat), ("Q", hats.Q_hat)):  # fmt: skip
        np.testing.assert_allclose(value, formulas[name], atol=1e-5, err_msg=name)  # 8 points an axis: right to 7e-6


def test_the_replicon_against_its_formula(formulas, engine):
    """delta q_hat = alpha sum E[J_ll' delta q J_ll'^T], off-diagonal token blocks included."""
    direction = np.array([[[0.3, 0.1], [0.1, -0.2]], [[0.5, -0.4], [-0.4, 0.1]]])
    found = np.einsum("pacqbd,qbd->pac", engine[1].pair, direction)
    np.testing.assert_allclose(found, formulas["replicon"](direction), atol=1e-5)


@pytest.mark.slow
def test_conjugates_are_derivatives_of_the_average_envelope(x64):
    """Central differences of C in every overlap (two units, two tokens, a target): of any rule in V, m and Q; in q and theta up to
    the error of the rule, since nodes may turn with the root that they are made by."""
    model, rule, o = as_numbers(problem().model), tensor(5, 6), overlaps()
    value = jax.jit(lambda o: channel(model, o, {}, rule))
    hats = jax.tree.map(np.asarray, jax.jit(lambda o: conjugates(model, o, {}, rule).conjugates)(o))
    rng = np.random.default_rng(2)
    pairs = {"V": (hats.q_hat, -0.5), "q": (hats.V_hat, 0.5), "m": (hats.m_hat, -1.0), "theta": (hats.theta_hat, -1.0),
             "Q": (hats.Q_hat, 0.5)}  # fmt: skip
    for name, (hat, factor) in pairs.items():
        step = rng.standard_normal(hat.shape)
        if name in "VqQ":
            step = step + np.swapaxes(step, -1, -2)
        if name == "theta":
            step[1] = 0.0  # the second token sees no target
        high, low = (value(o._replace(**{name: getattr(o, name) + s * step})) for s in (1e-5, -1e-5))
        rtol = 1e-4 if name in ("q", "theta") else 1e-7
        assert float(high - low) / 2e-5 == pytest.approx(factor / ALPHA * float(np.sum(hat * step)), rel=rtol), name


# ---- the saddle point ------------------------------------------------------------------------------------------------

R3 = qn.laws.SpectralLaw([0.5, 0.3, 0.2], [[0.3], [1.0], [3.0]], directions=[[1.0], [1.0], [0.5]])
CLUSTERS = qn.laws.mixture([0.4, 0.6], gram=[[1.5, -1.0], [-1.0, 1.2]], covariances=[0.3, 0.6], labels=[-1, 1])


def tied(h, gram):
    """A tied autoencoder: a loss that depends on the Gram matrix, with a Q_hat that does not vanish."""
    s = jnp.tanh(h[0])
    return 0.5 * s @ gram @ s - s @ h[0]


CASES = {
    "a target, discrete outcomes": (P.GeneralizedLinear("logistic", "sign", 1.5, 0.2, noise=0.3, spectrum=R3), "uninformed"),
    "classes, a kinked loss, an intercept": (P.MixtureClassification("hinge", CLUSTERS, 1.5, 0.2, intercept=True), "uninformed"),
    "a loss of the Gram matrix": (qn.SequenceProblem(CLUSTERS, tied, 1.2, 0.1), "informed"),
}


@pytest.mark.thorough
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_free_energy_is_stationary(name, x64):
    """Every derivative of e at the saddle vanishes, where e is averaged by another, finer rule than the one that was solved with;
    and e = alpha E loss(prox) + weight_decay / 2 Tr Q."""
    case, init = CASES[name]
    solution = case.solve(init=init, tol=1e-11)
    model = as_numbers(case.model)
    rule = scheme(model).loss_rule(solution.level + 1)
    o = starting_point(model, case._from_solution(solution)).overlaps
    shapes = {k: v for k, v in case._shapes.items() if k.endswith("_hat")}
    hats = Conjugates(**{k: np.reshape(solution.order_parameters.get(k, np.zeros(v)), v) for k, v in shapes.items()})

    @jax.jit
    def e(o, hats):
        return energy(model, Unknowns(o, {}), hats, channel(model, o, {}, rule))

    assert solution.converged and abs(e(o, hats) - solution["free_energy"]) < 1e-6
    free = np.asarray(model.law.free, dtype=bool)[:, None]
    rng = np.random.default_rng(4)
    for key in Overlaps._fields:
        hat = f"{key}_hat"
        value, conjugate = getattr(o, key), getattr(hats, hat)
        step = 1e-4 * rng.uniform(0.5, 1.5, value.shape)
        slope = (e(o._replace(**{key: value + step}), hats) - e(o._replace(**{key: value - step}), hats)) / 2e-4
        assert abs(slope) < 2e-6 * (np.abs(conjugate).max(initial=0.0) + 1e-3), key
        step = np.where(free, 0.0, step) if key == "m" else step  # the potential does not see free means
        slope = (e(o, hats._replace(**{hat: conjugate + step})) - e(o, hats._replace(**{hat: conjugate - step}))) / 2e-4
        assert abs(slope) < 2e-6 * (np.abs(value).max(initial=0.0) + 1e-3), hat
    inside = solution.average(as_observable(model.loss), training=True)
    assert inside == pytest.approx(solution["train_loss"], rel=1e-6)
    identity = case.alpha * inside + 0.5 * case.weight_decay * np.sum(solution["Q"])
    assert identity == pytest.approx(solution["free_energy"], rel=1e-7)


def as_observable(loss):
    """The loss as an observable: a function that names the arguments that the loss uses."""
    if "gram" in loss.names:
        return lambda h, gram: loss(h, gram=gram)
    return lambda h, label: loss(h, label=label)


@pytest.mark.slow
def test_evaluate_names_every_equation():
    """At a solution every equation is met; away from it the one that is broken shows."""
    case = P.GeneralizedLinear("logistic", "sign", 1.5, 0.2, noise=0.3, spectrum=R3)
    solution = case.solve(tol=1e-11)
    at = {name: solution[name] for name in ("q", "V", "theta", "Q")}
    found = case.evaluate(**at)
    assert set(found["residual"]) == set(at) == set(found["update"])
    assert max(found["residual"].values()) < 1e-6  # of a finer rule
    for name in ("q_hat", "V_hat", "theta_hat", "free_energy", "test_error", "train_loss"):
        assert found[name] == pytest.approx(float(solution[name]), rel=1e-6), name
    off = case.evaluate(**{**at, "Q": 2.0 * at["Q"]})["residual"]
    assert off["Q"] == pytest.approx(0.5, rel=1e-5) and max(off[k] for k in ("q", "V", "theta")) < 1e-6


# ---- symmetries ------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.slow
def test_two_units_that_learn_the_same():
    """Two ridge regressions on the same outcomes: q and all of theta are those of one, and singular (both units are equal)."""
    one = P.GeneralizedLinear("square", "linear", alpha=2.0, weight_decay=0.1, noise=0.1).solve(tol=1e-11)
    two = qn.SequenceProblem(
        qn.laws.single(), qn.Loss(lambda h, label: 0.5 * jnp.sum((h[0] - label) ** 2), quadratic=True, convex=True),
        alpha=2.0, weight_decay=0.1, units=2, response=qn.losses.Additive(0.1),
    ).solve(tol=1e-10)  # fmt: skip
    assert two.converged and float(one["V_hat"]) == pytest.approx(1.0844, abs=5e-5)
    same = np.ones((2, 2))
    np.testing.assert_allclose(two["V"][0], one["V"] * np.eye(2), atol=1e-8)
    np.testing.assert_allclose(two["V_hat"][0], one["V_hat"] * np.eye(2), atol=1e-8)  # .5422 with a plain pseudo-inverse
    np.testing.assert_allclose(two["q"][0], one["q"] * same, atol=1e-8)
    np.testing.assert_allclose(two["q_hat"][0], one["q_hat"] * same, atol=1e-8)
    np.testing.assert_allclose(two["theta"][0, :, 0], one["theta"] * same[0], atol=1e-8)
    assert two.replicon == pytest.approx(one.replicon, abs=1e-7)


ORDERED = qn.laws.mixture([0.5, 0.5], gram=[[1.5, -1.0], [-1.0, 1.2]], covariances=[0.3, 0.6], labels=[-1, 1])


def voting(h, label, params):
    """Two units with weights of their own, a product between them, and one outcome."""
    return jax.nn.softplus(-label * jnp.sum(params["a"] * h[0])) + 0.2 * jnp.sum(params["a"] * h[0] ** 2) + 0.1 * h[0, 0] * h[0, 1]


VOTE = qn.SequenceProblem(ORDERED, qn.Loss(voting, convex=True), 1.5, 0.3, units=2, params={"a": [1.0, 0.4]})


@pytest.mark.thorough
@pytest.mark.slow
def test_a_permutation_of_the_units_permutes_the_solution():
    one, other = (VOTE.replace(params={"a": a}).solve(init={"q": 0.5}, tol=1e-10) for a in ([1.0, 0.4], [0.4, 1.0]))
    assert one.converged and abs(one["q"][0, 0, 0] - one["q"][0, 1, 1]) > 0.04
    swapped = {name: one[name][..., ::-1, ::-1] for name in ("V", "q", "Q", "q_hat", "V_hat", "Q_hat")}
    swapped |= {name: one[name][..., ::-1] for name in ("m", "m_hat")}
    for name, value in swapped.items():
        np.testing.assert_allclose(other[name], value, atol=2e-6 * max(1.0, np.abs(value).max()), err_msg=name)
    for name in ("free_energy", "train_loss"):
        assert float(other[name]) == pytest.approx(float(one[name]), rel=1e-7)
    assert other.replicon == pytest.approx(one.replicon, rel=1e-5)


def round_loss(h, label):
    """A loss that no rotation of the two units changes."""
    return jax.nn.softplus(0.3 * label * (1.0 - jnp.sum(h[0] ** 2)))


@pytest.mark.slow
def test_a_rotation_of_the_units_rotates_every_equation():
    """O(r) symmetry: the update of rotated overlaps is the rotated update, and observables do not see it."""
    case = qn.SequenceProblem(ORDERED, qn.Loss(round_loss, convex=True), 1.5, 0.8, units=2,
                              observables={"size": lambda h: jnp.sum(h[0] ** 2)})  # fmt: skip
    angle = 0.7
    O = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # noqa: E741
    start = {"V": [[[0.5, 0.1], [0.1, 0.3]], [[0.8, 0.2], [0.2, 0.6]]], "q": [[[0.7, -0.2], [-0.2, 0.4]], [[0.5, 0.1], [0.1, 0.6]]],
             "m": [[0.6, -0.3], [-0.5, 0.4]], "Q": [[1.0, 0.1], [0.1, 0.9]]}  # fmt: skip
    turned = {k: np.asarray(v) @ O.T if k == "m" else O @ np.asarray(v) @ O.T for k, v in start.items()}
    plain, rotated = case.evaluate(**start), case.evaluate(**turned)
    for name in ("V", "q", "Q", "m"):
        value = plain["update"][name]
        expected = value @ O.T if name == "m" else O @ value @ O.T
        np.testing.assert_allclose(rotated["update"][name], expected, atol=1e-5 * np.abs(value).max(), err_msg=name)
    for name in ("free_energy", "size", "train_loss"):
        assert rotated[name] == pytest.approx(plain[name], rel=1e-6), name
