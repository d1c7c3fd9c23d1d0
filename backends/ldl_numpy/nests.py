"""The text of a loop for the host: what goes round its statements, as `translate` reads it.

Jobs share the outermost axis, each with `scratch` of its own. Rows follow each other, each gone
through in its passes; where rows lie side by side, all are done at once, and what each is reduced
to is a vector in scratch. A reduction in a register takes `CHUNK` elements in the loop's own type
and in any order, and what these give together in float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ldl.compiler.loops import Loop
from ldl.compiler.operations import Value
from ldl.compiler.passes import Body, Part
from ldl.compiler.statements import Reduction

CHUNK = 4096

FOLDS = {"sum": "np.add({0}, {1})", "max": "np.maximum({0}, {1})", "min": "np.minimum({0}, {1})"}
WIDE = {"f4": "f8"}
"""The types in which sums of many are added."""

FIRST = {
    **{("sum", kind): f"{kind}(0)" for kind in ("f4", "f8", "i8")},
    **{("max", kind): f"{kind}(-np.inf)" for kind in ("f4", "f8")},
    **{("min", kind): f"{kind}(np.inf)" for kind in ("f4", "f8")},
    ("max", "i8"): "i8(LEAST)",
    ("min", "i8"): "i8(MOST)",
    ("max", "b1"): "b1(0)",
    ("min", "b1"): "b1(1)",
}
"""What a reduction begins with."""


class Scratch(NamedTuple):
    """Memory of each job for one reduction, or for a row that a later pass reads again."""

    name: str
    kind: str
    length: int


class Nests(Body):
    """A body, and the function `part` round it, which does a job."""

    def __init__(self, loop: Loop, stored: set[Value]) -> None:
        super().__init__(loop, stored)
        nest = self.nest
        self._aside = nest.lane is not None
        self._arrays = {x.name: x for x in (*self.inputs, *self.outputs)}
        self.shared = nest.outer[0] if nest.outer else 0
        """The axis that jobs share."""
        self.kept = [x for v, x in zip(self._stores, self.outputs, strict=True) if v not in stored]
        """What only a later pass reads: a row of it is enough."""
        self.outputs = [x for x in self.outputs if x not in self.kept]
        self.left = [x for x in self.reductions if self._leaves(x)]
        """Reductions of which every job leaves a share."""
        self.scratch = list(self._scratch())

    def _leaves(self, x: Reduction) -> bool:
        return x.where != "row" or (self._aside and not self.nest.outer)

    def _scratch(self) -> Iterator[Scratch]:
        nest = self.nest
        for x in self.reductions:
            if x.where == "total":
                yield Scratch(f"s{x.name}", self._wide(x), 1)
            elif x.where == "column":
                yield Scratch(f"s{x.name}", x.kind, nest.count(nest.inner))
            elif nest.lane is not None:
                yield Scratch(f"s{x.name}", x.kind, nest.sizes[nest.lane])
        for row in self.kept:
            yield Scratch(row.name, row.kind, nest.count(nest.inner))

    def _wide(self, x: Reduction) -> str:
        return WIDE.get(x.kind, x.kind) if x.op == "sum" else x.kind

    def _in_register(self, x: Reduction) -> bool:
        return x.where == "total" or (x.where == "row" and not self._aside)

    def fold(self, x: Reduction, a: str, b: str) -> str:
        """Both together."""
        if x.kind == "b1":
            return f"{a} | {b}" if x.op == "max" else f"{a} & {b}"
        return FOLDS[x.op].format(a, b)

    # ---- text -----------------------------------------------------------------------------------

    def _along(self, axes: Sequence[int]) -> str:
        """The number of an element along some axes."""
        at = "0"
        for axis in axes:
            at = f"i{axis}" if axis == axes[0] else f"({at}) * {self.size(axis)} + i{axis}"
        return at

    def _own(self, length: str, at: str) -> str:
        """An element of a job's own scratch."""
        return f"share * ({length}) + {at}"

    def _element(self, name: str) -> str:
        """An element of an array, or of what is kept of a row."""
        if any(x.name == name for x in self.kept):
            inner = self.nest.inner
            return f"{name}[{self._own(self.number(inner), self._along(inner))}]"
        return f"{name}[{self.place(self._arrays[name])}]"

    def _held(self, x: Reduction) -> str:
        """Where a reduction in scratch is put together."""
        nest = self.nest
        if nest.lane is not None:
            return f"s{x.name}[{self._own(self.size(nest.lane), f'i{nest.lane}')}]"
        return f"s{x.name}[{self._own(self.number(nest.inner), self._along(nest.inner))}]"

    def _part(self, part: Part) -> list[str]:
        """Loads, statements, reductions and stores, an element at a time."""
        lines = [f"{name} = {self._element(at)}" for name, at in part.loads] + part.lines
        for x in part.adds:
            if not self._in_register(x):
                held = self._held(x)
                lines.append(f"{held} = {self.fold(x, held, x.added)}")
            elif part is self.tail:
                lines.append(f"{x.name} = {self.fold(x, x.name, f'{self._wide(x)}({x.added})')}")
            else:
                lines.append(f"u{x.name} = {self.fold(x, f'u{x.name}', x.added)}")
        return lines + [f"{self._element(at)} = {name}" for at, name in part.stores]

    def _nest(self, axes: Sequence[int], lines: list[str], shared: bool = False) -> list[str]:
        """Lines for every element along some axes, or a job's share of the shared one."""
        for axis in reversed(axes):
            ends = "first, last" if shared and axis == self.shared else self.size(axis)
            lines = [f"for i{axis} in range({ends}):", *_within(lines)]
        return lines

    def _pass(self, axes: Sequence[int], part: Part, shared: bool = False) -> list[str]:
        """A pass over some axes, and what it reduces in registers."""
        lines = self._part(part)
        here = [x for x in part.adds if self._in_register(x)]
        if not here:
            return self._nest(axes, lines, shared)
        *rest, axis = axes
        start, end = ("first", "last") if shared and axis == self.shared else ("0", self.size(axis))
        chunk = [
            *(f"u{x.name} = {FIRST[x.op, x.kind]}" for x in here),
            f"e = q + {CHUNK} if {end} - q > {CHUNK} else {end}",
            f"for i{axis} in range(q, e):",
            *_within(lines),
            *(f"{x.name} = {self.fold(x, x.name, f'{self._wide(x)}(u{x.name})')}" for x in here),
        ]
        chunks = [f"for q in range({start}, {end}, {CHUNK}):", *_within(chunk)]
        return self._nest(rest, chunks, shared)

    def _begun(self, x: Reduction) -> str:
        return f"{x.name} = {FIRST[x.op, self._wide(x)]}"

    def _rows(self) -> list[str]:
        """A row: its passes, and what is known between them."""
        lines = []
        for head, part in zip(self.heads, self.passes, strict=True):
            lines += self._part(head)
            rows = [x for x in part.adds if x.where == "row"]
            lines += map(self._begun, rows)
            lines += self._pass(self.nest.inner, part) if part else []
            lines += [f"{x.name} = {x.kind}({x.name})" for x in rows if self._wide(x) != x.kind]
        return self._nest(self.nest.outer, lines + self._part(self.tail), shared=True)

    def _side_by_side(self) -> list[str]:
        """Rows that lie side by side, gone through once."""
        nest = self.nest
        assert nest.lane is not None
        head, part = self.heads[0], self.passes[0]
        one = Part(head.loads + part.loads, head.lines + part.lines, part.adds, part.stores)
        rows = [x for x in self.reductions if x.where == "row"]
        begin = [f"{self._held(x)} = {FIRST[x.op, x.kind]}" for x in rows]
        ends = {x.name: self._held(x) for x in rows}
        stores = [f"{self._element(at)} = {ends[name]}" for at, name in self.tail.stores]
        lane = [nest.lane]
        inner = self._pass([*nest.inner, *lane], one, shared=not nest.outer)
        before = self._nest(lane, begin)
        if not nest.outer:
            return [*before, *inner]
        return self._nest(nest.outer, [*before, *inner, *self._nest(lane, stores)], shared=True)

    def part(self) -> list[str]:
        """The lines of the function, without its head."""
        totals = [x for x in self.reductions if x.where == "total"]
        columns = [x for x in self.reductions if x.where == "column"]
        lines = [*self._part(self.once), *map(self._begun, totals)]
        length = self.number(self.nest.inner)
        for x in columns:
            begin = f"s{x.name}[{self._own(length, 'q')}] = {FIRST[x.op, x.kind]}"
            lines += [f"for q in range({length}):", f"    {begin}"]
        if self._aside:
            lines += self._side_by_side()
        elif self.nest.inner:
            lines += self._rows()
        else:
            lines += self._pass(self.nest.outer, self.passes[0], shared=True)
            lines += self._part(self.tail)
        return [*lines, *(f"s{x.name}[share] = {x.name}" for x in totals)]

    def put_together(self, x: Reduction) -> list[str]:
        """The lines that make of the shares of a reduction, s, what its output r holds."""
        place = self.place(self._arrays[self.output(x.view.value)])
        if x.where == "total":
            return [
                "v = s[0]",
                "for p in range(1, shares):",
                f"    v = {self.fold(x, 'v', 's[p]')}",
                f"r[{place}] = {x.kind}(v)",
            ]
        nest = self.nest
        axes = [nest.lane] if nest.lane is not None else nest.inner
        at = f"p * ({self.number(axes)}) + {self._along(axes)}"
        added = self.fold(x, f"r[{place}]", f"s[{at}]")
        return [
            *self._nest(axes, [f"r[{place}] = s[{self._along(axes)}]"]),
            "for p in range(1, shares):",
            *_within(self._nest(axes, [f"r[{place}] = {added}"])),
        ]


def _within(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]
