"""Values as JSON says them, and back exactly as they were.

JSON has no NaN, no infinities, no tuples, and no dicts whose keys are other than texts. Each is
said as a dict of one key: {"float": "nan"}, {"tuple": [...]}, {"dict": [[key, value], ...]}.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any

import numpy as np

from ldl.numbers import plain, short

Text = np.ndarray[Any, np.dtype[np.uint8]]

_TAGS = ("float", "tuple", "dict")


def encode(value: Any, what: str) -> Any:
    """The value for JSON, NumPy's numbers as Python's; TypeError, naming `what`, for others."""
    value = plain(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, int)):
        return str(value) if isinstance(value, str) else int(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, list):
        return [encode(item, what) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(item, what) for item in value]}
    if isinstance(value, dict):
        if all(isinstance(key, str) for key in value) and not _is_tagged(value):
            return {key: encode(item, what) for key, item in value.items()}
        return {"dict": [[encode(key, what), encode(item, what)] for key, item in value.items()]}
    raise TypeError(
        f"{what} holds {short(value)[:80]}, which a checkpoint cannot: it takes numbers, texts, "
        "None, and lists, tuples and dicts of them (a callback's arrays go into its `arrays`)"
    )


def decode(value: Any) -> Any:
    """What `encode` was given; ValueError for what it never says."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if not _is_tagged(value):
        return {key: decode(item) for key, item in value.items()}
    ((tag, inside),) = value.items()
    if tag == "float" and inside in ("nan", "inf", "-inf"):
        return float(inside)
    if tag == "tuple" and isinstance(inside, list):
        return tuple(map(decode, inside))
    if tag == "dict" and isinstance(inside, list):
        try:
            return {decode(key): decode(item) for key, item in inside}
        except TypeError as error:
            raise ValueError(f"a dict is said as {short(inside)[:80]}") from error
    raise ValueError(f"a {tag} is said as {short(inside)[:80]}")


def to_text(value: Any, what: str) -> Text:
    """The value as the bytes of a JSON text, which may be as long as any tensor."""
    try:
        text = json.dumps(encode(value, what), separators=(",", ":"), allow_nan=False)
    except (RecursionError, ValueError) as error:
        raise TypeError(
            f"{what} cannot be written to a checkpoint, it holds itself, or lists in lists by the "
            f"hundred, or an integer of thousands of digits: {error}"
        ) from None
    return np.frombuffer(text.encode(), np.uint8)


def from_text(array: Any) -> Any:
    """What `to_text` was given."""
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"a text is an array of {array.dtype} and shape {array.shape}")
    return decode(json.loads(array.tobytes().decode()))


def _is_tagged(value: dict[Any, Any]) -> bool:
    return len(value) == 1 and next(iter(value)) in _TAGS
