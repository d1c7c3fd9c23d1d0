"""Looking for NaN and infinity in data, to say where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ldl.arrays import host

BLOCK = 2**22
"""Elements that are looked at in one go."""


def check_finite(array: Any, what: str, dtype: Any, names: Sequence[str] | None = None) -> None:
    """ValueError where elements of an array of samples are no finite numbers of a type.

    It names the first one's row, its column, by its name where there is one, and how many there
    are. Reads block by block, from a device or a disk as well.
    """
    if array.dtype.kind != "f":
        return
    rows = max(1, BLOCK * len(array) // max(array.size, 1))
    first: tuple[tuple[int, ...], Any] | None = None
    count, columns = 0, set()
    for start in range(0, len(array), rows):
        block = host(array[start : start + rows])
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(block.astype(dtype, copy=False))
        if not bad.any():
            continue
        places = np.argwhere(bad)
        count += len(places)
        columns |= set(np.unique(places[:, 1]).tolist()) if block.ndim == 2 else set()
        if first is None:
            at = tuple(places[0].tolist())
            first = (start + at[0], *at[1:]), block[at]
    if first is not None:
        raise ValueError(_message(what, *first, count, len(columns), dtype, names))


def _message(
    what: str,
    at: tuple[int, ...],
    value: Any,
    count: int,
    columns: int,
    dtype: Any,
    names: Sequence[str] | None,
) -> str:
    place = f"row {at[0]}"
    if len(at) == 2:
        name = f" ({names[at[1]]!r})" if names is not None and at[1] < len(names) else ""
        place = f"column {at[1]}{name}, {place}"
    elif len(at) > 2:
        place += f", element {at[1:]}"
    more = ""
    if count > 1:
        more = f", one of {count} such numbers"
        more += f" in {columns} columns" if columns > 1 else ""
    why = f"is not finite, {value}," if not np.isfinite(value) else f"is {value:g}, no {dtype},"
    return (
        f"{what} {why} in {place}{more}: fill it, np.nan_to_num({what}), leave out rows, or scale "
        "what is too large"
    )
