"""`ldl train`: train a net on a table of one's own."""

from __future__ import annotations

import argparse
import os
from typing import Any

import ldl
from ldl import table
from ldl.cli import tables, trained, values
from ldl.cli.errors import CommandError, Stopped
from ldl.cli.files import check_out
from ldl.cli.options import checked
from ldl.cli.settings import available_backend
from ldl.console import shown
from ldl.table import Settings
from ldl.table.fitting import train
from ldl.table.preparing import prepare

DESCRIPTION = """\
Train a network on a table: it learns to predict one column, the target, from the others.

Numbers are scaled, texts become an input for each category, columns of dates are refused. A fifth
of the rows is held out for the figures at the end, another part tells when to stop. MODEL holds
all that ldl predict needs: the network, and what it knows of the columns. Beside it two pictures
are drawn: MODEL-loss.png, and MODEL-confusion.png of classes or MODEL-residuals.png of numbers."""

EPILOG = """\
examples:
  ldl train iris.csv --target species
      classify flowers; writes iris.safetensors into this folder
  ldl train houses.csv --target price --ignore id,address --missing mean
      predict a number, without two of the columns, gaps filled with the columns' means
  ldl train visits.parquet --target count --task regress --hidden 128,64 --out visits.safetensors
      a target of few whole numbers is taken for classes unless --task says otherwise
  ldl train big.csv --target y --resume
      give it again after a crash or Ctrl-C: it goes on from big-checkpoint.safetensors
  ldl predict iris.safetensors new.csv
      what the network says of other rows"""

DEFAULTS = Settings()


def add_to(commands: Any) -> None:
    """Add the command to an ArgumentParser's subparsers."""
    parser = commands.add_parser(
        "train",
        help="train a network on a table of your own, a CSV or Parquet file",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "data",
        metavar="DATA.csv",
        help="a .csv, .tsv or .txt file (packed too, as .csv.gz), whose first line names the "
        "columns, or a .parquet file; empty cells, NA, NaN and null are missing",
    )
    add("--target", required=True, metavar="COLUMN", help="the column to predict")
    add(
        "--task",
        choices=("auto", "classify", "regress"),
        default="auto",
        help="classify: one of some classes; regress: a number; auto (default): classify texts, "
        "true/false and few different whole numbers, regress other numbers",
    )
    add(
        "--out",
        metavar="MODEL.safetensors",
        help="the model's file (default: DATA.safetensors in this folder); one that is already "
        "there is overwritten",
    )
    columns = parser.add_argument_group("columns")
    columns.add_argument(
        "--ignore",
        action="append",
        metavar="COLUMNS",
        default=[],
        help="columns to leave out, separated by commas, such as numbers of rows",
    )
    columns.add_argument(
        "--categories",
        action="append",
        metavar="COLUMNS",
        default=[],
        help="columns of numbers that are names of categories, such as postal codes",
    )
    tables.add_missing(
        columns,
        DEFAULTS.missing,
        "cells without a value: error stops and counts them, drop leaves their rows out, mean puts "
        "the mean of the column, or no category of a text",
    )
    columns.add_argument(
        "--test",
        type=checked(tables.share),
        default=DEFAULTS.test,
        metavar="X",
        help=f"share of the rows held out for the figures (default {DEFAULTS.test})",
    )
    _add_training(parser)
    _add_checkpoint(parser)
    tables.add_reading(parser)
    add("--json", action="store_true", help="print the results as one JSON object")
    parser.set_defaults(run=run)


