"""Things that hold others: what they held, whether they still do, and how it is put back."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from types import FunctionType
from typing import Any, NamedTuple

from ldl.compiler.same import ABSENT, NOTED, Each, Names, are_equal, are_same, content, is_of_class
from ldl.compiler.states import bytes_of, has_moved, set_bytes, set_state
from ldl.nn.changes import Marked
from ldl.random import Stream


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

    def said(self) -> str:
        """What it is, in words."""
        holder = self.holder
        said = repr(holder) if self.is_part else getattr(holder, "__qualname__", str(holder))
        return f"{said}, as {self.name!r}," if self.name else said


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
        held = getattr(self.thing, "__dict__", {})
        more = [name for name in held if name not in self.names]
        return Owner(self.owner.holder, more[-1] if more else "__class__")

    def only_adds(self) -> bool:
        """Whether all that it held is there still, and something where nothing was."""
        return False

    def put_back(self) -> None:
        """Make it hold what it held, where that can be."""


class Named(Watched):
    """Attributes of an object by their names, such as its slots: ABSENT where there is none."""

    __slots__ = ()

    def __init__(self, owner: Owner, x: Any, names: Sequence[str]) -> None:
        super().__init__(owner, x, Each(partial(_attribute, x), names), names=names)

    def only_adds(self) -> bool:
        """Whether what differs was absent, or None."""
        now = [_attribute(self.thing, name) for name in self.names]
        return _only_adds(self.values(), now)

    def put_back(self) -> None:
        """Make it hold what it held, whatever its class says to that."""
        for name, value in zip(self.names, self.values(), strict=True):
            if _attribute(self.thing, name) is not value:
                if value is ABSENT:
                    object.__delattr__(self.thing, name)
                else:
                    object.__setattr__(self.thing, name, value)


class Items(Watched):
    """A list, a deque or a set."""

    __slots__ = ()

    def put_back(self) -> None:
        """Make it hold what it held."""
        held, then = self.thing, self.values()
        if isinstance(held, list):
            list.__setitem__(held, slice(None), then)
            return
        kind: Any = deque if isinstance(held, deque) else set
        kind.clear(held)
        (deque.extend if kind is deque else set.update)(held, then)


class Entries(Watched):
    """A dict, or some of its names: ABSENT where it has no such name."""

    __slots__ = ()

    def __init__(self, owner: Owner, held: Any, names: Sequence[str] | None = None) -> None:
        if names is None:
            super().__init__(owner, held, held, held.values())
        else:
            super().__init__(owner, held, Each(partial(_entry, held), names), names=names)

    def pairs(self) -> list[tuple[Any, Any]]:
        """What it held, by keys."""
        then = self.values()
        half = len(then) // 2
        return [*zip(self.names or then[:half], then[0 if self.names else half :], strict=True)]

    def only_adds(self) -> bool:
        """Whether what differs was absent, or None."""
        pairs = self.pairs()
        now = [self.thing.get(key, ABSENT) for key, _ in pairs]
        return _only_adds([value for _, value in pairs], now)

    def put_back(self) -> None:
        """Make it hold what it held."""
        held, kind = self.thing, OrderedDict if isinstance(self.thing, OrderedDict) else dict
        if not self.names:
            kind.clear(held)
        for key, value in self.pairs():
            if value is ABSENT:
                held.pop(key, None)
            elif held.get(key, ABSENT) is not value:
                kind.__setitem__(held, key, value)


class Attributes(Watched):
    """What an object's own dict or a class holds, but for some of it."""

    __slots__ = ()

    def __init__(self, owner: Owner, x: Any, left_out: frozenset[str] = frozenset()) -> None:
        held = vars(x)
        names = [name for name in held if name not in left_out and name not in NOTED]
        views = Names(held), Each(type, (x,)), Each(held.get, names)
        super().__init__(owner, x, *views, names=names)

    def values(self) -> list[Any]:
        """What it held, without names."""
        return self.then[-1 - len(self.names) : -1]

    def only_adds(self) -> bool:
        """Whether what differs was absent, or None."""
        held = vars(self.thing)
        if any(is_of_class(self.thing, name) for name in {*held} - {*self.names}):
            return False
        return _only_adds(self.values(), [held.get(name, ABSENT) for name in self.names])

    def put_back(self) -> None:
        """Make it hold what it held, whatever its class says to that."""
        held, is_class = vars(self.thing), isinstance(self.thing, type)
        then = dict(zip(self.names, self.values(), strict=True))
        for name in {*held} - {*self.then[: -1 - len(self.names)]} - NOTED:
            type.__delattr__(self.thing, name) if is_class else held.pop(name)
        for name, value in then.items():
            if held.get(name, ABSENT) is not value:
                type.__setattr__(self.thing, name, value) if is_class else held.update(
                    {name: value}
                )


