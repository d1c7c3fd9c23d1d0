"""The source of a loop as a CUDA kernel.

A loop without sums strides over its elements, 16 bytes of them together where shapes allow. One
with sums gives columns to threads along x and shares the rows among threads and blocks along y; the
last block to finish adds up what the others left, in an order that depends on the shape alone.
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import numpy as np

from ldl.compiler.body import Body, kind_of
from ldl.compiler.loops import Loop
from ldl.compiler.operations import Value
from ldl_cupy.launch import power_of_two

TYPES = {"f4": "float", "f8": "double", "i8": "Size", "b1": "bool", "u2": "unsigned short"}
BLOCK, WARP = 256, 32
LEAST = np.iinfo(np.int64).min
GRID, PARTS, ROWS = 4096, 64, 4
"""The most blocks, the most that share a column's rows, and the fewest rows of a thread."""


class CudaSource(Body):
    """The source of one loop, its launch, and what it takes.

    `text` is the kernel, named `name`; it takes (rows, columns), the `numbers`, the arrays of
    `inputs`, `outputs` and `sums`, and where there are sums, tickets (`tickets` zeros) and an array
    of `partials` elements for each.
    """

    unary: ClassVar[dict[str, str]] = {
        "positive": "{0}",
        "negative": "-{0}",
        "absolute": "fabs({0})",
        "fabs": "fabs({0})",
        "square": "{0} * {0}",
        "reciprocal": "{one} / {0}",
        "sqrt": "sqrt({0})",
        "sign": "({0} > {zero} ? {one} : ({0} < {zero} ? -{one} : {0} * {zero}))",
        "exp": "exp({0})",
        "log": "log({0})",
        "log1p": "log1p({0})",
        "expm1": "expm1({0})",
        "tanh": "tanh({0})",
        "bf16": "bfloat16({0})",
    }
    binary: ClassVar[dict[str, str]] = {
        "add": "{0} + {1}",
        "subtract": "{0} - {1}",
        "multiply": "{0} * {1}",
        "divide": "{0} / {1}",
        "maximum": "({0} >= {1} || {0} != {0} ? {0} : {1})",
        "minimum": "({0} <= {1} || {0} != {0} ? {0} : {1})",
    }
    whole: ClassVar[dict[str, str]] = {
        "negative": "Size(-Word({0}))",
        "absolute": "Size({0} < 0 ? -Word({0}) : Word({0}))",
        "square": "Size(Word({0}) * Word({0}))",
        "reciprocal": "({0} == 1 || {0} == -1 ? {0} : {0} ? {zero} : LEAST)",
        "add": "Size(Word({0}) + Word({1}))",
        "subtract": "Size(Word({0}) - Word({1}))",
        "multiply": "Size(Word({0}) * Word({1}))",
    }
    truths: ClassVar[dict[str, str]] = {
        "absolute": "{0}",
        "add": "bool({0} | {1})",
        "multiply": "bool({0} & {1})",
        "maximum": "bool({0} | {1})",
        "minimum": "bool({0} & {1})",
    }
    choice: ClassVar[str] = "({0} ? {1} : {2})"
    statement: ClassVar[str] = "const auto {0} = {1};"

    def __init__(self, loop: Loop, stored: set[Value]) -> None:
        self.before: list[str] = []
        """Outputs whose old elements are read."""
        super().__init__(loop, stored)
        self.body += [f"s{k} += {name};" for k, name in enumerate(self.added)]
        together = {"row": self.columns, "column": self.columns}
        whole = [together.get(how, self.rows * self.columns) for how in ("full", *self.roles)]
        sizes = [x.value.dtype.itemsize for x in (*self.inputs, *self.outputs)]
        wide = 16 // max(4, *sizes)
        self.width = wide if not self.sums and all(n % wide == 0 for n in whole) else 1
        text = self._with_sums() if self.sums else self._flat()
        self.name = "loop_" + hashlib.sha256(text.encode()).hexdigest()[:16]
        self.text = text.replace("NAME", self.name)

    def constant(self, kind: str, x: float) -> str:
        """0.5f, 0.5, Size(1), true."""
        if kind == "i8":
            return "LEAST" if x == LEAST else f"Size({int(x)})"
        if kind == "b1":
            return "true" if x else "false"
        if np.isfinite(x):
            return f"{float(x)!r}f" if kind == "f4" else repr(float(x))
        bits = {"inf": "0x7f800000", "-inf": "(int)0xff800000"}.get(str(float(x)), "0x7fc00000")
        return f"{TYPES[kind]}(__int_as_float({bits}))"

    def cast(self, name: str, kind: str) -> str:
        """float(x); whole numbers as NumPy has them on x86."""
        return f"whole({name})" if kind == "i8" else f"{TYPES[kind]}({name})"

    def load(self, argument: str, how: str, name: str) -> None:
        """Nothing: the element comes as an argument."""
        if argument in self.stores.values():
            self.before.append(argument)

    def store(self, argument: str, name: str) -> None:
        """new_o = name."""
        self.body.append(f"new_{argument} = {name};")

    @property
    def numbers(self) -> list[Any]:
        """The numbers that the kernel takes after (rows, columns)."""
        return [np.dtype(kind).type(x) for kind, x in self.constants]

    @property
    def launch(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Grid and block."""
        if self.sums:
            x = min(power_of_two(self.columns), WARP)
            y = min(power_of_two(self.rows), BLOCK // x)
            x = BLOCK // y
            parts = max(1, min(self.rows // (y * ROWS), PARTS))
            return (-(-self.columns // x), parts), (x, y)
        threads = self.rows * self.columns // self.width
        return (min(-(-threads // BLOCK), GRID),), (BLOCK,)

    @property
    def tickets(self) -> int:
        """One for every group of columns, one for all."""
        return self.launch[0][0] + 1 if self.sums else 0

    @property
    def partials(self) -> list[int]:
        """How many elements each sum leaves in between."""
        grid, _ = self.launch
        return [grid[1] * (self.columns if ref.value.shape else grid[0]) for ref in self.sums]

    # ---- text -----------------------------------------------------------------------------------

    def _element(self) -> list[str]:
        """The function that does everything for one element."""
        taken = [f"{TYPES[kind_of(x)]} x{i}" for i, x in enumerate(self.inputs)]
        for name, ref in zip(self.stores.values(), self.outputs, strict=True):
            if name in self.before:
                taken.append(f"{TYPES[kind_of(ref)]} y{name}")
            taken.append(f"{TYPES[kind_of(ref)]}& new_{name}")
        taken += [f"{TYPES[kind_of(x)]}& s{k}" for k, x in enumerate(self.sums)]
        taken += self._numbers_taken()
        lines = [f"    {line}" for line in self.body]
        return [f"INLINE void NAME_at({', '.join(taken)}) {{", *lines, "}", ""]

    def _numbers_taken(self) -> list[str]:
        return [f"const {TYPES[kind]} {name}" for (kind, _), name in self.constants.items()]

    def _head(self, more: list[str]) -> list[str]:
        arrays = [f"In<{TYPES[kind_of(x)]}> a{i}" for i, x in enumerate(self.inputs)]
        arrays += [f"Out<{TYPES[kind_of(x)]}> o{i}" for i, x in enumerate(self.outputs)]
        arrays += [f"Out<{TYPES[kind_of(x)]}> r{i}" for i, x in enumerate(self.sums)]
        taken = ["Size rows", "Size columns", *self._numbers_taken(), *arrays, *more]
        return [f'extern "C" __global__ void BOUNDED NAME({", ".join(taken)}) {{']

    def _flat(self) -> str:
        w, outputs = self.width, list(zip(self.stores.values(), self.outputs, strict=True))
        lines = [
            *self._element(),
            *self._head([]),
            f"    const Size n = rows * columns / {w};",
            "    for (Size q = thread_index(); q < n; q += thread_count()) {",
            f"        const Size at = q * {w};",
        ]
        if "row" in self.roles or "column" in self.roles:
            lines.append("        const Size i = at / columns, j = at - i * columns;")
        given = []
        for k, how in enumerate(self.roles):
            if how == "full":
                lines.append(f"        const auto v{k} = load<{w}>(a{k} + at);")
            given.append(self._read(k, how, f"v{k}.of[k]", "j + k", "i"))
        for name, ref in outputs:
            if name in self.before:
                lines.append(f"        const auto old_{name} = load<{w}>({name} + at);")
                given.append(f"old_{name}.of[k]")
            lines.append(f"        Pack<{TYPES[kind_of(ref)]}, {w}> to_{name};")
            given.append(f"to_{name}.of[k]")
        given += self.constants.values()
        lines += [
            "#pragma unroll",
            f"        for (int k = 0; k < {w}; ++k) NAME_at({', '.join(given)});",
            *(f"        store<{w}>({name} + at, to_{name});" for name, _ in outputs),
            "    }",
            "}",
        ]
        return "\n".join(lines) + "\n"

    def _read(self, k: int, how: str, full: str, j: str, i: str) -> str:
        forms: dict[str, Any] = {"full": full, "row": f"a{k}[{j}]", "column": f"a{k}[{i}]"}
        return str(forms.get(how, f"a{k}[0]"))

    def _with_sums(self) -> str:
        partial = [f"volatile {TYPES[kind_of(x)]}* p{k}" for k, x in enumerate(self.sums)]
        given = [self._read(k, how, f"a{k}[at]", "j", "i") for k, how in enumerate(self.roles)]
        for name in self.stores.values():
            given += [f"{name}[at]"] * (2 if name in self.before else 1)
        given += [f"s{k}" for k in range(len(self.sums))]
        given += self.constants.values()
        lines = [
            *self._element(),
            *self._head(["unsigned* tickets", *partial]),
            "    const int place = threadIdx.y * blockDim.x + threadIdx.x;",
            "    const Size j = thread_index(), step = (Size)gridDim.y * blockDim.y;",
            *(f"    {TYPES[kind_of(x)]} s{k} = 0;" for k, x in enumerate(self.sums)),
            "    if (j < columns) {",
            "        Size i = (Size)blockIdx.y * blockDim.y + threadIdx.y;",
            "        for (; i < rows; i += step) {",
            "            const Size at = i * columns + j;",
            f"            NAME_at({', '.join(given)});",
            "        }",
            "    }",
            "    const bool writes = threadIdx.y == 0 && j < columns;",
        ]
        columns = [k for k, ref in enumerate(self.sums) if ref.value.shape]
        totals = [k for k, ref in enumerate(self.sums) if not ref.value.shape]
        for k in columns:
            lines += [
                f"    s{k} = add_up(s{k}, place, blockDim.y, blockDim.x);",
                f"    if (writes && gridDim.y == 1) r{k}[j] = s{k};",
                f"    if (writes && gridDim.y > 1) p{k}[blockIdx.y * columns + j] = s{k};",
            ]
        for k in totals:
            lines += [
                f"    s{k} = add_up(s{k}, place, BLOCK, 1);",
                f"    if (place == 0) p{k}[blockIdx.y * gridDim.x + blockIdx.x] = s{k};",
            ]
        if columns:
            lines.append("    if (gridDim.y > 1 && is_last(tickets + blockIdx.x, gridDim.y)) {")
            for k in columns:
                lines += [
                    f"        s{k} = collect(p{k} + (j < columns ? j : 0), columns, gridDim.y, "
                    "place, blockDim.y, blockDim.x);",
                    f"        if (writes) r{k}[j] = s{k};",
                ]
            lines.append("    }")
        if totals:
            lines.append("    if (is_last(tickets + gridDim.x, gridDim.x * gridDim.y)) {")
            for k in totals:
                lines += [
                    f"        s{k} = collect(p{k}, 1, gridDim.x * gridDim.y, place, BLOCK, 1);",
                    f"        if (place == 0) *r{k} = s{k};",
                ]
            lines.append("    }")
        return "\n".join([*lines, "}"]) + "\n"
