"""Random parameters for every problem, valid, at the edge and nonsense: each must end in a certified number, a mark, or a sentence.

``python tests/fuzz.py 200`` is a short run, ``2000 --seed 1 --even`` a long one with all problems alike.
"""

import argparse
import collections
import contextlib
import io
import math
import os
import sys
import time
import traceback
import warnings

import numpy as np

import quenched as qn
from quenched.problems import SolveError
from quenched.problems.catalogue import catalogue, parameters
from quenched.studies.limits import OutOfTime, limited

CLUSTERS = qn.laws.mixture([0.5, 0.5], gram=[[2.0, -2.0], [-2.0, 2.0]], covariances=[0.5, 0.5])
LABELLED = qn.laws.mixture([0.4, 0.6], gram=[[1.0, -1.0], [-1.0, 1.0]], labels=[-1, 1])
THREE = qn.laws.mixture([0.3, 0.3, 0.4], gram=np.eye(3).tolist(), covariances=[1.0, 0.5, 0.2])
NETWORK = qn.laws.DeepNetwork(width_ratios=[1.0, 0.5], activations=["tanh", "erf"])
SHALLOW = qn.laws.DeepNetwork(width_ratios=[2.0], activations=["tanh"])

#: What is well-formed, by the name of the parameter, or by "Problem.name" where it is of another kind there. Few structures, since
#: each is compiled; any number.
VALID = {
    "alpha": lambda r: 10 ** r.uniform(-1.5, 2.0),
    "alpha0": lambda r: r.choice([1.0, 8.0, 20.0, math.inf]),
    "weight_decay": lambda r: 10 ** r.uniform(-6, 2),
    "noise": lambda r: r.choice([0.0, 1e-3, 0.1, 1.0]),
    "omega": lambda r: r.uniform(),
    "token_std": lambda r: 10 ** r.uniform(-0.7, 0.3),
    "positional_matrix": lambda r: [[0.6, 0.4], [0.4, 0.6]],
    "loss": lambda r: r.choice(["square", "logistic", "hinge"]),
    "target": lambda r: r.choice(["linear", "sign"]),
    "intercept": lambda r: bool(r.uniform() < 0.2),
    "activation": lambda r: "tanh",
    "units": lambda r: 1,
    "target_units": lambda r: 1,
    "law": lambda r: LABELLED,
    "separation": lambda r: 10 ** r.uniform(-1, 1),
    "positive": lambda r: r.uniform(0.05, 0.95),
    "cluster_std": lambda r: 10 ** r.uniform(-2, 0.5),
    "n_samples": lambda r: int(r.integers(1, 40)),
    "samples_per_cluster": lambda r: [int(r.integers(2, 9)), int(r.integers(2, 9))],
    "means_gram": lambda r: (np.eye(2) * 10 ** r.uniform(-1, 1)).tolist(),
    "cluster_stds": lambda r: [0.3, 10 ** r.uniform(-2, 0.3)],
    "learning_rate": lambda r: r.choice([0.0, 0.1, 1.0, 3.0]),
    "width_ratio": lambda r: 10 ** r.uniform(-1, 1),
    "widths": lambda r: (10 ** r.uniform(-0.7, 0.7),),
    "activations": lambda r: "relu",
    "task": lambda r: r.choice(["regression", "classification"]),
    "Committee.activation": lambda r: "erf",
    "DenoisingAutoencoder.law": lambda r: CLUSTERS,
    "DenoisingAutoencoder.noise": lambda r: r.uniform(0.05, 0.95),
    "OnlineDiffusion.law": lambda r: CLUSTERS,
    "OnlineDiffusion.activation": lambda r: r.choice(["tanh", "erf"]),
    "OnlineDiffusion.training_time": lambda r: 10 ** r.uniform(-1, 1),
    "FlowFromMixture.units": lambda r: int(r.integers(1, 3)),
    "OneGradientStep.target": lambda r: "tanh",
    "OneGradientStep.loss": lambda r: "square",
    "DeepFeatures.learner": lambda r: NETWORK,
    "DeepFeatures.target": lambda r: SHALLOW,
    "DeepFeatures.loss": lambda r: "square",
}
EDGE = [0.0, -0.0, 1e-300, 1e-12, 1e300, 1.0, -1.0, 0.5, 1, 0, -1, 10**30, math.nan, math.inf, -math.inf, np.float32(0.1)]
NONSENSE = [
    None, "", "no such thing", "alpha", [], [1.0], {}, {"a": 1}, object(), True, 1j, np.zeros((0,)), np.zeros((2, 3, 4)),
    np.array(["a"]), b"bytes", (), [[1.0, 2.0], [3.0]], print, lambda *a: 1 / 0, float, THREE, NETWORK, range(3),
]  # fmt: skip


