"""The picture: for each workload, the step time of every side over that of the matrix products."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from benchmarks.report import time_text, timed

OWN, OTHER, FLOOR = "#2a6fbb", "#b9b9b9", "#444444"
COLUMNS = 2
CUT = 4.0
"""A bar is cut where it is so many times the axis's best side or more."""


def draw(document: dict[str, Any]) -> bytes:
    """The picture as a PNG."""
    from matplotlib.figure import Figure

    part, machine = document["end_to_end"], document["machine"]
    workloads = [w for w in part["workloads"] if timed(w)]
    rows = -(-len(workloads) // COLUMNS)
    heights = [
        max(len(timed(w)) for w in workloads[k * COLUMNS : (k + 1) * COLUMNS]) for k in range(rows)
    ]
    total = sum(0.26 * h + 0.75 for h in heights) + 1.0
    figure = Figure(figsize=(13, total), dpi=120, layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes in grid.flat[len(workloads) :]:
        axes.set_visible(False)
    for axes, workload in zip(grid.flat, workloads, strict=False):
        _panel(axes, workload)
    quick = "  A QUICK RUN: THE FIGURES MEAN NOTHING" if part["quick"] else ""
    figure.suptitle(
        "Time of one training step, or of one prediction, as a multiple of its matrix products "
        f"alone (shorter is better){quick}\n"
        f"{machine['processor']}, {part['threads']} threads for every side, float32; medians; "
        "blue: ldl",
        fontsize=12,
    )
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _panel(axes: Any, workload: dict[str, Any]) -> None:
    rows = timed(workload)
    key = "over_floor" if all("over_floor" in row for row in rows) else "median"
    values = [row[key] for row in rows]
    best = min(
        (v for v, r in zip(values, rows, strict=True) if "floor" not in r["side"]), default=1
    )
    limit = min(max(values), CUT * best)
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        name = row["side"]
        floor = "floor" in name
        own = name.startswith("ldl")
        shown = min(value, limit)
        axes.barh(place, shown, color=OWN if own else FLOOR if floor else OTHER, height=0.72)
        cut = " »" if value > limit else ""
        text = f"{cut} {value:.3g}×  ({time_text(row['median'])})"
        axes.text(
            shown,
            place,
            text if key == "over_floor" else time_text(value),
            va="center",
            fontsize=8.5,
        )
    axes.set_yticks(range(len(rows)), [row["side"] for row in rows], fontsize=9)
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row["side"].startswith("ldl") else "normal")
    axes.invert_yaxis()
    axes.set_xlim(0, limit * 1.32)
    if key == "over_floor":
        axes.axvline(1, color=FLOOR, linewidth=0.8, linestyle=":")
    axes.set_title(workload["title"], fontsize=10.5, loc="left", fontweight="bold")
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8, colors="#777777")
    axes.spines[["top", "right", "left"]].set_visible(False)
