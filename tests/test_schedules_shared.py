"""A schedule belongs to one optimizer: given to another one it begins clean there."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import numpy as np
import pytest

import ldl
from ldl import nn, optim

rng = np.random.default_rng(0)
X = rng.random((20, 3)).astype("float32")
Y = rng.random((20, 2)).astype("float32")


def network() -> nn.Module:
    ldl.manual_seed(1)
    return nn.Linear(3, 2)


def plateau() -> optim.ReduceLROnPlateau:
    return optim.ReduceLROnPlateau(0.5, patience=0, threshold=0.9)


class Halving(optim.Schedule):
    """One of a user's own that wraps others, in a list."""

    def __init__(self, *inner: optim.Schedule) -> None:
        self.inner = list(inner)
        self.reports = 0

    def __call__(self, step: int) -> float:
        factor = 0.9**self.reports
        for schedule in self.inner:
            factor *= schedule(step)
        return factor

    def report(self, value: float) -> None:
        self.reports += 1
        for schedule in self.inner:
            schedule.report(value)

    def state_dict(self) -> dict[str, Any]:
        return {"reports": self.reports, "inner": [s.state_dict() for s in self.inner]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reports = state["reports"]
        for schedule, inner in zip(self.inner, state["inner"], strict=True):
            schedule.load_state_dict(inner)


SHARED: dict[str, Any] = {
    "plateau": plateau,
    "behind a warm-up": lambda: optim.WarmupLR(2, plateau()),
    "behind two": lambda: optim.WarmupLR(1, optim.WarmupLR(1, plateau())),
    "of one's own": lambda: Halving(plateau(), optim.StepLR(3)),
}


def rates(model: nn.Module, optimizer: optim.Optimizer, epochs: int = 5) -> list[float]:
    return ldl.fit(model, (X, Y), nn.MSELoss(), optimizer, epochs, batch_size=20)["lr"]


@pytest.mark.parametrize("kind", SHARED)
def test_one_schedule_over_three_folds_begins_anew_in_each(kind: str) -> None:
    schedule = SHARED[kind]()
    folds = []
    for _ in range(3):
        model = network()
        folds.append(rates(model, optim.SGD(model, 0.1, schedule=schedule)))
    assert len(set(folds[0])) > 1
    assert folds[0] == folds[1] == folds[2]


def test_a_warm_up_of_every_fold_around_one_plateau_begins_anew_too() -> None:
    inner = plateau()
    folds = []
    for _ in range(3):
        model = network()
        schedule = optim.WarmupLR(2, inner)
        folds.append(rates(model, optim.SGD(model, 0.1, schedule=schedule)))
    assert folds[0] == folds[1] == folds[2]


@pytest.mark.parametrize("kind", SHARED)
def test_optimizers_made_beforehand_do_not_disturb_each_other(kind: str) -> None:
    schedule = SHARED[kind]()
    models = [network() for _ in range(3)]
    optimizers = [optim.SGD(model, 0.1, schedule=schedule) for model in models]
    pairs = list(zip(models, optimizers, strict=True))
    gc.collect()
    first = [rates(model, optimizer, 3) for model, optimizer in pairs]
    second = [rates(model, optimizer, 3) for model, optimizer in reversed(pairs)]
    alone = network()
    own = optim.SGD(alone, 0.1, schedule=SHARED[kind]())
    assert first == [rates(alone, own, 3)] * 3
    assert second == [rates(alone, own, 3)] * 3


def test_what_is_reported_to_it_reaches_the_optimizer_that_it_was_given_to_last() -> None:
    schedule = plateau()
    first = optim.SGD(network(), 1.0, schedule=schedule)
    assert first.schedule is schedule
    for _ in range(3):
        schedule.report(1.0)
    assert first.lr == 0.25
    second = optim.SGD(network(), 1.0, schedule=schedule)
    assert (first.lr, second.lr) == (0.25, 1.0)
    schedule.report(1.0)
    schedule.report(1.0)
    assert (first.lr, second.lr) == (0.25, 0.5)


def test_a_state_that_it_had_before_its_first_optimizer_is_where_it_begins() -> None:
    schedule = plateau()
    schedule.load_state_dict({"current": 0.5, "best": 1.0, "bad_epochs": 0})
    for _ in range(2):
        assert optim.SGD(network(), 1.0, schedule=schedule).lr == 0.5
        schedule.report(1.0)


def test_a_further_fit_with_the_same_optimizer_goes_on() -> None:
    a, b = network(), network()
    whole = rates(a, optim.SGD(a, 0.1, schedule=plateau()), 6)
    optimizer = optim.SGD(b, 0.1, schedule=plateau())
    assert rates(b, optimizer, 2) + rates(b, optimizer, 4) == whole


def test_a_schedule_set_later_is_taken_over_likewise() -> None:
    schedule = plateau()
    first, second = optim.SGD(network(), 1.0, schedule=schedule), optim.SGD(network(), 1.0)
    schedule.report(1.0)
    schedule.report(1.0)
    second.schedule = schedule
    assert (first.lr, second.lr) == (0.5, 1.0)
    second.schedule = lambda step: 0.25
    assert second.lr == 0.25
    first.schedule = optim.WarmupLR(1, first.schedule)
    assert first.schedule(1) == 0.5
    with pytest.raises(TypeError, match="CosineLR"):
        first.schedule = "cosine"
    assert first.schedule(1) == 0.5


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copied_optimizer_has_the_state_and_shares_nothing(copied: Any) -> None:
    optimizer = optim.SGD(network(), 1.0, schedule=plateau())
    for _ in range(2):
        optimizer.schedule.report(1.0)
    twin = copied(optimizer)
    assert twin.lr == 0.5
    third = optim.SGD(network(), 1.0, schedule=twin.schedule)
    assert (optimizer.lr, twin.lr, third.lr) == (0.5, 0.5, 1.0)
    third.schedule.report(1.0)
    third.schedule.report(1.0)
    twin.schedule.report(1.0)
    assert (optimizer.lr, twin.lr, third.lr) == (0.5, 0.25, 0.5)


def test_a_function_is_never_copied() -> None:
    class Rate:
        def __init__(self) -> None:
            self.value = 1.0

        def at(self, step: int) -> float:
            return self.value

        def __deepcopy__(self, memo: Any) -> Any:
            raise AssertionError

    rate = Rate()
    schedule = optim.WarmupLR(1, optim.LambdaLR(rate.at))
    optimizers = [optim.SGD(network(), 1.0, schedule=schedule) for _ in range(2)]
    rate.value = 0.125
    assert [optimizer.schedule(1) for optimizer in optimizers] == [0.125, 0.125]


def test_an_optimizer_that_is_refused_leaves_the_schedule_alone() -> None:
    schedule = plateau()
    optimizer = optim.SGD(network(), 1.0, schedule=schedule)
    for _ in range(2):
        schedule.report(1.0)
    with pytest.raises(ValueError, match="lr"):
        optim.SGD(network(), -1.0, schedule=schedule)
    assert optimizer.schedule is schedule
    assert optimizer.lr == 0.5


def test_a_state_that_a_schedule_refuses_half_way_leaves_it_as_it_was() -> None:
    schedule = Halving(plateau(), plateau())
    optimizer = optim.SGD(network(), 1.0, schedule=schedule)
    schedule.report(1.0)
    before = optimizer.state_dict()
    state = copy.deepcopy(before)
    state["schedule"]["reports"] = 9
    state["schedule"]["inner"][0]["current"] = 0.25
    state["schedule"]["inner"][1]["current"] = np.nan
    with pytest.raises(ValueError, match="its schedule, Halving"):
        optimizer.load_state_dict(state)
    np.testing.assert_equal(optimizer.state_dict(), before)
