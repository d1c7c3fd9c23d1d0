"""A visit to a GPU machine in which something fails: the reason is named, the rest is kept."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import Any

import pytest

import ldl
from benchmarks.gpu import __main__ as entry
from benchmarks.gpu import environment, epochs, floors, gather, heat, kernels, ours, outside, table
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


def nothing(found: Any) -> None:
    """Nobody is told what the check knows."""


# ---- the check -------------------------------------------------------------------------------


def missing(**given: Any) -> str:
    """What the check says is missing."""
    return environment.look(False, nothing, **given).get("missing", "")


def test_a_working_device_passes() -> None:
    found = environment.look(False, nothing, CudaOnHost())
    assert len(found["done"]) == 3
    assert found["a step is launched"] == "graph"
    assert not {"missing", "faulty", "notes"} & {*found}


@pytest.mark.parametrize("module", environment.REQUIRED)
def test_a_missing_package_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    package = environment.REQUIRED[module]
    told = missing()
    assert told.startswith(f"{package} is missing (ModuleNotFoundError")
    assert f"pip install {package}, " in told
    assert "benchmarks.gpu.gather" in told


LIBRARIES = [
    ("CuPy failed to load libnvrtc.so.13: OSError: cannot open shared", "nvidia-cuda-nvrtc"),
    ('catastrophic error: cannot open source file "vector_types.h"', "nvidia-cuda-runtime"),
    ('Failure finding "libcublasLt.so": No such file: libcublasLt.so*', "nvidia-cublas"),
]


@pytest.mark.parametrize(("text", "package"), LIBRARIES, ids=[p for _, p in LIBRARIES])
def test_a_missing_library_is_named(
    text: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*ignored: Any) -> Any:
        raise RuntimeError(f"{text}\nand more")

    backend = CudaOnHost()
    monkeypatch.setattr(backend, "uniform", fails)
    monkeypatch.setattr(environment, "versions", dict)
    assert missing(backend=backend).startswith(f"{package} is missing (RuntimeError: {text[:9]}")
    monkeypatch.setattr(environment, "versions", lambda: {"cupy-cuda12x": "14"})
    assert missing(backend=backend).startswith(f"{package}-cu12 is missing")


def test_wrong_numbers_are_a_fault_and_a_failed_capture_is_a_note() -> None:
    wrong, slow = CudaOnHost(), CudaOnHost()
    wrong.matmul = lambda a, b: ldl.get_backend("numpy").matmul(a, b) + 1
    found = environment.look(False, nothing, wrong)
    assert found["faulty"].startswith("a matrix product: ValueError: a matrix product is wrong by")
    slow.connection.fails = "matmul"
    found = environment.look(False, nothing, slow)
    assert (found["a step is launched"], found["because"]) == (
        "kernel by kernel",
        "matmul cannot be captured",
    )
    assert found["notes"] == ["no CUDA graph: matmul cannot be captured"]
    assert "faulty" not in found


def test_what_can_be_done_without_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "shutil", SimpleNamespace(which=lambda name: None))
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    found = environment.look(False, nothing, CudaOnHost())
    assert {*found["left_out"]} == {"g++", "torch", "nvidia-smi"}
    assert len(found["done"]) == 3
    assert environment.lacks("tests").startswith("pytest is missing (tests needs it): pip install")
    assert environment.lacks("headline") == ""


# ---- the run ---------------------------------------------------------------------------------


def visit(
    folder: Path,
    machine: Any,
    monkeypatch: pytest.MonkeyPatch,
    *words: str,
    headline: BaseException | None = None,
) -> Any:
    """The exit code, what was done, and the check's document; `headline` is what that raises."""
    done: list[str] = []

    def work(name: str, *ignored: Any) -> str:
        done.append(name)
        if name == "headline" and headline is not None:
            raise headline
        return "done"

    monkeypatch.setattr(entry, "look", lambda rehearse, until: machine)
    monkeypatch.setattr(entry, "work", work)
    code = entry.main([*words, "--out", str(folder)])
    return code, done, json.loads((folder / "check.json").read_text())


GOOD = {"device": "NVIDIA H100", "done": []}


def test_nothing_is_begun_where_a_package_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "cuda-core is missing (why): pip install cuda-core"
    code, done, document = visit(tmp_path, GOOD | {"missing": why}, monkeypatch, "tests", "floors")
    assert (code, done, document["run"]["status"]) == (1, [], why)
    assert f"STOPPED: {why}; not begun: tests, floors" in capsys.readouterr().out
    assert f"**{why}**" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "floors.json").exists()


