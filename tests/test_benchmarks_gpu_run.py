"""The run of the GPU's benchmarks: command, pytest's sections, table; without a GPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import sleep, time
from typing import Any

import pytest

from benchmarks.gpu import __main__ as entry
from benchmarks.gpu import nets, ours, outside, table, worker
from benchmarks.gpu.document import Document
from benchmarks.gpu.environment import slug
from benchmarks.gpu.names import EAGER, FLOOR, SEVERAL, TRAIN_STEP
from test_benchmarks_gpu import Planted, measure, raising, silent, wrong_loss

ROOT = Path(__file__).parent.parent


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
