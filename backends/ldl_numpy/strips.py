"""Products of matrices in strips of columns, each in tiles: sources that `translate` reads.

A product whose right operand lies row by row, and fits into the second cache, is faster so than by
BLAS, which copies both operands first: by a tenth where there are many rows, by a quarter of 32.
"""

from __future__ import annotations

from ldl_numpy import tile
from ldl_numpy.tile import SIZES, strip

DEEP = 256
"""Rows of it that are gone through at a time, so that a strip of them stays in the first cache."""


def typed(params: str) -> str:
    """Whole numbers as parameters."""
    return ", ".join(f"{name}: i8" for name in params.split())


def _rows(kind: str, width: int, few: bool) -> str:
    """`rows_N`: rows of so many columns, in tiles."""
    most, *heights = tile.rows(kind, width)
    if few:
        heights = heights[-1:]
    given = "a + t * at, at, ai, ak, b, bk, out + t * ot, ot, I, K, add"
    lines = [
        f"def rows_{width}({typed('a at ai ak b bk out ot m I K add')}):",
        f"    whole = m - m % {most}",
        f"    for t in range(0, whole, {most}):",
        f"        tile_{kind}_{most}_{width}({given})",
        "    t = i8(0) + whole",
    ]
    for height in heights:
        lines += [
            f"    while m - t >= {height}:",
            f"        tile_{kind}_{height}_{width}({given})",
            f"        t = t + {height}",
        ]
    return "\n".join(lines) + "\n\n\n"


def strips(kind: str, columns: int, few: bool = False) -> str:
    """`strips`: m rows of n columns, n being so many modulo a strip; with `few` kinds of tiles."""
    wide, rest = strip(kind), columns % strip(kind)
    text = _rows(kind, wide, few) if columns >= wide else ""
    text += _rows(kind, rest, few) if rest else ""

    def call(width: int, at: str) -> str:
        moved = f"{SIZES[kind]} * {at}"
        return f"rows_{width}(a, at, ai, ak, b + {moved}, bk, out + {moved}, ot, m, I, K, add)"

    lines = [
        f"def strips({typed('a at ai ak b bk out ot m n I K add')}):",
        f"    whole = n - n % {wide}",
    ]
    if columns >= wide:
        lines += [f"    for c in range(0, whole, {wide}):", "        " + call(wide, "c")]
    if rest:
        lines += ["    if n > whole:", "        " + call(rest, "whole")]
    return text + "\n".join(lines) + "\n\n\n"


PRODUCT = """\
def entry(words: [i8], job: i8):
    a, at, ak, b, out = words[0], words[1], words[2], words[3], words[4]
    m, n, k, down, across = words[5], words[6], words[7], words[8], words[9]
    i, j = job // across, job % across
    top, bottom = m * i // down, m * (i + 1) // down
    columns = (n + WIDE - 1) // WIDE
    first, last = columns * j // across * WIDE, columns * (j + 1) // across * WIDE
    last = last if last < n else n
    to = out + SIZE * (top * n + first)
    for q in range(0, k, DEEP):
        more = k - q
        more = more if more < DEEP else i8(DEEP)
        strips(a + top * at + q * ak, at, i8(0), ak, b + SIZE * (q * n + first), SIZE * n, to,
               SIZE * n, bottom - top, last - first, i8(1), more, q)
"""


def product(kind: str, n: int) -> str:
    """The source of C = A B for C of n columns, C and B row by row; a block of C a job.

    Its words are the address of A and its strides, in bytes, down and along; the addresses of B and
    C; m, n and k; and in how many blocks C is cut down and across. Each element is added in the
    order of k, whatever the blocks.
    """
    source = PRODUCT.replace("SIZE", str(SIZES[kind])).replace("WIDE", str(strip(kind)))
    source = source.replace("DEEP", str(DEEP))
    return strips(kind, n, few=True) + source


def blocks(kind: str, m: int, n: int, jobs: int) -> tuple[int, int]:
    """In how many blocks down and across to cut C: along its longer side."""
    across = -(-n // strip(kind))
    return (min(jobs, m), 1) if m >= n or across < jobs else (1, jobs)
