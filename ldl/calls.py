"""Calls as text: what a thing is, said as the call that makes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import copy
from typing import Any

from ldl.numbers import plain, short


def noted(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call as they are now, whatever becomes of the arrays and lists in them."""
    return copied(args, _is_array), copied(kwargs, _is_array)


def copied(value: Any, is_array: Callable[[Any], bool], levels: int = 100) -> Any:
    """A value of its own: arrays are copied, also in lists, tuples and dicts, so many levels deep.

    Deeper than that only what holds itself goes.
    """
    if is_array(value):
        return value.copy()
    if not levels:
        return value
    if isinstance(value, (list, dict)):
        own = copy(value)
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            own[key] = copied(item, is_array, levels - 1)
        return own
    if isinstance(value, tuple):
        items = (copied(item, is_array, levels - 1) for item in value)
        return getattr(type(value), "_make", tuple)(items)
    return value


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and hasattr(value, "copy")


def call(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The call of a class on one line, every argument named, defaults included.

    Two calls that say the same differently give the same text, and no text holds an address.
    """
    from inspect import signature

    initialiser: Any = getattr(cls, "__init__")  # noqa: B009 - mypy distrusts cls.__init__
    named: dict[str, Any]
    try:
        found = signature(initialiser)
        taken = found.replace(parameters=list(found.parameters.values())[1:])
        bound = taken.bind(*args, **kwargs)
        bound.apply_defaults()
        named = dict(bound.arguments)
        for name, parameter in taken.parameters.items():
            if parameter.kind.name == "VAR_KEYWORD":
                named |= named.pop(name)
    except (TypeError, ValueError):
        named = {str(i): value for i, value in enumerate(args)} | kwargs
    return f"{cls.__name__}({', '.join(f'{name}={text(value)}' for name, value in named.items())})"


def text(value: Any) -> str:
    """A value on one line: functions by name, what has no text of its own by its class.

    NumPy's scalars are the numbers that they are, so that one setting has one text.
    """
    value = plain(value)
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return str(value.__qualname__)
    if isinstance(value, (list, tuple)):
        inside = ", ".join(map(text, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    own: Any = type(value).__repr__
    if own is object.__repr__:
        return f"{type(value).__name__}()"
    return re.sub(r" at 0x[0-9a-f]+", "", short(value))
