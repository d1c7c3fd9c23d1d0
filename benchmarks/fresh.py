"""Fresh processes: how long they take to import a package, and how large it lies on the disk."""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.process import EMPTY, stream

IMPORTS = ("numpy", "ldl", "llvmlite.binding", "jax", "sklearn.neural_network", "torch")
IMPORTS += ("onnxruntime",)
SIZES = ("numpy", "ldl", "llvmlite", "jax", "optax", "scikit-learn", "torch", "onnxruntime")


def run(arguments: list[str], until: float, more: Mapping[str, str] = EMPTY) -> str:
    """The JSON that a Python prints, which is told when it was started; "" where it failed.

    It is ended at a moment, as `time.time()` tells it.
    """
    lines: list[str] = []
    command = [sys.executable, *arguments, repr(perf_counter())]
    code = stream(command, until, lines.append, {"PYTHONDONTWRITEBYTECODE": "", **more})
    found = (line for line in reversed(lines) if line[:1] in tuple("{0123456789"))
    return next(found, "") if code == 0 else ""


def summary(times: list[float]) -> dict[str, float]:
    """Their median and minimum."""
    return {"median": statistics.median(times), "minimum": min(times)}


def imports(count: int, until: float) -> dict[str, dict[str, Any]]:
    """Import times; the first of each, which fills the system's cache, is not counted."""
    rows: dict[str, dict[str, Any]] = {}
    for name in IMPORTS:
        code = f"from time import perf_counter as t; a = t(); import {name}; print(t() - a)"
        lines = [run(["-c", code], until) for _ in range(count + 1)][1:]
        times = [float(line) for line in lines if line]
        rows[name] = summary(times) if times else {"reason": "cannot be imported here"}
    return rows


def _requirements(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """The distribution of that name and, at any depth, those it requires without extras."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    key = canonicalize_name(name)
    if key not in found:
        try:
            found[key] = distribution(name)
        except PackageNotFoundError:
            return found
        for text in found[key].requires or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                _requirements(requirement.name, found)
    return found


def _bytes(dist: Distribution) -> int:
    """The size of its files; of an editable installation, of its source folders."""
    url = json.loads(dist.read_text("direct_url.json") or "{}")
    if url.get("dir_info", {}).get("editable"):
        root = Path(__file__).parent.parent
        files = [p for part in ("ldl", "backends") for p in (root / part).rglob("*.*")]
    else:
        files = [Path(str(file.locate())) for file in dist.files or []]
    return sum(path.stat().st_size for path in files if path.exists())


def sizes() -> dict[str, dict[str, int]]:
    """Installed sizes in bytes."""
    shared = set(_requirements("numpy", {}))
    rows = {}
    for name in SIZES:
        if closure := _requirements(name, {}):
            each = {key: _bytes(dist) for key, dist in closure.items()}
            rows[name] = {
                "own": next(iter(each.values())),
                "closure": sum(each.values()),
                "beyond_numpy": sum(v for k, v in each.items() if k not in shared),
            }
    return rows
