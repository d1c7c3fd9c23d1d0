"""Optimizer: the base of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from functools import partial
from itertools import chain
from typing import Any, ClassVar

from ldl.backend import Array, Backend
from ldl.calm import calm
from ldl.nn import changes
from ldl.nn.module import Module
from ldl.nn.parameter import Parameter
from ldl.numbers import number, optional_positive, pythonic
from ldl.optim.clipping import clip_arrays
from ldl.optim.flat import FlatStore
from ldl.optim.loading import load_state
from ldl.optim.options import changed, groups_of, noted
from ldl.optim.owners import hand_over, own
from ldl.optim.schedules import Schedule, as_schedule
from ldl.optim.updates import Updates, is_own

Rate = Schedule | Callable[[int], float]
"""A schedule, or a plain function of the step."""

Parameters = Module | Iterable[Parameter] | Iterable[dict[str, Any]]


SETTLE = 32
"""Steps between two looks at averages of gradients that have stopped.

They decay to subnormal numbers and stay there, since rounding keeps the smallest from decaying, and
a processor takes a hundred cycles for each.
"""


class Optimizer:
    """Moves parameters against their gradients.

        optimizer = ldl.optim.Adam(model.parameters(), lr=1e-3)
        optimizer = ldl.optim.SGD([{"params": model[0].parameters(), "lr": 0.1},
                                   {"params": model[2].parameters()}], lr=0.01)

    `params` is a model, an iterable of parameters, or a list of groups: dicts with "params" and any
    options that differ from the defaults. The options of a group stand in `param_groups` and may be
    changed between steps. The learning rate of step t is a group's `lr` times `schedule(t)`;
    `schedule` is a Schedule, this optimizer's own from then on, or a function of the step.

    `clip_norm` scales all gradients down together where their Euclidean norm is larger;
    `clip_value` cuts every element to [-clip_value, clip_value] first. A parameter without a
    gradient (frozen, or not reached) is left alone, and so is its state.

    A subclass names its `slots`, and as `optional_slots` those that are there only where the option
    of the same name is not 0, checks its options in `check`, and updates one stretch of the buffers
    in `update`. What else it remembers it adds to `state_dict` and `load_state_dict`.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    optional_slots: ClassVar[tuple[str, ...]] = ()

    @property
    def only_applies(self) -> bool:
        """Whether a step touches arrays through `apply` alone: `update` is one of ldl's own."""
        return is_own(type(self).update)

    def __init__(
        self,
        params: Parameters,
        defaults: dict[str, Any],
        schedule: Rate | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        rate = as_schedule(schedule)
        self.clip_norm = optional_positive("clip_norm", clip_norm)
        self.clip_value = optional_positive("clip_value", clip_value)
        self.step_count = 0
        self._updates = Updates()
        self._packed: object = None
        self._checked: dict[int, dict[str, Any]] = {}
        self.param_groups: list[dict[str, Any]] = []
        self._stores: list[list[FlatStore]] = []
        taken: set[int] = set()
        for given in groups_of(params):
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
            slots, kinds = self._slots(options), dict.fromkeys(str(p.dtype) for p in parameters)
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

    def update(
        self, p: Array, g: Array, slots: dict[str, Array], options: Mapping[str, Any], step: int
    ) -> None:
        """Move the values p in place; `step` counts from 1. `options["lr"]` is the rate now."""
        raise NotImplementedError(f"{type(self).__name__} has no update")

    def apply(
        self,
        kernel: str,
        arrays: tuple[Array | None, ...],
        numbers: dict[str, float],
        **constants: Any,
    ) -> None:
        """Run a kernel of the backend's on vectors, in place; it is prepared for them once.

        `numbers` may differ from step to step; other `constants` are prepared for anew. In a step
        of ldl's own optimizers it runs when the step has been gathered.
        """
        self._updates.apply(self.backend, kernel, arrays, numbers, constants)

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

    def step(self) -> None:
        """Update every parameter that has a gradient.

        An interrupted step has been done, or not, unless `update` is one of your own; gradients may
        have been clipped already.
        """
        gathers = self.only_applies
        (self._step if gathers else calm(self._step))(gathers)

    def _step(self, gathers: bool) -> None:
        self.pack()
        self._updates.begin(gathers)
        self._clip()
        counts: list[Any] = [(setattr, self, "step_count", self.step_count + 1)]
        factor = self.schedule(self.step_count)
        for group, stores in zip(self.param_groups, self._stores, strict=True):
            if changed(group, self._checked.get(id(group), {})):
                group.update(self.check({k: v for k, v in group.items() if k != "params"}))
                self._checked[id(group)] = noted(group)
            options = {**group, "lr": group["lr"] * factor}
            for store in stores:
                self.have(store, self._slots(group))
                for run, steps in store.runs():
                    self.update(*store.stretch(run), options, steps + 1)
                counts.append((setattr, store, "steps", store.advanced()))
                if self.step_count % SETTLE == 0:
                    for slot in store.slots.values():
                        self.apply("settle", (slot,), {})
        self._updates.commit(counts)

    def have(self, store: FlatStore, slots: Iterable[str]) -> None:
        """Make the slots that options ask for since they were changed."""
        if store.have(slots):
            self._updates.prepared.clear()

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

    def settings(self) -> dict[str, Any]:
        """What was chosen: the groups' options, the schedule as text, and the clipping."""
        groups = self.param_groups
        options: dict[str, Any] = {}
        for i, group in enumerate(groups, start=1):
            place = f" of group {i}" if len(groups) > 1 else ""
            options |= {f"{k}{place}": pythonic(v) for k, v in group.items() if k != "params"}
        return {
            "groups": len(groups),
            **options,
            "schedule": repr(self.schedule),
            "clip_norm": self.clip_norm,
            "clip_value": self.clip_value,
        }

    def __repr__(self) -> str:
        count = sum(p.size for group in self.param_groups for p in group["params"])
        hidden = ("groups",) if len(self.param_groups) == 1 else ()
        chosen = {k: v for k, v in self.settings().items() if v is not None and k not in hidden}
        parts = ", ".join(f"{name}={value}" for name, value in chosen.items())
        return f"{type(self).__name__}({count:,} parameters, {parts})"

    # ---- state --------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, copied: `slots` are arrays by "parameter number.slot"."""
        return {
            "slots": {name: view.copy() for name, view in self.views().items()},
            "param_steps": [store.steps[k] for _, store, k in self._numbered()],
            "step_count": self.step_count,
            "param_groups": [
                {key: pythonic(value) for key, value in group.items() if key != "params"}
                for group in self.param_groups
            ],
            "schedule": deepcopy(self.schedule.state_dict()),
        }

    def views(self) -> dict[str, Array]:
        """The slots themselves by "parameter number.slot"."""
        for group, stores in zip(self.param_groups, self._stores, strict=True):
            for store in stores:
                self.have(store, self._slots(group))
        return {
            f"{i}.{name}": store.slot_view(name, k)
            for i, store, k in self._numbered()
            for name in store.slots
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, for the same parameters in the same groups.

        ValueError lists what does not fit, and nothing has changed.
        """
        load_state(self, state)

    def _slots(self, options: Mapping[str, Any]) -> tuple[str, ...]:
        return (*self.slots, *(name for name in self.optional_slots if options[name]))

    def _numbered(self) -> list[tuple[int, FlatStore, int]]:
        """(number, store, index in the store) of every parameter."""
        places = [(store, k) for s in self._stores for store in s for k in range(len(store.steps))]
        return [(i, store, k) for i, (store, k) in enumerate(places)]

    def _clip(self) -> None:
        norm = optional_positive("clip_norm", self.clip_norm)
        value = optional_positive("clip_value", self.clip_value)
        if norm is None and value is None:
            return
        grads = [store.stretch(run)[1] for store in self.stores for run, _ in store.runs()]
        if grads:
            key = "clip", norm, value, *map(id, grads)
            clip = partial(clip_arrays, self.backend, grads, norm, value)
            self._updates.deferred(key, lambda: self.backend.deferred(clip))
