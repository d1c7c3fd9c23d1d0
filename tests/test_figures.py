"""Metrics, and what goes by them: early stopping and a history's best epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn, optim
from test_arguments import LABELS, X, fit, network, refused

# ---- metrics -------------------------------------------------------------------------------------


def binary(bias: float, width: int = 1) -> nn.Linear:
    """Logits x + bias, of every element."""
    model = nn.Linear(width, width)
    model.weight.data[...] = np.eye(width)
    model.bias.data[...] = bias
    return model


def test_accuracy_of_logits_is_that_of_their_sign() -> None:
    x = np.array([[-2.0], [-0.4], [0.3], [3.0]], "float32")
    y = np.array([[0.0], [0.0], [1.0], [1.0]], "float32")
    scores = ldl.evaluate(binary(0), (x, y), nn.BCEWithLogitsLoss(), ["accuracy"])
    assert scores["accuracy"] == 1.0
    history = ldl.fit(
        m := binary(0), (x, y), nn.BCEWithLogitsLoss(), optim.SGD(m, 0.0), 1, metrics=["accuracy"]
    )
    assert history["accuracy"] == [1.0]
    p = nn.Sequential(binary(0), nn.Sigmoid())
    assert ldl.evaluate(p, (x, y), nn.BCELoss(), ["accuracy"])["accuracy"] == 1.0


@pytest.mark.parametrize("loss", [nn.BCELoss(), nn.BCEWithLogitsLoss()], ids=repr)
def test_accuracy_of_several_independent_labels_is_that_of_every_element(loss: Any) -> None:
    x = np.array([[-2, 3, 1], [1, -1, 2]], "float32")
    y = np.array([[0, 1, 1], [1, 1, 0]], "float32")
    model: nn.Module = binary(0, 3)
    if isinstance(loss, nn.BCELoss):
        model = nn.Sequential(model, nn.Sigmoid())
    assert ldl.evaluate(model, (x, y), loss, ["accuracy"])["accuracy"] == pytest.approx(4 / 6)


def test_accuracy_of_classes_is_that_of_the_largest() -> None:
    x = np.array([[1, 3, 2], [5, 1, 2]], "float32")
    for y in (np.array([1, 2]), np.array([[0, 1, 0], [0, 0, 1]], "float32")):
        loss = nn.CrossEntropyLoss()
        assert ldl.evaluate(binary(0, 3), (x, y), loss, ["accuracy"])["accuracy"] == 0.5


@pytest.mark.parametrize("metric", ["mse", "mae", "psnr"])
def test_a_metric_that_the_targets_do_not_fit_is_refused(metric: str) -> None:
    message = refused(ValueError, metrics=[metric])
    for part in (metric, "(40, 2)", "(40,)"):
        assert part in message
    with pytest.raises(ValueError, match=metric):
        ldl.evaluate(network(), (X, LABELS), nn.CrossEntropyLoss(), [metric])


class Anything(nn.Loss):
    """A loss that takes targets of any shape."""

    reduction = "mean"

    def forward(self, input: Any, target: Any) -> Any:
        self.keep(input)
        return input.sum()

    def backward(self, grad: Any = None) -> Any:
        return 0 * self.take()

    def check(self, input_shape: Any, target: Any) -> None:
        pass


def test_accuracy_refuses_targets_that_are_neither_labels_nor_like_the_outputs() -> None:
    message = refused(ValueError, data=(X, X[:, :3]), loss=Anything(), metrics=["accuracy"])
    for part in ("accuracy", "(40, 2)", "(40, 3)"):
        assert part in message


def test_a_function_of_output_and_target_is_a_metric_by_its_name() -> None:
    def top_output(output: Any, target: Any) -> Any:
        assert len(output) == len(target)
        return output.max()

    model = network()
    options: dict[str, Any] = {"model": model, "optimizer": optim.SGD(model, 0.0)}
    for metrics in (top_output, [top_output]):
        history = fit(metrics=metrics, batch_size=40, validation=(X, LABELS), **options)
        assert history["top_output"] == pytest.approx(history["val_top_output"], rel=1e-6)
        assert history["top_output"] == [pytest.approx(float(model.predict(X).max()))]


def test_a_function_of_other_arguments_is_answered_with_the_ones_it_gets() -> None:
    message = refused(TypeError, metrics=[lambda xp, output, target: output.mean()])
    assert "(output, target)" in message
    assert "ldl.Metric(" in message
    assert "ldl.Metric(" in refused(TypeError, metrics=[nn.MSELoss()])


# ---- early stopping ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("monitor", "sign"),
    [("val_accuracy", -1), ("psnr", -1), ("loss", 1), ("val_mse", 1), ("mae", 1)],
)
def test_whether_less_is_better_follows_from_the_name(monitor: str, sign: int) -> None:
    assert ldl.EarlyStopping(monitor).sign == sign
    assert ldl.EarlyStopping(monitor, mode="max").sign == -1
    assert ldl.EarlyStopping(monitor, mode="min").sign == 1


def test_a_name_that_does_not_tell_needs_a_mode() -> None:
    with pytest.raises(ValueError, match='mode="min" or mode="max"') as error:
        ldl.EarlyStopping("score")
    assert "'score'" in one_line(error)
    with pytest.raises(ValueError, match="'min' or 'max'"):
        ldl.EarlyStopping("loss", mode="best")
    for wrong in (None, 3, ["loss"]):
        with pytest.raises(TypeError, match="named by a text") as error:
            ldl.EarlyStopping(wrong, mode="min")  # type: ignore[arg-type]
        one_line(error)


def test_the_best_weights_by_accuracy_are_those_of_the_highest() -> None:
    model = network()
    seen: dict[int, Any] = {}

    def overwrite(run: Any) -> None:
        run.history.rows[-1]["accuracy"] = [0.2, 0.9, 0.5][run.epoch - 1]
        seen[run.epoch] = run.model[0].weight.data.copy()

    fit(model=model, epochs=3, callbacks=[overwrite, ldl.EarlyStopping("accuracy")])
    np.testing.assert_array_equal(model[0].weight.data, seen[2])


def test_a_figure_of_validation_is_refused_where_there_is_none() -> None:
    message = refused(ValueError, callbacks=[ldl.EarlyStopping("val_loss")])
    assert "validation=" in message
    assert "'val_loss'" in message
    assert len(fit(callbacks=[ldl.EarlyStopping("val_loss")], validation=(X, LABELS))) == 1


def test_a_callback_is_told_that_the_fit_begins() -> None:
    class Told(ldl.Callback):
        def on_fit_begin(self, run: ldl.Run) -> None:
            assert isinstance(run, ldl.Run)
            self.told = run.epoch, run.epochs, run.validated

    told = Told()
    fit(callbacks=told, epochs=3)
    assert told.told == (0, 3, False)


def test_the_best_epoch_of_a_history_is_found_by_the_same_rule() -> None:
    rows = [
        {"epoch": 1, "loss": 2.0, "accuracy": 0.5, "score": 1.0},
        {"epoch": 2, "loss": 1.0, "accuracy": 0.7, "score": 3.0},
        {"epoch": 3, "loss": float("nan"), "accuracy": 0.6, "score": 2.0},
    ]
    history = ldl.History(rows)
    assert history.best("loss")["epoch"] == 2
    assert history.best("accuracy")["epoch"] == 2
    assert history.best("score", mode="min")["epoch"] == 1
    with pytest.raises(ValueError, match='mode="min"'):
        history.best("score")
    with pytest.raises(KeyError, match="there are: epoch"):
        history.best("val_loss")
    with pytest.raises(ValueError, match="no epoch"):
        ldl.History().best("loss")


def peak(output: Any, target: Any) -> Any:
    return (output - target).max()


def square(xp: Any, output: Any, target: Any) -> Any:
    return ((output - target) ** 2).mean()


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([peak, peak], "two metrics are named peak"),
        (["mse", "mse"], "two metrics are named mse"),
        ([ldl.Metric("loss", square)], "'loss' is a column of the history"),
        ([ldl.Metric("epoch", square)], "'epoch' is a column of the history"),
    ],
)
def test_metrics_have_names_of_their_own(metrics: Any, message: str) -> None:
    model, x = nn.Linear(2, 2), np.ones((4, 2), "float32")
    with pytest.raises(ValueError, match=message) as error:
        ldl.evaluate(model, (x, x), nn.MSELoss(), metrics)
    assert "\n" not in str(error.value)


def test_none_is_no_metric_and_no_callback() -> None:
    model, x = nn.Linear(2, 2), np.ones((4, 2), "float32")
    adam = optim.Adam(model)
    history = ldl.fit(model, x, nn.MSELoss(), adam, 1, metrics=None, callbacks=None)
    assert list(history.rows[0]) == ["epoch", "loss", "lr", "seconds"]
