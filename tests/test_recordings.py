"""What a recording must notice: layouts, nested attributes, dice, other models, a damaged cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from ldl import data, nn, optim, random

rng = np.random.default_rng(0)
X = rng.random((9, 4)).astype("float32")


def steps(model: nn.Module, **options: Any) -> list[ldl.TrainStep]:
    """A recorded step and one by the layers' own code, on copies of a model that learns nothing."""
    import copy

    made = []
    for record in (True, False):
        own = copy.deepcopy(model)
        optimizer = optim.SGD(own.parameters(), lr=0.0)
        if "noise" in options:
            options["stream"] = random.Stream(3, random.NOISE)
        made.append(ldl.TrainStep(own, nn.MSELoss(), optimizer, record=record, **options))
    return made


def assert_same(played: ldl.TrainStep, own: ldl.TrainStep) -> None:
    np.testing.assert_allclose(played(X, X), own(X, X), rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 5, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_in_fortran_order_are_multiplied_as_they_lie(rows: int, dtype: str) -> None:
    model = nn.Sequential(nn.Linear(4, 2)).to(dtype=dtype)
    model[0].weight.data = rng.random((2, 4)).astype(dtype).T
    x = rng.random((rows, 4)).astype(dtype)
    predictor = ldl.Predictor(model)
    for given in (x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]):
        np.testing.assert_allclose(predictor(given), x @ model[0].weight.data, rtol=1e-5)


class Mixes(nn.Module):
    """y = s xA, with a constant A in some layout."""

    def __init__(self, a: Any) -> None:
        self.a = a
        self.s = nn.Parameter(np.ones(1, "float32"))

    def forward(self, x: Any) -> Any:
        y = x @ self.a
        self.keep(y)
        return y * self.s.data

    def backward(self, grad: Any) -> Any:
        self.s.accumulate((grad * self.take()).sum().reshape(1))
        return (grad * self.s.data) @ self.a.T


A = rng.random((8, 8)).astype("float32")
LAYOUTS = {
    "Fortran": np.asfortranarray(A[:4, :4]),
    "strided": A[::2, ::2],
    "reversed": A[3::-1, :4],
}


@pytest.mark.parametrize("a", LAYOUTS.values(), ids=list(LAYOUTS))
def test_constants_in_any_layout_are_multiplied_as_they_lie(a: Any) -> None:
    played, own = steps(nn.Sequential(Mixes(a), nn.Linear(4, 4)))
    for _ in range(3):
        assert_same(played, own)


def test_a_noise_that_becomes_stronger_is_seen() -> None:
    noise = data.MaskingNoise(0.3)
    played, own = steps(nn.Linear(4, 4), noise=noise)
    for strength in (0.3, 0.3, 0.9, 0.1):
        noise.strength = strength
        assert_same(played, own)


class Config:
    scale = 1.0


class Nested(nn.Identity):
    """Multiplies by a number in a list, one in a dict and one of an object."""

    def __init__(self) -> None:
        self.factors = [1.0]
        self.named = {"a": 1.0}
        self.config = Config()

    def factor(self) -> float:
        return self.factors[0] * self.named["a"] * self.config.scale

    def forward(self, x: Any) -> Any:
        return super().forward(x) * self.factor()

    def backward(self, grad: Any) -> Any:
        return super().backward(grad) * self.factor()


@pytest.mark.parametrize("where", ["list", "dict", "object"])
def test_changes_inside_lists_dicts_and_objects_are_seen(where: str) -> None:
    played, own = steps(nn.Sequential(nn.Linear(4, 4), Nested()))
    predictor = ldl.Predictor(played.model)
    for factor in (1.0, 3.0, 0.5):
        for step in (played, own):
            layer: Any = step.model[1]  # type: ignore[index]
            if where == "list":
                layer.factors[0] = factor
            elif where == "dict":
                layer.named["a"] = factor
            else:
                layer.config.scale = factor
        assert_same(played, own)
        np.testing.assert_allclose(predictor(X), played.model.predict(X), rtol=1e-5)


