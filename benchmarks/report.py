"""The report, made from the documents of results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from benchmarks.compare import CLOCKS, main_clock, timed
from benchmarks.distributed import sections as distributed
from benchmarks.formats import mib, seconds_text, table
from benchmarks.gpu import sections as gpu
from benchmarks.how import GRAPH, HOST, manner
from benchmarks.names import FLOOR, PREDICTOR, SEVERAL, TRAIN_STEP

Content = dict[str, Any]
GRAPHS = (FLOOR, TRAIN_STEP, SEVERAL)
"""Whose steps on a GPU are graphs unless something went wrong."""
TIMES = {"events": "on the device", "wall": "by the clock", "cpu": "of processors"}


def markdown(documents: Content, order: Iterable[str]) -> str:
    """All parts' documents, by name, in one report; what is missing is named as missing."""
    order = tuple(order)
    known = {name: documents[name] for name in order if name in documents}
    latest = max(known.values(), key=lambda one: one.get("run", {}).get("date", ""), default={})
    machine = latest.get("machine", {})
    lines = [f"# {machine.get('device') or machine.get('processor', 'a machine')}", ""]
    lines += _machine(machine)
    if any(one.get("run", {}).get("quick") for one in known.values()):
        lines += ["", "**A quick run: these figures mean nothing.**"]
    lines += ["", *(_state(name, one) for name, one in known.items())]
    lines += [f"- {name}: not run" for name in order if name not in known]
    for name, one in known.items():
        if one.get(name):
            lines += ["", *SECTIONS[name](one[name], known)]
    return "\n".join(lines) + "\n"


def _state(name: str, one: Content) -> str:
    """When a part ran, on what, and what became of it."""
    run, machine = one.get("run", {}), one.get("machine", {})
    where = machine.get("device") or machine.get("processor", "no device")
    count = f", {run['threads']} threads" if run.get("threads") else ""
    seconds = f", {run['seconds']:.0f} s" if "seconds" in run else ""
    about = f"{run.get('date', '')}, {where}{count}, commit {machine.get('commit') or '?'}"
    return f"- {name}: {run.get('status')}{seconds} ({about})"


def _machine(machine: Content) -> list[str]:
    versions = ", ".join(f"{k} {v}" for k, v in machine.get("versions", {}).items())
    keys = ("compute_capability", "cuda_runtime", "driver_supports_cuda", "nvrtc", "cublaslt")
    cuda = [f"{key.replace('_', ' ')} {machine[key]}" for key in keys if key in machine]
    smi = [f"{k} {v}" for k, v in machine.get("nvidia_smi", {}).items()]
    host = f"{machine.get('processor', '')}, {machine.get('cores', '?')} cores"
    return [line + "  " for line in (versions, ", ".join(cuda), ", ".join(smi), host) if line]


def floors(rates: Content, one: Content) -> dict[str, float]:
    """Seconds of a step's floors, those that were measured.

    "products": its matrix products alone, in the same comparison; "cube": its FLOPs at the rate of
    the large product; "bytes": its least bytes at the rate of the copy.
    """
    found = {}
    alone = one["rows"].get(FLOOR, {})
    if alone.get("status") == "timed":
        found["products"] = main_clock(alone)["median"]
    cube = rates.get(f"cube/{one['precision']}", {})
    if "rate" in cube and one["flops"]:
        found["cube"] = one["flops"] / cube["rate"]
    if "rate" in rates.get("copy", {}):
        found["bytes"] = one["bytes"] / rates["copy"]["rate"]
    return found


def comparisons(title: str, text: str) -> Callable[[Content, Content], list[str]]:
    """The section of a part that compares implementations."""

    def section(part: Content, documents: Content) -> list[str]:
        every = list(part.get("comparisons", {}).values())
        rates = documents.get("floors", {}).get("floors", {})
        lines = [f"## {title}", "", text, "", COMPARED, "", *table(_overview(every))]
        for one in every:
            lines += ["", f"### {one['title']}, {one['precision']}", ""]
            lines += _comparison(one, floors(rates, one))
        return lines

    return section


