"""Traced arrays: they behave like NumPy's and note down what is done to them.

A `Traced` array wraps a NumPy array; every operation on it is carried out and also noted as an `Op`
of its `Trace`. The list of operations is then what a function does, whichever layers it went
through.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, partialmethod
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ldl.compiler.operations import CannotTraceError, Host, Op, Ref, Value
from ldl.compiler.views import Views, copy_into, listed, plain

REDUCTIONS = {"add": "sum", "maximum": "max", "minimum": "min"}


@dataclass
class Trace:
    """What was noted down."""

    ops: list[Op] = field(default_factory=list)
    values: dict[int, Value] = field(default_factory=dict)
    """External values by the identity of their arrays."""
    twins: set[Value] = field(default_factory=set)
    """Values of which the one may be a copy here and a view of the other elsewhere."""

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
        held = array.copy("K") if writable else array.view()
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
        """Note an operation whose `result` is known; make a value of it unless `out` is given.

        The value has C order in a plan, whatever the order of the result.
        """
        if out is None:
            array = np.array(result)
            made = Traced(self, Ref(Value(array)), array, number=isinstance(result, np.generic))
        else:
            made = out
        self.ops.append(Op(run, tuple(map(self.ref, inputs)), (self.ref(made),), **facts))
        return made

    def twin(self, a: Views, b: Views, seen: Any) -> None:
        """Note that b may be `seen`, a view of a: neither is written to afterwards."""
        self.twins |= {a.ref.value, b.ref.value}
        b.array = np.asarray(seen)


class Traced(Views, NDArrayOperatorsMixin):
    """An array whose operations are noted. What it does not know raises CannotTraceError."""

    __slots__ = ()

    # ---- operations ---------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", (None,))
        if (
            len(out) != 1
            or ufunc.nout != 1
            or method not in ("__call__", "reduce")
            or kwargs.pop("where", True) is not True
        ):
            raise CannotTraceError(f"calls {ufunc.__name__}.{method} in a way that is not known")
        inputs = tuple(listed(x) if isinstance(x, (list, tuple)) else x for x in inputs)
        target = _target(out[0])
        alone = method == "reduce" or ufunc is np.matmul
        if alone and target is not None and _meet(target, inputs):
            target[...] = self.__array_ufunc__(ufunc, method, *inputs, **kwargs)
            return target
        if method == "reduce":
            return self._reduce(ufunc, inputs[0], target, **kwargs)
        shapes = [np.shape(plain(x)) for x in inputs]
        if ufunc is np.matmul and shapes[0][1:] == (1,) and len(shapes[1]) > 1 and not kwargs:
            ufunc = np.multiply  # a column times a row: every element is one product
        result = ufunc(*plain(inputs), out=plain(target), **kwargs)
        run = partial(ufunc, **kwargs) if kwargs else ufunc
        if ufunc in (np.maximum, np.minimum):

            def run(a: Any, b: Any, out: Host) -> None:
                ufunc(a, b, out=out, **kwargs)

        same = target is None or _natural(ufunc, inputs) == target.dtype
        name = ufunc.__name__ if same and not kwargs else ""
        settings = ufunc.__name__, kwargs
        return self.trace.add(run, inputs, target, result, ufunc=name, settings=settings)

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
        if initial not in (None, np._NoValue):
            raise CannotTraceError(f"calls {ufunc.__name__}.reduce with a number to begin with")
        array = plain(a)
        axes = tuple(range(array.ndim)) if axis is None else axis
        axes = tuple(i % array.ndim for i in (axes if isinstance(axes, tuple) else (axes,)))
        at = axes if axis is not None and isinstance(axis, tuple) else axis

        def run(x: Host, o: Host) -> None:
            ufunc.reduce(x, at, dtype, o, keepdims)

        result = ufunc.reduce(array, at, dtype, plain(out), keepdims)
        natural = dtype is None and (out is None or out.dtype == array.dtype)
        name = REDUCTIONS.get(ufunc.__name__, "") if natural else ""
        return self.trace.add(
            run,
            (a,),
            out,
            result,
            ufunc=name,
            axis=axes,
            keepdims=keepdims,
            settings=(ufunc.__name__, axes, dtype, keepdims),
        )

    def _reduced(self, ufunc: Any, out: Any, **kwargs: Any) -> Any:
        return self.__array_ufunc__(ufunc, "reduce", self, out=(out,), **kwargs)

    def sum(
        self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        return self._reduced(np.add, out, axis=axis, dtype=dtype, keepdims=keepdims)

    def max(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._reduced(np.maximum, out, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
        return self._reduced(np.minimum, out, axis=axis, keepdims=keepdims)

    def mean(
        self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False
    ) -> Any:
        if out is not None:
            raise CannotTraceError("calls mean in a way that is not known")
        half = dtype is None and self.dtype == np.float16
        if dtype is None and self.dtype.kind in "biu":
            dtype = np.dtype(np.float64)
        total = self.sum(axis, np.dtype(np.float32) if half else dtype, keepdims=keepdims)
        found = total / (self.size // total.size)
        return found.astype(np.float16) if half else found

    def __pow__(self, exponent: Any) -> Any:
        named = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal, 1: np.positive}
        if type(exponent) in (int, float) and exponent in named and self.dtype.kind == "f":
            return named[exponent](self)
        return np.power(self, exponent)

    def _method(self, name: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self.array, name)(*args, **kwargs)

        def run(a: Host, out: Host) -> None:
            np.copyto(out, getattr(a, name)(*args, **kwargs))

        return self.trace.add(run, (self,), None, result, settings=(name, args, kwargs))

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        if not copy and self.dtype == dtype:
            return self
        return self.trace.add(copy_into, (self,), None, self.array.astype(dtype), ufunc="astype")

    def copy(self, order: Any = "C") -> Any:
        return self.trace.add(copy_into, (self,), None, self.array.copy(order), ufunc="positive")

    argmax = partialmethod(_method, "argmax")
    argmin = partialmethod(_method, "argmin")

    def clip(self, low: Any = None, high: Any = None, out: Any = None) -> Any:
        return np.clip(self, low, high, out=out)

    def dot(self, other: Any) -> Any:
        return np.dot(self, other)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from ldl.compiler.functions import call

        return call(self.trace, function, args, kwargs)


def _in_place(name: str) -> Callable[[Traced, Any], Any]:
    """`x += y` and the like: of a number it makes another number."""
    plainly = getattr(operator, name)
    to_array = getattr(NDArrayOperatorsMixin, f"__i{name.strip('_')}__")

    def work(self: Traced, other: Any) -> Any:
        return plainly(self, other) if self.number else to_array(self, other)

    return work


for _name in (
    *("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"),
    *("lshift", "rshift", "and_", "or_", "xor", "matmul"),
):
    setattr(Traced, f"__i{_name.strip('_')}__", _in_place(_name))


def _target(out: Any) -> Any:
    """What is to be written to; CannotTraceError where that cannot be."""
    if out is None:
        return None
    if not isinstance(out, Traced):
        raise CannotTraceError("writes to an array that is not made by the backend")
    if out.number:
        raise CannotTraceError("writes to a number")
    out.check_written()
    return out


def _meet(out: Traced, inputs: tuple[Any, ...]) -> bool:
    """Whether one of them may lie where `out` does."""
    return any(isinstance(x, Traced) and x.ref.value is out.ref.value for x in inputs)


def _natural(ufunc: Any, inputs: tuple[Any, ...]) -> Any:
    """The type that NumPy gives the result; None where it does not say."""
    python = (int, float)
    kinds = [type(x) if type(x) in python else np.asarray(plain(x)).dtype for x in inputs]
    try:
        return ufunc.resolve_dtypes((*kinds, None))[-1]
    except TypeError:
        return None
