"""The report, made from the documents of results alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.gpu.names import FLOOR, SEVERAL, TRAIN_STEP
from benchmarks.gpu.ran import GRAPH, HOST, manner
from benchmarks.report import table as markdown_table
from benchmarks.report import time_text

Part = dict[str, Any]
GRAPHS = (FLOOR, TRAIN_STEP, SEVERAL)
"""Sides whose steps are graphs unless something went wrong."""


ORDER = ("check", "tests", "headline", "extras", "epochs", "floors", "kernels")


def markdown(documents: Part) -> str:
    """All commands' documents, by name, in one report; what is missing is named as missing."""
    known = {name: documents[name] for name in ORDER if name in documents}
    latest = max(known.values(), key=lambda one: one.get("run", {}).get("date", ""), default={})
    machine = latest.get("machine", {})
    lines = [f"# {machine.get('device', 'a device')}", "", *_machine(machine)]
    if any(one.get("run", {}).get("rehearsal") for one in known.values()):
        lines += ["", "**A rehearsal on a processor: these figures mean nothing.**"]
    lines += ["", *(_state(name, one) for name, one in known.items())]
    lines += [f"- {name}: not run" for name in ORDER if name not in known]
    for name, section in SECTIONS.items():
        if known.get(name, {}).get(name):
            lines += ["", *section(known, known[name][name])]
    return "\n".join(lines) + "\n"


def _state(name: str, one: Part) -> str:
    """When a command ran, on what, and what became of it."""
    run, machine = one.get("run", {}), one.get("machine", {})
    where = f"{machine.get('device', 'no device')}, commit {machine.get('commit') or '?'}"
    seconds = f", {run['seconds']:.0f} s" if "seconds" in run else ""
    return f"- {name}: {run.get('status')}{seconds} ({run.get('date', '')}, {where})"


def _machine(machine: Part) -> list[str]:
    versions = ", ".join(f"{k} {v}" for k, v in machine.get("versions", {}).items())
    keys = ("compute_capability", "cuda_runtime", "driver_supports_cuda", "nvrtc", "cublaslt")
    cuda = [f"{key.replace('_', ' ')} {machine[key]}" for key in keys if key in machine]
    smi = [f"{k} {v}" for k, v in machine.get("nvidia_smi", {}).items()]
    host = f"{machine.get('processor', '')}, {machine.get('cores', '?')} cores"
    return [line + "  " for line in (versions, ", ".join(cuda), ", ".join(smi), host) if line]


def _check(documents: Part, part: Part) -> list[str]:
    lines = ["## Check", "", *(f"- {name}: right" for name in part.get("done", ()))]
    if "a step is launched" in part:
        lines.append(f"- a training step runs: {part['a step is launched']}")
    bad = [part[key] for key in ("missing", "faulty") if key in part]
    lines += [f"- **{text}**" for text in (*bad, *part.get("notes", ()))]
    return lines + [f"- without {what}: {why}" for what, why in part.get("left_out", {}).items()]


def _tests(documents: Part, part: Part) -> list[str]:
    counts = ", ".join(f"{count} {outcome}" for outcome, count in part["counts"].items())
    lines = ["## Tests marked gpu", "", f"{counts}. {part.get('summary', '')}", ""]
    return lines + [f"- {name}" for name in (*part["failures"], *part.get("skipped", ()))]


def _rate(one: Part, unit: str) -> list[str]:
    if "failed" in one:
        return [one["failed"], "", ""]
    scale, name = {"B": (1e9, "GB/s"), "F": (1e12, "TFLOP/s")}[unit]
    return [f"{one['rate'] / scale:.4g} {name}", time_text(one["median"]), manner(one)]


