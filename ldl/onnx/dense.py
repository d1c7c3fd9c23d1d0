"""Dense layers, activations, containers, as ONNX has them."""

from __future__ import annotations

from math import pi, prod
from typing import Any

import numpy as np

from ldl import nn
from ldl.nn.activations import SELU_ALPHA, SELU_SCALE
from ldl.onnx.graph import Graph, Tensor, inside, register

# ---- containers ----------------------------------------------------------------------------------


def under(path: str, name: str) -> str:
    """The path of a part."""
    return f"{path}.{name}" if path else name


@inside(nn.Sequential)
def _sequential(g: Graph, m: nn.Sequential, x: Tensor, path: str) -> Tensor:
    for name, layer in m.named_children():
        x = g.layer(layer, x, under(path, name))
    return x


@inside(nn.AutoEncoder)
def _autoencoder(g: Graph, m: nn.AutoEncoder, x: Tensor, path: str) -> Tensor:
    code = g.layer(m.encoder, x, under(path, "encoder"))
    return g.layer(m.decoder, code, under(path, "decoder"))


@inside(nn.Residual)
def _residual(g: Graph, m: nn.Residual, x: Tensor, path: str) -> Tensor:
    y = g.layer(m.body, x, under(path, "body"))
    x = g.channels_first(x, path) if y.first else g.last(x, path)
    return Tensor(g.node("Add", path, x, y), x.sample + y.sample, y.first)


@inside(nn.Parallel)
def _parallel(g: Graph, m: nn.Parallel, x: Tensor, path: str) -> Tensor:
    found = [
        g.last(g.layer(branch, x, under(path, f"branches.{i}")), path)
        for i, branch in enumerate(m.branches)
    ]
    samples = [y.sample for y in found]
    if m.merge == "concatenate":
        return Tensor(g.node("Concat", path, *found, axis=-1), np.concatenate(samples, -1))
    return Tensor(g.node("Sum", path, *found), sum(samples[1:], samples[0]))


# ---- dense layers --------------------------------------------------------------------------------


def dense(g: Graph, x: Tensor, path: str, weight: Any, bias: Any) -> str:
    """X W + b, along the last axis."""
    x = g.last(x, path)
    w = g.constant(f"{path}.weight", weight)
    b = [] if bias is None else [g.constant(f"{path}.bias", bias)]
    if x.sample.ndim == 2:
        return str(g.node("Gemm", path, x, w, *b))
    y = g.node("MatMul", path, x, w)
    return str(g.node("Add", path, y, *b) if b else y)


@register(nn.Linear)
def _linear(g: Graph, m: nn.Linear, x: Tensor, path: str) -> str:
    return dense(g, x, path, m.weight.data, None if m.bias is None else m.bias.data)


@register(nn.TiedLinear)
def _tied(g: Graph, m: Any, x: Tensor, path: str) -> str:
    bias = None if m.bias is None else m.bias.data
    return dense(g, x, path, m.weight.data.T, bias)


@register(nn.Flatten)
def _flatten(g: Graph, m: Any, x: Tensor, path: str) -> str:
    x = g.last(x, path)
    start = m.start_dim % x.sample.ndim
    shape = [0, *x.shape[: start - 1], prod(x.shape[start - 1 :])]
    return str(g.node("Reshape", path, x, g.constant(f"{path}.shape", shape, np.int64)))


@register(nn.Dropout, nn.Dropout2d)
def _dropout(g: Graph, m: nn.Module, x: Tensor, path: str) -> Tensor:
    return x


# ---- activations ---------------------------------------------------------------------------------


def _number(g: Graph, x: Tensor, path: str, name: str, value: float) -> str:
    return g.constant(f"{path}.{name}", np.asarray(value, x.sample.dtype))


def _plain(op: str, *attributes: str, **names: str) -> Any:
    """An activation that is one operator; its attributes are the layer's."""

    def emit(g: Graph, m: Any, x: Tensor, path: str) -> Tensor:
        given: dict[str, Any] = {name: float(getattr(m, name)) for name in attributes}
        given |= {own: float(getattr(m, theirs)) for own, theirs in names.items()}
        return Tensor(g.node(op, path, x, **given), x.sample, x.first)

    return emit