def test_the_tests_alone_are_run_where_something_is_faulty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "a compiled kernel: ValueError: a kernel that was compiled gives wrong numbers"
    code, done, _ = visit(tmp_path, GOOD | {"faulty": why}, monkeypatch)
    assert (code, done) == (1, ["tests"])


def test_a_command_that_raises_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("of the runner\nitself")
    code, done, _ = visit(tmp_path, GOOD, monkeypatch, headline=error)
    assert (code, done) == (1, [name for name in entry.COMMANDS if name != "check"])
    status = json.loads((tmp_path / "headline.json").read_text())["run"]["status"]
    assert status == "failed: RuntimeError: of the runner"
    assert f"- headline: {status}" in (tmp_path / "report.md").read_text()


def test_an_interrupt_ends_all_and_leaves_every_document_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, done, _ = visit(tmp_path, GOOD, monkeypatch, headline=KeyboardInterrupt())
    assert (code, done) == (130, ["tests", "headline"])
    states = {f.stem: json.loads(f.read_text())["run"]["status"] for f in tmp_path.glob("*.json")}
    assert states == {"check": "done", "tests": "done", "headline": "interrupted"}


def test_all_of_it_is_within_its_minutes_and_what_is_left_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untils: list[float] = []
    clock = [1000.0]
    monkeypatch.setattr(entry, "time", lambda: clock[0])
    monkeypatch.setattr(entry, "look", lambda rehearse, until: GOOD)

    def work(name: str, args: Any, document: Any, log: Any, until: float, seed: int) -> str:
        untils.append(until)
        clock[0] = until if name != "tests" else clock[0] + 1
        return "done"

    monkeypatch.setattr(entry, "work", work)
    assert entry.main(["tests", "headline", "floors", "--out", str(tmp_path)]) == 0
    assert untils == sorted(untils)
    assert untils[-1] <= 1000 + 60 * entry.MOST
    assert untils[1] > 1000 + 5 * 60, "the tests' time was lost"


def test_a_check_that_hangs_or_crashes_says_at_what(monkeypatch: pytest.MonkeyPatch) -> None:
    for code, told in ((None, "a kernel took too long: boom"), (-11, "a kernel ended with -11")):

        def stream(command: Any, until: float, say: Any, code: Any = code) -> Any:
            say('{"trying": "a kernel", "device": "D"}')
            if code is None:
                say("boom")
            return code

        monkeypatch.setattr(outside, "stream", stream)
        found = entry.look(False, 0.0)
        assert (found["faulty"], found["device"]) == (told, "D")


def test_a_folder_that_cannot_be_written_is_said_before_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(entry, "look", lambda rehearse, until: GOOD)
    assert entry.main(["floors", "--out", str(tmp_path / "file" / "folder")]) == 1
    assert "nothing can be written into" in capsys.readouterr().err


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
    tape = SimpleNamespace(graphs=3, singles=2, why="")
    watch = Watch(SimpleNamespace(tape=tape))
    tape.graphs += 1
    assert watch() == ("graph", "")
    tape.graphs, tape.singles = 6, 4
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


# ---- what is taken along ---------------------------------------------------------------------


def test_wheels_are_gathered_weighed_and_the_commands_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def pip(command: list[str], check: bool) -> Any:
        asked.extend(command)
        (Path(command[command.index("--dest") + 1]) / "nvmath_python-1.whl").write_bytes(
            b"x" * 2**20
        )
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", pip)
    has = tmp_path / "has.txt"
    has.write_text("Package Version\n------- ----\nPytest  8.0\ncuda_core==1.0\n")
    assert gather.main(["--to", str(tmp_path / "wheels"), "--has", str(has)]) == 0
    assert "nvmath-python>=1.0" in asked
    assert "cuda-bindings==13.*" in asked
    assert not {"pytest>=8", "cuda-core"} & {*asked}
    lines = capsys.readouterr().out.splitlines()
    typed = [line for line in lines if "benchmarks.gpu" in line]
    assert all(len(line) < 2000 and "--no-index" in line and "--out" in line for line in typed)
    for name in entry.COMMANDS:
        assert any(f" {name} " in line for line in typed)
    assert gather.main(["--to", str(tmp_path / "more"), "--most", "0.5"]) == 1
    assert "1.0 MiB are more than --most 0.5" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gather.main(["--to", str(tmp_path / "wheels")])
