"""How steps ran: as CUDA graphs, kernel by kernel, or by the layers' own code. Nothing is assumed:
a backend's capture counts its launches, and a recording says whether it is played."""

from __future__ import annotations

from typing import Any

GRAPH, KERNELS, LAYERS = "graph", "kernel by kernel", "layer by layer"
HOST = "on the host"
"""Where a processor's recorded steps are: played, and launched nowhere."""
EAGER, COMPILED = "eager", "compiled"
"""PyTorch's."""

How = tuple[str, str]
"""In which of these ways, and why not in a better one."""


class Watch:
    """How a backend's steps ran since it was asked last, of `step` or of whatever ran."""

    def __init__(self, backend: Any, step: Any = None) -> None:
        self.capture = getattr(backend, "capture", None)
        self.step = step
        self()

    def __call__(self) -> How:
        """What the capture counted since the last call."""
        before, self.counts = getattr(self, "counts", (0, 0)), self._counts()
        graphs, singles = (now - then for now, then in zip(self.counts, before, strict=True))
        recordings = list(self.step._recordings.values())[-1:] if self.step is not None else []
        if not all(recording.played for recording in recordings):
            return LAYERS, getattr(recordings[0], "why", "")
        if self.capture is None:
            return HOST, ""
        if graphs and not singles:
            return GRAPH, ""
        return KERNELS, self.capture.why or (f"{singles} pieces, {graphs} graphs" if graphs else "")

    def _counts(self) -> tuple[int, int]:
        return (self.capture.graphs, self.capture.singles) if self.capture is not None else (0, 0)


def manner(row: dict[str, Any]) -> str:
    """How the steps of a row of results ran, and why not in a better way."""
    return row.get("how", "") + (f" ({row['why']})" if row.get("why") else "")
