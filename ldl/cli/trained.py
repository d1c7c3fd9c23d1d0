"""What `ldl train` says: before training, and of what has come of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from ldl import nn
from ldl.cli import extra, plots, tables
from ldl.cli.errors import warn
from ldl.console import quoted, shown
from ldl.io import write_atomically
from ldl.io.files import one_line
from ldl.table import Settings, TableFit
from ldl.table.errors import count, listed
from ldl.table.preparing import Prepared
from ldl.table.scores import is_better
from ldl.table.target import Classes


def plan(prepared: Prepared, settings: Settings, data: str, backend: str) -> str:
    """What is going to happen, for people."""
    goal, inputs = prepared.target, prepared.x.shape[1]
    parts = (prepared.train, prepared.validation, prepared.test)
    sizes = "{:,} training, {:,} stopping, {:,} held out".format(*map(len, parts))
    columns = count(len(prepared.inputs), "column")
    kinds = [kind for column in prepared.inputs for kind in [column.to_json()["kind"]]]
    mixed = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    words = f"target {shown(repr(goal.name))}: "
    words += (
        f"one of {goal.width} classes: {listed([str(label) for label in goal.labels], 5)}"
        if isinstance(goal, Classes)
        else f"a number, {goal.mean:.4g} ± {goal.deviation:.4g}"
    )
    return "\n".join(
        [
            f"data      {shown(os.path.basename(data))}: {count(len(prepared.x), 'row')} ({sizes})",
            f"columns   {columns} ({mixed}) giving {count(inputs, 'input')}",
            f"{goal.task:<9} {words}",
            f"model     {_net(prepared, settings)} on {backend}",
            f"training  at most {count(settings.epochs, 'epoch')} in batches of "
            f"{settings.rows_a_step(len(prepared.train))}, AdamW {settings.lr:g}, "
            f"seed {settings.seed}",
        ]
    )


def _net(prepared: Prepared, settings: Settings) -> str:
    widths = [prepared.x.shape[1], *settings.hidden, prepared.target.width]
    parameters = sum((n + 1) * m for n, m in pairwise(widths))
    return f"{'-'.join(map(str, widths))}, {parameters:,} parameters"


def report(found: TableFit, out: str, drawn: list[str]) -> str:
    """The figures and the files, for people."""
    prepared, epochs = found.prepared, len(found.history)
    lines = [
        "",
        f"{count(len(prepared.test), 'row')} held out",
        *tables.figures(found.scores),
        "",
        f"{count(epochs, 'epoch')} in {found.seconds:.1f} s; the best, which is kept, was epoch "
        f"{found.best_epoch}",
        f"written {', '.join(map(shown, [out, *drawn]))}",
        f"for other rows: ldl predict {quoted(out)} NEW.csv",
    ]
    if not is_better(found.scores):
        lines += [
            "",
            "That is no better than the baseline: the columns may say nothing of the target, the "
            "rows may be",
            "too few, or try other --hidden, a lower --lr, or --dropout 0.2.",
        ]
    return "\n".join(lines)


def content(found: TableFit, out: str, drawn: list[str]) -> dict[str, Any]:
    """The results as JSON."""
    prepared, goal = found.prepared, found.model.target
    confusion = found.confusion
    return {
        "model": out,
        "task": goal.task,
        "target": goal.name,
        "rows": {
            "table": prepared.rows,
            "dropped": prepared.dropped,
            "training": len(prepared.train),
            "validation": len(prepared.validation),
            "test": len(prepared.test),
        },
        "columns": [column.name for column in prepared.inputs],
        "left_out": prepared.left_out,
        "inputs": prepared.x.shape[1],
        "layers": [
            layer.out_features
            for layer in found.model.net.modules()
            if isinstance(layer, nn.Linear)
        ],
        "parameters": sum(parameter.size for parameter in found.model.net.parameters()),
        "epochs": len(found.history),
        "best_epoch": found.best_epoch,
        "seconds": round(found.seconds, 3),
        "test": found.scores,
        "classes": list(goal.labels) if isinstance(goal, Classes) else None,
        "confusion": None if confusion is None else confusion.tolist(),
        "pictures": drawn,
        "backend": found.model.net.backend.name,
        "notes": [note.text(command=True) for note in prepared.notes],
    }


def pictures(found: TableFit, out: str, data: str) -> list[str]:
    """Draw the losses and the confusion matrix or residuals beside the model; their files.

    One that cannot be drawn or written costs a line on stderr.
    """
    goal, stem = found.model.target, out.removesuffix(".safetensors")
    title = f"{os.path.basename(data)}: {count(len(found.truth), 'row')} held out"
    drawers: dict[str, Callable[[], bytes]] = {
        f"{stem}-loss.png": partial(plots.draw_history, found.history)
    }
    confusion = found.confusion
    if isinstance(goal, Classes) and confusion is not None:
        labels = list(goal.labels)
        drawers[f"{stem}-confusion.png"] = partial(plots.draw_confusion, confusion, labels, title)
    else:
        numbers = found.truth, found.predicted, goal.name
        drawers[f"{stem}-residuals.png"] = partial(plots.draw_residuals, *numbers, title)
    written: list[str] = []
    if "matplotlib" in extra.missing():
        warn("note: no pictures, for want of matplotlib: pip install 'ldl[plot]'")
        return written
    for path, draw in drawers.items():
        try:
            write_atomically(path, draw())
            written.append(path)
        except Exception as error:
            warn(f"note: no picture {path}: {one_line(error)[:200]}")
    return written
