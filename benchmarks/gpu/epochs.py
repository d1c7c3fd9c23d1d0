"""The command `epochs`: ten epochs of denoising as many digits as MNIST has, through `ldl.fit`."""

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
from benchmarks.gpu.device import Device, DeviceLostError
from benchmarks.gpu.ran import LAYERS, How, Watch, manner
from benchmarks.side import reason
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
    backend: ldl.Backend,
    x: Any,
    held_out: Any,
    epochs: int,
    until: float,
    row: dict[str, Any],
    save: Callable[[], None],
) -> None:
    """Train on x, noise and all, on the backend; `row` grows by an epoch at a time.

    An epoch on a few batches goes before it, with a model of its own, so that nothing is compiled
    while the time runs.
    """
    noise = data.GaussianNoise(SIGMA)
    device_x = backend.asarray(x)
    few = device_x[: 16 * BATCH + len(x) % BATCH]  # with a last batch as small as the real one
    ldl.fit(
        *_in_order(backend, data.Arrays(few, noise=noise)),
        epochs=2,
        batch_size=BATCH,
        progress=False,
    )
    backend.synchronize()
    row |= {"status": "running", "epochs": [], "seconds": 0.0}

    def after(run: ldl.Run) -> None:
        how, why = watch()
        row["epochs"].append(run.history.rows[-1] | {"how": how, "why": why})
        row["how"], row["why"] = in_all(row["epochs"], [str(one.message) for one in told])
        row["seconds"] = sum(epoch["seconds"] for epoch in row["epochs"])
        row["train_bce"] = row["epochs"][-1]["loss"]
        run.stop = run.stop or time() > until
        save()

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
    save()


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
    device: Device,
    content: dict[str, Any],
    precisions: list[str],
    given: str,
    with_cpu: bool,
    until: float,
    save: Callable[[], None],
    say: Callable[[str], None],
    rows: int = 60_000,
    epochs: int = 10,
) -> None:
    """On the device in each precision and, where asked for, on NumPy."""
    content["data"], x, held_out = images(given, rows)
    content |= {"samples": len(x), "batch": BATCH, "noise": f"gaussian:{SIGMA:g}", "wanted": epochs}
    runs: dict[str, Any] = content.setdefault("runs", {})
    jobs = [(f"{device.backend}, {p}", device.backend, p) for p in precisions]
    jobs += [("numpy", "numpy", "float32")] if with_cpu else []
    for name, backend, precision in jobs:
        if name in runs:
            if runs[name]["status"] in ("entering", "running"):
                runs[name] |= {"status": "failed", "reason": "the process ended"}
            continue
        row = runs[name] = {"status": "entering"}
        save()
        if time() > until:
            row |= {"status": "skipped", "reason": "out of time"}
            continue
        ldl.set_matmul_precision(precision)
        try:
            train(ldl.get_backend(backend), x, held_out, epochs, until, row, save)
        except Exception as error:
            row |= {"status": "failed", "reason": reason(error)}
            if not device.alive():
                raise DeviceLostError(row["reason"]) from error
        say(f"  {name}: {row.get('seconds', 0):.3f} s of training, {row['status']}, {manner(row)}")
        save()
    reference = runs.get("numpy", {}).get("train_bce")
    for row in runs.values():
        if reference and row.get("train_bce"):
            row["train_bce_over_numpy"] = row["train_bce"] / reference
            if "test_bce" in row and "test_bce" in runs["numpy"]:
                row["test_bce_over_numpy"] = row["test_bce"] / runs["numpy"]["test_bce"]
    save()
