"""Kernels, layers and losses, backend against backend.

    pytest benchmarks/test_kernels.py --backend numpy --backend cupy
    pytest benchmarks/test_kernels.py -k adam --benchmark-columns=median,min

A call is over when the device has done all that it was asked. Layers and losses: forward and
backward.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ldl
from benchmarks.kernel_cases import KERNELS, layer_call, layer_cases, loss_call, loss_cases
from catalog import LOSSES, ROWS

LAYERS = layer_cases(ROWS)
LOSS_KINDS = loss_cases(LOSSES)


def time_it(benchmark: Any, name: str, backend: ldl.Backend, call: Callable[[], Any]) -> None:
    """Time a call and wait for the device after it."""
    wait = backend.synchronize

    def whole() -> None:
        call()
        wait()

    benchmark.group = name
    benchmark.extra_info.update(name=name, backend=backend.name)
    whole()
    benchmark(whole)


@pytest.mark.parametrize("name", KERNELS)
def test_kernel(benchmark: Any, name: str, backend: ldl.Backend) -> None:
    """A kernel."""
    time_it(benchmark, name, backend, KERNELS[name](backend))


@pytest.mark.parametrize("name", LAYERS)
def test_layer(benchmark: Any, name: str, backend: ldl.Backend) -> None:
    """A layer, forward and backward."""
    time_it(benchmark, name, backend, layer_call(*LAYERS[name], backend))


@pytest.mark.parametrize("name", LOSS_KINDS)
def test_loss(benchmark: Any, name: str, backend: ldl.Backend) -> None:
    """A loss, forward and backward."""
    time_it(benchmark, name, backend, loss_call(LOSS_KINDS[name], backend))
