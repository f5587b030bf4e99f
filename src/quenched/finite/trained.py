"""Features that were learnt: all layers of a small network trained by Adam on fresh inputs, then frozen."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from quenched.finite.features import Setting, simulate
from quenched.finite.trials import Trials
from quenched.laws.layers import DeepNetwork, input_root
from quenched.laws.measured import outcomes
from quenched.laws.network import Network
from quenched.losses import Additive, as_loss
from quenched.numerics import check

_CHUNK = 50  # steps per call of the compiled program
_READOUT = 5  # a random stream of its own


class Trained(NamedTuple):
    """Networks along one training: ``networks`` maps the number of steps taken to a :class:`~quenched.laws.Network` (its layers
    without the readout), ``losses`` (steps,) holds the mean squared error of every step's batch, before the step.

    >>> trained = train_network(DeepNetwork((20, 30), "tanh"), lambda x: x[:, 0], (0, 10), batch=64)
    >>> [network.widths for network in trained.networks.values()], trained.losses.shape
    ([(20, 30), (20, 30)], (10,))
    """

    networks: dict[int, Network]
    losses: np.ndarray


@partial(jax.jit, static_argnames=("activations", "target", "batch", "chunk", "biases"))
def _steps(params, state, key, rate, root, *, activations, target, batch, chunk, biases):
    """``chunk`` steps of Adam, each on ``batch`` fresh inputs."""
    import optax

    def risk(params, x):
        phi = x
        for (kernel, bias), sigma in zip(params["layers"], activations, strict=True):
            bias = bias if biases else jax.lax.stop_gradient(bias)
            phi = sigma(phi @ kernel + bias)
        return jnp.mean((phi @ params["readout"] + params["constant"] - target(x)) ** 2)

    def step(carry, key):
        params, state = carry
        x = jax.random.normal(key, (batch, root.shape[0]))
        loss, gradient = jax.value_and_grad(risk)(params, x * root if root.ndim == 1 else x @ root)
        update, state = optax.scale_by_adam().update(gradient, state)
        return (jax.tree.map(lambda z, u: z - rate * u, params, update), state), loss

    return jax.lax.scan(step, (params, state), jax.random.split(key, chunk))


def train_network(
    start, target, steps, *, learning_rate=3e-3, batch: int = 256, seed=0, spectrum=None, biases: bool = False
) -> Trained:
    """Train all layers of a network, and a linear readout on top, to a function of Gaussian inputs; the layers at some steps.

    - ``start``: a :class:`~quenched.laws.DeepNetwork` with its widths, drawn with ``seed``, or a :class:`~quenched.laws.Network`.
    - ``target``: a JAX function from inputs (n, d) to numbers (n,).
    - ``steps``: the numbers of steps, ascending, after which the network is wanted: 0 is the start.
    - ``learning_rate`` > 0 of Adam, on the mean squared error of ``batch`` fresh inputs each step, in float32, for the kernels K
      and biases b of layers ``x @ K + b``, i.e. ``K = W.T / sqrt(p)``. The readout starts with the variance 1 / p_L and a
      constant of 0.
    - ``spectrum``: covariance of the inputs, None for the identity, its eigenvalues (d,) or a matrix (d, d).
    - ``biases``: whether the layers' biases are trained too. Without any, layers of odd activations remain odd functions.

    ``FloatingPointError`` where the training diverges. Source: D. P. Kingma and J. Ba (2014), arXiv:1412.6980.

    >>> trained = train_network(DeepNetwork((20, 30), "tanh"), lambda x: jnp.tanh(x[:, 0]), (0, 200), learning_rate=0.01, batch=64)
    >>> list(trained.networks), trained.networks[200].widths, bool(trained.losses[-20:].mean() < 0.5 * trained.losses[:20].mean())
    ([0, 200], (20, 30), True)
    """
    import optax

    if isinstance(start, DeepNetwork):
        start = start.draw(seed)
    if not isinstance(start, Network) or not start.weights:
        raise ValueError(f"start must be a DeepNetwork or a Network with a layer to train, got {start!r}")
    if not callable(target):
        raise ValueError(f"target must be a function from inputs (n, d) to numbers (n,), got {target!r}")
    wanted = [check.integer("steps", count, 0) for count in np.atleast_1d(steps)]
    if not wanted or sorted(set(wanted)) != wanted:
        raise ValueError(f"steps must be ascending numbers of steps, got {wanted}")
    rate, batch = check.positive("learning_rate", learning_rate), check.integer("batch", batch)
    check.integer("seed", seed, 0)
    root = jnp.asarray(input_root(spectrum, start.dim, (seed,)), jnp.float32)
    shape = jax.eval_shape(target, jax.ShapeDtypeStruct((batch, start.dim), jnp.float32)).shape
    if shape != (batch,):
        raise ValueError(f"target must give one number for each of the n inputs, so ({batch},), got the shape {shape}")

    width = start.widths[-1]
    readout = np.random.default_rng((_READOUT, seed)).standard_normal(width) / np.sqrt(width)
    kernels = [(w.T / np.sqrt(w.shape[1]), b) for w, b in zip(start.weights, start.biases, strict=True)]
    params = {"layers": kernels, "readout": readout, "constant": np.zeros(())}
    params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
    state, key, done, networks, losses = optax.scale_by_adam().init(params), jax.random.key(seed), 0, {}, []
    for count in wanted:
        while done < count:
            chunk = min(_CHUNK, count - done)
            (params, state), loss = _steps(
                params, state, jax.random.fold_in(key, done), rate, root,
                activations=start.activations, target=target, batch=batch, chunk=chunk, biases=bool(biases),
            )  # fmt: skip
            losses.append(np.asarray(loss, np.float64))
            done += chunk
            if not np.isfinite(losses[-1]).all():
                raise FloatingPointError(f"the training diverged within {done} steps: learning_rate must be smaller, got {rate:g}")
        networks[count] = _network(params, start) if count else start
    return Trained(networks, np.concatenate(losses) if losses else np.zeros(0))


def _network(params, start: Network) -> Network:
    """Layers ``x @ K + b`` as a Network."""
    layers = [(np.asarray(kernel, np.float64), np.asarray(bias, np.float64)) for kernel, bias in params["layers"]]
    weights = [np.sqrt(len(kernel)) * kernel.T for kernel, _ in layers]
    return Network(weights, start.activations, [bias for _, bias in layers], start.dim)


def simulate_frozen(features, target, *, alpha, weight_decay, dim, seeds=8, noise=0.0, spectrum=None, **options) -> Trials:
    """Ridge regression on frozen features of fresh Gaussian inputs, for every seed; what the laws of measured features predict.

    - ``features``: a function from inputs (n, d) to features (n, p), such as a :class:`~quenched.laws.Network`; ``target``: one to
      numbers (n,), which is centred; outcomes have Gaussian ``noise`` of this variance on top.
    - ``alpha`` = n / d and ``weight_decay`` > 0; ``dim``: d; ``spectrum``: covariance of the inputs, as above.
    - ``options`` go to :func:`quenched.finite.features.simulate` (``test_samples``, ``progress``).

    Per seed ``test_mse`` against the target, ``train_mse``, and the order parameters. ``ValueError`` for a target that is none.

    >>> trials = simulate_frozen(lambda x: x, lambda x: x[:, 0], alpha=2.0, weight_decay=0.1, dim=100, seeds=4, noise=0.1)
    >>> round(float(trials["test_mse"].mean), 2)
    0.09
    """
    if not callable(target):
        raise ValueError(f"target must be a function from inputs (n, d) to numbers (n,), got {target!r}")
    setting = Setting(features, lambda x: outcomes(target, x)[:, None], np.ones(1), input_root(spectrum, dim, (0,)))
    trials = simulate(
        lambda seed: setting, as_loss("square"), Additive(noise), alpha=alpha, weight_decay=weight_decay, dim=dim, seeds=seeds,
        observables={"test_mse": lambda h, target: (h[0, 0] - target[0, 0]) ** 2}, **options,
    )  # fmt: skip
    return trials.map(lambda row: {**row, "train_mse": 2.0 * row["train_loss"]})
