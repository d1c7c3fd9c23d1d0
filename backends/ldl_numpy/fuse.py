"""Fusing: elementwise operations on one shape, and the sums that end them, as one loop.

`fuse` walks a list of operations in order and gathers those that a loop over (rows, columns) can do
together; what is not read afterwards is never written to memory. The loop is written as the source
of a function that Numba compiles. Sources lie in a folder of the user's (`LDL_CACHE_DIR`, or
`ldl/numba` in the cache folder), where Numba keeps what it compiled between processes.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ldl_numpy.trace import Op, Ref, Value

UNARY = {
    "positive": "{0}",
    "negative": "-{0}",
    "absolute": "abs({0})",
    "fabs": "abs({0})",
    "square": "{0} * {0}",
    "reciprocal": "{one} / {0}",
    "sqrt": "np.sqrt({0})",
    "sign": "({one} if {0} > {zero} else (-{one} if {0} < {zero} else {0} * {zero}))",
    "exp": "exp_{t}({0})",
    "log": "log_{t}({0})",
    "log1p": "log1p_{t}({0})",
    "expm1": "expm1_{t}({0})",
    "tanh": "tanh_{t}({0})",
}
BINARY = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "maximum": "({0} if ({0} >= {1} or {0} != {0}) else {1})",
    "minimum": "({0} if ({0} <= {1} or {0} != {0}) else {1})",
}
COMPARISONS = {
    "greater": ">",
    "greater_equal": ">=",
    "less": "<",
    "less_equal": "<=",
    "equal": "==",
    "not_equal": "!=",
}
KNOWN = {*UNARY, *BINARY, *COMPARISONS, "where", "clip", "astype", "sum"}

PARALLEL_FROM = 24_576
"""Elements from which a loop is worth two threads."""


class Loop:
    """Operations that one loop over `shape` does, in order."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        self.ops: list[Op] = []
        self.reads: set[Value] = set()
        self.writes: set[Value] = set()
        self.sums: set[Value] = set()

    def takes(self, op: Op) -> bool:
        """Whether the loop can do this operation too, after the others."""
        for x in op.inputs:
            if isinstance(x, Ref) and (
                x.value in self.sums or (x.value in self.writes and role(x, self.shape) != "full")
            ):
                return False
        out = op.outputs[0].value
        if op.ufunc == "sum":
            return out not in self.reads | self.writes | self.sums
        return out not in self.sums and not (
            out in self.reads
            and any(
                isinstance(x, Ref) and x.value is out and role(x, self.shape) != "full"
                for o in self.ops
                for x in o.inputs
            )
        )

    def add(self, op: Op) -> None:
        """Do it after the others."""
        self.ops.append(op)
        self.reads |= {x.value for x in op.inputs if isinstance(x, Ref)}
        (self.sums if op.ufunc == "sum" else self.writes).add(op.outputs[0].value)


def fuse(ops: list[Op], kept: set[Value]) -> list[Op]:
    """The operations with loops in the places of those that they do; `kept` are read in the end."""
    done: list[Op | Loop] = []
    open_loops: list[Loop] = []

    def close(loop: Loop) -> None:
        open_loops.remove(loop)
        done.append(loop)

    for op in ops:
        shape = loop_shape(op)
        reads = {x.value for x in op.inputs if isinstance(x, Ref)}
        writes = {out.value for out in op.outputs}
        home = next((x for x in open_loops if shape is not None and x.shape == shape), None)
        for other in list(open_loops):
            changed = other.writes | other.sums
            if (other is not home and (reads | writes) & changed) or (
                other is not home and writes & other.reads
            ):
                close(other)
        if shape is None:
            done.append(op)
            continue
        if home is not None and not home.takes(op):
            close(home)
            home = None
        if home is None:
            home = Loop(shape)
            open_loops.append(home)
        home.add(op)
    for loop in list(open_loops):
        close(loop)
    return [
        step if isinstance(step, Op) else compiled(step, _read_after(done[i + 1 :]) | kept)
        for i, step in enumerate(done)
    ]


def _read_after(steps: list[Any]) -> set[Value]:
    read: set[Value] = set()
    for step in steps:
        if isinstance(step, Loop):
            read |= step.reads
        else:
            read |= {x.value for x in step.inputs if isinstance(x, Ref)}
            if step.partial_write:
                read |= {out.value for out in step.outputs}
    return read


# ---- what a loop can do --------------------------------------------------------------------------


