"""What a GPU machine has, and whether it works: `python -m benchmarks.gpu.check`.

One kernel is compiled and run, one product multiplied, one training step played as a CUDA graph,
and each compared with NumPy's. What is known is printed as a line of JSON after every step, so that
a crash is told from the last line. Nothing but Python's own library is imported before it is asked
for: what is missing is named.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from benchmarks import process
from benchmarks.implementation import reason
from benchmarks.machine import describe, processor, slug, smi, versions

REQUIRED = {
    "numpy": "numpy",
    "safetensors": "safetensors",
    "cupy": "cupy-cuda13x",
    "cuda.pathfinder": "cuda-pathfinder",
    "cuda.bindings": "cuda-bindings",
    "cuda.core": "cuda-core",
    "nvmath.bindings": "nvmath-python",
}
"""Modules without which nothing can be measured, and the packages that have them."""

FURTHER = {
    "tests": {"pytest": "pytest", "jax": "jax"},
    "kernels": {"pytest_benchmark": "pytest-benchmark", "pytest": "pytest", "jax": "jax"},
}
"""Those that a part needs besides: tests and the table of layers have references in JAX."""

LIBRARIES = {
    "nvrtc": "nvidia-cuda-nvrtc",
    "cublas": "nvidia-cublas",
    "cudart": "nvidia-cuda-runtime",
    "cuda_runtime": "nvidia-cuda-runtime",
    ".h": "nvidia-cuda-runtime",
    "CUDA headers": "nvidia-cuda-runtime",
}
"""Texts of an error, and the package of CUDA that is missing then; for CUDA 12 with -cu12."""

BRING = "pip install {0}, or beforehand, for want of a network, python -m benchmarks.gpu.gather"

STEPS = 4
"""Training steps that are compared: the first two are launched in pieces."""

Found = dict[str, Any]


def left_out() -> dict[str, str]:
    """What can be done without and is not there, and what goes without it."""
    missing = {}
    if shutil.which("g++") is None:
        missing["g++"] = "PyTorch may not compile; tests marked gpu do not need it"
    if find_spec("torch") is None:
        missing["torch"] = "PyTorch's sides are left out"
    if shutil.which("nvidia-smi") is None:
        missing["nvidia-smi"] = "clocks are not noted"
    return missing


class Missing(Exception):
    """A package is: its name, and why it is missed."""


def bring(package: str, why: str) -> Missing:
    """The error that says how to bring it."""
    return Missing(f"{package} is missing ({why}): {BRING.format(package)}")


def require(modules: dict[str, str]) -> None:
    """Import them; Missing, in one line, names the package of the first that cannot be."""
    for module, package in modules.items():
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            lacking = error.name or module
            own = f"{module}.".startswith(f"{lacking}.")
            name = package if own else REQUIRED.get(lacking, lacking)
            raise bring(name, reason(error)) from error


def library(error: BaseException) -> BaseException:
    """Missing where an error tells of a library that cannot be loaded; else the error itself."""
    text = str(error)
    absent = re.search(
        r"cannot open|[Ff]ailed to (load|find)|not found|Failure finding|No such file", text
    )
    package = next((p for part, p in LIBRARIES.items() if part.lower() in text.lower()), None)
    if not (absent and package):
        return error
    return bring(package + "-cu12" * ("cupy-cuda12x" in versions()), reason(error))


def packages(found: Found, backend: Any) -> None:
    """Those that everything needs."""
    require(REQUIRED)


def device(found: Found, backend: Any) -> None:
    """What CUDA says of the current device."""
    import cupy

    import ldl

    ldl.get_backend("cupy")
    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(runtime.getDevice())
    found |= {
        "device": properties["name"].decode(),
        "compute_capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "memory_bytes": properties["totalGlobalMem"],
        "l2_bytes": properties["l2CacheSize"],
        "driver_supports_cuda": runtime.driverGetVersion(),
        "cuda_runtime": runtime.runtimeGetVersion(),
        "nvrtc": ".".join(map(str, cupy.cuda.nvrtc.getVersion())),
    }


def sharing(found: Found, backend: Any) -> None:
    """Several processes may use the device: what is compared has one each."""
    mode = found["nvidia_smi"].get("compute_mode", "Default")
    if mode != "Default":
        raise ValueError(f"its compute mode is {mode}: nvidia-smi --compute-mode=DEFAULT, as root")


def kernel(found: Found, backend: Any) -> None:
    """Random numbers, which NVRTC compiles a kernel for, are NumPy's bit for bit."""
    from ldl import random

    key = random.Key(1, 2, 3)
    drawn = backend.to_numpy(backend.uniform((1001,), "float32", key))
    if not (drawn == random.uniform((1001,), key).astype("float32")).all():
        raise ValueError("a kernel that was compiled gives wrong numbers")


