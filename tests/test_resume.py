"""A run is resumed with the settings that it had; any other is named, and nothing has changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from ldl import nn, optim
from ldl.data import Arrays, GaussianNoise

rng = np.random.default_rng(0)
X = rng.random((40, 4)).astype("float32")
Y = rng.random((40, 2)).astype("float32")


def run(path: Any, resume: bool = False, **changes: Any) -> tuple[nn.Sequential, ldl.History]:
    ldl.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))
    model.to(dtype=changes.pop("dtype", "float32"))
    draws = model[1].stream.seed, model[1].stream.draw
    build = changes.pop("build", lambda m: optim.Adam(m, lr=0.01, schedule=optim.CosineLR(50)))
    settings: dict[str, Any] = {
        "data": (X, Y),
        "loss": nn.MSELoss(),
        "epochs": 2,
        "batch_size": 8,
        **changes,
    }
    before = {name: a.copy() for name, a in model.state_dict().items()}
    optimizer = build(model)
    try:
        history = ldl.fit(model, optimizer=optimizer, checkpoint=path, resume=resume, **settings)
    except ldl.CheckpointError:
        np.testing.assert_equal(model.state_dict(), before)
        assert optimizer.step_count == 0
        assert (model[1].stream.seed, model[1].stream.draw) == draws
        raise
    return model, history


def adam(**options: Any) -> Any:
    options = {"lr": 0.01, "schedule": optim.CosineLR(50), **options}
    return lambda model: optim.Adam(model, **options)


def grouped(model: Any) -> Any:
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters()}]
    return optim.Adam(groups, lr=0.01, schedule=optim.CosineLR(50))


OTHER: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "type": ({"dtype": "float64"}, ("type 'float32' in the file, 'float64' here",)),  # case 19
    "batch size": ({"batch_size": 10}, ("batch_size 8 in the file, 10 here",)),
    "seed": ({"seed": 3}, ("seed 0 in the file, 3 here",)),
    "loss": ({"loss": nn.MSELoss("mean")}, ("loss", "batchmean", "'mean'")),
    "samples": ({"data": (X[:24], Y[:24])}, ("samples 40 in the file, 24 here",)),
    "noise": ({"data": Arrays(X, Y, GaussianNoise(0.1))}, ("noise None", "GaussianNoise(0.1)")),
    "batches": ({"data": [(X, Y)]}, ("samples 40 in the file, None here",)),
    "learning rate": ({"build": adam(lr=0.02)}, ("lr 0.01 in the file, 0.02 here",)),
    "betas": ({"build": adam(betas=(0.8, 0.99))}, ("betas [0.9, 0.999]", "[0.8, 0.99] here")),
    "clipping": ({"build": adam(clip_norm=1.0)}, ("clip_norm None in the file, 1.0 here",)),
    "no schedule": ({"build": adam(schedule=None)}, ("schedule", "CosineLR(", "Constant()")),
    "schedule": (
        {"build": adam(schedule=optim.CosineLR(60))},
        ("total_steps=50", "total_steps=60"),
    ),
    "optimizer": ({"build": lambda m: optim.SGD(m)}, ("optimizer 'Adam' in the file, 'SGD' here",)),
    "groups": ({"build": grouped}, ("groups 1 in the file, 2 here",)),
    "two at once": ({"batch_size": 10, "seed": 3}, ("batch_size 8", "seed 0")),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_setting_is_named_and_nothing_has_changed(name: str, tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    run(path)
    before = path.read_bytes()
    changes, words = OTHER[name]
    with pytest.raises(ldl.CheckpointError) as error:
        run(path, resume=True, **{"epochs": 4, **changes})
    message = one_line(error)
    for word in words:
        assert word in message
    assert path.read_bytes() == before


HELD_OUT: dict[str, tuple[Any, str]] = {
    "none": (None, "validation True in the file, False here"),
    "fewer": ((X[:10], Y[:10]), "samples of validation 40 in the file, 10 here"),
    "others": ((X, 1 - Y), r"data of validation \(CRC-32\)"),
    "noise": (Arrays(X, Y, GaussianNoise(0.1)), "noise of validation None in the file, 'Gaussian"),
    "batches": ([(X, Y)], "samples of validation 40 in the file, None here"),
}


@pytest.mark.parametrize("name", HELD_OUT)
def test_validation_is_compared_since_schedules_and_callbacks_go_by_it(
    name: str, tmp_path: Any
) -> None:
    path = tmp_path / "run.ckpt"
    run(path, validation=(X, Y))
    other, words = HELD_OUT[name]
    with pytest.raises(ldl.CheckpointError, match=words):
        run(path, resume=True, validation=other)
    _, history = run(path, resume=True, validation=(X.astype("float64"), Y), epochs=3)
    assert len(history["val_loss"]) == 3


class Collecting(ldl.Callback):
    """One whose argument is written to in the course of a run."""

    def __init__(self, into: list[float]) -> None:
        self.into = into

    def on_epoch_end(self, run: ldl.Run) -> None:
        self.into.append(run.history["loss"][-1])

    def state_dict(self) -> dict[str, Any]:
        return {"into": self.into}

    def load_state(self, state: dict[str, Any], arrays: Any) -> None:
        self.into[:] = state["into"]


Stop = ldl.EarlyStopping


@pytest.mark.parametrize(
    "callbacks",
    [
        [Stop("val_loss"), Stop("loss"), Collecting([])],
        [Stop("loss"), Stop("loss"), Collecting([])],
        [Stop("loss"), Stop("val_loss", mode="max"), Collecting([])],
        [Stop("loss"), Stop("val_loss", 5), Collecting([])],
        [Stop("loss"), Collecting([]), Stop("val_loss")],
        [Stop("loss"), Stop("val_loss"), Collecting([1.0])],
        [Stop("loss"), Stop("val_loss")],
        [],
    ],
    ids=str,
)
def test_callbacks_with_a_state_are_compared_by_their_arguments_and_order(
    callbacks: Any, tmp_path: Any
) -> None:
    path = tmp_path / "run.ckpt"

    def same() -> Any:
        return [Stop("loss"), Stop("val_loss"), Collecting([])]

    run(path, validation=(X, Y), callbacks=same())
    with pytest.raises(ldl.CheckpointError, match=r"callbacks \[.EarlyStopping\(.* here") as error:
        run(path, resume=True, validation=(X, Y), callbacks=callbacks)
    one_line(error)
    again = [*same(), print, ldl.Callback()]
    _, history = run(path, resume=True, validation=(X, Y), callbacks=again, epochs=3)
    assert again[2].into == history["loss"]


def unfreeze(run: ldl.Run) -> None:
    if run.epoch == 2:
        run.model.requires_grad_()


def frozen(model: Any) -> Any:
    model[0].requires_grad_(False)
    return adam()(model)


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_layer_that_a_callback_unfroze_learns_on(stop: int, tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    options: dict[str, Any] = {"build": frozen, "callbacks": unfreeze}
    whole, _ = run(tmp_path / "whole.ckpt", epochs=5, **options)
    run(path, epochs=stop, **options)
    if stop == 1:
        with pytest.raises(ldl.CheckpointError, match=r"frozen \['0.weight', '0.bias'\] in the"):
            run(path, resume=True, epochs=5, callbacks=unfreeze)
    resumed, _ = run(path, resume=True, epochs=5, **options)
    np.testing.assert_equal(resumed.state_dict(), whole.state_dict())
    assert all(p.requires_grad for p in resumed.parameters())


@pytest.mark.parametrize("clipping", [{}, {"clip_norm": 1.0}, {"clip_value": 1.0}], ids=str)
def test_a_clipping_that_a_callback_changes_is_resumed(clipping: Any, tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"

    def change(run: ldl.Run) -> None:
        if run.epoch == 2:
            run.optimizer.clip_norm, run.optimizer.clip_value = 0.01, None

    options: dict[str, Any] = {"build": adam(**clipping), "callbacks": change}
    whole, _ = run(tmp_path / "whole.ckpt", epochs=5, **options)
    run(path, epochs=3, **options)
    resumed, _ = run(path, resume=True, epochs=5, **options)
    np.testing.assert_equal(resumed.state_dict(), whole.state_dict())


def test_an_interrupted_run_resumes_with_what_its_callbacks_have_made_of_it(tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"

    def build() -> tuple[nn.Module, optim.Optimizer]:
        ldl.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 2))
        return model, frozen(model)

    def change(run: ldl.Run) -> None:
        unfreeze(run)
        run.optimizer.param_groups[0]["lr"] *= 0.9
        run.optimizer.clip_norm = 0.1

    def interrupt(run: ldl.Run) -> None:
        if run.epoch == stops[0]:
            del stops[0]
            raise KeyboardInterrupt

    whole, optimizer = build()
    options: Any = {"checkpoint": path, "resume": True}
    ldl.fit(whole, (X, Y), nn.MSELoss(), optimizer, 6, callbacks=change)
    model, same = build()
    stops = [3, 5, 99]
    while len(stops) > 1:
        with pytest.raises(KeyboardInterrupt):
            ldl.fit(
                *(model, (X, Y), nn.MSELoss(), same, 6), callbacks=[interrupt, change], **options
            )
    ldl.fit(model, (X, Y), nn.MSELoss(), same, 6, callbacks=[interrupt, change], **options)
    np.testing.assert_equal(model.state_dict(), whole.state_dict())
    fresh, anew = build()
    ldl.fit(fresh, (X, Y), nn.MSELoss(), anew, 6, callbacks=change, **options)
    np.testing.assert_equal(fresh.state_dict(), whole.state_dict())


def test_settings_of_any_length_are_compared(tmp_path: Any) -> None:
    class Table(optim.Schedule):
        def __init__(self, factors: list[float]) -> None:
            self.factors = factors

        def __call__(self, step: int) -> float:
            return self.factors[step]

    def build(model: Any, last: float = 0.5) -> Any:
        return optim.Adam(model, lr=0.01, schedule=Table([0.123456789] * 20_000 + [last]))

    path = tmp_path / "run.ckpt"
    run(path, build=build, epochs=1)
    run(path, build=build, epochs=2, resume=True)
    assert int.from_bytes(path.read_bytes()[:8], "little") < 10_000
    with pytest.raises(ldl.CheckpointError, match="schedule") as error:
        run(path, resume=True, build=lambda model: build(model, 0.987654321))
    for part in ("0.5]", "0.987654321]"):
        assert part in one_line(error)
    assert len(one_line(error)) < 2000


def test_the_shapes_of_samples_are_compared(tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    model = nn.Flatten()

    class Any2(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter(nn.init.ones((1,)))

        def forward(self, x: Any) -> Any:
            self.keep(x)
            return x * self.w.data

        def backward(self, grad: Any) -> Any:
            x = self.take()
            self.w.accumulate((grad * x).sum().reshape(1))
            return grad * self.w.data

    for x, resume in ((X, False), (X[:, :3], True)):
        model = Any2()
        args = (model, x, nn.MSELoss(), optim.SGD(model))
        if not resume:
            ldl.fit(*args, 1, checkpoint=path)
            continue
        with pytest.raises(ldl.CheckpointError, match=r"shape of x \[4\] in the file, \[3\] here"):
            ldl.fit(*args, 2, checkpoint=path, resume=True)


def test_more_epochs_fewer_and_equal_settings_said_otherwise_are_taken(tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    whole, history = run(tmp_path / "whole.ckpt", epochs=4)
    run(path)
    same = {
        "loss": nn.MSELoss(reduction="batchmean"),
        "build": adam(schedule=optim.CosineLR(total_steps=50, min_factor=0.0)),
        "data": (X.astype("float64"), Y),
    }
    resumed, again = run(path, resume=True, epochs=4, **same)
    np.testing.assert_equal(resumed.state_dict(), whole.state_dict())
    assert again["loss"] == history["loss"]
    _, short = run(path, resume=True, epochs=1)
    assert len(short) == 4


def test_settings_are_those_of_the_beginning_whatever_callbacks_do(tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"

    def slower(run: ldl.Run) -> None:
        run.optimizer.param_groups[0]["lr"] *= 0.5

    run(path, callbacks=slower)
    whole, _ = run(tmp_path / "whole.ckpt", epochs=4, callbacks=slower)
    resumed, _ = run(path, resume=True, epochs=4, callbacks=slower)
    np.testing.assert_equal(resumed.state_dict(), whole.state_dict())


def test_a_stateful_schedule_resumes(tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    build = lambda m: optim.SGD(  # noqa: E731
        m, 0.01, schedule=optim.ReduceLROnPlateau(0.5, patience=0, threshold=0.5)
    )
    whole, history = run(tmp_path / "whole.ckpt", epochs=5, build=build)
    assert len(set(history["lr"])) > 1
    run(path, epochs=3, build=build)
    resumed, _ = run(path, resume=True, epochs=5, build=build)
    np.testing.assert_equal(resumed.state_dict(), whole.state_dict())


def test_another_number_of_dropouts_is_refused_too(tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    run(path)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(ldl.CheckpointError, match="random streams 2 in the file, 1 here"):
        ldl.fit(
            model,
            (X, Y),
            nn.MSELoss(),
            adam()(model),
            4,
            batch_size=8,
            checkpoint=path,
            resume=True,
        )


def test_a_checkpoint_of_another_version_is_refused(tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    run(path)
    tensors, header = ldl.io.read_tensors(path)
    ldl.io.write_tensors(path, tensors, {**header, "version": 1})
    with pytest.raises(ldl.CheckpointError, match="version 1"):
        run(path, resume=True)


# ---- how they are said ---------------------------------------------------------------------------


def test_schedules_optimizers_and_callbacks_say_what_they_are() -> None:
    assert repr(optim.CosineLR(10)) == "CosineLR(total_steps=10, min_factor=0.0)"
    warm = optim.WarmupLR(5, optim.StepLR(3))
    assert repr(warm) == "WarmupLR(warmup_steps=5, after=StepLR(step_size=3, gamma=0.1))"
    assert repr(optim.Adam(nn.Linear(2, 2)).schedule) == "Constant()"

    def half(step: int) -> float:
        return 0.5

    assert repr(optim.LambdaLR(half)).endswith("half)")
    assert " at 0x" not in repr(optim.LambdaLR(half))
    plateau = optim.ReduceLROnPlateau()
    before = repr(plateau)
    for _ in range(30):
        plateau.report(1.0)
    assert repr(plateau) == before
    optimizer = optim.SGD(nn.Linear(2, 2), lr=0.1, momentum=0.9, schedule=warm, clip_norm=1.0)
    for part in ("SGD(", "6 parameters", "lr=0.1", "momentum=0.9", "WarmupLR(", "clip_norm=1.0"):
        assert part in repr(optimizer)
    assert repr(ldl.EarlyStopping("loss", patience=3)).startswith(
        "EarlyStopping(monitor='loss', patience=3"
    )
    for thing in (optimizer, warm, plateau, ldl.EarlyStopping()):
        assert "\n" not in repr(thing)
