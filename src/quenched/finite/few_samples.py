"""The experiment with a flow learnt from a few samples: draw them, train an autoencoder at every time, follow its flow.

The autoencoder is ``f(x) = c x + sum_j w_j phi(w_j.x)``, the risk ``sum |x_1 - f(x_t)|^2 / 2 + weight_decay |w|^2 / 2`` over all
pairs of sample and noise, in the dimension d itself. What the hidden units answer on the training set is found, not assumed.

Source: H. Cui, F. Krzakala, E. Vanden-Eijnden, L. Zdeborova (2023), arXiv:2310.03575.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from quenched.finite.data import stream
from quenched.finite.simulate import repeated, seed_list
from quenched.finite.trials import CONVERGED, Trials
from quenched.laws.schedule import Schedule
from quenched.numerics import check
from quenched.numerics.programs import make_room

_STOPPED = "not converged: the gradient of the training risk is not small at every time"
#: At so many first times training starts from many random networks.
EARLY = 5
#: Where sqrt(d) min(alpha, beta) is below this, inner products of order sqrt(d) drown what tells signs apart.
RESOLVED = 8.0
#: Activations that saturate at +-1, with their derivatives in terms of argument and value.
ACTIVATIONS = {
    "sign": (lambda h: np.where(h >= 0.0, 1.0, -1.0), None),
    "tanh": (np.tanh, lambda h, value: 1.0 - value**2),
    "erf": (special.erf, lambda h, value: 2.0 / np.sqrt(np.pi) * np.exp(-(h**2))),
}


class Trained(NamedTuple):
    """A minimiser of the ``risk``: ``c``, ``w`` (r, d), the units' answers ``pattern`` (r, N); ``optimality``: its gradient."""

    c: float
    w: np.ndarray
    pattern: np.ndarray
    risk: float
    optimality: float

    def __call__(self, x, phi):
        """The autoencoder's answer to points x (n, d)."""
        return self.c * x + phi(x @ self.w.T) @ self.w


def train(x1, xt, weight_decay: float, starts, activation: str = "sign", *, skip: bool = True, iterations: int = 100) -> Trained:
    """The lowest of the minima of the risk that are found from ``starts`` (K, r, N), answers of the units on the training set.

    - ``x1`` (N, d), ``xt`` (N, d): what is to be found, and what is seen of it. ``skip``: whether c is trained, or zero.

    While the answers E of the units stay as they are, the risk is quadratic and c and w are found at once; then the answers are
    renewed, until they no longer change. Where the activation is smooth, L-BFGS follows, on all of c and w. With the sign, the risk
    may have no stationary point at all where x_t shows too little of the samples: then it is the lowest that was met, and its
    gradient counts as infinite.
    """
    phi, slope = ACTIVATIONS[activation]
    grams, E, best = (x1 @ x1.T, x1 @ xt.T, xt @ xt.T), np.array(starts, dtype=float), (np.inf, None, None, False)
    before = E
    for _ in range(iterations):
        c, weights = _refit(E, grams, weight_decay, skip)
        answers = phi(weights @ (grams[1] - c[:, None, None] * grams[2]))
        ended, cycles = (np.max(np.abs(answers - other), axis=(1, 2)) < 1e-12 for other in (E, before))
        risk = _risk_in_grams(answers, c, weights, grams, weight_decay)
        k = int(np.argmin(risk))
        if risk[k] < best[0] or (ended[k] and risk[k] <= best[0]):
            best = risk[k], c[k], weights[k], bool(ended[k])
        if np.all(ended | cycles):
            break
        before, E = E, answers
    _, c, weights, ended = best
    w = weights @ (x1 - c * xt)
    if slope is not None:
        c, w = _polished(c, w, x1, xt, weight_decay, phi, slope, skip)
    value, gradient = _risk(c, w, x1, xt, weight_decay, phi, slope, skip)
    optimality = float(np.linalg.norm(gradient) / np.linalg.norm(x1)) if ended or slope is not None else np.inf
    return Trained(float(c), w, phi(w @ xt.T), value, optimality)


def _refit(E, grams, weight_decay, skip):
    """The best c (K,), and ``(E E^T + lambda)^-1 E`` (K, r, N), which makes the best w of what c leaves; for fixed answers."""
    inverse = np.linalg.pinv(E @ E.transpose(0, 2, 1) + weight_decay * np.eye(E.shape[1]), hermitian=True)
    weights = inverse @ E
    projection = np.eye(E.shape[2]) - E.transpose(0, 2, 1) @ weights
    along, square = (np.einsum("kab,ab->k", projection, gram) for gram in grams[1:])
    return (along / square if skip else np.zeros(len(E))), weights


