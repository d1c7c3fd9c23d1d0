"""EMA and SWA: what is averaged, where it stands in for the weights, and that it resumes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn, optim

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 4)).astype("float32")
Y = (X[:, :2] ** 2 + 0.1 * rng.normal(size=(50, 2))).astype("float32")
VAL = X[:20] + 0.1, Y[:20]

MAKES: dict[str, Any] = {
    "EMA": lambda **o: ldl.EMA(0.9, **o),
    "EMA, every third": lambda **o: ldl.EMA(0.9, every=3, warmup=False, **o),
    "SWA": lambda **o: ldl.SWA(2, **o),
    "SWA, every second": lambda **o: ldl.SWA(1, every=2, **o),
}


def network(dtype: str = "float32") -> nn.Module:
    ldl.manual_seed(1)
    layers = [nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2)]
    return nn.Sequential(*layers).to(dtype=dtype)


def fit(model: nn.Module, callbacks: Any = (), epochs: int = 4, **options: Any) -> ldl.History:
    options = {"validation": VAL, "batch_size": 12, "data": (X, Y)} | options
    optimizer = options.pop("optimizer", None) or optim.Adam(model, 0.05)
    data = options.pop("data")
    return ldl.fit(model, data, nn.MSELoss(), optimizer, epochs, callbacks=callbacks, **options)


def weights(model: nn.Module) -> dict[str, Any]:
    return {name: array.copy() for name, array in model.state_dict().items()}


class Watch(ldl.Callback):
    """The weights after every step and every epoch, and what stands in for them then."""

    def __init__(self) -> None:
        self.steps: list[Any] = []
        self.epochs: list[int] = []
        self.seen: list[Any] = []

    def on_step_end(self, run: ldl.Run) -> None:
        self.steps.append(weights(run.model))

    def on_epoch_end(self, run: ldl.Run) -> None:
        self.epochs.append(len(self.steps))
        self.seen.append(weights(run.model))


def assert_close(found: Any, expected: Any, rtol: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=rtol, atol=1e-6, err_msg=name)


# ---- what is averaged ----------------------------------------------------------------------------


@pytest.mark.parametrize("warmup", [True, False])
@pytest.mark.parametrize("every", [1, 3])
def test_an_ema_is_its_formula_running_statistics_included(every: int, warmup: bool) -> None:
    model, watch = network(), Watch()
    average = ldl.EMA(0.95, every=every, warmup=warmup)
    fit(model, [average, watch])
    assert len(watch.steps) == 20
    taken = watch.steps[every - 1 :: every]
    expected = {name: array.astype("float64") for name, array in taken[0].items()}
    for n, step in enumerate(taken[1:], start=1):
        decay = min(0.95, (1 + n) / (10 + n)) if warmup else 0.95
        for name, array in step.items():
            expected[name] = decay * expected[name] + (1 - decay) * array
    assert "1.running_var" in expected
    assert_close(average.weights, expected)
    assert_close(weights(model), expected)
    assert (average.count, average.steps) == (len(taken), 20)


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@pytest.mark.parametrize("kind", ["EMA", "SWA"])
def test_averages_are_those_of_pytorch(kind: str) -> None:
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    model, watch = network("float64"), Watch()
    average = ldl.EMA(0.95, warmup=False) if kind == "EMA" else ldl.SWA(2)
    data = X.astype("float64"), Y.astype("float64")
    fit(model, [average, watch], data=data)
    steps = watch.steps if kind == "EMA" else [watch.steps[i - 1] for i in watch.epochs[1:]]
    names = [name for name in steps[0] if "running" not in name]
    theirs = torch.nn.ParameterList([torch.tensor(steps[0][name]) for name in names])
    options = {"multi_avg_fn": get_ema_multi_avg_fn(0.95)} if kind == "EMA" else {}
    averaged = AveragedModel(theirs, **options)
    for step in steps:
        for tensor, name in zip(theirs, names, strict=True):
            tensor.data[...] = torch.tensor(step[name])
        averaged.update_parameters(theirs)
    for tensor, name in zip(averaged.module, names, strict=True):
        np.testing.assert_allclose(average.weights[name], tensor.detach().numpy(), rtol=1e-12)


def test_swa_has_the_statistics_of_its_own_weights() -> None:
    model, watch = network(), Watch()
    average = ldl.SWA(3)
    fit(model, [average, watch], epochs=5, batch_size=25)
    taken = [watch.steps[i - 1] for i in watch.epochs[2:]]
    for name in ("0.weight", "4.bias", "1.weight"):
        np.testing.assert_allclose(
            average.weights[name], np.mean([step[name] for step in taken], axis=0), rtol=1e-5
        )
    hidden = X @ average.weights["0.weight"] + average.weights["0.bias"]
    np.testing.assert_allclose(average.weights["1.running_mean"], hidden.mean(axis=0), rtol=1e-4)
    order = ldl.random.permutation(50, ldl.random.Key(0, ldl.random.SHUFFLE << 32, 5))
    halves = [hidden[order[:25]], hidden[order[25:]]]
    variance = np.mean([half.var(axis=0, ddof=1) for half in halves], axis=0)
    np.testing.assert_allclose(average.weights["1.running_var"], variance, rtol=1e-4)
    assert model[1].momentum == 0.1
    assert_close(weights(model), average.weights)


def test_a_layer_whose_statistics_stand_still_keeps_them_in_swa() -> None:
    class Freeze(ldl.Callback):
        def on_fit_begin(self, run: ldl.Run) -> None:
            run.model[1].eval()

    model = network()
    fit(model, [Freeze(), ldl.SWA(1)])
    np.testing.assert_array_equal(model[1].running_mean.data, 0)
    np.testing.assert_array_equal(model[1].running_var.data, 1)


@pytest.mark.parametrize("make", MAKES)
def test_what_no_optimizer_moves_and_what_is_frozen_is_averaged_too(make: str) -> None:
    model = network()
    model[4].bias.requires_grad = False
    optimizer = optim.SGD([model[0].weight, model[4].bias, model[4].weight], 0.05, momentum=0.9)
    average = MAKES[make]()
    fit(model, average, optimizer=optimizer)
    own = weights(model)
    assert average.weights.keys() == own.keys()
    fresh = weights(network())
    np.testing.assert_array_equal(own["4.bias"], fresh["4.bias"])
    np.testing.assert_array_equal(own["0.bias"], fresh["0.bias"])
    assert (own["1.running_mean"] != fresh["1.running_mean"]).any()
    assert (own["0.weight"] != fresh["0.weight"]).any()


# ---- where it stands in --------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKES)
def test_training_is_as_without_an_average(make: str) -> None:
    plain, averaged = network(), network()
    a, b = optim.Adam(plain, 0.05), optim.Adam(averaged, 0.05)
    expected = fit(plain, optimizer=a)
    average = MAKES[make](swap=False)
    history = fit(averaged, average, optimizer=b)
    np.testing.assert_equal(weights(averaged), weights(plain))
    np.testing.assert_equal(b.state_dict(), a.state_dict())
    assert history["loss"] == expected["loss"]
    assert history["val_loss"][-1] != expected["val_loss"][-1]
    averaged.load_state_dict(average.weights)
    again = network()
    fit(again, MAKES[make]())
    np.testing.assert_equal(weights(again), weights(averaged))


@pytest.mark.parametrize("make", MAKES)
def test_validation_and_callbacks_see_the_average(make: str) -> None:
    model, watch = network(), Watch()
    average = MAKES[make]()
    history = fit(model, [watch, average], epochs=3)
    np.testing.assert_equal(watch.seen[-1], average.arrays())
    np.testing.assert_equal(weights(model), average.arrays())
    scores = ldl.evaluate(model, VAL, nn.MSELoss())
    assert scores["loss"] == pytest.approx(history["val_loss"][-1], rel=1e-6)


def test_before_swa_starts_the_figures_are_those_of_the_weights() -> None:
    plain, averaged = network(), network()
    expected, history = fit(plain), fit(averaged, ldl.SWA(3))
    assert history["val_loss"][:2] == expected["val_loss"][:2]
    assert history["val_loss"][3] != expected["val_loss"][3]


@pytest.mark.parametrize("turned", [False, True])
def test_the_best_weights_and_the_saved_model_are_the_averages(
    turned: bool, tmp_path: Path
) -> None:
    model, watch = network(), Watch()
    stopping = ldl.EarlyStopping("val_loss", patience=50)
    path = tmp_path / "best.st"
    saver = ldl.ModelCheckpoint(path, save_best_only=True)
    callbacks = [ldl.EMA(0.9), stopping, saver, watch]
    history = fit(
        model, callbacks[::-1] if turned else callbacks, 12, optimizer=optim.SGD(model, 0.3)
    )
    best = int(np.argmin(history["val_loss"]))
    np.testing.assert_equal(weights(model), watch.seen[best])
    np.testing.assert_equal(ldl.load(path).state_dict(), watch.seen[best])


def test_without_validation_it_is_swapped_in_too() -> None:
    model, average = network(), ldl.EMA(0.9)
    fit(model, average, validation=None)
    np.testing.assert_equal(weights(model), average.arrays())


@pytest.mark.parametrize("make", MAKES)
def test_where_a_callback_fails_the_model_has_its_own_weights(make: str) -> None:
    model, watch = network(), Watch()

    def fail(run: ldl.Run) -> None:
        if run.epoch == 3:
            raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        fit(model, [MAKES[make](), watch, fail])
    np.testing.assert_equal(weights(model), watch.steps[-1])


def test_an_epoch_whose_validation_fails_is_undone_with_its_own_weights() -> None:
    ends: list[Any] = []

    class Note(ldl.Callback):
        def on_step_end(self, run: ldl.Run) -> None:
            if len(ends) < 5:  # those of the first epoch
                ends.append(weights(run.model))

    calls: list[int] = []

    def figure(y_true: Any, y_pred: Any) -> float:
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("in the second validation")
        return 0.0

    model = network()
    with pytest.raises(ValueError, match="epoch 2, validation, the metric 'odd' failed"):
        fit(model, [ldl.EMA(0.9), Note()], metrics=[("odd", figure)])
    np.testing.assert_equal(weights(model), ends[-1])


def test_steps_are_taken_one_at_a_time_and_told_of() -> None:
    for launch in (1, 8):
        model, watch = network(), Watch()
        average = ldl.EMA(0.9)
        fit(model, [average, watch], steps_per_launch=launch)
        assert (average.steps, watch.epochs) == (20, [5, 10, 15, 20])
        if launch == 1:
            expected = average.arrays()
    np.testing.assert_equal(average.arrays(), expected)


# ---- resuming, and what is refused ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "stop"),
    [(make, stop) for make in MAKES for stop in (1, 2, 3) if (make, stop) != ("SWA", 1)],
)
def test_a_resumed_run_ends_in_the_same_bits(make: str, stop: int, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    whole, part, resumed = network(), network(), network()
    expected = fit(whole, MAKES[make](), 5)
    fit(part, MAKES[make](), stop, checkpoint=path)
    average = MAKES[make]()
    history = fit(resumed, average, 5, checkpoint=path, resume=True)
    np.testing.assert_equal(weights(resumed), weights(whole))
    assert history["val_loss"] == expected["val_loss"]
    again, last = network(), MAKES[make]()
    fit(again, last, 5, checkpoint=path, resume=True)  # no epoch is left
    np.testing.assert_equal(weights(again), weights(whole))
    np.testing.assert_equal(last.arrays(), average.arrays())


def test_another_average_in_a_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    fit(network(), ldl.EMA(0.9), 2, checkpoint=path)
    with pytest.raises(ldl.CheckpointError, match=r"EMA\(decay=0\.9") as error:
        fit(network(), ldl.EMA(0.8), 3, checkpoint=path, resume=True)
    one_line(error)
    tensors, header = ldl.io.read_tensors(path)
    name = "callback0.0.weight"
    wrong = {
        "contradict": {k: a for k, a in tensors.items() if not k.startswith("callback0.")},
        "of another model": {**tensors, name: tensors[name][:2].copy()},
        "not finite": {**tensors, name: tensors[name] * np.nan},
    }
    for message, other in wrong.items():
        ldl.io.write_tensors(path, other, header)
        model = network()
        before = weights(model)
        with pytest.raises(ldl.CheckpointError, match=message) as error:
            fit(model, ldl.EMA(0.9), 3, checkpoint=path, resume=True)
        one_line(error)
        np.testing.assert_equal(weights(model), before)


def test_an_average_begins_anew_with_every_fit() -> None:
    average, model, twin = ldl.EMA(0.9), network(), network()
    fit(model, average)
    fit(twin, ldl.EMA(0.9))
    fit(model, average)
    fresh = ldl.EMA(0.9)
    fit(twin, fresh)
    np.testing.assert_equal(weights(model), weights(twin))
    assert average.steps == fresh.steps == 20


BAD: list[tuple[Any, str]] = [
    (lambda: ldl.EMA(1.0), "decay must be finite and >= 0 and < 1"),
    (lambda: ldl.EMA("slow"), "decay must be a number"),
    (lambda: ldl.EMA(every=0), "every must be a positive integer"),
    (lambda: ldl.SWA(0), "start must be a positive integer"),
    (lambda: ldl.SWA(2, every=1.5), "every must be a positive integer"),
    (lambda: fit(network(), ldl.SWA(9)), "SWA starts at the end of epoch 9, and there are 4"),
    (lambda: fit(network(), [ldl.SWA(2), ldl.EMA()]), "a fit keeps one average of the weights"),
]


@pytest.mark.parametrize(("build", "message"), BAD, ids=[m for _, m in BAD])
def test_what_makes_no_sense_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build()
    one_line(error)
