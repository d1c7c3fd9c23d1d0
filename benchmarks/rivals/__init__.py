"""The sides: every module here has a list `SIDES` of them. To add a rival, add a file."""

from __future__ import annotations

import importlib
import pkgutil

from benchmarks.side import Side


def sides() -> list[Side]:
    """All of them, whether or not they can run here. Imports none of their libraries."""
    modules = [
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)
    ]
    return [side for module in modules for side in module.SIDES]


def by_name(name: str) -> Side:
    """The side of that name."""
    return next(side for side in sides() if side.name == name)
