"""The run of a suite: its parts, pytest's, the command; without a GPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from time import sleep, time
from typing import Any

import pytest

from benchmarks import __main__ as cpu
from benchmarks import machine, report, suite
from benchmarks.gpu import __main__ as gpu
from benchmarks.implementation import matches
from benchmarks.implementations import ldl_
from benchmarks.implementations.floor import Products
from benchmarks.names import EAGER, FLOOR, SEVERAL, TRAIN_STEP
from benchmarks.workloads import GPU_NETS, TINY
from test_benchmarks_compare import measure, planted

ROOT = Path(__file__).parent.parent


# ---- the run ---------------------------------------------------------------------------------


def visit(
    folder: Path,
    machine: Any,
    *words: str,
    headline: BaseException | None = None,
) -> Any:
    """The exit code, what was done, and the check's document; `headline` is what that raises."""
    done: list[str] = []

    def work(task: Any) -> None:
        done.append(task.name)
        if task.name == "headline" and headline is not None:
            raise headline

    parts = {name: replace(part, run=work) for name, part in gpu.PARTS.items()}
    made = replace(gpu.SUITE, parts=parts, look=lambda quick, until: machine)
    code = suite.main(made, [*words, "--out", str(folder)])
    return code, done, json.loads((folder / "check.json").read_text())


GOOD = {"device": "NVIDIA H100", "done": []}


def test_nothing_is_begun_where_a_package_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    why = "cuda-core is missing (why): pip install cuda-core"
    code, done, document = visit(tmp_path, GOOD | {"missing": why}, "tests", "floors")
    assert (code, done, document["run"]["status"]) == (1, [], why)
    assert f"STOPPED: {why}; not begun: tests, floors" in capsys.readouterr().out
    assert f"**{why}**" in (tmp_path / "report.md").read_text()
    assert not (tmp_path / "floors.json").exists()


def test_the_tests_alone_are_run_where_something_is_faulty(tmp_path: Path) -> None:
    why = "a compiled kernel: ValueError: a kernel that was compiled gives wrong numbers"
    found = GOOD | {"faulty": why, "able": ["tests"]}
    code, done, _ = visit(tmp_path, found)
    assert (code, done) == (1, ["tests"])


def test_a_part_that_raises_stops_no_other(tmp_path: Path) -> None:
    error = RuntimeError("of the runner\nitself")
    code, done, _ = visit(tmp_path, GOOD, headline=error)
    assert (code, done) == (1, [name for name in gpu.PARTS if name != "check"])
    status = json.loads((tmp_path / "headline.json").read_text())["run"]["status"]
    assert status == "failed: RuntimeError: of the runner"
    assert f"- headline: {status}" in (tmp_path / "report.md").read_text()


def test_an_interrupt_ends_all_and_leaves_every_document_whole(tmp_path: Path) -> None:
    code, done, _ = visit(tmp_path, GOOD, headline=KeyboardInterrupt())
    assert (code, done) == (130, ["tests", "headline"])
    states = {f.stem: json.loads(f.read_text())["run"]["status"] for f in tmp_path.glob("*.json")}
    assert states == {"check": "done", "tests": "done", "headline": "interrupted"}


def test_all_of_it_is_within_its_minutes_and_what_is_left_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    untils: list[float] = []
    clock = [1000.0]
    monkeypatch.setattr(suite, "time", lambda: clock[0])

    def work(task: Any) -> None:
        untils.append(task.until)
        clock[0] = task.until if task.name != "tests" else clock[0] + 1

    parts = {name: replace(part, run=work) for name, part in gpu.PARTS.items()}
    made = replace(gpu.SUITE, parts=parts, look=lambda quick, until: GOOD)
    assert suite.main(made, ["tests", "headline", "floors", "--out", str(tmp_path)]) == 0
    assert untils == sorted(untils)
    assert untils[-1] <= 1000 + 60 * gpu.SUITE.most
    assert untils[1] > 1000 + 5 * 60, "the tests' time was lost"


def test_a_folder_that_cannot_be_written_is_said_before_anything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    made = replace(gpu.SUITE, look=lambda quick, until: GOOD)
    assert suite.main(made, ["floors", "--out", str(tmp_path / "file" / "folder")]) == 1
    assert "nothing can be written into" in capsys.readouterr().err


def test_a_part_that_lacks_a_package_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmarks.gpu import check

    monkeypatch.setattr(check, "find_spec", lambda name: None)
    made = replace(gpu.SUITE, look=lambda quick, until: GOOD)
    assert suite.main(made, ["tests", "--out", str(tmp_path)]) == 1
    status = json.loads((tmp_path / "tests.json").read_text())["run"]["status"]
    assert status.startswith("pytest is missing (tests needs it): pip install")


# ---- the report ------------------------------------------------------------------------------


