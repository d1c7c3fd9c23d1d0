"""Comparisons: who is right is timed, who is wrong, slow or dead is named and stops nothing.

Nothing depends on a real time. Processes are stood for by one another's doubles but where they die.
"""

from __future__ import annotations

import gc
import weakref
from contextlib import nullcontext
from dataclasses import replace
from time import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks import compare, implementations, steps, worker
from benchmarks.compare import QUICK, Rules, Workers
from benchmarks.device import Device
from benchmarks.implementations import ldl_, torch_
from benchmarks.names import EAGER, FLOOR, SEVERAL, TRAIN_STEP
from benchmarks.reference import TOLERANCES, reference
from benchmarks.workloads import TINY, TINY_LAYERS, Workload
from planted import BY_NAME, Local

NET = TINY[0]


def silent(text: str) -> None:
    pass


def measure(content: Any, owns: list[Any], **given: Any) -> Any:
    """The comparisons of a tiny net in float32, and what they wrote."""
    kind, start = given.pop("kind", Device), given.pop("start", Local)
    options: dict[str, Any] = {
        "workloads": [NET],
        "precisions": ["float32"],
        "seed": 7,
        "rules": QUICK,
        "until": time() + 60,
        "save": lambda: None,
        "say": silent,
    }
    with Workers(kind, silent, start) as workers:
        options |= {"implementations": lambda workload: owns, "workers": workers}
        steps.measure(content, **(options | given))
    return content["comparisons"]


def rows_of(content: Any, *owns: Any, **given: Any) -> Any:
    """The rows of one comparison with ldl.TrainStep and these implementations."""
    return measure(content, [ldl_.OneStep(TRAIN_STEP), *owns], **given)["tiny/float32"]["rows"]


def planted(*names: str) -> list[Any]:
    return [BY_NAME[name] for name in names]


# ---- who is right ----------------------------------------------------------------------------


@pytest.mark.parametrize("workload", [*TINY, *TINY_LAYERS], ids=lambda w: w.name)
def test_ldls_implementations_are_right_and_timed(workload: Workload) -> None:
    owns = [own for own in implementations.of("gpu", workload) if not own.on_request]
    names = {FLOOR, TRAIN_STEP, SEVERAL, EAGER}
    (one,) = measure({}, [own for own in owns if own.name in names], workloads=[workload]).values()
    rows = one["rows"]
    assert one["status"] == "done"
    assert set(rows) == names
    if workload.layer:
        assert rows.pop(FLOOR)["reason"] == "it has no matrix products"
    assert {row["status"] for row in rows.values()} == {"timed"}
    if not workload.dropout:
        assert rows[TRAIN_STEP]["difference"] < 1e-5
    assert rows[EAGER]["how"] == "layer by layer"
    assert len(rows[EAGER]["losses"]) == workload.compare
    assert rows[TRAIN_STEP]["how"] == "on the host"
    assert rows[SEVERAL]["steps_in_block"] == 2 * 32
    assert {"first_bytes", "step_bytes", "build_seconds", "wall", "cpu"} <= {*rows[TRAIN_STEP]}


def test_pytorchs_are_right_and_the_captured_one_refuses_a_processor() -> None:
    pytest.importorskip("torch")
    owns = [own for own in torch_.IMPLEMENTATIONS if not own.slow and not own.predicts]
    for workload in (NET, *TINY_LAYERS):
        (one,) = measure({}, owns, workloads=[workload]).values()
        rows = one["rows"]
        for name in ("PyTorch eager", "PyTorch eager, fused Adam"):
            assert rows[name]["status"] == "timed"
            assert rows[name]["difference"] < 1e-5
            assert rows[name]["how"] == "eager"
        why = rows["PyTorch, whole step in a CUDA graph"]["reason"]
        assert why == "a CUDA graph needs a CUDA device"


