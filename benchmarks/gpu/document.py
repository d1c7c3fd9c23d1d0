"""The document of results: JSON, and the table and the log beside it."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from benchmarks.gpu import table


class Document:
    """A JSON file that is whole at every moment, with its table beside it as FILE.md."""

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
        """Write both; a table that cannot be made is no reason to lose the figures."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _replace(self.path, json.dumps(self.content, indent=1) + "\n")
        try:
            _replace(self.path.with_suffix(".md"), table.markdown(self.content))
        except Exception:
            traceback.print_exc(limit=3)


class Log:
    """What is printed, in FILE.log too."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w")

    def __call__(self, text: str) -> None:
        """Print a line at once, here and there."""
        for file in (sys.stdout, self.file):
            print(text, file=file, flush=True)


def _replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)
