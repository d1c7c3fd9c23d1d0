"""Parameter groups and their options, which a program may change between two steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ldl.nn.module import Module

_PLAIN = frozenset({float, int, bool, list, str, type(None)})
"""The types of options once they were checked."""


def groups_of(params: Any) -> list[dict[str, Any]]:
    """A model, parameters or groups as groups."""
    if isinstance(params, Module):
        return [{"params": params.parameters()}]
    listed: list[Any] = list(params)
    if listed and all(isinstance(item, dict) for item in listed):
        return [dict(item) for item in listed]
    return [{"params": listed}]


def noted(group: Mapping[str, Any]) -> dict[str, Any]:
    """The options as they are now."""
    options = group.items()
    return {k: [*v] if isinstance(v, list) else v for k, v in options if k != "params"}


def changed(group: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether options are no longer what was noted of them."""
    now = noted(group)
    if not _PLAIN.issuperset(map(type, now.values())):
        return True
    return now != before or [*map(type, now.values())] != [*map(type, before.values())]
