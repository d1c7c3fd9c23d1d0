"""Tables and the picture, made from a file of results."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks import results

DESCRIPTION = """\
Make FILE.md and FILE.png again from FILE.json, a file of results of `make bench`."""


def time_text(seconds: float) -> str:
    """Seconds in a unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def _ratio(row: dict[str, Any], key: str) -> str:
    return f"{row[key]:.2f}" if key in row else ""


def timed(workload: dict[str, Any]) -> list[dict[str, Any]]:
    """The sides that were timed, fastest first."""
    rows = [row for row in workload["sides"] if row["status"] == "timed"]
    return sorted(rows, key=lambda row: row["median"])


def cells(workload: dict[str, Any]) -> list[list[str]]:
    """The table of a workload, its header first."""
    own = "ldl.Predictor" if workload["predict"] else "ldl.TrainStep"
    head = ["side", "median", "minimum", "median / floor", "minimum / floor", f"median / {own}"]
    head.append("largest difference")
    body = [
        [
            row["side"],
            time_text(row["median"]),
            time_text(row["minimum"]),
            _ratio(row, "over_floor"),
            _ratio(row, "over_floor_minimum"),
            _ratio(row, "over_ldl"),
            f"{row['difference']:.0e}" if "difference" in row else "",
        ]
        for row in timed(workload)
    ]
    return [head, *body]


def text_table(workload: dict[str, Any]) -> str:
    """The table for a terminal."""
    rows = cells(workload)
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = [
        "  "
        + "  ".join(
            c.rjust(w) if k else c.ljust(w)
            for k, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    lines.append(f"  {workload['rounds']} rounds of {workload['steps_in_block']} steps a side")
    return "\n".join(lines)


def table(rows: list[list[str]]) -> list[str]:
    """A Markdown table, its header first."""
    head, *body = rows
    ruler = ["---"] + ["---:"] * (len(head) - 1)
    return ["| " + " | ".join(row) + " |" for row in (head, ruler, *body)]


def markdown(document: dict[str, Any]) -> str:
    """All tables of a document."""
    machine = document["machine"]
    lines = [f"# {machine['processor']}, {machine['cores']} cores", ""]
    lines += [", ".join(f"{k} {v}" for k, v in document["versions"].items()), ""]
    if any(part.get("quick") for part in document.values() if isinstance(part, dict)):
        lines += ["**A quick run: these figures mean nothing.**", ""]
    for name, section in (
        ("end_to_end", _end_to_end),
        ("memory", _memory),
        ("cold", _cold),
        ("kernels", _kernels),
    ):
        if name in document:
            lines += [*section(document[name]), ""]
    return "\n".join(lines).rstrip() + "\n"


def _end_to_end(part: dict[str, Any]) -> list[str]:
    lines = [
        "## A step, and a prediction, beside other libraries",
        "",
        f"{part['date']}, {part['threads']} threads for every side, float32. The sides took turns "
        "in one run, in blocks of steps with a pause between (the side without llvmlite in a "
        "process of its own, the others in one); each figure is of the blocks' "
        "times per step. The floor is the step's matrix products alone. The largest difference is "
        "that of the first losses (for predictions, of the outputs) from those of float64.",
    ]
    for workload in part["workloads"]:
        lines += ["", f"### {workload['title']}", "", *table(cells(workload))]
        absent = [row for row in workload["sides"] if row["status"] != "timed"]
        if absent:
            lines += ["", *(f"{r['side']}: {r['status']}, {r['reason']}.  " for r in absent)]
    return lines


def _memory(part: dict[str, Any]) -> list[str]:
    lines = [
        "## Memory",
        "",
        "MiB above the process with its library imported and the batches made, each side in a "
        "process of its own: parameters, optimizer state, buffers and all that the library adds. "
        "Of the first steps (with compilation), and of the steps after them.",
    ]
    for workload in part["workloads"]:
        rows = [["side", "peak of the first steps", "peak of a later step"]]
        for row in workload["sides"]:
            if row["status"] == "measured":
                rows.append([row["side"], f"{row['first_mib']:.0f}", f"{row['later_mib']:.0f}"])
        lines += ["", f"### {workload['title']}", "", *table(rows)]
    return lines


def _cold(part: dict[str, Any]) -> list[str]:
    imports = [["import", "median", "minimum"]]
    imports += [
        [row["name"], time_text(row["median"]), time_text(row["minimum"])]
        for row in part["imports"]
        if row["status"] == "timed"
    ]
    sizes = [["package", "itself, MB", "with what it requires, MB", "of which not NumPy's, MB"]]
    sizes += [
        [row["name"], *(f"{row[k] / 1e6:.1f}" for k in ("own", "closure", "beyond_numpy"))]
        for row in part["sizes"]
        if row["status"] == "measured"
    ]
    epochs = [["side", "median", "minimum", "first time, compile caches empty"]]
    epochs += [
        [row["side"], *(time_text(row[k]) for k in ("median", "minimum", "fresh"))]
        for row in part["first_epoch"]
        if row["status"] == "timed"
    ]
    return [
        "## From a cold process",
        "",
        "Import, in a process of its own each time:",
        "",
        *table(imports),
        "",
        "Installed size, the files that the distributions list (`pip install` with no extras):",
        "",
        *table(sizes),
        "",
        f"From starting Python to the end of the first epoch: autoencoder 784-256-64-256-784, "
        f"{part['data']}, batch 32:",
        "",
        *table(epochs),
    ]


def _kernels(part: dict[str, Any]) -> list[str]:
    backends = part["backends"]
    rows = [
        ["kernel, layer or loss", *(f"{b}: {k}" for b in backends for k in ("median", "minimum"))]
    ]
    for name, times in part["rows"].items():
        pairs = [times.get(backend) for backend in backends]
        rows.append([name, *(time_text(t) if t else "" for p in pairs for t in (p or (0, 0)))])
    return [
        "## Kernels, and layers forward and backward",
        "",
        "Batch 128, 784 features where the kind of layer allows, float32; the optimizers' updates "
        f"on {part['parameters']:,} parameters.",
        "",
        *table(rows),
    ]


def write(path: Path) -> list[Path]:
    """Make the table and the picture beside a JSON file."""
    document = results.load(path)
    text = path.with_suffix(".md")
    text.write_text(markdown(document))
    made = [text]
    if document.get("end_to_end", {}).get("workloads"):
        from benchmarks.picture import draw

        image = path.with_suffix(".png")
        image.write_bytes(draw(document))
        made.append(image)
    return made


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=DESCRIPTION)
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        default=results.default_path(),
        metavar="FILE.json",
        help=f"default: benchmarks/results/{results.slug()}.json",
    )
    path = parser.parse_args(argv).file
    if not path.exists():
        parser.error(f"there is no {path}; make one with make bench")
    for made in write(path):
        print(f"written {made}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
