"""Functions in a small part of Python as LLVM's language.

A function's arguments are numbers and memory, `x: f4` and `a: [f4]`; no two that are memory overlap
(LLVM's `noalias`). It has assignments, `for … in range(…)`, `while` and `if … else`, and calls
functions of the same kind. Names mean what they mean in Python: `np.sqrt` and `abs` the operations,
a function of numbers the function, `f4` the type and its casts; a plain number takes the type of
what it meets, as with NumPy's scalars. The same functions, run by Python on such, give the same
bits.

There are no branches in an expression: both sides of `x if c else y` are computed and one is
selected, which LLVM can do for many elements at once. Whole numbers wrap, `//` and `%` are those of
numbers that are not negative, and indices never leave memory, so that LLVM may count on their sums.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from ldl_numpy.expressions import Expressions, Number
from ldl_numpy.instructions import HELD, TYPES, result


class Function(NamedTuple):
    """A function as LLVM's text, what it gives ("f4", "i8 i8", ""), and those that it calls."""

    name: str
    text: str
    gives: str
    needs: frozenset[Function]


def functions(source: str, names: Mapping[str, Any], prefix: str) -> dict[str, Function]:
    """The functions of a source by name; all but the last are its own. Others are in `names`."""
    found: dict[str, Function] = {}
    trees = [tree for tree in ast.parse(source).body if isinstance(tree, ast.FunctionDef)]
    for tree in trees:
        how = "" if tree is trees[-1] else "internal "
        found[tree.name] = _Writer(tree, {**names, **found}, prefix + tree.name, how).function
    return found


def text(function: Any) -> str:
    """The source of a Python function."""
    return textwrap.dedent(inspect.getsource(function))


@cache
def library(function: Any) -> Function:
    """A Python function that others call."""
    tree = ast.parse(text(function)).body[0]
    assert isinstance(tree, ast.FunctionDef)
    return _Writer(tree, function.__globals__, f"ldl_{tree.name}", "internal ").function


def module(wanted: list[Function]) -> str:
    """A module of functions and of all that they need."""
    found: dict[Function, None] = {}

    def take(function: Function) -> None:
        for other in function.needs:
            take(other)
        found[function] = None

    for function in wanted:
        take(function)
    return "\n".join(function.text for function in found) + ATTRIBUTES


ATTRIBUTES = '\nattributes #0 = { nounwind "prefer-vector-width"="512" }\n'
"""LLVM keeps to half of AVX-512's vectors otherwise; loops with an exponential or a logarithm
gained a fifth to a quarter."""


