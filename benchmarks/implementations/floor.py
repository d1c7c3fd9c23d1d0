"""The floor: the matrix products of a step, written into buffers that are there, and no more."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import cycle
from typing import Any

import numpy as np

import ldl
from benchmarks.device import Device
from benchmarks.how import KERNELS, How
from benchmarks.implementation import Implementation, Prepared, Refused, reason
from benchmarks.implementations.ldl_ import Ldl
from benchmarks.kinds import Product
from benchmarks.names import FLOOR
from benchmarks.workloads import Batch, Weights, Workload

TOLERANCES = {"float32": 1e-5, "tf32": 2e-3, "bf16": 2e-2}
"""Largest ‖out − right‖ / ‖right‖ of a matrix product, `right` being that of float64."""

Operands = tuple[Any, Any, Any]
"""(a, b, out)"""


def operands(
    backend: ldl.Backend, workload: Workload, weights: Weights, xs: list[Any]
) -> list[list[Operands]]:
    """For each input every product of a step, in its order and in its layouts.

    What the products mean is of no account: activations are left out and the last G is random.
    """
    if not workload.products():
        raise Refused("it has no matrix products")
    if workload.net:
        return [[_operands(backend, product) for product in workload.products()]] * len(xs)
    rng, empty = np.random.default_rng(), backend.xp.empty
    ws = [backend.asarray(w.copy()) for w, _ in weights]
    outs = [empty((workload.batch, w.shape[1]), "float32") for w in ws]
    grads = [backend.asarray(rng.standard_normal(o.shape).astype(np.float32)) for o in outs]
    dws = [empty(w.shape, "float32") for w in ws]

    def of(x: Any) -> list[Operands]:
        inputs = [x, *outs[:-1]]
        found = list(zip(inputs, ws, outs, strict=True))
        for k in () if workload.predict else range(len(ws) - 1, -1, -1):
            found.append((inputs[k].T, grads[k], dws[k]))
            if k:
                found.append((grads[k], ws[k].T, grads[k - 1]))
        return found

    return [of(x) for x in xs]


def _operands(backend: ldl.Backend, product: Product) -> Operands:
    """Random ones, and where the result goes: three axes where there are several products."""
    rng, count = np.random.default_rng(), (product.count,) * (product.count > 1)
    m, k, n = product[1:4]

    def operand(rows: int, columns: int, turned: bool) -> Any:
        shape = (*count, columns, rows) if turned else (*count, rows, columns)
        made = backend.asarray(rng.standard_normal(shape).astype(np.float32))
        return made.swapaxes(-1, -2) if turned else made

    a, b = operand(m, k, product.turned == "a"), operand(k, n, product.turned == "b")
    return a, b, backend.xp.empty((*count, m, n), "float32")


def check_product(backend: ldl.Backend, a: Any, b: Any, out: Any, precision: str) -> float:
    """The relative error of `backend.matmul` into an output full of NaN; ValueError if too large.

    Measured on at most 64 of the rows; that every number was written is seen on all.
    """
    out[...] = np.nan
    backend.matmul(a, b, out=out)
    every = max(1, a.shape[-2] // 64)
    right = a[..., ::every, :].astype("float64") @ b.astype("float64")
    error = out[..., ::every, :] - right
    worst = math.sqrt((error * error).sum() / (right * right).sum())
    limit = TOLERANCES[precision]
    if not worst <= limit or bool(backend.xp.isnan(out).any()):
        shape = "x".join(map(str, (*a.shape, b.shape[-1])))
        raise ValueError(f"the product {shape} differs by {worst:.1e}, more than {limit:g}")
    return worst


def captured(device: Device, run: Callable[[], Any]) -> tuple[Callable[[], Any], How]:
    """A call that does what `run` does in one launch, or `run` and why it is none."""
    try:
        return device.capture(run), (device.captured, "")
    except Exception as error:
        return run, (KERNELS, f"not captured: {reason(error)}")


class NumpyProducts(Implementation):
    """np.matmul with out=, in the order of a step."""

    name = FLOOR
    checked = False

    def __init__(self, predicts: bool) -> None:
        self.predicts = predicts

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """The products of every batch in turn."""
        backend, matmul = ldl.get_backend("numpy"), np.matmul
        turn = cycle(operands(backend, workload, weights, [x for x, _ in batches]))

        def step() -> None:
            for a, b, out in next(turn):
                matmul(a, b, out=out)

        return Prepared(step)


class Products(Ldl):
    """The step's matrix products through ldl's backend, in one CUDA graph."""

    name = FLOOR
    suites = ("gpu",)
    checked = False

    def __init__(self) -> None:
        super().__init__(FLOOR)

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """Checks each product against float64 first."""
        backend = self.backend(device)
        (products,) = operands(backend, workload, weights, [batches[0][0]])
        for a, b, out in products:
            check_product(backend, a, b, out, device.precision)

        def run() -> None:
            for a, b, out in products:
                backend.matmul(a, b, out=out)

        call, how = captured(device, run)
        return Prepared(call, how=lambda: how)


IMPLEMENTATIONS = [NumpyProducts(False), NumpyProducts(True), Products()]
