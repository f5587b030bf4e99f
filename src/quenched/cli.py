"""The command line. Nothing heavy is imported before a command needs it, so that ``quenched --help`` is quick."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import warnings

OK, FAILED, BAD_INPUT = 0, 1, 2

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

#: Figures by name; known here without importing what draws them.
_FIGURES = (
    "glm", "mixture", "phase-retrieval", "message-passing", "digits", "dae-noise", "dae-transition", "dae-real-data",
    "attention-transition", "attention-phase-diagram", "attention-counting", "deep-rf",
    "implicit-regularisation", "rainbow", "trained-features",
    "bayes-optimal", "kernel-staircase",
    "one-step-learning-curve", "one-step-spectrum", "one-step-expressivity", "one-step-equivalence",
    "flow-trajectories", "flow-rate",
    "online-committee",
    "diffusion-training", "diffusion-samples", "mode-collapse", "model-collapse",
)  # fmt: skip

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
        except (ValueError, OSError) as error:
            print(f"quenched: {error}", file=sys.stderr)
            return BAD_INPUT
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

    command(_list, "list the problems and their parameters").add_argument("--json", action="store_true", help="as JSON")
    for run, help in (
        (_solve, "solve a problem in the high-dimensional limit"),
        (_compare, "solve a problem, simulate it at finite size, and lay the two beside each other"),
    ):
        made = command(run, help, add_help=False)
        made.add_argument("problem", nargs="?", metavar="PROBLEM", help="a name that `quenched list` shows")
        made.add_argument("-h", "--help", action="store_true", help="show this message, or the problem's parameters")
    curve = command(_curve, "predict how the test error of a linear model falls with more of your own data")
    curve.add_argument("X", help="NumPy file of inputs, (samples, features)")
    curve.add_argument("y", help="NumPy file of targets: numbers, or whole numbers as classes")
    curve.add_argument("--penalty", type=float, default=1.0, help="scikit-learn's alpha of ridge (default %(default)s)")
    curve.add_argument("--samples", type=int, nargs="+", metavar="N", help="numbers of samples to predict for")
    curve.add_argument("--regression", action="store_true", help="treat whole-number targets as numbers")
    curve.add_argument("--out", metavar="DIR", help="write curve.png and curve.csv there")
    curve.add_argument("--json", action="store_true", help="print JSON")
    report = command(_report, "compute all figures and write them on one page of HTML, with PNG and CSV beside it")
    report.add_argument("--quick", action="store_true", help="smaller sizes: a few minutes on a laptop")
    report.add_argument("--out", metavar="DIR", default="quenched-report", help="directory (default %(default)s)")
    figure = command(_figure, "compute one figure: theory and experiment, as PNG and CSV")
    figure.add_argument("name", metavar="NAME", help="one of " + ", ".join(_FIGURES))
    size = figure.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", default=True, help="smaller sizes: a few minutes on a laptop (default)")
    size.add_argument("--full", action="store_true", help="the sizes of a paper")
    figure.add_argument("--out", metavar="DIR", default="quenched-figures", help="directory (default %(default)s)")
    demo = command(_demo, "the quick report, and where it lies")
    demo.add_argument("--out", metavar="DIR", default="quenched-report", help="directory (default %(default)s)")
    command(_about, "print versions and paths, for a bug report")
    return parser


# ---- a problem from its constructor ----------------------------------------------------------------------------------


def _catalogue() -> dict:
    """Name -> class, of every problem that can be stated in words and numbers."""
    import quenched.problems as problems

    classes = {name: getattr(problems, name) for name in problems.__all__}
    kept = {n: c for n, c in classes.items() if isinstance(c, type) and issubclass(c, problems.Problem)}
    return {n: c for n, c in kept.items() if n not in ("Problem", "SequenceProblem")}


def _problem_arguments(arguments, rest):
    """The command's arguments with ``problem`` stated: its options are the parameters of its constructor."""
    catalogue = _catalogue() if arguments.problem else {}
    if not arguments.problem:
        if not arguments.help:
            raise ValueError(f"quenched {arguments.command} needs a PROBLEM; `quenched list` shows them")
        print(f"usage: quenched {arguments.command} PROBLEM --parameter value ... [--help]\n")
        print("PROBLEM is a name that `quenched list` shows; with --help after it, its parameters are explained.")
        raise SystemExit(OK)
    if arguments.problem not in catalogue:
        import difflib

        near = difflib.get_close_matches(arguments.problem, catalogue, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(catalogue)}"
        raise ValueError(f"no problem is called {arguments.problem!r}; {hint}")
    cls = catalogue[arguments.problem]
    parser = _problem_parser(arguments.command, cls)
    given = vars(parser.parse_args([*rest, *(["--help"] if arguments.help else [])]))
    own = {name: given.pop(name) for name in list(given) if name in _parameters(cls)}
    if isinstance(own.get("law"), dict):
        import quenched.laws as laws

        own["law"] = laws.mixture(**own["law"])
    for name in ("learner", "target"):
        if isinstance(own.get(name), dict):
            import quenched.laws as laws

            own[name] = laws.DeepNetwork(**own[name])
    return argparse.Namespace(problem=cls(**own), **given)


