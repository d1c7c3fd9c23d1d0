"""Loops that are read, not compiled: a thousand programs take the time that compilers need for ten.

`on_host` has a program's compiled part done by Python, from the sources, words and addresses that
compiled code takes; `on_device` the kernels of `CudaOnHost`, from the same statements in Python.
"""

from __future__ import annotations

import ctypes
from functools import cache, partial
from typing import Any, ClassVar

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ldl.compiler.loops import BINARY, REDUCTIONS, UNARY, Loop
from ldl.compiler.operations import Op, Value
from ldl.compiler.passes import Body
from ldl.compiler.statements import ROW
from ldl_cupy.kernels import Kernels
from ldl_numpy import program, tile, turns

NAMES: dict[str, Any] = {
    "np": np,
    "f4": np.float32,
    "f8": np.float64,
    "i8": np.int64,
    "b1": np.bool_,
}
for _name in ("exp", "log", "log1p", "expm1", "tanh"):
    for _kind in ("f4", "f8"):
        NAMES[f"{_name}_{_kind}"] = getattr(np, _name)
NAMES |= {
    "LEAST": -(2**63),
    "MOST": 2**63 - 1,
    "flush_subnormals": lambda: None,
    "restore": lambda x: x,
}


class Memory:
    """Numbers at an address, as `language.memory` gives them."""

    def __init__(self, kind: Any, address: Any) -> None:
        self._kind, self._address = np.dtype(kind), int(address)

    def _of(self, i: Any) -> Any:
        return _at(self._address + int(i) * self._kind.itemsize, self._kind, (1,))

    def __getitem__(self, i: Any) -> Any:
        return self._of(i)[0]

    def __setitem__(self, i: Any, x: Any) -> None:
        self._of(i)[0] = x


NAMES |= {"memory": Memory, "glue": lambda function: function}


@cache
def _entry(text: str) -> Any:
    """The function of a source that does a job."""
    tiles = (m.groups() for m in tile.NAME.finditer(text))
    made = {f"tile_{k}_{n}_{w}": partial(_tile, k, int(n), int(w)) for what, k, n, w in tiles}
    for name, kind, side in {(m.group(), *m.groups()) for m in turns.NAME.finditer(text)}:
        made[name] = partial(_turn, kind, int(side))
    space = NAMES | made
    exec("from __future__ import annotations\n" + text, space)
    return space["entry"]


def _tile(kind: str, rows: int, columns: int, *numbers: Any) -> None:
    """What `ldl_numpy.tile` compiles: rows of a product, perhaps added to what is there."""
    a, at, ai, ak, b, bk, out, ot, outer, inner, adds = map(int, numbers)
    size = int(kind[1])
    left = as_strided(_at(a, kind, (1,)), (rows, outer, inner), (at, ai, ak))
    right = as_strided(_at(b, kind, (1,)), (outer * inner, columns), (bk, size))
    there = as_strided(_at(out, kind, (1,)), (rows, columns), (ot, size))
    there[...] = (there if adds else 0) + left.reshape(rows, -1) @ right


def _turn(kind: str, side: int, *numbers: Any) -> None:
    """What `ldl_numpy.turns` compiles: the transpose of a square."""
    a, at, to, ot = map(int, numbers)
    square = as_strided(_at(a, kind, (1,)), (side, side), (at, int(kind[1])))
    as_strided(_at(to, kind, (1,)), (side, side), (ot, int(kind[1])))[...] = square.T


# ---- the host ------------------------------------------------------------------------------------


def on_host(monkeypatch: Any) -> None:
    """Programs of the NumPy backend, from now on."""
    texts: dict[str, int] = {}

    def addresses(wanted: list[str]) -> list[int]:
        return [texts.setdefault(text, len(texts)) for text in wanted]

    def play(calls: ctypes.c_void_p, _: int) -> None:
        (count,) = _at(calls.value or 0, "i8", (1,)).tolist()
        for function, at, jobs in _at((calls.value or 0) + 8, "i8", (count, 3)).tolist():
            text = list(texts)[function]
            with np.errstate(all="ignore"):
                for job in range(jobs):
                    if "gemm" in text:
                        _play_product("f4" if "f4" in text else "f8", at, job)
                    else:
                        _entry(text)(Memory("i8", at), job)

    _, point = program.players()
    monkeypatch.setattr(program, "addresses", addresses)
    monkeypatch.setattr(program, "players", lambda: (play, point))


