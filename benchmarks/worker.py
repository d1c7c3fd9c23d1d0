"""A process in which one implementation, or one measurement, runs: `python -m benchmarks.worker`.

It is told what to do by lines of JSON, [function, arguments], on its standard input, and answers
each by one on its standard output: the value, an error, or before these progress. What libraries
print goes to the standard error. A fault on the device, or a crash, ends this process and no other.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter
from typing import Any

from benchmarks.device import Device, named
from benchmarks.implementation import Implementation, Prepared, Refused, reason
from benchmarks.workloads import Workload

Answer = dict[str, Any]


def answer(
    device: Device, where: str, arguments: list[Any], progress: Callable[[Any], None]
) -> Answer:
    """Call "module:function" with the device and the arguments.

    With "+" after it, it is given `progress` too, to be told what is known so far.
    """
    module, _, name = where.partition(":")
    try:
        function = getattr(import_module(module), name.rstrip("+"))
        more = (progress,) if name.endswith("+") else ()
        return {"value": function(device, *more, *arguments)}
    except Refused as error:
        return {"error": reason(error), "status": "skipped", "alive": True}
    except Exception as error:
        return {"error": reason(error), "status": "failed", "alive": device.alive()}


def address(own: Implementation) -> list[str]:
    """Where `find` finds an implementation in another process."""
    return [type(own).__module__, type(own).__name__, own.name]


def find(where: list[str], predicts: bool = False) -> Implementation:
    """The implementation of that address."""
    every: list[Implementation] = import_module(where[0]).IMPLEMENTATIONS
    return next(own for own in every if address(own) == where and own.predicts == predicts)


def enter(
    device: Device, where: list[str], workload: Any, precision: str, seed: int
) -> dict[str, Any]:
    """Build an implementation and do its first steps: their losses or outputs, and what it took."""
    leave(device)
    try:
        return _enter(device, where, workload, precision, seed)
    except BaseException:
        gc.collect()
        device.tidy()  # what it had taken
        raise


def _enter(
    device: Device, where: list[str], workload: Any, precision: str, seed: int
) -> dict[str, Any]:
    workload = Workload(**workload | {"widths": tuple(workload["widths"])})
    own = find(where, workload.predict)
    if missing := own.available():
        raise Refused(missing)
    device.precision = precision
    own.set_precision(precision)
    batches, weights = own.place(workload.batches(seed), device), workload.weights()
    gc.collect()  # what an earlier workload left is not to be freed while memory is counted
    start = perf_counter()
    with device.metered(own.library) as meter:
        prepared = own.build(workload, weights, batches, device)
        values = first_values(device, prepared, workload) if own.checked else {}
        device.wait()
        found = {"build_seconds": perf_counter() - start, "first_bytes": meter.peak()}
        meter.forget()
        prepared.how()
        for _ in range(2):
            prepared.wait(prepared.step())
        device.wait()
        found["step_bytes"] = meter.peak()
    how, why = prepared.how()
    device.entered = own.library, prepared
    gc.collect()
    gc.freeze()  # what the libraries hold is no garbage; collections stay short for every library
    return found | {"values": values, "steps": prepared.steps, "how": how, "why": why}


def first_values(device: Device, prepared: Prepared, workload: Workload) -> dict[int, Any]:
    """The losses, or outputs, of `compare` steps, gradients and loss filled with NaN before each.

    Three calls at least: graphs are captured by then.
    """
    values: dict[int, Any] = {}
    done, calls, value = 0, 0, None
    while done < workload.compare or calls < 3:
        calls += 1
        prepared.poison(value)
        device.wait()  # a library may launch on a stream of its own
        value = prepared.step()
        found = prepared.read(value)
        done += prepared.steps
        if workload.predict:
            values[done - 1] = found
        else:
            values |= {done - len(found) + k: loss for k, loss in enumerate(found)}
    return values


def block(device: Device, calls: int, warm: int) -> dict[str, Any]:
    """Seconds of so many calls, after some that are not timed, by every clock; and how they ran."""
    library, prepared = device.entered
    for _ in range(warm):
        prepared.wait(prepared.step())
    prepared.how()
    times = device.block(library, prepared.step, calls, prepared.wait)
    return {"times": times, "how": prepared.how()}


def leave(device: Device) -> None:
    """Forget what was built, and give back what the libraries hold for later."""
    if device.entered is not None:
        device.entered = None
        gc.unfreeze()
        gc.collect()
        device.tidy()


def main(kind: str, *packages: str) -> int:
    """Import packages, where they are, then answer until there is nothing more to read."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def write(found: Answer) -> None:
        print(json.dumps(found), file=out, flush=True)

    def progress(value: Any) -> None:
        write({"progress": value})

    for package in filter(find_spec, packages):
        with suppress(Exception):  # who needs it will say so
            import_module(package)
    device: Device | None = None
    for line in sys.stdin:
        try:
            device = device or named(kind)
        except Exception as error:
            write({"error": reason(error), "status": "failed", "alive": False})
            continue
        write(answer(device, *json.loads(line), progress=progress))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
