"""What `ldl.fit` promises."""

import threading

import numpy as np
import pytest

import ldl
from ldl import nn, optim
from ldl.data import Arrays, GaussianNoise

rng = np.random.default_rng(0)
X = rng.random((70, 6)).astype("float32")
LABELS = (X.sum(axis=1) > 3).astype("int64") + (X[:, 0] > 0.5)


def classifier(p=0.2):
    ldl.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(p), nn.Linear(16, 3))


def fit(model, epochs=4, optimizer=None, data=(X, LABELS), **options):
    optimizer = optimizer or optim.Adam(model, lr=0.02)
    return ldl.fit(model, data, nn.CrossEntropyLoss(), optimizer, epochs, **options)


def weights(model):
    return {name: array.copy() for name, array in model.state_dict().items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def differ(a, b):
    return any((a[name] != b[name]).any() for name in a)


layer_by_layer = pytest.mark.filterwarnings("ignore:the step runs layer by layer")


class Spy(nn.Module):
    """Remembers the batches that passed."""

    def __init__(self):
        self.seen = []

    def forward(self, x):
        if self.training:
            self.seen.append(x.copy())
        return x

    def backward(self, grad):
        return grad


# ---- learning ------------------------------------------------------------------------------------


def test_a_classifier_learns_and_the_history_tells():
    model = classifier(p=0.0)
    history = fit(model, 60, metrics=["accuracy"], validation=(X, LABELS), batch_size=16, seed=3)
    assert len(history) == 60
    assert history["epoch"] == list(range(1, 61))
    assert history["loss"][0] > 0.9 > 0.4 > history["loss"][-1]
    hits = (model.predict(X).argmax(axis=1) == LABELS).mean()
    assert history["val_accuracy"][-1] == pytest.approx(hits)
    assert hits > 0.9
    loss = nn.CrossEntropyLoss()(model.predict(X), LABELS)
    assert history["val_loss"][-1] == pytest.approx(float(loss), rel=1e-5)
    assert set(history.rows[0]) == {
        *("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds")
    }


def test_the_loss_of_an_epoch_is_the_mean_over_its_samples_also_with_a_smaller_last_batch():
    model = classifier(p=0.0)  # case 12: 70 samples are 4 batches of 16 and one of 6
    history = fit(model, 1, optim.SGD(model, lr=0.0), batch_size=16)
    expected = nn.CrossEntropyLoss()(model.predict(X), LABELS)
    assert history["loss"][0] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 69, 1000])
def test_a_last_batch_of_one_sample_never_makes_a_nan(batch_size):  # case 12
    model = classifier()
    history = fit(model, 1, batch_size=batch_size)
    assert np.isfinite(history["loss"][0])


def test_psnr_is_that_of_the_pooled_error():
    model = nn.Sequential(nn.Linear(6, 6), nn.Sigmoid())
    history = ldl.fit(
        model,
        X,
        nn.MSELoss(),
        optim.SGD(model, lr=0.0),
        1,
        metrics=["psnr", "mse", "mae"],
        batch_size=32,
    )
    error = model.predict(X) - X
    assert history["mse"][0] == pytest.approx((error**2).mean(), rel=1e-5)
    assert history["psnr"][0] == pytest.approx(-10 * np.log10((error**2).mean()), rel=1e-5)
    assert history["mae"][0] == pytest.approx(abs(error).mean(), rel=1e-5)


def test_fit_clears_gradients_that_someone_left():  # case 15
    clean, dirty = classifier(), classifier()
    for p in dirty.parameters():
        p.accumulate(np.full(p.shape, 1e3, "float32"))
    fit(clean, 1)
    fit(dirty, 1)
    assert_same(weights(clean), weights(dirty))


def test_fit_leaves_the_model_in_eval_mode_and_predictions_do_not_vary():  # case 16
    model = classifier(p=0.9)
    fit(model, 1)
    assert not any(module.training for module in model.modules())
    np.testing.assert_array_equal(model(X), model(X))
    model.train()
    np.testing.assert_array_equal(model.predict(X), model.predict(X))
    assert all(module.training for module in model.modules())


