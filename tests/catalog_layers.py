"""The rows of tests/catalog.py for layers of images and of sequences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ldl import nn


def conv(
    p: Any, x: Any, padding: Any, stride: int = 1, dilation: int = 1, groups: int = 1, at: str = ""
) -> Any:
    """A convolution with the parameters at a name."""
    axes = x.ndim - 2
    letters = "HW"[:axes]
    pads = padding if isinstance(padding, str) else [(padding, padding)] * axes
    y = lax.conv_general_dilated(
        *(x, p[at + "weight"], [stride] * axes, pads),
        rhs_dilation=[dilation] * axes,
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        feature_group_count=groups,
    )
    return y + p[at + "bias"] if at + "bias" in p else y


def conv_transpose(
    p: Any, x: Any, stride: int, padding: int, more: int = 0, groups: int = 1, dilation: int = 1
) -> Any:
    """The gradient of a convolution by its input, and a bias."""
    w = p["weight"]
    size = [
        (n - 1) * stride - 2 * padding + dilation * (k - 1) + 1 + more
        for n, k in zip(x.shape[1:-1], w.shape, strict=False)
    ]
    images = jnp.zeros((x.shape[0], *size, w.shape[-2] * groups), x.dtype)
    given = {"weight": w}
    y, pull = jax.vjp(lambda image: conv(given, image, padding, stride, dilation, groups), images)
    beyond = [(0, n - own) for n, own in zip(y.shape[1:-1], x.shape[1:-1], strict=True)]
    return pull(jnp.pad(x, ((0, 0), *beyond, (0, 0))))[0] + p["bias"]


def dilated_transpose(p: Any, x: Any, strides: Any, dilation: int, more: int) -> Any:
    """A transposed convolution by its definition: of zeros between and round pixels."""
    w = p["weight"]
    reach = [dilation * (k - 1) for k in w.shape[:2]]
    y = lax.conv_general_dilated(
        *(x, jnp.flip(w, (0, 1)).swapaxes(2, 3), (1, 1), [(r, r + more) for r in reach]),
        lhs_dilation=strides,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return y + p["bias"]


def torch_conv(F: Any, p: Any, x: Any, **options: Any) -> Any:
    """PyTorch's, channels first within."""
    if x.ndim == 4:
        w = p["weight"].permute(3, 2, 0, 1)
        return F.conv2d(x.permute(0, 3, 1, 2), w, p.get("bias"), **options).permute(0, 2, 3, 1)
    w = p["weight"].permute(2, 1, 0)
    return F.conv1d(x.permute(0, 2, 1), w, p.get("bias"), **options).permute(0, 2, 1)


def torch_transpose(F: Any, p: Any, x: Any, **options: Any) -> Any:
    """PyTorch's transposed convolution, whose weight is (in, out / groups, …)."""
    if x.ndim == 4:
        w = p["weight"].permute(3, 2, 0, 1)
        y = F.conv_transpose2d(x.permute(0, 3, 1, 2), w, p["bias"], **options)
        return y.permute(0, 2, 3, 1)
    w = p["weight"].permute(2, 1, 0)
    return F.conv_transpose1d(x.permute(0, 2, 1), w, p["bias"], **options).permute(0, 2, 1)


def windows(x: Any, how: Any, start: float, size: int, stride: int, padding: int = 0) -> Any:
    """`lax.reduce_window` over the axes of pixels."""
    axes = x.ndim - 2
    pads = [(0, 0), *[(padding, padding)] * axes, (0, 0)]
    every = (1, *[size] * axes, 1), (1, *[stride] * axes, 1)
    return lax.reduce_window(x, start, how, *every, pads)


def max_windows(x: Any, *sizes: int) -> Any:
    return windows(x, lax.max, -jnp.inf, *sizes)


def mean_windows(x: Any, size: int, *rest: int) -> Any:
    return windows(x, lax.add, 0.0, size, *rest) / size ** (x.ndim - 2)


def first(F: Any, x: Any, function: Any) -> Any:
    """A function of PyTorch's, channels first, on channels last."""
    back = x.permute(0, x.ndim - 1, *range(1, x.ndim - 1))
    y = function(back)
    return y.permute(0, *range(2, x.ndim), 1)


