"""What `ldl train` and `ldl predict` have in common: reading, errors, figures, JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ldl
from ldl.cli.errors import CommandError, Stopped, UsageError
from ldl.cli.options import checked
from ldl.console import shown
from ldl.table import Reading, TableError
from ldl.table.errors import Said
from ldl.table.scores import Scores


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a text file is read."""
    group = parser.add_argument_group("reading text files")
    group.add_argument(
        "--separator",
        metavar="C",
        help="what stands between cells; found by itself among , ; | and the tabulator",
    )
    group.add_argument(
        "--decimal", default=".", metavar="C", help='the decimal sign (default "."; "," in 3,14)'
    )
    group.add_argument(
        "--encoding", default="utf-8", metavar="NAME", help="such as latin-1 (default utf-8)"
    )


def reading(args: argparse.Namespace) -> Reading:
    """How the options say that a text file is read."""
    separator = {"tab": "\t", "\\t": "\t"}.get(args.separator, args.separator)
    return Reading(separator, args.decimal, args.encoding)


def names(given: list[str], known: list[str]) -> tuple[str, ...]:
    """Columns' names, separated by commas where none of the known ones has the comma in it."""
    found: list[str] = []
    for text in given:
        parts = [text] if text in known else [part.strip() for part in text.split(",")]
        found += [part for part in parts if part]
    return tuple(dict.fromkeys(found))


def share(text: str) -> float:
    """A share of the rows, more than 0 and less than a half."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 0.5:
        raise ValueError(f"needs a share between 0 and 0.5 such as 0.2, got {text[:40]!r}")
    return value


def add_missing(parser: argparse.ArgumentParser, default: str, how: str) -> None:
    """Add --missing."""
    parser.add_argument(
        "--missing", choices=("error", "drop", "mean"), help=f"{how} (default {default})"
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add --backend."""
    from ldl.cli import values

    parser.add_argument(
        "--backend",
        type=checked(values.backend),
        default="numpy",
        metavar="NAME",
        help="where to compute: numpy (CPU, default), cupy (NVIDIA GPU), or auto; see ldl info",
    )


def dropped(text: str) -> float:
    """A share of outputs to drop, from 0 on and less than 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise ValueError(f"needs a share from 0 to less than 1 such as 0.2, got {text[:40]!r}")
    return value


@contextmanager
def mendable() -> Iterator[None]:
    """Errors that the user can mend, as CommandErrors in the words of the command line."""
    try:
        yield
    except TableError as error:
        raise UsageError(error.said.text(command=True)) from error
    except (ImportError, ldl.CheckpointError) as error:
        raise CommandError(str(error)) from error
    except ldl.BackendUnavailableError as error:
        text = str(error).replace("ldl.set_backend('numpy')", "--backend numpy")
        raise CommandError(text) from error
    except MemoryError as error:
        raise CommandError("not enough memory: give a file of fewer rows or columns") from error
    except FileNotFoundError as error:
        raise CommandError(f"there is no file {error.filename}") from error
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        raise CommandError(f"cannot read or write{where}: {error.strerror or error}") from error
    except KeyboardInterrupt:
        raise Stopped("stopped; nothing was written") from None


def say_notes(notes: list[Said]) -> None:
    """What one should know of a table, a line each on stderr."""
    for note in notes:
        print(f"note: {note.text(command=True)}", file=sys.stderr)


def say_json(content: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(content, ensure_ascii=False, allow_nan=False))


def figures(scores: Scores) -> list[str]:
    """Scores beside the baseline's, for people."""
    if "accuracy" in scores:
        return [
            f"  accuracy  {_percent(scores['accuracy'])}   always the most frequent class: "
            f"{_percent(scores['baseline_accuracy'])}",
            f"  log loss  {scores['log_loss']:.4f}",
        ]
    return [
        f"  R²    {_number(scores['r2'])}",
        f"  RMSE  {_number(scores['rmse'])}   always the mean: {_number(scores['baseline_rmse'])}",
        f"  MAE   {_number(scores['mae'])}",
    ]


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "none" if value is None else shown(f"{value:.4g}")
