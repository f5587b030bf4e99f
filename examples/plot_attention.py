r"""
The phase transition of attention
=================================

One layer of tied dot-product attention, of rank one, reads two tokens. Its target mixes them partly by their positions and partly
by their meaning. With few samples the layer learns the positions; with more it switches to the meaning, all at once: two branches
of fixed points compete, and which of them has the lower energy changes. (H. Cui, F. Behrens, F. Krzakala, L. Zdeborová 2024,
arXiv:2402.03902.)
"""

import numpy as np
from matplotlib import pyplot as plt

import quenched as qn

problem = qn.problems.Attention(
    alpha=1.5, weight_decay=0.01, omega=0.3, positional_matrix=[[0.6, 0.4], [0.4, 0.6]], token_std=0.5
)  # fmt: skip

# %%
# Follow both branches
# --------------------
#
# Each is followed from many samples to few, every solution the start of the next. A branch that has ended is left out.

alphas = np.round(np.linspace(2.2, 0.9, 14), 2)
branches = {
    name: qn.problems.follow(problem, "alpha", alphas, name, quadrature_tol=0.05) for name in ("positional", "semantic")
}

# %%
# Where one takes over
# --------------------
#
# Left: the energies cross. Right: the test error of the layer that has the lower energy jumps there.

figure, (left, right) = plt.subplots(1, 2, figsize=(9.0, 3.8))
for name, branch in branches.items():
    left.plot(list(branch), [float(s["free_energy"]) for s in branch.values()], ".-", label=name)
    right.plot(list(branch), [float(s["test_mse"]) for s in branch.values()], ".-", label=name)
left.set(xlabel=r"samples per dimension $\alpha$", ylabel="energy")
right.set(xlabel=r"samples per dimension $\alpha$", ylabel="test error")
left.legend()
figure.tight_layout()
plt.show()

# %%
# The crossing, between the two values where the sign changes:

common = sorted(set(branches["positional"]) & set(branches["semantic"]))
gap = [float(branches["semantic"][a]["free_energy"] - branches["positional"][a]["free_energy"]) for a in common]
crossing = np.interp(0.0, gap[::-1], common[::-1])
print(f"meaning takes over at about alpha = {crossing:.2f}")
