"""A mark that differs after every change of an attribute of a module, a loss or a parameter.

Who has checked that all is as it was need not check again while the mark is the same object.
"""

from __future__ import annotations

from typing import Any


class Marked:
    """An object whose attributes, once set anew, change the mark; `unmarked` ones do not."""

    __slots__ = ()
    unmarked: frozenset[str] = frozenset()

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name not in self.unmarked:
            change()

    def __delattr__(self, name: str) -> None:
        object.__delattr__(self, name)
        change()


mark = object()


def change() -> None:
    """Make the mark another one."""
    global mark
    mark = object()
