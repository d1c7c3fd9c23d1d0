"""Copies in a recorded step cost nothing where nobody can tell them from their source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cuda_host
import ldl
import ldl_numpy
from cuda_device import CudaOnHost
from ldl import nn, optim
from ldl_numpy import blocks

rng = np.random.default_rng(0)
X = rng.random((9, 6)).astype("float32")


class Gated(nn.Module):
    """y = tanh(x) · x[::-1] summed in part; it copies all that it is given, keeps and hands on."""

    def __init__(self, copies: bool) -> None:
        self.copies = copies
        self.scale = nn.Parameter(np.full(6, 0.5, "float32"))

    def own(self, x: Any) -> Any:
        return x.copy() if self.copies else x

    def forward(self, x: Any) -> Any:
        x = self.own(x)
        turned = self.own(x.reshape(9, 2, 3).swapaxes(0, 1))
        y = self.own(self.backend.xp.tanh(x))
        self.keep(self.own(x), self.own(self.own(y)), self.own(y.T), turned)
        return self.own(y * self.scale.data + turned.sum(axis=0).sum())

    def backward(self, grad: Any) -> Any:
        x, y, columns, turned = self.take()
        grad = self.own(grad)
        self.scale.accumulate(self.own((grad * y).sum(axis=0)))
        slope = self.own(1 - y * columns.T)
        return self.own(grad * self.scale.data * slope + turned.sum() * 0 * x[:, ::-1])


def recorded(copies: bool) -> tuple[list[str], list[Any]]:
    """What a step with the layer does, and what came of three of them."""
    ldl.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 6), Gated(copies), nn.Linear(6, 6), Gated(copies))
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.1))
    losses = [
        step(model.backend.asarray(x), model.backend.asarray(X)) for x in (X + 1, X * 2, X + 1)
    ]
    (recording,) = step._recordings.values()
    assert recording.played
    done: list[str] = recording._plan.does  # type: ignore[attr-defined]
    return done, [*losses, *(p.data for p in model.parameters())]


@pytest.fixture(params=["loops", "blocks", "one by one", "cuda"])
def gathering(request: Any, monkeypatch: Any) -> Any:
    """How a plan's operations are gathered."""
    if request.param == "cuda":
        with ldl.use_backend(CudaOnHost()):
            yield
        return
    if request.param != "loops":
        monkeypatch.setattr(ldl_numpy, "fuser", lambda: None)
    if request.param == "blocks":
        monkeypatch.setattr(blocks, "LEAST", 2)
    yield


@pytest.mark.skipif(cuda_host.compiler() is None, reason=cuda_host.MISSING)
def test_a_step_of_layers_that_copy_is_the_step_of_layers_that_do_not(gathering: Any) -> None:
    (does, found), (expected, right) = recorded(True), recorded(False)
    assert does == expected
    for mine, theirs in zip(found, right, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def plan(function: Any, *arrays: Any) -> tuple[list[str], list[Any]]:
    """What a recording of the function does, and its results."""
    recording = ldl.get_backend().record(function, (nn.Identity(),), arrays)
    assert recording.played
    return recording._plan.does, [*recording(*arrays)]  # type: ignore[attr-defined]


def changed_later(module: Any, x: Any) -> Any:
    y = module.backend.xp.matmul(x, x.T)
    before = y.copy()
    y += 1
    return y, before * 2


def changed_in_part(module: Any, x: Any) -> Any:
    y = module.backend.xp.matmul(x, x.T)
    before = y.copy()
    y[1:3].T[...] = 7
    return y, before * 2


def copy_changed(module: Any, x: Any) -> Any:
    y = module.backend.xp.matmul(x, x.T)
    after = y.copy()
    after[2] = 7
    return y * 2, after * 2


def copy_is_result(module: Any, x: Any) -> Any:
    y = module.backend.xp.matmul(x, x.T)
    return y, y.copy()


def copy_of_the_input(module: Any, x: Any) -> Any:
    return (x.copy(),)


def another_order(module: Any, x: Any) -> Any:
    columns = x.T.copy()
    return columns.reshape(-1) * 2, columns.reshape(27, 2) + 1


KEPT = [
    changed_later,
    changed_in_part,
    copy_changed,
    copy_is_result,
    copy_of_the_input,
    another_order,
]


@pytest.mark.parametrize("function", KEPT)
def test_a_copy_that_makes_a_difference_is_made(function: Any) -> None:
    does, found = plan(function, X)
    assert does
    for mine, theirs in zip(found, function(nn.Identity(), X), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)
        assert not np.may_share_memory(mine, X)


def test_memory_of_a_source_is_not_used_again_while_its_copies_are_read() -> None:
    def function(module: Any, x: Any) -> Any:
        y = module.backend.xp.matmul(x, x.T)
        held = y.copy()
        for _ in range(4):
            y = module.backend.xp.matmul(y, y.T) * 0.01
        return (held + y,)

    _, found = plan(function, X)
    np.testing.assert_allclose(found[0], function(nn.Identity(), X)[0], rtol=1e-5)
