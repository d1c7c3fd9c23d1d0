"""Layers and a loss of `benchmarks.workloads.LAYERS`, as a user of ldl writes them."""

from __future__ import annotations

from typing import Any

from benchmarks.workloads import NORM_EPS
from ldl import nn


class Affine(nn.Module):
    """x w + b by elements; the gradients of w and b are sums over the rows."""

    def __init__(self, width: int) -> None:
        self.weight = nn.Parameter(nn.init.ones((width,)))
        self.bias = nn.Parameter(nn.init.zeros((width,)))

    def forward(self, x: Any) -> Any:
        """Keeps x."""
        self.keep(x)
        return x * self.weight.data + self.bias.data

    def backward(self, grad: Any) -> Any:
        """grad w."""
        self.weight.accumulate((grad * self.take()).sum(axis=0))
        self.bias.accumulate(grad.sum(axis=0))
        return grad * self.weight.data


class Standardize(nn.Module):
    """y = (x - mean) / √(variance + ε) over an axis: 0 for a batch, 1 for each row."""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def forward(self, x: Any) -> Any:
        """Keeps y and the factor."""
        xp = self.backend.xp
        centred = x - x.mean(axis=self.axis, keepdims=True)
        variance = (centred * centred).mean(axis=self.axis, keepdims=True)
        scale = 1 / xp.sqrt(variance + NORM_EPS)
        y = centred * scale
        self.keep(y, scale)
        return y

    def backward(self, grad: Any) -> Any:
        """(grad - mean grad - y mean(grad y)) / √(variance + ε)."""
        y, scale = self.take()
        mean = grad.mean(axis=self.axis, keepdims=True)
        along = (grad * y).mean(axis=self.axis, keepdims=True)
        return scale * (grad - mean - y * along)


class SoftmaxCrossEntropy(nn.Loss):
    """The mean over the rows of -log softmax(x) at the label."""

    takes_labels = True

    def forward(self, input: Any, target: Any) -> Any:
        """Keeps softmax(x), and where the labels are."""
        xp = self.backend.xp
        shifted = input - input.max(axis=1, keepdims=True)
        e = xp.exp(shifted)
        total = e.sum(axis=1, keepdims=True)
        hot = target[:, None] == xp.arange(input.shape[1])
        self.keep(e / total, hot)
        return (xp.where(hot, xp.log(total) - shifted, 0)).sum() / len(input)

    def backward(self, grad: Any = None) -> Any:
        """(softmax(x) - 1 at the label) / N."""
        p, hot = self.take()
        found = (p - hot) / len(p)
        return found if grad is None else found * grad