class Cells(Watched):
    """What a function's closure holds."""

    __slots__ = ()

    def __init__(self, owner: Owner, f: FunctionType) -> None:
        cells = f.__closure__ or ()
        super().__init__(owner, f, Each(content, cells), names=f.__code__.co_freevars)

    def only_adds(self) -> bool:
        """Whether what differs was empty, or None."""
        return _only_adds(self.values(), [*map(content, self.thing.__closure__)])

    def put_back(self) -> None:
        """Make them hold what they held."""
        for cell, value in zip(self.thing.__closure__, self.values(), strict=True):
            if content(cell) is value:
                continue
            if value is ABSENT:
                del cell.cell_contents
            else:
                cell.cell_contents = value


class Found:
    """What was found that others hold, and its numbers: whether it moves, and all put back."""

    def __init__(self) -> None:
        self.watched: list[Watched] = []
        self.arrays: list[Any] = []
        """Those that parts hold, at any depth."""
        self.tables: list[tuple[Any, bytes, Owner]] = []
        """Arrays of the host that code reads as numbers, it may be, and what they hold."""
        self.dice: list[tuple[Any, Any, Owner]] = []
        """Generators of random numbers, and their states."""
        self.streams: list[Stream] = []
        """Those of ldl's that parts hold, which a step moves on."""
        self.restless: list[str] = []
        """What moves on whenever it is looked at, or is too much to be looked at, in words."""

    def changes(self) -> Iterator[Watched]:
        """What holds something else now."""
        return (each for each in self.watched if each.changed())

    def moved(self) -> Iterator[str]:
        """The generators that have rolled, and tables that hold other numbers, in words."""
        for x, state, owner in self.dice:
            if has_moved(x, state):
                yield owner.changes("the random state of ")
        for x, held, owner in self.tables:
            if bytes_of(x) != held:
                yield owner.changes("numbers in ")

    def put_back(self) -> None:
        """Make what is around the parts hold what it held, and the dice lie as they lay."""
        for each in self.watched:
            if each.changed():
                each.put_back()
        for x, state, _ in self.dice:
            if has_moved(x, state):
                set_state(x, state)
        for x, held, _ in self.tables:
            if bytes_of(x) != held:
                set_bytes(x, held)


class Watch:
    """Whether anything of some holdings has changed, found out in one go."""

    def __init__(self, watched: Iterable[Watched]) -> None:
        self._watched = [*watched]
        self._views = [view for each in self._watched for view in each.views]
        self._then = [x for each in self._watched for x in each.then]

    def is_same(self) -> bool:
        """Whether all of it holds what it held."""
        return are_same(chain.from_iterable(self._views), self._then)


def _only_adds(then: Iterable[Any], now: Iterable[Any]) -> bool:
    return all(
        old is ABSENT or old is None or are_equal(old, new)
        for old, new in zip(then, now, strict=True)
    )


def _attribute(x: Any, name: str) -> Any:
    return getattr(x, name, ABSENT)


def _entry(held: Mapping[str, Any], name: str) -> Any:
    return held.get(name, ABSENT)


def of_ldl(owner: Owner, x: Any) -> Iterator[Watched]:
    """Settings of an optimizer, or a schedule, ldl's own, that code may read."""
    held = getattr(x, "__dict__", {})
    for group in held.get("param_groups", ()):
        yield Entries(owner, group, sorted(group.keys() - {"params"}))
    if type(x).__module__ == "ldl.optim.schedules":
        yield Attributes(owner, x)
