r"""
Model collapse
==============

A small denoiser learns a mixture of three clusters by one-pass SGD, and generates samples. A second one learns from these samples,
a third one from those of the second, and so on. In high dimension every step of this has a closed description: the equations of
training, the exact law of what is generated, and training on that law. A cluster that the first network makes too rarely is lost by
the second, and stays lost. (H. Cui, C. Pehlevan, Y. Lu 2025, arXiv:2501.03937.)
"""

from matplotlib import pyplot as plt

import quenched as qn

law = qn.laws.mixture([1 / 3] * 3, means=[[3.0, 0.0], [0.0, -3.0], [-3.0, 0.0]], labels=[0, 1, 2])
problem = qn.problems.OnlineDiffusion(
    law, units=2, activation="tanh", learning_rate=0.2, weight_decay=0.05, times=[(0.3, 0.7)], training_time=10.0
)

# %%
# What generation after generation makes
# --------------------------------------
#
# Points are samples along the two directions of the clusters, black crosses their means in the data.

generations = problem.generations(3)
figure, panels = plt.subplots(1, 4, figsize=(12.0, 3.4), sharex=True, sharey=True)
for number, (made, axes) in enumerate(zip(generations, panels, strict=True)):
    samples = made.projected_samples(1500)
    axes.plot(*samples.T, ".", markersize=2)
    axes.plot(*made.clusters.centroids.T, "x", color="black")
    axes.set_title(f"generation {number}")
figure.tight_layout()
plt.show()

# %%
# The shares of the three clusters
# --------------------------------
#
# They are 1/3 each in the data.

for number, made in enumerate(generations):
    print(number, made.fractions().round(3).tolist())
