"""The source of a loop, as functions that `translate` makes LLVM's language of."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import ClassVar

import numpy as np

from ldl.compiler.loops import Loop
from ldl.compiler.operations import Host, Ref, Value
from ldl_numpy.nests import Nests
from ldl_numpy.threads import jobs

LEAST = 12_288
"""Elements that are worth a job of their own."""


class Source(Nests):
    """The source of one loop, and what to call it with."""

    unary: ClassVar[dict[str, str]] = {
        "positive": "{0}",
        "negative": "-{0}",
        "absolute": "abs({0})",
        "fabs": "abs({0})",
        "square": "{0} * {0}",
        "reciprocal": "{one} / {0}",
        "sqrt": "np.sqrt({0})",
        "sign": "({one} if {0} > {zero} else (-{one} if {0} < {zero} else "
        "({0} if {0} != {0} else {zero})))",
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

    dear: ClassVar[frozenset[str]] = frozenset({"exp", "log", "log1p", "expm1", "tanh"})

    def __init__(self, loop: Loop, stored: set[Value]) -> None:
        super().__init__(loop, stored)
        sizes = self.nest.sizes
        self.jobs = min(jobs(prod(sizes), LEAST), sizes[self.shared]) if sizes else 1
        self._own_memory = {x.name: np.zeros((self.jobs, x.length), x.kind) for x in self.scratch}
        self._constants = [np.array([x for _, x in self.constants])] if self.constants else []
        self._part_lines = self.part()
        stored_ones = [x for x in self.left if self.output(x.view.value)]
        self._together = [(x, self.put_together(x)) for x in stored_ones]

    def constant(self, kind: str, x: float) -> str:
        """f4(0.5); kinds are names of NumPy's types."""
        if kind in ("i8", "b1"):
            return f"{kind}({int(x)})"
        special = {"inf": "np.inf", "-inf": "-np.inf", "nan": "np.nan"}
        number = repr(float(x))
        return f"{kind}({special.get(number, number)})"

    def cast(self, name: str, kind: str) -> str:
        """f4(x)."""
        if kind == "b1":
            return f"({name} != 0)"
        return f"{kind}({name})"

    def text(self) -> str:
        """The functions: `part` does a share of the loop, `entry` finds what it needs in words."""
        named = [(x.name, x.kind) for x in self.inputs]
        named += [(x.name, x.kind) for x in self.scratch]
        named += [(x.name, x.kind) for x in self.outputs]
        params = ["share", "first", "last", *self.taken]
        given = ["job", "n * job // jobs", "n * (job + 1) // jobs"]
        given += [f"words[{k}]" for k in range(2, 2 + len(self.taken))]
        typed = [f"{name}: i8" for name in params]
        at = 2 + len(self.taken)
        for k, (name, kind) in enumerate(named, start=at):
            typed.append(f"{name}: [{kind}]")
            given.append(f"memory({kind}, words[{k}])")
        for k, ((kind, _), name) in enumerate(self.constants.items()):
            typed.append(f"{name}: {kind}")
            given.append(f"{kind}(memory(f8, words[{at + len(named)}])[{k}])")
        lines = [
            f"def part({', '.join(typed)}):",
            "    mode = flush_subnormals()",
            *(f"    {line}" for line in self._part_lines),
            "    restore(mode)",
            "",
            "",
            "@glue",
            "def entry(words: [i8], job: i8):",
            "    jobs, n = words[0], words[1]",
            f"    part({', '.join(given)})",
        ]
        return "\n".join(lines) + "\n"

    @property
    def words(self) -> list[int | Ref | Host]:
        """What `entry` takes: numbers, and arrays in the places of their addresses."""
        sizes = self.nest.sizes
        shared = sizes[self.shared] if sizes else 1
        words: list[int | Ref | Host] = [self.jobs, shared, *self.numbers_taken]
        words += [x.ref for x in self.inputs]
        words += self._own_memory.values()
        words += [x.ref for x in self.outputs]
        return words + self._constants

    def totals(self) -> Iterator[tuple[str, list[int | Ref | Host]]]:
        """Of each reduction that jobs share the source of what puts it together, and its words."""
        for x, lines in self._together:
            (own,) = (s for s in self.scratch if s.name == f"s{x.name}")
            (out,) = (o for o in self.outputs if o.name == self.output(x.view.value))
            numbers = "".join(f", {name}: i8" for name in self.taken)
            given = "".join(f", words[{k}]" for k in range(1, 1 + len(self.taken)))
            at = 1 + len(self.taken)
            text = [
                f"def add(shares: i8{numbers}, s: [{own.kind}], r: [{x.kind}]):",
                *(f"    {line}" for line in lines),
                "",
                "",
                "def entry(words: [i8], job: i8):",
                f"    add(words[0]{given}, "
                f"memory({own.kind}, words[{at}]), memory({x.kind}, words[{at + 1}]))",
            ]
            words: list[int | Ref | Host] = [
                self.jobs,
                *self.numbers_taken,
                self._own_memory[own.name],
                out.ref,
            ]
            yield "\n".join(text) + "\n", words
