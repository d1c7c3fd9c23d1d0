"""Estimators at work: in pipelines and searches, with weights, callbacks, tables and devices."""

import pickle
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_digits, make_classification, make_regression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import ldl
from fake_device import FakeArray, FakeBackend
from fake_device import fixture as fake
from ldl import nn
from ldl.sklearn import AutoEncoder, AutoEncoderDetector, MLPClassifier, MLPRegressor

__all__ = ["fake"]

QUICK: dict[str, Any] = {"max_iter": 20, "learning_rate": 1e-2, "random_state": 0}
X, Y = make_classification(200, 6, n_informative=4, random_state=0)
X32 = X.astype(np.float32)
ALL = [MLPClassifier, MLPRegressor, AutoEncoder, AutoEncoderDetector]


def outputs(model: Any, x: Any) -> Any:
    """What an estimator says of samples."""
    for name in ("predict_proba", "transform", "decision_function", "predict"):
        if hasattr(model, name):
            return getattr(model, name)(x)
    raise AssertionError(model)


# ---- in scikit-learn -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_pickled_estimators_predict_the_same_and_go_on_learning(kind: Any) -> None:
    model = kind(**QUICK, warm_start=True).fit(X, Y)
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(outputs(model, X), outputs(other, X))
    np.testing.assert_array_equal(
        outputs(model.fit(X, Y), X), outputs(other.fit(X, Y), X), "moments are pickled too"
    )


@pytest.mark.parametrize("kind", ALL)
def test_a_seed_gives_one_result_and_leaves_others_alone(kind: Any) -> None:
    ldl.manual_seed(3)
    expected = nn.Linear(2, 2).weight.data
    ldl.manual_seed(3)
    first = outputs(kind(**QUICK).fit(X, Y), X)
    np.testing.assert_array_equal(nn.Linear(2, 2).weight.data, expected)
    np.testing.assert_array_equal(first, outputs(clone(kind(**QUICK)).fit(X, Y), X))
    other = kind(**{**QUICK, "random_state": 1}).fit(X, Y)
    assert not np.array_equal(first, outputs(other, X))


def test_pipelines_searches_and_columns() -> None:
    pipe = make_pipeline(StandardScaler(), MLPClassifier(**QUICK))
    grid = {"mlpclassifier__hidden_layer_sizes": [(4,), (16, 8)]}
    search = GridSearchCV(pipe, grid, n_jobs=2, cv=3).fit(X, Y)
    assert search.best_score_ > 0.7
    assert cross_val_score(pipe, X, Y, scoring="roc_auc", cv=3).mean() > 0.8


def test_tables_and_their_names() -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(X, columns=list("abcdef"))
    table["kind"] = np.where(Y, "x", "y")
    columns = ColumnTransformer([("k", OneHotEncoder(), ["kind"])], remainder=StandardScaler())
    pipe = make_pipeline(columns, MLPClassifier(**QUICK)).fit(table, Y)
    assert pipe.score(table, Y) > 0.95
    with sklearn.config_context(transform_output="pandas"):
        codes = AutoEncoder((4, 2), **QUICK).fit(table[list("abc")]).transform(table[list("abc")])
    assert list(codes.columns) == ["autoencoder0", "autoencoder1"]
    model = MLPClassifier(**QUICK).fit(table[list("ab")], Y)
    assert list(model.feature_names_in_) == ["a", "b"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(table[list("ba")])


def test_metadata_is_routed() -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        model = MLPClassifier(**QUICK).set_fit_request(sample_weight=True)
        search = GridSearchCV(model.set_score_request(sample_weight=True), {"max_iter": [2]}, cv=2)
        search.fit(X, Y, sample_weight=np.ones(len(X)))
    assert search.best_score_ > 0.4


def test_callbacks_of_scikit_learn_see_every_epoch_and_may_stop() -> None:
    pytest.importorskip("sklearn.callback")

    class Watcher:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def setup(self, estimator: Any, context: Any) -> None:
            self.seen.append("setup")

        def teardown(self, estimator: Any, context: Any) -> None:
            self.seen.append("teardown")

        def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
            self.seen.append(f"begin {context.task_name}")

        def on_fit_task_end(
            self, estimator: Any, context: Any, *, X: Any, fitted_estimator: Any, metadata: Any
        ) -> bool:
            assert outputs(fitted_estimator, X).shape == (len(X), 2)
            assert metadata is None or metadata["loss"] > 0
            self.seen.append(f"end {context.task_name}")
            return self.seen.count("end epoch") == 2

    watcher = Watcher()
    model = MLPClassifier(**QUICK).set_callbacks(watcher).fit(X, Y)
    epoch = ["begin epoch", "end epoch"]
    assert watcher.seen == ["setup", "begin fit", *epoch, *epoch, "end fit", "teardown"]
    assert model.n_iter_ == 2


def test_callbacks_are_given_detectors_that_detect() -> None:
    pytest.importorskip("sklearn.callback")
    found: list[Any] = []

    class Watcher:
        def setup(self, estimator: Any, context: Any) -> None: ...

        def teardown(self, estimator: Any, context: Any) -> None: ...

        def on_fit_task_begin(self, estimator: Any, context: Any) -> None: ...

        def on_fit_task_end(
            self, estimator: Any, context: Any, *, X: Any, fitted_estimator: Any
        ) -> None:
            found.append((fitted_estimator.predict(X) == -1).sum())

    model = AutoEncoderDetector(standardize=False, contamination=0.1, **QUICK)
    model.set_callbacks(Watcher()).fit(X, Y)
    assert found == [20] * 21, "after each of 20 epochs and in the end, a tenth of 200"


# ---- what is refused, and warned of --------------------------------------------------------------


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (-np.inf, "infinity")])
def test_what_is_not_finite_is_named_by_its_column(value: float, word: str) -> None:
    pandas = pytest.importorskip("pandas")
    bad = X.copy()
    bad[3, 2] = value
    with pytest.raises(ValueError, match=f"contains {word} in column 2: fill the gaps"):
        MLPClassifier(**QUICK).fit(bad, Y)
    table = pandas.DataFrame(bad, columns=list("abcdef"))
    with pytest.raises(ValueError, match=rf"contains {word} in column 2 \('c'\)"):
        AutoEncoder(**QUICK).fit(table)
    model = MLPRegressor(**QUICK).fit(X, Y)
    with pytest.raises(ValueError, match=f"contains {word} in column 2"):
        model.predict(bad)