def normal(x: Any, axes: tuple[int, ...], eps: float = 1e-5) -> Any:
    m = x.mean(axis=axes, keepdims=True)
    return (x - m) / jnp.sqrt(((x - m) ** 2).mean(axis=axes, keepdims=True) + eps)


def affine(p: Any, y: Any) -> Any:
    return y * p["weight"] + p["bias"]


def grouped(x: Any, groups: int) -> Any:
    y = x.reshape(*x.shape[:-1], groups, -1)
    return normal(y, (*range(1, y.ndim - 2), y.ndim - 1)).reshape(x.shape)


def pad(x: Any, *pairs: tuple[int, int], value: float = 0) -> Any:
    return jnp.pad(x, ((0, 0), *pairs, (0, 0)), constant_values=value)


Layers = list[tuple[str, Callable[[], nn.Module], tuple[int, ...], Any, Any]]

CONVOLUTIONS: Layers = [
    (
        "Conv1d",
        lambda: nn.Conv1d(2, 3, 3),
        (3, 7, 2),
        lambda p, x: conv(p, x, 0),
        lambda F, p, x: torch_conv(F, p, x),
    ),
    (
        "Conv1d, strided and dilated",
        lambda: nn.Conv1d(2, 3, 2, stride=2, padding=1, dilation=2),
        (3, 7, 2),
        lambda p, x: conv(p, x, 1, 2, 2),
        lambda F, p, x: torch_conv(F, p, x, stride=2, padding=1, dilation=2),
    ),
    (
        "Conv2d",
        lambda: nn.Conv2d(2, 3, 3, padding=1),
        (2, 4, 5, 2),
        lambda p, x: conv(p, x, 1),
        lambda F, p, x: torch_conv(F, p, x, padding=1),
    ),
    (
        "Conv2d, same, without bias",
        lambda: nn.Conv2d(2, 3, (2, 3), padding="same", bias=False),
        (2, 4, 5, 2),
        lambda p, x: conv(p, x, "SAME"),
        None,
    ),
    (
        "Conv2d, same, strided",
        lambda: nn.Conv2d(1, 2, 3, stride=2, padding="same"),
        (2, 5, 6, 1),
        lambda p, x: conv(p, x, "SAME", 2),
        None,
    ),
    (
        "Conv2d, in groups",
        lambda: nn.Conv2d(4, 6, 3, groups=2),
        (2, 4, 5, 4),
        lambda p, x: conv(p, x, 0, groups=2),
        lambda F, p, x: torch_conv(F, p, x, groups=2),
    ),
    (
        "Conv2d, depthwise, strided",
        lambda: nn.Conv2d(3, 3, 3, stride=2, padding=1, groups=3),
        (2, 5, 5, 3),
        lambda p, x: conv(p, x, 1, 2, groups=3),
        lambda F, p, x: torch_conv(F, p, x, stride=2, padding=1, groups=3),
    ),
    (
        "Conv2d of one pixel",
        lambda: nn.Conv2d(3, 2, 1),
        (2, 3, 4, 3),
        lambda p, x: conv(p, x, 0),
        lambda F, p, x: torch_conv(F, p, x),
    ),
    (
        "ConvTranspose1d",
        lambda: nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1, output_padding=1),
        (2, 4, 2),
        lambda p, x: conv_transpose(p, x, 2, 1, 1),
        lambda F, p, x: torch_transpose(F, p, x, stride=2, padding=1, output_padding=1),
    ),
    (
        "ConvTranspose1d, longer by more than a stride",
        lambda: nn.ConvTranspose1d(2, 3, 3, padding=1, dilation=3, output_padding=2),
        (2, 4, 2),
        lambda p, x: conv_transpose(p, x, 1, 1, 2, dilation=3),
        lambda F, p, x: torch_transpose(F, p, x, padding=1, dilation=3, output_padding=2),
    ),
    (
        "ConvTranspose2d",
        lambda: nn.ConvTranspose2d(2, 3, 3),
        (2, 3, 4, 2),
        lambda p, x: conv_transpose(p, x, 1, 0),
        lambda F, p, x: torch_transpose(F, p, x),
    ),
    (
        "ConvTranspose2d, in groups, strided",
        lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2),
        (2, 3, 2, 4),
        lambda p, x: conv_transpose(p, x, 2, 0, groups=2),
        lambda F, p, x: torch_transpose(F, p, x, stride=2, groups=2),
    ),
    (
        "ConvTranspose2d, dilated, padded by a stride and more",
        lambda: nn.ConvTranspose2d(2, 3, 2, stride=(1, 2), output_padding=2, dilation=3),
        (2, 3, 4, 2),
        lambda p, x: dilated_transpose(p, x, (1, 2), 3, 2),
        lambda F, p, x: torch_transpose(F, p, x, stride=(1, 2), output_padding=2, dilation=3),
    ),
]

