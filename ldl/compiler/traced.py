"""Traced arrays: they behave like NumPy's and note down what is done to them.

A `Traced` array wraps a NumPy array; every operation on it is carried out and also noted as an `Op`
of its `Trace`. The list of operations is then what a function does, whichever layers it went
through.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial, partialmethod
from math import prod
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from ldl.compiler import shapes
from ldl.compiler.functions import call
from ldl.compiler.operations import CannotTraceError, Host
from ldl.compiler.places import add_at, named, put, taken
from ldl.compiler.views import Views, copy_into, listed, plain

REDUCTIONS = {np.add: "sum", np.maximum: "max", np.minimum: "min"}


class Traced(Views, NDArrayOperatorsMixin):
    """An array whose operations are noted. What it does not know raises CannotTraceError."""

    __slots__ = ()

    # ---- operations ---------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", (None,))
        if method == "at":
            return add_at(ufunc, *inputs)
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
        sizes = [np.shape(plain(x)) for x in inputs]
        if ufunc is np.matmul and sizes[0][1:] == (1,) == sizes[1][-2:-1] and not kwargs:
            ufunc = np.multiply  # a column times a row: every element is one product
        given = plain(inputs), plain(target)
        if self.trace.computes:
            result = ufunc(*given[0], out=given[1], **kwargs)
        else:
            result = shapes.computed(ufunc, *given, kwargs)
        run = partial(ufunc, **kwargs) if kwargs else ufunc
        if ufunc in (np.maximum, np.minimum):

            def run(a: Any, b: Any, out: Host) -> None:
                ufunc(a, b, out=out, **kwargs)

        same = target is None or shapes.natural(ufunc, given[0]) == target.dtype
        known = same and not kwargs and getattr(np, ufunc.__name__, None) is ufunc
        name = ufunc.__name__ if known else ""
        settings = ufunc, kwargs
        return self._noted(run, inputs, target, result, ufunc=name, settings=settings)

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
        axes = _axes(array, axis)
        at = axes if axis is not None and isinstance(axis, tuple) else axis

        def run(x: Host, o: Host) -> None:
            ufunc.reduce(x, at, dtype, o, keepdims)

        told = at, dtype, plain(out), keepdims
        if self.trace.computes:
            result = ufunc.reduce(array, *told)
        else:
            result = shapes.reduced(ufunc, array, axes, *told)
        own = dtype is None or (array.dtype.kind == "f" and array.dtype == dtype)
        natural = own and (out is None or out.dtype == array.dtype)
        name = REDUCTIONS.get(ufunc, "") if natural else ""
        return self._noted(
            run,
            (a,),
            out,
            result,
            ufunc=name,
            axis=axes,
            keepdims=keepdims,
            settings=(ufunc, axes, dtype, keepdims),
        )

    def _noted(self, run: Any, inputs: Any, out: Any, result: Any, **facts: Any) -> Any:
        """What an operation makes, or `out`, which it writes to."""
        if out is None:
            return self.made(self.trace, run, inputs, result, own=True, **facts)
        out.note(run, inputs, **facts)
        return out

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
        total = self.sum(axis, np.float32 if half else self._averaged_in(dtype), keepdims=keepdims)
        found = total / self._count(axis)
        return found.astype(np.float16) if half else found

    def var(
        self, axis: Any = None, dtype: Any = None, out: Any = None, ddof: int = 0, **kwargs: Any
    ) -> Any:
        """The mean of the squares of what is left without the mean."""
        keepdims = kwargs.pop("keepdims", False)
        if out is not None or kwargs:
            raise CannotTraceError("calls var in a way that is not known")
        dtype, count = self._averaged_in(dtype), self._count(axis)
        rest = self - self.sum(axis, dtype, keepdims=True) / count
        return (rest * rest).sum(axis, dtype, keepdims=keepdims) / max(count - ddof, 0)

    def _averaged_in(self, dtype: Any) -> Any:
        """The type in which numbers are averaged: float64 for whole ones."""
        if dtype is None:
            return np.dtype(np.float64) if self.dtype.kind in "biu" else None
        if np.dtype(dtype).kind != "f":
            raise CannotTraceError(f"averages in {np.dtype(dtype)}")
        return np.dtype(dtype)

    def _count(self, axis: Any) -> int:
        """How many numbers one along some axes is made of."""
        return prod(self.shape[i] for i in _axes(self.array, axis))

    def std(self, *args: Any, **kwargs: Any) -> Any:
        """The root of the variance."""
        return np.sqrt(self.var(*args, **kwargs))

    def __pow__(self, exponent: Any) -> Any:
        if type(exponent) is int and exponent == 2 and self.dtype.kind in "biu":
            return np.square(self)  # of truths NumPy makes small numbers, np.power large ones
        named = {2: np.square, 0.5: np.sqrt, -1: np.reciprocal, 1: np.positive}
        if type(exponent) in (int, float) and exponent in named and self.dtype.kind == "f":
            return named[exponent](self)
        return np.power(self, exponent)

    def _method(self, name: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(self.array, name)(*args, **kwargs)

        def run(a: Host, out: Host) -> None:
            np.copyto(out, getattr(a, name)(*args, **kwargs))

        return self.made(self.trace, run, (self,), result, settings=(name, args, kwargs))

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        if not copy and self.dtype == dtype:
            return self
        if self.number:
            result = self.array.astype(dtype)[()]
        elif self.trace.computes:
            result = self.array.astype(dtype)
        else:
            result = shapes.as_it_lies(self.shape, self.array.strides, dtype)
        return self.made(self.trace, copy_into, (self,), result, own=True, ufunc="astype")

    def copy(self, order: Any = "C") -> Any:
        copied = np.array if self.trace.computes else shapes.copied
        result = copied(self.array, order=order)
        result = result[()] if self.number else result
        return self.made(self.trace, copy_into, (self,), result, own=True, ufunc="positive")

    def __getitem__(self, index: Any) -> Any:
        return taken(self, index) if named(index) else super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        if named(index):
            put(self, index, value)
        else:
            super().__setitem__(index, value)

    argmax = partialmethod(_method, "argmax")
    argmin = partialmethod(_method, "argmin")

    def fill(self, value: Any) -> None:
        self[...] = value

    def flatten(self, order: str = "C") -> Any:
        return self.reshape(-1, order=order).copy()

    def ravel(self, order: str = "C") -> Any:
        """A view of what lies in C order; of anything else NumPy makes a copy."""
        lies = self if self.array.flags.c_contiguous else self.copy()
        return lies.reshape(-1, order=order)

    def clip(self, low: Any = None, high: Any = None, out: Any = None) -> Any:
        return np.clip(self, low, high, out=out)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return call(partial(self.made, self.trace), function, args, kwargs)


def _function(self: Traced, function: Any, *args: Any, **kwargs: Any) -> Any:
    """A method as the function of that name."""
    return function(self, *args, **kwargs)


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


for _name in (
    *("squeeze", "repeat", "take", "diagonal", "dot", "all", "any", "prod", "cumsum", "round"),
    *("nonzero", "argsort"),
):
    setattr(Traced, _name, partialmethod(_function, getattr(np, _name)))


def _axes(array: Host, axis: Any) -> tuple[int, ...]:
    """The axes that an argument means."""
    axes = range(array.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return tuple(i % array.ndim for i in axes)


def _target(out: Any) -> Any:
    """What is to be written to; CannotTraceError where that cannot be."""
    if out is None:
        return None
    if not isinstance(out, Traced):
        raise CannotTraceError("writes to an array that is not made by the backend")
    out.check_written()
    return out


def _meet(out: Traced, inputs: tuple[Any, ...]) -> bool:
    """Whether one of them may lie where `out` does."""
    return any(isinstance(x, Traced) and x.ref.value is out.ref.value for x in inputs)
