"""A number may be Python's, NumPy's or an array without axes, wherever a number is taken."""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn, optim
from ldl.calls import call
from ldl.data import GaussianNoise, MaskingNoise
from ldl.numbers import (
    integer,
    non_negative_integer,
    number,
    numbers,
    positive_integer,
    pythonic,
    real,
)


class Tensor:
    """Has what a PyTorch tensor without axes has."""

    shape = ()
    dtype = "torch.float32"

    def __init__(self, value: Any) -> None:
        self.value = value

    def tolist(self) -> Any:
        return self.value

    def __repr__(self) -> str:
        return f"Tensor({self.value!r})"


THREE = [3, np.int64(3), np.uint8(3), np.array(3), np.array(3, ">i2"), jnp.array(3), Tensor(3)]
HALF = [
    *(0.5, Fraction(1, 2), np.float16(0.5), np.float32(0.5), np.float64(0.5), np.longdouble(0.5)),
    *(np.array(0.5), np.array(0.5, ">f4"), jnp.array(0.5), Tensor(0.5)),
]
NONE = [
    *(True, np.True_, np.array(True), "3", b"3", None, 1j, np.complex64(3), [3], (3,)),
    *(np.array([3]), np.array([0.5]), np.ma.masked, np.ma.array(3.0, mask=True), ...),
    *(Tensor(True), np.str_("3"), np.datetime64(3, "D")),
]


@pytest.mark.parametrize("value", THREE, ids=repr)
def test_an_integer_of_any_kind_is_pythons(value: Any) -> None:
    for take in (integer, positive_integer, non_negative_integer):
        assert type(take("n", value)) is int
        assert take("n", value) == 3
    assert type(number("n", value)) is float


@pytest.mark.parametrize("value", HALF, ids=repr)
def test_a_number_of_any_kind_is_pythons(value: Any) -> None:
    for take in (real, number):
        assert type(take("n", value)) is float
        assert take("n", value) == 0.5
    with pytest.raises(ValueError, match="n must be a positive integer") as error:
        positive_integer("n", value)
    one_line(error)


@pytest.mark.parametrize("value", NONE, ids=repr)
def test_what_only_resembles_a_number_is_refused(value: Any) -> None:
    for take in (integer, positive_integer, non_negative_integer, real, number):
        with pytest.raises(ValueError, match="n must be") as error:
            take("n", value)
        assert "got" in one_line(error)


def test_the_range_of_a_number_is_what_is_taken() -> None:
    assert number("n", 1, high=1.0, closed_high=True) == 1
    assert number("n", -2.5, low=-np.inf) == -2.5
    for options, said in (
        ({"high": 1.0}, "finite and >= 0 and < 1"),
        ({"open_low": True, "high": 1.0, "closed_high": True}, "finite and > 0 and <= 1"),
    ):
        with pytest.raises(ValueError, match=f"n must be {said}, got 2"):
            number("n", 2, **options)
    with pytest.raises(ValueError, match="n must be finite, got inf"):
        number("n", np.inf, low=-np.inf)
    for low in (-1, np.int64(-1)):
        with pytest.raises(ValueError, match="not negative"):
            non_negative_integer("n", low)


def test_lists_of_numbers_may_be_arrays() -> None:
    for values in ([1, 0.5], (np.int64(1), 0.5), np.array([1, 0.5]), jnp.array([1, 0.5])):
        found = numbers("n", values)
        assert found == [1, 0.5]
        assert {type(x) for x in found} == {float}
    for wrong in (
        3,
        "12",
        {1: 2},
        {1, 2},
        np.array(3),
        [[1]],
        ["1"],
        np.ma.array([1.0], mask=[True]),
    ):
        with pytest.raises(ValueError, match="n must be") as error:
            numbers("n", wrong)
        one_line(error)


def test_arrays_and_scalars_become_what_json_knows() -> None:
    given = {"a": np.float32(0.5), "b": [np.int64(3), (np.True_,)], "c": np.eye(2), "d": "text"}
    found = pythonic(given)
    assert found == {"a": 0.5, "b": [3, (True,)], "c": [[1, 0], [0, 1]], "d": "text"}
    json.dumps(found)


# ---- where numbers are taken ---------------------------------------------------------------------


def params() -> Any:
    return nn.Linear(3, 2).parameters()