def test_sparse_matrices_are_refused_with_the_way_out() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="toarray"):
        MLPClassifier(**QUICK).fit(sparse.csr_matrix(X), Y)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MLPClassifier(optimizer="adagrat"), "no optimizer is named 'adagrat'; there are"),
        (lambda: MLPClassifier(hidden_layer_sizes=(4, 0)), "hidden_layer_sizes"),
        (lambda: MLPClassifier(activation="rely"), "no activation is named 'rely'"),
        (lambda: MLPClassifier(batch_size=0), "batch_size must be a positive integer"),
        (lambda: MLPClassifier(max_iter=0), "max_iter must be a positive integer"),
        (lambda: MLPRegressor(loss="mse"), "loss must be one of squared_error"),
        (lambda: AutoEncoder(noise="dust:3"), "noise must look like"),
        (lambda: AutoEncoderDetector(contamination=0.7), r"contamination must lie in \(0, 0.5\]"),
    ],
)
def test_parameters_are_checked_when_they_are_used(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make().fit(X, Y)


def test_a_sigmoid_that_cannot_reach_its_targets_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="use output=None, or scale y"):
        MLPRegressor(output="sigmoid", **QUICK).fit(X, 3.0 * Y)
    with pytest.warns(UserWarning, match="use output='auto', or scale X"):
        AutoEncoder(output="sigmoid", **QUICK).fit(X)
    with pytest.warns(UserWarning, match="ends with Softmax, and CrossEntropyLoss squashes"):
        MLPClassifier(
            module=lambda i, o: nn.Sequential(nn.Linear(i, o), nn.Softmax()), **QUICK
        ).fit(X, Y)


def test_outputs_suit_the_data() -> None:
    scaled = (X - X.min(0)) / (X.max(0) - X.min(0))
    assert isinstance(AutoEncoder(**QUICK).fit(X).model_.decoder[-1], nn.Identity)
    assert isinstance(AutoEncoder(**QUICK).fit(scaled).model_.decoder[-1], nn.Sigmoid)


# ---- what they learn -----------------------------------------------------------------------------


def test_classes_of_any_kind_and_their_weights() -> None:
    names = np.array(["no", "yes"], dtype=object)[Y]
    model = MLPClassifier(**QUICK).fit(X, names)
    assert model.score(X, names) > 0.85
    np.testing.assert_allclose(model.predict_proba(X).sum(1), 1)
    rare = np.flatnonzero(Y)[:8].tolist() + np.flatnonzero(Y == 0).tolist()
    plain, balanced = (
        MLPClassifier(class_weight=w, **QUICK).fit(X[rare], Y[rare]) for w in (None, "balanced")
    )
    assert balanced.predict(X).sum() > plain.predict(X).sum()
    weights = np.where(Y, 3.0, 1.0)
    np.testing.assert_array_equal(
        MLPClassifier(**QUICK).fit(X, Y, sample_weight=weights).predict_proba(X),
        MLPClassifier(class_weight={0: 1, 1: 3}, **QUICK).fit(X, Y).predict_proba(X),
    )


