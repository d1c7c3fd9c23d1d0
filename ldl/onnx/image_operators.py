"""ONNX's operators of images among ldl's layers: channels first there, last here."""

from __future__ import annotations

from typing import Any

from ldl import nn
from ldl.onnx.operators import Given, How, Reader, filled, flattened, known, reads


def _padding(how: How, axes: int) -> tuple[Any, list[nn.Module]]:
    """A layer's padding, and what pads before it where the ends differ."""
    auto = how.get("auto_pad", b"NOTSET").decode()
    if auto == "SAME_UPPER":
        return "same", []
    if auto not in ("NOTSET", "VALID"):
        raise ValueError(f"its auto_pad is {auto}")
    pads = list(how.get("pads", [0] * 2 * axes))
    if pads[:axes] == pads[axes:]:
        return tuple(pads[:axes]), []
    return 0, [nn.ZeroPad(tuple(zip(pads[:axes], pads[axes:], strict=True)))]


def _convolution(r: Reader, given: Given, how: How, kind: Any, back: bool) -> list[nn.Module]:
    weight = known(given[1])
    axes, groups = weight.ndim - 2, how.get("group", 1)
    r.images(axes)
    padding, before = _padding(how, axes)
    options: dict[str, Any] = {
        "stride": tuple(how.get("strides", [1] * axes)),
        "padding": padding,
        "dilation": tuple(how.get("dilations", [1] * axes)),
        "groups": groups,
        "bias": len(given) > 2,
    }
    channels = weight.shape[1] * groups, weight.shape[0]
    if back:
        if before or padding == "same":
            raise ValueError("its padding differs at the two ends")
        options["output_padding"] = tuple(how.get("output_padding", [0] * axes))
        channels = channels[::-1]
    layer = kind(*channels, weight.shape[2:], **options)
    more = {"bias": known(given[2])} if len(given) > 2 else {}
    turned = weight.transpose(*range(2, weight.ndim), 1, 0)
    return [*before, filled(layer, weight=turned, **more)]


@reads("Conv")
def _conv(r: Reader, given: Given, how: How) -> list[nn.Module]:
    kind = {1: nn.Conv1d, 2: nn.Conv2d}[known(given[1]).ndim - 2]
    return _convolution(r, given, how, kind, back=False)


@reads("ConvTranspose")
def _conv_transpose(r: Reader, given: Given, how: How) -> list[nn.Module]:
    if "output_shape" in how:
        raise ValueError("it has an output_shape")
    kind = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}[known(given[1]).ndim - 2]
    return _convolution(r, given, how, kind, back=True)


def _pooling(r: Reader, how: How, kinds: dict[int, Any], **more: Any) -> list[nn.Module]:
    size = tuple(how["kernel_shape"])
    r.images(len(size))
    padding, before = _padding(how, len(size))
    if before:
        raise ValueError("its padding differs at the two ends")
    stride = tuple(how.get("strides", [1] * len(size)))
    longest = bool(how.get("ceil_mode", 0))
    return [kinds[len(size)](size, stride, padding, ceil_mode=longest, **more)]


@reads("MaxPool")
def _max_pool(r: Reader, given: Given, how: How) -> list[nn.Module]:
    dilation = tuple(how.get("dilations", [1] * len(how["kernel_shape"])))
    return _pooling(r, how, {1: nn.MaxPool1d, 2: nn.MaxPool2d}, dilation=dilation)


@reads("AveragePool")
def _avg_pool(r: Reader, given: Given, how: How) -> list[nn.Module]:
    whole = bool(how.get("count_include_pad", 0))
    return _pooling(r, how, {1: nn.AvgPool1d, 2: nn.AvgPool2d}, count_include_pad=whole)


@reads("GlobalAveragePool")
def _global(r: Reader, given: Given, how: How) -> list[nn.Module]:
    axes = (r.rank or 0) - 2
    if axes not in (1, 2):
        raise ValueError("its input is no image")
    r.images(axes)
    kind = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d}[axes]
    return [kind(1)]


@reads("ReduceMean")
def _mean(r: Reader, given: Given, how: How) -> list[nn.Module]:
    axes = how.get("axes") if len(given) < 2 else known(given[1])
    rank = r.rank or 0
    pixels = list(range(2, rank) if r.turned else range(1, rank - 1))
    over = sorted(int(axis) % rank for axis in axes) if axes is not None and rank > 2 else []
    if over != pixels or how.get("keepdims", 1):
        raise ValueError("it is no mean over all pixels")
    r.turned, r.rank = False, 2
    return [nn.GlobalAvgPool()]


@reads("Squeeze")
def _squeeze(r: Reader, given: Given, how: How) -> list[nn.Module]:
    if not isinstance(r.layers[-1], (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)):
        raise ValueError("it follows no pooling to one pixel")
    return flattened(r)


@reads("BatchNormalization")
def _batch_norm(r: Reader, given: Given, how: How) -> list[nn.Module]:
    weight, bias, mean, var = (known(x) for x in given[1:5])
    if how.get("training_mode"):
        raise ValueError("it is in training")
    rank = r.rank or 2
    if rank > 2:
        r.images(rank - 2)
    kind = nn.BatchNorm2d if rank == 4 else nn.BatchNorm1d
    layer = kind(len(weight), how.get("epsilon", 1e-5))
    return [filled(layer, weight=weight, bias=bias, running_mean=mean, running_var=var)]


@reads("InstanceNormalization")
def _instance_norm(r: Reader, given: Given, how: How) -> list[nn.Module]:
    weight, bias = known(given[1]), known(given[2])
    r.images((r.rank or 4) - 2)
    layer = nn.InstanceNorm(len(weight), how.get("epsilon", 1e-5), affine=True)
    return [filled(layer, weight=weight, bias=bias)]
