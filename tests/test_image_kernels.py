"""The generic bodies of convolutions, maxima of windows and scatter-adds are what they say."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ldl.kernels import Window, images
from ldl_numpy import NumpyBackend


class Generic(NumpyBackend):
    """Kernels with their generic bodies alone."""


BACKEND = Generic()

CASES = {
    "3 x 3": ((2, 6, 5, 3), 4, Window((3, 3))),
    "padded": ((2, 6, 5, 3), 4, Window((3, 3), padding=((1, 1), (1, 1)))),
    "padded unevenly": ((2, 6, 5, 3), 4, Window((2, 4), padding=((0, 1), (2, 1)))),
    "strides": ((2, 9, 8, 3), 4, Window((3, 2), (2, 3), ((1, 1), (0, 1)))),
    "strides past the window": ((2, 9, 8, 2), 3, Window((1, 2), (3, 3))),
    "dilated": ((1, 9, 8, 2), 3, Window((3, 2), (1, 2), ((2, 2), (1, 0)), (2, 3))),
    "groups": ((2, 5, 5, 6), 4, Window((3, 3), padding=((1, 1), (1, 1)), groups=2)),
    "depthwise": ((2, 5, 5, 3), 6, Window((3, 3), (2, 2), ((1, 1), (1, 1)), groups=3)),
    "a pixel": ((2, 4, 3, 5), 4, Window((1, 1))),
    "a pixel, strided": ((2, 4, 3, 5), 4, Window((1, 1), (2, 2))),
    "a pixel, in groups": ((2, 4, 3, 4), 2, Window((1, 1), groups=2)),
    "not overlapping": ((2, 6, 4, 2), 3, Window((2, 2), (2, 2))),
    "of one row": ((3, 1, 9, 2), 3, Window((1, 4), padding=((0, 0), (1, 2)))),
    "of no images": ((0, 6, 5, 3), 4, Window((3, 3))),
    "the whole image": ((2, 4, 3, 2), 5, Window((4, 3))),
}


def arrays(shape: tuple[int, ...], o: int, window: Window) -> tuple[Any, ...]:
    rng = np.random.default_rng(sum(shape))
    weight = (*window.size, shape[-1] // window.groups, o)
    places = window.output((shape[1], shape[2]))
    sizes = shape, weight, (o,), (shape[0], *places, o)
    return tuple(rng.standard_normal(size) for size in sizes)


def right(x: Any, weight: Any, bias: Any, window: Window) -> Any:
    dimensions = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(
        *(x, weight, window.stride, window.padding),
        rhs_dilation=window.dilation,
        dimension_numbers=dimensions,
        feature_group_count=window.groups,
    )
    return y + bias


@pytest.mark.parametrize("small", [False, True], ids=["at once", "in small slices"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_convolutions_and_their_gradients_are_jaxs(
    case: tuple[Any, ...], small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small:
        monkeypatch.setattr(images, "SLICE", 40)
    shape, _, window = case
    x, weight, bias, grad = arrays(*case)
    with jax.enable_x64():
        y, pull = jax.vjp(
            lambda *given: right(*given, window), *map(jnp.asarray, (x, weight, bias))
        )
        dx, dw, _ = map(np.asarray, pull(jnp.asarray(grad)))
        y = np.asarray(y)
    close = {"rtol": 1e-11, "atol": 1e-11}
    np.testing.assert_allclose(BACKEND.conv(x, weight, bias, window), y, **close)
    np.testing.assert_allclose(BACKEND.conv(x, weight, None, window), y - bias, **close)
    np.testing.assert_allclose(BACKEND.conv_input(grad, weight, window, shape[1:3]), dx, **close)
    np.testing.assert_allclose(BACKEND.conv_weight(x, grad, window), dw, **close)
    held = np.full(weight.shape, np.nan)
    BACKEND.conv_weight(x, grad, window, out=held)
    BACKEND.conv_weight(x, grad, window, out=held, accumulate=True)
    np.testing.assert_allclose(held, 2 * dw, **close)


def test_types_are_kept_and_nothing_is_written_to() -> None:
    case = CASES["strides"]
    given = [a.astype(np.float32) for a in arrays(*case)]
    before = [a.copy() for a in given]
    x, weight, bias, grad = given
    window = case[2]
    y, where = BACKEND.max_pool(x, window)
    found = [
        BACKEND.conv(x, weight, bias, window),
        BACKEND.conv_weight(x, grad, window),
        BACKEND.conv_input(grad, weight, window, (9, 8)),
        BACKEND.max_pool_input(y, where, window, (9, 8)),
        y,
    ]
    assert {a.dtype for a in found} == {np.dtype(np.float32)}
    assert where.dtype == np.uint8
    for a, b in zip(given, before, strict=True):
        np.testing.assert_array_equal(a, b)


POOLS = {
    "2 x 2": ((2, 6, 4, 3), Window((2, 2), (2, 2))),
    "overlapping": ((2, 6, 7, 3), Window((3, 2), (1, 2))),
    "padded": ((2, 6, 7, 3), Window((3, 3), (2, 2), ((1, 1), (1, 1)))),
    "dilated": ((1, 7, 9, 2), Window((2, 3), (2, 1), ((0, 0), (1, 1)), (3, 2))),
    "rows left over": ((2, 5, 7, 1), Window((2, 2), (2, 2))),
    "more than 256 pixels": ((1, 20, 20, 2), Window((17, 17), (1, 1))),
}


@pytest.mark.parametrize("case", POOLS.values(), ids=POOLS)
def test_maxima_and_their_gradients_are_those_of_every_window(case: tuple[Any, ...]) -> None:
    shape, window = case
    x = np.random.default_rng(3).integers(-3, 4, shape).astype(float)  # with many equal ones
    y, where = BACKEND.max_pool(x, window)
    _, h, w, _ = shape
    grad = np.random.default_rng(4).standard_normal(y.shape)
    dx = np.zeros(shape)
    (top, _), (left, _) = window.padding
    for at in np.ndindex(y.shape):
        seen = {}
        for t, (i, j) in enumerate(window.taps):
            row, column = at[1] * window.stride[0] + i - top, at[2] * window.stride[1] + j - left
            if 0 <= row < h and 0 <= column < w:
                seen[t] = at[0], row, column, at[3]
        best = max(seen, key=lambda t: (x[seen[t]], -t))
        assert y[at] == x[seen[best]]
        assert where[at] == best
        dx[seen[best]] += grad[at]
    np.testing.assert_allclose(BACKEND.max_pool_input(grad, where, window, (h, w)), dx, atol=1e-12)


def test_nan_is_a_maximum_and_what_is_round_an_image_is_not() -> None:
    x = np.full((1, 3, 3, 1), -np.inf)
    window = Window((3, 3), padding=((1, 1), (1, 1)))
    y, where = BACKEND.max_pool(x, window)
    assert (y == -np.inf).all()
    assert where[0, 0, 0, 0] == 4  # the first that is inside
    x[0, 1, 1, 0] = np.nan
    y, where = BACKEND.max_pool(x, window)
    assert np.isnan(y).all()
    assert where[0, 1, 1, 0] == 4


def test_rows_are_added_one_after_the_other() -> None:
    rng = np.random.default_rng(0)
    rows, index, out = rng.standard_normal((7, 3)), np.array([1, 4, 1, 0, 4, 1, 2]), np.ones((5, 3))
    found = BACKEND.add_rows(rows, index, out)
    assert found is out
    want = np.ones((5, 3))
    for row, at in zip(rows, index, strict=True):
        want[at] += row
    np.testing.assert_array_equal(out, want)


def test_generic_bodies_bound_what_they_write_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    pieces = images.Images._pieces

    def seen(n: int, places: Any, width: int) -> Any:
        for at, rows in pieces(n, places, width):
            made.append((at.stop - at.start) * (rows.stop - rows.start) * places[1] * width)
            yield at, rows

    monkeypatch.setattr(images.Images, "_pieces", staticmethod(seen))
    x, weight = np.zeros((20, 70, 60, 40), np.float32), np.zeros((3, 3, 40, 2), np.float32)
    BACKEND.conv(x, weight, None, Window((3, 3)))
    assert len(made) > 20
    assert max(made) <= images.SLICE
