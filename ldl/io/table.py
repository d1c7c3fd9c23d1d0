"""A history's rows as tensors: a column for every name and kind of figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ldl.io.values import from_text, to_text

Tensor = np.ndarray[Any, np.dtype[Any]]
Row = dict[str, Any]

_PYTHONS: dict[type, str] = {int: "int64", float: "float64", bool: "bool"}
_INTEGERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
_NUMPYS = {
    np.dtype(name).type: name for name in ("bool", "float16", "float32", "float64", *_INTEGERS)
}


def to_tensors(rows: list[Row]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and what a header says of them.

    A column is of Python's numbers ("int64"), of NumPy's ("numpy.float32"), or a JSON text of
    anything else ("text"). A layout is the order of columns in a row; the tensor "rows" has the
    number of every row's.
    """
    columns: dict[tuple[str, str], list[Any]] = {}
    layouts: dict[tuple[tuple[str, str], ...], int] = {}
    order = []
    for row in rows:
        layout = tuple([(name, _kind(value)) for name, value in row.items()])
        order.append(layouts.setdefault(layout, len(layouts)))
        for column, value in zip(layout, row.values(), strict=True):
            columns.setdefault(column, []).append(value)
    numbers = {column: i for i, column in enumerate(columns)}
    tensors = {"rows": np.array(order, np.int64)}
    for (name, kind), values in columns.items():
        tensors[str(numbers[name, kind])] = _column(name, kind, values)
    return tensors, {
        "columns": [list(column) for column in columns],
        "layouts": [[numbers[column] for column in layout] for layout in layouts],
    }


def from_tensors(tensors: dict[str, Tensor], header: Any) -> list[Row]:
    """The rows that `to_tensors` was given; ValueError for what it never makes."""
    columns, layouts = _checked(header)
    order = _vector(tensors, "rows", "int64")
    counts = [0] * len(columns)
    if order.size and not 0 <= order.min() <= order.max() < len(layouts):
        raise ValueError("a row of the history has no layout")
    for i, count in enumerate(np.bincount(order, minlength=len(layouts)).tolist()):
        for column in layouts[i]:
            counts[column] += count
    values = []
    for i, (name, kind) in enumerate(columns):
        found = _values(tensors, str(i), kind)
        if len(found) != counts[i]:
            raise ValueError(f"the history has {len(found)} figures {name!r}, not {counts[i]}")
        values.append(iter(found))
    taken = [[(columns[i][0], values[i].__next__) for i in layout] for layout in layouts]
    return [{name: take() for name, take in taken[i]} for i in order.tolist()]


def integers(values: list[int]) -> Tensor:
    """A list of integers as a tensor."""
    return np.array(values, np.int64)


def from_integers(tensors: dict[str, Tensor], name: str, length: int) -> list[int]:
    """The list, of as many integers that are not negative; ValueError for anything else."""
    array = _vector(tensors, name, "int64")
    if len(array) != length or (array < 0).any():
        raise ValueError(f"its tensor {name!r} is no list of {length} counts")
    found: list[int] = array.tolist()
    return found


def _kind(value: Any) -> str:
    kind = _PYTHONS.get(type(value))
    if kind is None:
        numpys = _NUMPYS.get(type(value))
        return "text" if numpys is None else f"numpy.{numpys}"
    return "text" if kind == "int64" and not -(2**63) <= value < 2**63 else kind


def _column(name: str, kind: str, values: list[Any]) -> Tensor:
    if not isinstance(name, str):
        raise TypeError(f"figures are named by texts, and a row of the history has {name!r}")
    if kind == "text":
        return to_text(values, f"the figure {name!r}")
    return np.array(values, kind.removeprefix("numpy."))


def _values(tensors: dict[str, Tensor], name: str, kind: str) -> list[Any]:
    if kind == "text":
        found = from_text(_vector(tensors, name, "uint8"))
        if not isinstance(found, list):
            raise ValueError("a column of the history is no list")
        return found
    array = _vector(tensors, name, kind.removeprefix("numpy."))
    return list(array) if kind.startswith("numpy.") else array.tolist()


def _vector(tensors: dict[str, Tensor], name: str, dtype: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"its tensor {name!r} is missing")
    array = tensors[name]
    if array.dtype.name != dtype or array.ndim != 1:
        raise ValueError(f"its tensor {name!r} is of {array.dtype} and shape {array.shape}")
    return array


def _checked(header: Any) -> tuple[list[tuple[str, str]], list[list[int]]]:
    """The columns and layouts of a header."""
    kinds = {"text", *_PYTHONS.values(), *(f"numpy.{name}" for name in _NUMPYS.values())}

    def is_column(given: Any) -> bool:
        return (
            isinstance(given, list)
            and len(given) == 2
            and isinstance(given[0], str)
            and isinstance(given[1], str)
            and given[1] in kinds
        )

    def is_layout(given: Any) -> bool:
        if not isinstance(given, list) or not all(type(i) is int for i in given):
            return False
        if not all(0 <= i < len(columns) for i in given):
            return False
        return len({columns[i][0] for i in given}) == len(given)

    if not isinstance(header, dict):
        raise ValueError("the history is not described")
    columns = _list_of(header.get("columns"), is_column, "columns")
    layouts = _list_of(header.get("layouts"), is_layout, "layouts")
    return [(name, kind) for name, kind in columns], layouts


def _list_of(given: Any, fits: Callable[[Any], bool], what: str) -> list[Any]:
    if not isinstance(given, list) or not all(map(fits, given)):
        raise ValueError(f"the history's {what} are not what they must be")
    return given
