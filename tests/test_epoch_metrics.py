"""Metrics of all of an epoch's outputs: what scikit-learn's functions give of them, in one call."""

from __future__ import annotations

from functools import partial
from math import isnan, nan
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

import ldl
from checks import one_line
from ldl import nn, optim

rng = np.random.default_rng(0)
X = rng.normal(size=(90, 4)).astype("float32")
LABELS = (X[:, 0] + 0.5 * rng.normal(size=90) > 0).astype("int64") + (X[:, 1] > 0.7)
BINARY = (LABELS > 0).astype("float32")[:, None]
NUMBERS = (X[:, :2] + 0.3 * rng.normal(size=(90, 2))).astype("float32")


def net(out: int, *last: nn.Module) -> nn.Module:
    ldl.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, out), *last)


def softmax_auc(y_true: Any, logits: Any) -> float:
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return float(sk.roc_auc_score(y_true, p / p.sum(axis=1, keepdims=True), multi_class="ovr"))


macro = {"average": "macro", "zero_division": 0}


def test_the_figures_of_classes_are_scikit_learns_whatever_the_batches() -> None:
    model, loss = net(3), nn.CrossEntropyLoss()
    asked = [
        "accuracy",
        ldl.EpochMetric("f1", partial(sk.f1_score, **macro), labels=True),
        ldl.EpochMetric("precision", partial(sk.precision_score, **macro), labels=True),
        ldl.EpochMetric("recall", partial(sk.recall_score, **macro), labels=True),
        ldl.EpochMetric("exact", sk.accuracy_score, labels=True),
        ldl.EpochMetric("confusion", sk.confusion_matrix, labels=True),
        ("auc", softmax_auc),
    ]
    found = ldl.evaluate(model, (X, LABELS), loss, asked, batch_size=7)
    logits = model.predict(X)
    classes = logits.argmax(axis=1)
    names = "loss accuracy f1 precision recall exact confusion auc"
    assert [*found] == names.split()
    assert found["f1"] == sk.f1_score(LABELS, classes, **macro)
    assert found["precision"] == sk.precision_score(LABELS, classes, **macro)
    assert found["recall"] == sk.recall_score(LABELS, classes, **macro)
    assert found["exact"] == pytest.approx(found["accuracy"])
    assert found["confusion"] == sk.confusion_matrix(LABELS, classes).tolist()
    assert found["auc"] == pytest.approx(softmax_auc(LABELS, logits), abs=1e-12)


@pytest.mark.parametrize("logits", [True, False])
def test_a_column_comes_as_a_vector_and_its_side_is_its_label(logits: bool) -> None:
    model = net(1) if logits else net(1, nn.Sigmoid())
    loss: nn.Loss = nn.BCEWithLogitsLoss() if logits else nn.BCELoss()
    shapes = []

    def look(y_true: Any, y_pred: Any) -> float:
        shapes.append((y_true.shape, y_pred.shape))
        return 0.0

    asked = [
        ("auc", sk.roc_auc_score),
        ("look", look),
        ldl.EpochMetric("f1", sk.f1_score, labels=True),
    ]
    found = ldl.evaluate(model, (X, BINARY), loss, asked, batch_size=20)
    y = model.predict(X)[:, 0]
    assert shapes == [((90,), (90,))]
    assert found["auc"] == sk.roc_auc_score(BINARY[:, 0], y)
    assert found["f1"] == sk.f1_score(BINARY[:, 0], y > (0 if logits else 0.5))


def test_r2_of_several_columns_and_distributions_as_targets() -> None:
    model = net(2)
    found = ldl.evaluate(model, (X, NUMBERS), nn.MSELoss(), [("r2", sk.r2_score)])
    assert found["r2"] == pytest.approx(sk.r2_score(NUMBERS, model.predict(X)), abs=1e-6)
    model, hot = net(3), np.eye(3, dtype="float32")[LABELS]
    asked = [ldl.EpochMetric("confusion", sk.confusion_matrix, labels=True)]
    found = ldl.evaluate(model, (X, hot), nn.CrossEntropyLoss(), asked)
    assert found["confusion"] == sk.confusion_matrix(LABELS, model.predict(X).argmax(1)).tolist()


