"""CommandError."""

from __future__ import annotations


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
