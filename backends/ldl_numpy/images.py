"""Convolutions, pooling and scatter-adds of a program: their sources, and what to call them with.

A convolution goes over images in jobs. Each job has memory for one image with its padding, into
which images are copied that have some, and for the weight's gradient a share of it, of the weight's
size; shares are added in the order of the jobs. The image's gradient is made phase by phase: pixels
whose distance from a window's place has the same rest by the stride see the same pixels of windows,
and so are a convolution, of stride 1, of ∂L/∂Y, by those of the weight, turned round and packed
once for all images. Whatever the sizes, the same code does it: only the numbers of channels modulo
`tile.strip` are in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ldl.backend import Window
from ldl.compiler.backend import KernelCall
from ldl.compiler.operations import Host, Op, Ref
from ldl_numpy.conv_sources import (
    ADD,
    ADD_SHARES,
    ALONG,
    CONV,
    CONV_INPUT,
    CONV_WEIGHT,
    DEPTHWISE,
    PACK,
    PAD,
    PARTS,
)
from ldl_numpy.pool_sources import ADD_ROWS, MAX_POOL, MAX_POOL_INPUT
from ldl_numpy.strips import strips, typed
from ldl_numpy.threads import jobs
from ldl_numpy.tile import SIZES, strip

LEAST = 2**17
"""Multiplications, or comparisons, that are worth a job of their own."""

Word = int | Ref | Host
Call = tuple[str, list[Word], int]
"""A source, its words, and how many jobs it is."""


def fits(op: Op) -> bool:
    """Whether there is compiled code for it."""
    if not isinstance(op.run, KernelCall) or op.ufunc not in CALLS:
        return False
    arrays = [x.resolve(x.value.lying) for x in (*op.inputs, *op.outputs)]
    if op.ufunc == "max_pool" and not op.run.settings[0].sees(arrays[0].shape[1:3]):
        return False
    floats = {x.dtype for x in arrays if x.dtype.kind == "f"}
    straight = all(x.flags.c_contiguous and x.size for x in arrays)
    others = {x.dtype for x in arrays} - floats
    known = floats in ({np.dtype("f4")}, {np.dtype("f8")})
    return straight and known and others <= {np.dtype("u1"), np.dtype("i8")}


def calls(op: Op, scratch: Host) -> Iterator[Call]:
    """What a program calls for it, in order; of `scratch` it has `scratch_for(op)` bytes."""
    kind = _kind(op)
    return CALLS[op.ufunc](op, kind, scratch.view(kind))


def scratch_for(op: Op) -> int:
    """Bytes of memory that it needs while it is done, which others may use before and after.

    Of a weight's gradient the jobs' shares; of the images' the weight, packed.
    """
    if op.ufunc not in ("conv_weight", "conv_input"):
        return 0
    images, places = (op.inputs[0], op.inputs[1])
    if op.ufunc == "conv_input":
        images, places = op.outputs[0], op.inputs[0]
    s = _Sizes(images, places, op.settings[0])
    return (s.jobs if op.ufunc == "conv_weight" else 1) * s.whole * SIZES[_kind(op)]


def _kind(op: Op) -> str:
    return "f4" if op.inputs[0].value.dtype == np.float32 else "f8"


def _shape(x: Ref) -> tuple[int, ...]:
    shape: tuple[int, ...] = x.resolve(x.value.array).shape
    return shape


def _text(source: str, kind: str, **parts: str) -> str:
    for name, part in parts.items():
        source = source.replace(name, part or "restored = i8(0)")
    return source.replace("SIZE", str(SIZES[kind])).replace("KIND", kind)


def _across(what: str, params: str, moved: str, kind: str, columns: int) -> str:
    """A function of pixels for all channels, strip by strip; what is `moved` are addresses."""
    wide, rest = strip(kind), columns % strip(kind)

    def call(width: int, at: str) -> str:
        steps = {x: 1 if x == "where" else SIZES[kind] for x in moved.split()}
        told = [f"{x} + {steps[x]} * {at}" if x in steps else x for x in params.split()]
        return f"{what}_{kind}_{width}({', '.join(told)})"

    lines = [f"def {what}s({typed(params + ' c')}):", f"    whole = c - c % {wide}"]
    if columns >= wide:
        lines += [f"    for k in range(0, whole, {wide}):", "        " + call(wide, "k")]
    if rest:
        lines.append("    " + call(rest, "whole"))
    return "\n".join(lines) + "\n\n\n"


class _Sizes:
    """What the calls of one operation are told of it."""

    def __init__(self, x: Ref, y: Ref, window: Window) -> None:
        (self.n, self.h, self.w, self.c), (_, self.oh, self.ow, self.o) = _shape(x), _shape(y)
        self.window, self.groups = window, window.groups
        self.each, self.own = self.c // self.groups, self.o // self.groups
        (self.top, _), (self.left, _) = window.padding
        self.ph, self.pw = window.enlarged((self.h, self.w))
        self.pads = (self.ph, self.pw) != (self.h, self.w)
        self.whole = window.size[0] * window.size[1] * self.each * self.o
        """The weight's size."""
        self.jobs = min(self.n, jobs(self.n * self.oh * self.ow * self.whole, LEAST))

    @property
    def depthwise(self) -> bool:
        """Whether every channel is by itself."""
        return self.groups == self.c == self.o

    def held(self, kind: str) -> Host:
        """Memory of each job for an image with its padding."""
        return np.zeros((self.jobs, self.ph * self.pw * self.c if self.pads else 1), kind)

    def numbers(self, *more: int) -> list[Word]:
        """The words of a convolution."""
        found = [self.jobs, self.n, self.h, self.w, self.c, self.oh, self.ow, self.o]
        found += [*self.window.size, *self.window.stride, self.top, self.left, self.pads]
        found += [*self.window.dilation, self.groups, self.ph, self.pw, *more]
        return list(map(int, found))

    def depth(self, name: str, kind: str, arrays: list[Word], biased: bool = False) -> Call:
        """A depthwise convolution, or one of its gradients."""
        tap, begin, image, place = PARTS[name]
        numbers = [self.jobs, self.n, self.h, self.w, self.c, self.oh, self.ow]
        numbers += [*self.window.size, *self.window.stride, self.top, self.left]
        numbers += [*self.window.dilation, biased, self.whole]
        parts = {"BEGIN": begin, "IMAGE": image, "PLACE": place, "TAP": tap}
        return _text(ALONG + DEPTHWISE, kind, **parts), [*map(int, numbers), *arrays], self.jobs

    def places(self) -> list[Word]:
        """The words of pooling."""
        found = [self.jobs, self.n, self.h, self.w, self.c, self.oh, self.ow, *self.window.size]
        found += [*self.window.stride, self.top, self.left, *self.window.dilation]
        return list(map(int, found))


