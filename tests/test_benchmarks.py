"""The benchmark suite does what it says. Nothing here depends on a time."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ldl
from benchmarks import report, results, rivals
from benchmarks.kernel_cases import (
    KERNELS,
    kernel_names,
    layer_call,
    layer_cases,
    loss_call,
    loss_cases,
)
from benchmarks.race import TOLERANCE, Rules, race
from benchmarks.rivals import gemm_floor
from benchmarks.rivals.ldl_step import Compiled, Eager, model_of
from benchmarks.rivals.numpy_by_hand import ByHand, NumpyTrains, judge
from benchmarks.side import Built, Refused, Side
from benchmarks.workloads import WORKLOADS, Workload
from catalog import LOSSES, ROWS
from ldl import nn

ROOT = Path(__file__).parent.parent
QUICK = Rules(seconds=0, rounds=(2, 2), steps=2, shortest=0, longest=0.1, pause=0)
TINY = Workload("tiny", "Tiny", (12, 6, 4, 6, 12), 8, output="sigmoid")
TINY_LABELS = Workload("labels", "Labels", (12, 9, 3), 8, loss="crossentropy")


def test_every_kernel_has_a_benchmark() -> None:
    assert kernel_names() == set(KERNELS)
    assert {"matmul", "adam_step", "uniform"} <= kernel_names()


def test_every_layer_and_loss_of_the_catalog_has_a_benchmark() -> None:
    timed = {name.partition("(")[0] for name in layer_cases(ROWS)}
    assert timed == {type(row.build()).__name__ for row in ROWS}
    assert set(loss_cases(LOSSES)) == {type(row.build()).__name__ for row in LOSSES}


def test_a_layer_with_parameters_that_has_no_size_is_an_error() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            self.s = nn.Parameter(nn.init.ones((3,)))

    with pytest.raises(KeyError, match="Scale"):
        layer_cases([replace(ROWS[0], build=Scale)])


def test_every_benchmark_of_a_kernel_layer_and_loss_runs() -> None:
    backend = ldl.get_backend("numpy")
    for make in KERNELS.values():
        make(backend)()
    for build, shape in layer_cases(ROWS).values():
        assert layer_call(build, shape, backend)().shape == shape
    for build in loss_cases(LOSSES).values():
        assert np.isfinite(loss_call(build, backend)()).all()


# ---- workloads -------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w.name)
def test_the_floor_has_three_products_a_layer_but_for_the_first_input_gradient(
    workload: Workload,
) -> None:
    pairs = sum(a * b for a, b in zip(workload.widths, workload.widths[1:], strict=False))
    forward = 2 * workload.batch * pairs
    if workload.predict:
        assert workload.flops() == forward
    else:
        first = 2 * workload.batch * workload.widths[0] * workload.widths[1]
        assert workload.flops() == 3 * forward - first


def test_the_autoencoder_has_eleven_products() -> None:
    (found,) = (w for w in WORKLOADS if w.name == "autoencoder-128")
    assert len(found.products()) == 11
    assert found.flops() == 282_066_944


@pytest.mark.parametrize("predict", [False, True])
def test_the_floor_makes_those_products_and_no_others(
    predict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = replace(TINY, predict=predict)
    made = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            assert name in ("matmul", "empty", "empty_like", "random", "float32")
            return getattr(np, name)

        def matmul(self, a: Any, b: Any, out: Any) -> Any:
            made.append((*a.shape, b.shape[1]))
            return np.matmul(a, b, out=out)

    monkeypatch.setattr(gemm_floor, "np", Counting())
    step = gemm_floor.GemmFloor(predict).build(workload, workload.weights(), workload.batches())
    step.step()
    assert sorted(made) == sorted(workload.products())


# ---- sides -----------------------------------------------------------------------------------


@pytest.mark.parametrize("workload", [TINY, TINY_LABELS, replace(TINY, output="identity")])
@pytest.mark.parametrize("side", [Eager(), Compiled(), NumpyTrains()], ids=lambda s: s.name)
def test_a_side_has_the_losses_of_the_step_written_by_hand(side: Side, workload: Workload) -> None:
    weights, batches = workload.weights(), workload.batches()
    right = judge(workload, weights, batches, 10)
    step = side.build(workload, weights, batches).step
    np.testing.assert_allclose([float(step()) for _ in right], right, rtol=1e-5)
    assert right[8] < right[0]


def test_a_side_leaves_weights_and_batches_as_they_are() -> None:
    weights, batches = TINY.weights(), TINY.batches()
    for side in (Eager(), Compiled(), NumpyTrains(), gemm_floor.GemmFloor(False)):
        side.build(TINY, weights, batches).step()
    for mine, fresh in ((weights, TINY.weights()), (batches, TINY.batches())):
        for a, b in zip(mine, fresh, strict=True):
            np.testing.assert_array_equal(a[0], b[0])
            np.testing.assert_array_equal(a[1], b[1])


def test_the_models_predict_what_the_net_written_by_hand_predicts() -> None:
    workload = replace(TINY, predict=True, batch=1)
    (x, _), *_ = workload.batches()
    model = model_of(workload, workload.weights())
    right = ByHand(workload, workload.weights()).forward(x)[-1]
    np.testing.assert_allclose(model.predict(x), right, rtol=1e-5)


def test_listing_the_sides_imports_none_of_the_rivals() -> None:
    code = (
        "import sys; from benchmarks.rivals import sides; names = [s.name for s in sides()];"
        "assert len(names) > 12, names;"
        "bad = {'torch', 'jax', 'sklearn', 'onnxruntime', 'onnx'} & set(sys.modules);"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_names_of_sides_are_distinct() -> None:
    for predicts in (False, True):
        names = [side.name for side in rivals.sides() if side.predicts == predicts]
        assert len(names) == len(set(names))


# ---- the race --------------------------------------------------------------------------------


class Wrong(NumpyTrains):
    name = "wrong"

    def build(self, workload: Any, weights: Any, batches: Any) -> Built:
        right = super().build(workload, weights, batches)
        return Built(lambda: right.step() * (1 + 2 * TOLERANCE))


class Absent(Side):
    name = "absent"
    needs = ("a_package_that_nobody_has",)


class Unwilling(Side):
    name = "unwilling"

    def build(self, workload: Any, weights: Any, batches: Any) -> Built:
        raise Refused("it has no such layer")


def test_a_race_times_who_agrees_and_names_who_does_not() -> None:
    said: list[str] = []
    entered = [gemm_floor.GemmFloor(False), Compiled(), Wrong(), Absent(), Unwilling()]
    found = race(TINY, entered, QUICK, said.append)
    rows = {row["side"]: row for row in found["sides"]}
    assert rows["ldl.TrainStep"]["status"] == "timed"
    assert rows["ldl.TrainStep"]["difference"] < 1e-5
    assert rows["ldl.TrainStep"]["minimum"] <= rows["ldl.TrainStep"]["median"]
    assert rows["ldl.TrainStep"]["over_ldl"] == rows[gemm_floor.FLOOR]["over_floor"] == 1
    assert rows["wrong"]["status"] == "wrong"
    assert "median" not in rows["wrong"]
    assert rows["absent"]["reason"] == "a_package_that_nobody_has not installed"
    assert rows["unwilling"]["reason"] == "it has no such layer"
    assert len(said) == 3


def test_without_a_judge_losses_must_fall() -> None:
    class Flat(Side):
        name = "flat"

        def build(self, workload: Any, weights: Any, batches: Any) -> Built:
            losses = cycle([2.0, 1.0])
            return Built(lambda: next(losses))

    noisy = replace(TINY_LABELS, dropout=0.1, compare=400)
    found = race(noisy, [Eager(), Flat()], QUICK, lambda text: None)
    assert [row["status"] for row in found["sides"]] == ["timed", "wrong"]


# ---- the report ------------------------------------------------------------------------------


def row(side: str, time: float) -> dict[str, Any]:
    return {
        "side": side,
        "status": "timed",
        "median": time,
        "minimum": 0.9 * time,
        "over_floor": time / 1e-3,
        "over_floor_minimum": time / 1e-3,
        "over_ldl": time / 1.1e-3,
        "difference": 3e-7,
    }


def synthetic(path: Path) -> None:
    absent = {"side": "Absent", "status": "skipped", "reason": "absent not installed"}
    sides = [row(gemm_floor.FLOOR, 1e-3), row("ldl.TrainStep", 1.1e-3), row("Slow", 4e-2), absent]
    one = {"title": "A net", "predict": False, "rounds": 3, "steps_in_block": 20, "sides": sides}
    results.add(path, "end_to_end", {"quick": False, "workloads": [one, one, one]}, 2)
    measured = {"side": "ldl.TrainStep", "status": "measured", "first_mib": 9.0, "later_mib": 7.0}
    memory = {"quick": False, "workloads": [{"title": "A net", "sides": [measured, absent]}]}
    results.add(path, "memory", memory, 2)
    epoch = {"side": "ldl.TrainStep", "status": "timed", "median": 1, "minimum": 1, "fresh": 2.5}
    size = {"name": "numpy", "status": "measured", "own": 5e7, "closure": 5e7, "beyond_numpy": 0}
    cold = {
        "imports": [{"name": "numpy", "status": "timed", "median": 0.1, "minimum": 0.09}],
        "sizes": [size],
        "data": "4,000 digits",
        "first_epoch": [epoch, absent],
    }
    results.add(path, "cold", cold, 2)
    rows = {
        "matmul": {"numpy": [1e-4, 9e-5], "cupy": [2e-5, 1e-5]},
        "take": {"numpy": [1e-5, 1e-5]},
    }
    kernels = {"backends": ["numpy", "cupy"], "parameters": 434_000, "rows": rows}
    results.add(path, "kernels", kernels, 2)


def test_table_and_picture_are_made_from_the_json(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    synthetic(path)
    assert report.main([str(path)]) == 0
    text = (tmp_path / "machine.md").read_text()
    assert "| ldl.TrainStep | 1.1 ms | 990 µs | 1.10 | 1.10 | 1.00 | 3e-07 |" in text
    assert "Absent: skipped, absent not installed." in text
    assert "| matmul | 100 µs | 90 µs | 20 µs | 10 µs |" in text
    assert "| take | 10 µs | 10 µs |  |  |" in text
    assert "mean nothing" not in text
    assert (tmp_path / "machine.png").read_bytes().startswith(b"\x89PNG")


def test_a_quick_run_says_that_its_figures_mean_nothing(tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    synthetic(path)
    results.add(path, "memory", {"quick": True, "workloads": []}, 2)
    report.main([str(path)])
    assert "mean nothing" in (tmp_path / "machine.md").read_text()


@pytest.mark.parametrize("part", ["", ".end_to_end", ".memory", ".cold", ".report"])
def test_help_teaches(part: str) -> None:
    command = [sys.executable, "-m", f"benchmarks{part}", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) > 5
