"""Sweeps that are stored: what was finished is never computed again, never lost, never mixed with another study."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import xarray as xr

import quenched as qn
from quenched.studies import executors, store, tasks
from quenched.studies.records import Solved, padded

RIDGE = qn.problems.GeneralizedLinear("square", "linear", alpha=1.0, weight_decay=0.1, noise=0.1)
OVER = {"weight_decay": [0.1, 1.0], "alpha": [0.5, 1.0, 2.0, 4.0]}
SIMULATE = {"dim": 40, "seeds": 3, "every": {"alpha": 2}}


@pytest.fixture(scope="module")
def whole():
    return qn.sweep(RIDGE, OVER, SIMULATE)


@pytest.fixture
def counted(monkeypatch):
    """How many points of theory and trials are computed."""
    counts = {"theory": 0, "trials": 0}
    solve, simulate = tasks.solve_block, tasks.simulate

    def count_solve(problems, options):
        counts["theory"] += len(problems)
        return solve(problems, options)

    def count_simulate(problem, settings, seeds, *rest):
        counts["trials"] += len(seeds)
        return simulate(problem, settings, seeds, *rest)

    monkeypatch.setattr(tasks, "solve_block", count_solve)
    monkeypatch.setattr(tasks, "simulate", count_simulate)
    return counts


def opened(path):
    with xr.open_dataset(path / "data.nc") as data:
        return data.load()


def test_a_store_holds_the_dataset_and_nothing_is_computed_twice(whole, counted, tmp_path):
    xr.testing.assert_identical(qn.sweep(RIDGE, OVER, SIMULATE, store=tmp_path / "study"), whole)
    xr.testing.assert_identical(opened(tmp_path / "study"), whole)
    assert counted == {"theory": 8, "trials": 12}
    xr.testing.assert_identical(qn.sweep(RIDGE, OVER, SIMULATE, store=str(tmp_path / "study")), whole)
    assert counted == {"theory": 8, "trials": 12}
    manifest = json.loads((tmp_path / "study" / "manifest.json").read_text())
    assert manifest["study"]["noise"]["value"] == 0.1 and manifest["study"]["quenched"]["value"] == qn.__version__
    assert len(manifest["fingerprint"]) == 32


class Stop(Exception):
    """Somebody stops the sweep."""


@pytest.mark.parametrize("after", [3, 11, 16])
def test_interrupted_at_any_point_it_goes_on_to_the_same_bits(whole, counted, tmp_path, monkeypatch, after):
    monkeypatch.setattr(tasks, "BLOCK", 0.5)  # one point for two cores
    seen = []

    def stop(done, total, what):
        seen.append(done)
        if done >= after:
            raise Stop

    with pytest.raises(Stop):
        qn.sweep(RIDGE, OVER, SIMULATE, store=tmp_path, progress=stop)
    first = dict(counted)
    assert first["theory"] + first["trials"] == seen[-1] < 20
    partial = opened(tmp_path)
    assert int(np.isfinite(partial["residual"]).sum()) == first["theory"] and int(partial["trials"].sum()) == first["trials"]
    begun = []
    data = qn.sweep(RIDGE, OVER, SIMULATE, store=tmp_path, progress=lambda done, total, what: begun.append(done))
    xr.testing.assert_identical(data, whole)
    assert counted == {"theory": 8, "trials": 12} and begun[0] >= seen[-1]


def test_seeds_and_values_are_added(whole, counted, tmp_path):
    fewer = {"weight_decay": OVER["weight_decay"], "alpha": [0.5, 2.0]}
    qn.sweep(RIDGE, fewer, SIMULATE | {"seeds": 2, "every": 1}, store=tmp_path)
    assert counted == {"theory": 4, "trials": 8}
    xr.testing.assert_identical(qn.sweep(RIDGE, OVER, SIMULATE, store=tmp_path), whole)
    assert counted == {"theory": 8, "trials": 12}
    one = qn.sweep(RIDGE, OVER, SIMULATE | {"seeds": [2]}, store=tmp_path)
    assert counted == {"theory": 8, "trials": 12} and one["trials"].max() == 1
    xr.testing.assert_identical(qn.sweep(RIDGE, OVER, store=tmp_path), qn.sweep(RIDGE, OVER))


def test_shards_make_the_whole(whole, tmp_path):
    for k in (1, 2, 3):
        part = qn.sweep(RIDGE, OVER, SIMULATE, store=tmp_path / f"part{k % 2}", shard=(k, 3))
    assert (part["status"] == "not computed").any()
    merged = qn.sweep(RIDGE, OVER, SIMULATE, store=tmp_path / "all", merge=[tmp_path / "part0", tmp_path / "part1"])
    xr.testing.assert_identical(merged, whole)
    with pytest.raises(ValueError, match="merge names another study: noise is there 0.1, here 0.2"):
        qn.sweep(RIDGE.replace(noise=0.2), OVER, store=tmp_path / "new", merge=tmp_path / "all")


def test_another_study_is_never_mixed_in(tmp_path):
    qn.sweep(RIDGE, {"alpha": [1.0]}, {"dim": 20, "seeds": 2}, store=tmp_path / "study", tol=1e-9)
    changed = [
        ((RIDGE.replace(noise=0.2), {"alpha": [1.0]}), {}, "noise is there 0.1, here 0.2"),
        ((RIDGE, {"weight_decay": [1.0]}), {}, r"over is there \['alpha'\], here \['weight_decay'\]"),
        ((RIDGE, {"alpha": [1.0]}, {"dim": 30}), {"tol": 1e-9}, "dim is there 20, here 30"),
        ((RIDGE, {"alpha": [1.0]}), {"tol": 1e-7}, "tol is there 1e-09, here 1e-07"),
        ((RIDGE, {"alpha": [1.0]}), {}, "tol is there 1e-09, here not given"),
    ]
    for arguments, options, sentence in changed:
        with pytest.raises(ValueError, match=f"store holds another study: {sentence}; give this one a directory of its own"):
            qn.sweep(*arguments, store=tmp_path / "study", **options)
    laws = [qn.laws.mixture([0.5, 0.5], gram=[[g, -g], [-g, g]], labels=[-1, 1]) for g in (1.0, 2.0)]
    mixtures = [qn.SequenceProblem(law, "logistic", alpha=1.0, weight_decay=0.1) for law in laws]
    qn.sweep(mixtures[0], {"alpha": [1.0]}, store=tmp_path / "mixture")
    with pytest.raises(ValueError, match="law is '.*' in both, but it holds other things"):
        qn.sweep(mixtures[1], {"alpha": [1.0]}, store=tmp_path / "mixture")


def test_directories_that_are_no_store(tmp_path):
    (tmp_path / "file").write_text("text")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("text")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "manifest.json").write_text("{")
    for name, sentence in (("file", "got the file"), ("full", "an empty directory or one that"), ("broken", "can read, got")):
        with pytest.raises(ValueError, match=f"store must be .*{sentence}"):
            qn.sweep(RIDGE, {"alpha": [1.0]}, store=tmp_path / name)


def test_files_appear_whole_or_not_at_all(tmp_path):
    with pytest.raises(Stop):
        store._whole(tmp_path / "a.nc", lambda path: (path.write_text("half"), (_ for _ in ()).throw(Stop()))[0])
    assert list(tmp_path.iterdir()) == []
    store._whole(tmp_path / "a.nc", lambda path: path.write_text("all"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.nc"]


def test_along_a_branch_each_solution_starts_from_the_one_before(tmp_path):
    committee = qn.problems.GeneralizedLinear("logistic", "sign", alpha=1.0, weight_decay=0.1)
    over = {"alpha": [1.0, 1.5, 2.0, 2.5]}
    found = qn.problems.follow(committee, "alpha", over["alpha"], "uninformed")
    data = qn.sweep(committee, over, along="alpha", init="uninformed")
    assert data["test_error"].values.tolist() == [float(found[a]["test_error"]) for a in over["alpha"]]

    def stop(done, total, what):
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        qn.sweep(committee, over, along="alpha", init="uninformed", store=tmp_path, progress=stop)
    xr.testing.assert_identical(qn.sweep(committee, over, along="alpha", init="uninformed", store=tmp_path), data)
    longer, begun = {"alpha": [*over["alpha"], 3.0]}, []  # what was solved stays, and is gone on from
    options = {"along": "alpha", "init": "uninformed", "store": tmp_path}
    more = qn.sweep(committee, longer, progress=lambda done, total, what: begun.append(done), **options)
    assert begun[0] == 4
    xr.testing.assert_identical(more, qn.sweep(committee, longer, along="alpha", init="uninformed"))
    other = {"alpha": [1.0, 2.0]}  # the way matters
    again = qn.sweep(committee, other, along="alpha", init="uninformed", store=tmp_path)
    xr.testing.assert_identical(again, qn.sweep(committee, other, along="alpha", init="uninformed"))


class Moody(qn.problems.GeneralizedLinear):
    """Solves and trials that fail in every way."""

    def _start(self, name):
        if self.alpha == 1.0:
            raise KeyError("nobody foresaw this")
        return super()._start(name)

    def simulate(self, dim, seeds=8, **options):
        if self.alpha == 2.0 and 1 in seeds:
            raise ValueError("seed 1 is refused")
        if self.alpha == 3.0:
            raise MemoryError("no room")
        if self.alpha == 4.0 and "SLEEPY" in os.environ:
            time.sleep(8.0)
        return super().simulate(dim, seeds, **options)


def test_failures_are_recorded_with_their_reason_and_end_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SLEEPY", "yes")
    moody = Moody("square", "linear", alpha=1.0, weight_decay=0.1)
    over, trials = {"alpha": [1.0, 2.0, 3.0, 4.0, 5.0]}, {"dim": 20, "seeds": 2, "n_jobs": 1}

    def failed(simulate, **options):
        with pytest.warns(UserWarning, match="failures?: "):
            data = qn.sweep(moody, over, simulate, store=tmp_path, **options)
        return data, data.attrs["failed"].splitlines()

    assert failed(None)[1] == ["alpha=1: KeyError: 'nobody foresaw this'"]
    data, lines = failed(trials, time_limit=2.5)
    assert lines == [
        "alpha=1: KeyError: 'nobody foresaw this'",
        "alpha=2: simulation: 1 of 2 trials were left out: seed 1 is refused",
        "alpha=3: simulation, seed 0: MemoryError: no room",
        "alpha=3: simulation, seed 1: MemoryError: no room",
        "alpha=4: simulation, seed 0: OutOfTime: took more than the time limit of 2.5 s",
        "alpha=4: simulation, seed 1: OutOfTime: took more than the time limit of 2.5 s",
    ]
    assert data["trials"].values.tolist() == [2, 1, 0, 0, 2] and data["trusted"].values.tolist() == [False, True, True, True, True]
    monkeypatch.delenv("SLEEPY")
    data, lines = failed(trials)  # it would take less time; what may have been an accident is tried again
    assert len(lines) == 4 and data["trials"].values.tolist() == [2, 1, 0, 2, 2]


def test_a_solve_that_takes_too_long(monkeypatch):
    monkeypatch.setattr(tasks, "solve_block", lambda problems, options: time.sleep(2.0))
    with pytest.raises(ValueError, match="no point .* alpha=1: OutOfTime: took more than the time limit"):
        qn.sweep(RIDGE, {"alpha": [1.0, 2.0]}, time_limit=0.1)


def test_a_point_that_takes_too_long_does_not_take_its_neighbours_along(monkeypatch):
    expected, solve = qn.sweep(RIDGE, {"alpha": [1.0, 2.0, 3.0]}), tasks.solve_block

    def slow(problems, options):
        if any(float(problem.alpha) == 2.0 for problem in problems):
            time.sleep(4.0)
        return solve(problems, options)

    monkeypatch.setattr(tasks, "solve_block", slow)
    with pytest.warns(UserWarning, match="failures?: "):
        data = qn.sweep(RIDGE, {"alpha": [1.0, 2.0, 3.0]}, time_limit=2.0)
    assert data.attrs["failed"] == "alpha=2: OutOfTime: took more than the time limit of 2 s"
    assert data["test_mse"][[0, 2]].values.tolist() == expected["test_mse"][[0, 2]].values.tolist()
    assert np.isnan(data["test_mse"][1]) and not data["trusted"][1]


def test_a_store_gives_back_arrays_of_every_shape(tmp_path):
    """A point of one unit has a number where a point of two has a matrix."""
    manifests = {"manifest": {}, "theory": {}}
    kept = store.Store(tmp_path, manifests)
    values = {"a": {"q": np.array(1.0), "none": np.zeros((0, 2))}, "b": {"q": np.array([[2.0, np.nan], [4.0, 5.0]])}, "c": {}}
    kept.add([Solved(name, held, "fine", "") for name, held in values.items()])
    back = store.Store(tmp_path, manifests).solved
    for name, held in values.items():
        assert back[name].values.keys() == held.keys()
        for key, array in held.items():
            assert back[name].values[key].shape == array.shape
            np.testing.assert_array_equal(back[name].values[key], array)


def test_lines_go_on_in_another_store_from_where_they_were(tmp_path):
    """Back and forth: every value starts from the nearest before, which need not be the last."""
    problem, over = qn.problems.GeneralizedLinear("logistic", "sign", alpha=1.0, weight_decay=0.1), {"alpha": [1.0, 3.0, 1.2, 2.8]}
    whole = qn.sweep(problem, over, along="alpha", init="uninformed")

    def stop(done, total, what):
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        qn.sweep(problem, over, along="alpha", init="uninformed", store=tmp_path / "a", progress=stop)
    merged = qn.sweep(problem, over, along="alpha", init="uninformed", store=tmp_path / "b", merge=tmp_path / "a")
    xr.testing.assert_identical(merged, whole)


def test_arguments_that_no_trial_understands_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no trial of the sweep could be computed; the first: alpha=1: .*dim must be"):
        qn.sweep(RIDGE, {"alpha": [1.0, 2.0]}, {"dim": 0}, solve=False)
    with pytest.raises(ValueError, match=r"simulate\['seeds'\] must differ from each other, got \[1, 1\]"):
        qn.sweep(RIDGE, {"alpha": [1.0]}, {"dim": 20, "seeds": [1, 1]})


def test_values_of_different_shapes_are_padded():
    out = padded([np.ones((2, 1)), None, np.full((1, 2), 3.0)])
    assert out.shape == (3, 2, 2) and np.isnan(out[1]).all() and out[2, 0].tolist() == [3.0, 3.0] and np.isnan(out[2, 1]).all()


def test_experiments_alone(whole):
    data = qn.sweep(RIDGE, OVER, SIMULATE, solve=False)
    np.testing.assert_array_equal(data["test_mse_mean"], whole["test_mse_mean"])
    assert "test_mse" not in data and "converged" not in data
    with pytest.raises(ValueError, match="simulate must be given where solve is False"):
        qn.sweep(RIDGE, OVER, solve=False)


def test_only_what_is_checked_is_taken_in(tmp_path):
    """Trials of another size, solutions of another tolerance: a sweep that has no use for them does not pass them on."""
    qn.sweep(RIDGE, {"alpha": [1.0]}, {"dim": 10, "seeds": 2}, store=tmp_path / "small")
    qn.sweep(RIDGE, {"alpha": [1.0]}, store=tmp_path / "theory", merge=tmp_path / "small")
    trials = {"dim": 60, "seeds": 2}
    fresh = qn.sweep(RIDGE, {"alpha": [1.0]}, trials)
    xr.testing.assert_identical(qn.sweep(RIDGE, {"alpha": [1.0]}, trials, store=tmp_path / "theory"), fresh)
    qn.sweep(RIDGE, {"alpha": [1.0]}, tol=0.5, store=tmp_path / "rough")
    alone = qn.sweep(RIDGE, {"alpha": [1.0]}, trials, solve=False, store=tmp_path / "trials", merge=tmp_path / "rough")
    assert not any(name.endswith("_deviation") for name in alone)
    xr.testing.assert_identical(qn.sweep(RIDGE, {"alpha": [1.0]}, trials, store=tmp_path / "trials"), fresh)


def test_what_could_not_be_done_does_not_decide_what_a_store_is_for(tmp_path):
    wrong = (({"dim": 20, "sedes": 2}, TypeError), ({"dim": "20"}, ValueError), ({"dim": 20, "init": "x"}, ValueError))
    for simulate, error in wrong:
        with pytest.raises(error):
            qn.sweep(RIDGE, {"alpha": [1.0, 2.0]}, simulate, solve=False, store=tmp_path)
    data = qn.sweep(RIDGE, {"alpha": [1.0, 2.0]}, {"dim": 20, "seeds": 2}, solve=False, store=tmp_path)
    assert data["trials"].values.tolist() == [2, 2]


def test_theory_stays_where_no_trial_is_made(tmp_path):
    with pytest.warns(UserWarning, match="2 failures: alpha=1: simulation: 1 of 1 trials were left out: .*dim must be"):
        data = qn.sweep(RIDGE, {"alpha": [1.0, 2.0]}, {"dim": 0, "seeds": 1})
    assert data["trusted"].all() and (data["trials"] == 0).all()


def test_the_part_of_a_shard_may_fail(tmp_path):
    moody = Moody("square", "linear", alpha=1.0, weight_decay=0.1)
    with pytest.warns(UserWarning, match="1 failure: alpha=1: KeyError"):
        data = qn.sweep(moody, {"alpha": [1.0, 2.0]}, store=tmp_path, shard=(1, 2))
    assert not data["converged"].any()


def test_the_last_of_several_processes_publishes_all_points(tmp_path, monkeypatch):
    """Two shards on one store, the second begins and ends within the first."""
    monkeypatch.setattr(tasks, "BLOCK", 0.5)

    def progress(done, total, what):
        if done == 1:
            qn.sweep(RIDGE, OVER, store=tmp_path, shard=(2, 2))

    first = qn.sweep(RIDGE, OVER, store=tmp_path, shard=(1, 2), progress=progress)
    both = qn.sweep(RIDGE, OVER)
    xr.testing.assert_identical(first, both)
    xr.testing.assert_identical(opened(tmp_path), both)


def test_damaged_files_are_left_aside(whole, tmp_path):
    qn.sweep(RIDGE, OVER, SIMULATE, store=tmp_path)
    files = sorted((tmp_path / "points").glob("*.npz"))
    files[0].write_bytes(files[0].read_bytes()[:100])
    files[-1].write_bytes(b"")
    np.savez(tmp_path / "points" / "foreign.npz", a=np.zeros(2))
    with pytest.warns(UserWarning, match=r"npz cannot be read \(.*\), and is left aside") as caught:
        data = qn.sweep(RIDGE, OVER, SIMULATE, store=tmp_path)
    assert len([w for w in caught if "left aside" in str(w.message)]) == 3
    xr.testing.assert_identical(data, whole)


def test_the_same_numbers_written_otherwise(counted, tmp_path):
    qn.sweep(RIDGE, {"alpha": [1, 2]}, {"dim": 20, "seeds": 2}, store=tmp_path, tol=1e-9)
    again = {"dim": np.int64(20), "seeds": 2}
    qn.sweep(RIDGE, {"alpha": np.array([1.0, 2.0, 2.5])}, again, store=tmp_path, tol=np.float64(1e-9))
    assert counted == {"theory": 3, "trials": 6}


@pytest.mark.slow
def test_words_and_truth_values_of_any_kind(tmp_path):
    made = qn.sweep(RIDGE, {"intercept": [False, True]}, store=tmp_path)
    assert made["intercept"].dtype == bool and made["trusted"].all()
    assert opened(tmp_path)["intercept"].values.tolist() == [False, True]
    words = qn.sweep(RIDGE, {"loss": np.array(["square", "huber"], dtype=object)})
    assert words["loss"].values.tolist() == ["square", "huber"]


def test_a_file_system_without_links(monkeypatch, tmp_path):
    def refuse(*names):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    qn.sweep(RIDGE, {"alpha": [1.0]}, store=tmp_path)
    with pytest.raises(ValueError, match="another study"):
        qn.sweep(RIDGE.replace(noise=0.3), {"alpha": [1.0]}, store=tmp_path)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"executor": "threads"}, "executor must be one of .*processes.*'threads'"),
        ({"executor": 3}, "executor must be None, 'processes' or a concurrent.futures.Executor, got 3"),
        ({"time_limit": 0.0}, "time_limit must be positive"),
        ({"shard": (3, 2)}, r"shard must be \(k, n\) with k from 1 to n, got \(3, 2\)"),
        ({"shard": 3}, r"shard must be \(k, n\), the k-th of n parts, got 3"),
        ({"along": "noise"}, "along must be one of"),
        ({"merge": ["nowhere"]}, "merge must name directories that sweeps have written, got nowhere"),
    ],
)
def test_bad_arguments(given, sentence):
    with pytest.raises(ValueError, match=sentence):
        qn.sweep(RIDGE, {"alpha": [1.0]}, **given)
    with pytest.raises(TypeError, match="sweep takes .* got 'stoer' .did you mean 'store'?"):
        qn.sweep(RIDGE, {"alpha": [1.0]}, stoer="x")


def test_any_executor(whole, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        data = qn.sweep(RIDGE, OVER, SIMULATE, executor=pool, store=tmp_path)
    xr.testing.assert_identical(data, whole)


# ---- other processes -----------------------------------------------------------------------------------------------------


def die_once(path):
    if not os.path.exists(path):
        pathlib.Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_processes_that_die_are_replaced(tmp_path):
    calls = {"well": (abs, -1), "once": (die_once, str(tmp_path / "mark")), "always": (die,), "error": (int, "x")}
    ends = dict(executors.results_of_processes(calls, count=2))
    assert ends["well"] == 1 and ends["once"] == "alive"
    assert isinstance(ends["error"], ValueError)
    assert isinstance(ends["always"], RuntimeError) and "the process that ran it died" in str(ends["always"])


@pytest.mark.slow
def test_processes_give_the_same_bits(whole):
    xr.testing.assert_identical(qn.sweep(RIDGE, OVER, SIMULATE, executor="processes"), whole)
    shift = 0.5  # of functions that no other process could import
    own = qn.problems.GeneralizedLinear(lambda h, y: 0.5 * (h - y - shift) ** 2, "linear", alpha=1.0, weight_decay=0.1, noise=0.1)
    arguments = (own, {"alpha": [1.0]}, {"dim": 40, "seeds": 2})
    xr.testing.assert_identical(qn.sweep(*arguments, executor="processes"), qn.sweep(*arguments))


_SCRIPT = """
import sys, time, numpy as np, quenched as qn
ridge = qn.problems.GeneralizedLinear("square", "linear", alpha=1.0, weight_decay=0.1, noise=0.1)
over = {{"weight_decay": np.geomspace(0.01, 1.0, 10), "alpha": np.geomspace(0.2, 20.0, 20)}}
stop = int(sys.argv[2])  # as good as done: wait to be killed
def report(done, total, what):
    print(done, flush=True)
    while done >= stop:
        time.sleep(1.0)