def product(found: Found, backend: Any) -> None:
    """A product by cuBLASLt is NumPy's."""
    import numpy as np

    if backend.name == "cupy" and hasattr(backend.gemm, "load"):
        from nvmath.bindings import cublasLt

        found["cublaslt"] = int(cublasLt.get_version())
    elif backend.name == "cupy" and backend.gemm is None:
        from ldl_cupy import gemm

        gemm.load()  # which says why there is none
    rng = np.random.default_rng(0)
    a, b = (rng.random(shape, "float32") for shape in ((64, 48), (48, 32)))
    out = backend.to_numpy(backend.matmul(backend.asarray(a), backend.asarray(b)))
    worst = abs(out - a @ b).max()
    if not worst < 1e-3:
        raise ValueError(f"a matrix product is wrong by {worst:.1e}")


def graph(found: Found, backend: Any) -> None:
    """A small net's training steps follow NumPy's, and the last of them is a graph's launch."""
    import numpy as np

    import ldl
    from benchmarks.how import GRAPH, HOST, Watch
    from ldl import nn, optim

    x, losses = np.random.default_rng(0).random((32, 8), "float32"), []
    for on, record in ((backend, True), (ldl.get_backend("numpy"), False)):
        ldl.manual_seed(0)
        with ldl.use_backend(on):
            model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
            step = ldl.TrainStep(model, nn.MSELoss(), optim.Adam(model, lr=0.01), record=record)
            held = on.asarray(x)
            watch = Watch(on, step)
            made = []
            for _ in range(STEPS):
                watch()
                made.append(float(on.to_numpy(step(held, held))))
            if record:
                found["a step is launched"], found["because"] = watch()
        losses.append(made)
    if not np.allclose(*losses, rtol=1e-3):
        raise ValueError(f"training steps are wrong: losses {losses[0]}, NumPy's {losses[1]}")
    if found["a step is launched"] not in (GRAPH, HOST):
        found["notes"] = [f"no CUDA graph: {found['because']}"]


LOOKS: dict[str, Callable[[Found, Any], None]] = {
    "the packages": packages,
    "the device": device,
    "several processes": sharing,
    "a compiled kernel": kernel,
    "a matrix product": product,
    "a training step as a graph": graph,
}
FIRST = packages, device
"""Without which there is nothing to try."""


def look(rehearse: bool, say: Callable[[Found], None], backend: Any = None) -> Found:
    """All of it, as far as it goes: "missing" names a package, "faulty" what does not work.

    `say` is told what is known before every step. `backend` is the one that is tried, CuPy's where
    none is given and NumPy's in a rehearsal.
    """
    found: Found = {**describe(), "nvidia_smi": smi(), "left_out": left_out(), "done": []}
    given = rehearse or backend is not None
    if given:
        found["device"] = processor()
    for name, step in LOOKS.items():
        if given and step in FIRST:
            continue
        found["trying"] = name
        say(found)
        try:
            if backend is None and step not in FIRST:
                import ldl

                backend = ldl.get_backend("numpy" if rehearse else "cupy")
            with warnings.catch_warnings(action="ignore"):  # `found` tells why there is no graph
                step(found, backend)
        except Exception as error:
            told = library(error)
            key = "missing" if isinstance(told, Missing) or step in FIRST else "faulty"
            known = isinstance(told, Missing) or type(told).__name__ == "BackendUnavailableError"
            found[key] = str(told) if known else f"{name}: {reason(told)}"
            return found
        found["done"].append(name)
    del found["trying"]
    return found


def lacks(part: str) -> str:
    """The package that a part needs besides and has not; nothing where it has all."""
    for module, package in FURTHER.get(part, {}).items():
        if find_spec(module) is None:
            return str(bring(package, f"{part} needs it"))
    return ""


def outside(rehearse: bool, until: float) -> Found:
    """`look` in a process of its own, until a moment: this one never touches the device."""
    lines: list[str] = []
    command = [sys.executable, "-m", "benchmarks.gpu.check"] + ["--quick"] * rehearse
    code = process.stream(command, until, lines.append)
    found: Found = {}
    for line in lines:
        if line.startswith("{"):
            found = json.loads(line)
    if code != 0:
        ended = "took too long" if code is None else f"ended with {code}"
        last = next((line for line in reversed(lines) if not line.startswith("{")), "")
        found["faulty"] = f"{found.get('trying', 'the check')} {ended}" + f": {last}" * bool(last)
    found.setdefault("device", smi().get("name", "no device"))
    return found | {"folder": slug(found["device"]), "able": able(found)}


def able(found: Found) -> list[str]:
    """What can be run all the same where something is faulty: the tests say more of it."""
    return ["tests"] if "missing" not in found else []


if __name__ == "__main__":
    last = look("--quick" in sys.argv, lambda found: print(json.dumps(found), flush=True))
    print(json.dumps(last), flush=True)
