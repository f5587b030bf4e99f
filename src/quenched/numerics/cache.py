"""Compiled functions kept on disk, so that the second run of a program does not compile again."""

from __future__ import annotations

import os
import pathlib


def directory() -> pathlib.Path:
    """Where compiled functions are kept: ``$QUENCHED_CACHE``, or the user's cache directory of this platform."""
    chosen = os.environ.get("QUENCHED_CACHE")
    if chosen:
        return pathlib.Path(chosen)
    import platformdirs

    return pathlib.Path(platformdirs.user_cache_dir("quenched", appauthor=False))


def enable() -> pathlib.Path | None:
    """Turn on JAX's persistent compilation cache for this process, in :func:`directory`, and return that directory.

    This changes JAX's global configuration: the command line does it for itself, a library user only on request. A
    cache that JAX has been given already (``JAX_COMPILATION_CACHE_DIR``) is left alone, and one that cannot be written
    is done without; both return None.
    """
    import jax

    if jax.config.jax_compilation_cache_dir:
        return None
    path = directory()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return path
