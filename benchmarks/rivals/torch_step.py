"""PyTorch: eager, eager with its fused Adam, and compiled."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from benchmarks import threads
from benchmarks.side import Built, Side
from benchmarks.workloads import BETAS, EPS, LR, Batch, Weights, Workload


def model_of(workload: Workload, weights: Weights) -> Any:
    """The net, with these weights; PyTorch keeps them transposed."""
    import torch

    torch.set_num_threads(threads.count())
    torch.manual_seed(0)
    layers: list[Any] = []
    for k, (w, b) in enumerate(weights):
        if k:
            layers.append(torch.nn.ReLU())
            layers += [torch.nn.Dropout(workload.dropout)] if workload.dropout else []
        linear = torch.nn.Linear(*w.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor(w).T)
            linear.bias.copy_(torch.tensor(b))
        layers.append(linear)
    if workload.output == "sigmoid":
        layers.append(torch.nn.Sigmoid())
    return torch.nn.Sequential(*layers)


class Trains(Side):
    """Forward, loss, backward and step, as PyTorch's tutorials write them."""

    needs = ("torch",)

    def __init__(self, name: str, fused: bool, compiled: bool) -> None:
        self.name = name
        self.fused = fused
        self.compiled = compiled

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """The forward pass with its loss is what is compiled; autograd compiles its backward."""
        import torch

        model = model_of(workload, weights)
        options = {"fused": True} if self.fused else {}
        optimizer = torch.optim.Adam(model.parameters(), lr=LR, betas=BETAS, eps=EPS, **options)
        turn = cycle([(torch.tensor(x), torch.tensor(y)) for x, y in batches])

        def forward(x: Any, y: Any) -> Any:
            out = model(x)
            if workload.loss == "crossentropy":
                return torch.nn.functional.cross_entropy(out, y)
            return torch.nn.functional.mse_loss(out, y, reduction="sum") / len(x)

        if self.compiled:
            torch._dynamo.reset()
            forward = torch.compile(forward, dynamic=False)

        def step() -> Any:
            x, y = next(turn)
            optimizer.zero_grad()
            value = forward(x, y)
            value.backward()
            optimizer.step()
            return value.detach()

        return Built(step)


class Predicts(Side):
    """The model in eval mode, under inference_mode, on tensors made beforehand."""

    name = "PyTorch eager"
    needs = ("torch",)
    predicts = True

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """The forward pass."""
        import torch

        model, turn = (
            model_of(workload, weights).eval(),
            cycle([torch.tensor(x) for x, _ in batches]),
        )

        @torch.inference_mode()
        def step() -> Any:
            return model(next(turn))

        return Built(step)


SIDES = [
    Trains("PyTorch eager", fused=False, compiled=False),
    Trains("PyTorch eager, fused Adam", fused=True, compiled=False),
    Trains("torch.compile, fused Adam", fused=True, compiled=True),
    Predicts(),
]
