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
from threading import local
from types import (
    BuiltinMethodType,
    FunctionType,
    GeneratorType,
    MappingProxyType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any
from weakref import ref

import numpy as np

from ldl.backend import Backend
from ldl.compiler.code import (
    LDL,
    NOW,
    imported,
    is_clock,
    is_fixed,
    is_python,
    is_restless,
    members,
    module_of,
    named_in,
    package_of,
)
from ldl.compiler.same import ATOMS, Each, content, slots_of
from ldl.compiler.states import bytes_of, is_table, state_of
from ldl.compiler.traced import Traced
from ldl.compiler.watched import (
    Attributes,
    Cells,
    Entries,
    Found,
    Items,
    Named,
    Owner,
    Watched,
    of_ldl,
)
from ldl.nn.changes import Marked
from ldl.nn.module import Module
from ldl.nn.parameter import Parameter
from ldl.random import Stream

MOST = 10_000
"""Things that are looked at, beside numbers and texts: a walk over more takes too long."""

LARGEST = 2**20
"""Bytes of an array that code reads as numbers, which are compared before every step."""

DIFFER = "numbers that differ from step to step"

PASSING = frozenset({"_kept", "_arguments"})
"""Attributes of a part that no step depends on."""

_WHOLE = (np.generic, np.dtype, np.ufunc, Backend, Traced, IOBase)
_VIEWS: tuple[Any, ...] = (type({}.keys()), type({}.values()), type({}.items()))
_PLAIN = (Collection, SimpleNamespace, Namespace, local)
"""What is looked at of Python's own objects; locks and loggers are not."""


class Holdings(Found):
    """What a function's parts hold, and what code names, when this is made.

    `kind` is the type of arrays that are read where they lie.
    """

    def __init__(self, function: Any, parts: Sequence[Any], kind: type) -> None:
        super().__init__()
        self.kind = kind
        self.confirmations = 1
        """How often a trace must come out the same: often where code makes generators, which have a
        seed, it may be, or have none."""
        self._own = frozenset(package_of(x) for part in parts for x in marked_in(part)) - LDL
        self._seen: dict[int, Any] = {}
        self._classes: set[tuple[type, bool]] = set()
        self._bases: set[tuple[type, bool]] = set()
        self._modules: dict[int, tuple[ModuleType, Owner]] = {}
        """Those that are held or handed on: code of any function may use attributes of them."""
        self._used: set[tuple[int, frozenset[str]]] = set()
        self._names: dict[int, tuple[dict[str, Any], Owner, set[str]]] = {}
        self._attributes: set[str] = {"forward", "backward"}
        """The names of attributes that code uses."""
        self._waiting: defaultdict[str, list[tuple[Any, Owner]]] = defaultdict(list)
        """Methods, and what else classes hold, until code uses their names."""
        self._todo: list[tuple[Any, Owner]] = [(function, Owner(function))]
        self._todo += [(part, Owner(part)) for part in parts]
        while self._todo:
            self._look(*self._todo.pop())
            if not self._todo:
                for module, owner in [*self._modules.values()]:
                    self._module(module, frozenset(self._attributes), owner)
        for held, owner, names in self._names.values():
            if names:
                self.watched.append(Entries(owner, held, sorted(names)))

    # ---- the walk -----------------------------------------------------------------------------

    def _look(self, x: Any, owner: Owner) -> None:
        """Note what one thing holds, and have a look at that."""
        if type(x) in ATOMS or id(x) in self._seen:
            return
        if type(x) in (tuple, frozenset) and all(type(each) in ATOMS for each in x):
            return
        self._seen[id(x)] = x
        if len(self._seen) > MOST:
            self.restless[:] = [f"{owner.name!r} is of more than {MOST:,} things"]
            self._todo.clear()
            self._modules.clear()
        elif x is np.random.default_rng:
            self.confirmations = 9
        elif is_restless(x, self._attributes):
            self.restless.append(f"{owner.said()} uses {x.__name__}: {DIFFER}")
        elif isinstance(x, self.kind) and owner.is_part:
            self.arrays.append(x)
        elif is_table(x):
            self.tables.append((x, bytes_of(x), owner))
            if isinstance(x, np.ndarray) and x.dtype.hasobject:
                self._todo += [(each, owner) for each in x.ravel().tolist()]
        elif isinstance(x, Stream) and owner.is_part:
            self.streams.append(x)
        elif (state := state_of(x)) is not None:
            self.dice.append((x, state, owner))
        elif isinstance(x, Parameter):
            self._note(Named(owner, x, ("data", "requires_grad")))
        elif isinstance(x, FunctionType):
            self._function(x, owner)
        elif isinstance(x, MethodType):
            self._todo += [(x.__self__, owner), (x.__func__, owner)]
        elif isinstance(x, BuiltinMethodType):
            self._todo.append((x.__self__, owner))
        elif is_clock(x):
            for name in NOW:
                self._waiting[name].append((x, owner))
            del self._seen[id(x)]
        elif isinstance(x, type):
            self._class(x, made=True)
        elif isinstance(x, ContextVar):
            self._note(Watched(owner, x, Each(_current, (x,))))
        elif isinstance(x, ModuleType):
            self._modules[id(x)] = x, owner
        elif not isinstance(x, _WHOLE):
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
        held = [*(f.__defaults__ or ()), f.__kwdefaults__, *vars(f).values()]
        self._todo += [(value, Owner(f, f.__name__)) for value in held]
        if is_fixed(f.__globals__.get("__name__", ""), self._own):
            self._todo += [(content(cell), own) for cell in cells]
            return
        self._note(Attributes(Owner(f, f.__name__), f))
        self.watched.append(Named(own, f, ("__code__", "__defaults__", "__kwdefaults__")))
        inside = dict(zip(f.__code__.co_freevars, map(content, cells), strict=True))
        if inside.pop("__class__", None) is not None or inside:
            self.watched.append(Cells(own, f))
        named = named_in(f.__code__)
        attributes = named.attributes | named.texts
        for name in attributes - self._attributes:
            self._todo += self._waiting.pop(name, ())
        self._attributes |= attributes
        for name in named.bare:
            if name == "default_rng" or f.__globals__.get(name) is np.random.default_rng:
                self.restless.append(f"{own.said()} uses default_rng without a seed: {DIFFER}")
        self._use(f.__globals__, own, named.globals)
        self._todo += [(x, Owner(f, n)) for n, x in inside.items() if not isinstance(x, ModuleType)]
        outer = [f.__globals__.get(name) for name in named.globals]
        for module in (*outer, *inside.values(), *imported(f)):
            if isinstance(module, ModuleType):
                self._module(module, attributes, own)
                if attributes.isdisjoint(vars(module)):  # it is handed on
                    self._todo.append((module, own))

    def _use(self, held: dict[str, Any], owner: Owner, names: Iterable[str]) -> None:
        """Code uses these names of a module."""
        noted = self._names.setdefault(id(held), (held, owner, set()))[2]
        new = set(names) - noted
        noted |= new
        values = [(held.get(name), Owner(owner.holder, name)) for name in new]
        self._todo += [each for each in values if not isinstance(each[0], ModuleType)]

    def _module(self, module: ModuleType, attributes: frozenset[str], owner: Owner) -> None:
        """Code uses these attributes, of this module among others."""
        if (id(module), attributes) in self._used:
            return
        self._used.add((id(module), attributes))
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
        if not {(cls, made), (cls, True)}.isdisjoint(self._classes):
            return
        self._classes.add((cls, made))
        bases = [base for base in cls.__mro__ if not is_fixed(module_of(base), self._own)]
        known = {name for base in cls.__mro__ for name in vars(base) if base not in bases}
        known -= vars(object).keys()
        if not is_fixed(module_of(type(cls)), self._own):
            self._class(type(cls))
        for base in bases:
            if {(base, made), (base, True)}.isdisjoint(self._bases):
                self._bases.add((base, made))
                self.watched.append(Attributes(Owner(base), base))
                for name, found, always in members(base, made):
                    called = always or name in known or name in self._attributes
                    todo = self._todo if called else self._waiting[name]
                    todo += [(each, Owner(base, name)) for each in found]
            else:
                found = [x for name, x, _ in members(base, made) if name in known]
                self._todo += [(each, Owner(base)) for x in found for each in x]

    def _object(self, x: Any, owner: Owner) -> None:
        """A container, or an object of any class."""
        kind = type(x)
        python = is_python(module_of(kind))
        if isinstance(x, GeneratorType) or (python and hasattr(kind, "__next__")):
            what = "a generator" if isinstance(x, GeneratorType) else f"a {kind.__name__}"
            self.restless.append(f"{owner.said()} holds {what}, which moves on")
        elif isinstance(x, dict):
            self._note(Entries(owner, x))
            if isinstance(x, defaultdict):
                self._note(Named(owner, x, ("default_factory",)))
        elif isinstance(x, (list, deque, set)):
            self._note(Items(owner, x, x))
        elif isinstance(x, (tuple, frozenset)):
            self._todo += [(value, owner) for value in x]
        elif isinstance(x, partial):
            self._note(Watched(owner, x, x.args, x.keywords.values(), (x.func,)))
        elif isinstance(x, MappingProxyType):
            self._note(Watched(owner, x, x, x.values()))
        elif isinstance(x, _VIEWS):
            self._todo.append((x.mapping, owner))
        elif isinstance(x, ref):
            self._todo.append((x(), owner))
        elif python and callable(wrapped := getattr(x, "__wrapped__", None)):
            self._todo.append((wrapped, owner))
        if package_of(x) in LDL and not isinstance(x, Marked):
            self.watched += of_ldl(owner, x)
            return
        if python and not isinstance(x, _PLAIN):
            return
        if isinstance(x, Marked) and owner.is_part:
            owner = Owner(x)
        if isinstance(getattr(x, "__dict__", None), dict):
            self._note(Attributes(owner, x, PASSING if isinstance(x, Marked) else frozenset()))
        if slots := [name for base in kind.__mro__ for name in slots_of(base)]:
            self._note(Named(owner, x, slots))
        self._class(kind)


def _current(variable: ContextVar[Any]) -> Any:
    return variable.get(None)


def marked_in(part: Any) -> Iterator[Any]:
    """A part, the modules inside, and what else they hold that is marked, such as a noise."""
    for module in part.modules() if isinstance(part, Module) else [part]:
        yield module
        yield from (x for x in vars(module).values() if isinstance(x, Marked))
