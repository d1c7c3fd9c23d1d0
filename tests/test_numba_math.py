"""What fused loops call are the mathematical functions, to a few units in the last place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit

from ldl_numpy import numba_math

SPECIAL = np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38], "float32")
RANGES = {
    "exp": np.linspace(-110, 95, 200_001),
    "log": np.concatenate((np.geomspace(1e-44, 3e38, 200_001), np.linspace(0.5, 1.5, 100_001))),
    "log1p": np.concatenate(
        (np.geomspace(1e-20, 1e30, 100_001), -np.geomspace(1e-20, 0.999, 9999))
    ),
    "expm1": np.concatenate((np.linspace(-30, 88, 100_001), np.geomspace(1e-20, 1, 9999))),
    "tanh": np.concatenate((np.linspace(-12, 12, 200_001), np.geomspace(1e-20, 1, 9999))),
}


def compiled(name: str) -> Any:
    function = getattr(numba_math, f"{name}_f4")

    @njit(error_model="numpy")  # type: ignore[untyped-decorator]
    def each(x: Any) -> Any:
        y = np.empty_like(x)
        for i in range(x.size):
            y[i] = function(x[i])
        return y

    return each


@pytest.mark.parametrize("name", RANGES)
def test_values_are_right_to_a_few_units_in_the_last_place(name: str) -> None:
    function = compiled(name)
    x = RANGES[name].astype("float32")
    with np.errstate(all="ignore"):
        exact = getattr(np, name)(x.astype("float64"))
        rounded = exact.astype("float32")
        got = function(x)
        normal = np.isfinite(rounded) & (np.abs(rounded) > 2e-38)
        units = np.abs(got[normal] - exact[normal]) / np.spacing(np.abs(rounded[normal]))
        assert units.max() < 4
        np.testing.assert_array_equal(got[~np.isfinite(rounded)], rounded[~np.isfinite(rounded)])
        small = np.abs(rounded) <= 2e-38
        np.testing.assert_allclose(got[small], rounded[small], atol=2e-38)


@pytest.mark.parametrize("name", RANGES)
def test_special_values_are_those_of_numpy(name: str) -> None:
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(SPECIAL)
    np.testing.assert_allclose(compiled(name)(SPECIAL), expected, rtol=1e-5, atol=1e-38)
