"""What a newcomer gives to `ldl.fit` by mistake is answered in one line before the first batch."""

from __future__ import annotations

import errno
import os
from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn, optim
from ldl.data import Arrays, GaussianNoise, MaskingNoise, SaltPepperNoise

rng = np.random.default_rng(0)
X = rng.random((40, 4)).astype("float32")
LABELS = (X[:, 0] > 0.5).astype("int64")


def network() -> nn.Sequential:
    ldl.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))


def fit(**options: Any) -> ldl.History:
    """A fit of one epoch in which no step may be taken when it is refused."""
    model = options.pop("model", None) or network()
    settings: dict[str, Any] = {
        "data": (X, LABELS),
        "loss": nn.CrossEntropyLoss(),
        "epochs": 1,
        **options,
    }
    if "optimizer" not in settings:
        settings["optimizer"] = optim.SGD(model, lr=0.1)
    return ldl.fit(model, **settings)


def refused(kind: type[Exception], **options: Any) -> str:
    """The one line with which a fit is refused; the model is as it was."""
    model = options.setdefault("model", network())
    before = (
        {k: a.copy() for k, a in model.state_dict().items()} if isinstance(model, nn.Module) else {}
    )
    with pytest.raises(kind) as error:
        fit(**options)
    if before:
        np.testing.assert_equal(model.state_dict(), before)
    return one_line(error)


# ---- what the arguments are ----------------------------------------------------------------------

WRONG: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "a loss's name": ({"loss": "ce"}, ("loss", "ldl.nn.CrossEntropyLoss()", "'ce'")),
    "a loss's class": ({"loss": nn.CrossEntropyLoss}, ("loss", "CrossEntropyLoss()", "class")),
    "an optimizer's name": ({"optimizer": "adam"}, ("ldl.optim.Adam(model", "'adam'")),
    "an optimizer's class": ({"optimizer": optim.Adam}, ("optimizer", "Adam(model", "class")),
    "a metric's class": ({"metrics": [ldl.Metric]}, ("metrics", "Metric")),
    "a metric that is a number": ({"metrics": 3}, ("metrics", "accuracy")),
    "a callback that is a number": ({"callbacks": [3]}, ("callbacks", "3")),
    "a callback's class": ({"callbacks": ldl.EarlyStopping}, ("EarlyStopping()", "class")),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_argument_of_another_kind_is_answered_with_an_example(name: str) -> None:
    options, words = WRONG[name]
    message = refused(TypeError, **options)
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    "model", [lambda x: x, nn.Linear, [nn.Linear(4, 2)]], ids=["a function", "a class", "a list"]
)
def test_a_model_that_is_no_module_is_answered_with_an_example(model: Any) -> None:
    with pytest.raises(TypeError, match=r"model must be .*nn\.Sequential") as error:
        ldl.fit(model, (X, LABELS), nn.CrossEntropyLoss(), optim.SGD(network()), 1)
    one_line(error)


def test_one_callback_and_one_metric_need_no_list() -> None:
    seen: list[int] = []
    history = fit(callbacks=lambda run: seen.append(run.epoch), metrics="accuracy")
    assert seen == [1]
    assert "accuracy" in history.rows[0]
    assert len(fit(callbacks=ldl.EarlyStopping("loss"))) == 1


def test_a_data_set_is_answered_with_its_parts() -> None:
    digits = ldl.data.Dataset(X, LABELS, X, LABELS, "mine", None)
    assert "(d.x_train, d.y_train)" in refused(TypeError, data=digits)
    assert "(d.x_train, d.y_train)" in refused(TypeError, validation=digits)


# ---- the optimizer and the model -----------------------------------------------------------------


def test_an_optimizer_of_another_model_is_refused() -> None:
    message = refused(ValueError, optimizer=optim.Adam(network()))
    assert "none of the model's parameters" in message
    assert "Adam(model" in message


def test_an_optimizer_of_a_part_or_of_more_than_the_model_is_taken() -> None:
    model = network()
    fit(model=model, optimizer=optim.SGD(model[2].parameters()))
    fit(model=model[:1], optimizer=optim.SGD(model), data=(X, X[:, [0] * 6]), loss=nn.MSELoss())


def test_half_precision_is_for_inference() -> None:
    message = refused(ValueError, model=network().to(dtype="float16"))
    assert "float16" in message
    assert "model.to(dtype='float32')" in message


