"""What the benchmarks ask of a device: to wait, to tell the time, to count memory, to capture."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks.how import GRAPH, HOST, KERNELS

Call = Callable[[], Any]


def nothing(*ignored: Any) -> None:
    """Do nothing."""


class Meter:
    """Bytes in use, and the most since `forget`, above what was in use when it was made."""

    live = 0
    most = 0

    def add(self, size: int) -> None:
        """So many bytes more, or fewer."""
        self.live += size
        self.most = max(self.most, self.live)

    def peak(self) -> int:
        """The most since `forget`."""
        return self.most

    def forget(self) -> None:
        """Count the most anew from what is in use."""
        self.most = self.live


class ResidentMeter(Meter):
    """The peak of this process's resident memory above what was resident when it was made."""

    def __init__(self) -> None:
        self.forget()
        self.before = self._peak()

    def peak(self) -> int:
        """The most since `forget`, or since the process began where the system cannot forget."""
        return self._peak() - self.before

    def forget(self) -> None:
        """Start the peak anew from what is resident."""
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def _peak(self) -> int:
        try:
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(x.split()[1]) << 10 for x in lines if x.startswith("VmHWM:"))
        except (OSError, StopIteration):
            unit = 1 if sys.platform == "darwin" else 1 << 10
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Device:
    """The base: the processor, which also stands in for a GPU when the workings are tried."""

    backend: Any = "numpy"
    torch = "cpu"
    captured = single = HOST
    """How what was captured runs, and what is called by itself."""
    precision = "float32"
    """Of the matrix products."""
    entered: Any = None
    """What `benchmarks.worker` has prepared on it."""

    def alive(self) -> bool:
        """Whether it still computes. After a faulty kernel a CUDA device does not."""
        return True

    def wait(self) -> None:
        """Until all that was asked of it is done."""

    def mark(self, library: str) -> Any:
        """An event on the library's current stream; None where there are no such things."""

    def between(self, library: str, start: Any, end: Any) -> float:
        """Seconds from one event to another, both over."""
        raise NotImplementedError

    @contextmanager
    def metered(self, library: str) -> Iterator[Meter]:
        """A meter of the memory that the library takes inside the block."""
        yield ResidentMeter()

    def capture(self, function: Call) -> Call:
        """A call that does again what `function` asks of the device, in one launch."""
        return function

    def tidy(self) -> None:
        """Give back what the libraries hold for later."""

    def block(
        self, library: str, call: Call, count: int, wait: Callable[[Any], Any] = nothing
    ) -> dict[str, float]:
        """Seconds of so many calls: "events" on the device, "wall" and "cpu" until it is done.

        The second is the clock's, the third the processor time of all threads of this process.
        `wait` is given what the last call gave.
        """
        self.wait()
        value, cpu, start = None, process_time(), perf_counter()
        first = self.mark(library)
        for _ in range(count):
            value = call()
        last = self.mark(library)
        wait(value)
        self.wait()
        found = {"wall": perf_counter() - start, "cpu": process_time() - cpu}
        if first is None:
            return found
        return {"events": self.between(library, first, last)} | found


class _TorchMeter(Meter):
    def __init__(self, torch: Any) -> None:
        self.cuda = torch.cuda
        self.before: int = self.cuda.memory_allocated()
        self.forget()

    def peak(self) -> int:
        return int(self.cuda.max_memory_allocated()) - self.before

    def forget(self) -> None:
        self.cuda.reset_peak_memory_stats()


class Cuda(Device):
    """The current CUDA device, under CuPy and under PyTorch, which share its primary context."""

    backend = "cupy"
    torch = "cuda"
    captured, single = GRAPH, KERNELS

    def __init__(self) -> None:
        import cupy

        self.cupy = cupy

    def alive(self) -> bool:
        """Whether a small sum still comes out right."""
        try:
            self.wait()
            return float(self.cupy.ones(8, "float32").sum()) == 8
        except Exception:
            return False

    def wait(self) -> None:
        """Until every stream of the device is done."""
        self.cupy.cuda.runtime.deviceSynchronize()

    def mark(self, library: str) -> Any:
        """A CUDA event on the library's current stream."""
        if library == "torch":
            torch: Any = import_module("torch")
            event = torch.cuda.Event(enable_timing=True)
        else:
            event = self.cupy.cuda.Event()
        event.record()
        return event

    def between(self, library: str, start: Any, end: Any) -> float:
        """Seconds from one event to another."""
        if library == "torch":
            return float(start.elapsed_time(end)) / 1e3
        return float(self.cupy.cuda.get_elapsed_time(start, end)) / 1e3

    @contextmanager
    def metered(self, library: str) -> Iterator[Meter]:
        """CuPy's by a hook on all of its pools, PyTorch's by its own statistics."""
        if library == "torch":
            yield _TorchMeter(import_module("torch"))
            return
        meter = Meter()

        class Hook(self.cupy.cuda.MemoryHook):  # type: ignore[name-defined, misc]
            name = "benchmarks"

            def malloc_postprocess(self, **given: Any) -> None:
                meter.add(given["mem_size"])

            def free_postprocess(self, **given: Any) -> None:
                meter.add(-given["mem_size"])

        with Hook():
            yield meter

    def capture(self, function: Call) -> Call:
        """A CUDA graph of what `function` puts on the current stream; it is called once before.

        The graph works in the memory of the arrays that `function` holds, so it keeps them.
        """
        stream = self.cupy.cuda.Stream(non_blocking=True)
        self.wait()
        with stream:
            function()
            stream.synchronize()
            stream.begin_capture()
            try:
                function()
            except BaseException:
                with suppress(Exception):
                    stream.end_capture()
                raise
            graph = stream.end_capture()

        def replay(kept: Any = (stream, function)) -> None:
            graph.launch()

        return replay

    def tidy(self) -> None:
        """Empty the pools of both libraries."""
        self.cupy.get_default_memory_pool().free_all_blocks()
        if "torch" in sys.modules:
            sys.modules["torch"].cuda.empty_cache()


def named(kind: str) -> Device:
    """The device of that kind, "cpu" or "cuda"."""
    return Cuda() if kind == "cuda" else Device()
