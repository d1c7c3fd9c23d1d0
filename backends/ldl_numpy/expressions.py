"""Expressions of numbers in LLVM's text."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ldl_numpy.instructions import (
    COMPARED,
    FLOATS,
    FOLDS,
    HELD,
    INTRINSICS,
    PLAIN,
    TYPES,
    WHOLES,
    literal,
)
from ldl_numpy.language import (
    FLUSH,
    KINDS,
    SSE,
    call,
    flush_subnormals,
    high_product,
    memory,
    restore,
)


class Number(NamedTuple):
    """A value by its name, and its type: "f4", or "[f4]" for memory."""

    name: str
    kind: str

    def __str__(self) -> str:
        return f"{'ptr' if self.kind[0] == '[' else TYPES[self.kind]} {self.name}"


class Expressions:
    """The lines of a function, and what writes expressions there."""

    def __init__(self, known: Mapping[str, Any], flags: str) -> None:
        self.known = {**vars(builtins), **known}
        self.names: dict[str, Any] = {}
        """Numbers by their names in Python."""
        self.lines: list[str] = []
        self.flags = flags
        """What LLVM may do to floats."""
        self._index = ""
        """What it may count on in indices: they never overflow."""
        self._count = 0

    def put(self, line: str) -> None:
        """Write a line."""
        self.lines.append("  " + line)

    def let(self, kind: str, text: str) -> Number:
        """Name what an instruction gives."""
        name = f"%.{self.fresh()}"
        self.put(f"{name} = {text}")
        return Number(name, kind)

    def fresh(self) -> int:
        """A number that nothing has yet."""
        self._count += 1
        return self._count

    def invoke(self, function: Any, args: list[Any]) -> Any:
        """What a function of Python's text gives."""
        raise NotImplementedError

    def plain(self, x: ast.expr) -> Any:
        """The number that an expression gives: a `Number`, one of Python's own, or several."""
        match x:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name):
                return self.names[name] if name in self.names else self.known[name]
            case ast.Attribute(value=value, attr=attr):
                return getattr(self.plain(value), attr)
            case ast.BinOp(left=left, op=op, right=right):
                return self.binary(self.plain(left), op, self.plain(right))
            case ast.UnaryOp(op=op, operand=operand):
                return self.unary(op, self.plain(operand))
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self.compare(self.plain(left), op, self.plain(right))
            case ast.BoolOp(op=op, values=values):
                how = "and" if isinstance(op, ast.And) else "or"
                found = self.truth(self.plain(values[0]))
                for value in values[1:]:
                    other = self.truth(self.plain(value))
                    found = self.let("b1", f"{how} i1 {found.name}, {other.name}")
                return found
            case ast.IfExp(test=test, body=body, orelse=orelse):
                chosen = self.truth(self.plain(test))
                a, b = self.alike(self.plain(body), self.plain(orelse))
                given = f"i1 {chosen.name}, {a}, {b}"
                return self.let(a.kind, f"select {given}")
            case ast.Subscript():
                at, kind = self.element(x)
                number = self.let(kind, f"load {HELD[kind]}, ptr {at}")
                return self.let("b1", f"icmp ne i8 {number.name}, 0") if kind == "b1" else number
            case ast.Call():
                return self.called(x)
        raise NotImplementedError(ast.unparse(x))

    def indexed(self, x: ast.expr) -> Any:
        """An index, or a bound of one."""
        before, self._index = self._index, " nsw"
        found = self.plain(x)
        self._index = before
        return found

    def element(self, x: ast.Subscript) -> tuple[str, str]:
        """Where an element lies, and its type."""
        array, index = self.plain(x.value), self.to(self.indexed(x.slice), "i8")
        kind = array.kind[1:-1]
        at = f"getelementptr inbounds {HELD[kind]}, ptr {array.name}, i64 {index.name}"
        return self.let("i8", at).name, kind

    def binary(self, a: Any, op: ast.operator, b: Any) -> Any:
        """a op b."""
        if not isinstance(a, Number) and not isinstance(b, Number):
            return PLAIN[type(op)](a, b)
        a, b = self.alike(a, b)
        if a.kind[0] == "f":
            name = FLOATS[type(op)] + self.flags
        else:
            name = WHOLES[type(op)]
            name = "lshr" if a.kind == "u8" and name == "ashr" else name
            name += self._index if name in ("add", "sub", "mul") else ""
        return self.let(a.kind, f"{name} {TYPES[a.kind]} {a.name}, {b.name}")

    def unary(self, op: ast.unaryop, x: Any) -> Any:
        """-x, not x."""
        if isinstance(op, ast.Not):
            return self.let("b1", f"xor i1 {self.truth(x).name}, true")
        assert isinstance(op, ast.USub)
        if not isinstance(x, Number):
            return -x
        if x.kind[0] == "f":
            return self.let(x.kind, f"fneg {x}")
        return self.let(x.kind, f"sub {TYPES[x.kind]} 0, {x.name}")

    def compare(self, a: Any, op: ast.cmpop, b: Any) -> Number:
        """Whether a op b; with NaN only != is true."""
        a, b = self.alike(a, b)
        floats, wholes, unsigned = COMPARED[type(op)]
        if a.kind[0] == "f":
            how = f"fcmp {floats}"
        else:
            how = f"icmp {wholes if a.kind[0] == 'i' else unsigned}"
        return self.let("b1", f"{how} {TYPES[a.kind]} {a.name}, {b.name}")

    def alike(self, a: Any, b: Any) -> tuple[Number, Number]:
        """Both, a plain number as the other's type."""
        if not isinstance(a, Number):
            return self.to(a, b.kind), b
        b = self.to(b, a.kind)
        if a.kind != b.kind:
            raise TypeError(f"{a.kind} meets {b.kind}")
        return a, b

    def to(self, x: Any, kind: str) -> Number:
        """A plain number as a type; a `Number` as it is."""
        return x if isinstance(x, Number) else Number(literal(x, kind), kind)

    def truth(self, x: Any) -> Number:
        """Whether it is not zero."""
        return x if x.kind == "b1" else self.compare(x, ast.NotEq(), 0)

    def cast(self, x: Any, kind: str) -> Number:
        """As another type; a float that no whole number is near becomes the least."""
        if not isinstance(x, Number) or x.kind == kind:
            return self.to(x, kind)
        if kind == "b1":
            return self.truth(x)
        source, held, to = x.kind, str(x), TYPES[kind]
        if source[0] == "f" and kind[0] == "f":
            return self.let(kind, f"{'fpext' if kind == 'f8' else 'fptrunc'} {held} to {to}")
        if kind[0] == "f":
            how = "sitofp" if source[0] == "i" else "uitofp"
            return self.let(kind, f"{how} {held} to {to}")
        if source[0] == "f":
            bound = 2.0 ** (8 * int(kind[1]) - 1)
            fits = self.compare(x, ast.GtE(), -bound)
            below = self.compare(x, ast.Lt(), bound)
            fits = self.let("b1", f"and i1 {fits.name}, {below.name}")
            near = self.let(source, f"select i1 {fits.name}, {held}, {self.to(0, source)}")
            whole = self.let(kind, f"fptosi {near} to {to}")
            least = literal(-int(bound), kind)
            return self.let(kind, f"select i1 {fits.name}, {whole}, {to} {least}")
        wider = int(kind[1]) - (0 if source == "b1" else int(source[1]))
        if not wider:
            return Number(x.name, kind)
        how = "trunc" if wider < 0 else "sext" if source[0] == "i" else "zext"
        return self.let(kind, f"{how} {held} to {to}")

    def called(self, x: ast.Call) -> Any:
        """What a call gives."""
        if isinstance(x.func, ast.Attribute) and x.func.attr == "view":
            number, kind = self.plain(x.func.value), KINDS[self.plain(x.args[0])]
            return self.let(kind, f"bitcast {number} to {TYPES[kind]}")
        function, args = self.plain(x.func), [self.plain(arg) for arg in x.args]
        if isinstance(function, type) and function in KINDS:
            return self.cast(args[0], KINDS[function])
        if function in INTRINSICS:
            return self.intrinsic(INTRINSICS[function], args)
        if function in FOLDS:
            return self.fold(function, *self.alike(*args))
        if function is abs:
            return self.intrinsic("fabs" if args[0].kind[0] == "f" else "abs", args)
        if function is memory:
            kind = KINDS[args[0]]
            return self.let(f"[{kind}]", f"inttoptr {args[1]} to ptr")
        if function is call:
            given = ", ".join(map(str, args[1:]))
            self.put(
                f"call void {self.let('', f'inttoptr i64 {args[0].name} to ptr').name}({given})"
            )
            return None
        if function is high_product:
            a, b = (self.let("", f"zext {arg} to i128").name for arg in args)
            product = self.let("", f"mul i128 {a}, {b}").name
            upper = self.let("", f"lshr i128 {product}, 64").name
            return self.let("u8", f"trunc i128 {upper} to i64")
        if function in (flush_subnormals, restore):
            return self.control_register(*args)
        return self.invoke(function, args)

    def fold(self, function: Any, a: Number, b: Number) -> Number:
        """Both together, in any order: what a loop may do to several numbers at once."""
        floats, wholes = FOLDS[function]
        if a.kind[0] != "f":
            return self.let(a.kind, wholes.format(TYPES[a.kind], a.name, b.name))
        if function is np.add:
            return self.let(a.kind, f"fadd reassoc {a}, {b.name}")
        return self.intrinsic(floats, [a, b])

    def intrinsic(self, name: str, args: list[Any]) -> Number:
        """One of LLVM's own functions."""
        kind = next(arg.kind for arg in args if isinstance(arg, Number))
        form = f"{TYPES[kind]} @llvm.{name}.{kind[0]}{8 * int(kind[1])}"
        given = ", ".join(str(self.to(arg, kind)) for arg in args)
        return self.let(kind, f"call {form}({given}{', i1 false' if name == 'abs' else ''})")

    def control_register(self, mode: Number | None = None) -> Number | None:
        """Flush subnormal numbers from here on, and the mode before; or back to a mode."""
        if not SSE:
            return self.to(0, "i4") if mode is None else None
        slot = self.let("", "alloca i32").name
        if mode is None:
            self.put(f"call void @llvm.x86.sse.stmxcsr(ptr {slot})")
            mode = before = self.let("i4", f"load i32, ptr {slot}")
            mode = self.let("i4", f"or i32 {mode.name}, {FLUSH}")
        else:
            before = mode
        self.put(f"store i32 {mode.name}, ptr {slot}")
        self.put(f"call void @llvm.x86.sse.ldmxcsr(ptr {slot})")
        return before
