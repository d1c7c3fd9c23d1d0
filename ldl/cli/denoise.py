"""`ldl denoise`: train a denoising autoencoder, measure it, and show what it does."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import ldl
from ldl.backend import Backend
from ldl.cli import extra, options, plots, results
from ldl.cli.errors import CommandError, Stopped, UsageError
from ldl.cli.results import CHECKPOINT, PICTURES, RECORD, RESULTS, Outcome
from ldl.cli.settings import Settings
from ldl.console import quoted, shown
from ldl.data.datasets import FILES, Dataset, load_dataset
from ldl.data.mnist import DataUnavailableError, MissingPackageError
from ldl.distributed.world import RanksDifferError, World
from ldl.io import check_writable, write_atomically

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
    """Train and write the results; CommandError for whatever the user can mend.

    Of the ranks that mpiexec has started, the first writes and prints.
    """
    world = World()
    with open(os.devnull, "w") if world.rank else nullcontext(sys.stdout) as out:
        try:
            with redirect_stdout(out):
                _run(args, world)
        except BaseException as error:
            world.stop(error)
            raise


def _run(args: argparse.Namespace, world: World) -> None:
    folder = Path(args.out)
    _check_folder(folder)
    settings, resume = _settings(args, folder)
    backend, data = _inputs(settings, resume)
    if world.size > 1:
        backend.choose_device(world.local_rank)
    _check_size(settings, data.x_test.shape[1])
    try:
        if resume:
            print(f"resuming the run in {shown(folder)}")
            for name in (CHECKPOINT, *RESULTS, *PICTURES):
                world.on_first(partial(check_writable, folder / name))
        else:
            world.on_first(partial(_begin, settings, folder))
        with np.errstate(over="ignore", invalid="ignore"):
            _denoise(settings, folder, resume, backend, data, world)
    except OSError as error:
        raise CommandError(
            f"cannot write {error.filename or folder}: {error.strerror or error}"
        ) from error
    except MemoryError as error:
        raise CommandError("not enough memory: give a smaller --batch-size or --hidden") from error
    except ldl.DivergedError as error:
        what = str(error).partition(":")[0]
        raise CommandError(f"{what}: try a lower --lr (now {settings.lr:g})") from error
    except (ldl.CheckpointError, RanksDifferError) as error:
        raise CommandError(str(error)) from error
    except KeyboardInterrupt:
        raise Stopped(
            f"stopped; to continue: ldl denoise --out {quoted(folder)} --resume"
        ) from None


def _check_folder(folder: Path) -> None:
    """CommandError for a folder that cannot be written into, or made; it is not made yet."""
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise UsageError(f"--out {folder} is a file; it must be a folder, or not yet exist")
    place = folder.absolute()
    try:
        while not place.exists():
            place = place.parent
    except OSError as error:
        raise CommandError(f"cannot write {folder}: {error.strerror}") from error
    if not place.is_dir():
        raise CommandError(f"cannot write {folder}: {place} is a file")
    if not os.access(place, os.W_OK | os.X_OK):
        raise CommandError(f"cannot write {folder}: no permission to write into {place}")


def _settings(args: argparse.Namespace, folder: Path) -> tuple[Settings, bool]:
    """What to run, and whether it continues what the folder holds."""
    given = options.given(args)
    record = folder / RECORD
    if not args.resume:
        return Settings.complete(given), False
    try:
        stored = Settings.from_json(record.read_text())
    except FileNotFoundError:
        print(f"no run to resume in {shown(folder)}: starting one")
        return Settings.complete(given), False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandError(
            f"cannot read {record} ({reason}): start again without --resume"
        ) from error
    if all(name.lower().endswith(FILES) for name in (stored.data, given.get("data", ""))):
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
    except MemoryError as error:
        raise CommandError("not enough memory: give a file of fewer samples") from error
    except MissingPackageError as error:
        names = ", ".join(dict.fromkeys([error.package, *extra.missing()]))
        raise CommandError(
            f"{error.what} {error.package}; not installed: {names}: {extra.HOW}{error.otherwise}"
        ) from error
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

    everywhere = False

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder = settings, folder

    def on_fit_begin(self, run: ldl.Run) -> None:
        write_atomically(self.folder / RECORD, self.settings.to_json())


def _denoise(
    settings: Settings,
    folder: Path,
    resume: bool,
    backend: Backend,
    data: Dataset,
    world: World,
) -> None:
    """Train, measure, write and print."""
    noise = ldl.data.parse_noise(settings.noise, data.image_shape)
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
    print(results.plan(settings, data, model, batches), flush=True)
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
        world=world,
    )
    if world.rank == 0:
        _measure(settings, folder, data, model, loss, history, noisy)


def _measure(
    settings: Settings,
    folder: Path,
    data: Dataset,
    model: ldl.nn.AutoEncoder,
    loss: Any,
    history: ldl.History,
    noisy: Any,
) -> None:
    backend = model.backend
    bce, x_test = ldl.nn.BCELoss("mean").to(backend), backend.asarray(data.x_test)
    output = model.denoise(noisy)
    noisy_x, denoised = backend.to_numpy(noisy), backend.to_numpy(output)
    metrics = {
        "data": settings.data,
        "backend": backend.name,
        "device": backend.device,
        "seed": settings.seed,
        "epochs": len(history),
        "noise": settings.noise,
        "test_bce": float(bce(output, x_test)),
        "test_mse": plots.mean_square(denoised, data.x_test),
        "psnr_noisy": plots.psnr(noisy_x, data.x_test),
        "psnr_denoised": plots.psnr(denoised, data.x_test),
        "seconds": round(sum(history["seconds"]), 3),
    }
    floor = float(loss(x_test, x_test))
    outcome = Outcome(settings, data, model, history, metrics, noisy_x, denoised, floor)
    results.write(outcome, folder)
