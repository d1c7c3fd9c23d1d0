"""The `ldl` command: `ldl denoise`, `ldl apply`, `ldl info`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import ldl
from ldl.cli import apply, denoise, info
from ldl.cli.errors import CommandError


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors take one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> _Parser:
    parser = _Parser(
        prog="ldl",
        description="Lightweight Deep Learning on NumPy or CuPy arrays.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ldl {ldl.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    denoise.add_to(commands)
    apply.add_to(commands)
    info.add_to(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (by default the process's arguments) gives; its exit code.

    0 is success, 2 a mistake in the arguments, 1 what the machine lacks, 130 Ctrl-C. Every error
    that a user can mend is one line on stderr.
    """
    parser = _parser()
    try:
        args, unknown = parser.parse_known_args(argv)
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 1
    if args.command is None and not unknown:
        parser.print_help()
        return 2
    if unknown:
        command = f"ldl {args.command or ''}".rstrip()
        kind = "option" if any(word.startswith("-") for word in unknown) else "argument"
        print(
            f"{command}: no such {kind}: {' '.join(unknown)} (see {command} --help)",
            file=sys.stderr,
        )
        return 2
    try:
        args.run(args)
        sys.stdout.flush()
    except CommandError as error:
        print(f"ldl {args.command}: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print(f"\nldl {args.command}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0
