"""Draw the pictures of the documentation that are no figures of the report: of pairs, and of the general problem."""

import pathlib
import sys

import numpy as np

import quenched as qn

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs" / "figures"


def siamese():
    """Test error and overlap with the clusters' mean against pairs per dimension."""
    problem = qn.problems.Siamese(alpha=3.0, weight_decay=0.6, separation=1.5, positive=0.7, spectrum=[0.6, 1.0])
    over, simulate = {"alpha": np.geomspace(1.5, 12.0, 10)}, {"dim": 400, "seeds": 12, "every": 3}
    return qn.sweep(problem, over, simulate, along="alpha"), ("test_error", "m")


def sequence():
    """Two clusters of different width, of which one is rare: the test error and the training loss against samples per dimension."""
    law = qn.laws.mixture(weights=[0.7, 0.3], gram=[[1.0, -1.0], [-1.0, 1.0]], covariances=[1.0, 0.5], labels=[-1, 1])
    problem = qn.SequenceProblem(
        law, "logistic", alpha=2.0, weight_decay=0.1, observables={"test_error": lambda h, label: label * h[0, 0] < 0}
    )
    over, simulate = {"alpha": np.geomspace(0.2, 20.0, 25)}, {"dim": 400, "seeds": 12, "every": 6}
    return qn.sweep(problem, over, simulate), ("test_error", "train_loss")


def main(names):
    import matplotlib.pyplot as plt

    for name in names:
        data, shown = {"siamese": siamese, "sequence": sequence}[name]()
        with qn.plotting.style("screen"):
            figure, panels = plt.subplots(1, len(shown), figsize=(9.0, 3.6))
            for ax, observable in zip(panels, shown, strict=True):
                qn.plotting.curve(data, observable, x="alpha", ax=ax)
            figure.savefig(FOLDER / f"{name}.png", dpi=110)
        print(data[[v for v in data.data_vars if v.startswith(shown)]].to_dataframe().to_string())
        print(FOLDER / f"{name}.png", data.attrs["failed"])


if __name__ == "__main__":
    main(sys.argv[1:] or ("siamese", "sequence"))
