"""What holds of every layer and loss: the slot between the passes, modes, gradients, copies."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

import ldl
from catalog import ABSTRACT, LOSSES, ROWS, learned, named
from checks import module_is_differentiated, one_line
from ldl import nn

LEARNING = [row for row in ROWS if any(True for _ in row.build().parameters())]
RANDOM = [row for row in ROWS if "Dropout" in row.name]
BATCHED = [row for row in ROWS if len(row.shape) > 1]


def upstream(y: Any) -> Any:
    return np.random.default_rng(4).standard_normal(np.shape(y)).astype(y.dtype)


def grads(module: Any) -> dict[str, Any]:
    return {n: None if p.grad is None else p.grad.copy() for n, p in learned(module).items()}


def kept(module: Any) -> list[Any]:
    return [m for m in module.modules() if m._kept is not None]


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in (getattr(nn, name) for name in nn.__all__)
        if isinstance(kind, type) and issubclass(kind, (nn.Module, nn.Loss))
        if kind not in ABSTRACT
    ],
)
def test_every_layer_and_loss_is_in_the_catalog(kind: type) -> None:
    # whose inputs are no floating numbers: tests/test_embedding.py, tests/test_padding.py
    tokens = {nn.Embedding, nn.Padded}
    assert kind in {type(row.build()) for row in (*ROWS, *LOSSES)} | tokens


def test_the_names_of_the_catalog_are_unique() -> None:
    names = [row.name for row in (*ROWS, *LOSSES)]
    assert len(names) == len(set(names))


# ---- the slot between the passes (case 13) ---------------------------------------------------


@pytest.mark.parametrize(**named(ROWS))
def test_backward_before_forward_is_an_error(row: Any) -> None:
    module, x = row.module(), row.input()
    with pytest.raises(RuntimeError, match="backward without a forward") as error:
        module.backward(upstream(copy.deepcopy(module)(x)))
    assert "model.train()" in one_line(error)
    assert all(g is None for g in grads(module).values())


@pytest.mark.parametrize(**named(ROWS))
def test_a_second_backward_is_an_error_and_changes_nothing(row: Any) -> None:
    module = row.module()
    g = upstream(module(row.input()))
    module.backward(g)
    assert kept(module) == []
    before = grads(module)
    with pytest.raises(RuntimeError, match="backward without a forward"):
        module.backward(g)
    np.testing.assert_equal(grads(module), before)


@pytest.mark.parametrize(**named(LOSSES))
def test_backward_of_a_loss_goes_with_one_forward(row: Any) -> None:
    loss, (x, t) = row.build(), row.batch()
    g = np.ones(np.shape(row.build()(x, t)), "float32")
    with pytest.raises(RuntimeError, match="backward without a forward"):
        loss.backward(g)
    loss(x, t)
    loss.backward(g)
    assert loss._kept is None
    with pytest.raises(RuntimeError, match="backward without a forward") as error:
        loss.backward(g)
    one_line(error)


# ---- a layer in eval mode inside a model that trains ----------------------------------------


def test_a_layer_that_is_called_alone_in_eval_mode_has_nothing_left_of_the_pass_before() -> None:
    model = nn.Sequential(nn.Tanh(), nn.Linear(2, 1))
    model[0].eval()
    model(np.ones((3, 2), "f"))
    assert model[0]._kept is not None
    model[0](np.zeros((3, 2), "f"))
    with pytest.raises(RuntimeError, match="eval mode"):
        model[0].backward(np.ones((3, 2), "f"))


def test_predicting_between_the_two_passes_takes_nothing_away() -> None:
    model = nn.Sequential(nn.Tanh(), nn.Linear(2, 1))
    for frozen in (False, True):
        model.train()
        model[0].train(not frozen)
        model(np.ones((3, 2), "f"))
        model.predict(np.zeros((3, 2), "f"))
        assert model.backward(np.ones((3, 1), "f")).shape == (3, 2)


# ---- eval mode -------------------------------------------------------------------------------


@pytest.mark.parametrize(**named(ROWS))
def test_eval_mode_stores_nothing(row: Any) -> None:
    module, x = row.module(), row.input()
    module(x)
    module.eval()
    assert kept(module) == []
    y = module(x)
    assert kept(module) == []
    with pytest.raises(RuntimeError, match="backward without a forward"):
        module.backward(upstream(y))


@pytest.mark.parametrize(**named(ROWS))
def test_threads_predict_with_one_model_at_once(row: Any) -> None:
    module = row.module().eval()
    inputs = [row.input() + np.float32(i) for i in range(8)]
    expected = [module(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for y, e in zip(pool.map(module, inputs * 3), expected * 3, strict=True):
            np.testing.assert_array_equal(y, e)
    assert kept(module) == []


def test_predict_evaluates_to_its_end_when_another_predict_ends_first() -> None:
    """The model is in training mode; the second predict starts inside the first and outlasts it."""
    second_inside, first_done = Event(), Event()

    class Meeting(nn.Module):
        def forward(self, x: Any) -> Any:
            if x[0, 0] == 0:
                second.start()
                assert second_inside.wait(10)
            else:
                second_inside.set()
                assert first_done.wait(10)
            return x

    model = nn.Sequential(Meeting(), nn.Dropout(0.5))
    ones = np.ones((4, 100), "float32")
    outputs: list[Any] = []
    second = Thread(target=lambda: outputs.append(model.predict(ones)))
    model.predict(np.zeros((4, 100), "float32"))
    first_done.set()
    second.join()
    np.testing.assert_array_equal(outputs[0], ones)
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize(**named(RANDOM))
def test_dropout_is_off_in_eval_mode_and_in_predict(row: Any) -> None:  # case 16
    module, x = row.module(), row.input()
    y = module.predict(x)
    assert all(m.training for m in module.modules())
    np.testing.assert_array_equal(y, module.predict(x))
    np.testing.assert_array_equal(y, module.eval()(x))


def test_dropout_zeroes_or_scales_each_element() -> None:
    ldl.manual_seed(0)
    layer, x = nn.Dropout(0.3), np.ones(20_000, "float32")
    y = layer(x)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((y == 0).mean() - 0.3) < 5 * (0.3 * 0.7 / y.size) ** 0.5
    assert (layer(x) != y).any()
    np.testing.assert_array_equal(nn.Dropout(0.0)(x), x)


# ---- gradients -------------------------------------------------------------------------------


@pytest.mark.parametrize(**named(LEARNING))
def test_gradients_add_up_until_zero_grad(row: Any) -> None:  # case 15
    module, x = row.module().eval().train(), row.input()
    ready = copy.deepcopy(module)
    g = upstream(ready(x))
    ready = copy.deepcopy(module)
    ready(x), ready.backward(g)
    once = grads(ready)
    twin = copy.deepcopy(module)
    twin(x), twin.backward(g)
    for m in twin.modules():  # the same masks again
        if isinstance(m, nn.Dropout):
            m.stream.draw -= 1
    twin(x), twin.backward(g)
    for name, grad in grads(twin).items():
        np.testing.assert_allclose(grad, 2 * once[name], rtol=1e-6)
    twin.zero_grad()
    assert all(grad is None for grad in grads(twin).values())
    for m in twin.modules():
        if isinstance(m, nn.Dropout):
            m.stream.draw -= 1
    twin(x), twin.backward(g)
    np.testing.assert_equal(grads(twin), once)


@pytest.mark.parametrize(**named(LEARNING))
def test_frozen_parameters_get_no_gradient_and_the_input_does(row: Any) -> None:
    module, x = row.module(), row.input()
    free = copy.deepcopy(module)
    g = upstream(free(x))
    expected = free.backward(g)
    module.requires_grad_(False)
    module(x)
    np.testing.assert_array_equal(module.backward(g), expected)
    assert all(grad is None for grad in grads(module).values())
    module.requires_grad_(True)
    module(x), module.backward(g)
    assert all(grad is not None for grad in grads(module).values())


@pytest.mark.parametrize(**named(ROWS))
def test_the_passes_change_neither_input_nor_upstream_gradient(row: Any) -> None:
    module, x = row.module(), row.input()
    y = module(x)
    g, x_before = upstream(y), row.input()
    g_before = g.copy()
    module.backward(g)
    np.testing.assert_array_equal(x, x_before)
    np.testing.assert_array_equal(g, g_before)


@pytest.mark.parametrize(**named(LOSSES))
def test_a_loss_changes_neither_input_nor_target(row: Any) -> None:
    loss, (x, t) = row.build(), row.batch()
    g = np.full(np.shape(loss(x, t)), 2, "float32")
    loss.backward(g)
    for after, before in zip((x, t), row.batch(), strict=True):
        np.testing.assert_array_equal(after, before)
    assert (g == 2).all()


@pytest.mark.parametrize(**named([row for row in LOSSES if "'none'" not in row.name]))
def test_backward_of_a_multiple_of_a_loss_is_the_multiple(row: Any) -> None:
    loss, (x, t) = row.build(), row.batch()
    loss(x, t)
    once = loss.backward()
    loss(x, t)
    np.testing.assert_allclose(loss.backward(np.asarray(3, "float32")), 3 * once, rtol=1e-6)


class Scale(nn.Module):
    """A layer as a user writes one: y = s ⊙ x, with `Parameter.accumulate`."""

    def __init__(self) -> None:
        self.scale = nn.Parameter(np.array([1.0, 2.0, 3.0], "float32"))

    def forward(self, x: Any) -> Any:
        self.keep(x)
        return x * self.scale.data

    def backward(self, grad: Any) -> Any:
        x = self.take()
        self.scale.accumulate((grad * x).sum(axis=0))
        return grad * self.scale.data


def test_a_users_layer_accumulates_and_freezes_like_the_others() -> None:
    layer, x = Scale(), np.ones((4, 3), "float32")
    for times in (1, 2, 3):
        layer(x), layer.backward(x)
        np.testing.assert_array_equal(layer.scale.grad, [4.0 * times] * 3)
    layer.zero_grad()
    layer(x), layer.backward(x)
    np.testing.assert_array_equal(layer.scale.grad, [4.0] * 3)
    layer.requires_grad_(False)
    layer(x), layer.backward(x)
    assert layer.scale.grad is None
    assert module_is_differentiated(Scale().to(dtype="float64"), x.astype("float64") / 3)


def test_a_gradient_of_another_shape_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"shape \(1, 3\) for a parameter of shape \(3,\)"
    ) as error:
        Scale().scale.accumulate(np.ones((1, 3), "float32"))
    one_line(error)


# ---- copies and values -----------------------------------------------------------------------


@pytest.mark.parametrize(**named(ROWS))
def test_a_deep_copy_is_equal_and_independent(row: Any) -> None:
    module, x = row.module(), row.input()
    twin = copy.deepcopy(module)
    y = module(x)
    np.testing.assert_array_equal(twin(x), y)
    state = {name: array.copy() for name, array in twin.state_dict().items()}
    module.backward(upstream(y))
    assert all(grad is None for grad in grads(twin).values())
    for parameter in module.parameters():
        parameter.data[...] = 0
    np.testing.assert_equal(twin.state_dict(), state)
    shared = {id(m) for m in module.modules()} & {id(m) for m in twin.modules()}
    assert not shared
    twin.backward(upstream(y))


TIED = [
    row.name for row in ROWS if any(isinstance(m, nn.TiedLinear) for m in row.build().modules())
]


@pytest.mark.parametrize(**named([row for row in ROWS if row.name not in TIED]))
def test_repr_builds_the_module_again(row: Any) -> None:
    module = row.build()
    again = eval(repr(module), dict(vars(nn)))
    assert repr(again) == repr(module)
    shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (again, module)]
    assert shapes[0] == shapes[1]
    assert "\n" not in repr(module)


@pytest.mark.parametrize(**named(LOSSES))
def test_repr_builds_the_loss_again(row: Any) -> None:
    x, t = row.batch()
    loss = row.build()
    again = eval(repr(loss), dict(vars(nn)))
    np.testing.assert_array_equal(again(x, t), loss(x, t))


@pytest.mark.parametrize(**named(LEARNING))
def test_state_goes_round(row: Any) -> None:
    module, other, x = row.module(), row.build(), row.input()
    state = {name: array.copy() for name, array in module.state_dict().items()}
    other.load_state_dict(state)
    np.testing.assert_equal(other.state_dict(), state)
    np.testing.assert_array_equal(other.eval()(x), module.eval()(x))
    for array in state.values():
        array[...] = 9  # a copy was taken
    np.testing.assert_equal(other.state_dict(), module.state_dict())


@pytest.mark.parametrize(**named(BATCHED))
def test_a_sample_is_computed_alike_in_any_batch(row: Any) -> None:  # case 12
    module, x = row.module().eval(), row.input()
    whole = module(x)
    parts = np.concatenate([module(x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(module.predict(x, batch_size=3), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(**named([row for row in BATCHED if "BatchNorm" not in row.name]))
@pytest.mark.parametrize("recorded", [False, True], ids=["layer by layer", "recorded"])
def test_a_batch_without_samples_goes_there_and_back(row: Any, recorded: bool) -> None:
    """BatchNorm refuses one: it has no statistics."""
    module, x = row.module(), row.input()
    module(x)
    y = np.empty((0, *module.eval()(x).shape[1:]), x.dtype)
    module.train()

    def both(module: Any, x: Any, grad: Any) -> Any:
        module.zero_grad()
        return module(x), module.backward(grad)

    played: Any = (lambda *given: both(module, *given)) if not recorded else None
    if recorded:
        played = ldl.get_backend().record(both, (module,), (x[:0], y))
        assert played.played, played.why
    found, dx = played(x[:0], y)
    assert found.shape == y.shape
    assert dx.shape == x[:0].shape
    assert not any(g.any() for g in grads(module).values() if g is not None)
