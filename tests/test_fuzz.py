"""The fuzzer (``python tests/fuzz.py 200``) tells sentences from defects."""

import subprocess
import sys

import fuzz
import pytest


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


@pytest.mark.slow
@pytest.mark.parametrize("first", (0, 50, 100, 150))
def test_no_parameters_end_in_a_traceback_or_a_hang(first):
    """In a process of its own, as users run it: the annotations of internal functions are not checked there."""
    command = [sys.executable, fuzz.__file__, "50", "--first", str(first)]
    end = subprocess.run(command, capture_output=True, text=True)
    assert end.returncode == 0, end.stdout[-4000:] + end.stderr[-2000:]
    assert end.stdout.count(" certified: ") >= 5
