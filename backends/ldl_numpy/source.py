"""The source of a loop, as functions that `translate` makes LLVM's language of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from ldl.compiler.body import Body, kind_of
from ldl.compiler.loops import Loop
from ldl.compiler.operations import Host, Ref, Value
from ldl_numpy.threads import jobs

LEAST = 12_288
"""Elements that are worth a job of their own."""

COLUMNS = """\
def add(shares: i8, n: i8, s: [KIND], r: [KIND]):
    for j in range(n):
        r[j] = s[j]
    for p in range(1, shares):
        for j in range(n):
            r[j] += s[p * n + j]
"""
TOTAL = """\
@reassoc
def add(shares: i8, n: i8, s: [KIND], r: [KIND]):
    v = f8(0)
    for j in range(shares * n):
        v += f8(s[j])
    r[0] = KIND(v)
"""
ENTRY = """

def entry(words: [i8], job: i8):
    add(words[0], words[1], memory(KIND, words[2]), memory(KIND, words[3]))
"""
"""What adds up the shares of a sum: in their order, or in any (which takes a quarter of the time)
and in float64."""


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
        "reciprocal": "({0} if {0} == 1 or {0} == -1 else (LEAST if {0} == 0 else {zero}))",
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
        self.jobs = jobs(self.rows * self.columns, LEAST)
        shape = self.jobs, self.columns
        self.scratch = [np.zeros(shape, ref.value.dtype) for ref in self.sums]
        self.body += [f"s{k}[share * columns + j] += {x}" for k, x in enumerate(self.added)]
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
        """name = a[i * columns + j]; `entry` reads scalars."""
        at = {"full": "i * columns + j", "row": "j", "column": "i"}.get(how)
        if at:
            self.body.append(f"{name} = {argument}[{at}]")

    def store(self, argument: str, name: str) -> None:
        """o[i * columns + j] = name."""
        self.body.append(f"{argument}[i * columns + j] = {name}")

    def text(self) -> str:
        """The functions: `part` does a share of the rows, `entry` finds what it needs in words."""
        named: list[tuple[str, Ref | Host]] = [(f"a{i}", x) for i, x in enumerate(self.inputs)]
        scalars = {f"a{i}" for i, how in enumerate(self.roles) if how == "scalar"}
        named += [(f"s{i}", x) for i, x in enumerate(self.scratch)]
        named += [(f"o{i}", x) for i, x in enumerate(self.outputs)]
        every = enumerate([*named, *(("c", x) for x in self._constants)], start=3)
        at = {name: f"memory({kind_of(x)}, words[{k}])" for k, (name, x) in every}
        params = ["share: i8", "first: i8", "last: i8", "rows: i8", "columns: i8"]
        given = ["job", "n * job // jobs", "n * (job + 1) // jobs", "rows", "columns"]
        for name, x in named:
            number = f"x{name[1:]}: {kind_of(x)}"
            params.append(number if name in scalars else f"{name}: [{kind_of(x)}]")
            given.append(f"{at[name]}[0]" if name in scalars else at[name])
        for k, ((kind, _), name) in enumerate(self.constants.items()):
            params.append(f"{name}: {kind}")
            given.append(f"{kind}({at['c']}[{k}])")
        sums = range(len(self.sums))
        i, j = ("first, last", "columns") if self.rows > 1 else ("rows", "first, last")
        lines = [
            f"def part({', '.join(params)}):",
            "    mode = flush_subnormals()",
            *(f"    for j in range(columns): s{k}[share * columns + j] = 0" for k in sums),
            f"    for i in range({i}):",
            f"        for j in range({j}):",
            *(f"            {line}" for line in self.body),
            "    restore(mode)",
            "",
            "",
            "def entry(words: [i8], job: i8):",
            "    rows, columns, jobs = words[0], words[1], words[2]",
            f"    n = {'rows' if self.rows > 1 else 'columns'}",
            f"    part({', '.join(given)})",
        ]
        return "\n".join(lines) + "\n"

    def totals(self) -> Iterator[tuple[str, tuple[Ref | Host, ...]]]:
        """Of each sum the source of what adds up the shares, and the arrays that it takes."""
        for scratch, ref in zip(self.scratch, self.sums, strict=True):
            text = (COLUMNS if ref.value.shape else TOTAL) + ENTRY
            yield text.replace("KIND", kind_of(ref)), (scratch, ref)

    @property
    def arguments(self) -> list[Ref | Host]:
        """The arrays whose addresses `entry` takes after the numbers of rows, columns and jobs."""
        return [*self.inputs, *self.scratch, *self.outputs, *self._constants]
