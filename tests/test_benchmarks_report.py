"""Cold starts by their stages, and the report of all."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from time import time
from typing import Any

import numpy as np
import pytest

from benchmarks import cold, fresh, report
from benchmarks.document import Document, write_picture, write_report
from benchmarks.names import FLOOR, TRAIN_STEP

ROOT = Path(__file__).parent.parent


# ---- cold starts -----------------------------------------------------------------------------


def test_stages_are_those_of_functions_that_there_are() -> None:
    pytest.importorskip("llvmlite")
    for names in cold.STAGES.values():
        for where in names:
            module, _, path = where.partition(":")
            owner: Any = import_module(module)
            for part in path.split("."):
                owner = getattr(owner, part)
            assert callable(owner), where


def test_the_time_of_a_stage_is_without_that_of_others_inside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]

    def inner() -> None:
        clock[0] += 2

    def outer() -> None:
        clock[0] += 1
        module.inner()

    module = import_module("planted")
    monkeypatch.setattr(module, "inner", inner, raising=False)
    monkeypatch.setattr(module, "outer", outer, raising=False)
    monkeypatch.setattr(cold, "perf_counter", lambda: clock[0])
    stages = {"out": ("planted:outer",), "in": ("planted:inner",), "no": ("no.such:thing",)}
    monkeypatch.setattr(cold, "STAGES", stages)
    found: dict[str, float] = {}
    with cold.staged(found):
        module.outer()
        module.inner()
    assert found == {"out": 1, "in": 4}
    assert module.inner is inner


def test_an_epoch_other_sizes_and_the_first_step_are_timed(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).random((200, 784), dtype=np.float32))
    where = ["benchmarks.implementations.ldl_", "OneStep", TRAIN_STEP]
    found = cold.train(where, str(path), 2, 0.0)
    assert 0 < found["built"] < found["first_step"] < found["epoch"]
    assert min(found["new"], found["again"], found["loss"]) > 0


def test_what_a_fresh_process_prints_is_read_and_what_fails_or_hangs_gives_nothing() -> None:
    def ran(code: str, seconds: float = 60.0) -> str:
        return fresh.run(["-c", code], time() + seconds)

    assert ran("import sys; print('{}', file=sys.stdout); print('a warning')") == "{}"
    assert float(ran("import sys; print(sys.argv[1])")) > 0
    assert ran("print(1); raise SystemExit(3)") == ""
    assert ran("print(1, flush=True); import time; time.sleep(100)", 1.0) == ""


# ---- the report ------------------------------------------------------------------------------


def row(time: float, **more: Any) -> dict[str, Any]:
    times = {"median": time, "minimum": 0.9 * time, "blocks": [time]}
    made = {"status": "timed", "reason": "", "how": "", "why": "", "blocks": 3}
    made |= {"steps_in_block": 20, "wall": times, "cpu": {**times, "median": 2 * time}}
    return {**made, "difference": 3e-7, "first_bytes": 9 << 20, "step_bytes": 7 << 20, **more}


def synthetic(folder: Path, quick: bool = False) -> list[str]:
    """Documents of a processor's suite; the names of its parts."""
    absent = {"status": "skipped", "reason": "absent not installed"}
    rows = {FLOOR: row(1e-3), TRAIN_STEP: row(1.1e-3), "Slow": row(4e-2), "Absent": absent}
    one = {"title": "A net", "precision": "float32", "flops": 8e6, "bytes": 5e6, "rows": rows}
    one["status"] = "done"
    begun = {"median": 1.0, "minimum": 0.9, "fresh": 2.5}
    starts = {TRAIN_STEP: {"first_step": begun, "epoch": begun, "new_sizes": 0.05}}
    sizes = {"numpy": {"own": 5e7, "closure": 5e7, "beyond_numpy": 0}}
    imported = {"numpy": {"median": 0.1, "minimum": 0.09}, "torch": {"reason": "not here"}}
    stages = {TRAIN_STEP: {"tracing": 0.02, "LLVM: compiling": 0.1}, "without": {"tracing": 0.03}}
    call = {"how": "on the host", "median": 1e-4, "minimum": 9e-5, "rounds": 9}
    contents: dict[str, Any] = {
        "steps": {"comparisons": {"a": one, "b": one, "c": one}},
        "cold": {"imports": imported, "sizes": sizes, "stages": stages, "starts": starts},
        "kernels": {
            "backends": ["numpy", "cupy"],
            "rows": {"matmul": {"numpy": call, "cupy": {"failed": "cut off"}}},
        },
    }
    for name, content in contents.items():
        document = Document(folder / f"{name}.json", contents)
        document.content = {"machine": {"processor": "P"}, "run": {"quick": quick}, name: content}
        document.save()
    return [*contents]


def test_report_and_picture_are_made_from_the_documents(tmp_path: Path) -> None:
    order = synthetic(tmp_path)
    text = write_report(tmp_path, order, {}).read_text()
    assert (
        "| ldl.TrainStep | 1.1 ms | 990 µs | 2.2 ms | 990 µs | 3 x 20 | 1.10 | 1.10 | 1.00 "
        "| 3e-07 | 9.0 | 7.0 |"
    ) in text
    assert "Absent: skipped, absent not installed." in text
    assert "| matmul | 100 µs | 90 µs | cut off |" in text
    assert "| ldl.TrainStep | 1 s | 900 ms | 2.5 s | 1 s | 900 ms | 2.5 s | 50 ms |" in text
    assert "| tracing | 20 ms | 30 ms |" in text
    assert "| LLVM: compiling | 100 ms |  |" in text
    assert "| torch | not here | not here |" in text
    assert "mean nothing" not in text
    picture = write_picture(tmp_path, order)
    assert picture is not None
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_quick_run_says_that_its_figures_mean_nothing(tmp_path: Path) -> None:
    order = synthetic(tmp_path, quick=True)
    assert "mean nothing" in write_report(tmp_path, order, {}).read_text()


def test_every_part_of_both_suites_has_a_section() -> None:
    from benchmarks import __main__ as cpu
    from benchmarks.gpu import __main__ as gpu

    assert set(report.SECTIONS) == {*cpu.PARTS, *gpu.PARTS}


def test_no_module_imports_what_imports_it() -> None:
    folder, known = ROOT / "benchmarks", {}
    for path in folder.rglob("*.py"):
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("benchmarks"):
                base = str(node.module)
                found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        known[name.removesuffix(".__init__")] = found
    inner = {name: (found & known.keys()) - {"benchmarks"} for name, found in known.items()}
    assert sum(map(len, inner.values())) > 50
    TopologicalSorter(inner).prepare()
