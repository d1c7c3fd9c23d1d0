"""GELU and its derivative to a few units in the last place, the tails included."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
import pytest

from ldl import nn
from ldl.kernels import functions
from played import WAYS, gathered, needs_a_compiler

mp.mp.dps = 50


def normal(x: float) -> tuple[Any, Any, Any]:
    """xΦ(x), its derivative, and the sum of the sizes of the derivative's parts."""
    cdf, density = mp.erfc(-mp.mpf(x) / mp.sqrt(2)) / 2, mp.npdf(x)
    return x * cdf, cdf + x * density, cdf + abs(x) * density


def ulps(found: Any, right: Any, scale: Any, dtype: str) -> float:
    """The error in units in the last place of a number of a size."""
    if found == right:
        return 0.0
    info = np.finfo(dtype)
    exponent = max(int(mp.floor(mp.log(abs(scale), 2))), int(info.minexp))
    return float(abs(mp.mpf(float(found)) - right) / mp.mpf(2) ** (exponent - int(info.nmant)))


def points(dtype: str) -> Any:
    draw = np.random.default_rng(0)
    small = 10.0 ** draw.uniform(-9, 1.1, 200) * draw.choice([-1, 1], 200)
    return np.concatenate([draw.uniform(-13, 13, 500), np.linspace(-13, 13, 53), small]).astype(
        dtype
    )


@needs_a_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("way", ["own code", *WAYS])
def test_values_and_derivatives_are_right_to_a_few_units(
    way: str, dtype: str, monkeypatch: Any
) -> None:
    def function(layer: Any, x: Any) -> Any:
        return layer.forward(x), layer.backward(layer.backend.xp.ones_like(x))

    x = points(dtype)
    with gathered(way, monkeypatch) as backend:
        layer = nn.GELU()
        if way == "own code":
            found = function(layer, x)
        else:
            found = backend.record(function, (layer,), (backend.asarray(x),))(backend.asarray(x))
        values, derivatives = (np.array(backend.to_numpy(y)) for y in found)
    assert values.dtype == derivatives.dtype == x.dtype
    for at, y, slope in zip(x, values, derivatives, strict=True):
        right, right_slope, size = normal(float(at))
        assert ulps(y, right, right, dtype) <= 8, at
        assert ulps(slope, right_slope, size, dtype) <= 4, at


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_limits(dtype: str) -> None:
    far = float(np.finfo(dtype).max)
    layer = nn.GELU()
    x = np.array([-np.inf, -far, far, np.inf, np.nan, 0], dtype)
    np.testing.assert_array_equal(layer(x), np.array([0, 0, far, np.inf, np.nan, 0], dtype))
    layer.train()
    layer(x)
    slopes = layer.backward(np.ones_like(x))
    np.testing.assert_array_equal(slopes, np.array([0, 0, 1, 1, np.nan, 0.5], dtype))


def interpolated(size: int, top: int, s: int) -> tuple[Any, Any]:
    """P (`size` coefficients) and Q (one more) through Φ(-z) exp(z²/2), highest powers first."""
    count = 2 * size
    bent = [
        mp.mpf(top) / (top + s) * mp.sin((2 * k + 1) * mp.pi / (4 * count)) ** 2
        for k in range(count)
    ]
    system, right = mp.matrix(count, count), mp.matrix(count, 1)
    for row, t in enumerate(bent):
        z = s * t / (1 - t)
        right[row] = value = mp.erfc(z / mp.sqrt(2)) * mp.exp(z * z / 2) / 2
        for j in range(size):
            system[row, j] = z**j
            system[row, size + j] = -value * z ** (j + 1)
    found = [*mp.lu_solve(system, right)]
    return found[:size][::-1], [*found[size:][::-1], 1]


@pytest.mark.parametrize(
    ("kind", "size", "top", "s"), [("single", 5, 15, 3), ("double", 11, 40, 4)]
)
def test_the_coefficients_are_those_of_the_interpolation(
    kind: str, size: int, top: int, s: int
) -> None:
    digits = 1e-9 if kind == "single" else 1e-16
    for mine, right in zip(functions._TAIL[kind], interpolated(size, top, s), strict=True):
        assert len(mine) == len(right)
        for a, b in zip(mine, right, strict=True):
            assert abs(a - b) <= digits * abs(b)
            assert a > 0
