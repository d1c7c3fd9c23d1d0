"""The folder of results: COMMAND.json and COMMAND.log of every command, and report.md of all."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from typing import Any

from benchmarks.gpu import table


class Document:
    """COMMAND.json, whole at every moment, and report.md beside it, made from all of the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = {}
        self.read()

    def read(self) -> None:
        """What the file holds; nothing where there is none."""
        self.content = json.loads(self.path.read_text()) if self.path.exists() else {}

    def part(self, name: str) -> dict[str, Any]:
        """A part of the document, to be filled in place."""
        found: dict[str, Any] = self.content.setdefault(name, {})
        return found

    def save(self) -> None:
        """Write both; a report that cannot be made is no reason to lose the figures."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _replace(self.path, json.dumps(self.content, indent=1, default=repr) + "\n")
        try:
            report(self.path.parent, {self.path.stem: self.content})
        except Exception:
            traceback.print_exc(limit=3)


def report(folder: Path, known: dict[str, Any]) -> Path:
    """Make report.md of the folder's files, of which some are known."""
    files = [folder / f"{name}.json" for name in table.ORDER]
    found = {f.stem: json.loads(f.read_text()) for f in files if f.exists() and f.stem not in known}
    path = folder / "report.md"
    _replace(path, table.markdown(found | known))
    return path


class Log:
    """What is printed, in COMMAND.log too."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        path.write_text("")

    def __call__(self, text: str) -> None:
        """Print a line at once, here and there."""
        print(text, flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            print(text, file=file)


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text, "utf-8")
    os.replace(new, path)
