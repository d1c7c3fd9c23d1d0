"""The pictures of `ldl denoise` and `ldl train`, as PNG files in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ldl.console import shown
from ldl.data.files import Host
from ldl.plots import confusion_matrix, loss_curves, reconstructions, residuals
from ldl.plots.axes import fitted, png
from ldl.plots.images import mean_square as mean_square
from ldl.plots.images import psnr as psnr
from ldl.train.history import History

COLUMNS = 12
"""Samples shown, where they are images; half as many where they are curves."""


def pick(labels: Host | None, available: int, count: int) -> list[int]:
    """Indices of `count` samples to show: one of each class in turn, else the first ones."""
    count = min(count, available)
    if labels is None:
        return list(range(count))
    firsts = [int(i) for i in np.unique(labels, return_index=True)[1]][:count]
    others = [i for i in range(available) if i not in firsts]
    return firsts + others[: count - len(firsts)]


@contextmanager
def plainly() -> Iterator[None]:
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


@plainly()
def draw_samples(
    clean: Host,
    noisy: Host,
    denoised: Host,
    labels: Host | None,
    image_shape: tuple[int, ...] | None,
    title: str,
) -> bytes:
    """Rows of clean, noisy and denoised samples (N, D), with their PSNR, as a PNG."""
    chosen = pick(labels, len(clean), COLUMNS if image_shape else COLUMNS // 2)
    rows = {"clean": clean, "noisy": noisy, "denoised": denoised}
    ax = reconstructions(
        rows, shape=image_shape or (), reference="clean", indices=chosen, title=title
    )
    return _png(ax)


@plainly()
def draw_loss(
    train: Sequence[float], test: Sequence[float], floor: float, loss: str, title: str
) -> bytes:
    """Training and test loss against the epoch, and the loss of a perfect output, as a PNG."""
    least = floor if floor > 0 else None
    curves = {"training": train, "test": test}
    ax = loss_curves(curves, floor=least, floor_name="a perfect output")
    ax.set_ylabel(f"{loss} per pixel")
    fitted(ax.figure.suptitle(shown(title), fontsize=11))
    return _png(ax)


@plainly()
def draw_history(history: History) -> bytes:
    """Training and validation loss against the epoch, as a PNG."""
    return _png(loss_curves(history))


@plainly()
def draw_confusion(counts: Host, labels: Sequence[object], title: str) -> bytes:
    """Which classes are taken for which, as a PNG."""
    ax = confusion_matrix(counts, labels)
    fitted(ax.figure.suptitle(shown(title), fontsize=11))
    return _png(ax)


@plainly()
def draw_residuals(truth: Host, predicted: Host, name: str, title: str) -> bytes:
    """Errors of numbers against the prediction, as a PNG."""
    ax = residuals(truth, predicted, name=name)
    fitted(ax.figure.suptitle(shown(title), fontsize=11))
    return _png(ax)


def _png(ax: Any) -> bytes:
    return png(ax)