def role(ref: Ref, shape: tuple[int, ...]) -> str:
    """How a loop over `shape` reads a view: full, row, column, scalar, or "" for not at all."""
    array = ref.resolve(ref.value.array)
    if array.dtype not in (np.float32, np.float64, np.bool_) or not array.flags.c_contiguous:
        return ""
    if array.shape == shape:
        return "full" if array.size == ref.value.array.size else ""
    if array.ndim == 0:
        return "scalar"
    if len(shape) > 1 and array.shape in (shape[-1:], (1,) * (len(shape) - 1) + shape[-1:]):
        return "row"
    if len(shape) == 2 and array.shape == (shape[0], 1):
        return "column"
    return ""


def loop_shape(op: Op) -> tuple[int, ...] | None:
    """The shape that a loop for this operation runs over, None where none can do it."""
    if op.ufunc not in KNOWN or op.partial_write or len(op.outputs) != 1:
        return None
    (out,) = op.outputs
    array = out.resolve(out.value.array)
    if array.dtype not in (np.float32, np.float64, np.bool_) or not array.flags.c_contiguous:
        return None
    if op.ufunc == "sum":
        (x,) = op.inputs
        shape = x.resolve(x.value.array).shape
        columns = op.axis == (0,) and len(shape) == 2 and not op.keepdims
        total = op.axis == tuple(range(len(shape))) and array.ndim == 0
        whole = array.size == out.value.array.size
        return shape if (columns or total) and whole and role(x, shape) == "full" else None
    shape = array.shape
    if not shape or 0 in shape or array.size != out.value.array.size:
        return None
    for x in op.inputs:
        if isinstance(x, Ref):
            if not role(x, shape):
                return None
        elif not isinstance(x, (int, float, np.floating, np.bool_)):
            return None
    return shape


# ---- writing the loop ----------------------------------------------------------------------------


class Source:
    """The source of one loop, and what to call it with."""

    def __init__(self, loop: Loop, stored: set[Value]) -> None:
        self.loop = loop
        self.inputs: list[Ref] = []
        self.outputs: list[Ref] = []
        self.before: list[str] = []
        self.body: list[str] = []
        self.after: list[str] = []
        self.zero: list[str] = []
        self.scratch: list[Any] = []
        self.names: dict[tuple[Value, str], str] = {}
        size = int(np.prod(loop.shape))
        self.columns = loop.shape[-1]
        self.rows = size // self.columns
        self.parts = 2 if size >= PARALLEL_FROM and self.rows > 1 else 1
        for op in loop.ops:
            self._write(op)
        for value in dict.fromkeys(op.outputs[0].value for op in loop.ops):
            if value in loop.writes and value in stored:
                name = f"o{len(self.outputs)}"
                self.outputs.append(Ref(value, (("reshape", (self.rows, self.columns)),)))
                self.body.append(f"{name}[i, j] = {self.names[value, 'full']}")
        self.sums = [op.outputs[0] for op in loop.ops if op.ufunc == "sum"]

    def _load(self, x: Any, kind: str) -> str:
        """The name of an operand in the loop; `kind` is the type of a constant."""
        if not isinstance(x, Ref):
            return f"{kind}({float(x)!r})" if np.isfinite(x) else f"{kind}(np.{float(x)!r})"
        how = role(x, self.loop.shape)
        if (x.value, how) in self.names:
            return self.names[x.value, how]
        argument, name = f"a{len(self.inputs)}", f"x{len(self.inputs)}"
        shape = {
            "full": (self.rows, self.columns),
            "row": (self.columns,),
            "column": (self.rows,),
            "scalar": (),
        }[how]
        self.inputs.append(Ref(x.value, (*x.path, ("reshape", (shape,)))))
        at = {"full": "i, j", "row": "j", "column": "i", "scalar": "()"}[how]
        (self.before if how == "scalar" else self.body).append(f"{name} = {argument}[{at}]")
        self.names[x.value, how] = name
        return name

    def _write(self, op: Op) -> None:
        out = op.outputs[0]
        dtype = out.value.array.dtype
        if op.ufunc == "sum":
            self._sum(op, out)
            return
        sources = [x.value.array.dtype for x in op.inputs if isinstance(x, Ref)]
        kind = _kind(np.result_type(*sources) if dtype == bool and sources else dtype)
        operands = [self._load(x, kind) for x in op.inputs]
        if op.ufunc != "where":
            operands = [_cast(n, x, kind) for n, x in zip(operands, op.inputs, strict=True)]
        else:
            operands[1:] = [
                _cast(n, x, kind) for n, x in zip(operands[1:], op.inputs[1:], strict=True)
            ]
        if op.ufunc in COMPARISONS:
            text = f"{operands[0]} {COMPARISONS[op.ufunc]} {operands[1]}"
        elif op.ufunc == "where":
            text = f"{operands[1]} if {operands[0]} else {operands[2]}"
        elif op.ufunc == "clip":
            low = BINARY["maximum"].format(*operands[:2])
            name = f"t{len(self.body)}"
            self.body.append(f"{name} = {low}")
            text = BINARY["minimum"].format(name, operands[2])
        elif op.ufunc == "astype":
            text = operands[0]
        else:
            form = UNARY.get(op.ufunc) or BINARY[op.ufunc]
            text = form.format(*operands, one=f"{kind}(1.0)", zero=f"{kind}(0.0)", t=kind)
        name = f"t{len(self.body)}"
        self.body.append(f"{name} = {text}")
        self.names = {k: v for k, v in self.names.items() if k[0] is not out.value}
        self.names[out.value, "full"] = name

    def _sum(self, op: Op, out: Ref) -> None:
        kind = _kind(out.value.array.dtype)
        name = self._load(op.inputs[0], kind)
        k = len(self.scratch)
        self.scratch.append(np.zeros((self.parts, self.columns), out.value.array.dtype))
        self.zero.append(f"s{k}[p, :] = 0")
        self.body.append(f"s{k}[p, j] += {_cast(name, op.inputs[0], kind)}")
        if out.value.array.ndim == 0:
            self.after += [
                f"v{k} = f8(0.0)",
                f"for p in range({self.parts}):",
                "    for j in range(columns):",
                f"        v{k} += s{k}[p, j]",
                f"r{k}[()] = v{k}",
            ]
        else:
            self.after += [
                "for j in range(columns):",
                f"    r{k}[j] = s{k}[0, j]"
                + "".join(f" + s{k}[{p}, j]" for p in range(1, self.parts)),
            ]

    def text(self) -> str:
        """The module."""
        names = [
            *(f"a{i}" for i in range(len(self.inputs))),
            *(f"s{i}" for i in range(len(self.scratch))),
            *(f"o{i}" for i in range(len(self.outputs))),
            *(f"r{i}" for i in range(len(self.scratch))),
        ]
        spans = [f"p * rows // {self.parts}", f"(p + 1) * rows // {self.parts}"]
        parallel = self.parts > 1
        lines = [
            "import numpy as np",
            "from numba import njit, prange",
            "from ldl_numpy.numba_math import *",
            "f8 = np.float64",
            "",
            f"@njit(cache=True, error_model='numpy', nogil=True, parallel={parallel})",
            f"def loop(rows, columns, {', '.join(names)}):",
            *(f"    {line}" for line in self.before),
            f"    for p in {'prange' if parallel else 'range'}({self.parts}):",
            *(f"        {line}" for line in self.zero),
            f"        for i in range({spans[0]}, {spans[1]}):",
            "            for j in range(columns):",
            *(f"                {line}" for line in self.body),
            *(f"    {line}" for line in self.after),
        ]
        return "\n".join(lines) + "\n"


