"""The check before a visit to a GPU machine, the run of its commands, and what is taken along."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ldl
from benchmarks.gpu import __main__ as entry
from benchmarks.gpu import environment, gather, outside
from cuda_device import CudaOnHost


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
    ("Failed to find CUDA headers. Please install CUDA toolkit headers", "nvidia-cuda-runtime"),
    ('Failure finding "libcublasLt.so": No such file: libcublasLt.so*', "nvidia-cublas"),
]


@pytest.mark.parametrize(("text", "package"), LIBRARIES)
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
