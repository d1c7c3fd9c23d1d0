"""Programs: loops and matrix products that follow each other, as one compiled call.

A program is an array of calls, each the address of a compiled function and of the sizes and
addresses that it takes; one small compiled function goes through them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from struct import Struct
from typing import Any

import numpy as np

from ldl.compiler.backend import Draw
from ldl.compiler.fuse import fuse
from ldl.compiler.loops import Loop
from ldl.compiler.operations import Host, Op, Ref, Value
from ldl.compiler.statements import kind_of
from ldl.random import Stream
from ldl_numpy import blas, threads
from ldl_numpy.engine import addresses
from ldl_numpy.philox import DRAW, LEAST
from ldl_numpy.player import play_calls, players, point_words
from ldl_numpy.pool import work
from ldl_numpy.source import Source

KEY = Struct("QQQ")
"""The words of a key."""


def fuse_and_link(ops: list[Op], kept: set[Value]) -> list[Op]:
    """The operations with loops among them; `link` makes programs of what it can."""
    found = fuse(ops, kept, compiled, aside=False)
    return [replace(op, link=link) if _is_product(op) or _is_draw(op) else op for op in found]


def compiled(loop: Loop, stored: set[Value]) -> Op:
    """The loop as one operation, a program by itself until it is linked to its neighbours."""
    source = Source(loop, stored)
    inputs, outputs = ([x.ref for x in some] for some in (source.inputs, source.outputs))
    return Op(source, tuple(inputs), tuple(outputs), ufunc="loop", link=link)


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


def _is_draw(op: Op) -> bool:
    """Whether it draws uniform numbers as compiled code can."""
    if not isinstance(op.run, Draw) or op.run.kind != "uniform":
        return False
    out = op.outputs[0].resolve(op.outputs[0].value.lying)
    return out.dtype == np.float32 and bool(out.flags.c_contiguous)


class _Program:
    """Calls of compiled functions, and the words that each takes: sizes and addresses."""

    def __init__(self, inputs: Sequence[Value], memory: Callable[[Value], Host]) -> None:
        self.inputs = list(inputs)
        self.memory = memory
        self.words: list[int] = []
        self.calls: list[tuple[str, int, int]] = []
        """Sources of functions, where their words begin, and how many jobs they are."""
        self.moving: dict[Value, list[tuple[int, int]]] = {}
        """Of each input the places of words that point into it, and by how much."""
        self.draws: list[tuple[int, Stream]] = []
        """Of each draw where its key stands, in bytes."""
        self.held: list[Any] = []

    def add(self, op: Op) -> None:
        """Do an operation after the others."""
        start = len(self.words)
        if isinstance(op.run, Source):
            self.calls.append((op.run.text(), start, op.run.jobs))
            self._write(op.run.words)
            for text, words in op.run.totals():
                self.calls.append((text, len(self.words), 1))
                self._write(words)
        elif isinstance(op.run, Draw):
            size = op.outputs[0].value.array.size
            jobs = threads.jobs(size, LEAST)
            self.calls.append((DRAW, start, jobs))
            self.words += [size, jobs]
            self._point(op.outputs[0])
            self.draws.append((8 * len(self.words), op.run.stream))
            self.words += [0, 0, 0]
        else:
            a, b, out = (self._look(x) for x in (*op.inputs, *op.outputs))
            kind = kind_of(out.dtype)
            (m, n), k = out.shape, a.shape[1]
            jobs = threads.jobs(m * n * k, *blas.worth(m, n, k))
            down, across = blas.blocks(m, n, jobs)
            turned = [not x.flags.c_contiguous for x in (a, b)]
            self.calls.append((blas.product(kind, m, n, k, turned[1]), start, down * across))
            self.words += [*turned, m, n, k, down, across]
            for x in (*op.inputs, *op.outputs):
                self._point(x)
            self.words.append(blas.address(kind))

    def _write(self, words: list[int | Ref | Host]) -> None:
        for x in words:
            if isinstance(x, int):
                self.words.append(x)
            else:
                self._point(x)

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
    words: Any = np.array(program.words, np.int64)
    first = words.ctypes.data
    texts, starts, jobs = zip(*program.calls, strict=True)
    at = [first + 8 * start for start in starts]
    *found, _, _, _ = addresses([*texts, play_calls, point_words, work])
    calls = list(zip(found, at, jobs, strict=True))
    played = np.array([len(calls), *(x for row in calls for x in row)], np.int64)
    moved = [(len(spots), spots) for spots in program.moving.values()]
    points = [
        np.array([first, n, *(x for spot in spots for x in spot)], np.int64) for n, spots in moved
    ]
    play, point = players()
    all_of_it = ctypes.c_void_p(played.ctypes.data), threads.address()
    spots = [ctypes.c_void_p(array.ctypes.data) for array in points]
    last: list[Any] = [None] * len(points)

    def run(*arrays: Host) -> None:
        for at, stream in program.draws:
            KEY.pack_into(words, at, *stream.next())
        for i, array in enumerate(arrays):
            if array is not last[i]:
                last[i] = None  # an interrupt may come when the words point elsewhere
                point(spots[i], array)
                last[i] = array
        play(*all_of_it)

    done: Any = run if points or program.draws else partial(play, *all_of_it)
    done.held = words, played, points, program.held
    return Op(done, tuple(Ref(value) for value in program.moving), (), ufunc="program")