def _risk_in_grams(answers, c, weights, grams, weight_decay):
    """The training risk (K,) of networks that answer so, from inner products of the samples."""
    c = c[:, None, None]
    left = grams[0] - c * (grams[1] + grams[1].T) + c**2 * grams[2]
    missed = np.eye(left.shape[1]) - answers.transpose(0, 2, 1) @ weights
    errors, penalty = (np.einsum("kia,kia->k", part @ left, part) for part in (missed, weights))
    return 0.5 * (errors + weight_decay * penalty)


def _risk(c, w, x1, xt, weight_decay, phi, slope, skip):
    """The training risk and its gradient with respect to c and w, (1 + r d,)."""
    h = w @ xt.T
    E = phi(h)
    missed = x1 - c * xt - E.T @ w
    in_w = weight_decay * w - E @ missed
    if slope is not None:
        in_w -= (slope(h, E) * (w @ missed.T)) @ xt
    in_c = -np.sum(missed * xt) if skip else 0.0
    return 0.5 * float(np.sum(missed**2) + weight_decay * np.sum(w**2)), np.concatenate([[in_c], in_w.ravel()])


def _polished(c, w, x1, xt, weight_decay, phi, slope, skip):
    """The minimum of the risk with respect to all of c and w that is next to the given ones."""

    def risk(z):
        return _risk(z[0], z[1:].reshape(w.shape), x1, xt, weight_decay, phi, slope, skip)

    z = optimize.minimize(risk, np.concatenate([[c], w.ravel()]), jac=True, method="L-BFGS-B",
                          options={"maxiter": 1000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 20}).x  # fmt: skip
    return float(z[0]), z[1:].reshape(w.shape)


class Pairs(NamedTuple):
    """The training set: ``x1`` (n, d); ``x0`` (N, d) the noises of the samples in turn; ``centre`` (n, d) the mean of each sample's
    cluster, with its sign; ``sign`` (n,)."""

    x1: np.ndarray
    x0: np.ndarray
    centre: np.ndarray
    sign: np.ndarray


def two_clusters(rng, d: int, n: int, noises: int, separation: float, cluster_std: float, positive: float) -> Pairs:
    """Samples of ``+-mu + sigma z``, where ``|mu|^2 = separation d`` exactly, and ``noises`` normal noises for each."""
    mu = rng.standard_normal(d)
    mu *= np.sqrt(separation * d) / np.linalg.norm(mu)
    sign = np.where(rng.random(n) < positive, 1.0, -1.0)
    centre = sign[:, None] * mu
    return Pairs(centre + cluster_std * rng.standard_normal((n, d)), rng.standard_normal((n * noises, d)), centre, sign)


def random_answers(rng, xt, units: int, restarts: int) -> np.ndarray:
    """What the units of ``restarts`` networks with normal weights answer on xt (N, d): (restarts, r, N)."""
    w = rng.standard_normal((restarts * units, xt.shape[1]))
    return np.where(w @ xt.T >= 0.0, 1.0, -1.0).reshape(restarts, units, -1)


class Sampled(NamedTuple):
    """Generated points ``x`` (samples, d) and the denoiser of the last step; ``optimality``, the largest relative gradient of the
    trainings; ``unresolved``: how many of them found no stationary point at times so close to the ends that none need exist;
    ``path``: after some steps, the points and the denoiser of the step."""

    x: np.ndarray
    last: Trained
    optimality: float
    unresolved: int
    path: tuple = ()


def generate(rng, x1, x0, schedule, weight_decay, *, units: int = 1, steps: int = 50, first: float = 0.02, samples: int = 40,
             restarts: int = 20, activation: str = "sign", skip: bool = True, fresh: bool = False,
             diffusion=None, keep=()) -> Sampled:  # fmt: skip
    """Euler's method for the flow of autoencoders that are trained at each of its times on the pairs (x1, x0), (N, d) both.

    At the first few times training starts from ``restarts`` random networks, later from the one before and a few random ones.
    The times are t = 0, 1 / steps, ..., but never before ``first``. ``fresh``: noises are drawn anew at every time.
    ``keep``: after how many steps points are kept.
    """
    times = np.maximum(np.arange(steps) / steps, first)
    point, phi = schedule(times), ACTIVATIONS[activation][0]
    x, step, optimality, last = rng.standard_normal((samples, x1.shape[1])), 1.0 / steps, np.zeros(steps), None
    path, resolved = [], np.sqrt(x1.shape[1]) * np.minimum(point.alpha, point.beta) > RESOLVED
    for i, t in enumerate(times):
        if fresh and i:
            x0 = rng.standard_normal(x0.shape)
        xt = point.alpha[i] * x0 + point.beta[i] * x1
        starts = random_answers(rng, xt, units, restarts if i < EARLY else 3)
        if last is not None:
            starts = np.concatenate([starts, last.pattern[None]])
        last = train(x1, xt, weight_decay, starts, activation, skip=skip)
        optimality[i] = last.optimality
        answer = last(x, phi)
        move = point.linear[i] * x + point.gain[i] * answer
        if diffusion is not None:
            level = float(diffusion(t))
            move += level * (point.beta[i] * answer - x) / point.alpha[i] ** 2
            x = x + step * move + np.sqrt(2.0 * step * level) * rng.standard_normal(x.shape)
        else:
            x = x + step * move
        if i + 1 in keep:
            path.append((x, last))
    counted = resolved | np.isfinite(optimality)
    return Sampled(x, last, float(np.max(optimality, where=counted, initial=0.0)), int(np.sum(~counted)), tuple(path))


