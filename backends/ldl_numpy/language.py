"""What functions that `translate` makes LLVM's language of may name, beside Python's own."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

KINDS = {
    np.float32: "f4",
    np.float64: "f8",
    np.int32: "i4",
    np.int64: "i8",
    np.uint64: "u8",
    np.bool_: "b1",
}
"""The types of numbers, and their short names."""

LEAST = -(2**63)
"""The least whole number."""

MOST = 2**63 - 1
"""The greatest."""

SSE = platform.machine().lower() in ("x86_64", "amd64")
FLUSH = 0x8040  # of the control register: subnormal results and operands count as zero


def contract(function: F) -> F:
    """Let products be added without rounding them first, as processors do at once."""
    return function


def reassoc(function: F) -> F:
    """Let sums be added in any order."""
    return function


def glue(function: F) -> F:
    """Let it stand as it is written, which compiles sooner: it calls what takes the time."""
    return function


def memory(kind: Any, address: Any) -> Any:
    """Numbers of a type at an address."""
    raise NotImplementedError


def call(address: Any, *args: Any) -> None:
    """Call the function of C's at an address, which gives nothing."""
    raise NotImplementedError


def high_product(a: Any, b: Any) -> Any:
    """The upper 64 bits of the product of two unsigned 64-bit integers."""
    return np.uint64((int(a) * int(b)) >> 64)


def flush_subnormals() -> Any:
    """Let subnormal numbers, which cost a hundred cycles each, be zero; gives the old mode."""


def restore(mode: Any) -> None:
    """Back to the mode that `flush_subnormals` gave."""


NAMES: dict[str, Any] = {
    **{name: kind for kind, name in KINDS.items()},
    **{f.__name__: f for f in (contract, reassoc, glue, memory, call, high_product)},
    **{f.__name__: f for f in (flush_subnormals, restore)},
    "LEAST": LEAST,
    "MOST": MOST,
    "np": np,
}
"""These, for functions that are only text."""
