"""Ldl's own sides."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import cycle
from typing import Any

import ldl
from benchmarks.side import Built, Refused, Side
from benchmarks.workloads import BETAS, EPS, LR, Batch, Weights, Workload
from ldl import nn, optim

TRAIN_STEP = "ldl.TrainStep"


def model_of(workload: Workload, weights: Weights) -> nn.Module:
    """The net, with these weights."""
    widths = workload.widths
    if widths == widths[::-1] and len(widths) % 2 and workload.output == "sigmoid":
        model: nn.Module = nn.AutoEncoder.symmetric(widths[0], widths[1 : len(widths) // 2 + 1])
    else:
        layers: list[nn.Module] = []
        for k, (i, o) in enumerate(workload.layers):
            if k:
                layers.append(nn.ReLU())
                layers += [nn.Dropout(workload.dropout)] if workload.dropout else []
            layers.append(nn.Linear(i, o))
        model = nn.Sequential(*layers, *([nn.Sigmoid()] if workload.output == "sigmoid" else []))
    flat = [array for pair in weights for array in pair]
    model.load_state_dict(dict(zip(model.state_dict(), flat, strict=True)))
    return model


def parts(workload: Workload, weights: Weights) -> tuple[nn.Module, nn.Loss, optim.Optimizer]:
    """The net, its loss and its optimizer."""
    model = model_of(workload, weights)
    loss = nn.CrossEntropyLoss() if workload.loss == "crossentropy" else nn.MSELoss()
    return model, loss, optim.Adam(model.parameters(), lr=LR, betas=BETAS, eps=EPS)


class Eager(Side):
    """The four calls of a step, one after another."""

    name = "ldl, eager"
    uses = ("llvmlite",)

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """A step as a user writes it."""
        model, loss, optimizer = parts(workload, weights)
        turn = cycle(batches)

        def step() -> Any:
            x, y = next(turn)
            model.zero_grad()
            value = loss(model(x), y)
            model.backward(loss.backward())
            optimizer.step()
            return value

        return Built(step)


class Compiled(Side):
    """`ldl.TrainStep`, with llvmlite where it is installed."""

    name = TRAIN_STEP
    uses = ("llvmlite",)

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """The step as one call."""
        step, turn = ldl.TrainStep(*parts(workload, weights)), cycle(batches)
        return Built(lambda: step(*next(turn)))


class WithoutCompiler(Compiled):
    """The same with llvmlite turned off, in a process of its own."""

    name = "ldl.TrainStep without llvmlite"
    uses = ()
    environment = {"LDL_JIT": "0"}  # noqa: RUF012 - never changed

    def available(self) -> str:
        """Where llvmlite is missing, `ldl.TrainStep` is this row already."""
        return (
            "" if find_spec("llvmlite") else "llvmlite is not installed: ldl.TrainStep is this row"
        )


class Predicts(Side):
    """One of the ways to predict a row."""

    predicts = True

    def __init__(self, name: str) -> None:
        self.name = name

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """The model in eval mode."""
        model, turn = model_of(workload, weights).eval(), cycle([x for x, _ in batches])
        if self.name == "ldl, model(x)":
            return Built(lambda: model(next(turn)))
        if self.name == "ldl, model.predict(x)":
            return Built(lambda: model.predict(next(turn)))
        if not hasattr(ldl, "Predictor"):
            raise Refused("this version of ldl has no Predictor")
        predictor = ldl.Predictor(model)
        return Built(lambda: predictor(next(turn)))


PREDICTOR = "ldl.Predictor"

SIDES = [
    Eager(),
    Compiled(),
    WithoutCompiler(),
    Predicts("ldl, model(x)"),
    Predicts("ldl, model.predict(x)"),
    Predicts(PREDICTOR),
]