if __name__ == "__main__":
    qn.sweep(
        ridge, over, {{"dim": 120, "seeds": 4, "every": {{"weight_decay": 5, "alpha": 2}}}}, store=sys.argv[1],
        executor={executor!r}, progress=report,
    )
"""


@pytest.mark.slow
@pytest.mark.parametrize("executor", [None, "processes"])
def test_killed_ten_times_nothing_is_lost_and_the_bits_are_the_same(tmp_path, executor):
    """200 points and 20 simulated ones, killed by SIGKILL at random moments."""
    script = tmp_path / "study.py"
    script.write_text(_SCRIPT.format(executor=executor))
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}

    def command(store, stop):
        return [sys.executable, str(script), str(tmp_path / store), str(stop)]

    def run(store):
        return subprocess.run(command(store, 1000), check=True, env=environment, capture_output=True, text=True).stdout.split()

    run("whole")
    stop = 240  # of 280: a start beyond it stores one task more (4 seeds at most), then waits to be killed
    rng, reported = np.random.default_rng(7), 0
    for left in range(10, 0, -1):
        with subprocess.Popen(command("killed", stop), stdout=subprocess.PIPE, text=True, env=environment) as process:
            begun = int(process.stdout.readline())  # what the store held
            assert reported <= begun < 280
            lines, target = [begun], begun + int(rng.integers(1, max(2, 2 * (stop - begun) // left)))
            while lines[-1] < min(target, stop):
                lines.append(int(process.stdout.readline()))
            time.sleep(rng.uniform(0.0, 0.05))
            process.kill()
            reported = max([*lines, *map(int, process.stdout.read().split())])
        assert process.returncode == -signal.SIGKILL
    assert int(run("killed")[0]) >= reported
    xr.testing.assert_identical(opened(tmp_path / "killed"), opened(tmp_path / "whole"))


@pytest.mark.slow
def test_a_worker_of_a_dask_cluster_is_killed(whole, tmp_path):
    distributed = pytest.importorskip("distributed")
    many = SIMULATE | {"seeds": 8, "every": 1, "dim": 200}
    alone = qn.sweep(RIDGE, OVER, many)
    with distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        with distributed.Client(cluster) as client:
            killed = []

            def kill(done, total, what):
                if what == "simulation" and not killed and done > 16:
                    workers = client.run(os.getpid)
                    killed.append(next(iter(workers.values())))
                    os.kill(killed[0], signal.SIGKILL)

            data = qn.sweep(RIDGE, OVER, many, executor=client.get_executor(), store=tmp_path, progress=kill)
    assert killed
    xr.testing.assert_allclose(data, alone, rtol=1e-10, atol=1e-14)


def where(name):
    return name, os.getpid()


@pytest.mark.slow
def test_families_stay_in_one_process(tmp_path):
    families = [
        {"a": (where, "a"), "b": (where, "b")}, {"c": (where, "c")},
        {"once": (die_once, str(tmp_path / "mark")), "always": (die,), "error": (int, "x"), "well": (abs, -1)}, {},
    ]  # fmt: skip
    ends = dict(executors.results_of_families(families, count=1))
    assert list(ends) == ["a", "b", "c", "once", "always", "error", "well"]
    assert [ends[name][0] for name in "abc"] == ["a", "b", "c"] and len({ends[name][1] for name in "abc"}) == 1
    assert ends["once"] == "alive" and ends["well"] == 1 and isinstance(ends["error"], ValueError)
    assert isinstance(ends["always"], RuntimeError) and "the process that ran it died" in str(ends["always"])
    ends = dict(executors.results_of_families(families[:2], count=2))
    assert ends["a"][1] == ends["b"][1] != ends["c"][1]


@pytest.mark.slow
def test_what_has_run_out_of_time_changes_nothing_later():
    """Filters of warnings are as before when abandoned work has ended, and a script that left some ends without a crash."""
    code = """
