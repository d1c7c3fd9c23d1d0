"""Comparisons: who is right is timed, who is wrong, slow or dead is named and stops nothing.

Nothing depends on a real time. Processes are stood for by one another's doubles but where they die.
"""

from __future__ import annotations

import gc
import json
import sys
import weakref
from collections import Counter, defaultdict
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ldl
from benchmarks import compare, implementations, report, steps, worker
from benchmarks.compare import QUICK, Comparison, Rules, Workers
from benchmarks.device import Device
from benchmarks.document import Document
from benchmarks.how import Watch
from benchmarks.implementations import ldl_, torch_
from benchmarks.implementations.floor import Products
from benchmarks.names import EAGER, FLOOR, SEVERAL, TRAIN_STEP
from benchmarks.process import NoAnswerError, Process
from benchmarks.reference import TOLERANCES, reference
from benchmarks.workloads import TINY, TINY_LAYERS, Workload
from cuda_device import CudaOnHost
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


# ---- how steps ran ---------------------------------------------------------------------------


def on(backend: Any) -> Any:
    """The host as a CUDA device."""

    def made() -> Device:
        device = Device()
        device.backend = backend
        return device

    return made


def ldls_rows(backend: Any) -> Any:
    """The rows of ldl's own implementations, and the report."""
    content: dict[str, Any] = {}
    net = replace(NET, widths=(4, 2, 4), compare=1)
    owns = [ldl_.OneStep(TRAIN_STEP), ldl_.Eager(EAGER)]
    (one,) = measure(content, owns, workloads=[net], kind=on(backend)).values()
    return one["rows"], report.markdown({"headline": {"headline": content}}, ["headline"])


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


def test_a_step_is_also_timed_without_what_makes_it_fast() -> None:
    """On a backend that stands for CuPy's: it is asked for one that leaves something out."""
    made: list[Any] = []

    class Leaving(type(ldl.get_backend("numpy"))):  # type: ignore[misc]
        leaves_out: frozenset[str] = frozenset()

        def __init__(self) -> None:
            made.append(self)

    own = ldl_.Without("epilogues")
    assert rows_of({}, own)[own.name]["reason"] == "numpy has nothing to leave out"
    leaving = Leaving()
    rows = measure({}, [own], kind=on(leaving))["tiny/float32"]["rows"]
    assert rows[own.name]["status"] == "timed"
    assert [backend.leaves_out for backend in made] == [frozenset(), frozenset({"epilogues"})]
    rows = measure({}, [own], kind=on(leaving), precisions=["bf16"])["tiny/bf16"]["rows"]
    assert rows[own.name]["reason"] == "products in bf16 have no epilogues"


def test_what_changes_its_ways_is_said_to() -> None:
    row = rows_of({}, *planted("changing"))["changing"]
    assert sum(row["ways"].values()) == 2
    assert row["how"] == " and ".join(row["ways"])
    assert len(row["ways"]) == 2
    assert row["why"] in ("", "why")


def test_a_watch_tells_graphs_from_pieces() -> None:
    capture = SimpleNamespace(graphs=3, singles=2, why="")
    watch = Watch(SimpleNamespace(capture=capture))
    capture.graphs += 1
    assert watch() == ("graph", "")
    capture.graphs, capture.singles = 6, 4
    assert watch() == ("kernel by kernel", "2 pieces, 2 graphs")


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
    assert torch_.compiled() == how


def test_products_that_cannot_be_captured_are_launched_one_by_one_and_say_so() -> None:
    class Refuses(Device):
        def capture(self, function: Any) -> Any:
            raise NotImplementedError("cannot be captured")

    row = rows_of({}, Products(), kind=Refuses)[FLOOR]
    assert (row["status"], row["how"]) == ("timed", "kernel by kernel")
    assert row["why"] == "not captured: NotImplementedError: cannot be captured"


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


# ---- what can go wrong -----------------------------------------------------------------------


class Mortal(Device):
    def alive(self) -> bool:
        return False


def test_a_lost_device_ends_one_process_and_the_next_workload_has_a_new_one() -> None:
    started: list[Any] = []

    class Counted(Local):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            started.append(self)

    owns = [ldl_.OneStep(TRAIN_STEP), *planted("raising")]
    found = measure({}, owns, workloads=[NET, TINY[2]], kind=Mortal, start=Counted)
    for one in found.values():
        assert one["rows"]["raising"]["reason"] == "MemoryError: no room"
        assert one["rows"][TRAIN_STEP]["status"] == "timed"
    assert len(started) == 3, "one of TrainStep's, two that were lost"


def test_without_time_every_comparison_says_so() -> None:
    found = measure({}, [], workloads=list(TINY), until=time() - 1)
    assert [one["status"] for one in found.values()] == ["out of time"] * 3


def test_time_that_runs_out_leaves_rows_that_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [time()]
    monkeypatch.setattr(compare, "time", lambda: clock[0])

    class Late(Local):
        def ask(self, *given: Any, **more: Any) -> Any:
            clock[0] += 1000
            return super().ask(*given, **more)

    rows = rows_of({}, *planted("right", "changing"), start=Late)
    assert {name: row["reason"] for name, row in rows.items()} == dict.fromkeys(
        (TRAIN_STEP, "right", "changing"), "out of time"
    )


