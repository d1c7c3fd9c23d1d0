"""The command `kernels`: ldl's kernels, layers and losses, one after another."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from time import perf_counter, time
from typing import Any

import ldl
from benchmarks import kernel_cases
from benchmarks.gpu.device import Device, DeviceLostError
from benchmarks.gpu.ran import LAYERS
from benchmarks.kernel_cases import Call, layer_call, layer_cases, loss_call, loss_cases
from benchmarks.side import reason

SECONDS, ROUNDS = 0.1, (5, 1000)


def cases(device: Device) -> dict[str, tuple[str, Callable[[], Call]]]:
    """By name: how a call of it runs, and what makes the call."""
    from catalog import LOSSES, ROWS  # the tests' table of all layers and losses

    backend, alone = ldl.get_backend(device.backend), device.single
    layers, losses = layer_cases(ROWS), loss_cases(LOSSES)
    found: dict[str, tuple[str, Callable[[], Call]]] = {}
    found |= {name: (alone, lambda c=c: c(backend)) for name, c in kernel_cases.KERNELS.items()}
    found |= {n: (LAYERS, lambda c=c: layer_call(*c, backend)) for n, c in layers.items()}
    return found | {n: (LAYERS, lambda c=c: loss_call(c, backend)) for n, c in losses.items()}


def seconds_of(device: Device, call: Call, seconds: float) -> list[float]:
    """Seconds of calls, each with the wait for the device, after one that is not counted."""
    found: list[float] = []
    until = perf_counter() + seconds
    for k in range(ROUNDS[1] + 1):
        device.wait()
        start = perf_counter()
        call()
        device.wait()
        found.append(perf_counter() - start)
        if k >= ROUNDS[0] and perf_counter() > until:
            break
    return found[1:]


def measure(
    device: Device,
    content: dict[str, Any],
    until: float,
    save: Callable[[], None],
    say: Callable[[str], None],
    seconds: float = SECONDS,
    chosen: Callable[[str], bool] = lambda name: True,
) -> None:
    """All of them into `content`; what fails is written down and stops nothing."""
    backend = ldl.get_backend(device.backend)
    content["backend"] = backend.name
    rows: dict[str, Any] = content.setdefault("rows", {})
    for name, (how, make) in cases(device).items():
        if name in rows or not chosen(name):
            continue
        if time() > until:
            rows[name] = {"failed": "out of time"}
            continue
        rows[name] = {"failed": "cut off"}
        save()
        try:
            found = seconds_of(device, make(), seconds)
        except Exception as error:
            rows[name] = {"failed": reason(error)}
            if not device.alive():
                raise DeviceLostError(reason(error)) from error
        else:
            middle = statistics.median(found)
            rows[name] = {"how": how, "median": middle, "min": min(found), "rounds": len(found)}
        if "failed" in rows[name]:
            say(f"  {name}: {rows[name]['failed']}")
        save()
    save()
