"""The body of a loop: its operations as statements about one element.

A backend's `Body` says how its language writes them and what goes round them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ldl.compiler.flat import role
from ldl.compiler.loops import COMPARISONS, Loop, computed_in
from ldl.compiler.operations import Op, Ref, Value

KINDS = {np.dtype(t): t for t in ("f4", "f8", "i8", "b1", "u2")}
"""The types that loops know, and their short names; "u2" holds bfloat16."""

LITERALS = {0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5}
"""Numbers that stand in a source. Others, such as 1/N, are arguments, so that another N needs no
other source."""


def kind_of(x: Any) -> str:
    """The short name of the type of a Ref's or an array's elements, or of a type."""
    dtype = x.value.dtype if isinstance(x, Ref) else getattr(x, "dtype", x)
    return KINDS[np.dtype(dtype)]


class Body:
    """Statements for element (i, j) of a loop, and the arrays that they read and write.

    `roles` are those of the `inputs`; `stores` names the values that are written to memory.
    Operations have forms of floats, which serve whole numbers and truths too that have none.
    """

    unary: ClassVar[dict[str, str]]
    binary: ClassVar[dict[str, str]]
    whole: ClassVar[dict[str, str]]
    truths: ClassVar[dict[str, str]]
    choice: ClassVar[str]
    statement: ClassVar[str]

    def __init__(self, loop: Loop, stored: set[Value]) -> None:
        self.loop = loop
        self.inputs: list[Ref] = []
        self.roles: list[str] = []
        self.body: list[str] = []
        self.names: dict[tuple[Value, str], str] = {}
        """What is loaded, or computed, of a value: all of it ("full") or a view's elements."""
        self.computed: dict[str, str] = {}
        self.constants: dict[tuple[str, float], str] = {}
        """The names of numbers that are arguments, by type and value."""
        self.added: list[str] = []
        """What each sum adds up, in the order of `sums`."""
        size = int(np.prod(loop.shape))
        self.columns = loop.shape[-1] if loop.shape else 1
        self.rows = size // self.columns
        self.sums = [op.outputs[0] for op in loop.ops if op.ufunc == "sum"]
        written = dict.fromkeys(op.outputs[0].value for op in loop.ops if op.ufunc != "sum")
        self.stores = {v: f"o{i}" for i, v in enumerate(v for v in written if v in stored)}
        shape = (("reshape", (self.rows, self.columns)),)
        self.outputs = [Ref(value, shape) for value in self.stores]
        for op in loop.ops:
            self._write(op)
        for value, name in self.stores.items():
            self.store(name, self.names[value, "full"])

    def constant(self, kind: str, x: float) -> str:
        """A number of a type, as it stands in the source."""
        raise NotImplementedError

    def cast(self, name: str, kind: str) -> str:
        """An expression as a floating-point type, from another one."""
        raise NotImplementedError

    def load(self, argument: str, how: str, name: str) -> None:
        """Give what an argument holds, read in a role, a name."""
        raise NotImplementedError

    def store(self, argument: str, name: str) -> None:
        """Write what was computed to an output."""
        raise NotImplementedError

    def _load(self, x: Any, kind: str) -> str:
        """The name of an operand in the loop; `kind` is the type of a constant."""
        if not isinstance(x, Ref):
            if kind in ("i8", "b1") or not np.isfinite(x) or x in LITERALS:
                return self.constant(kind, x)
            return self.constants.setdefault((kind, float(x)), f"c{len(self.constants)}")
        how = role(x, self.loop.shape)
        seen = how if how == "full" else f"{how} {x.path!r}"
        if (x.value, seen) in self.names:
            return self.names[x.value, seen]
        if how == "full" and x.value in self.stores:
            # The same argument for both: two would look like overlapping memory to a compiler.
            argument, name = self.stores[x.value], f"y{self.stores[x.value]}"
        else:
            argument, name = f"a{len(self.inputs)}", f"x{len(self.inputs)}"
            shape = {
                "full": (self.rows, self.columns),
                "row": (self.columns,),
                "column": (self.rows,),
                "scalar": (1,),
            }[how]
            self.inputs.append(Ref(x.value, (*x.path, ("reshape", (shape,)))))
            self.roles.append(how)
        self.load(argument, how, name)
        self.names[x.value, seen] = name
        return name

    def _write(self, op: Op) -> None:
        out = op.outputs[0]
        if op.ufunc == "sum":
            name = self._load(op.inputs[0], kind_of(out))
            self.added.append(self._as(name, kind_of(op.inputs[0]), kind_of(out)))
            return
        kind = kind_of(computed_in(op))
        operands = [self._load(x, kind) for x in op.inputs]
        for i, x in enumerate(op.inputs):
            if isinstance(x, Ref) and not (op.ufunc == "where" and i == 0):
                operands[i] = self._as(operands[i], kind_of(x), kind)
        made = kind
        if op.ufunc in COMPARISONS:
            text, made = f"{operands[0]} {COMPARISONS[op.ufunc]} {operands[1]}", "b1"
        elif op.ufunc == "where":
            text = self.choice.format(*operands)
        elif op.ufunc == "clip":
            low = self._named(self._form("maximum", kind).format(*operands[:2]))
            text = self._form("minimum", kind).format(low, operands[2])
        elif op.ufunc == "astype":
            text = operands[0]
        else:
            one, zero = self.constant(kind, 1.0), self.constant(kind, 0.0)
            text = self._form(op.ufunc, kind).format(*operands, one=one, zero=zero, t=kind)
        made = "u2" if op.ufunc == "bf16" else made
        name = self._as(self._named(text), made, kind_of(out))
        name = self._named(name) if made != kind_of(out) else name
        self.names = {k: v for k, v in self.names.items() if k[0] is not out.value}
        self.names[out.value, "full"] = name

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
        if text not in self.computed:
            self.computed[text] = name = f"t{len(self.body)}"
            self.body.append(self.statement.format(name, text))
        return self.computed[text]
