"""NumPy's functions that arrange numbers and compute none: views, and slices that are written."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from ldl.compiler.operations import CannotTraceError
from ldl.compiler.places import taken_along
from ldl.compiler.views import Views, copy_into, has_traced, listed, plain

Made = Callable[..., Views]
"""`Views.made` of the trace."""

AXES = {"moveaxis", "rollaxis", "matrix_transpose"}
SHAPES = {"squeeze", "expand_dims", "atleast_1d", "atleast_2d", "atleast_3d"}
PIECES = {"split": None, "array_split": None, "vsplit": 0, "hsplit": 1, "dsplit": 2}
JOINS = {"concatenate", "stack", "vstack", "hstack", "column_stack"}


def arranged(made: Made, function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What a function gives, noted; NotImplemented where it is none of these, or called otherwise.

    concatenate([a, b]) is out[:len(a)] = a; out[len(a):] = b.
    """
    name = function.__name__
    if name in AXES:
        sizes = np.broadcast_to(0, range(2, 2 + args[0].ndim))
        return args[0].transpose(tuple(n - 2 for n in function(sizes, *args[1:], **kwargs).shape))
    if name in SHAPES and isinstance(args[0], Views):
        return args[0].reshape(function(plain(args[0]), *args[1:], **kwargs).shape)
    if name in PIECES:
        return _pieces(function, *args, **kwargs)
    if name in JOINS:
        return _joined(made, function, *args, **kwargs)
    own: Any = {
        "broadcast_to": _broadcast,
        "broadcast_arrays": _broadcast_together,
        "diagonal": _diagonal,
        "flip": _flipped,
        "fliplr": _flipped,
        "flipud": _flipped,
        "roll": _rolled,
        "pad": _padded,
        "tile": _tiled,
        "repeat": _repeated,
    }.get(name)
    return NotImplemented if own is None else own(made, function, *args, **kwargs)


# ---- views ---------------------------------------------------------------------------------------


def _pieces(function: Any, x: Views, sections: Any, axis: int = 0) -> list[Any]:
    """split and its kin: slices."""
    axis = PIECES[function.__name__] or axis
    axis -= function is np.hsplit and x.ndim == 1
    cut = np.array_split if function is np.array_split else np.split
    marks = cut(np.arange(x.shape[axis]), sections)
    before = (slice(None),) * (axis % x.ndim)
    return [x[(*before, slice(int(m[0]), int(m[-1]) + 1) if m.size else slice(0))] for m in marks]


def _broadcast(made: Made, function: Any, x: Views, shape: Any, **kwargs: Any) -> Any:
    if kwargs:
        return NotImplemented
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return x.view_of("broadcast_to", shape)


def _broadcast_together(made: Made, function: Any, *arrays: Any) -> Any:
    shape = np.broadcast_shapes(*(np.shape(plain(x)) for x in arrays))
    return tuple(np.broadcast_to(x, shape) for x in arrays)


def _diagonal(made: Made, function: Any, x: Views, *args: Any, **kwargs: Any) -> Any:
    return NotImplemented if kwargs else x.view_of("diagonal", *args)


def _flipped(made: Made, function: Any, x: Views, axis: Any = None) -> Any:
    axis = {"fliplr": 1, "flipud": 0}.get(function.__name__, axis)
    axes = _axes(range(x.ndim) if axis is None else axis, x.ndim)
    return x[tuple(slice(None, None, -1 if i in axes else None) for i in range(x.ndim))]


# ---- slices that are written ---------------------------------------------------------------------


def _joined(made: Made, function: Any, arrays: Any, axis: Any = 0, **kwargs: Any) -> Any:
    """concatenate and its kin."""
    name = function.__name__
    parts = [x if isinstance(x, Views) else listed(x) for x in arrays]
    if kwargs.keys() - {"dtype"}:
        raise CannotTraceError(f"calls {name} in a way that is not known")
    told = {"axis": axis} if name in ("concatenate", "stack") else {}
    result = function(plain(parts), **told, **kwargs)
    if name == "vstack":
        parts = [x.reshape(np.atleast_2d(plain(x)).shape) for x in parts]
    elif name in ("hstack", "column_stack"):
        axis = 0 if name == "hstack" and parts[0].ndim < 2 else 1
        parts = [x.reshape(-1, *(1,) * axis) if x.ndim < 2 else x for x in parts]
    elif axis is None:
        parts, axis = [x.reshape(-1) for x in parts], 0
    slices, end = [], 0
    before = (slice(None),) * (axis % result.ndim)
    for i, x in enumerate(parts):
        width = 1 if name == "stack" else x.shape[axis]
        slices.append((*before, i if name == "stack" else slice(end, end + width)))
        end += width
    return _assembled(made, result, slices, parts)


