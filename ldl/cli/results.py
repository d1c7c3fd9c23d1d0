"""What `ldl denoise` leaves in its folder, and what it says about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import ldl
from ldl.cli import extra, plots
from ldl.cli.errors import CommandError, warn
from ldl.cli.settings import Settings
from ldl.console import quoted, shown
from ldl.data.datasets import Dataset
from ldl.data.files import Host
from ldl.io import write_atomically
from ldl.io.files import one_line

RECORD, CHECKPOINT = "run.json", "checkpoint.safetensors"
"""The files from which a run is resumed: its settings and its state after the last epoch."""

RESULTS = MODEL, METRICS, HISTORY = ("model.safetensors", "metrics.json", "history.csv")
"""The files that every run leaves."""

PICTURES = {
    "denoised.png": "clean, noisy and denoised test samples",
    "loss.png": "training and test loss by epoch",
}
"""The files that matplotlib is needed for."""


class Outcome(NamedTuple):
    """What a run has come to; `noisy` and `denoised` are the test samples, on the host."""

    settings: Settings
    data: Dataset
    model: ldl.nn.AutoEncoder
    history: ldl.History
    metrics: dict[str, Any]
    noisy: Host
    denoised: Host
    floor: float
    """The loss of a perfect output."""


def write(outcome: Outcome, folder: Path) -> None:
    """Write every file that can be written, and print the figures.

    The pictures come last: one that cannot be drawn costs a line on stderr. CommandError, at the
    end, for files that could not be written.
    """
    finite = {k: None if _is_infinite(v) else v for k, v in outcome.metrics.items()}
    results: dict[str, Callable[[Path], None]] = {
        MODEL: partial(ldl.save, outcome.model),
        METRICS: lambda path: write_atomically(
            path, (json.dumps(finite, indent=2) + "\n").encode()
        ),
        HISTORY: outcome.history.to_csv,
    }
    faults: dict[str, str] = {}
    for name, keep in results.items():
        _keep(keep, folder / name, faults)
    pictures, undrawn = _draw(outcome)
    for name in PICTURES:
        if name in pictures:
            _keep(partial(write_atomically, data=pictures[name]), folder / name, faults)
        else:
            _keep(partial(Path.unlink, missing_ok=True), folder / name, faults)
    written = [name for name in (*PICTURES, *RESULTS) if name in {**results, **pictures}]
    print(report(outcome, folder, [name for name in written if name not in faults]))
    again = f"ldl denoise --out {quoted(folder)} --resume"
    if "matplotlib" in extra.missing():
        print(f"\nThe pictures need matplotlib: {extra.HOW}, then {again}")
    elif undrawn:
        warn(f"ldl denoise: {undrawn}; to draw again: {again}")
    if faults:
        reasons = ", ".join(dict.fromkeys(faults.values()))
        files = ", ".join(str(folder / name) for name in faults)
        raise CommandError(f"cannot write {files}: {reasons}; to write again: {again}")


def _is_infinite(value: Any) -> bool:
    return isinstance(value, float) and not isfinite(value)


def _keep(keep: Callable[[Path], None], path: Path, faults: dict[str, str]) -> None:
    """Write a file, or note by its name why it cannot be written."""
    try:
        keep(path)
    except OSError as error:
        faults[path.name] = error.strerror or str(error)


def _draw(outcome: Outcome) -> tuple[dict[str, bytes], str]:
    """The PNG files that can be drawn, by name, and what went wrong with the others."""
    settings, data, history = outcome.settings, outcome.data, outcome.history
    title = f"{short(data.name)}, {settings.noise} noise"
    loss = {"bce": "binary cross-entropy", "mse": "squared error"}[settings.loss]
    samples = (data.x_test, outcome.noisy, outcome.denoised, data.y_test, data.image_shape)
    over = f"{title}: PSNR over {len(data.x_test):,} test samples"
    curves = (history["loss"], history["val_loss"], outcome.floor, loss, title)
    draw = (partial(plots.draw_samples, *samples, over), partial(plots.draw_loss, *curves))
    drawn: dict[str, bytes] = {}
    faults: dict[str, list[str]] = {}
    for name, picture in zip(PICTURES, draw, strict=True):
        try:
            drawn[name] = picture()
        except Exception as error:
            fault = one_line(error)
            faults.setdefault(fault[:120] + "..." * (len(fault) > 120), []).append(name)
    words = [f"cannot draw {' and '.join(names)}: {fault}" for fault, names in faults.items()]
    return drawn, "; ".join(words)


def short(name: str) -> str:
    """A data set's name as one short word for people."""
    name = shown(name)
    return name if len(name) <= 40 else f"{name[:25]}...{name[-12:]}"


def plan(settings: Settings, data: Dataset, model: ldl.nn.Module, batches: int) -> str:
    """What is going to happen, for people."""
    width = data.x_test.shape[1]
    sample = "x".join(map(str, data.image_shape)) if data.image_shape else f"{width} values"
    widths = [width, *settings.hidden]
    net = "-".join(map(str, widths + widths[-2::-1]))
    parameters = sum(parameter.size for parameter in model.parameters())
    sizes = f"{len(data.x_train):,} training and {len(data.x_test):,} test samples"
    lines = [
        f"data      {short(data.name)}: {sizes} of {sample}",
        f"noise     {settings.noise}, drawn afresh for every batch",
        f"model     {net}, {parameters:,} parameters, on {model.backend.name}",
        f"training  {_epochs(settings.epochs)} of {batches} batches of {settings.batch_size}, "
        f"{settings.loss} loss, Adam {settings.lr:g}, seed {settings.seed}",
    ]
    if "matplotlib" in extra.missing():
        lines.append(f"pictures  none, for want of matplotlib: {extra.HOW}")
    return "\n".join(lines)


def report(outcome: Outcome, folder: Path, written: list[str]) -> str:
    """The figures and the files, for people."""
    metrics, settings = outcome.metrics, outcome.settings
    mse_noisy = plots.mean_square(outcome.noisy, outcome.data.x_test)
    gain = metrics["psnr_denoised"] - metrics["psnr_noisy"]
    lines = [
        "",
        "test set        noisy    denoised",
        f"  PSNR    {metrics['psnr_noisy']:8.2f} dB {metrics['psnr_denoised']:8.2f} dB   "
        f"{gain:+.2f} dB",
        f"  MSE     {mse_noisy:11.4f} {metrics['test_mse']:11.4f}",
        f"  BCE                 {metrics['test_bce']:11.4f}",
        "",
        f"{_epochs(metrics['epochs'])} in {metrics['seconds']:.1f} s on {metrics['backend']} "
        f"({metrics['device']})",
    ]
    if written:
        lines += ["", f"written into {shown(folder)}"]
    about = {**PICTURES, MODEL: "the model, for ldl.load and ldl apply"}
    lines += [f"  {name:18} {about[name]}" for name in written if name in about]
    others = [name for name in written if name not in about]
    lines += [f"  {', '.join(others)}"] if others else []
    if metrics["psnr_denoised"] < metrics["psnr_noisy"]:
        lines += [
            "",
            f"The output is worse than its input. Try a lower --lr (now {settings.lr:g}), more "
            f"--epochs (now {settings.epochs})",
            f"or a wider --hidden (now {','.join(map(str, settings.hidden))}).",
        ]
    return "\n".join(lines)


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"
