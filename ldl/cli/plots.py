"""The pictures of `ldl denoise`, as PNG files in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np

from ldl.console import shown
from ldl.data.files import Host
from ldl.train import metrics

COLUMNS = 12
"""Samples shown, where they are images; half as many where they are curves."""

GREY = "#666666"
NOISY, DENOISED = "#c44e52", "#2a6fbb"


def mean_square(a: Host, b: Host) -> float:
    """The mean of (a - b)² over all elements, added up in float64."""
    return float(np.square(a - b).mean(dtype=np.float64))


def psnr(a: Host, b: Host) -> float:
    """The peak signal-to-noise ratio in dB of values of peak 1."""
    return metrics.psnr(mean_square(a, b))


def pick(labels: Host | None, available: int, count: int) -> list[int]:
    """Indices of `count` samples to show: one of each class in turn, else the first ones."""
    count = min(count, available)
    if labels is None:
        return list(range(count))
    firsts = [int(i) for i in np.unique(labels, return_index=True)[1]][:count]
    others = [i for i in range(available) if i not in firsts]
    return firsts + others[: count - len(firsts)]


@contextmanager
def _plainly() -> Iterator[None]:
    """Draw in matplotlib's own style, names as they are written, without words on stderr.

    It would complain of a home that cannot be written and of letters that its font has not, and
    read a "$" in a file's name as mathematics.
    """
    import logging
    import warnings

    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from matplotlib import style

            with style.context(["default", {"text.usetex": False, "text.parse_math": False}]):
                yield
    finally:
        logger.setLevel(level)


@_plainly()
def draw_samples(
    clean: Host,
    noisy: Host,
    denoised: Host,
    labels: Host | None,
    image_shape: tuple[int, ...] | None,
    title: str,
) -> bytes:
    """Rows of clean, noisy and denoised samples (N, D), with their PSNR, as a PNG.

    The rows' labels give the PSNR over all N; above each sample stands its own.
    """
    from matplotlib.figure import Figure

    indices = pick(labels, len(clean), COLUMNS if image_shape else COLUMNS // 2)
    rows = {"clean": clean, "noisy": noisy, "denoised": denoised}
    ratio = _ratio(image_shape) if image_shape else 0.6
    width = 0.95 if image_shape else 1.9
    size = (max(1.3 + width * len(indices), 5.0), 0.65 + 3 * (width * ratio + 0.22))
    figure = Figure(figsize=size, dpi=150)
    grid = figure.subplots(
        3,
        len(indices),
        squeeze=False,
        gridspec_kw={
            "left": 1.2 / size[0],
            "right": (1.2 + width * len(indices)) / size[0],
            "top": 1 - 0.55 / size[1],
            "bottom": 0.1 / size[1],
            "wspace": 0.06,
            "hspace": 0.22 / (width * ratio),
        },
    )
    for axes_row, (name, values) in zip(grid, rows.items(), strict=True):
        label = name
        if name != "clean":
            label += f"\n{psnr(clean, values):.1f} dB"
        axes_row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11, labelpad=8)
        for axes, index in zip(axes_row, indices, strict=True):
            _draw_sample(axes, name, values[index], clean[index], image_shape)
    _fit(figure.suptitle(shown(title), fontsize=12, y=1 - 0.16 / size[1], va="top"), figure)
    return _png(figure)


def _ratio(image_shape: tuple[int, ...]) -> float:
    """Height to width of an image as it is shown: a long one is stretched until it can be seen."""
    return min(max(image_shape[0] / image_shape[1], 0.45), 3.0)


def _fit(text: Any, figure: Any) -> None:
    """Make a title as small as the figure's width asks for."""
    wide, room = text.get_window_extent().width, 0.96 * figure.bbox.width
    if wide > room:
        text.set_fontsize(text.get_fontsize() * room / wide)


def _draw_sample(
    axes: Any, name: str, sample: Host, clean: Host, image_shape: tuple[int, ...] | None
) -> None:
    axes.set(xticks=[], yticks=[])
    if image_shape:
        aspect = _ratio(image_shape) * image_shape[1] / image_shape[0]
        axes.imshow(sample.reshape(image_shape), cmap="gray", vmin=0, vmax=1, aspect=aspect)
        axes.spines[:].set_visible(False)
    else:
        colour = {"clean": "black", "noisy": NOISY, "denoised": DENOISED}[name]
        if name != "clean":
            axes.plot(clean, color="#bbbbbb", linewidth=1)
        axes.plot(sample, color=colour, linewidth=1)
        axes.set_ylim(-0.05, 1.05)
        axes.spines[:].set_color("#cccccc")
    if name != "clean":
        text = f"{psnr(clean, sample):.1f} dB"
        axes.set_title(text, fontsize=7.5, color=GREY, pad=2.5)


@_plainly()
def draw_loss(
    train: Sequence[float], test: Sequence[float], floor: float, loss: str, title: str
) -> bytes:
    """Training and test loss against the epoch, and the loss of a perfect output, as a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    epochs = range(1, len(train) + 1)
    marker = "o" if len(train) == 1 else None
    axes.plot(epochs, train, color=NOISY, marker=marker, label=f"training  {train[-1]:.4f}")
    axes.plot(epochs, test, color=DENOISED, marker=marker, label=f"test  {test[-1]:.4f}")
    if floor > 0:
        axes.axhline(floor, color=GREY, linestyle=":", label=f"a perfect output  {floor:.4f}")
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{loss} per pixel")
    _fit(figure.suptitle(shown(title), fontsize=11), figure)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return _png(figure)


def _png(figure: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
