"""Optimizer: the base of all."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from functools import partial
from itertools import count
from typing import Any, ClassVar

from ldl.backend import Array
from ldl.calm import calm
from ldl.numbers import optional_positive, pythonic
from ldl.optim.clipping import clip_arrays
from ldl.optim.flat import Run
from ldl.optim.groups import Groups, Parameters, Rate
from ldl.optim.loading import load_state
from ldl.prepared import Prepared, play

SETTLE = 32
"""Steps between two looks at averages of gradients that have stopped.

They decay to subnormal numbers and stay there, since rounding keeps the smallest from decaying, and
a processor takes a hundred cycles for each.
"""


class Optimizer(Groups):
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
    in `update`, or names a `kernel` of the backend's that does, with its `numbers` and `constants`.
    What else it remembers it adds to `state_dict` and `load_state_dict`.
    """

    kernel: ClassVar[str] = ""

    def __init__(
        self,
        params: Parameters,
        defaults: dict[str, Any],
        schedule: Rate | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        self.clip_norm = optional_positive("clip_norm", clip_norm)
        self.clip_value = optional_positive("clip_value", clip_value)
        super().__init__(params, defaults, schedule)

    @property
    def has_kernel(self) -> bool:
        """Whether a step runs kernels and no more: `update` is not one of your own."""
        return type(self).update is Optimizer.update

    def update(
        self, p: Array, g: Array, slots: dict[str, Array], options: Mapping[str, Any], step: int
    ) -> None:
        """Move the values p in place; `step` counts from 1. `options["lr"]` is the rate now."""
        arrays, numbers = self._arrays(p, g, slots), self.numbers(slots, options, step)
        self.apply(self.kernel, arrays, numbers, **self.constants(options))

    def numbers(
        self, slots: Mapping[str, Array], options: Mapping[str, Any], step: int
    ) -> dict[str, float]:
        """The numbers that the kernel takes, which may differ from step to step."""
        raise NotImplementedError(f"{type(self).__name__} has no update")

    def constants(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What else it takes: it is prepared anew for others."""
        return {}

    def apply(
        self,
        kernel: str,
        arrays: tuple[Array | None, ...],
        numbers: dict[str, float],
        **constants: Any,
    ) -> None:
        """Run a kernel of the backend's on vectors, in place; it is prepared for them once.

        `numbers` may differ from step to step; other `constants` are prepared for anew.
        """
        prepared = self._updates.kernel(self.backend, kernel, arrays, numbers, constants)
        prepared(*numbers.values())

    def step(self) -> None:
        """Update every parameter that has a gradient.

        An interrupted step has been done, or not, unless `update` is one of your own; gradients may
        have been clipped already.
        """
        has_kernel = self.has_kernel
        (self._step if has_kernel else calm(self._step))(has_kernel)

    def _step(self, has_kernel: bool) -> None:
        self.pack()
        self._updates.begin()
        self._clip()
        kernels: list[Prepared] = []
        counts: list[Any] = [(setattr, self, "step_count", self.step_count + 1)]
        factor = self.schedule(self.step_count)
        for group, stores, number in zip(self.param_groups, self._stores, count(), strict=False):
            checked = self.check_options(number)
            options = {**group, "lr": group["lr"] * factor}
            for store in stores:
                for run in store.runs():
                    step = store.steps[run.first] + 1
                    if not has_kernel:
                        self.update(run.values, run.grads, run.slots, options, step)
                        continue
                    numbers = self.numbers(run.slots, options, step)
                    if run.checked is not checked:
                        run.kernel = self._prepared(run, options, numbers)
                        run.checked = checked
                    run.kernel.set(*numbers.values())
                    kernels.append(run.kernel)
                counts.append((setattr, store, "steps", store.advanced()))
                if self.step_count % SETTLE == 0:
                    kernels += [self._settling(slot) for slot in store.slots.values()]
        calls, compiled = [], True
        for kernel in kernels:
            calls += kernel.calls
            compiled &= kernel.compiled
        (play if compiled else calm(play))(calls + counts)

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
            "param_steps": [store.steps[k] for _, store, k in self.numbered()],
            "step_count": self.step_count,
            "param_groups": [
                {key: pythonic(value) for key, value in group.items() if key != "params"}
                for group in self.param_groups
            ],
            "schedule": deepcopy(self.schedule.state_dict()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, for the same parameters in the same groups.

        ValueError lists what does not fit, and nothing has changed.
        """
        load_state(self, state)

    def _prepared(
        self, run: Run, options: Mapping[str, Any], numbers: Mapping[str, float]
    ) -> Prepared:
        arrays, constants = self._arrays(run.values, run.grads, run.slots), self.constants(options)
        return self._updates.kernel(self.backend, self.kernel, arrays, numbers, constants)

    def _arrays(self, p: Array, g: Array, slots: Mapping[str, Array]) -> tuple[Array | None, ...]:
        return (p, g, *map(slots.get, (*self.slots, *self.optional_slots)))

    def _settling(self, slot: Array) -> Prepared:
        return self._updates.kernel(self.backend, "settle", (slot,), (), {})

    def _clip(self) -> None:
        if self.clip_norm is None and self.clip_value is None:
            return
        norm = optional_positive("clip_norm", self.clip_norm)
        value = optional_positive("clip_value", self.clip_value)
        grads = [run.grads for store in self.stores for run in store.runs()]
        if grads:
            key = "clip", norm, value, *map(id, grads)
            clip = partial(clip_arrays, self.backend, grads, norm, value)
            self._updates.found(key, partial(self.backend.deferred, clip))()
