"""Things that hold others: what they held, whether they still do, and how it is put back."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, filterfalse
from operator import is_
from types import CellType, FunctionType
from typing import Any, NamedTuple

import numpy as np

from ldl.nn.changes import Marked

NOTED = frozenset({"__slotnames__", "__annotations__", "__annotations_cache__"})
"""What Python notes in a class when its objects are copied, or somebody asks."""

_ABSENT = object()


class Owner(NamedTuple):
    """Where something was found: in a part, or a piece of code, under a name."""

    holder: Any
    name: str = ""

    @property
    def is_part(self) -> bool:
        """Whether a part holds it, of which a dry run has a copy."""
        return isinstance(self.holder, Marked)

    def changes(self, what: str = "") -> str:
        """What is said where that changes."""
        name = repr(self.name) if self.name.isidentifier() else self.name
        if self.is_part:
            return f"{self.holder!r} changes its attribute {what}{name} from step to step"
        said = getattr(self.holder, "__qualname__", self.holder)
        return f"{said} changes {what}{name} from step to step"


class Watched:
    """Something that holds others: what it held when this was made.

    `names` are those of what it holds, in order, where that has names.
    """

    __slots__ = ("names", "owner", "then", "thing", "views")

    def __init__(
        self, owner: Owner, thing: Any, *views: Iterable[Any], names: Sequence[str] = ()
    ) -> None:
        self.owner, self.thing, self.names = owner, thing, names
        self.views = (*views, (thing,))
        """What goes over all that it holds now, and itself, so that none is taken for the next."""
        self.then = [*chain.from_iterable(self.views)]

    def values(self) -> list[Any]:
        """What it held, without names."""
        return self.then[-1 - len(self.names) : -1] if self.names else self.then[:-1]

    def changed(self) -> bool:
        """Whether it holds something else now."""
        return not are_same(chain.from_iterable(self.views), self.then)

    def what(self) -> Owner:
        """Whose it is, by the first name that holds something else now."""
        if self.owner.name or not self.names:
            return self.owner
        now = [*chain.from_iterable(self.views)][-1 - len(self.names) :]
        for name, old, new in zip(self.names, self.values(), now, strict=False):
            if old is not new:
                return Owner(self.owner.holder, name)
        more = [name for name in vars(self.thing) if name not in self.names]
        return Owner(self.owner.holder, more[-1] if more else "")

    def put_back(self) -> None:
        """Make it hold what it held, where that can be."""


class Items(Watched):
    """A list, a deque or a set."""

    __slots__ = ()

    def put_back(self) -> None:
        """Make it hold what it held."""
        self.thing.clear()
        (self.thing.update if isinstance(self.thing, set) else self.thing.extend)(self.values())


class Entries(Watched):
    """A dict, or some of its names."""

    __slots__ = ()

    def __init__(self, owner: Owner, held: Any, names: Sequence[str] | None = None) -> None:
        if names is None:
            super().__init__(owner, held, held, held.values())
        else:
            super().__init__(owner, held, Each(held.get, names), names=names)

    def put_back(self) -> None:
        """Make it hold what it held."""
        held, then = self.thing, self.values()
        if not self.names:
            half = len(then) // 2
            held.clear()
            held.update(zip(then[:half], then[half:], strict=True))
        else:
            held.update({name: x for name, x in zip(self.names, then, strict=True) if name in held})


class Attributes(Watched):
    """What an object's own dict or a class holds, but for some of it."""

    __slots__ = ()

    def __init__(self, owner: Owner, x: Any, left_out: frozenset[str] = frozenset()) -> None:
        held = vars(x)
        names = [name for name in held if name not in left_out and name not in NOTED]
        super().__init__(owner, x, Names(held), Each(held.get, names), names=names)

    def put_back(self) -> None:
        """Make it hold what it held."""
        held = vars(self.thing)
        then = dict(zip(self.names, self.values(), strict=True))
        for name in {*held} - {*self.then[: -1 - len(self.names)]} - NOTED:
            delattr(self.thing, name)
        for name, value in then.items():
            if held.get(name, _ABSENT) is not value:
                setattr(self.thing, name, value)


class Cells(Watched):
    """What a function's closure holds."""

    __slots__ = ()

    def __init__(self, owner: Owner, f: FunctionType) -> None:
        cells = f.__closure__ or ()
        super().__init__(owner, f, Each(content, cells), names=f.__code__.co_freevars)

    def put_back(self) -> None:
        """Make them hold what they held."""
        for cell, value in zip(self.thing.__closure__, self.values(), strict=True):
            if content(cell) is not value:
                cell.cell_contents = value


class Watch:
    """Whether anything of some holdings has changed, found out in one go."""

    def __init__(self, watched: Iterable[Watched]) -> None:
        self._watched = [*watched]
        self._views = [view for each in self._watched for view in each.views]
        self._then = [x for each in self._watched for x in each.then]

    def is_same(self) -> bool:
        """Whether all of it holds what it held."""
        return are_same(chain.from_iterable(self._views), self._then)


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
    """What a cell of a closure holds, None where it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def are_same(now: Iterable[Any], then: list[Any]) -> bool:
    """Whether the same things are there, in the same order."""
    try:
        found = [*now]
    except RuntimeError:  # it changes at this moment
        return False
    return len(found) == len(then) and all(map(is_, found, then))


def bytes_of(x: Any) -> bytes:
    """The numbers in an array of the host."""
    return x.tobytes() if hasattr(x, "tobytes") else bytes(x)


# ---- generators of random numbers -----------------------------------------------------------


def state_of(x: Any) -> Any:
    """The state of a generator of random numbers, NumPy's or Python's; None for anything else."""
    if isinstance(x, np.random.Generator):
        return x.bit_generator.state
    if isinstance(x, np.random.RandomState):
        return x.get_state(legacy=False)
    return x.getstate() if isinstance(x, random.Random) else None


def has_moved(x: Any, state: Any) -> bool:
    """Whether a generator's state is another one now."""
    return repr(state_of(x)) != repr(state)


def set_state(x: Any, state: Any) -> None:
    """Bring a generator to a state."""
    if isinstance(x, np.random.Generator):
        x.bit_generator.state = state
    elif isinstance(x, np.random.RandomState):
        x.set_state(state)
    else:
        x.setstate(state)
