"""Vector code of convolutions and pooling, as LLVM's text: what keeps its sums in registers.

`tile_f4_6_64` makes 6 rows of 64 columns of a matrix product, all of them in registers:

    out[t, :64] (+)= Σ_i Σ_k a[t at + i ai + k ak] b[(i K + k) bk + :64]

with addresses and strides in bytes. Columns are cut into vectors as wide as the processor's, the
last one as narrow as the rest allows, and masked where it is wider still. So the number of columns
modulo `strip(kind)` is in the code, and every other size is an argument.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

import llvmlite.binding as llvm

from ldl_numpy.lines import Lines
from ldl_numpy.translate import Function

NAME = re.compile(r"\b(tile|pool|spread)_(f4|f8)_(?:(\d+)_)?(\d+)\b")
SIZES = {"f4": 4, "f8": 8}
FLOATS = {"f4": "float", "f8": "double"}


class Registers(NamedTuple):
    """Of vectors: how many bytes each has, and how many there are."""

    width: int
    number: int


@cache
def registers() -> Registers:
    """The processor's."""
    has = llvm.get_host_cpu_features()
    if has.get("avx512f"):
        return Registers(64, 32)
    if has.get("avx2"):
        return Registers(32, 16)
    return Registers(16, 32 if "neon" in has else 16)


def strip(kind: str) -> int:
    """The columns that a tile has at most: four vectors, or two where registers are few."""
    found = registers()
    return (4 if found.number > 16 else 2) * found.width // SIZES[kind]


def vectors(kind: str, columns: int) -> list[int]:
    """The lengths of the vectors that hold so many columns; the last may reach beyond them."""
    wide = registers().width // SIZES[kind]
    whole, rest = divmod(columns, wide)
    return [wide] * whole + ([1 << (rest - 1).bit_length()] if rest else [])