def _rates(documents: Part, part: Part) -> list[str]:
    rows = [["", "rate", "median", "how"]]
    if "copy" in part:
        rows.append(["copy, bytes read and written", *_rate(part["copy"], "B")])
    shapes = []
    for key, one in part.items():
        kind, _, rest = key.partition("/")
        if kind == "cube":
            n = one.get("n", "")
            rows.append([f"product of {n} cubed, {rest}", *_rate(one, "F")])
        elif kind == "shapes":
            shapes.append((rest.rpartition("/")[2], one))
    lines = ["## Rates", "", *markdown_table(rows)]
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
            figures = [time_text(row["seconds"]), f"{row['rate'] / 1e12:.3g}", manner(row)]
            rows.append([row["kind"], shape, *figures, f"{row['error']:.0e}"])
        lines += ["", f"Products of {one['title']}, {precision}:", "", *markdown_table(rows)]
    return lines


def floors(rates: Part, heat: Part) -> dict[str, float]:
    """Seconds of a step's floors, those that were measured.

    "products": its matrix products alone, in the same heat; "cube": its FLOPs at the rate of the
    large product; "bytes": its least bytes at the rate of the copy.
    """
    found = {}
    alone = heat["sides"].get(FLOOR, {})
    if "events_median" in alone:
        found["products"] = alone["events_median"]
    cube = rates.get(f"cube/{heat['precision']}", {})
    if "rate" in cube:
        found["cube"] = heat["flops"] / cube["rate"]
    if "rate" in rates.get("copy", {}):
        found["bytes"] = heat["bytes"] / rates["copy"]["rate"]
    return found


def _steps(documents: Part, part: Part, title: str) -> list[str]:
    lines = [
        f"## {title}",
        "",
        "Adam, the same weights and batches for all sides of a table, batches on the device. Times "
        "of a step: medians and minima over blocks of steps in which the sides took turns, by CUDA "
        "events and by the clock with one wait at the end of a block. The largest difference is "
        "that of the compared losses from those of float64 (with dropout, of their mean). Memory "
        "is the most in use while building, compiling and comparing, and in a step after that, "
        "above the batches; what a CUDA graph of PyTorch's uses counts in the first alone. How the "
        "timed steps ran is what the side itself counted: as a CUDA graph, kernel by kernel, or "
        "layer by layer; PyTorch's eager, compiled or as a graph.",
        "",
        "Floors: the step's matrix products alone, one CUDA graph that took turns with the sides; "
        "its FLOPs at the rate of the large product; its least bytes at the rate of a copy. Share "
        "of the larger: the larger of the first and the last over the median by events; share of "
        "the sum: their sum over it.",
    ]
    heats, rates = list(part.get("heats", {}).values()), documents.get("floors", {})
    lines += ["", "Medians by events:", "", *markdown_table(_overview(heats))]
    for heat in heats:
        lines += ["", f"### {heat['title']}, {heat['precision']}", ""]
        lines += _heat(heat, floors(rates.get("floors", {}), heat))
    return lines


def _overview(heats: list[Part]) -> list[list[str]]:
    """A row for every heat, a column for every side; ldl's steps that are no graphs say so."""
    names = list(dict.fromkeys(name for heat in heats for name in heat["sides"]))
    rows = [["net", "precision", *names]]
    for heat in heats:
        cells = []
        for name in names:
            row = heat["sides"].get(name, heat)
            if row["status"] != "timed":
                cells.append(row["status"])
                continue
            slower = row["how"] if name in GRAPHS and row["how"] not in (GRAPH, HOST) else ""
            text = time_text(row["events_median"]) + f", {slower}" * bool(slower)
            cells.append(text)
        rows.append([heat["title"], heat["precision"], *cells])
    return rows


