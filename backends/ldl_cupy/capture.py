"""Captured graphs: a step's launches, collected, then made together from the third time on.

    with capture:
        recording(x, y)         # a call of a site
        optimizer.step()        # another one

A *site* launches work that is the same every time but for a few numbers (learning rates, the keys
of random draws), which its kernels read from device memory. While a capture is open, calls of sites
only note their numbers. When it closes, the same sites as before, in the same order, are one graph
launch after one copy of all their numbers; other sites are launched one by one, which is also how
the first time goes (it compiles, and asks cuBLASLt for algorithms), and the second is captured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import local
from types import FrameType
from typing import Any, Protocol
from warnings import warn

import numpy as np

from ldl.nn.differentiable import DeviceError
from ldl.precision import get_matmul_precision

Numbers = np.ndarray[Any, np.dtype[Any]]
GRAPHS = 32
"""Graphs that a site keeps; the oldest goes first."""
SLOT = 16
"""Bytes: numbers of a site begin at a multiple of these."""


Known = dict[Any, Any]
"""Of calls that were made before: their sites, a graph, or why there is none, and their sites."""


class Site(Protocol):
    """What can be launched again and again, on one GPU.

    `known` is of the calls of which it is the first: graphs end with the recording that they play.
    """

    known: Known
    gpu: int

    def launch(self, numbers: Any) -> None:
        """Launch it on the current stream; its numbers are in this array of the device."""


class Stream(Protocol):
    """What a capture needs of a device."""

    def number(self) -> int:
        """The current GPU's number."""

    def turn(self) -> None:
        """Let the current stream wait for what was last done on another."""

    def send(self, staged: Numbers, to: Any) -> None:
        """Copy the host's bytes to the device's, in the order of the current stream."""

    def empty(self, nbytes: int) -> Any:
        """Bytes of the device."""

    def capture(self, work: Any) -> Any:
        """A graph of what `work()` launches; nothing is done yet.

        Its `launch(*calls)` makes calls after it, as one with it where interrupts are concerned.
        """


class Capture(local):
    """The launches of one thread.

    It is open as long as the frame that opened it has not left the block: an interrupt, wherever it
    comes, leaves no capture open that would note calls and never launch them.
    """

    def __init__(self, device: Stream) -> None:
        self._device = device
        self._owner: FrameType | None = None
        self._depth = 0
        """Of blocks of the owner's."""
        self._calls: list[tuple[Site, Numbers]] = []
        self._said = False
        self.graphs = 0
        """Graphs that were launched so far."""
        self.singles = 0
        """Sites that were launched one by one so far."""
        self.why = ""
        """Why the latest of these were not captured; nothing before that was tried."""

    def __enter__(self) -> Capture:
        frame = sys._getframe(1)
        if not self._is_open():
            self._device.turn()
            self._calls, self._depth, self._owner = [], 0, frame
        self._depth += frame is self._owner
        return self

    def __exit__(self, kind: Any, *error: Any) -> None:
        if sys._getframe(1) is not self._owner:
            return
        self._depth -= 1
        if self._depth:
            return
        calls, self._calls, self._owner = self._calls, [], None
        if kind is None and calls:
            self._play(calls)

    def _is_open(self) -> bool:
        frame = sys._getframe(1) if self._owner is not None else None
        while frame is not None and frame is not self._owner:
            frame = frame.f_back
        return frame is not None

    def ready(self, site: Site) -> None:
        """Let the current stream wait until it may write what belongs to a site.

        DeviceError for a site of another GPU than the current one.
        """
        self._check(site)
        self._device.turn()

    def call(self, site: Site, numbers: Numbers) -> None:
        """Launch a site with these numbers: now, or when the capture closes."""
        if self._is_open():
            self._check(site)
            self._calls.append((site, numbers))
        else:
            self.ready(site)
            self._launch(site, numbers)

    def _check(self, site: Site) -> None:
        number = self._device.number()
        if site.gpu != number:
            raise DeviceError(
                f"what belongs to GPU {site.gpu} was called on GPU {number}: call it inside "
                f"`with cupy.cuda.Device({site.gpu}):`"
            )

    def _launch(self, site: Site, numbers: Numbers) -> None:
        memory = self._device.empty(numbers.nbytes)
        self._device.send(numbers.view(np.uint8), memory)
        self.singles += 1
        site.launch(memory.view(numbers.dtype))

    def _play(self, calls: list[tuple[Site, Numbers]]) -> None:
        self._device.turn()
        sites = [site for site, _ in calls]
        known = sites[0].known
        key = get_matmul_precision(), *[(id(site), x.nbytes) for site, x in calls]
        found = known.get(key)
        if found == sites:
            found = known[key] = self._captured(calls)
        if isinstance(found, Graph):
            found.put(self._device, [x for _, x in calls])
            found.launch((setattr, self, "graphs", self.graphs + 1))
            return
        self.why = found[0] if isinstance(found, tuple) else ""
        for site, numbers in calls:
            self._launch(site, numbers)
        if found is None:
            known[key] = sites
            if len(known) > GRAPHS:
                del known[next(iter(known))]

    def _captured(self, calls: list[tuple[Site, Numbers]]) -> Graph | tuple[str, list[Site]]:
        """A graph of the calls; else why they cannot be captured, which is said once."""
        try:
            return Graph(self._device, calls)
        except Exception as error:
            why = str(error).partition("\n")[0] or type(error).__name__
            if not self._said:
                self._said = True
                warn(f"steps are launched kernel by kernel, which is slower: {why}", stacklevel=6)
            return why, [site for site, _ in calls]


class Graph:
    """Calls that were captured, with the memory of their numbers. It keeps their sites alive."""

    def __init__(self, device: Stream, calls: list[tuple[Site, Numbers]]) -> None:
        self._sites = [site for site, _ in calls]
        self._spans: list[slice] = []
        end = 0
        for _, numbers in calls:
            self._spans.append(slice(end, end + numbers.nbytes))
            end += -(-numbers.nbytes // SLOT) * SLOT
        self._staged = np.zeros(max(end, SLOT), np.uint8)
        self._memory = device.empty(self._staged.nbytes)
        views = [
            self._memory[span].view(numbers.dtype)
            for span, (_, numbers) in zip(self._spans, calls, strict=True)
        ]

        def work() -> None:
            for site, view in zip(self._sites, views, strict=True):
                site.launch(view)

        self._graph = device.capture(work)
        self.launch: Callable[..., None] = self._graph.launch

    @property
    def bytes(self) -> int:
        """Of the device: its numbers, and what it takes beside the memory of its sites."""
        return int(self._memory.nbytes) + int(getattr(self._graph, "bytes", 0))

    def put(self, device: Stream, numbers: list[Numbers]) -> None:
        """Send the numbers for the next launch."""
        for span, x in zip(self._spans, numbers, strict=True):
            self._staged[span] = x.view(np.uint8)
        device.send(self._staged, self._memory)