def _kind(dtype: Any) -> str:
    return "f8" if dtype == np.float64 else "f4"


def _cast(name: str, x: Any, kind: str) -> str:
    if not isinstance(x, Ref):
        return name
    dtype = x.value.array.dtype
    if dtype == bool:
        return f"({kind}(1.0) if {name} else {kind}(0.0))"
    return name if _kind(dtype) == kind else f"{kind}({name})"


# ---- compiling -----------------------------------------------------------------------------------

_modules: dict[str, Any] = {}


def compiled(loop: Loop, stored: set[Value]) -> Op:
    """The loop as one operation."""
    source = Source(loop, stored)
    from ldl_numpy.kernels import lock

    function = _function(source.text())
    rows, columns, scratch = source.rows, source.columns, tuple(source.scratch)
    n = len(source.inputs)

    if source.parts > 1:

        def run(*arrays: Any) -> None:
            with lock:
                function(rows, columns, *arrays[:n], *scratch, *arrays[n:])

    elif scratch:

        def run(*arrays: Any) -> None:
            function(rows, columns, *arrays[:n], *scratch, *arrays[n:])

    else:

        def run(*arrays: Any) -> None:
            function(rows, columns, *arrays)

    return Op(run, tuple(source.inputs), (*source.outputs, *source.sums), ufunc="loop")


def _function(text: str) -> Callable[..., Any]:
    """The compiled function of a source, from the cache where it was compiled before."""
    import numba

    from ldl_numpy import numba_math

    stamp = Path(numba_math.__file__).read_bytes() + numba.__version__.encode()
    name = "loop_" + hashlib.sha256(text.encode() + stamp).hexdigest()[:24]
    if name not in _modules:
        path = cache_folder() / f"{name}.py"
        if not path.exists():
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
                file.write(text)
            os.replace(file.name, path)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        _modules[name] = module
    found: Callable[..., Any] = _modules[name].loop
    return found


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
