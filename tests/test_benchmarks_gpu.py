"""Heats of the GPU's benchmarks, tried on the processor. Nothing depends on a real time."""

from __future__ import annotations

import gc
import json
import weakref
from contextlib import nullcontext
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ldl
from benchmarks.gpu import judge, nets, ours, steps
from benchmarks.gpu.device import Device, DeviceLostError
from benchmarks.gpu.document import Document
from benchmarks.gpu.heat import Rules
from benchmarks.gpu.names import EAGER, FLOOR, SEVERAL, TRAIN_STEP
from benchmarks.gpu.running import Running
from benchmarks.rivals import torch_cuda
from benchmarks.side import Built, Side

QUICK = Rules(0.0, rounds=(2, 2), block=0.0, calls=(2, 2), warm=1)
TINY = nets.REHEARSAL[0]


def silent(text: str) -> None:
    pass


def measure(content: Any, entrants: Any = None, device: Device | None = None, **given: Any) -> Any:
    """The heats of a tiny net in float32, and what they wrote."""
    options: dict[str, Any] = {
        "workloads": [TINY],
        "precisions": ["float32"],
        "wanted": lambda name: True,
        "seed": 7,
        "rules": QUICK,
        "until": time() + 60,
        "save": lambda: None,
        "say": silent,
        "entrants": entrants or ours.gpu_sides,
    }
    steps.measure(device or Device(), content, **(options | given))
    return content["heats"]


def rows_of(content: Any, *sides: Side, **given: Any) -> Any:
    """The rows of one heat with ldl.TrainStep and these sides."""

    def entrants(device: Device, precision: str) -> list[Side]:
        return [ours.OneStep(TRAIN_STEP, device, record=True), *sides]

    return measure(content, entrants, **given)["tiny/float32"]["sides"]


# ---- a heat ----------------------------------------------------------------------------------


@pytest.mark.parametrize("net", nets.REHEARSAL, ids=lambda net: net.name)
def test_ldls_sides_are_right_and_timed(net: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ldl.TrainStep, "run", raising=False)
    (heat,) = measure({}, workloads=[net]).values()
    rows = heat["sides"]
    assert heat["status"] == "done"
    assert {rows[name]["status"] for name in (FLOOR, TRAIN_STEP, EAGER)} == {"timed"}
    assert rows[SEVERAL]["status"] == "skipped"
    assert "no method run" in rows[SEVERAL]["reason"]
    if not net.dropout:
        assert rows[TRAIN_STEP]["difference"] < 1e-5
    assert len(rows[EAGER]["losses"]) == net.compare == len(heat["right_losses"])
    assert (rows[TRAIN_STEP]["how"], rows[EAGER]["how"]) == ("on the host", "layer by layer")


def test_a_step_is_also_timed_without_what_makes_it_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a backend that stands for CuPy's: it is asked for one that leaves something out."""
    made: list[Any] = []

    class Leaving(type(ldl.get_backend("numpy"))):  # type: ignore[misc]
        leaves_out: frozenset[str] = frozenset()

        def __init__(self) -> None:
            made.append(self)

    side = ours.Without("epilogues", Device())
    assert rows_of({}, side)[side.name]["reason"] == "numpy has nothing to leave out"
    side.backend = Leaving()
    row = rows_of({}, side)[side.name]
    assert row["status"] == "timed"
    assert [backend.leaves_out for backend in made] == [frozenset(), frozenset({"epilogues"})]


def test_pytorchs_products_in_bf16_are_autocasts_and_in_float32_are_not() -> None:
    torch = pytest.importorskip("torch")
    before, losses = torch.get_float32_matmul_precision(), []
    try:
        for precision in ("float32", "bf16", "float32"):
            torch_cuda.set_precision(precision)
            side = torch_cuda.Trains("eager", "cpu", fused=False)
            placed = torch_cuda.place(nets.fresh_batches(TINY, 0), "cpu")
            running = side.build(TINY, TINY.weights(), placed)
            losses.append(running.read(running.step())[0])
    finally:
        torch.set_float32_matmul_precision(before)
    exact, rounded, again = losses
    assert exact == again != rounded
    assert abs(rounded - exact) < judge.TOLERANCES["bf16"] * exact


