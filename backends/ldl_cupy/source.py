"""The source of a loop as a CUDA kernel: the language's words, and how it is launched."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import numpy as np

from ldl.compiler.loops import Loop
from ldl.compiler.operations import Value
from ldl_cupy.launch import power_of_two
from ldl_cupy.nests import TYPES, Nests

BLOCK, WARP = 256, 32
LEAST = np.iinfo(np.int64).min
GRID, PARTS, ROWS = 4096, 64, 4
"""The most blocks, the most that share the elements of a row, and the fewest that each takes."""

SHORT = 1024
"""Elements of a row that a part of a warp does."""


class CudaSource(Nests):
    """The source of one loop, its launch, and what it takes.

    `text` is the kernel, named `name`; it takes the `numbers`, the arrays of `inputs` and
    `outputs`, and where there are partial results, tickets (`tickets` zeros) and an array of
    elements for each of the `partials`.
    """

    unary: ClassVar[dict[str, str]] = {
        "positive": "{0}",
        "negative": "-{0}",
        "absolute": "fabs({0})",
        "fabs": "fabs({0})",
        "square": "{0} * {0}",
        "reciprocal": "{one} / {0}",
        "sqrt": "sqrt({0})",
        "sign": "({0} > {zero} ? {one} : ({0} < {zero} ? -{one} : ({0} != {0} ? {0} : {zero})))",
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
        "maximum": "Max::of({0}, {1})",
        "minimum": "Min::of({0}, {1})",
    }
    whole: ClassVar[dict[str, str]] = {
        "negative": "Size(-Word({0}))",
        "absolute": "Size({0} < 0 ? -Word({0}) : Word({0}))",
        "square": "Size(Word({0}) * Word({0}))",
        "reciprocal": "({0} == 1 || {0} == -1 ? {0} : {0} ? {zero} : LEAST)",
        "add": "Sum::of({0}, {1})",
        "subtract": "Size(Word({0}) - Word({1}))",
        "multiply": "Size(Word({0}) * Word({1}))",
    }
    truths: ClassVar[dict[str, str]] = {
        "absolute": "{0}",
        "add": "bool({0} | {1})",
        "multiply": "bool({0} & {1})",
    }
    choice: ClassVar[str] = "({0} ? {1} : {2})"
    statement: ClassVar[str] = "const auto {0} = {1};"

    def __init__(self, loop: Loop, stored: set[Value]) -> None:
        super().__init__(loop, stored)
        text = self._text()
        self.name = "loop_" + hashlib.sha256(text.encode()).hexdigest()[:16]
        self.text = text.replace("NAME", self.name)

    def constant(self, kind: str, x: float) -> str:
        """0.5f, 0.5, Size(1), true."""
        if kind == "i8":
            return "Size(LEAST)" if x == LEAST else f"Size({int(x)})"
        if kind == "b1":
            return "true" if x else "false"
        if np.isfinite(x):
            return f"{float(x)!r}f" if kind == "f4" else repr(float(x))
        bits = {"inf": "0x7f800000", "-inf": "(int)0xff800000"}.get(str(float(x)), "0x7fc00000")
        return f"{TYPES[kind]}(__int_as_float({bits}))"

    def cast(self, name: str, kind: str) -> str:
        """float(x); whole numbers as NumPy has them on x86."""
        return f"whole({name})" if kind == "i8" else f"{TYPES[kind]}({name})"

    # ---- launch ---------------------------------------------------------------------------------

    @property
    def numbers(self) -> list[Any]:
        """Sizes, strides and constants."""
        return [
            *map(np.int64, self.numbers_taken),
            *(np.dtype(kind).type(x) for kind, x in self.constants),
        ]

    def resize(self, n: int) -> None:
        """Do the same to vectors of another length, as often a multiple of 4 as before."""
        self.nest.sizes = [n]

    @property
    def launch(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Grid and block."""
        nest = self.nest
        rows, length = nest.count(nest.outer), nest.count(nest.inner)
        if nest.lane is not None:
            lanes = nest.sizes[nest.lane]
            x = min(power_of_two(lanes), WARP)
            y = min(power_of_two(length), BLOCK // x)
            x = BLOCK // y
            parts = max(1, min(length // (y * ROWS), PARTS)) if self._once else 1
            return (rows * -(-lanes // x), parts), (x, y)
        if self._along:
            x = min(power_of_two(length), WARP) if length <= SHORT else BLOCK
            most = PARTS if any(x.where == "column" for x in self.left) else GRID
            return (min(-(-rows * x // BLOCK), most),), (x, BLOCK // x)
        return (min(-(-rows // self.width // BLOCK), GRID),), (BLOCK,)

    @property
    def tickets(self) -> int:
        """One for all blocks, and one for those that share a row."""
        return 1 + self.launch[0][0] * self._aside if self.left else 0

    @property
    def partials(self) -> list[int]:
        """How many bytes each of the reductions leaves in between."""
        grid, block = self.launch
        nest, found = self.nest, []
        for x in self.left:
            n = int(np.prod(grid))
            if x.where == "row":
                n = grid[1] * nest.count(nest.outer) * nest.sizes[-1]
            elif x.where == "column":
                n *= block[1] * nest.count(nest.inner)
            found.append(n * np.dtype(x.kind).itemsize)
        return found
