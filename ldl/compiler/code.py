"""Code: what it names, which of it stays as it is, and calls that give something else each time."""

from __future__ import annotations

import dis
import os
import random
import sys
import time
from collections.abc import Iterator
from functools import cache, cached_property, partialmethod, singledispatchmethod
from types import BuiltinMethodType, CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import numpy as np

LDL = frozenset({"ldl", "ldl_numpy", "ldl_cupy"})
_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "STORE_GLOBAL")
_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM", "STORE_ATTR")
_BETWEEN = ("PRECALL", "PUSH_NULL")
"""What stands between a name that is loaded and its call."""
NOW = frozenset({"now", "today", "utcnow"})
_DICE = (random.Random, np.random.RandomState, np.random.BitGenerator, np.random.SeedSequence)

_ONCE = frozenset({"__init__", "__new__", "__init_subclass__", "__repr__", "__str__", "__del__"})
"""Methods that no step calls of what is there."""


class Named(NamedTuple):
    """What a piece of code names, what is written inside it included."""

    globals: frozenset[str]
    attributes: frozenset[str]
    imports: frozenset[str]
    texts: frozenset[str]
    """Texts that may be names of attributes, as in `getattr(self, "scale")`."""
    bare: frozenset[str]
    """What is called without arguments."""


@cache
def named_in(code: CodeType) -> Named:
    """The names in a function's code."""
    found: tuple[set[str], ...] = set(), set(), set(), set(), set()
    loaded = ""
    for instruction in dis.get_instructions(code):
        for names, kinds in zip(found, (_GLOBAL, _ATTRIBUTE, ("IMPORT_NAME",)), strict=False):
            if instruction.opname in kinds:
                names.add(str(instruction.argval))
        if instruction.opname == "CALL" and instruction.arg == 0:
            found[4].add(loaded)
        if instruction.opname not in _BETWEEN:
            named = instruction.opname in _GLOBAL + _ATTRIBUTE
            loaded = str(instruction.argval) if named else ""
    for inner in code.co_consts:
        if isinstance(inner, str):
            found[3].update(name for name in inner.split(".") if name.isidentifier())
        if isinstance(inner, CodeType):
            for names, more in zip(found, named_in(inner), strict=True):
                names |= more
    return Named(*map(frozenset, found))


def imported(function: FunctionType) -> list[ModuleType]:
    """The modules that a function imports when it runs, where they have been imported."""
    around = _outwards(function.__globals__.get("__package__") or "")
    found: list[str] = []
    for name in named_in(function.__code__).imports:
        inner = [f"{package}.{name}" for package in around]
        found += [*_outwards(name), *inner] if name else around  # as in `from . import settings`
    return [sys.modules[name] for name in found if name in sys.modules]


def _outwards(name: str) -> list[str]:
    """The module of that name, and the packages that it is in."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def package_of(x: Any) -> str:
    """The package of a thing's class."""
    return module_of(type(x)).partition(".")[0]


def module_of(cls: type) -> str:
    """The name of a class's module; some that are written in C have none."""
    return cls.__module__ if isinstance(cls.__module__, str) else "builtins"


def is_python(module: str) -> bool:
    """Whether a module is of Python's own library."""
    return module.partition(".")[0] in sys.stdlib_module_names - {"__main__"}


def is_fixed(module: str, own: frozenset[str] = frozenset()) -> bool:
    """Whether a module's functions and classes stay as they are: ldl's, Python's, installed ones.

    Those of a package in `own` do not, wherever it lies.
    """
    package = module.partition(".")[0]
    if package in own:
        return False
    if package in LDL or is_python(package):
        return True
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file


def runs(attribute: Any) -> Iterator[FunctionType]:
    """The functions that run where an attribute of a class is used."""
    if isinstance(attribute, property):
        for each in (attribute.fget, attribute.fset, attribute.fdel):
            yield from runs(each)
    elif isinstance(attribute, (cached_property, partialmethod)):
        yield from runs(attribute.func)
    elif isinstance(attribute, singledispatchmethod):
        yield from runs(attribute.dispatcher)
    else:
        attribute = getattr(attribute, "__func__", attribute)  # of a static or a class method
        if isinstance(attribute, FunctionType):
            yield attribute


def members(base: type, made: bool) -> Iterator[tuple[str, list[Any], bool]]:
    """What a class holds, by names, and whether it is for Python to use whatever code names.

    Its objects may be `made` by code.
    """
    for name, value in vars(base).items():
        found: list[Any] = [*runs(value)]
        special = name.startswith("__") and name.endswith("__")
        if special and (not found or (name in _ONCE and not made)):
            continue
        if isinstance(value, partialmethod):
            found += [*value.args, *value.keywords.values()]
        inner = not found and name[:1] == "_" == name[-1:]  # such as the members of an Enum
        yield name, found or [value], special or inner


def is_clock(x: Any) -> bool:
    """Whether it is a class that tells the date where it is asked for it."""
    return isinstance(x, type) and x.__module__ == "datetime"


def is_restless(x: Any, attributes: frozenset[str] | set[str]) -> bool:
    """Whether code that calls it, or those attributes of it, is told the time or rolls new dice."""
    if isinstance(x, BuiltinMethodType) and is_clock(x.__self__):
        return x.__name__ in NOW
    if is_clock(x):
        return not NOW.isdisjoint(attributes)
    if getattr(x, "__module__", None) in ("time", "secrets", "uuid"):
        return callable(x) and x is not time.sleep
    made = isinstance(x, type) and issubclass(x, _DICE)
    return made or x is os.urandom