@pytest.mark.parametrize("workload", TINY_LAYERS, ids=lambda w: w.name)
def test_jax_has_the_losses_of_layers_written_by_hand(workload: Workload) -> None:
    pytest.importorskip("optax")
    from benchmarks.implementations import jax_

    own, batches = jax_.IMPLEMENTATIONS[0], workload.batches(5)
    made = own.build(workload, workload.weights(), own.place(batches, Device()), Device())
    found = [float(made.step()) for _ in range(workload.compare)]
    np.testing.assert_allclose(found, reference(workload, batches), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "status", "why"),
    [
        ("wrong_loss", "wrong", "its losses differ by 1.0e-03, more than 0.0001"),
        ("stale", "wrong", "a loss is not finite"),
        ("forgetful", "wrong", "a loss is not finite"),
        ("without_losses", "wrong", "it gave no losses"),
        ("raising", "failed", "MemoryError: no room"),
        ("raising_when_timed", "failed", "RuntimeError: worn out"),
    ],
)
def test_what_is_wrong_or_fails_is_named_and_stops_nothing(
    name: str, status: str, why: str
) -> None:
    said: list[str] = []
    rows = rows_of({}, *planted(name), say=said.append)
    assert (rows[name]["status"], rows[name]["reason"]) == (status, why)
    assert "wall" not in rows[name]
    assert rows[TRAIN_STEP]["status"] == "timed"
    assert f"  {name}: {status}: {why}" in said


def test_losses_under_dropout_must_fall() -> None:
    (one,) = measure({}, planted("right", "flat"), workloads=[TINY[1]]).values()
    assert [row["status"] for row in one["rows"].values()] == ["timed", "wrong"]


def test_predictions_are_compared_as_well() -> None:
    class Off(ldl_.Predicts):
        def build(self, *given: Any) -> Any:
            made = super().build(*given)
            return replace(made, step=lambda: made.step() + 0.001)

    owns = [ldl_.Predicts("ldl, model(x)"), Off("ldl.Predictor")]
    row = replace(TINY[2], predict=True, batch=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "find", lambda where, _: {own.name: own for own in owns}[where[-1]])
        (one,) = measure({}, owns, workloads=[row]).values()
    first, off = one["rows"].values()
    assert first["status"] == "timed"
    assert first["difference"] < 1e-5
    assert off["reason"].startswith("its outputs differ by")


def test_pytorchs_products_in_bf16_are_autocasts_and_in_float32_are_not() -> None:
    torch = pytest.importorskip("torch")
    before, losses = torch.get_float32_matmul_precision(), []
    own, device = torch_.Trains("eager", fused=False), Device()
    try:
        for precision in ("float32", "bf16", "float32"):
            own.set_precision(precision)
            placed = own.place(NET.batches(), device)
            made = own.build(NET, NET.weights(), placed, device)
            losses.append(made.read(made.step())[0])
    finally:
        torch.set_float32_matmul_precision(before)
    exact, rounded, again = losses
    assert exact == again != rounded
    assert abs(rounded - exact) < TOLERANCES["bf16"] * exact


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
    own, cuda = torch_.Captured(), SimpleNamespace(torch="cuda")
    placed = own.place(NET.batches(), Device())
    running = own.build(NET, NET.weights(), placed, cuda)  # type: ignore[arg-type]
    gc.collect()
    assert made[0]() is not None, "others would get its memory, which the graph goes on writing to"
    del running


# ---- times -----------------------------------------------------------------------------------


class Scripted(Device):
    """Events that are a millisecond apart, twice as long in every second block."""

    marks = 0

    def mark(self, library: str) -> Any:
        self.marks += 1
        return self.marks

    def between(self, library: str, start: Any, end: Any) -> float:
        return 1e-3 * (1 + end // 2 % 2)


def test_medians_and_minima_are_those_of_the_blocks() -> None:
    rules = Rules(0.0, rounds=(4, 4), block=0.0, calls=(2, 2), warm=0)
    row = rows_of({}, kind=Scripted, rules=rules)[TRAIN_STEP]
    assert sorted(row["events"]["blocks"]) == [5e-4, 5e-4, 1e-3, 1e-3]
    assert (row["events"]["median"], row["events"]["minimum"]) == (7.5e-4, 5e-4)
    assert (row["blocks"], row["steps_in_block"]) == (4, 2)
    assert len(row["wall"]["blocks"]) == len(row["cpu"]["blocks"]) == 4
    assert compare.main_clock(row) is row["events"]
    del row["events"]
    assert compare.main_clock(row) is row["wall"]


def test_a_block_waits_for_the_last_call_and_counts_the_processors_of_all_threads() -> None:
    told: list[Any] = []
    device = Device()
    found = device.block("", lambda: 5, 3, told.append)
    assert told == [5]
    assert {*found} == {"wall", "cpu"}
    busy = device.block("", lambda: sum(range(100_000)), 1)
    assert busy["cpu"] > 0
