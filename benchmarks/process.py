"""Other processes: commands that are watched, and workers that answer questions within limits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic, time
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).parents[1]

EMPTY: Mapping[str, str] = MappingProxyType({})

Say = Callable[[str], None]
Save = Callable[[], None]


def environment() -> dict[str, str]:
    """This process's, with ldl, its backends and its tests on the path.

    NumPy has all processors unless it was given some, JAX leaves the device's memory alone, PyTorch
    compiles in its own process, where it can be stopped, pytest-benchmark times although tests may
    share the processors, and nothing is written into the sources.
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
        **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_XDIST")},
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _start(command: list[str], more: Mapping[str, str], **pipes: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment() | {**more},
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,
        **pipes,
    )


def _end(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _reader(lines: Any, take: Callable[[str], Any]) -> threading.Thread:
    def read() -> None:
        with suppress(ValueError):  # it was closed
            for line in lines:
                take(line.rstrip("\n"))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


def stream(
    command: list[str], until: float, say: Say, more: Mapping[str, str] = EMPTY
) -> int | None:
    """Run a command and say its lines as they come; its exit code, None where time was up.

    It and what it started are ended when the time is up, or when this process is interrupted.
    """
    process = _start(command, more, stderr=subprocess.STDOUT)
    reader = _reader(process.stdout, say)
    try:
        return process.wait(max(0.0, until - time()))
    except subprocess.TimeoutExpired:
        return None
    finally:
        _end(process)
        reader.join(5)
        process.stdout.close()  # type: ignore[union-attr]


class NoAnswerError(Exception):
    """The worker gave none: its status, "skipped", "failed" or "too slow", and the reason."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


class Process:
    """A worker on a device, "cpu" or "cuda", that `ask` calls functions in.

    It has the variables `more`, and imports packages before it is asked.
    """

    def __init__(
        self, kind: str, say: Say, more: Mapping[str, str] = EMPTY, packages: tuple[str, ...] = ()
    ) -> None:
        self._said: deque[str] = deque(maxlen=1)
        command = [sys.executable, "-m", "benchmarks.worker", kind, *packages]
        pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process = _start(command, more, **pipes)
        self._answers: SimpleQueue[str | None] = SimpleQueue()

        def told(line: str) -> None:
            self._said.append(line)
            say(f"    {line}")

        self._readers = [
            _reader(self._process.stdout, self._answers.put),
            _reader(self._process.stderr, told),
        ]
        self.alive = True

    def ask(
        self, limit: float, where: str, *arguments: Any, progress: Callable[[Any], Any] = str
    ) -> Any:
        """What "module:function" gives there; NoAnswerError if nothing within `limit` seconds.

        The process is ended when it is too slow, and when its device computes no longer: `alive`
        says whether it can be asked again.
        """
        until = monotonic() + limit
        try:
            print(json.dumps([where, arguments]), file=self._process.stdin, flush=True)
        except OSError:
            raise self._ended() from None
        while True:
            found = self._next(limit, until)
            if "progress" in found:
                progress(found["progress"])
            elif "value" in found:
                return found["value"]
            else:
                if not found["alive"]:
                    self.close()
                raise NoAnswerError(found["status"], found["error"])

    def _next(self, limit: float, until: float) -> dict[str, Any]:
        while True:
            try:
                line = self._answers.get(timeout=min(0.2, max(0.0, until - monotonic())))
            except Empty:
                if monotonic() >= until:
                    self.close()
                    raise NoAnswerError("too slow", f"no answer in {limit:.0f} s") from None
                if self._process.poll() is None or self._readers[0].is_alive():
                    continue
                if self._answers.empty():
                    raise self._ended() from None
            else:
                found: dict[str, Any] = json.loads(str(line))
                return found

    def _ended(self) -> NoAnswerError:
        code = self._process.wait()
        self.close()
        last = "".join(f": {line[:200]}" for line in self._said)
        return NoAnswerError("failed", f"the process ended with {code}{last}")

    def close(self) -> None:
        """End it."""
        self.alive = False
        _end(self._process)
        for reader in self._readers:
            reader.join(5)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