def test_the_report_names_every_net_and_implementation_whatever_became_of_them() -> None:
    content: dict[str, Any] = {}
    owns = [ldl_.OneStep(TRAIN_STEP), ldl_.SeveralSteps(SEVERAL), ldl_.Eager(EAGER)]
    owns += [Products(), *planted("wrong_loss", "raising")]
    measure(content, owns, workloads=list(TINY))
    later: dict[str, Any] = {}
    measure(later, [], workloads=list(GPU_NETS), precisions=["tf32"], until=0.0)
    content["comparisons"] |= later["comparisons"]
    rates = {"cube/float32": {"n": 64, "rate": 1e9, "median": 1e-3, "how": "kernel by kernel"}}
    rates |= {"copy": {"rate": 1e9, "median": 1e-3, "how": "kernel by kernel"}}
    found = {"extras": {"extras": content}, "floors": {"floors": rates}}
    text = report.markdown(json.loads(json.dumps(found)), gpu.PARTS)
    overview, *sections = text.partition("## Extras")[2].split("\n### ")
    for net in (*TINY, *GPU_NETS):
        assert sum(section.startswith(f"{net.title}, ") for section in sections) == 1
        assert f"| {net.title} | " in overview
    for name in (FLOOR, TRAIN_STEP, SEVERAL, EAGER, "wrong_loss", "raising"):
        assert all(name in section for section in sections[:3])
        assert name in overview
    assert "raising: failed, MemoryError: no room." in text
    assert "its bytes at the copy's rate" in sections[0]
    assert "**out of time**" in sections[-2]


# ---- the command -----------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.gpu", *arguments]


@pytest.mark.parametrize("entry", [cpu, gpu])
def test_help_teaches_and_names_are_listed(entry: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        entry.main(["--help"])
    text = capsys.readouterr().out
    assert len(text.splitlines()) > 40
    assert "examples:" in text
    assert entry.main(["--list"]) == 0
    text = capsys.readouterr().out
    for name in (*entry.PARTS, TRAIN_STEP, "torch.compile", "layernorm", "autoencoder-1024"):
        assert name in text
    with pytest.raises(SystemExit):
        entry.main(["headlin"])
    assert "no part headlin" in capsys.readouterr().err


def test_a_gpu_machines_help_says_what_goes_into_its_path(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        gpu.main(["--help"])
    text = capsys.readouterr().out
    assert "PYTHONPATH=.:backends" in text
    assert "VENV= " in text


def test_the_makefile_has_a_target_for_every_part() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = text.partition("\nGPU := ")[2].splitlines()[0].split()
    assert targets == [f"gpu-{name}" for name in gpu.PARTS]
    assert all(name in text.partition("help:")[2].partition("demo:")[0] for name in targets)
    assert all(part.minutes <= gpu.SUITE.most for part in gpu.PARTS.values())


def test_a_processors_suite_takes_less_than_ten_minutes() -> None:
    assert cpu.SUITE.most < 10
    assert all(part.minutes < cpu.SUITE.most for part in cpu.PARTS.values())


def test_a_machine_has_a_file_name() -> None:
    assert machine.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    name = "Intel(R) Xeon(R) CPU @ 2.20GHz 2 cores"
    assert machine.slug(name) == "intel-xeon-2-cores"


def test_names_are_chosen_by_a_text_of_theirs() -> None:
    assert matches("PyTorch eager", [])
    assert matches("PyTorch eager", ["x", "EAGER"])
    assert not matches("PyTorch eager", ["x"])


def test_a_quick_run_from_the_command_line_and_the_report_again(tmp_path: Path) -> None:
    out = tmp_path / "visit"
    arguments = ["floors", "extras", "--quick", "--implementation", "ldl", "--workload", "sigmoid"]
    done = subprocess.run(
        command(*arguments, "--precision", "float32", "--out", str(out)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    names = [f"{name}.{end}" for name in ("check", "extras", "floors") for end in ("json", "log")]
    assert sorted(f.name for f in out.iterdir()) == [*names, "picture.png", "report.md"]
    extras = json.loads((out / "extras.json").read_text())
    assert extras["run"]["status"] == "done"
    assert [*extras["extras"]["comparisons"]] == ["tiny-sigmoid/float32"]
    assert json.loads((out / "check.json").read_text())["run"]["status"] == "done"
    assert "ldl.TrainStep" in (out / "extras.log").read_text()
    first = (out / "report.md").read_text()
    (out / "report.md").unlink()
    assert gpu.main(["--report", str(out)]) == 0
    assert (out / "report.md").read_text() == first
    assert "these figures mean nothing" in first
    assert "- tests: not run" in first


def test_a_processors_quick_run_pins_threads_and_has_memory(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "benchmarks", "predictions", "--quick", "--threads", "1"]
    arguments += ["--implementation", "ldl", "--out", str(tmp_path)]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "predictions.json").read_text())
    rows = found["predictions"]["comparisons"]["tiny-row/float32"]["rows"]
    assert {row["status"] for row in rows.values()} == {"timed"}
    assert rows["ldl.Predictor"]["first_bytes"] > 0
    assert found["run"]["threads"] == 1
    assert ", 1 threads, commit" in (tmp_path / "report.md").read_text()


def test_a_run_that_is_told_to_stop_leaves_what_it_had(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("floors", "epochs", "--quick", "--out", str(tmp_path)),
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
