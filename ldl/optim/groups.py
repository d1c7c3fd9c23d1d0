"""Groups of parameters: their options, which a program may change between two steps, and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, ClassVar, NamedTuple

from ldl.backend import Array, Backend
from ldl.nn import changes
from ldl.nn.module import Module
from ldl.nn.parameter import Parameter
from ldl.numbers import number
from ldl.optim.flat import FlatStore
from ldl.optim.owners import hand_over, own
from ldl.optim.schedules import Schedule, as_schedule
from ldl.optim.updates import Updates

Rate = Schedule | Callable[[int], float]
"""A schedule, or a plain function of the step."""

Parameters = Module | Iterable[Parameter] | Iterable[dict[str, Any]]

_PLAIN = frozenset({float, int, bool, list, str, type(None)})
"""The types of options once they were checked."""


class Groups:
    """What an optimizer moves: parameters in groups, with the options and slots of each.

    All that a resumed run needs is here; `step_count` and the schedule are the optimizer's own.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    optional_slots: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, params: Parameters, defaults: dict[str, Any], schedule: Rate | None = None
    ) -> None:
        rate = as_schedule(schedule)
        self.step_count = 0
        self._updates = Updates()
        self._packed: object = None
        self._checked: dict[int, _Noted] = {}
        self.param_groups: list[dict[str, Any]] = []
        self._stores: list[list[FlatStore]] = []
        taken: set[int] = set()
        for given in _groups_of(params):
            parameters = list(given.pop("params"))
            unknown = given.keys() - defaults.keys()
            if unknown:
                raise TypeError(
                    f"unknown options in a parameter group: {', '.join(sorted(unknown))}; "
                    f"{type(self).__name__} has {', '.join(defaults)}"
                )
            if not parameters:
                raise ValueError("a parameter group is empty: give model.parameters()")
            for parameter in parameters:
                if not isinstance(parameter, Parameter):
                    raise TypeError(f"an optimizer takes parameters, got {parameter!r}")
                if id(parameter) in taken:
                    raise ValueError(f"{parameter!r} stands in the optimizer twice")
                taken.add(id(parameter))
            options = self.check({**defaults, **given})
            self.param_groups.append({"params": parameters, **options})
            slots, kinds = self.slots_of(options), dict.fromkeys(str(p.dtype) for p in parameters)
            alike = [[p for p in parameters if str(p.dtype) == kind] for kind in kinds]
            self._stores.append([FlatStore(some, slots) for some in alike])
        self.stores = [*chain.from_iterable(self._stores)]
        """The memory of each group, one store for each type."""
        self.schedule = rate

    def __getstate__(self) -> dict[str, Any]:
        """All but what is prepared for these arrays."""
        return {**vars(self), "_updates": Updates(), "_packed": None, "_checked": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what a copy holds; the copied schedule is the copy's."""
        vars(self).update(state)
        own(self._schedule, self)

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options as Python numbers; ValueError for one that makes no sense."""
        return {**options, "lr": number("lr", options["lr"])}

    def zero_grad(self) -> None:
        """Forget every gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.zero_grad()

    def pack(self) -> None:
        """Pack parameters again that were moved or bound anew; `step` does it too."""
        mark = changes.mark
        if mark is self._packed:
            return
        for store in self.stores:
            if store.refresh():
                self._updates.prepared.clear()
                mark = None
        self._packed = mark

    def check_options(self, number: int) -> object:
        """Check a group's options, and make the slots that they ask for, where they changed.

        Gives the same object for as long as they have not.
        """
        group, noted = self.param_groups[number], self._checked.get(number)
        if noted is not None and noted.holds(group):
            return noted
        group.update(self.check({k: v for k, v in group.items() if k != "params"}))
        for store in self._stores[number]:
            self.have(store, self.slots_of(group))
        noted = self._checked[number] = _Noted.of(group)
        return noted

    def have(self, store: FlatStore, slots: Iterable[str]) -> None:
        """Make the slots that options ask for since they were changed."""
        if store.have(slots):
            self._updates.prepared.clear()

    def slots_of(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        """The names of the slots that options ask for."""
        return (*self.slots, *(name for name in self.optional_slots if options[name]))

    @property
    def schedule(self) -> Schedule:
        """The factor of the learning rate; it belongs to this optimizer alone."""
        return self._schedule

    @schedule.setter
    def schedule(self, given: Rate | None) -> None:
        schedule = as_schedule(given)
        hand_over(schedule, self)
        self._schedule = schedule

    @property
    def backend(self) -> Backend:
        """Where the parameters were at the last step."""
        return self._stores[0][0].backend

    @property
    def lr(self) -> float:
        """The first group's learning rate at the next step."""
        return float(self.param_groups[0]["lr"] * self.schedule(self.step_count))

    @lr.setter
    def lr(self, value: float) -> None:
        raise AttributeError(f"set .param_groups[0]['lr'] = {value}, or make it with a schedule")

    def grouped(self) -> list[tuple[dict[str, Any], list[FlatStore]]]:
        """Every group with its memory."""
        return [*zip(self.param_groups, self._stores, strict=True)]

    def numbered(self) -> list[tuple[int, FlatStore, int]]:
        """(number, store, index in the store) of every parameter."""
        places = [(store, k) for store in self.stores for k in range(len(store.steps))]
        return [(i, store, k) for i, (store, k) in enumerate(places)]

    def views(self) -> dict[str, Array]:
        """The slots themselves by "parameter number.slot"."""
        for group, stores in self.grouped():
            for store in stores:
                self.have(store, self.slots_of(group))
        return {
            f"{i}.{name}": store.slot_view(name, k)
            for i, store, k in self.numbered()
            for name in store.slots
        }


class _Noted(NamedTuple):
    """A group as it was when its options were checked."""

    types: list[type] | None
    """None where an option may change and stay the same object."""
    items: dict[str, Any]

    @staticmethod
    def of(group: Mapping[str, Any]) -> _Noted:
        types = [*map(type, group.values())]
        own = {k: [*v] if isinstance(v, list) and k != "params" else v for k, v in group.items()}
        return _Noted(types if _PLAIN.issuperset(types) else None, own)

    def holds(self, group: Mapping[str, Any]) -> bool:
        """Whether they are still the same."""
        return [*map(type, group.values())] == self.types and group == self.items


def _groups_of(params: Any) -> list[dict[str, Any]]:
    """A model, parameters or groups as groups."""
    if isinstance(params, Module):
        return [{"params": params.parameters()}]
    listed: list[Any] = list(params)
    if listed and all(isinstance(item, dict) for item in listed):
        return [dict(item) for item in listed]
    return [{"params": listed}]