# ---- order and seeds -----------------------------------------------------------------------------


@layer_by_layer
def test_batches_are_reshuffled_every_epoch_and_every_sample_comes_once():
    spy = Spy()
    model = nn.Sequential(spy, nn.Linear(6, 3))
    fit(model, 3, batch_size=32)
    epochs = [np.concatenate(spy.seen[i : i + 3]) for i in (0, 3, 6)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch, axis=0), np.sort(X, axis=0))
    assert (epochs[0] != X).any()
    assert (epochs[0] != epochs[1]).any()
    assert (epochs[1] != epochs[2]).any()


@layer_by_layer
def test_noise_is_drawn_afresh_for_every_epoch_and_leaves_the_target_alone():
    spy = Spy()
    model = nn.Sequential(spy, nn.Linear(6, 6), nn.Sigmoid())
    data = Arrays(X, noise=GaussianNoise(0.3))
    loss = nn.MSELoss()
    targets = []
    inner = loss.forward
    loss.forward = lambda output, target: (targets.append(target.copy()), inner(output, target))[1]
    ldl.fit(model, data, loss, optim.SGD(model, lr=0.0), 2, batch_size=70)
    first, second = (np.sort(batch, axis=0) for batch in spy.seen)
    assert (first != second).any()
    for target in targets:
        np.testing.assert_array_equal(np.sort(target, axis=0), np.sort(X, axis=0))
    assert spy.seen[0].min() >= 0
    assert spy.seen[0].max() <= 1


def test_one_seed_gives_one_result_and_another_seed_another():
    a, b, c = classifier(), classifier(), classifier()
    fit(a, seed=7)
    fit(b, seed=7)
    fit(c, seed=8)
    assert_same(weights(a), weights(b))
    assert differ(weights(a), weights(c))


def test_validation_and_metrics_do_not_change_the_training():
    plain, watched = classifier(), classifier()
    fit(plain)
    fit(watched, validation=Arrays(X, LABELS, GaussianNoise(0.1)), metrics=["accuracy"])
    assert_same(weights(plain), weights(watched))


