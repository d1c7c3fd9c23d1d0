"""Pins every library to the same number of threads, before its process is started."""

from __future__ import annotations

import os

VARIABLES = (
    "OMP_NUM_THREADS",  # PyTorch, scikit-learn
    "OPENBLAS_NUM_THREADS",  # NumPy
    "MKL_NUM_THREADS",  # PyTorch, NumPy of other makes
    "VECLIB_MAXIMUM_THREADS",
)

DEFAULT = 2


def usable() -> int:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def pin(threads: int) -> None:
    """Give processes started from now on so many threads and, on Linux, so many processors.

    JAX has no option for its threads: it starts one for each processor that it may run on.
    """
    if threads > usable():
        raise SystemExit(f"--threads {threads}: this process may use {usable()} processors only")
    for name in VARIABLES:
        os.environ[name] = str(threads)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def count() -> int:
    """The number that `pin` set."""
    return int(os.environ.get(VARIABLES[0], "1"))