#: Problems of which one solve is compiled for a minute: drawn less often where they would be solved, unless all count alike.
DEAR = ("Attention", "Committee", "DenoisingAutoencoder", "PhaseRetrieval", "Siamese")


def case(rng, even: bool = False):
    """A problem class with arguments, and of which kind they are."""
    kind = ("valid", "edge", "nonsense")[rng.choice(3, p=[0.4, 0.3, 0.3])]
    names = sorted(catalogue())
    weights = np.array([0.05 if name in DEAR and kind != "nonsense" and not even else 1.0 for name in names])
    name = names[rng.choice(len(names), p=weights / weights.sum())]
    cls = catalogue()[name]
    known = parameters(cls)
    given = {}
    for parameter, about in known.items():
        make = VALID.get(f"{name}.{parameter}", VALID.get(parameter))
        if make is not None and (about.default is about.empty or rng.uniform() < 0.5):
            value = make(rng)
            given[parameter] = value.item() if isinstance(value, np.generic) else value
    if kind != "valid":
        pool = EDGE if kind == "edge" else NONSENSE
        for parameter in rng.choice(list(known), size=rng.integers(1, 3)):
            given[str(parameter)] = pool[rng.integers(len(pool))]
    return kind, cls, given


def outcome(cls, given, seconds: float) -> tuple[str, str]:
    """("certified" | "marked" | "sentence" | "defect", what was seen)."""

    def work():
        return cls(**given).solve()

    try:
        with warnings.catch_warnings(record=True) as said, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("always")
            solution = limited(work, seconds)
    except OutOfTime as error:
        return "defect", f"hang: {error}"
    except (ValueError, TypeError, SolveError) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename}:{frame.lineno}"
        if "quenched" not in frame.filename or not str(error).strip():
            return "defect", f"{type(error).__name__} from {where}: {error}"
        return "sentence", f"{type(error).__name__}: {error}"
    except BaseException as error:
        return "defect", "".join(traceback.format_exception_only(error)) + str(traceback.extract_tb(error.__traceback__)[-1])
    foreign = [w for w in said if not issubclass(w.category, UserWarning)]
    if foreign:
        return "defect", f"{foreign[0].category.__name__} from {foreign[0].filename}:{foreign[0].lineno}: {foreign[0].message}"
    trusted = solution.converged and solution.stable and not solution.approximate
    if not trusted:
        return "marked", solution.status
    numbers = {**solution.order_parameters, **solution.observables}
    bad = [name for name, value in numbers.items() if not np.all(np.isfinite(np.asarray(value, dtype=float)))]
    return ("defect", f"trusted, but not finite: {', '.join(bad)}") if bad else ("certified", solution.status)


def run(numbers, seed: int, seconds: float = 900.0, out=None, even: bool = False):
    """(kind, outcome) -> how many, and the defects; every case is drawn from ``seed`` and its own number."""
    counts, defects = collections.Counter(), []
    for number in numbers:
        kind, cls, given = case(np.random.default_rng([seed, number]), even)
        start = time.perf_counter()
        end, text = outcome(cls, given, seconds)
        counts[kind, end] += 1
        took, text = time.perf_counter() - start, " ".join(text.split())
        line = f"{number} {took:.1f} s {kind} {end}: {cls.__name__}({_words(given)}): {text}"
        if end == "defect":
            defects.append(line)
        if out is not None:
            print(line, file=out, flush=True)
    return counts, defects


def _words(given):
    return ", ".join(f"{name}={' '.join(repr(value).split())[:60]}" for name, value in given.items())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--even", action="store_true")
    arguments = parser.parse_args()
    found, bad = run(range(arguments.first, arguments.first + arguments.count), arguments.seed, out=sys.stdout, even=arguments.even)
    print(*bad, sep="\n")
    print(dict(found), f"{len(bad)} defects")
    sys.stdout.flush()
    os._exit(bool(bad))  # threads that were left to themselves would abort the end of the interpreter
