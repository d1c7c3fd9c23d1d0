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
        "SKIPPED [1] tests/test_gpu.py:7: why",
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
        assert content["skipped"] == [lines[4]]
        assert content["summary"].startswith("1 failed")


def test_only_files_with_a_test_for_a_gpu_are_collected() -> None:
    command = outside.pytest_command(rehearse=False)
    assert {Path(word).name for word in command} >= {"test_gpu.py", "test_cuda_steps.py"}
    assert "test_fit.py" not in "".join(command)


def test_what_cupy_warns_of_when_it_is_imported_skips_no_test(tmp_path: Path) -> None:
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text("from cupy import _environment\n")
    warns = "import warnings\nwarnings.warn('multiple CuPy packages are installed')\n"
    (tmp_path / "cupy" / "_environment.py").write_text(warns)
    (tmp_path / "test_it.py").write_text("def test_it():\n    import cupy\n")
    python, *options = outside.pytest_command(rehearse=True)
    command = [python, *(x for x in options if not x.endswith(".py")), str(tmp_path / "test_it.py")]
    command += ["-c", str(outside.ROOT / "pyproject.toml"), f"--rootdir={outside.ROOT}"]
    path = {"PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(command, env=path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


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
    rates = {"cube/float32": {"n": 64, "rate": 1e9, "median": 1e-3, "how": "kernel by kernel"}}
    rates |= {"copy": {"rate": 1e9, "median": 1e-3, "how": "kernel by kernel"}}
    found = {"extras": {"extras": content}, "floors": {"floors": rates}}
    text = table.markdown(json.loads(json.dumps(found)))
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
    rates = {"cube/tf32": {"rate": 2e9}, "copy": {"rate": 1e9}}
    assert table.floors(rates, heat) == {"cube": 3.0, "bytes": 3.0}
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
    for name in (*entry.COMMANDS, *(net.name for net in nets.NETS), TRAIN_STEP, "reduce-overhead"):
        assert name in text
    with pytest.raises(SystemExit):
        entry.main(["headlin"])
    assert "no command headlin" in capsys.readouterr().err


def test_the_makefile_has_a_target_for_every_command() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = text.partition("\nGPU := ")[2].splitlines()[0].split()
    assert targets == [f"gpu-{name}" for name in entry.COMMANDS]
    assert all(name in text.partition("help:")[2].partition("demo:")[0] for name in targets)
    assert all(minutes <= entry.MOST for minutes, _ in entry.COMMANDS.values())


def test_a_device_has_a_file_name() -> None:
    assert slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"


def test_names_are_chosen_by_a_text_of_theirs() -> None:
    assert worker.matches("PyTorch eager", [])
    assert worker.matches("PyTorch eager", ["x", "EAGER"])
    assert not worker.matches("PyTorch eager", ["x"])


def test_headline_and_extras_share_the_nets() -> None:
    def named(command: str, *texts: str) -> list[str]:
        task = worker.Task(command, "", 0.0, 0, nets=list(texts))
        return [net.name for net in worker.nets_of(task)]

    assert named("headline") + named("extras") == [net.name for net in nets.NETS]
    assert named("extras", "autoencoder-128") == ["autoencoder-128"]
    assert named("headline", "wide") == []


def test_a_rehearsal_from_the_command_line_and_the_report_again(tmp_path: Path) -> None:
    out = tmp_path / "visit"
    arguments = ["floors", "extras", "--rehearse", "--side", "ldl", "--net", "sigmoid"]
    done = subprocess.run(
        command(*arguments, "--precision", "float32", "--out", str(out)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = [f"{name}.{end}" for name in ("check", "extras", "floors") for end in ("json", "log")]
    assert sorted(f.name for f in out.iterdir()) == [*names, "report.md"]
    extras = json.loads((out / "extras.json").read_text())
    assert extras["run"]["status"] == "done"
    assert [*extras["extras"]["heats"]] == ["tiny-sigmoid/float32"]
    assert json.loads((out / "check.json").read_text())["run"]["status"] == "done"
    assert "ldl.TrainStep" in (out / "extras.log").read_text()
    first = (out / "report.md").read_text()
    (out / "report.md").unlink()
    assert entry.main(["--report", str(out)]) == 0
    assert (out / "report.md").read_text() == first
    assert "these figures mean nothing" in first
    assert "- tests: not run" in first


def test_a_run_that_is_told_to_stop_leaves_what_it_had(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("floors", "epochs", "--rehearse", "--out", str(tmp_path)),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LDL_JIT": "0"},
    )
    out, end = tmp_path / "floors.json", time() + 60
    while time() < end and not (out.exists() and '"copy"' in out.read_text()):
        sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    states = [json.loads(f.read_text())["run"]["status"] for f in tmp_path.glob("*.json")]
    assert states.count("interrupted") == 1
    assert "copy" in json.loads(out.read_text())["floors"]
    assert ": interrupted, " in (tmp_path / "report.md").read_text()


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
    args = entry.parser().parse_args(["extras", "--net", "small", "--build", "9"])
    document = Document(tmp_path / "extras.json")
    found = entry.work("extras", args, document, said.append, time() + 60, 5)  # type: ignore[arg-type]
    assert found == "done"
    assert len(tasks) == 3
    assert (tasks[0].seed, tasks[0].nets, tasks[0].command) == (5, ["small"], "extras")
    assert tasks[0].build == 9
    assert "ended with -11" in said[1]
