"""Arrays that are arguments of layers, as JSON: {"array": [...], "dtype": ..., "shape": [...]}."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

DTYPES = frozenset(
    {
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64"),
    }
)
"""The types that such arrays may have."""


def describe_array(value: Any) -> dict[str, Any] | None:
    """A plain NumPy array of finite numbers as JSON; None for anything else."""
    if type(value) not in (np.ndarray, np.memmap) or value.dtype.name not in DTYPES:
        return None
    if not np.isfinite(value).all():
        return None
    flat = value.reshape(-1).tolist()
    return {"array": flat, "dtype": value.dtype.name, "shape": list(value.shape)}


def array_size(items: list[Any], dtype: str, shape: list[Any]) -> int:
    """How much such a description says, in characters; ValueError where it describes no array."""
    sound = all(isinstance(item, (bool, int, float)) for item in items)
    sound &= all(type(n) is int and 0 <= n < 2**31 for n in shape)
    if dtype not in DTYPES or not sound or prod(shape) != len(items):
        raise ValueError("the architecture has an array that is none")
    return sum(1 + len(str(item)) for item in [*items, *shape])


def build_array(items: list[Any], dtype: str, shape: list[int]) -> Any:
    """The array that a description, checked before, gives."""
    return np.array(items, dtype).reshape(shape)


def same_value(a: Any, b: Any) -> bool:
    """Whether two numbers, texts or arrays are equal, NaN being equal to NaN."""
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.dtype.name == b.dtype.name and np.array_equal(a, b, equal_nan=True)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return False
    return bool(a == b or (a != a and b != b))