def test_two_threads_train_two_models_as_one_would():
    alone = [classifier(), classifier()]
    for seed, model in enumerate(alone):
        fit(model, 8, seed=seed)
    together = [classifier(), classifier()]
    optimizers = [optim.Adam(model, lr=0.02) for model in together]
    threads = [
        threading.Thread(target=fit, args=(m, 8, o), kwargs={"seed": seed})
        for seed, (m, o) in enumerate(zip(together, optimizers, strict=True))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(alone, together, strict=True):
        assert_same(weights(a), weights(b))


# ---- resuming ------------------------------------------------------------------------------------


def prepared():
    """A model with dropout, an optimizer with a schedule that has a state, and a callback."""
    model = classifier()
    schedule = optim.ReduceLROnPlateau(0.5, patience=0, threshold=0.05)
    optimizer = optim.Adam(model, lr=0.02, schedule=schedule, clip_norm=1.0)
    stopping = ldl.EarlyStopping("val_loss", patience=50)
    data = Arrays(X, LABELS, GaussianNoise(0.2))
    options = {"data": data, "validation": data, "callbacks": [stopping], "batch_size": 16}
    return model, optimizer, options


def without_time(history):
    return [[(k, v) for k, v in row.items() if k != "seconds"] for row in history.rows]


def test_a_resumed_run_is_bit_for_bit_the_run_that_was_not_stopped(tmp_path):  # case 24
    model, optimizer, options = prepared()
    history = fit(model, 8, optimizer, **options)
    assert len(set(history["lr"])) > 1

    for stop in (1, 5, 7):
        path = tmp_path / f"{stop}.safetensors"
        part, optimizer, options = prepared()
        fit(part, stop, optimizer, checkpoint=path, **options)
        ldl.manual_seed(99)
        other, optimizer, options = prepared()
        resumed = fit(other, 8, optimizer, checkpoint=path, resume=True, **options)
        assert_same(weights(model), weights(other))
        assert without_time(resumed) == without_time(history)


def test_an_interrupt_leaves_a_usable_model_and_the_last_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"

    def interrupt(run):
        if run.epoch == 3:
            raise KeyboardInterrupt

    model, optimizer, options = prepared()
    history = fit(model, 6, optimizer, **options)

    broken, optimizer, options = prepared()
    options["callbacks"].append(interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(broken, 6, optimizer, checkpoint=path, **options)
    assert not broken.training
    assert np.isfinite(broken.predict(X)).all()

    other, optimizer, options = prepared()
    resumed = fit(other, 6, optimizer, checkpoint=path, resume=True, **options)
    assert_same(weights(model), weights(other))
    assert without_time(resumed) == without_time(history)


def test_a_finished_run_resumes_to_its_own_end(tmp_path):
    path = tmp_path / "run.safetensors"
    model, optimizer, options = prepared()
    history = fit(model, 3, optimizer, checkpoint=path, **options)
    other, optimizer, options = prepared()
    again = fit(other, 3, optimizer, checkpoint=path, resume=True, **options)
    assert_same(weights(model), weights(other))
    assert again.rows == history.rows


def test_figures_that_are_not_finite_survive_a_checkpoint(tmp_path):
    path = tmp_path / "run.safetensors"

    def score(run):
        run.history.rows[-1] |= {"score": float("inf"), "other": float("nan")}

    for epochs, resume in ((1, False), (2, True)):
        model = classifier()
        stopping = ldl.EarlyStopping("score", mode="max")
        callbacks = [score, stopping]
        history = fit(model, epochs, callbacks=callbacks, checkpoint=path, resume=resume)
    assert history["score"] == [float("inf")] * 2
    assert all(np.isnan(history["other"]))
    assert stopping.best == -float("inf")


def test_a_checkpoint_of_another_run_is_refused_and_changes_nothing(tmp_path):
    path = tmp_path / "run.safetensors"
    model = classifier()
    fit(model, 2, checkpoint=path)
    ldl.manual_seed(1)
    wider = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, 3))
    for other, options, message in (
        (classifier(), {"seed": 5}, "seed 0 in the file, 5 here"),
        (classifier(), {"callbacks": [ldl.EarlyStopping("loss")]}, "callbacks"),
        (wider, {}, r"layers \"Linear\(in_features=6, out_features=16"),
        (nn.Sequential(*classifier().layers[:3], nn.Tanh(), nn.Linear(16, 3)), {}, "layers .*Tanh"),
        (classifier(), {"data": (X + 1, LABELS)}, r"data \(CRC-32\)"),
        (classifier(), {"data": (X, 2 - LABELS)}, r"data \(CRC-32\)"),
    ):
        before = weights(other)
        with pytest.raises(ldl.CheckpointError, match=message) as error:
            fit(other, **{"epochs": 3, "checkpoint": path, "resume": True, **options})
        assert "\n" not in str(error.value)
        assert_same(weights(other), before)
    sgd = classifier()
    with pytest.raises(ldl.CheckpointError, match="optimizer 'Adam' in the file, 'SGD' here"):
        fit(sgd, 2, optim.SGD(sgd), checkpoint=path, resume=True)
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ldl.CheckpointError):
        fit(classifier(), 2, checkpoint=path, resume=True)


# ---- early stopping ------------------------------------------------------------------------------


def test_early_stopping_keeps_a_copy_of_the_best_weights():  # case 17
    model = classifier()
    seen = {}
    stopping = ldl.EarlyStopping("score", patience=2, mode="min")
    scores = [3.0, 1.0, 2.0, 2.0, 0.0]

    def score(run):
        run.history.rows[-1]["score"] = scores[run.epoch - 1]
        seen[run.epoch] = weights(run.model)

    history = fit(model, 5, callbacks=[score, stopping])
    assert len(history) == 4
    assert differ(seen[2], seen[4])
    assert_same(weights(model), seen[2])


