"""Products of large matrices, of operands packed block by block: sources that `translate` reads.

After Goto and van de Geijn (2008) and Van Zee and van de Geijn (2015). Of A a block that about fits
into the second cache is laid down row by row, of B a panel as wide as a tile beside it, turned
round where they lie transposed; `strips` multiplies the two, and so reads memory that is near and
straight, whatever the operands' strides.
"""

from __future__ import annotations

from ldl_numpy.strips import strips, typed
from ldl_numpy.tile import SIZES, strip
from ldl_numpy.turns import side

DEEP = 256
"""Columns of A, and rows of B, that are gone through at a time, at most."""

HIGH = 512
"""Rows of A that are gone through at a time, at most."""

LAY = f"""\
@glue
def lay({typed("a at to ot m n")}):
    for i in range(m):
        lay_row(memory(KIND, a + i * at), memory(KIND, to + i * ot), n)


@glue
def lay_turned({typed("a at to ot m n")}):
    whole, straight = m - m % SIDE, n - n % SIDE
    for i in range(0, whole, SIDE):
        for j in range(0, straight, SIDE):
            turn_KIND_SIDE(a + j * at + SIZE * i, at, to + i * ot + SIZE * j, ot)
    for j in range(n):
        lay_column(memory(KIND, a + j * at), to + SIZE * j, ot, whole if j < straight else i8(0), m)
"""
PIECES = """\
def lay_row(a: [KIND], to: [KIND], n: i8):
    for j in range(n):
        to[j] = a[j]


def lay_column(a: [KIND], to: i8, ot: i8, first: i8, last: i8):
    for i in range(first, last):
        held = memory(KIND, to + i * ot)
        held[0] = a[i]
"""
PRODUCT = """\
@glue
def entry(words: [i8], job: i8):
    a, a_lead, a_turned = words[0], words[1], words[2]
    b, b_lead, b_turned, out = words[3], words[4], words[5], words[6]
    m, n, k, down, across = words[7], words[8], words[9], words[10], words[11]
    deep, high = words[12], words[13]
    panel = words[14] + SIZE * deep * (high + WIDE) * job
    block = panel + SIZE * deep * WIDE
    i, j = job // across, job % across
    top, bottom = m * i // down, m * (i + 1) // down
    columns = (n + WIDE - 1) // WIDE
    first, last = columns * j // across * WIDE, columns * (j + 1) // across * WIDE
    last = last if last < n else n
    for q in range(0, k, deep):
        more = k - q if k - q < deep else i8(0) + deep
        for t in range(top, bottom, high):
            rows = bottom - t if bottom - t < high else i8(0) + high
            if a_turned != 0:
                lay_turned(a + q * a_lead + SIZE * t, a_lead, block, SIZE * deep, rows, more)
            else:
                lay(a + t * a_lead + SIZE * q, a_lead, block, SIZE * deep, rows, more)
            for c in range(first, last, WIDE):
                width = last - c if last - c < WIDE else i8(WIDE)
                if b_turned != 0:
                    lay_turned(b + c * b_lead + SIZE * q, b_lead, panel, SIZE * WIDE, more, width)
                else:
                    lay(b + q * b_lead + SIZE * c, b_lead, panel, SIZE * WIDE, more, width)
                strips(block, SIZE * deep, i8(0), i8(SIZE), panel, i8(SIZE * WIDE),
                       out + SIZE * (t * n + c), SIZE * n, rows, width, i8(1), more, q)
"""


def product(kind: str, n: int) -> str:
    """The source of C = A B for C of n columns, row by row; a block of C a job.

    Its words are of A, and of B, the address, the bytes from row to row as it lies in memory and
    whether that is transposed; C's address; m, n and k; in how many blocks C is cut down and
    across; how deep and how high A's blocks are, and `room` bytes. Each element is added in the
    order of k, whatever the blocks.
    """
    source = "\n\n\n".join((PIECES, LAY, PRODUCT))
    for name, number in (("SIZE", SIZES[kind]), ("WIDE", strip(kind)), ("SIDE", side(kind))):
        source = source.replace(name, str(number))
    return strips(kind, n, few=True) + source.replace("KIND", kind)


def cut(size: int, most: int) -> int:
    """The size of the fewest equal parts that are no larger than `most`."""
    parts = -(-size // most)
    return -(-size // parts)


def sizes(m: int, k: int) -> tuple[int, int]:
    """How deep and how high blocks of an (m, k) matrix are."""
    return cut(k, DEEP), cut(m, HIGH)


def room(kind: str, m: int, k: int) -> int:
    """Bytes that a job takes: at most 1.2 MB."""
    deep, high = sizes(m, k)
    return SIZES[kind] * deep * (high + strip(kind))


def blocks(kind: str, m: int, n: int, jobs: int) -> tuple[int, int]:
    """In how many blocks down and across to cut C, so that least is packed."""
    most = -(-n // strip(kind))
    pairs = [(jobs // c, c) for c in range(1, jobs + 1) if jobs % c == 0 and c <= most]
    return min(pairs, key=lambda pair: m / pair[0] + n / pair[1])
