"""The body of a loop: its statements, pass by pass.

A backend's `Body` says how its language writes them and what goes round them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ldl.compiler.loops import Loop, View
from ldl.compiler.nest import Nest
from ldl.compiler.operations import Ref, Value
from ldl.compiler.statements import ELEMENT, ONCE, ROW, Reduction, Statements, kind_of


class Argument(NamedTuple):
    """An array that a loop takes: an input "a0" or an output "o0"."""

    name: str
    ref: Ref
    kind: str
    offset: int
    """Of its first element from the beginning of the value, in bytes."""
    strides: tuple[int, ...]
    """Along the axes of the nest."""


@dataclass
class Part:
    """Names that are given at one place, in order: (name, argument) and statements."""

    loads: list[tuple[str, str]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    adds: list[Reduction] = field(default_factory=list)
    stores: list[tuple[str, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.loads or self.lines or self.adds or self.stores)


class Body(Statements):
    """Statements for an element of a loop, by passes, and the arrays that they read and write.

    What is the same for all is given `once`. A row has for each pass a head, the numbers that are
    known before, and what is done to each of its elements; its tail comes after the last. What an
    element of a later pass needs of an earlier one is computed again, but what is `dear`, which is
    kept in an output.
    """

    def __init__(self, loop: Loop, stored: set[Value]) -> None:
        super().__init__(loop, stored)
        self._count = 1 + max((node.stage for node in self._nodes.values()), default=0)
        """Of passes."""
        if self._count > 1:
            self._keep()
        views = [*self._read, *(loop.held[value] for value in self._stores)]
        self.nest = Nest(loop, views)
        self.inputs = [self._argument(name, view) for view, name in self._read.items()]
        held = {name: loop.held[value] for value, name in self._stores.items()}
        self.outputs = [self._argument(name, view) for name, view in held.items()]
        self.taken: dict[str, tuple[str, int]] = {}
        """The sizes and strides that a source names: ("size", axis) or ("", stride)."""
        self._arrange()

    def size(self, axis: int) -> str:
        """The name of an axis's size."""
        self.taken[f"n{axis}"] = ("size", axis)
        return f"n{axis}"

    def number(self, axes: Iterable[int]) -> str:
        """How many elements there are along some axes."""
        return " * ".join(map(self.size, axes)) or "1"

    def place(self, x: Argument) -> str:
        """Which element of an array is that at (i0, i1, …)."""
        terms = []
        for axis, stride in enumerate(x.strides):
            name = f"w{axis}" if stride == self.nest.straight[axis] else f"{x.name}w{axis}"
            if stride == 1 and axis == len(x.strides) - 1:
                terms.append(f"i{axis}")
            elif stride:
                self.taken[name] = ("", stride)
                terms.append(f"i{axis} * {name}")
        return " + ".join(terms) or "0"

    @property
    def numbers_taken(self) -> list[int]:
        """What `taken` names."""
        return [self.nest.sizes[n] if what else n for what, n in self.taken.values()]

    def output(self, value: Value) -> str:
        """The argument that a value is written to; "" where it is not."""
        return self._stores.get(value, "")

    def _argument(self, name: str, view: View) -> Argument:
        kind, strides = kind_of(view.value.dtype), self.nest.strides(view)
        return Argument(name, self._refs[view], kind, view.offset, strides)

    def _needed(self, roots: list[str], kept: set[str]) -> set[str]:
        """The names that some need, themselves included; those that are kept need nothing."""
        found: set[str] = set()
        todo = list(roots)
        while todo:
            name = todo.pop()
            if name in self._nodes and name not in found:
                found.add(name)
                todo += [] if name in kept else self._nodes[name].uses
        return found

    def _stored(self) -> list[tuple[Value, str, int]]:
        """Values, what they hold in the end, and how often that is written."""
        held = {value: self.loop.held[value] for value in self._stores}
        known = self._names
        return [(v, known[x], self._level(x)) for v, x in held.items() if x in known]

    def _roots(self, places: dict[Value, int], stage: int) -> list[str]:
        """What a pass over elements is for."""
        roots = [self._names[self.loop.held[v]] for v, place in places.items() if place == stage]
        for x in self.reductions:
            if x.level == ELEMENT and x.stage == stage:
                roots += self._uses(x.added)
        return roots

    def _places(self) -> dict[Value, int]:
        """The pass in which an element of each value is stored: after all that read the old one."""
        stages = {name: node.stage for name, node in self._nodes.items()}
        places = {v: stages.get(name, 0) for v, name, level in self._stored() if level == ELEMENT}
        while self._count > 1:
            before = dict(places)
            for stage in range(self._count):
                loaded = {
                    self._nodes[name].text
                    for name in self._needed(self._roots(places, stage), set())
                    if self._nodes[name].loads
                }
                for value in places:
                    if self._stores[value] in loaded:
                        places[value] = max(places[value], stage)
            if places == before:
                break
        return places

    def _keep(self) -> None:
        """Let what is dear be stored that more than one pass needs."""
        writes = [step.out.value for step in self.loop.steps]
        places = self._places()
        for stage in range(1, self._count):
            for name in sorted(self._needed(self._roots(places, stage), set())):
                node = self._nodes[name]
                if node.home is None or node.stage == stage or node.level < ELEMENT:
                    continue
                value = node.home.value
                if writes.count(value) == 1 and value not in self.loop.loaded:
                    self._stores.setdefault(value, f"o{len(self._stores)}")

    def _arrange(self) -> None:
        self.places = places = self._places()
        stored = self._stored()
        final = {name: value for value, name, level in stored if level == ELEMENT}
        kept = {
            name
            for name, value in final.items()
            if self._nodes.get(name) is not None
            and self._nodes[name].home is not None
            and places[value] == self._nodes[name].stage
        }
        self.once, self.tail = Part(), Part()
        self.heads = [Part() for _ in range(self._count)]
        self.passes = [Part() for _ in range(self._count)]
        for value, name, level in stored:
            part = self.passes[places[value]] if level == ELEMENT else self.tail
            part.stores.append((self._stores[value], name))
        for x in self.reductions:
            (self.passes[x.stage] if x.level == ELEMENT else self.tail).adds.append(x)
        needed = [name for _, name in self.tail.stores]
        for x in self.tail.adds:
            needed += self._uses(x.added)
        for stage, part in enumerate(self.passes):
            earlier = {name for name in kept if self._nodes[name].stage < stage}
            found = self._needed(self._roots(places, stage), earlier)
            needed += [name for name in found if self._nodes[name].level < ELEMENT]
            self._give(part, found, ELEMENT, earlier, final)
        alone = self._needed(needed, set())
        self._give(self.once, alone, ONCE, set(), final)
        for stage, part in enumerate(self.heads):
            found = {name for name in alone if self._nodes[name].stage == stage}
            self._give(part, found, ROW, set(), final)

    def _give(
        self, part: Part, names: set[str], level: int, kept: set[str], final: dict[str, Value]
    ) -> None:
        """Note the names of a level in the order in which they were made."""
        for name, node in self._nodes.items():
            if name not in names or node.level != level or not (node.text or node.loads):
                continue
            if name in kept:
                part.loads.append((name, self._stores[final[name]]))
            elif node.loads:
                part.loads.append((name, node.text))
            else:
                part.lines.append(self.statement.format(name, node.text))
