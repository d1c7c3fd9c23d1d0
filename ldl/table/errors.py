"""What is said of a table: a fault or a note, and the options that mend it."""

from __future__ import annotations

from dataclasses import dataclass

from ldl.console import shown

Option = tuple[str, str]
"""An option's name and its value."""


@dataclass(frozen=True)
class Said:
    """A line for people: what is the matter, the fix in words, options of which one helps, to what.

    In Python an option reads missing='mean', on a command line --missing mean.
    """

    fault: str
    fix: str = ""
    options: tuple[Option, ...] = ()
    to: str = ""

    def text(self, command: bool = False) -> str:
        """The line, with options as Python or as a command line has them."""
        form = "--{} {}" if command else "{}={!r}"
        choices = " or ".join(form.format(name, _quoted(v, command)) for name, v in self.options)
        ways = [self.fix] if self.fix else []
        ways += [f"give {choices}{self.to and f' to {self.to}'}"] if choices else []
        return shown(self.fault + (": " if ways else "") + ", or ".join(ways))

    def __str__(self) -> str:
        return self.text()


class TableError(ValueError):
    """A table that nothing can be learned of, or predicted for; one line names fault and fix."""

    def __init__(self, fault: str, fix: str = "", *options: Option) -> None:
        self.said = Said(fault, fix, options)
        super().__init__(self.said.text())


def _quoted(value: str, command: bool) -> str:
    """A value as a shell takes it, where it must."""
    import shlex

    return shlex.quote(value) if command else value


def name(text: object) -> str:
    """A column's name or a cell, quoted, no longer than a line takes."""
    words = shown(text)
    return repr(words if len(words) <= 40 else f"{words[:37]}...")


def listed(names: list[str], most: int = 8) -> str:
    """Names, separated by commas; of many the first ones and how many there are beside them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(name, names[:most])) + more


def count(n: int, what: str, plural: str = "") -> str:
    """Such as "1 row" and "1,200 rows"."""
    return f"{n:,} {what if n == 1 else plural or what + 's'}"