def _rolled(made: Made, function: Any, x: Views, shift: Any, axis: Any = None) -> Any:
    if has_traced(shift) or has_traced(axis):
        raise CannotTraceError("calls roll with an array for how far")
    result = np.roll(x.array, shift, axis)
    if axis is None:
        return _rolled(made, function, x.reshape(-1), shift, 0).reshape(x.shape)
    shifts = dict.fromkeys(range(x.ndim), 0)
    for n, i in np.broadcast(shift, axis):
        shifts[int(i) % x.ndim] += int(n)
    cuts = []
    for i, n in shifts.items():
        length = x.shape[i]
        n = n % length if length else 0
        halves = [(slice(n, None), slice(None, length - n)), (slice(None, n), slice(-n, None))]
        cuts.append(halves if n else [(slice(None), slice(None))])
    pairs = [tuple(zip(*chosen, strict=True)) for chosen in product(*cuts)]
    return _assembled(made, result, [to for to, _ in pairs], [x[at] for _, at in pairs])


def _padded(
    made: Made, function: Any, x: Views, width: Any, mode: Any = "constant", **kwargs: Any
) -> Any:
    """With one number on all sides; other ways are left to NumPy."""
    fill = kwargs.pop("constant_values", 0)
    if mode != "constant" or kwargs or np.ndim(plain(fill)) or has_traced(width):
        return NotImplemented
    result = np.pad(x.array, width, constant_values=plain(fill))
    before = [int(n) for n, _ in np.broadcast_to(width, (x.ndim, 2))] if x.ndim else []
    at = tuple(slice(n, n + length) for n, length in zip(before, x.shape, strict=True))
    out = made(copy_into, (fill,), result, ufunc="positive")
    out.write(("__getitem__", (at,)), x)
    return out


def _tiled(made: Made, function: Any, x: Views, reps: Any) -> Any:
    if has_traced(reps):
        raise CannotTraceError("calls tile with an array for how often")
    result = np.tile(x.array, reps)
    lengths = (1,) * (result.ndim - x.ndim) + x.shape
    times = [n // length if length else 1 for n, length in zip(result.shape, lengths, strict=True)]
    pairs = [*zip(times, lengths, strict=True)]
    given = x.reshape([n for _, length in pairs for n in (1, length)])
    return _spread(made, result, given, [n for pair in pairs for n in pair])


def _repeated(made: Made, function: Any, x: Views, repeats: Any, axis: Any = None) -> Any:
    if has_traced(repeats):
        raise CannotTraceError("calls repeat with an array for how often, so that shapes differ")
    if np.ndim(repeats):
        x, axis = (x.reshape(-1), 0) if axis is None else (x, axis)
        return taken_along(x, np.repeat(np.arange(x.shape[axis]), repeats), axis)
    result = np.repeat(x.array, repeats, axis)
    x, axis = (x.reshape(-1), 0) if axis is None else (x, axis % x.ndim)
    front, back = x.shape[: axis + 1], x.shape[axis + 1 :]
    return _spread(made, result, x.reshape((*front, 1, *back)), (*front, int(repeats), *back))


def _assembled(made: Made, result: Any, slices: list[Any], parts: list[Any]) -> Any:
    """An array of which every slice is one of the parts."""
    out = made(copy_into, (0,), result, ufunc="positive")
    for at, x in zip(slices, parts, strict=True):
        out.write(("__getitem__", (at,)), x)
    return out


def _spread(made: Made, result: Any, x: Views, shape: Any) -> Any:
    """An array which, seen in a shape, is x broadcast."""
    out = made(copy_into, (0,), result, ufunc="positive")
    out.write(("reshape", (tuple(shape),)), x)
    return out


def _axes(axis: Any, ndim: int) -> set[int]:
    return {int(i) % ndim for i in (axis if np.ndim(axis) else [axis])}
