"""A visit to a GPU machine in which something fails: the reason is named, the rest is kept."""

from __future__ import annotations

import signal
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from time import time
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.gpu import epochs, floors, heat, kernels, ours, table
from benchmarks.gpu.device import Device
from benchmarks.gpu.limit import TooSlowError, limited
from benchmarks.gpu.names import EAGER, TRAIN_STEP
from benchmarks.gpu.ran import Watch
from benchmarks.gpu.running import Running
from benchmarks.rivals import torch_cuda
from benchmarks.side import Side
from cuda_device import CudaOnHost
from test_benchmarks_gpu import QUICK, TINY, Mortal, Planted, measure, raising, rows_of, silent

SOON = "a side that is slow"


# ---- how steps ran ---------------------------------------------------------------------------


def on(backend: Any) -> Device:
    """The host as a CUDA device."""
    device = Device()
    device.backend = backend
    return device


def ldls_rows(backend: Any) -> Any:
    """The rows of ldl's own sides, and the report."""
    device, content = on(backend), {}

    def entrants(ignored: Device, precision: str) -> list[Side]:
        eager = ours.OneStep(EAGER, device, record=False)
        return [ours.OneStep(TRAIN_STEP, device, record=True), eager]

    net = replace(TINY, widths=(4, 2, 4), compare=1)
    heats = measure(content, entrants, device, workloads=[net])
    return heats["tiny/float32"]["sides"], table.markdown({"headline": {"headline": content}})


def test_graphs_are_told_from_the_layers_own_code() -> None:
    rows, text = ldls_rows(CudaOnHost())
    assert {name: row["how"] for name, row in rows.items()} == {
        TRAIN_STEP: "graph",
        EAGER: "layer by layer",
    }
    assert f"| {TRAIN_STEP} | graph | " in text
    assert "kernel by kernel |" not in text


def test_a_failed_capture_is_seen_beside_its_figure_with_its_reason() -> None:
    backend = CudaOnHost()
    backend.connection.fails = "matmul"
    with pytest.warns(UserWarning, match="kernel by kernel"):
        rows, text = ldls_rows(backend)
    row = rows[TRAIN_STEP]
    assert (row["status"], row["how"]) == ("timed", "kernel by kernel")
    assert row["why"] == "matmul cannot be captured"
    assert f"{TRAIN_STEP}: kernel by kernel (matmul cannot be captured)." in text
    overview = next(line for line in text.splitlines() if line.startswith("| Tiny"))
    assert overview.count(", kernel by kernel |") == 1


def test_without_cublaslt_steps_run_layer_by_layer_and_say_so() -> None:
    backend = CudaOnHost()
    backend.gemm = None
    assert ldls_rows(backend)[0][TRAIN_STEP]["how"] == "layer by layer"


def test_a_side_that_changes_its_ways_is_said_to() -> None:
    turns = iter([("graph", ""), ("graph", ""), ("graph", ""), ("kernel by kernel", "why")])

    def spoil(right: Any) -> Running:
        return Running(right.step, read=right.read, how=lambda: next(turns, ("kernels", "")))

    row = rows_of({}, Planted("planted", spoil))["planted"]
    assert row["ways"] == {"kernel by kernel": 1, "kernels": 1}
    assert (row["how"], row["why"]) == ("kernel by kernel and kernels", "why")


def test_a_watch_tells_graphs_from_pieces() -> None:
    capture = SimpleNamespace(graphs=3, singles=2, why="")
    watch = Watch(SimpleNamespace(capture=capture))
    capture.graphs += 1
    assert watch() == ("graph", "")
    capture.graphs, capture.singles = 6, 4
    assert watch() == ("kernel by kernel", "2 pieces, 2 graphs")


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


def test_products_that_cannot_be_captured_are_measured_and_said_to_be_none() -> None:
    class Refuses(Device):
        def capture(self, function: Any) -> Any:
            raise NotImplementedError("cannot be captured")

    content: dict[str, Any] = {}
    options: dict[str, Any] = {"save": lambda: None, "say": silent, "small": True}
    floors.measure(Refuses(), content, [TINY], ["float32"], time() + 60, **options)
    for row in content["shapes/tiny/float32"]["rows"]:
        assert row["rate"] > 0
        assert row["how"] == "kernel by kernel"
    assert "kernel by kernel (not captured: NotImpl" in table.markdown(
        {"floors": {"floors": content}}
    )