POOLS: Layers = [
    (
        "MaxPool1d",
        lambda: nn.MaxPool1d(2),
        (3, 7, 2),
        lambda p, x: max_windows(x, 2, 2),
        lambda F, p, x: first(F, x, lambda a: F.max_pool1d(a, 2)),
    ),
    (
        "MaxPool2d",
        lambda: nn.MaxPool2d(2),
        (2, 4, 5, 3),
        lambda p, x: max_windows(x, 2, 2),
        lambda F, p, x: first(F, x, lambda a: F.max_pool2d(a, 2)),
    ),
    (
        "MaxPool2d, overlapping and padded",
        lambda: nn.MaxPool2d(3, stride=2, padding=1),
        (2, 6, 5, 2),
        lambda p, x: max_windows(x, 3, 2, 1),
        lambda F, p, x: first(F, x, lambda a: F.max_pool2d(a, 3, 2, 1)),
    ),
    (
        "AvgPool1d",
        lambda: nn.AvgPool1d(3, stride=2),
        (3, 8, 2),
        lambda p, x: mean_windows(x, 3, 2),
        lambda F, p, x: first(F, x, lambda a: F.avg_pool1d(a, 3, 2)),
    ),
    (
        "AvgPool2d",
        lambda: nn.AvgPool2d(2, padding=1),
        (2, 4, 5, 2),
        lambda p, x: mean_windows(x, 2, 2, 1),
        lambda F, p, x: first(F, x, lambda a: F.avg_pool2d(a, 2, padding=1)),
    ),
    (
        "AvgPool2d of what is inside",
        lambda: nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
        (2, 6, 5, 2),
        lambda p, x: mean_windows(x, 3, 2, 1) / mean_windows(jnp.ones_like(x), 3, 2, 1),
        lambda F, p, x: first(F, x, lambda a: F.avg_pool2d(a, 3, 2, 1, count_include_pad=False)),
    ),
    (
        "MaxPool2d, to the end",
        lambda: nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        (2, 6, 3, 2),
        lambda p, x: max_windows(pad(x, (0, 1), (0, 0), value=-jnp.inf), 3, 2, 1),
        lambda F, p, x: first(F, x, lambda a: F.max_pool2d(a, 3, 2, 1, ceil_mode=True)),
    ),
    (
        "AvgPool1d, to the end",
        lambda: nn.AvgPool1d(3, stride=2, padding=1, ceil_mode=True),
        (3, 8, 2),
        lambda p, x: mean_windows(pad(x, (0, 1)), 3, 2, 1) * np.array([[[1]] * 4 + [[1.5]]], "f4"),
        lambda F, p, x: first(F, x, lambda a: F.avg_pool1d(a, 3, 2, 1, ceil_mode=True)),
    ),
    (
        "AvgPool2d of what is inside, to the end",
        lambda: nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
        (2, 3, 5, 2),
        lambda p, x: (
            mean_windows(pad(x, (0, 1), (0, 1)), 2, 2)
            / mean_windows(pad(jnp.ones_like(x), (0, 1), (0, 1)), 2, 2)
        ),
        lambda F, p, x: first(
            F, x, lambda a: F.avg_pool2d(a, 2, ceil_mode=True, count_include_pad=False)
        ),
    ),
    (
        "AdaptiveAvgPool1d",
        lambda: nn.AdaptiveAvgPool1d(3),
        (2, 7, 2),
        lambda p, x: jnp.stack([x[:, a:b].mean(1) for a, b in ((0, 3), (2, 5), (4, 7))], 1),
        lambda F, p, x: first(F, x, lambda a: F.adaptive_avg_pool1d(a, 3)),
    ),
    (
        "AdaptiveAvgPool2d",
        lambda: nn.AdaptiveAvgPool2d((2, 1)),
        (2, 4, 3, 2),
        lambda p, x: x.reshape(2, 2, 2, 3, 2).mean((2, 3))[:, :, None],
        lambda F, p, x: first(F, x, lambda a: F.adaptive_avg_pool2d(a, (2, 1))),
    ),
    (
        "GlobalAvgPool",
        lambda: nn.GlobalAvgPool(),
        (2, 4, 3, 2),
        lambda p, x: x.mean((1, 2)),
        lambda F, p, x: x.mean((1, 2)),
    ),
]


