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

from ldl.compiler.backend import Draw, KernelCall
from ldl.compiler.fuse import fuse
from ldl.compiler.loops import Loop
from ldl.compiler.operations import Host, Op, Ref, Value
from ldl.compiler.plan import aligned
from ldl.random import Stream
from ldl_numpy import images, products, threads
from ldl_numpy.engine import addresses
from ldl_numpy.philox import DRAW, LEAST
from ldl_numpy.player import play_calls, players, point_words
from ldl_numpy.pool import hold, work
from ldl_numpy.source import Source

KEY = Struct("QQQQQ")
"""The words of a key."""


def fuse_and_link(ops: list[Op], kept: set[Value]) -> list[Op]:
    """The operations with loops among them; `link` makes programs of what it can."""
    found = fuse(ops, kept, compiled, aside=False)
    known = products.fits, _is_draw, images.fits
    return [replace(op, link=link) if any(f(op) for f in known) else op for op in found]


def compiled(loop: Loop, stored: set[Value]) -> Op:
    """The loop as one operation, a program by itself until it is linked to its neighbours."""
    source = Source(loop, stored)
    inputs, outputs = ([x.ref for x in some] for some in (source.inputs, source.outputs))
    return Op(source, tuple(inputs), tuple(outputs), ufunc="loop", link=link)


def _is_draw(op: Op) -> bool:
    """Whether it draws uniform numbers as compiled code can."""
    if not isinstance(op.run, Draw) or op.run.kind != "uniform":
        return False
    out = op.outputs[0].resolve(op.outputs[0].value.lying)
    return out.dtype == np.float32 and bool(out.flags.c_contiguous)


class _Program:
    """Calls of compiled functions, and the words that each takes: sizes and addresses."""

    def __init__(
        self, inputs: Sequence[Value], memory: Callable[[Value], Host], ops: list[Op]
    ) -> None:
        self.inputs = list(inputs)
        self.memory = memory
        self.scratch = aligned(-(-max(map(self._room, ops), default=0) // 64) * 64)
        self.own: list[Host] = [self.scratch]
        """Arrays that are the program's, no values of a plan."""
        self.words: list[int] = []
        self.calls: list[tuple[str, int, int]] = []
        """Sources of functions, where their words begin, and how many jobs they are."""
        self.moving: dict[Value, list[tuple[int, int]]] = {}
        """Of each input the places of words that point into it, and by how much."""
        self.draws: list[tuple[int, Stream, tuple[int, ...]]] = []
        """Of each draw where its key stands, in bytes, and the shape of what is drawn."""
        self.held: list[Any] = []
        for op in ops:
            self.add(op)

    def look(self, x: Ref) -> Host:
        """An array in the layout of a view: inputs come C-contiguous, others as they lie."""
        return x.resolve(x.value.array if x.value in self.inputs else x.value.lying)

    def _room(self, op: Op) -> int:
        """Bytes of memory that an operation needs while it is done."""
        if isinstance(op.run, KernelCall):
            return images.scratch_for(op)
        return products.product(op, self.look).room if op.ufunc == "matmul" else 0

    def add(self, op: Op) -> None:
        """Do an operation after the others."""
        start = len(self.words)
        if isinstance(op.run, Source):
            self.calls.append((op.run.text(), start, op.run.jobs))
            self._write(op.run.words)
            for text, words in op.run.totals():
                self.calls.append((text, len(self.words), 1))
                self._write(words)
        elif isinstance(op.run, KernelCall):
            for text, words, parts in images.calls(op, self.scratch):
                self.calls.append((text, len(self.words), parts))
                self._write(words)
        elif isinstance(op.run, Draw):
            drawn = op.outputs[0].value.array
            jobs = threads.jobs(drawn.size, LEAST)
            self.calls.append((DRAW, start, jobs))
            self.words += [drawn.size, jobs]
            self._point(op.outputs[0])
            self.draws.append((8 * len(self.words), op.run.stream, drawn.shape))
            self.words += [0] * (KEY.size // 8)
        else:
            text, words, parts = products.product(op, self.look).call(self.scratch)
            self.calls.append((text, start, parts))
            self._write(words)

    def _write(self, words: list[int | Ref | Host]) -> None:
        for x in words:
            if isinstance(x, int):
                self.words.append(x)
            else:
                self._point(x)

    def _point(self, x: Ref | Host) -> None:
        array = x.resolve(self.memory(x.value)) if isinstance(x, Ref) else x
        if isinstance(x, Ref) and x.value in self.inputs:
            offset = array.ctypes.data - self.memory(x.value).ctypes.data
            self.moving.setdefault(x.value, []).append((len(self.words), offset))
        elif not isinstance(x, Ref) and array.base is None:
            self.own.append(array)
        self.held.append(array)
        self.words.append(array.ctypes.data)


def link(ops: list[Op], inputs: Sequence[Value], memory: Callable[[Value], Host]) -> Op:
    """One operation that does these; it takes those of a plan's `inputs` that it needs."""
    program = _Program(inputs, memory, ops)
    words: Any = np.array(program.words, np.int64)
    first = words.ctypes.data
    texts, starts, jobs = zip(*program.calls, strict=True)
    at = [first + 8 * start for start in starts]
    *found, _, _, _, _ = addresses([*texts, play_calls, point_words, work, hold])
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
        for at, stream, shape in program.draws:
            KEY.pack_into(words, at, *stream.next().words(shape))
        for i, array in enumerate(arrays):
            if array is not last[i]:
                last[i] = None  # an interrupt may come when the words point elsewhere
                point(spots[i], array)
                last[i] = array
        play(*all_of_it)

    done: Any = run if points or program.draws else partial(play, *all_of_it)
    done.held = words, played, points, program.held
    done.bytes = sum(x.nbytes for x in (words, played, *points, *program.own))
    return Op(done, tuple(Ref(value) for value in program.moving), (), ufunc="program")