@pytest.mark.parametrize(
    ("stats", "breaks", "skips", "how"),
    [
        (1, 0, 0, ("compiled", "")),
        (0, 0, 0, ("eager", "torch.compile compiled nothing")),
        (2, 1, 3, ("compiled", "1 breaks in the trace, 3 parts without a CUDA graph")),
    ],
)
def test_what_pytorch_compiled_is_what_it_counted(
    stats: int, breaks: int, skips: int, how: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters: Any = defaultdict(Counter)
    counters["stats"]["unique_graphs"] = stats
    counters["graph_break"]["why"] = breaks
    counters["inductor"]["cudagraph_skips"] = skips
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", SimpleNamespace(counters=counters))
    assert torch_cuda.compiled() == how


# ---- slow, short of time, out of memory ------------------------------------------------------


class Slow(Planted):
    slow = True


def forever(right: Any) -> Running:
    signal.setitimer(signal.ITIMER_REAL, 0.01)  # its limit, brought nearer
    try:
        while True:
            pass
    except Exception:  # what a library does about its errors does not hold the limit up
        return right


def test_a_side_that_is_too_slow_to_build_is_left_out_by_name() -> None:
    said: list[str] = []
    side = Planted("ready", lambda right: right)
    rows = rows_of({}, Slow(SOON, forever), side, say=said.append)
    assert (rows[SOON]["status"], rows[TRAIN_STEP]["status"]) == ("too slow", "timed")
    assert rows["ready"]["status"] == "timed"
    assert f"  {SOON}: too slow: {rows[SOON]['reason']}" in said


def test_figures_are_there_before_a_slow_side_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """However late it heeds its limit, or whether it takes the process along."""
    clock = [time()]
    monkeypatch.setattr(heat, "time", lambda: clock[0])
    content: dict[str, Any] = {}

    def late(right: Any) -> Running:
        rows = content["heats"]["tiny/float32"]["sides"]
        assert rows[TRAIN_STEP]["blocks"] == QUICK.rounds[0]
        clock[0] += 1000
        raise TooSlowError

    rows = rows_of(content, Slow(SOON, late))
    assert (rows[SOON]["status"], rows[TRAIN_STEP]["status"]) == ("too slow", "timed")
    assert rows[TRAIN_STEP]["events_median"] > 0


def test_a_process_that_a_slow_side_ended_loses_no_figures() -> None:
    content: dict[str, Any] = {}

    def end(right: Any) -> Running:
        raise SystemExit

    with pytest.raises(SystemExit):
        rows_of(content, Slow(SOON, end))
    before = dict(content["heats"]["tiny/float32"]["sides"][TRAIN_STEP])
    rows = rows_of(content, Slow(SOON, end))
    assert rows[TRAIN_STEP] == before
    assert rows[SOON]["reason"] == "the process ended while entering"


def test_time_that_runs_out_leaves_rows_that_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [time()]
    monkeypatch.setattr(heat, "time", lambda: clock[0])

    def last(right: Any) -> Running:
        clock[0] += 1000
        return right

    rows = rows_of({}, Planted("last", last), Planted("never", last))
    assert {name: row["reason"] for name, row in rows.items()} == dict.fromkeys(
        (TRAIN_STEP, "last", "never"), "out of time"
    )


def test_what_a_side_had_taken_is_given_back_when_it_fails() -> None:
    tidied: list[str] = []

    class Tidy(Device):
        def tidy(self) -> None:
            tidied.append("tidy")

    rows = rows_of({}, Planted("greedy", raising), device=Tidy())
    assert rows["greedy"]["reason"] == "MemoryError: no room"
    assert rows[TRAIN_STEP]["status"] == "timed"
    assert len(tidied) == 2, "after the side, and after the heat"


def test_a_limit_leaves_no_alarm_behind() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TooSlowError), limited(60):
        forever(None)
    with limited(60):
        pass
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


# ---- kernels one by one ----------------------------------------------------------------------


def test_kernels_are_saved_one_by_one_and_what_fails_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content: dict[str, Any] = {}
    seen: list[int] = []

    def cases(backend: Any) -> dict[str, Any]:
        def fails() -> Any:
            raise MemoryError("no room")

        return {
            "good": ("kernel by kernel", lambda: lambda: None),
            "bad": ("layer by layer", fails),
            "late": ("layer by layer", lambda: lambda: None),
        }

    monkeypatch.setattr(kernels, "cases", cases)
    options: dict[str, Any] = {"save": lambda: seen.append(len(content["rows"])), "say": silent}
    kernels.measure(Device(), content, time() + 60, **options, chosen=lambda n: n != "late")
    kernels.measure(Device(), content, time() - 1, **options)
    rows = content["rows"]
    assert rows["good"]["how"] == "kernel by kernel"
    assert rows["good"]["rounds"] >= 5
    assert (rows["bad"]["failed"], rows["late"]["failed"]) == (
        "MemoryError: no room",
        "out of time",
    )
    assert {1, 2, 3} <= {*seen}
    with pytest.raises(Exception, match="no room"):
        kernels.measure(Mortal(), {}, time() + 60, **(options | {"save": lambda: None}))


def test_every_kernel_layer_and_loss_has_a_way_of_running() -> None:
    found = kernels.cases(Device())
    assert {how for how, _ in found.values()} == {"on the host", "layer by layer"}
    assert {"matmul", "Linear", "MSELoss"} <= {*found}
