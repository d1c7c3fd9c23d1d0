"""Messages that tell a newcomer what to write instead."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn

X = np.ones((4, 3), "float32")


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
def test_a_model_is_not_offered_to_become_one_of_integers(dtype: str) -> None:
    with pytest.raises(TypeError) as error:
        nn.Linear(3, 2)(X.astype(dtype))
    message = one_line(error)
    assert "astype('float32')" in message
    assert "model.to" not in message
    with pytest.raises(TypeError, match=r"model\.to\(dtype='float64'\)"):
        nn.Linear(3, 2)(X.astype("float64"))


class Bad(nn.Module):
    def forward(self, x: Any) -> Any:
        return x

    def backward(self, grad: Any) -> Any:
        pass


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Linear(3, 3), Bad(), nn.Linear(3, 3)),
        lambda: nn.Sequential(Bad(), nn.Linear(3, 3)),
        lambda: nn.Residual(Bad()),
        lambda: nn.Parallel(nn.Linear(3, 3), Bad()),
        lambda: nn.Parallel(Bad(), nn.Linear(3, 3), merge="sum"),
        lambda: nn.AutoEncoder(nn.Linear(3, 3), Bad()),
        lambda: nn.AutoEncoder(Bad(), nn.Linear(3, 3)),
    ],
)
def test_a_backward_that_returns_nothing_is_named(build: Any) -> None:
    model = build()
    y = model(X)
    with pytest.raises(TypeError, match="returned None") as error:
        model.backward(y)
    assert one_line(error) == "Bad().backward returned None: it must return ∂L/∂x"


def test_a_backward_in_eval_mode_says_who_left_it_so() -> None:
    model = nn.Linear(3, 2).eval()
    model(X)
    with pytest.raises(RuntimeError) as error:
        model.backward(np.ones((4, 2), "float32"))
    message = one_line(error)
    assert message.startswith("Linear(3, 2) is in eval mode")
    for part in ("fit", "load", "model.train()", "backward without a forward"):
        assert part in message
    model.train()
    with pytest.raises(RuntimeError) as error:
        model.backward(np.ones((4, 2), "float32"))
    assert "eval mode" not in one_line(error)


@pytest.mark.parametrize("name", ["float64", "float32", "float16", "double"])
def test_a_type_for_a_backend_is_answered_with_dtype(name: str) -> None:
    with pytest.raises(ValueError, match=rf"model\.to\(dtype={name!r}\)") as error:
        nn.Linear(3, 2).to(name)
    one_line(error)
    with pytest.raises(ValueError, match="there are: cupy, numpy"):
        nn.Linear(3, 2).to("gpu")


# ---- autoencoders --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "RELU", "Relu", "ReLU", nn.ReLU])
def test_an_activation_is_named_in_any_case_or_given(name: Any) -> None:
    model = nn.AutoEncoder.symmetric(4, [3, 2], activation=name, output="tanh")
    assert repr(model) == repr(nn.AutoEncoder.symmetric(4, [3, 2], output=nn.Tanh))
    ldl.manual_seed(3)
    a = nn.AutoEncoder.symmetric(4, [3], activation=name).state_dict()
    ldl.manual_seed(3)
    b = nn.AutoEncoder.symmetric(4, [3], activation="ReLU").state_dict()
    np.testing.assert_equal(a, b)


def test_an_activation_of_ones_own_is_taken() -> None:
    model = nn.AutoEncoder.symmetric(4, [3], activation=Bad, output=nn.Identity, tied=True)
    assert isinstance(model.encoder[1], Bad)
    assert isinstance(model.decoder[1], nn.Identity)


@pytest.mark.parametrize("name", ["reul", "Activation", 3, nn.ReLU(), nn.MSELoss, None], ids=str)
def test_an_activation_that_is_none_is_answered_with_the_names(name: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"ReLU, .*Tanh") as error:
        nn.AutoEncoder.symmetric(4, [3], activation=name)
    assert "Activation," not in one_line(error).replace("no Activation", "")


def test_one_hidden_width_needs_no_list() -> None:
    assert repr(nn.AutoEncoder.symmetric(4, 3)) == repr(nn.AutoEncoder.symmetric(4, [3]))
    assert nn.AutoEncoder.symmetric(4, np.int64(3)).encoder[0].out_features == 3


# ---- cross-entropy -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [
        [[0.5, 0.5, 0.5]],
        [[2.0, -1.0, 0.0]],
        [[0.0, 0.0, 0.0]],
        [[np.nan, 0.5, 0.5]],
        [[0.5, 0.49, 0]],
    ],
    ids=str,
)
def test_distributions_are_not_negative_and_sum_to_one(rows: Any) -> None:
    target = np.array([[0.2, 0.3, 0.5], *rows], "float32")
    for way in ("__call__", "check"):
        x = np.zeros((2, 3), "float32")
        with pytest.raises(ValueError, match="sum to 1") as error:
            getattr(nn.CrossEntropyLoss(), way)(x if way == "__call__" else x.shape, target)
        one_line(error)
    near = np.array([[0.2, 0.3, 0.5005]], "float32")
    nn.CrossEntropyLoss()(np.zeros((1, 3), "float32"), near)


def test_class_weights_in_a_dict_are_answered_with_a_list() -> None:
    with pytest.raises(TypeError, match="one number a class") as error:
        nn.CrossEntropyLoss(weight={0: 1.0, 1: 2.0})
    one_line(error)


# ---- summaries -----------------------------------------------------------------------------------


class TwoHalves(nn.Module):
    """Takes rows of twice the width of its first Linear."""

    def __init__(self) -> None:
        self.a, self.b = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        if x.shape[1] != 6:
            raise ValueError("six columns")
        return self.a(x[:, :3]) + self.b(x[:, 3:])


def test_a_summary_whose_guess_fails_has_no_shapes() -> None:
    text = TwoHalves().summary()
    assert "Linear(3, 2)" in text
    assert "16 parameters" in text
    assert "N ×" not in text
    assert "N × 2" in TwoHalves().summary((6,))
    with pytest.raises(ValueError, match="six columns"):
        TwoHalves().summary((3,))


# ---- docstrings ----------------------------------------------------------------------------------


def test_the_docstrings_tell_what_was_asked() -> None:
    from ldl.optim import schedules

    assert "epochs * ceil(n / batch_size)" in schedules.__doc__
    assert "WarmupLR(w, CosineLR(T - w))" in schedules.__doc__
    assert "first step" in ldl.History.__doc__
    assert "__init__" in ldl.register.__doc__
    for field in ("history", "epoch", "stop", "optimizer", "validated"):
        assert field in ldl.Callback.__doc__


def test_an_array_of_a_recorded_step_that_was_kept_in_a_global_is_said_to_be() -> None:
    kept: SimpleQueue[Any] = SimpleQueue()  # which a trial does not look into

    class Places(nn.Module):
        def forward(self, x: Any) -> Any:
            if kept.empty():
                kept.put(self.backend.xp.arange(len(x), dtype=x.dtype)[:, None])
            places = kept.get()
            kept.put(places)
            return x + places

        def backward(self, grad: Any) -> Any:
            return grad

    model = nn.Sequential(nn.Linear(3, 3), Places())
    step = ldl.TrainStep(model, nn.MSELoss(), ldl.optim.SGD(model.parameters(), 0.1))
    x = np.ones((4, 3), "float32")
    with pytest.raises(nn.DeviceError, match="make it anew in each forward, or once in __init__"):
        step(x, x)
    with pytest.raises(nn.DeviceError, match="kept outside of the layers, as in a global"):
        nn.Sequential(Places(), nn.Linear(3, 3))(x)


def test_arrays_that_a_layer_keeps_in_a_global_are_no_traces() -> None:
    kept: dict[int, Any] = {}

    class Places(nn.Module):
        def forward(self, x: Any) -> Any:
            if len(x) not in kept:
                kept[len(x)] = self.backend.xp.arange(len(x), dtype=x.dtype)[:, None]
            return x + kept[len(x)]

        def backward(self, grad: Any) -> Any:
            return grad

    model = nn.Sequential(nn.Linear(3, 3), Places())
    step = ldl.TrainStep(model, nn.MSELoss(), ldl.optim.SGD(model.parameters(), 0.0))
    x = np.ones((4, 3), "float32")
    first = step(x, x)  # which the layers' own code does: it leaves something for later ones
    assert [type(a) for a in kept.values()] == [np.ndarray]
    assert [r.played for r in step.recordings().values()] == [False]
    assert step(x, x) == pytest.approx(first)
    assert [r.played for r in step.recordings().values()] == [True]
