"""Kernels are compiled when a step is recorded, and what cannot be compiled is done without."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import cuda_host
import ldl
from catalog_optimizers import OPTIMIZERS
from cuda_device import CudaOnHost
from ldl import nn, optim
from ldl.compiler.recorded import Unplayed
from test_cuda_steps import assert_follows, assert_graph, pair, sgd

pytestmark = pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)

X = np.random.default_rng(0).random((9, 6)).astype("float32")


@pytest.fixture
def host() -> Any:
    """The host as a device, which is the default backend."""
    with ldl.use_backend(CudaOnHost()) as backend:
        yield backend


def with_tanh() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))


def test_a_step_is_compiled_when_it_is_recorded_and_launched_later(host: Any) -> None:
    played, _ = pair(with_tanh, nn.MSELoss, sgd, host)
    played._recording(host.asarray(X), host.asarray(X[:, :3]))
    log = host.connection.log
    assert log.count("module") == 1
    assert not any(name.startswith("loop_") for name in log)
    log.clear()
    played(host.asarray(X), host.asarray(X[:, :3]))
    assert log.count("module") == 1, "the update's"


def test_a_step_that_does_not_compile_runs_layer_by_layer_and_says_so_once(host: Any) -> None:
    played, own = pair(with_tanh, nn.MSELoss, optim.Adam, host)
    host.connection.refuses = "tanh("
    with pytest.warns(UserWarning, match=r"layer by layer, .*error: no tanh\($") as notices:
        assert_follows(played, own, X, X[:, :3])
    assert len(notices) == 1
    for _ in range(3):
        assert_follows(played, own, X, X[:, :3])
    (recording,) = played._recordings.values()
    assert isinstance(recording, Unplayed)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=list(OPTIMIZERS))
def test_an_update_that_does_not_compile_runs_as_array_code_in_the_steps_graph(
    make: Any, host: Any
) -> None:
    played, own = pair(with_tanh, nn.MSELoss, make, host)
    x, t = host.asarray(X), host.asarray(X[:, :3])
    played._recording(x, t)
    host.connection.refuses = "loop_"
    with pytest.warns(UserWarning, match="_step runs as array code, .*error: no loop_") as all_:
        assert_follows(played, own, X, X[:, :3])
    assert len(all_) == 1
    for rate in (0.01, 0.02, 0.005):
        for step in (played, own):
            step.optimizer.param_groups[0]["lr"] = rate
        assert_follows(played, own, X, X[:, :3])
    assert_graph(played)


def test_a_kernel_is_compiled_for_each_device_that_uses_it(host: Any) -> None:
    played, _ = pair(with_tanh, nn.MSELoss, sgd, host)
    texts: Any = played._recording(host.asarray(X), host.asarray(X[:, :3]))
    for number in (0, 1, 1):
        host.connection.number = lambda number=number: number
        host.functions.of(texts._kernels.texts)
    assert host.connection.log.count("module") == 2


def test_what_cupy_does_not_have_is_known_when_a_step_is_recorded(host: Any) -> None:
    def running(model: Any, x: Any) -> tuple[Any, ...]:
        return (model.backend.xp.cumsum(model(x), axis=1),)

    for lacks in ("", "cumsum"):
        host.connection.lacks = lacks
        recording = host.record(running, (nn.Identity(),), (host.asarray(X),))
        assert recording.played is not bool(lacks)
    assert "TypeError: no implementation found for cumsum" in recording.why


@pytest.mark.parametrize("first", [0, 1, 4])
def test_an_update_of_arrays_that_begin_anywhere_is_right(host: Any, first: int) -> None:
    values = np.linspace(1, 2, 12, dtype="float32")
    p, g = (host.asarray(x.copy())[first : first + 8] for x in (values, values * 2))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        update = host.prepare("sgd_step", (p, g, None), ("lr",), nesterov=False)
        for rate in (0.25, 0.125):
            update(rate)
    assert bool(said) is bool(p.data.ptr % 16)
    np.testing.assert_allclose(np.asarray(p), 0.25 * values[first : first + 8], rtol=1e-6)
