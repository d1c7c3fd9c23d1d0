"""Peak memory of a training step, each side in a process of its own."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import options, results, threads

DESCRIPTION = """\
Measure the peak memory of training steps, one fresh process for each side and workload.

A process imports the side's library, makes the batches, and notes its resident memory. The figures
are how far the peak of the resident memory lies above that: first over building the net and its
first steps, compilation included; then, the peak forgotten, over further steps. Both contain the
parameters, Adam's two slots and the gradients, so no side can be below 16 bytes a parameter."""

WORKLOADS = ("autoencoder-1024", "wide-512")
FIRST, LATER = 3, 5
"""Steps."""


def _status(field: str) -> float:
    """A field of /proc/self/status in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def _peak() -> float:
    """The peak of the resident memory, in MiB, since the process began or `_forget`."""
    try:
        return _status("VmHWM")
    except (OSError, KeyError):
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _forget() -> bool:
    """Start the peak anew from what is resident; False where the system has no such thing."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def measure(module: str, name: str, workload_name: str) -> dict[str, Any]:
    """In a fresh process: the two figures of a side."""
    warnings.simplefilter("ignore")
    from benchmarks.side import reason
    from benchmarks.workloads import by_name

    workload = by_name(workload_name)
    side = next(s for s in import_module(module).SIDES if s.name == name and not s.predicts)
    why = side.available()
    if why:
        return {"status": "skipped", "reason": why}
    for package in (*side.needs, *filter(find_spec, side.uses)):
        import_module(package)
    batches = workload.batches(2)
    weights = workload.weights()
    _forget()
    before = _peak()
    try:
        built = side.build(workload, weights, batches)
        for _ in range(FIRST):
            float(built.step())
        first = _peak() - before
        reset = _forget()
        for _ in range(LATER):
            float(built.step())
    except Exception as error:
        return {"status": "skipped", "reason": reason(error)}
    later = _peak() - before
    return {"status": "measured", "first_mib": first, "later_mib": later, "reset": reset}


def main(argv: list[str] | None = None) -> int:
    """Measure every side of two workloads."""
    if (argv or sys.argv[1:])[:1] == ["--one"]:
        print(json.dumps(measure(*(argv or sys.argv[1:])[1:])))
        return 0
    args = options.parser("benchmarks.memory", DESCRIPTION).parse_args(argv)
    threads.pin(args.threads)
    from benchmarks.rivals import sides
    from benchmarks.workloads import by_name

    done = []
    for name in WORKLOADS[: 1 if args.quick else None]:
        rows = []
        results.say(f"\n{by_name(name).title}: MiB, first steps and later steps")
        for side in sides():
            if side.predicts or not side.same_work:
                continue
            row = {"side": side.name, **_in_a_process(side, name)}
            rows.append(row)
            shown = row.get("reason") or f"{row['first_mib']:8.0f} {row['later_mib']:8.0f}"
            results.say(f"  {side.name:30} {shown}")
        done.append({"name": name, "title": by_name(name).title, "sides": rows})
        content = {"quick": args.quick, "workloads": done}
        results.add(args.out, "memory", content, args.threads)
    return 0


def _in_a_process(side: Any, workload: str) -> dict[str, Any]:
    module = type(side).__module__
    command = [sys.executable, "-m", "benchmarks.memory", "--one", module, side.name, workload]
    environment = {**os.environ, **side.environment}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        lines = ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"]
        return {"status": "skipped", "reason": lines[-1]}
    return json.loads(ran.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
