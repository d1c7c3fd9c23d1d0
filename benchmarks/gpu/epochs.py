"""The part `epochs`: ten epochs of denoising as many digits as MNIST has, through `ldl.fit`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from time import perf_counter, time
from typing import Any

import numpy as np

import ldl
from benchmarks.device import Device
from benchmarks.how import LAYERS, How, Watch, manner
from benchmarks.process import NoAnswerError
from benchmarks.suite import Task
from ldl import data, nn, optim
from ldl.data.mnist import read_idx

WIDTHS, BATCH, SIGMA, SEED = (784, 256, 64, 256, 784), 128, 0.5, 1
TRAIN, TEST = "train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"


def folder(given: str) -> Path | None:
    """The folder with MNIST's files: the one given, else LDL_DATA_DIR/mnist, where it has them."""
    root = os.environ.get("LDL_DATA_DIR")
    found = Path(given) if given else Path(root, "mnist") if root else None
    if found and all((found / name).is_file() for name in (TRAIN, TEST)):
        return found
    if given:
        raise FileNotFoundError(f"{given} does not hold {TRAIN} and {TEST}")
    return None


def images(given: str, rows: int) -> tuple[str, Any, Any]:
    """What they are, and the training and the test images in [0, 1], of 784 columns."""
    found = folder(given)
    if found is not None:
        train, test = (
            (read_idx(found / name).reshape(-1, 784) / np.float32(255)).astype(np.float32)
            for name in (TRAIN, TEST)
        )
        return "MNIST", train[:rows], test
    rng = np.random.default_rng(4)
    basis = rng.standard_normal((16, 784))
    codes = rng.standard_normal((rows + rows // 6, 16))
    made = np.clip(codes @ basis / 4, 0, 1).astype(np.float32)
    return "synthetic: 16 random factors, cut to [0, 1]", made[:rows], made[rows:]


def _parts(backend: ldl.Backend) -> tuple[nn.Module, nn.Loss, optim.Optimizer]:
    ldl.manual_seed(SEED)
    with ldl.use_backend(backend):
        layers: list[nn.Module] = []
        for i, o in pairwise(WIDTHS):
            layers += [nn.Linear(i, o), nn.ReLU()]
        model = nn.Sequential(*layers[:-1])
        return model, nn.BCEWithLogitsLoss(), optim.Adam(model.parameters(), lr=1e-3)


def train(
    device: Device,
    progress: Callable[[dict[str, Any]], None],
    name: str,
    precision: str,
    given: str,
    rows: int,
    epochs: int,
    until: float,
) -> dict[str, Any]:
    """Train on the images, noise and all, on the backend of that name; what was found.

    `progress` is told of it after every epoch. An epoch on a few batches goes before them, with a
    model of its own, so that nothing is compiled while the time runs.
    """
    ldl.set_matmul_precision(precision)
    backend, noise = ldl.get_backend(name), data.GaussianNoise(SIGMA)
    what, x, held_out = images(given, rows)
    device_x = backend.asarray(x)
    few = device_x[: 16 * BATCH + len(x) % BATCH]  # with a last batch as small as the real one
    ldl.fit(
        *_in_order(backend, data.Arrays(few, noise=noise)),
        epochs=2,
        batch_size=BATCH,
        progress=False,
    )
    backend.synchronize()
    row: dict[str, Any] = {"status": "running", "epochs": [], "seconds": 0.0}
    row |= {"data": what, "samples": len(x)}

    def after(run: ldl.Run) -> None:
        how, why = watch()
        row["epochs"].append(run.history.rows[-1] | {"how": how, "why": why})
        row["how"], row["why"] = in_all(row["epochs"], [str(one.message) for one in told])
        row["seconds"] = sum(epoch["seconds"] for epoch in row["epochs"])
        row["train_bce"] = row["epochs"][-1]["loss"]
        run.stop = run.stop or time() > until
        progress(row)

    model, training, loss, optimizer = _in_order(backend, data.Arrays(device_x, noise=noise))
    watch, start = Watch(backend), perf_counter()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ldl.fit(
            *(model, training, loss, optimizer),
            epochs=epochs,
            batch_size=BATCH,
            seed=SEED,
            callbacks=after,
            progress=False,
        )
    backend.synchronize()
    row["wall_seconds"] = perf_counter() - start
    test = data.Arrays(backend.asarray(held_out), noise=noise)
    row["test_bce"] = ldl.evaluate(model, test, loss, seed=SEED)["loss"]
    row["status"] = "done" if len(row["epochs"]) == epochs else "out of time"
    return row


def in_all(epochs: list[dict[str, Any]], told: list[str]) -> How:
    """How a fit ran: as its last epoch did, and since when, or layer by layer if it said so."""
    for text in told:
        if LAYERS in text:
            return LAYERS, text
    last = epochs[-1]["how"]
    first = max((k for k, epoch in enumerate(epochs, 1) if epoch["how"] != last), default=0) + 1
    why = epochs[-1]["why"] or (f"from epoch {first} on" if first > 1 else "")
    return last, why


def _in_order(backend: ldl.Backend, training: Any) -> tuple[Any, Any, Any, Any]:
    model, loss, optimizer = _parts(backend)
    return model, training, loss, optimizer


def measure(
    task: Task, backend: str, precisions: list[str], rows: int = 60_000, epochs: int = 10
) -> None:
    """On the backend in each precision and, where asked for, on NumPy."""
    content, given = task.content, task.args.data
    if given:
        folder(given)  # says at once what is wrong with it
        given = str(Path(given).resolve())
    content |= {"batch": BATCH, "noise": f"gaussian:{SIGMA:g}", "wanted": epochs}
    runs: dict[str, Any] = content.setdefault("runs", {})
    jobs = [(f"{backend}, {p}", backend, p) for p in precisions]
    jobs += [("numpy", "numpy", "float32")] if task.args.with_cpu else []
    with task.workers() as workers:
        for name, *job in jobs:
            row = runs[name] = {"status": "building"}
            task.save()

            def progress(found: dict[str, Any], row: dict[str, Any] = row) -> None:
                row |= found
                task.save()

            try:
                if time() > task.until:
                    raise NoAnswerError("skipped", "out of time")
                where, limit = "benchmarks.gpu.epochs:train+", task.until - time() + 20
                arguments = *job, given, rows, epochs, task.until
                progress(workers.plain().ask(limit, where, *arguments, progress=progress))
            except NoAnswerError as error:
                row |= {"status": error.status, "reason": str(error)}
            task.say(f"  {name}: {row.get('seconds', 0):.3f} s, {row['status']}, {manner(row)}")
            task.save()
    reference = runs.get("numpy", {}).get("train_bce")
    for row in runs.values():
        if reference and row.get("train_bce"):
            row["train_bce_over_numpy"] = row["train_bce"] / reference
            if "test_bce" in row and "test_bce" in runs["numpy"]:
                row["test_bce_over_numpy"] = row["test_bce"] / runs["numpy"]["test_bce"]
    task.save()
