"""Slots that an option asks for: made when it is set, kept, saved and put back like any others."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import ldl
from ldl import nn, optim

rng = np.random.default_rng(0)
X = rng.random((20, 3)).astype("float32")
Y = rng.random((20, 2)).astype("float32")

MAKES: dict[str, Any] = {
    "SGD": lambda m: optim.SGD(m, lr=0.05),
    "RMSprop": lambda m: optim.RMSprop(m, lr=0.01),
    "groups": lambda m: optim.SGD(
        [{"params": [p], "momentum": v} for p, v in zip(m.parameters(), (0.0, 0.5), strict=True)]
    ),
}
EPOCHS: dict[str, dict[int, float]] = {"set": {2: 0.9}, "dropped": {1: 0.9, 3: 0.0}}


def network() -> nn.Module:
    ldl.manual_seed(1)
    return nn.Linear(3, 2)


def fit(model: nn.Module, optimizer: Any, epochs: int, momenta: Any, **options: Any) -> None:
    def change(run: ldl.Run) -> None:
        if run.epoch in momenta:
            run.optimizer.param_groups[0]["momentum"] = momenta[run.epoch]

    callbacks = options.pop("callbacks", [change])
    loss = nn.MSELoss()
    ldl.fit(model, (X, Y), loss, optimizer, epochs, batch_size=7, callbacks=callbacks, **options)


def weights(model: nn.Module) -> Any:
    return copy.deepcopy(model.state_dict())


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("kind", EPOCHS)
@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_a_run_in_which_a_momentum_is_changed_resumes_bit_for_bit(
    make: str, kind: str, stop: int, tmp_path: Any
) -> None:
    path = tmp_path / "run.ckpt"
    whole, part, resumed = network(), network(), network()
    a, b, c = (MAKES[make](model) for model in (whole, part, resumed))
    fit(whole, a, 6, EPOCHS[kind])
    fit(part, b, stop, EPOCHS[kind], checkpoint=path)
    fit(resumed, c, 6, EPOCHS[kind], checkpoint=path, resume=True)
    np.testing.assert_equal(weights(resumed), weights(whole))
    np.testing.assert_equal(c.state_dict(), a.state_dict())


@pytest.mark.parametrize(
    ("make", "option"),
    [(lambda m: optim.Adam(m, 0.05), "amsgrad"), (lambda m: optim.RMSprop(m, 0.01), "centered")],
    ids=["amsgrad", "centered"],
)
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_run_in_which_a_slot_is_asked_for_resumes_bit_for_bit(
    make: Any, option: str, stop: int, tmp_path: Any
) -> None:
    def change(run: ldl.Run) -> None:
        if run.epoch == 2:
            run.optimizer.param_groups[0][option] = True

    path = tmp_path / "run.ckpt"
    whole, part, resumed = network(), network(), network()
    a, b, c = (make(model) for model in (whole, part, resumed))
    fit(whole, a, 5, {}, callbacks=[change])
    fit(part, b, stop, {}, callbacks=[change], checkpoint=path)
    fit(resumed, c, 5, {}, callbacks=[change], checkpoint=path, resume=True)
    np.testing.assert_equal(weights(resumed), weights(whole))
    np.testing.assert_equal(c.state_dict(), a.state_dict())
    assert f"0.{option}" in a.state_dict()["slots"]


@pytest.mark.parametrize("make", MAKES)
def test_states_from_before_and_after_a_momentum_are_taken(make: str) -> None:
    model = network()
    optimizer = MAKES[make](model)
    fit(model, optimizer, 1, {})
    before = optimizer.state_dict()
    optimizer.param_groups[0]["momentum"] = 0.9
    asked_for = optimizer.state_dict()
    fit(model, optimizer, 1, {})
    after = optimizer.state_dict()
    fresh = MAKES[make](network())
    for state in (before, asked_for, after):
        fresh.load_state_dict(state)
        np.testing.assert_equal(fresh.state_dict()["param_groups"], state["param_groups"])
    np.testing.assert_equal(fresh.state_dict(), after)
    optimizer.load_state_dict(before)
    now = optimizer.state_dict()
    for name, slot in now["slots"].items():
        np.testing.assert_array_equal(slot, before["slots"].get(name, np.zeros_like(slot)))
    assert {**now, "slots": 0} == {**before, "slots": 0}


def test_a_momentum_that_is_asked_for_may_not_be_missing_and_nothing_has_changed() -> None:
    optimizer = optim.SGD(network(), momentum=0.9)
    state = optimizer.state_dict()
    del state["slots"]["0.momentum"]
    plain = optim.SGD(network())
    for one in (optimizer, plain):
        held = one.state_dict()
        with pytest.raises(ValueError, match=r"missing 0\.momentum"):
            one.load_state_dict(state)
        np.testing.assert_equal(one.state_dict(), held)
    state["slots"] = {"0.momentum": np.ones((2, 2)), "1.momentum": np.ones(2)}
    with pytest.raises(ValueError, match=r"0\.momentum has shape \(2, 2\), not"):
        plain.load_state_dict(state)
    assert plain.state_dict()["slots"] == {}


def test_a_momentum_of_another_type_in_a_checkpoint_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    model = network()
    fit(model, MAKES["SGD"](model), 3, EPOCHS["set"], checkpoint=path)
    tensors, header = ldl.io.read_tensors(path)
    for bad in (np.float64, np.int32):
        other = {**tensors, "optimizer.0.momentum": tensors["optimizer.0.momentum"].astype(bad)}
        ldl.io.write_tensors(path, other, header)
        model = network()
        with pytest.raises(ldl.CheckpointError, match=r"0\.momentum is (float64|int32)"):
            fit(model, MAKES["SGD"](model), 5, EPOCHS["set"], checkpoint=path, resume=True)
    other = {**tensors, "optimizer.0.momentum": tensors["optimizer.0.momentum"] * np.nan}
    ldl.io.write_tensors(path, other, header)
    with pytest.raises(ldl.CheckpointError, match=r"0\.momentum is not finite"):
        fit(model, MAKES["SGD"](model), 5, EPOCHS["set"], checkpoint=path, resume=True)


@pytest.mark.parametrize("make", MAKES)
def test_a_slot_that_came_into_being_in_an_epoch_that_diverged_is_zero_again(make: str) -> None:
    model = network()
    optimizer = MAKES[make](model)
    optimizer.param_groups[0]["momentum"] = 0.9
    bad = X.copy()
    bad[-1] = np.nan
    with np.errstate(all="ignore"), pytest.raises(ldl.DivergedError):
        ldl.fit(model, [(X, Y), (bad, Y)], nn.MSELoss(), optimizer, 1)
    momenta = [a for n, a in optimizer.state_dict()["slots"].items() if n.endswith("momentum")]
    assert momenta
    for momentum in momenta:
        np.testing.assert_array_equal(momentum, np.zeros_like(momentum))
