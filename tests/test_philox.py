"""Compiled random numbers are those that every backend draws."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import ldl
from ldl import random
from ldl.random import Key
from ldl_numpy import MANY

philox: Any = pytest.importorskip("ldl_numpy.philox")
function: Any = pytest.importorskip("ldl_numpy.engine").function

KEYS = [Key(0, 0, 0), Key(2**64 - 1, 2**63 + 5, 2**33 + 1)]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("size", [0, *range(1, 18), 1027])
@pytest.mark.parametrize("first", [0, 1, 5, 8, 19])
@pytest.mark.parametrize("jobs", [1, 3])
def test_uniform_numbers_are_philoxs_to_the_bit(jobs: int, first: int, size: int, key: Key) -> None:
    whole = np.full(size + 2, -1, "float32")
    out, share = whole[1:-1], random.Share(first, size, first + size)
    key_words = key._replace(share=share).words((size,))
    words = np.array([size, jobs, out.ctypes.data, *key_words], "uint64")
    draw = function(philox.draw, ctypes.c_void_p, ctypes.c_int64)
    for job in range(jobs):
        draw(words.ctypes.data, job)
    np.testing.assert_array_equal(out, random.uniform((first + size,), key)[first:])
    assert whole[0] == whole[-1] == -1, "nothing is written beyond it"


@pytest.mark.parametrize("key", KEYS)
def test_normal_numbers_are_the_generic_bodys_to_rounding(key: Key, monkeypatch: Any) -> None:
    backend = ldl.get_backend("numpy")
    shape = (3, MANY // 3 + 2)
    drawn = backend.normal(shape, "float32", key)
    monkeypatch.setattr("ldl_numpy.MANY", 2**30)
    assert drawn.dtype == np.float32
    np.testing.assert_allclose(drawn, backend.normal(shape, "float32", key), rtol=0, atol=2e-6)