def simulate(*, n: int, noises: int, separation: float, cluster_std: float, weight_decay: float, schedule, positive: float = 0.5,
             fresh: bool = False, skip: bool = True, dim: int, seeds=8, steps: int = 50, first: float = 0.02, samples: int = 40,
             restarts: int = 20, activation: str = "sign", diffusion=None, along=(), tol: float = 1e-5, n_jobs: int = 1,
             settings=None, progress=None) -> Trials:  # fmt: skip
    """For every seed: n samples and their noises, training at ``steps`` times, ``samples`` generated points, and what they show.

    Per seed, all of the end of the flow: ``R``, ``c_eta``, ``c_xi`` (the components of the cluster's mean), ``S`` =
    ``cluster_variance``, ``mean_mse``, ``cosine``, ``sample_cosine``, ``squared_norm``, ``wasserstein``, ``positive_fraction`` (of
    the generated points), and of the estimator of mu that knows the law, ``bayes_mse`` and ``bayes_cosine``. ``unresolved_times``:
    at how many times close to the ends training found no stationary point; at others this is no convergence. ``along`` (T,): after
    how many steps these are measured too, as ``R_along`` (T,) and so on.
    """
    make_room()
    d, seeds, schedule = check.integer("dim", dim, 3), seed_list(seeds), Schedule(schedule)
    steps, samples = check.integer("steps", steps), check.integer("samples", samples, 2)
    restarts = check.integer("restarts", restarts)
    first = check.scalar("first", first, 0.0, 1.0, open_high=True)
    along = tuple(check.integer("along", step) for step in check.listed("along", along))
    if any(step > steps for step in along):
        raise ValueError(f"along must hold numbers of steps up to {steps}, got {along}")
    if diffusion is not None:
        noise = np.array([float(diffusion(t)) for t in np.linspace(0.0, 1.0, steps + 1)])
        if not (np.isfinite(noise).all() and (noise >= 0.0).all()):
            raise ValueError(f"diffusion must be a function of t with values that are finite and not negative, got {noise.min():g}")
    check.choice("activation", activation, ACTIVATIONS)

    def one(seed):
        clock = time.perf_counter()
        rng = np.random.default_rng(stream(seed, "response"))
        pairs = two_clusters(rng, d, n, noises, separation, cluster_std, positive)
        run = generate(
            rng, np.repeat(pairs.x1, noises, axis=0), pairs.x0, schedule, weight_decay, steps=steps, first=first, samples=samples,
            restarts=restarts, activation=activation, skip=skip, fresh=fresh, diffusion=diffusion, keep=along,
        )  # fmt: skip
        sign = np.where(run.x @ (pairs.sign[0] * pairs.centre[0]) >= 0.0, 1.0, -1.0)  # that of a point's path, from end to end
        points = run.x, *(x for x, _ in run.path)
        row, *path = (measured(sign[:, None] * x, pairs, noises, cluster_std, fresh or not skip) for x in points)
        row |= {f"{name}_along": np.array([at[name] for at in path]) for name in (row if path else ())}
        row |= {"positive_fraction": np.mean(sign > 0.0), "unresolved_times": run.unresolved}
        row |= estimated(pairs, separation, cluster_std)
        sound = run.optimality < tol and all(np.all(np.isfinite(value)) for value in row.values())
        return row, CONVERGED if sound else _STOPPED, run.optimality, time.perf_counter() - clock

    about = {"steps": steps, "first": first, "samples": samples, "activation": activation,
             "diffusion": getattr(diffusion, "__name__", None)} | (settings or {})
    return repeated(one, seeds, n_jobs, progress, d, n, about)


def directions(pairs: Pairs, noises: int, cluster_std: float) -> np.ndarray:
    """mu, eta and xi, (3, d)."""
    mu, sign = pairs.sign[0] * pairs.centre[0], pairs.sign
    return np.stack([
        mu, sign @ (pairs.x1 - pairs.centre) / (len(sign) * cluster_std), np.repeat(sign, noises) @ pairs.x0 / len(pairs.x0),
    ])  # fmt: skip


