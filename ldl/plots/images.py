"""Samples and weights as images, side by side in one pair of axes."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, isqrt
from typing import Any

import numpy as np

from ldl.arrays import Host, host
from ldl.console import shown
from ldl.nn.module import Module
from ldl.nn.parameter import Parameter
from ldl.plots.axes import (
    BLUE,
    GREY,
    ORANGE,
    Axes,
    colour_bar,
    fitted,
    new_figure,
    on_white,
    own,
    word,
)
from ldl.train.metrics import psnr as of_error

CURVES = ("black", ORANGE, BLUE)
"""The colours of rows of curves: what is clean, what is noisy, what the model makes of it."""


def mean_square(a: Host, b: Host) -> float:
    """The mean of (a - b)² over all elements, added up in float64."""
    return float(np.square(a - b).mean(dtype=np.float64))


def psnr(a: Host, b: Host) -> float:
    """The peak signal-to-noise ratio in dB of values of peak 1."""
    return of_error(mean_square(a, b))


def reconstructions(
    rows: Mapping[str, Any],
    ax: Axes | None = None,
    *,
    shape: tuple[int, ...] | None = None,
    count: int = 8,
    reference: str | None = None,
    indices: Any = None,
    title: str = "",
) -> Axes:
    """Rows of samples under each other, such as {"clean": x, "noisy": n, "output": y}.

    Every array is (N, H, W), (N, H, W, C) or (N, D); rows of D values are images of `shape`, of a
    square if there is one, or else curves (`shape=()` makes them so in any case). Values lie in [0,
    1]. The first `count` samples are shown, or those of `indices`. With `reference`, the name of a
    row, the others say how near they come to it: over all N beside the row, and above each sample.
    """
    arrays = {name: host(values) for name, values in rows.items()}
    _check_rows(arrays, reference)
    length = len(next(iter(arrays.values())))
    chosen = list(range(min(count, length))) if indices is None else [int(i) for i in indices]
    image = _image_shape(next(iter(arrays.values())), shape)
    flat = {name: a.reshape(length, -1) for name, a in arrays.items()}
    ratio = _ratio(image) if image else 0.6
    cell = 0.95 if image else 1.9
    ax, cells = _grid(ax, (len(flat), len(chosen)), cell, ratio, bool(title))
    for line, (name, values) in zip(cells, flat.items(), strict=True):
        base = flat[reference] if reference is not None and name != reference else None
        label = word(name)
        if base is not None:
            label += f"\n{psnr(base, values):.1f} dB"
        side = {"rotation": 0, "ha": "right", "va": "center", "labelpad": 8}
        line[0].set_ylabel(label, fontsize=11, parse_math=False, **side)
        colour = CURVES[list(flat).index(name) % 3]
        for place, i in zip(line, chosen, strict=True):
            _draw_sample(place, values[i], None if base is None else base[i], image, colour)
    if title:
        fitted(ax.set_title(shown(title), fontsize=12, pad=6, parse_math=False))
    return ax


def weights(
    of: Any, ax: Axes | None = None, *, shape: tuple[int, ...] | None = None, count: int = 64
) -> Axes:
    """What each unit of a layer looks for: an image of its weights, blue negative, red positive.

    `of` is a layer with a `weight`, a model, whose first such layer is taken, or an array (in,
    units) or (kh, kw, in, units). The `in` weights of a unit are an image of `shape`, or of a
    square if there is one, or else a bar; those of a convolution are summed over its input
    channels. All images have one scale, the largest absolute weight's.
    """
    weight = host(_weight(of))
    if weight.ndim < 2:
        raise ValueError(f"weights are (in, units) or (kh, kw, in, units), got {weight.shape}")
    units = np.moveaxis(weight, -1, 0)[:count]
    if units.ndim == 2:
        image = _image_shape(units, shape) or (1, units.shape[1])
        pictures = units.reshape(len(units), *image)
    else:
        pictures = units.sum(axis=-1)
        pictures = pictures if pictures.ndim == 3 else pictures[:, None]
    if pictures.ndim == 4:
        pictures = pictures.mean(axis=-1)
    ax = own(ax, 6.4, 5.4, "compressed")
    limit = float(np.abs(pictures).max()) or 1.0
    sheet = _tiled(pictures)
    drawn = ax.imshow(
        np.ma.masked_invalid(sheet), cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest"
    )
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    colour_bar(ax, drawn, "weight", shrink=0.8)
    return ax


def _weight(of: Any) -> Any:
    """The weight's values, on the host."""
    if not isinstance(of, Module):
        return of
    for module in of.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Parameter) and weight.data.ndim >= 2:
            return module.backend.to_numpy(weight.data)
    raise ValueError(f"{type(of).__name__} has no layer with a weight of two axes or more")