def test_digits() -> None:
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    seen, unseen, labels, expected = train_test_split(x, y, random_state=0, stratify=y)
    model = MLPClassifier((64,), batch_size=32, max_iter=30, dropout=0.2, random_state=0)
    model.fit(seen, labels)
    assert model.score(unseen, expected) > 0.95
    assert model.predict_proba(unseen).dtype == np.float32


def test_several_numbers_a_sample() -> None:
    x, y = make_regression(300, 5, n_targets=3, random_state=0)
    y /= y.std(0)
    model = MLPRegressor((64,), **{**QUICK, "max_iter": 100}).fit(x, y)
    assert model.predict(x).shape == y.shape
    assert model.score(x, y) > 0.95
    assert MLPRegressor(**QUICK).fit(x, y[:, 0]).predict(x).shape == (300,)


def test_early_stopping_keeps_the_best_epochs_weights() -> None:
    model = MLPClassifier((64,), early_stopping=True, n_iter_no_change=3, max_iter=200)
    model.set_params(learning_rate=3e-2, random_state=0).fit(X, Y)
    curve = model.validation_curve_
    assert len(curve) == len(model.loss_curve_) == model.n_iter_ < 200
    assert min(curve) < curve[-1], "it went on past the best"


@pytest.mark.parametrize("noise", [None, 0.1])
def test_what_is_held_out_counts_as_its_weights_say(noise: Any) -> None:
    x = np.concatenate([X32, 100 + X32])
    weight = np.repeat([1.0, 0.0], len(X32))
    model = AutoEncoder(early_stopping=True, noise=noise, **QUICK).fit(x, sample_weight=weight)
    assert max(model.validation_curve_) < 10, "samples of no weight are a hundred away"


def test_learning_goes_on() -> None:
    once = MLPClassifier(max_iter=5, tol=None, random_state=0).fit(X, Y)
    parts = MLPClassifier(random_state=0)
    for _ in range(5):
        parts.partial_fit(X, Y, classes=[0, 1])
    np.testing.assert_array_equal(once.predict_proba(X), parts.predict_proba(X))
    warm = MLPClassifier(max_iter=2, tol=None, warm_start=True, random_state=0).fit(X, Y)
    warm.set_params(max_iter=3).fit(X, Y)
    np.testing.assert_array_equal(once.predict_proba(X), warm.predict_proba(X))
    with pytest.raises(ValueError, match="not among the classes"):
        parts.partial_fit(X, Y + 1)
    with pytest.raises(ValueError, match="classes must be passed"):
        MLPClassifier().partial_fit(X, Y)


def test_a_module_of_ones_own() -> None:
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))
    before = module.state_dict()
    model = MLPClassifier(module=module, **{**QUICK, "max_iter": 60}).fit(X, Y)
    assert model.score(X, Y) > 0.85
    for name, array in module.state_dict().items():
        np.testing.assert_array_equal(array, before[name], "the module given is left alone")
    auto = AutoEncoder(module=lambda n: nn.AutoEncoder.symmetric(n, 4, output="Identity"), **QUICK)
    auto.fit(X)
    assert auto.transform(X).shape == (200, 4)


def test_codes_noise_and_scores() -> None:
    x = (load_digits().data / 16).astype(np.float32)
    model = AutoEncoder((64, 32), noise=0.3, max_iter=100, batch_size=64, random_state=0)
    model.set_params(learning_rate=3e-3).fit(x[:1400])
    noisy = np.clip(x[1400:] + 0.3 * np.random.default_rng(0).standard_normal(x[1400:].shape), 0, 1)
    cleaned = model.denoise(noisy.astype(np.float32))
    assert ((cleaned - x[1400:]) ** 2).mean() < 0.5 * ((noisy - x[1400:]) ** 2).mean()
    codes = model.transform(x)
    np.testing.assert_array_equal(model.inverse_transform(codes), model.denoise(x))
    assert model.score(x) == pytest.approx(-((model.denoise(x) - x) ** 2).mean())
    with pytest.raises(ValueError, match=r"codes are \(N, 32\)"):
        model.inverse_transform(x)


