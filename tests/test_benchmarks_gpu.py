"""Rates, epochs and the CUDA device of the GPU's benchmarks, by doubles."""

from __future__ import annotations

import weakref
from argparse import Namespace
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ldl
from benchmarks import compare, report
from benchmarks.compare import Workers
from benchmarks.device import Cuda, Device, ResidentMeter
from benchmarks.gpu import epochs, floors
from benchmarks.gpu.__main__ import precisions_of, workloads_of
from benchmarks.implementations.floor import check_product
from benchmarks.names import FLOOR
from benchmarks.steps import in_order
from benchmarks.suite import Task
from benchmarks.workloads import GPU_NETS, TINY
from planted import Local
from test_benchmarks_failures import Mortal

NET = TINY[0]


def test_the_first_nets_come_first_in_every_precision() -> None:
    order = in_order(list(GPU_NETS[:4]), ["a", "b"])
    found = [(net.batch, precision) for net, precision in order]
    assert found[:4] == [(128, "a"), (128, "b"), (8192, "a"), (8192, "b")]
    assert found[4:] == [(1024, "a"), (32, "a"), (1024, "b"), (32, "b")]


def test_headline_and_extras_share_the_nets() -> None:
    def named(part: str, *texts: str) -> list[str]:
        return [net.name for net in workloads_of(part, list(texts), False)]

    assert named("headline") + named("extras") == [net.name for net in GPU_NETS]
    assert named("extras", "autoencoder-128") == ["autoencoder-128"]
    assert named("headline", "wide") == []
    assert precisions_of([]) == ["float32", "tf32"]
    assert precisions_of(["bf"]) == ["bf16"]


# ---- rates and epochs ------------------------------------------------------------------------


def task_of(
    name: str, kind: Any = Device, until: float = 60, **args: Any
) -> tuple[Task, list[Any]]:
    """A task whose workers answer in this process, and what was saved of its runs."""
    content: dict[str, Any] = {}
    saved: list[Any] = []

    def save() -> None:
        saved.append(len(content.get("runs", {}).get("numpy, float32", {}).get("epochs", [])))

    options = Namespace(quick=True, data="", with_cpu=False, **args)
    task = Task(name, content, {}, time() + until, save, lambda text: None, 7, options, kind)
    task.workers = lambda: Workers(kind, task.say, Local)  # type: ignore[method-assign]
    return task, saved


def test_rates_are_measured_and_what_cannot_be_is_said() -> None:
    task, saved = task_of("floors")
    floors.measure(task, [NET], ["float32"])
    content = task.content
    assert content["copy"]["rate"] > 0
    assert {"cube/float32", "cube/bf16", "shapes/tiny/float32"} < {*content}
    rows = content["shapes/tiny/float32"]["rows"]
    assert len(rows) == 11
    assert next(row["shape"] for row in rows if row["kind"] == "dW") == [6, 8, 12]
    assert sorted(tuple(row["shape"]) for row in rows) == sorted(p[1:4] for p in NET.products())
    assert len(saved) > 2 * 3
    late, _ = task_of("floors", until=-1)
    floors.measure(late, [NET], ["float32"])
    assert {one["failed"] for one in late.content.values()} == {"out of time"}


def test_a_rate_that_ends_its_process_is_said_and_the_next_has_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*ignored: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(floors, "copy_rate", fails)
    task, _ = task_of("floors", Mortal)
    floors.measure(task, [NET], ["float32"])
    assert task.content["copy"] == {"failed": "MemoryError: no room"}
    assert task.content["cube/float32"]["rate"] > 0


def test_products_that_cannot_be_captured_are_measured_and_said_to_be_none() -> None:
    class Refuses(Device):
        def capture(self, function: Any) -> Any:
            raise NotImplementedError("cannot be captured")

    task, _ = task_of("floors", Refuses)
    floors.measure(task, [NET], ["float32"])
    for row in task.content["shapes/tiny/float32"]["rows"]:
        assert row["rate"] > 0
        assert row["how"] == "kernel by kernel"
    text = report.markdown({"floors": {"floors": task.content}}, ["floors"])
    assert "kernel by kernel (not captured: NotImpl" in text


def test_the_floors_are_those_of_the_document() -> None:
    one: dict[str, Any] = {"precision": "tf32", "flops": 6e9, "bytes": 3e9, "rows": {}}
    rates = {"cube/tf32": {"rate": 2e9}, "copy": {"rate": 1e9}}
    assert report.floors(rates, one) == {"cube": 3.0, "bytes": 3.0}
    one["rows"] = {FLOOR: {"status": "timed", "events": {"median": 1.5}}}
    assert report.floors({}, one) == {"products": 1.5}


def test_a_product_that_is_wrong_or_not_written_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ldl.get_backend("numpy")
    a = b = np.eye(4, dtype=np.float32)
    out = np.empty_like(a)
    assert check_product(backend, a, b, out, "float32") == 0
    for fault in (lambda a, b, out: None, lambda a, b, out: np.copyto(out, 1.1 * (a @ b))):
        monkeypatch.setattr(backend, "matmul", fault, raising=False)
        with pytest.raises(ValueError, match="4x4x4 differs by"):
            check_product(backend, a, b, out, "float32")