def _tiled(pictures: Host) -> Host:
    """Images (N, H, W) in a grid as square as can be, NaN between them."""
    n, h, w = pictures.shape
    columns = min(n, max(1, ceil((n * h / w) ** 0.5)))
    rows = ceil(n / columns)
    gap = max(1, round(0.08 * max(h, w)))
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap), np.nan)
    for i, picture in enumerate(pictures):
        top, left = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[top : top + h, left : left + w] = picture
    return sheet


def _check_rows(arrays: dict[str, Host], reference: str | None) -> None:
    if not arrays:
        raise ValueError('there is no row to draw: give such as {"input": x, "output": y}')
    sizes = {(len(a), a[0].size) if a.ndim > 1 and len(a) else None for a in arrays.values()}
    if len(sizes) > 1 or None in sizes:
        said = ", ".join(f"{name!r} {a.shape}" for name, a in arrays.items())
        raise ValueError(f"rows must be arrays of as many samples of one size, got {said}")
    if reference is not None and reference not in arrays:
        raise ValueError(f"no row is named {reference!r}; there are: {', '.join(arrays)}")


def _image_shape(array: Host, shape: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """The shape (H, W) or (H, W, C) of a sample, None where it is a curve."""
    size = int(np.prod(array.shape[1:]))
    if shape is not None:
        if shape and (len(shape) not in (2, 3) or int(np.prod(shape)) != size):
            raise ValueError(f"a sample has {size} values, which are no image of shape {shape}")
        return tuple(shape) or None
    if array.ndim in (3, 4):
        found = array.shape[1:]
        return found if array.ndim == 3 or found[2] in (1, 3, 4) else None
    side = isqrt(size)
    return (side, side) if side > 1 and side * side == size else None


def _ratio(shape: tuple[int, ...]) -> float:
    """Height to width of an image as it is shown: a long one is stretched until it can be seen."""
    return min(max(shape[0] / shape[1], 0.45), 3.0)


def _grid(
    ax: Axes | None, counts: tuple[int, int], cell: float, ratio: float, titled: bool
) -> tuple[Axes, list[list[Axes]]]:
    """The axes given, or those of a figure that has room, and axes inside for rows and columns."""
    rows, columns = counts
    tall, gap = cell * ratio, 0.22
    high, wide = rows * (tall + gap), cell * columns
    if ax is None:
        above = 0.3 if titled else 0.0
        width, height = max(1.3 + wide, 5.0), 0.1 + high + above
        figure = new_figure(width, height)
        ax = on_white(figure.add_axes((1.2 / width, 0.1 / height, wide / width, high / height)))
    ax.set_axis_off()
    w, h = 1 / columns, 1 / rows
    inside = h * tall / (tall + gap)
    return ax, [
        [
            on_white(ax.inset_axes((c * w, 1 - (r + 1) * h, 0.94 * w, inside)))
            for c in range(columns)
        ]
        for r in range(rows)
    ]


def _draw_sample(
    ax: Axes, sample: Host, base: Host | None, image: tuple[int, ...] | None, colour: str
) -> None:
    ax.set(xticks=[], yticks=[])
    if image:
        aspect = _ratio(image) * image[1] / image[0]
        pixels = np.clip(sample.reshape(image), 0, 1)
        pixels = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
        ax.imshow(pixels, cmap="gray", vmin=0, vmax=1, aspect=aspect)
        ax.spines[:].set_visible(False)
    else:
        if base is not None:
            ax.plot(base, color="#bbbbbb", linewidth=1)
        ax.plot(sample, color=colour, linewidth=1)
        ax.set_ylim(-0.05, 1.05)
        ax.spines[:].set_color("#cccccc")
    if base is not None:
        ax.set_title(f"{psnr(base, sample):.1f} dB", fontsize=7.5, color=GREY, pad=2.5)