def test_the_best_weights_come_back_also_when_patience_never_runs_out():  # case 17
    model = classifier()
    seen = {}

    def score(run):
        run.history.rows[-1]["score"] = [1.0, 9.0, 5.0][run.epoch - 1]
        seen[run.epoch] = weights(run.model)

    fit(model, 3, callbacks=[score, ldl.EarlyStopping("score", patience=99, mode="max")])
    assert_same(weights(model), seen[2])


def test_a_figure_that_does_not_exist_is_named_with_those_that_do():
    with pytest.raises(ValueError, match="'accuracy' to monitor; there are: epoch, loss"):
        fit(classifier(), 1, callbacks=[ldl.EarlyStopping("accuracy")])


# ---- faults --------------------------------------------------------------------------------------


def test_divergence_names_epoch_and_batch_and_gives_the_last_finite_weights_back():  # case 6
    model = nn.Sequential(nn.Linear(6, 6))
    good = []
    with (
        np.errstate(all="ignore"),
        pytest.raises(ldl.DivergedError, match=r"epoch 2, batch \d") as error,
    ):
        ldl.fit(
            model,
            X,
            nn.MSELoss(),
            optim.SGD(model, lr=300.0),
            50,
            batch_size=16,
            callbacks=[lambda run: good.append(weights(run.model))],
        )
    assert error.value.epoch == 2
    assert 1 <= error.value.batch <= 5
    assert len(error.value.history) == 1
    assert_same(weights(model), good[-1])


def test_labels_are_checked_once_before_the_first_step():  # case 3
    for wrong in (3, -1):
        labels = LABELS.copy()
        labels[-1] = wrong
        model = classifier()
        before = weights(model)
        with pytest.raises(ValueError, match=f"label {wrong} is not one of the 3 classes"):
            fit(model, data=(X, labels))
        assert_same(weights(model), before)
    loss = nn.CrossEntropyLoss()
    calls = []
    inner = loss.check
    loss.check = lambda shape, target: (calls.append(len(target)), inner(shape, target))
    model = classifier()
    ldl.fit(model, (X, LABELS), loss, optim.SGD(model), 3, batch_size=10)
    assert calls == [70]


def test_fit_casts_once_what_a_layer_would_refuse():  # case 9
    x64, labels = X.astype("float64"), LABELS.astype("uint8")
    a, b = classifier(), classifier()
    fit(a, data=(x64, labels))
    fit(b)
    assert_same(weights(a), weights(b))
    assert all(p.dtype == "float32" for p in a.parameters())
    pixels = np.arange(60, dtype="uint8").reshape(10, 6)
    fit(classifier(), 1, data=(pixels, LABELS[:10]))
    fit(classifier(), 1, data=(X.tolist(), LABELS.tolist()))
    with pytest.raises(TypeError, match="holds float32 but got float64"):
        a(x64)


def test_batches_of_ones_own_are_taken_and_checked():
    batches = [(X[:30], LABELS[:30]), (X[30:], LABELS[30:])]
    model = classifier()
    history = fit(model, 3, data=batches, validation=batches)
    assert len(history["val_loss"]) == 3
    with pytest.raises(ValueError, match="label 7"):
        fit(classifier(), data=[(X[:2], np.array([0, 7]))])
    with pytest.raises(TypeError, match=r"iterator.*every epoch"):
        fit(classifier(), data=iter(batches))
    with pytest.raises(TypeError, match=r"pair \(x, y\)"):
        fit(classifier(), data=[(X, LABELS, X, X)])
    with pytest.raises(ValueError, match="sample_weight must be one number a sample"):
        fit(classifier(), data=[(X, LABELS, X)])


