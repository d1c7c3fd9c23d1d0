"""The file of results: one JSON document for a machine, which each part of the suite adds to."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"

PACKAGES = (
    "ldl",
    "numpy",
    "llvmlite",
    "torch",
    "jax",
    "jaxlib",
    "optax",
    "scikit-learn",
    "onnxruntime",
    "cupy-cuda12x",
)


def processor() -> str:
    """The processor's model, as its maker or else the platform names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def slug() -> str:
    """A file name for this machine: its processor and its cores."""
    name = re.sub(r"\((R|TM)\)|\bCPU\b|@.*", " ", processor(), flags=re.IGNORECASE)
    words = re.findall(r"[a-z0-9]+", name.lower())
    return "-".join([*words, str(os.cpu_count() or 1), "cores"])


def default_path() -> Path:
    """Where this machine's results go."""
    return FOLDER / f"{slug()}.json"


def versions() -> dict[str, str]:
    """Python's version and those of the packages that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def load(path: Path) -> dict[str, Any]:
    """The document, or an empty one."""
    return json.loads(path.read_text()) if path.exists() else {}


def add(path: Path, part: str, content: dict[str, Any], threads: int) -> None:
    """Put one part into the document, with when, where and with what it was measured."""
    document = load(path)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if os.name == "posix" else 0
    document["machine"] = {
        "name": path.stem,
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }
    document["versions"] = versions()
    document[part] = {
        "date": datetime.now(UTC).date().isoformat(),
        "threads": threads,
        **content,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, sort_keys=False) + "\n")


def say(*words: object) -> None:
    """Print at once."""
    print(*words, flush=True, file=sys.stdout)
