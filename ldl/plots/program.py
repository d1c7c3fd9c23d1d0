"""The plan of a recorded step: what is done, and which memory lives when."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ldl.plots.axes import BLACK, BLUE, GREEN, GREY, ORANGE, SKY, Axes, own
from ldl.train.step import TrainStep

WORDS = 40
"""Letters of an operation's line, at most."""


def plan(step: TrainStep, ax: Axes | None = None) -> Axes:
    """What `ldl.explain` prints of the latest shape of batches, as a picture.

    From above, a row for each operation: a product, a loop with how many operations of each kind
    were fused into it, a kernel. To the right, a column for each piece of memory; a bar is a value,
    from the operation that writes it to the last that reads it, so that bars above each other share
    memory. On the left, "given" are parameters, gradients and inputs that a row touches. ValueError
    for a step that has not been recorded.
    """
    recorded = [lines for r in step.recordings().values() if (lines := r.account())]
    if not recorded:
        raise ValueError("nothing was recorded of this step: call it once, with record=True")
    lines = recorded[-1]
    pieces = sorted({p.memory for line in lines for p in (*line.reads, *line.writes)} - {None})
    ax = own(ax, 4.4 + 0.24 * len(pieces), 1.0 + 0.24 * len(lines))
    for x, piece in enumerate(pieces, start=1):
        for number, (first, last) in enumerate(_lives(lines, piece)):
            colour = (BLUE, SKY)[number % 2]
            ax.bar(x, last - first + 0.7, 0.7, first - 0.35, color=colour, edgecolor="white")
    for row, line in enumerate(lines):
        given = [sum(p.memory is None for p in places) for places in (line.reads, line.writes)]
        for beside, count, colour in ((-0.15, given[0], GREY), (0.15, given[1], ORANGE)):
            if count:
                ax.plot(beside, row, "s", color=colour, markersize=5)
    ax.set_yticks(range(len(lines)), [_said(line) for line in lines], fontsize=8)
    for label, line in zip(ax.get_yticklabels(), lines, strict=True):
        label.set_color(GREEN if line.parts else BLACK)
    ax.set_xticks(range(len(pieces) + 1), ["given", *(f"m{p}" for p in pieces)], fontsize=8)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.set_xlim(-0.6, len(pieces) + 0.6)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel(
        "grey: given and read; orange: given and written\nblue: a value in a piece of memory",
        fontsize=8,
    )
    return ax


def _said(line: Any) -> str:
    """An operation in a few words."""
    if not line.parts:
        return str(line.what)
    parts = [name if n == 1 else f"{n} {name}" for name, n in Counter(line.parts).items()]
    text = f"{line.what}: {', '.join(parts)}"
    return text if len(text) <= WORDS else f"{text[: WORDS - 1]}…"


def _lives(lines: Any, piece: int) -> list[tuple[int, int]]:
    """Of each value in a piece of memory the operations that write it first and touch it last.

    A value ends where another begins: where the piece is written without being read.
    """
    found: list[tuple[int, int]] = []
    for row, line in enumerate(lines):
        read, written = (
            any(p.memory == piece for p in places) for places in (line.reads, line.writes)
        )
        if written and not read:
            found.append((row, row))
        elif (read or written) and found:
            found[-1] = found[-1][0], row
    return found
