"""What kernels take and give."""

from __future__ import annotations

from typing import Any

Array = Any
"""An array of whichever backend is in use."""

DType = Any
"""Anything that `numpy.dtype` accepts."""
