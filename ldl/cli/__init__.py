"""The `ldl` command: `ldl train`, `predict`, `denoise`, `apply`, `codes`, `export` and `info`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from difflib import get_close_matches
from typing import NoReturn, TextIO, cast

import ldl
from ldl.cli import apply, codes, denoise, export, info, predict, train
from ldl.cli.errors import CommandError
from ldl.console import Tolerant, shown

NO_OPTIONS = ("command", "run", "model", "input")
"""What the parsed arguments hold that has no option of that name."""


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {shown(message)} (see {self.prog} --help)\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog="ldl",
        description="Lightweight Deep Learning on NumPy or CuPy arrays.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ldl {ldl.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    train.add_to(commands)
    predict.add_to(commands)
    denoise.add_to(commands)
    apply.add_to(commands)
    codes.add_to(commands)
    export.add_to(commands)
    info.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (by default the process's arguments) gives; its exit code.

    0 is success, 2 a mistake in the arguments, 1 what the machine lacks, 130 Ctrl-C. Every error
    that a user can mend is one line on stderr. A command whose words cannot be written (a full
    disk, a reader that has gone) does its work all the same, and then ends with 1.
    """
    _occupy_descriptors()
    out, err = Tolerant(sys.stdout), Tolerant(sys.stderr)
    with redirect_stdout(cast(TextIO, out)), redirect_stderr(cast(TextIO, err)):
        code = _run(_parser(), argv)
        out.flush()
        if out.failure and not isinstance(out.failure, BrokenPipeError):
            reason = getattr(out.failure, "strerror", None) or out.failure
            print(f"ldl: cannot write to standard output: {shown(reason)}", file=sys.stderr)
        err.flush()
    return code or int(out.failure is not None)


def _occupy_descriptors() -> None:
    """Have no file that is opened take the number of a standard stream that is closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _run(parser: _Parser, argv: Sequence[str] | None) -> int:
    """Parse, run and report; the exit code."""
    try:
        args, unknown = parser.parse_known_args(argv)
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 1
    command = f"ldl {args.command or ''}".rstrip()
    if unknown:
        return _fail(command, f"{_unknown(unknown, vars(args))} (see {command} --help)", 2)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        args.run(args)
    except CommandError as error:
        return _fail(command, str(error), error.code)
    except ValueError as error:
        if "LDL_" not in str(error):
            raise
        return _fail(command, str(error), 2)  # one of ldl's variables in the environment
    except KeyboardInterrupt:
        return _fail(command, "stopped", 130)
    return 0


def _unknown(words: list[str], known: Iterable[str]) -> str:
    """What to say of words that no option takes, and the option that may have been meant."""
    wrong = next((word for word in words if word.startswith("-")), "")
    options = [f"--{name.replace('_', '-')}" for name in known if name not in NO_OPTIONS]
    near = get_close_matches(wrong.partition("=")[0], options, 1)
    meant = "".join(f", did you mean {option}?" for option in near)
    return f"no such {'option' if wrong else 'argument'}: {' '.join(words)}{meant}"


def _fail(command: str, message: str, code: int) -> int:
    """Say in one line what ended the command; its exit code."""
    print(f"{command}: {shown(message)}", file=sys.stderr)
    return code
