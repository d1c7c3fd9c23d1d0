"""NumPy's BLAS, called from compiled code, gives NumPy's products."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

from ldl_numpy import blas
from ldl_numpy.engine import addresses

SIZES = [(1, 1, 1), (1, 30, 64), (3, 5, 1), (32, 1, 7), (33, 17, 29), (128, 64, 256)]


def test_the_library_behind_numpy_is_found_on_linux() -> None:
    """Its wheels for Linux bring OpenBLAS; elsewhere products stay NumPy's own calls."""
    config: Any = np.show_config("dicts")
    if "openblas" in config["Build Dependencies"]["blas"]["name"]:
        assert blas.available()


@pytest.mark.skipif(not blas.available(), reason="NumPy's BLAS is not found by name here")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("flips", [(0, 0), (0, 1), (1, 0), (1, 1)], ids=str)
@pytest.mark.parametrize("blocks", [(1, 1), (3, 1), (1, 4), (2, 2)], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_blocks_of_a_product_are_numpys(
    size: tuple[int, int, int], blocks: tuple[int, int], flips: tuple[int, int], dtype: str
) -> None:
    m, k, n = size
    rng = np.random.default_rng(1)
    a = rng.random((k, m) if flips[0] else (m, k)).astype(dtype)
    b = rng.random((n, k) if flips[1] else (k, n)).astype(dtype)
    out = np.full((m, n), np.nan, dtype)
    kind = "f4" if dtype == "float32" else "f8"
    at = [*[x.ctypes.data for x in (a, b, out)], blas.address(kind)]
    words = np.array([*flips, m, n, k, *blocks, *at], np.int64)
    (product,) = addresses([blas.product(kind, m, n, k, bool(flips[1]))])
    for job in range(blocks[0] * blocks[1]):
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(product)(words.ctypes.data, job)
    expected = (a.T if flips[0] else a) @ (b.T if flips[1] else b)
    np.testing.assert_allclose(out, expected, rtol=1e-5 if dtype == "float32" else 1e-13)


def test_a_function_that_does_not_multiply_is_not_used() -> None:
    kind = ctypes.CFUNCTYPE(None)
    assert not blas._multiplies(kind(lambda *_: None), ctypes.c_float)
