"""What a plan does, told to whoever asks: its calls, and which memory each reads and writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ldl.compiler.backend import Draw
from ldl.compiler.operations import Op, Ref, Value


class Place(NamedTuple):
    """A value: its shape, its memory's number; None for what the plan is given."""

    shape: tuple[int, ...]
    memory: int | None

    def __str__(self) -> str:
        where = "given" if self.memory is None else f"m{self.memory}"
        return f"{where} ({', '.join(map(str, self.shape))})"


class Line(NamedTuple):
    """A call: what it is, the operations of a loop, what it reads and writes."""

    what: str
    parts: tuple[str, ...]
    reads: tuple[Place, ...]
    writes: tuple[Place, ...]

    def __str__(self) -> str:
        reads, writes = (", ".join(map(str, places)) for places in (self.reads, self.writes))
        line = f"{self.what:9} {writes or '-'} <- {reads or '-'}"
        count = Counter(self.parts)
        parts = ", ".join(name if n == 1 else f"{n} {name}" for name, n in count.items())
        return f"{line}: {parts}" if parts else line


def account(ops: Sequence[Op], memory: Callable[[Value], int | None]) -> list[Line]:
    """A line for each operation of a plan."""

    def places(refs: Sequence[Any]) -> tuple[Place, ...]:
        values = dict.fromkeys(x.value for x in refs if isinstance(x, Ref))
        return tuple(Place(v.shape, memory(v)) for v in values)

    return [Line(_what(op), op.parts, places(op.inputs), places(op.outputs)) for op in ops]


def _what(op: Op) -> str:
    if isinstance(op.run, Draw):
        return "draw"
    return "product" if op.ufunc == "matmul" else op.ufunc or "call"


def told(lines: Sequence[Line], calls: int, nbytes: int) -> str:
    """The lines, numbered, under a heading."""
    places = [place for line in lines for place in (*line.reads, *line.writes)]
    pieces = {place.memory for place in places} - {None}
    fused = sum(len(line.parts) for line in lines)
    loops = sum(bool(line.parts) for line in lines)
    head = (
        f"{len(lines)} operations in {calls} call{'s' * (calls != 1)}; {loops} loops do {fused} "
        f"elementwise operations and sums; {len(pieces)} pieces of memory (m0, m1, ...), "
        f"{nbytes / 2**20:.2f} MiB"
    )
    return "\n".join([head, *(f"{i:4} {line}" for i, line in enumerate(lines, start=1))])