def test_in_fit_they_are_of_the_outputs_of_the_steps_and_of_the_validation() -> None:
    seen: dict[str, Any] = {}

    def r2(y_true: Any, y_pred: Any) -> Any:
        seen[len(seen)] = y_true.copy(), y_pred.copy()
        y_true[...] = y_pred[...] = 0  # the function's own
        return np.float64(1.0)

    def twice(y_true: Any, y_pred: Any) -> float:
        return float(sk.r2_score(y_true, y_pred))

    model = net(2)
    before = model.predict(X)
    history = ldl.fit(
        model,
        (X, NUMBERS),
        nn.MSELoss(),
        optim.SGD(model, lr=0.0),
        1,
        batch_size=16,
        validation=(X[:50], NUMBERS[:50]),
        metrics=[("r2", r2), ("twice", twice)],
    )
    y_true, y_pred = seen[0]
    order = [int(np.flatnonzero((row == NUMBERS).all(axis=1))[0]) for row in y_true]
    assert sorted(order) == [*range(90)]
    assert order != [*range(90)]
    np.testing.assert_allclose(y_pred, before[order], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(seen[1][0], NUMBERS[:50])
    row = history.rows[-1]
    names = "epoch loss r2 twice val_loss val_r2 val_twice lr seconds"
    assert [*row] == names.split()
    assert row["twice"] == pytest.approx(sk.r2_score(NUMBERS, before), abs=1e-5)
    assert row["val_twice"] == pytest.approx(sk.r2_score(NUMBERS[:50], before[:50]), abs=1e-5)
    assert type(row["r2"]) is float


def test_they_are_monitored_saved_and_resumed(tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"

    def run(epochs: int, **options: Any) -> ldl.History:
        model = net(3)
        return ldl.fit(
            model,
            (X, LABELS),
            nn.CrossEntropyLoss(),
            optim.Adam(model, lr=0.05),
            epochs,
            validation_split=0.3,
            metrics=[
                ("auc", softmax_auc),
                ldl.EpochMetric("confusion", sk.confusion_matrix, labels=True),
            ],
            callbacks=[ldl.EarlyStopping("val_auc", mode="max", patience=50)],
            **options,
        )

    whole = run(4)
    run(2, checkpoint=path)
    resumed = run(4, checkpoint=path, resume=True)
    for name in ("auc", "val_auc", "confusion", "val_confusion"):
        assert resumed[name] == whole[name]
    assert whole["auc"][-1] > whole["auc"][0]
    assert np.array(whole["confusion"][-1]).sum() == 63
    whole.to_csv(tmp_path / "run.csv")
    assert "confusion" in (tmp_path / "run.csv").read_text()
    assert "auc" in repr(whole)
    assert "confusion" not in repr(whole)


def test_ignored_labels_and_positions_of_sequences() -> None:
    tokens = rng.integers(0, 5, (12, 6))
    target = rng.integers(0, 3, (12, 6))
    target[:, 4:] = -100
    ldl.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    asked = [ldl.EpochMetric("confusion", sk.confusion_matrix, labels=True), ("auc", softmax_auc)]
    found = ldl.evaluate(model, (tokens, target), nn.CrossEntropyLoss(), asked, batch_size=5)
    kept = target != -100
    logits = model.predict(tokens)[kept]
    assert found["confusion"] == sk.confusion_matrix(target[kept], logits.argmax(1)).tolist()
    assert found["auc"] == pytest.approx(softmax_auc(target[kept], logits), abs=1e-12)
    found = ldl.evaluate(model, (tokens, np.full_like(target, -100)), nn.CrossEntropyLoss(), asked)
    assert isnan(found["auc"])


def test_batches_of_sequences_of_several_lengths() -> None:
    ldl.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 3))
    batches = [(rng.integers(0, 5, (7, n)), rng.integers(0, 3, (7, n))) for n in (6, 4)]
    metric = ldl.EpochMetric("exact", sk.accuracy_score, labels=True)
    found = ldl.evaluate(model, batches, nn.CrossEntropyLoss(), ["accuracy", metric])
    assert found["exact"] == pytest.approx(found["accuracy"])
    other = [(x, np.eye(3, dtype="float32")[y]) for x, y in batches]
    with pytest.raises(
        ValueError, match=r"'exact' has no value for .* shapes, \(6, 3\) and \(4, 3\)"
    ):
        ldl.evaluate(model, other, nn.CrossEntropyLoss(), [metric])


