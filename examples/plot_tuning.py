r"""
Tuning by gradient, through the theory
======================================

The saddle point is differentiable: the test error of the trained model has a derivative with respect to every number that the
problem is stated with, weight decay and parameters of the loss included. So hyperparameters can be tuned by gradient without
a single training run.

Here a linear model learns from outcomes with heavy-tailed noise. The pseudo-Huber loss is square up to a threshold and linear
beyond it. What are the best threshold and the best weight decay?
"""

# %%
# State it
# --------
#
# The outcome is the target plus a function of a normal number, ``noise``, whose tails are those of a log-normal law. The threshold
# is a number in ``params``, so that it can be varied, and differentiated. Averages are asked for to three digits,
# ``quadrature_tol``, since the tails are long.

import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt
from scipy.optimize import minimize

import quenched as qn


def pseudo_huber(h, target, noise, params):
    residual = target[0, 0] + 0.3 * jnp.sinh(1.5 * noise) - h[0, 0]
    return params["threshold"] ** 2 * (jnp.sqrt(1.0 + (residual / params["threshold"]) ** 2) - 1.0)


problem = qn.SequenceProblem(
    qn.laws.single(targets=1), pseudo_huber, alpha=2.0, weight_decay=0.3, params={"threshold": 1.0},
    observables={"test_mse": lambda h, target: (h[0, 0] - target[0, 0]) ** 2},
)  # fmt: skip

# %%
# One number
# ----------
#
# The derivative is that of the saddle point itself, by the implicit function theorem: no difference quotients.

for weight_decay in (0.03, 0.3, 3.0):
    slope = problem.replace(weight_decay=weight_decay).gradient("test_mse", "weight_decay", quadrature_tol=1e-3)
    print(f"weight decay {weight_decay}: the test error changes by {float(slope):+.4f} a unit")

# %%
# Two numbers at once
# -------------------
#
# Any optimiser that takes a gradient will do. Numbers that must be positive are given by their logarithm.

names = ("weight_decay", "threshold")
path = []


def value_and_slope(logs):
    numbers = dict(zip(names, np.exp(logs), strict=True))
    here = problem.replace(**numbers)
    error = float(here.solve(quadrature_tol=1e-3)["test_mse"])
    slopes = here.gradient("test_mse", names, quadrature_tol=1e-3)
    path.append((*numbers.values(), error))
    return error, np.array([float(slopes[name]) * numbers[name] for name in names])


found = minimize(value_and_slope, np.log([0.3, 1.0]), jac=True, method="L-BFGS-B")
best = dict(zip(names, np.exp(found.x), strict=True))
print(f"{len(path)} solves: " + ", ".join(f"{name} {value:.3f}" for name, value in best.items()) + f", test error {found.fun:.4f}")

# %%
# Was it worth it?
# ----------------
#
# Models trained with the best numbers, and with other thresholds, in 300 dimensions.

thresholds = np.geomspace(0.1, 10.0, 13)
tuned = problem.replace(**best)
theory = [tuned.replace(threshold=threshold).solve(quadrature_tol=1e-3)["test_mse"] for threshold in thresholds]
trials = [tuned.replace(threshold=threshold).simulate(dim=300, seeds=6)["test_mse"] for threshold in thresholds[::4]]

figure, axes = plt.subplots()
axes.semilogx(thresholds, theory, label="theory")
axes.errorbar(thresholds[::4], [t.mean for t in trials], [t.standard_error for t in trials], fmt="o", label="trained, d = 300")
axes.plot(best["threshold"], found.fun, "*", markersize=12, label="found by gradient")
axes.set(xlabel="threshold", ylabel="test error")
axes.legend()
plt.show()