def test_pytorchs_sides_are_right_and_the_captured_one_refuses_a_processor() -> None:
    pytest.importorskip("torch")

    def wanted(name: str) -> bool:
        return "torch.compile" not in name

    (heat,) = measure({}, steps.sides, wanted=wanted).values()
    rows = heat["sides"]
    for name in ("PyTorch eager", "PyTorch eager, fused Adam"):
        assert rows[name]["status"] == "timed"
        assert rows[name]["difference"] < 1e-5
        assert rows[name]["how"] == "eager"
    assert rows["PyTorch, whole step in a CUDA graph"]["reason"].endswith("needs a CUDA device")


def test_pytorchs_graph_keeps_the_moments_that_it_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    made: list[Any] = []

    class Adam(torch.optim.Adam):  # type: ignore[misc, name-defined]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(weakref.ref(self))

    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda: stream)
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda entered: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: SimpleNamespace(replay=lambda: None))
    monkeypatch.setattr(torch.nn.Module, "to", lambda module, device: module)
    monkeypatch.setattr(torch.optim, "Adam", Adam)
    placed = torch_cuda.place(nets.fresh_batches(TINY, 0), "cpu")
    running = torch_cuda.Captured("cuda").build(TINY, TINY.weights(), placed)
    gc.collect()
    assert made[0]() is not None, "others would get its memory, which the graph goes on writing to"
    del running


def test_several_steps_a_launch_are_judged_when_train_step_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(self: Any, x: Any, y: Any, order: Any, size: int, starts: list[int]) -> Any:
        found = []
        for start in starts:
            rows = order[start : start + size]
            batch = x[rows]
            found.append(float(self(batch, batch if y is x else y[rows])))
        return np.array(found)

    monkeypatch.setattr(ldl.TrainStep, "run", run, raising=False)
    row = rows_of({}, ours.SeveralSteps(SEVERAL, Device()))[SEVERAL]
    assert row["status"] == "timed"
    assert row["difference"] < 1e-5
    assert row["steps_in_block"] == 2 * 32


class Planted(Side):
    """A TrainStep with something wrong with it."""

    def __init__(self, name: str, spoil: Any) -> None:
        self.name = name
        self.spoil = spoil

    def build(self, workload: Any, weights: Any, batches: Any) -> Built:
        right = ours.OneStep("", Device(), record=False).build(workload, weights, batches)
        return self.spoil(right)


def wrong_loss(right: Any) -> Running:
    return Running(lambda: right.step() * 1.001, read=right.read, poison=right.poison)


def stale(right: Any) -> Running:
    """Writes its loss on the first call alone."""
    kept = np.array(float(right.step()))

    def poison(value: Any) -> None:
        if value is not None:
            kept[...] = np.nan

    return Running(lambda: kept, read=right.read, poison=poison)


def without_losses(right: Any) -> Running:
    return Running(right.step)


def raising(right: Any) -> Running:
    raise MemoryError("no room\nfor 3 GB")


def raising_when_timed(right: Any) -> Running:
    calls = iter(range(TINY.compare + 4))

    def step() -> Any:
        if next(calls, None) is None:
            raise RuntimeError("worn out")
        return right.step()

    return Running(step, read=right.read)


@pytest.mark.parametrize(
    ("spoil", "status", "why"),
    [
        (wrong_loss, "wrong", "its losses differ by 1.0e-03, more than 0.0001"),
        (stale, "wrong", "a loss is not finite"),
        (without_losses, "wrong", "it gave no losses"),
        (raising, "failed", "MemoryError: no room"),
        (raising_when_timed, "failed", "RuntimeError: worn out"),
    ],
)
def test_a_side_that_is_wrong_or_fails_is_named_and_stops_nothing(
    spoil: Any, status: str, why: str
) -> None:
    said: list[str] = []
    rows = rows_of({}, Planted("planted", spoil), say=said.append)
    assert (rows["planted"]["status"], rows["planted"]["reason"]) == (status, why)
    assert "events_blocks" not in rows["planted"]
    assert rows[TRAIN_STEP]["status"] == "timed"
    assert f"  planted: {status}: {why}" in said