def rows(kind: str, columns: int) -> list[int]:
    """The numbers of rows of tiles, the largest first: what there are is cut into these.

    Each takes LLVM some milliseconds.
    """
    each = len(vectors(kind, columns))
    free = registers().number - each - 2
    most = max(1, min(14, free // each))
    return [most, *(n for n in (8, 4, 2, 1) if n < most)]


def named(text: str) -> dict[str, Function]:
    """The functions of this module that a source names."""
    found = {}
    for name, what, kind, height, width in {(m.group(), *m.groups()) for m in NAME.finditer(text)}:
        if what == "tile":
            found[name] = tile(kind, int(height), int(width))
        else:
            found[name] = (pool if what == "pool" else spread)(kind, int(width))
    return found


class _Vectors(Lines):
    """Some columns as vectors, and how they are loaded and stored."""

    def __init__(self, kind: str, columns: int) -> None:
        super().__init__()
        self.kind, self.size = kind, SIZES[kind]
        self.lengths = vectors(kind, columns)
        self.starts = [sum(self.lengths[:v]) for v in range(len(self.lengths))]
        self.left = columns - self.starts[-1]
        """The columns of the last one."""

    def type(self, v: int, of: str = "") -> str:
        return f"<{self.lengths[v]} x {of or FLOATS[self.kind]}>"

    def masked(self, v: int) -> bool:
        return v == len(self.lengths) - 1 and self.left < self.lengths[v]

    def mask(self, v: int) -> str:
        bits = ", ".join(f"i1 {int(q < self.left)}" for q in range(self.lengths[v]))
        return f"<{self.lengths[v]} x i1> <{bits}>"

    def at(self, address: str, v: int, size: int = 0) -> str:
        """A pointer to a vector of the columns that begin at an address."""
        moved = self.let(f"add i64 {address}, {(size or self.size) * self.starts[v]}")
        return self.let(f"inttoptr i64 {moved} to ptr")

    def load(self, address: str, v: int, of: str = "", size: int = 0) -> str:
        at, kind = self.at(address, v, size), self.type(v, of)
        align = size or self.size
        if not self.masked(v):
            return self.let(f"load {kind}, ptr {at}, align {align}")
        name = f"@llvm.masked.load.v{self.lengths[v]}{_short(of or FLOATS[self.kind])}.p0"
        return self.let(
            f"call {kind} {name}(ptr {at}, i32 {align}, {self.mask(v)}, {kind} zeroinitializer)"
        )

    def store(self, value: str, address: str, v: int, of: str = "", size: int = 0) -> None:
        at, kind = self.at(address, v, size), self.type(v, of)
        align = size or self.size
        if not self.masked(v):
            self.put(f"store {kind} {value}, ptr {at}, align {align}")
            return
        name = f"@llvm.masked.store.v{self.lengths[v]}{_short(of or FLOATS[self.kind])}.p0"
        self.put(f"call void {name}({kind} {value}, ptr {at}, i32 {align}, {self.mask(v)})")

    def splat(self, value: str, v: int, of: str = "") -> str:
        kind, scalar = self.type(v, of), of or FLOATS[self.kind]
        one = self.let(f"insertelement {kind} poison, {scalar} {value}, i32 0")
        return self.let(
            f"shufflevector {kind} {one}, {kind} poison, <{self.lengths[v]} x i32> zeroinitializer"
        )


def _short(of: str) -> str:
    return {"float": "f32", "double": "f64"}.get(of, of)


@cache
def tile(kind: str, height: int, columns: int) -> Function:
    """(a, at, ai, ak, b, bk, out, ot, I, K, add): rows of a matrix product, in registers."""
    w = _Vectors(kind, columns)
    every = [(t, v) for t in range(height) for v in range(len(w.lengths))]
    w.label("entry")
    adds = w.let("icmp ne i64 %add, 0")
    outs = [w.let(f"add i64 %out, {w.let(f'mul i64 %ot, {t}')}") for t in range(height)]
    w.put(f"br i1 {adds}, label %held, label %outer")
    w.label("held")
    held = [w.load(outs[t], v) for t, v in every]
    w.put("br label %outer")
    w.label("outer")
    w.put("%i = phi i64 [0, %entry], [0, %held], [%i.next, %outer.end]")
    w.put("%oa = phi i64 [%a, %entry], [%a, %held], [%oa.next, %outer.end]")
    w.put("%ob = phi i64 [%b, %entry], [%b, %held], [%pb.next, %outer.end]")
    for (t, v), x in zip(every, held, strict=True):
        w.put(
            f"%o{t}.{v} = phi {w.type(v)} [zeroinitializer, %entry], [{x}, %held], "
            f"[%n{t}.{v}, %outer.end]"
        )
    w.put("br label %inner")
    w.label("inner")
    w.put("%k = phi i64 [0, %outer], [%k.next, %inner]")
    w.put("%pa = phi i64 [%oa, %outer], [%pa.next, %inner]")
    w.put("%pb = phi i64 [%ob, %outer], [%pb.next, %inner]")
    for t, v in every:
        w.put(f"%s{t}.{v} = phi {w.type(v)} [%o{t}.{v}, %outer], [%n{t}.{v}, %inner]")
    weights = [w.load("%pb", v) for v in range(len(w.lengths))]
    for t in range(height):
        at = w.let(f"add i64 %pa, {w.let(f'mul i64 %at, {t}')}")
        x = w.let(f"load {FLOATS[kind]}, ptr {w.let(f'inttoptr i64 {at} to ptr')}")
        for v, weight in enumerate(weights):
            name = f"@llvm.fma.v{w.lengths[v]}{_short(FLOATS[kind])}"
            one, of = w.splat(x, v), w.type(v)
            w.put(f"%n{t}.{v} = call {of} {name}({of} {one}, {of} {weight}, {of} %s{t}.{v})")
    for name, step in (("k", "1"), ("pa", "%ak"), ("pb", "%bk")):
        w.put(f"%{name}.next = add i64 %{name}, {step}")
    w.put(f"br i1 {w.let('icmp slt i64 %k.next, %K')}, label %inner, label %outer.end")
    w.label("outer.end")
    w.put("%i.next = add i64 %i, 1")
    w.put("%oa.next = add i64 %oa, %ai")
    w.put(f"br i1 {w.let('icmp slt i64 %i.next, %I')}, label %outer, label %done")
    w.label("done")
    for t, v in every:
        w.store(f"%n{t}.{v}", outs[t], v)
    w.put("ret void")
    return w.function(f"ldl_tile_{kind}_{height}_{columns}", "a at ai ak b bk out ot I K add")


@cache
def pool(kind: str, columns: int) -> Function:
    """(x, xi, xj, I, J, tap, ti, y, where): the largest of I by J pixels, and which one it is.

    The first is number `tap` of the window, those of the next row `ti` more each; NaN is the
    largest. `where` is of bytes.
    """
    w = _Vectors(kind, columns)
    every = range(len(w.lengths))
    w.label("entry")
    first = [w.load("%x", v) for v in every]
    start = w.let("trunc i64 %tap to i8")
    marks = [w.splat(start, v, "i8") for v in every]
    w.put("br label %rows")
    w.label("rows")
    w.put("%i = phi i64 [0, %entry], [%i.next, %rows.end]")
    w.put("%px = phi i64 [%x, %entry], [%px.next, %rows.end]")
    w.put("%pt = phi i64 [%tap, %entry], [%pt.next, %rows.end]")
    for v in every:
        w.put(f"%b{v} = phi {w.type(v)} [{first[v]}, %entry], [%nb{v}, %rows.end]")
        w.put(f"%m{v} = phi {w.type(v, 'i8')} [{marks[v]}, %entry], [%nm{v}, %rows.end]")
    w.put("br label %pixels")
    w.label("pixels")
    w.put("%j = phi i64 [0, %rows], [%j.next, %pixels]")
    w.put("%q = phi i64 [%px, %rows], [%q.next, %pixels]")
    w.put("%t = phi i64 [%pt, %rows], [%t.next, %pixels]")
    for v in every:
        w.put(f"%cb{v} = phi {w.type(v)} [%b{v}, %rows], [%nb{v}, %pixels]")
        w.put(f"%cm{v} = phi {w.type(v, 'i8')} [%m{v}, %rows], [%nm{v}, %pixels]")
    number = w.let("trunc i64 %t to i8")
    for v in every:
        value = w.load("%q", v)
        larger = w.let(f"fcmp ogt {w.type(v)} {value}, %cb{v}")
        wrong = w.let(f"fcmp uno {w.type(v)} {value}, {value}")
        right = w.let(f"fcmp ord {w.type(v)} %cb{v}, %cb{v}")
        bits = f"<{w.lengths[v]} x i1>"
        better = w.let(f"and {bits} {wrong}, {right}")
        better = w.let(f"or {bits} {larger}, {better}")
        mark = w.splat(number, v, "i8")
        w.put(f"%nb{v} = select {bits} {better}, {w.type(v)} {value}, {w.type(v)} %cb{v}")
        kind8 = w.type(v, "i8")
        w.put(f"%nm{v} = select {bits} {better}, {kind8} {mark}, {kind8} %cm{v}")
    for name, step in (("j", "1"), ("q", "%xj"), ("t", "1")):
        w.put(f"%{name}.next = add i64 %{name}, {step}")
    w.put(f"br i1 {w.let('icmp slt i64 %j.next, %J')}, label %pixels, label %rows.end")
    w.label("rows.end")
    for name, step in (("i", "1"), ("px", "%xi"), ("pt", "%ti")):
        w.put(f"%{name}.next = add i64 %{name}, {step}")
    w.put(f"br i1 {w.let('icmp slt i64 %i.next, %I')}, label %rows, label %done")
    w.label("done")
    for v in every:
        w.store(f"%nb{v}", "%y", v)
        w.store(f"%nm{v}", "%where", v, "i8", 1)
    w.put("ret void")
    return w.function(f"ldl_pool_{kind}_{columns}", "x xi xj I J tap ti y where")


@cache
def spread(kind: str, columns: int) -> Function:
    """(g, where, tap, x): adds g to x where the largest was number `tap` of the window."""
    w = _Vectors(kind, columns)
    w.label("entry")
    number = w.let("trunc i64 %tap to i8")
    for v in range(len(w.lengths)):
        g, mark, before = w.load("%g", v), w.load("%where", v, "i8", 1), w.load("%x", v)
        same = w.let(f"icmp eq {w.type(v, 'i8')} {mark}, {w.splat(number, v, 'i8')}")
        of = w.type(v)
        share = w.let(f"select <{w.lengths[v]} x i1> {same}, {of} {g}, {of} zeroinitializer")
        w.store(w.let(f"fadd {of} {before}, {share}"), "%x", v)
    w.put("ret void")
    return w.function(f"ldl_spread_{kind}_{columns}", "g where tap x")
