"""PyTorch: eager, with its fused Adam, compiled, and a whole step captured in a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import cycle
from typing import Any

from benchmarks import threads
from benchmarks.device import Device, nothing
from benchmarks.how import COMPILED, EAGER, GRAPH, How
from benchmarks.implementation import Implementation, Prepared, Refused
from benchmarks.workloads import BETAS, EPS, LR, NORM_EPS, Batch, Weights, Workload


def layer_of(workload: Workload, weights: Weights) -> Any:
    """A layer of `workloads.LAYERS`, with these weights."""
    import torch
    from torch.nn import functional as f

    class Layer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            flat = [torch.tensor(array) for pair in weights for array in pair]
            self.own = torch.nn.ParameterList(flat)

        def forward(self, x: Any) -> Any:
            w, b, *last = self.own
            h = x * w + b
            if not last:
                return h
            if workload.layer == "batchnorm":
                return f.batch_norm(h, None, None, *last, training=True, eps=NORM_EPS)
            return f.layer_norm(h, h.shape[1:], *last, eps=NORM_EPS)

    return Layer()


def model_of(workload: Workload, weights: Weights, last: bool = False) -> Any:
    """The net, with these weights; PyTorch keeps them transposed."""
    import torch

    torch.set_num_threads(threads.count())
    torch.manual_seed(0)
    if workload.layer:
        return layer_of(workload, weights)
    if workload.net:
        from benchmarks import torch_nets

        return torch_nets.model_of(workload, weights, last)
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


def loss_at(model: Any, workload: Workload) -> Callable[[Any, Any], Any]:
    """The loss of the model at x and y, its products in bfloat16 where that was set."""
    import torch
    from torch.nn import functional as f

    rounds = torch.get_float32_matmul_precision() == "medium"  # asked where nothing is traced

    def loss(x: Any, y: Any) -> Any:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=rounds):
            out = model(x)
            if workload.loss == "crossentropy":
                return f.cross_entropy(out, y)
            if workload.loss == "bce":
                return f.binary_cross_entropy_with_logits(out, y)
            return f.mse_loss(out, y, reduction="sum") / len(x)

    return loss


def _read(value: Any) -> list[float]:
    return value.reshape(-1).tolist()  # type: ignore[no-any-return]


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


class Torch(Implementation):
    """The base: tensors on the device."""

    suites = ("cpu", "gpu")
    needs = ("torch",)
    library = "torch"

    def set_precision(self, name: str) -> None:
        """Round operands of products to TF32, to bfloat16 by autocast, or not at all."""
        import torch

        known = {"float32": "highest", "tf32": "high", "bf16": "medium"}
        torch.set_float32_matmul_precision(known[name])

    def place(self, batches: list[Batch], device: Device) -> list[Batch]:
        """As tensors on the device; a target that is its input stays so."""
        import torch

        placed = []
        for x, y in batches:
            on_device = torch.tensor(x, device=device.torch)
            same = y is x
            placed.append((on_device, on_device if same else torch.tensor(y, device=device.torch)))
        return placed


class Trains(Torch):
    """Forward, loss, backward and step, as PyTorch's tutorials write them."""

    def __init__(
        self, name: str, fused: bool, mode: str = "", suite: str = "", last: bool = False
    ) -> None:
        self.name = name
        self.fused = fused
        self.mode = mode
        self.last = last
        self.slow = bool(mode)
        self.suites = (suite,) if suite else self.suites

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """With a mode, the forward pass and its loss are compiled, and autograd's backward."""
        import torch

        if self.last and len(workload.sample) < 3:
            raise Refused("it takes no images")
        model = model_of(workload, weights, self.last).to(device.torch)
        options = {"fused": True} if self.fused else {}
        optimizer = torch.optim.Adam(model.parameters(), lr=LR, betas=BETAS, eps=EPS, **options)
        forward, turn, mark = loss_at(model, workload), cycle(batches), nothing
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

        return Prepared(step, read=_read, how=compiled if self.mode else lambda: (EAGER, ""))


class Captured(Torch):
    """The whole step, update included, in one torch.cuda.CUDAGraph with fused capturable Adam.

    The batch is copied into the graph's own input, once where the input is the target.
    """

    name = "PyTorch, whole step in a CUDA graph"
    suites = ("gpu",)

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """Warm up on a stream of its own, capture, and put everything back to the beginning."""
        torch: Any = import_module("torch")
        if device.torch != "cuda":
            raise Refused("a CUDA graph needs a CUDA device")
        model = model_of(workload, weights).to(device.torch)
        parameters = list(model.parameters())
        kept = [p.detach().clone() for p in parameters]
        optimizer = torch.optim.Adam(
            parameters, lr=LR, betas=BETAS, eps=EPS, capturable=True, fused=True
        )
        loss, turn = loss_at(model, workload), cycle(batches)
        x = batches[0][0].clone()
        y = x if batches[0][1] is batches[0][0] else batches[0][1].clone()

        def whole() -> Any:
            value = loss(x, y)
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

        return Prepared(step, read=_read, poison=poison, how=lambda: (GRAPH, ""))


class Predicts(Torch):
    """The model in eval mode, under inference_mode."""

    name = "PyTorch eager"
    suites = ("cpu",)
    predicts = True

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """The forward pass."""
        import torch

        model, turn = model_of(workload, weights).eval(), cycle([x for x, _ in batches])

        @torch.inference_mode()
        def step() -> Any:
            return model(next(turn))

        return Prepared(step, read=_read)


IMPLEMENTATIONS = [
    Trains("PyTorch eager", fused=False),
    Trains("PyTorch eager, fused Adam", fused=True),
    Trains("PyTorch eager, fused Adam, channels last", True, last=True),
    Trains("torch.compile, fused Adam", True, "default", "cpu"),
    Trains("torch.compile, fused Adam, channels last", True, "default", "cpu", last=True),
    Captured(),
    Trains("torch.compile reduce-overhead, fused Adam", True, "reduce-overhead", "gpu"),
    Predicts(),
]
