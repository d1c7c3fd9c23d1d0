"""Ldl's own implementations, on either device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import numpy as np

import ldl
from benchmarks import own_layers
from benchmarks.device import Device
from benchmarks.how import LAYERS, Watch
from benchmarks.implementation import Implementation, Prepared, Refused
from benchmarks.names import EAGER, PREDICTOR, SEVERAL, TRAIN_STEP, WITHOUT
from benchmarks.workloads import BETAS, EPS, LR, Batch, Weights, Workload
from ldl import nn, optim

SMALL = 1e9
"""FLOPs of a step below which a launch holds more steps."""

PARTS = {
    "second stream": ("float32", "tf32", "bf16"),
    "epilogues": ("float32", "tf32"),
    "bf16": ("bf16",),
}
"""What steps on a GPU are also timed without, where that is asked for by name, and in which
precisions they have it."""

LAYERS_OF: dict[str, Callable[..., nn.Module]] = {
    "conv": lambda i, o, size, p: nn.Conv2d(i, o, size, padding=p),
    "linear": nn.Linear,
    "relu": nn.ReLU,
    "batchnorm1d": nn.BatchNorm1d,
    "batchnorm2d": nn.BatchNorm2d,
    "maxpool": nn.MaxPool2d,
    "meanpool": nn.GlobalAvgPool,
    "flatten": nn.Flatten,
    "transformer": lambda d, heads, hidden: nn.TransformerBlock(d, heads, hidden),
    "lstm": lambda i, h: nn.LSTM(i, h, last=True),
}
"""Layers of `benchmarks.kinds`."""

LOSSES = {"crossentropy": nn.CrossEntropyLoss, "bce": nn.BCEWithLogitsLoss, "squared": nn.MSELoss}


def model_of(workload: Workload, weights: Weights) -> nn.Module:
    """The net, with these weights."""
    widths = workload.widths
    layers: list[nn.Module] = []
    if workload.net:
        made = nn.Sequential(*(LAYERS_OF[kind](*numbers) for kind, *numbers in workload.net))
        learned = [p for p in made.parameters() if not isinstance(p, nn.Buffer)]
        for parameter, array in zip(learned, weights, strict=True):
            parameter.data[...] = parameter.backend.asarray(array)
        return made
    if workload.layer:
        layers = [own_layers.Affine(widths[0])]
        if workload.layer != "softmax":
            axis = 0 if workload.layer == "batchnorm" else 1
            layers += [own_layers.Standardize(axis), own_layers.Affine(widths[0])]
        model: nn.Module = nn.Sequential(*layers)
    elif widths == widths[::-1] and len(widths) % 2 and workload.output == "sigmoid":
        model = nn.AutoEncoder.symmetric(widths[0], widths[1 : len(widths) // 2 + 1])
    else:
        for k, (i, o) in enumerate(workload.layers):
            if k:
                layers.append(nn.ReLU())
                layers += [nn.Dropout(workload.dropout)] if workload.dropout else []
            layers.append(nn.Linear(i, o))
        model = nn.Sequential(*layers, *([nn.Sigmoid()] if workload.output == "sigmoid" else []))
    flat = [array for pair in weights for array in pair]
    model.load_state_dict(dict(zip(model.state_dict(), flat, strict=True)))
    return model


class Ldl(Implementation):
    """The base: the net, its loss and Adam on the device."""

    suites = ("cpu", "gpu")
    uses = ("llvmlite",)
    library = "cupy"

    def __init__(self, name: str) -> None:
        self.name = name

    def backend(self, device: Device) -> Any:
        """The device's."""
        return ldl.get_backend(device.backend)

    def set_precision(self, name: str) -> None:
        """`ldl.set_matmul_precision`."""
        ldl.set_matmul_precision(name)

    def place(self, batches: list[Batch], device: Device) -> list[Batch]:
        """As ldl's arrays; a target that is its input stays so."""
        asarray, placed = self.backend(device).asarray, []
        for x, y in batches:
            on_device = asarray(x)
            placed.append((on_device, on_device if y is x else asarray(y)))
        return placed

    def parts(self, workload: Workload, weights: Weights, device: Device) -> Any:
        """The net, its loss and its optimizer."""
        with ldl.use_backend(self.backend(device)):
            model = model_of(workload, weights).train()
            own = own_layers.SoftmaxCrossEntropy if workload.layer == "softmax" else None
            loss = (own or LOSSES[workload.loss])()
            return model, loss, optim.Adam(model.parameters(), lr=LR, betas=BETAS, eps=EPS)

    def prepared(
        self, model: nn.Module, step: Callable[[], Any], device: Device, **more: Any
    ) -> Prepared:
        """With the gradients and the last loss as what a call must write."""
        to_numpy = self.backend(device).to_numpy

        def read(value: Any) -> list[float]:
            found: list[float] = np.asarray(to_numpy(value), np.float64).reshape(-1).tolist()
            return found

        def poison(value: Any) -> None:
            for parameter in model.parameters():
                if parameter.grad_buffer is not None:
                    parameter.grad_buffer[...] = np.nan
            with suppress(TypeError, ValueError):  # a NumPy number, or an array that is read-only
                value[...] = np.nan

        return Prepared(step, read=read, poison=poison, **more)


