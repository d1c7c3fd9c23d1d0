"""The nets of `benchmarks.kinds` as PyTorch has them: its own layers, in its own layouts."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as f

from benchmarks.kinds import KINDS, shapes
from benchmarks.workloads import NORM_EPS, Weights, Workload


class Transformer(nn.Module):
    """Normalised first: attention, then two dense layers with GELU between, each added to x."""

    def __init__(self, d: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.qkv, self.out = (
            nn.LayerNorm(d, NORM_EPS),
            nn.Linear(d, 3 * d),
            nn.Linear(d, d),
        )
        self.norm2, self.up, self.down = (
            nn.LayerNorm(d, NORM_EPS),
            nn.Linear(d, hidden),
            nn.Linear(hidden, d),
        )

    def forward(self, x: Any) -> Any:
        """(N, T, d)."""
        n, t, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads)
        y = f.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        x = x + self.out(y.transpose(1, 2).reshape(n, t, d))
        return x + self.down(f.gelu(self.up(self.norm2(x))))


class Lstm(nn.Module):
    """The output of the last step."""

    def __init__(self, i: int, h: int) -> None:
        super().__init__()
        self.own = nn.LSTM(i, h, batch_first=True)
        self.own.bias_hh_l0.requires_grad_(False).zero_()  # ldl has one bias

    def forward(self, x: Any) -> Any:
        """(N, T, in)."""
        return self.own(x)[0][:, -1]


MADE: dict[str, Any] = {
    "conv": lambda i, o, size, p: nn.Conv2d(i, o, size, padding=p),
    "linear": nn.Linear,
    "batchnorm1d": nn.BatchNorm1d,
    "batchnorm2d": nn.BatchNorm2d,
    "relu": nn.ReLU,
    "maxpool": nn.MaxPool2d,
    "meanpool": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    "flatten": nn.Flatten,
    "transformer": Transformer,
    "lstm": Lstm,
}


class Net(nn.Sequential):
    """Images come channels last, and are turned once."""

    last = False
    """Whether images lie channels last in memory."""

    def forward(self, x: Any) -> Any:
        """(N, H, W, C), or whatever the net takes that is no image."""
        if x.ndim == 4:
            x = x.permute(0, 3, 1, 2)
            x = x if self.last else x.contiguous()
        return super().forward(x)


def model_of(workload: Workload, weights: Weights, last: bool = False) -> Any:
    """The net, with these weights; with `last` images and kernels lie channels last."""
    layers = [MADE[kind](*numbers) for kind, *numbers in workload.net]
    model, given = Net(*layers), iter(weights)
    seen = shapes(workload.net, workload.sample)
    before: tuple[int, ...] = ()
    for layer, (kind, *numbers), shape in zip(layers, workload.net, seen, strict=False):
        own = [p for p in layer.parameters() if p.requires_grad]
        if len(own) != len(KINDS[kind].parameters(*numbers)):
            raise ValueError(f"{kind} has other parameters in PyTorch")
        for parameter in own:
            array = torch.tensor(next(given))
            if array.ndim == 4:
                array = array.permute(3, 2, 0, 1)
            elif array.ndim == 2 and len(before) == 3:  # the rows of what was flattened
                h, w, c = before
                array = array.T.reshape(-1, h, w, c).permute(0, 3, 1, 2).reshape(-1, h * w * c)
            elif array.ndim == 2:
                array = array.T
            with torch.no_grad():
                parameter.copy_(array)
        before = shape if kind == "flatten" else ()
    model.last = last
    return model.to(memory_format=torch.channels_last) if last else model
