"""CommandError."""

from __future__ import annotations

import sys

from ldl.console import shown


class CommandError(Exception):
    """What ends a command: a line for the user."""

    code = 1
    """The exit code."""


class UsageError(CommandError):
    """A mistake in the arguments."""

    code = 2


class Stopped(CommandError):
    """Ctrl-C."""

    code = 130


def warn(message: str) -> None:
    """Say in one line on stderr what the command goes on without."""
    print(shown(message), file=sys.stderr)