def test_figures_are_there_before_what_is_slow_is_built_and_are_kept_when_it_hangs() -> None:
    content: dict[str, Any] = {}

    class Hangs(Local):
        def ask(self, limit: float, where: str, *arguments: Any, **more: Any) -> Any:
            if "hanging" in str(arguments):
                before = content["comparisons"]["tiny/float32"]["rows"][TRAIN_STEP]
                assert before["blocks"] == QUICK.rounds[0]
                raise NoAnswerError("too slow", "no answer in 75 s")
            return super().ask(limit, where, *arguments, **more)

    said: list[str] = []
    rows = rows_of(content, *planted("hanging", "right"), start=Hangs, say=said.append)
    assert rows["hanging"]["status"] == "too slow"
    assert rows[TRAIN_STEP]["status"] == rows["right"]["status"] == "timed"
    assert "  hanging: too slow: no answer in 75 s" in said


def test_what_had_been_taken_is_given_back_when_it_fails_and_when_all_is_done() -> None:
    tidied: list[str] = []

    class Tidy(Device):
        def tidy(self) -> None:
            tidied.append("tidy")

    rows = rows_of({}, *planted("raising"), kind=Tidy)
    assert rows["raising"]["reason"] == "MemoryError: no room"
    assert rows[TRAIN_STEP]["status"] == "timed"
    assert len(tidied) == 2, "after the failure, and after the comparison"


def test_what_was_measured_survives_an_interruption(tmp_path: Path) -> None:
    document = Document(tmp_path / "headline.json", ["headline"])

    class Stops(Local):
        def ask(self, limit: float, where: str, *arguments: Any, **more: Any) -> Any:
            if "right" in str(arguments[:1]) and "tf32" in arguments:
                raise KeyboardInterrupt
            return super().ask(limit, where, *arguments, **more)

    with pytest.raises(KeyboardInterrupt):
        measure(
            document.part("headline"),
            [ldl_.OneStep(TRAIN_STEP), *planted("right")],
            precisions=["float32", "tf32"],
            save=document.save,
            start=Stops,
        )
    ldl.set_matmul_precision("float32")
    stored = json.loads((tmp_path / "headline.json").read_text())["headline"]["comparisons"]
    assert stored["tiny/float32"]["status"] == "done"
    assert stored["tiny/float32"]["rows"][TRAIN_STEP]["wall"]["median"] > 0
    assert stored["tiny/tf32"]["status"] == "running"
    assert stored["tiny/tf32"]["rows"][TRAIN_STEP]["status"] == "right"
    assert stored["tiny/tf32"]["rows"]["right"]["status"] == "building"
    text = (tmp_path / "report.md").read_text()
    assert "right: building, cut off." in text
    assert "### Tiny autoencoder, tf32" in text


# ---- processes -------------------------------------------------------------------------------


def test_what_dies_or_hangs_takes_no_other_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real processes: one ends itself, one crashes in its turn, one heeds nothing."""
    monkeypatch.setenv("LDL_JIT", "0")
    owns = planted("dying", "dying_when_timed", "hanging", "right")
    said: list[str] = []
    with Workers("cpu", silent, Process) as workers:
        rows: dict[str, Any] = {}
        rules = replace(QUICK, build=20.0)
        right = reference(NET, NET.batches(7))
        ends = time() + 300, time() + 300
        one = Comparison(
            *(NET, "float32", owns[:2] + owns[3:], 7, right, rules, ends, workers, rows),
            *(lambda: None, said.append),
        )
        one.run()
        replace(one, implementations=owns[2:3], rules=replace(QUICK, build=2.0)).run()
        processes = [worker._process for worker in workers.started.values()]  # type: ignore[attr-defined]
    assert rows["right"]["status"] == "timed"
    assert rows["dying"]["reason"] == "the process ended with 7: a last word"
    assert rows["dying_when_timed"]["reason"].startswith("the process ended with -11")
    assert (rows["hanging"]["status"], rows["hanging"]["reason"]) == (
        "too slow",
        "no answer in 2 s",
    )
    assert all(process.poll() is not None for process in processes)
    assert len(said) == 3


def test_a_process_tells_how_far_it_is_and_what_it_prints_is_said() -> None:
    said: list[str] = []
    process = Process("cpu", said.append)
    heard: list[Any] = []
    try:
        found = process.ask(60, "test_benchmarks_compare:tells+", 3, progress=heard.append)
        assert (found, heard) == (["cpu", 3], [{"so far": 1}, {"so far": 2}])
        with pytest.raises(NoAnswerError, match="ZeroDivisionError") as error:
            process.ask(60, "test_benchmarks_compare:fails")
        assert error.value.status == "failed"
        assert process.alive
    finally:
        process.close()
    assert "    printed" in said
    assert not process.alive


def tells(device: Any, progress: Any, number: int) -> Any:
    print("printed")
    progress({"so far": 1})
    progress({"so far": 2})
    return [device.torch, number]


def fails(device: Any) -> Any:
    return 1 / 0
