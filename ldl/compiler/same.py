"""Sameness: what is compared by what it is, and what is the same where it is equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import filterfalse
from operator import is_
from types import CellType, MemberDescriptorType
from typing import Any

import numpy as np

NOTED = frozenset({"__slotnames__", "__annotations__", "__annotations_cache__"})
"""What Python notes in a class when its objects are copied, or somebody asks."""

ATOMS = frozenset({int, float, complex, bool, str, bytes, range, slice, type(None), type(...)})
"""The types of what is what it is; one that a class of one's own makes may hold more."""

ABSENT = object()
"""What stands for a name's value where there is no such name."""


class Names:
    """The names in a dict, but for those that Python puts there."""

    __slots__ = ("held",)

    def __init__(self, held: Mapping[str, Any]) -> None:
        self.held = held

    def __iter__(self) -> Iterator[str]:
        return filterfalse(NOTED.__contains__, self.held)


class Each:
    """What a function gives for each item, anew whenever it is gone over."""

    __slots__ = ("function", "items")

    def __init__(self, function: Any, items: Iterable[Any]) -> None:
        self.function, self.items = function, tuple(items)

    def __iter__(self) -> Iterator[Any]:
        return map(self.function, self.items)


def content(cell: CellType) -> Any:
    """What a cell of a closure holds, ABSENT where it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


def are_same(now: Iterable[Any], then: list[Any]) -> bool:
    """Whether the same things are there, in the same order; equal numbers and texts are the same.

    `then` holds those that are there now afterwards, so that these are found quickly.
    """
    try:
        found = [*now]
    except RuntimeError:  # it changes at this moment
        return False
    if len(found) != len(then):
        return False
    if not all(map(is_, found, then)):
        if not all(map(are_equal, found, then)):
            return False
        then[:] = found
    return True


def are_equal(a: Any, b: Any) -> bool:
    """Whether both are one thing, or equal numbers, texts, or tuples of such."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if type(a) is tuple:
        return len(a) == len(b) and all(map(are_equal, a, b))
    return (type(a) in ATOMS or isinstance(a, np.generic)) and repr(a) == repr(b)


def is_of_class(x: Any, name: str) -> bool:
    """Whether an attribute is a number or a text of the class, until a thing has its own."""
    return type(getattr(type(x), name, None)) in ATOMS - {type(None)}


def slots_of(base: type) -> Sequence[str]:
    """The names of a class's slots, private ones as they are called outside."""
    if "__slots__" not in vars(base):  # it is written in C, or has a dict
        return ()
    return [name for name, x in vars(base).items() if isinstance(x, MemberDescriptorType)]
