r"""
Learning curves of your own data
================================

You have N labelled rows and a linear model in scikit-learn. Would twice as many rows be worth their price? The leave-one-out
errors of the rows you have, at all penalties, determine the errors at other numbers of rows; no new model is trained for that.
"""

# %%
# Some data
# ---------
#
# Handwritten digits stand for your data: we pretend to have 500 rows, and keep the others to see what really happens.

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier

from quenched import LearningCurve

X, y = load_digits(return_X_y=True)
rng = np.random.default_rng(0)
rows = rng.permutation(len(X))
ours, later = rows[:500], rows[500:]

# %%
# Fit and predict
# ---------------
#
# ``fit`` also trains on parts of the rows and tests on the rest, prints this back-test, and shifts what it predicts by it.

estimator = RidgeClassifier(alpha=100.0)
curve = LearningCurve(estimator).fit(X[ours], y[ours])
samples = np.array([100, 200, 400, 500, 800, 1200])
prediction = curve.predict(samples)
prediction

# %%
# What really happens
# -------------------
#
# Models trained on so many of all rows, and tested on rows that they have not seen.

measured, errors = [], []
for n in (800, 1200):
    wrong = []
    for _ in range(10):
        train = np.concatenate([ours, rng.permutation(later)[: n - len(ours)]])
        test = np.setdiff1d(rows, train)
        wrong.append(np.mean(estimator.fit(X[train], y[train]).predict(X[test]) != y[test]))
    measured.append(np.mean(wrong))
    errors.append(np.std(wrong, ddof=1) / np.sqrt(len(wrong)))

axes = curve.plot()
axes.errorbar([800, 1200], measured, errors, fmt="D", color="tab:green", label="trained later")
axes.legend()
plt.show()
