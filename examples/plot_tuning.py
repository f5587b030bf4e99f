r"""
Tuning by gradient, through the theory
======================================

The saddle point is differentiable: what the trained model does has a derivative with respect to every number that the problem is
stated with, weight decay and parameters of the loss included. So hyperparameters can be tuned by gradient without a single
training run.

One person in five is ill, and to miss one costs five times as much as a false alarm. The logistic loss may weigh the ill more, and
weights may decay. Which weight and which decay are cheapest in the end? (The obvious answer, a weight of five, is far from it:
a model without intercept cannot move its threshold, and more weight on the smaller, more scattered class worsens its direction.)
"""

# %%
# State it
# --------
#
# What is to be tuned goes into ``params``, so that it can be varied, and differentiated.

import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt
from scipy.optimize import minimize

import quenched as qn


def weighted_logistic(h, label, params):
    return jnp.where(label > 0, params["weight"], 1.0) * jnp.logaddexp(0.0, -label * h[0, 0])


problem = qn.SequenceProblem(
    law=qn.laws.mixture(weights=[0.8, 0.2], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=[0.5, 1.0], labels=[-1, 1]),
    loss=weighted_logistic, alpha=2.0, weight_decay=0.1, params={"weight": 5.0},
    observables={
        "missed": lambda h, label: (label > 0) & (h[0, 0] < 0),
        "false_alarm": lambda h, label: (label < 0) & (h[0, 0] > 0),
    },
)  # fmt: skip
names = ("weight_decay", "weight")


def cost(solution):
    return 5.0 * float(solution["missed"]) + float(solution["false_alarm"])


# %%
# Follow the gradient
# -------------------
#
# Derivatives are those of the saddle point itself, by the implicit function theorem. Any optimiser that takes a gradient will do;
# numbers that must be positive are given by their logarithm.


def cost_and_slope(logs):
    here = problem.replace(**dict(zip(names, np.exp(logs), strict=True)))
    missed, alarm = (here.gradient(of, names) for of in ("missed", "false_alarm"))
    slope = [(5.0 * missed[name] + alarm[name]) * np.exp(log) for name, log in zip(names, logs, strict=True)]
    return cost(here.solve()), np.array(slope, dtype=float)


start = np.log([0.1, 5.0])
found = minimize(cost_and_slope, start, jac=True, method="L-BFGS-B", bounds=[(-7.0, 7.0)] * 2, options={"maxiter": 15})
best = dict(zip(names, np.exp(found.x), strict=True))
print(f"from {cost_and_slope(start)[0]:.4f} to {found.fun:.4f} a person: " + ", ".join(f"{k} {v:.3g}" for k, v in best.items()))

# %%
# Was it worth it?
# ----------------
#
# The theory along the weight at the best decay, and models trained in 400 dimensions.

weights = np.geomspace(0.1, 20.0, 13)
tuned = problem.replace(weight_decay=best["weight_decay"])
theory = [cost(tuned.replace(weight=weight).solve()) for weight in weights]
means, errors = [], []
for weight in weights[::4]:
    trials = tuned.replace(weight=weight).simulate(dim=400, seeds=8)
    each = 5.0 * trials["missed"].values + trials["false_alarm"].values
    means.append(each.mean())
    errors.append(each.std(ddof=1) / np.sqrt(len(each)))

figure, axes = plt.subplots()
axes.semilogx(weights, theory, label="theory, at the best decay")
axes.errorbar(weights[::4], means, errors, fmt="o", label="trained, d = 400")
axes.plot(np.exp(start[1]), cost(problem.solve()), "s", label="where we started")
axes.plot(best["weight"], found.fun, "*", markersize=12, label="found by gradient")
axes.set(xlabel="weight of the ill in the loss", ylabel="cost a person")
axes.legend()
plt.show()
