"""Kernels compiled by Numba."""

from __future__ import annotations

from threading import Lock

lock = Lock()
"""Held while a parallel loop runs: Numba's `workqueue` threads serve one caller at a time."""
