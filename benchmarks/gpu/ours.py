"""Ldl's sides on a device, and the floor: the matrix products of a step through ldl's backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from typing import Any

import numpy as np

import ldl
from benchmarks.gpu.device import Device
from benchmarks.gpu.names import EAGER, FLOOR, SEVERAL, TRAIN_STEP, WITHOUT
from benchmarks.gpu.ran import KERNELS, How, Watch
from benchmarks.gpu.running import Running
from benchmarks.rivals.ldl_step import model_of
from benchmarks.side import Built, Refused, Side, reason
from benchmarks.workloads import BETAS, EPS, LR, Batch, Weights, Workload
from ldl import nn, optim

SMALL = 1e9
"""FLOPs of a step below which a launch holds more steps."""

PRODUCT_TOLERANCES = {"float32": 1e-5, "tf32": 2e-3, "bf16": 2e-2}
"""Largest ‖out − right‖ / ‖right‖ of a matrix product, `right` being that of float64."""

PARTS = {
    "float32": ("second stream", "epilogues"),
    "tf32": ("second stream", "epilogues"),
    "bf16": ("second stream", "bf16"),
}
"""What steps are also timed without, where that is asked for by name."""

LOSSES = {"crossentropy": nn.CrossEntropyLoss, "bce": nn.BCEWithLogitsLoss, "squared": nn.MSELoss}


def launch_several(step: Any, x: Any, y: Any, order: Any, size: int, starts: list[int]) -> Any:
    """Train on the rows order[start : start + size] for each start; the losses of these steps.

    Refused where TrainStep has no such method.
    """
    if not hasattr(step, "run"):
        raise Refused("TrainStep has no method run in this version")
    return step.run(x, y, order, size, starts)


class Ours(Side):
    """The base: the net, its loss and Adam on the device."""

    library = "cupy"

    def __init__(self, name: str, device: Device) -> None:
        self.name = name
        self.backend = ldl.get_backend(device.backend)

    def train_step(self, workload: Workload, weights: Weights, **options: Any) -> Any:
        """A TrainStep with these weights."""
        with ldl.use_backend(self.backend):
            model = model_of(workload, weights).train()
            optimizer = optim.Adam(model.parameters(), lr=LR, betas=BETAS, eps=EPS)
            return ldl.TrainStep(model, LOSSES[workload.loss](), optimizer, **options)

    def read(self, value: Any) -> list[float]:
        """Losses on the host."""
        host = np.asarray(self.backend.to_numpy(value), np.float64)
        return [float(loss) for loss in host.reshape(-1)]

    def running(self, train_step: Any, step: Callable[[], Any], steps: int = 1) -> Running:
        """With the gradients and the last loss as what a call must write."""

        def poison(value: Any) -> None:
            for parameter in train_step.model.parameters():
                if parameter.grad_buffer is not None:
                    parameter.grad_buffer[...] = np.nan
            with suppress(TypeError, ValueError):  # a NumPy number, or an array that is read-only
                value[...] = np.nan

        how = Watch(self.backend, train_step)
        return Running(step, read=self.read, poison=poison, steps=steps, how=how)


class OneStep(Ours):
    """A step a call; eager with `record` False."""

    def __init__(self, name: str, device: Device, record: bool) -> None:
        super().__init__(name, device)
        self.record = record

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """`ldl.TrainStep` on batches that are on the device."""
        step, turn = self.train_step(workload, weights, record=self.record), cycle(batches)
        return self.running(step, lambda: step(*next(turn)))


class SeveralSteps(Ours):
    """All batches, of a small net four times over, in one launch, gathered on the device."""

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """`launch_several` on the batches laid end to end."""
        step = self.train_step(workload, weights)
        xp = self.backend.xp
        x = xp.concatenate([x for x, _ in batches])
        same = all(y is x for x, y in batches)
        y = x if same else xp.concatenate([y for _, y in batches])
        order, size = self.backend.asarray(np.arange(len(x))), workload.batch
        starts = list(range(0, len(x), size)) * (4 if workload.flops() < SMALL else 1)

        def run() -> Any:
            return launch_several(step, x, y, order, size, starts)

        return self.running(step, run, len(starts))


class Without(OneStep):
    """A step a call without one of the things that make it fast, to see what that is worth."""

    def __init__(self, what: str, device: Device) -> None:
        super().__init__(WITHOUT + what, device, record=True)
        self.what = what

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """With a backend of its own; refused where a backend has nothing to leave out."""
        if not hasattr(self.backend, "leaves_out"):
            raise Refused(f"{self.backend.name} has nothing to leave out")
        self.backend = type(self.backend)()
        self.backend.leaves_out = frozenset({self.what})
        return super().build(workload, weights, batches)


class Products(Ours):
    """The step's matrix products into buffers that are there, in one CUDA graph."""

    same_work = False

    def __init__(self, device: Device, precision: str) -> None:
        super().__init__(FLOOR, device)
        self.device = device
        self.precision = precision

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """Checks each product against float64 first."""
        products = operands(self.backend, workload, weights, batches[0][0])
        for a, b, out in products:
            check_product(self.backend, a, b, out, self.precision)

        def run() -> None:
            for a, b, out in products:
                self.backend.matmul(a, b, out=out)

        call, how = captured(self.device, run)
        return Running(call, how=lambda: how)


