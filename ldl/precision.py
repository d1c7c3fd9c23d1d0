"""How exactly a GPU multiplies float32 matrices."""

from __future__ import annotations

PRECISIONS = ("float32", "tf32", "bf16")

_precision = "float32"


def set_matmul_precision(precision: str) -> None:
    """Permit a GPU to round the operands of float32 matrix products; their sums stay float32.

    "float32", the default, rounds nothing. "tf32" keeps 10 bits of each operand's fraction, "bf16"
    keeps 7; both keep the range, and are meant for GPUs with units for them. In a recorded step a
    bias's gradient comes with its weight's, a product, and may be a sum of rounded numbers too. On
    a CPU products are float32's always, and float64's products are exact to float64 everywhere.

    Holds for the whole process, in every thread. ValueError for another name.
    """
    global _precision
    if precision not in PRECISIONS:
        known = ", ".join(map(repr, PRECISIONS))
        raise ValueError(f"matmul precision must be one of {known}, got {precision!r}")
    _precision = precision


def get_matmul_precision() -> str:
    """The name that `set_matmul_precision` was last given, or "float32"."""
    return _precision
