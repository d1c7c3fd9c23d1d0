"""The folder of results: PART.json and PART.log of every part, and report.md of all."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import report


class Document:
    """PART.json, whole at every moment, and report.md beside it, made from all of the folder."""

    def __init__(self, path: Path, order: Iterable[str]) -> None:
        self.path = path
        self.order = tuple(order)
        self.content: dict[str, Any] = {}

    def part(self, name: str) -> dict[str, Any]:
        """A part of the document, to be filled in place."""
        found: dict[str, Any] = self.content.setdefault(name, {})
        return found

    def save(self) -> None:
        """Write both; a report that cannot be made is no reason to lose the figures."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _replace(self.path, (json.dumps(self.content, indent=1, default=repr) + "\n").encode())
        try:
            write_report(self.path.parent, self.order, {self.path.stem: self.content})
        except Exception:
            traceback.print_exc(limit=3)


def read(folder: Path, order: Iterable[str], known: dict[str, Any]) -> dict[str, Any]:
    """The folder's documents, of which some are known."""
    files = [folder / f"{name}.json" for name in order]
    found = {f.stem: json.loads(f.read_text()) for f in files if f.exists() and f.stem not in known}
    return found | known


def write_report(folder: Path, order: Iterable[str], known: dict[str, Any]) -> Path:
    """Make report.md of the folder's documents."""
    path = folder / "report.md"
    _replace(path, report.markdown(read(folder, order, known), order).encode())
    return path


def write_picture(folder: Path, order: Iterable[str]) -> Path | None:
    """Make picture.png of the folder's comparisons; None where there is none, or no Matplotlib.

    And scaling.png of what several ranks took.
    """
    try:
        from benchmarks.distributed.picture import scaling
        from benchmarks.picture import draw
    except ImportError:
        return None
    documents, path = read(folder, order, {}), folder / "picture.png"
    drawn = draw(documents)
    for place, picture in ((folder / "scaling.png", scaling(documents)), (path, drawn)):
        if picture is not None:
            _replace(place, picture)
    return None if drawn is None else path


class Log:
    """What is printed, in PART.log too."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        path.write_text("")

    def __call__(self, text: str) -> None:
        """Print a line at once, here and there."""
        print(text, flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            print(text, file=file)


def _replace(path: Path, content: bytes) -> None:
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    os.replace(new, path)
