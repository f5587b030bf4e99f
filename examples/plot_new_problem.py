r"""
A new problem in ten lines
==========================

A screening test: one patient in five is ill, and to miss a patient costs five times as much as a false alarm. Patients and
healthy people are two Gaussian clouds, and a linear score is trained with the logistic loss, weighted by the cost,

.. math::

    R(w) = \sum_{\mu=1}^n c(y^\mu) \log\left(1 + e^{-y^\mu h^\mu}\right) + \frac{\lambda}{2} \|w\|^2,
    \qquad h^\mu = \frac{x^\mu \cdot w}{\sqrt d} .

How often will it miss, and how often give a false alarm, with :math:`n = \alpha d` people to learn from? No paper has to
have treated this problem: a law of the data and a loss are enough.
"""

# %%
# State it
# --------
#
# The law has two classes, -1 and 1, with opposite means (``gram`` holds their inner products) and different sizes. The loss
# is ordinary JAX and names what it uses: the pre-activation ``h``, the ``label``, and fixed numbers, ``params``.
# Observables are functions of the same arguments, averaged over fresh data.

import jax.numpy as jnp
import numpy as np
from matplotlib import pyplot as plt

import quenched as qn


def weighted_logistic(h, label, params):
    return jnp.where(label > 0, params["cost"], 1.0) * jnp.logaddexp(0.0, -label * h[0, 0])


problem = qn.SequenceProblem(
    law=qn.laws.mixture(weights=[0.8, 0.2], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=[0.5, 1.0], labels=[-1, 1]),
    loss=weighted_logistic,
    alpha=2.0, weight_decay=0.3, params={"cost": 5.0},
    observables={
        "missed": lambda h, label: (label > 0) & (h[0, 0] < 0),
        "false_alarm": lambda h, label: (label < 0) & (h[0, 0] > 0),
    },
)  # fmt: skip

# %%
# Solve it
# --------
#
# The solution holds the order parameters, the observables, and a certificate of how far to trust them: here the loss is
# convex, the fixed point was found, and replica symmetry is stable.

problem.solve()

# %%
# Simulate it
# -----------
#
# The same problem at finite size: samples are drawn and the weights of a model of 500 dimensions are trained, six times
# for each number of samples. The first solve compiles the equations; the others only change a number in them.

alphas = np.geomspace(0.5, 4.0, 13)
theory = [problem.replace(alpha=alpha).solve() for alpha in alphas]
trials = [problem.replace(alpha=alpha).simulate(dim=500, seeds=6) for alpha in alphas[::4]]

# %%
# Lay one over the other
# ----------------------
#
# Lines are the theory, points are means over the trained models with their standard errors. Nothing was fitted. At finite
# dimension there is a shift of order 1/d on top, which more seeds do not remove and more dimensions do.
# :func:`quenched.sweep` does all of this, the loops included, in one call.

figure, axes = plt.subplots()
for name, text in (("missed", "ill and missed"), ("false_alarm", "healthy and alarmed")):
    (line,) = axes.semilogx(alphas, [solution[name] for solution in theory], label=text)
    measured = [one[name] for one in trials]
    means, errors = [one.mean for one in measured], [one.standard_error for one in measured]
    axes.errorbar(alphas[::4], means, errors, fmt="o", color=line.get_color())
axes.set(xlabel=r"people per dimension $\alpha = n/d$", ylabel="share of all people")
axes.legend()
plt.show()
