"""The command line. Nothing heavy is imported before a command needs it, so that ``quenched --help`` is quick."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import sys
import warnings

from quenched.figures import EXPLORERS, FIGURES  # names only: what draws them is not imported

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

_DESCRIPTION = """\
What a neural network learns, exactly, in the high-dimensional limit, and checked at finite size.

First steps:
  quenched list                              which problems there are
  quenched solve GeneralizedLinear --help    the parameters of one of them
  quenched solve GeneralizedLinear --loss logistic --target sign --alpha 2 --weight-decay 0.1
  quenched demo                              a page of pictures: theory through measured points"""

_EPILOG = """\
Exit codes: 0 all well; 1 something did not converge, or theory and experiment disagree; 2 the input was refused.
Compiled functions are kept in your cache directory (set QUENCHED_CACHE to move it)."""

# A deviation beyond this many standard errors is no accident of a handful of trials.
_DISAGREE = 5.0


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit code.

    >>> main(["solve", "NoSuchProblem"])
    2
    """
    arguments, rest = _parser().parse_known_args(argv)
    from quenched.numerics import cache

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they say is part of what is printed
        try:
            cache.enable()
            if arguments.command in ("solve", "compare"):
                return arguments.run(_problem_arguments(arguments, rest))
            if rest:
                raise ValueError(f"quenched {arguments.command} does not take {rest[0]!r}; see --help")
            return arguments.run(arguments)
        except (ValueError, OSError, TypeError) as error:
            from quenched.numerics.check import UnknownName

            if isinstance(error, TypeError) and not isinstance(error, UnknownName):
                raise
            print(f"quenched: {error}", file=sys.stderr)
            return BAD_INPUT
        except KeyboardInterrupt:
            print("quenched: interrupted; what was stored is kept, and a sweep goes on from there", file=sys.stderr)
            return INTERRUPTED
        except RuntimeError as error:  # a solve that has no number to report
            print(f"quenched: {error}", file=sys.stderr)
            return FAILED


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("quenched", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run, help, **settings):
        made = commands.add_parser(run.__name__.removeprefix("_"), help=help, description=f"{help}.", **settings)
        made.set_defaults(run=run)
        return made

    def sized(made, default, out):
        size = made.add_mutually_exclusive_group()
        for flag, help in (("--quick", "smaller sizes"), ("--full", "the sizes of a paper")):
            size.add_argument(flag, action="store_true", help=help + (" (default)" if flag == default else ""))
        made.add_argument("--out", metavar="DIR", default=out, help="directory (default %(default)s)")

    command(_list, "list the problems and their parameters").add_argument("--json", action="store_true", help="as JSON")
    for run, help in (
        (_solve, "solve a problem in the high-dimensional limit"),
        (_compare, "solve a problem, simulate it at finite size, and lay the two beside each other"),
    ):
        made = command(run, help, add_help=False)
        made.add_argument("problem", nargs="?", metavar="PROBLEM", help="a name that `quenched list` shows")
        made.add_argument("-h", "--help", action="store_true", help="show this message, or the problem's parameters")
    sweep = command(_sweep, "solve and simulate a problem over the grid that a file states; goes on where it was interrupted")
    sweep.add_argument("study", metavar="STUDY.toml", help="the study; see the page on sweeps for what it holds")
    sweep.add_argument("--store", metavar="DIR", help="where finished points are kept (default: what the file says, or its name)")
    sweep.add_argument("--shard", metavar="K/N", help="only the K-th of N parts, for a job array")
    sweep.add_argument("--merge", metavar="DIR", nargs="+", default=[], help="take in what other stores of this study hold")
    sweep.add_argument("--executor", choices=["processes"], help="run trials on processes of their own, one a core")
    sweep.add_argument("--json", action="store_true", help="print JSON")
    curve = command(_curve, "predict how the test error of a linear model falls with more of your own data")
    curve.add_argument("X", help="NumPy file of inputs, (samples, features)")
    curve.add_argument("y", help="NumPy file of targets: numbers, or whole numbers as classes")
    curve.add_argument("--penalty", type=float, default=1.0, help="scikit-learn's alpha of ridge (default %(default)s)")
    curve.add_argument("--samples", type=int, nargs="+", metavar="N", help="numbers of samples to predict for")
    curve.add_argument("--regression", action="store_true", help="treat whole-number targets as numbers")
    curve.add_argument("--out", metavar="DIR", help="write curve.png and curve.csv there")
    curve.add_argument("--json", action="store_true", help="print JSON")
    report = command(_report, "compute all figures and write them on one page of HTML, with PNG and CSV beside it")
    sized(report, "--full", "quenched-report")
    figure = command(_figure, "compute one figure: theory and experiment, as PNG and CSV")
    figure.add_argument("name", metavar="NAME", help="one of " + ", ".join(FIGURES))
    sized(figure, "--quick", "quenched-figures")
    explore = command(_explore, "compute a problem over a grid and write it as a page with sliders")
    explore.add_argument("name", metavar="NAME", help="one of " + ", ".join(EXPLORERS))
    sized(explore, "--quick", "quenched-explorers")
    demo = command(_demo, "the quick report, and where it lies")
    demo.add_argument("--out", metavar="DIR", default="quenched-report", help="directory (default %(default)s)")
    command(_about, "print versions and paths, for a bug report")
    return parser


