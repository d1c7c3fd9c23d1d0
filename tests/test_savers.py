"""ModelCheckpoint, CSVLogger and TensorBoardLogger: what stands on the disk, and when."""

from __future__ import annotations

import csv
import os
import struct
import sys
import time
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn, optim

rng = np.random.default_rng(0)
X = rng.random((40, 4)).astype("float32")
Y = rng.random((40, 2)).astype("float32")


def fit(callbacks: Any, epochs: int = 3, lr: float = 0.1, **options: Any) -> ldl.History:
    ldl.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = options.pop("optimizer", optim.SGD)(model, lr)
    data = options.pop("data", (X, Y))
    options = {"validation": (X[:20], Y[:20])} | options
    return ldl.fit(model, data, nn.MSELoss(), optimizer, epochs, callbacks=callbacks, **options)


def scores(values: list[float]) -> Any:
    """A callback that adds a figure of its own to every epoch."""

    def add(run: ldl.Run) -> None:
        run.history.rows[-1]["score"] = values[run.epoch - 1]

    return add


# ---- ModelCheckpoint -----------------------------------------------------------------------------


def test_a_path_is_filled_in_with_the_epoch_and_its_figures(tmp_path: Path) -> None:
    saved: list[Any] = []
    saver = ldl.ModelCheckpoint(tmp_path / "runs/{epoch:03d}/{val_loss:.3f}.safetensors")
    history = fit([saver, lambda run: saved.append(run.model.state_dict())])
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    expected = [f"runs/{i:03d}/{v:.3f}.safetensors" for i, v in enumerate(history["val_loss"], 1)]
    assert [str(path.relative_to(tmp_path)) for path in files] == expected
    for path, weights in zip(files, saved, strict=True):
        np.testing.assert_equal(ldl.load(path).state_dict(), weights)
    assert saver.last == str(files[-1])