def test_a_model_of_several_types_is_refused_naming_two() -> None:
    model = network()
    model[2].to(dtype="float64")
    message = refused(ValueError, model=model)
    for part in ("0.weight is float32", "2.weight is float64", "model.to(dtype="):
        assert part in message


# ---- noise that cuts -----------------------------------------------------------------------------


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_noise_that_cuts_to_the_unit_interval_refuses_other_data(low: float) -> None:
    x = low + 3 * X
    for data in (
        {"data": Arrays(x, LABELS, GaussianNoise(0.1))},
        {"validation": Arrays(x, LABELS, GaussianNoise(0.1))},
    ):
        message = refused(ValueError, **data)
        for part in (
            f"{x.min():.3g}",
            f"{x.max():.3g}",
            "[0, 1]",
            "GaussianNoise(0.1, clip=False)",
        ):
            assert part in message
    with pytest.raises(ValueError, match="clip=False"):
        ldl.evaluate(network(), Arrays(x, LABELS, GaussianNoise(0.1)), nn.CrossEntropyLoss())


def test_pixels_under_noise_are_refused_before_they_are_cut_to_white() -> None:
    pixels = np.arange(160, dtype="uint8").reshape(40, 4)
    assert "159" in refused(ValueError, data=Arrays(pixels, LABELS, GaussianNoise(0.1)))


def test_noise_that_does_not_cut_takes_any_range() -> None:
    noise = GaussianNoise(0.5, clip=False)
    assert repr(noise) == "GaussianNoise(0.5, clip=False)"
    assert repr(GaussianNoise(0.5)) == "GaussianNoise(0.5)"
    assert str(noise) == str(GaussianNoise(0.5)) == "gaussian:0.5"
    for n in (noise, MaskingNoise(0.1)):
        fit(data=Arrays(9 * X - 4, LABELS, n))
    stream, backend = ldl.random.Stream(0, 1), ldl.get_backend("numpy")
    noisy = noise(np.zeros((2000, 1), "float32"), stream, backend)
    assert noisy.min() < -1
    assert noisy.max() > 1
    assert abs(noisy.std() - 0.5) < 0.05


@pytest.mark.parametrize("strength", [0, -1, float("inf"), float("nan")])
def test_the_range_of_a_noise_is_what_is_taken(strength: float) -> None:
    with pytest.raises(ValueError, match="gaussian") as error:
        GaussianNoise(strength)
    assert "inf]" not in one_line(error)
    with pytest.raises(ValueError, match=r"\(0, 1\]"):
        SaltPepperNoise(strength)


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["n" * 256, "pipe"])
def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_first_batch(
    tmp_path: Any, name: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    message = refused(OSError, checkpoint=tmp_path / name)
    assert str(tmp_path / name) in message
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_checkpoint_in_no_folder_is_refused_before_the_first_batch(tmp_path: Any) -> None:
    path = tmp_path / "missing" / "run.ckpt"
    message = refused(FileNotFoundError, checkpoint=path)
    assert str(path) in message
    assert "folder" in message
    assert ".tmp" not in message


def test_a_save_that_fails_names_the_path_that_was_given(tmp_path: Any, monkeypatch: Any) -> None:
    path = tmp_path / "missing" / "model.ldl"
    with pytest.raises(FileNotFoundError) as error:
        ldl.save(network(), path)
    assert error.value.filename == str(path)
    assert ".tmp" not in one_line(error)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match=r"No space left on device: '.*m\.ldl'"):
            ldl.save(network(), tmp_path / "m.ldl")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as error:
        ldl.save(network(), "missing/model.ldl")
    assert error.value.filename == "missing/model.ldl"


# ---- schedules -----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["cosine", optim.CosineLR, 0.5], ids=str)
def test_a_schedule_that_is_none_is_answered_with_an_example(schedule: Any) -> None:
    with pytest.raises(TypeError, match=r"CosineLR\(total_steps=") as error:
        optim.Adam(network(), schedule=schedule)
    one_line(error)


def test_a_function_of_the_step_is_a_schedule() -> None:
    optimizer = optim.SGD(network(), lr=2.0, schedule=lambda step: 1 / (step + 1))
    assert isinstance(optimizer.schedule, optim.LambdaLR)
    assert optimizer.schedule(3) == optim.LambdaLR(lambda step: 1 / (step + 1))(3) == 0.25
    assert optimizer.lr == 2.0
    with pytest.raises(TypeError, match="function"):
        optim.LambdaLR(0.5)
