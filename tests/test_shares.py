"""What several processes draw for their rows is what one draws for all of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import ldl
from ldl import nn, random
from ldl.data import GaussianNoise, MaskingNoise, SaltPepperNoise, SquareNoise
from ldl.random import Key, Share, Stream

SHAPES = [(1,), (13, 1), (10, 7), (33, 5, 3), (301, 784)]
BACKEND = ldl.get_backend("numpy")


def shares(rows: int, ranks: int) -> list[Share]:
    """Consecutive rows, as equally many as can be."""
    ends = [rows * r // ranks for r in range(ranks + 1)]
    return [Share(low, high - low, rows) for low, high in pairwise(ends)]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["uniform float32", "normal float32", "normal float64"])
def test_the_parts_of_a_draw_are_the_draw(kind: str, shape: Any, ranks: int) -> None:
    draw, dtype = kind.split()
    key = Key(3, 5, 7)
    whole = getattr(BACKEND, draw)(shape, dtype, key)
    parts = [
        getattr(BACKEND, draw)((share.here, *shape[1:]), dtype, key._replace(share=share))
        for share in shares(shape[0], ranks)
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize(
    "noise",
    [GaussianNoise(0.3), MaskingNoise(0.4), SaltPepperNoise(0.2), SquareNoise(2)],
    ids=repr,
)
def test_the_parts_of_a_noise_are_the_noise(noise: Any, ranks: int) -> None:
    x = np.linspace(0, 1, 7 * 16, dtype="float32").reshape(7, 16)
    whole = noise(x, Stream(1, random.NOISE), BACKEND)
    parts = []
    for share in shares(7, ranks):
        with random.shared(share):
            rows = x[share.first : share.first + share.here]
            parts.append(noise(rows, Stream(1, random.NOISE), BACKEND))
    np.testing.assert_array_equal(np.concatenate(parts), whole)


LAYERS: dict[str, Any] = {
    "Dropout": (lambda: nn.Dropout(0.5), (6, 5)),
    "Dropout2d": (lambda: nn.Dropout2d(0.5), (6, 2, 3, 4)),
    "LSTM": (lambda: nn.LSTM(3, 4, num_layers=2, dropout=0.5, bidirectional=True), (6, 5, 3)),
    "TransformerBlock": (lambda: nn.TransformerBlock(4, 2, dropout=0.5), (6, 3, 4)),
}


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_that_draw_give_in_parts_what_they_give_at_once(name: str, ranks: int) -> None:
    make, shape = LAYERS[name]

    def layer() -> Any:
        with random.seeded(4):
            made: Any = make()
        return made.to(dtype="float64")

    x = np.random.default_rng(0).normal(size=shape)
    whole = layer()(x)
    parts = []
    for share in shares(len(x), ranks):
        with random.shared(share):
            parts.append(layer()(x[share.first : share.first + share.here]))
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=1e-14)


def test_what_is_drawn_for_no_samples_is_the_same_everywhere() -> None:
    mask = BACKEND.uniform((5, 3), "float32", Stream(0, random.DROPOUT).next())
    with random.shared(Share(2, 2, 4)):
        key = Stream(0, random.DROPOUT).next()
    assert key.share is not None
    np.testing.assert_array_equal(BACKEND.uniform((5, 3), "float32", key), mask)


def test_a_share_is_in_force_inside_its_block_alone() -> None:
    stream = Stream(0, random.NOISE)
    with random.shared(Share(0, 1, 2)):
        assert stream.next().share == (0, 1, 2)
        assert random.next_weights().share is None
        with random.shared(None):
            assert stream.next().share is None
    assert stream.next() == Key(0, random.NOISE << 32, 2)
