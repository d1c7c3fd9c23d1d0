"""Places that arrays name: what is taken from them, and what is put there.

The arrays are read whenever a plan is played, and NumPy says which places there are not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ldl.compiler.operations import CannotTraceError, Host
from ldl.compiler.views import Views, copy_into, has_traced, is_basic, listed, plain


class Places:
    """An index with arrays in it, which differ from one time to the next."""

    def __init__(self, index: Any) -> None:
        self.parts = index if isinstance(index, tuple) else (index,)
        if has_traced([p for p in self.parts if isinstance(p, (list, tuple))]):
            raise CannotTraceError("selects by a list of arrays")
        self.arrays: dict[int, Any] = {
            i: p if isinstance(p, Views) else np.asarray(p)
            for i, p in enumerate(self.parts)
            if not is_basic(p)
        }
        self.basic = [None if i in self.arrays else p for i, p in enumerate(self.parts)]
        """What is the same whenever the function is traced."""

    @property
    def masked(self) -> bool:
        """Whether a condition selects."""
        return any(p.dtype == bool for p in self.arrays.values())

    def index(self, arrays: Any) -> Any:
        """The index, with these arrays."""
        at: list[Any] = list(self.parts)
        for i, x in zip(self.arrays, arrays, strict=True):
            at[i] = x
        return tuple(at)


def named(index: Any) -> bool:
    """Whether an index names places by arrays."""
    return not all(map(is_basic, index if isinstance(index, tuple) else (index,)))


def taken(a: Views, index: Any) -> Any:
    """a[index]."""
    places = Places(index)
    if places.masked:
        raise CannotTraceError("selects by a condition, which gives shapes that differ")
    if len(places.parts) == 1:
        return taken_along(a, places.arrays[0], 0)

    def run(a: Host, *rest: Host) -> None:
        np.copyto(rest[-1], a[places.index(rest[:-1])])

    result = a.array[plain(places.parts)]
    given = (a, *places.arrays.values())
    return a.made(a.trace, run, given, result, settings=places.basic)


def taken_along(a: Any, index: Any, axis: int) -> Any:
    """np.take(a, index, axis), one of the two being traced."""
    traced = a if isinstance(a, Views) else index

    def run(a: Host, index: Any, out: Host) -> None:
        np.copyto(out, np.take(a, index, axis))

    result = np.take(plain(a), plain(index), axis)
    axis %= np.ndim(plain(a))
    facts: Any = {"ufunc": "take", "axis": (axis,), "settings": axis}
    return traced.made(traced.trace, run, (a, index), result, **facts)


def put(a: Views, index: Any, value: Any) -> None:
    """a[index] = value."""
    places = Places(index)
    if places.masked:
        _put_where(a, places, value)
        return
    a.check_written()
    value = apart(listed(value) if isinstance(value, (list, tuple)) else value, a)
    a.array[plain(places.parts)] = plain(value)

    def run(held: Host, *rest: Any) -> None:
        *found, value, out = rest
        out[places.index(found)] = value

    given = (a, *places.arrays.values(), value)
    a.note(run, given, ufunc="put", settings=places.basic)


def _put_where(a: Views, places: Places, value: Any) -> None:
    """A number where a condition is true."""
    (mask,) = places.arrays.values() if len(places.parts) == 1 else (None,)
    if mask is None or np.ndim(plain(value)):
        raise CannotTraceError("writes more than a number where a condition is true")
    if mask.shape != a.shape[: mask.ndim]:
        raise IndexError(f"a condition of shape {mask.shape} for an array of {a.shape}")
    condition = mask.reshape((*mask.shape, *(1,) * (a.ndim - mask.ndim)))
    a[...] = np.where(condition, value, a)


def add_at(ufunc: Any, a: Any, index: Any, *values: Any) -> None:
    """ufunc.at(a, index, *values): one after the other, where a place is named twice."""
    if not isinstance(a, Views):
        raise CannotTraceError("writes to an array that is not made by the backend")
    places = Places(index)
    a.check_written()
    values = tuple(apart(listed(x) if isinstance(x, (list, tuple)) else x, a) for x in values)
    ufunc.at(a.array, plain(places.parts), *plain(values))

    def run(held: Host, *rest: Any) -> None:
        found, given = rest[: len(places.arrays)], rest[len(places.arrays) : -1]
        ufunc.at(rest[-1], places.index(found), *given)

    given = (a, *places.arrays.values(), *values)
    a.note(run, given, ufunc="at", settings=(ufunc.__name__, places.basic))


def put_along(a: Any, index: Any, values: Any, axis: Any) -> None:
    """np.put_along_axis(a, index, values, axis)."""
    if not isinstance(a, Views):
        raise CannotTraceError("writes to an array that is not made by the backend")
    a.check_written()
    values = apart(values, a)
    np.put_along_axis(a.array, plain(index), plain(values), axis)

    def run(held: Host, index: Any, values: Any, out: Host) -> None:
        np.put_along_axis(out, index, values, axis)

    a.note(run, (a, index, values), ufunc="put", settings=axis)


def apart(x: Any, a: Views) -> Any:
    """An operand, a copy of it where it may lie where `a` does, which is written."""
    if isinstance(x, Views) and x.ref.value is a.ref.value:
        return x.made(x.trace, copy_into, (x,), x.array.copy(), ufunc="positive")
    return x
