"""Launches of the kernels in kernels.cu, on CuPy's current stream.

    launch = Launcher()
    launch.fill_normal(out, key)        # key: uint64, the words of a Key, on the device

Nothing here waits for the device. Nothing is allocated where the caller brings the scratch of a
reduction, so that a launch can be part of a CUDA graph, except the first, which compiles.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ldl.nn.differentiable import DeviceError

Array = Any
"""A C-contiguous CuPy array."""

OPTIONS = ("-std=c++17", "--prec-div=false", "--prec-sqrt=false")
"""What the source is compiled with, and -ftz=true, which CuPy adds.

Quotients and roots of float32 are then exact to two units in the last place: their exact forms are
calls, round which registers are spilled.
"""

BLOCK = 256
"""Threads in a block: the most that kernels.cu allows."""

GRID = 4096
"""The most blocks of a launch whose threads can take several pieces of work."""

PARTS = 1024
"""The most blocks of a reduction that leave partial sums."""

UNITS = (16, 8, 4, 1)
"""The bytes that a thread of a gather can copy at once."""

KINDS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
NULL = np.uint64(0)


@cache
def common() -> str:
    """The text of common.cuh."""
    return Path(__file__).with_name("common.cuh").read_text(encoding="utf-8")


@cache
def source() -> str:
    """The text of kernels.cu and images.cu, with what they have in common with other sources."""
    own = ("kernels.cu", "images.cu")
    texts = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in own]
    return common() + "".join(texts)


class Scratch(NamedTuple):
    """What reductions need beside their arrays; one serves all the launches of one stream."""

    tickets: Array
    """Zeros, and zeros again after each launch."""
    partial: Array


class Launcher:
    """Thin functions over the kernels; CuPy compiles them at the first launch on each device.

    `xp` is CuPy, imported where it is not given.
    """

    def __init__(self, xp: Any = None) -> None:
        if xp is None:
            import cupy

            xp = cupy
        self.xp = xp
        self._module = xp.RawModule(code=source(), options=OPTIONS)
        self._kernels: dict[str, Any] = {}

    def scratch(self) -> Scratch:
        """Scratch that is enough for every reduction of this class."""
        zeros = self.xp.zeros
        return Scratch(zeros(PARTS, np.uint32), zeros(32 * PARTS, np.float64))

    def fill_uniform(self, out: Array, key: Array) -> None:
        """Uniform numbers in [0, 1), those of `ldl.random.uniform`, bit for bit."""
        self._fill("uniform", out, key, -(-out.size // 8))

    def fill_normal(self, out: Array, key: Array) -> None:
        """Standard normal numbers, those of `Kernels.normal` to rounding."""
        self._fill("normal", out, key, -(-out.size // 16))

    def _fill(self, what: str, out: Array, key: Array, threads: int) -> None:
        double = kind_of(out) == "double"
        self.check(out)
        if threads:
            name = f"fill_{what}_double" if double else f"fill_{what}"
            self.run(name, (blocks(threads),), (BLOCK,), out, np.int64(out.size), key)

    def take(self, array: Array, index: Array, out: Array, start: Array = None) -> None:
        """out[i] = array[index[start + i]]; `start`, an int64 on the device, is zero if left out.

        `index` holds int64. Where it or `start` leaves its array, the nearest row is taken.
        """
        self.check(array, index, out)
        if index.dtype != np.int64:
            raise TypeError(f"index holds int64, not {index.dtype}")
        if out.dtype != array.dtype or out.shape[1:] != array.shape[1:]:
            raise ValueError(
                f"rows of {array.shape[1:]} {array.dtype} do not go into "
                f"{out.shape[1:]} {out.dtype}"
            )
        rows, size = len(out), out.nbytes
        if not size:
            return
        if not (len(array) and index.size):
            raise ValueError(f"no rows to take: array {array.shape}, index {index.shape}")
        places = array.data.ptr | out.data.ptr | (size // rows)
        unit = next(u for u in UNITS if places % u == 0)
        columns = size // rows // unit
        x = min(power_of_two(columns), BLOCK)
        y = BLOCK // x
        self.run(
            f"gather_rows_{unit}",
            (blocks(columns, x), min(blocks(rows, y), GRID)),
            (x, y),
            array,
            np.int64(len(array)),
            index,
            np.int64(index.size),
            NULL if start is None else start,
            out,
            np.int64(rows),
            np.int64(columns),
        )

    def sum_columns(
        self, a: Array, out: Array, accumulate: bool = False, scratch: Scratch | None = None
    ) -> None:
        """out[j] = Σ a[i, j] over i, added to what `out` holds with `accumulate`."""
        self.check(a, out)
        rows, columns = a.shape
        if not columns:
            return
        x = min(power_of_two(columns), 32)
        y = BLOCK // x
        groups = -(-columns // x)
        parts = max(1, min(rows // (8 * y), PARTS // groups))
        tickets, partial = self._several(parts, scratch)
        self.run(
            f"sum_columns_{kind_of(a, out)}",
            (min(groups, 2**31 - 1), parts),
            (x, y),
            a,
            out,
            np.int64(rows),
            np.int64(columns),
            np.int32(accumulate),
            tickets,
            partial,
        )

    def sum_squares(self, a: Array, out: Array, scratch: Scratch | None = None) -> None:
        """out = Σ a², `out` being an array of one element."""
        self.check(a, out)
        parts = max(1, min(a.size // (8 * BLOCK), PARTS))
        tickets, partial = self._several(parts, scratch)
        name = f"sum_squares_{kind_of(a, out)}"
        self.run(name, (parts,), (BLOCK,), a, out, np.int64(a.size), tickets, partial)

    def _several(self, parts: int, scratch: Scratch | None) -> Any:
        """Scratch for that many blocks: a single one needs none."""
        if parts == 1:
            return NULL, NULL
        return self.scratch() if scratch is None else scratch

    def check(self, *arrays: Array) -> None:
        """A raw kernel knows nothing of strides, and nothing of GPUs."""
        gpu = self.xp.cuda.runtime.getDevice()
        for a in arrays:
            if not a.flags.c_contiguous:
                raise ValueError(f"an array of shape {a.shape} is not C-contiguous")
            here(a, gpu)

    def run(self, name: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
        """Launch a kernel by its name."""
        kernel = self._kernels.get(name)
        if kernel is None:
            kernel = self._kernels[name] = self._module.get_function(name)
        kernel(grid, block, args)


def blocks(threads: int, block: int = BLOCK) -> int:
    """As many as these threads need, and `GRID` at most."""
    return min(-(-threads // block), GRID)


def power_of_two(n: int) -> int:
    """The least that is not smaller than n."""
    return 1 << (n - 1).bit_length()


def kind_of(*arrays: Array) -> str:
    """The type of C of all of them."""
    dtypes = {a.dtype for a in arrays}
    if len(dtypes) > 1 or not dtypes <= KINDS.keys():
        raise TypeError(f"arrays are all float32 or all float64, not {sorted(map(str, dtypes))}")
    return KINDS[dtypes.pop()]


def here(array: Array, gpu: int) -> None:
    """DeviceError unless the array is on that GPU: a kernel would read what is not there."""
    if array.data.device_id != gpu:
        raise DeviceError(
            f"an array of GPU {array.data.device_id} met work on GPU {gpu}: x.copy() brings it "
            "over; what belongs to a GPU is used inside `with cupy.cuda.Device(number):`"
        )
