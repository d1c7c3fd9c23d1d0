"""NumPy's functions that are no ufuncs, on traced arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ldl.compiler.operations import CannotTraceError, Host
from ldl.compiler.select import Select
from ldl.compiler.traced import Trace, Traced
from ldl.compiler.views import copy_into, has_traced, plain

AXES = {"moveaxis", "rollaxis", "matrix_transpose"}
FACTS = {"shape", "ndim", "size", "result_type"}
METHODS = {"sum", "max", "min", "mean", "reshape", "transpose", "swapaxes", "ravel"}
REFUSED = {"nonzero", "flatnonzero", "unique", "argwhere", "extract", "compress", "copyto"}


def call(trace: Trace, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function gives, noted. CannotTraceError where that cannot be played again."""
    name = function.__name__
    kwargs = {k: v for k, v in kwargs.items() if v is not np._NoValue}
    method = {"amax": "max", "amin": "min"}.get(name, name)
    if name in REFUSED:
        raise CannotTraceError(f"calls {name}")
    if name in FACTS:
        return function(*plain(args), **kwargs)
    if name in AXES:
        sizes = np.broadcast_to(0, range(2, 2 + args[0].ndim))
        return args[0].transpose(tuple(n - 2 for n in function(sizes, *args[1:], **kwargs).shape))
    if name in ("squeeze", "expand_dims"):
        return args[0].reshape(function(plain(args[0]), *args[1:], **kwargs).shape)
    if method in METHODS:
        return getattr(args[0], method)(*args[1:], **kwargs)
    if name == "copy" and len(args) == 1 and not kwargs:
        return trace.add(copy_into, args, None, np.copy(args[0].array), ufunc="positive")
    if name in ("zeros_like", "ones_like", "empty_like", "full_like"):
        return _alike(trace, function, *args, **kwargs)
    if name == "where" and len(args) == 3 and not kwargs:
        return _where(trace, *args)
    if name == "clip" and len(args) == 3 and not (set(kwargs) - {"out"}):
        return _clip(trace, args, kwargs.get("out"))
    if name in ("concatenate", "stack"):
        return _joined(trace, function, *args, **kwargs)
    return _other(trace, function, args, kwargs)


def _alike(trace: Trace, function: Any, like: Any, *args: Any, **kwargs: Any) -> Any:
    """zeros_like and its kin."""
    fill: Any = {"z": 0.0, "o": 1.0, "e": 0.0}.get(function.__name__[0])
    if fill is None:
        fill = args[0] if args else kwargs["fill_value"]
        args, kwargs = args[1:], {k: v for k, v in kwargs.items() if k != "fill_value"}
        result = function(plain(like), plain(fill), *args, **kwargs)
    else:
        result = function(plain(like), *args, **kwargs)
    return trace.add(copy_into, (fill,), None, result, ufunc="positive")


def _where(trace: Trace, condition: Any, a: Any, b: Any) -> Any:
    if has_traced([x for x in (condition, a, b) if not isinstance(x, Traced)]):
        raise CannotTraceError("calls where on a list of arrays")
    if not isinstance(condition, Traced):
        condition = np.asarray(condition, bool)
    elif condition.dtype != bool:
        condition = condition != 0
    choices = tuple(np.asarray(x) if isinstance(x, (list, tuple)) else x for x in (a, b))
    result = np.where(*plain((condition, *choices)))
    return trace.add(Select(), (condition, *choices), None, result, ufunc="where")


def _clip(trace: Trace, args: tuple[Any, ...], out: Any) -> Any:
    result = np.clip(*plain(args))
    if out is None:
        return trace.add(np.clip, args, None, result, ufunc="clip")
    clipped = trace.add(np.clip, args, None, result, ufunc="clip")
    return np.positive(clipped, out=out)


def _joined(trace: Trace, function: Any, arrays: Any, axis: Any = 0, **kwargs: Any) -> Any:
    """concatenate and stack."""
    parts = tuple(arrays)
    if kwargs or not all(isinstance(x, (Traced, np.ndarray)) for x in parts):
        raise CannotTraceError(f"calls {function.__name__} in a way that is not known")
    if axis is None:
        parts, axis = tuple(x.reshape(-1) for x in parts), 0

    def run(*given: Host) -> None:
        function(given[:-1], axis=axis, out=given[-1])

    result = function(plain(parts), axis=axis)
    name = function.__name__
    return trace.add(run, parts, None, result, ufunc=name, axis=(axis,), settings=(name, axis))


def _other(trace: Trace, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function of arrays and constants that gives one array, or a view of one."""
    name = function.__name__
    if any(isinstance(a, (list, tuple)) and has_traced(a) for a in args):
        raise CannotTraceError(f"calls {name} on a list of arrays")
    if has_traced(kwargs):
        raise CannotTraceError(f"calls {name} with an array by keyword")
    given = [x.view() if isinstance(x, np.ndarray) else x for x in map(plain, args)]
    for x in given:
        if isinstance(x, np.ndarray):
            x.flags.writeable = False
    try:
        result = function(*given, **kwargs)
    except ValueError as error:
        if "read-only" in str(error):
            raise CannotTraceError(f"calls {name}, which writes to an array") from error
        raise
    if not isinstance(result, (np.ndarray, np.generic)):
        raise CannotTraceError(f"calls {name}, which does not give an array")

    def run(*arrays: Any) -> None:
        np.copyto(arrays[-1], function(*arrays[:-1], **kwargs))

    made = trace.add(run, args, None, result, settings=(name, kwargs))
    for x in args:
        if isinstance(x, Traced) and np.may_share_memory(result, x.array):
            trace.twin(x, made, result)
    return made
