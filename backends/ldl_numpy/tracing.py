"""The backend that layers have while a trace is under way."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ldl import random
from ldl.backend import Backend, DType, get_backend
from ldl_numpy.trace import CannotTraceError, Host
from ldl_numpy.traced import Trace, Traced, copy_into, plain


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
        found = getattr(np, name)
        if name in ("zeros", "ones", "full", "empty", "arange", "eye", "linspace", "array"):
            return partial(self._make, found)
        if name in ("asarray", "ascontiguousarray"):
            return partial(self._take_in, found)
        if name in ("shares_memory", "may_share_memory"):
            return lambda *arrays: found(*map(plain, arrays))
        return found

    def _make(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        made: Host = function(*plain(args), **kwargs)
        return self._trace.add(copy_into, (made,), None, made)

    def _take_in(self, function: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(data, Traced):
            return self._make(function, data, *args, **kwargs)
        dtype = kwargs.get("dtype", args[0] if args else None)
        cast = data if dtype is None else data.astype(dtype, copy=False)
        if function is np.ascontiguousarray and not cast.array.flags.c_contiguous:
            return cast.copy()
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
        drawn = random.uniform(shape, key).astype(dtype)
        return self.trace.add(Draw(stream, kind), (), None, drawn)