def test_batches_of_ones_own_and_one_metric_alone() -> None:
    model = net(2)
    batches = [(X[:40], NUMBERS[:40]), (X[40:], NUMBERS[40:])]
    metric = ldl.EpochMetric("r2", sk.r2_score)
    a = ldl.evaluate(model, batches, nn.MSELoss(), metric)
    b = ldl.evaluate(model, (X, NUMBERS), nn.MSELoss(), metric)
    assert a["r2"] == pytest.approx(b["r2"], abs=1e-6)


def test_a_divergence_is_told_as_one_and_not_as_a_metrics_failure() -> None:
    model = net(2)
    bad = X.copy()
    bad[-1] = nan
    with np.errstate(all="ignore"), pytest.raises(ldl.DivergedError):
        ldl.fit(
            model, (bad, NUMBERS), nn.MSELoss(), optim.SGD(model), 1, metrics=[("r2", sk.r2_score)]
        )


def broken(y_true: Any, y_pred: Any) -> float:
    raise RuntimeError("no figure\nof these")


def test_what_fails_is_named_in_one_line_and_the_epoch_is_undone() -> None:
    model = net(2)
    optimizer = optim.Adam(model)
    before = model.state_dict()
    with pytest.raises(ValueError, match=r"^epoch 1, the metric 'odd' failed: RuntimeErr") as error:
        ldl.fit(model, (X, NUMBERS), nn.MSELoss(), optimizer, 1, metrics=[("odd", broken)])
    assert isinstance(error.value.__cause__, RuntimeError)
    assert "no figure" in one_line(error)
    np.testing.assert_equal(model.state_dict(), before)
    with pytest.raises(ValueError, match="the metric 'auc' failed: ValueError") as error:
        ldl.evaluate(model, (X, NUMBERS), nn.MSELoss(), [("auc", sk.roc_auc_score)])
    one_line(error)


@pytest.mark.parametrize("value", [None, "high", object(), {1, 2}])
def test_what_is_no_figure_is_refused(value: Any) -> None:
    model = net(2)
    with pytest.raises(ValueError, match="the metric 'odd' gave neither a number nor") as error:
        ldl.evaluate(model, (X, NUMBERS), nn.MSELoss(), [("odd", lambda y, p: value)])
    one_line(error)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("auc", sk.roc_auc_score), r"stands in a list of metrics: metrics=\[\('auc', \.\.\.\)\]"),
        ([("auc", sk.roc_auc_score), ("auc", broken)], "two metrics are named auc"),
        ([("loss", broken)], "'loss' is a column of the history"),
        ([("auc", broken, 1)], r"pairs \('name', function of \(y_true, y_pred\)\)"),
        ([(broken, "auc")], "metrics are names"),
    ],
)
def test_what_is_no_pair_is_refused(given: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message) as error:
        ldl.evaluate(net(2), (X, NUMBERS), nn.MSELoss(), given)
    one_line(error)
    with pytest.raises(TypeError, match="must be a function of"):
        ldl.EpochMetric("auc", "roc")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="named by a text"):
        ldl.EpochMetric(3, broken)  # type: ignore[arg-type]


def test_a_pair_of_a_named_metric_and_a_function_is_still_two() -> None:
    def mean_error(output: Any, target: Any) -> Any:
        return (output - target).mean()

    found = ldl.evaluate(net(2), (X, NUMBERS), nn.MSELoss(), ("mse", mean_error))
    assert [*found] == ["loss", "mse", "mean_error"]
