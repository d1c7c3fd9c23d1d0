"""Programs: loops and matrix products that follow each other, as one compiled function.

A program takes a table of addresses and one of sizes, so that a call costs the same however much it
does. Sources lie in a folder of the user's (`LDL_CACHE_DIR`, or `ldl/numba` in the cache folder),
where Numba keeps what it compiled between processes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numba
import numpy as np

from ldl_numpy import blas, numba_math
from ldl_numpy.body import kind_of
from ldl_numpy.fuse import fuse
from ldl_numpy.loops import Loop, scalar_loop
from ldl_numpy.source import Source
from ldl_numpy.trace import Host, Op, Ref, Value

lock = Lock()
"""Held while a parallel loop runs: Numba's `workqueue` threads serve one caller at a time."""


def fuse_and_link(ops: list[Op], kept: set[Value]) -> list[Op]:
    """The operations with loops among them; `link` makes programs of what it can."""
    return [_linkable(op) for op in fuse(ops, kept, compiled)]


def compiled(loop: Loop, stored: set[Value]) -> Op:
    """The loop as one operation, a program by itself until it is linked to its neighbours."""
    source = Source(loop, stored)
    outputs = *source.outputs, *source.sums
    return Op(source, tuple(source.inputs), outputs, ufunc="loop", link=link)


def _linkable(op: Op) -> Op:
    if _is_product(op):
        return replace(op, link=link)
    loop = scalar_loop(op)
    return op if loop is None else compiled(loop, {op.outputs[0].value})


def _is_product(op: Op) -> bool:
    """Whether it is a product of matrices that BLAS does."""
    if op.ufunc != "matmul" or not all(isinstance(x, Ref) for x in op.inputs):
        return False
    arrays = [x.resolve(x.value.array) for x in (*op.inputs, *op.outputs)]
    return (
        blas.available()
        and all(x.ndim == 2 and x.size for x in arrays)
        and len({x.dtype for x in arrays}) == 1
        and arrays[0].dtype in (np.float32, np.float64)
        and all(x.flags.c_contiguous or x.T.flags.c_contiguous for x in arrays[:2])
        and arrays[2].flags.c_contiguous
    )


class _Program:
    """What a compiled function is written from, and called with."""

    def __init__(self, inputs: Sequence[Value], memory: Callable[[Value], Host]) -> None:
        self.inputs = list(inputs)
        self.memory = memory
        self.used: list[Value] = []
        self.addresses: list[int] = []
        self.sizes: list[int] = []
        self.held: list[Host] = []
        self.loops: dict[str, None] = {}
        self.body: list[str] = []
        self.parallel = False

    def add(self, op: Op) -> None:
        """Do an operation after the others."""
        if isinstance(op.run, Source):
            self._loop(op.run)
            return
        a, b, out = (x.resolve(x.value.array) for x in (*op.inputs, *op.outputs))
        flips = [not x.flags.c_contiguous for x in (a, b)]
        sizes = [self._size(n) for n in (*out.shape, a.shape[1])]
        at = [self._address(x) for x in (*op.inputs, *op.outputs)]
        words = [*map(str, flips), *sizes, *at]
        self.body.append(f"product_{kind_of(out.dtype)}({', '.join(words)})")

    def _loop(self, source: Source) -> None:
        name = module("loop", source.text())
        self.loops[name] = None
        self.parallel |= source.parts > 1
        words = [self._size(source.rows), self._size(source.columns)]
        words += map(self._address, source.arguments)
        self.body.append(f"{name}({', '.join(words)})")

    def _size(self, n: int) -> str:
        self.sizes.append(n)
        return f"d[{len(self.sizes) - 1}]"

    def _address(self, x: Ref | Host) -> str:
        """Where an array begins; that of an input is known when the program is called."""
        array = x.resolve(self.memory(x.value)) if isinstance(x, Ref) else x
        word = f"t[{len(self.addresses)}]"
        if isinstance(x, Ref) and x.value in self.inputs:
            self.addresses.append(array.ctypes.data - self.memory(x.value).ctypes.data)
            if x.value not in self.used:
                self.used.append(x.value)
            return f"np.uintp(x{self.used.index(x.value)}.ctypes.data) + {word}"
        self.held.append(array)
        self.addresses.append(array.ctypes.data)
        return word

    def text(self) -> str:
        """The module, whose `program` does everything."""
        arguments = ", ".join(["t", "d", *(f"x{i}" for i in range(len(self.used)))])
        lines = [
            "import numpy as np",
            "from numba import njit",
            "from ldl_numpy.blas import product_f4, product_f8",
            *(f"from {name} import loop as {name}" for name in self.loops),
            "",
            "",
            "@njit(cache=True, nogil=True)",
            f"def program({arguments}):",
            *(f"    {line}" for line in self.body),
        ]
        return "\n".join(lines) + "\n"


def link(ops: list[Op], inputs: Sequence[Value], memory: Callable[[Value], Host]) -> Op:
    """One operation that does these; it takes those of a plan's `inputs` that it needs."""
    program = _Program(inputs, memory)
    for op in ops:
        program.add(op)
    function = sys.modules[module("program", program.text())].program
    addresses, sizes = np.array(program.addresses, np.uintp), np.array(program.sizes, np.int64)
    held = tuple(program.held)

    if program.parallel:

        def run(*arrays: Host, held: Any = held) -> None:
            with lock:
                function(addresses, sizes, *arrays)

    else:

        def run(*arrays: Host, held: Any = held) -> None:
            function(addresses, sizes, *arrays)

    return Op(run, tuple(Ref(value) for value in program.used), (), ufunc="program")


def module(kind: str, text: str) -> str:
    """The name of the module that has this text; it is imported, what Numba compiled with it."""
    name = f"ldl_{kind}_" + hashlib.sha256(text.encode() + _stamp()).hexdigest()[:24]
    if name not in sys.modules:
        path = cache_folder() / f"{name}.py"
        if not path.exists():
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
                file.write(text)
            os.replace(file.name, path)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(made)
        sys.modules[name] = made
    return name


@cache
def _stamp() -> bytes:
    """What compiled code depends on beside its source."""
    used: bytes = b"".join(Path(str(m.__file__)).read_bytes() for m in (numba_math, blas))
    return used + bytes(numba.__version__, "ascii")


@cache
def cache_folder() -> Path:
    """Where sources and compiled loops are kept: a folder of the user's, else of this process."""
    given = os.environ.get("LDL_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(given) if given else Path(base) / "ldl" / "numba"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="ldl-"))
