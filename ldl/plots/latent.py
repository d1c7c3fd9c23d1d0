"""Codes in two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

from ldl.arrays import Host, host
from ldl.plots.axes import COLOURS, Axes, bare, colour_bar, legend, own, word

MARKERS = "osD^vP*X"
"""The shapes of points: where there are more labels than colours, colour and shape tell them."""

MOST = 32
"""The most labels that are told apart."""


def latent_space(codes: Any, labels: Any = None, ax: Axes | None = None) -> Axes:
    """Codes (N, 2), such as an autoencoder's `encode` gives, coloured by their labels (N,).

    Codes of more dimensions are projected onto the two directions in which they vary most, and the
    axes say how much of the variance that is. Labels that are floats have a colour bar; others, 32
    kinds at most, a legend.
    """
    points = host(codes).astype(np.float64)
    if points.ndim != 2 or points.shape[1] < 2 or not len(points):
        raise ValueError(f"codes are (N, 2), or of more dimensions than 2, got {points.shape}")
    titles = ["code 1", "code 2"]
    if points.shape[1] > 2:
        points, titles = _projected(points)
    kinds = None if labels is None else np.asarray(labels).reshape(-1)
    if kinds is not None and len(kinds) != len(points):
        raise ValueError(
            f"there are {len(points)} codes and {len(kinds)} labels: give one for each"
        )
    ax = own(ax, 6.4, 5.2)
    size = float(np.clip(6000 / len(points), 8, 30))
    x, y = points.T
    if kinds is None:
        ax.scatter(x, y, s=size, color=COLOURS[0], alpha=0.7, linewidths=0)
    elif kinds.dtype.kind == "f":
        drawn = ax.scatter(x, y, s=size, c=kinds, cmap="viridis", alpha=0.8, linewidths=0)
        colour_bar(ax, drawn)
    else:
        _by_kind(ax, x, y, kinds, size)
    ax.set_xlabel(titles[0])
    ax.set_ylabel(titles[1])
    bare(ax)
    return ax


def _by_kind(ax: Axes, x: Host, y: Host, kinds: Host, size: float) -> None:
    different = list(dict.fromkeys(sorted(kinds.tolist(), key=lambda v: (str(type(v)), v))))
    if len(different) > MOST:
        raise ValueError(
            f"{len(different)} different labels cannot be told apart: give {MOST} at most"
        )
    for i, kind in enumerate(different):
        mine = np.array([other == kind for other in kinds.tolist()])
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i // len(COLOURS) % len(MARKERS)]
        how = {"s": size, "color": colour, "marker": marker, "alpha": 0.75, "linewidths": 0}
        ax.scatter(x[mine], y[mine], label=word(kind), **how)
    columns = 1 + (len(different) - 1) // 16
    made = legend(ax, loc="center left", bbox_to_anchor=(1.0, 0.5), ncols=columns)
    for handle in made.legend_handles:
        handle.set_sizes([30])


def _projected(points: Host) -> tuple[Host, list[str]]:
    """Points on their first two principal directions, and what the axes are called."""
    centred = points - points.mean(axis=0)
    _, values, directions = np.linalg.svd(centred, full_matrices=False)
    shares = np.square(values) / max(float(np.square(values).sum()), 1e-300)
    found = np.zeros((len(points), 2))
    found[:, : len(values[:2])] = centred @ directions[:2].T
    names = ["first", "second"]
    titles = [
        f"{name} principal direction ({100 * share:.0f} %)"
        for name, share in zip(names, shares, strict=False)
    ]
    return found, [*titles, ""][:2]