class Dice(nn.Identity):
    """Adds numbers of a generator of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(1)

    def forward(self, x: Any) -> Any:
        return super().forward(x) + self.rng.normal(size=x.shape).astype("float32")


def test_a_layer_that_rolls_its_own_dice_is_found_out() -> None:
    played, own = steps(nn.Sequential(nn.Linear(4, 4), Dice()))
    with pytest.warns(UserWarning, match="random state"):
        assert_same(played, own)
    for _ in range(2):
        assert_same(played, own)


@pytest.mark.parametrize("make", [optim.SGD, optim.RMSprop])
def test_momentum_that_comes_later_is_obeyed(make: Any) -> None:
    moved = []
    for first in (0.0, 0.9):
        p = nn.Parameter(np.zeros(3, "float32"))
        optimizer = make([p], lr=0.1, momentum=first)
        optimizer.param_groups[0]["momentum"] = 0.9
        for _ in range(4):
            p.zero_grad()
            p.accumulate(np.ones(3, "float32"))
            optimizer.step()
        moved.append(p.data.copy())
    np.testing.assert_array_equal(*moved)


def test_a_predictor_or_step_with_another_model_uses_that_one() -> None:
    one, other = nn.Linear(4, 4), nn.Linear(4, 4)
    predictor = ldl.Predictor(one)
    predictor(X)
    predictor.model = other
    np.testing.assert_allclose(predictor(X), other.predict(X), rtol=1e-6)
    step = ldl.TrainStep(one, nn.MSELoss(), optim.SGD(one, lr=0.0))
    step(X, X)
    step.loss = nn.L1Loss(reduction="sum")
    expected = np.abs(one.predict(X) - X).sum()
    np.testing.assert_allclose(step(X, X), expected, rtol=1e-5)


def test_a_step_keeps_the_latest_shapes(monkeypatch: Any) -> None:
    monkeypatch.setattr(ldl.caches, "STEPS", 64 * (ldl.caches.OBJECTS + 2**12))
    model = nn.Linear(4, 4)
    step = ldl.TrainStep(model, nn.MSELoss(), optim.SGD(model, 0.0))
    losses = {}
    for rows in [*range(1, 71), 1, 2]:
        x = np.ones((rows, 4), "float32")
        assert step(x, x) == losses.setdefault(rows, step(x, x))
    assert 60 < len(step._recordings) < 68
    assert step._recordings.bytes <= ldl.caches.STEPS


def test_another_batch_size_needs_no_other_loops() -> None:
    engine = pytest.importorskip("ldl_numpy.engine")
    generator = np.random.default_rng(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3))
    step = ldl.TrainStep(model, nn.MSELoss(), optim.Adam(model))
    compiled = []
    for rows in (11, 17, 33, 64, 100):
        x = generator.random((rows, 6), "float32")
        step(x, x[:, :3])
        compiled.append(len(engine._addresses))
    assert len(set(compiled)) == 1, compiled


def test_a_step_refuses_what_fit_refuses() -> None:
    model, loss = nn.Linear(6, 6), nn.MSELoss()
    bad: list[tuple[Any, Any, Any, type[Exception], str]] = [
        (model, loss, optim.SGD(nn.Linear(6, 6)), ValueError, "none of the model's parameters"),
        (model, nn.MSELoss("none"), optim.SGD(model), ValueError, "a loss that is one number"),
        (model, nn.MSELoss, optim.SGD(model), TypeError, r"write MSELoss\(\.\.\.\)"),
        (nn.Linear, loss, optim.SGD(model), TypeError, r"write Linear\(\.\.\.\)"),
        (model, loss, optim.SGD, TypeError, "an optimizer such as"),
    ]
    for *parts, kind, message in bad:
        with pytest.raises(kind, match=message) as error:
            ldl.TrainStep(*parts)
        assert "\n" not in str(error.value)


def test_a_model_that_is_frozen_as_a_whole_is_not_fitted() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)).requires_grad_(False)
    with pytest.raises(ValueError, match=r"every parameter is frozen.*requires_grad_\(\)"):
        ldl.fit(model, X, nn.MSELoss(), optim.SGD(model, 0.1), 1)
