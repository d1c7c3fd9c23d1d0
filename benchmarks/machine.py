"""What a machine is: its processor, its packages, its GPU as nvidia-smi sees it, this commit."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ldl_numpy import blas

PACKAGES = (
    *("ldl", "numpy", "llvmlite", "torch", "triton", "jax", "jaxlib", "optax"),
    *(
        "scikit-learn",
        "mpi4py",
        "mpich",
        "onnxruntime",
        "pytest",
        "safetensors",
        "cupy-cuda12x",
        "cupy-cuda13x",
    ),
    *("nvmath-python", "cuda-core", "cuda-bindings", "cuda-pathfinder"),
)

SMI = (
    *("name", "driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem"),
    *("power.limit", "temperature.gpu", "persistence_mode", "compute_mode"),
)


def processor() -> str:
    """The processor's model, as its maker or else the platform names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def slug(name: str) -> str:
    """A file name for a machine: "nvidia-h100-80gb-hbm3"."""
    plain = re.sub(r"\((R|TM)\)|\bCPU\b|@ ?\S*", " ", name, flags=re.IGNORECASE)
    return "-".join(re.findall(r"[a-z0-9]+", plain.lower())) or "device"


def versions() -> dict[str, str]:
    """Python's and those of installed packages, and which processor OpenBLAS's kernels are for."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found | ({"OpenBLAS for": blas.kernels()} if blas.kernels() else {})


def smi() -> dict[str, str]:
    """What nvidia-smi says; nothing where it does not answer."""
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", f"--query-gpu={','.join(SMI)}", "--format=csv,noheader"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = ran.stdout.strip().splitlines()
    values = [value.strip() for value in lines[0].split(",")] if lines else []
    return dict(zip(SMI, values, strict=False))


def commit() -> str:
    """The commit of these files, with a + where they differ from it; nothing outside Git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        ran = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def describe() -> dict[str, Any]:
    """The machine and what is installed on it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if os.name == "posix" else 0
    return {
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "commit": commit(),
    }
