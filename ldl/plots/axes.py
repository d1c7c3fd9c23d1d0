"""What all pictures have in common: axes, colours, words."""

from __future__ import annotations

import os
from io import BytesIO
from typing import Any

from ldl.console import shown
from ldl.io import write_atomically
from ldl.io.replacing import Path

Axes = Any
"""matplotlib's Axes."""

BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#cc79a7"
SKY, AMBER, BLACK, GREY = "#56b4e9", "#e69f00", "#000000", "#666666"

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, BLACK, GREY)
"""Those of Okabe and Ito, which differ for all kinds of sight."""

DPI = 150

KINDS = (".png", ".svg", ".pdf")
"""How the names of pictures' files end."""


def own(ax: Axes | None, width: float, height: float, layout: str = "constrained") -> Axes:
    """The axes given, or those of a new figure of that size in inches.

    What has an aspect of its own, as images, wants the layout "compressed".
    """
    if ax is not None:
        return ax
    figure = new_figure(width, height, layout=layout)
    return on_white(figure.subplots())


def new_figure(width: float, height: float, **options: Any) -> Any:
    """A white figure that pyplot knows nothing of."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'ldl[plot]'") from error
    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", **options)


def on_white(ax: Axes) -> Axes:
    """The axes with black words and lines on a white ground, whatever matplotlib's style."""
    ax.set_facecolor("white")
    ax.spines[:].set_color(BLACK)
    ax.tick_params(which="both", colors=BLACK)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set_color(BLACK)
    return ax


def bare(ax: Axes) -> None:
    """No lines above and on the right, and a faint grid."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)
    ax.set_axisbelow(True)


def legend(ax: Axes, **options: Any) -> Any:
    """A legend whose words are read as they stand."""
    made = ax.legend(frameon=False, labelcolor=ax.xaxis.label.get_color(), **options)
    for text in made.get_texts():
        text.set_parse_math(False)
    return made


def colour_bar(ax: Axes, drawn: Any, label: str = "", **options: Any) -> None:
    """What the colours of an image or of points mean, in the words' colour."""
    bar = ax.figure.colorbar(drawn, ax=ax, **options)
    colour = ax.xaxis.label.get_color()
    bar.ax.tick_params(colors=colour)
    bar.set_label(label, color=colour)
    bar.outline.set_visible(False)


def fitted(title: Any) -> None:
    """Make a title as small as the figure's width asks for."""
    figure = title.get_figure(root=True)
    extent, page = title.get_window_extent(), figure.bbox
    middle = (extent.x0 + extent.x1) / 2
    room = 1.92 * min(middle - page.x0, page.x1 - middle)
    if extent.width > room > 0:
        title.set_fontsize(title.get_fontsize() * room / extent.width)


def word(text: object, most: int = 24) -> str:
    """A name as a picture has it: on one line, and not too long."""
    words = shown(text)
    return words if len(words) <= most else f"{words[: most - 1]}…"


def png(ax: Axes) -> bytes:
    """The figure that the axes stand in, as a PNG."""
    return _content(ax, ".png", DPI)


def save(ax: Axes, path: Path, dpi: int = DPI) -> None:
    """Write the figure that the axes stand in to a .png, .svg or .pdf file, whole or not at all."""
    end = os.path.splitext(os.fsdecode(path))[1].lower()
    if end not in KINDS:
        raise ValueError(f"a picture's file ends in {', '.join(KINDS)}, got {os.fsdecode(path)!r}")
    write_atomically(path, _content(ax, end, dpi))


def _content(ax: Axes, end: str, dpi: int) -> bytes:
    buffer = BytesIO()
    ax.get_figure(root=True).savefig(buffer, format=end[1:], dpi=dpi)
    return buffer.getvalue()