@pytest.mark.parametrize("mode", ["min", "max"])
def test_only_what_is_better_than_all_before_is_saved(mode: str, tmp_path: Path) -> None:
    values = [nan, 2.0, 3.0, 2.0, 1.0, inf, 1.0, -inf, nan]
    epochs = {"min": [2, 5, 8], "max": [2, 3, 6]}[mode]
    saver = ldl.ModelCheckpoint(
        tmp_path / "{epoch}.st", monitor="score", mode=mode, save_best_only=True
    )
    fit([scores(values), saver], 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{i}.st" for i in epochs]
    assert saver.best == (-inf if mode == "min" else inf)


def test_the_best_of_a_run_that_was_resumed_is_the_best_of_all_of_it(tmp_path: Path) -> None:
    values, path = [2.0, 1.0, 3.0, 1.5, 0.5], tmp_path / "run.ckpt"

    def run(epochs: int, **options: Any) -> list[str]:
        folder = tmp_path / "models"
        saver = ldl.ModelCheckpoint(folder / "{epoch}", "score", "min", save_best_only=True)
        fit([scores(values), saver], epochs, checkpoint=path, **options)
        return sorted(os.listdir(folder))

    assert run(3) == ["1", "2"]
    assert run(5, resume=True) == ["1", "2", "5"]
    saver = ldl.ModelCheckpoint(tmp_path / "b", "score", "min", save_best_only=True)
    fit([scores([9.0]), saver], 1)  # a new fit begins anew
    fit([scores([8.0]), saver], 1)
    assert saver.best == 8.0


def test_one_path_for_all_epochs_has_the_last(tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.st"
    last: list[Any] = []
    fit([ldl.ModelCheckpoint(path), lambda run: last.append(run.model.state_dict())])
    np.testing.assert_equal(ldl.load(path).state_dict(), last[-1])
    assert os.listdir(path.parent) == ["model.st"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{val_mse}.st",), "no figure is named 'val_mse' for the path '{val_mse}.st'; there are"),
        (("{epoch:z}.st",), "cannot be filled in: .*write {{ and }} for braces"),
        (("{}.st",), "cannot be filled in"),
        (("{epoch.st",), "cannot be filled in"),
        (("a.st", "val_mse", "min", True), "no figure is named 'val_mse' to monitor"),
        (("a.st", "score", None, True), "whether more or less of 'score' is better"),
        (("a.st", "loss", "least", True), "mode must be 'min' or 'max'"),
    ],
)
def test_what_will_never_be_there_is_refused_before_the_first_epoch(
    arguments: Any, message: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    begun: list[Any] = []
    with pytest.raises(ValueError, match=message) as error:
        fit([ldl.ModelCheckpoint(*arguments)], data=_Counted(begun))
    one_line(error)
    assert not begun
    assert os.listdir(tmp_path) == []


class _Counted:
    """Batches that note that they were asked for."""

    def __init__(self, begun: list[Any]) -> None:
        self.begun = begun

    def __iter__(self) -> Any:
        self.begun.append(1)
        yield X, Y


def test_without_validation_the_monitor_is_refused_only_where_it_counts(tmp_path: Path) -> None:
    fit([ldl.ModelCheckpoint(tmp_path / "a.st")], validation=None)
    with pytest.raises(ValueError, match="ModelCheckpoint monitors 'val_loss', but there is no"):
        fit([ldl.ModelCheckpoint(tmp_path / "b.st", save_best_only=True)], validation=None)


def test_a_path_that_cannot_be_written_is_refused_before_the_first_epoch(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    begun: list[Any] = []
    for callback in (ldl.ModelCheckpoint, ldl.CSVLogger):
        with pytest.raises(OSError, match="file"):
            fit([callback(tmp_path / "file" / "a")], data=_Counted(begun))
    assert not begun


def test_a_figure_that_a_callback_gives_too_late_is_named(tmp_path: Path) -> None:
    late = [ldl.ModelCheckpoint(tmp_path / "{score}.st"), scores([1.0])]
    with pytest.raises(ValueError, match="no figure is named 'score' for the path"):
        fit(late, 1)


# ---- CSVLogger -----------------------------------------------------------------------------------


def lines(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_line_is_there_when_its_epoch_has_ended(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    counts: list[int] = []
    history = fit([ldl.CSVLogger(path), lambda run: counts.append(len(lines(path)))])
    assert counts == [1, 2, 3]
    history.to_csv(tmp_path / "whole.csv")
    assert path.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert [float(line["val_loss"]) for line in lines(path)] == history["val_loss"]


def test_a_crash_loses_no_epoch_and_a_resumed_run_goes_on_behind_its_checkpoint(
    tmp_path: Path,
) -> None:
    path, saved = tmp_path / "run.csv", tmp_path / "run.ckpt"

    def crash(run: ldl.Run) -> None:
        if run.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit([ldl.CSVLogger(path), crash], 5, checkpoint=saved)
    assert [line["epoch"] for line in lines(path)] == ["1", "2", "3"]
    with open(path, "a") as file:
        file.write("4,0.")  # torn
    history = fit([ldl.CSVLogger(path)], 5, checkpoint=saved, resume=True)
    assert [line["epoch"] for line in lines(path)] == ["1", "2", "3", "4", "5"]
    assert [float(line["loss"]) for line in lines(path)] == history["loss"]
    fit([ldl.CSVLogger(path)], 1)
    assert [line["epoch"] for line in lines(path)] == ["1"]


def test_figures_of_new_names_get_a_column_and_a_lost_file_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"

    def late(run: ldl.Run) -> None:
        if run.epoch == 2:
            run.history.rows[-1]["extra, with comma"] = "a, b"
        if run.epoch == 3:
            path.unlink()

    fit([late, ldl.CSVLogger(path)], 4)
    assert [line["extra, with comma"] for line in lines(path)] == ["", "a, b", "", ""]


# ---- TensorBoardLogger ---------------------------------------------------------------------------


def events(folder: Path) -> list[Any]:
    """All events of a folder's files."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime_ns):
        data, at = path.read_bytes(), 0
        while at + 12 <= len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            found.append(Event.FromString(data[at + 12 : at + 12 + size]))
            at += size + 16
    return found


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    return [(v.tag, e.step, v.simple_value) for e in events(folder) for v in e.summary.value]


def matrix(y_true: Any, y_pred: Any) -> Any:
    return np.eye(2)


def test_every_number_is_a_scalar_of_its_epoch_and_on_the_disk_soon(tmp_path: Path) -> None:
    seen: list[int] = []

    def look(run: ldl.Run) -> None:
        if run.epoch == 2:
            until = time.monotonic() + 30
            while ("val_loss", 2) not in {found[:2] for found in scalars(tmp_path)}:
                assert time.monotonic() < until
                time.sleep(0.05)
            seen.append(2)

    logger = ldl.TensorBoardLogger(tmp_path)
    history = fit([logger, look], metrics=["mse", ("matrix", matrix)])
    assert seen == [2]
    found = scalars(tmp_path)
    assert {tag for tag, _, _ in found} == {"loss", "mse", "val_loss", "val_mse", "lr", "seconds"}
    for name in ("loss", "val_mse"):
        column = [value for tag, _, value in found if tag == name]
        np.testing.assert_allclose(column, history[name], rtol=1e-6)
    assert [step for tag, step, _ in found if tag == "loss"] == [1, 2, 3]


def test_a_resumed_run_purges_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import SessionLog

    saved, folder = tmp_path / "run.ckpt", tmp_path / "logs"

    def crash(run: ldl.Run) -> None:
        if run.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit([ldl.TensorBoardLogger(folder), crash], 4, checkpoint=saved)
    steps = [step for tag, step, _ in scalars(folder) if tag == "loss"]
    assert steps == [1, 2, 3]  # closed, however the fit ended
    fit([ldl.TensorBoardLogger(folder)], 4, checkpoint=saved, resume=True)
    steps = [step for tag, step, _ in scalars(folder) if tag == "loss"]
    assert sorted(steps) == [1, 2, 3, 3, 4]
    started = [e.step for e in events(folder) if e.session_log.status == SessionLog.START]
    assert started == [3]


def test_without_tensorboardx_the_fix_is_named_before_the_first_epoch(monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    begun: list[Any] = []
    with pytest.raises(ImportError, match=r"pip install 'ldl\[tensorboard\]'") as error:
        fit([ldl.TensorBoardLogger("nowhere")], data=_Counted(begun))
    one_line(error)
    assert not begun


def test_close_is_called_however_a_fit_ends() -> None:
    closed: list[str] = []

    class Closing(ldl.Callback):
        def close(self) -> None:
            closed.append("closed")

    fit([Closing()], 1)

    def fail(run: ldl.Run) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fit([Closing(), fail], 1)
    assert closed == ["closed"] * 2
