"""The kernels of a plan: generated CUDA for its loops, cuBLASLt for its products.

What has no kernel here is left to CuPy.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from ldl.compiler.backend import Draw
from ldl.compiler.fuse import fuse
from ldl.compiler.loops import Loop
from ldl.compiler.operations import BETWEEN_RANKS, Op, Ref, Value
from ldl.precision import get_matmul_precision
from ldl.random import WORDS
from ldl_cupy.bf16 import with_bf16
from ldl_cupy.epilogues import with_epilogues
from ldl_cupy.images import Windows, with_products
from ldl_cupy.launch import Launcher, common
from ldl_cupy.source import CudaSource
from ldl_cupy.streams import beside

Run = Callable[..., None]


class Functions:
    """Compiled kernels by their names, which tell their text: those of all plans of a backend."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._found: dict[tuple[int, str], Any] = {}

    def of(self, texts: dict[str, str]) -> dict[str, Any]:
        """The functions of these sources, by name, on the current device.

        One module is made of all that are new; its first function compiles it.
        """
        number = self._device.number()
        new = [name for name in texts if (number, name) not in self._found]
        if new:
            module = self._device.module(common() + "\n".join(texts[name] for name in new))
            self._found |= {(number, name): module.get_function(name) for name in new}
        return {name: self._found[number, name] for name in texts}


class Kernels:
    """The kernels of one plan, compiled when it is made."""

    def __init__(self, backend: Any) -> None:
        self._device = backend.connection
        self._launcher: Launcher = backend.launcher
        self._windows: Windows = backend.windows
        self._matmul: Run = backend.matmul
        self._gemm: Any = backend.gemm
        self._leaves_out: frozenset[str] = backend.leaves_out
        self._sum_rows: Run = backend.sum_rows
        self._xp = backend.xp
        self._functions: Functions = backend.functions
        self.texts: dict[str, str] = {}
        """The kernels' sources, by name."""
        self._compiled: dict[str, Any] = {}
        self.draws: list[tuple[Draw, tuple[int, ...]]] = []
        """What is drawn, in arrays of which shape."""
        self.keys: Any = None
        """The draws' keys, on the device."""

    def fuse(self, ops: list[Op], kept: set[Value]) -> list[Op]:
        """The operations, as launches; an error where a kernel does not compile."""
        ops = with_products(ops, self._windows)
        if self._does("bf16") and get_matmul_precision() == "bf16":
            ops = with_bf16(ops, self._gemm.offers)
        if self._does("epilogues"):
            ops = with_epilogues(ops, kept, self._gemm.offers)
        done = [self._translated(op) for op in fuse(ops, kept, self.loop)]
        self._compiled = self._functions.of(self.texts)
        return beside(done, self._device) if self._does("second stream") else done

    def _does(self, what: str) -> bool:
        return self._gemm is not None and what not in self._leaves_out

    def loop(self, loop: Loop, stored: set[Value]) -> Op:
        """The loop as one launch."""
        source = CudaSource(loop, stored)
        self.texts[source.name] = source.text
        run = partial(self._launch, source, self._zeros(source))
        inputs, outputs = (tuple(x.ref for x in found) for found in (source.inputs, source.outputs))
        return Op(run, inputs, outputs, ufunc="loop")

    def _zeros(self, source: CudaSource) -> tuple[Any, ...]:
        """Tickets and partial results."""
        if not source.tickets:
            return ()
        tickets, *left = [self._device.empty(n) for n in (4 * source.tickets, *source.partials)]
        self._device.send(np.zeros(tickets.nbytes, np.uint8), tickets)
        return tickets, *left

    def _launch(self, source: CudaSource, zeros: tuple[Any, ...], *arrays: Any) -> None:
        grid, block = source.launch
        self._compiled[source.name](grid, block, (*source.numbers, *arrays, *zeros))

    def _translated(self, op: Op) -> Op:
        if op.ufunc == "loop":
            return op
        run = self._known(op)
        done = op if run is None else Op(run, op.inputs, op.outputs, ufunc=op.ufunc)
        sent = op.ufunc in BETWEEN_RANKS
        if not (sent or isinstance(op.run, Draw) or op.ufunc.startswith("matmul")):
            self._try(done)
        return done

    def _try(self, op: Op) -> None:
        """Do it once to ones, so that what CuPy cannot do is known when a step is recorded."""
        made: dict[Value, Any] = {}
        given = []
        with suppress(MemoryError):  # of the ones
            for x in (*op.inputs, *op.outputs):
                if isinstance(x, Ref) and x.value not in made:
                    made[x.value] = self._xp.ones(x.value.shape, x.value.dtype)
                given.append(x.resolve(made[x.value]) if isinstance(x, Ref) else x)
            op.run(*given)

    def _known(self, op: Op) -> Run | None:
        """What does it here; None for what is left to CuPy."""
        if isinstance(op.run, Draw):
            self.draws.append((op.run, op.outputs[0].value.shape))
            return partial(self._draw, op.run.kind, len(self.draws) - 1)
        if op.ufunc == "matmul" and all(isinstance(x, Ref) for x in op.inputs):
            return self._matmul
        if op.ufunc == "matmul_add":
            return partial(self._matmul, accumulate=True)
        if op.ufunc in ("matmul_bias", "matmul_bf16"):
            run: Run = getattr(self._gemm, op.ufunc)
            return run
        if op.ufunc in ("matmul_sums_a", "matmul_sums_b"):
            return partial(self._product_and_sums, op.ufunc[-1])
        if op.ufunc in ("sum", "max", "min"):
            return partial(_cupy_reduce, op.ufunc, op.axis, op.keepdims)
        if op.ufunc == "where":
            return self._where
        if op.ufunc == "take" and _of_rows(op):
            return self._take
        return None

    def _take(self, a: Any, index: Any, out: Any) -> None:
        rows = out.reshape(-1, *a.shape[1:])
        self._launcher.take(a, index.reshape(-1), rows)

    def _where(self, condition: Any, a: Any, b: Any, out: Any) -> None:
        self._xp.copyto(out, self._xp.where(condition, a, b))

    def _draw(self, kind: str, index: int, out: Any) -> None:
        fill = getattr(self._launcher, f"fill_{kind}")
        fill(out, self.keys[WORDS * index : WORDS * (index + 1)])

    def _product_and_sums(self, of: str, a: Any, b: Any, out: Any, sums: Any) -> None:
        if not self._gemm.matmul_sums(a, b, out, sums, of):
            self._matmul(a, b, out)
            self._sum_rows(b if of == "b" else a.T, sums)


def _cupy_reduce(kind: str, axis: Any, keepdims: bool, a: Any, out: Any) -> None:
    getattr(a, kind)(axis=axis, out=out, keepdims=keepdims)


def _of_rows(op: Op) -> bool:
    """Whether it takes rows of a C-contiguous array by C-contiguous int64 numbers."""
    if op.axis != (0,) or not all(isinstance(x, Ref) for x in op.inputs):
        return False
    a, index = (x.resolve(x.value.array) for x in op.inputs)
    straight = a.flags.c_contiguous and index.flags.c_contiguous
    return straight and index.dtype == np.int64 and bool(a.size)
