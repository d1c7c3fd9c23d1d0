"""Convolutions and pooling on a device: windows written out as rows, and matrix products of them.

`Windows` launches the kernels of images.cu. In a recorded step `with_products` makes of each
convolution the operations that it consists of, which a plan gives memory and the second stream.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from ldl.backend import Window
from ldl.compiler.backend import KernelCall
from ldl.compiler.operations import BETWEEN_RANKS, Op, Ref, Value
from ldl.compiler.views import copy_into
from ldl_cupy.launch import BLOCK, GRID, Launcher, blocks, kind_of, power_of_two

LOWERED = 2**24
"""Numbers of windows that are written out at a time, or those of one image: 64 MiB of float32."""

Array = Any


class Windows:
    """The kernels of images.cu."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    def lower(self, window: Window, x: Array, out: Array) -> None:
        """The windows of x (N, H, W, C), into (groups, N, OH, OW, taps, C / groups)."""
        self._run("lower", window, x.shape, x, out)

    def raise_(self, window: Window, lowered: Array, out: Array) -> None:
        """Each pixel's sum over the windows that see it, into (N, H, W, C)."""
        self._run("raise", window, out.shape, lowered, out)

    def max_pool(self, window: Window, x: Array, y: Array, where: Array) -> None:
        """As `Images.max_pool`."""
        self._run("max_pool", window, x.shape, x, y, where)

    def max_pool_input(self, window: Window, grad: Array, where: Array, out: Array) -> None:
        """As `Images.max_pool_input`."""
        self._run("max_pool_input", window, out.shape, grad, where, out)

    def add_rows(self, rows: Array, index: Array, out: Array) -> None:
        """As `Data.add_rows`, for an int64 index; every row of `out` looks at all of it."""
        self._launcher.check(rows, index, out)
        count, (size, columns) = len(rows), out.shape
        if not (count and out.size):
            return
        x = min(power_of_two(columns), 32)
        y = BLOCK // x
        self._launcher.run(
            *(f"add_rows_{kind_of(rows, out)}", (blocks(columns, x), min(-(-size // y), GRID))),
            *((x, y), rows, index, out, np.int64(count), np.int64(size), np.int64(columns)),
        )

    def _run(self, name: str, window: Window, shape: tuple[int, ...], *arrays: Array) -> None:
        self._launcher.check(*arrays)
        floats = [a for a in arrays if a.dtype.kind == "f"]
        places = [a for a in arrays if a.dtype.kind == "u"]
        n, h, w, c = shape
        (top, _), (left, _) = window.padding
        numbers = [h, w, *window.output((h, w)), *window.size, *window.stride, top, left]
        numbers += [*window.dilation, n, c, window.groups]
        size = prod(shape) if name in ("raise", "max_pool_input") else arrays[1].size
        if size:
            name = "_".join([name, kind_of(*floats), *(str(a.itemsize) for a in places)])
            if max(a.size for a in arrays) >= 2**32:
                raise ValueError(f"{name} takes and makes arrays of less than 2³² numbers")
            told = map(np.int32, numbers)
            self._launcher.run(name, (blocks(size),), (BLOCK,), *arrays, np.uint32(size), *told)


def with_products(ops: list[Op], windows: Windows) -> list[Op]:
    """The operations, convolutions made of windows and products."""
    made = {"conv": _conv, "conv_weight": _conv_weight, "conv_input": _conv_input}
    done: list[Op] = []
    for op in ops:
        if not isinstance(op.run, KernelCall) or op.ufunc in {"take", *BETWEEN_RANKS}:
            done.append(op)
            continue
        straight = [_straight(x) for x in op.inputs]
        done += [copy for copies, _ in straight for copy in copies]
        op = replace(op, inputs=tuple(x for _, x in straight))
        if op.ufunc in made:
            done += made[op.ufunc](op, windows)
        else:
            run = getattr(windows, op.ufunc)
            window = op.settings[:1]
            done.append(replace(op, run=partial(run, *window) if window else run))
    return done


def _straight(x: Ref) -> tuple[list[Op], Ref]:
    """The array as kernels read it, without gaps: a copy of it where it has some."""
    array = x.resolve(x.value.lying)
    if array.flags.c_contiguous:
        return [], x
    held = Ref(Value(array))
    return [Op(copy_into, (x,), (held,), ufunc="positive")], held


def view(x: Ref, name: str, *args: Any) -> Ref:
    """A view of a view."""
    return Ref(x.value, (*x.path, (name, args)))


def _shape(x: Ref) -> tuple[int, ...]:
    shape: tuple[int, ...] = x.resolve(x.value.array).shape
    return shape


def _pieces(n: int, each: int) -> Iterator[slice]:
    """Images whose windows, of so many numbers each, are written out together."""
    step = max(1, min(n, LOWERED // max(each, 1)))
    for first in range(0, n, step):
        yield slice(first, min(n, first + step))


def _some(x: Ref, at: slice) -> Ref:
    """Some of the images."""
    whole = at == slice(0, _shape(x)[0])
    return x if whole else view(x, "__getitem__", (at, Ellipsis))


def _columns(windows: Windows, x: Ref, window: Window, at: slice) -> tuple[list[Op], Ref]:
    """The windows of some images as (groups, rows, taps C / groups), and what writes them."""
    _, h, w, c = _shape(x)
    count, taps = at.stop - at.start, prod(window.size)
    rows = count * prod(window.output((h, w)))
    if window.one_pixel:
        return [], view(_some(x, at), "reshape", 1, rows, c)
    shape = window.groups, rows, taps * (c // window.groups)
    held = Ref(Value(np.broadcast_to(np.zeros((), x.value.dtype), shape)))
    op = Op(partial(windows.lower, window), (_some(x, at),), (held,), ufunc="lower")
    return [op], held


def _by_groups(x: Ref, window: Window, *shape: int) -> Ref:
    """(rows, groups, n) as matrices (groups, rows, n)."""
    return view(view(x, "reshape", *shape), "transpose", 1, 0, 2)


def _product(a: Ref, b: Ref, out: Ref, accumulate: bool = False) -> Op:
    """A product of matrices, of single ones where there is one group."""
    if _shape(a)[0] == 1:
        a, b, out = (view(x, "__getitem__", (0, Ellipsis)) for x in (a, b, out))
    name = "matmul_add" if accumulate else "matmul"
    return Op(np.matmul, (a, b), (out,), ufunc=name, partial_write=accumulate)


def _conv(op: Op, windows: Windows) -> list[Op]:
    x, weight, *bias = op.inputs
    (out,), window = op.outputs, op.settings[0]
    (n, *_), o, groups = _shape(x), _shape(weight)[-1], window.groups
    taps = prod(_shape(weight)[:-1])
    w = _by_groups(weight, window, taps, groups, o // groups)
    done: list[Op] = []
    for at in _pieces(n, prod(_shape(out)[1:3]) * taps * groups):
        before, columns = _columns(windows, x, window, at)
        rows = _shape(columns)[1]
        there = _by_groups(_some(out, at), window, rows, groups, o // groups)
        done += [*before, _product(columns, w, there)]
    if bias:
        done.append(Op(np.add, (out, bias[0]), (out,), ufunc="add"))
    return done


def _conv_weight(op: Op, windows: Windows) -> list[Op]:
    x, grad = op.inputs
    (out,), (window, accumulate) = op.outputs, op.settings
    (n, *_, c), o, groups = _shape(x), _shape(grad)[-1], window.groups
    taps = prod(window.size) * (c // groups)
    dw = _by_groups(out, window, taps, groups, o // groups)
    done: list[Op] = []
    for at in _pieces(n, prod(_shape(grad)[1:3]) * taps * groups):
        before, columns = _columns(windows, x, window, at)
        rows = _shape(columns)[1]
        g = _by_groups(_some(grad, at), window, rows, groups, o // groups)
        add = accumulate or at.start > 0
        done += [*before, _product(view(columns, "transpose", 0, 2, 1), g, dw, add)]
    return done


def _conv_input(op: Op, windows: Windows) -> list[Op]:
    grad, weight = op.inputs
    (out,), (window, _) = op.outputs, op.settings
    (n, *_, c), o, groups = _shape(out), _shape(weight)[-1], window.groups
    taps = prod(window.size) * (c // groups)
    w = view(_by_groups(weight, window, taps, groups, o // groups), "transpose", 0, 2, 1)
    places = prod(_shape(grad)[1:3])
    done: list[Op] = []
    for at in _pieces(n, places * taps * groups):
        rows = (at.stop - at.start) * places
        g = _by_groups(_some(grad, at), window, rows, groups, o // groups)
        if window.one_pixel:
            done.append(_product(g, w, view(_some(out, at), "reshape", 1, rows, c)))
            continue
        shape = groups, rows, taps
        held = Ref(Value(np.broadcast_to(np.zeros((), grad.value.dtype), shape)))
        raised = partial(windows.raise_, window)
        partly = at != slice(0, n)
        done.append(_product(g, w, held))
        done.append(Op(raised, (held,), (_some(out, at),), ufunc="raise", partial_write=partly))
    return done
