"""`ldl denoise`: train a denoising autoencoder, measure it, and show what it does."""

from __future__ import annotations

import argparse
import json
import os
import shlex
from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import ldl
from ldl.backend import Backend
from ldl.cli import options, plots
from ldl.cli.errors import CommandError, Stopped, UsageError
from ldl.cli.options import Settings
from ldl.data.datasets import FILES, Dataset, load_dataset
from ldl.data.files import Host
from ldl.data.mnist import DataUnavailableError
from ldl.io import write_atomically

RECORD, CHECKPOINT = "run.json", "checkpoint.safetensors"
"""The files from which a run is resumed: its settings and its state after the last epoch."""

RESULTS = MODEL, METRICS, HISTORY = ("model.safetensors", "metrics.json", "history.csv")
"""The files that every run leaves."""

PICTURES = ("denoised.png", "loss.png")
"""The files that matplotlib is needed for."""

TEST_NOISE = 2
"""Index of the noise stream that corrupts the test set; `ldl.fit` draws from others."""


def add_to(commands: Any) -> None:
    """Add the command to an ArgumentParser's subparsers."""
    parser = commands.add_parser(
        "denoise",
        help="train a denoising autoencoder on images and show what it does",
        description=options.DESCRIPTION,
        epilog=options.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train and write the results; CommandError for whatever the user can mend."""
    folder = Path(args.out)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UsageError(f"--out {folder} is a file; it must be a folder, or not yet exist")
    settings, resume = _settings(args, folder)
    backend, data = _inputs(settings, resume)
    _check_size(settings, data.x_test.shape[1])
    try:
        if resume:
            print(f"resuming the run in {folder}")
        else:
            _begin(settings, folder)
        with np.errstate(over="ignore", invalid="ignore"):
            _denoise(settings, folder, resume, backend, data)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise CommandError(
            f"cannot write {error.filename or folder}: {error.strerror or error}"
        ) from error
    except MemoryError as error:
        raise CommandError("not enough memory: give a smaller --batch-size or --hidden") from error
    except ldl.DivergedError as error:
        what = str(error).partition(":")[0]
        raise CommandError(f"{what}: try a lower --lr (now {settings.lr:g})") from error
    except ldl.CheckpointError as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        out = shlex.quote(str(folder))
        raise Stopped(f"stopped; to continue: ldl denoise --out {out} --resume") from None


def _settings(args: argparse.Namespace, folder: Path) -> tuple[Settings, bool]:
    """What to run, and whether it continues what the folder holds."""
    given = options.given(args)
    record = folder / RECORD
    if not args.resume:
        return Settings.complete(given), False
    try:
        stored = Settings(**json.loads(record.read_text()))
    except FileNotFoundError:
        print(f"no run to resume in {folder}: starting one")
        return Settings.complete(given), False
    except (OSError, ValueError, TypeError) as error:
        raise CommandError(
            f"cannot read {record} ({error}): start again without --resume"
        ) from error
    if stored.data.endswith(FILES) and given.get("data", "").endswith(FILES):
        stored = replace(stored, data=given["data"])
    differing = stored.differences(given)
    if differing:
        raise UsageError(
            f"the run in {folder} has {', '.join(differing)}: leave these options out to resume "
            "it, or leave out --resume to start again"
        )
    return stored, True


def _inputs(settings: Settings, resume: bool) -> tuple[Backend, Dataset]:
    try:
        return ldl.get_backend(settings.backend), load_dataset(settings.data)
    except (ldl.BackendUnavailableError, DataUnavailableError) as error:
        text = str(error).replace("ldl.set_backend('numpy')", "--backend numpy")
        raise CommandError(text) from error
    except ValueError as error:
        moved = resume and "there is no file" in str(error)
        raise UsageError(f"{error}" + moved * "; give its new place with --data") from error


def _check_size(settings: Settings, width: int) -> None:
    """CommandError for a model whose weights, gradients and Adam's two means find no room."""
    widths = [width, *settings.hidden]
    parameters = sum((n + 1) * m + (m + 1) * n for n, m in pairwise(widths))
    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        memory = 2**47  # what an address reaches
    if 16 * parameters > memory:
        raise CommandError(
            f"a model of {parameters:,} parameters needs {16 * parameters / 2**30:,.0f} GiB to "
            f"train, and this machine has {memory / 2**30:,.0f}: give smaller --hidden"
        )


def _begin(settings: Settings, folder: Path) -> None:
    """Make the folder that of a new run, without anything of one before."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CHECKPOINT, *RESULTS, *PICTURES):
        (folder / name).unlink(missing_ok=True)
    write_atomically(folder / RECORD, settings.to_json())


class _Recorded(ldl.Callback):
    """Writes the settings, where the data lie now among them, once the checkpoint was accepted."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder

    def on_fit_begin(self, run: ldl.Run) -> None:
        write_atomically(self.folder / RECORD, self.settings.to_json())


def _denoise(
    settings: Settings, folder: Path, resume: bool, backend: Backend, data: Dataset
) -> None:
    """Train, measure, write and print."""
    noise = ldl.data.parse_noise(settings.noise)
    x_test = backend.asarray(data.x_test)
    stream = ldl.random.Stream(settings.seed, ldl.random.NOISE, TEST_NOISE)
    noisy = noise(x_test, stream, backend)
    with ldl.use_backend(backend):
        ldl.manual_seed(settings.seed)
        model = ldl.nn.AutoEncoder.symmetric(x_test.shape[1], settings.hidden)
        bce, mse = ldl.nn.BCELoss("mean"), ldl.nn.MSELoss("mean")
    loss = {"bce": bce, "mse": mse}[settings.loss]
    batches = -(-len(data.x_train) // settings.batch_size)
    schedule = ldl.optim.TrapezoidLR(settings.epochs * batches)
    optimizer = ldl.optim.Adam(model.parameters(), settings.lr, schedule=schedule)
    print(_plan(settings, data, model, batches), flush=True)
    history = ldl.fit(
        model,
        ldl.data.Arrays(data.x_train, noise=noise),
        loss,
        optimizer,
        settings.epochs,
        batch_size=settings.batch_size,
        validation=(noisy, x_test),
        seed=settings.seed,
        callbacks=_Recorded(settings, folder),
        checkpoint=folder / CHECKPOINT,
        resume=resume,
    )

    output = model.denoise(noisy)
    test = _Test(data, *(backend.to_numpy(array) for array in (noisy, output)))
    metrics: dict[str, Any] = {
        "data": settings.data,
        "backend": backend.name,
        "device": backend.device,
        "seed": settings.seed,
        "epochs": len(history),
        "noise": settings.noise,
        "test_bce": float(bce(output, x_test)),
        "test_mse": plots.mean_square(test.denoised, data.x_test),
        "psnr_noisy": plots.psnr(test.noisy, data.x_test),
        "psnr_denoised": plots.psnr(test.denoised, data.x_test),
        "seconds": round(sum(history["seconds"]), 3),
    }
    ldl.save(model, folder / MODEL)
    history.to_csv(folder / HISTORY)
    pictures = _pictures(settings, test, history, float(loss(x_test, x_test)))
    for name in PICTURES:
        if name in pictures:
            write_atomically(folder / name, pictures[name])
        else:
            (folder / name).unlink(missing_ok=True)
    finite = {key: None if value == inf else value for key, value in metrics.items()}
    write_atomically(folder / METRICS, (json.dumps(finite, indent=2) + "\n").encode())
    print(_report(metrics, plots.mean_square(test.noisy, data.x_test), folder, bool(pictures)))
    if metrics["psnr_denoised"] < metrics["psnr_noisy"]:
        print(
            f"\nThe output is worse than its input. Try a lower --lr (now {settings.lr:g}), more "
            f"--epochs (now {settings.epochs})\nor a wider --hidden (now "
            f"{','.join(map(str, settings.hidden))})."
        )
    if not pictures:
        print(
            "\nThe pictures need matplotlib: pip install matplotlib, then "
            f"ldl denoise --out {shlex.quote(str(folder))} --resume"
        )


class _Test(NamedTuple):
    """The data set, and its test samples noisy and denoised, on the host."""

    data: Dataset
    noisy: Host
    denoised: Host


def _pictures(
    settings: Settings, test: _Test, history: ldl.History, floor: float
) -> dict[str, bytes]:
    """The PNG files by name, none without matplotlib; `floor` is the loss of a perfect output."""
    data = test.data
    title = f"{data.name}, {settings.noise} noise"
    name = {"bce": "binary cross-entropy", "mse": "squared error"}[settings.loss]
    try:
        samples = plots.draw_samples(
            data.x_test,
            test.noisy,
            test.denoised,
            data.y_test,
            data.image_shape,
            f"{title}: PSNR over {len(data.x_test):,} test samples",
        )
        curves = plots.draw_loss(history["loss"], history["val_loss"], floor, name, title)
    except ImportError:
        return {}
    return dict(zip(PICTURES, (samples, curves), strict=True))


def _plan(settings: Settings, data: Dataset, model: ldl.nn.Module, batches: int) -> str:
    """What is going to happen, for people."""
    width = data.x_test.shape[1]
    sample = "x".join(map(str, data.image_shape)) if data.image_shape else f"{width} values"
    widths = [width, *settings.hidden]
    net = "-".join(map(str, widths + widths[-2::-1]))
    parameters = sum(parameter.size for parameter in model.parameters())
    sizes = f"{len(data.x_train):,} training and {len(data.x_test):,} test samples"
    return (
        f"data      {data.name}: {sizes} of {sample}\n"
        f"noise     {settings.noise}, drawn afresh for every batch\n"
        f"model     {net}, {parameters:,} parameters, on {model.backend.name}\n"
        f"training  {_epochs(settings.epochs)} of {batches} batches of {settings.batch_size}, "
        f"{settings.loss} loss, Adam {settings.lr:g}, seed {settings.seed}"
    )


def _report(metrics: dict[str, Any], mse_noisy: float, folder: Path, pictures: bool) -> str:
    """The figures and the files, for people."""
    drawn = (
        "  denoised.png       clean, noisy and denoised test samples\n"
        "  loss.png           training and test loss by epoch\n"
    )
    gain = metrics["psnr_denoised"] - metrics["psnr_noisy"]
    return (
        f"\ntest set        noisy    denoised\n"
        f"  PSNR    {metrics['psnr_noisy']:8.2f} dB {metrics['psnr_denoised']:8.2f} dB   "
        f"{gain:+.2f} dB\n"
        f"  MSE     {mse_noisy:11.4f} {metrics['test_mse']:11.4f}\n"
        f"  BCE                 {metrics['test_bce']:11.4f}\n\n"
        f"{_epochs(metrics['epochs'])} in {metrics['seconds']:.1f} s on {metrics['backend']} "
        f"({metrics['device']})\n\n"
        f"written into {folder}\n"
        f"{drawn if pictures else ''}"
        f"  {MODEL}  the model, for ldl.load and ldl apply\n"
        f"  {METRICS}, {HISTORY}"
    )


def _epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"
