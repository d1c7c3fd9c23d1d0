"""Options that are changed between steps are checked as those that an optimizer is made with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from ldl import nn, optim

X = np.ones((2, 3), "float32")

WRONG: list[tuple[Any, str, Any, str]] = [
    (optim.RMSprop, "alpha", 1.5, "alpha must be finite and >= 0 and < 1, got 1.5"),
    (optim.RMSprop, "eps", -1.0, "eps must be finite and > 0"),
    (optim.Adam, "betas", [1.5, 0.9], "a beta must be finite"),
    (optim.SGD, "momentum", -2.0, "momentum must be finite"),
    (optim.SGD, "momentum", None, "momentum must be a number"),
    (optim.SGD, "lr", float("nan"), "lr must be finite"),
    (optim.SGD, "lr", True, "lr must be a number"),
    (optim.SGD, "lr", "fast", "lr must be a number"),
    (optim.SGD, "nesterov", True, "nesterov needs a momentum"),
    (optim.AdamW, "weight_decay", -1.0, "weight_decay must be finite"),
    (optim.SGD, "dampening", 1.5, "dampening must be finite and >= 0 and < 1, got 1.5"),
    (optim.Adagrad, "lr_decay", -1.0, "lr_decay must be finite"),
    (optim.NAdam, "momentum_decay", -1.0, "momentum_decay must be finite"),
    (optim.RAdam, "betas", [0.9], "betas must be two numbers"),
    (optim.Lion, "betas", [0.9, 1.0], "a beta must be finite"),
]


def made(optimizer: Any) -> ldl.TrainStep:
    ldl.manual_seed(0)
    model = nn.Linear(3, 3)
    step = ldl.TrainStep(model, nn.MSELoss(), optimizer(model, 0.1))
    step(X, X)
    return step


@pytest.mark.parametrize(("optimizer", "option", "value", "message"), WRONG)
def test_a_wrong_one_is_refused_and_nothing_has_changed(
    optimizer: Any, option: str, value: Any, message: str
) -> None:
    step, twin = made(optimizer), made(optimizer)
    (group,) = step.optimizer.param_groups
    right, group[option] = group[option], value
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            step(X, X)
    group[option] = right
    for _ in range(2):
        np.testing.assert_array_equal(step(X, X), twin(X, X))


def test_numbers_in_a_list_that_is_changed_are_seen() -> None:
    step = made(optim.Adam)
    step.optimizer.param_groups[0]["betas"][1] = 2.0
    with pytest.raises(ValueError, match="a beta must be finite"):
        step(X, X)


@pytest.mark.parametrize("option", ["clip_norm", "clip_value"])
@pytest.mark.parametrize("value", [-1.0, 0.0, True, "small"])
def test_a_wrong_limit_is_refused(option: str, value: Any) -> None:
    step = made(optim.SGD)
    setattr(step.optimizer, option, value)
    with pytest.raises(ValueError, match=f"{option} must be"):
        step(X, X)
