"""`ldl predict`: what a net that `ldl train` made says of other rows."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ldl import table
from ldl.cli import tables
from ldl.cli.errors import UsageError
from ldl.cli.files import check_out
from ldl.cli.settings import available_backend
from ldl.console import shown
from ldl.table.errors import Said, count, listed
from ldl.table.files import write_table
from ldl.table.model import Predictions, describe
from ldl.table.target import Classes

DESCRIPTION = """\
Predict the target for the rows of a table, with a model that ldl train wrote.

The columns may stand in any order; those that the model does not know are passed over. Where the
table has the target too, the predictions are measured against it."""

EPILOG = """\
examples:
  ldl predict iris.safetensors new.csv
      prints a table of predictions
  ldl predict iris.safetensors new.csv --keep id --probabilities --out predictions.csv
      writes them, beside the column id, with the probability of every class"""


def add_to(commands: Any) -> None:
    """Add the command to an ArgumentParser's subparsers."""
    parser = commands.add_parser(
        "predict",
        help="predict the rows of a table with a model that ldl train wrote",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", metavar="MODEL.safetensors", help="the model")
    add("data", metavar="DATA.csv", help="a file as ldl train takes it, with or without the target")
    add(
        "--out",
        metavar="OUT.csv",
        help="the file to write, .csv, .tsv or .parquet, a line for every row of DATA; one that is "
        "already there is overwritten (default: print CSV)",
    )
    add(
        "--keep",
        action="append",
        default=[],
        metavar="COLUMNS",
        help="columns of DATA to write beside the predictions, separated by commas",
    )
    add("--probabilities", action="store_true", help="write the probability of every class too")
    tables.add_missing(
        parser,
        "as in training",
        "cells without a value: error stops and counts them, drop predicts nothing for their rows, "
        "mean puts the mean of the training rows, or no category of a text",
    )
    tables.add_backend(parser)
    tables.add_reading(parser)
    add("--json", action="store_true", help="print predictions and figures as one JSON object")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Read, predict, write and print; CommandError for whatever the user can mend."""
    if args.out:
        check_out(args.out, ".csv", ".tsv", ".parquet", data=args.data, model=args.model)
    with tables.mendable():
        backend = available_backend() if args.backend == "auto" else args.backend
        model = table.TableModel.load(args.model, backend)
        frame = table.read_table(args.data, tables.reading(args))
        keep = tables.names(args.keep, [*frame.columns])
        absent = [label for label in keep if label not in frame.columns]
        if absent:
            raise UsageError(f"--keep: the table has no column {listed(absent)}")
        if args.probabilities and not isinstance(model.target, Classes):
            raise UsageError(f"--probabilities: the model predicts a number, {model.target.name!r}")
        found = model.predictions(frame, args.missing)
        written = _written(model, found, frame, keep, args.probabilities)
        if args.out:
            write_table(args.out, written)
    notes = _notes(model, found, set(keep))
    tables.say_notes(notes)
    if args.json:
        tables.say_json(_content(args, model, found, notes))
    elif not args.out:
        print(written.to_csv(index=False, lineterminator="\n"), end="")
    _report(args, found)


def _label(model: table.TableModel, taken: tuple[str, ...]) -> str:
    """What the column of predictions is called."""
    name = model.target.name
    return name if name not in taken else f"predicted {name}"


def _written(
    model: table.TableModel,
    found: Predictions,
    frame: Any,
    keep: tuple[str, ...],
    probabilities: bool,
) -> Any:
    """The predictions as a DataFrame, beside columns that are kept."""
    written = frame[list(keep)].copy()
    label = _label(model, keep)
    written[label] = found.values
    if probabilities and isinstance(model.target, Classes) and found.probabilities is not None:
        for i, kind in enumerate(model.target.labels):
            written[f"probability of {kind}"] = found.probabilities[:, i].round(6)
    return written


def _notes(model: table.TableModel, found: Predictions, keep: set[str]) -> list[Said]:
    """What one should know of the table."""
    encoded, notes = found.encoded, []
    extra = [label for label in encoded.extra if label not in keep]
    if extra:
        notes.append(Said(f"columns that the model does not know are passed over: {listed(extra)}"))
    if encoded.unseen:
        notes.append(
            Said(
                "categories that the model has no input for count as none: "
                f"{describe(encoded.unseen)}"
            )
        )
    gone = int(encoded.left_out.sum())
    if gone:
        notes.append(Said(f"{count(gone, 'row')} with missing values got no prediction"))
    elif encoded.missing:
        notes.append(Said(f"missing values filled in: {describe(encoded.missing)}"))
    return notes


def _content(
    args: argparse.Namespace, model: table.TableModel, found: Predictions, notes: list[Said]
) -> dict[str, Any]:
    """Predictions and figures as JSON; NaN is null."""
    rows = [None if value is None or value != value else value for value in found.values.tolist()]
    content: dict[str, Any] = {
        "target": model.target.name,
        "task": model.target.task,
        "rows": len(rows),
        "out": args.out,
        "predictions": rows,
        "unseen": found.encoded.unseen,
        "missing": found.encoded.missing,
        "scores": found.scores,
        "scored": found.scored,
        "notes": [note.text(command=True) for note in notes],
    }
    if args.probabilities and isinstance(model.target, Classes) and found.probabilities is not None:
        content["classes"] = list(model.target.labels)
        content["probabilities"] = [
            None if gone else row
            for row, gone in zip(
                found.probabilities.tolist(), found.encoded.left_out.tolist(), strict=True
            )
        ]
    return content


def _report(args: argparse.Namespace, found: Predictions) -> None:
    """What was done, for people: on stderr where the predictions are on stdout."""
    lines = []
    if found.scores is not None:
        lines += [
            f"{count(found.scored, 'row')} with a known target",
            *tables.figures(found.scores),
        ]
    if args.out:
        rows = count(len(found.values), "prediction")
        lines.append(f"written {shown(args.out)}: {rows}")
    aside = args.json or not args.out
    for line in lines:
        print(line, file=sys.stderr if aside else sys.stdout)
