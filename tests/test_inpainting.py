"""A square of each image is missing, anywhere, and what is painted in is nearer than nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import ldl
from fake_device import FakeBackend
from fake_device import fixture as fake
from ldl import nn, optim
from ldl.data import Arrays, SquareNoise, load_dataset, parse_noise
from ldl.random import Stream

__all__ = ["fake"]

HOST = ldl.get_backend("numpy")


@pytest.mark.parametrize("shape", [(500, 7, 9), (500, 7, 9, 3), (500, 64)])
def test_one_square_of_that_side_is_missing_wherever_it_fits(shape: tuple[int, ...]) -> None:
    x = np.ones(shape, np.float32)
    noisy = SquareNoise(3)(x, Stream(0, 1), HOST)
    assert noisy.dtype == x.dtype
    images = noisy.reshape(500, *((8, 8) if len(shape) == 2 else shape[1:3]), -1)
    assert (images == images[..., :1]).all(), "all channels alike"
    gone = images[..., 0] == 0
    assert (gone.sum((1, 2)) == 9).all()
    tops, lefts = gone.any(2).argmax(1), gone.any(1).argmax(1)
    for image, top, left in zip(gone, tops, lefts, strict=True):
        assert image[top : top + 3, left : left + 3].all()
    h, w = gone.shape[1:]
    assert set(tops.tolist()) == set(range(h - 2)), "each place is possible, the edges too"
    assert set(lefts.tolist()) == set(range(w - 2))


def test_texts_and_what_is_refused() -> None:
    assert str(parse_noise("square:8")) == "square:8"
    assert parse_noise("square:4", (6, 8)).image_shape == (6, 8)
    for bad in ("square:0", "square:2.5", "square:x", "square:-3"):
        with pytest.raises(ValueError, match="square"):
            parse_noise(bad)
    x = np.ones((2, 30), np.float32)
    with pytest.raises(ValueError, match=r"samples of \(30,\) are no images: give image_shape"):
        SquareNoise(2)(x, Stream(0, 1), HOST)
    assert SquareNoise(2, (5, 6))(x, Stream(0, 1), HOST).sum() == 2 * (30 - 4)
    with pytest.raises(ValueError, match="side 6 has no room in images of"):
        SquareNoise(6, (5, 6))(x, Stream(0, 1), HOST)


def test_a_device_has_the_hosts_squares_and_never_waits(fake: FakeBackend) -> None:
    x = np.random.default_rng(0).random((20, 8, 8), dtype=np.float32)
    with fake.no_waiting():
        noisy = SquareNoise(3)(fake.asarray(x), Stream(1, 2), fake)
    np.testing.assert_array_equal(fake.to_numpy(noisy), SquareNoise(3)(x, Stream(1, 2), HOST))


def test_the_step_with_its_squares_is_recorded_and_paints_in() -> None:
    digits = load_dataset("digits")
    ldl.manual_seed(0)
    model = nn.AutoEncoder.symmetric(64, [48, 24])
    noise = SquareNoise(3)
    with pytest.MonkeyPatch.context() as patch:
        seen: list[Any] = []
        record = type(model.backend).record
        patch.setattr(type(model.backend), "record", lambda *a: seen.append(record(*a)) or seen[-1])
        data = Arrays(digits.x_train, noise=noise)
        ldl.fit(model, data, nn.BCELoss(), optim.Adam(model, lr=3e-3), 40)
    assert all(recording.played for recording in seen)
    noisy = noise(digits.x_test, Stream(5, 1), HOST)
    missing = (noisy == 0) & (digits.x_test > 0)
    painted = model.denoise(noisy)
    error = ((painted - digits.x_test)[missing] ** 2).mean()
    assert error < 0.3 * (digits.x_test[missing] ** 2).mean()
