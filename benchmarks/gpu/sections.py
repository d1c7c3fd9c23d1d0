"""Sections of the report that a GPU's suite alone has."""

from __future__ import annotations

from typing import Any

from benchmarks.formats import seconds_text, table
from benchmarks.how import manner

Content = dict[str, Any]


def check(part: Content, documents: Content) -> list[str]:
    """What the machine has and whether it works."""
    lines = ["## Check", "", *(f"- {name}: right" for name in part.get("done", ()))]
    if "a step is launched" in part:
        lines.append(f"- a training step runs: {part['a step is launched']}")
    bad = [part[key] for key in ("missing", "faulty") if key in part]
    lines += [f"- **{text}**" for text in (*bad, *part.get("notes", ()))]
    return lines + [f"- without {what}: {why}" for what, why in part.get("left_out", {}).items()]


def tests(part: Content, documents: Content) -> list[str]:
    """Counts, and names of what failed or was skipped."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in part["counts"].items())
    lines = ["## Tests marked gpu", "", f"{counts}. {part.get('summary', '')}", ""]
    return lines + [f"- {name}" for name in (*part["failures"], *part.get("skipped", ()))]


def _rate(one: Content, unit: str) -> list[str]:
    if "failed" in one:
        return [one["failed"], "", ""]
    scale, name = {"B": (1e9, "GB/s"), "F": (1e12, "TFLOP/s")}[unit]
    return [f"{one['rate'] / scale:.4g} {name}", seconds_text(one["median"]), manner(one)]


def rates(part: Content, documents: Content) -> list[str]:
    """The copy, the large products, and those of every net."""
    rows = [["", "rate", "median", "how"]]
    if "copy" in part:
        rows.append(["copy, bytes read and written", *_rate(part["copy"], "B")])
    shapes = []
    for key, one in part.items():
        kind, _, rest = key.partition("/")
        if kind == "cube":
            rows.append([f"product of {one.get('n', '')} cubed, {rest}", *_rate(one, "F")])
        elif kind == "shapes":
            shapes.append((rest.rpartition("/")[2], one))
    lines = ["## Rates", "", *table(rows)]
    for precision, one in shapes:
        if "failed" in one:
            lines += ["", f"{one['failed']}"]
            continue
        rows = [["product", "(m, k) @ (k, n)", "median", "TFLOP/s", "how", "error"]]
        for row in one["rows"]:
            shape = " x ".join(map(str, row["shape"]))
            if "failed" in row:
                rows.append([row["kind"], shape, row["failed"], "", "", ""])
                continue
            figures = [seconds_text(row["seconds"]), f"{row['rate'] / 1e12:.3g}", manner(row)]
            rows.append([row["kind"], shape, *figures, f"{row['error']:.0e}"])
        lines += ["", f"Products of {one['title']}, {precision}:", "", *table(rows)]
    return lines


def epochs(part: Content, documents: Content) -> list[str]:
    """Ten epochs."""
    lines = ["## Ten epochs of denoising through ldl.fit", ""]
    known = next((row for row in part.get("runs", {}).values() if "data" in row), None)
    if known is not None:
        lines.append(
            f"{known['samples']:,} images ({known['data']}), {part['noise']}, batch "
            f"{part['batch']}, autoencoder 784-256-64-256-784, Adam 1e-3, the images on the "
            "device. Seconds of the epochs, after one on a few batches; BCE of the last epoch, and "
            "of the test images."
        )
    head = ["", "how", "epochs", "training", "ldl.fit", "BCE", "test BCE", "BCE / NumPy's"]
    rows = [[*head, "test BCE / NumPy's"]]
    for name, row in part.get("runs", {}).items():
        if "seconds" not in row:
            rows.append([name, "", row.get("reason") or row["status"], *[""] * 6])
            continue
        count = f"{len(row['epochs'])} of {part['wanted']}"
        cells = [name, manner(row), count, seconds_text(row["seconds"]) if row["seconds"] else ""]
        wall = row.get("wall_seconds")
        cells += [row.get("reason") or row["status"] if wall is None else seconds_text(wall)]
        for key in ("train_bce", "test_bce", "train_bce_over_numpy", "test_bce_over_numpy"):
            cells.append(f"{row[key]:.4f}" if key in row else "")
        rows.append(cells)
    return [*lines, "", *table(rows)]
