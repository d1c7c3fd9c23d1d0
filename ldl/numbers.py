"""Numbers that users give, as Python's, or an error that says what they must be."""

from __future__ import annotations

from math import isfinite
from operator import index
from typing import Any


def positive_integer(name: str, value: Any) -> int:
    """The value as a Python int; ValueError unless it is a positive integer."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return index(value)


def number(
    name: str, value: Any, low: float = 0.0, high: float = float("inf"), open_low: bool = False
) -> float:
    """The option as a Python float; ValueError unless it is finite and in [low, high)."""
    try:
        x = float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a number, got {value!r}") from error
    if not isfinite(x) or x < low or x >= high or (open_low and x == low):
        bounds = f"{'>' if open_low else '>='} {low:g}" + (f" and < {high:g}" * isfinite(high))
        raise ValueError(f"{name} must be finite and {bounds}, got {value!r}")
    return x


def optional_positive(name: str, value: float | None) -> float | None:
    """Likewise of an option that may be left out; ValueError for zero too."""
    return None if value is None else number(name, value, open_low=True)