COMPARED = """\
float32, Adam. Every implementation has a process of its own, the same weights and the same batches,
which lie where it wants them; they take turns, a block of steps each, and every figure is of the
blocks' times a step: by CUDA events where there is a GPU, by the clock with one wait at the end of
a block, and in processor time of all threads, waiting ones included. The largest difference is that
of the first losses (of outputs, relative to the largest; with dropout, of the losses' mean) from
those of float64. Memory in MiB is the most in use above the batches: while building, compiling and
doing the first steps, and in two steps after that; resident memory on a processor, the device's on
a GPU, where what a CUDA graph of PyTorch's uses counts in the first alone. How steps ran is what an
implementation itself counted. The floor is the step's matrix products alone; on a GPU others are
its FLOPs at the rate of a large product and its least bytes at the rate of a copy. Share of the
larger: the larger of the first and the last over the median; of the sum: their sum over it.

The first clock's median and minimum:"""


def _overview(every: list[Content]) -> list[list[str]]:
    """A row for every comparison, a column for each name; what a GPU ran as no graph says so."""
    names = list(dict.fromkeys(name for one in every for name in one["rows"]))
    rows = [["workload", "precision", *names]]
    for one in every:
        cells = []
        for name in names:
            row = one["rows"].get(name, one)
            if row["status"] != "timed":
                cells.append(row["status"])
                continue
            slower = row["how"] if name in GRAPHS and row["how"] not in (GRAPH, HOST, "") else ""
            clock = main_clock(row)
            text = f"{seconds_text(clock['median'])}, {seconds_text(clock['minimum'])}"
            cells.append(text + f", {slower}" * bool(slower))
        rows.append([one["title"], one["precision"], *cells])
    return rows


def _comparison(one: Content, least: dict[str, float]) -> list[str]:
    named = {
        "products": "its products alone",
        "cube": "its FLOPs at the large product's rate",
        "bytes": "its bytes at the copy's rate",
    }
    shown = [f"{named[key]} {seconds_text(seconds)}" for key, seconds in least.items()]
    lines = [
        f"{one['flops'] / 1e6:.4g} MFLOP in products, {one['bytes'] / 1e6:.4g} MB at least"
        + "".join(f"; {text}" for text in shown)
        + ("." if one["status"] == "done" else f". **{one['status']}**")
    ]
    rows = timed(one["rows"])
    clocks = [clock for clock in CLOCKS if any(clock in row for _, row in rows)]
    head = ["implementation", "how"]
    head += [text for clock in clocks for text in (f"{TIMES[clock]}: median", "minimum")]
    own = next((name for name in (TRAIN_STEP, PREDICTOR) if name in dict(rows)), "")
    head += ["blocks x steps", "median / floor", "minimum / floor", f"median / {own}"]
    head += ["share of the larger", "share of the sum"]
    cells = [[*head, "largest difference", "memory: first", "a step"]]
    both = [least[key] for key in ("products", "bytes") if key in least]
    floor, mine = (main_clock(dict(rows)[n]) if n in dict(rows) else {} for n in (FLOOR, own))
    for name, row in rows:
        first = main_clock(row)
        median = first["median"]
        line = [name, "" if row["how"] == HOST else row["how"]]
        line += [seconds_text(row[c][key]) for c in clocks for key in ("median", "minimum")]
        line += [f"{row['blocks']} x {row['steps_in_block']}"]
        line += [f"{first[k] / floor[k]:.2f}" if floor else "" for k in ("median", "minimum")]
        line += [f"{median / mine['median']:.2f}" if mine else ""]
        line += [f"{f(both) / median:.0%}" if len(both) == 2 else "" for f in (max, sum)]
        line += [f"{row['difference']:.0e}" if "difference" in row else ""]
        cells.append([*line, *(mib(row.get(key)) for key in ("first_bytes", "step_bytes"))])
    if rows:
        lines += ["", *table(cells)]
    rest = [(n, row) for n, row in one["rows"].items() if row["status"] != "timed"]
    if rest:
        lines += ["", *(f"{name}: {row['status']}, {row['reason']}.  " for name, row in rest)]
    notes = [f"{name}: {manner(row)}.  " for name, row in rows if row["why"]]
    return lines + (["", *notes] if notes else [])