import time, warnings, quenched as qn
from quenched.studies import limits
limits._PATIENCE = 3.0  # and not a minute
class Slow(qn.problems.GeneralizedLinear):
    def simulate(self, dim, seeds=8, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            time.sleep(2.0 if dim == 30 else 600.0)
problem = Slow("square", "linear", alpha=1.0, weight_decay=0.1)
qn.sweep(problem, {"alpha": [1.0]})
warnings.simplefilter("always")
data = qn.sweep(problem, {"alpha": [1.0]}, {"dim": 30, "seeds": 1}, time_limit=1.0)
time.sleep(3.0)
with warnings.catch_warnings(record=True) as caught:
    warnings.warn("heard")
qn.sweep(problem, {"alpha": [1.0]}, {"dim": 40, "seeds": 1}, time_limit=1.0)
print(len(caught), data["trials"].values)
"""
    end = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert end.returncode == 0 and end.stdout.split() == ["1", "[0]"], end.stderr


def test_what_is_left_out_is_what_is_usual(counted, tmp_path):
    qn.sweep(RIDGE, {"alpha": [1.0]}, {"dim": 20, "seeds": 2}, store=tmp_path)
    again = {"dim": 20, "seeds": 2, "test_samples": None}
    qn.sweep(RIDGE, {"alpha": [1.0]}, again, store=tmp_path, tol=1e-8, init=None, max_steps=300)
    assert counted == {"theory": 1, "trials": 2}


@pytest.mark.slow
def test_a_line_goes_on_from_damaged_files(tmp_path):
    problem, over = qn.problems.GeneralizedLinear("logistic", "sign", alpha=1.0, weight_decay=0.1), {"alpha": [1.0, 2.0]}
    qn.sweep(problem, over, along="alpha", store=tmp_path)
    for path in (tmp_path / "lines").glob("*.npz"):
        path.write_bytes(b"junk")
    longer = {"alpha": [1.0, 2.0, 3.0]}
    with pytest.warns(UserWarning, match="npz cannot be read .*, and is solved again"):
        more = qn.sweep(problem, longer, along="alpha", store=tmp_path)
    xr.testing.assert_identical(more, qn.sweep(problem, longer, along="alpha"))


def test_the_command_ends_with_its_status():
    code = """
import sys, time
from quenched.studies import limits
try:
    limits.limited(lambda: time.sleep(600.0), 0.1)
except limits.OutOfTime:
    limits.leave(3)
"""
    start = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 3 and time.monotonic() - start < 50.0


def test_processes_are_counted():
    with pytest.raises(ValueError, match="count must be a whole number of at least 1, got 0"):
        executors.processes(0)


@pytest.mark.slow
def test_every_problem_can_be_measured_in_a_sweep():
    import fuzz

    from quenched.problems.catalogue import catalogue, parameters

    for name, cls in sorted(catalogue().items()):
        rng, given = np.random.default_rng(3), {}
        for parameter, about in parameters(cls).items():
            make = fuzz.VALID.get(f"{name}.{parameter}", fuzz.VALID.get(parameter))
            if about.default is about.empty:
                given[parameter] = make(rng)
        given |= {"loss": "square"} if "loss" in given else {}
        given |= {key: 1.0 for key in ("alpha", "weight_decay") if key in given}
        over = next(key for key in ("alpha", "weight_decay", "separation") if key in parameters(cls))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = qn.sweep(cls(**given), {over: [0.5]}, {"dim": 20, "seeds": 2}, solve=False)
        assert data.attrs["failed"] == "" or "not converged" in data.attrs["failed"], (name, data.attrs["failed"])