# ---- a problem from its constructor ----------------------------------------------------------------------------------


def _problem_arguments(arguments, rest):
    """The command's arguments with ``problem`` stated: its options are the parameters of its constructor."""
    from quenched.problems.catalogue import named, parameters, stated

    if not arguments.problem:
        if not arguments.help:
            raise ValueError(f"quenched {arguments.command} needs a PROBLEM; `quenched list` shows them")
        print(f"usage: quenched {arguments.command} PROBLEM --parameter value ... [--help]\n")
        print("PROBLEM is a name that `quenched list` shows; with --help after it, its parameters are explained.")
        raise SystemExit(OK)
    cls = named(arguments.problem)
    parser = _problem_parser(arguments.command, cls)
    given = vars(parser.parse_args([*rest, *(["--help"] if arguments.help else [])]))
    own = {name: given.pop(name) for name in list(given) if name in parameters(cls)}
    return argparse.Namespace(problem=stated(cls, own), **given)


def _about_class(cls) -> str:
    """The class's docstring as a terminal shows it: no markup, no example."""
    import inspect
    import re

    text = inspect.getdoc(cls).partition(">>>")[0].rstrip()
    return re.sub(r":\w+:`~?([^`]*)`|``([^`]*)``", lambda match: match[1] or match[2], text)


