"""What the figures were measured with: `python -m benchmarks.gpu.environment` prints it."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ldl
from benchmarks import results
from benchmarks.race import reason

PACKAGES = (
    "numpy",
    "cupy-cuda12x",
    "cupy-cuda13x",
    "nvmath-python",
    "torch",
    "triton",
    "numba",
)

SMI = (
    "name",
    "driver_version",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
    "power.limit",
    "temperature.gpu",
    "persistence_mode",
    "compute_mode",
)


def slug(name: str) -> str:
    """A file name for a device: "nvidia-h100-80gb-hbm3"."""
    return "-".join(re.findall(r"[a-z0-9]+", name.lower())) or "device"


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


def _attempt(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except Exception as error:
        return f"unknown ({reason(error)})"


def _cuda() -> dict[str, Any]:
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())

    def cublaslt() -> int:
        from nvmath.bindings import cublasLt

        return int(cublasLt.get_version())

    return {
        "device": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "memory_bytes": properties["totalGlobalMem"],
        "l2_bytes": properties["l2CacheSize"],
        "driver_supports_cuda": runtime.driverGetVersion(),
        "cuda_runtime": runtime.runtimeGetVersion(),
        "nvrtc": _attempt(lambda: ".".join(map(str, cupy.cuda.nvrtc.getVersion()))),
        "cublaslt": _attempt(cublaslt),
    }


def look(rehearse: bool) -> dict[str, Any]:
    """All of it; without `device` there is no CUDA device that CuPy can use."""
    versions = {"python": platform.python_version(), "ldl": ldl.__version__}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    found = {
        "processor": results.processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "commit": commit(),
        "nvidia_smi": smi(),
    }
    if rehearse:
        return found | {"device": results.processor()}
    try:
        return found | _cuda()
    except Exception as error:
        return found | {"why": reason(error)}


if __name__ == "__main__":
    print(json.dumps(look("--rehearse" in sys.argv)))
