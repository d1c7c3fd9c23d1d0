"""A mark that differs after every change of an attribute of a module, a loss or a parameter.

Who has checked that all is as it was need not check again while the mark is the same object.
"""

from __future__ import annotations

from typing import Any

from ldl.prepared import play


class Marked:
    """An object whose attributes, once set anew, change the mark; `unmarked` ones do not."""

    __slots__ = ()
    unmarked: frozenset[str] = frozenset()

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.unmarked:
            object.__setattr__(self, name, value)
        else:
            set_all((self, name, value))

    def __delattr__(self, name: str) -> None:
        change()
        object.__delattr__(self, name)
        change()


mark = object()


def change() -> None:
    """Make the mark another one: before a change, which may be interrupted behind it, and after."""
    global mark
    mark = object()


def set_all(*given: tuple[Any, str, Any]) -> None:
    """Set attributes, each an (object, name, value): all of them, whatever interrupts, or none."""
    change()
    play([(object.__setattr__, *each) for each in given])
    change()