def torch_norm(F: Any, p: Any, x: Any, axes: tuple[int, ...]) -> Any:
    m = x.mean(axes, keepdim=True)
    y = (x - m) / (((x - m) ** 2).mean(axes, keepdim=True) + 1e-5).sqrt()
    return y * p["weight"] + p["bias"]


NORMS: Layers = [
    (
        "BatchNorm1d",
        lambda: nn.BatchNorm1d(3),
        (5, 3),
        lambda p, x: affine(p, normal(x, (0,))),
        lambda F, p, x: F.batch_norm(x, None, None, p["weight"], p["bias"], training=True),
    ),
    (
        "BatchNorm1d of sequences",
        lambda: nn.BatchNorm1d(3),
        (4, 5, 3),
        lambda p, x: affine(p, normal(x, (0, 1))),
        lambda F, p, x: torch_norm(F, p, x, (0, 1)),
    ),
    (
        "BatchNorm2d",
        lambda: nn.BatchNorm2d(2, momentum=None),
        (3, 4, 3, 2),
        lambda p, x: affine(p, normal(x, (0, 1, 2))),
        lambda F, p, x: torch_norm(F, p, x, (0, 1, 2)),
    ),
    (
        "LayerNorm",
        lambda: nn.LayerNorm(6),
        (5, 6),
        lambda p, x: affine(p, normal(x, (1,))),
        lambda F, p, x: F.layer_norm(x, (6,), p["weight"], p["bias"]),
    ),
    (
        "LayerNorm of two axes",
        lambda: nn.LayerNorm((3, 4)),
        (5, 2, 3, 4),
        lambda p, x: affine(p, normal(x, (2, 3))),
        lambda F, p, x: F.layer_norm(x, (3, 4), p["weight"], p["bias"]),
    ),
    (
        "RMSNorm",
        lambda: nn.RMSNorm(6, eps=1e-3),
        (4, 3, 6),
        lambda p, x: x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-3) * p["weight"],
        lambda F, p, x: F.rms_norm(x, (6,), p["weight"], 1e-3),
    ),
    (
        "GroupNorm",
        lambda: nn.GroupNorm(2, 6),
        (3, 4, 6),
        lambda p, x: affine(p, grouped(x, 2)),
        lambda F, p, x: first(F, x, lambda a: F.group_norm(a, 2, p["weight"], p["bias"])),
    ),
    (
        "InstanceNorm",
        lambda: nn.InstanceNorm(2, affine=True, track_running_stats=True),
        (3, 4, 3, 2),
        lambda p, x: affine(p, normal(x, (1, 2))),
        lambda F, p, x: first(
            F, x, lambda a: F.instance_norm(a, weight=p["weight"], bias=p["bias"])
        ),
    ),
]


def hat(x: Any, n: int, m: int, ratio: float) -> Any:
    """Linear interpolation of n numbers at m places, as a matrix."""
    at = np.clip((np.arange(m) + 0.5) * ratio - 0.5, 0, n - 1)
    return jnp.asarray(np.maximum(0, 1 - np.abs(at[:, None] - np.arange(n))), x.dtype)


def corners(n: int, m: int, dtype: Any) -> Any:
    """The same where the first and the last places are the first and the last numbers."""
    at = np.linspace(0, n - 1, m)[:, None]
    return jnp.asarray(np.maximum(0, 1 - np.abs(at - np.arange(n))), dtype)


