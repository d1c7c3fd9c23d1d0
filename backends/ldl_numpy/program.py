"""Programs: loops and matrix products that follow each other, as one compiled call.

A program is an array of calls, each the address of a compiled function and of the sizes and
addresses that it takes; one small compiled function goes through them. Sources lie in a folder of
the user's (`LDL_CACHE_DIR`, or `ldl/numba` in the cache folder), where Numba keeps what it compiled
between processes.
"""

from __future__ import annotations

import atexit
import glob
import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from threading import Lock, RLock
from typing import Any

import numba
import numpy as np
from numba.core.compiler_lock import global_compiler_lock

from ldl.compiler.body import kind_of
from ldl.compiler.fuse import fuse
from ldl.compiler.loops import Loop
from ldl.compiler.operations import Host, Op, Ref, Value
from ldl.forks import guarded
from ldl_numpy import blas, numba_math
from ldl_numpy.source import Source

guarded(global_compiler_lock)
loading = guarded(RLock())
"""Held while a module is loaded: a thread must not find one that another has half loaded."""

lock = guarded(Lock())
"""Held while a parallel loop runs: Numba's `workqueue` threads serve one caller at a time."""


def fuse_and_link(ops: list[Op], kept: set[Value]) -> list[Op]:
    """The operations with loops among them; `link` makes programs of what it can."""
    return [replace(op, link=link) if _is_product(op) else op for op in fuse(ops, kept, compiled)]


def compiled(loop: Loop, stored: set[Value]) -> Op:
    """The loop as one operation, a program by itself until it is linked to its neighbours."""
    source = Source(loop, stored)
    outputs = *source.outputs, *source.sums
    return Op(source, tuple(source.inputs), outputs, ufunc="loop", link=link)


def _is_product(op: Op) -> bool:
    """Whether it is a product of matrices that BLAS does."""
    if op.ufunc != "matmul" or not all(isinstance(x, Ref) for x in op.inputs):
        return False
    arrays = [x.resolve(x.value.lying) for x in (*op.inputs, *op.outputs)]
    return (
        blas.available()
        and all(x.ndim == 2 and x.size for x in arrays)
        and len({x.dtype for x in arrays}) == 1
        and arrays[0].dtype in (np.float32, np.float64)
        and all(x.flags.c_contiguous or x.T.flags.c_contiguous for x in arrays[:2])
        and arrays[2].flags.c_contiguous
        and op.outputs[0].value not in {x.value for x in op.inputs}
    )


class _Program:
    """Calls of compiled functions, and the words that each takes: sizes and addresses."""

    def __init__(self, inputs: Sequence[Value], memory: Callable[[Value], Host]) -> None:
        self.inputs = list(inputs)
        self.memory = memory
        self.words: list[int] = []
        self.calls: list[tuple[int, int]] = []
        """Addresses of functions, and where their words begin."""
        self.moving: dict[Value, list[tuple[int, int]]] = {}
        """Of each input the places of words that point into it, and by how much."""
        self.held: list[Any] = []
        self.parallel = False

    def add(self, op: Op) -> None:
        """Do an operation after the others."""
        start = len(self.words)
        arrays: Sequence[Ref | Host]
        if isinstance(op.run, Source):
            entry = loaded(op.run.text()).entry
            self.parallel |= op.run.parts > 1
            self.words += [op.run.rows, op.run.columns]
            arrays = op.run.arguments
        else:
            a, b, out = (self._look(x) for x in (*op.inputs, *op.outputs))
            entry = loaded(blas.PRODUCT.replace("KIND", kind_of(out.dtype))).entry
            self.words += [not x.flags.c_contiguous for x in (a, b)]
            self.words += [*out.shape, a.shape[1]]
            arrays = (*op.inputs, *op.outputs)
        for array in arrays:
            self._point(array)
        self.calls.append((entry.address, start))
        self.held.append(entry)

    def _look(self, x: Ref) -> Host:
        """An array in the layout of a view: inputs come C-contiguous, others as they lie."""
        return x.resolve(x.value.array if x.value in self.inputs else x.value.lying)

    def _point(self, x: Ref | Host) -> None:
        array = x.resolve(self.memory(x.value)) if isinstance(x, Ref) else x
        if isinstance(x, Ref) and x.value in self.inputs:
            offset = array.ctypes.data - self.memory(x.value).ctypes.data
            self.moving.setdefault(x.value, []).append((len(self.words), offset))
        self.held.append(array)
        self.words.append(array.ctypes.data)


def link(ops: list[Op], inputs: Sequence[Value], memory: Callable[[Value], Host]) -> Op:
    """One operation that does these; it takes those of a plan's `inputs` that it needs."""
    program = _Program(inputs, memory)
    for op in ops:
        program.add(op)
    words = np.array(program.words, np.int64)
    first = words.ctypes.data
    calls = np.array([(f, first + 8 * start) for f, start in program.calls], np.int64)
    points = [np.array(spots, np.int64).T.copy() for spots in program.moving.values()]
    last: list[Any] = [None] * len(points)
    guard: AbstractContextManager[Any] = lock if program.parallel else nullcontext()
    blas.play(calls[:0])  # compiles it

    def run(*arrays: Host) -> None:
        for i, array in enumerate(arrays):
            if array is not last[i]:
                last[i] = None  # an interrupt may come when the words point elsewhere
                blas.point(words, points[i][0], points[i][1], array)
                last[i] = array
        with guard:
            blas.play(calls)

    plain = not points and not program.parallel
    done: Any = partial(blas.play, calls) if plain else run
    done.held = words, program.held
    return Op(done, tuple(Ref(value) for value in program.moving), (), ufunc="program")


def loaded(text: str) -> Any:
    """The module that has this text, and what Numba compiled of it.

    Files of it that are damaged are made anew. Where the folder cannot be used, which is said once,
    a temporary one serves this process.
    """
    with loading:
        name = "ldl_loop_" + hashlib.sha256(text.encode() + _stamp()).hexdigest()[:24]
        folder = cache_folder()
        try:
            return _loaded(name, text, folder)
        except Exception:
            for path in folder.glob(f"**/{glob.escape(name)}.*"):
                with suppress(OSError):
                    path.unlink()
        try:
            return _loaded(name, text, folder)
        except Exception as error:
            made = _loaded(name, text, _temporary_folder())
            _warn(folder, error)
            return made


def _loaded(name: str, text: str, folder: Path) -> Any:
    if name not in sys.modules:
        path = folder / f"{name}.py"
        if not path.exists():
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
                file.write(text)
            os.replace(file.name, path)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules[name] = made
        try:
            spec.loader.exec_module(made)
            if not hasattr(made, "entry"):
                raise ImportError(f"{path} is damaged")
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


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
        error = OSError("it may not be written to")
    except OSError as found:
        error = found
    _warn(folder, error)
    return _temporary_folder()


@cache
def _temporary_folder() -> Path:
    """A folder that goes with the process."""
    folder, process = tempfile.mkdtemp(prefix="ldl-"), os.getpid()

    def remove() -> None:
        if os.getpid() == process:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return Path(folder)


_warned: set[Path] = set()


def _warn(folder: Path, error: Exception) -> None:
    """Say once why compiled loops are not kept in a folder."""
    if folder in _warned:
        return
    _warned.add(folder)
    why = " ".join(str(error).split())[:200] or type(error).__name__
    warnings.warn(
        f"compiled loops cannot be kept in {folder}, so every process compiles them anew: delete "
        f"that folder, or set LDL_CACHE_DIR to one that can be written to ({why})",
        RuntimeWarning,
        stacklevel=2,
    )
