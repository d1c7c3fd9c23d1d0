"""Layers of images and sequences of pixels, as ONNX has them: channels first."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from ldl import nn
from ldl.onnx.graph import Graph, Tensor, register


def _pads(pairs: Any) -> list[int]:
    """All that is put before, then all that is put after."""
    return [*(a for a, _ in pairs), *(b for _, b in pairs)]


def _window(m: Any, pads: Any) -> dict[str, Any]:
    return {
        "kernel_shape": list(m.kernel_size),
        "strides": list(m.stride),
        "pads": _pads(pads),
    }


def _kernel(g: Graph, m: Any, path: str) -> list[str]:
    """The weight, outputs first or inputs first as the operator wants it, and the bias."""
    turned = (m.weight.data.ndim - 1, m.weight.data.ndim - 2, *range(m.weight.data.ndim - 2))
    weight = g.constant(f"{path}.weight", m.weight.data.transpose(turned))
    return [weight, *([] if m.bias is None else [g.constant(f"{path}.bias", m.bias.data)])]


@register(nn.Conv1d, nn.Conv2d)
def _conv(g: Graph, m: Any, x: Tensor, path: str) -> Tensor:
    how = _window(m, m._pads(x.shape[:-1])) | {"dilations": list(m.dilation), "group": m.groups}
    x = g.channels_first(x, path)
    return Tensor(g.node("Conv", path, x, *_kernel(g, m, path), **how), x.sample, True)


@register(nn.ConvTranspose1d, nn.ConvTranspose2d)
def _transposed(g: Graph, m: Any, x: Tensor, path: str) -> Tensor:
    size = m._output(x.shape[:-1])
    pads = m._pads(size)
    every = zip(x.shape[:-1], size, pads, m.kernel_size, m.stride, m.dilation, strict=True)
    more = [n - ((i - 1) * s - sum(p) + d * (k - 1) + 1) for i, n, p, k, s, d in every]
    how = _window(m, pads) | {"dilations": list(m.dilation), "group": m.groups}
    turned = g.channels_first(x, path)
    given: Any = turned
    beyond = [(0, n // s) for n, s in zip(more, m.stride, strict=True)]
    if any(map(any, beyond)):  # no runtime takes as much output padding as a stride
        pads = g.constant(f"{path}.pads", _pads([(0, 0), (0, 0), *beyond]), np.int64)
        given = g.node("Pad", path, turned, pads)
        more = [n % s for n, s in zip(more, m.stride, strict=True)]
    kernel = _kernel(g, m, path)
    y = g.node("ConvTranspose", path, given, *kernel, output_padding=more, **how)
    return Tensor(y, x.sample, True)


@register(nn.MaxPool1d, nn.MaxPool2d)
def _max_pool(g: Graph, m: Any, x: Tensor, path: str) -> Tensor:
    how = _window(m, m._pads(x.shape[:-1]))
    x = g.channels_first(x, path)
    return Tensor(g.node("MaxPool", path, x, dilations=list(m.dilation), **how), x.sample, True)


@register(nn.AvgPool1d, nn.AvgPool2d)
def _avg_pool(g: Graph, m: Any, x: Tensor, path: str) -> Tensor:
    how = _window(m, m._pads(x.shape[:-1]))
    whole = m.count_include_pad or m.ceil_mode
    share = m._share(m._window(x.shape[:-1]), m._image(x.sample), x.sample.dtype)
    x = g.channels_first(x, path)
    y = g.node("AveragePool", path, x, count_include_pad=int(whole), **how)
    if m.ceil_mode:  # runtimes differ in what its last windows divide by
        counts = (prod(m.kernel_size) * share)[..., 0]
        counts = counts[0] if m.axes == 1 else counts
        y = g.node("Mul", path, y, g.constant(f"{path}.counts", counts.astype(x.sample.dtype)))
    return Tensor(y, x.sample, True)


def _along_axes(g: Graph, x: Tensor, path: str, maps: list[Any]) -> str:
    """A X along each axis of pixels."""
    found: Any = g.last(x, path)
    axes = "abcdefgh"[: len(maps)]
    for axis, a in zip(axes, maps, strict=True):
        name = g.constant(f"{path}.map", a)
        old = f"n{axes}z"
        new = old.replace(axis, "m")
        found = g.node("Einsum", path, name, found, equation=f"m{axis},{old}->{new}")
    return str(found)


@register(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
def _adaptive(g: Graph, m: Any, x: Tensor, path: str) -> Tensor:
    image, dtype = x.shape[:-1], x.sample.dtype
    if any(n % out for n, out in zip(image, m.output_size, strict=True)):
        return Tensor(_along_axes(g, x, path, m._maps(image, dtype)), x.sample)
    size = [n // out for n, out in zip(image, m.output_size, strict=True)]
    x = g.channels_first(x, path)
    return Tensor(g.node("AveragePool", path, x, kernel_shape=size, strides=size), x.sample, True)


@register(nn.GlobalAvgPool)
def _global(g: Graph, m: Any, x: Tensor, path: str) -> str:
    if g.padding is not None:
        return _mean_of_places(g, g.last(x, path), path)
    axes = list(range(2, x.sample.ndim) if x.first else range(1, x.sample.ndim - 1))
    return str(g.node("ReduceMean", path, x, axes=axes, keepdims=0))


def _mean_of_places(g: Graph, x: Tensor, path: str) -> str:
    """The mean over those that are no padding, as a quotient of two means; 0 of none."""
    t, dtype = x.shape[0], x.sample.dtype
    none, least, one = (
        g.constant(f"{path}.{name}", np.asarray(value, dtype))
        for name, value in (("none", 0), ("least", 1 / t), ("one", 1))
    )
    shape = g.constant(f"{path}.places", [0, t, 1], np.int64)
    hidden = g.node("Reshape", path, g.padding or "", shape)
    total = g.node("ReduceMean", path, g.node("Where", path, hidden, none, x), axes=[1], keepdims=0)
    real = g.node(
        "ReduceMean", path, g.node("Where", path, hidden, none, one), axes=[1], keepdims=0
    )
    return str(g.node("Div", path, total, g.node("Clip", path, real, least, one)))


@register(nn.Upsample)
def _upsample(g: Graph, m: Any, x: Tensor, path: str) -> Tensor:
    image = x.shape[:-1]
    repeats = m._repeats(image)
    if repeats is None:
        return Tensor(_along_axes(g, x, path, m._maps(image, x.sample.dtype)), x.sample)
    x = g.channels_first(x, path)
    scales = g.constant(f"{path}.scales", [1.0, 1.0, *repeats], np.float32)
    how: dict[str, Any] = {"mode": "nearest", "nearest_mode": "floor"}
    how["coordinate_transformation_mode"] = "asymmetric"
    return Tensor(g.node("Resize", path, x, "", scales, **how), x.sample, True)


@register(nn.ZeroPad)
def _zero_pad(g: Graph, m: Any, x: Tensor, path: str) -> Tensor:
    pairs = list(m._pairs(x.sample))
    every = [(0, 0), (0, 0), *pairs] if x.first else [(0, 0), *pairs, (0, 0)]
    pads = g.constant(f"{path}.pads", _pads(every), np.int64)
    return Tensor(g.node("Pad", path, x, pads), x.sample, x.first)


@register(nn.Reshape)
def _reshape(g: Graph, m: Any, x: Tensor, path: str) -> str:
    x = g.last(x, path)
    known = prod(abs(n) for n in m.shape)
    shape = [0, *(prod(x.shape) // known if n == -1 else n for n in m.shape)]
    return str(g.node("Reshape", path, x, g.constant(f"{path}.shape", shape, np.int64)))


@register(nn.Permute)
def _permute(g: Graph, m: Any, x: Tensor, path: str) -> str:
    return str(g.node("Transpose", path, g.last(x, path), perm=[0, *m.dims]))


# ---- normalisation -------------------------------------------------------------------------------


def _weights(g: Graph, m: Any, path: str, shape: tuple[int, ...], dtype: Any) -> list[str]:
    """γ and β, ones and zeros where there are none."""
    w = np.ones(shape, dtype) if m.weight is None else m.weight.data
    b = np.zeros(shape, dtype) if m.bias is None else m.bias.data
    return [g.constant(f"{path}.weight", w), g.constant(f"{path}.bias", b)]


@register(nn.BatchNorm1d, nn.BatchNorm2d)
def _batch_norm(g: Graph, m: Any, x: Tensor, path: str) -> Tensor:
    dtype, shape = x.sample.dtype, (m.num_features,)
    if m.running_mean is None:
        y = _normalised(g, g.last(x, path), path, list(range(x.sample.ndim - 1)), m.eps)
        return Tensor(_affine(g, m, y, path), x.sample)
    x = g.channels_first(x, path)
    weights = _weights(g, m, path, shape, dtype)
    for name in ("running_mean", "running_var"):
        weights.append(g.constant(f"{path}.{name}", getattr(m, name).data))
    y = g.node("BatchNormalization", path, x, *weights, epsilon=float(m.eps))
    return Tensor(y, x.sample, x.first)


@register(nn.LayerNorm)
def _layer_norm(g: Graph, m: Any, x: Tensor, path: str) -> str:
    x, shape = g.last(x, path), m.normalized_shape
    weights = _weights(g, m, path, shape, x.sample.dtype)
    how: dict[str, Any] = {"axis": -len(shape), "epsilon": float(m.eps)}
    return str(g.node("LayerNormalization", path, x, *weights, **how))


def _normalised(g: Graph, x: Tensor | str, path: str, axes: list[int], eps: Any) -> str:
    """(X - μ) / √(σ² + ε)."""
    centred = g.node("Sub", path, x, g.node("ReduceMean", path, x, axes=axes, keepdims=1))
    square = g.node("Mul", path, centred, centred)
    return str(g.node("Div", path, centred, _deviation(g, square, path, axes, eps)))


def _deviation(g: Graph, square: str, path: str, axes: list[int], eps: Any) -> str:
    mean = g.node("ReduceMean", path, square, axes=axes, keepdims=1)
    shifted = g.node("Add", path, mean, g.constant(f"{path}.eps", eps))
    return str(g.node("Sqrt", path, shifted))


def _affine(g: Graph, m: Any, y: str, path: str) -> str:
    if m.weight is not None:
        y = g.node("Mul", path, y, g.constant(f"{path}.weight", m.weight.data))
    if m.bias is not None:
        y = g.node("Add", path, y, g.constant(f"{path}.bias", m.bias.data))
    return y


@register(nn.RMSNorm)
def _rms_norm(g: Graph, m: Any, x: Tensor, path: str) -> str:
    x, dtype = g.last(x, path), x.sample.dtype
    eps = np.asarray(np.finfo(dtype).eps if m.eps is None else m.eps, dtype)
    axes = list(range(-len(m.normalized_shape), 0))
    scale = _deviation(g, g.node("Mul", path, x, x), path, axes, eps)
    return _affine(g, m, g.node("Div", path, x, scale), path)


@register(nn.GroupNorm)
def _group_norm(g: Graph, m: Any, x: Tensor, path: str) -> str:
    x, dtype = g.last(x, path), x.sample.dtype
    each = m.num_channels // m.num_groups
    apart = g.constant(f"{path}.apart", [0, prod(x.shape[:-1]), m.num_groups, each], np.int64)
    groups = g.node("Reshape", path, x, apart)
    y = _normalised(g, groups, path, [1, 3], np.asarray(m.eps, dtype))
    whole = g.constant(f"{path}.whole", [0, *x.shape], np.int64)
    return _affine(g, m, g.node("Reshape", path, y, whole), path)


@register(nn.InstanceNorm)
def _instance_norm(g: Graph, m: Any, x: Tensor, path: str) -> Tensor:
    if m.running_mean is not None:
        return _batch_norm(g, m, x, path)
    x = g.channels_first(x, path)
    weights = _weights(g, m, path, (m.num_features,), x.sample.dtype)
    y = g.node("InstanceNormalization", path, x, *weights, epsilon=float(m.eps))
    return Tensor(y, x.sample, True)
