"""The backend that layers have while a trace is under way."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ldl import random
from ldl.backend import Backend, DType, get_backend
from ldl.compiler.operations import CannotTraceError, Host, Trace
from ldl.compiler.traced import Traced
from ldl.compiler.views import copy_into, filled, has_traced, plain


class Draw:
    """An operation: fill an array with the next "uniform" or "normal" numbers of a stream."""

    def __init__(self, stream: random.Stream, kind: str) -> None:
        self.stream, self.kind = stream, kind

    def __call__(self, out: Host) -> None:
        """Draw them on the host."""
        backend: Any = get_backend("numpy")
        if out.dtype == np.float32 and self.kind == "uniform":
            backend.fill_uniform(out, self.stream.next())
        else:
            np.copyto(out, getattr(backend, self.kind)(out.shape, out.dtype, self.stream.next()))


class TracedNamespace:
    """NumPy, whose array-making functions are noted too."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __getattr__(self, name: str) -> Any:
        found = np.zeros if name == "empty" else getattr(np, name)  # which is not what lies there
        if name in ("zeros", "ones", "full", "empty"):
            return partial(self._fill, found)
        if name in ("arange", "eye", "linspace", "array"):
            return partial(self._make, found)
        if name in ("asarray", "ascontiguousarray"):
            return partial(self._take_in, found)
        if name in ("shares_memory", "may_share_memory"):
            return lambda *arrays: found(*map(plain, arrays))
        return found

    def _fill(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        value: Any = kwargs.get("fill_value", args[1:2]) if function is np.full else 0
        if has_traced(args) or has_traced(kwargs) or np.size(value) > 1:
            return self._make(function, *args, **kwargs)
        return filled(partial(Traced.made, self._trace), function(*args, **kwargs))

    def _make(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        if has_traced(args) or has_traced(kwargs):
            return self._make_of(function, *args, **kwargs)
        made: Host = function(*args, **kwargs)
        return Traced.made(self._trace, copy_into, (made,), made, ufunc="positive")

    def _make_of(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """An array with the numbers of a traced one."""
        if function is np.full and len(args) > 1 and isinstance(args[1], Traced):
            made = np.full(args[0], args[1].array, *args[2:], **kwargs)
            return Traced.made(self._trace, copy_into, (args[1],), made, ufunc="positive")
        if function is not np.array:
            raise CannotTraceError(f"calls {function.__name__} with a number that is computed")
        taken = self._take_in(np.asarray, *args, **kwargs)
        return taken.copy() if taken is args[0] else taken

    def _take_in(self, function: Any, data: Any, dtype: Any = None, **kwargs: Any) -> Any:
        if not (has_traced(data) or has_traced(kwargs)):
            return self._make(function, data, dtype=dtype, **kwargs)
        if kwargs or not isinstance(data, Traced):
            raise CannotTraceError(f"calls {function.__name__} in a way that is not known")
        cast = data if dtype is None else data.astype(dtype, copy=False)
        if function is np.ascontiguousarray and not cast.ndim:
            return cast.reshape(1)
        if function is np.ascontiguousarray and not cast.array.flags.c_contiguous:
            result = np.ascontiguousarray(cast.array)
            return Traced.made(self._trace, copy_into, (cast,), result, ufunc="contiguous")
        return cast


class TracingBackend(Backend):
    """The NumPy backend while a trace is under way: generic bodies on traced arrays."""

    name = "numpy"
    array_type = Traced

    def __init__(self, trace: Trace, streams: list[random.Stream]) -> None:
        self.trace = trace
        self.xp = TracedNamespace(trace)
        self.streams = {(s.seed, s.stream): s for s in streams}

    def owns(self, x: Any) -> bool:
        """Also NumPy's arrays, which are constants."""
        return isinstance(x, (Traced, np.ndarray))

    def asarray(self, data: Any, dtype: DType = None) -> Any:
        """A traced array."""
        return self.xp.asarray(data, dtype=dtype) if dtype is not None else self.xp.asarray(data)

    def uniform(self, shape: tuple[int, ...], dtype: DType, key: random.Key) -> Any:
        """A draw that is made anew whenever the trace is played."""
        return self._draw("uniform", shape, dtype, key)

    def normal(self, shape: tuple[int, ...], dtype: DType, key: random.Key) -> Any:
        """A draw that is made anew whenever the trace is played."""
        return self._draw("normal", shape, dtype, key)

    def _draw(self, kind: str, shape: tuple[int, ...], dtype: DType, key: random.Key) -> Any:
        stream = self.streams.get((key.seed, key.stream))
        if stream is None:
            raise CannotTraceError("draws random numbers of a stream that is not the model's")
        drawn = random.uniform(shape, key) if self.trace.computes else np.zeros(shape)
        return Traced.made(self.trace, Draw(stream, kind), (), drawn.astype(dtype), own=True)
