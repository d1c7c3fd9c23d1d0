"""Which rooms of the house know which: imports, read off the sources."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import ldl

ROOT = Path(ldl.__file__).parent.parent
ROOTS = {"ldl": ROOT / "ldl", "ldl_numpy": ROOT / "backends/ldl_numpy"}
ROOTS["ldl_cupy"] = ROOT / "backends/ldl_cupy"


def modules() -> dict[str, Path]:
    """All modules by name."""
    found = {}
    for package, folder in ROOTS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return found


MODULES = modules()


def imports(source: str) -> set[str]:
    """The modules of ours that a source imports, at any depth of it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = str(node.module)
            within = {f"{base}.{alias.name}" for alias in node.names} & MODULES.keys()
            found |= within or {base}
    return found & MODULES.keys()


IMPORTS = {name: imports(path.read_text()) for name, path in MODULES.items()}


def room(module: str) -> str:
    """ldl.nn, ldl.compiler, ldl_numpy; a file that stands in ldl itself is its own."""
    package, *inside = module.split(".")
    return ".".join([package, *inside[:1]]) if package == "ldl" else package


def known(name: str) -> set[str]:
    """The rooms that those of a room import, without itself."""
    found = {room(x) for module, those in IMPORTS.items() if room(module) == name for x in those}
    return found - {name}


def test_the_walk_sees_imports_wherever_they_stand() -> None:
    source = "import ldl.nn\nfrom ldl import random\ndef f():\n    from ldl_numpy.blas import x"
    assert imports(source) == {"ldl.nn", "ldl.random", "ldl_numpy.blas"}
    assert len(MODULES) > 100
    assert room("ldl.compiler.plan") == "ldl.compiler"
    assert room("ldl_numpy.blas") == "ldl_numpy"


def test_no_backend_knows_another() -> None:
    assert "ldl_cupy" not in known("ldl_numpy")
    assert "ldl_numpy" not in known("ldl_cupy")
    assert "ldl.compiler" in known("ldl_numpy") & known("ldl_cupy")


@pytest.mark.parametrize("name", sorted({room(m) for m in MODULES} - {"ldl_numpy", "ldl_cupy"}))
def test_nothing_in_ldl_knows_a_backend_or_the_compiler(name: str) -> None:
    assert known(name) & {"ldl_numpy", "ldl_cupy", "ldl.compiler"} == set()


def test_the_compiler_knows_layers_and_the_backend_and_no_more() -> None:
    small = {"ldl.random", "ldl.calm", "ldl.prepared", "ldl.arrays", "ldl.recordings"}
    assert known("ldl.compiler") - small == {"ldl.nn", "ldl.backend"}


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules each of which imports the next, and the last is the first; none where none do."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_what_imports_it() -> None:
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": {"a"}})[0] in "abc"
    assert circle(IMPORTS) == []
