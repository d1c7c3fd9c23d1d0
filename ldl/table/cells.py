"""What the cells of a column are, and the cells as plain arrays."""

from __future__ import annotations

import datetime
import re
from decimal import Decimal
from typing import Any

import numpy as np

from ldl.table.errors import Option, TableError, name

Host = np.ndarray[Any, np.dtype[Any]]

NUMBER, BOOLEAN, TEXT, DATE, EMPTY = "number", "boolean", "text", "date", "empty"
"""The kinds of columns; one that is empty has no cell that is not missing."""

LARGEST = 1e100
"""Numbers beyond are none that a mean and a deviation are found of."""

_DATE = re.compile(
    r"(\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{2,4})([ T].*)?|\d{1,2}:\d{2}(:\d{2})?"
)
_COMMA = re.compile(r"[+-]?\d{1,12},\d+")
_WORDS = {"true": True, "false": False}


def kind_of(column: Any, as_texts: Option | None = None) -> str:
    """The kind of a column's cells, a pandas Series; TableError for those that are none.

    A text column whose texts are numbers for the most part is taken for one of numbers with slips;
    the error names the option that makes them texts.
    """
    types = _types()
    if types.is_bool_dtype(column.dtype):
        return BOOLEAN
    if types.is_numeric_dtype(column.dtype):
        if column.dtype.kind == "c":
            raise TableError(
                f"column {name(column.name)} holds complex numbers",
                "give their parts as two columns",
            )
        return NUMBER if column.notna().any() else EMPTY
    if column.dtype.kind in "mM" or isinstance(column.dtype, types.PeriodDtype):
        return DATE
    cells = column.dropna().astype(object)
    if cells.empty:
        return EMPTY
    if isinstance(column.dtype, types.CategoricalDtype):
        return TEXT
    found = {type(cell) for cell in cells}
    if all(issubclass(kind, bool) or kind is np.bool_ for kind in found):
        return BOOLEAN
    if all(issubclass(kind, (int, float, Decimal, np.number)) for kind in found):
        return NUMBER
    if all(issubclass(kind, (datetime.date, datetime.time, datetime.timedelta)) for kind in found):
        return DATE
    if not all(issubclass(kind, (str, int, float, np.number)) for kind in found):
        wrong = next(k for k in found if not issubclass(k, (str, int, float, np.number)))
        raise TableError(
            f"column {name(column.name)} holds cells of type {wrong.__name__}",
            "leave it out",
            ("ignore", str(column.name)),
        )
    as_texts = as_texts or ("categories", str(column.name))
    return _kind_of_texts(column, [str(cell).strip() for cell in cells], as_texts)


def _kind_of_texts(column: Any, texts: list[str], as_texts: Option) -> str:
    dates = sum(_DATE.fullmatch(text) is not None for text in texts)
    if dates >= 0.9 * len(texts):
        return DATE
    commas = sum(_COMMA.fullmatch(text) is not None for text in texts)
    if commas >= 0.5 * len(texts):
        example = next(text for text in texts if _COMMA.fullmatch(text))
        raise TableError(
            f"column {name(column.name)} holds numbers with a comma, such as {name(example)}",
            "write them with a point",
            ("decimal", ","),
        )
    read = [_number(text) for text in texts]
    if 0.5 * len(texts) <= sum(value is not None for value in read) < len(texts):
        raise _text_among_numbers(column, as_texts)
    return TEXT


def refuse_dates(column: Any) -> TableError:
    """The error for a column of dates."""
    cell = next(iter(column.dropna()))
    return TableError(
        f"column {name(column.name)} holds dates or times, such as {name(cell)}",
        "make numbers of them (year, month, days since the first)",
        ("ignore", str(column.name)),
    )


def numbers(column: Any, boolean: bool = False) -> Host:
    """The cells of a column of numbers or booleans as float64 (N,), NaN where one is missing.

    TableError for a text among them, for infinity, and for numbers beyond ±10¹⁰⁰; where `boolean`,
    for what is not true, false, 0 or 1.
    """
    types = _types()
    missing = column.isna().to_numpy(dtype=bool)
    if types.is_numeric_dtype(column.dtype) or types.is_bool_dtype(column.dtype):
        values: Host = column.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        values = np.full(len(column), np.nan)
        for i in np.flatnonzero(~missing):
            cell = column.iloc[i]
            value = _number(cell)
            if value is None:
                raise _text_among_numbers(column)
            values[i] = value
    present = values[~missing]
    wrong = ~(np.abs(present) <= LARGEST)
    if boolean:
        wrong = (present != 0) & (present != 1)
    if wrong.any():
        row = int(np.flatnonzero(~missing)[np.argmax(wrong)])
        what = "true or false" if boolean else "numbers between -1e100 and 1e100"
        raise TableError(
            f"column {name(column.name)} takes {what}, and row {row + 1} holds {column.iloc[row]}",
            "mend the row, or empty the cell",
        )
    return values


def texts(column: Any) -> list[str | None]:
    """The cells of a column of categories as texts, None where one is missing."""
    missing = column.isna().to_numpy(dtype=bool)
    return [
        None if gone else as_text(cell) for cell, gone in zip(column.tolist(), missing, strict=True)
    ]


def as_text(cell: Any) -> str:
    """A cell as a category's name: 3.0 is "3", since a column with gaps is read as floats."""
    if isinstance(cell, (float, np.floating)) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def is_real(value: Any) -> bool:
    """Whether a value read from a file is a finite number that a float can be."""
    return type(value) in (int, float) and -1e300 <= value <= 1e300


def _number(cell: Any) -> float | None:
    """A cell as a number, a truth value among them; None where it is a text."""
    if isinstance(cell, str):
        word = cell.strip().lower()
        if word in _WORDS:
            return float(_WORDS[word])
        if "_" in word:
            return None
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return None


def _text_among_numbers(column: Any, *options: Option) -> TableError:
    wrong = [i for i, c in enumerate(column.tolist()) if isinstance(c, str) and _number(c) is None]
    row = wrong[0] if wrong else 0
    more = f" and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
    return TableError(
        f"column {name(column.name)} holds numbers, and text in row {row + 1} "
        f"({name(column.iloc[row])}){more}",
        "correct or empty the cells",
        *options,
    )


def _types() -> Any:
    """pandas' questions about types, imported where they are asked."""
    from pandas.api import types

    return types
