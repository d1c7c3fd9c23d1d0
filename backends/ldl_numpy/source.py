"""The source of a loop, as functions that Numba compiles."""

from __future__ import annotations

import os
from functools import cache
from typing import Any, ClassVar

import numpy as np

from ldl.compiler.body import Body, kind_of
from ldl.compiler.loops import Loop
from ldl.compiler.operations import Host, Ref, Value

PARALLEL_FROM = 24_576
"""Elements that are worth a thread of their own."""


class Source(Body):
    """The source of one loop, and what to call it with."""

    unary: ClassVar[dict[str, str]] = {
        "positive": "{0}",
        "negative": "-{0}",
        "absolute": "abs({0})",
        "fabs": "abs({0})",
        "square": "{0} * {0}",
        "reciprocal": "{one} / {0}",
        "sqrt": "np.sqrt({0})",
        "sign": "({one} if {0} > {zero} else (-{one} if {0} < {zero} else {0} * {zero}))",
        "exp": "exp_{t}({0})",
        "log": "log_{t}({0})",
        "log1p": "log1p_{t}({0})",
        "expm1": "expm1_{t}({0})",
        "tanh": "tanh_{t}({0})",
    }
    binary: ClassVar[dict[str, str]] = {
        "add": "{0} + {1}",
        "subtract": "{0} - {1}",
        "multiply": "{0} * {1}",
        "divide": "{0} / {1}",
        "maximum": "({0} if ({0} >= {1} or {0} != {0}) else {1})",
        "minimum": "({0} if ({0} <= {1} or {0} != {0}) else {1})",
    }
    whole: ClassVar[dict[str, str]] = {
        "reciprocal": "({0} if {0} == 1 or {0} == -1 else (i8(LEAST) if {0} == 0 else {zero}))",
    }
    truths: ClassVar[dict[str, str]] = {
        "absolute": "{0}",
        "add": "{0} | {1}",
        "multiply": "{0} & {1}",
        "maximum": "{0} | {1}",
        "minimum": "{0} & {1}",
    }
    choice: ClassVar[str] = "{1} if {0} else {2}"
    statement: ClassVar[str] = "{0} = {1}"

    def __init__(self, loop: Loop, stored: set[Value]) -> None:
        super().__init__(loop, stored)
        self.parts = min(threads(), self.rows * self.columns // PARALLEL_FROM + 1)
        shape = self.parts, self.columns
        self.scratch = [np.zeros(shape, ref.value.dtype) for ref in self.sums]
        self.body += [f"s{k}[p, j] += {name}" for k, name in enumerate(self.added)]
        self._constants = [np.array([x for _, x in self.constants])] if self.constants else []

    def constant(self, kind: str, x: float) -> str:
        """f4(0.5); kinds are names of NumPy's types."""
        if kind in ("i8", "b1"):
            return f"i8({int(x)})" if kind == "i8" else str(bool(x))
        special = {"inf": "np.inf", "-inf": "-np.inf", "nan": "np.nan"}
        number = repr(float(x))
        return f"{kind}({special.get(number, number)})"

    def cast(self, name: str, kind: str) -> str:
        """f4(x)."""
        if kind == "b1":
            return f"({name} != 0)"
        return f"{kind}({name})"

    def load(self, argument: str, how: str, name: str) -> None:
        """name = a[i, j]; `entry` reads scalars."""
        at = {"full": "i, j", "row": "j", "column": "i"}.get(how)
        if at:
            self.body.append(f"{name} = {argument}[{at}]")

    def store(self, argument: str, name: str) -> None:
        """o[i, j] = name."""
        self.body.append(f"{argument}[i, j] = {name}")

    def _total(self, k: int, ref: Ref) -> list[str]:
        """What adds up the shares of sum k, after the loop."""
        if not ref.value.shape:
            return [
                f"v{k} = f8(0.0)",
                f"for p in range({self.parts}):",
                "    for j in range(columns):",
                f"        v{k} += s{k}[p, j]",
                f"r{k}[0] = v{k}",
            ]
        shares = " + ".join(f"s{k}[{p}, j]" for p in range(self.parts))
        return ["for j in range(columns):", f"    r{k}[j] = {shares}"]

    def text(self) -> str:
        """The module: `part` does a share of the rows, `entry` takes sizes and addresses.

        LLVM vectorises `part` because it is a function by itself.
        """
        shapes = {"full": "rows, columns", "row": "columns", "column": "rows", "scalar": "1"}
        named: list[tuple[str, Ref | Host, str]] = [
            (f"a{i}", x, shapes[how])
            for i, (x, how) in enumerate(zip(self.inputs, self.roles, strict=True))
        ]
        scalars = {f"a{i}": f"x{i}" for i, how in enumerate(self.roles) if how == "scalar"}
        named += [(f"s{i}", x, f"{self.parts}, columns") for i, x in enumerate(self.scratch)]
        named += [(f"o{i}", x, "rows, columns") for i, x in enumerate(self.outputs)]
        inner = [scalars.get(name, name) for name, *_ in named] + list(self.constants.values())
        named += [
            (f"r{i}", x, "columns" if x.value.shape else "1") for i, x in enumerate(self.sums)
        ]
        named += [("c", x, str(len(x))) for x in self._constants]
        read = [
            f"{name} = {'matrix' if ',' in shape else 'vector'}_{kind_of(x)}(args[{k}], {shape})"
            for k, (name, x, shape) in enumerate(named, start=2)
        ]
        bounds = ["i0", "i1", "0", "columns"] if self.rows > 1 else ["0", "rows", "i0", "i1"]
        given = ", ".join(["rows", "columns", *inner])
        lines = [
            "import numpy as np",
            "from numba import cfunc, njit, prange",
            "from ldl_numpy.blas import *",
            "from ldl_numpy.numba_math import *",
            "",
            "f8, i8, b1 = np.float64, np.int64, np.bool_",
            "LEAST = np.iinfo(i8).min",
            "",
            "",
            "@njit(error_model='numpy', nogil=True)",
            f"def part(p, i0, i1, {given}):",
            "    wide_vectors()",
            "    mode = flush_subnormals()",
            *(f"    s{k}[p, :] = 0" for k in range(len(self.sums))),
            f"    for i in range({bounds[0]}, {bounds[1]}):",
            f"        for j in range({bounds[2]}, {bounds[3]}):",
            *(f"            {line}" for line in self.body),
            "    restore(mode)",
            "",
            "",
            *(self._shares(given) if self.parts > 1 else []),
            "@cfunc(ENTRY, cache=True)",
            "def entry(args):",
            "    wide_vectors()",
            "    rows, columns = args[0], args[1]",
            *(f"    {line}" for line in read),
            *(f"    {name} = {argument}[0]" for argument, name in scalars.items()),
            *(
                f"    {name} = {kind}(c[{k}])"
                for k, ((kind, _), name) in enumerate(self.constants.items())
            ),
            f"    n = {'rows' if self.rows > 1 else 'columns'}",
            f"    shares(n, {given})" if self.parts > 1 else f"    part(0, 0, n, {given})",
            *(f"    {line}" for k, ref in enumerate(self.sums) for line in self._total(k, ref)),
        ]
        return "\n".join(lines) + "\n"

    def _shares(self, given: str) -> list[str]:
        """What gives each thread its share."""
        return [
            "@njit(nogil=True, parallel=True)",
            f"def shares(n, {given}):",
            f"    for p in prange({self.parts}):",
            f"        part(p, p * n // {self.parts}, (p + 1) * n // {self.parts}, {given})",
            "",
            "",
        ]

    @property
    def arguments(self) -> list[Ref | Host]:
        """The arrays whose addresses `entry` takes after (rows, columns)."""
        return [*self.inputs, *self.scratch, *self.outputs, *self.sums, *self._constants]


@cache
def threads() -> int:
    """How many threads a large loop has: `LDL_THREADS`, 1 by default; ValueError where it is none.

    On the machine with two processors where this was measured, two threads were slower than one at
    every size up to 23 million elements, beside OpenBLAS's as well as alone; more processors may
    tell otherwise. Of Numba's threading layers only `workqueue` gets on with OpenBLAS's threads.
    """
    given = os.environ.get("LDL_THREADS") or "1"
    try:
        wanted = int(given)
    except ValueError:
        wanted = 0
    if wanted < 1:
        raise ValueError(
            "LDL_THREADS in the environment must be a number of threads, 1 or more, got "
            f"{given[:40]!r}: unset it for one thread"
        )
    if wanted == 1:
        return 1
    import numba
    from numba import config as numba_config

    config: Any = numba_config
    if config.THREADING_LAYER == "default":
        config.THREADING_LAYER = "workqueue"
    numba.get_num_threads()  # starts the threads, which loops compiled earlier are linked with
    return min(wanted, int(config.NUMBA_NUM_THREADS))
