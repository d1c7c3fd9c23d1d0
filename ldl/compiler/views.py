"""Traced arrays as memory: how they are noted, what is seen of them, what is written to them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partialmethod
from typing import Any, Self

import numpy as np

from ldl.compiler import shapes
from ldl.compiler.operations import CannotTraceError, Host, Op, Ref, Trace, Value, look, within


def plain(x: Any) -> Any:
    """The array inside, also inside lists and tuples."""
    if isinstance(x, Views):
        return x.array
    if isinstance(x, (list, tuple)):
        return type(x)(plain(item) for item in x)
    return x


def has_traced(x: Any) -> bool:
    """Whether there is a traced array inside."""
    if isinstance(x, (list, tuple, dict)):
        return any(map(has_traced, x.values() if isinstance(x, dict) else x))
    return isinstance(x, Views)


class Views:
    """An array of which views are taken.

    `array` lies as NumPy would have it, and the value of `ref` as it will lie in a plan. `number`:
    whether NumPy makes a number of it, which nobody can write to.
    """

    __slots__ = ("array", "number", "ref", "trace")

    def __init__(self, trace: Trace, ref: Ref, array: Host, number: bool = False) -> None:
        self.trace, self.ref, self.array, self.number = trace, ref, array, number

    # ---- notes --------------------------------------------------------------------------------

    @classmethod
    def wrap(cls, trace: Trace, array: Host, writable: bool = False) -> Self:
        """A traced array that stands for `array`.

        It is not to be written to; where it is `writable`, what is written goes to a copy for now.
        """
        if writable:
            held = array.copy("K") if trace.computes else shapes.copied(array)
        else:
            held = array.view()
        held.flags.writeable = writable
        return cls(trace, Ref(trace.external(array)), held)

    @classmethod
    def made(
        cls,
        trace: Trace,
        run: Callable[..., Any],
        inputs: Any,
        result: Any,
        own: bool = False,
        **facts: Any,
    ) -> Self:
        """The array that an operation makes: a copy of the `result`, or its `own`.

        It has C order in a plan, whatever the order of the result.
        """
        array = np.asarray(result) if own else np.array(result)
        made = cls(trace, Ref(Value(array)), array, number=isinstance(result, np.generic))
        made.note(run, inputs, **facts)
        return made

    def note(self, run: Callable[..., Any], inputs: Any, **facts: Any) -> None:
        """Note an operation that writes to this array."""
        operands = tuple(_operand(self.trace, x) for x in inputs)
        self.trace.ops.append(Op(run, operands, (self.ref,), **facts))

    # ---- facts --------------------------------------------------------------------------------

    dtype = property(lambda self: self.array.dtype)
    shape = property(lambda self: self.array.shape)
    ndim = property(lambda self: self.array.ndim)
    size = property(lambda self: self.array.size)
    itemsize = property(lambda self: self.array.itemsize)

    def __len__(self) -> int:
        return len(self.array)

    def __getattr__(self, name: str) -> Any:
        raise CannotTraceError(f"reads .{name} of an array")

    def _refuse(self, *args: Any) -> Any:
        raise CannotTraceError("looks at a number, which differs from step to step")

    __float__ = __int__ = __index__ = __bool__ = __complex__ = __iter__ = __array__ = _refuse
    item = tolist = _refuse

    # ---- views --------------------------------------------------------------------------------

    def view_of(self, name: str, *args: Any) -> Any:
        """What a method gives that NumPy makes a view of, where the array lies so that it can."""
        if self.number:
            return self.as_array().view_of(name, *args)
        seen = look(self.array, name, args)
        value = self.ref.value
        ref = Ref(value, (*self.ref.path, (name, args)))
        lies = within(ref.resolve(value.lying), value.lying)
        here = lies if value.external is not None else within(seen, self.array)
        if lies and here:
            return type(self)(self.trace, ref, seen)
        if lies:
            view = type(self)(self.trace, ref, seen)
            return self.made(self.trace, copy_into, (view,), seen, ufunc="positive")
        made = self._copied(name, args, seen)
        if here or name == "__getitem__":
            self.twin(made, seen)
        return made

    def as_array(self) -> Any:
        """The array that NumPy makes of a number, a new one; of an array itself."""
        if not self.number:
            return self
        made = self.made(self.trace, copy_into, (self,), self.array, ufunc="positive")
        self.twin(made, self.array)  # which other libraries make a view
        return made

    def _copied(self, name: str, args: tuple[Any, ...], seen: Any) -> Self:
        """A copy, where a view cannot be: of one element, or seen in another shape."""
        array = np.array(seen)
        number = isinstance(seen, np.generic)
        made = type(self)(self.trace, Ref(Value(array)), array, number)
        if name == "__getitem__":
            index = args[0] if isinstance(args[0], tuple) else (args[0],)
            made.note(copy_into, (self.view_of(name, (*index, Ellipsis)),), ufunc="positive")
        else:
            made.write((name, (self.shape,)), self)
        return made

    def write(self, step: tuple[str, tuple[Any, ...]], x: Any) -> None:
        """Note that a view of a new array is x."""
        ref = Ref(self.ref.value, (step,))
        there = type(self)(self.trace, ref, ref.resolve(self.ref.value.array))
        whole = there.size == self.size
        there.note(copy_into, (x,), ufunc="positive", partial_write=not whole)

    def twin(self, other: Views, seen: Any) -> None:
        """Note that another may be `seen`, a view of this: a write to one spoils the other."""
        for a, b in ((self, other), (other, self)):
            self.trace.twins.setdefault(a.ref.value, set()).add(b.ref.value)
        other.array = np.asarray(seen)

    T = property(lambda self: self.view_of("transpose"))

    def reshape(self, *shape: Any, order: str = "C") -> Any:
        """What is seen in C order; CannotTraceError for another."""
        if order != "C":
            raise CannotTraceError(f"calls reshape with order={order!r}")
        return self.view_of("reshape", *shape)

    transpose = partialmethod(view_of, "transpose")
    swapaxes = partialmethod(view_of, "swapaxes")

    def __getitem__(self, index: Any) -> Any:
        """A part, of which the index says nothing but where it lies."""
        return self.view_of("__getitem__", index)

    def __setitem__(self, index: Any, value: Any) -> None:
        parts = index if isinstance(index, tuple) else (index,)
        if isinstance(value, (list, tuple)):
            value = listed(value)
        self.check_written()
        if self.trace.computes:
            self.array[index] = plain(value)
        else:
            shapes.assign(self.array, index, plain(value))
        whole = len(parts) == 1 and (parts[0] is Ellipsis or parts[0] == slice(None))
        at = parts if any(p is Ellipsis for p in parts) else (*parts, Ellipsis)
        target = self if whole else self.view_of("__getitem__", at)
        while np.ndim(plain(value)) > target.ndim:
            value = value[0]  # an axis of length 1
        if not target.is_seen_by(value):  # as it is after y[1:] += 1
            target.note(copy_into, (value,), ufunc="positive", partial_write=not whole)

    def is_seen_by(self, other: Any) -> bool:
        """Whether another is the same view of the same memory."""
        if not isinstance(other, Views) or other.ref.value is not self.ref.value:
            return False
        mine, theirs = (x.ref.resolve(x.ref.value.array) for x in (self, other))
        start, end = (x.__array_interface__["data"][0] for x in (mine, theirs))
        return (start, mine.shape, mine.strides) == (end, theirs.shape, theirs.strides)

    def check_written(self) -> None:
        """Note that it is written to; CannotTraceError for a number, or a twin from outside."""
        if self.number:
            raise CannotTraceError("writes to a number")
        found = self.trace.related(self.ref.value)
        if any(value.external is not None for value in found):
            raise CannotTraceError("writes to an array of which it has a view or a copy")
        self.trace.stale |= found

    def check_read(self, trace: Trace) -> None:
        """CannotTraceError where it is not known what it holds in a trace."""
        if self.trace is not trace:
            raise CannotTraceError("reads an array that another step left outside of its layers")
        if self.ref.value in trace.stale:
            raise CannotTraceError("reads a view or a copy of an array that it has written to")


def _operand(trace: Trace, x: Any) -> Any:
    """A Ref for an array of any kind, the thing itself for a constant."""
    if isinstance(x, Views):
        x.check_read(trace)
        return x.ref
    return Ref(trace.bring(x)) if isinstance(x, np.ndarray) else x


def copy_into(a: Any, out: Host) -> None:
    """A copy, as an operation; it makes the type that `out` has."""
    np.copyto(out, a, casting="unsafe")


def is_basic(part: Any) -> bool:
    """Whether an index of that kind makes a view."""
    if isinstance(part, slice):
        return not has_traced([part.start, part.stop, part.step])
    if isinstance(part, (bool, np.bool_)):
        return False
    return part is None or part is Ellipsis or isinstance(part, (int, np.integer))


def filled(made: Any, result: Host) -> Any:
    """An array that holds one number; `made` is `Views.made` of the trace."""
    number = result.flat[0].item() if result.size else 0
    return made(copy_into, (number,), result, own=True, ufunc="positive")


def listed(x: Any) -> Host:
    """The array of a list that is given for one."""
    if has_traced(x):
        raise CannotTraceError("makes an array of a list of arrays")
    return np.asarray(x)
