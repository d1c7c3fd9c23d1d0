"""Curves of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from ldl.plots.axes import BLUE, COLOURS, GREY, ORANGE, Axes, bare, legend, own, word
from ldl.train.history import History, better

NAMES = {"loss": "training", "val_loss": "validation"}
"""What the figures of a history are called in a legend."""


def loss_curves(
    history: History | Mapping[str, Sequence[float]],
    ax: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
    log: bool = False,
    floor: float | None = None,
    floor_name: str = "the least",
    best: bool = True,
) -> Axes:
    """Figures against the epoch, each with its last value in the legend.

    By default the losses, "loss" and "val_loss", of a History, or all that a dict holds. Of a
    history's validation figure the best epoch is marked, unless `best` is False. `log` makes the
    axis logarithmic, `floor` draws a line at the least value that there can be.
    """
    columns = _columns(history, names)
    ax = own(ax, 7, 4.2)
    colours = iter([ORANGE, BLUE, *COLOURS[2:], *COLOURS[2:]])
    for name, values in columns.items():
        epochs = range(1, len(values) + 1)
        colour = next(colours, GREY)
        label = f"{word(NAMES.get(name, name))}  {values[-1]:.4g}"
        marker = "o" if len(values) == 1 else None
        ax.plot(epochs, values, color=colour, marker=marker, label=label)
        if best and name.startswith("val_") and len(values) > 1:
            _mark_best(ax, name, values, colour)
    if floor is not None:
        ax.axhline(floor, color=GREY, linestyle=":", label=f"{word(floor_name)}  {floor:.4g}")
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss" if all("loss" in name for name in columns) else "")
    _scale(ax, columns, log)
    bare(ax)
    legend(ax)
    return ax


def _columns(history: Any, names: Sequence[str] | None) -> dict[str, list[float]]:
    if isinstance(history, History):
        known = list(dict.fromkeys(name for row in history for name in row))
        wanted = [name for name in NAMES if name in known] if names is None else list(names)
        columns = {name: list(map(float, history[name])) for name in wanted}
    else:
        wanted = list(history) if names is None else list(names)
        columns = {name: list(map(float, history[name])) for name in wanted}
    if not any(columns.values()):
        raise ValueError("the history has no epochs to draw: train first")
    return {name: values for name, values in columns.items() if values}


def _mark_best(ax: Axes, name: str, values: list[float], colour: str) -> None:
    try:
        sign = better(name, None)
    except ValueError:
        return
    finite = [i for i, value in enumerate(values) if isfinite(value)]
    if finite:
        i = min(finite, key=lambda i: sign * values[i])
        label = f"best  {values[i]:.4g}, epoch {i + 1}"
        ax.plot([i + 1], [values[i]], "o", color=colour, label=label)


def _scale(ax: Axes, columns: dict[str, list[float]], log: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if log:
        ax.set_yscale("log")
        return
    finite = [value for values in columns.values() for value in values if isfinite(value)]
    if finite and min(finite) >= 0:
        ax.set_ylim(0, 1.06 * max(*finite, ax.get_ylim()[1] / 1.1) or 1.0)
