"""The backend that layers have while a trace is under way."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ldl import random
from ldl.backend import Backend, DType, Window, get_backend
from ldl.compiler.operations import (
    BEGIN_SUM,
    SUM_RANKS,
    CannotTraceError,
    Host,
    Op,
    Ref,
    Trace,
    Value,
)
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


class KernelCall:
    """An operation: a kernel of `ldl.kernels` on inputs, which writes to outputs.

    `settings` are what it is told beside the arrays.
    """

    def __init__(self, name: str, settings: tuple[Any, ...]) -> None:
        self.name, self.settings = name, settings

    def __call__(self, *arrays: Host) -> None:
        """Do it on the host."""
        backend: Any = get_backend("numpy")
        getattr(self, f"_{self.name}")(backend, *arrays)

    def _conv(self, backend: Any, x: Host, weight: Host, *rest: Host) -> None:
        window, biased = self.settings
        np.copyto(rest[-1], backend.conv(x, weight, rest[0] if biased else None, window))

    def _conv_weight(self, backend: Any, x: Host, grad: Host, out: Host) -> None:
        window, accumulate = self.settings
        backend.conv_weight(x, grad, window, out, accumulate)

    def _conv_input(self, backend: Any, grad: Host, weight: Host, out: Host) -> None:
        np.copyto(out, backend.conv_input(grad, weight, *self.settings))

    def _max_pool(self, backend: Any, x: Host, *outs: Host) -> None:
        for out, found in zip(outs, backend.max_pool(x, *self.settings), strict=True):
            np.copyto(out, found)

    def _max_pool_input(self, backend: Any, grad: Host, where: Host, out: Host) -> None:
        np.copyto(out, backend.max_pool_input(grad, where, *self.settings))

    def _take(self, backend: Any, array: Host, index: Host, out: Host) -> None:
        np.copyto(out, backend.take(array, index))

    def _begin_sum(self, backend: Any, *arrays: Host) -> None:
        self.settings[0].begin()

    def _sum_ranks(self, backend: Any, array: Any, *same: Any) -> None:
        self.settings[0](array)

    def _add_rows(self, backend: Any, rows: Host, index: Host, out: Host) -> None:
        backend.add_rows(rows, index, out)


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
        made: Host = np.asarray(function(*args, **kwargs))
        self._trace.constants.add(self._trace.external(made))
        return Traced.made(self._trace, copy_into, (made,), made, ufunc="positive")

    def _make_of(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """An array with the numbers of a traced one."""
        if function is np.full and len(args) > 1 and isinstance(args[1], Traced):
            made = np.full(args[0], args[1].array, *args[2:], **kwargs)
            return Traced.made(self._trace, copy_into, (args[1],), made, ufunc="positive")
        if function is not np.array:
            raise CannotTraceError(f"calls {function.__name__} with a number that is computed")
        return self._take_in(np.asarray, *args, **kwargs).copy()

    def _take_in(self, function: Any, data: Any, dtype: Any = None, **kwargs: Any) -> Any:
        if not (has_traced(data) or has_traced(kwargs)):
            return self._make(function, data, dtype=dtype, **kwargs)
        if kwargs or not isinstance(data, Traced):
            raise CannotTraceError(f"calls {function.__name__} in a way that is not known")
        cast = (data if dtype is None else data.astype(dtype, copy=False)).as_array()
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

    # ---- kernels that are one operation each --------------------------------------------------

    def conv(self, x: Any, weight: Any, bias: Any, window: Window) -> Any:
        """The images' windows times the weight."""
        shape = (len(x), *window.output(x.shape[1:3]), weight.shape[-1])
        given = (x, weight) if bias is None else (x, weight, bias)
        return self._call("conv", (window, bias is not None), given, (shape, x.dtype))

    def conv_weight(
        self, x: Any, grad: Any, window: Window, out: Any = None, accumulate: bool = False
    ) -> Any:
        """The weight's gradient."""
        if out is None:
            out = self.xp.empty(
                (*window.size, x.shape[-1] // window.groups, grad.shape[-1]), x.dtype
            )
        return self._call_into("conv_weight", (window, accumulate), (x, grad), out, accumulate)

    def conv_input(self, grad: Any, weight: Any, window: Window, image: tuple[int, int]) -> Any:
        """The images' gradient."""
        made = (len(grad), *image, weight.shape[2] * window.groups), grad.dtype
        return self._call("conv_input", (window, tuple(image)), (grad, weight), made)

    def max_pool(self, x: Any, window: Window) -> tuple[Any, Any]:
        """The windows' maxima and where they are."""
        shape = (len(x), *window.output(x.shape[1:3]), x.shape[-1])
        found: tuple[Any, Any] = self._call(
            "max_pool", (window,), (x,), (shape, x.dtype), (shape, window.place_type)
        )
        return found

    def max_pool_input(self, grad: Any, where: Any, window: Window, image: tuple[int, int]) -> Any:
        """The images' gradient."""
        made = (len(grad), *image, grad.shape[-1]), grad.dtype
        return self._call("max_pool_input", (window, tuple(image)), (grad, where), made)

    def take(self, array: Any, index: Any) -> Any:
        """The rows that an array names."""
        made = (*index.shape, *array.shape[1:]), array.dtype
        return self._call("take", (), (array, index), made, axis=(0,))

    def add_rows(self, rows: Any, index: Any, out: Any) -> Any:
        """Rows added to those that an array names."""
        return self._call_into("add_rows", (), (rows, index), out, True)

    def begin_sum(self, arrays: list[Any], piece: Any) -> None:
        """An operation that changes them all, at a time that it chooses."""
        self._between_ranks(BEGIN_SUM, arrays, piece)

    def sum_ranks(self, array: Any, add_up: Any) -> None:
        """An operation that changes it; nothing is sent while this is a trace."""
        self._between_ranks(SUM_RANKS, [array], add_up)

    def _between_ranks(self, name: str, arrays: list[Any], told: Any) -> None:
        for array in arrays:
            array.check_written()
        refs, settings = tuple(array.ref for array in arrays), (told,)
        run = KernelCall(name, settings)
        op = Op(run, refs, refs, ufunc=name, partial_write=True, settings=settings)
        self.trace.ops.append(op)

    def _call(
        self, name: str, settings: Any, given: Any, *made: tuple[Any, Any], **facts: Any
    ) -> Any:
        """What a kernel makes: arrays of these shapes and types."""
        run = KernelCall(name, settings)
        arrays = [np.zeros(shape, dtype) for shape, dtype in made]
        if self.trace.computes:
            run(*plain(given), *arrays)
        found = [Traced(self.trace, Ref(Value(array)), array) for array in arrays]
        self._note(run, given, found, False, **facts)
        return found[0] if len(found) == 1 else tuple(found)

    def _call_into(self, name: str, settings: Any, given: Any, out: Any, partial: bool) -> Any:
        """`out`, which a kernel writes to."""
        run = KernelCall(name, settings)
        out.check_written()
        if self.trace.computes:
            run(*plain(given), out.array)
        self._note(run, given, [out], partial)
        return out

    def _note(
        self, run: KernelCall, given: Any, outs: list[Any], partial: bool, **facts: Any
    ) -> None:
        facts |= {"ufunc": run.name, "settings": run.settings, "partial_write": partial}
        outs[0].note(run, given, **facts)
        op = self.trace.ops.pop()
        self.trace.ops.append(replace(op, outputs=tuple(out.ref for out in outs)))

    # ---- random numbers -----------------------------------------------------------------------

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
        drawn = random.uniform(shape, key) if self.trace.computes else np.zeros(shape, dtype)
        return Traced.made(self.trace, Draw(stream, kind), (), drawn.astype(dtype), own=True)
