"""Set-up shared by all tests: compiled functions are kept between runs, shapes are checked, no picture opens."""

import gc
import importlib.metadata
import os
import pathlib

import jaxtyping
import pytest

# Set before JAX or matplotlib is imported by any test.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".jax_cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ["MPLBACKEND"] = "agg"

gc.set_threshold(100_000, 20, 20)  # tracing makes millions of objects that stay

# Annotated shapes are checked at every call of these rooms. The other rooms take what users give them, and refuse it
# in sentences of their own.
_CHECKED = [f"quenched.{room}" for room in ("numerics", "laws", "losses", "limit")]
jaxtyping.install_import_hook(_CHECKED, "typecheck.check")


def pytest_configure(config):
    """Tests compile far more than they compute: XLA takes its quickest ways (numbers change by rounding only)."""
    flags = []
    if importlib.metadata.version("jaxlib").startswith("0.10."):  # a flag that a version does not know is fatal
        flags.append("--xla_cpu_use_fusion_emitters=false")
    if config.option.markexpr == "not slow":
        flags.append("--xla_backend_optimization_level=0")
    os.environ.setdefault("XLA_FLAGS", " ".join(flags))


# Examples of docstrings that take as long as slow tests.
_LONG_EXAMPLES = (
    "ApproximationWarning", "Attention", "Attention.branches", "Attention.encoding_shift", "Attention.linear_crossing",
    "Attention.simulate", "Attention.solve", "DeepBaselines.classifier", "DenoisingAutoencoder", "DenoisingAutoencoder.solve",
    "OneGradientStep.feature_density", "OneGradientStep.gram_density", "OneGradientStep.outliers", "OnlineDiffusion",
    "SequenceProblem", "Solution.training_fields", "find_transition", "landscape", "pictures.curve",
    "seen_kernel",
)  # fmt: skip


def pytest_addoption(parser):
    parser.addoption("--part", metavar="K/N", help="only the K-th of N parts of the tests, every N-th one")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.name.endswith(tuple(f".{name}" for name in _LONG_EXAMPLES)):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True, specname="pytest_collection_modifyitems")
def pytest_collection_modifyitems_part(config, items):
    """After -m has had its say."""
    if config.option.part:
        number, count = map(int, config.option.part.split("/"))
        kept = items[number % count :: count]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept


@pytest.fixture
def x64():
    """A float64 scope, for tests that call JAX-level functions themselves."""
    import jax

    with jax.enable_x64(True):
        yield
