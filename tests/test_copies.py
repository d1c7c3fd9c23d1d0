"""Copies and pickles of what trains go on by themselves, where the original stood."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import ldl
from ldl import nn, optim

rng = np.random.default_rng(0)
X = rng.random((20, 6)).astype("float32")
WAYS: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
}


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def copied(request: Any) -> Any:
    return request.param


def build() -> tuple[nn.Module, optim.Optimizer]:
    ldl.manual_seed(2)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 6))
    return model, optim.Adam(model, 0.01, clip_norm=1.0)


def weights(model: nn.Module) -> Any:
    return np.concatenate([p.data.ravel() for p in model.parameters()])


@pytest.mark.parametrize("before", [0, 3])
def test_a_model_and_its_optimizer_train_on_as_the_original_does(copied: Any, before: int) -> None:
    model, optimizer = build()
    step = ldl.TrainStep(model, nn.MSELoss(), optimizer)
    for _ in range(before):
        step(X, X)
    twin, its = copied((model, optimizer))
    then = weights(twin).copy()
    other = ldl.TrainStep(twin, nn.MSELoss(), its)
    for _ in range(3):
        assert step(X, X) == other(X, X)
    np.testing.assert_array_equal(weights(twin), weights(model))
    assert (weights(twin) != then).mean() > 0.9


@pytest.mark.parametrize("before", [0, 3])
def test_a_step_trains_its_own_model(copied: Any, before: int) -> None:
    model, optimizer = build()
    step = ldl.TrainStep(model, nn.MSELoss(), optimizer, keep_output=True)
    for _ in range(before):
        step(X, X)
    twin = copied(step)
    kept = weights(step.model).copy()
    losses = [float(twin(X, X)) for _ in range(3)]
    np.testing.assert_array_equal(weights(step.model), kept)
    assert losses == [float(step(X, X)) for _ in range(3)]
    assert losses[2] < losses[0]


def test_a_predictor_predicts(copied: Any) -> None:
    predictor = ldl.Predictor(build()[0])
    expected = predictor(X)
    np.testing.assert_array_equal(copied(predictor)(X), expected)