class _Writer(Expressions):
    """One function, being written."""

    def __init__(
        self, tree: ast.FunctionDef, names: Mapping[str, Any], name: str, how: str
    ) -> None:
        marks = [d.id for d in tree.decorator_list if isinstance(d, ast.Name)]
        super().__init__(names, "".join(f" {m}" for m in marks if m in ("contract", "reassoc")))
        self.block = "entry"
        self.gives = ""
        self.needs: set[Function] = set()
        params = []
        for arg in tree.args.args:
            number = Number(f"%{arg.arg}", ast.unparse(arg.annotation or tree))
            self.names[arg.arg] = number
            is_memory = number.kind[0] == "["
            params.append(f"ptr noalias {number.name}" if is_memory else str(number))
        self.statements(tree.body)
        if not self.gives:
            self.put("ret void")
        if "glue" in marks:
            inline = "noinline optnone "
        else:
            inline = "alwaysinline " if self.gives else "noinline " if how else ""
        head = f"define {how}{result(self.gives)} @{name}({', '.join(params)}) {inline}#0 {{"
        text = "\n".join([head, "entry:", *self.lines, "}"])
        self.function = Function(name, text, self.gives, frozenset(self.needs))

    def label(self, name: str) -> None:
        """Begin a block."""
        self.lines.append(f"{name}:")
        self.block = name

    def statements(self, body: list[ast.stmt]) -> None:
        """All of a body."""
        for statement in body:
            match statement:
                case ast.Assign(targets=[ast.Tuple(elts=targets)], value=value):
                    values = self.several(value)
                    for target, x in zip(targets, values, strict=True):
                        self.assign(target, x)
                case ast.Assign(targets=[target], value=value):
                    self.assign(target, self.plain(value))
                case ast.AugAssign(target=target, op=op, value=value):
                    read = ast.copy_location(_loaded(target), target)
                    self.assign(target, self.binary(self.plain(read), op, self.plain(value)))
                case ast.For(target=ast.Name(id=name), iter=ast.Call(args=args)):
                    self.loop(name, args, statement.body)
                case ast.While(test=test):
                    self.repeat(test, statement.body)
                case ast.If(test=test):
                    self.branch(self.truth(self.plain(test)), statement.body, statement.orelse)
                case ast.Return(value=value):
                    assert value is not None
                    self.give(self.several(value))
                case ast.Expr(value=ast.Call() as value):
                    self.called(value)
                case ast.Expr(value=ast.Constant()):
                    pass
                case _:
                    raise NotImplementedError(ast.unparse(statement))

    def several(self, x: ast.expr) -> list[Any]:
        """The parts of a tuple."""
        if isinstance(x, ast.Tuple):
            return [self.plain(part) for part in x.elts]
        found = self.plain(x)
        return found if isinstance(found, list) else [found]

    def assign(self, target: ast.expr, x: Any) -> None:
        """Give a number a name, or store it."""
        if isinstance(target, ast.Name):
            before = self.names.get(target.id)
            self.names[target.id] = self.to(x, before.kind) if isinstance(before, Number) else x
            return
        assert isinstance(target, ast.Subscript)
        at, kind = self.element(target)
        number = self.to(x, kind)
        if kind == "b1":
            number = Number(self.let("", f"zext i1 {number.name} to i8").name, kind)
        self.put(f"store {HELD[kind]} {number.name}, ptr {at}")

    def give(self, values: list[Any]) -> None:
        """Return numbers."""
        self.gives = " ".join(x.kind for x in values)
        if len(values) == 1:
            self.put(f"ret {values[0]}")
            return
        made, kind = "poison", result(self.gives)
        for i, x in enumerate(values):
            made = self.let("", f"insertvalue {kind} {made}, {x}, {i}").name
        self.put(f"ret {kind} {made}")

    def loop(self, name: str, args: list[ast.expr], body: list[ast.stmt]) -> None:
        """Count from the first to before the last; what was named before may change on the way."""
        first, last, by = [*[0][len(args) - 1 :], *map(self.indexed, args), 1][:3]
        start, stop, step = (self.to(x, "i8") for x in (first, last, by))
        carried = self.changed(body)
        label, before, outside = f"loop{self.fresh()}", self.block, dict(self.names)
        more = self.let("b1", f"icmp slt i64 {start.name}, {stop.name}")
        self.put(f"br i1 {more.name}, label %{label}, label %{label}.end")
        self.label(label)
        counter = Number(f"%{label}.{name}", "i8")
        self.names[name] = counter
        at = len(self.lines)
        for n in carried:
            self.names[n] = Number(f"%{label}.{n}.", outside[n].kind)
        self.statements(body)
        after = self.let("i8", f"add nsw i64 {counter.name}, {step.name}")
        more = self.let("b1", f"icmp slt i64 {after.name}, {stop.name}")
        latch, ends = self.block, {n: self.names[n] for n in carried}
        self.put(f"br i1 {more.name}, label %{label}, label %{label}.end")
        given = [(counter, start, after)]
        given += [(Number(f"%{label}.{n}.", ends[n].kind), outside[n], ends[n]) for n in carried]
        self.lines[at:at] = _phis(given, before, latch)
        self.label(f"{label}.end")
        self.names = outside
        for n in carried:
            self.names[n] = self.meet([(outside[n], before), (ends[n], latch)])

    def repeat(self, test: ast.expr, body: list[ast.stmt]) -> None:
        """Do it while a test holds; what was named before may change on the way."""
        label, before = f"while{self.fresh()}", self.block
        carried = {n: self.names[n] for n in self.changed(body)}
        self.put(f"br label %{label}")
        self.label(label)
        at = len(self.lines)
        self.names |= {n: Number(f"%{label}.{n}.", x.kind) for n, x in carried.items()}
        held = dict(self.names)
        more = self.truth(self.plain(test))
        self.put(f"br i1 {more.name}, label %{label}.again, label %{label}.end")
        self.label(f"{label}.again")
        self.statements(body)
        given = [(held[n], x, self.names[n]) for n, x in carried.items()]
        self.put(f"br label %{label}")
        self.lines[at:at] = _phis(given, before, self.block)
        self.label(f"{label}.end")
        self.names = held

    def branch(self, test: Number, body: list[ast.stmt], orelse: list[ast.stmt]) -> None:
        """Go one way or the other; what was named before may change on the way."""
        label, outside = f"if{self.fresh()}", dict(self.names)
        self.put(f"br i1 {test.name}, label %{label}, label %{label}.else")
        ways = []
        for name, statements in ((label, body), (f"{label}.else", orelse)):
            self.label(name)
            self.names = dict(outside)
            self.statements(statements)
            ways.append((self.names, self.block))
            self.put(f"br label %{label}.end")
        self.label(f"{label}.end")
        self.names = outside
        for n in self.changed([*body, *orelse]):
            self.names[n] = self.meet([(names[n], block) for names, block in ways])

    def changed(self, body: list[ast.stmt]) -> list[str]:
        """The names that a body gives to other numbers than they have."""
        nodes = (node for statement in body for node in ast.walk(statement))
        given = [n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        found = [name for name in dict.fromkeys(given) if name in self.names]
        for name in found:
            if not isinstance(self.names[name], Number):
                raise TypeError(f"{name} needs a type, as in f4({self.names[name]})")
        return found

    def meet(self, ways: list[tuple[Number, str]]) -> Number:
        """The number that a way brings."""
        kind = ways[0][0].kind
        given = ", ".join(f"[{x.name}, %{block}]" for x, block in ways)
        return self.let(kind, f"phi {TYPES[kind]} {given}")

    def invoke(self, function: Any, args: list[Any]) -> Any:
        """What a function of ours gives: one of the same text, or one of Python's."""
        function = function if isinstance(function, Function) else library(function)
        self.needs.add(function)
        given = ", ".join(str(self.to(arg, "i8")) for arg in args)
        text = f"call {result(function.gives)} @{function.name}({given})"
        kinds = function.gives.split()
        if not kinds:
            self.put(text)
            return None
        made = self.let(function.gives, text)
        if len(kinds) == 1:
            return made
        held = f"{result(function.gives)} {made.name}"
        return [self.let(kind, f"extractvalue {held}, {i}") for i, kind in enumerate(kinds)]


def _phis(given: list[tuple[Number, Number, Number]], before: str, latch: str) -> list[str]:
    """Numbers that are others when a loop begins than when it goes on."""
    return [
        f"  {x.name} = phi {TYPES[x.kind]} [{a.name}, %{before}], [{b.name}, %{latch}]"
        for x, a, b in given
    ]


def _loaded(target: ast.expr) -> ast.expr:
    """What is assigned to, read."""
    if isinstance(target, ast.Name):
        return ast.Name(target.id, ast.Load())
    assert isinstance(target, ast.Subscript)
    return ast.Subscript(target.value, target.slice, ast.Load())