FRACTIONS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], float]]] = {
    "Dropout": (nn.Dropout, lambda a: a.p),
    "LeakyReLU": (nn.LeakyReLU, lambda a: a.negative_slope),
    "ELU": (nn.ELU, lambda a: a.alpha),
    "Softplus": (nn.Softplus, lambda a: a.beta),
    "HuberLoss": (nn.HuberLoss, lambda a: a.delta),
    "smoothing": (lambda n: nn.CrossEntropyLoss(label_smoothing=n), lambda a: a.label_smoothing),
    "weight": (lambda n: nn.CrossEntropyLoss(weight=[n]), lambda a: a.weight[0]),
    "GaussianNoise": (GaussianNoise, lambda a: a.strength),
    "MaskingNoise": (MaskingNoise, lambda a: a.strength),
    "lr": (lambda n: optim.SGD(params(), lr=n), lambda a: a.lr),
    "momentum": (
        lambda n: optim.SGD(params(), momentum=n),
        lambda a: a.param_groups[0]["momentum"],
    ),
    "betas": (
        lambda n: optim.Adam(params(), betas=(n, n)),
        lambda a: a.param_groups[0]["betas"][1],
    ),
    "eps": (lambda n: optim.AdamW(params(), eps=n), lambda a: a.param_groups[0]["eps"]),
    "alpha": (lambda n: optim.RMSprop(params(), alpha=n), lambda a: a.param_groups[0]["alpha"]),
    "clip_norm": (lambda n: optim.SGD(params(), clip_norm=n), lambda a: a.clip_norm),
}
INTEGERS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], int]]] = {
    "Linear": (lambda n: nn.Linear(n, 2), lambda a: a.in_features),
    "Softmax": (lambda n: nn.Softmax(axis=n), lambda a: a.axis),
    "ignore_index": (lambda n: nn.CrossEntropyLoss(ignore_index=n), lambda a: a.ignore_index),
    "Stream": (lambda n: ldl.random.Stream(n, 0), lambda a: a.seed),
    "CosineLR": (optim.CosineLR, lambda a: a.total_steps),
    "StepLR": (optim.StepLR, lambda a: a.step_size),
    "WarmupLR": (optim.WarmupLR, lambda a: a.warmup_steps),
    "OneCycleLR": (optim.OneCycleLR, lambda a: a.total_steps),
}
WRONG = ["0.5", None, [0.5], np.array([0.5]), 0.5j, np.ma.masked, True]


@pytest.mark.parametrize(("build", "read"), FRACTIONS.values(), ids=FRACTIONS)
def test_options_are_numbers_of_any_kind(build: Any, read: Any) -> None:
    for value in HALF:
        found = read(build(value))
        assert type(found) is float
        assert found == 0.5
    if build is nn.Dropout:
        assert call(nn.Dropout, (np.float32(0.5),), {}) == call(nn.Dropout, (0.5,), {})
    for value in [WRONG[0], *WRONG[2:]]:
        with pytest.raises(ValueError, match="must be") as error:
            build(value)
        one_line(error)


@pytest.mark.parametrize(("build", "read"), INTEGERS.values(), ids=INTEGERS)
def test_sizes_are_integers_of_any_kind(build: Any, read: Any) -> None:
    for value in THREE:
        found = read(build(value))
        assert type(found) is int
        assert found == 3
    for value in WRONG:
        with pytest.raises(ValueError, match="must be") as error:
            build(value)
        one_line(error)


@pytest.mark.parametrize("array", [np.array, jnp.array])
def test_arrays_are_lists_of_options(array: Any) -> None:
    loss = nn.CrossEntropyLoss(weight=array([0.5, 2.0]))
    assert loss.weight == [0.5, 2.0]
    assert optim.Adam(params(), betas=array([0.5, 0.75])).param_groups[0]["betas"] == [0.5, 0.75]


def test_a_seed_and_the_counts_of_fit_may_be_numpys() -> None:
    x = np.linspace(0, 1, 12, dtype="float32").reshape(6, 2)
    results = []
    for kind in (int, np.int64, np.array):
        ldl.manual_seed(kind(3))
        model = nn.Sequential(nn.Linear(kind(2), kind(2)), nn.Dropout(0.5))
        history = ldl.fit(
            model,
            x,
            nn.MSELoss(),
            optim.SGD(model),
            kind(2),
            batch_size=kind(4),
            seed=kind(5),
        )
        scored = ldl.evaluate(model, x, nn.MSELoss(), batch_size=kind(4), seed=kind(1))
        results.append((history.rows[-1]["loss"], scored["loss"]))
    assert len(set(results)) == 1


@pytest.mark.parametrize(
    "kind",
    [
        *(optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop),
        *(optim.Adagrad, optim.NAdam, optim.RAdam, optim.Lion),
    ],
)
def test_options_changed_to_numpys_between_steps_are_pythons(kind: Any) -> None:
    states = []
    for convert in (lambda v: v, np.float64, np.array, jnp.array):
        ldl.manual_seed(1)
        layer = nn.Linear(2, 2)
        optimizer = kind(layer)
        group = optimizer.param_groups[0]
        for rate in (0.5, 0.25):
            group["lr"], group["weight_decay"] = convert(rate), convert(0.125)
            if "betas" in group:
                group["betas"] = convert([0.5, 0.75])
            layer.backward(layer(np.ones((3, 2), "float32")))
            optimizer.step()
        state = optimizer.state_dict()
        json.dumps([state["param_groups"], optimizer.settings()])
        states.append((layer.state_dict()["weight"].tolist(), state["param_groups"]))
    assert all(state == states[0] for state in states)


def test_a_run_is_resumed_whose_layers_are_numbered_by_numpy(tmp_path: Any) -> None:
    x = np.linspace(0, 1, 12, dtype="float32").reshape(6, 2)
    path = tmp_path / "run.ckpt"

    def run(epochs: int, kind: Any) -> float:
        ldl.manual_seed(0)
        model = nn.Sequential(nn.Linear(kind(2), kind(2)), nn.LeakyReLU(kind(1)))
        optimizer = optim.SGD(model, lr=kind(1))
        optimizer.param_groups[0]["lr"] = kind(1) / 4
        options: dict[str, Any] = {"checkpoint": path, "resume": True}
        return ldl.fit(model, x, nn.MSELoss(), optimizer, epochs, **options).rows[-1]["loss"]

    run(1, int)
    later = run(2, np.int64)
    path.unlink()
    assert later == run(2, int)