def _conv(op: Op, kind: str, scratch: Host) -> Iterator[Call]:
    x, weight, *bias = op.inputs
    (y,), s = op.outputs, _Sizes(x, op.outputs[0], op.settings[0])
    added = bias[0] if bias else x
    if s.depthwise:
        yield s.depth("conv", kind, [x, weight, added, y], bool(bias))
        return
    text = strips(kind, s.own) + _text(PAD + CONV, kind)
    yield text, [*s.numbers(bool(bias)), x, weight, added, y, s.held(kind)], s.jobs


def _conv_weight(op: Op, kind: str, shares: Host) -> Iterator[Call]:
    (x, grad), (out,), (window, accumulate) = op.inputs, op.outputs, op.settings
    s = _Sizes(x, grad, window)
    if s.depthwise:
        yield s.depth("conv_weight", kind, [x, grad, x, shares])
    else:
        text = strips(kind, s.own) + _text(PAD + CONV_WEIGHT, kind)
        yield text, [*s.numbers(s.whole), x, grad, s.held(kind), shares], s.jobs
    together = jobs(s.whole, 2**16)
    words: list[Word] = [s.jobs, s.whole, together, int(accumulate), shares, out]
    yield _text(ADD + ADD_SHARES, kind), words, together


def _conv_input(op: Op, kind: str, packed: Host) -> Iterator[Call]:
    (grad, weight), (out,) = op.inputs, op.outputs
    s = _Sizes(out, grad, op.settings[0])
    if s.depthwise:
        yield s.depth("conv_input", kind, [grad, weight, grad, out])
        return
    window = s.window
    plain = s.groups == 1 and window.dilation == (1, 1)
    rest = zip(window.size, window.dilation, window.stride, strict=True)
    my, mx = ((k - 1) * d // step + 1 for k, d, step in rest)
    ph = my + max(s.oh, (s.h - 1 + s.top) // window.stride[0] + 1)
    pw = mx + max(s.ow, (s.w - 1 + s.left) // window.stride[1] + 1)
    held = np.zeros((s.jobs, ph * pw * s.o), kind)
    words = [*window.size, s.each, s.o, *window.stride, s.groups, int(plain)]
    yield _text(PACK, kind), [*words, weight, packed], 1
    numbers = [s.jobs, s.n, s.h, s.w, s.c, s.oh, s.ow, s.o, *window.size, *window.stride]
    numbers += [s.top, s.left, ph, pw, my, mx, *window.dilation, s.groups, int(plain)]
    text = strips(kind, s.each) + _text(PAD + CONV_INPUT, kind)
    yield text, [*numbers, grad, packed, out, held], s.jobs


def _by_channels(window: Window, x: Ref) -> Window:
    """A window of every channel by itself."""
    return window._replace(groups=_shape(x)[-1])


def _max_pool(op: Op, kind: str, scratch: Host) -> Iterator[Call]:
    (x,), (y, where) = op.inputs, op.outputs
    s = _Sizes(x, y, _by_channels(op.settings[0], x))
    text = _across("pool", "x xi xj I J tap ti y where", "x y where", kind, s.c)
    yield text + _text(MAX_POOL, kind), [*s.places(), x, y, where], s.jobs


def _max_pool_input(op: Op, kind: str, scratch: Host) -> Iterator[Call]:
    (grad, where), (out,) = op.inputs, op.outputs
    s = _Sizes(out, grad, _by_channels(op.settings[0], out))
    text = _across("spread", "g where tap x", "g where x", kind, s.c)
    yield text + _text(MAX_POOL_INPUT, kind), [*s.places(), grad, where, out], s.jobs


def _add_rows(op: Op, kind: str, scratch: Host) -> Iterator[Call]:
    (rows, index), (out,) = op.inputs, op.outputs
    count, columns = _shape(rows)
    parts = min(max(1, columns // 16), jobs(count * columns, LEAST))
    yield _text(ADD_ROWS, kind), [parts, count, columns, index, rows, out], parts


CALLS: dict[str, Callable[[Op, str, Host], Iterator[Call]]] = {
    "conv": _conv,
    "conv_weight": _conv_weight,
    "conv_input": _conv_input,
    "max_pool": _max_pool,
    "max_pool_input": _max_pool_input,
    "add_rows": _add_rows,
}
"""What has compiled code."""