def test_outliers_and_the_features_that_give_them_away() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    broken = x[y == 1][:300]
    broken[:15, 7] += 20 * broken[:, 7].std()
    model = AutoEncoderDetector((16, 4), contamination=0.05, batch_size=32, **QUICK).fit(broken)
    assert (model.predict(broken) == -1).sum() == 15
    assert roc_auc_score(np.arange(300) < 15, -model.score_samples(broken)) > 0.95
    errors = model.reconstruction_errors(broken[:15])
    assert (errors.argmax(1) == 7).sum() >= 12
    np.testing.assert_allclose(-errors.mean(1), model.score_samples(broken[:15]))
    np.testing.assert_array_equal(
        model.decision_function(broken), model.score_samples(broken) - model.offset_
    )


def test_one_row_is_what_it_is_among_others() -> None:
    for kind in ALL:
        model = kind(**QUICK).fit(X32, Y)
        many = outputs(model, X32)
        one = np.concatenate([outputs(model, X32[i : i + 1]) for i in range(5)])
        np.testing.assert_allclose(one, many[:5], rtol=2e-5, atol=1e-6)


def test_predictions_are_those_of_eval_mode_and_the_same_each_time() -> None:  # case 16
    model = MLPClassifier(dropout=0.5, **QUICK).fit(X32, Y)
    first = model.predict_proba(X32)
    np.testing.assert_array_equal(first, model.predict_proba(X32))
    assert not model.model_.training
    model.partial_fit(X32, Y)
    np.testing.assert_array_equal(model.predict_proba(X32), model.predict_proba(X32))


@pytest.mark.parametrize("kind", ALL)
def test_a_divergence_is_an_error_that_says_when(kind: Any) -> None:  # case 6
    wild = {**QUICK, "learning_rate": 1e30}
    with pytest.raises(ldl.DivergedError, match="epoch 1"):
        kind(**wild).fit(X32 * 1e15, Y * 1e15 if kind is MLPRegressor else Y)


# ---- on a device ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL)
def test_what_lies_on_a_device_stays_there(
    kind: Any, fake: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    crossed: list[int] = []
    to_numpy = fake.to_numpy
    monkeypatch.setattr(fake, "to_numpy", lambda x: crossed.append(x.size) or to_numpy(x))
    x = fake.asarray(X32)
    y = fake.asarray(Y if kind is MLPClassifier else Y.astype(np.float32))
    weight = fake.asarray(np.ones(len(X32), np.float32))
    model = kind(backend=fake, **{**QUICK, "max_iter": 2})
    fake.ledger.uploads.clear()
    model.fit(x, y, sample_weight=weight)
    found = outputs(model, x)
    assert isinstance(found, FakeArray)
    assert not [shape for shape in fake.ledger.uploads if shape[:1] == (200,) and len(shape) > 1]
    assert max(crossed, default=0) < len(X32), "losses alone are read"
    sent = kind(backend=fake, **{**QUICK, "max_iter": 2}).fit(X32, Y, np.ones(len(X32)))
    host = kind(backend="numpy", **{**QUICK, "max_iter": 2}).fit(X32, Y, np.ones(len(X32)))
    for other in (sent, host):
        expected = outputs(other, X32)
        assert isinstance(expected, np.ndarray), "what comes from the host goes back there"
        np.testing.assert_allclose(to_numpy(found), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(outputs(model, X32), to_numpy(found))
    if kind is MLPClassifier:
        labels = model.predict(x)
        assert isinstance(labels, FakeArray)
        balanced = kind(backend=fake, class_weight="balanced", **QUICK).fit(x, y)
        assert isinstance(balanced.predict(x[:1]), FakeArray)
    with pytest.raises(ValueError, match="expecting 6 features"):
        outputs(model, x[:, :3])
    with pytest.raises(ValueError, match="contains NaN in column 1"):
        outputs(model, fake.asarray(np.where(np.arange(6) == 1, np.nan, X32)))


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_module_with_other_outputs_than_classes_is_refused_before_it_learns(outputs: int) -> None:
    x, y = np.ones((6, 4)), [0, 1] * 3
    model = MLPClassifier(module=nn.Sequential(nn.Linear(4, outputs)), max_iter=1)
    with pytest.raises(ValueError, match=rf"makes \(1, {outputs}\) of one sample, and 2 classes"):
        model.fit(x, y)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        model.predict(x)


def test_partial_fit_is_told_the_same_classes_or_none() -> None:
    x, y = np.ones((6, 4)), ["a", "ß"] * 3
    model = MLPClassifier(hidden_layer_sizes=(2,)).partial_fit(x, y, classes=["a", "ß", "é"])
    model.partial_fit(x, y).partial_fit(x, y, classes=["é", "ß", "a"])
    with pytest.raises(ValueError, match="those of the first call to partial_fit"):
        model.partial_fit(x, y, classes=["a", "ß"])