def _problem_parser(command, cls) -> argparse.ArgumentParser:
    from quenched.names import NAMES
    from quenched.problems.catalogue import parameters

    raw = argparse.RawDescriptionHelpFormatter
    prog = f"quenched {command} {cls.__name__}"
    parser = argparse.ArgumentParser(prog, description=_about_class(cls), formatter_class=raw, allow_abbrev=False)
    group = parser.add_argument_group("the problem")
    for name, parameter in parameters(cls).items():
        required = parameter.default is parameter.empty
        text = NAMES[name].description if name in NAMES else "see above"
        if name == "law":
            text = "a mixture of two or more classes, as JSON arguments of quenched.laws.mixture"
        elif name in ("learner", "target") and "learner" in parameters(cls):
            text = 'a network, as JSON arguments of quenched.laws.DeepNetwork: \'{"width_ratios": [2], "activations": "tanh"}\''
        elif not required and isinstance(parameter.default, (bool, int, float, str)):
            text += f" (default {parameter.default})"
        group.add_argument(
            f"--{name.replace('_', '-')}", type=_value, required=required, default=argparse.SUPPRESS,
            metavar="VALUE", help=text.replace("%", "%%"),
        )  # fmt: skip
    group = parser.add_argument_group("the theory")
    for name, type_, help in (
        ("init", str, "where the iteration starts: informed, uninformed, or a start that the problem names above"),
        ("tol", float, "tolerance of the relative residual"),
        ("max-steps", int, "largest number of steps"),
    ):
        group.add_argument(f"--{name}", type=type_, default=argparse.SUPPRESS, help=help)
    if command == "compare":
        group = parser.add_argument_group("the experiment")
        group.add_argument("--dim", type=int, default=400, help="input dimension (default %(default)s)")
        group.add_argument("--seeds", type=int, default=8, help="number of trials (default %(default)s)")
        group.add_argument("--out", metavar="DIR", help="write compare.png and compare.csv there")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _value(text: str):
    """A number, true, false, null, a list or a dict as in JSON; anything else is a word."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    with contextlib.suppress(ValueError):
        return float(text)
    return text


# ---- the commands ----------------------------------------------------------------------------------------------------


def _list(arguments) -> int:
    from quenched.problems.catalogue import catalogue, parameters

    rows = {}
    for name, cls in catalogue().items():
        known = parameters(cls).values()
        rows[name] = {
            "about": _about_class(cls).splitlines()[0],
            "needs": [p.name for p in known if p.default is p.empty],
            "takes": {p.name: p.default for p in known if p.default is not p.empty},
        }
    if arguments.json:
        print(json.dumps(rows, default=str, indent=2))
        return OK
    for name, row in rows.items():
        defaults = ", ".join(f"{key}={value}" for key, value in row["takes"].items())
        print(f"{name}\n    {row['about']}\n    needs {', '.join(row['needs'])}; takes {defaults or 'nothing else'}\n")
    print("Any other problem is stated in Python as a law and a loss: quenched.SequenceProblem.")
    return OK


def _solved(arguments):
    with _busy("compiling once, then solving"):
        given = {name: value for name, value in vars(arguments).items() if name in ("init", "tol", "max_steps")}
        return arguments.problem.solve(**given)


def _solve(arguments) -> int:
    solution = _solved(arguments)
    print(json.dumps(_solution_as_json(solution)) if arguments.json else solution)
    return OK if solution.converged else FAILED


def _compare(arguments) -> int:
    from quenched import plotting
    from quenched.problems.compare import compare

    solution = _solved(arguments)
    with _progress() as progress:
        settings = {"dim": arguments.dim, "seeds": arguments.seeds}
        trials = arguments.problem.simulate(**settings, progress=lambda done, count: progress(done, count, "training"))
    table = compare(solution, trials)
    if arguments.json:
        rows = [row._asdict() for row in table]
        print(json.dumps({"theory": _solution_as_json(solution), **settings, "rows": rows}, default=float))
    else:
        print(table)
    if arguments.out:
        with plotting.style("screen"):
            path, _ = plotting.save(table.plot(), f"{arguments.out}/compare.png", table.columns())
        print(f"written: {path} and {path.with_suffix('.csv')}", file=sys.stderr)
    good = solution.converged and trials.converged.all() and table.worst <= _DISAGREE
    return OK if good else FAILED


def _sweep(arguments) -> int:
    from quenched.studies import study_file, sweep
    from quenched.studies.progress import shown

    settings = study_file.read(arguments.study)
    if arguments.store:
        settings["store"] = arguments.store
    if arguments.executor:
        settings["executor"] = arguments.executor
    with shown() as progress:
        data = sweep(**settings, shard=_shard(arguments.shard), merge=arguments.merge, progress=progress)
    failed = data.attrs["failed"].splitlines()
    solved = int(data["converged"].sum()) if "converged" in data else 0
    count = math.prod(data.sizes[name] for name in settings["over"])
    trials = int(data["trials"].sum()) if "trials" in data else 0
    path = f"{settings['store']}/data.nc"
    if arguments.json:
        print(json.dumps({"points": count, "converged": solved, "trials": trials, "failed": failed, "data": path}))
    else:
        print("\n".join([f"{solved} of {count} points converged, {trials} trials", *failed, f"written: {path}"]))
    return FAILED if failed else OK


def _shard(text):
    if text is None:
        return None
    number, slash, count = text.partition("/")
    if not (slash and number.isdigit() and count.isdigit()):
        raise ValueError(f"--shard must be K/N, such as 3/20, got {text!r}")
    return int(number), int(count)


def _curve(arguments) -> int:
    import numpy as np
    from sklearn.linear_model import Ridge, RidgeClassifier

    from quenched import plotting
    from quenched.problems.learning_curve import LearningCurve

    X, y = (np.load(path, allow_pickle=False) for path in (arguments.X, arguments.y))
    classes = y.dtype.kind in "iubU" and not arguments.regression
    estimator = (RidgeClassifier if classes else Ridge)(alpha=arguments.penalty)
    with _busy("fitting, and testing the prediction on parts of the data"):
        curve = LearningCurve(estimator, verbose=False).fit(X, y)
    prediction = curve.predict(arguments.samples or [len(X), 2 * len(X), 4 * len(X)])
    if arguments.json:
        print(json.dumps({"prediction": prediction.columns(), "backtest": curve.backtest.columns()}))
    else:
        print(curve.backtest, prediction, sep="\n\n")
    if arguments.out:
        with plotting.style("screen"):
            path, _ = plotting.save(curve.plot(), f"{arguments.out}/curve.png", prediction.columns())
        print(f"written: {path} and {path.with_suffix('.csv')}", file=sys.stderr)
    return OK


def _report(arguments) -> int:
    from quenched.figures.report import build

    with _progress() as progress:
        page = build(arguments.out, quick=arguments.quick, progress=progress)
    print(page.summary)
    return OK if page.passed else FAILED


def _figure(arguments) -> int:
    if arguments.name not in FIGURES:
        raise ValueError(f"NAME must be one of {', '.join(FIGURES)}, got {arguments.name!r}")
    from quenched.figures.report import draw

    with _progress() as progress:
        picture, verdict = draw(arguments.name, arguments.out, quick=not arguments.full, progress=progress)
    print(f"{'ok  ' if verdict.passed else 'FAIL'} {verdict.text}\nwritten: {picture} and {picture.with_suffix('.csv')}")
    return OK if verdict.passed else FAILED


def _explore(arguments) -> int:
    if arguments.name not in EXPLORERS:
        raise ValueError(f"NAME must be one of {', '.join(EXPLORERS)}, got {arguments.name!r}")
    from quenched.figures import explorers

    with _progress() as progress:
        path = explorers.draw(arguments.name, arguments.out, quick=not arguments.full, progress=progress)
    print(f"written: {path.resolve()}")
    return OK


def _demo(arguments) -> int:
    arguments.quick = True
    return _report(arguments)


def _about(arguments) -> int:
    import importlib.metadata
    import platform

    from quenched import __version__
    from quenched.numerics import cache

    print(f"quenched {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in ("jax", "jaxlib", "equinox", "optimistix", "diffrax", "numpy", "scipy", "scikit-learn", "xarray", "matplotlib"):
        print(f"{name} {importlib.metadata.version(name)}")
    import jax

    print(f"devices: {', '.join(str(device) for device in jax.devices())}")
    print(f"compiled functions: {jax.config.jax_compilation_cache_dir or cache.directory()}")
    return OK


def _solution_as_json(solution) -> dict:
    import numpy as np

    def plain(table):
        return {name: np.asarray(value).tolist() for name, value in table.items()}

    diagnostics = {name: getattr(solution, name) for name in ("residual", "quadrature_error", "replicon")}
    return {
        "problem": repr(solution.problem), "result": str(solution.result), "converged": solution.converged,
        "stable": solution.stable, **{name: x if np.isfinite(x) else None for name, x in diagnostics.items()},  # JSON has no NaN
        "observables": plain(solution.observables),
        "order_parameters": plain(solution.order_parameters),
    }  # fmt: skip


# ---- what a waiting person sees --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _busy(text: str):
    """A spinner on the terminal; nothing where standard error is not one."""
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


def _progress():
    """``progress(done, total, what)``: a bar, or lines where standard error is no terminal and it takes long."""
    from quenched.studies.progress import shown

    return shown(wait=10.0)


def entry() -> None:
    """The command ``quenched``."""
    status = main()
    if "quenched.studies.limits" in sys.modules:
        sys.modules["quenched.studies.limits"].leave(status)
    sys.exit(status)


if __name__ == "__main__":
    entry()