BAD = [
    ({"data": (X[:0], LABELS[:0])}, ValueError, "empty"),  # case 8
    ({"data": []}, ValueError, "no batches"),  # case 8
    ({"data": (X, LABELS[:5])}, ValueError, "70 samples and y has shape"),
    ({"data": (X, X)}, ValueError, "shape"),
    ({"data": (X, LABELS.astype("float32"))}, TypeError, "labels must be integers"),  # case 4
    ({"data": 5}, TypeError, "data must be an array"),
    ({"data": np.array(["a", "b"])}, TypeError, "numbers"),
    ({"epochs": 0}, ValueError, "epochs must be a positive integer"),
    ({"batch_size": 0}, ValueError, "batch_size must be"),
    ({"batch_size": 2.5}, ValueError, "batch_size must be"),
    ({"metrics": ["f2"]}, ValueError, "no metric is named 'f2'; there are: mse"),
    ({"resume": True}, ValueError, "checkpoint=PATH"),
    ({"seed": -1}, ValueError, "seed must lie"),
    ({"seed": 1.5}, ValueError, "seed must be an integer"),
]


@pytest.mark.parametrize(("options", "kind", "message"), BAD, ids=[m for *_, m in BAD])
def test_settings_that_do_not_fit_are_refused_in_one_line(options, kind, message):
    with pytest.raises(kind, match=message) as error:
        fit(classifier(), **options)
    assert "\n" not in str(error.value)


def test_whole_numbers_of_numpys_are_whole_numbers(tmp_path):
    path = tmp_path / "run.ckpt"
    fit(classifier(), epochs=np.int64(2), batch_size=np.int32(8), seed=np.uint8(3), checkpoint=path)
    own, options = classifier(), {"batch_size": 8, "seed": 3, "checkpoint": path, "resume": True}
    assert len(fit(own, epochs=np.int64(3), **options)) == 3


def test_a_loss_that_is_not_one_number_is_refused():
    model = classifier()
    with pytest.raises(ValueError, match="one number"):
        ldl.fit(model, (X, LABELS), nn.CrossEntropyLoss(reduction="none"), optim.SGD(model), 1)


# ---- what is shown and written -------------------------------------------------------------------


def test_training_is_silent_where_there_is_no_terminal(capfd):
    fit(classifier(), 2)
    assert capfd.readouterr() == ("", "")


def test_the_bar_shows_epoch_loss_metrics_speed_and_time_left(capfd):
    fit(classifier(), 2, metrics=["accuracy"], validation=(X, LABELS), progress=True)
    shown = capfd.readouterr().err
    for part in ("epoch 2/2", "loss=", "accuracy=", "val_loss=", "140/140", "samples/s"):
        assert part in shown


def test_without_tqdm_a_line_is_printed_for_every_epoch(capfd, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    fit(classifier(), 2, progress=True)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("loss=" in line for line in lines)


def test_a_history_is_a_table(tmp_path):
    history = fit(classifier(), 3)
    history.to_csv(tmp_path / "history.csv")
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,lr,seconds"
    assert [float(line.split(",")[1]) for line in lines[1:]] == history["loss"]
    with pytest.raises(KeyError, match="there are: epoch, loss"):
        history["accuracy"]
    assert "3 epochs" in repr(history)


def test_a_summary_shows_layers_shapes_and_sizes():
    model = classifier()
    model[0].requires_grad_(False)
    text = model.summary()
    assert "Linear(6, 16)" in text
    assert "N × 16" in text
    assert "163 parameters" in text
    assert "112 of them frozen" in text
    assert model.training
    assert nn.Sequential(nn.Flatten(), nn.Tanh()).summary((4, 5)).count("N × 20") == 2


def test_a_history_is_iterated_by_epochs():
    history = ldl.History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}])
    assert [row["loss"] for row in history] == history["loss"] == [2.0, 1.0]


def test_layers_that_a_callback_puts_into_eval_mode_stay_there():
    class Hold(ldl.Callback):
        def on_fit_begin(self, run):
            run.model[2].eval()

    def look(run):
        modes.append((run.model.training, run.model[2].training))

    modes = []
    held = fit(classifier(0.5), 3, callbacks=[Hold(), look])
    without = fit(classifier(0.0), 3)
    assert modes == [(True, False)] * 3
    assert held["loss"] == pytest.approx(without["loss"], rel=1e-5)
