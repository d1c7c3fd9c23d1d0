"""The GPU's benchmarks do what they say, tried on the processor. Nothing depends on a real time."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep, time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import ldl
from benchmarks.gpu import __main__ as entry
from benchmarks.gpu import epochs, floors, judge, nets, ours, outside, steps, table, worker
from benchmarks.gpu.device import Cuda, Device, DeviceLostError
from benchmarks.gpu.document import Document
from benchmarks.gpu.environment import slug
from benchmarks.gpu.heat import Rules
from benchmarks.gpu.names import EAGER, FLOOR, SEVERAL, TRAIN_STEP
from benchmarks.gpu.running import Running
from benchmarks.side import Built, Side

ROOT = Path(__file__).parent.parent
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


def test_pytorchs_sides_are_right_and_the_captured_one_refuses_a_processor() -> None:
    pytest.importorskip("torch")

    def wanted(name: str) -> bool:
        return "torch.compile" not in name

    (heat,) = measure({}, steps.sides, wanted=wanted).values()
    rows = heat["sides"]
    for name in ("PyTorch eager", "PyTorch eager, fused Adam"):
        assert rows[name]["status"] == "timed"
        assert rows[name]["difference"] < 1e-5
    assert rows["PyTorch, whole step in a CUDA graph"]["reason"].endswith("needs a CUDA device")


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
    document = Document(tmp_path / "device.json")

    def interrupt(right: Any) -> Running:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure(
            document.part("steps"),
            lambda device, precision: [
                ours.OneStep(TRAIN_STEP, device, record=True),
                Planted("stopper", interrupt if precision == "tf32" else wrong_loss),
            ],
            precisions=["float32", "tf32"],
            save=document.save,
        )
    stored = json.loads((tmp_path / "device.json").read_text())["steps"]["heats"]
    assert stored["tiny/float32"]["status"] == "done"
    assert stored["tiny/float32"]["sides"][TRAIN_STEP]["events_median"] > 0
    assert stored["tiny/tf32"]["status"] == "running"
    assert stored["tiny/tf32"]["sides"][TRAIN_STEP]["status"] == "right"
    assert stored["tiny/tf32"]["sides"]["stopper"]["status"] == "entering"
    text = (tmp_path / "device.md").read_text()
    assert "stopper: entering, cut off." in text
    assert "### Tiny autoencoder, tf32" in text


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


def test_a_folder_without_mnist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not hold train-images"):
        epochs.folder(str(tmp_path))


# ---- pytest's sections -----------------------------------------------------------------------


def test_the_tests_outcomes_are_counted_as_they_come() -> None:
    lines = [
        "tests/test_gpu.py::test_a[x y] PASSED   [ 10%]",
        "tests/test_gpu.py::test_b FAILED        [ 20%]",
        "tests/test_gpu.py::test_c SKIPPED (why) [ 30%]",
        "ERROR tests/test_d.py - ModuleNotFoundError: No module named 'd'",
        "==== 1 failed, 1 passed, 1 skipped in 0.1s ====",
    ]
    code = f"import time; [print(x) for x in {lines!r}]; time.sleep(SLEEP); raise SystemExit(1)"
    content: dict[str, Any] = {}
    for pause, state in ((0, "failed"), (60, "out of time")):
        command = [sys.executable, "-c", code.replace("SLEEP", str(pause))]
        until = time() + (30 if not pause else 1)
        assert outside.gpu_tests(content, until, lambda: None, silent, command) == state
        assert content["counts"] == {"passed": 1, "failed": 1, "error": 0, "skipped": 1}
        assert content["failures"] == ["tests/test_gpu.py::test_b", lines[3]]
        assert content["summary"].startswith("1 failed")


# ---- the table -------------------------------------------------------------------------------


def test_the_table_names_every_net_and_side_whatever_became_of_them() -> None:
    content: dict[str, Any] = {}
    planted = [Planted("wrong one", wrong_loss), Planted("failing one", raising)]
    measure(
        content,
        lambda device, precision: [*ours.gpu_sides(device, precision), *planted],
        workloads=list(nets.REHEARSAL),
    )
    measure(content, workloads=list(nets.NETS), precisions=["tf32"], until=0.0)
    rates = {"cube/float32": {"n": 64, "rate": 1e9, "median": 1e-3}}
    rates |= {"copy": {"rate": 1e9, "median": 1e-3}}
    text = table.markdown(json.loads(json.dumps({"steps": content, "floors": rates})))
    overview, *sections = text.split("\n### ")
    for net in (*nets.REHEARSAL, *nets.NETS):
        assert sum(section.startswith(f"{net.title}, ") for section in sections) == 1
        assert f"| {net.title} | " in overview
    for name in (FLOOR, TRAIN_STEP, SEVERAL, EAGER, "wrong one", "failing one"):
        assert all(name in section for section in sections[:3])
        assert name in overview
    assert "failing one: failed, MemoryError: no room." in text
    assert "its bytes at the copy's rate" in sections[0]
    assert "**out of time**" in sections[-2]


def test_the_floors_are_those_of_the_document() -> None:
    heat = {"precision": "tf32", "flops": 6e9, "bytes": 3e9, "sides": {}}
    document = {"floors": {"cube/tf32": {"rate": 2e9}, "copy": {"rate": 1e9}}}
    assert table.floors(document, heat) == {"cube": 3.0, "bytes": 3.0}
    heat["sides"] = {FLOOR: {"events_median": 1.5}}
    assert table.floors({}, heat) == {"products": 1.5}


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
    assert "not captured: NotImplementedError: cannot be captured" in rows[FLOOR]["note"]


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


# ---- the command -----------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.gpu", *arguments]


def test_help_teaches_and_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        entry.main(["--help"])
    text = capsys.readouterr().out
    assert "PYTHONPATH=.:backends" in text
    assert "VENV= " in text
    assert entry.main(["--list"]) == 0
    text = capsys.readouterr().out
    for name in (*entry.SECTIONS, *(net.name for net in nets.NETS), TRAIN_STEP, "reduce-overhead"):
        assert name in text
    with pytest.raises(SystemExit):
        entry.main(["stepps"])
    assert "no section stepps" in capsys.readouterr().err


def test_a_device_has_a_file_name() -> None:
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


def test_names_are_chosen_by_a_text_of_theirs() -> None:
    assert worker.matches("PyTorch eager", [])
    assert worker.matches("PyTorch eager", ["x", "EAGER"])
    assert not worker.matches("PyTorch eager", ["x"])


def test_a_rehearsal_from_the_command_line_and_the_table_again(tmp_path: Path) -> None:
    out = tmp_path / "device.json"
    arguments = ["floors", "steps", "--rehearse", "--side", "ldl", "--net", "sigmoid"]
    done = subprocess.run(
        command(*arguments, "--precision", "float32", "--out", str(out)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(out.read_text())
    assert document["run"]["status"] == "complete"
    assert document["sections"]["steps"]["status"] == "done"
    assert document["sections"]["tests"]["status"] == "not asked for"
    assert [*document["steps"]["heats"]] == ["tiny-sigmoid/float32"]
    assert "ldl.TrainStep" in out.with_suffix(".log").read_text()
    first = out.with_suffix(".md").read_text()
    out.with_suffix(".md").unlink()
    assert entry.main(["--table", str(out)]) == 0
    assert out.with_suffix(".md").read_text() == first
    assert "these figures mean nothing" in first


def test_a_run_that_is_told_to_stop_leaves_what_it_had(tmp_path: Path) -> None:
    out = tmp_path / "device.json"
    process = subprocess.Popen(
        command("floors", "epochs", "--rehearse", "--out", str(out)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LDL_NUMBA": "0"},
    )
    end = time() + 30
    while time() < end and not (out.exists() and "copy" in out.read_text()):
        sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 130
    document = json.loads(out.read_text())
    assert document["run"]["status"] == "interrupted"
    assert "interrupted" in {state["status"] for state in document["sections"].values()}
    assert document["floors"]["copy"]
    assert "run interrupted" in out.with_suffix(".md").read_text()


def test_a_process_that_dies_is_followed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = iter([worker.LOST, -11, 0])
    tasks: list[Any] = []

    def stream(command: list[str], until: float, say: Any) -> int:
        tasks.append(worker.Task(**json.loads(command[-1])))
        return next(codes)

    monkeypatch.setattr(outside, "stream", stream)
    said: list[str] = []
    args = entry.parser().parse_args(["steps", "--net", "small"])
    document = Document(tmp_path / "device.json")
    found = entry.section("steps", args, document, said.append, time() + 60, 5)  # type: ignore[arg-type]
    assert found == "done"
    assert len(tasks) == 3
    assert (tasks[0].seed, tasks[0].nets, tasks[0].section) == (5, ["small"], "steps")
    assert "ended with -11" in said[1]


def test_without_a_device_the_run_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "look", lambda rehearse: {"why": "no driver"})
    assert entry.main([]) == 1
    assert "no CUDA device: no driver; --rehearse" in capsys.readouterr().err


def test_ratios_to_the_judge_are_finite_for_every_tiny_net() -> None:
    for net in nets.REHEARSAL:
        right = judge.right_losses(net, nets.fresh_batches(net, 3))
        assert len(right) == net.compare
        assert all(map(math.isfinite, right))
