"""Training on several processes: the numbers of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ldl
import ranks
from ldl.distributed import World

pytest.importorskip("mpi4py", reason="the extra `test` brings mpi4py and mpiexec")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no wheel brings mpiexec there")

CLOSE = {"float64": 1e-11, "float32": 1e-4}


@pytest.fixture(scope="module", params=["float64", "float32"])
def alone(request: Any) -> Any:
    """The type, and what one process gives."""
    return request.param, ranks.training(ranks.World(), request.param)


@pytest.mark.parametrize("piece", ["65536", "8"], ids=["whole", "pieces"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_ranks_give_the_numbers_of_one_process(
    alone: Any, count: int, piece: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dtype, one = alone
    if count == 3:
        monkeypatch.setenv("LDL_JIT", "0")  # which also spares the ranks the compiling
    many = ranks.run(count, "training", tmp_path / "found.npz", dtype, piece)
    assert many.keys() == one.keys()
    for name, expected in one.items():
        error = float(np.abs(many[name] - expected).max())
        assert error <= CLOSE[dtype] * max(1.0, float(np.abs(expected).max())), name


class Mirror(World):
    """Rank 0 of two that do the same."""

    def __init__(self) -> None:
        self.size = 2
        self.sent: list[int] = []

    def gather(self, what: Any) -> list[Any]:
        return [what, what]

    def add_up(self, array: Any) -> None:
        self.sent.append(array.size)
        array *= 2

    def begin_add_up(self, array: Any) -> Any:
        return lambda: self.add_up(array)


@pytest.mark.parametrize("compiled", [True, False])
def test_the_last_layers_gradients_travel_while_backward_computes_the_rest(
    compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        monkeypatch.setattr("ldl_numpy.fuser", lambda: None)
    monkeypatch.setattr("ldl.train.ranks.PIECE", 64)
    half = ranks.X[:20].astype("float32")
    x, losses = np.concatenate([half, half]), []
    for world in (None, Mirror()):
        with ldl.random.seeded(3):
            model = ldl.nn.AutoEncoder.symmetric(12, [8, 4])
        step = ldl.TrainStep(model, ldl.nn.MSELoss(), ldl.optim.SGD(model, lr=0.1), world=world)
        losses.append([float(step(x, x)) for _ in range(4)])
        (recording,) = step.recordings().values()
        does = recording._plan.does  # type: ignore[attr-defined]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert isinstance(world, Mirror)
    assert len(set(world.sent)) > 1
    products = [i for i, name in enumerate(does) if name == "matmul"]
    sums = [i for i, name in enumerate(does) if name == "begin_sum"]
    assert len(sums) >= 2
    assert sums[0] < sums[-1] < products[-1]


def test_ranks_with_a_gpu_each_sum_in_the_graph(tmp_path: Path) -> None:
    one, many = ranks.on_device(None), ranks.run(2, "on_device", tmp_path / "found.npz")
    assert {*one.pop("captured")} == {0}
    assert min(many.pop("captured")) > 0, "sums of every graph"
    for name, expected in one.items():
        np.testing.assert_allclose(many[name], expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_ranks_that_do_not_agree_are_told_so_before_the_first_step(tmp_path: Path) -> None:
    found = ranks.run(2, "differing", tmp_path / "found.npz")
    losses, counts = found.pop("losses"), found.pop("counts")
    for name in [*ranks.OTHERS, "batches"]:
        said = str(found.pop(name))
        assert "the ranks do not agree" in said, name
        assert "on rank 0" in said, name
        assert "on rank 1" in said, name
    assert "Mixed() looks at a whole batch" in str(found.pop("mixed samples"))
    assert "statistics of a batch in eval mode" in str(found.pop("statistics in eval mode"))
    assert "is not finite at epoch" in str(found.pop("all diverge"))
    assert str(found.pop("first rank's")) == "RanksDifferError"  # what the second rank got
    assert not found
    assert set(counts.tolist()) == {2}, "both ranks raise the same"
    assert losses.tolist() == pytest.approx(ranks.simple(None)["loss"], rel=1e-5)


@pytest.mark.parametrize("when", ["step", "epoch", "own code"])
def test_a_rank_that_raises_stops_all_with_its_own_message(when: str, tmp_path: Path) -> None:
    said = ranks.failed(2, "raising", tmp_path / "found.npz", when)
    assert "rank 1 of 2 stops all: ValueError: rank 1 has had enough" in said
    assert "Traceback" in said


def test_a_rank_that_is_killed_stops_all_and_any_number_of_ranks_goes_on(tmp_path: Path) -> None:
    out, file, whole = (tmp_path / name for name in ("found.npz", "run.ldl", "whole.ldl"))
    ranks.failed(2, "checkpointed", out, str(file), "6", "killed")
    never = ranks.checkpointed(None, str(whole), "6")
    with_three = tmp_path / "three.ldl"
    with_three.write_bytes(file.read_bytes())
    resumed = [
        ranks.run(3, "checkpointed", out, str(with_three), "6"),
        ranks.checkpointed(None, str(file), "6"),
    ]
    for found in resumed:
        assert len(found["loss"]) == 6
        for name, expected in never.items():
            np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-11, err_msg=name)


def test_ranks_that_round_differently_are_brought_together(tmp_path: Path) -> None:
    found = ranks.run(2, "drifting", tmp_path / "found.npz")
    assert found["same"]
    assert "the weights of rank 1 came apart from rank 0's in epoch 1" in str(found["said"])


def test_some_of_the_processes_may_be_a_world(tmp_path: Path) -> None:
    found = ranks.run(4, "divided", tmp_path / "found.npz")
    assert found["sizes"].tolist() == [2, 2, 2, 2]
    first, second = (ranks.simple(None, lr=lr)["loss"] for lr in (1e-2, 1e-3))
    np.testing.assert_allclose(found["losses"], [first, second, first, second], rtol=1e-5)


@pytest.mark.parametrize("count", [2, 3])
def test_each_rank_may_have_a_file_of_its_own(count: int, tmp_path: Path) -> None:
    one = ranks.sharded(None, str(tmp_path))
    many = ranks.run(count, "sharded", tmp_path / "found.npz", str(tmp_path))
    assert many["loss"][-1] < 0.7 * many["loss"][0]
    assert many["score"] == pytest.approx(one["score"], rel=0.2)  # other batches, much the same
    assert many["mse"].tolist() == pytest.approx((many["loss"]).tolist(), rel=1e-5)


def test_the_command_trains_on_ranks_as_it_stands(tmp_path: Path) -> None:
    how = ["denoise", "--data", "digits", "--epochs", "2", "--hidden", "16", "--out"]
    found = []
    for count in (1, 3):
        out = tmp_path / str(count)
        command = [ranks.mpiexec(), "-n", str(count), sys.executable, "-m", "ldl.cli", *how, out]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("written into") == 1
        found.append(json.loads((out / "metrics.json").read_text()))
    assert found[1]["test_bce"] == pytest.approx(found[0]["test_bce"], rel=1e-5)


def test_without_mpiexec_the_world_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    assert (world.rank, world.size, world.local_rank) == (0, 1, 0)
    assert world.share(5) == (0, 5, 5)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    assert World().size == 1
    monkeypatch.setenv("PMI_SIZE", "2")
    with pytest.raises(ImportError, match=r"2 processes were started.*pip install 'ldl\[mpi\]'"):
        World()
    with pytest.raises(TypeError, match=r"a communicator of mpi4py, such as MPI\.COMM_WORLD"):
        World(4)
    for call in (ranks.simple, lambda world: ldl.TrainStep(*parts(), world=world)):
        with pytest.raises(TypeError, match=r"must be an ldl\.distributed\.World\(\), got 2"):
            call(2)


def parts() -> tuple[Any, Any, Any]:
    """A model, a loss and an optimizer."""
    model = ranks.denoiser()
    return model, ldl.nn.MSELoss(), ldl.optim.SGD(model, lr=0.1)


def in_a_process(code: str, **environment: str) -> str:
    """What a program prints, or the last line of its error."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_mpi_is_not_started_where_nothing_has_started_several_processes() -> None:
    code = "import sys, ldl; print(ldl.distributed.World().size, 'mpi4py' in sys.modules)"
    assert in_a_process(code) == "1 False"


def test_a_launcher_of_another_mpi_is_an_error_and_no_training_of_each_alone() -> None:
    said = in_a_process("import ldl; ldl.distributed.World()", OMPI_COMM_WORLD_SIZE="4")
    assert said.startswith("RuntimeError: 4 processes were started, but MPI")
    assert "knows of one: start them with the mpiexec" in said


def test_one_ranks_world_costs_nothing() -> None:
    model = ranks.denoiser()
    step = ldl.TrainStep(model, ldl.nn.MSELoss(), ldl.optim.SGD(model, lr=0.1), world=World())
    assert step._ranks is None  # all that a world adds to a step
