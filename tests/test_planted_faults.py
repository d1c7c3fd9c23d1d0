"""Faults planted in what traces, plans and rewrites: the random programs find each of them.

They read and write memory that is not theirs, and so run by themselves: pytest -m planted.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from functools import partialmethod
from typing import Any, NamedTuple

import pytest

import programs
from ldl.compiler import (
    arrangements,
    copies,
    flat,
    fuse,
    loops,
    passes,
    plan,
    statements,
    views,
)
from ldl_numpy import blocks, program
from test_rewriting import gathered

pytestmark = pytest.mark.planted


class Fault(NamedTuple):
    """Other words in the source of a function or method."""

    where: Any
    name: str
    right: str
    wrong: str
    way: str = "one by one"
    unchecked: bool = False
    """Whether a plan must not look at its views, which would refuse what is wrong."""


FAULTS = {
    "a view of NumPy's order taken for one of the plan's": Fault(
        views.Views,
        "view_of",
        "lies = within",
        "lies = within(seen, self.array) or within",
        unchecked=True,
    ),
    "a copy of the plan's taken for a view": Fault(
        views.Views, "view_of", "if lies and here:", "if lies:"
    ),
    "writes to what may be one memory": Fault(
        views.Views, "check_written", "self.trace.stale |= found", "pass"
    ),
    "a write to a part taken for one to all": Fault(
        plan, "needed", "if not op.partial_write and all(map(_covers, op.outputs)):", "if True:"
    ),
    "numbers changed in place": Fault(
        views.Views, "__init__", "= trace, ref, array, number", "= trace, ref, array, False"
    ),
    "memory used again too early": Fault(
        plan._Memory, "__init__", "last[x.value] = i", "last.setdefault(x.value, i)"
    ),
    "inputs that stay bound": Fault(
        plan.Plan, "__call__", "if array is not self._last[i]:", "if self._last[i] is None:"
    ),
    "inputs as they lie": Fault(
        plan.Plan, "__call__", "not array.flags.c_contiguous or any(", "any("
    ),
    "a copy of what is changed afterwards left out": Fault(
        copies, "without_copies", "last.get(source.value, -1) < i", "True"
    ),
    "a copy that is changed left out": Fault(
        copies, "without_copies", "writes[value] == 1", "True"
    ),
    "a copy of which a view is taken left out": Fault(
        copies, "without_copies", "all(map(_lies_there, views))", "True", unchecked=True
    ),
    "a fill left out that is read": Fault(
        copies, "_written_over", "for x in op.inputs)", "for x in ())"
    ),
    "a fill left out of which something is left": Fault(
        copies, "_written_over", "return not left.any()", "return bool(writing)"
    ),
    "a copy's view read in the place of the source's": Fault(
        copies, "_of_source", "(*source.path, *x.path)", "source.path"
    ),
    "operations moved over a write": Fault(
        fuse, "_meets", "(reads | writes) & (loop.writes", "writes & (loop.writes", "loops"
    ),
    "a write moved over operations": Fault(fuse, "_meets", "writes & loop.reads", "False", "loops"),
    "what is read later not stored": Fault(
        fuse, "_read_after", "read |= step.reads", "pass", "loops"
    ),
    "arrays in any order gone through as vectors": Fault(
        flat, "role", "or not array.flags.c_contiguous", "", "blocks", unchecked=True
    ),
    "another view of what is being written": Fault(
        loops.Loop, "step", "self.held.get(x.value, x) != x", "False", "loops"
    ),
    "what is read taken for what may be written": Fault(
        loops.Loop, "step", "self.loaded.get(out.value, {out}) != {out}", "False", "loops"
    ),
    "views of one array taken for one": Fault(
        statements.Statements,
        "_load",
        "self._read.setdefault(x,",
        "self._read.setdefault(next((v for v in self._read if v.value is x.value), x),",
        "loops",
    ),
    "elements that follow in any order read in C's": Fault(
        passes.Body, "place", "if stride == self.nest.straight[axis]", "if stride", "loops"
    ),
    "written before a later pass reads what was there": Fault(
        passes.Body, "_places", "places[value] = max(places[value], stage)", "pass", "loops"
    ),
    "operands of products as if none were transposed": Fault(
        program._Program, "add", "[not x.flags.c_contiguous for", "[False for", "loops"
    ),
    "views of inputs read from the beginning": Fault(
        program._Program,
        "_point",
        "array.ctypes.data - self.memory(x.value).ctypes.data",  # none before the input, though
        "(min(array.strides) < 0) * (array.ctypes.data - self.memory(x.value).ctypes.data)",
        "loops",
    ),
    "scratch used again too early": Fault(
        blocks.Blocks, "_scratch", "if last[key] == i", "if True", "blocks"
    ),
    "an axis that is no axis": Fault(
        arrangements, "_joined", "parts, axis = [x.reshape(-1) for x in parts], 0", "axis = 0"
    ),
    "parts of a join on top of each other": Fault(arrangements, "_joined", "end += width", "pass"),
}


def plant(fault: Fault, monkeypatch: Any) -> None:
    """Let the function have the other words, wherever it was imported."""
    right = getattr(fault.where, fault.name)
    text = textwrap.dedent(inspect.getsource(right))
    assert fault.right in text, "the source has changed: plant the fault anew"
    home = sys.modules[right.__module__]
    space: dict[str, Any] = {}
    exec(text.replace(fault.right, fault.wrong), vars(home), space)
    rooms = "ldl.compiler", "ldl_numpy", "ldl_cupy"
    places = [m for name, m in sys.modules.items() if name.startswith(rooms)]
    for place in (fault.where, *places):
        if vars(place).get(fault.name) is right:
            monkeypatch.setattr(place, fault.name, space[fault.name])
    for name, held in list(vars(fault.where).items()):
        if isinstance(held, partialmethod) and held.func is right:
            other = partialmethod(space[fault.name], *held.args)
            monkeypatch.setattr(fault.where, name, other)
    if fault.unchecked:
        monkeypatch.setattr(plan._Memory, "check", lambda *given: None)


@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_the_programs_find(fault: Fault, monkeypatch: Any) -> None:
    monkeypatch.setattr(plan, "SMALL", 0)  # or all inputs were copied
    with gathered(fault.way, monkeypatch) as (backend, layouts):
        plant(fault, monkeypatch)
        with pytest.raises((AssertionError, ValueError, IndexError, TypeError, SyntaxError)):
            _run(2000, backend, layouts)


def _run(count: int, backend: Any, layouts: list[str]) -> None:
    for seed in range(count):
        programs.compare(programs.Program(seed), backend, layouts)