def _at(address: int, kind: Any, shape: tuple[int, ...]) -> Any:
    nbytes = int(np.prod(shape)) * np.dtype(kind).itemsize
    held = (ctypes.c_char * nbytes).from_address(address)
    return np.frombuffer(held, kind).reshape(shape)


def _play_product(kind: str, at: int, job: int) -> None:
    a_turned, b_turned, m, n, k, down, across, a, b, c = _at(at, "i8", (10,)).tolist()
    left = _at(a, kind, (k, m)).T if a_turned else _at(a, kind, (m, k))
    right = _at(b, kind, (n, k)).T if b_turned else _at(b, kind, (k, n))
    if job == down * across - 1:
        _at(c, kind, (m, n))[...] = left @ right


# ---- the device ----------------------------------------------------------------------------------


class Arrays(Body):
    """A loop as operations on whole arrays, pass by pass, in NumPy's words."""

    unary: ClassVar[dict[str, str]] = {
        **{name: f"np.{name}({{0}})" for name in UNARY - {"positive"}},
        "positive": "{0}",
    }
    binary: ClassVar[dict[str, str]] = {name: f"np.{name}({{0}}, {{1}})" for name in BINARY}
    whole: ClassVar[dict[str, str]] = {}
    truths: ClassVar[dict[str, str]] = {}
    choice: ClassVar[str] = "np.where({0}, {1}, {2})"
    statement: ClassVar[str] = "{0} = {1}"
    dear: ClassVar[frozenset[str]] = frozenset({"tanh", "exp"})

    def constant(self, kind: str, x: float) -> str:
        return f"np.dtype({kind!r}).type({float(x)!r})".replace("(nan", "(np.nan").replace(
            "inf)", "np.inf)"
        )

    def cast(self, name: str, kind: str) -> str:
        return f"np.asarray({name}).astype({kind!r})"

    def run(self, *arrays: Any) -> None:
        """Do it to the arrays of the inputs and outputs."""
        sizes = tuple(self.nest.sizes)
        seen = {}
        for x, a in zip((*self.inputs, *self.outputs), arrays, strict=True):
            strides = [n * a.itemsize for n in x.strides]
            seen[x.name] = as_strided(a, sizes, strides, writeable=a.flags.writeable)
        space = {name: np.dtype(kind).type(x) for (kind, x), name in self.constants.items()}
        space["np"] = np
        rows = tuple(self.nest.inner)
        parts = [x for two in zip(self.heads, self.passes, strict=True) for x in two]
        with np.errstate(all="ignore"):
            for part in (self.once, *parts, self.tail):
                for name, argument in part.loads:
                    space[name] = seen[argument].copy()
                exec("\n".join(part.lines), space)
                for x in part.adds:
                    over = set(range(len(sizes))) if x.where == "total" else {*rows}
                    over ^= set(range(len(sizes))) if x.where == "column" else set()
                    over -= {*rows} if x.level == ROW else set()
                    added = np.broadcast_to(eval(x.added, space), sizes)
                    if x.level == ROW:
                        added = added[
                            tuple(slice(1) if i in rows else slice(None) for i in range(len(sizes)))
                        ]
                    ufunc = getattr(np, REDUCTIONS[x.op])
                    made = ufunc.reduce(added, tuple(over), keepdims=True)
                    space[x.name] = made
                    argument = self.output(x.view.value)
                    if argument and x.where != "row":
                        _store(seen[argument], np.broadcast_to(made, made.shape))
                for argument, name in part.stores:
                    _store(seen[argument], space[name])


def _store(target: Any, made: Any) -> None:
    """Write to a view that may be one of numbers a row."""
    once = tuple(slice(None) if s else slice(1) for s in target.strides)
    target[once] = np.broadcast_to(made, target.shape)[once] if np.ndim(made) else made


def on_device(monkeypatch: Any) -> None:
    """Loops of the CuPy backend, from now on, as work of the double's stream."""

    def loop(self: Kernels, loop: Loop, stored: set[Value]) -> Op:
        arrays = Arrays(loop, stored)
        refs = [x.ref for x in (*arrays.inputs, *arrays.outputs)]
        count = len(arrays.inputs)
        run = partial(_launched, self._device, arrays)
        return Op(run, tuple(refs[:count]), tuple(refs[count:]), ufunc="loop")

    monkeypatch.setattr(Kernels, "loop", loop)


def _launched(stream: Any, loop: Arrays, *arrays: Any) -> None:
    held = [np.asarray(a) for a in arrays]
    stream.do("loop", lambda: loop.run(*held))
