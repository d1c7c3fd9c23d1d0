"""What `validation_split` holds out, and that all else is as without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from checks import one_line
from fake_device import FakeBackend, HostBackend
from fake_device import fixture as fake
from ldl import nn, optim
from ldl.data import Arrays, GaussianNoise
from ldl.data.splitting import split

__all__ = ["fake"]

HOST = ldl.get_backend("numpy")
rng = np.random.default_rng(0)
X = rng.random((60, 4)).astype("float32")
Y = (np.arange(60) // 20).astype("int64")  # sorted: the last samples are of one class


def run(data: Any = (X, Y), epochs: int = 3, **options: Any) -> tuple[Any, ldl.History]:
    ldl.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    optimizer = optim.Adam(model, lr=0.01)
    history = ldl.fit(model, data, nn.CrossEntropyLoss(), optimizer, epochs, **options)
    return model.state_dict(), history


def figures(history: ldl.History) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def test_it_is_the_fit_of_the_two_parts() -> None:
    learned, held = split(Arrays(X, Y), 0.2, HOST)
    options = {"metrics": ["accuracy"], "batch_size": 7, "seed": 5}
    weights, history = run(validation_split=0.2, **options)
    expected, other = run((learned.x, learned.y), validation=(held.x, held.y), **options)
    np.testing.assert_equal(weights, expected)
    assert figures(history) == figures(other)
    assert "val_accuracy" in history.rows[-1]


@pytest.mark.parametrize(("count", "fraction", "held"), [(60, 0.1, 6), (10, 0.9, 9), (7, 0.3, 2)])
def test_every_sample_is_in_one_part_with_all_that_is_its_own(
    count: int, fraction: float, held: int
) -> None:
    data = Arrays(X[:count], np.arange(count), GaussianNoise(0.1))
    data.extra = np.arange(count) + 100  # type: ignore[attr-defined]
    parts = split(data, fraction, HOST)
    assert [len(part) for part in parts] == [count - held, held]
    assert sorted(np.concatenate([part.y for part in parts])) == [*range(count)]
    for part in parts:
        assert (np.diff(part.y) > 0).all()
        np.testing.assert_array_equal(part.x, X[part.y])
        np.testing.assert_array_equal(part.extra, part.y + 100)  # type: ignore[attr-defined]
        assert part.noise is data.noise
    assert len(data) == count


def test_sorted_classes_are_in_both_parts_and_an_autoencoders_target_stays_its_input() -> None:
    learned, held = split(Arrays(X, Y), 0.25, HOST)
    assert {*learned.y} == {*held.y} == {0, 1, 2}
    learned, held = split(Arrays(X), 0.25, HOST)
    assert learned.x is learned.y
    assert held.x is held.y


def test_no_seed_and_no_further_fit_learns_what_was_held_out() -> None:
    held = []

    class Look(nn.CrossEntropyLoss):
        def check(self, output: Any, target: Any) -> None:
            held.append(np.asarray(target).tolist())

    for seed in (0, 9):
        ldl.manual_seed(0)
        model = nn.Linear(4, 3)
        ldl.fit(model, (X, Y), Look(), optim.SGD(model), 1, seed=seed, validation_split=0.3)
    assert held[:2] == held[2:]
    assert [len(part) for part in held] == [42, 18, 42, 18]


def test_a_run_resumes_with_it_and_not_with_another(tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    whole, _ = run(epochs=4, validation_split=0.2)
    run(epochs=2, validation_split=0.2, checkpoint=path)
    resumed, _ = run(epochs=4, validation_split=0.2, checkpoint=path, resume=True)
    np.testing.assert_equal(resumed, whole)
    with pytest.raises(ldl.CheckpointError, match="samples 48 in the file, 42 here") as error:
        run(epochs=5, validation_split=0.3, checkpoint=path, resume=True)
    one_line(error)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation_split": 0}, "validation_split must be finite and > 0 and < 1, got 0"),
        ({"validation_split": 1.0}, "validation_split must be"),
        ({"validation_split": float("nan")}, "validation_split must be"),
        ({"validation_split": True}, "validation_split must be a number"),
        ({"validation_split": "a tenth"}, "validation_split must be a number"),
        ({"validation_split": 0.001}, "validation_split=0.001 of 60 samples holds out 0: each"),
        ({"validation_split": 0.999}, "of 60 samples holds out 60: each part needs one"),
        ({"validation_split": 0.1, "validation": (X, Y)}, "leave one of them out"),
        ({"validation_split": 0.1, "data": [(X, Y)]}, "divides arrays, not batches"),
    ],
)
def test_what_cannot_be_split_is_refused(options: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message) as error:
        run(**options)
    one_line(error)


def test_arrays_of_a_device_are_split_there_into_the_hosts_parts(fake: FakeBackend) -> None:
    x, y = fake.asarray(X), fake.asarray(Y)
    with fake.no_waiting():
        parts = split(Arrays(x, y), 0.2, fake)
    for part, host in zip(parts, split(Arrays(X, Y), 0.2, HOST), strict=True):
        np.testing.assert_array_equal(fake.to_numpy(part.x), host.x)
        np.testing.assert_array_equal(fake.to_numpy(part.y), host.y)
    _, on_device = run((x, y), validation_split=0.2)
    with ldl.use_backend(HostBackend()):
        _, expected = run(validation_split=0.2)
    assert figures(on_device) == figures(expected)
