"""CSV and Parquet files, read and written by pandas."""

from __future__ import annotations

import csv
import os
import warnings
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from typing import Any

import numpy as np

from ldl.console import shown
from ldl.io.files import one_line
from ldl.io.replacing import Path, write_atomically
from ldl.table.errors import TableError, name

TEXTS = (".csv", ".tsv", ".txt")
PACKED = ("", ".gz", ".bz2", ".xz", ".zip")
PARQUET = (".parquet", ".pq")
"""How the names of files end that can be read."""

HOW = "pip install 'ldl[table]'"


@dataclass(frozen=True)
class Reading:
    """How a text file is read: the separator (found by itself), decimal sign and encoding."""

    separator: str | None = None
    decimal: str = "."
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        for what, sign in (("separator", self.separator), ("decimal", self.decimal)):
            if sign is not None and len(sign) != 1:
                raise TableError(f"{what} must be one character, got {name(sign)}")


def read_table(data: Any, reading: Reading | None = None) -> Any:
    """A pandas DataFrame of a path, a dict of columns, a table of pandas, polars or Arrow.

    Names of columns become texts. Raises TableError for a file that is missing, empty or no table,
    for names that stand there twice, and ImportError, which names the fix, without pandas.
    """
    pandas = _pandas()
    if isinstance(data, (str, os.PathLike)):
        return _read(pandas, os.fsdecode(data), reading or Reading())
    data = _columns(data)
    if isinstance(data, dict):
        try:
            data = pandas.DataFrame(data)
        except ValueError as error:
            raise TableError(f"the columns make no table: {one_line(error)}") from error
    if not isinstance(data, pandas.DataFrame):
        raise TypeError(
            "a table is a path, a dict of columns, or a DataFrame of pandas, polars or Arrow, got "
            f"a {type(data).__name__}"
        )
    frame = data.copy(deep=False)
    frame.columns = [str(column) for column in frame.columns]
    _check_names([*frame.columns], "the table")
    return frame.reset_index(drop=True)


def _columns(data: Any) -> Any:
    """A table of polars or Arrow as a dict of columns; anything else as it is."""
    kind, origin = type(data).__name__, type(data).__module__.partition(".")[0]
    if origin == "polars" and kind == "LazyFrame":
        raise TypeError("a table is read whole, got a LazyFrame: give its .collect()")
    if origin == "polars" and kind == "DataFrame":
        return data.to_dict(as_series=False)
    if origin == "pyarrow" and kind in ("Table", "RecordBatch"):
        _check_names(list(data.schema.names), "the table")
        return data.to_pydict()
    return data


def write_table(path: Path, frame: Any) -> None:
    """Write a DataFrame as CSV or, by the file's name, Parquet; the file is replaced whole."""
    text = os.fsdecode(path).lower()
    if text.endswith(PARQUET):
        buffer = BytesIO()
        frame.to_parquet(buffer, index=False)
        write_atomically(path, buffer.getvalue())
    else:
        separator = "\t" if text.endswith(".tsv") else ","
        content = frame.to_csv(index=False, sep=separator, lineterminator="\n")
        write_atomically(path, content.encode(errors="surrogatepass"))


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError(f"tables need pandas: {HOW}") from error
    return pandas


def _read(pandas: Any, path: str, reading: Reading) -> Any:
    lower = path.lower()
    packed = next((p for p in PACKED[1:] if lower.endswith(p)), "")
    stem = lower.removesuffix(packed)
    if not (stem.endswith(TEXTS) or lower.endswith(PARQUET)):
        raise TableError(f"{path} must end in .csv, .tsv, .txt (or packed, .csv.gz) or .parquet")
    if os.path.isdir(path):
        raise TableError(f"{path} is a folder", "give a file in it")
    try:
        frame = (
            _read_parquet(pandas, path)
            if lower.endswith(PARQUET)
            else _read_text(pandas, path, reading)
        )
    except (TableError, ImportError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise TableError(f"there is no file {path}") from error
    except OSError as error:
        raise TableError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    except UnicodeError as error:
        raise TableError(
            f"{path} is not {reading.encoding} text", "save it as UTF-8", ("encoding", "latin-1")
        ) from error
    except LookupError as error:
        raise TableError(
            f"no encoding is named {reading.encoding!r}", "", ("encoding", "utf-8")
        ) from error
    except Exception as error:
        raise TableError(f"{path} cannot be read: {_reason(error)}") from error
    if not len(frame):
        raise TableError(f"{path} has no rows under its names of columns")
    return frame


def _read_parquet(pandas: Any, path: str) -> Any:
    try:
        frame = pandas.read_parquet(path)
    except ImportError as error:
        raise ImportError(f"Parquet files need pyarrow: {HOW}") from error
    if any(index is not None for index in frame.index.names):
        frame = frame.reset_index()
    frame.columns = [str(column) for column in frame.columns]
    _check_names([*frame.columns], path)
    return frame


def _read_text(pandas: Any, path: str, reading: Reading) -> Any:
    """A CSV file; its first line holds the columns' names."""
    names, separator = _header(pandas, path, reading)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pandas.errors.ParserWarning)
        frame = pandas.read_csv(
            path,
            sep=separator,
            decimal=reading.decimal,
            encoding=reading.encoding,
            index_col=False,
            low_memory=False,
            skipinitialspace=True,
            header=0,
            names=range(len(names)),
        )
    unnamed = [i for i, text in enumerate(names) if not text]
    if unnamed == [0] and len(names) > 1 and _counts(frame[0]):
        frame, names = frame.drop(columns=[0]), names[1:]  # what DataFrame.to_csv adds
    elif unnamed:
        raise TableError(f"{path}: column {unnamed[0] + 1} has no name in the first line")
    frame.columns = names
    return frame


def _header(pandas: Any, path: str, reading: Reading) -> tuple[list[str], str]:
    """The names in the first line, and what separates them."""
    from pandas.io.common import get_handle

    with get_handle(path, "r", encoding=reading.encoding, compression="infer") as handles:
        file: Any = handles.handle
        line = str(file.readline()).lstrip("\ufeff")
        if not line.strip():
            raise TableError(f"{path} is empty, or begins with an empty line")
        if "\0" in line:
            raise TableError(f"{path} is no text file")
        separator = reading.separator or max(",;\t|", key=line.count)
        rows = csv.reader(chain([line], file), delimiter=separator, skipinitialspace=True)
        names = [text.strip() for text in next(rows)]
    _check_names(names, path)
    if all(_is_number(text) for text in names):
        raise TableError(
            f"{path} has numbers in its first line", "begin it with a line of names of columns"
        )
    return names, separator


def _check_names(names: list[str], where: str) -> None:
    twice = sorted({text for text in names if names.count(text) > 1 and text})
    if twice:
        raise TableError(f"{where} has two columns named {name(twice[0])}", "rename one of them")


def _counts(column: Any) -> bool:
    """Whether a column numbers the rows, from 0 or 1."""
    first = column.iloc[0]
    return first in (0, 1) and bool((column == np.arange(first, first + len(column))).all())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _reason(error: Exception) -> str:
    """What pandas says, in words that help."""
    text = one_line(error).removeprefix("Error tokenizing data. C error: ")
    if "Length of header" in text:
        return "its rows have more cells than there are names in the first line"
    return shown(text)
