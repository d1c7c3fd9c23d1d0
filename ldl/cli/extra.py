"""The demo extra: what of it is missing, and how to get it."""

from __future__ import annotations

from importlib.util import find_spec

HOW = "pip install 'ldl[demo]'"

PACKAGES = ("mlxtend", "matplotlib", "tqdm", "pooch")
"""The packages of the extra, by the names that they have on PyPI and in an import."""


def missing() -> list[str]:
    """Those of the packages that are not installed."""
    return [name for name in PACKAGES if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False