def _heat(heat: Part, least: dict[str, float]) -> list[str]:
    named = {
        "products": "its products alone",
        "cube": "its FLOPs at the large product's rate",
        "bytes": "its bytes at the copy's rate",
    }
    shown = [f"{named[key]} {time_text(seconds)}" for key, seconds in least.items()]
    lines = [
        f"{heat['flops'] / 1e6:.4g} MFLOP in products, {heat['bytes'] / 1e6:.4g} MB at least"
        + "".join(f"; {text}" for text in shown)
        + ("." if heat["status"] == "done" else f". **{heat['status']}**")
    ]
    own = heat["sides"].get(TRAIN_STEP, {}).get("events_median")
    head = ["side", "how", "events: median", "minimum", "clock: median", "minimum"]
    head += ["blocks x steps", f"median / {TRAIN_STEP}", "share of the larger", "share of the sum"]
    rows = [[*head, "largest difference", "memory: first", "a step"]]
    timed = [(n, row) for n, row in heat["sides"].items() if row["status"] == "timed"]
    both = [least[key] for key in ("products", "bytes") if key in least]
    for name, row in sorted(timed, key=lambda pair: pair[1]["events_median"]):
        median = row["events_median"]
        keys = ("events_median", "events_minimum", "wall_median", "wall_minimum")
        cells = [name, row["how"], *(time_text(row[key]) for key in keys)]
        cells += [f"{row['blocks']} x {row['steps_in_block']}"]
        cells += [f"{median / own:.2f}" if own else ""]
        cells += [f"{f(both) / median:.0%}" if len(both) == 2 else "" for f in (max, sum)]
        cells += [f"{row['difference']:.0e}" if "difference" in row else ""]
        cells += [_mib(row.get(key)) for key in ("first_bytes", "step_bytes")]
        rows.append(cells)
    if timed:
        lines += ["", *markdown_table(rows)]
    rest = [(n, row) for n, row in heat["sides"].items() if row["status"] != "timed"]
    if rest:
        lines += ["", *(f"{name}: {row['status']}, {row['reason']}.  " for name, row in rest)]
    notes = [f"{name}: {manner(row)}.  " for name, row in timed if row["why"]]
    return lines + (["", *notes] if notes else [])


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / 2**20:.1f} MiB"


def _epochs(documents: Part, part: Part) -> list[str]:
    lines = ["## Ten epochs of denoising through ldl.fit", ""]
    if "data" not in part:
        return [*lines, "Not begun."]
    lines.append(
        f"{part['samples']:,} images ({part['data']}), {part['noise']}, batch {part['batch']}, "
        "autoencoder 784-256-64-256-784, Adam 1e-3, the images on the device. Seconds of the "
        "epochs, after one on a few batches; BCE of the last epoch, and of the test images."
    )
    head = ["", "how", "epochs", "training", "ldl.fit", "BCE", "test BCE", "BCE / NumPy's"]
    rows = [[*head, "test BCE / NumPy's"]]
    for name, row in part.get("runs", {}).items():
        if "seconds" not in row:
            rows.append([name, "", row.get("reason") or row["status"], *[""] * 6])
            continue
        count = f"{len(row['epochs'])} of {part['wanted']}"
        cells = [name, manner(row), count, time_text(row["seconds"]) if row["seconds"] else ""]
        cells += [time_text(row["wall_seconds"]) if "wall_seconds" in row else row["status"]]
        for key in ("train_bce", "test_bce", "train_bce_over_numpy", "test_bce_over_numpy"):
            cells.append(f"{row[key]:.4f}" if key in row else "")
        rows.append(cells)
    return [*lines, "", *markdown_table(rows)]


def _kernels(documents: Part, part: Part) -> list[str]:
    rows = [["kernel, layer or loss", "how", "median", "minimum", "rounds"]]
    for name, row in part.get("rows", {}).items():
        if "failed" in row:
            rows.append([name, row["failed"], "", "", ""])
            continue
        times = time_text(row["median"]), time_text(row["min"])
        rows.append([name, row["how"], *times, str(row["rounds"])])
    lines = [
        f"## Kernels, and layers and losses forward and backward, on {part.get('backend', '')}",
        "",
        "A call and the wait for the device after it; batch 128, 784 features where the kind of "
        "layer allows, float32; the updates on 434,000 parameters.",
    ]
    return [*lines, *(["", *markdown_table(rows)] if len(rows) > 1 else [])]


SECTIONS: dict[str, Callable[[Part, Part], list[str]]] = {
    "check": _check,
    "tests": _tests,
    "headline": partial(_steps, title="Headline: training steps"),
    "extras": partial(_steps, title="Extras: training steps of other nets"),
    "epochs": _epochs,
    "floors": _rates,
    "kernels": _kernels,
}
