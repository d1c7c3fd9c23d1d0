"""FlatStore: the memory of an optimizer's parameters, one buffer for each kind of number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import add, attrgetter
from typing import Any, NamedTuple

from ldl.backend import Array, Backend
from ldl.nn import changes
from ldl.nn.parameter import Parameter

_HAS_GRAD = attrgetter("has_grad")
_ALIGN = 16  # elements: 64 bytes of float32, a cache line


@dataclass(slots=True)
class Run:
    """A stretch of parameters that have gradients and one number of past steps: `first`'s."""

    values: Array
    grads: Array
    slots: dict[str, Array]
    first: int
    kernel: Any = None
    """What moves it, for options that are as they were `checked`."""
    checked: object = None


class _Runs(NamedTuple):
    """Stretches, for as long as the same parameters have gradients and the counts are these."""

    flags: list[bool]
    steps: list[int]
    found: list[Run]


_Views = tuple[Array, Array, dict[str, Array]]
"""Values, gradients and slots."""


class FlatStore:
    """Parameters of one type packed into contiguous buffers of values, gradients and slots.

    Each parameter's `data` and gradient become views, so that an update, a norm or a copy is one
    call over one buffer. A parameter that has since been moved or bound anew is seen by `refresh`,
    which packs again and brings the slots along.
    """

    backend: Backend
    values: Array
    grads: Array
    _room: Array
    """The gradients, and what is free before them."""
    _views: list[tuple[Array, Array]]
    _stretches: dict[tuple[int, int], _Views]
    """Views by where they begin and end."""
    _runs: _Runs | None
    """What `runs` found last."""

    def __init__(self, parameters: list[Parameter], slots: Iterable[str]) -> None:
        self.parameters = parameters
        self.steps = [0] * len(parameters)
        self._spans: list[slice] = []
        end = 0
        for parameter in parameters:
            self._spans.append(slice(end, end + parameter.size))
            end += -(-parameter.size // _ALIGN) * _ALIGN
        self._size = end
        self.slots: dict[str, Array] = {}
        self._pack()
        self.have(slots)

    def __getstate__(self) -> dict[str, Any]:
        """All but the views: a copy's parameters are views of nothing, and it packs them anew."""
        return {
            **vars(self),
            "_views": [(None, None)] * len(self.parameters),
            "_stretches": {},
            "_runs": None,
        }

    def refresh(self) -> bool:
        """Pack again, and say so, where a parameter is no longer the view that was made of it."""
        for parameter, (data, grad) in zip(self.parameters, self._views, strict=True):
            if parameter.data is not data or parameter.grad_buffer is not grad:
                break
        else:
            return False
        with self.parameters[0].backend.together():  # after what was played on other streams
            self._pack()
        return True

    def runs(self) -> list[Run]:
        """The longest runs, views of the same arrays until the next packing."""
        flags = [*map(_HAS_GRAD, self.parameters)]
        held = self._runs
        if held is None or held.flags != flags or held.steps is not self.steps:
            held = self._runs = _Runs(flags, self.steps, [*self._found(flags)])
        return held.found

    def advanced(self) -> list[int]:
        """The counts of steps after one for every parameter that had a gradient in `runs`."""
        assert self._runs is not None
        flags, steps, found = self._runs
        after = [*map(add, steps, flags)]
        self._runs = _Runs(flags, after, found)
        return after

    def _found(self, flags: list[bool]) -> Iterator[Run]:
        start = 0
        for (has_grad, _), some in groupby(zip(flags, self.steps, strict=True)):
            stop = start + len([*some])
            if has_grad:
                views = self._stretch(self._spans[start].start, self._spans[stop - 1].stop)
                yield Run(*views, start)
            start = stop

    def _stretch(self, start: int, stop: int) -> _Views:
        if (start, stop) not in self._stretches:
            slots = {name: slot[start:stop] for name, slot in self.slots.items()}
            self._stretches[start, stop] = self.values[start:stop], self.grads[start:stop], slots
        return self._stretches[start, stop]

    def have(self, slots: Iterable[str]) -> bool:
        """Make the slots that are not there, zeros, and say so: stretches are then other views."""
        if all(map(self.slots.__contains__, slots)):
            return False
        lacking = {name: self._zeros() for name in slots if name not in self.slots}
        self._runs, self._stretches = None, {}
        self.slots = self.slots | lacking
        return True

    def with_place(self, stop: int) -> Array:
        """The gradients up to there, and before them a place for a number."""
        return self._room[_ALIGN - 1 : _ALIGN + stop]

    def span(self, run: Run) -> tuple[int, int]:
        """Where a stretch begins and ends."""
        spans = (span for span, views in self._stretches.items() if views[1] is run.grads)
        return next(spans)

    def cuts(self, pieces: int, least: int) -> list[tuple[int, int, range]]:
        """The buffer in pieces of whole parameters and much the same size, the last one first.

        Each is where it begins and ends, and which parameters it has. `least` is how many elements
        are worth a piece.
        """
        size = max(least, -(-self._size // pieces))
        found, stop = [], len(self._spans)
        for k in reversed(range(len(self._spans))):
            start, end = self._spans[k].start, self._end(stop)
            if end - start >= size or k == 0:
                found.append((start, end, range(k, stop)))
                stop = k
        return found

    def _end(self, stop: int) -> int:
        return self._spans[stop].start if stop < len(self._spans) else self._size

    def slot_view(self, name: str, index: int) -> Array:
        """One parameter's part of a slot, in its shape."""
        return self.view(self.slots[name], index)

    def view(self, buffer: Array, index: int) -> Array:
        """One parameter's part of a vector like `values`, in its shape."""
        return buffer[self._spans[index]].reshape(self.parameters[index].shape)

    def _zeros(self) -> Array:
        return self.backend.xp.zeros(self._size, dtype=self.values.dtype)

    def _pack(self) -> None:
        """Copy all of it, and only then bind it: an interrupt leaves none or all of it bound."""
        first = self.parameters[0]
        backend: Backend = first.backend
        values, room = (
            backend.xp.zeros(self._size + more, dtype=first.dtype) for more in (0, _ALIGN)
        )
        grads = room[_ALIGN:]
        views: list[tuple[Array, Array]] = []
        for parameter, span in zip(self.parameters, self._spans, strict=True):
            if parameter.backend is not backend or parameter.dtype != first.dtype:
                raise ValueError(
                    f"an optimizer's parameters must be of one backend and type: {first!r} and "
                    f"{parameter!r}; move the whole model with model.to(...)"
                )
            data = values[span].reshape(parameter.shape)
            grad = grads[span].reshape(parameter.shape)
            data[...] = parameter.data
            if parameter.has_grad:
                grad[...] = parameter.grad_buffer
            views.append((data, grad))
        slots = {}
        for name, slot in self.slots.items():
            host = slot if self.backend is backend else self.backend.to_numpy(slot)
            slots[name] = backend.asarray(host, first.dtype)
        bound = [
            (parameter, name, array)
            for parameter, pair in zip(self.parameters, views, strict=True)
            for name, array in zip(("data", "grad_buffer"), pair, strict=True)
        ]
        changes.set_all(
            *bound,
            (self, "backend", backend),
            (self, "values", values),
            (self, "grads", grads),
            (self, "_room", room),
            (self, "slots", slots),
            (self, "_views", views),
            (self, "_stretches", {}),
            (self, "_runs", None),
        )
