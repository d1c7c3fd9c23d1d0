"""Numbers and tables as text."""

from __future__ import annotations


def seconds_text(seconds: float) -> str:
    """Seconds in a unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def mib(size: int | None) -> str:
    """Bytes in MiB; nothing of what was not measured."""
    return "" if size is None else f"{size / 2**20:.1f}"


def table(rows: list[list[str]]) -> list[str]:
    """A Markdown table, its header first; columns that are empty are left out."""
    head, *body = rows
    shown = [k for k in range(len(head)) if not k or not body or any(row[k] for row in body)]
    lines = [[row[k] for k in shown] for row in (head, ["---"] + ["---:"] * len(head), *body)]
    return ["| " + " | ".join(line) + " |" for line in lines]