register(nn.Identity)(lambda g, m, x, path: x)
register(nn.ReLU)(_plain("Relu"))
register(nn.Tanh)(_plain("Tanh"))
register(nn.Sigmoid)(_plain("Sigmoid"))
register(nn.ELU)(_plain("Elu", "alpha"))
register(nn.LeakyReLU)(_plain("LeakyRelu", alpha="negative_slope"))


register(nn.Hardswish)(_plain("HardSwish"))


@register(nn.SELU)
def _selu(g: Graph, m: nn.SELU, x: Tensor, path: str) -> Tensor:
    return Tensor(g.node("Selu", path, x, alpha=SELU_ALPHA, gamma=SELU_SCALE), x.sample, x.first)


@register(nn.Hardsigmoid)
def _hardsigmoid(g: Graph, m: nn.Hardsigmoid, x: Tensor, path: str) -> Tensor:
    return Tensor(g.node("HardSigmoid", path, x, alpha=1 / 6, beta=0.5), x.sample, x.first)


@register(nn.Hardtanh)
def _hardtanh(g: Graph, m: nn.Hardtanh, x: Tensor, path: str) -> Tensor:
    bounds = [_number(g, x, path, name, getattr(m, name)) for name in ("min_val", "max_val")]
    return Tensor(g.node("Clip", path, x, *bounds), x.sample, x.first)


@register(nn.PReLU)
def _prelu(g: Graph, m: nn.PReLU, x: Tensor, path: str) -> str:
    x = g.last(x, path)
    return str(g.node("PRelu", path, x, g.constant(f"{path}.weight", m.weight.data)))


@register(nn.Mish)
def _mish(g: Graph, m: nn.Mish, x: Tensor, path: str) -> Tensor:
    t = g.node("Tanh", path, g.node("Softplus", path, x))
    return Tensor(g.node("Mul", path, x, t), x.sample, x.first)


@register(nn.GLU)
def _glu(g: Graph, m: nn.GLU, x: Tensor, path: str) -> str:
    x = g.last(x, path)
    half = x.sample.shape[m.axis] // 2
    parts = g.constant(f"{path}.parts", [half, half], np.int64)
    a, b = g.node("Split", path, x, parts, outputs=2, axis=m.axis)
    return str(g.node("Mul", path, a, g.node("Sigmoid", path, b)))


@register(nn.Softmin)
def _softmin(g: Graph, m: nn.Softmin, x: Tensor, path: str) -> str:
    return str(g.node("Softmax", path, g.node("Neg", path, g.last(x, path)), axis=m.axis))


@register(nn.SiLU)
def _silu(g: Graph, m: nn.SiLU, x: Tensor, path: str) -> Tensor:
    s = g.node("Sigmoid", path, x)
    return Tensor(g.node("Mul", path, x, s), x.sample, x.first)


@register(nn.Softplus)
def _softplus(g: Graph, m: nn.Softplus, x: Tensor, path: str) -> Tensor:
    if m.beta == 1:
        return Tensor(g.node("Softplus", path, x), x.sample, x.first)
    beta = _number(g, x, path, "beta", m.beta)
    y = g.node("Softplus", path, g.node("Mul", path, x, beta))
    return Tensor(g.node("Div", path, y, beta), x.sample, x.first)


@register(nn.GELU)
def _gelu(g: Graph, m: nn.GELU, x: Tensor, path: str) -> Tensor:
    half, one = (_number(g, x, path, *c) for c in (("half", 0.5), ("one", 1.0)))
    if m.approximate == "tanh":
        cube = g.node("Mul", path, x, g.node("Mul", path, x, x))
        scaled = g.node("Mul", path, cube, _number(g, x, path, "cubic", 0.044715))
        inner = g.node("Add", path, x, scaled)
        u = g.node("Mul", path, inner, _number(g, x, path, "slope", (2 / pi) ** 0.5))
        part = g.node("Tanh", path, u)
    else:
        part = g.node("Erf", path, g.node("Mul", path, x, _number(g, x, path, "scale", 0.5**0.5)))
    whole = g.node("Mul", path, g.node("Add", path, part, one), half)
    return Tensor(g.node("Mul", path, x, whole), x.sample, x.first)


def _along(op: str) -> Any:
    """A softmax along the layer's axis."""

    def emit(g: Graph, m: Any, x: Tensor, path: str) -> str:
        return str(g.node(op, path, g.last(x, path), axis=m.axis))

    return emit


register(nn.Softmax)(_along("Softmax"))
register(nn.LogSoftmax)(_along("LogSoftmax"))