def cold(part: Content, documents: Content) -> list[str]:
    """What it costs to begin."""
    both = ("median", "minimum")
    found = [["import", *both]]
    for name, row in part.get("imports", {}).items():
        found.append([name, *(seconds_text(row[k]) if k in row else row["reason"] for k in both)])
    installed = [["package", "itself, MB", "with what it requires, MB", "of which not NumPy's, MB"]]
    for name, row in part.get("sizes", {}).items():
        keys = ("own", "closure", "beyond_numpy")
        installed.append([name, *(f"{row[k] / 1e6:.1f}" for k in keys)])
    stages = part.get("stages", {})
    split = [["ldl's stages", *stages]]
    for stage in dict.fromkeys(stage for row in stages.values() for stage in row):
        every = [row.get(stage) for row in stages.values()]
        split.append([stage, *("" if s is None else seconds_text(s) for s in every)])
    begun = [["implementation"]]
    begun[0] += ["first step: median", "minimum", "compile caches empty"]
    begun[0] += ["first epoch: median", "minimum", "compile caches empty", "20 other batch sizes"]
    for name, row in part.get("starts", {}).items():
        if "reason" not in row:
            keys = [(k, m) for k in ("first_step", "epoch") for m in (*both, "fresh")]
            cells = [seconds_text(row[k][m]) for k, m in keys]
            new = row.get("new_sizes")
            begun.append([name, *cells, "" if new is None else seconds_text(new)])
    return [
        *("## From a cold process", "", "Import, in a process of its own each time:", ""),
        *table(found),
        *("", "Installed size, the files that the distributions list (no extras):", ""),
        *table(installed),
        "",
        "To the end of ldl's first step, autoencoder 784-256-64-256-784, batch 128, the least of "
        "each stage; without a cache, of which ldl has none:",
        "",
        *table(split),
        "",
        f"From starting Python to the end of the first step, and of the first epoch: the same net, "
        f"{part.get('data', '')}, batch 32. Then what steps of 20 other batch sizes, one after "
        "another, take longer than the same steps a second time:",
        "",
        *table(begun),
    ]


def kernels(part: Content, documents: Content) -> list[str]:
    """Kernels, layers and losses one by one."""
    backends = part.get("backends", [])
    head = [f"{b}: {k}" for b in backends for k in ("median", "minimum", "how")]
    rows = [["kernel, layer or loss", *head]]
    for name, by_backend in part.get("rows", {}).items():
        cells = []
        for row in (by_backend.get(backend, {}) for backend in backends):
            if "failed" in row:
                cells += [row["failed"], "", ""]
                continue
            cells += [seconds_text(row[k]) if k in row else "" for k in ("median", "minimum")]
            cells.append(row.get("how", "").replace(HOST, ""))
        rows.append([name, *cells])
    return [
        "## Kernels, and layers and losses forward and backward",
        "",
        "A call and the wait for the device after it; batch 128, 784 features where the kind of "
        "layer allows, float32; the updates on 434,000 parameters.",
        "",
        *table(rows),
    ]


SECTIONS: dict[str, Callable[[Content, Content], list[str]]] = {
    "check": gpu.check,
    "tests": gpu.tests,
    "steps": comparisons("Training steps", "Nets beside other libraries."),
    "predictions": comparisons("One row", "Predictions of one row beside other libraries."),
    "nets": comparisons("Nets of images and sequences", "Beside PyTorch in both its layouts."),
    "layers": comparisons("Layers of one's own", "Written with plain array code, and trained."),
    "cold": cold,
    "distributed": distributed.section,
    "headline": comparisons("Headline: training steps", "The two main nets, batches on the GPU."),
    "extras": comparisons("Extras: training steps of other nets", "Batches on the GPU."),
    "epochs": gpu.epochs,
    "floors": gpu.rates,
    "kernels": kernels,
}
