"""NumPy's functions that are no ufuncs, on traced arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ldl.compiler.operations import CannotTraceError, Host
from ldl.compiler.select import Select
from ldl.compiler.views import Views, copy_into, has_traced, plain

Made = Callable[..., Views]
"""`Views.made` of the trace."""

AXES = {"moveaxis", "rollaxis", "matrix_transpose"}
FACTS = {"shape", "ndim", "size", "result_type"}
METHODS = {"sum", "max", "min", "mean", "reshape", "transpose", "swapaxes", "ravel"}
REFUSED = {"nonzero", "flatnonzero", "unique", "argwhere", "extract", "compress", "copyto"}


def call(made: Made, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
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
        return made(copy_into, args, np.copy(args[0].array), ufunc="positive")
    if name in ("zeros_like", "ones_like", "empty_like", "full_like"):
        return _alike(made, function, *args, **kwargs)
    if name == "where" and len(args) == 3 and not kwargs:
        return _where(made, *args)
    if name == "clip" and len(args) == 3 and not (set(kwargs) - {"out"}):
        return _clip(made, args, kwargs.get("out"))
    if name in ("concatenate", "stack"):
        return _joined(made, function, *args, **kwargs)
    return _other(made, function, args, kwargs)


def _alike(made: Made, function: Any, like: Any, *args: Any, **kwargs: Any) -> Any:
    """zeros_like and its kin."""
    fill: Any = {"z": 0.0, "o": 1.0, "e": 0.0}.get(function.__name__[0])
    if fill is None:
        fill = args[0] if args else kwargs["fill_value"]
        args, kwargs = args[1:], {k: v for k, v in kwargs.items() if k != "fill_value"}
        result = function(plain(like), plain(fill), *args, **kwargs)
    else:
        result = function(plain(like), *args, **kwargs)
    return made(copy_into, (fill,), result, ufunc="positive")


def _where(made: Made, condition: Any, a: Any, b: Any) -> Any:
    if has_traced([x for x in (condition, a, b) if not isinstance(x, Views)]):
        raise CannotTraceError("calls where on a list of arrays")
    if not isinstance(condition, Views):
        condition = np.asarray(condition, bool)
    elif condition.dtype != bool:
        condition = np.not_equal(condition, 0)
    choices = tuple(np.asarray(x) if isinstance(x, (list, tuple)) else x for x in (a, b))
    result = np.where(*plain((condition, *choices)))
    return made(Select(), (condition, *choices), result, ufunc="where")


def _clip(made: Made, args: tuple[Any, ...], out: Any) -> Any:
    result = np.clip(*plain(args))
    if out is None:
        return made(np.clip, args, result, ufunc="clip")
    clipped = made(np.clip, args, result, ufunc="clip")
    return np.positive(clipped, out=out)


def _joined(made: Made, function: Any, arrays: Any, axis: Any = 0, **kwargs: Any) -> Any:
    """concatenate and stack."""
    parts = tuple(arrays)
    if kwargs or not all(isinstance(x, (Views, np.ndarray)) for x in parts):
        raise CannotTraceError(f"calls {function.__name__} in a way that is not known")
    if axis is None:
        parts, axis = tuple(x.reshape(-1) for x in parts), 0

    def run(*given: Host) -> None:
        function(given[:-1], axis=axis, out=given[-1])

    result = function(plain(parts), axis=axis)
    name = function.__name__
    return made(run, parts, result, ufunc=name, axis=(axis,), settings=(name, axis))


def _other(made: Made, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
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

    found = made(run, args, result, settings=(name, kwargs))
    for x in args:
        if isinstance(x, Views) and np.may_share_memory(result, x.array):
            x.twin(found, result)
    return found