def test_gradients_that_are_not_cleared_show() -> None:
    class Forgetful(ours.OneStep):
        def build(self, workload: Any, weights: Any, batches: Any) -> Built:
            step = self.train_step(workload, weights, record=False)
            step.model.zero_grad = lambda: None
            return self.running(step, lambda: step(*batches[0]))

    row = rows_of({}, Forgetful("forgetful", Device(), record=False))["forgetful"]
    assert (row["status"], row["reason"]) == ("wrong", "a loss is not finite")


class Scripted(Device):
    """Events that are a millisecond apart, twice as long in every second block."""

    def __init__(self) -> None:
        self.marks = 0

    def mark(self, library: str) -> Any:
        self.marks += 1
        return self.marks

    def between(self, library: str, start: Any, end: Any) -> float:
        return 1e-3 * (1 + end // 2 % 2)


def test_medians_and_minima_are_those_of_the_blocks() -> None:
    rules = Rules(0.0, rounds=(4, 4), block=0.0, calls=(2, 2), warm=0)
    row = rows_of({}, device=Scripted(), rules=rules)[TRAIN_STEP]
    assert row["events_blocks"] == [5e-4, 1e-3, 5e-4, 1e-3]
    assert (row["events_median"], row["events_minimum"]) == (7.5e-4, 5e-4)
    assert (row["blocks"], row["steps_in_block"]) == (4, 2)
    assert len(row["wall_blocks"]) == 4


# ---- what can go wrong -----------------------------------------------------------------------


class Mortal(Device):
    def alive(self) -> bool:
        return False


def test_a_lost_device_ends_the_process_and_the_next_one_leaves_that_side_out() -> None:
    content: dict[str, Any] = {}
    bad = Planted("planted", raising)
    with pytest.raises(DeviceLostError, match="no room"):
        rows_of(content, bad, device=Mortal())
    rows = rows_of(content, bad)
    assert rows["planted"]["status"] == "failed"
    assert rows[TRAIN_STEP]["status"] == "timed"
    assert content["heats"]["tiny/float32"]["lives"] == 2


def test_a_side_that_ended_the_process_is_not_tried_again() -> None:
    content: dict[str, Any] = {}
    rows_of(content, Planted("planted", lambda right: right))
    heat = content["heats"]["tiny/float32"]
    heat["status"], heat["sides"]["planted"] = "running", {"status": "entering"}
    rows = rows_of(content, Planted("planted", lambda right: right))
    assert rows["planted"]["reason"] == "the process ended while entering"
    heat["status"] = "running"
    rows_of(content)
    heat["status"] = "running"
    rows_of(content)
    assert heat["status"] == "given up"


def test_without_time_every_heat_says_so() -> None:
    heats = measure({}, workloads=list(nets.REHEARSAL), until=time() - 1)
    assert [heat["status"] for heat in heats.values()] == ["out of time"] * 3


def test_what_was_measured_survives_an_interruption(tmp_path: Path) -> None:
    document = Document(tmp_path / "headline.json")

    def interrupt(right: Any) -> Running:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(
            document.part("headline"),
            lambda device, precision: [
                ours.OneStep(TRAIN_STEP, device, record=True),
                Planted("stopper", interrupt if precision == "tf32" else wrong_loss),
            ],
            precisions=["float32", "tf32"],
            save=document.save,
        )
    stored = json.loads((tmp_path / "headline.json").read_text())["headline"]["heats"]
    assert stored["tiny/float32"]["status"] == "done"
    assert stored["tiny/float32"]["sides"][TRAIN_STEP]["events_median"] > 0
    assert stored["tiny/tf32"]["status"] == "running"
    assert stored["tiny/tf32"]["sides"][TRAIN_STEP]["status"] == "right"
    assert stored["tiny/tf32"]["sides"]["stopper"]["status"] == "entering"
    text = (tmp_path / "report.md").read_text()
    assert "stopper: entering, cut off." in text
    assert "### Tiny autoencoder, tf32" in text
