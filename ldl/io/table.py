"""A history's rows as tensors: a column for every name and kind of figure."""

from __future__ import annotations

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


LAYOUTS = 64
"""Layouts that rows may have; those of a history that has more are one text."""


def to_tensors(rows: list[Row]) -> tuple[dict[str, Tensor], list[list[list[str]]] | None]:
    """The tensors and what a header says of them.

    Rows of the same names and types in the same order have a layout in common, and the tensor
    "rows" has the number of every row's. A layout's columns, [name, kind] in the header, are of
    Python's numbers ("int64"), of NumPy's ("numpy.float32"), or a JSON text of anything else
    ("text"); the tensor of column i of layout n is "n.i". Where there are too many layouts the
    header is None, and "rows" a JSON text.
    """
    layouts: dict[Any, tuple[int, list[Row]]] = {}
    order = []
    for row in rows:
        signature = tuple(row), tuple(map(type, row.values()))
        number, alike = layouts.setdefault(signature, (len(layouts), []))
        order.append(number)
        alike.append(row)
    if len(layouts) > LAYOUTS:
        return {"rows": to_text(rows, "a figure of the history")}, None
    tensors = {"rows": np.array(order, np.int64)}
    header = []
    for (names, types), (number, alike) in layouts.items():
        columns = []
        for i, (name, kind) in enumerate(zip(names, types, strict=True)):
            said, tensors[f"{number}.{i}"] = _column(name, kind, [row[name] for row in alike])
            columns.append([name, said])
        header.append(columns)
    return tensors, header


def from_tensors(tensors: dict[str, Tensor], header: Any) -> list[Row]:
    """The rows that `to_tensors` was given; ValueError for what it never makes."""
    if header is None:
        return _rows(tensors)
    layouts = _checked(header)
    order = _vector(tensors, "rows", "int64")
    if order.size and not 0 <= order.min() <= order.max() < len(layouts):
        raise ValueError("a row of the history has no layout")
    counts = np.bincount(order, minlength=len(layouts)).tolist()
    alike = []
    for number, (columns, count) in enumerate(zip(layouts, counts, strict=True)):
        names = [name for name, _ in columns]
        values = [_values(tensors, f"{number}.{i}", kind) for i, (_, kind) in enumerate(columns)]
        if any(len(found) != count for found in values):
            raise ValueError(f"the history has not {count} figures of each of {', '.join(names)}")
        whole = zip(*values, strict=True) if values else iter([()] * count)
        alike.append([dict(zip(names, row, strict=True)) for row in whole])
    following = [iter(found) for found in alike]
    return [next(following[number]) for number in order.tolist()]


def integers(values: list[int]) -> Tensor:
    """A list of integers as a tensor."""
    return np.array(values, np.int64)


def from_integers(tensors: dict[str, Tensor], name: str, length: int) -> list[int]:
    """The list, of as many counts, from which one can go on counting; ValueError for others."""
    array = _vector(tensors, name, "int64")
    if len(array) != length or ((array < 0) | (array >= 2**62)).any():
        raise ValueError(f"its tensor {name!r} is no list of {length} counts")
    found: list[int] = array.tolist()
    return found


def _rows(tensors: dict[str, Tensor]) -> list[Row]:
    """Rows that are one text."""
    found = from_text(_vector(tensors, "rows", "uint8"))
    named = isinstance(found, list) and all(isinstance(row, dict) for row in found)
    if not named or not all(isinstance(name, str) for row in found for name in row):
        raise ValueError("the history is no list of figures by name")
    rows: list[Row] = found
    return rows


def _column(name: Any, kind: type, values: list[Any]) -> tuple[str, Tensor]:
    """The kind of a column, and its tensor."""
    if not isinstance(name, str):
        raise TypeError(f"figures are named by texts, and a row of the history has {name!r}")
    said = _PYTHONS.get(kind)
    if said is not None:
        try:
            return said, np.array(values, said)
        except OverflowError:
            pass
    elif kind in _NUMPYS:
        return f"numpy.{_NUMPYS[kind]}", np.array(values, _NUMPYS[kind])
    return "text", to_text(values, f"the figure {name!r}")


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


def _checked(header: Any) -> list[list[tuple[str, str]]]:
    """The layouts of a header."""
    kinds = {"text", *_PYTHONS.values(), *(f"numpy.{name}" for name in _NUMPYS.values())}

    def is_column(given: Any) -> bool:
        if not isinstance(given, list) or len(given) != 2:
            return False
        return all(isinstance(part, str) for part in given) and given[1] in kinds

    def is_layout(given: Any) -> bool:
        if not isinstance(given, list) or not all(map(is_column, given)):
            return False
        return len({name for name, _ in given}) == len(given)

    if not isinstance(header, list) or not all(map(is_layout, header)):
        raise ValueError("the history is not described as it must be")
    return [[(name, kind) for name, kind in layout] for layout in header]
