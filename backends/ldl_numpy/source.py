"""The source of a loop, as functions that Numba compiles."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

import numpy as np

from ldl_numpy.loops import BINARY, COMPARISONS, UNARY, Loop, role
from ldl_numpy.trace import Host, Op, Ref, Value

PARALLEL_FROM = 24_576
"""Elements that are worth a thread of their own."""


class Source:
    """The source of one loop, and what to call it with."""

    def __init__(self, loop: Loop, stored: set[Value]) -> None:
        self.loop = loop
        self.inputs: list[Ref] = []
        self.shapes: list[str] = []
        self.scalars: dict[str, str] = {}
        self.body: list[str] = []
        self.after: list[str] = []
        self.zero: list[str] = []
        self.scratch: list[Any] = []
        self.names: dict[tuple[Value, str], str] = {}
        self.computed: dict[str, str] = {}
        size = int(np.prod(loop.shape))
        self.columns = loop.shape[-1] if loop.shape else 1
        self.rows = size // self.columns
        self.parts = min(threads(), size // PARALLEL_FROM + 1)
        written = dict.fromkeys(op.outputs[0].value for op in loop.ops if op.ufunc != "sum")
        self.stores = {v: f"o{i}" for i, v in enumerate(v for v in written if v in stored)}
        shape = (("reshape", (self.rows, self.columns)),)
        self.outputs = [Ref(value, shape) for value in self.stores]
        for op in loop.ops:
            self._write(op)
        for value, name in self.stores.items():
            self.body.append(f"{name}[i, j] = {self.names[value, 'full']}")
        self.sums = [op.outputs[0] for op in loop.ops if op.ufunc == "sum"]
        self.shapes += [f"{self.parts}, columns"] * len(self.scratch)
        self.shapes += ["rows, columns"] * len(self.outputs)
        self.shapes += ["columns" if ref.value.shape else "1" for ref in self.sums]

    def _load(self, x: Any, kind: str) -> str:
        """The name of an operand in the loop; `kind` is the type of a constant."""
        if not isinstance(x, Ref):
            return f"{kind}({float(x)!r})" if np.isfinite(x) else f"{kind}(np.{float(x)!r})"
        how = role(x, self.loop.shape)
        if (x.value, how) in self.names:
            return self.names[x.value, how]
        if how == "full" and x.value in self.stores:
            # The same argument for both: two would look like overlapping memory to LLVM.
            self.names[x.value, how] = name = f"y{self.stores[x.value]}"
            self.body.append(f"{name} = {self.stores[x.value]}[i, j]")
            return name
        argument, name = f"a{len(self.inputs)}", f"x{len(self.inputs)}"
        shape = {
            "full": (self.rows, self.columns),
            "row": (self.columns,),
            "column": (self.rows,),
            "scalar": (),
        }[how]
        self.inputs.append(Ref(x.value, (*x.path, ("reshape", (shape,)))))
        words = {"full": "rows, columns", "row": "columns", "column": "rows", "scalar": "1"}
        self.shapes.append(words[how])
        if how == "scalar":
            self.scalars[argument] = name
        else:
            at = {"full": "i, j", "row": "j", "column": "i"}[how]
            self.body.append(f"{name} = {argument}[{at}]")
        self.names[x.value, how] = name
        return name

    def _write(self, op: Op) -> None:
        out = op.outputs[0]
        dtype = out.value.array.dtype
        if op.ufunc == "sum":
            self._sum(op, out)
            return
        sources = [x.value.array.dtype for x in op.inputs if isinstance(x, Ref)]
        kind = kind_of(np.result_type(*sources) if dtype == np.bool_ and sources else dtype)
        operands = [self._load(x, kind) for x in op.inputs]
        if op.ufunc != "where":
            operands = [_cast(n, x, kind) for n, x in zip(operands, op.inputs, strict=True)]
        else:
            operands[1:] = [
                _cast(n, x, kind) for n, x in zip(operands[1:], op.inputs[1:], strict=True)
            ]
        if op.ufunc in COMPARISONS:
            text = f"{operands[0]} {COMPARISONS[op.ufunc]} {operands[1]}"
        elif op.ufunc == "where":
            text = f"{operands[1]} if {operands[0]} else {operands[2]}"
        elif op.ufunc == "clip":
            low = BINARY["maximum"].format(*operands[:2])
            text = BINARY["minimum"].format(self._named(low), operands[2])
        elif op.ufunc == "astype":
            text = operands[0]
        else:
            form = UNARY.get(op.ufunc) or BINARY[op.ufunc]
            text = form.format(*operands, one=f"{kind}(1.0)", zero=f"{kind}(0.0)", t=kind)
        name = self._named(text)
        self.names = {k: v for k, v in self.names.items() if k[0] is not out.value}
        self.names[out.value, "full"] = name

    def _named(self, text: str) -> str:
        """The name of what an expression gives, computed once."""
        if text not in self.computed:
            self.computed[text] = name = f"t{len(self.body)}"
            self.body.append(f"{name} = {text}")
        return self.computed[text]

    def _sum(self, op: Op, out: Ref) -> None:
        kind = kind_of(out.value.array.dtype)
        name = self._load(op.inputs[0], kind)
        k = len(self.scratch)
        self.scratch.append(np.zeros((self.parts, self.columns), out.value.array.dtype))
        self.zero.append(f"s{k}[p, :] = 0")
        self.body.append(f"s{k}[p, j] += {_cast(name, op.inputs[0], kind)}")
        if out.value.array.ndim == 0:
            self.after += [
                f"v{k} = f8(0.0)",
                f"for p in range({self.parts}):",
                "    for j in range(columns):",
                f"        v{k} += s{k}[p, j]",
                f"r{k}[0] = v{k}",
            ]
        else:
            self.after += [
                "for j in range(columns):",
                f"    r{k}[j] = s{k}[0, j]"
                + "".join(f" + s{k}[{p}, j]" for p in range(1, self.parts)),
            ]

    def text(self) -> str:
        """The module: `part` does a share of the rows, `loop` takes addresses.

        LLVM vectorises `part` because it is a function by itself.
        """
        named = [(f"a{i}", x) for i, x in enumerate(self.inputs)]
        named += [(f"s{i}", x) for i, x in enumerate(self.scratch)]
        named += [(f"o{i}", x) for i, x in enumerate(self.outputs)]
        inner = [self.scalars.get(name, name) for name, _ in named]
        named += [(f"r{i}", x) for i, x in enumerate(self.sums)]
        arrays = []
        for (name, x), shape in zip(named, self.shapes, strict=True):
            dtype = x.value.dtype if isinstance(x, Ref) else x.dtype
            kind = "b1" if dtype == np.bool_ else kind_of(dtype)
            form = "matrix" if "," in shape else "vector"
            arrays.append(f"{name} = {form}_{kind}({name}, {shape})")
        share = [f"p * n // {self.parts}", f"(p + 1) * n // {self.parts}"]
        bounds = ["i0", "i1", "0", "columns"] if self.rows > 1 else ["0", "rows", "i0", "i1"]
        parallel = self.parts > 1
        lines = [
            "import numpy as np",
            "from numba import njit, prange",
            "from ldl_numpy.blas import *",
            "from ldl_numpy.numba_math import *",
            "",
            "f8 = np.float64",
            "",
            "",
            "@njit(error_model='numpy', nogil=True)",
            f"def part(p, i0, i1, rows, columns, {', '.join(inner)}):",
            "    mode = flush_subnormals()",
            *(f"    {line}" for line in self.zero),
            f"    for i in range({bounds[0]}, {bounds[1]}):",
            f"        for j in range({bounds[2]}, {bounds[3]}):",
            *(f"            {line}" for line in self.body),
            "    restore(mode)",
            "",
            "",
            f"@njit(cache=True, nogil=True, parallel={parallel})",
            f"def loop(rows, columns, {', '.join(name for name, _ in named)}):",
            *(f"    {line}" for line in arrays),
            *(f"    {name} = {argument}[0]" for argument, name in self.scalars.items()),
            f"    n = {'rows' if self.rows > 1 else 'columns'}",
            f"    for p in {'prange' if parallel else 'range'}({self.parts}):",
            f"        part(p, {', '.join(share)}, rows, columns, {', '.join(inner)})",
            *(f"    {line}" for line in self.after),
        ]
        return "\n".join(lines) + "\n"

    @property
    def arguments(self) -> list[Ref | Host]:
        """The arrays whose addresses `loop` takes after (rows, columns)."""
        return [*self.inputs, *self.scratch, *self.outputs, *self.sums]


def kind_of(dtype: Any) -> str:
    """The short name of a floating-point type."""
    return "f8" if dtype == np.float64 else "f4"


def _cast(name: str, x: Any, kind: str) -> str:
    if not isinstance(x, Ref):
        return name
    dtype = x.value.array.dtype
    if dtype == np.bool_:
        return f"({kind}(1.0) if {name} else {kind}(0.0))"
    return name if kind_of(dtype) == kind else f"{kind}({name})"


@cache
def threads() -> int:
    """How many threads a large loop has: `LDL_THREADS`, 1 by default.

    On the machine with two processors where this was measured, two threads were slower than one at
    every size up to 23 million elements, beside OpenBLAS's as well as alone; more processors may
    tell otherwise. Of Numba's threading layers only `workqueue` gets on with OpenBLAS's threads.
    """
    wanted = int(os.environ.get("LDL_THREADS", "1"))
    if wanted <= 1:
        return 1
    from numba import config as numba_config

    config: Any = numba_config
    if config.THREADING_LAYER == "default":
        config.THREADING_LAYER = "workqueue"
    return min(wanted, int(config.NUMBA_NUM_THREADS))