SHAPES: Layers = [
    (
        "Reshape",
        lambda: nn.Reshape(2, -1),
        (3, 4, 2),
        lambda p, x: x.reshape(3, 2, 4),
        lambda F, p, x: x.reshape(3, 2, 4),
    ),
    (
        "Permute",
        lambda: nn.Permute(3, 1, 2),
        (2, 3, 4, 5),
        lambda p, x: x.transpose(0, 3, 1, 2),
        lambda F, p, x: x.permute(0, 3, 1, 2) * 1,
    ),
    (
        "ZeroPad",
        lambda: nn.ZeroPad(((1, 2), (0, 3))),
        (2, 3, 4, 2),
        lambda p, x: pad(x, (1, 2), (0, 3)),
        lambda F, p, x: F.pad(x, (0, 0, 0, 3, 1, 2)),
    ),
    (
        "Upsample, nearest",
        lambda: nn.Upsample(2),
        (2, 3, 2, 2),
        lambda p, x: jnp.repeat(jnp.repeat(x, 2, 1), 2, 2),
        lambda F, p, x: first(F, x, lambda a: F.interpolate(a, scale_factor=2)),
    ),
    (
        "Upsample, nearest, to a size",
        lambda: nn.Upsample(size=(5, 3)),
        (2, 3, 2, 2),
        lambda p, x: x[:, jnp.array([0, 0, 1, 1, 2])][:, :, jnp.array([0, 0, 1])],
        lambda F, p, x: first(F, x, lambda a: F.interpolate(a, (5, 3))),
    ),
    (
        "Upsample, nearest, by no whole number",
        lambda: nn.Upsample(2.4),
        (2, 2, 3),
        lambda p, x: x[:, jnp.array([0, 0, 0, 1])],
        None,  # PyTorch 2.13 has this value, and the gradient of pixels 0, 0, 1, 1
    ),
    (
        "Upsample, bilinear",
        lambda: nn.Upsample(2, mode="bilinear"),
        (2, 3, 4, 2),
        lambda p, x: jnp.einsum("ah,bw,nhwc->nabc", hat(x, 3, 6, 0.5), hat(x, 4, 8, 0.5), x),
        lambda F, p, x: first(F, x, lambda a: F.interpolate(a, scale_factor=2, mode="bilinear")),
    ),
    (
        "Upsample, bilinear, corners on corners",
        lambda: nn.Upsample(size=(5, 1), mode="bilinear", align_corners=True),
        (2, 3, 4, 2),
        lambda p, x: jnp.einsum("ah,nhc->nac", corners(3, 5, x.dtype), x[:, :, 0])[:, :, None],
        lambda F, p, x: first(
            F, x, lambda a: F.interpolate(a, (5, 1), mode="bilinear", align_corners=True)
        ),
    ),
    (
        "Upsample, linear, to a size",
        lambda: nn.Upsample(size=5, mode="linear"),
        (2, 3, 2),
        lambda p, x: jnp.einsum("al,nlc->nac", hat(x, 3, 5, 0.6), x),
        lambda F, p, x: first(F, x, lambda a: F.interpolate(a, 5, mode="linear")),
    ),
]


def relu(x: Any) -> Any:
    return jnp.maximum(x, 0)


def named(p: Any, name: str) -> Any:
    return {key.removeprefix(name): value for key, value in p.items() if key.startswith(name)}


def denoiser(p: Any, x: Any) -> Any:
    """Two stages of convolutions, and back."""
    for k in (0, 3):
        x = max_windows(relu(conv(named(p, f"encoder.{k}."), x, "SAME")), 2, 2)
    for k in (0, 2):
        x = relu(conv_same_transpose(named(p, f"decoder.{k}."), x))
    return jax.nn.sigmoid(conv(named(p, "decoder.4."), x, "SAME"))


def conv_same_transpose(p: Any, x: Any) -> Any:
    """To twice as many pixels."""
    w = p["weight"]
    images = jnp.zeros((x.shape[0], *(2 * n for n in x.shape[1:-1]), w.shape[-2]), x.dtype)
    _, pull = jax.vjp(lambda image: conv({"weight": w}, image, "SAME", 2), images)
    return pull(x)[0] + p["bias"]


MODELS: Layers = [
    (
        "AutoEncoder, convolutional",
        lambda: nn.AutoEncoder.convolutional((8, 4, 1), [3, 2]),
        (2, 8, 4, 1),
        denoiser,
        None,
    ),
]

LAYERS: Layers = [*MODELS, *CONVOLUTIONS, *POOLS, *NORMS, *SHAPES]
