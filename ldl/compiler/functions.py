"""NumPy's functions that are no ufuncs, on traced arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ldl.compiler import shapes
from ldl.compiler.arrangements import Made, arranged
from ldl.compiler.operations import CannotTraceError
from ldl.compiler.places import put_along, taken_along
from ldl.compiler.select import Select
from ldl.compiler.views import Views, copy_into, filled, has_traced, listed, plain

FACTS = {"shape", "ndim", "size", "result_type"}
METHODS = {"sum", "max", "min", "mean", "var", "std", "reshape", "transpose", "swapaxes", "ravel"}
REFUSED = {
    *("nonzero", "flatnonzero", "argwhere", "extract", "compress", "delete", "trim_zeros"),
    *("unique", "unique_values", "intersect1d", "union1d", "setdiff1d", "setxor1d", "bincount"),
}
"""What gives shapes that numbers decide."""


def call(made: Made, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a function gives, noted. CannotTraceError where that cannot be played again."""
    name = function.__name__
    kwargs = {k: v for k, v in kwargs.items() if v is not np._NoValue}
    method = {"amax": "max", "amin": "min"}.get(name, name)
    known: Any = getattr(np, name, None)
    if known is not function:  # np.linalg has a diagonal of other axes
        return _other(made, function, args, kwargs)
    if name in REFUSED:
        raise CannotTraceError(f"calls {name}")
    if name in FACTS:
        return function(*plain(args), **kwargs)
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
    if name == "take":
        return _take(made, function, *args, **kwargs)
    if name == "put_along_axis":
        return put_along(*args, **kwargs)
    if name == "copyto":
        return _copyto(*args, **kwargs)
    found = arranged(made, function, args, kwargs)
    return _other(made, function, args, kwargs) if found is NotImplemented else found


def _alike(made: Made, function: Any, like: Any, *args: Any, **kwargs: Any) -> Any:
    """zeros_like and its kin."""
    result = function(plain(like), *plain(args), **{k: plain(v) for k, v in kwargs.items()})
    if function.__name__ == "empty_like":
        result = np.zeros_like(result)  # which is not what lies there
    given = (*args, kwargs.get("fill_value")) if function is np.full_like else ()
    fill: Any = next((x for x in given if isinstance(x, Views)), None)
    if fill is None and function is np.full_like and np.ndim(given[0]):
        fill = listed(given[0])
    return (
        filled(made, result) if fill is None else made(copy_into, (fill,), result, ufunc="positive")
    )


def _take(made: Made, function: Any, a: Any, index: Any, axis: Any = None, **kwargs: Any) -> Any:
    if kwargs or has_traced([x for x in (a, index) if isinstance(x, (list, tuple))]):
        return _other(made, function, (a, index, axis), kwargs)
    a, index = (listed(x) if isinstance(x, (list, tuple)) else x for x in (a, index))
    return taken_along(a.reshape(-1), index, 0) if axis is None else taken_along(a, index, axis)


def _copyto(target: Any, source: Any, casting: Any = "same_kind", where: Any = True) -> None:
    if not isinstance(target, Views):
        raise CannotTraceError("writes to an array that is not made by the backend")
    if not np.can_cast(np.result_type(plain(source)), target.dtype, casting):
        raise CannotTraceError(f"calls copyto with what cannot be cast to {target.dtype}")
    target[...] = source if where is True else np.where(where, source, target)


def _where(made: Made, condition: Any, a: Any, b: Any) -> Any:
    if has_traced([x for x in (condition, a, b) if not isinstance(x, Views)]):
        raise CannotTraceError("calls where on a list of arrays")
    if not isinstance(condition, Views):
        condition = np.asarray(condition, bool)
    elif condition.dtype != bool:
        condition = np.not_equal(condition, 0)
    choices = tuple(np.asarray(x) if isinstance(x, (list, tuple)) else x for x in (a, b))
    computes = any(isinstance(x, Views) and x.trace.computes for x in (condition, *choices))
    result = (np.where if computes else shapes.chosen)(*plain((condition, *choices)))
    return made(Select(), (condition, *choices), result, own=True, ufunc="where")


def _clip(made: Made, args: tuple[Any, ...], out: Any) -> Any:
    result = np.clip(*plain(args))
    if out is None:
        return made(np.clip, args, result, ufunc="clip")
    clipped = made(np.clip, args, result, ufunc="clip")
    return np.positive(clipped, out=out)


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
