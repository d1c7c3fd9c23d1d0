"""The text of a loop as a CUDA kernel: what goes round its statements.

A loop without rows strides over its elements, 16 bytes of them together where shapes and strides
allow. Of one with rows, some threads of a warp or a whole block do each; rows that lie side by side
are done by columns of threads, and where they are gone through once, by several blocks each.
Numbers that blocks leave are put together by the last that finishes, in an order that depends on
the shape alone.
"""

from __future__ import annotations

import numpy as np

from ldl.compiler.loops import Loop
from ldl.compiler.operations import Value
from ldl.compiler.passes import Argument, Body, Part
from ldl.compiler.statements import Reduction

TYPES = {"f4": "float", "f8": "double", "i8": "Size", "b1": "bool", "u2": "unsigned short"}
FOLDS = {"sum": "Sum", "max": "Max", "min": "Min"}


class Nests(Body):
    """A body, and the kernel round it: `NAME` in its text stands for the kernel's name."""

    def __init__(self, loop: Loop, stored: set[Value]) -> None:
        super().__init__(loop, stored)
        self._arrays = {x.name: x for x in (*self.inputs, *self.outputs)}
        self._along = bool(self.nest.inner) and self.nest.lane is None
        self._aside = self.nest.lane is not None
        self._once = not any(self.passes[1:])
        """Whether a row is gone through once."""
        self.left = [x for x in self.reductions if self._leaves(x)]
        """Reductions of which blocks leave partial results."""
        self.width = self._width()

    def _leaves(self, x: Reduction) -> bool:
        return x.where != "row" or (self._aside and self._once)

    def _width(self) -> int:
        """Elements that are read and written together."""
        nest = self.nest
        if nest.inner or not nest.sizes:
            return 1
        sizes = {x.name: np.dtype(x.kind).itemsize for x in self._arrays.values()}
        wide = 16 // max(4, *sizes.values())
        for x in self._arrays.values():
            *others, last = x.strides
            apart = any(stride % wide for stride in others)
            if last and (last != 1 or apart or x.offset % (wide * sizes[x.name])):
                return 1
        return wide if nest.sizes[-1] % wide == 0 else 1

    def _at(self, x: Argument) -> str:
        """Where an element of an array lies."""
        nest = self.nest
        if x.strides == nest.straight and nest.outer and not nest.inner:
            return f"{x.name} + at"
        return f"{x.name} + {self.place(x)}"

    def _indices(self, q: str, axes: range) -> list[str]:
        """Statements that find the indices along some axes of element number q."""
        lines = []
        for axis in reversed(axes[1:]):
            lines.append(f"const Size q{axis} = quotient({q}, {self.size(axis)});")
            lines.append(f"const Size i{axis} = {q} - q{axis} * n{axis};")
            q = f"q{axis}"
        return [*lines, *(f"const Size i{axis} = {q};" for axis in axes[:1])]

    def _part(self, part: Part) -> list[str]:
        """Loads, statements, additions and stores, an element at a time."""
        arrays = self._arrays
        return [
            *(f"const auto {name} = *({self._at(arrays[at])});" for name, at in part.loads),
            *part.lines,
            *map(_add, part.adds),
            *(f"*({self._at(arrays[at])}) = {name};" for at, name in part.stores),
        ]

    def _text(self) -> str:
        lines = self._part(self.once)
        lines += [f"{_begun(x)};" for x in self.reductions if x.where == "total"]
        if self._aside:
            lines += self._side_by_side()
        elif self._along:
            lines += self._rows()
        else:
            lines += self._flat()
        lines += self._last()
        taken = [f"Size {name}" for name in self.taken]
        taken += [f"const {TYPES[kind]} {name}" for (kind, _), name in self.constants.items()]
        taken += [f"In<{TYPES[x.kind]}> {x.name}" for x in self.inputs]
        taken += [f"Out<{TYPES[x.kind]}> {x.name}" for x in self.outputs]
        taken += ["unsigned* tickets"] * bool(self.left)
        taken += [f"volatile {TYPES[x.kind]}* p{x.name}" for x in self.left]
        head = f'extern "C" __global__ void BOUNDED NAME({", ".join(taken)}) {{'
        place = "const int place = threadIdx.y * blockDim.x + threadIdx.x;"
        return "\n".join([head, *_within([place, *lines]), "}"]) + "\n"

    def _flat(self) -> list[str]:
        w, (part,), arrays = self.width, self.passes, self._arrays
        elements = [f"const Size at = q * {w};"]
        if any(x.strides != self.nest.straight for x in arrays.values()):
            elements += self._indices("at", self.nest.outer)
        inside = []
        for name, at in part.loads:
            if w > 1 and not arrays[at].strides[-1]:
                elements.append(f"const auto {name} = *({self._at(arrays[at])});")
            else:
                elements.append(f"const auto v{name} = load<{w}>({self._at(arrays[at])});")
                inside.append(f"const auto {name} = v{name}.of[k];")
        elements += [f"Pack<{TYPES[arrays[at].kind]}, {w}> to_{at};" for at, _ in part.stores]
        inside += [*part.lines, *map(_add, part.adds)]
        inside += [f"to_{at}.of[k] = {name};" for at, name in part.stores]
        elements += ["#pragma unroll", f"for (int k = 0; k < {w}; ++k) {{", *_within(inside), "}"]
        elements += [f"store<{w}>({self._at(arrays[at])}, to_{at});" for at, _ in part.stores]
        tail = self._part(self.tail)
        return [
            f"const Size n = {self.number(self.nest.outer)} / {w};",
            "for (Size q = thread_index(); q < n; q += thread_count()) {",
            *_within(elements),
            "}",
            *(["if (thread_index() == 0) {", *_within(tail), "}"] if tail else []),
        ]

    def _row(self, first: str, step: str, fold: str, between: list[str], writes: str) -> list[str]:
        """What is done to a row: its passes, and its tail by the thread that writes."""
        lines = []
        for stage, (head, part) in enumerate(zip(self.heads, self.passes, strict=True)):
            lines += self._part(head)
            if not part:
                continue
            results = [x for x in self.reductions if x.where == "row" and x.stage == stage]
            elements = [*self._indices("q", self.nest.inner), *self._part(part)]
            lines += [
                *(f"{_begun(x)};" for x in results),
                f"for (Size q = {first}; q < length; q += {step}) {{",
                *_within(elements),
                "}",
                *(f"{x.name} = fold<{FOLDS[x.op]}>({x.name}, {fold});" for x in results),
                *(between if stage == 0 else []),
            ]
        tail = self._part(self.tail)
        if tail:
            lines += [f"meet({fold});", f"if ({writes}) {{", *_within(tail), "}"]
        return lines

    def _rows(self) -> list[str]:
        nest = self.nest
        columns = [x for x in self.left if x.where == "column"]
        row = self._row("threadIdx.x", "blockDim.x", "blockDim.x", [], "threadIdx.x == 0")
        part = "blockIdx.x * blockDim.y + threadIdx.y"
        lines = [
            f"const Size rows = {self.number(nest.outer)}, length = {self.number(nest.inner)};",
            *(f"p{x.name} += ({part}) * length;" for x in columns),
            *(
                "for (Size q = threadIdx.x; q < length; q += blockDim.x) "
                f"p{x.name}[q] = {_first(x)};"
                for x in columns
            ),
            f"for (Size row = {part}; row < rows; row += (Size)gridDim.x * blockDim.y) {{",
            *_within([*self._indices("row", nest.outer), *row]),
            "}",
        ]
        for x in columns:
            lines += [
                f"p{x.name} -= (Size)threadIdx.y * length;",
                f"put_together<{FOLDS[x.op]}>(p{x.name}, length, blockDim.y, place);",
                f"p{x.name} -= (Size)blockIdx.x * blockDim.y * length;",
            ]
        return lines

    def _side_by_side(self) -> list[str]:
        nest = self.nest
        assert nest.lane is not None
        lanes, rows = self.size(nest.lane), self.number(nest.outer)
        shared = [x for x in self.left if x.where == "row"]
        between = []
        if shared:
            between = [
                "if (gridDim.y > 1) {",
                *(
                    f"    if (writes) p{x.name}[blockIdx.y * columns + column] = {x.name};"
                    for x in shared
                ),
                "    const bool last = is_last(tickets + 1 + blockIdx.x, gridDim.y);",
                *(
                    f"    if (last) {x.name} = collect<{FOLDS[x.op]}>(p{x.name} + column, columns, "
                    "gridDim.y, place, blockDim.y, blockDim.x);"
                    for x in shared
                ),
                "    writes &= last;",
                "}",
            ]
        first, step = "blockIdx.y * blockDim.y + threadIdx.y", "(Size)gridDim.y * blockDim.y"
        end = f"inside ? {self.number(nest.inner)} : 0"
        row = self._row(first, step, "place, blockDim.y, blockDim.x", between, "writes")
        return [
            f"const Size groups = ({lanes} + blockDim.x - 1) / blockDim.x;",
            "const Size row = quotient(blockIdx.x, groups);",
            "const Size lane = (blockIdx.x - row * groups) * blockDim.x + threadIdx.x;",
            f"const bool inside = lane < {lanes};",
            f"const Size i{nest.lane} = inside ? lane : 0, length = {end};",
            f"const Size columns = {rows} * {lanes}, column = row * {lanes} + i{nest.lane};",
            "bool writes = inside && threadIdx.y == 0;",
            *self._indices("row", nest.outer),
            *row,
        ]

    def _last(self) -> list[str]:
        """What the last block does."""
        ends = [x for x in self.left if x.where != "row"]
        if not ends:
            return []
        lines, blocks = [], "gridDim.x * gridDim.y"
        for x in ends:
            o = self._arrays.get(self.output(x.view.value))
            if x.where == "total":
                lines += [
                    f"{x.name} = collect<{FOLDS[x.op]}>(p{x.name}, 1, {blocks}, place, BLOCK, 1);",
                    *([f"if (place == 0) *({self._at(o)}) = {x.name};"] if o else []),
                ]
            elif o:
                between = "length * blockDim.y"
                whole = f"whole_column<{FOLDS[x.op]}>(p{x.name} + q, {between}, gridDim.x)"
                inner = [*self._indices("q", self.nest.inner), f"*({self._at(o)}) = {whole};"]
                lines += ["for (Size q = place; q < length; q += BLOCK) {", *_within(inner), "}"]
        totals = [x for x in ends if x.where == "total"]
        return [
            *(f"{x.name} = fold<{FOLDS[x.op]}>({x.name}, place, BLOCK, 1);" for x in totals),
            *(
                f"if (place == 0) p{x.name}[blockIdx.y * gridDim.x + blockIdx.x] = {x.name};"
                for x in totals
            ),
            f"if (is_last(tickets, {blocks})) {{",
            *_within(lines),
            "}",
        ]


def _within(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _first(x: Reduction) -> str:
    """What a reduction begins with."""
    return f"{FOLDS[x.op]}::first<{TYPES[x.kind]}>()"


def _begun(x: Reduction) -> str:
    return f"{TYPES[x.kind]} {x.name} = {_first(x)}"


def _add(x: Reduction) -> str:
    held = f"p{x.name}[q]" if x.where == "column" else x.name
    return f"{held} = {FOLDS[x.op]}::of({TYPES[x.kind]}({held}), {TYPES[x.kind]}({x.added}));"
