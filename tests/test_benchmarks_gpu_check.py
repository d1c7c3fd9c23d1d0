"""The check of a GPU machine, and what is taken along to one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ldl
from benchmarks import process
from benchmarks.gpu import __main__ as entry
from benchmarks.gpu import check, gather
from cuda_device import CudaOnHost


def nothing(found: Any) -> None:
    """Nobody is told what the check knows."""


# ---- the check -------------------------------------------------------------------------------


def missing(**given: Any) -> str:
    """What the check says is missing."""
    return check.look(False, nothing, **given).get("missing", "")


def test_a_working_device_passes() -> None:
    found = check.look(False, nothing, CudaOnHost())
    assert len(found["done"]) == 4
    assert found["a step is launched"] == "graph"
    assert not {"missing", "faulty", "notes"} & {*found}


@pytest.mark.parametrize("module", check.REQUIRED)
def test_a_missing_package_is_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    package = check.REQUIRED[module]
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
    monkeypatch.setattr(check, "versions", dict)
    assert missing(backend=backend).startswith(f"{package} is missing (RuntimeError: {text[:9]}")
    monkeypatch.setattr(check, "versions", lambda: {"cupy-cuda12x": "14"})
    assert missing(backend=backend).startswith(f"{package}-cu12 is missing")


def test_wrong_numbers_are_a_fault_and_a_failed_capture_is_a_note() -> None:
    wrong, slow = CudaOnHost(), CudaOnHost()
    wrong.matmul = lambda a, b: ldl.get_backend("numpy").matmul(a, b) + 1
    found = check.look(False, nothing, wrong)
    assert found["faulty"].startswith("a matrix product: ValueError: a matrix product is wrong by")
    slow.connection.fails = "matmul"
    found = check.look(False, nothing, slow)
    assert (found["a step is launched"], found["because"]) == (
        "kernel by kernel",
        "matmul cannot be captured",
    )
    assert found["notes"] == ["no CUDA graph: matmul cannot be captured"]
    assert "faulty" not in found


def test_what_can_be_done_without_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "shutil", SimpleNamespace(which=lambda name: None))
    monkeypatch.setattr(check, "find_spec", lambda name: None)
    found = check.look(False, nothing, CudaOnHost())
    assert {*found["left_out"]} == {"g++", "torch", "nvidia-smi"}
    assert len(found["done"]) == 4
    assert check.lacks("tests").startswith("pytest is missing (tests needs it): pip install")
    assert check.lacks("headline") == ""


def test_a_device_for_one_process_alone_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "smi", lambda: {"compute_mode": "Exclusive_Process"})
    found = check.look(False, nothing, CudaOnHost())
    assert found["faulty"].startswith("several processes: ValueError: its compute mode is Excl")


def test_a_check_that_hangs_or_crashes_says_at_what(monkeypatch: pytest.MonkeyPatch) -> None:
    for code, told in ((None, "a kernel took too long: boom"), (-11, "a kernel ended with -11")):

        def stream(command: Any, until: float, say: Any, code: Any = code) -> Any:
            say('{"trying": "a kernel", "device": "D 1"}')
            if code is None:
                say("boom")
            return code

        monkeypatch.setattr(process, "stream", stream)
        found = check.outside(False, 0.0)
        assert (found["faulty"], found["device"], found["folder"]) == (told, "D 1", "d-1")
        assert found["able"] == ["tests"]


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
    for name in entry.PARTS:
        assert any(f" {name} " in line for line in typed)
    assert gather.main(["--to", str(tmp_path / "more"), "--most", "0.5"]) == 1
    assert "1.0 MiB are more than --most 0.5" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gather.main(["--to", str(tmp_path / "wheels")])
