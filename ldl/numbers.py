"""Numbers that users give, as Python's, or an error that says what they must be.

A number is Python's (a Fraction and a Decimal too), NumPy's, or an array without axes of any
library. What only resembles one is refused: a bool, a str, a complex number, NaN, an array of one
element.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from math import inf, isfinite
from operator import index
from typing import Any


def short(value: Any) -> str:
    """What Python shows of a value where that is one line, else its class and its length."""
    shown = repr(value)
    if "\n" not in shown:
        return shown
    try:
        return f"<{type(value).__name__} of {len(value)}>"
    except TypeError:
        return f"<{type(value).__name__}>"


def plain(value: Any) -> Any:
    """Python's number for NumPy's, for an array without axes, for a fraction and a decimal.

    Any other value itself.
    """
    if isinstance(value, (Fraction, Decimal)):
        try:
            return float(value)
        except (ValueError, OverflowError):
            return value
    if getattr(value, "shape", None) != () or not hasattr(value, "tolist"):
        return value
    found = value.tolist()
    is_long_double = getattr(getattr(found, "dtype", None), "kind", "") == "f"
    return float(found) if is_long_double else found


def pythonic(value: Any) -> Any:
    """The same with Python's numbers for NumPy's and lists for arrays, in lists and dicts too."""
    if isinstance(value, dict):
        return {key: pythonic(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(pythonic, value))
    is_array = hasattr(value, "dtype") and hasattr(value, "tolist")
    return value.tolist() if is_array else value


def integer(name: str, value: Any, low: int | None = None, kind: str = "an integer") -> int:
    """The value as a Python int; ValueError unless it is an integer, `low` at least."""
    x = plain(value)
    try:
        found = None if isinstance(x, bool) or hasattr(x, "__len__") else index(x)
    except TypeError:
        found = None
    if found is None or (low is not None and found < low):
        raise ValueError(f"{name} must be {kind}, got {short(value)}")
    return found


def positive_integer(name: str, value: Any) -> int:
    """The value as a Python int; ValueError unless it is a positive integer."""
    return integer(name, value, 1, "a positive integer")


def non_negative_integer(name: str, value: Any) -> int:
    """The value as a Python int; ValueError unless it is 0, 1, 2 or so on."""
    return integer(name, value, 0, "an integer that is not negative")


def real(name: str, value: Any) -> float:
    """The value as a Python float, infinity and NaN included; ValueError unless it is a number."""
    x = plain(value)
    resembles = isinstance(x, (bool, complex)) or hasattr(x, "__len__")
    try:
        if not resembles:
            return float(x)
    except (TypeError, ValueError, OverflowError):
        pass
    raise ValueError(f"{name} must be a number, got {short(value)}")


def number(
    name: str,
    value: Any,
    low: float = 0.0,
    high: float = inf,
    open_low: bool = False,
    closed_high: bool = False,
) -> float:
    """The option as a Python float; ValueError unless it is finite and in [low, high).

    `open_low` leaves `low` out, `closed_high` takes `high` in.
    """
    x = real(name, value)
    above = x > low if open_low else x >= low
    below = x <= high if closed_high else x < high
    if isfinite(x) and above and below:
        return x
    bounds = [f"{'>' if open_low else '>='} {low:g}"] * isfinite(low)
    bounds += [f"{'<=' if closed_high else '<'} {high:g}"] * isfinite(high)
    raise ValueError(f"{name} must be {' and '.join(['finite', *bounds])}, got {short(value)}")


def optional_positive(name: str, value: float | None) -> float | None:
    """Likewise of an option that may be left out; ValueError for zero too."""
    return None if value is None else number(name, value, open_low=True)


def numbers(name: str, values: Any) -> list[float]:
    """The numbers of a list, a tuple or an array of one axis; ValueError where they are none."""
    found = values.tolist() if hasattr(values, "tolist") else values
    if isinstance(found, (str, bytes, dict, set, frozenset)) or not isinstance(found, Iterable):
        raise ValueError(f"{name} must be a list of numbers, got {short(values)}")
    return [real(f"every number of {name}", value) for value in found]
