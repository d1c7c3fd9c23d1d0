"""PyTorch on a CUDA device: eager, compiled, and a whole step captured in a CUDA graph.

These sides are those of `benchmarks.gpu`; the suite for processors has none of them. Batches are
tensors on the device already.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import cycle
from typing import Any

from benchmarks.gpu.ran import COMPILED, EAGER, GRAPH, How
from benchmarks.gpu.running import Running, nothing
from benchmarks.rivals.torch_step import model_of
from benchmarks.side import Built, Refused, Side
from benchmarks.workloads import BETAS, EPS, LR, Batch, Weights, Workload

SIDES: list[Side] = []


def _loss_of(workload: Workload) -> Callable[[Any, Any], Any]:
    from torch.nn import functional as f

    if workload.loss == "crossentropy":
        return f.cross_entropy
    if workload.loss == "bce":
        return f.binary_cross_entropy_with_logits
    return lambda out, y: f.mse_loss(out, y, reduction="sum") / len(out)


def _rounds() -> bool:
    """Whether `set_precision` said that products are bfloat16's. Asked where nothing is traced."""
    import torch

    return torch.get_float32_matmul_precision() == "medium"


def _loss_at(model: Any, loss: Callable[[Any, Any], Any], rounds: bool, x: Any, y: Any) -> Any:
    """The loss of the model, its products in bfloat16 with `rounds`."""
    import torch

    with torch.autocast(x.device.type, torch.bfloat16, enabled=rounds):
        return loss(model(x), y)


def _read(value: Any) -> list[float]:
    return [float(value)]


def _eager() -> How:
    return EAGER, ""


def compiled() -> How:
    """How what `torch.compile` was given since its last reset runs, as its own counters say."""
    utils: Any = import_module("torch._dynamo.utils")
    found = utils.counters
    if not found["stats"].get("unique_graphs"):
        return EAGER, "torch.compile compiled nothing"
    counts = {
        "breaks in the trace": sum(found["graph_break"].values()),
        "parts without a CUDA graph": found["inductor"].get("cudagraph_skips", 0),
    }
    return COMPILED, ", ".join(f"{count} {what}" for what, count in counts.items() if count)


class Trains(Side):
    """Forward, loss, backward and step, as PyTorch's tutorials write them."""

    needs = ("torch",)
    library = "torch"

    def __init__(self, name: str, device: str, fused: bool, mode: str = "") -> None:
        self.name = name
        self.device = device
        self.fused = fused
        self.mode = mode
        self.slow = bool(mode)

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """With a mode, the forward pass and its loss are compiled, and autograd's backward."""
        import torch

        model = model_of(workload, weights).to(self.device)
        options = {"fused": True} if self.fused else {}
        optimizer = torch.optim.Adam(model.parameters(), lr=LR, betas=BETAS, eps=EPS, **options)
        loss, turn, rounds = _loss_of(workload), cycle(batches), _rounds()

        def forward(x: Any, y: Any) -> Any:
            return _loss_at(model, loss, rounds, x, y)

        mark: Callable[[], None] = nothing
        if self.mode:
            torch._dynamo.reset()
            torch._dynamo.utils.counters.clear()
            forward = torch.compile(forward, mode=self.mode, dynamic=False)
            mark = torch.compiler.cudagraph_mark_step_begin

        def step() -> Any:
            x, y = next(turn)
            mark()
            optimizer.zero_grad()
            value = forward(x, y)
            value.backward()
            optimizer.step()
            return value.detach()

        return Running(step, read=_read, how=compiled if self.mode else _eager)


class Captured(Side):
    """The whole step, update included, in one torch.cuda.CUDAGraph with fused capturable Adam.

    The batch is copied into the graph's own input, once where the input is the target.
    """

    name = "PyTorch, whole step in a CUDA graph"
    needs = ("torch",)
    library = "torch"

    def __init__(self, device: str) -> None:
        self.device = device

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """Warm up on a stream of its own, capture, and put everything back to the beginning."""
        torch: Any = import_module("torch")
        if self.device != "cuda":
            raise Refused("a CUDA graph needs a CUDA device")
        model = model_of(workload, weights).to(self.device)
        parameters = list(model.parameters())
        kept = [p.detach().clone() for p in parameters]
        optimizer = torch.optim.Adam(
            parameters, lr=LR, betas=BETAS, eps=EPS, capturable=True, fused=True
        )
        loss, turn, rounds = _loss_of(workload), cycle(batches), _rounds()
        x = batches[0][0].clone()
        y = x if batches[0][1] is batches[0][0] else batches[0][1].clone()

        def whole() -> Any:
            value = _loss_at(model, loss, rounds, x, y)
            value.backward()
            optimizer.step()
            return value.detach()

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                optimizer.zero_grad(set_to_none=True)
                whole()
        torch.cuda.current_stream().wait_stream(stream)
        optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            value = whole()
        with torch.no_grad():
            for parameter, first in zip(parameters, kept, strict=True):
                parameter.copy_(first)
            for state in optimizer.state.values():
                for slot in state.values():
                    slot.zero_()

        def step(kept: Any = whole) -> Any:  # with the optimizer, in whose moments the graph works
            fresh, target = next(turn)
            x.copy_(fresh)
            if y is not x:
                y.copy_(target)
            graph.replay()
            return value

        def poison(ignored: Any) -> None:
            value.fill_(float("nan"))
            for parameter in parameters:
                parameter.grad.fill_(float("nan"))

        return Running(step, read=_read, poison=poison, how=lambda: (GRAPH, ""))


def gpu_sides(device: str) -> list[Side]:
    """Those that run on a device of that name, "cuda" or, to be tried, "cpu"."""
    return [
        Trains("PyTorch eager", device, fused=False),
        Trains("PyTorch eager, fused Adam", device, fused=True),
        Captured(device),
        Trains("torch.compile reduce-overhead, fused Adam", device, True, "reduce-overhead"),
    ]


def place(batches: list[Batch], device: str) -> list[Batch]:
    """The batches as tensors on the device; a target that is its input stays so."""
    import torch

    placed = []
    for x, y in batches:
        on_device = torch.tensor(x, device=device)
        placed.append((on_device, on_device if y is x else torch.tensor(y, device=device)))
    return placed


def set_precision(name: str) -> None:
    """Let operands of products be rounded to TF32, to bfloat16 by autocast, or not at all."""
    import torch

    known = {"float32": "highest", "tf32": "high", "bf16": "medium"}
    torch.set_float32_matmul_precision(known[name])
