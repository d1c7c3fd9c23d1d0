"""Holdings: what a function of modules looks at beside the arrays that it is given.

A walk from the modules over all that they hold, and over what the code of a user's layers names:
globals, closures, attributes of classes and of modules. A recording is right for as long as all of
that is what it was; a function that changes some of it cannot be recorded.
"""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from io import IOBase
from types import (
    BuiltinMethodType,
    FunctionType,
    GeneratorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any

import numpy as np

from ldl.backend import Backend
from ldl.compiler.code import LDL, imported, is_fixed, is_python, is_restless, named_in, runs
from ldl.compiler.traced import Traced
from ldl.compiler.watched import (
    Attributes,
    Cells,
    Each,
    Entries,
    Items,
    Owner,
    Watched,
    bytes_of,
    content,
    has_moved,
    set_state,
    state_of,
)
from ldl.nn.changes import Marked
from ldl.nn.parameter import Parameter
from ldl.random import Stream

MOST = 10_000
"""Things that are looked at, beside numbers and texts: a walk over more takes too long."""

LARGEST = 2**20
"""Bytes of an array that code reads as numbers, which are compared before every step."""

DIFFER = "numbers that differ from step to step"

PASSING = frozenset({"_kept", "_arguments"})
"""Attributes of a part that no step depends on."""

_ATOMS = (int, float, complex, str, bytes, type(None), type(...), range, slice)
_WHOLE = (np.generic, np.dtype, np.ufunc, Backend, Stream, Traced, IOBase)
_PLAIN = (Collection, SimpleNamespace, Namespace)
"""What is looked at of Python's own objects; locks and loggers are not."""

_ONCE = frozenset({"__init__", "__new__", "__init_subclass__", "__repr__", "__str__", "__del__"})
"""Methods that no step calls of what is there."""


class Holdings:
    """What a function's parts hold, and what code names, when this is made.

    `kind` is the type of arrays that are read where they lie.
    """

    def __init__(self, function: Any, parts: Sequence[Any], kind: type) -> None:
        self.watched: list[Watched] = []
        self.arrays: list[Any] = []
        """Those that parts hold, at any depth."""
        self.tables: list[tuple[Any, bytes, Owner]] = []
        """Arrays of the host that code reads as numbers, it may be, and what they hold."""
        self.dice: list[tuple[Any, Any, Owner]] = []
        """Generators of random numbers, and their states."""
        self.restless: list[str] = []
        """What moves on whenever it is looked at, or is too much to be looked at, in words."""
        self.confirmations = 1
        """How often a trace must come out the same: often, where code makes generators, which have
        a seed, it may be, or have none."""
        self.kind = kind
        self._own = frozenset(type(x).__module__.partition(".")[0] for x in parts) - LDL
        self._seen: dict[int, Any] = {}
        self._classes: set[tuple[type, bool]] = set()
        self._names: dict[int, tuple[dict[str, Any], Owner, set[str]]] = {}
        self._attributes: set[str] = {"forward", "backward"}
        """The names of attributes that code uses."""
        self._waiting: defaultdict[str, list[tuple[Any, Owner]]] = defaultdict(list)
        """Methods, until code uses their names."""
        self._todo: list[tuple[Any, Owner]] = [(function, Owner(function))]
        self._todo += [(part, Owner(part)) for part in parts]
        while self._todo:
            self._look(*self._todo.pop())
        for held, owner, names in self._names.values():
            self.watched.append(Entries(owner, held, sorted(names)))

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
            if not each.owner.is_part and each.changed():
                each.put_back()
        for x, state, _ in self.dice:
            if has_moved(x, state):
                set_state(x, state)

    # ---- the walk -----------------------------------------------------------------------------

    def _look(self, x: Any, owner: Owner) -> None:
        """Note what one thing holds, and have a look at that."""
        if isinstance(x, _ATOMS) or id(x) in self._seen:
            return
        self._seen[id(x)] = x
        if len(self._seen) > MOST:
            self.restless[:] = [f"{owner.name!r} is of more than {MOST:,} things"]
            self._todo.clear()
        elif x is np.random.default_rng:
            self.confirmations = 9
        elif is_restless(x, self._attributes):
            self.restless.append(f"{_said(owner)} uses {x.__name__}: {DIFFER}")
        elif isinstance(x, self.kind) and owner.is_part:
            self.arrays.append(x)
        elif isinstance(x, (np.ndarray, bytearray)) or type(x).__module__ == "array":
            self.tables.append((x, bytes_of(x), owner))
        elif (state := state_of(x)) is not None:
            self.dice.append((x, state, owner))
        elif isinstance(x, Parameter):
            names = ("data", "requires_grad")
            self._note(Watched(owner, x, Each(partial(getattr, x), names), names=names))
        elif isinstance(x, FunctionType):
            self._function(x, owner)
        elif isinstance(x, MethodType):
            self._todo += [(x.__self__, owner), (x.__func__, owner)]
        elif isinstance(x, BuiltinMethodType):
            self._todo.append((x.__self__, owner))
        elif isinstance(x, type):
            self._class(x, made=True)
        elif isinstance(x, ContextVar):
            self._note(Watched(owner, x, Each(_current, (x,))))
        elif not isinstance(x, (*_WHOLE, ModuleType)):
            self._object(x, owner)

    def _note(self, found: Watched) -> None:
        """Watch it, and look at what it holds."""
        self.watched.append(found)
        names = found.names or [""] * len(found.values())
        for name, value in zip(names, found.values(), strict=True):
            self._todo.append((value, Owner(found.owner.holder, found.owner.name or name)))

    def _function(self, f: FunctionType, owner: Owner) -> None:
        """A function's closure and what it names, but for what a fixed one names."""
        own, cells = Owner(f), f.__closure__ or ()
        held = [*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values(), *vars(f).values()]
        self._todo += [(value, Owner(f, f.__name__)) for value in held]
        if is_fixed(f.__globals__.get("__name__", ""), self._own):
            self._todo += [(content(cell), own) for cell in cells]
            return
        self._note(Attributes(Owner(f, f.__name__), f))
        inside = dict(zip(f.__code__.co_freevars, map(content, cells), strict=True))
        if inside.pop("__class__", None) is not None or inside:
            self.watched.append(Cells(own, f))
        named = named_in(f.__code__)
        for name in named.attributes - self._attributes:
            self._todo += self._waiting.pop(name, ())
        self._attributes |= named.attributes
        self._use(f.__globals__, own, named.globals)
        self._todo += [(value, Owner(f, name)) for name, value in inside.items()]
        outer = [f.__globals__.get(name) for name in named.globals]
        for module in (*outer, *inside.values(), *imported(f)):
            if isinstance(module, ModuleType):
                self._module(module, named.attributes, own)

    def _use(self, held: dict[str, Any], owner: Owner, names: Iterable[str]) -> None:
        """Code uses these names of a module."""
        noted = self._names.setdefault(id(held), (held, owner, set()))[2]
        new = set(names) - noted
        noted |= new
        self._todo += [(held.get(name), Owner(owner.holder, name)) for name in new]

    def _module(self, module: ModuleType, attributes: frozenset[str], owner: Owner) -> None:
        """Code uses these attributes, of this module among others."""
        held = vars(module)
        names = {name for name in attributes if name in held}
        inner = {name for name in names if isinstance(held[name], ModuleType)}
        for name in inner:
            if held[name] is not module:
                self._module(held[name], attributes - {name}, owner)
        if is_fixed(module.__name__, self._own):
            calls = {name for name in names if callable(held[name])}
            self._todo += [(held[name], Owner(owner.holder, name)) for name in calls]
            names -= calls | inner
        if names:
            self._use(held, owner, names)

    def _class(self, cls: type, made: bool = False) -> None:
        """A class's attributes, and its methods as they are called; its objects may be `made`."""
        bases = [base for base in cls.__mro__ if not is_fixed(base.__module__, self._own)]
        known = {name for base in cls.__mro__ for name in vars(base) if base not in bases}
        known -= vars(object).keys()
        for base in bases:
            if not {(base, made), (base, True)}.isdisjoint(self._classes):
                continue
            self._classes.add((base, made))
            self.watched.append(Attributes(Owner(base), base))
            for name, value in vars(base).items():
                owner, functions = Owner(base, name), [*runs(value)]
                special = name.startswith("__") and name.endswith("__")
                if not functions and not special:
                    self._todo.append((value, owner))
                for function in functions:
                    if name in _ONCE and not made:
                        continue
                    if special or name in known or name in self._attributes:
                        self._todo.append((function, owner))
                    else:
                        self._waiting[name].append((function, owner))

    def _object(self, x: Any, owner: Owner) -> None:
        """A container, or an object of any class."""
        kind = type(x)
        python = is_python(kind.__module__)
        if isinstance(x, GeneratorType) or (python and hasattr(kind, "__next__")):
            what = "a generator" if isinstance(x, GeneratorType) else f"a {kind.__name__}"
            self.restless.append(f"{_said(owner)} holds {what}, which moves on")
        elif isinstance(x, dict):
            self._note(Entries(owner, x))
        elif isinstance(x, (list, deque, set)):
            self._note(Items(owner, x, x))
        elif isinstance(x, (tuple, frozenset)):
            self._todo += [(value, owner) for value in x]
        elif isinstance(x, partial):
            self._note(Watched(owner, x, x.args, x.keywords.values(), (x.func,)))
        elif callable(wrapped := getattr(x, "__wrapped__", None)):
            self._todo.append((wrapped, owner))
        if kind.__module__.partition(".")[0] in LDL and not isinstance(x, Marked):
            return
        if python and not isinstance(x, _PLAIN):
            return
        if isinstance(x, Marked) and owner.is_part:
            owner = Owner(x)
        if isinstance(getattr(x, "__dict__", None), dict):
            self._note(Attributes(owner, x, PASSING if isinstance(x, Marked) else frozenset()))
        slots = [s for base in kind.__mro__ for s in _slots(base) if hasattr(x, s)]
        if slots:
            self._note(Watched(owner, x, Each(partial(_slot, x), slots), names=slots))
        self._class(kind)


def _slots(base: type) -> Sequence[str]:
    """The names of a class's slots, private ones as they are called outside."""
    if "__slots__" not in vars(base):  # it is written in C, or has a dict
        return ()
    return [name for name, x in vars(base).items() if isinstance(x, MemberDescriptorType)]


def _current(variable: ContextVar[Any]) -> Any:
    return variable.get(None)


def _slot(x: Any, name: str) -> Any:
    return getattr(x, name, None)


def _said(owner: Owner) -> str:
    holder = owner.holder
    said = repr(holder) if owner.is_part else getattr(holder, "__qualname__", str(holder))
    return f"{said}, as {owner.name!r}," if owner.name else said
