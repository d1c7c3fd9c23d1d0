"""Other processes: the tests marked `gpu`, and what all processes find in their environment."""

from __future__ import annotations

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

Say = Callable[[str], None]
Save = Callable[[], None]


def environment() -> dict[str, str]:
    """This process's, with ldl, its backends and its tests on the path.

    NumPy has all processors, JAX leaves the device's memory alone, PyTorch compiles in its own
    process, where it can be stopped, and nothing is written into the source tree.
    """
    path = [
        *(str(ROOT / name) for name in (".", "backends", "tests")),
        os.environ.get("PYTHONPATH"),
    ]
    return {
        "OPENBLAS_NUM_THREADS": str(os.cpu_count() or 1),
        "JAX_PLATFORMS": "cpu",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "HYPOTHESIS_STORAGE_DIRECTORY": str(Path(tempfile.gettempdir(), "ldl-hypothesis")),
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
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


def pytest_command(rehearse: bool) -> list[str]:
    """Run the tests marked `gpu`, or a few others; what warns that it will change may do so."""
    modules = [ROOT / "tests" / "test_numbers.py"]
    if not rehearse:
        every = sorted(ROOT.glob("tests/test_*.py"))
        modules = [file for file in every if "mark.gpu" in file.read_text("utf-8")]
    return [
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
        *("-o", "addopts=--import-mode=importlib", "-m", "not gpu" if rehearse else "gpu"),
        *("-v", "-rfEs", "--tb=short", "--no-header", "--durations=10"),
        *("-W", "default::DeprecationWarning", "-W", "default::PendingDeprecationWarning"),
        *("-W", "default::UserWarning:cupy._environment"),  # of how CuPy was installed
        *("--continue-on-collection-errors", *map(str, modules)),
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