def test_epochs_are_saved_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LDL_DATA_DIR", raising=False)
    task, saved = task_of("epochs")
    task.args.with_cpu = True
    epochs.measure(task, "numpy", ["float32"], rows=200, epochs=2)
    assert {1, 2} <= {*saved}
    row = task.content["runs"]["numpy, float32"]
    assert row["data"].startswith("synthetic")
    assert row["status"] == "done"
    first = task.content["runs"]["numpy"]
    assert first["train_bce_over_numpy"] == first["test_bce_over_numpy"] == 1
    assert row["train_bce_over_numpy"] == pytest.approx(1, abs=0.01)
    assert row["seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in row["epochs"]))
    assert row["how"] == "on the host"
    text = report.markdown({"epochs": {"epochs": task.content}}, ["epochs"])
    assert "| numpy, float32 | on the host | 2 of 2 |" in text


def test_epochs_are_as_their_last_one_was() -> None:
    def ran(*hows: str) -> list[dict[str, Any]]:
        return [{"how": how, "why": ""} for how in hows]

    assert epochs.in_all(ran("kernel by kernel", "graph", "graph"), []) == (
        "graph",
        "from epoch 2 on",
    )
    assert epochs.in_all(ran("graph"), []) == ("graph", "")
    told = "the step runs layer by layer, which is slower: Odd() counts"
    assert epochs.in_all(ran("graph"), ["other", told]) == ("layer by layer", told)


def test_a_fit_that_runs_out_of_time_says_so() -> None:
    task, _ = task_of("epochs", until=-1)
    epochs.measure(task, "numpy", ["float32"], rows=200, epochs=2)
    assert task.content["runs"]["numpy, float32"]["reason"] == "out of time"


def test_a_folder_without_mnist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not hold train-images"):
        epochs.folder(str(tmp_path))


# ---- a CUDA device, by a double of CuPy --------------------------------------------------------


class Calls(list[str]):
    """A double of CuPy that writes down what is asked of it."""

    def cupy(self) -> Any:
        log = self

        class Stream:
            def __init__(self, non_blocking: bool) -> None:
                assert non_blocking

            def __enter__(self) -> None:
                log.append("enter")

            def __exit__(self, *ignored: Any) -> None:
                log.append("exit")

            def synchronize(self) -> None:
                log.append("synchronize")

            def begin_capture(self) -> None:
                log.append("begin")

            def end_capture(self) -> Any:
                log.append("end")
                return SimpleNamespace(launch=lambda: log.append("launch"))

        runtime = SimpleNamespace(deviceSynchronize=lambda: log.append("wait"))
        hook = type("MemoryHook", (), {"__enter__": lambda s: s, "__exit__": lambda s, *a: None})
        cuda = SimpleNamespace(Stream=Stream, runtime=runtime, MemoryHook=hook)
        return SimpleNamespace(cuda=cuda)


def cuda(calls: Calls) -> Cuda:
    device = Cuda.__new__(Cuda)
    device.cupy = calls.cupy()
    return device


def test_a_call_is_warmed_up_on_the_stream_that_captures_it() -> None:
    calls = Calls()
    replay = cuda(calls).capture(lambda: calls.append("call"))
    expected = ["wait", "enter", "call", "synchronize", "begin", "call", "end", "exit"]
    assert calls == expected
    replay()
    assert calls == [*expected, "launch"]


def test_a_graph_keeps_the_arrays_that_it_works_on() -> None:
    array = np.zeros(4)
    held = weakref.ref(array)
    replay = cuda(Calls()).capture(array.sum)
    del array
    assert held() is not None, "others would get its memory, which it goes on writing to"
    del replay
    assert held() is None


def test_a_capture_that_fails_is_ended() -> None:
    calls = Calls()
    device = cuda(calls)

    def refuse() -> None:
        if "begin" in calls:
            raise NotImplementedError("cannot be captured")

    with pytest.raises(NotImplementedError):
        device.capture(refuse)
    assert calls[-2:] == ["end", "exit"]


def test_the_most_memory_is_counted_from_what_was_in_use() -> None:
    class Watched(Calls):
        def cupy(self) -> Any:
            made = super().cupy()
            made.cuda.MemoryHook.__enter__ = lambda hook: setattr(self, "hook", hook)
            return made

    calls = Watched()
    with cuda(calls).metered("cupy") as meter:
        hook = calls.hook  # type: ignore[attr-defined]
        hook.malloc_postprocess(mem_size=512, size=3)
        hook.malloc_postprocess(mem_size=1024, size=1000)
        hook.free_postprocess(mem_size=1024)
        assert meter.peak() == 1536
        meter.forget()
        assert meter.peak() == 512


def test_resident_memory_is_counted_from_what_was_in_use() -> None:
    meter = ResidentMeter()
    array = np.ones(8 << 20)
    assert meter.peak() >= array.nbytes
    del array
    meter.forget()
    assert meter.peak() < 48 << 20


def test_every_clock_has_a_name_in_the_report() -> None:
    assert {*report.TIMES} == {*compare.CLOCKS}
