"""The sections that are pytest's: the tests marked `gpu`, and the benchmarks of kernels."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import time
from typing import Any

ROOT = Path(__file__).parents[2]
KINDS = ("test_kernel", "test_layer", "test_loss")
"""The benchmarks of kernels, run one after another, so that each kind is saved when it is done."""

Say = Callable[[str], None]
Save = Callable[[], None]


def environment() -> dict[str, str]:
    """This process's, with ldl and its backends on the path, and all processors for NumPy."""
    path = [str(ROOT), str(ROOT / "backends"), os.environ.get("PYTHONPATH", "")]
    return {
        "OPENBLAS_NUM_THREADS": str(os.cpu_count() or 1),
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONUNBUFFERED": "1",
    }


def stream(command: list[str], until: float, say: Say) -> int | None:
    """Run a command and say its lines as they come; its exit code, None where time was up.

    It and what it started are ended when the time is up, or when this process is interrupted.
    """
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,
    )
    assert process.stdout is not None
    lines = process.stdout

    def tell() -> None:
        for line in lines:
            say(line.rstrip("\n"))

    reader = threading.Thread(target=tell, daemon=True)
    reader.start()
    try:
        return process.wait(max(0.0, until - time()))
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join(5)
        lines.close()


def _pytest(*arguments: str) -> list[str]:
    options = ["-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    return [sys.executable, "-m", "pytest", *options, *arguments]


TESTS = _pytest(
    *("tests", "-m", "gpu", "-v", "-rfE", "--tb=short", "--no-header"),
    *("--continue-on-collection-errors", "--durations=10"),
)

_OUTCOME = re.compile(r"^(\S+::.+?|\S+\.py) (PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b")


def gpu_tests(
    content: dict[str, Any], until: float, save: Save, say: Say, command: list[str] | None = None
) -> str:
    """Run the tests marked `gpu`; counts and the names of those that failed, as they come."""
    counts = dict.fromkeys(("passed", "failed", "error", "skipped"), 0)
    content |= {"counts": counts, "failures": [], "summary": ""}
    saved = time()

    def take(line: str) -> None:
        nonlocal saved
        say(line)
        found = _OUTCOME.match(line)
        if found:
            name, outcome = found.group(1), found.group(2).lower()
            counts[outcome] = counts.get(outcome, 0) + 1
            if outcome in ("failed", "error"):
                content["failures"].append(name)
            if outcome in ("failed", "error") or time() > saved + 2:
                saved = time()
                save()
        elif line.startswith("ERROR ") and "::" not in line:
            content["failures"].append(line)
        elif re.search(r"\d+ (passed|failed|error|skipped|deselected)", line):
            content["summary"] = line.strip("= ")

    code = stream(command or TESTS, until, take)
    content["exit_code"] = code
    if code is None:
        return "out of time"
    if code == 0 and not counts["passed"]:
        return "nothing ran"
    return "done" if code == 0 else "failed"


def kernels(
    content: dict[str, Any],
    until: float,
    save: Save,
    say: Say,
    backend: str = "cupy",
    kinds: tuple[str, ...] = KINDS,
    seconds: float = 0.1,
) -> str:
    """Run `benchmarks/test_kernels.py`, each kind of it by itself, and keep its statistics."""
    rows: dict[str, Any] = content.setdefault("rows", {})
    content["backend"], content["failed"] = backend, []
    for kind in kinds:
        if time() > until:
            content["failed"].append(f"{kind}: out of time")
            continue
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder, "kernels.json")
            command = _pytest(
                *("-q", f"benchmarks/test_kernels.py::{kind}", f"--backend={backend}"),
                *(f"--benchmark-json={raw}", "--benchmark-quiet", "--benchmark-disable-gc"),
                *(f"--benchmark-max-time={seconds}", "--benchmark-min-rounds=5"),
                *("--benchmark-columns=median,min,rounds", "--tb=line", "--no-header"),
            )
            code = stream(command, until, say)
            if code != 0:
                why = "out of time" if code is None else f"pytest's exit code was {code}"
                content["failed"].append(f"{kind}: {why}")
            if raw.exists() and raw.stat().st_size:
                for one in json.loads(raw.read_text())["benchmarks"]:
                    keys = ("median", "min", "rounds", "iterations", "stddev")
                    rows[one["extra_info"]["name"]] = {
                        "kind": kind,
                        **{key: one["stats"][key] for key in keys},
                    }
        save()
    return "failed" if content["failed"] else "done"
