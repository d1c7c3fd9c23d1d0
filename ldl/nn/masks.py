"""Masks of attention: which places may be looked at, and what is added to scores."""

from __future__ import annotations

from math import inf, isnan
from typing import Any

from ldl.backend import Array
from ldl.nn import init
from ldl.nn.module import check_owned

HIDES = -1e9
"""A number that is added to scores hides the place where it is this or less, as -∞ does."""


def tables(mask: Any, causal: bool, heads: int) -> tuple[Any, Any]:
    """A mask as an array of ones and zeros, and as what is added to scores, if anything is.

    ValueError for a mask that is neither truths (T, T) nor numbers (T, T) or (heads, T, T), and for
    one that leaves a place nothing to look at.
    """
    rows = mask.tolist() if hasattr(mask, "tolist") else mask
    if not _square(rows):
        each = [*rows] if isinstance(rows, (list, tuple)) else []
        if not each or not all(_square(table) and len(table) == len(each[0]) for table in each):
            raise ValueError(
                "mask must be a square table of truths, True where a place may look, or of "
                "floating numbers, which are added to scores, or one such table a head"
            )
        if len(each) != heads:
            raise ValueError(f"mask has tables for {len(each)} heads, and there are {heads}")
    else:
        each = [rows]
    values = [value for table in each for row in table for value in row]
    if all(value in (True, False) for value in values) and not _floats(mask, values):
        truths, added = each, None
    else:
        if not all(isinstance(value, (int, float)) and not isnan(value) for value in values):
            raise ValueError("mask must be of truths or of floating numbers, and has others")
        truths = [[[v > HIDES for v in row] for row in table] for table in each]
        added = [[[v if v > HIDES else 0.0 for v in row] for row in table] for table in each]
    for table in truths:
        seen = [row[: i + 1] if causal else row for i, row in enumerate(table)]
        if not all(map(any, seen)):
            why = "up to itself, and causal=True hides the rest" if causal else "throughout"
            what = "False" if added is None else "False, or -inf,"
            raise ValueError(f"mask leaves a place nothing to look at: its row is {what} {why}")
    return _array(truths, rows), None if added is None else _array(added, rows)


def finite(mask: Any) -> Any:
    """A mask that is an array of numbers with `HIDES` for -∞, which no file holds."""
    if getattr(getattr(mask, "dtype", None), "kind", "") != "f" or not (mask == -inf).any():
        return mask
    mask = mask.astype("float64")
    mask[mask == -inf] = HIDES
    return mask


Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def finite_arguments(arguments: Arguments) -> Arguments:
    """What a layer was built with, with a mask that a file can hold."""
    given, named = arguments
    return tuple(map(finite, given)), {name: finite(value) for name, value in named.items()}


def padding(layer: Any, mask: Array, n: int, t: int) -> Array:
    """A `key_padding_mask`, checked; True where a place is hidden from all."""
    check_owned(layer, mask)
    if tuple(mask.shape) != (n, t):
        raise ValueError(
            f"key_padding_mask must be of shape ({n}, {t}), a truth for each place, got "
            f"{tuple(mask.shape)}"
        )
    if mask.dtype.kind != "b":
        raise TypeError(
            f"key_padding_mask holds truths, True where a place is padding, got {mask.dtype}: "
            "give tokens == padding_idx"
        )
    return mask


def _square(rows: Any) -> bool:
    return bool(
        isinstance(rows, (list, tuple))
        and rows
        and all(isinstance(row, (list, tuple)) and len(row) == len(rows) for row in rows)
        and not any(isinstance(value, (list, tuple)) for row in rows for value in row)
    )


def _floats(mask: Any, values: list[Any]) -> bool:
    """Whether numbers are meant: an array's type says so, or a list of floats."""
    kind = getattr(getattr(mask, "dtype", None), "kind", None)
    return kind == "f" if kind else all(type(value) is float for value in values)


def _array(each: list[Any], rows: Any) -> Any:
    """Tables as one array, of the shape of what was given."""
    table = init.zeros((len(each), len(each[0]), len(each[0])))
    table[...] = each
    return table[0] if each[0] is rows or (len(each) == 1 and _square(rows)) else table
