"""The floors: how fast this device copies and multiplies, measured through CuPy and ldl."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import time
from typing import Any

import numpy as np

import ldl
from benchmarks.gpu.device import Device, DeviceLostError
from benchmarks.gpu.ours import captured, check_product, operands
from benchmarks.side import reason
from benchmarks.workloads import Workload

COPY_BYTES, CUBE = 1 << 30, 8192
BLOCKS, REPEATS = 7, 20

Save = Callable[[], None]


def _seconds(device: Device, call: Callable[[], Any], count: int) -> dict[str, Any]:
    """Seconds of a call by events, over blocks of `count` after one that is not counted."""
    device.block("cupy", call, count)
    blocks = [device.block("cupy", call, count)[0] / count for _ in range(BLOCKS)]
    return {"median": statistics.median(blocks), "minimum": min(blocks), "blocks": blocks}


def copy_rate(device: Device, size: int = COPY_BYTES) -> dict[str, Any]:
    """Bytes a second of a copy within the device, those read and those written."""
    xp = ldl.get_backend(device.backend).xp
    count = size // 4
    source = xp.asarray(np.random.default_rng().random(count, dtype=np.float32))
    target = xp.full(count, np.nan, "float32")
    xp.copyto(target, source)
    if not bool((target == source).all()):
        raise ValueError("the copy differs")
    found = _seconds(device, lambda: xp.copyto(target, source), 10)
    return {"bytes": 2 * size, "how": device.single, **found, "rate": 2 * size / found["median"]}


def cube_rate(device: Device, precision: str, n: int = CUBE) -> dict[str, Any]:
    """Operations a second of a product of two n x n matrices through ldl's backend."""
    ldl.set_matmul_precision(precision)
    backend, rng = ldl.get_backend(device.backend), np.random.default_rng()
    a, b = (backend.asarray(rng.standard_normal((n, n), dtype=np.float32)) for _ in range(2))
    out = backend.xp.empty((n, n), "float32")
    error = check_product(backend, a, b, out, precision)
    found = _seconds(device, lambda: backend.matmul(a, b, out=out), 3)
    rate = 2 * n**3 / found["median"]
    return {"n": n, "error": error, "how": device.single, **found, "rate": rate}


def shape_rates(device: Device, workload: Workload, precision: str) -> dict[str, Any]:
    """The rate of each product of a step by itself, many of them in one CUDA graph if it can be."""
    ldl.set_matmul_precision(precision)
    backend = ldl.get_backend(device.backend)
    x = np.random.default_rng().random((workload.batch, workload.widths[0]), dtype=np.float32)
    rows = []
    for a, b, out in operands(backend, workload, workload.weights(), backend.asarray(x)):
        shape = (a.shape[0], a.shape[1], b.shape[1])
        row: dict[str, Any] = {"shape": shape, "kind": _kind(a, b)}
        rows.append(row)
        try:
            row["error"] = check_product(backend, a, b, out, precision)

            def many(a: Any = a, b: Any = b, out: Any = out) -> None:
                for _ in range(REPEATS):
                    backend.matmul(a, b, out=out)

            call, (row["how"], row["why"]) = captured(device, many)
            found = _seconds(device, call, 3)
        except Exception as error:
            row["failed"] = reason(error)
            continue
        row |= {"seconds": found["median"] / REPEATS, "minimum": found["minimum"] / REPEATS}
        row["rate"] = 2 * shape[0] * shape[1] * shape[2] / row["seconds"]
    return {"title": workload.title, "rows": rows}


def _kind(a: Any, b: Any) -> str:
    """Which product of a step: `b` is W transposed for dX, `a` is X transposed for dW."""
    if not a.flags.c_contiguous:
        return "dW"
    return "Z" if b.flags.c_contiguous else "dX"


def measure(
    device: Device,
    content: dict[str, Any],
    workloads: list[Workload],
    precisions: list[str],
    until: float,
    save: Save,
    say: Callable[[str], None],
    small: bool,
) -> None:
    """All of them into `content`; what fails is written down and stops nothing."""

    def attempt(key: str, make: Callable[..., Any], *arguments: Any) -> None:
        if key in content:
            return
        if time() > until:
            content[key] = {"failed": "out of time"}
            save()
            return
        content[key] = {"failed": "cut off"}
        save()
        try:
            content[key] = make(device, *arguments)
        except Exception as error:
            content[key] = {"failed": reason(error)}
            if not device.alive():
                raise DeviceLostError(reason(error)) from error
        if "rate" in content[key]:
            say(f"  {key}: {content[key]['rate'] / 1e12:.4g} T/s, {content[key]['how']}")
        device.tidy()
        save()

    attempt("copy", copy_rate, 1 << 20 if small else COPY_BYTES)
    for precision in [*precisions, "bf16"]:
        attempt(f"cube/{precision}", cube_rate, precision, 64 if small else CUBE)
    for workload in workloads:
        for precision in precisions:
            key = f"shapes/{workload.name}/{precision}"
            attempt(key, shape_rates, workload, precision)
    save()
