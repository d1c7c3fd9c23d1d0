"""The floors: how fast this device copies and multiplies, measured through CuPy and ldl."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict
from time import time
from typing import Any

import numpy as np

import ldl
from benchmarks.device import Device
from benchmarks.implementation import reason
from benchmarks.implementations.floor import captured, check_product, operands
from benchmarks.process import NoAnswerError
from benchmarks.suite import Task
from benchmarks.workloads import Workload

COPY_BYTES, CUBE = 1 << 30, 8192
BLOCKS, REPEATS = 7, 20


def _seconds(device: Device, call: Callable[[], Any], count: int) -> dict[str, Any]:
    """Seconds of a call by events, over blocks of `count` after one that is not counted."""
    device.block("cupy", call, count)
    times = [device.block("cupy", call, count) for _ in range(BLOCKS)]
    blocks = [one.get("events", one["wall"]) / count for one in times]
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


def shape_rates(device: Device, workload: Any, precision: str) -> dict[str, Any]:
    """The rate of each product of a step by itself, many of them in one CUDA graph if it can be."""
    ldl.set_matmul_precision(precision)
    workload = Workload(**workload | {"widths": tuple(workload["widths"])})
    backend = ldl.get_backend(device.backend)
    x = np.random.default_rng().random((workload.batch, workload.widths[0]), dtype=np.float32)
    (products,) = operands(backend, workload, workload.weights(), [backend.asarray(x)])
    rows = []
    for a, b, out in products:
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


def measure(task: Task, workloads: list[Workload], precisions: list[str]) -> None:
    """All of them into the task's content; what fails is written down and stops nothing."""
    content, small = task.content, task.args.quick
    asked: dict[str, tuple[Any, ...]] = {"copy": ("copy_rate", 1 << 20 if small else COPY_BYTES)}
    for precision in dict.fromkeys([*precisions, "bf16"]):
        asked[f"cube/{precision}"] = "cube_rate", precision, 64 if small else CUBE
    for workload in workloads:
        if workload.products():
            for precision in precisions:
                key = f"shapes/{workload.name}/{precision}"
                asked[key] = "shape_rates", asdict(workload), precision
    with task.workers() as workers:
        for key, (name, *arguments) in asked.items():
            content[key] = {"failed": "cut off"}
            task.save()
            try:
                if time() > task.until:
                    raise NoAnswerError("skipped", "out of time")
                limit = task.until - time()
                where = f"benchmarks.gpu.floors:{name}"
                content[key] = workers.plain().ask(limit, where, *arguments)
            except NoAnswerError as error:
                content[key] = {"failed": str(error)}
            if "rate" in content[key]:
                task.say(f"  {key}: {content[key]['rate'] / 1e12:.4g} T/s, {content[key]['how']}")
            task.save()
