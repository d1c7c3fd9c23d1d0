"""FlatStore: the memory of an optimizer's parameters, one buffer for each kind of number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import add, attrgetter
from typing import Any

from ldl.backend import Array, Backend
from ldl.nn import changes
from ldl.nn.parameter import Parameter

_HAS_GRAD = attrgetter("has_grad")
_ALIGN = 16  # elements: 64 bytes of float32, a cache line


class FlatStore:
    """Parameters of one type packed into contiguous buffers of values, gradients and slots.

    Each parameter's `data` and gradient become views, so that an update, a norm or a copy is one
    call over one buffer. A parameter that has since been moved or bound anew is seen by `refresh`,
    which packs again and brings the slots along.
    """

    backend: Backend
    values: Array
    grads: Array
    _views: list[tuple[Array, Array]]
    _stretches: dict[tuple[int, int], tuple[Array, Array, dict[str, Array]]]
    """Values, gradients and slots by where they begin and end."""

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
        return {**vars(self), "_views": [(None, None)] * len(self.parameters), "_stretches": {}}

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

    def runs(self) -> Iterator[tuple[slice, int]]:
        """The longest stretches that have a gradient and one number of past steps, with it."""
        start = 0
        count = len(self.parameters)
        while start < count:
            if not self.parameters[start].has_grad:
                start += 1
                continue
            stop = start + 1
            while (
                stop < count
                and self.parameters[stop].has_grad
                and self.steps[stop] == self.steps[start]
            ):
                stop += 1
            yield slice(self._spans[start].start, self._spans[stop - 1].stop), self.steps[start]
            start = stop

    def stretch(self, run: slice) -> tuple[Array, Array, dict[str, Array]]:
        """Values, gradients and slots of a run: the same views until the next packing."""
        key = run.start, run.stop
        if key not in self._stretches:
            slots = {name: slot[run] for name, slot in self.slots.items()}
            self._stretches[key] = self.values[run], self.grads[run], slots
        return self._stretches[key]

    def have(self, slots: Iterable[str]) -> bool:
        """Make the slots that are not there, zeros, and say so: stretches are then other views."""
        if all(map(self.slots.__contains__, slots)):
            return False
        lacking = {name: self._zeros() for name in slots if name not in self.slots}
        self._stretches = {}
        self.slots = self.slots | lacking
        return True

    def advanced(self) -> list[int]:
        """The counts of steps after one for every parameter that has a gradient."""
        return [*map(add, self.steps, map(_HAS_GRAD, self.parameters))]

    def slot_view(self, name: str, index: int) -> Array:
        """One parameter's part of a slot, in its shape."""
        return self.slots[name][self._spans[index]].reshape(self.parameters[index].shape)

    def _zeros(self) -> Array:
        return self.backend.xp.zeros(self._size, dtype=self.values.dtype)

    def _pack(self) -> None:
        """Copy all of it, and only then bind it: an interrupt leaves none or all of it bound."""
        first = self.parameters[0]
        backend: Backend = first.backend
        values, grads = (backend.xp.zeros(self._size, dtype=first.dtype) for _ in range(2))
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
            (self, "slots", slots),
            (self, "_views", views),
            (self, "_stretches", {}),
        )
