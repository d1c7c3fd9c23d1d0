"""What pytest runs: the tests marked `gpu`, and pytest-benchmark on kernels, layers and losses."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import Any

from benchmarks.formats import seconds_text
from benchmarks.process import ROOT, Save, Say, stream

OPTIONS = (
    *("-p", "no:cacheprovider", "--tb=short", "--no-header", "-o"),
    *("addopts=--import-mode=importlib", "-W", "default::DeprecationWarning"),
    *("-W", "default::PendingDeprecationWarning"),
    *("-W", "default::UserWarning:cupy._environment"),  # of how CuPy was installed
)
"""What warns that it will change may do so."""

LOST = 3
"""The exit code for: the device computes no longer in this process."""
TRIES = 8
"""Processes that may be used up."""


def gpu_command(quick: bool) -> list[str]:
    """Run the tests marked `gpu`, or a few others."""
    modules = [ROOT / "tests" / "test_numbers.py"]
    if not quick:
        every = sorted(ROOT.glob("tests/test_*.py"))
        modules = [file for file in every if "mark.gpu" in file.read_text("utf-8")]
    return [
        *(sys.executable, "-m", "pytest", *OPTIONS, "-m", "not gpu" if quick else "gpu"),
        *("-v", "-rfEs", "--durations=10", "--continue-on-collection-errors", *map(str, modules)),
    ]


_OUTCOME = re.compile(r"^(\S+::.+?|\S+\.py) (PASSED|FAILED|ERROR|SKIPPED|XFAIL)\b")


def gpu_tests(
    content: dict[str, Any], until: float, save: Save, say: Say, command: list[str]
) -> str:
    """Run tests; counts, and the names of those that failed or were skipped, as they come."""
    counts = dict.fromkeys(("passed", "failed", "error", "skipped"), 0)
    content |= {"counts": counts, "failures": [], "skipped": [], "summary": ""}
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
        elif line.startswith("SKIPPED ["):
            content["skipped"].append(line)
        elif re.search(r"\d+ (passed|failed|error|skipped|deselected)", line):
            content["summary"] = line.strip("= ")

    code = stream(command, until, take)
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
    backends: list[str],
    quick: bool,
    run: Callable[[list[str], float, Say], int | None] = stream,
) -> str:
    """Run pytest-benchmark on kernels, layers and losses: medians and minima, as they come.

    A process that dies is followed by another, which goes on after the call that ended it.
    """
    rows: dict[str, Any] = content.setdefault("rows", {})
    content["backends"] = backends
    seconds = "0.001" if quick else "0.12"
    with TemporaryDirectory() as folder:
        file = Path(folder, "done.json")
        command = [sys.executable, "-m", "pytest", *OPTIONS, "-q", "-s", f"--done={file}"]
        command += ["benchmarks/test_kernels.py", "--benchmark-disable-gc", "--benchmark-quiet"]
        command += [f"--benchmark-max-time={seconds}", "--benchmark-min-rounds=3"]
        command += [f"--backend={name}" for name in backends]

        def take(line: str) -> None:
            if line.startswith("row "):
                found = json.loads(line.removeprefix("row "))
                name, backend = found.pop("name"), found.pop("backend")
                rows.setdefault(name, {})[backend] = found
                if "median" in found:
                    say(f"  {name:24} {backend:6} {seconds_text(found['median'])}")
                save()
            elif re.match("E |FAILED|ERROR|!|INTERNALERROR", line):
                say(f"  {line}")

        code: int | None = None
        for _ in range(TRIES):
            file.write_text(json.dumps(rows))
            code = run(command, until, take)
            if code in (0, 1, None) or time() > until - 5:
                break
            say(f"  that process ended with {code}; another goes on after what ended it")
    save()
    return {0: "done", 1: "some failed", LOST: "device lost", None: "out of time"}.get(
        code, f"the process ended with {code}"
    )
