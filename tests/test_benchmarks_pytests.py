"""What pytest runs for the benchmarks: tests marked gpu, and kernels one by one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import time
from typing import Any

from benchmarks import pytests
from benchmarks.process import environment
from test_benchmarks_compare import silent

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
        assert pytests.gpu_tests(content, until, lambda: None, silent, command) == state
        assert content["counts"] == {"passed": 1, "failed": 1, "error": 0, "skipped": 1}
        assert content["failures"] == ["tests/test_gpu.py::test_b", lines[3]]
        assert content["skipped"] == [lines[4]]
        assert content["summary"].startswith("1 failed")


def test_only_files_with_a_test_for_a_gpu_are_collected() -> None:
    command = pytests.gpu_command(quick=False)
    assert {Path(word).name for word in command} >= {"test_gpu.py", "test_cuda_steps.py"}
    assert "test_fit.py" not in "".join(command)


def test_what_cupy_warns_of_when_it_is_imported_skips_no_test(tmp_path: Path) -> None:
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text("from cupy import _environment\n")
    warns = "import warnings\nwarnings.warn('multiple CuPy packages are installed')\n"
    (tmp_path / "cupy" / "_environment.py").write_text(warns)
    (tmp_path / "test_it.py").write_text("def test_it():\n    import cupy\n")
    python, *options = pytests.gpu_command(quick=True)
    command = [python, *(x for x in options if not x.endswith(".py")), str(tmp_path / "test_it.py")]
    command += ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}"]
    path = {"PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(command, env=path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


def test_kernels_are_saved_one_by_one_and_a_process_that_dies_is_followed_by_another() -> None:
    content: dict[str, Any] = {}
    seen: list[int] = []
    known: list[Any] = []
    codes = iter([pytests.LOST, -11, 1])

    def run(command: list[str], until: float, say: Any) -> int:
        file = next(word for word in command if word.startswith("--done="))
        known.append(json.loads(Path(file.removeprefix("--done=")).read_text()))
        name = "abc"[len(known) - 1]
        say(f'row {{"name": "{name}", "backend": "numpy", "failed": "cut off"}}')
        if name == "c":
            say('row {"name": "c", "backend": "numpy", "how": "graph", "median": 1, "minimum": 1}')
        return next(codes)

    def save() -> None:
        seen.append(len(content["rows"]))

    until = time() + 60
    state = pytests.kernels(content, until, save, silent, ["numpy"], quick=True, run=run)
    assert state == "some failed"
    assert [sorted(one) for one in known] == [[], ["a"], ["a", "b"]]
    assert content["rows"]["a"]["numpy"] == {"failed": "cut off"}
    assert content["rows"]["c"]["numpy"]["median"] == 1
    assert {1, 2, 3} <= {*seen}


def test_pytest_benchmark_times_kernels_and_names_what_fails(tmp_path: Path) -> None:
    done = tmp_path / "done.json"
    done.write_text('{"take": {"numpy": {}}}')
    command = [sys.executable, "-m", "pytest", *pytests.OPTIONS, "-q", "-s", f"--done={done}"]
    command += ["benchmarks/test_kernels.py", "--backend=numpy", "-k", "take or settle or Flatten"]
    command += ["--benchmark-max-time=0.001", "--benchmark-min-rounds=3", "--benchmark-quiet"]
    path = {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "backends", ROOT / "tests")))}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment() | path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = [line for line in ran.stdout.splitlines() if line.startswith("row ")]
    rows = [json.loads(line.removeprefix("row ")) for line in lines]
    assert [row["name"] for row in rows] == ["settle", "settle", "Flatten", "Flatten"]
    assert rows[0]["failed"] == "cut off"
    assert rows[1]["how"] == "on the host"
    assert rows[3]["how"] == "layer by layer"
    assert 0 < rows[3]["minimum"] <= rows[3]["median"]
