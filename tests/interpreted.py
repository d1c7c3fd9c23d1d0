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
from ldl_numpy import program
from ldl_numpy.source import Source

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
NAMES |= {"LEAST": -(2**63), "flush_subnormals": lambda: None, "restore": lambda x: x}


@cache
def _part(text: str) -> Any:
    """The function of a source that does some rows."""
    start = text.index("def part(")
    space = dict(NAMES)
    exec(text[start : text.index("\n\n", start)], space)
    return space["part"]


def interpret(source: Source, rows: int, columns: int, arrays: list[Any], values: Any) -> None:
    """What a loop does to the arrays of its inputs, outputs and sums, `values` its constants."""
    count = len(source.inputs) + len(source.outputs)
    scratch = [np.zeros(columns, x.value.dtype) for x in source.sums]
    n = len(source.inputs)
    given = [*arrays[:n], *scratch, *arrays[n:count]]
    do_share(source, rows, columns, 0, 1, given, values)
    for r, s in zip(arrays[count:], scratch, strict=True):
        r[...] = s.reshape(r.shape) if r.size > 1 or r.ndim else s.sum(dtype=np.float64)


def do_share(
    source: Source, rows: int, columns: int, job: int, jobs: int, arrays: list[Any], values: Any
) -> None:
    """What a job does to the arrays of a loop's inputs, scratch and outputs."""
    how = [*source.roles, *["full"] * (len(arrays) - len(source.roles))]
    flat = [a.reshape(-1) for a in arrays]
    given = [a[0] if role == "scalar" else a for role, a in zip(how, flat, strict=True)]
    kinds = (kind for kind, _ in source.constants)
    numbers = [np.dtype(kind).type(x) for kind, x in zip(kinds, values, strict=True)]
    n = rows if rows > 1 else columns
    part = n * job // jobs, n * (job + 1) // jobs
    with np.errstate(all="ignore"):
        _part(source.text())(job, *part, rows, columns, *given, *numbers)


# ---- the host ------------------------------------------------------------------------------------


def on_host(monkeypatch: Any) -> None:
    """Programs of the NumPy backend, from now on."""
    sources: dict[str, Source] = {}
    texts: dict[str, int] = {}
    made = program.compiled

    def compiled(loop: Loop, stored: set[Value]) -> Op:
        op = made(loop, stored)
        sources[op.run.text()] = op.run
        return op

    def addresses(wanted: list[str]) -> list[int]:
        return [texts.setdefault(text, len(texts)) for text in wanted]

    def play(calls: ctypes.c_void_p, _: int) -> None:
        (count,) = _at(calls.value or 0, "i8", (1,)).tolist()
        for function, at, jobs in _at((calls.value or 0) + 8, "i8", (count, 3)).tolist():
            text = list(texts)[function]
            for job in range(jobs):
                if text in sources:
                    _play_loop(sources[text], at, job)
                elif "def add(" in text:
                    _add_shares(text, at)
                else:
                    _play_product("f4" if "[f4]" in text else "f8", at, job)

    _, point = program.players()
    monkeypatch.setattr(program, "compiled", compiled)
    monkeypatch.setattr(program, "addresses", addresses)
    monkeypatch.setattr(program, "players", lambda: (play, point))


def _at(address: int, kind: Any, shape: tuple[int, ...]) -> Any:
    nbytes = int(np.prod(shape)) * np.dtype(kind).itemsize
    held = (ctypes.c_char * nbytes).from_address(address)
    return np.frombuffer(held, kind).reshape(shape)


def _play_loop(source: Source, at: int, job: int) -> None:
    rows, columns, jobs = _at(at, "i8", (3,)).tolist()
    addresses = _at(at, "i8", (3 + len(source.arguments),)).tolist()[3:]
    shapes = {"full": (rows, columns), "row": (columns,), "column": (rows,), "scalar": (1,)}
    wanted = [
        (x.value.dtype, shapes[how]) for x, how in zip(source.inputs, source.roles, strict=True)
    ]
    wanted += [(x.dtype, (jobs, columns)) for x in source.scratch]
    wanted += [(x.value.dtype, (rows, columns)) for x in source.outputs]
    found = [_at(at, *how) for at, how in zip(addresses, wanted, strict=False)]
    count = len(source.constants)
    values = _at(addresses[-1], "f8", (count,)) if count else ()
    do_share(source, rows, columns, job, jobs, found, values)


def _add_shares(text: str, at: int) -> None:
    shares, columns, s, r = _at(at, "i8", (4,)).tolist()
    kind = "f4" if "[f4]" in text else "f8"
    added = _at(s, kind, (shares, columns))
    if "reassoc" in text:
        _at(r, kind, ())[...] = added.sum(dtype=np.float64)
    else:
        _at(r, kind, (columns,))[...] = added.sum(axis=0)


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