def captured(device: Device, run: Callable[[], Any]) -> tuple[Callable[[], Any], How]:
    """A call that does what `run` does in one launch, or `run` and why it is none."""
    try:
        return device.capture(run), (device.captured, "")
    except Exception as error:
        return run, (KERNELS, f"not captured: {reason(error)}")


def operands(
    backend: ldl.Backend, workload: Workload, weights: Weights, x: Any
) -> list[tuple[Any, Any, Any]]:
    """(a, b, out) of every product of a step, in its order and in its layouts.

    What the products mean is of no account: activations are left out and the last G is random.
    """
    rng = np.random.default_rng()
    ws = [backend.asarray(w) for w, _ in weights]
    empty = backend.xp.empty
    outs = [empty((workload.batch, w.shape[1]), "float32") for w in ws]
    grads = [backend.asarray(rng.standard_normal(o.shape).astype(np.float32)) for o in outs]
    inputs = [x, *outs[:-1]]
    found = list(zip(inputs, ws, outs, strict=True))
    for k in range(len(ws) - 1, -1, -1):
        found.append((inputs[k].T, grads[k], empty(ws[k].shape, "float32")))
        if k:
            found.append((grads[k], ws[k].T, grads[k - 1]))
    return found


def check_product(backend: ldl.Backend, a: Any, b: Any, out: Any, precision: str) -> float:
    """The relative error of `backend.matmul` into an output full of NaN; ValueError if too large.

    Measured on at most 64 of the rows; that every number was written is seen on all.
    """
    out[...] = np.nan
    backend.matmul(a, b, out=out)
    every = max(1, len(a) // 64)
    right = a[::every].astype("float64") @ b.astype("float64")
    error = out[::every] - right
    worst = math.sqrt((error * error).sum() / (right * right).sum())
    limit = PRODUCT_TOLERANCES[precision]
    if not worst <= limit or bool(backend.xp.isnan(out).any()):
        shape = f"{a.shape[0]}x{a.shape[1]}x{b.shape[1]}"
        raise ValueError(f"the product {shape} differs by {worst:.1e}, more than {limit:g}")
    return worst


def gpu_sides(device: Device, precision: str) -> list[Side]:
    """Ldl's, the floor first."""
    return [
        Products(device, precision),
        OneStep(TRAIN_STEP, device, record=True),
        SeveralSteps(SEVERAL, device),
        OneStep(EAGER, device, record=False),
        *(Without(what, device) for what in PARTS[precision]),
    ]


def place(batches: list[Batch], device: Device) -> list[Batch]:
    """The batches as ldl's arrays on the device; a target that is its input stays so."""
    backend = ldl.get_backend(device.backend)
    placed = []
    for x, y in batches:
        on_device = backend.asarray(x)
        placed.append((on_device, on_device if y is x else backend.asarray(y)))
    return placed
