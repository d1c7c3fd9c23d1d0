"""Implementations: every module here has a list `IMPLEMENTATIONS`. To add one, add a file."""

from __future__ import annotations

import importlib
import pkgutil

from benchmarks.implementation import Implementation
from benchmarks.workloads import Workload


def every(suite: str) -> list[Implementation]:
    """All of a suite, "cpu" or "gpu", whether or not they can run here; no library is imported.

    The floor and ldl come first: where time runs out it is others that are left out.
    """
    names = [module.name for module in pkgutil.iter_modules(__path__)]
    names.sort(key=lambda name: name not in ("floor", "ldl_"))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return [own for module in modules for own in module.IMPLEMENTATIONS if suite in own.suites]


def of(suite: str, workload: Workload) -> list[Implementation]:
    """Those of a suite that do what the workload asks: train, or predict."""
    return [own for own in every(suite) if own.predicts == workload.predict]