def _add_training(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("training").add_argument
    whole = checked(values.at_least_one)
    add(
        "--hidden",
        type=checked(values.hidden),
        default=list(DEFAULTS.hidden),
        metavar="WIDTHS",
        help="widths of the hidden layers (default 64,64)",
    )
    add(
        "--epochs",
        type=whole,
        default=DEFAULTS.epochs,
        metavar="N",
        help=f"passes over the training rows, at most (default {DEFAULTS.epochs})",
    )
    add(
        "--patience",
        type=whole,
        default=DEFAULTS.patience,
        metavar="N",
        help="stop when the loss of rows not trained on has not fallen for so many epochs, and "
        f"keep the best epoch (default {DEFAULTS.patience})",
    )
    add(
        "--batch-size",
        type=whole,
        metavar="N",
        help="rows in a step of the optimizer, AdamW (default 16, 32 from 500 training rows on, "
        "128 from 10,000)",
    )
    add(
        "--lr",
        type=checked(values.lr),
        default=DEFAULTS.lr,
        metavar="X",
        help=f"learning rate; it falls by itself (default {DEFAULTS.lr:g})",
    )
    add(
        "--dropout",
        type=checked(tables.dropped),
        default=DEFAULTS.dropout,
        metavar="P",
        help="share of a hidden layer's outputs that are dropped in training, against learning "
        "small tables by heart (default 0)",
    )
    add(
        "--seed",
        type=checked(values.seed),
        default=DEFAULTS.seed,
        metavar="N",
        help="seed of weights, order and held-out rows; one seed, one result (default 0)",
    )
    tables.add_backend(parser)


def _add_checkpoint(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("runs that may be cut off").add_argument
    add(
        "--checkpoint",
        metavar="FILE.safetensors",
        help="a file written after every epoch, from which --resume goes on (default with "
        "--resume: MODEL-checkpoint.safetensors, beside MODEL)",
    )
    add(
        "--resume",
        action="store_true",
        help="go on where the checkpoint ends, or begin where there is none, and write one after "
        "every epoch; the table and all options but --epochs must be those of the run that was cut "
        "off, and the model is the one that it would have become",
    )


def run(args: argparse.Namespace) -> None:
    """Read, train, write and print; CommandError for whatever the user can mend."""
    out = args.out or f"{_stem(args.data)}.safetensors"
    check_out(out, ".safetensors", data=args.data)
    checkpoint = _checkpoint(args, out)
    with tables.mendable():
        backend = ldl.get_backend(available_backend() if args.backend == "auto" else args.backend)
        frame = table.read_table(args.data, tables.reading(args))
        settings = _settings(args, [*frame.columns])
        prepared = prepare(frame, args.target, settings)
        tables.say_notes(prepared.notes)
        if args.resume and checkpoint and not args.json:
            there = os.path.exists(checkpoint)
            said = "resuming the run in {}" if there else "no run to resume in {}: starting one"
            print(said.format(shown(checkpoint)))
        if not args.json:
            print(trained.plan(prepared, settings, args.data, backend.name), flush=True)
        try:
            found = train(prepared, settings, backend, checkpoint=checkpoint, resume=args.resume)
        except ldl.DivergedError as error:
            what = str(error).partition(":")[0]
            raise CommandError(f"{what}: try a lower --lr (now {settings.lr:g})") from error
        except KeyboardInterrupt:
            if checkpoint is None or not os.path.exists(checkpoint):
                raise
            raise Stopped("stopped; to continue: the same command with --resume") from None
        found.model.save(out)
    drawn = trained.pictures(found, out, args.data)
    if args.json:
        tables.say_json(trained.content(found, out, drawn))
    else:
        print(trained.report(found, out, drawn))


def _checkpoint(args: argparse.Namespace, out: str) -> str | None:
    """The checkpoint's file, if there is to be one; CommandError where it cannot be written."""
    if args.checkpoint is None and not args.resume:
        return None
    path: str = args.checkpoint or f"{out[: -len('.safetensors')]}-checkpoint.safetensors"
    check_out(path, ".safetensors", option="--checkpoint", data=args.data, model=out)
    return path


def _settings(args: argparse.Namespace, known: list[str]) -> Settings:
    """The options as settings, for a table of these columns."""
    return Settings(
        task=args.task,
        missing=args.missing or DEFAULTS.missing,
        ignore=tables.names(args.ignore, known),
        categories=tables.names(args.categories, known),
        hidden=tuple(args.hidden),
        dropout=args.dropout,
        epochs=args.epochs,
        patience=args.patience,
        batch_size=args.batch_size,
        lr=args.lr,
        test=args.test,
        seed=args.seed,
    )


def _stem(path: str) -> str:
    """A file's name without its folder and ending."""
    name = os.path.basename(path)
    for end in (".gz", ".bz2", ".xz", ".zip"):
        name = name.removesuffix(end)
    return os.path.splitext(name)[0] or "model"