def measured(points, pairs: Pairs, noises: int, cluster_std: float, no_xi: bool) -> dict:
    """Observables of the points (samples, d) of one cluster; what their number leaves of noise in their mean is subtracted.

    ``no_xi``: there is no noise that all times share, and c_xi is the size of what lies outside of mu and eta.
    """
    count, d = points.shape
    basis = directions(pairs, noises, cluster_std)
    mu, mean = basis[0], points.mean(axis=0)
    variance = np.sum((points - mean) ** 2) / (d * (count - 1))
    left = variance / count
    mse = np.sum((mean - mu) ** 2) / d - left
    if no_xi:
        inside = np.linalg.lstsq(basis[:2].T, mean)[0]
        rest = np.sum((mean - inside @ basis[:2]) ** 2) / d - left
        components = (*inside, -np.sqrt(max(rest, 0.0) * len(pairs.x0)))
    else:
        components = np.linalg.lstsq(basis.T, mean)[0]
    nu = mu @ mu / d
    return {
        **dict(zip(("R", "c_eta", "c_xi"), map(float, components), strict=True)), "S": variance, "mean_mse": mse,
        "cosine": mean @ mu / d / np.sqrt(nu * max(mean @ mean / d - left, 1e-300)), "cluster_variance": variance,
        "sample_cosine": np.mean(points @ mu / np.linalg.norm(points, axis=1)) / np.sqrt(nu * d),
        "squared_norm": np.mean(np.sum(points**2, axis=1)) / d, "wasserstein": mse + (np.sqrt(variance) - cluster_std) ** 2,
    }  # fmt: skip


def estimated(pairs: Pairs, separation: float, cluster_std: float) -> dict:
    """The posterior mean of mu, with the samples' signs as their leading principal component shows them, up to one sign of all."""
    d, mu = pairs.x1.shape[1], pairs.sign[0] * pairs.centre[0]
    sign = np.where(np.linalg.eigh(pairs.x1 @ pairs.x1.T)[1][:, -1] >= 0.0, 1.0, -1.0)
    mean = sign @ pairs.x1 / (len(sign) + cluster_std**2 / separation)
    mean = mean if mean @ mu >= 0.0 else -mean
    return {"bayes_mse": np.sum((mean - mu) ** 2) / d, "bayes_cosine": mean @ mu / np.sqrt((mean @ mean) * (mu @ mu))}


def simulate_denoiser(t: float, *, n: int, noises: int, separation: float, cluster_std: float, weight_decay: float, schedule,
                      positive: float = 0.5, skip: bool = True, dim: int, seeds=8, restarts: int = 20,
                      activation: str = "sign", test_samples: int = 200, tol: float = 1e-5, n_jobs: int = 1, settings=None,
                      progress=None) -> Trials:  # fmt: skip
    """For every seed the autoencoder at one time t: ``c``, ``w_mu``, ``w_eta``, ``w_xi``, ``test_mse`` per dimension, and the risk
    per dimension, ``train_loss``; w up to its sign."""
    make_room()
    d, seeds, point = check.integer("dim", dim, 3), seed_list(seeds), Schedule(schedule)(t)
    restarts, test_samples = check.integer("restarts", restarts), check.integer("test_samples", test_samples)
    check.choice("activation", activation, ACTIVATIONS)

    def one(seed):
        clock = time.perf_counter()
        rng = np.random.default_rng(stream(seed, "response"))
        pairs = two_clusters(rng, d, n, noises, separation, cluster_std, positive)
        x1 = np.repeat(pairs.x1, noises, axis=0)
        xt = point.alpha * pairs.x0 + point.beta * x1
        found = train(x1, xt, weight_decay, random_answers(rng, xt, 1, restarts), activation, skip=skip)
        basis = directions(pairs, noises, cluster_std)
        w = np.linalg.lstsq(basis.T, found.w[0])[0] * (1.0 if found.pattern[0] @ np.repeat(pairs.sign, noises) >= 0.0 else -1.0)
        fresh = np.where(rng.random(test_samples) < positive, 1.0, -1.0)[:, None] * basis[0]
        fresh = fresh + cluster_std * rng.standard_normal((test_samples, d))
        seen = point.alpha * rng.standard_normal((test_samples, d)) + point.beta * fresh
        error = np.mean((fresh - found(seen, ACTIVATIONS[activation][0])) ** 2)
        row = {"c": found.c, "w_mu": w[0], "w_eta": w[1], "w_xi": w[2], "test_mse": error, "train_loss": found.risk / d}
        return row, CONVERGED if found.optimality < tol else _STOPPED, found.optimality, time.perf_counter() - clock

    return repeated(one, seeds, n_jobs, progress, d, n, {"t": float(t), "activation": activation} | (settings or {}))
