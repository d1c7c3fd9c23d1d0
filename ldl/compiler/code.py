"""Code: what it names, which of it stays as it is, and calls that give something else each time."""

from __future__ import annotations

import dis
import os
import random
import sys
import time
from collections.abc import Iterator
from functools import cache, cached_property
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

LDL = frozenset({"ldl", "ldl_numpy", "ldl_cupy"})
_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "STORE_GLOBAL")
_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR", "IMPORT_FROM", "STORE_ATTR")
_NOW = frozenset({"now", "today", "utcnow"})


class Named(NamedTuple):
    """What a piece of code names, what is written inside it included."""

    globals: frozenset[str]
    attributes: frozenset[str]
    imports: frozenset[str]


@cache
def named_in(code: CodeType) -> Named:
    """The names in a function's code."""
    found: tuple[set[str], ...] = set(), set(), set()
    for instruction in dis.get_instructions(code):
        for names, kinds in zip(found, (_GLOBAL, _ATTRIBUTE, ("IMPORT_NAME",)), strict=True):
            if instruction.opname in kinds:
                names.add(str(instruction.argval))
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            for names, more in zip(found, named_in(inner), strict=True):
                names |= more
    return Named(*map(frozenset, found))


def imported(function: FunctionType) -> list[ModuleType]:
    """The modules that a function imports when it runs, where they have been imported."""
    package = function.__globals__.get("__package__") or ""
    names = named_in(function.__code__).imports
    found = [sys.modules.get(n) or sys.modules.get(f"{package}.{n}") for n in names]
    return [module for module in found if module is not None]


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
        attribute = attribute.fget
    elif isinstance(attribute, cached_property):
        attribute = attribute.func
    attribute = getattr(attribute, "__func__", attribute)  # of a static or a class method
    if isinstance(attribute, FunctionType):
        yield attribute


def is_restless(x: Any, attributes: frozenset[str] | set[str]) -> bool:
    """Whether code that calls it, or those attributes of it, is told the time or rolls new dice."""
    module = getattr(x, "__module__", None)
    if module in ("time", "secrets", "uuid"):
        return callable(x) and x is not time.sleep
    if module == "datetime" and isinstance(x, type):
        return not _NOW.isdisjoint(attributes)
    return x is os.urandom or x is random.SystemRandom