def _parameters(cls) -> dict:
    import inspect

    return dict(inspect.signature(cls).parameters)


def _about_class(cls) -> str:
    """The class's docstring as a terminal shows it: no markup, no example."""
    import inspect
    import re

    text = inspect.getdoc(cls).partition(">>>")[0].rstrip()
    return re.sub(r":\w+:`~?([^`]*)`|``([^`]*)``", lambda match: match[1] or match[2], text)


def _problem_parser(command, cls) -> argparse.ArgumentParser:
    from quenched.names import NAMES

    raw = argparse.RawDescriptionHelpFormatter
    prog = f"quenched {command} {cls.__name__}"
    parser = argparse.ArgumentParser(prog, description=_about_class(cls), formatter_class=raw, allow_abbrev=False)
    group = parser.add_argument_group("the problem")
    for name, parameter in _parameters(cls).items():
        required = parameter.default is parameter.empty
        text = NAMES[name].description if name in NAMES else "see above"
        if name == "law":
            text = "a mixture of two or more classes, as JSON arguments of quenched.laws.mixture"
        elif name in ("learner", "target") and "learner" in _parameters(cls):
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
    rows = {}
    for name, cls in _catalogue().items():
        parameters = _parameters(cls).values()
        rows[name] = {
            "about": _about_class(cls).splitlines()[0],
            "needs": [p.name for p in parameters if p.default is p.empty],
            "takes": {p.name: p.default for p in parameters if p.default is not p.empty},
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
    from quenched.figures.report import draw

    if arguments.name not in _FIGURES:
        raise ValueError(f"NAME must be one of {', '.join(_FIGURES)}, got {arguments.name!r}")
    with _progress() as progress:
        picture, verdict = draw(arguments.name, arguments.out, quick=not arguments.full, progress=progress)
    print(f"{'ok  ' if verdict.passed else 'FAIL'} {verdict.text}\nwritten: {picture} and {picture.with_suffix('.csv')}")
    return OK if verdict.passed else FAILED


def _demo(arguments) -> int:
    arguments.quick = True
    return _report(arguments)


def _about(arguments) -> int:
    import importlib.metadata
    import platform

    from quenched import __version__
    from quenched.numerics import cache

    print(f"quenched {__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in ("jax", "jaxlib", "equinox", "optimistix", "numpy", "scipy", "scikit-learn", "xarray", "matplotlib"):
        print(f"{name} {importlib.metadata.version(name)}")
    import jax

    print(f"devices: {', '.join(str(device) for device in jax.devices())}")
    print(f"compiled functions: {jax.config.jax_compilation_cache_dir or cache.directory()}")
    return OK


def _solution_as_json(solution) -> dict:
    import numpy as np

    def plain(table):
        return {name: np.asarray(value).tolist() for name, value in table.items()}

    return {
        "problem": repr(solution.problem), "result": str(solution.result), "converged": solution.converged,
        "stable": solution.stable, "residual": solution.residual, "quadrature_error": solution.quadrature_error,
        "replicon": solution.replicon, "observables": plain(solution.observables),
        "order_parameters": plain(solution.order_parameters),
    }  # fmt: skip


# ---- what a waiting person sees --------------------------------------------------------------------------------------


@contextlib.contextmanager
def _busy(text: str):
    """A spinner on the terminal; nothing where standard error is not one."""
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


@contextlib.contextmanager
def _progress():
    """``progress(done, total, what)`` as a bar on standard error."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("compiling once", total=None)

        def report(done, total, what):
            bar.update(task, completed=done, total=total, description=what)

        yield report


if __name__ == "__main__":
    sys.exit(main())
