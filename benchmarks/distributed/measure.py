"""The part `distributed`: steps and sums over ranks of this machine, each pinned to a processor."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from time import time
from typing import Any

from benchmarks.distributed import model
from benchmarks.formats import seconds_text
from benchmarks.process import stream
from benchmarks.suite import Task

ROWS = {
    "autoencoder-1024": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024],
    "wide-512": [1, 8, 64, 512],
}
SIZES = [2**k for k in range(3, 25, 2)]
"""Of messages, 8 bytes to 8 MiB."""
PAIR = "autoencoder-1024"


def mpiexec() -> str | None:
    """The command: this Python's own, where a wheel has put one beside it, or the path's."""
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


def ranks(count: int, until: float, **args: Any) -> dict[str, Any]:
    """What rank 0 of so many has found; RuntimeError with what was said where it gives nothing."""
    lines: list[str] = []
    command = [
        str(mpiexec()),
        "-n",
        str(count),
        sys.executable,
        "-m",
        "benchmarks.distributed.ranks",
    ]
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    code = stream([*command, json.dumps(args)], until, lines.append, one)
    found = next((line for line in reversed(lines) if line.startswith("{")), None)
    if code != 0 or found is None:
        why = "out of time" if code is None else " / ".join(lines[-3:])
        raise RuntimeError(f"{count} ranks gave nothing: {why}")
    made: dict[str, Any] = json.loads(found)
    return made


def measure(task: Task) -> str | None:
    """All of it."""
    if mpiexec() is None:
        return "skipped: mpiexec is missing: pip install mpi4py mpich"
    quick, content = task.args.quick, task.content
    common = {"quick": quick, "net": PAIR, "batch": 8 if quick else 1024}
    common["sizes"] = [8, 1024, 65536] if quick else SIZES
    left = task.until - time()
    content["alone"] = ranks(
        1,
        task.until,
        nets={PAIR: [1, 4, 8]} if quick else ROWS,
        seconds=0.02 if quick else left * 0.2 / sum(map(len, ROWS.values())),
        quick=quick,
    )
    for name, net in content["alone"]["nets"].items():
        shown = seconds_text(net["steps"][-1]["median"])
        task.say(f"  {name}: {shown} on one processor, {net['bytes'] / 1e6:.3g} MB to sum")
    task.save()
    common["sizes"] = sorted(
        {*common["sizes"], *(net["bytes"] for net in content["alone"]["nets"].values())}
    )
    for count, part in ((2, 0.3), (4, 0.1)):
        seconds = 0.02 if quick else left * part / 2
        found = content[f"{count} ranks"] = ranks(
            count,
            task.until,
            **common,
            seconds=seconds / len(common["sizes"]),
            **{"together only": count > 2, "rounds seconds": 0.2 if quick else seconds},
        )
        said = (f"{name} {seconds_text(t['median'])}" for name, t in found["steps"].items())
        task.say(f"  {count} ranks: {', '.join(said)}, in sums {max(found['share']):.1%}")
        task.save()
    pair = content["2 ranks"]["messages"]
    gamma = content["alone"]["nets"][PAIR]["adding"]["median"]
    gamma /= content["alone"]["nets"][PAIR]["bytes"]
    network, error = model.fit([(2, one["bytes"], one["median"]) for one in pair], gamma)
    content["fit"] = {"latency": network.latency, "per_byte": network.per_byte}
    content["fit"] |= {"gamma": gamma, "error": error}
    return None
