"""Two hundred random parameter sets over all problems: each ends in a certified number, a marked result, or a sentence."""

import fuzz
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_random_parameters_end_well(part):
    counts, defects = fuzz.run(range(50 * part, 50 * (part + 1)), seed=0)
    assert not defects, "\n".join(defects)
    assert sum(counts.values()) == 50 and len({end for _, end in counts}) == 3


def test_what_the_fuzzer_calls_a_defect():
    class Problem:
        def __init__(self, kind):
            self.kind = kind

        def solve(self):
            if self.kind == "inside":
                import numpy as np

                np.linalg.cholesky([[-1.0]])
            raise KeyError("unforeseen")

    assert fuzz.outcome(Problem, {"kind": "inside"}, 5.0)[0] == "defect"
    assert fuzz.outcome(Problem, {"kind": "other"}, 5.0)[0] == "defect"
    import quenched as qn

    end, text = fuzz.outcome(qn.GeneralizedLinear, {"loss": "square", "target": "linear", "alpha": -1.0, "weight_decay": 0.1}, 60.0)
    assert end == "sentence" and "alpha must be positive, got -1.0" in text
