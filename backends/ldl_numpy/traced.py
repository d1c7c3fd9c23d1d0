"""Traced arrays: they behave like NumPy's and note down what is done to them.

A `Traced` array wraps a NumPy array; every operation on it is carried out and also noted as an `Op`
of its `Trace`. The list of operations is then what a function does, whichever layers it went
through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, partialmethod
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ldl_numpy.select import Select
from ldl_numpy.trace import CannotTraceError, Host, Op, Ref, Value

REDUCTIONS = {"add": "sum", "maximum": "max", "minimum": "min"}


@dataclass
class Trace:
    """What was noted down."""

    ops: list[Op] = field(default_factory=list)
    values: dict[int, Value] = field(default_factory=dict)
    """External values by the identity of their arrays."""

    def external(self, array: Host) -> Value:
        """The value of an array that the trace did not make."""
        if id(array) not in self.values:
            self.values[id(array)] = Value(array, array)
        return self.values[id(array)]

    def changed(self) -> set[Value]:
        """The external values that were written to."""
        written = {out.value for op in self.ops for out in op.outputs}
        return {value for value in written if value.external is not None}

    def wrap(self, array: Host, writable: bool = False) -> Traced:
        """A traced array that stands for `array`.

        It is not to be written to; where it is `writable`, what is written goes to a copy for now.
        """
        held = array.copy() if writable else array.view()
        held.flags.writeable = writable
        return Traced(self, Ref(self.external(array)), held)

    def ref(self, x: Any) -> Any:
        """A Ref for an array of any kind, the thing itself for a constant."""
        if isinstance(x, Traced):
            return x.ref
        if isinstance(x, np.ndarray):
            return Ref(self.external(x))
        return x

    def add(
        self, run: Callable[..., Any], inputs: tuple[Any, ...], out: Any, result: Any, **facts: Any
    ) -> Any:
        """Note an operation whose `result` is known; make a value of it unless `out` is given."""
        if out is None:
            array = np.array(result)
            made = Traced(self, Ref(Value(array)), array)
        else:
            made = out
        self.ops.append(Op(run, tuple(map(self.ref, inputs)), (self.ref(made),), **facts))
        return made


def plain(x: Any) -> Any:
    """The array inside, also inside lists and tuples."""
    if isinstance(x, Traced):
        return x.array
    if isinstance(x, (list, tuple)):
        return type(x)(plain(item) for item in x)
    return x


class Traced(NDArrayOperatorsMixin):
    """An array whose operations are noted. What it does not know raises CannotTraceError."""

    __slots__ = ("array", "ref", "trace")

    def __init__(self, trace: Trace, ref: Ref, array: Host) -> None:
        self.trace, self.ref, self.array = trace, ref, array

    # ---- facts --------------------------------------------------------------------------------

    dtype = property(lambda self: self.array.dtype)
    shape = property(lambda self: self.array.shape)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    itemsize = property(lambda self: self.array.itemsize)

    def __len__(self) -> int:
        return len(self.array)

    def __getattr__(self, name: str) -> Any:
        raise CannotTraceError(f"reads .{name} of an array")

    def _refuse(self, *args: Any) -> Any:
        raise CannotTraceError("looks at a number, which differs from step to step")

    __float__ = __int__ = __index__ = __bool__ = __complex__ = __iter__ = __array__ = _refuse
    item = tolist = _refuse

    # ---- views --------------------------------------------------------------------------------

    def _view(self, name: str, *args: Any) -> Any:
        seen = getattr(self.array, name)(*args)
        if not np.may_share_memory(seen, self.array):
            return self.trace.add(
                lambda a, out: np.copyto(out, getattr(a, name)(*args)), (self,), None, seen
            )
        return Traced(self.trace, Ref(self.ref.value, (*self.ref.path, (name, args))), seen)

    T = property(lambda self: self._view("transpose"))
    reshape = partialmethod(_view, "reshape")
    transpose = partialmethod(_view, "transpose")
    swapaxes = partialmethod(_view, "swapaxes")

    ravel = partialmethod(_view, "reshape", -1)

    def __getitem__(self, index: Any) -> Any:
        parts = index if isinstance(index, tuple) else (index,)
        if all(p is None or p is Ellipsis or isinstance(p, (int, slice)) for p in parts):
            return self._view("__getitem__", index)
        if any(np.asarray(plain(p)).dtype == bool for p in parts if not isinstance(p, slice)):
            raise CannotTraceError("selects by a condition, which gives shapes that differ")
        traced = [p for p in parts if isinstance(p, Traced)]

        def run(a: Host, *rest: Host) -> None:
            *found, out = rest
            left = iter(found)
            at = tuple(next(left) if isinstance(p, Traced) else p for p in parts)
            np.copyto(out, a[at])

        return self.trace.add(run, (self, *traced), None, self.array[plain(tuple(parts))])

    def __setitem__(self, index: Any, value: Any) -> None:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(p, Traced) for p in parts):
            raise CannotTraceError("writes at places that an array names")
        self.array[index] = plain(value)
        whole = index is Ellipsis or index == slice(None)
        target = self if whole else self[index]
        if not isinstance(target.array, np.ndarray) or not np.may_share_memory(
            target.array, self.array
        ):
            raise CannotTraceError("writes at places that an array names")
        self.trace.add(copy_into, (value,), target, None, ufunc="positive", partial_write=not whole)

    # ---- operations ---------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", (None,))
        if (
            len(out) != 1
            or method not in ("__call__", "reduce")
            or kwargs.get("where", True) is not True
        ):
            raise CannotTraceError(f"calls {ufunc.__name__}.{method} in a way that is not known")
        kwargs.pop("where", None)
        if method == "reduce":
            return self._reduce(ufunc, inputs[0], out[0], **kwargs)
        target = out[0]
        if ufunc is np.matmul and [np.shape(plain(x))[1:] for x in inputs[:1]] == [(1,)]:
            ufunc = np.multiply  # a column times a row: every element is one product
        result = ufunc(*plain(inputs), out=None if target is None else plain(target), **kwargs)
        run = partial(ufunc, **kwargs) if kwargs else ufunc
        if ufunc in (np.maximum, np.minimum):

            def run(a: Any, b: Any, out: Host) -> None:
                ufunc(a, b, out=out, **kwargs)

        name = "" if kwargs else ufunc.__name__
        return self.trace.add(run, inputs, target, result, ufunc=name)

    def _reduce(
        self,
        ufunc: Any,
        a: Any,
        out: Any,
        axis: Any = 0,
        dtype: Any = None,
        keepdims: bool = False,
        initial: Any = None,
    ) -> Any:
        array = plain(a)
        axes = tuple(range(array.ndim)) if axis is None else axis
        axes = tuple(i % array.ndim for i in (axes if isinstance(axes, tuple) else (axes,)))
        at = axes if axis is not None and isinstance(axis, tuple) else axis

        def run(x: Host, o: Host) -> None:
            ufunc.reduce(x, at, dtype, o, keepdims)

        result = ufunc.reduce(array, at, dtype, plain(out), keepdims)
        name = REDUCTIONS.get(ufunc.__name__, "") if dtype is None else ""
        return self.trace.add(run, (a,), out, result, ufunc=name, axis=axes, keepdims=keepdims)

    def sum(
        self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        return self._reduce(np.add, self, out, axis, dtype, keepdims)

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._reduce(np.maximum, self, out, axis, None, keepdims)

    def min(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._reduce(np.minimum, self, out, axis, None, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        total = self.sum(axis, keepdims=keepdims)
        return total / (self.size // total.size)

    def __pow__(self, exponent: Any) -> Any:
        named = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal, 1: np.positive}
        if isinstance(exponent, (int, float)) and exponent in named:
            return named[exponent](self)
        return np.power(self, exponent)

    def _method(self, name: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self.array, name)(*args, **kwargs)
        return self.trace.add(
            lambda a, out: np.copyto(out, getattr(a, name)(*args, **kwargs)), (self,), None, result
        )

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        if not copy and self.dtype == dtype:
            return self
        result = self.array.astype(dtype)
        run = partial(np.copyto, casting="unsafe")
        return self.trace.add(lambda a, out: run(out, a), (self,), None, result, ufunc="astype")

    def copy(self) -> Any:
        return self.trace.add(copy_into, (self,), None, self.array.copy(), ufunc="positive")

    argmax = partialmethod(_method, "argmax")
    argmin = partialmethod(_method, "argmin")

    def clip(self, low: Any = None, high: Any = None, out: Any = None) -> Any:
        return np.clip(self, low, high, out=out)

    def dot(self, other: Any) -> Any:
        return np.dot(self, other)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return call(self.trace, function, args, kwargs)


def copy_into(a: Any, out: Host) -> None:
    """A copy, as an operation."""
    np.copyto(out, a)


def call(trace: Trace, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function of NumPy's that is no ufunc, on traced arrays."""
    name = function.__name__
    if name in ("sum", "max", "min", "amax", "amin", "mean"):
        method = {"amax": "max", "amin": "min"}.get(name, name)
        return getattr(args[0], method)(
            *args[1:], **{k: v for k, v in kwargs.items() if v is not np._NoValue}
        )
    if name in ("reshape", "transpose", "swapaxes", "ravel", "copy"):
        return getattr(args[0], name)(*args[1:], **kwargs)
    if name in ("zeros_like", "ones_like", "empty_like", "full_like"):
        result = function(*plain(args), **kwargs)
        fill = {"z": 0.0, "o": 1.0, "e": 0.0}.get(name[0], args[1] if len(args) > 1 else None)
        return trace.add(copy_into, (fill,), None, result, ufunc="positive")
    if name == "where" and len(args) == 3:
        return trace.add(Select(), args, None, np.where(*plain(args)), ufunc="where")
    if name == "clip" and len(args) == 3 and not (set(kwargs) - {"out"}):
        out = kwargs.get("out")
        result = np.clip(*plain(args), out=plain(out))
        return trace.add(np.clip, args, out, result, ufunc="clip")
    if name in ("concatenate", "stack"):
        arrays = tuple(args[0])
        axis = kwargs.get("axis", args[1] if len(args) > 1 else 0)
        return trace.add(
            lambda *a: function(a[:-1], axis=axis, out=a[-1]),
            arrays,
            None,
            function(plain(arrays), axis=axis),
            ufunc=name,
            axis=(axis,),
        )
    if name in ("nonzero", "flatnonzero", "unique", "argwhere", "extract", "compress", "copyto"):
        raise CannotTraceError(f"calls {name}")
    if any(isinstance(a, (list, tuple)) and any(isinstance(x, Traced) for x in a) for a in args):
        raise CannotTraceError(f"calls {name} on a list of arrays")
    if any(isinstance(v, Traced) for v in kwargs.values()):
        raise CannotTraceError(f"calls {name} with an array by keyword")
    result = function(*plain(args), **kwargs)
    if not isinstance(result, (np.ndarray, np.generic)):
        raise CannotTraceError(f"calls {name}, which does not give an array")
    return trace.add(lambda *a: np.copyto(a[-1], function(*a[:-1], **kwargs)), args, None, result)
