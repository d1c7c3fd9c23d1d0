"""The operations of a loop as statements about one element."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ldl.compiler.loops import COMPARISONS, REDUCTIONS, Loop, Step, View, computed_in
from ldl.compiler.operations import Ref, Value

KINDS = {np.dtype(t): t for t in ("f4", "f8", "i8", "b1", "u2")}
"""The types that loops know, and their short names; "u2" holds bfloat16."""

LITERALS = {0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5}
"""Numbers that stand in a source. Others, such as 1/N, are arguments, so that another N needs no
other source."""

ONCE, ROW, ELEMENT = range(3)
"""How often something is computed."""


def kind_of(x: Any) -> str:
    """The short name of the type of a Ref's or an array's elements, or of a type."""
    dtype = x.value.dtype if isinstance(x, Ref) else getattr(x, "dtype", x)
    return KINDS[np.dtype(dtype)]


@dataclass
class Node:
    """A name of a body: what it stands for, and where it is known."""

    text: str
    """The expression, or the argument that is loaded."""
    level: int
    stage: int
    """The pass before which (of a row) or in which (of an element) it is first known."""
    uses: list[str]
    loads: bool = False
    home: View | None = None
    """Of what is dear to compute: where it is kept, should a later pass need it."""


class Reduction(NamedTuple):
    """What is put together from all elements, or all rows' numbers."""

    name: str
    op: str
    kind: str
    added: str
    where: str
    """A number a "row", a "column" of rows, or a "total"."""
    level: int
    stage: int
    view: View


class Statements:
    """Names for what a loop loads, computes and reduces, in a backend's language.

    Operations have forms of floats, which serve whole numbers and truths too that have none.
    `stored` are the values that are written to memory.
    """

    unary: ClassVar[dict[str, str]]
    binary: ClassVar[dict[str, str]]
    whole: ClassVar[dict[str, str]]
    truths: ClassVar[dict[str, str]]
    choice: ClassVar[str]
    statement: ClassVar[str]
    dear: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, loop: Loop, stored: set[Value]) -> None:
        self.loop = loop
        self.constants: dict[tuple[str, float], str] = {}
        """The names of numbers that are arguments, by type and value."""
        self.reductions: list[Reduction] = []
        self._split = loop.split
        self._nodes: dict[str, Node] = {}
        self._names: dict[View, str] = {}
        self._computed: dict[str, str] = {}
        self._refs: dict[View, Ref] = {}
        self._read: dict[View, str] = {}
        written = dict.fromkeys(step.out.value for step in loop.steps)
        self._stores = {v: f"o{i}" for i, v in enumerate(v for v in written if v in stored)}
        for step in loop.steps:
            self._write(step)

    def constant(self, kind: str, x: float) -> str:
        """A number of a type, as it stands in the source."""
        raise NotImplementedError

    def cast(self, name: str, kind: str) -> str:
        """An expression as another type."""
        raise NotImplementedError

    def _level(self, view: View) -> int:
        """How often a view is another element."""
        if not any(view.strides):
            return ONCE
        if self._split and not any(view.strides[axis] for axis in self._split):
            return ROW
        return ELEMENT

    def _load(self, x: Any, ref: Any, kind: str) -> str:
        """The name of an operand in the loop; `kind` is the type of a constant."""
        if not isinstance(x, View):
            if kind in ("i8", "b1") or not np.isfinite(x) or x in LITERALS:
                return self.constant(kind, x)
            return self.constants.setdefault((kind, float(x)), f"c{len(self.constants)}")
        if x not in self._names:
            self._refs.setdefault(x, ref)
            # The same argument for both: two would look like overlapping memory to a compiler.
            argument = self._stores.get(x.value) or self._read.setdefault(x, f"a{len(self._read)}")
            name = self._names[x] = f"x{len(self._nodes)}"
            self._nodes[name] = Node(argument, self._level(x), 0, [], loads=True)
        return self._names[x]

    def _write(self, step: Step) -> None:
        op, (out,) = step.op, step.op.outputs
        self._refs.setdefault(step.out, out)
        if step.reduces:
            self._reduce(step)
            return
        name, known = op.ufunc if op.ufunc not in REDUCTIONS else "positive", kind_of(out)
        kind = kind_of(computed_in(op))
        operands = [self._load(x, y, kind) for x, y in zip(step.inputs, op.inputs, strict=True)]
        for i, x in enumerate(op.inputs):
            if isinstance(x, Ref) and not (name == "where" and i == 0):
                operands[i] = self._as(operands[i], kind_of(x), kind)
        made = kind
        if name in COMPARISONS:
            text, made = f"{operands[0]} {COMPARISONS[name]} {operands[1]}", "b1"
        elif name == "where":
            text = self.choice.format(*operands)
        elif name == "clip":
            low = self._named(self._form("maximum", kind).format(*operands[:2]))
            text = self._form("minimum", kind).format(low, operands[2])
        elif name == "astype":
            text = operands[0]
        else:
            one, zero = self.constant(kind, 1.0), self.constant(kind, 0.0)
            text = self._form(name, kind).format(*operands, one=one, zero=zero, t=kind)
        made = "u2" if name == "bf16" else made
        text = self._as(self._named(text), made, known)
        text = self._named(text) if made != known else text
        if name in self.dear and out.value.external is None and not out.path:
            self._nodes[text].home = step.out
        self._names[step.out] = text

    def _reduce(self, step: Step) -> None:
        (x,), (out,) = step.op.inputs, step.op.outputs
        kind = kind_of(out)
        held = self._load(step.inputs[0], x, kind)
        node = self._nodes.get(held)
        stage = node.stage if node else 0
        name, rest = f"r{len(self.reductions)}", len(self.loop.sizes) - len(step.reduces or ())
        where = "row" if step.reduces == self._split else "column" if rest else "total"
        level = ELEMENT
        if where == "column" and not any(step.out.strides):
            where, level = "total", ROW
        added = self._as(held, kind_of(x), kind)
        reduction = Reduction(name, step.op.ufunc, kind, added, where, level, stage, step.out)
        self.reductions.append(reduction)
        if where == "row":
            self._nodes[name] = Node("", ROW, stage + 1, [])
            self._names[step.out] = name

    def _form(self, name: str, kind: str) -> str:
        """How an operation on numbers of a type is written."""
        own = {"i8": self.whole, "b1": self.truths}.get(kind, {})
        return own.get(name) or self.unary.get(name) or self.binary[name]

    def _as(self, name: str, held: str, kind: str) -> str:
        """What is of one type, as another type."""
        if held == kind:
            return name
        if held == "b1":
            one, zero = self.constant(kind, 1.0), self.constant(kind, 0.0)
            return f"({self.choice.format(name, one, zero)})"
        return self.cast(name, kind)

    def _named(self, text: str) -> str:
        """The name of what an expression gives, computed once."""
        if text not in self._computed:
            uses = self._uses(text)
            nodes = [self._nodes[use] for use in uses]
            level = max((node.level for node in nodes), default=ONCE)
            stage = max((node.stage for node in nodes), default=0)
            self._computed[text] = name = f"t{len(self._nodes)}"
            self._nodes[name] = Node(text, level, stage, uses)
        return self._computed[text]

    def _uses(self, text: str) -> list[str]:
        return [word for word in re.findall(r"\b[xtr]\d+\b", text) if word in self._nodes]
