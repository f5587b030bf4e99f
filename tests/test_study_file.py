"""A study as a file, and `quenched sweep`."""

import json

import numpy as np
import pytest
import xarray as xr

import quenched as qn
from quenched import cli
from quenched.studies import study_file

STUDY = """
problem = "GeneralizedLinear"
[parameters]
loss = "square"
target = "linear"
noise = 0.1
weight_decay = 0.1
[over]
alpha = { geomspace = [0.5, 8.0, 5] }
[simulate]
dim = 30
seeds = 2
every = 4
"""


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "ridge.toml"
    path.write_text(STUDY)
    return path


def test_a_file_holds_the_arguments_of_a_sweep(study):
    given = study_file.read(study)
    assert given["store"] == study.parent / "ridge" and given["simulate"] == {"dim": 30, "seeds": 2, "every": 4}
    np.testing.assert_allclose(given["over"]["alpha"], np.geomspace(0.5, 8.0, 5))
    assert given["problem"].noise == 0.1 and given["problem"].alpha == 0.5
    study.write_text(STUDY.replace("[over]", "[solve]\ntol = 1e-9\n[over]").replace("geom", "lin"))
    given = study_file.read(study)
    assert given["tol"] == 1e-9 and given["over"]["alpha"][1] == pytest.approx(2.375)
    study.write_text(STUDY.replace("{ geomspace = [0.5, 8.0, 5] }", "[1.0, 2.0]").replace("problem =", 'store = "here"\nproblem ='))
    given = study_file.read(study)
    assert given["over"]["alpha"] == [1.0, 2.0] and given["store"] == study.parent / "here"


def test_laws_are_stated_by_their_arguments(tmp_path):
    path = tmp_path / "mixture.toml"
    path.write_text(
        'problem = "MixtureClassification"\n[parameters]\nloss = "square"\nalpha = 1.0\n'
        "law = { weights = [0.5, 0.5], gram = [[1.0, -1.0], [-1.0, 1.0]], labels = [-1, 1] }\n[over]\nweight_decay = [0.1]\n"
    )
    assert study_file.read(path)["problem"].law.prob.tolist() == [0.5, 0.5]


def test_laws_that_lack_an_argument(tmp_path):
    path = tmp_path / "mixture.toml"
    path.write_text('problem = "MixtureClassification"\n[parameters]\nloss = "square"\nalpha = 1.0\nlaw = { means = [[1.0]] }\n'
                    "[over]\nweight_decay = [0.1]\n")  # fmt: skip
    with pytest.raises(ValueError, match="law must hold the arguments of quenched.laws.mixture: .* 'weights'"):
        study_file.read(path)


@pytest.mark.parametrize(("simulate", "sentence"), [("seeds = 2", "simulate must hold 'dim'"), ("dim = 30\nfoo = 2", "got 'foo'")])
def test_experiments_that_cannot_be_made(tmp_path, capsys, simulate, sentence):
    path = tmp_path / "study.toml"
    path.write_text(STUDY.partition("[simulate]")[0] + f"[simulate]\n{simulate}\n")
    assert cli.main(["sweep", str(path)]) == cli.BAD_INPUT
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("problem =", "problem", "must be a file of TOML"),
        ('"GeneralizedLinear"', '"GeneralisedLinear"', "no problem is called 'GeneralisedLinear'; did you mean GeneralizedLinear"),
        ('problem = "GeneralizedLinear"', "", "must hold 'problem', got parameters, over, simulate"),
        ("[over]", "[ever]", "a key must be one of 'problem', .*got 'ever'"),
        ("geomspace", "logspace", "over.alpha must be a list of numbers or words, or linspace or geomspace"),
        ("{ geomspace = [0.5, 8.0, 5] }", "0.5", "over.alpha must be a list of numbers or words, .* got 0.5"),
        ("{ geomspace = [0.5, 8.0, 5] }", "[2020-01-01]", "over.alpha must be a list of numbers or words"),
        ("problem =", "store = 3\nproblem =", "store must be a word, got 3"),
        ("[over]", "[solve]\nstore = 'x'\n[over]", r"a key of \[solve\] must be one of 'init', 'tol', .* got 'store'"),
        ("noise", "law = { means = [1] }\nnoise", "GeneralizedLinear takes loss"),
        ("8.0, 5]", "8.0]", r"over.alpha: geomspace must be \[first, last, how many\]"),
        ("[0.5,", "[-0.5,", "over.alpha: geomspace must lie between positive numbers"),
        ("[0.5, 8.0, 5]", '["a", 8.0, 5]', "over.alpha: geomspace must be"),
        ("noise", "nose", "GeneralizedLinear takes loss, .* got 'nose'"),
        ("weight_decay = 0.1", "", "GeneralizedLinear needs weight_decay"),
        ("[simulate]", "[[simulate]]", r"simulate must be a table \[simulate\]"),
    ],
)
def test_what_is_no_study_is_refused(study, capsys, old, new, sentence):
    study.write_text(STUDY.replace(old, new))
    with pytest.raises(ValueError, match=sentence):
        study_file.read(study)
    assert cli.main(["sweep", str(study)]) == cli.BAD_INPUT and capsys.readouterr().err.startswith("quenched: ")


def test_the_command_does_shards_and_goes_on(study, capsys):
    assert cli.main(["sweep", str(study), "--shard", "2/2", "--json"]) == cli.OK
    out = capsys.readouterr()
    assert json.loads(out.out) == {
        "points": 5, "converged": 2, "trials": 2, "failed": [], "data": str(study.parent / "ridge" / "data.nc"),
    }  # fmt: skip
    assert "done: 4 of 4" in out.err
    assert cli.main(["sweep", str(study), "--store", str(study.parent / "all"), "--merge", str(study.parent / "ridge")]) == cli.OK
    assert "5 of 5 points converged, 4 trials" in capsys.readouterr().out
    with xr.open_dataset(study.parent / "all" / "data.nc") as data:
        given = study_file.read(study) | {"store": None}
        xr.testing.assert_identical(data.load(), qn.sweep(**given))
    for shard, sentence in (("2", "--shard must be K/N"), ("3/2", "shard must be (k, n) with k from 1 to n")):
        assert cli.main(["sweep", str(study), "--shard", shard]) == cli.BAD_INPUT
        assert sentence in capsys.readouterr().err


def test_an_interrupted_command_says_that_nothing_is_lost(study, capsys, monkeypatch):
    def interrupted(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("quenched.studies.sweep", interrupted)
    assert cli.main(["sweep", str(study)]) == cli.INTERRUPTED
    assert "what was stored is kept" in capsys.readouterr().err
