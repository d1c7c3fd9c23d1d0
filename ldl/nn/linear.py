"""Linear and its tied twin."""

from __future__ import annotations

from ldl.arrays import check_kind
from ldl.backend import Array
from ldl.nn import init
from ldl.nn.module import Module, check_floating, check_owned
from ldl.nn.parameter import Parameter
from ldl.numbers import positive_integer


class Linear(Module):
    """Z = X W + b.

    Shapes: X (N, in_features), W (in_features, out_features), b (out_features,),
    Z (N, out_features). Gradients, for G = ∂L/∂Z: dW = Xᵀ G, db = Σ_rows G, dX = G Wᵀ. Of further
    axes, as in (N, T, in_features), all but the last are rows.

    `weight_init` names an initialiser of `ldl.nn.init`; the bias starts at zero.

    Raises TypeError for X of another type than W (nothing is cast silently) and ValueError for
    another width or number of axes.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        weight_init: str = "xavier_uniform",
    ) -> None:
        self.in_features = positive_integer("in_features", in_features)
        self.out_features = positive_integer("out_features", out_features)
        shape = self.in_features, self.out_features
        self.weight = Parameter(init.get(weight_init)(shape))
        self.bias = Parameter(init.zeros(shape[1:])) if bias else None

    def forward(self, x: Array) -> Array:
        """X W + b."""
        check_input(self, x, self.weight, self.in_features)
        rows = as_rows(x)
        self.keep(rows)
        bias = None if self.bias is None else self.bias.data
        z = self.backend.linear(rows, self.weight.data, bias)
        return z if x.ndim == 2 else z.reshape(*x.shape[:-1], self.out_features)

    def backward(self, grad: Array) -> Array:
        """dW = Xᵀ G, db = Σ_rows G; returns dX = G Wᵀ."""
        check_floating(self, grad)
        x, g = self.take(), as_rows(grad)
        if self.bias is not None:
            self.bias.accumulate_rows(g)
        self.weight.accumulate_matmul(x.T, g)
        dx = self.backend.matmul(g, self.weight.data.T)
        return dx if grad.ndim == 2 else dx.reshape(*grad.shape[:-1], self.in_features)


class TiedLinear(Module):
    """Z = X Wᵀ + b, with the weight W of another Linear: the decoder's half of a tied autoencoder.

    Shapes: W (in, out) is `source.weight`; X (N, out), b (in,), Z (N, in). Gradients, for
    G = ∂L/∂Z: dW gains Gᵀ X, db = Σ_rows G, dX = G W.

    Further axes are rows too. The weight belongs to the source: it is saved, counted and optimised
    once.
    """

    def __init__(self, source: Linear, bias: bool = True) -> None:
        if not isinstance(source, Linear):
            raise TypeError(f"TiedLinear shares the weight of a Linear, got {source!r}")
        self.in_features = source.out_features
        self.out_features = source.in_features
        self.weight = source.weight
        self.bias = Parameter(init.zeros((self.out_features,))) if bias else None

    def forward(self, x: Array) -> Array:
        """X Wᵀ + b."""
        check_input(self, x, self.weight, self.in_features)
        rows = as_rows(x)
        self.keep(rows)
        bias = None if self.bias is None else self.bias.data
        z = self.backend.linear(rows, self.weight.data.T, bias)
        return z if x.ndim == 2 else z.reshape(*x.shape[:-1], self.out_features)

    def backward(self, grad: Array) -> Array:
        """dW gains Gᵀ X, db = Σ_rows G; returns dX = G W."""
        check_floating(self, grad)
        x, g = self.take(), as_rows(grad)
        if self.bias is not None:
            self.bias.accumulate_rows(g)
        self.weight.accumulate_matmul(g.T, x)
        dx = self.backend.matmul(g, self.weight.data)
        return dx if grad.ndim == 2 else dx.reshape(*grad.shape[:-1], self.in_features)


def as_rows(x: Array) -> Array:
    """(…, width) as (rows, width)."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def check_input(layer: Module, x: Array, weight: Parameter, width: int) -> None:
    """TypeError for a type other than the weight's, ValueError for a shape but (…, width)."""
    check_type(layer, x, weight)
    if x.ndim < 2 or x.shape[-1] != width:
        raise ValueError(f"{layer!r} takes (N, {width}), got {tuple(x.shape)}")


def check_type(layer: Module, x: Array, weight: Parameter) -> None:
    """TypeError for a type other than the weight's."""
    check_owned(layer, x)
    if x.dtype != weight.dtype:
        check_kind(x.dtype)
        own = x.dtype.kind == "f" and x.dtype.isnative
        other = f", or the model with model.to(dtype={str(x.dtype)!r})"
        raise TypeError(
            f"{layer!r} holds {weight.dtype} but got {x.dtype}: cast the input with "
            f"x.astype({str(weight.dtype)!r}){other if own else ''}"
        )
