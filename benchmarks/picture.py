"""The picture: for each workload, the time of every implementation over that of the floor."""

from __future__ import annotations

from io import BytesIO
from textwrap import fill
from typing import Any

from benchmarks.compare import main_clock, timed
from benchmarks.formats import seconds_text
from benchmarks.names import FLOOR

OWN, OTHER, BASE = "#2a6fbb", "#b9b9b9", "#444444"
COLUMNS = 2
WIDE = 36
"""Characters of a title on a line."""
CUT = 4.0
"""A bar is cut where it is so many times the axis's best or more."""


def draw(documents: dict[str, Any]) -> bytes | None:
    """The picture of all comparisons as a PNG; None where there is none."""
    from matplotlib.figure import Figure

    found = [
        (one, timed(one["rows"]))
        for name, document in documents.items()
        for one in document.get(name, {}).get("comparisons", {}).values()
    ]
    panels = [(one, rows) for one, rows in found if rows]
    if not panels:
        return None
    lines = -(-len(panels) // COLUMNS)
    heights = [
        max(len(rows) for _, rows in panels[k * COLUMNS : (k + 1) * COLUMNS]) for k in range(lines)
    ]
    total = sum(0.26 * h + 0.75 for h in heights) + 1.0
    figure = Figure(figsize=(13, total), dpi=110, layout="constrained")
    grid = figure.subplots(lines, COLUMNS, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (one, rows) in zip(grid.flat, panels, strict=False):
        _panel(axes, one, rows)
    runs = [document.get("run", {}) for document in documents.values()]
    machine = next(iter(documents.values())).get("machine", {})
    quick = any(run.get("quick") for run in runs)
    figure.suptitle(
        "Time of one training step, or of one prediction, as a multiple of its matrix products "
        f"alone (shorter is better){'  A QUICK RUN: THE FIGURES MEAN NOTHING' * quick}\n"
        f"{machine.get('device') or machine.get('processor', '')}; medians; blue: ldl",
        fontsize=12,
    )
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _panel(axes: Any, one: dict[str, Any], rows: list[tuple[str, dict[str, Any]]]) -> None:
    medians = {name: main_clock(row)["median"] for name, row in rows}
    scale = medians.get(FLOOR)
    values = {name: median / (scale or 1) for name, median in medians.items()}
    best = min((v for name, v in values.items() if name != FLOOR), default=1)
    limit = min(max(values.values()), CUT * best)
    for place, (name, value) in enumerate(values.items()):
        color = OWN if name.startswith("ldl") else BASE if name == FLOOR else OTHER
        shown = min(value, limit)
        axes.barh(place, shown, color=color, height=0.72)
        time = seconds_text(medians[name])
        text = f" {value:.3g}×  ({time})" if scale else f" {time}"
        axes.text(shown, place, " »" * (value > limit) + text, va="center", fontsize=8.5)
    axes.set_yticks(range(len(values)), values, fontsize=9)
    for label, name in zip(axes.get_yticklabels(), values, strict=True):
        label.set_fontweight("bold" if name.startswith("ldl") else "normal")
    axes.invert_yaxis()
    axes.set_xlim(0, limit * 1.32)
    if scale:
        axes.axvline(1, color=BASE, linewidth=0.8, linestyle=":")
    precision = "" if one["precision"] == "float32" else f", {one['precision']}"
    title = fill(one["title"] + precision, WIDE)
    axes.set_title(title, fontsize=10.5, loc="left", fontweight="bold")
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8, colors="#777777")
    axes.spines[["top", "right", "left"]].set_visible(False)
