"""How good predictions are: classes that are mistaken for others, errors of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ldl.arrays import host
from ldl.plots.axes import BLUE, GREY, ORANGE, Axes, bare, colour_bar, legend, own, word

WRITTEN = 20
"""The most classes whose counts are written into their cells."""


def confusion_matrix(
    matrix: Any, labels: Sequence[object] | None = None, ax: Axes | None = None
) -> Axes:
    """Counts (K, K): rows are the true classes, columns those that were said.

    The colour is a count's share of its row, so that rare classes are seen as well as frequent
    ones; the number is the count. `ldl.table.TableFit.confusion` is such a matrix.
    """
    counts = host(matrix)
    classes = len(counts)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not classes:
        raise ValueError(f"a confusion matrix is (K, K), got {counts.shape}")
    names = [word(label, 16) for label in (range(classes) if labels is None else labels)]
    if len(names) != classes:
        raise ValueError(f"there are {classes} classes and {len(names)} labels: give one for each")
    longest = max(map(len, names))
    side = float(np.clip(0.55 * classes, 2.6, 9))
    ax = own(ax, side + 1.9 + 0.07 * longest, side + 0.8 + 0.05 * longest, "compressed")
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    drawn = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if classes <= WRITTEN:
        for i in range(classes):
            for j in range(classes):
                dark = "white" if shares[i, j] > 0.55 else "black"
                size = 10 if classes <= 10 else 7
                text = f"{counts[i, j]:,}" if counts[i, j] else "0"
                faint = GREY if not counts[i, j] else dark
                ax.text(j, i, text, ha="center", va="center", color=faint, fontsize=size)
    step = 1 + (classes - 1) // 40
    ticks = range(0, classes, step)
    upright = longest > 4 and classes * longest > 30
    turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if upright else {}
    small = 10 if classes <= 20 else 7
    ax.set_xticks(ticks, [names[i] for i in ticks], parse_math=False, fontsize=small, **turned)
    ax.set_yticks(ticks, [names[i] for i in ticks], parse_math=False, fontsize=small)
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    ax.tick_params(length=0)
    ax.spines[:].set_color("#cccccc")
    colour_bar(ax, drawn, "share of the true class", shrink=0.8)
    return ax


def residuals(truth: Any, predicted: Any, ax: Axes | None = None, *, name: str = "") -> Axes:
    """Errors ŷ - y of numbers (N,) against the prediction ŷ, with lines at zero and ± RMSE.

    A cloud around zero without a shape is what one wants to see. `name` is the target's.
    """
    y, said = (host(values).astype(np.float64).reshape(-1) for values in (truth, predicted))
    if len(y) != len(said) or not len(y):
        raise ValueError(f"there are {len(y)} true numbers and {len(said)} predicted: give as many")
    error = said - y
    spread = float(np.sqrt(np.square(error).mean()))
    ax = own(ax, 6.4, 4.2)
    size = float(np.clip(4000 / len(y), 5, 30))
    ax.scatter(said, error, s=size, color=BLUE, alpha=0.6, linewidths=0)
    ax.axhline(0, color="black", linewidth=1)
    for i, line in enumerate((spread, -spread)):
        label = f"± RMSE  {spread:.4g}" if i == 0 else None
        ax.axhline(line, color=ORANGE, linestyle="--", linewidth=1.2, label=label)
    of = f" {word(name)}" if name else ""
    ax.set_xlabel(f"predicted{of}", parse_math=False)
    ax.set_ylabel("predicted - true")
    bare(ax)
    legend(ax)
    return ax
