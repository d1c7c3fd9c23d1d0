"""Small squares of a matrix turned round in registers, as LLVM's text.

`turn_f4_16` writes the transpose of a square of 16 rows, each a vector. Rows i and i + 8 are
zipped, log2 16 times: number (i, j) of the square is then where (j, i) was.
"""

from __future__ import annotations

import re
from functools import cache

from ldl_numpy import tile
from ldl_numpy.lines import Lines
from ldl_numpy.tile import FLOATS, SIZES
from ldl_numpy.translate import Function

NAME = re.compile(r"\bturn_(f4|f8)_(\d+)\b")


def side(kind: str) -> int:
    """Rows of a square: the numbers that a vector holds."""
    return tile.registers().width // SIZES[kind]


def named(text: str) -> dict[str, Function]:
    """The functions of this module that a source names."""
    return {m.group(): turn(m.group(1), int(m.group(2))) for m in NAME.finditer(text)}


@cache
def turn(kind: str, n: int) -> Function:
    """(a, at, to, ot): to[j, i] = a[i, j], with the addresses and the rows' strides, in bytes."""
    w = Lines()
    of = f"<{n} x {FLOATS[kind]}>"

    def place(start: str, stride: str, i: int) -> str:
        moved = w.let(f"add i64 {start}, {w.let(f'mul i64 {stride}, {i}')}")
        return w.let(f"inttoptr i64 {moved} to ptr")

    def zipped(a: str, b: str, first: int) -> str:
        pairs = [q for i in range(first, first + n // 2) for q in (i, n + i)]
        mask = ", ".join(f"i32 {q}" for q in pairs)
        return w.let(f"shufflevector {of} {a}, {of} {b}, <{n} x i32> <{mask}>")

    w.label("entry")
    rows = [w.let(f"load {of}, ptr {place('%a', '%at', i)}, align {SIZES[kind]}") for i in range(n)]
    for _ in range(n.bit_length() - 1):
        pairs = zip(rows[: n // 2], rows[n // 2 :], strict=True)
        rows = [zipped(a, b, first) for a, b in pairs for first in (0, n // 2)]
    for j, row in enumerate(rows):
        w.put(f"store {of} {row}, ptr {place('%to', '%ot', j)}, align {SIZES[kind]}")
    w.put("ret void")
    return w.function(f"ldl_turn_{kind}_{n}", "a at to ot")
