"""Nets, judge, rates, epochs and the CUDA device of the GPU's benchmarks, by doubles."""

from __future__ import annotations

import math
import weakref
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ldl
from benchmarks.gpu import epochs, floors, judge, nets, ours, steps
from benchmarks.gpu.device import Cuda, Device
from benchmarks.gpu.names import FLOOR
from test_benchmarks_gpu import TINY, rows_of, silent

# ---- nets and judge --------------------------------------------------------------------------


def test_the_nets_are_those_that_are_asked_about() -> None:
    names = [net.name for net in nets.NETS]
    assert names[:2] == ["autoencoder-128", "autoencoder-8192"]
    assert {"autoencoder-32", "autoencoder-1024", "dropout-128", "small-32", "wide-512"} < {*names}
    assert all(net.loss == "bce" and net.output == "identity" for net in nets.NETS[:4])


def test_the_least_bytes_of_a_step() -> None:
    outputs = 4 * 8 * (6 + 4 + 6 + 12)
    parameters = 12 * 6 + 6 + 6 * 4 + 4 + 4 * 6 + 6 + 6 * 12 + 12
    assert nets.parameters(TINY) == parameters
    assert nets.least_bytes(TINY) == 4 * 8 * 12 + 24 * parameters + 2 * outputs


def test_batches_are_fresh_in_every_run_and_the_same_for_one_seed() -> None:
    one, same, other = (nets.fresh_batches(TINY, seed)[0][0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not (one == other).any()


def test_the_first_nets_come_first_in_every_precision() -> None:
    order = steps.in_order(list(nets.NETS[:4]), ["a", "b"])
    found = [(net.batch, precision) for net, precision in order]
    assert found[:4] == [(128, "a"), (128, "b"), (8192, "a"), (8192, "b")]
    assert found[4:] == [(1024, "a"), (32, "a"), (1024, "b"), (32, "b")]


def test_dropout_that_is_left_out_is_seen() -> None:
    net = next(net for net in nets.NETS if net.dropout)
    right = [2.6 - 0.015 * k for k in range(net.compare)]
    assert not judge.verdict(net, "float32", dict(enumerate(right)), right)["wrong"]
    without = {k: loss * 0.88 for k, loss in enumerate(right)}
    assert "differ" in judge.verdict(net, "float32", without, right)["wrong"]
    flat = dict.fromkeys(range(net.compare), float(np.mean(right)))
    assert "does not fall" in judge.verdict(net, "float32", flat, right)["wrong"]


def test_ratios_to_the_judge_are_finite_for_every_tiny_net() -> None:
    for net in nets.REHEARSAL:
        right = judge.right_losses(net, nets.fresh_batches(net, 3))
        assert len(right) == net.compare
        assert all(map(math.isfinite, right))


# ---- rates and epochs ------------------------------------------------------------------------


def test_rates_are_measured_once_and_kept() -> None:
    content: dict[str, Any] = {}
    options: dict[str, Any] = {"save": lambda: None, "say": silent, "small": True}
    floors.measure(Device(), content, [TINY], ["float32"], time() + 60, **options)
    assert content["copy"]["rate"] > 0
    assert {"cube/float32", "cube/bf16", "shapes/tiny/float32"} < {*content}
    rows = content["shapes/tiny/float32"]["rows"]
    assert len(rows) == 11
    assert next(row["shape"] for row in rows if row["kind"] == "dW") == (6, 8, 12)
    assert sorted(tuple(row["shape"]) for row in rows) == sorted(TINY.products())
    before = content["copy"]
    floors.measure(Device(), content, [TINY], ["float32"], time() - 1, **options)
    assert content["copy"] is before


def test_a_product_that_is_wrong_or_not_written_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = ldl.get_backend("numpy")
    a = b = np.eye(4, dtype=np.float32)
    out = np.empty_like(a)
    assert ours.check_product(backend, a, b, out, "float32") == 0
    for fault in (lambda a, b, out: None, lambda a, b, out: np.copyto(out, 1.1 * (a @ b))):
        monkeypatch.setattr(backend, "matmul", fault, raising=False)
        with pytest.raises(ValueError, match="4x4x4 differs by"):
            ours.check_product(backend, a, b, out, "float32")


def test_epochs_are_saved_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LDL_DATA_DIR", raising=False)
    content: dict[str, Any] = {}
    seen: list[int] = []

    def save() -> None:
        seen.append(len(content["runs"]["numpy, float32"].get("epochs", [])))

    epochs.measure(
        *(Device(), content, ["float32"], "", True, time() + 60, save, silent), rows=200, epochs=2
    )
    assert {1, 2} <= {*seen}
    assert content["data"].startswith("synthetic")
    row = content["runs"]["numpy, float32"]
    assert row["status"] == "done"
    assert row["train_bce_over_numpy"] == row["test_bce_over_numpy"] == 1
    assert row["seconds"] == pytest.approx(sum(epoch["seconds"] for epoch in row["epochs"]))
    assert row["how"] == "on the host"


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


def test_a_capture_that_fails_is_ended_and_the_products_are_launched_one_by_one() -> None:
    calls = Calls()
    device = cuda(calls)

    def refuse() -> None:
        if "begin" in calls:
            raise NotImplementedError("cannot be captured")

    with pytest.raises(NotImplementedError):
        device.capture(refuse)
    assert calls[-2:] == ["end", "exit"]

    class Refuses(Device):
        def capture(self, function: Any) -> Any:
            raise NotImplementedError("cannot be captured")

    rows = rows_of({}, ours.Products(Refuses(), "float32"))
    assert rows[FLOOR]["status"] == "timed"
    assert rows[FLOOR]["how"] == "kernel by kernel"
    assert rows[FLOOR]["why"] == "not captured: NotImplementedError: cannot be captured"


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