class Eager(Ldl):
    """The four calls of a step, one after another."""

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """A step as a user writes it."""
        model, loss, optimizer = self.parts(workload, weights, device)
        turn = cycle(batches)

        def step() -> Any:
            x, y = next(turn)
            model.zero_grad()
            value = loss(model(x), y)
            model.backward(loss.backward())
            optimizer.step()
            return value

        return self.prepared(model, step, device, how=lambda: (LAYERS, ""))


class OneStep(Ldl):
    """`ldl.TrainStep`, a step a call."""

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """The step as one call."""
        step, turn = ldl.TrainStep(*self.parts(workload, weights, device)), cycle(batches)
        how = Watch(self.backend(device), step)
        return self.prepared(step.model, lambda: step(*next(turn)), device, how=how)


class SeveralSteps(Ldl):
    """All batches, of a small net four times over, in one launch, gathered on the device."""

    suites = ("gpu",)

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """`TrainStep.run` on the batches laid end to end."""
        step = ldl.TrainStep(*self.parts(workload, weights, device))
        backend, size = self.backend(device), workload.batch
        x = backend.xp.concatenate([x for x, _ in batches])
        same = all(y is x for x, y in batches)
        y = x if same else backend.xp.concatenate([y for _, y in batches])
        order = backend.asarray(np.arange(len(x)))
        starts = list(range(0, len(x), size)) * (4 if workload.flops() < SMALL else 1)
        more = {"steps": len(starts), "how": Watch(backend, step)}
        return self.prepared(
            step.model, lambda: step.run(x, y, order, size, starts), device, **more
        )


class WithoutJit(OneStep):
    """A step a call without the compiler of loops."""

    suites = ("cpu",)
    uses = ()
    environment = {"LDL_JIT": "0"}  # noqa: RUF012 - never changed

    def available(self) -> str:
        """Where it is missing, `ldl.TrainStep` is this row already."""
        return (
            "" if find_spec("llvmlite") else "llvmlite is not installed: ldl.TrainStep is this row"
        )


class Without(OneStep):
    """A step a call without one of the things that make it fast, to see what that is worth."""

    suites = ("gpu",)
    on_request = True

    def __init__(self, what: str) -> None:
        super().__init__(WITHOUT + what)
        self.what = what

    def backend(self, device: Device) -> Any:
        """One of its own; Refused where a backend has nothing to leave out."""
        own = super().backend(device)
        if device.precision not in PARTS[self.what]:
            raise Refused(f"products in {device.precision} have no {self.what}")
        if not hasattr(own, "leaves_out"):
            raise Refused(f"{own.name} has nothing to leave out")
        if not hasattr(self, "_own"):
            self._own = type(own)()
            self._own.leaves_out = frozenset({self.what})
        return self._own


class Predicts(Ldl):
    """One of the ways to predict a row."""

    suites = ("cpu",)
    predicts = True

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """The model in eval mode."""
        model = model_of(workload, weights).eval()
        turn = cycle([x for x, _ in batches])
        ways = {"ldl, model(x)": model, "ldl, model.predict(x)": model.predict}
        call = ways.get(self.name) or ldl.Predictor(model)
        return Prepared(lambda: call(next(turn)))


IMPLEMENTATIONS = [
    OneStep(TRAIN_STEP),
    SeveralSteps(SEVERAL),
    WithoutJit(WITHOUT + "the JIT"),
    Eager(EAGER),
    *map(Without, PARTS),
    *map(Predicts, (PREDICTOR, "ldl, model(x)", "ldl, model.predict(x)")),
]
