"""A mistake is answered by one line that names what is wrong. Case numbers are in the comments."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn, optim

ELEMENTWISE = [nn.MSELoss, nn.L1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss]
EVERY_LOSS = [*ELEMENTWISE, nn.CrossEntropyLoss]


def zeros(*shape: int, dtype: str = "float32") -> Any:
    return np.zeros(shape, dtype)


# ---- losses: shapes --------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["call", "forward", "check"])
@pytest.mark.parametrize(("output", "target"), [((8, 1), (8,)), ((8,), (8, 1)), ((8, 1), (8, 2))])
@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_nothing_is_broadcast_between_output_and_target(  # cases 1 and 2
    kind: Any, output: Any, target: Any, way: str
) -> None:
    loss, x, t = kind(), zeros(*output), zeros(*target)
    with pytest.raises(ValueError, match="shape") as error:
        loss.check(output, t) if way == "check" else getattr(loss, way.replace("call", "__call__"))(
            x, t
        )
    message = one_line(error)
    assert str(output) in message
    assert str(target) in message
    assert "reshape" in message


@pytest.mark.parametrize("target", [(8, 1), (8, 4), (7,), (7, 3), (8, 3, 1)])
def test_cross_entropy_takes_labels_or_distributions(target: Any) -> None:  # case 2
    dtype = "int64" if len(target) == 1 else "float32"
    with pytest.raises(ValueError, match="target") as error:
        nn.CrossEntropyLoss()(zeros(8, 3), zeros(*target, dtype=dtype))
    message = one_line(error)
    assert "(8, 3)" in message
    assert str(target) in message
    assert "labels (8,)" in message


def test_cross_entropy_takes_rows_of_logits() -> None:
    with pytest.raises(ValueError, match=r"logits \(N, C\)") as error:
        nn.CrossEntropyLoss()(zeros(8), zeros(8, dtype="int64"))
    assert "(8,)" in one_line(error)
    with pytest.raises(ValueError, match=r"log-probabilities \(N, C\)"):
        nn.NLLLoss()(zeros(8), zeros(8, dtype="int64"))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
@pytest.mark.parametrize("kind", EVERY_LOSS)
def test_an_empty_batch_has_no_loss(kind: Any, shape: Any) -> None:  # case 8
    labels = kind is nn.CrossEntropyLoss
    target = zeros(shape[0], dtype="int64") if labels else zeros(*shape)
    for way in ("__call__", "forward"):
        with pytest.raises(ValueError, match="empty batch") as error:
            getattr(kind(), way)(zeros(*shape), target)
        assert str(shape) in one_line(error)


# ---- losses: labels and types ----------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int64", "int32", "int8"])
@pytest.mark.parametrize("bad", [3, 100, -1])
def test_a_label_outside_the_classes_is_named(bad: int, dtype: str) -> None:  # case 3
    with pytest.raises(
        ValueError, match=f"label {bad} is not one of the 3 classes 0 .. 2"
    ) as error:
        nn.CrossEntropyLoss()(zeros(4, 3), np.array([0, 1, bad, 2], dtype))
    one_line(error)


def test_an_unsigned_label_outside_the_classes_is_named() -> None:  # case 3
    with pytest.raises(ValueError, match="label 255 "):
        nn.CrossEntropyLoss()(zeros(4, 3), np.array([0, 1, 255, 2], "uint8"))


def test_check_finds_a_wrong_label_in_a_whole_data_set() -> None:  # case 3
    labels = np.arange(60_000) % 10
    loss = nn.CrossEntropyLoss()
    loss.check((60_000, 10), labels)
    labels[41_234] = 10
    with pytest.raises(ValueError, match="label 10 "):
        loss.check((60_000, 10), labels)


def test_the_ignored_label_is_no_error_and_minus_one_is() -> None:  # case 3
    nn.CrossEntropyLoss(ignore_index=-1)(zeros(2, 3), np.array([0, -1]))
    nn.CrossEntropyLoss()(zeros(2, 3), np.array([0, -100]))
    with pytest.raises(ValueError, match="label -100 "):
        nn.CrossEntropyLoss(ignore_index=-1)(zeros(2, 3), np.array([0, -100]))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
def test_labels_of_no_integer_type_are_refused(dtype: str) -> None:  # case 4
    with pytest.raises(TypeError, match="class labels must be integers") as error:
        nn.CrossEntropyLoss()(zeros(4, 3), zeros(4, dtype=dtype))
    message = one_line(error)
    assert dtype in message
    assert "astype('int64')" in message


@pytest.mark.parametrize("target", [-0.1, 1.5, np.nan])
@pytest.mark.parametrize("kind", [nn.BCELoss, nn.BCEWithLogitsLoss])
def test_targets_of_binary_losses_are_probabilities(kind: Any, target: float) -> None:
    with pytest.raises(ValueError, match=r"targets must lie in \[0, 1\]") as error:
        kind()(np.full((2, 2), 0.5, "float32"), np.array([[0, 1], [target, 0]], "float32"))
    one_line(error)


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint8"])
@pytest.mark.parametrize("kind", ELEMENTWISE)
def test_a_target_of_another_type_is_refused(kind: Any, dtype: str) -> None:  # case 9
    with pytest.raises(TypeError, match="target") as error:
        kind()(np.full((2, 2), 0.5, "float32"), zeros(2, 2, dtype=dtype))
    message = one_line(error)
    assert dtype in message
    assert "astype('float32')" in message


def test_distributions_of_another_type_are_refused() -> None:  # case 9
    with pytest.raises(TypeError, match="float64") as error:
        nn.CrossEntropyLoss()(zeros(2, 3), np.full((2, 3), 1 / 3))
    one_line(error)


@pytest.mark.parametrize("kind", EVERY_LOSS)
def test_losses_of_integers_are_refused(kind: Any) -> None:  # case 9
    x = np.ones((2, 3), "int64")
    with pytest.raises(TypeError, match="int64") as error:
        kind()(x, zeros(2, dtype="int64") if kind is nn.CrossEntropyLoss else x)
    one_line(error)


def test_class_weights_are_one_a_class() -> None:
    with pytest.raises(ValueError, match="2 class weights for 3 classes") as error:
        nn.CrossEntropyLoss(weight=[1, 2])(zeros(4, 3), zeros(4, dtype="int64"))
    one_line(error)


def test_an_error_is_one_line_however_many_the_class_weights() -> None:
    with pytest.raises(ValueError, match="target") as error:
        nn.CrossEntropyLoss(weight=np.linspace(0, 1, 100))(zeros(4, 100), zeros(3, dtype="int64"))
    one_line(error)


@pytest.mark.parametrize("kind", EVERY_LOSS)
def test_a_target_that_is_no_array_is_answered_with_the_fix(kind: Any) -> None:
    with pytest.raises(TypeError, match="asarray") as error:
        kind()(np.full((2, 2), 0.5, "float32"), [[0.0, 1.0], [1.0, 0.0]])
    assert "list" in one_line(error)


# ---- layers: input ---------------------------------------------------------------------------

LINEAR = {
    "Linear": lambda: nn.Linear(3, 2),
    "TiedLinear": lambda: nn.TiedLinear(nn.Linear(2, 3)),
    "Sequential": lambda: nn.Sequential(nn.Linear(3, 2), nn.ReLU()),
}


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64", "uint8", "bool"])
@pytest.mark.parametrize("build", LINEAR.values(), ids=LINEAR)
def test_layers_refuse_another_type_than_their_weights(build: Any, dtype: str) -> None:  # case 9
    with pytest.raises(TypeError, match="float32") as error:
        build()(zeros(4, 3, dtype=dtype))
    message = one_line(error)
    assert dtype in message
    assert "astype('float32')" in message


@pytest.mark.parametrize("kind", nn.Activation.__subclasses__())
def test_activations_refuse_integers(kind: Any) -> None:  # case 9
    with pytest.raises(TypeError, match="int64") as error:
        kind()(np.arange(6).reshape(2, 3))
    assert "astype" in one_line(error)


@pytest.mark.parametrize("shape", [(4, 2), (3,), (4, 3, 1), ()])
@pytest.mark.parametrize("build", LINEAR.values(), ids=LINEAR)
def test_layers_name_the_shape_they_take_and_the_one_they_got(build: Any, shape: Any) -> None:
    with pytest.raises(ValueError, match=r"takes \(N, 3\)") as error:
        build()(zeros(*shape))
    assert str(shape) in one_line(error)


@pytest.mark.parametrize("x", [[[1.0, 2.0, 3.0]], None, 1.0], ids=repr)
@pytest.mark.parametrize("build", LINEAR.values(), ids=LINEAR)
def test_what_is_no_array_is_answered_with_the_fix(build: Any, x: Any) -> None:
    with pytest.raises(nn.DeviceError, match="asarray") as error:
        build()(x)
    assert type(x).__name__ in one_line(error)


def test_containers_name_shapes_that_do_not_merge() -> None:
    x = zeros(4, 3)
    with pytest.raises(ValueError, match=r"\(4, 2\) of \(4, 3\)") as error:
        nn.Residual(nn.Linear(3, 2))(x)
    one_line(error)
    with pytest.raises(ValueError, match=r"\(4, 2\), \(4, 1\)") as error:
        nn.Parallel(nn.Linear(3, 2), nn.Linear(3, 1), merge="sum")(x)
    one_line(error)


# ---- one instance twice (case 14) ------------------------------------------------------------

TWICE = {
    "side by side": lambda a: nn.Sequential(a, nn.ReLU(), a),
    "at two depths": lambda a: nn.Sequential(a, nn.Sequential(nn.Tanh(), a)),
    "round itself": lambda a: nn.Sequential(a, nn.Residual(a)),
    "in two branches": lambda a: nn.Parallel(a, a, merge="sum"),
    "in both halves": lambda a: nn.AutoEncoder(nn.Sequential(a), nn.Sequential(a)),
}


@pytest.mark.parametrize("build", TWICE.values(), ids=TWICE)
@pytest.mark.parametrize("layer", [nn.Linear(3, 3), nn.ReLU(), nn.Dropout(0.5)], ids=repr)
def test_one_instance_stands_in_a_model_once(build: Any, layer: Any) -> None:  # case 14
    with pytest.raises(ValueError, match="stands in the model twice") as error:
        build(layer)
    assert "copy.deepcopy" in one_line(error)
    model = nn.Sequential(layer, copy.deepcopy(layer))
    assert len(list(model.modules())) == 3


# ---- state (case 18) -------------------------------------------------------------------------


def test_every_fault_of_a_state_is_listed_and_the_model_is_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    del state["0.bias"]
    state["2.weight"] = zeros(1)
    state["1.weight"] = zeros(1, 2)
    with pytest.raises(ValueError, match=r"missing 0\.bias") as error:
        model.load_state_dict(state)
    message = one_line(error)
    for part in ("unexpected 2.weight", "1.weight has shape (1, 2)", "(2, 1)"):
        assert part in message
    np.testing.assert_equal(model.state_dict(), before)


# ---- construction ----------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")
REFUSED = {
    "Linear of width 0": (lambda: nn.Linear(0, 2), "in_features must be a positive integer, got 0"),
    "Linear of width -1": (lambda: nn.Linear(2, -1), "out_features .* got -1"),
    "Linear of width 2.0": (lambda: nn.Linear(2.0, 1), "in_features .* got 2.0"),
    "Linear of width True": (lambda: nn.Linear(True, 1), "in_features .* got True"),
    "Linear, unknown init": (lambda: nn.Linear(2, 2, weight_init="he"), "'he'.*he_normal"),
    "Dropout of 1": (lambda: nn.Dropout(1.0), r"p must lie in \[0, 1\), got 1.0"),
    "Dropout of -0.1": (lambda: nn.Dropout(-0.1), "got -0.1"),
    "Dropout of nan": (lambda: nn.Dropout(NAN), "got nan"),
    "Softplus of 0": (lambda: nn.Softplus(0), "beta must be positive, got 0"),
    "Softplus of nan": (lambda: nn.Softplus(NAN), "got nan"),
    "GELU of erf": (lambda: nn.GELU("erf"), "'none' or 'tanh', got 'erf'"),
    "Huber of 0": (lambda: nn.HuberLoss(0), "delta must be positive, got 0"),
    "Huber of nan": (lambda: nn.HuberLoss(NAN), "got nan"),
    "smoothing 1": (lambda: nn.CrossEntropyLoss(label_smoothing=1), "got 1"),
    "smoothing nan": (lambda: nn.CrossEntropyLoss(label_smoothing=NAN), "got nan"),
    "weight -1": (lambda: nn.CrossEntropyLoss(weight=[1, -1]), "not negative"),
    "weight nan": (lambda: nn.CrossEntropyLoss(weight=[1, NAN]), "finite"),
    "weight inf": (lambda: nn.CrossEntropyLoss(weight=[1, INF]), "finite"),
    "merge": (lambda: nn.Parallel(nn.ReLU(), merge="mul"), "'concatenate' or 'sum', got 'mul'"),
    "Parallel of nothing": (lambda: nn.Parallel(), "one branch"),
    "no hidden layer": (lambda: nn.AutoEncoder.symmetric(4, []), "one width"),
    "no such activation": (lambda: nn.AutoEncoder.symmetric(4, [2], "Reul"), "'Reul'"),
    "no activation": (lambda: nn.AutoEncoder.symmetric(4, [2], "Activation"), "'Activation'"),
    "hidden width 0": (lambda: nn.AutoEncoder.symmetric(4, [0]), "positive integer, got 0"),
    **{
        f"reduction of {kind.__name__}": (
            lambda kind=kind: kind(reduction="avg"),
            "batchmean.*'avg'",
        )
        for kind in EVERY_LOSS
    },
}
NO_MODULES = {
    "Sequential of a list": lambda: nn.Sequential([nn.ReLU(), nn.ReLU()]),
    "Sequential of a class": lambda: nn.Sequential(nn.ReLU),
    "Residual of a class": lambda: nn.Residual(nn.ReLU),
    "Parallel of a function": lambda: nn.Parallel(abs),
    "AutoEncoder of nothing": lambda: nn.AutoEncoder(None, nn.ReLU()),
    "TiedLinear of a ReLU": lambda: nn.TiedLinear(nn.ReLU()),
}


@pytest.mark.parametrize(("build", "says"), REFUSED.values(), ids=REFUSED)
def test_options_out_of_range_are_refused_at_construction(build: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        build()
    one_line(error)


@pytest.mark.parametrize("build", NO_MODULES.values(), ids=NO_MODULES)
def test_what_is_no_module_is_refused_at_construction(build: Any) -> None:
    with pytest.raises(TypeError) as error:
        build()
    one_line(error)


def test_a_loss_moves_by_name_as_a_model_does() -> None:
    loss = nn.BCEWithLogitsLoss()
    loss.to("numpy")
    assert np.isfinite(loss(zeros(2, 2), zeros(2, 2)))


def test_bce_refuses_logits() -> None:
    with pytest.raises(ValueError, match=r"probabilities in \[0, 1\].*BCEWithLogitsLoss"):
        nn.BCELoss()(np.full((2, 2), 1.5, "float32"), np.ones((2, 2), "float32"))
    model, x = nn.Linear(2, 2), np.full((4, 2), 9, "float32")
    with pytest.raises(ValueError, match="probabilities"):
        ldl.fit(model, (x, x / 9), nn.BCELoss(), ldl.optim.SGD(model), 1)


def test_a_model_refuses_a_type_that_does_not_float() -> None:
    with pytest.raises(TypeError, match="floating numbers, not int64"):
        nn.Linear(2, 2).to(dtype="int64")
    with pytest.raises(TypeError, match="takes floating numbers, got int64"):
        nn.Dropout()(np.ones(3, "int64"))


def test_surplus_arguments_are_errors() -> None:
    with pytest.raises(TypeError, match="inplace"):
        nn.ReLU(inplace=True)


# ---- data ------------------------------------------------------------------------------------


def test_arrays_in_a_list_and_noise_that_is_none_are_refused_at_once() -> None:
    x = np.ones((4, 2), "float32")
    model = nn.Linear(2, 2)
    with pytest.raises(TypeError, match=r"as a tuple, \(x, y\)") as error:
        ldl.fit(model, [x, x], nn.MSELoss(), optim.SGD(model, 0.1), 1)
    one_line(error)
    for noise in ("gaussian:0.2", 0.3, ldl.data.GaussianNoise):
        with pytest.raises(TypeError, match="GaussianNoise") as error:
            ldl.data.Arrays(x, noise=noise)  # type: ignore[arg-type]
        one_line(error)


class Series:
    """Has what pandas' series has."""

    dtype = np.dtype("float32")

    def get(self, key: Any) -> Any:
        raise KeyError(key)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.ones(2, dtype)


def test_what_has_a_get_of_another_kind_is_an_array_all_the_same() -> None:
    assert ldl.Predictor(nn.Linear(2, 3))(Series()).shape == (3,)


@pytest.mark.parametrize("size", [0, -1, 2.5, None, True])
def test_batch_sizes_are_positive_everywhere(size: Any) -> None:
    model, x = nn.Linear(2, 2), np.ones((4, 2), "float32")
    calls = [
        lambda: model.predict(x, batch_size=size),
        lambda: ldl.evaluate(model, (x, x), nn.MSELoss(), batch_size=size),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="batch_size must be a positive integer") as error:
            call()
        one_line(error)


@pytest.mark.parametrize("model", [nn.Linear, "model.safetensors", None])
def test_a_predictor_is_made_of_a_model(model: Any) -> None:
    with pytest.raises(TypeError, match=r"ldl\.load|write Linear") as error:
        ldl.Predictor(model)
    one_line(error)


@pytest.mark.parametrize("name", ["cuda", "gpu", "cuda:0"])
def test_a_gpu_by_another_name_is_told_its_own(name: str) -> None:
    with pytest.raises(ValueError, match="the backend of NVIDIA's GPUs is called cupy") as error:
        nn.Linear(2, 2).to(name)
    one_line(error)
