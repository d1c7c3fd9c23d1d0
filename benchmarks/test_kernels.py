"""Kernels, layers and losses, backend against backend.

    pytest benchmarks/test_kernels.py --backend numpy --backend cupy
    pytest benchmarks/test_kernels.py -k adam --benchmark-columns=median,min

A call is over when the device has done all that it was asked. Layers and losses: forward and
backward.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import ldl
from benchmarks.device import named
from benchmarks.how import LAYERS
from benchmarks.implementation import reason
from benchmarks.kernel_cases import KERNELS, layer_call, layer_cases, loss_call, loss_cases
from benchmarks.pytests import LOST
from catalog import LOSSES, ROWS

LAYER_KINDS = layer_cases(ROWS)
LOSS_KINDS = loss_cases(LOSSES)

Make = Callable[[ldl.Backend], Callable[[], Any]]
CASES: dict[str, tuple[str, Make]] = {}
"""By name: how a call of it runs, where that is not as its device runs single calls, and it."""
CASES |= {name: ("", make) for name, make in KERNELS.items()}
CASES |= {name: (LAYERS, lambda b, c=c: layer_call(*c, b)) for name, c in LAYER_KINDS.items()}
CASES |= {name: (LAYERS, lambda b, c=c: loss_call(c, b)) for name, c in LOSS_KINDS.items()}


@pytest.mark.parametrize("name", CASES)
def test_call(benchmark: Any, name: str, backend: ldl.Backend, done: Any) -> None:
    """A kernel, or a layer or a loss forward and backward."""
    if backend.name in (done or {}).get(name, {}):
        pytest.skip("done already")
    device = named("cuda" if backend.name == "cupy" else "cpu")

    def tell(**row: Any) -> None:
        if done is not None:
            print("\nrow " + json.dumps({"name": name, "backend": backend.name, **row}), flush=True)

    tell(failed="cut off")
    how, make = CASES[name]
    try:
        call = make(backend)

        def whole() -> None:
            call()
            backend.synchronize()

        benchmark.group = name
        whole()
        benchmark(whole)
    except Exception as error:
        tell(failed=reason(error))
        if not device.alive():
            pytest.exit(f"the device is lost to this process: {reason(error)}", LOST)
        raise
    stats = benchmark.stats.stats
    found = {"median": stats.median, "minimum": stats.min, "rounds": stats.rounds}
    tell(how=how or device.single, **found)
