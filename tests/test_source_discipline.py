"""What can be read off the source: names that CuPy has, imports, and overrides' signatures."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import cupy
import numpy as np
import pytest

import ldl
from ldl_cupy import CupyBackend
from ldl_numpy import NumpyBackend

ROOT = Path(ldl.__file__).parent
FILES = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}
ON_THE_HOST = {str(Path("nn", "init.py"))}


def xp_names(source: str) -> set[str]:
    """The chains after `xp`, such as "linalg.qr" of `self.backend.xp.linalg.qr(a)`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        while isinstance(node, ast.Attribute):
            names.insert(0, node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            names.insert(0, node.id)
        if "xp" in names[:-1]:
            found.add(".".join(names[names.index("xp") + 1 :]))
    return found


def has(module: Any, chain: str) -> bool:
    for name in chain.split("."):
        if not hasattr(module, name):
            return False
        module = getattr(module, name)
    return True


def imported(source: str) -> set[str]:
    """The top-level packages that a source imports, at any depth of it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


def faults_of_overrides(backend: type, base: type = ldl.Backend) -> list[str]:
    """The methods and properties of a backend that differ from the base's in kind or parameters."""

    def parameters(function: Any) -> list[tuple[Any, ...]]:
        found = inspect.signature(function).parameters.values()
        return [(p.name, p.kind, p.default) for p in found]

    faults = []
    for name, mine in vars(backend).items():
        base_has = getattr(base, name, None)
        if name.startswith("__") or base_has is None:
            continue
        if isinstance(base_has, property):
            same = isinstance(mine, property)
        elif inspect.isfunction(base_has):
            same = inspect.isfunction(mine) and parameters(mine) == parameters(base_has)
        else:
            same = True
        faults += [] if same else [name]
    return faults


def test_the_walk_sees_names_where_they_stand() -> None:
    source = "xp.a(1); self.xp.b; self.backend.xp.c.d(2); backend.xp.e; xp = self.backend.xp"
    assert xp_names(source) == {"a", "b", "c.d", "c", "e"}
    assert len(set().union(*(xp_names(path.read_text()) for path in FILES.values()))) > 15


@pytest.mark.parametrize("file", sorted(FILES.keys() - ON_THE_HOST))
def test_every_name_of_xp_is_in_cupy_and_in_numpy(file: str) -> None:
    names = xp_names(FILES[file].read_text())
    assert [n for n in sorted(names) if not (has(cupy, n) and has(np, n))] == []


@pytest.mark.parametrize("file", [f for f in FILES if Path(f).parts[0] in ("nn", "optim", "train")])
def test_device_free_code_imports_no_array_library(file: str) -> None:
    assert imported(FILES[file].read_text()) & {"numpy", "cupy", "cupyx"} == set()


@pytest.mark.parametrize("file", FILES)
def test_nothing_in_ldl_imports_cupy(file: str) -> None:
    assert imported(FILES[file].read_text()) & {"cupy", "cupyx"} == set()


@pytest.mark.parametrize("backend", [NumpyBackend, CupyBackend])
def test_an_override_has_the_parameters_of_the_reference(backend: type) -> None:
    assert faults_of_overrides(backend) == []


def test_an_override_with_other_parameters_is_found() -> None:
    class Wrong(ldl.Backend):
        def linear(self, x: Any, weight: Any) -> Any:
            """Forgets the bias."""

        def matmul(self, a: Any, b: Any, out: Any = None, accumulate: bool = True) -> Any:
            """Has another default."""

        def device(self) -> str:
            """Is no property."""

        def sigmoid(self, x: Any) -> Any:
            """Is as it should be."""

    assert faults_of_overrides(Wrong) == ["linear", "matmul", "device"]
