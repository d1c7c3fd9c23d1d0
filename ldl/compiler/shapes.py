"""What NumPy's operations give but for the numbers: arrays that lie as theirs and hold zeros.

A trace needs to know of an array its shape, its type and how it lies; who asks for a number is
refused. Zeros that nobody looks at cost neither time nor memory.
"""

from __future__ import annotations

from math import prod
from mmap import mmap
from typing import Any

import numpy as np

from ldl.compiler.operations import Host

KINDS = {np.dtype(t) for t in (np.float16, np.float32, np.float64, np.int64, np.bool_)}


MUCH = 2**18
"""Bytes that the system gives sooner, page by page as they are touched, than zeros are written."""


def zeros(shape: tuple[int, ...], dtype: Any) -> Host:
    """What np.zeros gives."""
    nbytes = prod(shape) * np.dtype(dtype).itemsize
    return np.zeros(shape, dtype) if nbytes < MUCH else np.ndarray(shape, dtype, mmap(-1, nbytes))


def as_it_lies(shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> Host:
    """Zeros whose axes follow each other in memory as these strides do."""
    order = sorted(range(len(shape)), key=lambda i: -abs(strides[i]))
    if order == [*range(len(shape))]:
        return zeros(shape, dtype)
    return zeros(tuple([shape[i] for i in order]), dtype).transpose(np.argsort(order))


def copied(array: Host, order: Any = "K") -> Host:
    """What array.copy(order) gives."""
    if order == "K" or (order == "C" and array.flags.c_contiguous):
        return as_it_lies(array.shape, array.strides, array.dtype)
    return array.copy(order)


def assign(array: Host, index: Any, x: Any) -> None:
    """What array[index] = x raises, if anything."""
    if not array.flags.writeable or np.shape(array[index]) != np.shape(x):
        array[index] = x


def computed(ufunc: Any, inputs: tuple[Any, ...], out: Any, kwargs: dict[str, Any]) -> Any:
    """What ufunc(*inputs, out=out, **kwargs) gives; it is called where that is not known here."""
    found = None
    if not kwargs and ufunc is np.matmul:
        found = _product(inputs[0], inputs[1], out)
    elif not kwargs and ufunc.signature is None:
        found = _elementwise(ufunc, inputs, out)
    return ufunc(*inputs, out=out, **kwargs) if found is None else found


def reduced(ufunc: Any, a: Host, axes: tuple[int, ...], *rest: Any) -> Any:
    """What ufunc.reduce(a, *rest) gives: what it gives of the first elements along the axes."""
    if a.size:
        a = a[tuple(slice(0, 1) if i in axes else slice(None) for i in range(a.ndim))]
    return ufunc.reduce(a, *rest)


def chosen(condition: Any, a: Any, b: Any) -> Any:
    """What np.where(condition, a, b) gives."""
    arrays = [np.asarray(x) for x in (condition, a, b)]
    return np.asarray(_together(arrays, np.result_type(a, b)))


def natural(ufunc: Any, inputs: tuple[Any, ...]) -> Any:
    """The type that NumPy gives the result; None where it does not say."""
    python = (int, float)
    kinds = [type(x) if type(x) in python else np.asarray(x).dtype for x in inputs]
    try:
        return ufunc.resolve_dtypes((*kinds, None))[-1]
    except TypeError:
        return None


def _elementwise(ufunc: Any, inputs: tuple[Any, ...], out: Any) -> Any:
    dtype = natural(ufunc, inputs)
    arrays = [np.asarray(x) for x in inputs]
    if dtype is None or not {x.dtype for x in arrays} <= KINDS:
        return None
    if out is None:
        return _together(arrays, dtype)
    fits = np.can_cast(dtype, out.dtype, "same_kind") and out.flags.writeable
    return out if fits and np.broadcast_shapes(*(x.shape for x in arrays)) == out.shape else None


def _together(arrays: list[Host], dtype: Any) -> Any:
    """What lies as the result of an elementwise operation on arrays."""
    if not any(x.ndim for x in arrays):
        return np.zeros((), dtype)[()]
    roles: Any = [["readonly"]] * len(arrays) + [["writeonly", "allocate"]]
    types: Any = [None] * len(arrays) + [dtype]
    through = np.nditer([*arrays, None], ["zerosize_ok"], roles, types)
    lies = through.operands[-1]
    return as_it_lies(lies.shape, lies.strides, dtype)


def _product(a: Any, b: Any, out: Any) -> Any:
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2] or not (a.size and b.size):
        return None
    corner = np.matmul(a[..., :1, :1], b[..., :1, :1])
    shape = (*corner.shape[:-2], a.shape[-2], b.shape[-1])
    if out is not None:
        fits = out.shape == shape and out.dtype == corner.dtype and out.flags.writeable
        return out if fits else None
    return as_it_lies(shape, (*corner.strides[:-2], 0, 0), corner.dtype)
